"""diffrax: the joint flow by Bosh3 and its PID controller, the velocity by `jax.grad`, jitted.

The method, the tolerances and the error's norm are those of prdsim's bs23, and so are the
coefficients and limits of the controller, except that diffrax never shortens the step after one
that it has accepted.
"""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax_rival import JaxRival, critic_loss, loss, predicting

from prdsim.timing.workload import Workload


class DiffraxRival(JaxRival):
    """The flow to ``end_time`` from the weights of a workload, with the penalty at midpoints."""

    def __init__(
        self, workload: Workload, rtol: float, atol: float, end_time: float, first_step: float
    ) -> None:
        super().__init__(workload)

        def solve(parameters: Any, data: Any) -> Any:
            return diffrax.diffeqsolve(
                diffrax.ODETerm(self._velocity),
                _ErrorByArrays(rtol, atol),
                t0=0.0,
                t1=end_time,
                dt0=first_step,
                y0=parameters,
                args=data,
                saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=_controller(),
                max_steps=None,
            )

        self._solve = jax.jit(solve).lower(self.parameters, self._data).compile()

    def _velocity(self, t: Any, parameters: Any, data: Any) -> Any:  # noqa: ARG002 - autonomous
        """Return the time derivatives of U, V, W, a: eq. 12, by automatic differentiation."""
        U, V, W, a = parameters
        X, Y = data
        Z, pull_back = predicting(self, U, V, X)
        dU, dV = pull_back(jax.grad(lambda Z: loss(self, Z, Y, W, a))(Z))
        dW, da = jax.grad(critic_loss)((W, a), self, Z, Y, 0.5)
        rate = self.config.critic_rate
        return -dU, -dV, -rate * dW, -rate * da

    def solve(self) -> dict[str, int]:
        """Take all steps; return how many were accepted and rejected."""
        found = jax.block_until_ready(self._solve(self.parameters, self._data))
        self.parameters = tuple(array[-1] for array in found.ys)
        counts = {"steps": "num_accepted_steps", "rejected": "num_rejected_steps"}
        return {name: int(found.stats[count]) for name, count in counts.items()}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "diffrax": diffrax.__version__}


class _ErrorByArrays(diffrax.Bosh3):
    """Bosh3 whose error estimate is divided by its allowance, array by array.

    That is atol sqrt(size) + rtol ||X||_F at the new state. The controller, which divides by what
    it allows entry by entry, is given tolerances that leave the error as it is.
    """

    rtol: float
    atol: float

    def __init__(self, rtol: float, atol: float) -> None:
        super().__init__()
        self.rtol, self.atol = rtol, atol

    def step(self, *arguments: Any, **keywords: Any) -> Any:
        new, error, *others = super().step(*arguments, **keywords)

        def relative(error: Any, value: Any) -> Any:
            return error / (self.atol * value.size**0.5 + self.rtol * _norm(value))

        return new, jax.tree.map(relative, error, new), *others


def _controller() -> diffrax.PIDController:
    return diffrax.PIDController(
        rtol=0.0,
        atol=1.0,
        pcoeff=0.4,
        icoeff=0.3,
        safety=0.9,
        factormin=0.2,
        factormax=5.0,
        norm=lambda error: jnp.stack([_norm(array) for array in jax.tree.leaves(error)]).max(),
    )


def _norm(array: Any) -> Any:
    return jnp.sqrt(jnp.square(array).sum())
