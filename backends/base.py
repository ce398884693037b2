"""The protocol every backend implements: memory, transfer and a small array vocabulary.

The physics (`prdsim.physics.gradients`) is written once over these operations. A backend knows
arrays and nothing of generators or critics. Rules that hold for every operation:

* Arrays are C-contiguous, of the backend's ``dtype``, in the paper's orientation; `gemm` alone
  also takes their transposes (``A.T``).
* Results go to ``out``, which the caller owns; unless said otherwise ``out`` may be an operand
  of an elementwise operation, never one of `gemm`.
* Operations are deterministic: same operands, same bits, whatever else the machine does.
* Nothing is down-cast: scalars are Python floats, reductions accumulate at least in ``out``'s type.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

Array = Any
"""An array of whatever library the backend uses."""

HostArray = np.ndarray[Any, Any]
"""A NumPy array."""


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


class Backend(Protocol):
    """One computing library on one device at one precision; explicit and immutable.

    ``asynchronous`` says that operations may be under way when they return, and computing goes on
    while the host does something else.
    """

    name: str
    device: str
    precision: str
    dtype: np.dtype[Any]
    threads: int
    asynchronous: bool

    # -- memory and transfer -------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Return a new array of undefined content, of the backend's dtype unless one is named."""

    def to_device(self, source: HostArray, out: Array) -> None:
        """Copy a host array of the same shape into ``out``, casting to its type."""

    def to_host(self, source: Array) -> HostArray:
        """Return a copy of an array as a NumPy array of the same type."""

    def start_copy(self, source: Array) -> Callable[[], HostArray]:
        """Begin to copy an array, as it is now, to the host; return what waits for the copy.

        It may be called from any thread. The array, of the backend's dtype, may change meanwhile.
        """

    def copy(self, source: Array, out: Array) -> None:
        """out = source."""

    def synchronize(self) -> None:
        """Return when all operations issued so far have finished."""

    def available_bytes(self) -> int:
        """Return how much memory an allocation could get now, in bytes."""

    def describe(self) -> dict[str, Any]:
        """Return libraries, versions and threads, for the trajectory file and bug reports."""

    def active(self) -> AbstractContextManager[object]:
        """Return the context in which operations run: it holds the threads to `threads`."""

    def fused(self, m: int, m_c: int, d_out: int, n: int) -> Fused:
        """Return the fused operations for a generator of m and a critic of m_c neurons.

        Its arrays are V (d_out, m), W (m_c, d_out) and n samples.
        """

    def replay(self, owner: object, key: Hashable, operations: Callable[[], None]) -> None:
        """Call ``operations``, or launch a recording of what it issued before.

        For one ``owner`` and ``key`` it issues the same operations, with the same scalars on the
        same arrays, every time, and does nothing else: it allocates nothing, and reads nothing
        back. A device may record it once; the recording lives as long as ``owner``, which must
        keep the arrays and be weakly referenceable. What must change from one call to the next
        lies in an array: see `set_word`.
        """

    # -- matrix multiplication -----------------------------------------------------------------

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        """out = alpha A B + beta out; A and B may be transposes; ``beta=0`` ignores ``out``."""

    # -- elementwise ---------------------------------------------------------------------------

    def relu(self, A: Array, out: Array) -> None:
        """out_ij = max(A_ij, 0)."""

    def heaviside(self, A: Array, out: Array) -> None:
        """out_ij = 1{A_ij >= 0}, as 0.0 or 1.0; the derivative of relu, with relu'(0) = 1."""

    def gate(self, B: Array, A: Array, out: Array) -> None:
        """out_ij = B_ij 1{A_ij >= 0}, a product: NaN where B_ij is infinite and the gate shut."""

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        """out = sum_i c_i A_i over terms (c_i, A_i), left to right; only A_0 may be ``out``."""

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        """out_ip = Z_ip + e_p (Y_ip - Z_ip); ``out`` must be neither Y nor Z."""

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        """out_ij = r_i A_ij."""

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        """out_ij = c_j A_ij."""

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        """out_p = scale (r_p - 1) / r_p with r_p the root of squared_norms_p; 0 where r_p = 0."""

    def set_word(self, value: int, out: Array) -> None:
        """out_0 = value, a whole number in [0, 2^64); ``out`` holds one uint64."""

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        """out_p uniform in [0, 1), by `prdsim.physics.randomness.uniforms`: alike on every backend.

        ``step`` holds one uint64, as `set_word` leaves it: a recording must not keep the number.
        """

    # -- reductions ----------------------------------------------------------------------------

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        """out_i = sum_j A_ij B_ij, accumulated in the type of ``out``."""

    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        """out_j = sum_i A_ij B_ij, accumulated in the type of ``out``."""

    def dot(self, A: Array, B: Array) -> float:
        """Return sum_ij A_ij B_ij, accumulated in float64 (waits for the device)."""

    def sum(self, A: Array) -> float:
        """Return the sum of all entries, accumulated in float64 (waits for the device)."""

    def all_finite(self, A: Array) -> bool:
        """Return whether no entry is infinite or NaN (waits for the device)."""

    def gates(self, A: Array, out: Array) -> None:
        """out_ij = 1{A_ij >= 0}, as uint8."""

    def gate_changes(self, A: Array, gates: Array) -> int:
        """Return how many 1{A_ij >= 0} differ from ``gates`` (waits for the device)."""
