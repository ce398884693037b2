"""Where the file that a writer has open is now: it may have been renamed, replaced, deleted."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prdsim.errors import OutputError
from prdsim.files import posix
from prdsim.trajectory.create import new_temporary
from prdsim.words import shell_word

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Whereabouts:
    """The descriptor to write to, and the name of its file.

    ``note`` tells what happened to the former name, if anything did; ``last`` that the run
    should not go on at this place.
    """

    fd: int
    path: Path
    note: str = ""
    last: bool = False


def follow(fd: int, path: Path, *, locked: bool) -> Whereabouts:
    """Find the file at `fd`, known as `path`; without a name it is given one, or is copied.

    A copy has its own descriptor, locked like the other if `locked`. Raises `OutputError` if the
    file has no name left and no copy can be made.
    """
    if names(path, fd):
        return Whereabouts(fd, path)
    with suppress(OSError):
        present = Path(f"/proc/self/fd/{fd}").readlink()
        if names(present, fd):
            note = f"{path} was renamed while it was written; the run goes on as {present}"
            return Whereabouts(fd, present, note)
    return _saved(fd, path, locked=locked)


def names(path: Path, fd: int) -> bool:
    """Return whether a path leads to the file at `fd`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except OSError:
        return False


def _saved(fd: int, path: Path, *, locked: bool) -> Whereabouts:
    """Save a file that has lost its name: under it, next to it, or where there is room."""
    happened = (
        f"{path} was {'replaced' if os.path.lexists(path) else 'deleted'} while it was written"
    )
    reason = ""
    for name, last in _places(path):
        try:
            found = _linked(fd, name) or _copied(fd, name, locked=locked)
        except (OSError, OutputError) as error:
            reason = reason or getattr(error, "strerror", None) or str(error)
            continue
        note = f"{happened}; the run goes on as {name}"
        if last:
            note = (
                f"{happened}, and its folder takes no other ({reason}); the run stops, saved as "
                f"{name}: continue it with prdsim resume {shell_word(name)}"
            )
        return Whereabouts(found, name, note, last)
    raise OutputError(f"{happened}, and no copy could be saved: {reason}")


def _places(path: Path) -> Iterator[tuple[Path, bool]]:
    """Names to save a file under, best first, and whether the run should stop there."""
    other = f"{path.stem}-{secrets.token_hex(3)}{path.suffix}"
    if not os.path.lexists(path):
        yield path, False
    yield path.with_name(other), False
    with suppress(OSError):  # the working folder may be gone as well
        yield Path.cwd() / other, True
    yield Path(tempfile.gettempdir()) / other, True


def _linked(fd: int, name: Path) -> int | None:
    """Name a file that has a name somewhere, or return None if the system does not allow it."""
    if os.fstat(fd).st_nlink == 0:  # Linux never names such a file again
        return None
    try:
        opened = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        try:  # relative to a folder, for only then Python lets the system follow the link
            os.link(str(fd), name, src_dir_fd=opened, follow_symlinks=True)
        finally:
            os.close(opened)
    except FileExistsError:
        raise
    except OSError:
        return None
    posix.fsync_folder(name.parent)
    return fd


def _copied(fd: int, name: Path, *, locked: bool) -> int:
    temporary, copy = new_temporary(name, locked=locked)
    try:
        size = os.fstat(fd).st_size
        posix.allocate(copy, name, size)
        for offset in range(0, size, _CHUNK):
            posix.pwrite(copy, os.pread(fd, _CHUNK, offset), offset)
        os.fsync(copy)
        posix.publish_new(temporary, name)
    except BaseException:
        os.close(copy)
        with suppress(OSError):  # it would hide the original error
            temporary.unlink(missing_ok=True)
        raise
    return copy
