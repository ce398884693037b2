"""What a study will take, predicted from shapes before anything runs: memory, disk, work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from prdsim.backends import get_backend
from prdsim.config import RunConfig
from prdsim.datasets import Dataset
from prdsim.datasets.configured import load_data
from prdsim.errors import PrdsimError
from prdsim.files.cores import available_cores
from prdsim.files.memory import available_bytes
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import Dimensions, entries
from prdsim.running.memory import needed_bytes, panel_of
from prdsim.running.resolve import chart_of
from prdsim.running.runner import plans_of
from prdsim.study.plan import Plan
from prdsim.trajectory import SCALARS

_METADATA = 150_000  # bytes of a trajectory besides its data
_PROCESS = 250_000_000  # bytes of a worker besides its arrays: what it imports


@dataclass(frozen=True)
class Forecast:
    """Bytes of memory of the largest member, of disk of all, and operations a velocity of all."""

    memory: int
    disk: int
    operations: float


def forecast(plan: Plan, data: Dataset | None = None) -> Forecast:
    """Predict what a study takes; data sets are loaded, once each, but for ``data`` of all members.

    Raises what loading data and making backends raises.
    """
    sizes_of = _sizes(data)
    memory, disk, operations = 0, 0, 0.0
    for member in plan.members:
        config = member.config
        sizes = sizes_of(config)
        backend = get_backend(config.backend, precision=config.precision, threads=config.threads)
        chart = chart_of(config, sizes, backend)
        panel = panel_of(config, sizes, backend, chart)
        memory = max(memory, needed_bytes(config, sizes, backend, chart, panel))
        disk += _disk(config, sizes)
        operations += _operations(sizes, chart)
    return Forecast(memory, disk, operations)


def at_once(plan: Plan, data: Dataset | None = None) -> int:
    """Return how many members to run at a time: as many as cores and memory allow, at least one.

    Members count as the largest of those that fit; what cannot be does not, and fails by itself.
    ``data`` are those of all members, if they are loaded.
    """
    cores = available_cores() // max(member.config.threads or 1 for member in plan.members)
    most = max(1, min(cores, len(plan.members)))
    if most == 1:
        return 1
    sizes_of, available, largest = _sizes(data), available_bytes(), 0
    unlike = {repr({**member.settings, "seed": 0}): member.config for member in plan.members}
    for config in unlike.values():
        with suppress(PrdsimError):
            needed = _host_bytes(config, sizes_of(config))
            largest = max(largest, needed if needed < available else 0)
    return max(1, min(most, available // (largest + _PROCESS)))


def _host_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict a member's memory on this host by NumPy's backend, on which others differ little."""
    backend = get_backend("numpy", precision=config.array_precision, threads=config.threads)
    return needed_bytes(config, sizes, backend, chart_of(config, sizes, backend))


def _sizes(data: Dataset | None) -> Callable[[RunConfig], Dimensions]:
    """Return the function that gives the sizes of a run, and loads each data set once."""
    if data is not None:
        d_in, d_out = len(data.X), len(data.Y)
        return lambda config: dimensions_of(config, d_in, d_out, config.samples)
    shapes: dict[str, tuple[int, int]] = {}

    def sizes(config: RunConfig) -> Dimensions:
        same_data = ("dataset", "split", "target", "outputs", "data_dir")
        key = repr([getattr(config, name) for name in same_data])
        if key not in shapes:
            data = load_data(config.replace(samples=1))
            shapes[key] = data.X.shape[0], data.Y.shape[0]
        return dimensions_of(config, *shapes[key], config.samples)

    return sizes


def _disk(config: RunConfig, sizes: Dimensions) -> int:
    """Return the bytes of a trajectory: snapshots, two restart slots, start, data, scalars."""
    snapshots, scalars = map(len, plans_of(config))
    state, item = entries(sizes.state_shapes), np.dtype(config.array_precision).itemsize
    kept = np.dtype(config.snapshot_precision or config.array_precision).itemsize
    data = (sizes.d_in + sizes.d_out) * sizes.n if config.store_data else 0
    rows = 8 * len(SCALARS) * scalars
    return snapshots * state * kept + (5 * state + data) * item + rows + _METADATA


def _operations(sizes: Dimensions, chart: str) -> float:
    """Return the operations of one velocity: the products that dominate it."""
    inner = {"weight": sizes.d_in, "range": min(sizes.d_in, sizes.n), "gram": sizes.n / 2}[chart]
    generator = 4.0 * sizes.m * inner * sizes.n + 6.0 * sizes.m * sizes.d_out * sizes.n
    return generator + 12.0 * sizes.m_c * sizes.d_out * sizes.n
