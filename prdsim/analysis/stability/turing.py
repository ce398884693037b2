"""The Turing condition: no growth without diffusion, growth with it, at a reaction equilibrium.

Three flows are linearized at one state (see `prdsim.physics.tangent`): U and V without diffusion,
with diffusion from a frozen critic, and the joint flow.

An eigenvalue determines stability at an equilibrium. A verdict is therefore given only at a
reaction equilibrium, ||R|| <= tolerance, and for the flow without diffusion. The other half of the
Turing condition is conditional: the flow with diffusion is not at rest there (unless Delta^u and
Delta^v vanish), so its Jacobian describes how fast two neighboring solutions separate,
d(delta)/dt = J delta, while the common drift and the gates leave J unchanged. The rate of the
drive, ||dE/dt|| / ||E||, shows how long that is: slower growth is over before it becomes visible (a
frozen critic pulls Z to Y + D G, where E = 0 and every C_j vanishes). Elsewhere eigenvalues are
instantaneous growth rates, and called so.

This is linear algebra, and hardly can come out otherwise: wherever E differs from 0 and there are
more neurons than residuals, some rate is positive, with a random field of the same norms as with
the critic's. Its rate is given beside. A Turing instability is the loss of stability of a
homogeneous state; see `prdsim.analysis.stability.transverse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from prdsim.analysis.stability.equilibrium import EQUILIBRIUM_TOLERANCE
from prdsim.analysis.stability.modes import (
    ACCURACY,
    FLOW_NAMES,
    Modes,
    backend_of,
    check_memory,
    leading_modes,
    linearize,
)
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.charts import column_sums
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import State
from prdsim.physics.tangent import Flow, Linearization
from prdsim.progress import Say, silent

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend


@dataclass(frozen=True)
class Stability:
    """Leading modes of the three flows at one state, and the conclusions from them.

    ``modes`` holds "reaction" and, with diffusion in the configuration, "frozen" and "joint";
    ``reaction_norm`` is ||R||, ``diffusion_norm`` ||D (Delta^u, Delta^v)||, the constant pull that
    moves the state away while the modes grow. ``interpolation_nulls`` is the least number of
    null modes at Z = Y, the excess of coordinates over residuals, N - n d_out;
    ``rescaling_nulls`` that of the directions (u_j, -v_j), null at every equilibrium, and among the
    former at Z = Y. ``control`` is the leading mode with a random field in the frozen critic's
    place, of the same norm at every sample.
    """

    modes: Mapping[Flow, Modes]
    reaction_norm: float
    diffusion_norm: float
    tolerance: float
    rescaling_nulls: int
    interpolation_nulls: int
    control: Modes | None = None

    @property
    def equilibrium(self) -> bool:
        """Whether this is a reaction equilibrium: ||R|| <= tolerance."""
        return self.reaction_norm <= self.tolerance

    @property
    def stable_without(self) -> bool | None:
        """Whether no mode found grows without diffusion; None if no verdict is possible."""
        reaction = self.modes["reaction"]
        if not self.equilibrium or not len(reaction.eigenvalues) or reaction.undecided:
            return None
        return reaction.unstable == 0

    def turing(self, flow: Flow = "frozen") -> bool | None:
        """Whether the Turing condition holds: no growth without diffusion, growth with.

        ``flow`` is "frozen" or "joint". None if no verdict is possible: without an equilibrium,
        without diffusion in the configuration, or if no mode was found or the sign of its rate is
        uncertain.
        """
        with_diffusion = self.modes.get(flow)
        if self.stable_without is None or with_diffusion is None:
            return None
        if not len(with_diffusion.eigenvalues) or with_diffusion.undecided:
            return None
        return self.stable_without and with_diffusion.unstable > 0

    @property
    def verdict(self) -> str:
        """The conclusions, one line for each flow."""
        if self.equilibrium:
            head = (
                f"reaction equilibrium (||R|| = {self.reaction_norm:.2g} <= {self.tolerance:.2g}); "
                f"null modes: {self.rescaling_nulls} of rescaling, and at Z = Y at least "
                f"{self.interpolation_nulls} in all"
            )
        else:
            head = (
                "instantaneous growth rates, no verdict: no reaction equilibrium "
                f"(||R|| = {self.reaction_norm:.2g} > {self.tolerance:.2g})"
            )
        lines = [head, *(_rates_in_words(modes) for modes in self.modes.values())]
        for flow in list(self.modes)[1:]:
            holds = self.turing(flow)
            if holds is not None:
                critic = FLOW_NAMES[flow].removeprefix("with diffusion, ")
                lines.append(f"Turing condition, {critic}: {'holds' if holds else 'does not hold'}")
        if self.control is not None:
            alone = "; a positive rate alone is no Turing instability" * self.equilibrium
            rate = f"leading rate {self.control.growth_rate:+.4g}"
            lines.append(f"a random field of the critic's norms: {rate}{alone}")
        return "\n".join(lines)


def _rates_in_words(modes: Modes) -> str:
    found = len(modes.eigenvalues)
    missing = "" if found == modes.requested else f" ({modes.requested} requested)"
    return (
        f"{FLOW_NAMES[modes.flow]}: leading rate {modes.growth_rate:+.4g}; "
        f"of {found} modes found{missing} {modes.unstable} grow, "
        f"{modes.marginal} marginal (|Re| <= {modes.tolerance:.1g}), "
        f"{modes.stable} decay; residuals <= {modes.residuals.max(initial=0.0):.1g}; "
        f"the drive changes at a rate of {modes.drive_rate:.2g}"
    )


def assess_stability(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    weights: Mapping[str, HostArray],
    *,
    count: int | None = 6,
    accuracy: float = ACCURACY,
    tolerance: float = EQUILIBRIUM_TOLERANCE,
    seed: int = 0,
    backend: Backend | None = None,
    time: float = 0.0,
    forcing_norms: HostArray | None = None,
    say: Say = silent,
) -> Stability:
    """Return the leading modes at U, V, W, a, without and with diffusion, and the verdict.

    X (d_in, n), Y (d_out, n) and weights are on the host, in the paper's coordinates. Without
    diffusion in the configuration, only the flow without it is assessed. ``tolerance`` bounds ||R||
    of an equilibrium; ``time`` and ``forcing_norms`` are those of a control; the rest is as
    for `leading_modes`.
    Raises `ConfigError` if neither U nor V is trained, or if the memory does not suffice.
    """
    if not {"U", "V"} & set(config.moving):
        raise ConfigError("trainable: neither U nor V is trained, so that no pattern can grow")
    k = backend or backend_of(config)
    sizes = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1])
    flows: tuple[Flow, ...] = ("reaction", "frozen", "joint") if config.diffuses else ("reaction",)
    if config.controlled:  # its critic, if any, and its generator do not move by one flow
        flows = ("reaction", "frozen")
    check_memory(config, sizes, k, flows[-1], count)
    modes: dict[Flow, Modes] = {}
    norms: dict[Flow, float] = {"frozen": 0.0}
    norms_of_G: HostArray | None = None
    for flow in flows:
        jacobian = linearize(
            config, X, Y, weights, flow, backend=k, time=time, forcing_norms=forcing_norms
        )
        modes[flow] = leading_modes(jacobian, count, accuracy=accuracy, seed=seed, say=say)
        if flow != "joint":
            norms[flow] = _velocity_norm(jacobian, diffusion=flow == "frozen")
        if flow == "frozen" and config.adversary:
            norms_of_G = _field_norms(jacobian)
    control = None
    if norms_of_G is not None:
        field = config.replace(forcing="static", forcing_norm=None)
        beside = linearize(field, X, Y, weights, "frozen", backend=k, forcing_norms=norms_of_G)
        control = leading_modes(beside, 1, accuracy=accuracy, seed=seed)
    both = {"U", "V"} <= set(config.moving)
    return Stability(
        modes=modes,
        reaction_norm=norms["reaction"],
        diffusion_norm=norms["frozen"],
        tolerance=tolerance,
        rescaling_nulls=sizes.m if both else 0,
        interpolation_nulls=max(0, modes["reaction"].size - sizes.n * sizes.d_out),
        control=control,
    )


def _field_norms(jacobian: Linearization) -> HostArray:
    """||G_p|| at the state of a Jacobian, (n,)."""
    model = jacobian.model
    with model.backend.active():
        norms: HostArray = np.sqrt(column_sums(model.backend, model.F, model.F))
    return norms


def _velocity_norm(jacobian: Linearization, *, diffusion: bool) -> float:
    """||R||, or ||D (Delta^u, Delta^v)||, over the trainable arrays."""
    model, k = jacobian.model, jacobian.model.backend
    with k.active():
        out = State.empty(k, model.state_shapes, jacobian.moving)
        jacobian.velocity(out, model.F if diffusion else None)
        squares = sum(k.dot(array, array) for _, array in out if array is not None)
    return (model.diffusivity if diffusion else 1.0) * sqrt(squares)
