"""Fused operations for a backend that declares none of its own: its primitives, one after another.

They are what every other implementation of `Fused` is compared with.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Array, Backend


class Composed:
    """`prdsim.backends.base.Fused` by primitives.

    Keeps the features ``H`` (m, n) of the last `predict` and the gates ``P`` (m_c, n) of the last
    points: the products that read them again need not make them anew.
    """

    any_points = False
    H: Array
    P: Array

    def __init__(self, backend: Backend, m: int, m_c: int, n: int) -> None:
        self._backend = backend
        self._shapes = self.shapes(m, m_c, n)
        self.entries = sum(prod(shape) for shape in self._shapes.values())

    @staticmethod
    def shapes(m: int, m_c: int, n: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of the arrays that `allocate` makes."""
        return {"H": (m, n), "P": (m_c, n)}

    def allocate(self) -> None:
        for name, shape in self._shapes.items():
            setattr(self, name, self._backend.empty(shape))

    def predict(
        self,
        carried: Array | None,
        matrix: Array,
        base: Array | None,
        V: Array,
        *,
        A: Array,
        out: Array,
        alpha: float,
    ) -> None:
        k = self._backend
        if carried is not None:
            if base is not None:
                k.copy(base, out=A)
            k.gemm(carried, matrix, out=A, beta=0.0 if base is None else 1.0)
        k.relu(A, out=self.H)
        k.gemm(V, self.H, out=out, alpha=alpha)

    def pull_back(
        self,
        A: Array,
        V: Array,
        E: Array,
        matrix: Array | None,
        *,
        B: Array,
        out_U: Array | None,
        out_V: Array | None,
        alpha: float,
        beta: float,
    ) -> None:
        k = self._backend
        if out_U is not None:  # before V changes, should ``out_V`` be V
            k.gemm(V.T, E, out=B)
            k.gate(B, A, out=B)
        if out_V is not None:
            k.gemm(E, self.H.T, out=out_V, alpha=alpha, beta=beta)
        if out_U is not None:
            carry_back(k, B, matrix, out=out_U, alpha=alpha, beta=beta)

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        self._open_gates(W, points)
        self._backend.gemm(weights.T, self.P, out=out, alpha=alpha)

    def gate_moments(
        self,
        W: Array,
        points: Array,
        values: Array,
        *,
        out: Array,
        alpha: float,
        beta: float,
        same_gates: bool = False,
    ) -> None:
        if not same_gates:
            self._open_gates(W, points)
        self._backend.gemm(self.P, values.T, out=out, alpha=alpha, beta=beta)

    def _open_gates(self, W: Array, points: Array) -> None:
        self._backend.gemm(W, points, out=self.P)
        self._backend.heaviside(self.P, out=self.P)


def carry_back(
    k: Backend, B: Array, matrix: Array | None, out: Array, *, alpha: float, beta: float = 0.0
) -> None:
    """out = alpha B matrix^T + beta out; without a matrix out = alpha B + beta out."""
    if matrix is not None:
        k.gemm(B, matrix.T, out=out, alpha=alpha, beta=beta)
    elif beta == 0.0:
        k.combine([(alpha, B)], out=out)
    else:
        k.combine([(beta, out), (alpha, B)], out=out)
