"""Controls: which runs they need, how effects are told from spread and error, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_cli import assert_refused, caller

from prdsim.config import RunConfig
from prdsim.errors import ConfigError, StudyError
from prdsim.study import StudyFolder
from prdsim.study.contrast_figures import draw_effects, draw_response
from prdsim.study.contrasts import effect, effect_table, effects_of, summary_table
from prdsim.study.controls import (
    CONDITIONS,
    CONTROLS,
    Base,
    Found,
    Sample,
    controls,
    curves_of,
    folders,
    references,
    samples_of,
)
from prdsim.study.plan import Plan
from prdsim.study.worker import work

TINY: dict[str, Any] = {
    "dataset": "digits",
    "samples": 8,
    "width": 6,
    "end_time": 0.25,
    "critic_warmup": 0.0,
    "backend": "numpy",
    "snapshots": "times:every:0.125",
    "scalars": "times:every:0.125",
}
SET = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def configs(plan: Plan) -> list[RunConfig]:
    return [member.config for member in plan.members]


# -- plans -----------------------------------------------------------------------------------------


def test_every_condition_is_run_at_two_tolerances_from_the_same_seeds():
    base = Base(TINY)
    assert base.tolerances == (3e-4, 3e-5)
    first, second = configs(references(base, 3, 0)), configs(controls(base, range(3)))
    assert len(first) == 3 * 2 * 2
    assert {(c.seed, c.rtol, c.diffusion) for c in first} == {
        (seed, rtol, side)
        for seed in range(3)
        for rtol in base.tolerances
        for side in (True, False)
    }
    assert {(c.seed, c.rtol, c.forcing) for c in second} == {
        (seed, rtol, kind) for seed in range(3) for rtol in base.tolerances for kind in CONTROLS
    }
    shared = [{**c.model_dump(), "seed": 0, "rtol": 0, "diffusion": 0} for c in first]
    assert all(keys == shared[0] for keys in shared)


def test_norms_are_those_of_the_adversary_of_the_same_seed_at_the_finer_tolerance():
    base = Base(TINY)
    members = {f"{m.name}.h5": m.config for m in references(base, 3, 0).members}
    for config in configs(controls(base, range(3))):
        adversary = members[Path(str(config.forcing_norm)).name]
        assert (adversary.seed, adversary.rtol) == (config.seed, base.tolerances[1])
        assert adversary.diffuses
        assert not adversary.controlled


def test_curves_vary_one_key_at_a_time_and_share_runs_with_the_references():
    base = Base(TINY)
    plan = references(base, 3, 2)
    few, many = configs(references(base, 3, 0)), configs(plan)
    flows = [c for c in many if c.adaptive]
    for config in flows:
        changed = [
            key
            for key in ("diffusivity", "critic_rate", "init_scale")
            if getattr(config, key) != getattr(base.config, key)
        ]
        assert len(changed) <= 1
    assert {c.sha256() for c in few} <= {c.sha256() for c in many}
    steps = sorted({c.step_size for c in many if not c.adaptive})
    assert len(steps) == 5
    assert steps[-1] == pytest.approx(16 * steps[0], rel=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 3}, "seed cannot be set"),
        ({"forcing": "white"}, "forcing cannot be set"),
        ({"diffusivity": 0.0}, "diffusivity cannot be 0"),
        ({"steps": 3}, "give end_time alone"),
    ],
)
def test_settings_that_leave_nothing_to_compare_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Base({**TINY, **given})


# -- effects ---------------------------------------------------------------------------------------


def of(values: np.ndarray, error: float) -> Sample:
    return Sample(tuple(range(len(values))), values, error)


DRAWN = np.random.default_rng(1).standard_normal((3, 10))


def test_an_effect_is_the_mean_difference_in_standard_deviations():
    found = effect(of(DRAWN[0] + 3.0, 0.0), of(DRAWN[0], 0.0), 1)
    assert found.size == pytest.approx(3.0 / np.std(DRAWN[0], ddof=1))
    assert np.isnan(found.low), "every pair differs by the same"
    found = effect(of(DRAWN[0] + 3.0, 0.0), of(DRAWN[1], 0.0), 1)
    unit = np.sqrt((np.var(DRAWN[0], ddof=1) + np.var(DRAWN[1], ddof=1)) / 2)
    differences = DRAWN[0] + 3.0 - DRAWN[1]
    assert found.size == pytest.approx(differences.mean() / unit)
    assert found.sign == "+"
    spread = np.std(differences, ddof=1) / np.sqrt(10) / unit
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.4)
    opposite = effect(of(DRAWN[1], 0.0), of(DRAWN[0] + 3.0, 0.0), 1)
    assert opposite.sign == "-"


def test_an_interval_that_holds_zero_has_no_sign():
    assert effect(of(DRAWN[0], 0.0), of(DRAWN[1], 0.0), 1).sign == ""


def test_intervals_are_wider_the_more_measures_are_looked_at():
    one, many = (effect(of(DRAWN[0] + 0.9, 0.0), of(DRAWN[1], 0.0), count) for count in (1, 100))
    assert many.low < one.low < one.high < many.high


def test_a_difference_within_discretization_errors_has_no_sign():
    x, y = of(DRAWN[0] / 10 + 101.0, 0.005), of(DRAWN[1] / 10 + 100.0, 0.004)
    assert effect(x, y, 1).sign == "+"
    assert effect(of(x.values, 0.007), y, 1).sign == ""


def test_few_seeds_have_no_interval():
    found = effect(of(DRAWN[0, :4] + 3.0, 0.0), of(DRAWN[1, :4], 0.0), 1)
    assert found.size > 1
    assert found.sign == ""
    assert np.isnan(effect(of(DRAWN[0, :1], 0.0), of(DRAWN[1, :1], 0.0), 1).size)


def test_the_interval_covers_as_often_as_it_says():
    """Of 200 studies of normal numbers with 10 seeds, where BCa's misses 20 and 6."""
    rng = np.random.default_rng(0)
    missed = {1: 0, 17: 0}
    for _ in range(200):
        x, y = (of(values, 0.0) for values in rng.standard_normal((2, 10)))
        for measures in missed:
            missed[measures] += effect(x, y, measures).sign != ""
    assert 3 <= missed[1] <= 18  # 10 expected
    assert missed[17] <= 3  # 1


# -- from runs to samples --------------------------------------------------------------------------


def found_runs(base: Base, plan: Plan) -> list[Found]:
    """Runs whose distance is 10 D, 1 % more at the coarse tolerance, plus their seed."""
    runs = []
    for config in configs(plan):
        value = 10.0 * config.effective_diffusivity * (1 + config.controlled) + config.seed + 1.0
        error = 1.01 if config.rtol == base.tolerances[0] else 1.0
        runs.append(Found(config, {"distance_U_mean": value * error, "ks_U": None}))
    return runs


def test_samples_are_those_of_the_finer_tolerance_at_the_bases_settings():
    base = Base(TINY)
    runs = found_runs(base, references(base, 6, 3)) + found_runs(base, controls(base, range(6)))
    samples = samples_of(runs, base)
    assert list(samples) == ["distance_U_mean"], "missing measures are left out"
    by = samples["distance_U_mean"]
    assert tuple(by) == CONDITIONS
    seeds = np.arange(6)
    np.testing.assert_array_equal(by["none"].values, seeds + 1.0)
    np.testing.assert_array_equal(by["adversary"].values, seeds + 11.0)
    np.testing.assert_array_equal(by["static"].values, seeds + 21.0)
    assert by["white"].error == pytest.approx(0.01)
    lost = [run for run in runs if (run.config.seed, run.config.rtol) != (2, base.tolerances[0])]
    by = samples_of(lost, base)["distance_U_mean"]
    assert {one.seeds for one in by.values()} == {(0, 1, 3, 4, 5)}


def test_conditions_are_compared_at_the_same_seeds_whichever_each_lacks():
    base = Base(TINY)
    runs = found_runs(base, references(base, 6, 0)) + found_runs(base, controls(base, range(6)))
    lost = [
        run
        for run in runs
        if (run.config.seed, run.config.diffusion) != (1, False)
        and (run.config.seed, run.config.forcing) not in ((2, "white"), (4, "static"))
    ]
    samples = samples_of(lost, base)
    by = samples["distance_U_mean"]
    assert {one.seeds for one in by.values()} == {(0, 3, 5)}
    np.testing.assert_array_equal(by["adversary"].values - by["none"].values, [10.0] * 3)
    text = summary_table(samples, effects_of(samples), "", 6).to_text()
    assert "of fewer than 6 seeds: distance_U_mean (3)" in text
    with pytest.raises(StudyError, match="no seed is finished"):
        samples_of([run for run in runs if run.config.forcing != "slow"], base)


def test_response_curves_have_their_points_and_what_does_not_respond():
    base = Base(TINY)
    curves = curves_of(found_runs(base, references(base, 6, 3)), base, ["distance_U_mean"])
    along_D = curves["distance_U_mean", "diffusivity", "adversary"]
    assert [value for value, _ in along_D] == [0.25, 0.5, 1.0, 2.0]
    assert [float(s.values.mean()) for _, s in along_D] == [
        10 * D + 2.0 for D in (0.25, 0.5, 1.0, 2.0)
    ]
    constant = curves["distance_U_mean", "diffusivity", "none"]
    assert {float(s.values.mean()) for _, s in constant} == {2.0}
    assert len(curves["distance_U_mean", "step_size", "none"]) == 5
    assert not curves_of(found_runs(base, references(base, 6, 0)), base, ["distance_U_mean"])


def test_tables_and_figures():
    rng = np.random.default_rng(0)
    samples = {
        measure: {c: of(rng.standard_normal(10) + k, 0.01) for k, c in enumerate(CONDITIONS)}
        for measure in ("distance_U_mean", "ks_U")
    }
    effects = effects_of(samples)
    rows = effect_table(samples, effects, "").rows
    assert len(rows) == 2 * len(CONDITIONS)
    assert {row["beside_none"] for row in rows if row["condition"] == "none"} == {""}
    assert rows[-1]["beside_none"] == rows[-1]["beside_adversary"] == "+"
    text = summary_table(samples, effects, "title", 10).to_text()
    assert text.splitlines()[2].split() == ["measure", *CONDITIONS, "error"]
    assert " 1 %" in text
    figure = draw_effects(samples, effects, "title")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "effect beside none",
        "effect beside adversary",
    ]
    base = Base(TINY)
    curves = curves_of(found_runs(base, references(base, 6, 3)), base, ["distance_U_mean"])
    drawn = draw_response(curves, ["distance_U_mean"], "title")
    assert len(drawn.axes) == 4
    assert "1 %" in drawn.get_supxlabel()


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The two studies of two seeds, done in this process."""
    path = tmp_path_factory.mktemp("controls")
    base = Base(TINY)
    for folder, plan in zip(
        folders(path), (references(base, 2, 0), controls(base, range(2))), strict=True
    ):
        study = StudyFolder.create(folder, plan)
        work(study, study.plan.members)
    return path


def test_the_command_tabulates_and_draws(finished, monkeypatch, capsys):
    run = caller(monkeypatch, capsys)
    answer = run("controls", "-o", finished, "--seeds", 2, "--curve-seeds", 0, *SET)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"{finished / 'references'}: 8 members: 8 finished"
    assert lines[1] == f"{finished / 'controls'}: 20 members: 20 finished"
    assert lines[2].startswith("digits, n = 8, m = 6, t = 0.25, init_scale = 0.1, rtol 3e-05")
    assert any(line.split()[:1] == ["distance_U_mean"] for line in lines)
    assert lines[-1] == ", ".join(str(finished / name) for name in ("effects.csv", "effects.png"))
    table = (finished / "effects.csv").read_text().splitlines()
    assert table[0].startswith("measure,condition,seeds,mean,deviation,discretization,none_size,")
    assert table[1].startswith("distance_U_mean,none,2,")
    assert (finished / "effects.png").stat().st_size > 10_000


def test_the_controls_have_the_norms_of_their_adversaries(finished):
    study = StudyFolder.open(folders(finished)[1])
    member = next(m for m in study.plan.members if m.config.forcing == "static")
    from prdsim import open_trajectory

    with open_trajectory(study.trajectory(member)) as control:
        norms = np.array(control.forcing["norm"])
        assert control.config["forcing_norm"].endswith(".h5")
    adversary = finished / "references" / "members" / Path(str(member.config.forcing_norm)).name
    with open_trajectory(adversary) as trajectory:
        assert norms.mean() == pytest.approx(
            np.trapezoid(trajectory.scalars["score_norm_mean"], trajectory.scalars["time"]) / 0.25,
            rel=1e-12,
        )


def test_what_cannot_be(finished, tmp_path, monkeypatch, capsys):
    run = caller(monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    assert_refused(run("controls", "--set", "seed=3"), 2, "seed cannot be set")
    assert_refused(run("controls", "--set", "diffusivity=0"), 2, "diffusivity cannot be 0")
    assert_refused(run("controls", "--dataset", "no-such"), 3, "no-such")
    answer = run("controls", "-o", finished, "--seeds", 2, *SET, "--set", "width=5")
    assert_refused(answer, 2, "members that are not in this")
    own = tmp_path / "own.csv"
    own.write_text("x0,x1,y0\n" + "0.1,0.2,1\n" * 5)
    assert_refused(run("controls", "--dataset", "own.csv", "--curve-seeds", 0), 3, "own.csv")
    assert_refused(run("controls", "--set", "backend=no-such"), 2, "no-such")
    assert list(tmp_path.iterdir()) == [own]
