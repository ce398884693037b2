"""Output files other than trajectories: written whole or not at all, replaced only by request.

A file is written under a random name next to its own, which it gets when it is on the disk. Until
then, whatever happens, nothing is under that name, or the former file. Two things can go wrong
later: SIGKILL and the loss of power may leave the temporary file (``.prdsim-<random>.part``), and
a folder that cannot be synced may hold the new file already when the error is raised.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prdsim.errors import ConfigError, OutputError
from prdsim.files import lock, posix
from prdsim.files.stopping import StopByException

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file; see `whole_file` for what is promised and raised."""
    with whole_file(path, force=force) as (_, fd):
        posix.pwrite(fd, content, 0)


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[tuple[Path, int]]:
    """Yield an empty temporary file, its path and a descriptor, that becomes ``path`` at the end.

    The block fills it, by descriptor or by name (which has the suffix of ``path``), without
    replacing it. With ``force`` it replaces an existing file, and has its permissions; of a
    symbolic link, the file that the link points to. Another hard link keeps the former content.
    SIGINT, SIGTERM and SIGHUP raise exceptions meanwhile, so that nothing is left behind.

    Raises `OutputError` if the file cannot be written, also for an `OSError` of the block; and what
    `check_name` raises, at the beginning, or if a file has appeared under the name meanwhile.
    """
    check_name(path, force=force)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(temporary_name(path.suffix))
    fd = -1
    with StopByException(), posix.output_errors("write", path):
        try:
            former = _permissions(target)
            # Nobody who could not read the former file can read the new one.
            fd = os.open(temporary, _CREATE, 0o666 if former is None else 0o600)
            yield temporary, fd
            if former is not None:
                os.fchmod(fd, former)
            os.fsync(fd)
            if force:
                posix.publish_over(temporary, target)
            else:
                _publish_new(temporary, target, path)
        finally:
            with suppress(OSError):  # they would hide the original error
                temporary.unlink(missing_ok=True)
            with suppress(OSError):
                if fd >= 0:
                    os.close(fd)


def temporary_name(suffix: str = "") -> str:
    """Return a name that nobody can foresee: no link can be planted under it."""
    return f".prdsim-{secrets.token_hex(8)}.part{suffix}"


def _publish_new(temporary: Path, target: Path, shown: Path) -> None:
    try:
        posix.publish_new(temporary, target)
    except FileExistsError:
        raise _exists(shown) from None


def _permissions(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return None


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists; name another, or give --force to overwrite it")


def check_name(path: Path, *, force: bool) -> None:
    """Refuse the name of an output that cannot be written, before any work is done.

    Raises:
        ConfigError: it is a folder, or exists (be it as a link that points nowhere) without
            ``force``.
        OutputError: there is no folder for it, or it is a device or a pipe, such as /dev/stdout:
            written under a temporary name, the file would replace that.
        TrajectoryLockedError: it is a trajectory that is being written.
    """
    with posix.output_errors("write", path):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a device or a pipe; name a file")
        if os.path.lexists(path) and not force:
            raise _exists(path)
        lock.refuse_held(path)
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            shown = folder if path.is_symlink() else path.parent
            raise OutputError(f"cannot write {path}: the folder {shown} does not exist")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise `ConfigError` if an output is one of the files that are read, by whatever name."""
    inputs = list(inputs)
    for output in outputs:
        for path in inputs:
            with posix.output_errors("write", output), suppress(FileNotFoundError):
                if output.samefile(path):
                    also = "" if output == path else f" is {path}, which"
                    raise ConfigError(f"{output}{also} is read here; name another output")
