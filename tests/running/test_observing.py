"""Watching a run and stopping it from Python: neither changes a bit of it, whatever they do."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from support_runs import KEYS, assert_same_points, assert_same_trajectory, make_run, stop_at
from threadpoolctl import threadpool_info, threadpool_limits

import prdsim
from prdsim.trajectory import Status

TIMED = {**KEYS, "integrator": "bs23", "end_time": 1.0, "snapshots": "times:every:0.25"}
for _key in ("critic_step_size", "penalty_points", "steps", "step_size"):
    TIMED.pop(_key)
TIMED["scalars"] = "times:every:0.25"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted run that nobody watched."""
    return make_run(tmp_path_factory.mktemp("whole") / "whole.h5", diffusion=True)


def run(path: Path, **options) -> prdsim.Result:
    return prdsim.run(KEYS, diffusion=True, output=str(path), **options)


# -- observers -------------------------------------------------------------------------------------


def test_observers_see_every_row_and_its_state(tmp_path):
    seen, times = [], []
    result = prdsim.run(
        TIMED,
        diffusion=True,
        output=str(tmp_path / "a.h5"),
        observe=[lambda now: seen.append((now, now.a, now.U)), lambda now: times.append(now.time)],
    )
    with prdsim.open_trajectory(result.path) as trajectory:
        assert times == trajectory.scalars["time"].tolist() == trajectory.time.tolist()
        assert len(times) == 5
        for row, (now, a, U) in enumerate(seen):
            assert now.step == trajectory.scalars["step"][row]
            for name, value in now.scalars.items():
                assert value == trajectory.scalars[name][row] or np.isnan(value), name
            for name, array in {"U": U, "a": a, "V": now.V, "W": now.W}.items():
                assert np.array_equal(array, getattr(trajectory, name)[row]), name
                assert not array.flags.writeable
    assert "step 0, t = 0: L_sup " in repr(seen[0][0])


def test_a_state_that_nobody_asked_for_is_neither_made_nor_kept(tmp_path, monkeypatch):
    kept = []
    run(tmp_path / "a.h5", observe=kept.append)
    made = []
    weights = prdsim.Simulation.weights
    monkeypatch.setattr(
        prdsim.Simulation, "weights", lambda self, time: (made.append(time), weights(self, time))[1]
    )
    run(tmp_path / "b.h5", observe=lambda now: now.W if now.step == 10 else None)
    assert len(made) == 2  # besides the state of the result
    with pytest.raises(prdsim.ConfigError, match="the state at step 5 is gone: read U, V, W, a w"):
        _ = kept[1].U
    assert kept[1].scalars["loss_sup"] > 0


def test_an_observer_cannot_change_a_bit(backend, tmp_path):
    def meddle(now: prdsim.Observation) -> None:
        for name in ("U", "V", "W", "a"):
            array = getattr(now, name)
            array.flags.writeable = True
            array[...] = np.nan
        now.scalars.clear()
        np.seterr(all="raise")
        np.random.seed(now.step)  # noqa: NPY002
        threadpool_limits(7)
        if backend == "numba":
            import numba

            numba.set_num_threads(1)
        if now.step == 5:
            prdsim.run(KEYS, steps=1, seed=9, output=str(tmp_path / "another.h5"))

    limits, error_state = threadpool_limits(None), np.geterr()
    keys = {"diffusion": True, "backend": backend, "threads": 2}
    make_run(tmp_path / "alone.h5", **keys)
    try:
        prdsim.run({**KEYS, **keys}, output=str(tmp_path / "watched.h5"), observe=meddle)
    finally:
        limits.restore_original_limits()
    assert np.geterr() == error_state
    assert_same_trajectory(tmp_path / "alone.h5", tmp_path / "watched.h5")


@pytest.mark.parametrize("error", [ValueError("a slip"), prdsim.DivergedError("of another run")])
def test_a_failing_observer_leaves_a_run_to_be_resumed(error, tmp_path, whole):
    path, told = tmp_path / "a.h5", []

    def fail(now: prdsim.Observation) -> None:
        if now.step == 10:
            raise error

    with pytest.raises(type(error)) as caught:
        run(path, observe=[fail, lambda now: told.append(now.step)])
    assert caught.value is error
    assert told == [0, 5]  # nobody is called after a failure
    assert caught.value.__notes__[-1] == (
        f"the run was interrupted at step 10; prdsim.resume({str(path)!r}) continues it"
    )
    with prdsim.open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.INTERRUPTED, 10)
        assert repr(error) in trajectory.stop_reason
        assert trajectory.check() == []
    watched = []
    prdsim.resume(path, observe=lambda now: watched.append(now.step))
    assert watched == [15, 20]
    assert_same_trajectory(path, whole)


def test_a_failure_at_the_last_row_leaves_a_finished_run(tmp_path, whole):
    with pytest.raises(KeyError) as caught:
        run(tmp_path / "a.h5", observe=lambda now: {}[now.step] if now.step == 20 else None)
    assert caught.value.__notes__[-1] == f"the run was finished: {tmp_path / 'a.h5'} holds it"
    assert_same_trajectory(tmp_path / "a.h5", whole)


# -- stopping --------------------------------------------------------------------------------------


def test_a_stop_is_a_ctrl_c(tmp_path, whole):
    event, asked = threading.Event(), []
    by_event = run(
        tmp_path / "event.h5", stop=event, observe=lambda now: now.step == 10 and event.set()
    )
    by_function = run(tmp_path / "function.h5", stop=lambda: asked.append(0) or len(asked) > 10)
    assert len(asked) == 11  # after every step, and before the first
    by_signal = run(tmp_path / "signal.h5", progress=stop_at(10, signal.SIGINT))
    for result in (by_event, by_function):
        assert (result.stop_reason, result.step, result.signal) == ("interrupted", 10, None)
        assert result.last == by_signal.last
        assert_same_points(result.path, by_signal.path)
        with prdsim.open_trajectory(result.path) as trajectory:
            assert (trajectory.status, trajectory.stop_reason) == (Status.INTERRUPTED, "stop")
    again = prdsim.resume(by_event.path, stop=threading.Event())
    assert (again.stop_reason, again.step) == ("finished", 20)
    assert_same_trajectory(by_event.path, whole)


def test_a_stop_that_was_set_before_the_run_or_fails_leaves_its_beginning(tmp_path, whole):
    event = threading.Event()
    event.set()
    assert run(tmp_path / "a.h5", stop=event).step == 0
    resumed = prdsim.resume(tmp_path / "a.h5", stop=event)
    assert (resumed.step, resumed.stop_reason) == (0, "interrupted")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "b.h5", stop=lambda: 1 / 0)
    for name in ("a.h5", "b.h5"):
        prdsim.resume(tmp_path / name)
        assert_same_trajectory(tmp_path / name, whole)


# -- the log ---------------------------------------------------------------------------------------


def test_runs_are_logged_with_what_their_users_are_told(tmp_path, caplog):
    path = tmp_path / "a.h5"
    channel = logging.getLogger("prdsim")
    assert any(isinstance(handler, logging.NullHandler) for handler in channel.handlers)

    def rename(now: prdsim.Observation) -> None:
        if now.step == 5:
            path.rename(tmp_path / "b.h5")

    with caplog.at_level(logging.INFO, "prdsim"), pytest.warns(UserWarning, match="b.h5"):
        run(path, observe=rename)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert {record.name for record in caplog.records} == {"prdsim"}
    assert told[0][0] == "INFO"
    words = "digits, with diffusion (D = 1, wgan-gp); 7 neurons, 10 samples, "
    assert told[0][1].startswith(f"{path}: {words}")
    assert next(level for level, text in told if "b.h5" in text) == "WARNING"
    assert ("INFO", f"{tmp_path / 'b.h5'}: finished at step 20") in told
    assert told[-1][0] == "WARNING"
    assert "b.h5: the flow's invariants drifted by " in told[-1][1]


@pytest.mark.usefixtures("two_threads")
def test_a_run_has_its_own_threads_after_the_code_of_others():
    dataset = prdsim.load_dataset("digits", samples=4)

    def threads() -> set[int]:
        return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}

    outside = threads()
    with prdsim.Simulation(
        {**KEYS, "samples": 4, "threads": 1}, dataset.X, dataset.Y
    ) as simulation:
        with simulation.paused():
            assert threads() == outside
            threadpool_limits(3)
        assert threads() == {1}
    threadpool_limits(max(outside))
