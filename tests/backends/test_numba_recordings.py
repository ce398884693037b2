"""Recorded kernels of the Numba backend: the bits of calls, how often, by whom, and how long."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from support import Problem, in_pairs, random_problem, same_bits
from support_runs import assert_same_points, assert_same_trajectory, keys_of_run

import prdsim
import prdsim.backends.numba_recordings as recordings
from prdsim.backends import get_backend
from prdsim.physics.charts import CHARTS
from prdsim.physics.state import Dimensions
from prdsim.progress import Progress
from prdsim.verification.operands import SHAPES, Operands
from prdsim.verification.operations import check_operation

FIXED = ("gd", "heun", "rk4")
STEPS = 40
CRITICS: dict[str, dict[str, Any]] = {
    "none": {"diffusion": False},
    "frozen": {"trainable": "U,V"},
    "wgan-gp": {},
    "minimax": {"critic": "minimax", "critic_rate": 0.1},
    "shuffled": {"forcing": "shuffled", "forcing_time": 0.11},
    "slow": {"forcing": "slow", "forcing_time": 1.7},
}


def called(*recurring: Any, **_: Any) -> int:
    """In place of a backend's `replay`: nothing is recorded."""
    recurring[-1]()
    return 1


def end(problem: Problem, chunks: list[int], *, recorded: bool = True, **keys: Any) -> Any:
    """Where a run is after so many steps, and the most that were taken in one call."""
    with problem.simulation("numba", steps=sum(chunks), **keys) as simulation:
        if not recorded:
            simulation.backend.replay = called
        most = 0
        for chunk in chunks:
            while chunk:
                taken = simulation.advance_some(chunk)
                chunk, most = chunk - taken, max(most, taken)
        return simulation.restart_point(), most


# -- the same bits ---------------------------------------------------------------------------------


@in_pairs(
    integrator=FIXED,
    chart=tuple(CHARTS),
    precision=("float64", "float32"),
    critic=tuple(CRITICS),
    threads=(1, 2),
)
def test_steps_in_blocks_have_the_bits_of_single_calls(
    integrator, chart, precision, critic, threads
):
    problem = random_problem(3, d_in=9, d_out=3, n=7, m=11, m_c=6)
    keys = {"integrator": integrator, "chart": chart, "precision": precision, "threads": threads}
    keys |= CRITICS[critic]
    expected, most = end(problem, [STEPS], recorded=False, **keys)
    assert most == 1
    for chunks in ([STEPS], [1, 9, 3, STEPS - 13]):
        computed, most = end(problem, chunks, **keys)
        assert most > 1, "no block"
        assert same_bits(computed.arrays, expected.arrays)
        assert (computed.step, computed.time) == (expected.step, expected.time)
        assert computed.scalars["evaluations"] == expected.scalars["evaluations"]


@pytest.mark.parametrize("how", ["large arrays", "a ramp"])
def test_what_cannot_be_recorded_is_called(how, monkeypatch):
    """Calls of large kernels do not matter; steps of a ramp differ."""
    monkeypatch.setattr("prdsim.running.resolve._RAMP", STEPS + 1)
    n, m = {"large arrays": (260, 256), "a ramp": (6, 8)}[how]
    problem = random_problem(3, n=n, m=m)
    ramp = {"init_scale": 0.5, "step_size": "auto"} if how == "a ramp" else {}
    keys = {"integrator": "gd", **ramp}
    expected, _ = end(problem, [STEPS], recorded=False, **keys)
    computed, most = end(problem, [STEPS], **keys)
    assert most == 1
    assert same_bits(computed.arrays, expected.arrays)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_operation_has_the_bits_of_a_call(precision, shape):
    """Whether it is a kernel or not; and operations that are in place."""
    k = get_backend("numba", precision=precision, threads=2)
    o = Operands(k, Dimensions(1, 1, 1, 1, 1))
    A, B, out = (o.load(o.normal(*shape)) for _ in range(3))
    row, column = A[0].copy(), A[:, 0].copy()
    order, word = o.load(np.arange(shape[1])[::-1].copy()), o.load(np.array([3], np.uint64))
    gates, square = o.load((A > 0).astype("uint8")), o.unset((shape[0], shape[0]))
    outs = [out, row, column, gates, square]

    def everything() -> None:
        k.combine([(0.5, out), (0.25, A), (1.0, B)], out=out)
        k.gemm(out, B.T, out=square, alpha=0.1)
        k.gemm(square, A, out=out, beta=0.5, alpha=0.1)
        k.relu(out, out=out)
        k.gate(out, B, out=out)
        k.scale_rows(column, out, out=out)
        k.scale_columns(row, out, out=out)
        k.uniforms(1, 2, word, 0, out=row)
        k.take_columns(out, order, out=A)
        k.interpolate(row, A, B, out=out)
        k.row_dots(out, out, out=column)
        k.column_dots(out, A, out=row)
        k.penalty_weights(row, 0.5, out=row)
        k.heaviside(B, out=A)
        k.copy(out, out=B)
        if shape == SHAPES[3]:
            k.gates(out, out=gates)

    before = [array.copy() for array in (A, B, *outs)]
    results = []
    for replay in (called, k.replay):
        for array, content in zip((A, B, *outs), before, strict=True):
            array[...] = content
        with k.active():
            for _ in range(3):
                assert replay(everything, None, everything) == 1
        results.append([array.tobytes() for array in (A, B, *outs)])
    assert results[0] == results[1]


# -- how often -------------------------------------------------------------------------------------


def test_an_executor_that_does_one_time_too_few_is_found(monkeypatch):
    repeat = recordings._repeat

    def too_few(threads: int, total: int, *rest: Any, **keys: Any) -> None:
        repeat(threads, max(0, total - 1), *rest, **keys)

    for patch in (False, True):
        if patch:
            monkeypatch.setattr(recordings, "_repeat", too_few)
        k = get_backend("numba", threads=1)
        with k.active():
            assert check_operation("replay", Operands(k, Dimensions(1, 1, 1, 1, 1))).holds != patch


class _Clock:
    """Every call of the recording takes as long for each time it is done."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_compiled_call_is_short_so_that_signals_are_noticed(monkeypatch):
    clock, repeat = _Clock(), recordings._repeat
    seconds = [2e-4]

    def slow(threads: int, total: int, *rest: Any, **keys: Any) -> None:
        repeat(threads, total, *rest, **keys)
        clock.now += total * seconds[0]

    monkeypatch.setattr(recordings, "time", clock)
    monkeypatch.setattr(recordings, "_repeat", slow)
    k = get_backend("numba", threads=1)
    A = k.empty((4,))

    def operations() -> None:
        k.copy(A, out=A)

    def taken(calls: int) -> list[int]:
        return [k.replay(operations, None, operations, at_most=1000) for _ in range(calls)]

    with k.active():
        assert taken(9) == [1, 1, 2, 4, 8, 16, 32, 32, 32]  # 6.4 ms
        seconds[0] = 2e-3  # the machine has other work
        assert taken(5) == [32, 16, 8, 4, 4]
        seconds[0] = 1.0
        assert taken(4) == [4, 2, 1, 1]
        seconds[0] = 1e-9
        assert taken(12)[-1] == 1000, "never more than asked for"


# -- by whom ---------------------------------------------------------------------------------------


def test_recordings_end_with_their_owner():
    k = get_backend("numba", threads=1)
    problem = random_problem(1)
    config = problem.config(backend="numba", integrator="gd", steps=9)
    simulation = prdsim.Simulation(config, problem.X, problem.Y, backend=k)
    with simulation:
        simulation.advance(9)
    assert len(k._recorder._known) == 1
    del simulation
    gc.collect()
    assert len(k._recorder._known) == 0


def test_an_interrupt_while_recording_leaves_a_backend_that_works():
    k = get_backend("numba", threads=1)
    A = Operands(k, Dimensions(1, 1, 1, 1, 1)).load(np.ones(3))
    interrupted = [False]

    def double() -> None:
        k.combine([(2.0, A)], out=A)
        if interrupted[0]:
            raise KeyboardInterrupt

    with k.active():
        k.replay(double, None, double)
        interrupted[0] = True
        with pytest.raises(KeyboardInterrupt):
            k.replay(double, None, double)
        interrupted[0] = False
        assert A.tolist() == [2.0] * 3, "recording does nothing"
        k.combine([(2.0, A)], out=A)
        k.replay(double, None, double)
    assert A.tolist() == [8.0] * 3


def test_runs_in_two_threads_at_once_have_their_own_recordings():
    problem, ends = random_problem(3, n=40, m=30), {}
    expected, _ = end(problem, [400], recorded=False, integrator="gd", threads=2)

    def run(number: int) -> None:
        ends[number] = end(problem, [400], integrator="gd", threads=1 + number % 2)[0]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(ends[number].arrays, ends[number % 2].arrays) for number in range(4))
    assert same_bits(ends[1].arrays, expected.arrays)


# -- runs ------------------------------------------------------------------------------------------


class Every(Progress):
    every_step = True


class Steps(Progress):
    """Keeps the steps that it is told of."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def update(self, done: float, step: int, loss: float) -> None:  # noqa: ARG002
        self.told.append(step)


@pytest.mark.parametrize("integrator", FIXED)
@pytest.mark.parametrize("by", ["steps", "time"])
def test_a_run_in_blocks_writes_the_file_of_one_step_by_step(integrator, by, tmp_path):
    """Rows by step end blocks; those by time lie within steps, which are taken alone."""
    keys = keys_of_run(backend="numba", diffusion=True, integrator=integrator, steps=60)
    if by == "time":
        keys |= {"steps": None, "end_time": 2.9, "step_size": 0.03}
        keys |= {"snapshots": "times:every:0.7", "scalars": "times:every:0.37"}
    else:
        keys |= {"snapshots": "every:20", "scalars": "every:10"}
    steps = Steps()
    prdsim.run(**keys, output=str(tmp_path / "a.h5"), progress=Every())
    prdsim.run(**keys, output=str(tmp_path / "b.h5"), progress=steps)
    assert len(steps.told) < steps.told[-1] / 2, "blocks"
    assert_same_trajectory(tmp_path / "a.h5", tmp_path / "b.h5")
    assert_same_points(tmp_path / "a.h5", tmp_path / "b.h5")
