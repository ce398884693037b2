"""How much memory a run needs, predicted before anything is allocated."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.files.small import bytes_of, size_text
from prdsim.physics.state import Dimensions, entries
from prdsim.running.allocation import allocate
from prdsim.running.ledger import chart_without_memory, predicted_bytes
from prdsim.running.step_size import kernel_bytes

if TYPE_CHECKING:
    from prdsim.backends.base import Backend


_ALIGNED = 16  # samples: the arrays of panels begin where vectors of numbers do
_SMALLEST_PANEL = 256  # samples: with fewer, products are slow and memory is that of other arrays


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
    numbers = data_bytes(sizes) // 8 + 2 * entries(sizes.state_shapes)
    return data_bytes(sizes) + numbers * np.dtype(config.array_precision).itemsize


def data_bytes(sizes: Dimensions) -> int:
    """Predict the bytes of the data and the initial draw on the host, in float64."""
    return 8 * ((sizes.d_in + sizes.d_out) * sizes.n + entries(sizes.state_shapes))


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
        if config.step_size == "auto":  # before the run's arrays are there
            needed = max(needed, kernel_bytes(config, sizes) + data_bytes(sizes))
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
    other = ""
    if chart == "gram":
        other = " or --chart weight"
    elif config.memory is None and sizes.n > _SMALLEST_PANEL:
        other = ", or take the samples in panels: --memory with a size"
    return f"lower {_options(config, sizes)} or use --precision float32{other}"


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
