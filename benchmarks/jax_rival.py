"""JAX: `jit` of `grad`, one compiled step whose parameters are donated to it.

Samples are rows and layers are (inputs, outputs), as Flax keeps them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rivals import Rival

from prdsim.backends.arrays import HostArray
from prdsim.timing.workload import Workload


class JaxRival(Rival):
    """The alternating algorithm in JAX; its threads are those the process may run on."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        jax.config.update("jax_enable_x64", self.config.precision == "float64")
        jax.config.update("jax_default_matmul_precision", "highest")
        self._data = (self.put(workload.X.T), self.put(workload.Y.T))
        self.parameters = tuple(self.put(workload.initial[name].T) for name in "UVWa")
        self._take_step = jax.jit(partial(_step, self), donate_argnums=0)

    def put(self, array: HostArray) -> Any:
        return jax.device_put(np.ascontiguousarray(array, jnp.dtype(self.config.precision)))

    def advance(self, steps: int) -> None:
        for k in range(steps):
            self.parameters = self._take_step(self.parameters, *self._data, self.points[k])
        jax.block_until_ready(self.parameters)

    def weights(self) -> dict[str, HostArray]:
        arrays = [np.asarray(parameter).T for parameter in self.parameters]
        return dict(zip("UVWa", arrays, strict=True))

    def describe(self) -> dict[str, Any]:
        return {"jax": jax.__version__, "device": str(self.parameters[0].device)}


def _prediction(s: float, U: Any, V: Any, X: Any) -> Any:
    return s * (jax.nn.relu(X @ U) @ V)


def _g(s_c: float, W: Any, a: Any, points: Any) -> Any:
    return s_c * (jax.nn.relu(points @ W) @ a)


def predicting(k: JaxRival, U: Any, V: Any, X: Any) -> Any:
    """Return Z, and the function that pulls its gradient back to U and V."""
    return jax.vjp(lambda U, V: _prediction(k.s, U, V, X), U, V)


def loss(k: JaxRival, Z: Any, Y: Any, W: Any, a: Any) -> Any:
    """Return L_aug = L_sup - D L_adv."""
    supervised = 0.5 * jnp.square(Z - Y).sum()
    if not k.config.adversary:
        return supervised
    return supervised - k.config.diffusivity * _g(k.s_c, W, a, Z).sum()


def critic_loss(critic: tuple[Any, Any], k: JaxRival, Z: Any, Y: Any, e: Any) -> Any:
    """Return the critic's loss, with the penalty at e Y + (1 - e) Z; e is a number or (n,)."""
    W, a = critic
    weight = jnp.expand_dims(e, -1)
    between = weight * Y + (1 - weight) * Z
    q = jax.grad(lambda y: _g(k.s_c, W, a, y).sum())(between)
    penalty = jnp.square(jnp.linalg.norm(q, axis=1) - 1).mean()
    wasserstein = _g(k.s_c, W, a, Z).mean() - _g(k.s_c, W, a, Y).mean()
    return wasserstein + k.config.gradient_penalty * penalty


def _step(k: JaxRival, parameters: Any, X: Any, Y: Any, points: Any) -> Any:
    U, V, W, a = parameters
    Z, pull_back = predicting(k, U, V, X)
    for e in points if points is not None else ():
        dW, da = jax.grad(critic_loss)((W, a), k, Z, Y, e)
        W, a = W - k.critic_step_size * dW, a - k.critic_step_size * da
    dU, dV = pull_back(jax.grad(partial(loss, k))(Z, Y, W, a))
    return U - k.step_size * dU, V - k.step_size * dV, W, a
