"""What is wrong with a trajectory, and whether it matters.

A kill or a power loss leaves only what the order of a commit allows: rows and a restart state, a
sync, the record, a sync. What the newest record counts is not touched; anything else that a crash
leaves is harmless. What it cannot leave is damage: by the disk, by a copy, by another program.

| part | after a crash | only by damage |
|---|---|---|
| fixed part, counted rows | whole | not whole |
| restart slot of the newest record | whole | not whole |
| the other restart slot, status running | the older state, or a later one; whole or torn | - |
| the same, status stopped | the older state, whole | not whole |
| newest record | whole | both records not whole |
| the other record | the one before, or the one after it; or sectors of both | anything else |
| rows beyond those counted | anything | - |

A writer first commits that the run goes on (status running), so that a stopped one has only whole
states. Not told apart: damage to the older restart state of a run that was killed, which counts as
harmless, but is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from prdsim.errors import DamagedTrajectoryError
from prdsim.physics.state import RestartPoint
from prdsim.symbols import ARRAYS
from prdsim.trajectory import commit
from prdsim.trajectory.commit import CommitRecord, Status
from prdsim.trajectory.container import FileMap, read_record
from prdsim.trajectory.rows import (
    ascend,
    crc_of_rows,
    read_restart_slot,
    read_rows,
    read_snapshot,
)
from prdsim.trajectory.sessions import SESSIONS, torn

UNUSED = -1  # the step of a restart slot that was never written


class Severity(StrEnum):
    """Whether a problem is what a killed writer leaves, or loses something."""

    HARMLESS = "harmless"
    DAMAGE = "damage"


@dataclass(frozen=True)
class Problem:
    """A failed checksum: its severity, the dataset (and row) of it, and what it means."""

    severity: Severity
    where: str
    text: str

    @property
    def is_damage(self) -> bool:
        """Whether something is lost."""
        return self.severity is Severity.DAMAGE

    def __str__(self) -> str:
        return self.text


def _harmless(where: str, text: str) -> Problem:
    return Problem(Severity.HARMLESS, where, text)


def _damage(where: str, text: str) -> Problem:
    return Problem(Severity.DAMAGE, where, text)


def holds(check: Callable[..., object], *arguments: object) -> bool:
    """Whether a reading function finds its data whole; it returns None or raises if not."""
    try:
        return check(*arguments) is not None
    except DamagedTrajectoryError:
        return False


def check_content(filemap: FileMap, fd: int, record: CommitRecord) -> list[Problem]:
    """Verify attributes, fixed arrays and the rows that a record counts; all found is damage."""
    return [*_check_fixed(filemap, fd, record), *_check_rows(filemap, fd, record)]


def damaged_fixed(filemap: FileMap, fd: int) -> list[str]:
    """Return the datasets written once whose checksums fail."""
    return [
        name
        for name, extent in filemap.extents.items()
        if extent.crc32 is not None and not holds(filemap.read_fixed, fd, name)
    ]


def _check_fixed(filemap: FileMap, fd: int, record: CommitRecord) -> Iterator[Problem]:
    damaged = damaged_fixed(filemap, fd)
    yield from (_damage(name, f"/{name} is damaged") for name in damaged)
    if not damaged and not _fixed_part_holds(filemap, fd, record):
        yield _damage(
            "structure",
            "the file's structure or attributes are damaged, or another program changed them",
        )


def _fixed_part_holds(filemap: FileMap, fd: int, record: CommitRecord) -> bool:
    try:
        return filemap.fixed_crc(fd) == record.fixed_crc
    except DamagedTrajectoryError:
        return False


def rows_hold(filemap: FileMap, fd: int, group: str, count: int, crc: int) -> bool:
    """Whether the first rows of /scalars or of the snapshots' index are whole and in order."""
    try:
        steps = filemap.read(fd, f"{group}/step", slice(count))
        return crc_of_rows(filemap, fd, group, count) == crc and ascend(steps)
    except DamagedTrajectoryError:
        return False


def _check_rows(filemap: FileMap, fd: int, record: CommitRecord) -> Iterator[Problem]:
    counts = (record.scalar_rows, record.snapshot_rows)
    if not rows_hold(filemap, fd, "scalars", counts[0], record.scalars_crc):
        yield _damage("scalars", "the scalars are damaged")
    if not rows_hold(filemap, fd, "snapshots", counts[1], record.snapshots_crc):
        yield _damage("snapshots", "the steps, times or checksums of the snapshots are damaged")
    try:
        index = read_rows(filemap, fd, "snapshots", slice(counts[1]))
    except DamagedTrajectoryError:
        return
    for row in range(counts[1]):
        for name in ARRAYS:
            if not holds(read_snapshot, filemap, fd, index, row, name):
                words = f"snapshot {row} (step {index['step'][row]}) of {name} is damaged"
                yield _damage(f"snapshots/{name}[{row}]", words)


def check_recovery(
    filemap: FileMap, fd: int, is_being_written: Callable[[], bool | None]
) -> list[Problem]:
    """Verify the commit records and the restart states, which a resume needs.

    Where it cannot be known (None) whether the file is being written, it may be.
    """
    written = is_being_written() is not False
    record = read_record(filemap, fd)
    newest, older = _check_restarts(filemap, fd, record)
    older += _check_other_record(filemap, fd, record)
    older += _check_sessions(filemap, fd)
    if not newest and not older:
        return []
    if read_record(filemap, fd).sequence != record.sequence:
        return []  # a writer moved on meanwhile, and replaced what was read
    # What does not count may be torn at any moment while a writer is at work.
    return newest if written or is_being_written() is not False else [*newest, *older]


def _check_sessions(filemap: FileMap, fd: int) -> list[Problem]:
    """Verify what is recorded of resumes; a power loss may tear it."""
    if not filemap.group("sessions") or not torn(filemap.read(fd, SESSIONS).tobytes()):
        return []
    text = "what is recorded of a resume is not whole; nothing else depends on it"
    return [_harmless(SESSIONS, text)]


def _check_other_record(filemap: FileMap, fd: int, record: CommitRecord) -> list[Problem]:
    """Verify the record beside the newest one."""
    slot = 1 - record.slot
    pages = filemap.read(fd, "commit/record").tobytes()
    page = pages[slot * commit.SLOT_BYTES : (slot + 1) * commit.SLOT_BYTES]
    unused = record.sequence == 0 and not any(page)
    if unused or commit.unpack_slots(pages)[slot] is not None:
        return []
    where = f"commit/record[{slot}]"
    if commit.is_torn(page, record):
        text = "a commit was cut short when the run was killed; the one before it counts"
        return [_harmless(where, text)]
    text = "one of the two commit records is damaged; the other one is used, so the last "
    return [_damage(where, text + "commit may be missing (resuming computes it again)")]


def whole_points(filemap: FileMap, fd: int) -> dict[int, RestartPoint]:
    """Return the restart states that are whole, by slot."""
    points = {}
    for slot in range(2):
        with suppress(DamagedTrajectoryError):
            point = read_restart_slot(filemap, fd, slot)
            if point is not None:
                points[slot] = point
    return points


def _check_restarts(
    filemap: FileMap, fd: int, record: CommitRecord
) -> tuple[list[Problem], list[Problem]]:
    """Return what is wrong with the restart state that counts, and with the other one."""
    slot, step = record.restart_slot, record.restart_step
    if slot < 0:
        return [], []
    points = whole_points(filemap, fd)
    point, other = points.get(slot), points.get(1 - slot)
    newest = []
    if point is None or point.step != step:
        then = "the run cannot be continued"
        if other is not None and 0 <= other.step <= step:
            then = f"a resume starts from that of step {other.step}"
        text = f"the restart state of step {step} is damaged; {then}"
        newest = [_damage(f"restart[{slot}]", text)]
    return newest, [] if other is not None else _check_older(filemap, fd, 1 - slot, record)


def _check_older(filemap: FileMap, fd: int, slot: int, record: CommitRecord) -> list[Problem]:
    """Judge a restart state that is not whole, and that the newest record does not count."""
    where, counted = f"restart[{slot}]", f"that of step {record.restart_step} counts"
    older = "the older restart state"
    try:
        step = int(filemap.read(fd, "restart/step")[slot])
    except DamagedTrajectoryError:
        return [_damage(where, f"{older} cannot be read; {counted}")]
    if step == UNUSED:
        return []
    if record.status is Status.RUNNING:
        text = f"{older} is not whole, as after a kill or a power loss while it was replaced"
        return [_harmless(where, f"{text}; {counted}")]
    return [_damage(where, f"{older} is damaged, so there is none to fall back on; {counted}")]
