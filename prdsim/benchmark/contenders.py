"""What runs in a worker: prdsim's own steps and whole runs, the rivals, and bare products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prdsim.backends import get_backend
from prdsim.benchmark.problem import Problem
from prdsim.benchmark.products import CHARTS_PRODUCTS, Products
from prdsim.config import RunConfig
from prdsim.physics.model import dimensions_of
from prdsim.running.memory import needed_bytes
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray


class Contender(Protocol):
    """Something that takes steps of one problem."""

    def prepare(self, steps: int) -> None:
        """Get ready what the next steps are given from outside; not timed."""

    def advance(self, steps: int) -> None:
        """Take as many steps, and return when they are done."""

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a as the paper has them; nothing if there are none to compare."""

    def describe(self) -> dict[str, Any]:
        """Return versions, and what computes."""


class Stepping:
    """Steps of a `Simulation`: what `prdsim run` does between two records."""

    def __init__(self, problem: Problem) -> None:
        self._simulation = Simulation(
            problem.config, problem.X, problem.Y, initial=problem.initial
        ).__enter__()

    def prepare(self, steps: int) -> None:
        """Do nothing: penalty points are drawn within the steps."""

    def advance(self, steps: int) -> None:
        """Take as many steps."""
        self._simulation.advance(steps)
        self._simulation.backend.synchronize()

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a."""
        return self._simulation.weights()

    def describe(self) -> dict[str, Any]:
        """Return the backend's description, and the chart."""
        chart = self._simulation.resolved.chart
        return {**self._simulation.backend.describe(), "chart": chart}


class WholeRuns:
    """Runs from beginning to end, each with its trajectory file: one "step" is one run."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self._config = config.replace(output=str(folder / "run.h5"), force=True)

    def prepare(self, steps: int) -> None:
        """Do nothing."""

    def advance(self, steps: int) -> None:
        """Do as many runs."""
        for _ in range(steps):
            self._result = run(self._config)

    def weights(self) -> dict[str, HostArray]:
        """Return nothing: what a run computes, `Stepping` shows."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what ``auto`` meant, and the bytes that the memory check predicts."""
        U, V = (self._result.state[name] for name in "UV")
        sizes = dimensions_of(self._config, U.shape[1], V.shape[0], self._config.samples)
        resolved, precision = self._result.resolved, self._config.precision
        k = get_backend(resolved.backend, precision=precision, threads=resolved.threads)
        predicted = needed_bytes(self._config, sizes, k, resolved.chart)
        return {**resolved.to_dict(), "predicted_bytes": predicted}


def _numpy(problem: Problem, threads: int) -> Contender:
    from prdsim.benchmark.numpy_rival import NumpyRival

    return NumpyRival(problem, threads)


def _torch(compiled: bool) -> Callable[..., Contender]:
    def make(problem: Problem, threads: int, device: str = "cpu") -> Contender:
        from prdsim.benchmark.torch_rival import TorchRival

        return TorchRival(problem, threads, compiled=compiled, device=device)

    return make


def _jax(problem: Problem, threads: int, device: str = "cpu") -> Contender:  # noqa: ARG001
    from prdsim.benchmark.jax_rival import (
        JaxRival,  # its threads and device are the worker's surroundings
    )

    return JaxRival(problem)


RIVALS: dict[str, Callable[..., Contender]] = {
    "numpy": _numpy,
    "torch": _torch(compiled=False),
    "torch.compile": _torch(compiled=True),
    "jax": _jax,
}


def make(kind: str, path: Path, keys: dict[str, Any], threads: int) -> Contender:
    """Return a contender by its kind, for the problem that a file holds.

    ``kind`` is "prdsim", "run", a key of `RIVALS`, such with "@cuda", or "products:" and a chart;
    ``keys`` replace keys of the problem's configuration.
    """
    keys = {**keys, "threads": threads}
    if kind == "run":
        return WholeRuns(Problem.stored_config(path, **keys), path.parent)
    problem = Problem.load(path, **keys)
    if kind == "prdsim":
        return Stepping(problem)
    name, _, chart = kind.partition(":")
    if name == "products":
        return Products(problem, threads, CHARTS_PRODUCTS[chart])
    name, _, device = kind.partition("@")
    return RIVALS[name](problem, threads, *([device] if device else []))
