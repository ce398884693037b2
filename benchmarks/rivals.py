"""The rivals of prdsim's own steps: the base of all, plain NumPy, and how each is made.

PyTorch and JAX are imported by their own modules, inside their workers, and nowhere else.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from prdsim.backends import get_backend
from prdsim.backends.arrays import HostArray
from prdsim.config import RunConfig
from prdsim.physics.model import dimensions_of
from prdsim.physics.randomness import Stream, uniforms
from prdsim.running.integrators import AlternatingDescent, make_stepper
from prdsim.running.memory import needed_bytes
from prdsim.running.runner import run
from prdsim.timing.contenders import Contender, Entry, own_contender
from prdsim.timing.workload import Workload


class Rival(Contender):
    """The alternating algorithm in another library; penalty points come from outside, untimed."""

    def __init__(self, workload: Workload) -> None:
        self.config = config = workload.config
        self.step_size = float(config.step_size)
        stepper = make_stepper(config)
        assert isinstance(stepper, AlternatingDescent)
        self.critic_step_size = stepper.critic_update_size(self.step_size)
        self.s = 1 / sqrt(workload.initial["V"].size)
        self.s_c = 1 / sqrt(workload.initial["a"].size)
        self.points: list[Any] = []
        self._samples, self._step = workload.sizes.n, 0

    def put(self, array: HostArray) -> Any:
        """Return an array of the library, in the run's precision."""
        raise NotImplementedError

    def prepare(self, steps: int) -> None:
        """Draw the penalty points of the next steps; None without a critic."""
        self.points = [None] * steps
        if self.config.adversary:
            numbers = range(self._step, self._step + steps)
            self.points = [
                self.put(penalty_points(self.config, self._samples, number)) for number in numbers
            ]
        self._step += steps


def penalty_points(config: RunConfig, n: int, step: int) -> HostArray:
    """Return e_p of every critic update of a step, shape (critic_steps, n), float64."""
    if config.penalty_points != "random":
        return np.full((config.critic_steps, n), 0.5)
    rows = [
        uniforms(config.seed, Stream.PENALTY_POINTS, step, update, n)
        for update in range(config.critic_steps)
    ]
    return np.reshape(rows, (config.critic_steps, n))


class NumpyRival(Rival):
    """Plain NumPy: the gradients by hand, written as one reads them, with no buffers kept."""

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self.X, self.Y = self.put(workload.X), self.put(workload.Y)
        self.U, self.V, self.W, self.a = (self.put(workload.initial[name]) for name in "UVWa")
        self._limits = threadpool_limits(threads, user_api="blas")

    def put(self, array: HostArray) -> HostArray:
        return array.astype(self.config.precision)

    def advance(self, steps: int) -> None:
        for k in range(steps):
            A = self.U @ self.X
            H = np.maximum(A, 0)
            Z = self.s * (self.V @ H)
            E = self.Y - Z
            if self.config.adversary:
                for e in self.points[k]:
                    self._update_critic(Z, e)
                E += self.config.diffusivity * self._input_gradient(Z)[0]
            B = (self.V.T @ E) * (A >= 0)
            h = self.step_size * self.s
            self.V += h * (E @ H.T)
            self.U += h * (B @ self.X.T)

    def _input_gradient(self, points: Any) -> tuple[Any, Any]:
        """Return grad g at points (d_out, n), and the critic's gates there."""
        gates = self.W @ points >= 0
        return self.s_c * ((self.a[:, None] * self.W).T @ gates), gates

    def _update_critic(self, Z: Any, e: Any) -> None:
        n = Z.shape[1]
        q, gates = self._input_gradient(e * self.Y + (1 - e) * Z)
        norms = np.sqrt((q * q).sum(axis=0))
        c = (2 * self.config.gradient_penalty / n) * (norms - 1) / norms
        moments = (self.W @ Z >= 0) @ (Z.T / n) - (self.W @ self.Y >= 0) @ (self.Y.T / n)
        moments += gates @ (c * q).T
        moments *= self.s_c
        step_W = self.a[:, None] * moments
        step_a = (self.W * moments).sum(axis=1)
        self.W -= self.critic_step_size * step_W
        self.a -= self.critic_step_size * step_a

    def weights(self) -> dict[str, HostArray]:
        return {"U": self.U, "V": self.V, "W": self.W, "a": self.a}

    def describe(self) -> dict[str, Any]:
        return {"numpy": np.__version__}


class WholeRuns(Contender):
    """Runs from beginning to end, each with its trajectory file: one "step" is one run."""

    uncounted = 0

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._result = run(self._config)

    def describe(self) -> dict[str, Any]:
        """Return what ``auto`` meant, and the bytes that the memory check predicts."""
        U, V = (self._result.state[name] for name in "UV")
        sizes = dimensions_of(self._config, U.shape[1], V.shape[0], self._config.samples)
        resolved, precision = self._result.resolved, self._config.precision
        k = get_backend(resolved.backend, precision=precision, threads=resolved.threads)
        predicted = needed_bytes(self._config, sizes, k, resolved.chart, resolved.panel)
        return {**resolved.to_dict(), "predicted_bytes": predicted}


def make(entry: Entry, workload: Workload, threads: int) -> Contender:
    """Return a contender by its kind: a rival's name, with "@cuda" on a GPU, "run", or own."""
    name, _, device = entry.kind.partition("@")
    if name == "numpy":
        return NumpyRival(workload, threads)
    if name in ("torch", "torch.compile"):
        from torch_rival import TorchRival

        compiled = name == "torch.compile"
        return TorchRival(workload, threads, compiled=compiled, device=device or "cpu")
    if name == "jax":
        from jax_rival import JaxRival

        return JaxRival(workload)
    if name == "run":
        return WholeRuns(workload.config.replace(**entry.keys, threads=threads))
    return own_contender(entry, workload, threads)
