"""Fused operations of the CuPy backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .arrays import Array
from .fused import CriticAt, Fused, Scratch, leading
from .primitives import Primitives

PenaltyGates = Callable[[Array, Array, Array, Array | float, Array], None]


class CupyFused(Fused):
    """The critic's update in four products instead of six: W Y_hat = W Z + e (W Y - W Z)."""

    any_points = True
    _P_hat: Array
    _at_points: Array

    def __init__(
        self, backend: Primitives, m: int, m_c: int, n: int, penalty_gates: PenaltyGates
    ) -> None:
        super().__init__(backend, m, m_c, n)
        self._shapes = {**self._shapes, "_P_hat": (m_c, n), "_at_points": (m_c, n)}
        self.entries += 2 * m_c * n + -(-8 * n // backend.dtype.itemsize)
        self._n, self._penalty_gates = n, penalty_gates

    def allocate(self) -> None:
        super().allocate()
        self._in_order = self._backend.empty((self._n,), "int64")
        self._backend.to_device(np.arange(self._n), self._in_order)

    def critic_moments(self, given: CriticAt, scratch: Scratch, *, out: Array, beta: float) -> None:
        if not given.sets:
            super().critic_moments(given, scratch, out=out, beta=beta)
            return
        W, a, Z, _, targets, sets, s_c, n, penalty = given
        aW, _, Q, c, squared_norms = scratch
        k, scale = self._backend, s_c / n
        labels = self._in_order if targets.labels is None else targets.labels
        at_points = leading(self._at_points, (W.shape[0], targets.points.shape[1]))
        k.gemm(W, targets.points, out=at_points)
        k.scale_rows(a, W, out=aW)
        for number, (e, weight) in enumerate(sets):
            k.gemm(W, Z, out=self.P)
            self._penalty_gates(self.P, at_points, labels, e, self._P_hat)
            if number == 0:
                k.gemm(self.P, Z.T, out=out, alpha=scale, beta=beta)
            k.gemm(aW.T, self._P_hat, out=Q, alpha=s_c)
            k.column_dots(Q, Q, out=squared_norms)
            k.penalty_weights(squared_norms, 2.0 * weight * penalty / n, out=c)
            k.scale_columns(c, Q, out=Q)
            k.gemm(self._P_hat, Q.T, out=out, alpha=s_c, beta=1.0)
        k.heaviside(at_points, out=at_points)
        k.gemm(at_points, targets.values.T, out=out, alpha=-scale, beta=1.0)
