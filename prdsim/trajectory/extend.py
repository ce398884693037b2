"""More rows than planned: a verified copy with a longer schedule replaces the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, OutputError, PrdsimError
from prdsim.files import posix
from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import Status
from prdsim.trajectory.container import FileMap
from prdsim.trajectory.create import built_file, write_first_record
from prdsim.trajectory.layout import OWN_ATTRIBUTES, Attribute, Layout
from prdsim.trajectory.reader import Trajectory, open_trajectory
from prdsim.trajectory.rows import crc_of_rows, read_restart_slot, restart_crc
from prdsim.trajectory.sessions import PAGES
from prdsim.trajectory.writer import TrajectoryWriter


def extend_trajectory(
    writer: TrajectoryWriter,
    *,
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    carried: Mapping[str, float] | None = None,
) -> None:
    """Replace a writer's file by a copy with other planned rows and changed `attributes`.

    The new plans must begin with the committed rows' steps, or times, a last unplanned one
    included. The copy's status is "interrupted": a run with steps left to do. It has the present
    format version; scalars missing in the old file become NaN, and numbers missing in its restart
    states come from `carried`. The writer goes on with the copy. A failure, or a crash at any
    moment, leaves the old file unchanged.

    Raises:
        DamagedTrajectoryError: a checksum of the old file fails.
        OutputError: no space, no permission.
        PrdsimError: schedules that do not begin with the committed rows (a fault in the caller).
    """
    with open_trajectory(writer.path) as old:
        layout, joining = _longer(old, snapshot_plan, scalar_plan, attributes, carried or {})
        target = Path(os.path.realpath(writer.path))
        with built_file(target, layout, locked=writer.locked) as (temporary, filemap, fd):
            _copy_rows(old, filemap, fd)
            if joining:
                _complete_restarts(old, filemap, fd, joining)
            crc = crc_of_rows(filemap, fd, "scalars", old._record.scalar_rows)
            record = replace(old._record, sequence=0, status=Status.INTERRUPTED, scalars_crc=crc)
            write_first_record(filemap, fd, record)
            _require_sound(temporary, old)
            shutil.copymode(target, temporary)
            posix.publish_over(temporary, target)
            copy = os.dup(fd)  # with its lock
    writer.replace_file(copy)


def _longer(
    old: Trajectory,
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    carried: Mapping[str, float],
) -> tuple[Layout, dict[str, float]]:
    """Return the layout of the copy, and the numbers that join its restart states."""
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
    return _layout(old, snapshot_plan, scalar_plan, attributes, tuple(joining)), joining


def _require_sound(temporary: Path, old: Trajectory) -> None:
    """Raise `OutputError` if a finished copy has damage that its original has not."""
    with open_trajectory(temporary) as copy:
        # Damage to one restart state or commit record, which resuming survives, may remain.
        new_problems = set(copy.check()) - set(old.check_recovery())
        if new_problems:
            raise OutputError(f"the copy of {old.path} failed: {new_problems.pop()}")


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


def _copy_rows(old: Trajectory, filemap: FileMap, fd: int) -> None:
    """Copy the committed rows and both restart slots, one row at a time."""
    counts = {
        "sessions": PAGES,
        "scalars": old._record.scalar_rows,
        "snapshots": old._record.snapshot_rows,
        "restart": 2,
    }
    for group, count in counts.items():
        held = set(old._map.group(group))
        for name in filemap.group(group):
            extent = filemap[f"{group}/{name}"]
            for row in range(count):
                if name in held:
                    data = old._map.read(old._fd, f"{group}/{name}", slice(row, row + 1))
                elif extent.dtype.kind != "f":
                    break  # pages that are zero already
                else:  # of a newer version than the old file
                    data = np.full(1, np.nan, dtype=extent.dtype)
                posix.pwrite(fd, posix.as_bytes(data), extent.offset + row * extent.row_bytes)


def _complete_restarts(
    old: Trajectory, filemap: FileMap, fd: int, joining: Mapping[str, float]
) -> None:
    """Add the numbers missing in the old restart states; a damaged state stays damaged."""
    for slot in range(2):
        point = read_restart_slot(old._map, old._fd, slot)
        if point is None:
            continue
        point = replace(point, scalars={**point.scalars, **joining})
        for name, value in {**joining, "crc32": restart_crc(point)}.items():
            extent = filemap[f"restart/{name}"]
            data = np.full(1, value, dtype=extent.dtype)
            posix.pwrite(fd, posix.as_bytes(data), extent.offset + slot * extent.row_bytes)
