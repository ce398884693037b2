"""More rows than planned: a verified copy with a longer schedule replaces the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, OutputError, PrdsimError
from prdsim.files import posix
from prdsim.physics.state import RestartPoint
from prdsim.symbols import ARRAYS
from prdsim.trajectory.check import whole_points
from prdsim.trajectory.commit import Status
from prdsim.trajectory.container import FileMap
from prdsim.trajectory.create import built_file, write_first_record
from prdsim.trajectory.layout import FIXED_GROUPS, OWN_ATTRIBUTES, Attribute, Layout
from prdsim.trajectory.reader import Trajectory, open_trajectory
from prdsim.trajectory.rows import crc_of_rows, restart_crc
from prdsim.trajectory.sessions import PAGES, SESSIONS, torn
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
        _require_continued(old, snapshot_plan, scalar_plan)
        joining = {n: v for n, v in (carried or {}).items() if n not in old._map.restart_scalars}
        groups = {group: getattr(old, group) for group in FIXED_GROUPS}
        fixed = {f"{g}/{name}": arrays[name] for g, arrays in groups.items() for name in arrays}
        layout = layout_like(old._map, fixed, snapshot_plan, scalar_plan, attributes, joining)
        target = Path(os.path.realpath(writer.path))
        with built_file(target, layout, locked=writer.locked) as (temporary, filemap, fd):
            points = whole_points(old._map, old._fd)
            copy_rows(old._map, old._fd, filemap, fd, _rows_of(old, points))
            if joining:
                complete_restarts(filemap, fd, points, joining)
            crc = crc_of_rows(filemap, fd, "scalars", old._record.scalar_rows)
            record = replace(old._record, sequence=0, status=Status.INTERRUPTED, scalars_crc=crc)
            write_first_record(filemap, fd, record)
            _require_sound(temporary, old)
            shutil.copymode(target, temporary)
            posix.publish_over(temporary, target)
            copy = os.dup(fd)  # with its lock
    writer.replace_file(copy)


def _require_continued(
    old: Trajectory, snapshot_plan: Sequence[float], scalar_plan: Sequence[float]
) -> None:
    """Refuse a damaged file, and plans that do not begin with its rows."""
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


def _rows_of(old: Trajectory, points: Iterable[int]) -> dict[str, Iterable[int]]:
    """Return the rows that a copy gets: a damaged restart state is left out."""
    return {
        "scalars": range(old._record.scalar_rows),
        "snapshots": range(old._record.snapshot_rows),
        "restart": points,
        "sessions": whole_sessions(old._map, old._fd),
    }


def whole_sessions(source: FileMap, fd: int) -> list[int]:
    """Return the pages of /sessions/record that are not torn; older formats have none."""
    if not source.group("sessions"):
        return []
    lost = torn(source.read(fd, SESSIONS).tobytes())
    return [page for page in range(PAGES) if page not in lost]


def _require_sound(temporary: Path, old: Trajectory) -> None:
    """Raise `OutputError` if a finished copy has damage that its original has not."""
    with open_trajectory(temporary) as copy:
        known = {problem.where for problem in old.check_recovery()}
        for problem in copy.check():
            if problem.where not in known:
                raise OutputError(f"the copy of {old.path} failed: {problem}")


def layout_like(
    source: FileMap,
    fixed: Mapping[str, np.ndarray],
    snapshot_plan: Sequence[float],
    scalar_plan: Sequence[float],
    attributes: Mapping[str, Attribute],
    joining: Iterable[str],
) -> Layout:
    """Return the layout of a file, with other plans, attributes and carried numbers.

    `fixed` holds the arrays of `FIXED_GROUPS` by path; one without its array is left out.
    """
    extents = source.extents
    kept = {name: value for name, value in source.attributes.items() if name not in OWN_ATTRIBUTES}

    def group(name: str) -> dict[str, np.ndarray]:
        return {n: fixed[f"{name}/{n}"] for n in source.group(name) if f"{name}/{n}" in fixed}

    return Layout(
        shapes={name: extents[f"initial/{name}"].shape for name in ARRAYS},
        restart_shapes={n: extents[f"restart/{n}"].shape[1:] for n in source.restart_arrays},
        restart_scalars=(*source.restart_scalars, *joining),
        precision=extents["initial/U"].dtype.name,
        snapshot_precision=extents["snapshots/U"].dtype.name,
        snapshot_plan=snapshot_plan,
        scalar_plan=scalar_plan,
        attributes={**kept, **attributes},
        initial=group("initial"),
        chart=group("chart"),
        forcing=group("forcing"),
        data=group("data"),
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


def complete_restarts(
    target: FileMap, fd: int, points: Mapping[int, RestartPoint], joining: Mapping[str, float]
) -> None:
    """Add numbers that the format of the copied restart states, by slot, did not have."""
    for slot, old in points.items():
        point = replace(old, scalars={**old.scalars, **joining})
        for name, value in {**joining, "crc32": restart_crc(point)}.items():
            extent = target[f"restart/{name}"]
            data = np.full(1, value, dtype=extent.dtype)
            posix.pwrite(fd, posix.as_bytes(data), extent.offset + slot * extent.row_bytes)
