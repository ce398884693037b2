"""The run that a trajectory file describes: its configuration, and the inputs to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.config import Resolved, RunConfig, config_sha256
from prdsim.datasets.configured import load_data
from prdsim.errors import ResumeMismatchError
from prdsim.trajectory import Trajectory


class Recorded:
    """A run as its file describes it; arrays are read on access, while the file is open.

    ``config`` has been checked against its checksum: making a `Recorded` raises
    `ResumeMismatchError` if it was changed or is missing.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self.config = _checked_config(trajectory)

    @property
    def resolved(self) -> Resolved:
        """The values that ``auto`` took."""
        return Resolved(**self.trajectory.attributes["resolved"])

    @property
    def initial(self) -> dict[str, HostArray]:
        """U, V, W, a at t = 0, at the run's precision."""
        return {name: np.asarray(array) for name, array in self.trajectory.initial.items()}

    @property
    def chart(self) -> dict[str, HostArray]:
        """Arrays of the run's coordinates."""
        return {name: np.asarray(array) for name, array in self.trajectory.chart.items()}

    @property
    def beginning(self) -> dict[str, Any]:
        """The keywords with which a `Simulation` or `run` begins as this run did."""
        return {"initial": self.initial, "resolved": self.resolved, "stored_chart": self.chart}

    @cached_property
    def data(self) -> tuple[HostArray, HostArray]:
        """X (d_in, n) and Y (d_out, n), from the file or from their source.

        Raises:
            ResumeMismatchError: the file holds none, and the data set has changed.
            DataError: the data set is unavailable.
        """
        stored = self.trajectory.data
        if stored:
            return np.asarray(stored["X"]), np.asarray(stored["Y"])
        dataset = load_data(self.config)
        wanted = self.trajectory.attributes["dataset_sha256"]
        if dataset.fingerprint != wanted:
            raise ResumeMismatchError(
                f"{self.trajectory.path}: was made from data other than {dataset.name} holds now "
                f"(SHA-256 {wanted[:12]}... there, {dataset.fingerprint[:12]}... here)"
            )
        return dataset.X, dataset.Y


def _checked_config(trajectory: Trajectory) -> RunConfig:
    values = trajectory.config
    if config_sha256(values) != trajectory.attributes.get("config_sha256"):
        raise ResumeMismatchError(
            f"{trajectory.path}: the configuration does not match its checksum; it was changed or "
            "damaged after the run began"
        )
    return RunConfig(**(_from_version_1(values) if "scalars_every" in values else values))


def _from_version_1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the present keys for a configuration of format version 1.

    That version has a separate size for gd's critic updates, and records by step only.
    """
    kept = dict(values)
    kept["scalars"] = f"every:{kept.pop('scalars_every')}"
    alternating = kept["integrator"] == "gd"
    if kept["penalty_points"] == "auto":
        kept["penalty_points"] = "random" if alternating else "midpoint"
    updates, size = kept["critic_warmup"], kept["critic_step_size"]
    kept["critic_warmup"] = updates * size / kept["critic_rate"] if alternating else 0.0
    kept["critic_step_size"] = size if alternating else None
    return kept
