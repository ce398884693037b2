"""How much memory a run needs, predicted before anything is allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.files.small import size_text
from prdsim.physics.charts import CHARTS
from prdsim.physics.observables import Observer
from prdsim.physics.state import Dimensions, entries
from prdsim.running.integrators import make_stepper

if TYPE_CHECKING:
    from prdsim.backends.base import Backend


def memory_bytes(config: RunConfig, sizes: Dimensions, backend: Backend, chart: str) -> int:
    """Predict the bytes that a run's arrays take on its device, at the most."""
    fused = backend.fused(sizes.m, sizes.m_c, sizes.d_out, sizes.n)
    carried = {**sizes.state_shapes, "U": (sizes.m, CHARTS[chart].columns(sizes))}
    stepper = make_stepper(config)
    states = entries(carried) * (1 + stepper.copies + stepper.dense)
    if chart == "gram" and "U" in config.moving:
        states += stepper.images * sizes.m * sizes.n
    working = entries(
        {"Y": (sizes.d_out, sizes.n)},
        CHARTS[chart].shapes(sizes),
        sizes.workspace_shapes(fused=fused is not None),
        Observer.shapes(carried),
    )
    scratch = fused.entries if fused is not None else 0
    itemsize = np.dtype(config.array_precision).itemsize
    other = sizes.m * sizes.n + 8  # one byte a sign, and the number of the step
    return (states + working + scratch) * itemsize + other


def host_memory_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict the bytes of what a run keeps on the host beside its device's arrays.

    The data and the initial draw in float64 and once more as the file keeps them, and the copies
    that a snapshot or restart point makes.
    """
    data = (sizes.d_in + sizes.d_out) * sizes.n
    state = entries(sizes.state_shapes)
    copies = (data + 3 * state) * np.dtype(config.array_precision).itemsize
    return 8 * (data + state) + copies


def leaving_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict the bytes that a snapshot takes on the device while it leaves."""
    return entries(sizes.state_shapes) * np.dtype(config.array_precision).itemsize


def needed_bytes(config: RunConfig, sizes: Dimensions, backend: Backend, chart: str) -> int:
    """Predict the bytes that a run needs where it computes: on a CPU what the host keeps too."""
    needed = memory_bytes(config, sizes, backend, chart)
    if backend.device == "cpu":
        needed += host_memory_bytes(config, sizes)
    if backend.asynchronous:
        needed += leaving_bytes(config, sizes)
    return needed


def check_memory(config: RunConfig, sizes: Dimensions, backend: Backend, chart: str) -> None:
    """Raise `ConfigError`, with the numbers, if a run's arrays cannot fit into the memory."""
    needed, available = needed_bytes(config, sizes, backend, chart), backend.available_bytes()
    if needed > available:
        other_chart = " or --chart weight" if chart == "gram" else ""
        raise ConfigError(
            f"this run needs {size_text(needed)} of memory on {backend.device}, and "
            f"{size_text(available)} are free;\n"
            f"lower --width (now {sizes.m}), --samples (now {sizes.n}) or use --precision float32"
            f"{other_chart}"
        )


def require_memory(needed: int, backend: Backend, what: str, advice: str) -> None:
    """Raise `ConfigError`, with the numbers, unless so many bytes are free on a backend."""
    available = backend.available_bytes()
    if needed > available:
        raise ConfigError(
            f"{what} need {size_text(needed)} of memory on {backend.device}, and "
            f"{size_text(available)} are free;\n{advice}"
        )
