"""What a study will take, predicted from shapes before anything runs: memory, disk, work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prdsim.backends import get_backend
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import Dimensions, entries
from prdsim.running.memory import needed_bytes, panel_of
from prdsim.running.resolve import chart_of
from prdsim.running.runner import plans_of
from prdsim.study.plan import Plan
from prdsim.trajectory import SCALARS

_METADATA = 150_000  # bytes of a trajectory besides its data


@dataclass(frozen=True)
class Forecast:
    """Bytes of memory of the largest member, of disk of all, and operations a velocity of all."""

    memory: int
    disk: int
    operations: float


def forecast(plan: Plan) -> Forecast:
    """Predict what a study takes; data sets are loaded, once each.

    Raises what loading data and making backends raises.
    """
    sizes_of = _cached_sizes()
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


def _cached_sizes() -> Callable[[RunConfig], Dimensions]:
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
