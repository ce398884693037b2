"""Runs on the stand-ins: how `get_backend` finds them, and what tests ask of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import Problem, relative_error, smooth_problem

import prdsim.backends.cupy as real_backend
from prdsim.backends.cuda_graphs import WARM_UP
from prdsim.backends.fused import CriticAt, Scratch, Targets
from prdsim.backends.numpy import NumpyBackend
from prdsim.physics.state import Dimensions
from prdsim.symbols import ARRAYS
from prdsim.verification.operands import Operands

from .cublas import HostCublas, rounded_to_tf32
from .device import HostCupy, Operation


def put_in(patch: pytest.MonkeyPatch, module: Any = real_backend, **keys: Any) -> HostCupy:
    """Let `get_backend("cupy")` find the stand-ins, in the given version of the backend."""
    cupy = HostCupy(**keys)
    patch.setattr(module, "_import_cupy", lambda: cupy)
    patch.setattr(module.cublas, "load_cublas", lambda: HostCublas(cupy))
    patch.setattr(real_backend, "create", module.create)
    return cupy


def final(problem: Problem, backend: str, steps: int, **keys: Any) -> dict[str, np.ndarray]:
    """U, V, W, a after so many steps."""
    with problem.simulation(backend, steps=steps, **keys) as simulation:
        simulation.advance(steps)
        return simulation.weights()


def worst(computed: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest relative error over arrays."""
    return max(relative_error(computed[name], expected[name]) for name in ARRAYS)


def float32_bound(problem: Problem, steps: int, **keys: Any) -> float:
    """The error that float32 may make in so many steps where inner products have up to 5 terms.

    A step makes a relative error of c u, and disturbances grow g times: steps c u g in all. In a
    step the state is updated six times (the critic five, then the generator), each time from
    numbers that passed through one inner product of up to 5 terms and some 12 operations more:
    c = 6 (5 + 12). u is 2^-24; g is measured in float64.
    """
    return steps * 6 * (5 + 12) * 2.0**-24 * _growth(problem, steps, **keys)


def tf32_by_numpy(problem: Problem, steps: int, **keys: Any) -> dict[str, np.ndarray]:
    """The end of a run in float32 by NumPy, every factor of a product rounded to 10 bits."""
    gemm = NumpyBackend.gemm

    def rounded_gemm(k: Any, A: Any, B: Any, out: Any, **scalars: float) -> None:
        gemm(k, rounded_to_tf32(A), rounded_to_tf32(B), out, **scalars)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NumpyBackend, "gemm", rounded_gemm)
        return final(problem, "numpy", steps, precision="float32", **keys)


def check_50_steps(precision: str) -> None:
    """50 steps by cupy against NumPy's in float64; no mask changes, so disturbances grow smoothly.

    float32 keeps its bound. tf32 may err 8 times as much as NumPy with rounded factors: a device
    that cuts instead errs twice as much in each, and not at random.
    """
    problem, keys = smooth_problem(), {"integrator": "gd", "step_size": 0.005}
    exact = final(problem, "numpy", 50, **keys)
    error = worst(final(problem, "cupy", 50, precision=precision, **keys), exact)
    assert worst(exact, problem.initial) > 0.1, "nothing moved"
    if precision == "float32":
        assert error <= float32_bound(problem, 50, **keys) < 1e-3
        single = final(problem, "numpy", 50, precision="float32", **keys)
        assert error <= 10 * worst(single, exact), "float32 is as good as NumPy's"
    else:
        assert 1e-5 < error <= 8 * worst(tf32_by_numpy(problem, 50, **keys), exact) < 1e-2


def _growth(problem: Problem, steps: int, **keys: Any) -> float:
    """How much a relative disturbance grows at the most, after any number of steps, in float64."""
    rng, size, largest, exact = np.random.default_rng(0), 1e-7, 1.0, []
    for disturbed in range(13):
        initial = {
            name: array * (1 + (disturbed > 0) * size * rng.choice([-1, 1], array.shape))
            for name, array in problem.initial.items()
        }
        states = []
        with replace(problem, initial=initial).simulation(steps=steps, **keys) as simulation:
            for _ in range(steps):
                simulation.advance()
                states.append(simulation.weights())
        exact = exact or states
        growth = max(worst(state, other) for state, other in zip(states, exact, strict=True))
        largest = max(largest, growth / size)
    return largest


def check_steps_repeat(cupy: HostCupy, problem: Problem, **keys: Any) -> None:
    """Steps issue the same operations on the same buffers, at last by launching their graph.

    With the same scalars, in the same order: what differs is the number of the step alone, left in
    an array outside of the graph. And no allocation, no copy to or from the host, nothing on
    another stream.
    """
    with problem.simulation("cupy", steps=100, **{"integrator": "gd", **keys}) as simulation:
        counts = (cupy.allocations, cupy.host_copies, cupy.uploads)
        graphs, logs = cupy.graphs, []
        for _ in range(WARM_UP + 3):
            cupy.log.clear()
            simulation.advance()
            logs.append(list(cupy.log))
        assert (cupy.allocations, cupy.host_copies, cupy.uploads) == counts, "allocation or copy"
        assert cupy.graphs - graphs == 1, "one graph"
        assert len({operation.stream for log in logs for operation in log}) == 1, "other streams"
        numbers = [op.scalars[0] for log in logs for op in log if op.name == "set_word"]
        numbered = not simulation.model.penalty_nodes
        assert numbers == (list(range(WARM_UP + 3)) if numbered else []), "numbers of steps"
    assert all(op.kind != "graph" for log in logs[:WARM_UP] for op in log)
    eager = [[_without_number(operation) for operation in log] for log in logs]
    assert len(eager[0]) > 10
    assert eager[1:WARM_UP] == eager[: WARM_UP - 1], "operations differ"
    launched = [op for op in logs[WARM_UP] if op.kind == "graph"]
    assert len(launched) == 1
    for log in logs[WARM_UP:]:
        assert [op for op in log if op.kind == "graph"] == launched
        outside = [op.name for op in log[: log.index(launched[0])]]
        assert outside == ["set_word"] * numbered, "issued beside the graph"
        inside = [_without_number(op) for op in log if op.kind != "graph"]
        assert inside == eager[0], "a graph holds other operations than those of a step"


SCRATCH = ((90, 10), (10, 301), (10, 301), (301,), (301,))


def check_order_of_threads(cupy: HostCupy, k: Any) -> None:
    """Sums have the same bits whether the first or the last thread of a block goes first.

    A missing barrier would show.
    """
    o, results = Operands(k, Dimensions(1, 1, 1, 1, 1)), []
    A, B = (o.load(o.normal(70, 301)) for _ in range(2))
    rows, columns = k.empty((70,), "float64"), k.empty((301,))
    fused = k.fused(3, 90, 10, 301)
    fused.allocate()
    W, a, Z, Y = (o.load(o.normal(*shape)) for shape in ((90, 10), (90,), (10, 301), (10, 301)))
    N, scratch = k.empty((90, 10)), Scratch(*(k.empty(shape) for shape in SCRATCH))
    at = CriticAt(W, a, Z, Y, Targets(Y, Y), [(0.3, 1.0)], s_c=0.1, n=301, penalty=2.0)
    for cupy.threads_backward in (0, 1):
        fused.critic_moments(at, scratch, out=N, beta=0.0)
        k.row_dots(A, B, rows)
        k.column_dots(A, B, columns)
        totals = k.dot(A, B), k.sum(A)
        bits = k.to_host(N).tobytes(), k.to_host(scratch.Q).tobytes()
        results.append([*bits, k.to_host(rows).tobytes(), k.to_host(columns).tobytes(), *totals])
    assert results[0] == results[1]


def _without_number(operation: Operation) -> Operation:
    return operation._replace(scalars=()) if operation.name == "set_word" else operation
