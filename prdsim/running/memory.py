"""How much memory a run needs, predicted before anything is allocated."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.files.small import bytes_of, size_text
from prdsim.physics.charts import Chart, make_chart
from prdsim.physics.panels import Panels
from prdsim.physics.state import Dimensions, entries
from prdsim.running.allocation import allocate

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.base import Backend


_LARGEST_ARRAY = 2**60  # bytes; NumPy refuses much larger shapes
_ALIGNED = 16  # samples: the arrays of panels begin where vectors of numbers do
_SMALLEST_PANEL = 256  # samples: with fewer, products are slow and memory is that of other arrays


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
    return make_chart(name, backend, X, U_0, factors, Panels(sizes.n, panel or sizes.n))


def memory_bytes(
    config: RunConfig, sizes: Dimensions, backend: Backend, chart: str, panel: int | None = None
) -> int:
    """Predict the bytes that a run's arrays take on its device, at the most.

    With ``panel`` samples at a time, None: all.
    """

    def build(k: Any, X: HostArray, Y: HostArray, initial: Mapping[str, HostArray]) -> object:
        return allocate(config, k, chart_without_memory(chart, k, sizes, panel), X, Y, initial)

    return predicted_bytes(backend, sizes, build)


def host_memory_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict the bytes that a run keeps on the host besides the device's arrays.

    The data and the initial draw, in float64 and in the file's precision, and the copies that a
    snapshot or restart point makes.
    """
    data = (sizes.d_in + sizes.d_out) * sizes.n
    state = entries(sizes.state_shapes)
    copies = (data + 3 * state) * np.dtype(config.array_precision).itemsize
    return 8 * (data + state) + copies


def leaving_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict the bytes that a snapshot takes on the device while it is copied."""
    return entries(sizes.state_shapes) * np.dtype(config.array_precision).itemsize


def needed_bytes(
    config: RunConfig, sizes: Dimensions, backend: Backend, chart: str, panel: int | None = None
) -> int:
    """Predict the bytes that a run needs on its device; on a CPU, also those of the host.

    With ``panel`` samples at a time, None: all.
    """
    needed = memory_bytes(config, sizes, backend, chart, panel)
    if backend.device == "cpu":
        needed += host_memory_bytes(config, sizes)
    if backend.asynchronous:
        needed += leaving_bytes(config, sizes)
    return needed


def panel_of(config: RunConfig, sizes: Dimensions, backend: Backend, chart: str) -> int | None:
    """Return how many samples a run takes at a time to keep to its ``memory``, None: all.

    As few panels as do, of one size but for the last: a function of sizes, whatever is free.
    Raises `ConfigError`, with the numbers, if the memory does not suffice.
    """
    if config.memory is None:
        return None
    allowed = bytes_of(config.memory)

    def samples(panels: int) -> int | None:
        return None if panels == 1 else -(-sizes.n // (panels * _ALIGNED)) * _ALIGNED

    def needed(panels: int) -> int:
        return needed_bytes(config, sizes, backend, chart, samples(panels))

    most = 1 if chart == "gram" else -(-sizes.n // _SMALLEST_PANEL)
    if needed(most) > allowed:
        fewer = "" if chart == "gram" else ", however few samples it takes at a time"
        raise ConfigError(
            f"memory {config.memory}: this run needs {size_text(needed(most))} for arrays{fewer};\n"
            f"give more, {_remedies(config, sizes, chart)}"
        )
    counts = range(1, most + 1)
    return samples(counts[bisect_left(counts, True, key=lambda count: needed(count) <= allowed)])


def check_memory(
    config: RunConfig, sizes: Dimensions, backend: Backend, chart: str, panel: int | None = None
) -> None:
    """Raise `ConfigError`, with the numbers, if a run's arrays do not fit into memory."""
    needed = needed_bytes(config, sizes, backend, chart, panel)
    require_memory(needed, backend, "this run needs", _remedies(config, sizes, chart))


def _remedies(config: RunConfig, sizes: Dimensions, chart: str) -> str:
    other_chart = " or --chart weight" if chart == "gram" else ""
    return f"lower {_options(config, sizes)} or use --precision float32{other_chart}"


def _options(config: RunConfig, sizes: Dimensions) -> str:
    """Name the options that decide the sizes of arrays, with their values, the largest first."""
    options = {"--width": sizes.m, "--samples": sizes.n}
    if config.critic_width is not None:
        options["--critic-width"] = sizes.m_c
    if config.dataset == "synthetic" and config.target == "labels":
        options["--outputs"] = sizes.d_out
    names = sorted(options, key=lambda name: -options[name])
    return ", ".join(f"{name} (now {options[name]})" for name in names)


def require_memory(needed: int, backend: Backend, what: str, advice: str) -> None:
    """Raise `ConfigError`, with the numbers, unless so many bytes are free on a backend.

    ``what`` begins the sentence, for example "this run needs".
    """
    available = backend.available_bytes()
    if needed > available:
        raise ConfigError(
            f"{what} {size_text(needed)} of memory on {backend.device}, but only "
            f"{size_text(available)} are free;\n{advice}"
        )
