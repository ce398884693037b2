"""The homogeneous state: neurons in groups of equal ones, at rest on the targets, Z = Y.

Without diffusion nothing moves there: E vanishes, and with it every C. Deviations within groups
stay as they are (kappa = 0) or decay at kappa.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.groups import group_means
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray

_REST = 1e-12  # of the loss at t = 0: the reaction flow has arrived
_LONGEST = 1e4  # time of the reaction flow
_STEPS, _MOST_STEPS = 20, 1000  # between looks at the loss, and in all: the rest is least squares
_FITTED = 1e-9  # of the norm of Y


def homogeneous_state(config: RunConfig, X: HostArray, Y: HostArray) -> dict[str, HostArray]:
    """Return U, V, W, a with equal neurons in groups and Z = Y, float64.

    By the reaction flow from the draw of the configuration, then by the least change of V that
    fits. W, a are those drawn. Raises `ConfigError` without groups of at least two neurons, or if
    the groups are too few to reach the targets.
    """
    K, q = config.groups, config.width // (config.groups or config.width)
    if K is None or q < 2:
        raise ConfigError("groups: a homogeneous state needs groups of at least two neurons")
    weights = _at_rest(config, X, Y)
    U = np.repeat(group_means(weights["U"], K), q, axis=0)
    V = np.repeat(group_means(weights["V"].T, K), q, axis=0).T
    H, s = np.maximum(U @ X, 0.0), 1.0 / np.sqrt(V.size)
    change = np.linalg.lstsq(H.T, (Y - s * V @ H).T / s)[0]
    V = V + np.repeat(group_means(change, K), q, axis=0).T
    left = float(np.linalg.norm(Y - s * V @ H))
    if not left <= _FITTED * float(np.linalg.norm(Y)):
        raise ConfigError(
            f"groups = {K} do not reach the targets of {X.shape[1]} samples (a residual of "
            f"{left:.2g} is left); give more groups, fewer samples, or a smaller rtol"
        )
    return {**weights, "U": U, "V": V}


def _at_rest(config: RunConfig, X: HostArray, Y: HostArray) -> dict[str, HostArray]:
    """Return the weights where the reaction flow ends, or has come by the longest time."""
    alone = {"diffusion": False, "coupling": 0.0, "group_deviation": 0.0, "end_time": _LONGEST}
    flow = config.replace(**alone, steps=None, snapshots=None, scalars=None, forcing="adversary")
    with Simulation(flow, X, Y) as simulation:
        first = simulation.observe()["loss_sup"]
        while not simulation.finished and simulation.step < _MOST_STEPS:
            simulation.advance(_STEPS)
            if simulation.observe()["loss_sup"] <= _REST * first:
                break
        return {name: x.astype(np.float64) for name, x in simulation.weights().items()}


def displaced(
    state: Mapping[str, HostArray], directions: HostArray, basis: HostArray, size: float
) -> dict[str, HostArray]:
    """Return a state with the first two neurons of each group moved, one forth and one back.

    ``directions`` (K, r + d_out) are unit vectors of (Q^T du, dv), ``basis`` (d_in, r) is Q, and
    ``size`` the length of a move over the root mean square of the norms of u_j.
    """
    U, V = state["U"].copy(), state["V"].copy()
    q, r = len(U) // len(directions), basis.shape[1]
    length = size * float(np.linalg.norm(U)) / np.sqrt(len(U))
    for first, sign in ((0, 1.0), (1, -1.0)):
        U[first::q] += sign * length * directions[:, :r] @ basis.T
        V[:, first::q] += sign * length * directions[:, r:].T
    return {**state, "U": U, "V": V}
