"""Bugs planted in the CuPy backend and the physics it runs, and the check that catches each.

The tests' output ends with the list. Each bug is a change of one place in a copy of the source.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cupy_on_host import HostCupy, compiler_missing
from cupy_on_host.graphs import FAILURES, check_all, check_failed_recording
from cupy_on_host.harness import (
    check_order_of_threads,
    check_steps_repeat,
    final,
    put_in,
    worst,
)
from support import random_problem
from support_backends import elementwise, failures
from support_backends import precision as precision_of_products

import prdsim.backends.cublas as real_cublas
import prdsim.backends.cuda_graphs as real_graphs
import prdsim.backends.cuda_kernels as real_kernels
import prdsim.backends.cuda_narrow
import prdsim.backends.cupy as real_backend
import prdsim.backends.cupy_narrow
import prdsim.backends.cupy_transfers
import prdsim.backends.fused
import prdsim.physics.gradients
import prdsim.running.integrators
import prdsim.running.runge_kutta
from prdsim.backends import get_backend
from prdsim.errors import PrdsimError
from prdsim.verification.operations import OPERATIONS

pytestmark = pytest.mark.skipif(bool(compiler_missing()), reason=compiler_missing() or "-")


@dataclass(frozen=True)
class Bug:
    """A change of one place in a copy of the source, and the check that must catch it."""

    name: str
    module: Any
    old: str
    new: str
    caught_by: str
    precision: str = "float64"


BUGS = [
    # kernels
    Bug(
        "gate is > 0 instead of >= 0",
        real_kernels,
        "B[i] * (A[i] >= 0 ?",
        "B[i] * (A[i] > 0 ?",
        "gate",
    ),
    Bug(
        "gate has the wrong sign",
        real_kernels,
        "B[i] * (A[i] >= 0 ?",
        "B[i] * (A[i] <= 0 ?",
        "gate",
    ),
    Bug(
        "gate hides infinities",
        real_kernels,
        "B[i] * (A[i] >= 0 ? (real)1 : (real)0)",
        "(A[i] >= 0 ? B[i] : (real)0)",
        "gate",
    ),
    Bug(
        "heaviside is > 0 instead of >= 0",
        real_kernels,
        'A[i] >= 0 ? (real)1 : (real)0;"),',
        'A[i] > 0 ? (real)1 : (real)0;"),',
        "heaviside",
    ),
    Bug(
        "relu hides NaN",
        real_kernels,
        "A[i] < 0 ? (real)0 : A[i]",
        "A[i] > 0 ? A[i] : (real)0",
        "relu",
    ),
    Bug(
        "penalty points go from z to y backward",
        real_kernels,
        "Z[i] + e[i % columns] * (Y[i] - Z[i])",
        "Y[i] + e[i % columns] * (Z[i] - Y[i])",
        "interpolate",
    ),
    Bug(
        "columns scaled by rows' factors",
        real_kernels,
        "c[i % columns] * A[i]",
        "c[i / columns] * A[i]",
        "scale_columns",
    ),
    Bug(
        "columns taken from the first row alone",
        real_kernels,
        "A[i / columns * columns + order[i % columns]]",
        "A[order[i % columns]]",
        "take_columns",
    ),
    Bug(
        "no exception for ||q|| = 0",
        real_kernels,
        "r > 0 ? (r - 1) / r * scale : (real)0",
        "(r - 1) / r * scale",
        "penalty_weights",
    ),
    Bug(
        "the last entry is left out",
        real_kernels,
        "if (i < size) {",
        "if (i < size - 1) {",
        "copy",
    ),
    Bug(
        "one entry too many is written",
        real_kernels,
        "if (i < size) {",
        "if (i <= size) {",
        "heaviside",
    ),
    Bug(
        "Philox counter off by one",
        real_kernels,
        "philox(i, update",
        "philox(i + 1, update",
        "uniforms",
    ),
    Bug(
        "Philox words swapped",
        real_kernels,
        "philox(i, update, step[0], 0",
        "philox(i, step[0], update, 0",
        "uniforms",
    ),
    Bug(
        "a combination is added right to left",
        real_kernels,
        "' + '.join(terms)",
        "' + '.join(reversed(terms))",
        "bits",
    ),
    Bug("Philox has nine rounds", real_kernels, "round < 10", "round < 9", "uniforms"),
    Bug(
        "no barrier in row sums",
        real_kernels,
        "        __syncthreads();\n        if (t < half) partial[threadIdx.y][t] +=",
        "        if (t < half) partial[threadIdx.y][t] +=",
        "order of threads",
    ),
    Bug(
        "totals in the arrays' type",
        real_kernels,
        "(double)A[i] * (double)B[i]",
        "A[i] * B[i]",
        "dot",
        "float32",
    ),
    Bug(
        "infinities count as finite",
        real_kernels,
        "A[i] - A[i] == 0 ? 0 : 1",
        "A[i] == A[i] ? 0 : 1",
        "all_finite",
    ),
    # products
    Bug("transposes swapped", real_cublas, "for M in (B, A)),", "for M in (A, B)),", "gemm"),
    Bug("beta is lost", real_cublas, "self._scalar(beta)", "self._scalar(0.0)", "gemm"),
    Bug("alpha is lost", real_cublas, "self._scalar(alpha)", "self._scalar(1.0)", "gemm"),
    Bug(
        "wrong leading dimension",
        real_cublas,
        "M.shape[1] if M.flags.c_contiguous else M.shape[0]",
        "M.shape[0] if M.flags.c_contiguous else M.shape[1]",
        "gemm",
    ),
    Bug(
        "stale result buffer",
        real_cublas,
        "*_layout(B), out.data.ptr, alpha",
        "*_layout(B), alpha",
        "gemm",
    ),
    Bug("stale alpha", real_cublas, "out.data.ptr, alpha, beta)", "out.data.ptr, beta)", "gemm"),
    Bug(
        "tf32 without being asked",
        real_cublas,
        "(_REAL_32F, _COMPUTE_32F, ",
        "(_REAL_32F, _COMPUTE_32F_FAST_TF32, ",
        "precision",
        "float32",
    ),
    Bug(
        "tf32 asked for in vain",
        real_cublas,
        "(_REAL_32F, _COMPUTE_32F_FAST_TF32, ",
        "(_REAL_32F, _COMPUTE_32F, ",
        "precision",
        "tf32",
    ),
    Bug(
        "the stream is set after the workspace",
        real_cublas,
        'self._call("cublasSetMathMode", self._handle, _DEFAULT_MATH)',
        'self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))',
        "gemm",
    ),
    # the backend
    Bug(
        "penalty scale is missing",
        real_backend,
        "factor = self.dtype.type(scale)",
        "factor = self.dtype.type(1.0)",
        "penalty_weights",
    ),
    Bug("terms beyond the eighth are dropped", real_backend, "if later:", "if False:", "combine"),
    Bug(
        "seeds cut to 32 bits",
        real_backend,
        "np.uint64(seed),",
        "np.uint64(seed % 2**32),",
        "uniforms",
    ),
    Bug(
        "gate into a buffer of its own",
        real_backend,
        'self._elementwise("gate", B, A, out,',
        'self._elementwise("gate", B, A, self.empty(out.shape),',
        "gate",
    ),
    Bug(
        "an allocation in the step",
        real_backend,
        "        self._gemm(A, B, out, alpha, beta)",
        "        self.empty(out.shape)\n        self._gemm(A, B, out, alpha, beta)",
        "operations of a step",
    ),
    Bug(
        "a copy to the host in the step",
        real_backend,
        "        self._gemm(A, B, out, alpha, beta)",
        "        self._gemm(A, B, out, alpha, beta)\n        self.to_host(out)",
        "operations of a step",
    ),
    Bug(
        "kernels on the wrong stream",
        real_backend,
        "block, arguments, stream=self._stream)",
        "block, arguments, stream=self._leaving)",
        "operations of a step",
    ),
    Bug(
        "a copy does not wait for the kernels",
        prdsim.backends.cupy_transfers,
        "        leaving.wait_event(computing.record())\n",
        "",
        "start_copy",
    ),
    Bug(
        "a copy is overtaken by the next step",
        real_backend,
        "self._leave(staged).result",
        "self._leave(source).result",
        "start_copy",
    ),
    Bug(
        "what leaves is given back at once",
        prdsim.backends.cupy_transfers,
        "self._source, self._device = source, device",
        "self._device = device",
        "start_copy",
    ),
    Bug(
        "a copy is read before it has arrived",
        prdsim.backends.cupy_transfers,
        "        self._left.synchronize()\n",
        "",
        "start_copy",
    ),
    # graphs
    Bug("recorded at the first call", real_graphs, "WARM_UP = 2", "WARM_UP = 0", "graphs"),
    Bug(
        "recorded, but not done",
        real_graphs,
        "recording.graph = self._record(operations)\n",
        "recording.graph = self._record(operations)\n            return\n",
        "graphs",
    ),
    Bug(
        "recorded, and done once more",
        real_graphs,
        "recording.graph = self._record(operations)\n",
        "recording.graph = self._record(operations)\n            operations()\n",
        "graphs",
    ),
    Bug(
        "one recording for all runs",
        real_graphs,
        "self._recordings.setdefault(owner, {})",
        "self._recordings.setdefault(type(owner), {})",
        "graphs",
    ),
    Bug("recordings outlive their run", real_graphs, "= WeakKeyDictionary()", "= {}", "graphs"),
    Bug(
        "done twice where recording fails",
        real_graphs,
        "            return None\n        return graph",
        "            operations()\n            return None\n        return graph",
        "failed recordings",
    ),
    Bug(
        "lost where recording fails",
        real_graphs,
        "        if recording.graph is None or self.failure:",
        "            if self.failure:\n"
        "                return\n"
        "        if recording.graph is None or self.failure:",
        "failed recordings",
    ),
    Bug(
        "a recording that fails is never ended",
        real_graphs,
        "                    self._stream.end_capture()\n",
        "                    pass\n",
        "failed recordings",
    ),
    Bug(
        "a recording that fails is tried again",
        real_graphs,
        "recording.calls >= WARM_UP and not self.failure:",
        "recording.calls >= WARM_UP:",
        "failed recordings",
    ),
    Bug(
        "the wrong stream is recorded",
        real_backend,
        "Recorder(self._stream)",
        "Recorder(self._leaving)",
        "graphs",
    ),
    Bug(
        "the number of a step is read while recording",
        real_backend,
        "        key = np.uint64(seed), np.uint64(stream)\n",
        "        key = np.uint64(seed), np.uint64(stream)\n        self.to_host(step)\n",
        "graphs",
    ),
    Bug(
        "the number of a step is recorded with it",
        prdsim.running.integrators,
        "memory, (size, step_size), operations,",
        "memory, step_size, lambda: (begin_step(model, index), operations()),",
        "graphs",
    ),
    Bug(
        "the number of a step is left once",
        prdsim.running.integrators,
        "        begin_step(model, index)\n",
        "        if index == 0:\n            begin_step(model, index)\n",
        "trajectories",
    ),
    Bug(
        "a graph for all step sizes",
        prdsim.running.runge_kutta,
        "replay(memory, step_size, operations",
        "replay(memory, None, operations",
        "graphs",
    ),
    Bug(
        "the step size of the recording",
        prdsim.running.integrators,
        "memory, (size, step_size), operations",
        "memory, size, operations",
        "graphs",
    ),
    Bug(
        "the arrays of the recording, of adaptive steps",
        prdsim.running.runge_kutta,
        "k.replay(memory, memory.turned, operations)",
        "k.replay(memory, None, operations)",
        "graphs",
    ),
    Bug(
        "the step size of the recording, of adaptive steps",
        prdsim.running.runge_kutta,
        "self._compute_later_stages(model, state, memory, held)",
        "self._compute_later_stages(model, state, memory, step_size)",
        "graphs",
    ),
    # the critic of few outputs
    Bug(
        "the critic's gates are > 0",
        prdsim.backends.cuda_narrow,
        "dot(mine[j], y) >= 0 ? (real)1",
        "dot(mine[j], y) > 0 ? (real)1",
        "fused",
    ),
    Bug(
        "targets' moments are added",
        prdsim.backends.cuda_narrow,
        "= -entry(point_values",
        "= entry(point_values",
        "fused",
    ),
    Bug(
        "the last neurons of a tile are left out",
        prdsim.backends.cuda_narrow,
        "int count = end - first < TILE ? end - first : TILE;",
        "int count = end - first < TILE ? end - first : TILE - 1;",
        "fused",
    ),
    Bug(
        "the samples of later shares are lost",
        prdsim.backends.cuda_narrow,
        "part < parts; ++part) total +=",
        "part < 1; ++part) total +=",
        "fused",
    ),
    Bug(
        "penalty points go from y to z",
        prdsim.backends.cuda_narrow,
        "z + e_p * (entry(points, kinds, label, d, outputs) - z)",
        "entry(points, kinds, label, d, outputs) * (1 - e_p * e_p) + z * e_p * e_p",
        "fused",
    ),
    Bug(
        "a tile is read while it is loaded",
        prdsim.backends.cuda_narrow,
        "        __syncthreads();\n        gather(tile, count, at, q);",
        "        gather(tile, count, at, q);",
        "order of threads",
    ),
    Bug(
        "later sets of penalty points replace the first",
        prdsim.backends.cupy_narrow,
        "at, values, added=number > 0)",
        "at, values, added=False)",
        "fused",
    ),
    # held numbers and sums
    Bug(
        "every coefficient is a factor of the held number",
        real_kernels,
        "(of_held{i} ? held[0] * c{i} : c{i})",
        "(held[0] * c{i})",
        "hold",
    ),
    Bug(
        "the number is not left on the device",
        real_backend,
        '        self._elementwise("set_number", np.float64(value), place, size=1)\n',
        "",
        "hold",
    ),
    Bug(
        "the first coefficient's factor is lost",
        real_backend,
        "return (np.float64(c.factor), 1)",
        "return (np.float64(1.0), 1)",
        "hold",
    ),
    Bug(
        "sums are read before they are there",
        prdsim.backends.cupy_transfers,
        "        self._stream.synchronize()\n        rows",
        "        rows",
        "sums",
    ),
    Bug(
        "all sums in one place",
        prdsim.backends.cupy_transfers,
        "arguments = (*arrays, self._parts[number], size)",
        "arguments = (*arrays, self._parts[0], size)",
        "sums",
    ),
    # the physics as issued to the device (the references were computed before)
    Bug(
        "V is updated before U's drive is pulled back",
        prdsim.backends.fused,
        """        if out_U is not None:  # before V changes, in case ``out_V`` is V
            k.gemm(V.T, E, out=B)
            k.gate(B, A, out=B)
        if out_V is not None:
            k.gemm(E, self.H.T, out=out_V, alpha=alpha, beta=beta)
""",
        """        if out_V is not None:
            k.gemm(E, self.H.T, out=out_V, alpha=alpha, beta=beta)
        if out_U is not None:
            k.gemm(V.T, E, out=B)
            k.gate(B, A, out=B)
""",
        "trajectories",
    ),
    Bug(
        "diffusion has the wrong sign",
        prdsim.physics.gradients,
        "(model.diffusivity, model.F)",
        "(-model.diffusivity, model.F)",
        "trajectories",
    ),
    Bug(
        "features of an earlier step",
        prdsim.backends.fused,
        "        k.relu(A, out=self.H)\n",
        "",
        "trajectories",
    ),
    Bug(
        "the penalty's moments take the gates of other points",
        prdsim.physics.gradients,
        "(state.W, y, aW, out=gradient",
        "(state.W, model.Y, aW, out=gradient",
        "trajectories",
    ),
    Bug(
        "the critic climbs",
        prdsim.running.integrators,
        "alpha=-step_size, beta=1.0",
        "alpha=step_size, beta=1.0",
        "trajectories",
    ),
    Bug(
        "a stage of an earlier step",
        prdsim.running.runge_kutta,
        "            velocity(model, state, out=memory.stages[0])\n            self._compute",
        "            if not memory.first_stage:\n"
        "                velocity(model, state, out=memory.stages[0])\n"
        "            memory.first_stage = True\n            self._compute",
        "trajectories",
    ),
]


# -- the checks ------------------------------------------------------------------------------------

References = list[dict[str, np.ndarray]]
ALIKE = {"bits": elementwise, "precision": precision_of_products}


def trajectories(backend: str, precision: str) -> References:
    """The ends of short runs with diffusion and penalty, by three integrators."""
    return [
        final(random_problem(3), backend, steps, integrator=integrator, precision=precision)
        for integrator, steps in (("gd", 5), ("rk4", 8), ("dopri5", 3))
    ]


@pytest.fixture(scope="module")
def references() -> References:
    """NumPy's trajectories in float64, by the code as it is."""
    return trajectories("numpy", "float64")


def check(name: str, cupy: HostCupy, precision: str, references: References) -> None:
    """Run one of the checks; it raises an error if it fails."""
    if name == "trajectories":
        tolerance = {"float64": 1e-11, "float32": 1e-4, "tf32": 0.1}[precision]
        for computed, expected in zip(trajectories("cupy", precision), references, strict=True):
            assert worst(computed, expected) < tolerance
    elif name == "operations of a step":
        check_steps_repeat(cupy, random_problem(1), precision=precision)
    elif name == "graphs":
        check_all(cupy, precision)
    elif name == "failed recordings":
        for how in FAILURES:
            check_failed_recording(how, "gd")
    else:
        backend = get_backend("cupy", precision=precision)
        with backend.active():
            if name == "order of threads":
                check_order_of_threads(cupy, backend)
            elif name in ALIKE:
                ALIKE[name](backend)
            else:
                assert failures(backend, [name]) == []


# -- planting --------------------------------------------------------------------------------------


def changed(patch: pytest.MonkeyPatch, bug: Bug) -> Any:
    """Plant a bug; return the backend module with it."""
    source = inspect.getsource(bug.module)
    assert source.count(bug.old) == 1, "the place to change is gone, or not the only one"
    copy = types.ModuleType(bug.module.__name__)
    copy.__dict__.update(__package__=bug.module.__package__, __file__=bug.module.__file__)
    exec(compile(source.replace(bug.old, bug.new), bug.module.__file__, "exec"), copy.__dict__)
    if bug.module is real_backend:
        return copy
    if bug.module in (real_cublas, real_graphs, real_kernels, prdsim.backends.cuda_narrow):
        patch.setattr(real_backend, bug.module.__name__.rpartition(".")[2], copy)
        return real_backend
    for original, new in _functions(bug.module, copy):
        if original.__code__.co_code != new.__code__.co_code or (
            original.__code__.co_consts != new.__code__.co_consts
        ):
            patch.setattr(original, "__code__", new.__code__)
    return real_backend


def _functions(module: Any, copy: Any) -> Iterator[tuple[Any, Any]]:
    for name, value in vars(module).items():
        if getattr(value, "__module__", "") != module.__name__:
            continue
        if isinstance(value, types.FunctionType):
            yield value, getattr(copy, name)
        elif isinstance(value, type):
            for key, method in vars(value).items():
                if isinstance(method, types.FunctionType) and key in vars(vars(copy)[name]):
                    yield method, vars(vars(copy)[name])[key]


@pytest.fixture(scope="module")
def table(request) -> Iterator[list[tuple[str, str, str]]]:
    """Bugs, what caught each and what it said; printed in the end."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{'planted bug':52} {'caught by':22} saying")
        for row in rows:
            print(f"{row[0]:52} {row[1]:22} {row[2][:60]}")


@pytest.mark.parametrize(
    ("name", "precision"),
    sorted({(b.caught_by, b.precision) for b in BUGS if b.caught_by not in OPERATIONS}),
)
def test_checks_pass_without_a_bug(monkeypatch, references, name, precision):
    check(name, put_in(monkeypatch), precision, references)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.name} -> {bug.caught_by}")
def test_planted_bugs_are_caught(monkeypatch, references, table, bug):
    module = changed(monkeypatch, bug)
    cupy = put_in(monkeypatch, module)
    monkeypatch.setattr(module.CupyBackend, "probe", lambda _: None)  # the check is to catch it
    errors = (AssertionError, RuntimeError, RuntimeWarning, PrdsimError)
    with pytest.raises(errors) as caught:
        check(bug.caught_by, cupy, bug.precision, references)
    table.append((bug.name, bug.caught_by, (str(caught.value) or "a comparison").splitlines()[0]))
