"""Crash-safe trajectory files: one HDF5 file a run, created whole, then written in place.

This package deals with storage alone: configurations are text here.
"""

from prdsim.trajectory.arrays import SnapshotArray
from prdsim.trajectory.commit import CommitRecord, Status
from prdsim.trajectory.extend import extend_trajectory
from prdsim.trajectory.layout import FORMAT_VERSION, SCALARS, Layout, ScalarField, markdown_table
from prdsim.trajectory.reader import Trajectory, open_trajectory
from prdsim.trajectory.writer import TrajectoryWriter, create_trajectory

__all__ = [
    "FORMAT_VERSION",
    "SCALARS",
    "CommitRecord",
    "Layout",
    "ScalarField",
    "SnapshotArray",
    "Status",
    "Trajectory",
    "TrajectoryWriter",
    "create_trajectory",
    "extend_trajectory",
    "markdown_table",
    "open_trajectory",
]
