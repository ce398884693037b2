"""The contenders: prdsim's own steps, and the bare products that no step can avoid."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.backends.numpy import NumpyBackend
from prdsim.running.simulation import Simulation
from prdsim.timing.race import Block
from prdsim.timing.workload import Workload


@dataclass(frozen=True)
class Entry:
    """A participant: a label, a kind for `own_contender`, and keys of the configuration."""

    label: str
    kind: str
    keys: dict[str, Any] = field(default_factory=dict)


class Contender:
    """Something that takes steps of a workload. Its methods raise an error if it fails."""

    uncounted = 1
    """Steps before each block."""

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which its own number of threads is in effect."""
        return nullcontext()

    def prepare(self, steps: int) -> None:
        """Prepare external input of the next steps; not timed."""

    def advance(self, steps: int) -> None:
        """Take ``steps`` steps, and return when they are done."""
        raise NotImplementedError

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a in the paper's coordinates; empty if there are none to compare."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return a description, with versions."""
        return {}

    def begin(self, steps: int) -> tuple[dict[str, Any], dict[str, HostArray]]:
        """Take the first steps; return the description, and the weights after them."""
        with self.active():
            self._take(steps)
            return self.describe(), self.weights()

    def timed(self, steps: int) -> Block:
        """Time steps, after uncounted ones."""
        with self.active():
            self._take(self.uncounted)
            self.prepare(steps)
            busy, own, begun = _busy_seconds(), time.process_time(), time.perf_counter()
            self.advance(steps)
            seconds = time.perf_counter() - begun
            others = _busy_seconds() - busy - (time.process_time() - own)
        return Block(seconds / steps, max(0.0, others / seconds))

    def end(self) -> tuple[bool, int]:
        """Return whether all numbers are finite, and the peak memory of the process in bytes."""
        with self.active():
            weights = self.weights().values()
        return all(bool(np.isfinite(array).all()) for array in weights), peak_bytes()

    def _take(self, steps: int) -> None:
        self.prepare(steps)
        self.advance(steps)


class OwnSteps(Contender):
    """Steps of a `Simulation`, as `prdsim run` takes them between two records."""

    def __init__(self, workload: Workload) -> None:
        self._simulation = Simulation(
            workload.config, workload.X, workload.Y, initial=workload.initial
        )

    def active(self) -> AbstractContextManager[object]:
        """Return the simulation, whose backend limits the threads."""
        return self._simulation

    def advance(self, steps: int) -> None:
        """Take ``steps`` steps."""
        self._simulation.advance(steps)
        self._simulation.backend.synchronize()

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a."""
        return self._simulation.weights()

    def describe(self) -> dict[str, Any]:
        """Return the backend's description, and the chart."""
        chart = self._simulation.resolved.chart
        return {**self._simulation.backend.describe(), "chart": chart}


class BareProducts(Contender):
    """The products of a chart's step without critic, by SciPy's BLAS, in place; nothing else.

    A, Z = V H, V^T E, dV += E H^T and the pull-back. weight: A = U X, dU += B X^T; range: A = P R,
    dP += B R^T with X = Q R of full rank; gram: A += C K, and the velocity of C is B itself.
    """

    def __init__(self, workload: Workload, chart: str) -> None:
        sizes, config = workload.sizes, workload.config
        self._backend = NumpyBackend(config.precision, config.threads)
        self._pulls_back = chart != "gram"
        rows = {"weight": sizes.d_in, "range": min(sizes.d_in, sizes.n), "gram": sizes.n}[chart]
        rng = np.random.default_rng(0)

        def filled(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(self._backend.dtype)

        self.X, self.U = filled(rows, sizes.n), filled(sizes.m, rows)
        self.V, self.E = filled(sizes.d_out, sizes.m), filled(sizes.d_out, sizes.n)
        self.A, self.H, self.B = (filled(sizes.m, sizes.n) for _ in range(3))
        self.Z = filled(sizes.d_out, sizes.n)

    def active(self) -> AbstractContextManager[object]:
        """Return a context that limits the threads of BLAS."""
        return self._backend.active()

    def advance(self, steps: int) -> None:
        """Multiply as often as ``steps`` steps would."""
        gemm = self._backend.gemm
        for _ in range(steps):
            gemm(self.U, self.X, self.A)
            gemm(self.V, self.H, self.Z)
            gemm(self.V.T, self.E, self.B)
            gemm(self.E, self.H.T, self.V, alpha=1e-9, beta=1.0)
            if self._pulls_back:
                gemm(self.B, self.X.T, self.U, alpha=1e-9, beta=1.0)

    def describe(self) -> dict[str, Any]:
        """Return the BLAS and its threads."""
        return self._backend.describe()


def own_contender(entry: Entry, workload: Workload, threads: int) -> Contender:
    """Return a contender of the kind "prdsim", or "products:" and a chart."""
    workload = workload.replace(**entry.keys, threads=threads)
    chart = entry.kind.removeprefix("products:")
    return OwnSteps(workload) if chart == entry.kind else BareProducts(workload, chart)


def _busy_seconds() -> float:
    """Processor time that the whole machine has spent, by proc(5): neither idle nor waiting.

    Time stolen by a hypervisor counts: others used it, too.
    """
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    user, nice, system, _idle, _waiting, *rest = map(int, fields)
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Return the largest resident size of this process (`getrusage` may report a parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0
