"""What is whole in a damaged trajectory, saved into a new one; the damaged file is only read.

Only what a checksum verifies is kept:

| part | verified by | if that fails |
|---|---|---|
| scalars | a commit record's count and CRC, damaged or not | the other record's, else none |
| snapshots | the CRCs of its arrays, which cover its step and time | up to the first that fails |
| restart states | their own CRC, and every row planned up to their step is kept | left out |
| /initial | its CRC | that of snapshot 0, or computed again, if its CRC is right; else rounded |
| /data | its CRC | computed again; else left out, and read from its source when needed |
| /chart, /forcing | its CRC | computed again; else left out |
| plans of the rows | their CRC | computed again; else the rows kept |

A run whose plan, chart, norms or initial state is lost cannot be continued, so it keeps no restart
state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prdsim.arguments import file_path
from prdsim.errors import ConfigError, DamagedTrajectoryError, OutputError, TrajectoryLockedError
from prdsim.files import lock
from prdsim.physics.state import RestartPoint
from prdsim.trajectory.check import (
    UNUSED,
)
from prdsim.trajectory.commit import CommitRecord, Status
from prdsim.trajectory.container import FileMap, open_file
from prdsim.trajectory.create import (
    built_file,
    check_target,
    publish,
    replaceable,
    write_first_record,
)
from prdsim.trajectory.extend import complete_restarts, copy_rows, layout_like, whole_sessions
from prdsim.trajectory.layout import FIXED_GROUPS
from prdsim.trajectory.reader import open_trajectory
from prdsim.trajectory.rows import read_rows, rolling_crc
from prdsim.trajectory.salvage import Again, Salvage
from prdsim.trajectory.truncated import read_map_of_rest


@dataclass(frozen=True)
class Repair:
    """What a repaired file holds, and what it lacks and why, in words."""

    kept: list[str]
    dropped: list[str]
    can_be_continued: bool


def repair_trajectory(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    force: bool = False,
    carried: Mapping[str, float] | None = None,
    again: Again = lambda _: {},
) -> Repair | None:
    """Save what is whole in a damaged file as `output`; None, and no output, if all is whole.

    What a killed run leaves is no damage. Numbers missing in restart states of an older format
    version come from `carried`. `again` takes the file's attributes and returns arrays written
    once, by path, that replace damaged ones if their checksum is that in the file.

    Raises:
        ConfigError: the output exists and `force` is not given, or it is the damaged file.
        TrajectoryLockedError: the file or the output is being written.
        DamagedTrajectoryError: nothing can be saved.
        NotATrajectoryError, TrajectoryError: no trajectory, or it cannot be read.
        OutputError: the output cannot be written.
    """
    path, output = file_path("path", path), file_path("output", output)
    with closing(open_file(path)) as file:
        if output.exists() and os.path.samestat(os.fstat(file.fileno()), output.stat()):
            raise ConfigError(f"{output} is the damaged file itself; name another output")
        check_target(output, force=force)
        if lock.is_held(file.fileno()):
            raise TrajectoryLockedError(f"{path} is being written; wait for it, or stop it")
        source = Salvage(path, read_map_of_rest(path, file), file.fileno(), again)
        if not source.is_damaged():
            return None
        return _save(source, Path(os.path.realpath(output)), carried or {}, force=force)


@dataclass
class _Fixed:
    """The parts that are written once: arrays by path, plans by group, and what became of them."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    plans: dict[str, np.ndarray] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # without which no run goes on


def _fixed(source: Salvage) -> _Fixed:
    """Read what is written once, and replace or leave out what is damaged."""
    fixed = _Fixed()
    for group in FIXED_GROUPS:
        for name in source.map.group(group):
            array = _whole(source, f"{group}/{name}", fixed)
            if array is None and group == "initial":
                array = _rounded(source, name, fixed)
            if array is not None:
                fixed.arrays[f"{group}/{name}"] = array
        if len(source.map.group(group)) > sum(part.startswith(group) for part in fixed.arrays):
            _leave_out(group, fixed)
    for group in ("snapshots", "scalars"):
        plan = _whole(source, f"schedule/{group}", fixed)
        fixed.plans[group] = _rows_as_plan(source, group) if plan is None else plan
        if plan is None:
            fixed.dropped.append(f"the plan of further {group}: its checksum fails")
            fixed.lost.append(f"/schedule/{group}")
    return fixed


def _whole(source: Salvage, part: str, fixed: _Fixed) -> np.ndarray | None:
    """Return an array that is written once, or what restores it, or None."""
    array = source.fixed(part)
    if array is None:
        array = source.restored(part)
        if array is not None:
            fixed.kept.append(f"/{part}: it was damaged, and is restored")
    return array


def _leave_out(group: str, fixed: _Fixed) -> None:
    """Leave out a group of which a part is damaged."""
    fixed.arrays = {n: a for n, a in fixed.arrays.items() if not n.startswith(group + "/")}
    if group == "data":
        fixed.dropped.append("/data: its checksum fails; read from its source when needed")
    else:
        fixed.dropped.append(f"/{group}: its checksum fails")
        fixed.lost.append(f"/{group}")


def _rounded(source: Salvage, name: str, fixed: _Fixed) -> np.ndarray:
    """Take an array of the initial state from snapshot 0, which has another precision."""
    if source.snapshots[0] == 0:
        raise DamagedTrajectoryError(
            f"nothing in {source.path} can be saved: /initial/{name} is damaged, and no snapshot "
            f"is whole ({source.snapshots[1] or 'there is none'}); restore it from a copy"
        )
    fixed.dropped.append(f"/initial/{name}: its checksum fails; snapshot 0, rounded, replaces it")
    fixed.lost.append(f"/initial/{name}")
    return source.first_snapshot(name).astype(source.map[f"initial/{name}"].dtype)


def _rows_as_plan(source: Salvage, group: str) -> np.ndarray:
    """Return the plan that has just the rows kept."""
    by_time = source.map[f"schedule/{group}"].dtype.kind == "f"
    count = source.scalars if group == "scalars" else source.snapshots[0]
    plan = read_rows(source.map, source.fd, group, slice(count))["time" if by_time else "step"]
    return plan if count else np.zeros(1, dtype=plan.dtype)


def _save(source: Salvage, target: Path, carried: Mapping[str, float], *, force: bool) -> Repair:
    fixed = _fixed(source)
    counts = {"scalars": source.scalars, "snapshots": source.snapshots[0]}
    if not any(counts.values()):
        raise DamagedTrajectoryError(
            f"nothing in {source.path} can be saved: no row of scalars and no snapshot is whole; "
            "restore it from a copy"
        )
    points = {} if fixed.lost else source.points(fixed.plans)
    record = _record(source, points)
    joining = {n: v for n, v in carried.items() if n not in source.map.restart_scalars}
    plans = (fixed.plans["snapshots"].tolist(), fixed.plans["scalars"].tolist())
    layout = layout_like(source.map, fixed.arrays, *plans, {}, joining)
    rows: dict[str, Iterable[int]] = {name: range(count) for name, count in counts.items()}
    rows |= {"restart": points, "sessions": whole_sessions(source.map, source.fd)}
    locked = lock.is_held(source.fd) is not None  # else the file system has no locks
    with (
        replaceable(target, locked=locked) as replaces,
        built_file(target, layout, locked=locked) as (temporary, filemap, fd),
    ):
        copy_rows(source.map, source.fd, filemap, fd, rows)
        if joining and points:
            complete_restarts(filemap, fd, points, joining)
        write_first_record(filemap, fd, _with_checksums(record, filemap, fd))
        with open_trajectory(temporary) as copy:
            for problem in copy.check():
                raise OutputError(f"the copy of {source.path} failed: {problem}")
        publish(temporary, target, over=force and replaces)
    return _report(source, fixed, points, record)


def _record(source: Salvage, points: Mapping[int, RestartPoint]) -> CommitRecord:
    """Return the record of the kept parts: as it was if nothing that counts is missing."""
    old, kept = source.record, (source.scalars, source.snapshots[0])
    counted = old.restart_slot if old else -1
    slot = max(points, key=lambda k: (points[k].step, k == counted), default=-1)
    whole = old and (old.scalar_rows, old.snapshot_rows, old.restart_slot) == (*kept, slot)
    if old and whole and old.status is not Status.RUNNING:
        return replace(old, sequence=0)
    point = points.get(slot)
    return CommitRecord(
        scalar_rows=kept[0],
        snapshot_rows=kept[1],
        restart_slot=slot,
        restart_step=point.step if point else -1,
        restart_time=point.time if point else math.nan,
        status=Status.INTERRUPTED,
        stop_step=_last_step(source, point),
        stop_reason=f"repaired: kept {_of(source, 'snapshots')} snapshots",
    )


def _with_checksums(record: CommitRecord, filemap: FileMap, fd: int) -> CommitRecord:
    scalars = read_rows(filemap, fd, "scalars", slice(record.scalar_rows))
    snapshots = read_rows(filemap, fd, "snapshots", slice(record.snapshot_rows))
    return replace(record, scalars_crc=rolling_crc(scalars), snapshots_crc=rolling_crc(snapshots))


def _last_step(source: Salvage, point: RestartPoint | None) -> int:
    steps = read_rows(source.map, source.fd, "scalars", slice(source.scalars))["step"]
    reached = point.step if point else 0
    recorded: list[int] = [*steps[-1:].tolist(), *source.index["step"][-1:].tolist()]
    return max([reached, *recorded])


def _of(source: Salvage, group: str) -> str:
    kept = source.scalars if group == "scalars" else source.snapshots[0]
    return f"{kept} of {max(kept, len(source.written(group)))}"


def _states(source: Salvage, points: Mapping[int, RestartPoint], record: CommitRecord) -> str:
    """Describe the restart states kept."""
    steps = source.map.read(source.fd, "restart/step")
    used = int((steps != UNUSED).sum())
    return f"{len(points)} of {used} states to continue from, of step {record.restart_step}"


def _report(
    source: Salvage, fixed: _Fixed, points: Mapping[int, RestartPoint], record: CommitRecord
) -> Repair:
    kept = [f"{_of(source, 'snapshots')} snapshots", f"{_of(source, 'scalars')} rows of scalars"]
    kept += fixed.kept
    dropped = []
    if source.snapshots[1]:
        dropped.append(f"snapshots from number {source.snapshots[0]} on: {source.snapshots[1]}")
    if source.scalars < len(source.written("scalars")):
        dropped.append(f"rows of scalars from number {source.scalars} on: their checksum fails")
    dropped += fixed.dropped
    again = record.scalar_rows == 0 and not fixed.lost
    if record.restart_slot >= 0:
        kept.append(_states(source, points, record))
    elif again:
        dropped.append(
            "the states to continue from: a resume computes the run again from its start"
        )
    else:
        why = f"{fixed.lost[0]} is lost" if fixed.lost else "none is whole with all rows before it"
        dropped.append(f"the states to continue from: {why}; the run cannot be continued")
    ended = record.status in (Status.FINISHED, Status.DIVERGED)
    return Repair(kept, dropped, (record.restart_slot >= 0 or again) and not ended)
