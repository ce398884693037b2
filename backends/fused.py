"""Operations that a backend may do as one: what each computes.

`prdsim.backends.base.Composed` puts them together from a backend's primitives; every other
implementation is compared with it.
"""

from __future__ import annotations

from typing import Protocol

from .arrays import Array


class Fused(Protocol):
    """Several operations as one, for a backend that does them faster together.

    Each equals the composition of primitives that its docstring names (`Composed` is that), up to
    rounding; arrays are as everywhere, and none of `Backend`'s rules is suspended.
    """

    entries: int
    """How many numbers `allocate` needs room for."""
    any_points: bool
    """Whether points may be more or fewer than n."""

    def allocate(self) -> None:
        """Make the scratch memory; once, before the first operation."""

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

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        """out = alpha weights^T 1{W points >= 0}; points and out (d_out, n), weights as W."""

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
