"""What a backend computes with: the operations on arrays that the physics is written in.

They know arrays, not generators or critics. A backend must implement the abstract ones and may
replace the others, which work on any library. Rules that hold for every operation:

* Arrays are C-contiguous, of the backend's ``dtype``, in the paper's orientation; `gemm` alone
  also takes their transposes (``A.T``). ``A.reshape(shape)`` and slices of one dimension are views.
* Results go to ``out``, which the caller owns; unless stated otherwise ``out`` may be an operand
  of an elementwise operation, never one of `gemm`.
* Operations are deterministic: same operands, same bits, whatever else the machine does.
* Nothing is cast down: scalars are Python floats, reductions accumulate at least in ``out``'s type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prdsim.physics import randomness

from .arrays import Array, HostArray


class Primitives(ABC):
    """The operations on arrays of one ``dtype``."""

    dtype: np.dtype[Any]

    # -- memory and transfer -------------------------------------------------------------------

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Return a new array of undefined content, of the backend's dtype unless one is named."""

    @abstractmethod
    def to_device(self, source: HostArray, out: Array) -> None:
        """Copy a host array of the same shape into ``out``, casting to its type."""

    @abstractmethod
    def to_host(self, source: Array) -> HostArray:
        """Return a copy of an array as a NumPy array of the same type."""

    def start_copy(self, source: Array) -> Callable[[], HostArray]:
        """Begin to copy an array, as it is now, to the host; return a function that waits for it.

        Any thread may call that function. The array, of the backend's dtype, may change meanwhile.
        """
        copied = self.to_host(source)
        return lambda: copied

    def copy(self, source: Array, out: Array) -> None:
        """out = source."""
        self.combine([(1.0, source)], out=out)

    def synchronize(self) -> None:  # noqa: B027 - nothing to wait for
        """Return when all operations issued so far have finished."""

    # -- matrix multiplication -----------------------------------------------------------------

    @abstractmethod
    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        """out = alpha A B + beta out; A and B may be transposes; ``beta=0`` ignores ``out``."""

    # -- elementwise ---------------------------------------------------------------------------

    @abstractmethod
    def relu(self, A: Array, out: Array) -> None:
        """out_ij = max(A_ij, 0)."""

    @abstractmethod
    def heaviside(self, A: Array, out: Array) -> None:
        """out_ij = 1{A_ij >= 0}, as 0.0 or 1.0; the derivative of relu, with relu'(0) = 1."""

    @abstractmethod
    def gate(self, B: Array, A: Array, out: Array) -> None:
        """out_ij = B_ij 1{A_ij >= 0}, a product: NaN where B_ij is infinite and the gate closed."""

    @abstractmethod
    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        """out = sum_i c_i A_i over terms (c_i, A_i), left to right; only A_0 may be ``out``."""

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        """out_ip = Z_ip + e_p (Y_ip - Z_ip); ``out`` must be neither Y nor Z."""
        self.combine([(1.0, Y), (-1.0, Z)], out=out)
        self.scale_columns(e, out, out=out)
        self.combine([(1.0, out), (1.0, Z)], out=out)

    @abstractmethod
    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        """out_ij = r_i A_ij."""

    @abstractmethod
    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        """out_ij = c_j A_ij."""

    @abstractmethod
    def take_columns(self, A: Array, order: Array, out: Array) -> None:
        """out_ij = A_i,order_j; ``order`` is int64, and ``out`` not A."""

    @abstractmethod
    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        """out_p = scale (r_p - 1) / r_p with r_p = sqrt(squared_norms_p); 0 where r_p = 0."""

    def set_word(self, value: int, out: Array) -> None:
        """out_0 = value, an integer in [0, 2^64); ``out`` holds one uint64."""
        self.to_device(np.array([value], np.uint64), out)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        """out_p uniform in [0, 1), the same bits on every backend; see `prdsim.physics.randomness`.

        ``step`` holds one uint64, set by `set_word`: a recording must not contain the number.
        """
        number = int(self.to_host(step)[0])
        self.to_device(randomness.uniforms(seed, stream, number, update, out.size), out)

    # -- reductions ----------------------------------------------------------------------------

    @abstractmethod
    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        """out_i = sum_j A_ij B_ij, accumulated in the type of ``out``."""

    @abstractmethod
    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        """out_j = sum_i A_ij B_ij, accumulated in the type of ``out``."""

    @abstractmethod
    def dot(self, A: Array, B: Array) -> float:
        """Return sum_ij A_ij B_ij, accumulated in float64 (waits for the device)."""

    @abstractmethod
    def sum(self, A: Array) -> float:
        """Return the sum of all entries, accumulated in float64 (waits for the device)."""

    @abstractmethod
    def all_finite(self, A: Array) -> bool:
        """Return whether no entry is infinite or NaN (waits for the device)."""

    @abstractmethod
    def gates(self, A: Array, out: Array) -> None:
        """out_ij = 1{A_ij >= 0}, as uint8."""

    @abstractmethod
    def gate_changes(self, A: Array, gates: Array) -> int:
        """Return how many 1{A_ij >= 0} differ from ``gates`` (waits for the device)."""
