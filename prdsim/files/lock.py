"""One writer per trajectory: an exclusive lock on the sidecar `<name>.lock`.

The lock belongs to the open file, so it ends with the process, however that ends; a sidecar left
behind by a killed run means nothing. Readers never take it.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from prdsim.errors import OutputError, TrajectoryError, TrajectoryLockedError
from prdsim.files import posix

# A reader's probe holds the lock for microseconds: a writer that meets it tries again.
_ATTEMPTS = 10
_PAUSE = 0.02  # seconds


def sidecar(path: Path) -> Path:
    """Return the lock file's path."""
    return path.with_name(path.name + ".lock")


def _is_current(fd: int, path: Path) -> bool:
    """Whether the open sidecar still has its name (its owner may unlink it)."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _try_acquire(path: Path) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if posix.try_lock(fd, exclusive=True) and _is_current(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


class WriterLock:
    """A held lock; `close`, or the end of the process, gives it back."""

    def __init__(self, trajectory: Path) -> None:
        """Take the lock of a trajectory.

        Raises `TrajectoryLockedError` if another writer holds it, `OutputError` without permission,
        or on a file system without locks.
        """
        posix.require_support()
        self._path = sidecar(trajectory)
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE)
            with posix.output_errors("lock", self._path):
                fd = _try_acquire(self._path)
            if fd is not None:
                break
        else:
            raise TrajectoryLockedError(
                f"{trajectory} is being written by {_owner(self._path)}; "
                "wait for it, stop it, or choose another file"
            )
        self._fd = fd
        with suppress(OSError):  # only for the message above; a full disk may refuse it
            os.ftruncate(fd, 0)
            posix.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        """Remove the sidecar and give the lock back."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        # Unlinked while locked: a process that opened it meanwhile sees that it lost its name.
        with suppress(OSError):
            self._path.unlink()
        os.close(fd)


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"


def is_locked(trajectory: Path) -> bool:
    """Whether a writer is alive; does not affect its lock.

    Raises `TrajectoryError` if the sidecar exists but cannot be examined.
    """
    path = sidecar(trajectory)
    while True:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TrajectoryError(
                f"cannot determine whether {trajectory} is being written: {path}: {error.strerror}"
            ) from error
        try:
            posix.require_support()
            if not posix.try_lock(fd, exclusive=False):
                return True
            if _is_current(fd, path) or not path.exists():
                return False
        except OSError as error:
            raise OutputError(f"cannot examine the lock {path}: {error.strerror}") from error
        finally:
            os.close(fd)
