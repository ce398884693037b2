"""Plain NumPy: the gradients by hand, written as one reads them, with no buffers kept."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray
    from prdsim.benchmark.problem import Problem


class NumpyRival:
    """Hand-derived gradients in plain NumPy expressions."""

    def __init__(self, problem: Problem, threads: int) -> None:
        config, dtype = problem.config, np.dtype(problem.config.precision)
        self._problem, self._step = problem, 0
        self.X, self.Y = problem.X.astype(dtype), problem.Y.astype(dtype)
        self.U, self.V, self.W, self.a = (problem.initial[name].astype(dtype) for name in "UVWa")
        self._points: list[HostArray] = []
        self._limits = threadpool_limits(threads, user_api="blas")
        self._s = 1 / sqrt(self.V.size)
        self._s_c = 1 / sqrt(self.a.size)
        self._adversary = config.adversary

    def prepare(self, steps: int) -> None:
        """Draw the penalty points of the next steps."""
        if self._adversary:
            numbers = range(self._step, self._step + steps)
            self._points = [
                self._problem.penalty_points(step).astype(self.X.dtype) for step in numbers
            ]

    def advance(self, steps: int) -> None:
        """Take as many steps."""
        for k in range(steps):
            A = self.U @ self.X
            H = np.maximum(A, 0)
            Z = self._s * (self.V @ H)
            E = self.Y - Z
            if self._adversary:
                for e in self._points[k]:
                    self._update_critic(Z, e)
                E += self._problem.config.diffusivity * self._input_gradient(Z)[0]
            B = (self.V.T @ E) * (A >= 0)
            h = self._problem.step_size * self._s
            self.V += h * (E @ H.T)
            self.U += h * (B @ self.X.T)
        self._step += steps

    def _input_gradient(self, points: Any) -> tuple[Any, Any]:
        """Return grad g at points (d_out, n), and the critic's gates there."""
        gates = self.W @ points >= 0
        return self._s_c * ((self.a[:, None] * self.W).T @ gates), gates

    def _update_critic(self, Z: Any, e: Any) -> None:
        config, n = self._problem.config, Z.shape[1]
        q, gates = self._input_gradient(e * self.Y + (1 - e) * Z)
        norms = np.sqrt((q * q).sum(axis=0))
        c = (2 * config.gradient_penalty / n) * (norms - 1) / norms
        moments = (self.W @ Z >= 0) @ (Z.T / n) - (self.W @ self.Y >= 0) @ (self.Y.T / n)
        moments += gates @ (c * q).T
        moments *= self._s_c
        step_W = self.a[:, None] * moments
        step_a = (self.W * moments).sum(axis=1)
        self.W -= self._problem.critic_step_size * step_W
        self.a -= self._problem.critic_step_size * step_a

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a."""
        return {"U": self.U, "V": self.V, "W": self.W, "a": self.a}

    def describe(self) -> dict[str, Any]:
        """Return the library's version."""
        return {"numpy": np.__version__}
