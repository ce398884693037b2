"""A run that was killed, stopped or finished goes on as if it had never ended: bit for bit."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.synthetic_run import extend
from support import BACKENDS, Terminal, same_bits, same_numbers
from support_runs import (
    At,
    Killed,
    assert_same_points,
    assert_same_trajectory,
    kill_at,
    restart_point,
    stop_at,
)

import prdsim
from prdsim.errors import (
    ConfigError,
    DataError,
    DivergedError,
    ResumeMismatchError,
    TrajectoryLockedError,
)
from prdsim.progress import Shown
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Status, TrajectoryWriter


def keys(**others: Any) -> dict[str, Any]:
    """A tiny run with the adversary, of gd: 12 hidden neurons, 12 digits, one thread."""
    alternating = others.get("integrator", "gd") == "gd"
    critic = {"critic_step_size": 0.01, "penalty_points": "random"} if alternating else {}
    return {
        "dataset": "digits",
        "samples": 12,
        "width": 12,
        "critic_width": 7,
        "diffusion": True,
        "integrator": "gd",
        "critic_steps": 2,
        **critic,
        "step_size": 0.02,
        "backend": "numpy",
        "threads": 1,
        "snapshots": "every:10",
        "scalars": "every:5",
        "restart_seconds": 1e9,
        "steps": 40,
        **others,
    }


def timed(end_time: float, **others: Any) -> dict[str, Any]:
    """The same up to a time, recorded by time, mostly between steps."""
    times = {"snapshots": "times:every:0.13", "scalars": "times:every:0.03"}
    return keys(**{"steps": None, "end_time": end_time, **times, **others})


def row_of(trajectory: prdsim.Trajectory, row: int) -> dict[str, float]:
    """One row of scalars, as a result has it."""
    return {name: column[row] for name, column in trajectory.scalars.items() if name != "step"}


# -- stopped, in this process ----------------------------------------------------------------------


def stopped(path: Path, step: int, **others: Any) -> prdsim.running.loop.Result:
    return prdsim.run(**keys(**others), output=str(path), progress=stop_at(step))


def killed_run(path: Path, step: int, **others: Any) -> Path:
    with pytest.raises(Killed):
        prdsim.run(**keys(**others), output=str(path), progress=kill_at(step))
    return path


@pytest.fixture
def whole(tmp_path):
    """Return a function that does an uninterrupted run."""

    def run(**others: Any) -> Path:
        return prdsim.run(**keys(**others), output=str(tmp_path / "whole.h5")).path

    return run


# Every method once by step and once by time, on the one backend and on the other; what else may
# decide how a run goes on, several at once where they have nothing to do with each other.
VARIANTS = {
    "gd": {"backend": "numba"},
    "heun": {"integrator": "heun"},
    "rk4": {"integrator": "rk4", "backend": "numba"},
    "bs23": {"integrator": "bs23"},
    "dopri5": {"integrator": "dopri5", "backend": "numba"},
    "times gd": timed(0.8),
    "times heun": timed(0.8, integrator="heun", backend="numba"),
    "times rk4": timed(0.8, integrator="rk4"),
    "times bs23": timed(0.8, integrator="bs23", backend="numba", rtol=1e-4),
    "times dopri5": timed(0.8, integrator="dopri5", rtol=1e-4),
    "restart states rk4": {"integrator": "rk4", "backend": "numba", "restart_seconds": 0.0},
    "restart states dopri5": timed(0.8, integrator="dopri5", rtol=1e-4, restart_seconds=0.0),
    "minimax, without data": {
        "critic": "minimax",
        "critic_step_size": 0.01 / 12,
        "snapshot_precision": "float32",
        "store_data": False,
    },
    "warmup": {"critic_warmup": 0.09, "seed": 4, "snapshots": "geometric:9", "scalars": "every:7"},
    "warmup bs23": {"critic_warmup": 0.09, "integrator": "bs23"},
    "without diffusion": {"diffusion": False, "step_size": "auto"},
    "fixed top layers": {"trainable": "U", "integrator": "dopri5"},
    "float32 end time": {"precision": "float32", "end_time": 0.55, "steps": 10_000},
    "float32 dopri5": {"precision": "float32", "integrator": "dopri5", "rtol": 1e-3},
    "end time dopri5": {"end_time": 0.2, "steps": 10_000, "integrator": "dopri5", "rtol": 1e-5},
    "gauss": {"integrator": "rk4", "penalty_points": "gauss:3"},
    "geometric times": timed(0.8, snapshots="times:geometric:9", scalars="times:geometric:30"),
    "mixed": timed(0.8, steps=1000, snapshots="every:7"),
    "static, gd": {"forcing": "static"},
    "shuffled, gd": {"forcing": "shuffled", "forcing_time": 0.12, "backend": "numba"},
    "white, bs23": timed(0.8, forcing="white", forcing_time=0.03, integrator="bs23", chart="gram"),
    "slow, dopri5": timed(0.8, forcing="slow", forcing_time=0.5, integrator="dopri5"),
    "shuffled, bs23": timed(0.8, forcing="shuffled", forcing_norm=0.5, integrator="bs23"),
    "times up to a step": timed(1e3, steps=40, scalars="times:every:0.06"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_killed_and_stopped_run_is_continued_bit_for_bit(name, tmp_path, whole):
    variant = VARIANTS[name]
    path = killed_run(tmp_path / "run.h5", 6, **variant)  # to be done again from step 0
    result = prdsim.resume(path, progress=stop_at(9, signal.SIGINT))
    assert (result.stop_reason, result.step, result.signal) == ("interrupted", 9, signal.SIGINT)
    with pytest.raises(Killed):
        prdsim.resume(path, progress=kill_at(17))  # to be done again from step 9
    result = prdsim.resume(path)
    assert (result.path, result.stop_reason, result.signal) == (path, "finished", None)
    assert_same_trajectory(whole(**variant), path)
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.stop_step > 17
        expected = variant.get("snapshot_precision", variant.get("precision", "float64"))
        assert {getattr(trajectory, n).dtype.name for n in ARRAYS} == {expected}
        assert same_numbers(result.first, row_of(trajectory, 0))
        assert same_numbers(result.last, row_of(trajectory, -1))


def test_stopped_again_and_again(tmp_path, whole):
    path = tmp_path / "run.h5"
    for step, number in ((4, signal.SIGTERM), (5, signal.SIGINT), (11, signal.SIGHUP)):
        stop = stop_at(step, number)
        go = (
            prdsim.resume(path, progress=stop)
            if path.exists()
            else prdsim.run(**keys(), output=str(path), progress=stop)
        )
        assert (go.step, go.signal) == (step, number)
        with prdsim.open_trajectory(path) as trajectory:
            assert trajectory.status is Status.INTERRUPTED
            assert (trajectory.stop_step, trajectory.stop_reason) == (step, number.name)
            assert trajectory.scalars["step"].tolist() == [0, 5, 10][: 1 + step // 5]
            assert same_numbers(go.last, row_of(trajectory, -1))
    with pytest.raises(Killed):
        prdsim.resume(path, progress=kill_at(27))
    prdsim.resume(path)
    assert_same_trajectory(whole(), path)


def test_a_stop_before_the_first_step_and_at_the_last(tmp_path, whole):
    path = tmp_path / "run.h5"
    result = stopped(path, 0)
    assert (result.step, result.stop_reason) == (0, "interrupted")
    result = prdsim.resume(path, progress=stop_at(40))
    assert (result.step, result.stop_reason, result.signal) == (40, "finished", None)
    assert_same_trajectory(whole(), path)


def test_handlers_are_those_of_before_after_a_run(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped(tmp_path / "run.h5", 3)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_ends_the_run_at_once_and_leaves_it_resumable(tmp_path, whole):
    path = tmp_path / "run.h5"

    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        prdsim.run(**keys(), output=str(path), progress=At(13, twice))
    with prdsim.open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.restart_step) == (Status.RUNNING, 0)
    prdsim.resume(path)
    assert_same_trajectory(whole(), path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [40, 20])
def test_killed_before_the_first_commit_starts_anew(backend, steps, tmp_path, whole):
    path = killed_run(tmp_path / "run.h5", 0, backend=backend, steps=steps)
    with prdsim.open_trajectory(path) as trajectory:
        assert (len(trajectory.step), len(trajectory.scalars["step"])) == (0, 0)
        assert trajectory.restart_step == -1
    result = prdsim.resume(path, 40 if steps < 40 else None)
    assert result.first["mask_flips"] == 0
    assert_same_trajectory(whole(backend=backend), path)


def test_an_error_of_the_program_leaves_a_resumable_file_that_says_so(tmp_path, whole):
    path = tmp_path / "run.h5"

    def fail() -> None:
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        prdsim.run(**keys(), output=str(path), progress=At(13, fail))
    with prdsim.open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.FAILED, 13)
        assert "a fault" in trajectory.stop_reason
    prdsim.resume(path)
    assert_same_trajectory(whole(), path)


# -- more steps ------------------------------------------------------------------------------------


MORE = (
    {"integrator": "gd", "store_data": False, "precision": "float32"},
    {"integrator": "rk4", "backend": "numba", "snapshot_precision": "float32"},
    {"integrator": "dopri5"},
)


@pytest.mark.parametrize("variant", MORE, ids=lambda variant: variant["integrator"])
def test_a_finished_run_goes_on_to_more_steps(variant, tmp_path, whole):
    path = prdsim.run(**keys(**variant, steps=20), output=str(tmp_path / "run.h5")).path
    result = prdsim.resume(path, 40)
    assert (result.step, result.stop_reason) == (40, "finished")
    assert_same_trajectory(whole(**variant), path)


def test_more_steps_keep_the_rows_that_a_longer_plan_would_not_have(tmp_path, whole):
    rules = {"snapshots": "geometric:6", "scalars": "every:7"}
    path = prdsim.run(**keys(**rules, steps=20), output=str(tmp_path / "run.h5")).path
    with prdsim.open_trajectory(path) as trajectory:
        old = dict(trajectory.scalars)
        old_steps, old_U = trajectory.step, trajectory.U[:]
    prdsim.resume(path, 40)
    long = whole(**rules)
    assert_same_points(path, long)
    with prdsim.open_trajectory(path) as a, prdsim.open_trajectory(long) as b:
        assert a.check() == []
        kept = {name: column[: len(old["step"])] for name, column in a.scalars.items()}
        assert same_bits(old, kept)
        assert np.array_equal(a.step[: len(old_steps)], old_steps)
        assert np.array_equal(a.U[: len(old_steps)], old_U)
        for name in ARRAYS:
            assert np.array_equal(getattr(a, name)[-1], getattr(b, name)[-1])
        assert same_numbers(row_of(a, -1), row_of(b, -1))
        assert a.config["steps"] == 40


def test_an_interrupted_run_goes_on_to_more_steps_than_planned(tmp_path, whole):
    path = tmp_path / "run.h5"
    stopped(path, 13, steps=20)
    prdsim.resume(path, 40)
    assert_same_trajectory(whole(), path)


# -- refusals --------------------------------------------------------------------------------------


def test_a_finished_run_needs_more_steps(tmp_path):
    path = prdsim.run(**keys(), output=str(tmp_path / "run.h5")).path
    content = path.read_bytes()
    for steps, message in (
        (None, r"finished at step 40; --steps N with N > 40"),
        (40, r"finished at step 40; --steps N with N > 40"),
        (39, r"--steps 39: .*run\.h5 is planned for 40; give a later end"),
    ):
        with pytest.raises(ConfigError, match=message):
            prdsim.resume(path, steps)
        assert path.read_bytes() == content


def test_an_interrupted_run_cannot_be_planned_shorter(tmp_path):
    path = stopped(tmp_path / "run.h5", 13).path
    with pytest.raises(ConfigError, match="planned for 40; give a later end"):
        prdsim.resume(path, 20)


def test_a_run_that_reached_its_end_time_is_finished(tmp_path):
    path = prdsim.run(**keys(end_time=0.1, steps=10_000), output=str(tmp_path / "run.h5")).path
    message = r"finished at time 0\.1; --end-time T with T > 0\.1, the end of its last"
    for steps in (None, 20_000):
        with pytest.raises(ConfigError, match=message):
            prdsim.resume(path, steps)


@pytest.mark.parametrize("integrator", ["gd", "rk4"])
def test_a_diverged_run_is_not_resumed(integrator, tmp_path):
    path = tmp_path / "run.h5"
    with pytest.raises(DivergedError, match="not finite from step"):
        prdsim.run(**keys(step_size=1e120, integrator=integrator), output=str(path))
    content = path.read_bytes()
    with pytest.raises(DivergedError, match=r"diverged at step \d+ and would again") as caught:
        prdsim.resume(path)
    assert "start a new one with --step-size " in str(caught.value)
    assert path.read_bytes() == content


def test_a_run_killed_on_its_way_to_divergence_diverges_at_the_same_step(tmp_path):
    config = {"step_size": 1e120, "integrator": "rk4"}
    whole, path = tmp_path / "whole.h5", killed_run(tmp_path / "run.h5", 1, **config)
    messages = []
    for go in (
        lambda: prdsim.run(**keys(**config), output=str(whole)),
        lambda: prdsim.resume(path),
    ):
        with pytest.raises(DivergedError) as caught:
            go()
        messages.append(str(caught.value).splitlines()[0])
    assert messages[0] == messages[1]
    with prdsim.open_trajectory(whole) as a, prdsim.open_trajectory(path) as b:
        assert (a.status, a.stop_step) == (b.status, b.stop_step)
        assert same_bits(dict(a.scalars), dict(b.scalars))


def test_a_changed_configuration_is_refused(tmp_path):
    path = stopped(tmp_path / "run.h5", 13).path
    with prdsim.open_trajectory(path) as trajectory:
        plans = trajectory.planned_snapshots, trajectory.planned_scalars
        changed = json.dumps({**trajectory.config, "critic_step_size": 0.02})
    extend(path, snapshot_plan=plans[0], scalar_plan=plans[1], attributes={"config": changed})
    with pytest.raises(ResumeMismatchError, match="configuration does not match its checksum"):
        prdsim.resume(path)


@pytest.mark.parametrize("steps", [None, 80])
def test_a_file_that_is_being_written_is_refused(steps, tmp_path):
    path = stopped(tmp_path / "run.h5", 13).path
    content = path.read_bytes()
    with (
        TrajectoryWriter.open(path),
        pytest.raises(TrajectoryLockedError, match="is being written"),
    ):
        prdsim.resume(path, steps)
    assert path.read_bytes() == content
    assert prdsim.resume(path, steps).stop_reason == "finished"


def user_data(path: Path, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    np.savez(path, X=rng.standard_normal((12, 9)), Y=rng.standard_normal((12, 2)))
    return str(path)


def test_data_that_were_not_stored_are_loaded_again(tmp_path, whole):
    dataset = user_data(tmp_path / "data.npz")
    path = stopped(tmp_path / "run.h5", 13, dataset=dataset, store_data=False).path
    with prdsim.open_trajectory(path) as trajectory:
        assert dict(trajectory.data) == {}
    prdsim.resume(path)
    assert_same_trajectory(whole(dataset=dataset, store_data=False), path)


@pytest.mark.parametrize("steps", [None, 80])
def test_other_data_than_the_runs_are_refused(steps, tmp_path):
    dataset = user_data(tmp_path / "data.npz")
    path = stopped(tmp_path / "run.h5", 13, dataset=dataset, store_data=False).path
    content = path.read_bytes()
    user_data(tmp_path / "data.npz", seed=1)
    with pytest.raises(ResumeMismatchError, match=r"made from data other than .* holds now"):
        prdsim.resume(path, steps)
    (tmp_path / "data.npz").unlink()
    with pytest.raises(DataError, match=r"data\.npz"):
        prdsim.resume(path, steps)
    assert path.read_bytes() == content


def test_stored_data_need_their_source_no_more(tmp_path, whole):
    dataset = user_data(tmp_path / "data.npz")
    path = stopped(tmp_path / "run.h5", 13, dataset=dataset).path
    reference = whole(dataset=dataset)
    (tmp_path / "data.npz").unlink()
    prdsim.resume(path)
    assert_same_trajectory(reference, path)


def test_arrays_of_the_caller_are_resumed_from_the_file(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((6, 5)), rng.standard_normal((6, 2))
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    prdsim.run(**keys(), data=data, output=str(whole))
    prdsim.run(**keys(), data=data, output=str(path), progress=stop_at(13))
    prdsim.resume(path)
    assert_same_trajectory(whole, path)


def test_rows_computed_again_must_be_those_of_the_file(tmp_path):
    path = killed_run(tmp_path / "run.h5", 33, chart="weight")
    with TrajectoryWriter.open(path) as writer:
        point = writer.read_restart()
        assert (point.step, writer.record.snapshot_rows) == (0, 4)
        U = np.nextafter(point.arrays["U"], np.inf)
        writer.restart(point.step, point.time, {**point.arrays, "U": U}, point.scalars)
        writer.commit(Status.RUNNING)
    content = path.read_bytes()
    with pytest.raises(ResumeMismatchError, match=r"at step 5, computed again, differs") as caught:
        prdsim.resume(path)
    assert "The file is unchanged" in str(caught.value)
    assert path.read_bytes() == content


# -- watching changes nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "integrator"), [("numpy", "gd"), ("numba", "dopri5")], ids=str)
def test_recording_and_progress_change_no_bit(backend, integrator, tmp_path):
    recordings: list[tuple[dict[str, Any], Any]] = [
        ({"snapshots": "geometric:2", "scalars": "every:1000"}, False),
        ({"snapshots": "every:1", "scalars": "every:1", "restart_seconds": 0.0}, False),
        ({"snapshots": "every:7", "snapshot_precision": "float32"}, Shown(io.StringIO(), 0.0)),
        ({"scalars": "every:3", "restart_seconds": 0.001}, Shown(Terminal())),
    ]
    for i, (recording, progress) in enumerate(recordings):
        path = tmp_path / f"{i}.h5"
        config = keys(backend=backend, integrator=integrator, steps=20, **recording)
        result = prdsim.run(**config, output=str(path), progress=progress)
        point = restart_point(path)
        assert point.step == 20
        assert all(np.array_equal(point.arrays[name], result.state[name]) for name in "VWa")
        assert_same_points(tmp_path / "0.h5", path)


def test_resume_removes_the_second_name_that_a_kill_in_creation_leaves(tmp_path):
    path = prdsim.run(
        **keys(steps=20, snapshots="every:20", scalars="every:4"), output=str(tmp_path / "run.h5")
    ).path
    (tmp_path / ".run.h5.0123abcd.tmp").hardlink_to(path)  # killed between link and unlink
    (tmp_path / "other.tmp").touch()
    prdsim.resume(path, 40)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.tmp", "run.h5"]
    stopped_path = stopped(tmp_path / "stopped.h5", 13).path
    (tmp_path / ".stopped.h5.0123abcd.tmp").hardlink_to(stopped_path)
    prdsim.resume(stopped_path)
    assert not list(tmp_path.glob(".*.tmp"))
