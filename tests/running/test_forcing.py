"""Runs with a control in the critic's place: their steps, their norms, what is measured of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import random_problem
from support_cli import caller

import prdsim
from prdsim.analysis import history
from prdsim.analysis.comparison import compare
from prdsim.config import RunConfig
from prdsim.convergence.assess import converge
from prdsim.errors import ConfigError, NotATrajectoryError, PrdsimError, TrajectoryError
from prdsim.running.simulation import Simulation

KEYS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 12,
    "width": 9,
    "end_time": 1.0,
    "diffusion": True,
    "backend": "numpy",
    "threads": 1,
    "snapshots": "times:every:0.25",
    "scalars": "times:every:0.25",
}


def run(path: Path, **keys: Any) -> Path:
    return prdsim.run(**{**KEYS, **keys}, output=str(path), remarks=False).path


def scalars(path: Path) -> dict[str, np.ndarray]:
    with prdsim.open_trajectory(path) as trajectory:
        return {name: np.array(column) for name, column in trajectory.scalars.items()}


# -- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["bs23", "dopri5"])
def test_adaptive_steps_end_where_the_field_changes(integrator):
    problem = random_problem()
    keys = {"forcing": "white", "forcing_time": 0.1, "end_time": 1.0, "integrator": integrator}
    times = []
    with problem.simulation(**keys, rtol=1e-2, chart="gram") as simulation:
        while not simulation.finished:
            simulation.advance()
            times.append(simulation.time)
    assert {k * 0.1 for k in range(1, 11)} <= set(times)


def test_a_step_that_was_shortened_leaves_the_next_as_long_as_before():
    problem = random_problem()
    with problem.simulation(forcing="static", end_time=9.0, rtol=1e-2) as simulation:
        simulation.advance(12)
        usual = simulation.restart_point().scalars["step_size"]
    with problem.simulation(
        forcing="white", forcing_time=usual / 3, end_time=9.0, rtol=1e-2
    ) as simulation:
        simulation.advance(40)
        assert simulation.restart_point().scalars["step_size"] >= usual / 3


@pytest.mark.parametrize("kind", ["static", "common", "white", "slow", "shuffled"])
def test_every_method_follows_the_same_model(kind):
    """The end of a run does not depend on the steps: bs23 against rk4 at small steps."""
    problem = random_problem(3)
    keys = {"forcing": kind, "forcing_time": 0.25, "end_time": 0.5}
    ends = []
    for method in (
        {"integrator": "bs23", "rtol": 1e-5},
        {"integrator": "rk4", "step_size": 0.25 / 64},
    ):
        with problem.simulation(**keys, **method) as simulation:
            while not simulation.finished:
                simulation.advance()
            ends.append(simulation.weights(0.5)["U"])
    moved = np.linalg.norm(ends[0] - problem.initial["U"])
    assert np.linalg.norm(ends[0] - ends[1]) < 1e-3 * moved


def test_the_rows_are_those_of_the_field_that_acted():
    """At a change of the field, a row still describes the step that led there."""
    problem = random_problem()
    keys = {"forcing": "shuffled", "forcing_time": 0.2, "end_time": 1.0}
    with problem.simulation(**keys) as simulation:
        while simulation.time < 0.2:
            simulation.advance()
        before, point = simulation.observe(), simulation.restart_point()
        simulation.advance(5)
        assert simulation.observe()["loss_adv"] != before["loss_adv"]
        simulation.restore(point)
        assert simulation.time == 0.2
        assert simulation.observe() == pytest.approx(before, abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"forcing_time": 1e-7}, "forcing_time: 1e-07 makes more than 1,000,000 changes"),
        ({"forcing_norm": "missing.h5"}, "cannot read missing.h5"),
        ({"forcing_norm": 1e200}, r"try --forcing-norm 1\n?"),
    ],
    ids=["changes", "missing", "diverged"],
)
def test_what_cannot_be(keys, message, tmp_path):
    with pytest.raises(PrdsimError, match=message):
        run(tmp_path / "new.h5", forcing="white", **keys)


# -- norms of an adversary -------------------------------------------------------------------------


@pytest.fixture
def adversary(tmp_path):
    return run(tmp_path / "adversary.h5")


def test_a_control_has_the_mean_norms_of_an_adversary_sample_by_sample(tmp_path, adversary):
    control = run(tmp_path / "a.h5", forcing="static", forcing_norm=str(adversary))
    with prdsim.open_trajectory(control) as trajectory:
        norms = np.array(trajectory.forcing["norm"])
        assert trajectory.check() == []
    with prdsim.open_trajectory(adversary) as trajectory:
        rows = trajectory.scalars["score_norm_mean"]
        mean = np.trapezoid(rows, trajectory.scalars["time"])  # over a time of 1
        assert not trajectory.forcing
    assert norms.shape == (12,)
    assert np.ptp(norms) > 0.01
    assert norms.mean() == pytest.approx(mean, rel=1e-12)
    assert scalars(control)["score_norm_mean"] == pytest.approx(mean, rel=1e-12)


def test_the_adversarys_file_is_needed_only_once(tmp_path, adversary):
    keys = {"forcing": "white", "forcing_norm": str(adversary), "forcing_time": 0.3}
    whole = run(tmp_path / "whole.h5", **keys)
    part = run(tmp_path / "part.h5", **keys, steps=4)
    adversary.unlink()
    prdsim.resume(part, steps=10_000)
    expected, found = scalars(whole), scalars(part)
    for name in expected:
        if name not in ("step", "step_size"):
            assert np.array_equal(found[name][-1:], expected[name][-1:], equal_nan=True), name
    with prdsim.open_trajectory(whole) as trajectory:
        measured = history(trajectory, ["forces"])
    assert measured["diffusion_U_mean"][-1] > 0
    assert converge(whole).report is not None


@pytest.mark.parametrize("there", [True, False], ids=["adversary there", "gone"])
def test_damaged_norms_are_repaired_from_the_adversary_if_it_is_there(
    there, tmp_path, adversary, monkeypatch, capsys
):
    path = run(tmp_path / "a.h5", forcing="static", forcing_norm=str(adversary), steps=3)
    with prdsim.open_trajectory(path) as trajectory:
        norms = np.array(trajectory.forcing["norm"])
        offset = trajectory._map["forcing/norm"].offset
    content = bytearray(path.read_bytes())
    content[offset + 6] ^= 4
    path.write_bytes(content)
    with prdsim.open_trajectory(path) as trajectory:
        assert [problem.where for problem in trajectory.check()] == ["forcing/norm"]
    if not there:
        adversary.unlink()
    command = caller(monkeypatch, capsys)
    answer = command("repair", path, "-o", tmp_path / "good.h5")
    assert answer.code == 0, answer.err
    with prdsim.open_trajectory(tmp_path / "good.h5") as trajectory:
        assert np.array_equal(trajectory.forcing.get("norm", []), norms if there else [])
    again = command("resume", tmp_path / "good.h5", "--steps", 5)
    assert again.code == (0 if there else 3), again.err
    assert len(again.err.splitlines()) < 5 or there


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "has other samples than this run"),
        ({"samples": 11}, "has other samples than this run"),
        ({"forcing_norm": "control.h5"}, "is a run with static forcing"),
        ({"forcing_norm": "reaction.h5"}, "is a run without diffusion, without an adversary"),
        ({"forcing_norm": "part.h5"}, "is not finished"),
    ],
    ids=["seed", "samples", "a control", "no adversary", "unfinished"],
)
def test_a_run_whose_norms_would_be_wrong_is_refused(changes, message, tmp_path, adversary):
    run(tmp_path / "control.h5", forcing="static")
    run(tmp_path / "reaction.h5", diffusion=False)
    prdsim.run(**KEYS, output=str(tmp_path / "part.h5"), stop=lambda: True)
    given = str(tmp_path / changes.pop("forcing_norm", adversary.name))
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "new.h5", forcing="white", forcing_norm=given, **changes)
    assert not (tmp_path / "new.h5").exists()


def test_a_file_that_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.h5").write_text("no trajectory")
    with pytest.raises(TrajectoryError, match=r"missing\.h5"):
        run(tmp_path / "new.h5", forcing="static", forcing_norm="missing.h5")
    with pytest.raises(NotATrajectoryError, match=r"text\.h5"):
        run(tmp_path / "new.h5", forcing="static", forcing_norm="text.h5")
    answer = caller(monkeypatch, capsys)(
        "run", "--dataset", "digits", "--diffusion", "--forcing", "static",
        "--forcing-norm", "missing.h5", "-o", "new.h5",
    )  # fmt: skip
    assert answer.code == 3
    assert "missing.h5" in answer.err


def test_a_simulation_wants_the_norms_as_an_array():
    problem = random_problem()
    config = problem.config(forcing="static", forcing_norm="run.h5", backend="numpy")
    with pytest.raises(ConfigError, match="give forcing_norms"):
        Simulation(config, problem.X, problem.Y)
    for wrong in (np.ones(3), -np.ones(6), np.full(6, np.nan), [1.0] * 6):
        with pytest.raises(ConfigError, match="forcing_norms"):
            Simulation(config, problem.X, problem.Y, forcing_norms=wrong)
    norms = np.linspace(1, 2, 6)
    with Simulation(config, problem.X, problem.Y, forcing_norms=norms) as simulation:
        assert simulation.observe()["score_norm_mean"] == pytest.approx(1.5)
        with simulation.anew(config.replace(seed=3)) as other:
            assert other.observe()["score_norm_mean"] == pytest.approx(1.5)


# -- what is measured of controls ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["white", "slow", "shuffled"])
def test_forces_at_snapshots_are_those_of_the_rows(kind, tmp_path):
    path = run(tmp_path / "a.h5", forcing=kind, forcing_time=0.4)
    rows = scalars(path)
    with prdsim.open_trajectory(path) as trajectory:
        found = history(trajectory, ["forces", "growth"])
        norms = [
            float(
                np.sqrt(9 * (found[f"diffusion_{x}_mean"] ** 2 + found[f"diffusion_{x}_sd"] ** 2))[
                    -1
                ]
            )
            for x in "UV"
        ]
    assert norms == pytest.approx([rows["diffusion_norm_U"][-1], rows["diffusion_norm_V"][-1]])


def test_a_control_is_named_in_words(tmp_path):
    config = RunConfig(**KEYS, forcing="static", diffusivity=2.0)
    assert config.adversary_in_words == "with static forcing (D = 2)"
    assert config.moving == ("U", "V")
    assert not config.adversary
    assert RunConfig(**KEYS, forcing="shuffled").moving == ("U", "V", "W", "a")
    paths = [run(tmp_path / f"{kind}.h5", forcing=kind) for kind in ("static", "adversary")]
    with prdsim.open_trajectory(paths[0]) as first, prdsim.open_trajectory(paths[1]) as second:
        compared = compare([first, second], groups=["distances"])
    assert list(compared.values) == ["with static forcing", "with diffusion"]
    for norm in (0.5, 2.0):
        paths.append(run(tmp_path / f"{norm}.h5", forcing="static", forcing_norm=norm))
    with ExitStack() as stack:
        compared = compare(
            [stack.enter_context(prdsim.open_trajectory(path)) for path in paths],
            groups=["distances"],
        )
    assert sorted(compared.values) == [
        "with diffusion",
        "with static forcing, forcing_norm = 0.5",
        "with static forcing, forcing_norm = 2.0",
        "with static forcing, forcing_norm = None",
    ]
