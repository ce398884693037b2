"""JAX: `jit` of `grad`, one compiled step whose parameters are donated to it.

Samples are rows and layers are (inputs, outputs), as Flax keeps them.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray
    from prdsim.benchmark.problem import Problem


class JaxRival:
    """The alternating algorithm in JAX; its threads are those the process may run on."""

    def __init__(self, problem: Problem) -> None:
        jax.config.update("jax_enable_x64", problem.config.precision == "float64")
        jax.config.update("jax_default_matmul_precision", "highest")
        self._problem, self._step = problem, 0
        self._dtype = jnp.dtype(problem.config.precision)
        self._data = (self._array(problem.X.T), self._array(problem.Y.T))
        initial = problem.initial
        self.parameters = tuple(self._array(initial[name].T) for name in "UVWa")
        self._points: list[Any] = []
        self._take_step = jax.jit(partial(_step, _Constants(problem)), donate_argnums=0)

    def _array(self, array: HostArray) -> Any:
        return jax.device_put(np.ascontiguousarray(array, self._dtype))

    def prepare(self, steps: int) -> None:
        """Draw the penalty points of the next steps."""
        numbers = range(self._step, self._step + steps)
        if self._problem.config.adversary:
            self._points = [self._array(self._problem.penalty_points(step)) for step in numbers]
        else:
            self._points = [None] * steps

    def advance(self, steps: int) -> None:
        """Take as many steps and wait for them."""
        for k in range(steps):
            self.parameters = self._take_step(self.parameters, *self._data, self._points[k])
        jax.block_until_ready(self.parameters)
        self._step += steps

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a."""
        arrays = [np.asarray(parameter).T for parameter in self.parameters]
        return dict(zip("UVWa", arrays, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return versions and the device."""
        return {"jax": jax.__version__, "device": str(self.parameters[0].device)}


class _Constants:
    """The scalars of the equations."""

    def __init__(self, problem: Problem) -> None:
        config = problem.config
        self.step_size = problem.step_size
        self.critic_step_size = problem.critic_step_size
        self.diffusivity = config.diffusivity
        self.gradient_penalty = config.gradient_penalty
        self.s = 1 / sqrt(problem.initial["V"].size)
        self.s_c = 1 / sqrt(problem.initial["a"].size)


def _prediction(s: float, U: Any, V: Any, X: Any) -> Any:
    return s * (jax.nn.relu(X @ U) @ V)


def _g(s_c: float, W: Any, a: Any, points: Any) -> Any:
    return s_c * (jax.nn.relu(points @ W) @ a)


def _step(k: _Constants, parameters: Any, X: Any, Y: Any, points: Any) -> Any:
    U, V, W, a = parameters
    Z, pull_back = jax.vjp(lambda U, V: _prediction(k.s, U, V, X), U, V)

    def loss(Z: Any, W: Any, a: Any) -> Any:
        """L_aug = L_sup - D L_adv."""
        supervised = 0.5 * jnp.square(Z - Y).sum()
        if points is None:
            return supervised
        return supervised - k.diffusivity * _g(k.s_c, W, a, Z).sum()

    if points is not None:
        W, a = _critic_updates(k, W, a, Z, Y, points)
    dU, dV = pull_back(jax.grad(loss)(Z, W, a))
    return U - k.step_size * dU, V - k.step_size * dV, W, a


def _critic_updates(k: _Constants, W: Any, a: Any, Z: Any, Y: Any, points: Any) -> Any:
    def critic_loss(critic: Any, e: Any) -> Any:
        W, a = critic
        between = e[:, None] * Y + (1 - e[:, None]) * Z
        q = jax.grad(lambda y: _g(k.s_c, W, a, y).sum())(between)
        penalty = jnp.square(jnp.linalg.norm(q, axis=1) - 1).mean()
        wasserstein = _g(k.s_c, W, a, Z).mean() - _g(k.s_c, W, a, Y).mean()
        return wasserstein + k.gradient_penalty * penalty

    for e in points:
        dW, da = jax.grad(critic_loss)((W, a), e)
        W, a = W - k.critic_step_size * dW, a - k.critic_step_size * da
    return W, a
