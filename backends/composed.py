"""Fused operations: by primitives, one after another, for all backends that have nothing better."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Array, Backend


class Composed:
    """Several operations as one.

    A subclass does them faster together. Each of its operations equals the one here, up to
    rounding; arrays are as everywhere, and none of `Backend`'s rules is suspended.

    Here the features ``H`` (m, n) of the last `predict` and the gates ``P`` (m_c, n) of the last
    points are kept: the products that read them again need not make them anew.
    """

    entries: int
    """How many numbers `allocate` needs room for."""
    any_points = False
    """Whether points may be more or fewer than n."""
    H: Array
    P: Array
    _shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, backend: Backend, m: int, m_c: int, n: int) -> None:
        self._backend = backend
        self._shapes = self.shapes(m, m_c, n)
        self.entries = sum(prod(shape) for shape in self._shapes.values())

    @staticmethod
    def shapes(m: int, m_c: int, n: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of the arrays that `allocate` makes."""
        return {"H": (m, n), "P": (m_c, n)}

    def allocate(self) -> None:
        """Make the scratch memory; once, before the first operation."""
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
        """A = base + carried matrix (no base: 0), then out = alpha V relu(A).

        Where nothing is carried A is read as it stands.
        """
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
        """out_U = alpha B matrix^T + beta out_U with B = (V^T E) * 1{A >= 0}, and out_V.

        Without a matrix out_U = alpha B + beta out_U. out_V = alpha E relu(A)^T + beta out_V.
        An ``out`` that is None is left out; ``out_V`` may be V. Overwrites ``B``. ``A`` is that of
        the last `predict`.
        """
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
        """out = alpha weights^T 1{W points >= 0}; points and out (d_out, n), weights as W."""
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
        """out = alpha 1{W points >= 0} values^T + beta out; points, values (d_out, n).

        ``same_gates`` says that W and the points are those of the last `gate_product`.
        """
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
