"""A glance at a trajectory, for lists of many: attributes, the record, the last row of scalars.

Opening a `Trajectory` looks at every dataset, and its scalars at every row, to verify them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prdsim.errors import DamagedTrajectoryError
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap, open_file, read_map, read_record
from prdsim.trajectory.liveness import is_being_written, live_status
from prdsim.trajectory.sessions import SESSIONS, unpack

_NUMBERS = ("time", "loss_sup", "loss_adv", "loss_critic")
_STEPS = ("scalars/step", "snapshots/step")
_NEEDED = {"commit/record", SESSIONS, *_STEPS, *(f"scalars/{name}" for name in _NUMBERS)}


@dataclass(frozen=True)
class Glance:
    """What a file says of its run: its ``status`` as `Trajectory.live_status`, the step.

    ``last`` holds time and losses of the last row of scalars, by name; NaN without a row. They are
    not verified.
    """

    path: Path
    attributes: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    step: int
    last: Mapping[str, float]


def glance(path: Path) -> Glance:
    """Return what a file says of its run; raises as `open_trajectory` for what it looks at."""
    with open_file(path) as file:
        fd = file.fileno()
        filemap = read_map(path, fd, _NEEDED)
        config = filemap.json("config")
        sessions = (
            unpack(filemap.read(fd, SESSIONS).tobytes()) if SESSIONS in filemap.extents else []
        )
        written = is_being_written(fd, config, sessions)
        record = read_record(filemap, fd)
        return Glance(
            path,
            filemap.attributes,
            config,
            live_status(record.status, written),
            _reached(filemap, fd, record),
            {name: _entry(filemap, fd, f"scalars/{name}", record.scalar_rows) for name in _NUMBERS},
        )


def _reached(filemap: FileMap, fd: int, record: CommitRecord) -> int:
    if record.stop_step >= 0:
        return record.stop_step
    counts = (record.scalar_rows, record.snapshot_rows)
    steps = [_entry(filemap, fd, path, count) for path, count in zip(_STEPS, counts, strict=True)]
    return max([record.restart_step, 0, *(int(step) for step in steps if not math.isnan(step))])


def _entry(filemap: FileMap, fd: int, path: str, count: int) -> float:
    """Return the last of the first ``count`` entries of a dataset, NaN if there is none."""
    if not count:
        return math.nan
    shape = filemap[path].shape
    if len(shape) != 1 or shape[0] < count:
        raise DamagedTrajectoryError(
            f"{filemap.path} is damaged: /{path} has the shape {shape}, which does not fit the "
            "others; restore it from a copy"
        )
    return float(filemap.read(fd, path, slice(count - 1, count))[0])
