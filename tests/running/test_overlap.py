"""Writing while a device computes: the same file as in turn, and nothing lost when it fails.

The device is the stand-in, where a copy to the host arrives as late as anything allows.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cupy_on_host.harness import put_in
from support import in_pairs, random_problem, same_bits
from support_runs import At, assert_same_trajectory

import prdsim.backends.cupy as real_backend
from prdsim.errors import ConfigError, DivergedError, OutputError, ResumeMismatchError
from prdsim.files import posix
from prdsim.running import loop, runner
from prdsim.running.loop import Result
from prdsim.running.memory import leaving_bytes, needed_bytes
from prdsim.running.ordered_calls import OrderedCalls
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.trajectory import Status, TrajectoryWriter, open_trajectory

PATIENCE = 60.0  # seconds; nothing comes near
on_stand_ins = pytest.mark.usefixtures("cupy")
KEYS: dict[str, Any] = {
    "backend": "cupy",
    "diffusion": True,
    "samples": 6,
    "width": 8,
    "outputs": 3,
    "integrator": "gd",
    "penalty_points": "random",
    "step_size": 0.01,
    "steps": 24,
    "snapshots": "every:4",
    "scalars": "every:3",
}
BY_TIME: dict[str, Any] = {  # several rows lie within one step
    "step_size": 0.02,
    "steps": None,
    "end_time": 0.25,
    "snapshots": "times:every:0.007",
    "scalars": "times:every:0.003",
}


# -- calls in order --------------------------------------------------------------------------------


@pytest.fixture
def calls() -> Any:
    ordered = OrderedCalls(behind=True)
    yield ordered
    ordered.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prdsim-calls")]


def test_calls_are_done_in_their_order_by_one_other_thread(calls):
    done: list[Any] = []

    def note(number: int, *, pause: float) -> None:
        time.sleep(pause)
        done.append((number, threading.current_thread()))

    for number in range(20):
        calls(note, number, pause=0.001 * (number % 3))
    calls.wait()
    assert calls.idle
    numbers, threads = zip(*done, strict=True)
    assert numbers == tuple(range(20))
    assert len(set(threads)) == 1
    assert threading.main_thread() not in threads


def test_the_caller_goes_on_meanwhile(calls):
    gate = threading.Event()
    calls(gate.wait, PATIENCE)
    assert not calls.idle
    gate.set()
    calls.wait()
    assert calls.idle


def test_an_error_is_raised_by_the_next_call_and_what_follows_it_is_dropped(calls):
    gate, done, error = threading.Event(), [], OutputError("the disk is full")

    def fail() -> None:
        gate.wait(PATIENCE)
        raise error

    calls(fail)
    calls(done.append, "never")
    gate.set()
    while not calls.idle:
        time.sleep(0.001)
    with pytest.raises(OutputError) as caught:
        calls(done.append, "never either")
    assert caught.value is error
    calls(done.append, "again")
    calls.wait()
    assert done == ["again"]


def test_an_error_is_raised_by_waiting(calls):
    calls(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        calls.wait()
    calls.wait()


def test_closing_finishes_what_was_asked_for():
    calls, done = OrderedCalls(behind=True), []
    calls(time.sleep, 0.01)
    calls(done.append, 1)
    calls.close()
    assert done == [1]


def test_at_once_is_at_once():
    calls, done = OrderedCalls(behind=False), []
    calls(done.append, threading.current_thread())
    assert done == [threading.main_thread()]
    with pytest.raises(ValueError, match="invalid literal"):
        calls(int, "x")
    assert calls.idle
    calls.close()


# -- the same file ---------------------------------------------------------------------------------


@pytest.fixture
def reproducible(monkeypatch) -> None:
    """Files that differ in nothing but what was computed: no clock, no identity."""

    class Clock:
        @staticmethod
        def now(*_: Any) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(runner, "datetime", Clock)
    monkeypatch.setattr(runner.secrets, "token_hex", lambda size: "0" * 2 * size)
    monkeypatch.setattr(loop, "_COMMIT_SECONDS", float("inf"))


def in_turn(patch: pytest.MonkeyPatch) -> None:
    """Let the file be written in the loop, as on the host's own backends."""
    patch.setattr(real_backend.CupyBackend, "asynchronous", False)


def run_in(folder: Path, patch: pytest.MonkeyPatch, **keys: Any) -> Result:
    folder.mkdir(exist_ok=True)
    with patch.context() as here:
        here.chdir(folder)
        return run(**{**KEYS, **keys}, output="run.h5")


@on_stand_ins
@pytest.mark.usefixtures("reproducible")
@in_pairs(
    integrator=("gd", "rk4", "bs23"), restart_seconds=(0.0, 60.0), recorded=("by step", "by time")
)
def test_the_file_is_byte_for_byte_that_of_writing_in_turn(
    integrator, restart_seconds, recorded, tmp_path, monkeypatch
):
    points = "random" if integrator == "gd" else "midpoint"
    keys = {"integrator": integrator, "penalty_points": points}
    keys |= BY_TIME if recorded == "by time" else {}
    keys["restart_seconds"] = restart_seconds
    run_in(tmp_path / "behind", monkeypatch, **keys)
    in_turn(monkeypatch)
    run_in(tmp_path / "in turn", monkeypatch, **keys)
    behind, turn = ((tmp_path / name / "run.h5").read_bytes() for name in ("behind", "in turn"))
    assert behind == turn
    with open_trajectory(tmp_path / "behind" / "run.h5") as trajectory:
        assert trajectory.check() == []
        if recorded == "by time":
            assert trajectory.time.tolist() == [*(i * 0.007 for i in range(36)), 0.25]
        else:
            assert trajectory.step.tolist() == list(range(0, 25, 4))


@on_stand_ins
@pytest.mark.usefixtures("reproducible")
def test_a_run_that_diverges_leaves_the_same_file(tmp_path, monkeypatch):
    texts = []
    for name in ("behind", "in turn"):
        with pytest.raises(DivergedError) as caught:
            run_in(tmp_path / name, monkeypatch, step_size=1e3, steps=400, snapshots="every:2")
        texts.append(str(caught.value))
        in_turn(monkeypatch)
    assert texts[0] == texts[1]
    behind, turn = ((tmp_path / name / "run.h5").read_bytes() for name in ("behind", "in turn"))
    assert behind == turn
    with open_trajectory(tmp_path / "behind" / "run.h5") as trajectory:
        assert trajectory.status is Status.DIVERGED
        assert trajectory.check() == []


# -- overlap ---------------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch) -> Any:
    """Holds the writing of the snapshot at step 8 until ``gate`` is set."""
    snapshot = TrajectoryWriter.snapshot

    class Held:
        gate, in_time, threads = threading.Event(), None, set()

    def hold(writer: Any, step: int, time: float, arrays: Any) -> None:
        Held.threads.add(threading.current_thread())
        if step == 8:
            Held.in_time = Held.gate.wait(PATIENCE)
        snapshot(writer, step, time, arrays)

    monkeypatch.setattr(TrajectoryWriter, "snapshot", hold)
    return Held


@on_stand_ins
def test_steps_go_on_while_a_snapshot_is_written_and_it_is_of_its_step(held, tmp_path):
    """Step 11 is done, and its scalars are there, before snapshot 8 is on the disk."""
    path = tmp_path / "run.h5"

    def look() -> None:
        with open_trajectory(path) as trajectory:
            assert trajectory.step[-1] == 4
        held.gate.set()

    run(**KEYS, output=str(path), progress=At(11, look))
    assert held.in_time, "the run waited for its file"
    assert threading.main_thread() not in held.threads
    with open_trajectory(path) as trajectory:
        data, initial = dict(trajectory.data), dict(trajectory.initial)
        config = runner.RunConfig(**trajectory.config)
        with Simulation(config, data["X"], data["Y"], initial=initial) as simulation:
            for row, step in enumerate(trajectory.step.tolist()):
                simulation.advance(step - simulation.step)
                for name, array in simulation.weights().items():
                    assert np.array_equal(getattr(trajectory, name)[row], array)


@on_stand_ins
def test_one_snapshot_at_a_time_leaves(monkeypatch, tmp_path):
    """Its memory on the device is given back before the disk is waited for."""
    under_way, most, held = [], [], []
    leaving: weakref.WeakSet[Any] = weakref.WeakSet()
    start, snapshot = Simulation.start_weights, TrajectoryWriter.snapshot

    def started(simulation: Simulation, *time: float) -> Any:
        under_way.append(simulation.step)
        most.append(len(under_way))
        copies = start(simulation, *time)
        leaving.update(copy.__self__ for copy in copies.values())
        return copies

    def written(writer: Any, step: int, *rest: Any) -> None:
        held.append(len(leaving))
        time.sleep(0.02)
        snapshot(writer, step, *rest)
        under_way.remove(step)

    monkeypatch.setattr(Simulation, "start_weights", started)
    monkeypatch.setattr(TrajectoryWriter, "snapshot", written)
    run(**KEYS, output=str(tmp_path / "run.h5"))
    assert most == [1] * 7
    assert held == [0] * 7


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_hosts_own_backends_write_in_turn(backend, held, tmp_path):
    held.gate.set()
    run(**{**KEYS, "backend": backend}, output=str(tmp_path / "run.h5"))
    assert held.threads == {threading.main_thread()}


@on_stand_ins
def test_what_a_snapshot_takes_on_the_device_is_predicted(cupy):
    problem = random_problem(1, d_in=30, d_out=10, n=40, m=50, m_c=20)
    with problem.simulation("cupy", precision="float32") as simulation:
        before = cupy.used
        copies = simulation.start_weights()
        predicted = leaving_bytes(simulation.config, simulation.dimensions)
        assert cupy.used - before == predicted > 0
        simulation.advance()
        weights = {name: copy() for name, copy in copies.items()}
        del copies
        assert cupy.used == before
    assert same_bits(weights, simulation.initial)


@on_stand_ins
def test_a_run_whose_snapshots_find_no_room_is_refused(monkeypatch):
    problem = random_problem(1, d_in=300, m=500)
    keys = {"backend": "cupy", "step_size": 0.1}
    put_in(monkeypatch)
    simulation = problem.simulation(**keys)
    config, sizes = simulation.config, simulation.dimensions
    needed = needed_bytes(config, sizes, simulation.backend, simulation.resolved.chart)
    needed += real_backend.cublas.WORKSPACE_BYTES + 8 * real_backend.cuda_kernels.TOTAL_BLOCKS
    put_in(monkeypatch, memory=needed - leaving_bytes(config, sizes))
    with pytest.raises(ConfigError, match="of memory on cuda:0"):
        problem.simulation(**keys)
    put_in(monkeypatch, memory=needed)
    with problem.simulation(**keys) as simulation:
        simulation.start_weights()


@on_stand_ins
def test_a_copy_can_be_waited_for_in_any_thread_on_any_device(monkeypatch):
    """A new thread begins on the first device."""
    put_in(monkeypatch, devices=2)
    with random_problem(1).simulation("cupy:1") as simulation, ThreadPoolExecutor(1) as thread:
        copies = simulation.start_weights()
        simulation.advance()
        weights = {name: thread.submit(copy).result() for name, copy in copies.items()}
    assert same_bits(weights, simulation.initial)


# -- when something fails --------------------------------------------------------------------------


def check_resumed(path: Path, tmp_path: Path) -> None:
    """Resumed, the run is that of one never interrupted."""
    resume(path)
    assert_same_trajectory(path, run(**KEYS, output=str(tmp_path / "whole.h5")).path)


@on_stand_ins
@pytest.mark.parametrize(
    ("call", "succeed"),
    [("pwrite", 0), ("pwrite", 40), ("pwrite", 90), ("fdatasync", 0), ("fdatasync", 5)],
)
def test_a_disk_that_fills_up_ends_the_run_as_in_turn(call, succeed, tmp_path, monkeypatch):
    """In the thread that writes; what was committed is safe."""
    path, real, calls = tmp_path / "run.h5", getattr(posix, call), []

    def fill(*arguments: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():  # which made the file
            calls.append(arguments)
            if len(calls) > succeed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(posix, call, fill)
        with pytest.raises(OutputError) as caught:
            run(**KEYS, output=str(path))
    assert "cannot write" in str(caught.value)
    assert "No space left" in str(caught.value)
    assert len(calls) == succeed + 1, "nothing is written after what failed"
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.status is Status.RUNNING
    check_resumed(path, tmp_path)


@on_stand_ins
def test_nothing_is_committed_after_a_row_that_differs(tmp_path, monkeypatch):
    """A resumed run that is not the same ends; its file is left as it was."""
    path = tmp_path / "run.h5"
    run(**{**KEYS, "steps": 8}, output=str(path))
    snapshot, before = TrajectoryWriter.snapshot, []

    def differs(writer: Any, step: int, *rest: Any) -> None:
        if step == 12:
            before.append(path.read_bytes())
            time.sleep(0.05)  # meanwhile more is asked for
            raise ResumeMismatchError("differs")
        snapshot(writer, step, *rest)

    monkeypatch.setattr(TrajectoryWriter, "snapshot", differs)
    with pytest.raises(ResumeMismatchError, match="differs"):
        resume(path, 24)
    assert path.read_bytes() == before[0]


@on_stand_ins
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_snapshot_is_written(number, held, tmp_path):
    """The snapshot is finished, then the state of the step that was reached is kept."""
    path = tmp_path / "run.h5"

    def interrupt() -> None:
        assert held.in_time is None, "snapshot 8 is not written yet"
        threading.Timer(0.05, held.gate.set).start()
        signal.raise_signal(number)

    result = run(**KEYS, output=str(path), progress=At(10, interrupt))
    assert (result.stop_reason, result.step, result.signal) == ("interrupted", 10, number)
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.step[-1] == 8
        assert (trajectory.status, trajectory.stop_reason) == (Status.INTERRUPTED, number.name)
        assert trajectory.restart_step == 10
    check_resumed(path, tmp_path)


@on_stand_ins
def test_a_second_signal_ends_the_run_and_no_row_is_torn(held, tmp_path):
    path = tmp_path / "run.h5"

    def interrupt_twice() -> None:
        threading.Timer(0.05, held.gate.set).start()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        run(**KEYS, output=str(path), progress=At(10, interrupt_twice))
    assert caught.value.code == 143
    assert not [t for t in threading.enumerate() if t.name.startswith("prdsim-calls")]
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert not trajectory.is_being_written()
        assert trajectory.step[-1] == 8
    check_resumed(path, tmp_path)


@on_stand_ins
def test_a_failure_in_the_loop_is_committed_after_what_was_asked_for(held, tmp_path):
    path = tmp_path / "run.h5"

    def slip() -> None:
        threading.Timer(0.05, held.gate.set).start()
        raise ValueError("a slip of the user's")

    with pytest.raises(ValueError, match="a slip"):
        run(**KEYS, output=str(path), progress=At(10, slip))
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.step[-1] == 8
        assert trajectory.status is Status.FAILED
        assert "a slip" in trajectory.stop_reason
    check_resumed(path, tmp_path)
