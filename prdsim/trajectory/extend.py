"""More rows than planned: a verified copy with a longer schedule replaces the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, OutputError, PrdsimError
from prdsim.files import posix
from prdsim.files.lock import WriterLock
from prdsim.symbols import ARRAYS
from prdsim.trajectory.check import whole_point
from prdsim.trajectory.commit import Status
from prdsim.trajectory.container import FileMap
from prdsim.trajectory.create import built_file, write_first_record
from prdsim.trajectory.layout import OWN_ATTRIBUTES, Attribute, Layout
from prdsim.trajectory.reader import Trajectory, open_trajectory
from prdsim.trajectory.rows import read_restart_slot, read_rows, restart_crc, rolling_crc


def extend_trajectory(
    path: str | os.PathLike[str],
    *,
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    carried: Mapping[str, float] | None = None,
) -> None:
    """Replace a trajectory by a copy with other planned rows and changed `attributes`.

    The new plans must begin with the committed rows' steps, or times, a last unplanned one
    included. The copy's status is "interrupted": a run with steps left to do. It has the present
    format version; scalars missing in the old file become NaN, and numbers missing in its restart
    states come from `carried`. A failure, or a crash at any moment, leaves the old file unchanged.

    Raises:
        TrajectoryLockedError: it is being written.
        DamagedTrajectoryError: a checksum of the old file fails.
        OutputError: no space, no permission.
        PrdsimError: schedules that do not begin with the committed rows (a fault in the caller).
    """
    with open_trajectory(path):  # a missing or foreign file gets its error before the lock
        pass
    target = Path(os.path.realpath(path))
    with closing(WriterLock(target)), open_trajectory(path) as old:
        _extend(target, old, snapshot_plan, scalar_plan, attributes, carried or {})


def _extend(
    target: Path,
    old: Trajectory,
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    carried: Mapping[str, float],
) -> None:
    problems = old.check_content()
    if problems:
        raise DamagedTrajectoryError(
            f"{old.path} cannot be extended: {problems[0]}; restore it from a copy"
        )
    for name, new, done in (
        ("snapshots", snapshot_plan, old.recorded_snapshots),
        ("scalars", scalar_plan, old.recorded_scalars),
    ):
        if not np.array_equal(np.asarray(new)[: len(done)], done):
            raise PrdsimError(f"the new plan of {name} does not begin with the committed rows")
    joining = {n: value for n, value in carried.items() if n not in old._map.restart_scalars}
    layout = _layout(old, snapshot_plan, scalar_plan, attributes, tuple(joining))
    with built_file(target, layout) as (temporary, filemap, fd):
        rows = {
            "scalars": range(old._record.scalar_rows),
            "snapshots": range(old._record.snapshot_rows),
            "restart": [slot for slot in range(2) if whole_point(old._map, old._fd, slot)],
        }
        copy_rows(old._map, old._fd, filemap, fd, rows)
        if joining:
            _complete_restarts(old, filemap, fd, joining)
        scalars = read_rows(filemap, fd, "scalars", old._record.scalar_rows)
        record = replace(
            old._record, sequence=0, status=Status.INTERRUPTED, scalars_crc=rolling_crc(scalars)
        )
        write_first_record(filemap, fd, record)
        with open_trajectory(temporary) as copy:
            # A damaged restart state, which resuming survives, is not copied.
            known = {problem.where for problem in old.check_recovery()}
            for problem in copy.check():
                if problem.where not in known:
                    raise OutputError(f"the copy of {old.path} failed: {problem}")
        shutil.copymode(target, temporary)
        posix.publish_over(temporary, target)


def _layout(
    old: Trajectory,
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    joining: tuple[str, ...],
) -> Layout:
    """Return the layout of an existing file, with other plans, attributes and carried numbers."""
    extents = old._map.extents
    kept = {
        name: value for name, value in old._map.attributes.items() if name not in OWN_ATTRIBUTES
    }
    return Layout(
        shapes={name: extents[f"initial/{name}"].shape for name in ARRAYS},
        restart_shapes={n: extents[f"restart/{n}"].shape[1:] for n in old._map.restart_arrays},
        restart_scalars=(*old._map.restart_scalars, *joining),
        precision=extents["initial/U"].dtype.name,
        snapshot_precision=extents["snapshots/U"].dtype.name,
        snapshot_plan=snapshot_plan,
        scalar_plan=scalar_plan,
        attributes={**kept, **attributes},
        initial=dict(old.initial),
        chart=dict(old.chart),
        data=dict(old.data) or None,
    )


def copy_rows(
    source: FileMap, source_fd: int, target: FileMap, fd: int, rows: Mapping[str, Iterable[int]]
) -> None:
    """Copy rows, by group, from one file to the same places of another, one row at a time."""
    for group, indices in rows.items():
        held = set(source.group(group))
        for name in target.group(group):
            extent = target[f"{group}/{name}"]
            for row in indices:
                if name in held:
                    data = source.read(source_fd, f"{group}/{name}", slice(row, row + 1))
                else:  # of a newer version than the source
                    data = np.full(1, np.nan, dtype=extent.dtype)
                posix.pwrite(fd, posix.as_bytes(data), extent.offset + row * extent.row_bytes)


def _complete_restarts(
    old: Trajectory, filemap: FileMap, fd: int, joining: Mapping[str, float]
) -> None:
    """Add the numbers missing in the old restart states; one that is not whole is left out."""
    for slot in range(2):
        point = read_restart_slot(old._map, old._fd, slot)
        if point is None:
            continue
        point = replace(point, scalars={**point.scalars, **joining})
        for name, value in {**joining, "crc32": restart_crc(point)}.items():
            extent = filemap[f"restart/{name}"]
            data = np.full(1, value, dtype=extent.dtype)
            posix.pwrite(fd, posix.as_bytes(data), extent.offset + slot * extent.row_bytes)
