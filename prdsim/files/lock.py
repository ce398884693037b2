"""One writer per file: a lock on one byte of the file itself, far beyond its data.

It is an open-file-description lock (`F_OFD_SETLK`): it belongs to the open file, so no name, link
or rename leads around it, and it ends with the process, however that ends. HDF5's `flock` is a
lock of another kind and does not collide with it. Readers ask without taking it.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

from prdsim.errors import OutputError, TrajectoryLockedError

with suppress(ImportError):  # of a system that `posix.require_support` refuses
    import fcntl

_BYTE = 1 << 62
_FLOCK = struct.Struct("@hhqqi4x")  # type, whence, start, length, process (0 for these locks)


def try_acquire(fd: int) -> bool:
    """Lock the file open for writing at `fd` until it is closed; return whether it was free.

    Raises `OSError` if the file system has no locks.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
        return False
    return True


def is_held(fd: int) -> bool | None:
    """Whether another open file holds the lock of the file at `fd`; takes nothing.

    None: the file system has no locks.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return None
    kind: int = _FLOCK.unpack(answer[: _FLOCK.size])[0]
    return kind != fcntl.F_UNLCK


def acquire(fd: int, path: Path) -> None:
    """Take the writer's lock of a file.

    Raises `TrajectoryLockedError` if another process has it, `OutputError` on a file system
    without locks.
    """
    try:
        free = try_acquire(fd)
    except OSError as error:
        raise OutputError(
            f"the file system of {path} has no locks ({error.strerror}); if nothing else writes "
            "this file, give --no-lock"
        ) from error
    if not free:
        raise TrajectoryLockedError(
            f"{path} is being written by {_holder(fd)}; "
            "wait for it, stop it, or choose another file"
        )


def _holder(fd: int) -> str:
    """Name the process of this machine that holds the lock, as far as it may be seen."""
    wanted = os.fstat(fd)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for entry in (process / "fdinfo").iterdir():
                opened = process / "fd" / entry.name
                if os.path.samestat(opened.stat(), wanted) and "OFDLCK" in entry.read_text():
                    return f"process {process.name}"
        except OSError:  # ended meanwhile, or another user's
            continue
    return "another process"
