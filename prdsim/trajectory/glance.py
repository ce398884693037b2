"""A glance at a trajectory, for lists of many: attributes, the record, the last row of scalars.

Opening a `Trajectory` looks at every dataset of the file, which takes some times longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prdsim.trajectory.container import open_file, read_map, read_record
from prdsim.trajectory.liveness import is_being_written, live_status
from prdsim.trajectory.rows import read_scalars
from prdsim.trajectory.sessions import SESSIONS, unpack

_GROUPS = ("commit", "scalars", "sessions")


@dataclass(frozen=True)
class Glance:
    """What a file says of its run: its ``status`` as `Trajectory.live_status`, the step.

    ``reason`` is why the run stopped. ``last`` holds the last row of scalars by name, those
    that the file's version has; nothing without a row.
    """

    path: Path
    attributes: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    step: int
    reason: str
    last: Mapping[str, float]


def glance(path: Path) -> Glance:
    """Return what a file says of its run; raises the errors of `open_trajectory`.

    Attributes, record and scalars are verified, no other part of the file is looked at.
    """
    with open_file(path) as file:
        fd = file.fileno()
        filemap = read_map(path, fd, _GROUPS)
        config = filemap.json("config")
        known = SESSIONS in filemap.extents
        sessions = unpack(filemap.read(fd, SESSIONS).tobytes()) if known else []
        written = is_being_written(fd, config, sessions)
        record = read_record(filemap, fd)
        rows = read_scalars(filemap, fd, record)
    names = (rows.dtype.names or ()) if len(rows) else ()
    last = {name: float(rows[name][-1]) for name in names}
    recorded = int(rows["step"][-1]) if len(rows) else 0
    return Glance(
        path,
        filemap.attributes,
        config,
        live_status(record.status, written),
        record.stop_step if record.stop_step >= 0 else max(record.restart_step, recorded),
        record.stop_reason,
        last,
    )
