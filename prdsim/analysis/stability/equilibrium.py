"""Equilibria of the reaction: a run without diffusion, finished by Newton's method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import LinearOperator, minres

from prdsim.analysis.stability.jacobian_products import JacobianProducts, unpack
from prdsim.analysis.stability.modes import linearize
from prdsim.config import RunConfig
from prdsim.physics.state import State
from prdsim.physics.tangent import Linearization
from prdsim.progress import Say, silent
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

EQUILIBRIUM_TOLERANCE = 1e-8
"""Largest ||R|| = (||R^u||_F^2 + ||R^v||_F^2)^(1/2) that counts as a reaction equilibrium."""


@dataclass(frozen=True)
class Equilibrium:
    """A reaction equilibrium, or the closest state that was reached.

    ``weights`` are U, V, W, a (W, a unchanged); ``reaction_norm`` is ||R|| there, ``loss`` L_sup;
    ``run_norm`` is ||R|| at the end of the run, before the Newton steps, ``newton_steps`` their
    number, and ``newton_distance`` the distance they moved U and V, relative to the norm.
    """

    weights: Mapping[str, HostArray]
    reaction_norm: float
    loss: float
    tolerance: float
    run_norm: float
    newton_steps: int
    newton_distance: float

    @property
    def reached(self) -> bool:
        """Whether ||R|| is at most the tolerance."""
        return self.reaction_norm <= self.tolerance


def find_equilibrium(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    *,
    initial: Mapping[str, HostArray] | None = None,
    tolerance: float = EQUILIBRIUM_TOLERANCE,
    newton_steps: int = 60,
    backend: Backend | None = None,
    say: Say = silent,
) -> Equilibrium:
    """Return the equilibrium of a run without diffusion: ||R|| <= tolerance, if it can be reached.

    The run takes all steps of the configuration, from its initial draw or ``initial``; damped
    Newton steps (on the true Hessian of L_sup, matrix-free by MINRES) do the rest. A step is
    accepted if it lowers L_sup or, where rounding hides that, ||R||; otherwise it is damped more.
    Minima on a kink are not reached, and the result says so. For small problems; ``say`` is called
    with a progress text now and then.
    Raises `DivergedError` as the run does.
    """
    alone = config.replace(diffusion=False, memory=None)  # Newton's steps take all samples at once
    with Simulation(alone, X, Y, initial=initial, backend=backend) as simulation:
        simulation.advance(alone.step_limit)
        weights = {name: array.astype(np.float64) for name, array in simulation.weights().items()}
    jacobian = linearize(alone, X, Y, weights, "reaction", backend=simulation.backend)
    with jacobian.model.backend.active():
        return _Newton(jacobian, tolerance, say).polish(weights, newton_steps)


class _Newton:
    """Damped Newton steps towards R = 0."""

    def __init__(self, jacobian: Linearization, tolerance: float, say: Say) -> None:
        self._jacobian, self._tolerance, self._say = jacobian, tolerance, say
        self._products = JacobianProducts(jacobian)
        self._velocity = State.empty(
            jacobian.model.backend, jacobian.model.state_shapes, jacobian.moving
        )
        self._trial = State.empty(jacobian.model.backend, jacobian.model.state_shapes)

    def polish(self, weights: Mapping[str, HostArray], steps: int) -> Equilibrium:
        products, model = self._products, self._jacobian.model
        first = position = products.pack(self._jacobian.state).astype(np.float64)
        R, loss = self._at(position)
        run_norm = norm = float(np.linalg.norm(R))
        scale = norm / (float(np.linalg.norm(position)) or 1.0)
        damping, taken = scale, 0
        while norm > self._tolerance and taken < steps and damping < 1e12 * (scale or 1.0):
            trial = position + self._step(position, R, damping)
            new_R, new_loss = self._at(trial)
            gained = loss - new_loss
            nearer = abs(gained) <= 1e-12 * loss and np.linalg.norm(new_R) < norm
            if gained > 1e-12 * loss or nearer:
                position, R, loss = trial, new_R, new_loss
                norm, damping, taken = float(np.linalg.norm(R)), damping / 10.0, taken + 1
            else:
                damping *= 10.0
        self._at(position)
        there = model.weights(self._jacobian.state)
        return Equilibrium(
            weights={**weights, **{name: there[name].astype(np.float64) for name in "UV"}},
            reaction_norm=norm,
            loss=loss,
            tolerance=self._tolerance,
            run_norm=run_norm,
            newton_steps=taken,
            newton_distance=float(np.linalg.norm(position - first) / np.linalg.norm(first)),
        )

    def _at(self, position: HostArray) -> tuple[HostArray, float]:
        """Linearize at a position; return R there, as a vector, and L_sup."""
        k, model = self._jacobian.model.backend, self._jacobian.model
        for name, array in self._jacobian.state:
            k.copy(array, out=getattr(self._trial, name))
        for name, part in unpack(position, self._products.shapes).items():
            k.to_device(part, getattr(self._trial, name))
        self._jacobian.at(self._trial)
        self._jacobian.velocity(self._velocity)
        return self._products.pack(self._velocity), k.dot(model.work.E, model.work.E) / 2

    def _step(self, position: HostArray, R: HostArray, damping: float) -> HostArray:
        """Solve (damping - J) step = R, with J the Jacobian of R at the position."""
        self._at(position)
        products, size = self._products, len(position)
        operator = LinearOperator(
            (size, size), matvec=lambda x: damping * x - products(x), dtype=np.float64
        )
        step: HostArray = minres(
            operator, R, rtol=1e-10, maxiter=5 * size, callback=lambda _: self._tell(R)
        )[0]
        return step

    def _tell(self, R: HostArray) -> None:
        self._say(
            f"equilibrium: ||R|| = {np.linalg.norm(R):.2g} after {self._products.count} Jacobian "
            "products"
        )
