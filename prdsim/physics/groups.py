"""Groups of neurons that begin equal, and the coupling that draws each to its group's mean.

The neurons come in K groups of q = m / K, one after the other. With the group means u^, v^,

    du_j/dt = s B_j X^T + kappa (u^ - u_j),    dv_j/dt = s E H_j^T + kappa (v^ - v_j),      eq. 18

kappa times the graph Laplacian of each group. Means obey the uncoupled equations as long as the
neurons of a group are equal, whatever kappa is; deviations that sum to zero decay at rates that are
smaller by kappa.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.config import RunConfig
from prdsim.physics.charts import load
from prdsim.physics.randomness import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend
    from prdsim.physics.charts import Chart
    from prdsim.physics.state import Dimensions, State


def clones(config: RunConfig, drawn: Mapping[str, HostArray], X: HostArray) -> dict[str, HostArray]:
    """Return an initial draw with groups of equal neurons, those of its first K, and deviations.

    ``drawn`` holds U (m, d_in), V (d_out, m) and more, X is (d_in, n). Deviations are random, sum
    to zero within a group, and have `group_deviation` times the Frobenius norms of U and V. Those
    of U lie in the span of the inputs: no others are felt by a prediction.
    """
    K = config.groups
    if K is None:
        return dict(drawn)
    q = config.width // K
    U, V = np.repeat(drawn["U"][:K], q, axis=0), np.repeat(drawn["V"][:, :K], q, axis=1)
    return deviated({**drawn, "U": U, "V": V}, K, config.seed, X, config.group_deviation)


def deviated(
    weights: Mapping[str, HostArray], K: int, seed: int, X: HostArray, size: float
) -> dict[str, HostArray]:
    """Return weights with the deviations that `clones` describes."""
    U, V = weights["U"], weights["V"]
    random = generator(seed, Stream.GROUP_DEVIATIONS)
    dU = within_groups(random.standard_normal((len(U), X.shape[1])), K) @ X.T
    dV = within_groups(random.standard_normal((len(U), len(V))), K).T
    return {**weights, "U": _moved(U, dU, size), "V": _moved(V, dV, size)}


def _moved(array: HostArray, direction: HostArray, share: float) -> HostArray:
    """Return an array moved by a share of its own norm; not at all in the direction of zeros."""
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        return array
    moved: HostArray = array + direction * (share * float(np.linalg.norm(array)) / length)
    return moved


def group_means(rows: HostArray, K: int) -> HostArray:
    """Return the mean of each of K groups of rows, (K, d)."""
    means: HostArray = rows.reshape(K, len(rows) // K, -1).mean(axis=1)
    return means


def within_groups(rows: HostArray, K: int) -> HostArray:
    """Return rows (m, d) less the mean of their group."""
    apart: HostArray = rows - np.repeat(group_means(rows, K), len(rows) // K, axis=0)
    return apart


class Coupling:
    """kappa (group mean - own) on a backend, added to velocities; eq. 18.

    Raises `ConfigError` if deviations within groups at t = 0 leave the span of the inputs, and the
    chart carries nothing else.
    """

    def __init__(
        self, backend: Backend, chart: Chart, K: int, sizes: Dimensions, kappa: float
    ) -> None:
        m = sizes.m
        self._backend, self._kappa, self._q = backend, kappa, m // K
        self._averaging = load(backend, np.kron(np.eye(K), np.full((1, m // K), K / m)))
        self._mean_U: Array = backend.empty((K, chart.shape(m)[1]))
        self._mean_V: Array = backend.empty((sizes.d_out, K))
        # kappa (group mean - own) of U(0) in the chart's coordinates, or an error.
        start = -kappa * chart.coordinates(within_groups(chart.first_U, K))
        self._of_start = None if chart.carries_start else load(backend, start)

    def add(
        self, state: State, out: State, moving: tuple[str, ...], *, linear: bool = False
    ) -> None:
        """out += the coupling's velocity of those of U, V that move, eq. 18; U as it is carried.

        ``linear``: ``state`` is a tangent, which has no start.
        """
        k, kappa, M = self._backend, self._kappa, self._averaging
        if "U" in moving:
            k.gemm(M, state.U, out=self._mean_U)
            k.gemm(M.T, self._mean_U, out=out.U, alpha=kappa * self._q, beta=1.0)
            terms = [(1.0, out.U), (-kappa, state.U)]
            if self._of_start is not None and not linear:
                terms.append((1.0, self._of_start))
            k.combine(terms, out=out.U)
        if "V" in moving:
            k.gemm(state.V, M.T, out=self._mean_V)
            k.gemm(self._mean_V, M, out=out.V, alpha=kappa * self._q, beta=1.0)
            k.combine([(1.0, out.V), (-kappa, state.V)], out=out.V)
