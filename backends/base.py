"""The base class of every backend: one library on one device, with the operations of `Primitives`.

The physics (`prdsim.physics.gradients`) is written once over these operations.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.files.cores import available_cores
from prdsim.files.memory import available_bytes

from .arrays import Array
from .fused import Fused
from .primitives import Primitives


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


class Sums:
    """Some inner products, computed among operations that may be recorded, and read together."""

    def __init__(self, backend: Primitives, count: int) -> None:
        self._backend, self._totals = backend, [0.0] * count

    def dot(self, number: int, A: Array, B: Array) -> None:
        """Compute sum ``number`` (from 0): that of `Primitives.dot`, the same bits."""
        self._totals[number] = self._backend.dot(A, B)

    def read(self) -> list[float]:
        """Return all sums (waits for the device)."""
        return self._totals


class Backend(Primitives):
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

    holds_numbers: bool = False
    """Whether recordings read the numbers that `hold` returns whenever they are launched."""

    partial_sums: int = 0
    """Numbers in float64 that each of `sums` takes on the device."""

    notes: tuple[str, ...] = ()
    """Lines about what does not work here as it should; a run says them when it begins."""

    precision: str
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

    def hold(self, value: float, place: Array) -> Any:  # noqa: ARG002
        """Return a number that, times a float, is a coefficient of `combine` in a recording.

        Here the number itself; recordings that read it from ``place``, (1,) float64, take the
        value that was held last. Not to be called among recorded operations.
        """
        return value

    def sums(self, count: int) -> Sums:
        """Return so many sums, allocated once."""
        return Sums(self, count)


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
