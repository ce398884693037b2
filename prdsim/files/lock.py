"""One writer per file: a lock on one byte of the file itself, far beyond its data.

It is an open-file-description lock (`F_OFD_SETLK`): it belongs to the open file, so no name, link
or rename leads around it, and it ends with the process, however that ends. HDF5's `flock` is a
lock of another kind and does not collide with it. Readers ask without taking it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prdsim.errors import OutputError, TrajectoryLockedError
from prdsim.files.foreign import ForeignFileError, open_regular_file

with suppress(ImportError):  # of a system that `posix.require_support` refuses
    import fcntl

_HAS_THESE_LOCKS = sys.platform == "linux"
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

    None: the file system has no locks, or another system has others.
    """
    if not _HAS_THESE_LOCKS:
        return None
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return None
    kind: int = _FLOCK.unpack(answer[: _FLOCK.size])[0]
    return kind != fcntl.F_UNLCK


@contextmanager
def folder_held(folder: Path) -> Iterator[bool]:
    """Hold a folder against others that ask for it, too; yield whether it was free.

    On a file system without locks it is taken for free.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:
            free = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
        yield free
    finally:
        os.close(fd)


def refuse_held(path: Path) -> None:
    """Raise `TrajectoryLockedError` if a file is a trajectory that is being written."""
    with suppress(OSError, ForeignFileError), open_regular_file(path) as file:  # else it is none
        if is_held(file.fileno()):
            raise _locked(file.fileno(), path)


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
        raise _locked(fd, path)


def _locked(fd: int, path: Path) -> TrajectoryLockedError:
    return TrajectoryLockedError(
        f"{path} is being written by {_holder(fd)}; wait for it, stop it, or choose another file"
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
