"""Bugs of every kind, put into the product: each must be found by a campaign."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from faults import crashes, errors, fuzz, kills, outputs, temporaries, writers
from faults.formats import make_examples
from faults.report import Report
from faults.world import patched, world
from prdsim.datasets import idx, user_files
from prdsim.errors import TrajectoryLockedError
from prdsim.files import lock, posix, whole
from prdsim.trajectory import TrajectoryWriter, container
from prdsim.trajectory.whereabouts import Whereabouts
from prdsim.trajectory.writable import WritableFile


@contextmanager
def counter_before_data() -> Iterator[None]:
    """The record is written before the rows that it counts."""
    write_scalars, write_record = TrajectoryWriter._write_scalars, WritableFile._write_record

    def record_first(self: TrajectoryWriter, **changes: Any) -> None:
        write_record(self, **changes)
        if len(self._scalars.pending):
            write_scalars(self)

    with (
        patched(TrajectoryWriter, "_write_scalars", lambda self: None),  # noqa: ARG005
        patched(TrajectoryWriter, "_write_record", record_first),
    ):
        yield


@contextmanager
def record_before_sync() -> Iterator[None]:
    """Rows and record are written in order, and reach the disk in any: one sync for both."""
    real, count = posix.fdatasync, 0

    def every_other(fd: int) -> None:
        nonlocal count
        count += 1
        if count % 2 == 0:
            real(fd)

    with patched(posix, "fdatasync", every_other):
        yield


def commit_not_synced() -> AbstractContextManager[None]:
    return patched(posix, "fdatasync", lambda fd: None)  # noqa: ARG005


def folder_not_synced() -> AbstractContextManager[None]:
    return patched(posix, "fsync_folder", lambda folder: None)  # noqa: ARG005


def unchecked_length() -> AbstractContextManager[None]:
    """What the system did not take of a write is forgotten."""

    def once(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data, offset)

    return patched(posix, "pwrite", once)


def swallowed_error() -> AbstractContextManager[None]:
    @contextmanager
    def writing(_: WritableFile) -> Iterator[None]:
        with suppress(OSError):
            yield

    return patched(WritableFile, "_writing", writing)


@contextmanager
def lock_by_name() -> Iterator[None]:
    """The lock is on a file beside the trajectory, found by name."""

    mine: set[tuple[int, str]] = set()  # a process keeps its locks up to its end

    def free(path: Path, *, keep: bool) -> bool:
        name = f"{path}.lock"
        if (os.getpid(), name) in mine:
            return True
        fd = os.open(name, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if keep:
            mine.add((os.getpid(), name))
        else:
            os.close(fd)
        return True

    def acquire(fd: int, path: Path) -> None:  # noqa: ARG001
        if not free(path, keep=True):
            raise TrajectoryLockedError(f"{path} is being written by process 1;")

    def is_held(fd: int) -> bool:
        return not free(Path(f"/proc/self/fd/{fd}").readlink(), keep=False)

    with patched(lock, "acquire", acquire), patched(lock, "is_held", is_held):
        yield


def output_not_watched() -> AbstractContextManager[None]:
    return patched(WritableFile, "_follow", lambda self: Whereabouts(self._fd, self.path))


@contextmanager
def predictable_temporary_name() -> Iterator[None]:
    """The name of a temporary file is known before, and taken as it is there."""
    with (
        patched(whole, "temporary_name", lambda suffix="": f".prdsim.part{suffix}"),
        patched(whole, "_CREATE", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        yield


@contextmanager
def reader_without_boundary() -> Iterator[None]:
    """What a decoder raises for a user's data comes through."""
    with (
        patched(user_files, "reading", lambda path: nullcontext()),  # noqa: ARG005
        patched(idx, "reading", lambda path: nullcontext()),  # noqa: ARG005
    ):
        yield


def reader_that_crashes() -> AbstractContextManager[None]:
    """A user's data ends the process."""
    return patched(user_files, "reading", lambda path: os.abort())  # noqa: ARG005


def unchecked_content() -> AbstractContextManager[None]:
    """A trajectory's datasets and attributes are taken as they are."""
    return patched(container, "problems", lambda *_: ())


Bug = Callable[[], AbstractContextManager[None]]
BUGS: dict[Bug, tuple[Callable[[int, int], Report], int]] = {
    counter_before_data: (kills.campaign, 18),
    record_before_sync: (crashes.campaign, 100),
    commit_not_synced: (crashes.campaign, 100),
    folder_not_synced: (crashes.campaign, 100),
    unchecked_length: (errors.short_writes, 12),
    swallowed_error: (errors.campaign, 15),
    lock_by_name: (writers.campaign, 6),
    output_not_watched: (outputs.campaign, 9),
    predictable_temporary_name: (temporaries.campaign, 6),
    reader_without_boundary: (fuzz.kept, 78),
    reader_that_crashes: (fuzz.kept, 10),
    unchecked_content: (fuzz.forgeries, 40),
}
"""Each bug, and the campaign that finds it in so many cases."""


class Found(Exception):  # noqa: N818
    """A campaign found something broken."""


def is_found(bug: Bug, seed: int) -> bool:
    """Whether the campaign finds the bug, once it is in the product; it ends there."""

    def found(*_: object) -> None:
        raise Found

    campaign, count = BUGS[bug]
    world()  # by the sound product, as the examples are
    make_examples()
    with bug(), patched(Report, "add", found):
        try:
            campaign(count, seed)
        except Found:
            return True
    return False
