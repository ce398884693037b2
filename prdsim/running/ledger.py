"""A stand-in for a backend that counts memory: what a computation would take, before it does."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.physics.charts import Chart, make_chart
from prdsim.physics.panels import Panels
from prdsim.physics.state import Dimensions, entries

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.base import Backend

_LARGEST_ARRAY = 2**60  # bytes; NumPy refuses much larger shapes


class Ledger:
    """A stand-in for a backend that counts the bytes of requested arrays and allocates none.

    Its arrays have shapes but no memory; operations on them do nothing and return 0. ``peak`` is
    the largest number of bytes alive at any time.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._alive = self.peak = 0

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Return an array without memory."""
        array = without_memory(shape, dtype or self._backend.dtype)
        self._count(array.nbytes)
        weakref.finalize(array, self._count, -array.nbytes)
        return array

    def to_host(self, source: Array) -> HostArray:
        """Return a single 0, which broadcasts to every shape."""
        return np.zeros((), source.dtype)

    def fused(self, m: int, m_c: int, d_out: int, n: int) -> Any:
        """Count the memory of the backend's fused operations."""
        fused = self._backend.fused(m, m_c, d_out, n)
        self._count(fused.entries * self._backend.dtype.itemsize)
        return _Idle(any_points=fused.any_points)

    def sums(self, count: int) -> Any:
        """Count the memory of the backend's sums."""
        self._count(8 * count * self._backend.partial_sums)
        return _Idle()

    def _count(self, count: int) -> None:
        self._alive += count
        self.peak = max(self.peak, self._alive)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        return _do_nothing if callable(value) else value


class _Idle:
    """Has operations of every name, which do nothing."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def for_samples(self, n: int) -> _Idle:  # noqa: ARG002
        return self

    def __getattr__(self, name: str) -> Callable[..., float]:
        return _do_nothing


def _do_nothing(*_: Any, **__: Any) -> float:
    return 0.0


def without_memory(shape: tuple[int, ...], dtype: Any = np.float64) -> HostArray:
    """Return an array of zeros that takes no memory, whatever its shape."""
    return np.broadcast_to(np.zeros((), dtype), shape)


Build = Callable[[Any, HostArray, HostArray, Mapping[str, HostArray]], object]
"""Makes the arrays of a computation on a backend, from X, Y, and U, V, W, a at the start."""


def predicted_bytes(backend: Backend, sizes: Dimensions, build: Build) -> int:
    """Return how many bytes ``build`` asks of a backend at a time: it is given a `Ledger`."""
    shapes = sizes.workspace_shapes(sizes.n), sizes.state_shapes
    working = entries(*shapes) * backend.dtype.itemsize
    if working > _LARGEST_ARRAY:
        return working
    ledger = Ledger(backend)
    X, Y = without_memory((sizes.d_in, sizes.n)), without_memory((sizes.d_out, sizes.n))
    initial = {name: without_memory(shape) for name, shape in sizes.state_shapes.items()}
    kept = build(ledger, X, Y, initial)
    del kept
    return ledger.peak


def chart_without_memory(
    name: str, backend: Any, sizes: Dimensions, panel: int | None = None
) -> Chart:
    """Return a chart on a `Ledger`; the range chart gets the largest possible rank."""
    rank = min(sizes.d_in, sizes.n)
    X, U_0 = without_memory((sizes.d_in, sizes.n)), without_memory((sizes.m, sizes.d_in))
    factors = {"Q": without_memory((sizes.d_in, rank)), "R": without_memory((rank, sizes.n))}
    return make_chart(name, backend, X, U_0, factors, Panels.of(sizes.n, panel))
