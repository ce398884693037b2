"""The run that a trajectory file describes: its configuration, and the inputs to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.config import Resolved, RunConfig, config_sha256
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError, DamagedTrajectoryError, ResumeMismatchError
from prdsim.running.tableaux import TABLEAUX
from prdsim.trajectory import Glance, Trajectory
from prdsim.trajectory.schema import TEXTS


class Recorded:
    """A run as its file describes it; arrays are read on access, while the file is open.

    ``config`` has been checked against its checksum: making a `Recorded` raises
    `ResumeMismatchError` if it was changed or is missing, and `DamagedTrajectoryError` if no run
    can have it, or the values ``resolved`` that ``auto`` took, or if the arrays are not of its
    sizes.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self.config = checked_config(trajectory)
        self.resolved = _checked_resolved(trajectory)
        for problem in _disagreements(trajectory, self.config, self.resolved):
            raise _damaged(trajectory, problem)

    @property
    def initial(self) -> dict[str, HostArray]:
        """U, V, W, a at t = 0, at the run's precision; raises `DamagedTrajectoryError`."""
        found = {name: np.asarray(array) for name, array in self.trajectory.initial.items()}
        if not all(np.isfinite(array).all() for array in found.values()):
            raise _damaged(self.trajectory, "its initial state is not finite")
        return found

    @property
    def chart(self) -> dict[str, HostArray]:
        """Arrays of the run's coordinates."""
        return {name: np.asarray(array) for name, array in self.trajectory.chart.items()}

    @property
    def forcing_norms(self) -> HostArray | None:
        """The norms (n,) of a control that has those of another run, else None."""
        norms = self.trajectory.forcing
        return np.asarray(norms["norm"]) if norms else None

    @property
    def beginning(self) -> dict[str, Any]:
        """The keywords with which a `Simulation` or `run` begins as this run did."""
        return {
            "initial": self.initial,
            "resolved": self.resolved,
            "stored_chart": self.chart,
            "forcing_norms": self.forcing_norms,
        }

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
        (_, d_in), (d_out, _) = self.trajectory.U.shape[1:], self.trajectory.V.shape[1:]
        if (len(dataset.X), len(dataset.Y)) != (d_in, d_out):
            raise _damaged(self.trajectory, "its weights do not have the sizes of its data set")
        return dataset.X, dataset.Y


def _damaged(trajectory: Trajectory | Glance, problem: str) -> DamagedTrajectoryError:
    return DamagedTrajectoryError(
        f"{trajectory.path} is damaged: {problem}; restore it from a copy"
    )


def checked_config(trajectory: Trajectory | Glance) -> RunConfig:
    """Return the configuration of a file, checked as `Recorded` does, with the same errors."""
    values = trajectory.config
    if config_sha256(values) != trajectory.attributes.get("config_sha256"):
        raise ResumeMismatchError(
            f"{trajectory.path}: the configuration does not match its checksum; it was changed or "
            "damaged after the run began"
        )
    try:
        return RunConfig(**(_from_version_1(values) if "scalars_every" in values else values))
    except ConfigError as error:
        raise _damaged(trajectory, f"no run has its configuration: {error}") from None
    except (ArithmeticError, LookupError, TypeError) as error:  # of the conversion
        raise _damaged(trajectory, "no run has its configuration") from error


def _checked_resolved(trajectory: Trajectory) -> Resolved:
    try:
        return Resolved.from_dict(trajectory.attributes.get("resolved", {}))
    except ConfigError as error:
        raise _damaged(trajectory, f"in its attribute 'resolved', {error}") from None


def _disagreements(trajectory: Trajectory, config: RunConfig, resolved: Resolved) -> Iterator[str]:
    """Yield what of a trajectory is not that of a run with these values."""
    attributes = trajectory.attributes
    yield from (f"it lacks its attribute {name!r}" for name in TEXTS if name not in attributes)
    (m, d_in), (m_c, _) = trajectory.U.shape[1:], trajectory.W.shape[1:]
    if (m, m_c) != (config.width, config.critic_width or config.width):
        yield f"it has {m} neurons and {m_c} of the critic, not those of its configuration"
    if trajectory.array_precision != config.array_precision:
        yield f"its arrays are {trajectory.array_precision}, not {config.array_precision}"
    if trajectory.grid and math.prod(trajectory.grid) != d_in:
        yield f"its grid is {trajectory.grid}, but its inputs have {d_in} entries"
    shapes = trajectory.shapes
    columns = {
        "weight": d_in,
        "range": shapes.get("chart/R", (0,))[0],
        "gram": shapes.get("data/X", (d_in, config.samples))[1],
    }
    if shapes["restart/U"][2] != columns[resolved.chart]:
        yield f"its restart states are not in the {resolved.chart} chart"
    if config.controlled and isinstance(config.forcing_norm, str) != ("forcing/norm" in shapes):
        yield "it lacks the norms of its control, or has some without need"
    reuses = config.integrator in TABLEAUX and TABLEAUX[config.integrator].first_same_as_last
    for name in config.moving if reuses else ():
        if f"restart/velocity_{name}" not in shapes:
            yield f"its restart states lack velocity_{name}"


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
