"""Crash-safe trajectory files: one HDF5 file a run, created whole, then written in place.

This package deals with storage alone: configurations are text here.
"""

from prdsim.trajectory.arrays import SnapshotArray
from prdsim.trajectory.check import Problem
from prdsim.trajectory.commit import Status
from prdsim.trajectory.extend import extend_trajectory
from prdsim.trajectory.glance import Glance, glance
from prdsim.trajectory.layout import FORMAT_VERSION, SCALARS, Layout, markdown_table
from prdsim.trajectory.reader import Trajectory, open_trajectory
from prdsim.trajectory.repair import Repair, repair_trajectory
from prdsim.trajectory.writer import TrajectoryWriter

__all__ = [
    "FORMAT_VERSION",
    "SCALARS",
    "Glance",
    "Layout",
    "Problem",
    "Repair",
    "SnapshotArray",
    "Status",
    "Trajectory",
    "TrajectoryWriter",
    "extend_trajectory",
    "glance",
    "markdown_table",
    "open_trajectory",
    "repair_trajectory",
]
