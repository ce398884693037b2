"""The norms of an adversary's field, by sample, that a control is to have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.charts import column_sums
from prdsim.physics.gradients import forward, score_field
from prdsim.recorded import Recorded
from prdsim.running.snapshot_model import SnapshotModel
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Trajectory, open_trajectory

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.datasets import Dataset


def norms_for(config: RunConfig, dataset: Dataset) -> HostArray | None:
    """Return the norms (n,) of a control, if its configuration names a run for them, else None.

    They are the means of ||grad_z g(z_p)|| over the time of that run, by the trapezoidal rule over
    its snapshots. Raises `TrajectoryError` if its file cannot be read, and `ConfigError` if it
    has other samples or no adversary, or is not finished.
    """
    if not config.controlled or not isinstance(config.forcing_norm, str):
        return None
    path = Path(config.forcing_norm)
    with open_trajectory(path) as trajectory:
        recorded = Recorded(trajectory)
        _require_usable(recorded, dataset)
        return mean_norms(trajectory, recorded)


def _require_usable(recorded: Recorded, dataset: Dataset) -> None:
    path, status = recorded.trajectory.path, recorded.trajectory.live_status()
    if not recorded.config.diffuses or recorded.config.controlled:
        raise ConfigError(
            f"forcing_norm: {path} is a run {recorded.config.adversary_in_words}, without an "
            "adversary whose norms a control could have"
        )
    if status != "finished":
        raise ConfigError(f"forcing_norm: {path} is not finished ({status}); finish it first")
    if recorded.trajectory.attributes["dataset_sha256"] != dataset.fingerprint:
        raise ConfigError(
            f"forcing_norm: {path} has other samples than this run; it needs the same data, seed "
            "and number of samples"
        )


def mean_norms(trajectory: Trajectory, recorded: Recorded) -> HostArray:
    """Return the means over time of ||grad_z g(z_p)||, (n,) float64, over a run's snapshots."""
    config = recorded.config.replace(precision="float64")
    X, Y = (np.ascontiguousarray(array, dtype=np.float64) for array in recorded.data)
    times = np.asarray(trajectory.time)
    if len(times) < 2:
        raise ConfigError(f"forcing_norm: {trajectory.path} has but one snapshot")
    snapshot, rows = SnapshotModel(config, X, Y, backend="numpy"), []
    for index, time in enumerate(times):
        arrays = {name: getattr(trajectory, name)[index].astype(np.float64) for name in ARRAYS}
        with snapshot.at(time, **arrays) as (model, state):
            forward(model, state)
            score_field(model, state)
            rows.append(np.sqrt(column_sums(model.backend, model.work.G, model.work.G)))
    means: HostArray = np.trapezoid(np.array(rows), times, axis=0) / (times[-1] - times[0])
    return means
