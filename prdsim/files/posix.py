"""The system calls behind a crash-safe file, in one place.

Failures raise `OutputError` with one clear line. Systems that lack a call are refused before
anything is written (`require_support`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, OutputError
from prdsim.files.small import size_text

try:
    import fcntl

    _HAS_LOCKS = hasattr(fcntl, "F_OFD_SETLK")
except ImportError:  # not a POSIX system
    _HAS_LOCKS = False

_NEEDED = ("posix_fallocate", "fdatasync", "pwrite", "preadv")
_PROBE_BYTES = 1 << 20  # more than HDF5's metadata takes

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_RENAME_NEW = (errno.EINVAL, errno.ENOSYS)
_NO_FLOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# CIFS and vboxsf answer so. A bad descriptor (EBADF) would be a fault of ours, and is one.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP)

_AT_FDCWD = -100  # relative to the working folder
_RENAME_NOREPLACE = 1


def require_support() -> None:
    """Refuse systems without the calls that make a commit safe, by an `OutputError` with those."""
    missing = [name for name in _NEEDED if not hasattr(os, name)]
    missing += [] if _HAS_LOCKS else ["F_OFD_SETLK"]
    if missing:
        raise OutputError(
            f"this system cannot write trajectories safely: it lacks {', '.join(missing)}; "
            "run prdsim on Linux"
        )


@contextmanager
def output_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError "cannot <action> <path>: <reason>"."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot {action} {path}: {reason}") from error


def _too_large(path: Path, wanted: int, error: OSError | None = None) -> OutputError:
    if error is not None and error.errno == errno.EFBIG:
        return OutputError(
            f"{path} would take {size_text(wanted)}, more than one file may have here "
            "(ulimit -f, or the file system's limit); record fewer snapshots"
        )
    free = size_text(shutil.disk_usage(path.parent).free)
    return OutputError(
        f"{path} would take {size_text(wanted)}, but only {free} are free in {path.parent}; "
        "record fewer snapshots, use snapshot_precision = float32, or choose another disk"
    )


def require_space(path: Path, wanted: int) -> None:
    """Refuse a file that the disk cannot hold, before it is created.

    HDF5 can crash the process when its own writes meet a full disk or a file-size limit, so both
    are tried on an unnamed file first. Raises `OutputError` with the bytes wanted and free.
    """
    if shutil.disk_usage(path.parent).free < wanted:
        raise _too_large(path, wanted)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            os.ftruncate(probe.fileno(), wanted)
            os.posix_fallocate(probe.fileno(), 0, min(wanted, _PROBE_BYTES))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise _too_large(path, wanted, error) from error
        raise OutputError(f"cannot write in {path.parent}: {error.strerror}") from error


def allocate(fd: int, path: Path, size: int) -> None:
    """Give every byte of the file a place on the disk, so that no later write runs out of space.

    Raises `OutputError` if the disk is too small, or the file system cannot reserve space.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise _too_large(path, size, error) from error
        raise OutputError(
            f"the file system of {path.parent} cannot reserve space ({error.strerror}); "
            "choose an output on another one"
        ) from error


def as_bytes(array: np.ndarray) -> memoryview:
    """Return a contiguous array's bytes without a copy."""
    return array.reshape(-1).view(np.uint8).data


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; the system may take it in several pieces."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def pread(fd: int, out: np.ndarray, offset: int, path: Path) -> None:
    """Fill the contiguous array `out` from `offset`.

    Raises `DamagedTrajectoryError` if the file is too short, or the disk cannot read it.
    """
    view = as_bytes(out)
    while view:
        try:
            count = os.preadv(fd, [view], offset)
        except OSError as error:
            raise DamagedTrajectoryError(
                f"cannot read {path} at byte {offset}: {error.strerror}; check the disk"
            ) from error
        if count == 0:
            raise DamagedTrajectoryError(
                f"{path} ends at byte {offset}, before the end of its data; restore it from a copy"
            )
        view, offset = view[count:], offset + count


def fdatasync(fd: int) -> None:
    """Wait until the file's data are on the disk."""
    os.fdatasync(fd)


def fsync_folder(folder: Path) -> None:
    """Wait until the folder's entries (a new or renamed file) are on the disk.

    File systems without this call are taken as they are: there is nothing better to do there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def publish_new(temporary: Path, path: Path) -> None:
    """Give the finished file its name; never replaces one, but raises `FileExistsError`.

    The file stays the same one (inode), as it is open or locked elsewhere. A failure leaves nothing
    under the new name.

    Raises `OutputError` if the file system can give a name only by replacing another, `OSError`
    for its other failures.
    """
    # Renamed rather than linked where possible: a descriptor's name in /proc then follows.
    if not rename_new(temporary, path):
        _link_new(temporary, path)
    try:
        fsync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # it would hide the original error
            path.unlink()
        raise


def rename_new(temporary: Path, path: Path) -> bool:
    """Rename a file unless the new name is taken (`FileExistsError`), in one call.

    Return whether the system can do so.
    """
    names = (_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path))
    try:
        failed = ctypes.CDLL(None, use_errno=True).renameat2(*names, _RENAME_NOREPLACE)
    except AttributeError:  # an old C library
        return False
    code = ctypes.get_errno() if failed else 0
    if code in _NO_RENAME_NEW:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(temporary), None, str(path))
    return True


def _link_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise OutputError(
            f"the file system of {path.parent} has neither a rename that replaces nothing nor "
            f"hard links ({error.strerror}): {path} could replace another file; "
            "choose an output on another one, or give --force"
        ) from error
    try:
        temporary.unlink(missing_ok=True)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def publish_over(temporary: Path, path: Path) -> None:
    """Give the finished file its name, replacing any other; readers of that one keep it open.

    Raises `OSError`. If the folder cannot be synced the file has its name already, whole.
    """
    temporary.replace(path)
    fsync_folder(path.parent)


def try_share_with_hdf5(fd: int) -> bool:
    """Take the shared `flock` with which HDF5 refuses programs that would write to the file.

    Return whether no program has it open for writing, as far as the file system tells.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # without it HDF5 does not lock either
        if error.errno not in _NO_FLOCK:
            raise
    return True
