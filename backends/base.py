"""The base class of every backend: memory, transfer and a small array vocabulary.

The physics (`prdsim.physics.gradients`) is written once over these operations. A backend knows
arrays, not generators or critics. It must implement the abstract operations and may replace the
others, which work on any library. Rules that hold for every operation:

* Arrays are C-contiguous, of the backend's ``dtype``, in the paper's orientation; `gemm` alone
  also takes their transposes (``A.T``).
* Results go to ``out``, which the caller owns; unless stated otherwise ``out`` may be an operand
  of an elementwise operation, never one of `gemm`.
* Operations are deterministic: same operands, same bits, whatever else the machine does.
* Nothing is cast down: scalars are Python floats, reductions accumulate at least in ``out``'s type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.files.cores import available_cores
from prdsim.files.memory import available_bytes
from prdsim.physics import randomness

from .arrays import Array, HostArray


class Rates(NamedTuple):
    """How fast a backend is at one precision, to choose between equivalent ways to compute.

    Only the ratio matters: a CPU core does some 5 to 10 operations of a product while one byte
    comes from memory, a GPU some 10 to 20. Rates are constants, so that the same run is carried
    in the same coordinates everywhere, however loaded a machine is.
    """

    operations: float
    """Additions and multiplications of matrix products per second."""
    bytes: float
    """Bytes read or written per second."""


class Backend(ABC):
    """One computing library on one device at one precision; explicit and immutable."""

    name: str
    """The name under which the backend is registered."""
    device: str = "cpu"
    asynchronous: bool = False
    """Whether operations may still be running when they return, so that the host can go on."""
    rates: ClassVar[Mapping[str, Rates]] = {
        "float32": Rates(2.0e11, 2.0e10),
        "float64": Rates(1.0e11, 2.0e10),
    }
    """Rates for each precision that the backend supports."""

    notes: tuple[str, ...] = ()
    """Lines about what does not work here as it should; a run says them when it begins."""

    precision: str
    dtype: np.dtype[Any]
    threads: int

    def __init__(
        self, precision: str = "float64", threads: int | None = None, device: str = ""
    ) -> None:
        """Use one thread for each core of the process unless ``threads`` is given.

        Raises `BackendUnavailableError` for a precision that the backend does not support, and
        `ConfigError` if a device is named: a backend with several devices handles that itself.
        """
        if device:
            raise ConfigError(
                f"backend '{self.name}:{device}': {self.name} has no devices to choose from"
            )
        if precision not in self.rates:
            lacks = (
                "exists only on the cupy backend, not" if precision == "tf32" else "does not exist"
            )
            raise BackendUnavailableError(
                f"precision {precision} {lacks} on {self.name}; use {' or '.join(self.rates)}"
            )
        self.precision = precision
        self.dtype = np.dtype("float64" if precision == "float64" else "float32")
        self.threads = threads or available_cores()

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

    def available_bytes(self) -> int:
        """Return how much memory an allocation could get now, in bytes."""
        return available_bytes()

    def describe(self) -> dict[str, Any]:
        """Return libraries, versions and threads, for the trajectory file and bug reports."""
        return {
            "backend": self.name,
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "numpy": np.__version__,
        }

    def active(self) -> AbstractContextManager[object]:
        """Return the context in which operations run; it limits them to `threads` threads."""
        return nullcontext()

    def fused(self, m: int, m_c: int, d_out: int, n: int) -> Fused:  # noqa: ARG002
        """Return the fused operations for a generator of m and a critic of m_c neurons.

        They act on V (d_out, m), W (m_c, d_out) and n samples.
        """
        return Fused(self, m, m_c, n)

    def replay(
        self,
        owner: object,  # noqa: ARG002 - nothing is recorded
        key: Hashable,  # noqa: ARG002
        operations: Callable[[], None],
        *,
        at_most: int = 1,  # noqa: ARG002
        number: Array | None = None,  # noqa: ARG002
    ) -> int:
        """Call ``operations``, or launch a recording of an earlier call; return how often.

        Once, or up to ``at_most`` times in a row where that is faster than call by call.

        For one ``owner`` and ``key``, ``operations`` issues the same operations, with the same
        scalars on the same arrays, every time; it allocates nothing and reads nothing back. A
        backend may record it once; the recording lives as long as ``owner``, which must keep the
        arrays and be weakly referenceable. A number that changes from one call to the next is
        kept in an array: see `set_word`. Within a row ``number``, such an array, grows by 1 each
        time; what it holds afterwards is undefined.
        """
        operations()
        return 1

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


class Fused:
    """Several operations as one.

    A subclass computes them faster together. Each of its operations equals the one here, up to
    rounding, and all of `Backend`'s rules hold.

    This class keeps the features ``H`` (m, n) of the last `predict` and the gates ``P`` (m_c, n)
    of the last points, so that later products need not compute them again.
    """

    entries: int
    """The number of entries that `allocate` makes room for."""
    any_points = False
    """Whether there may be more or fewer points than n."""
    H: Array
    P: Array
    _shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, backend: Backend, m: int, m_c: int, n: int) -> None:
        self._backend = backend
        self._shapes = {"H": (m, n), "P": (m_c, n)}
        self.entries = sum(prod(shape) for shape in self._shapes.values())

    def allocate(self) -> None:
        """Allocate the scratch memory; once, before the first operation."""
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

        If ``carried`` is None, A is read as it is.
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
        An ``out`` that is None is not computed; ``out_V`` may be V. Overwrites ``B``. ``A`` is
        that of the last `predict`.
        """
        k = self._backend
        if out_U is not None:  # before V changes, in case ``out_V`` is V
            k.gemm(V.T, E, out=B)
            k.gate(B, A, out=B)
        if out_V is not None:
            k.gemm(E, self.H.T, out=out_V, alpha=alpha, beta=beta)
        if out_U is not None:
            carry_back(k, B, matrix, out=out_U, alpha=alpha, beta=beta)

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        """out = alpha weights^T 1{W points >= 0}; points, out (d_out, n), weights (m_c, d_out)."""
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

        ``same_gates`` means that W and the points are those of the last `gate_product`.
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


def require_product(k: Backend) -> None:
    """Raise RuntimeError unless a known product comes out right, as every new backend must show."""
    given = [[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]], [[np.nan, np.nan]] * 2
    with k.active():
        A, B, out = (k.empty((2, 2)) for _ in given)
        for numbers, array in zip(given, (A, B, out), strict=True):
            k.to_device(np.array(numbers), array)
        k.gemm(A, B, out=out)
        found = k.to_host(out)
    if found.tolist() != [[19.0, 22.0], [43.0, 50.0]]:
        raise RuntimeError("a product is wrong")
