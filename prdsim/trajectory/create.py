"""Creating a trajectory file: built whole under a temporary name, checked, then named."""

from __future__ import annotations

import glob
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from prdsim.errors import ConfigError, OutputError, TrajectoryLockedError
from prdsim.files import lock, posix
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap, create_container, read_map
from prdsim.trajectory.layout import DatasetSpec, Layout, changes

_LONGEST = 200  # bytes of a name that becomes part of another one


def check_target(path: Path, *, force: bool) -> None:
    """Refuse impossible outputs before any work is done.

    Raises:
        ConfigError: the path is a folder; or the file exists and `force` is not given.
        OutputError: the folder is missing, or the path is a device or a pipe.
    """
    with posix.output_errors("write", path):
        is_folder = path.is_dir()
        is_special = path.exists() and not path.is_file()
        exists = os.path.lexists(path)
        folder = path.parent.is_dir()
    if is_folder:
        raise ConfigError(f"{path} is a folder; give the output a file name, such as run.h5")
    if is_special:  # `--force` as root would replace even /dev/null
        raise OutputError(f"{path} is a device or a pipe; give the output a file name")
    if exists and not force:
        raise exists_error(path)
    if not folder:
        raise OutputError(f"{path.parent} is not a folder, or does not exist; make it first")


def exists_error(path: Path) -> ConfigError:
    """Return the error for an output that exists already."""
    return ConfigError(f"{path} exists; use --force to replace it, or another --output")


def build_and_publish(
    path: Path, layout: Layout, *, over: bool, locked: bool
) -> tuple[int, FileMap]:
    """Create a trajectory without rows; return its descriptor, with the writer's lock, and its map.

    The file is locked before it has its name, so that it is never another writer's. With `over`
    a file of that name is replaced, unless it is being written; `locked` is false on a file
    system without locks.

    Raises:
        ConfigError: the name is taken and `over` is false.
        TrajectoryLockedError: the file to be replaced is being written.
        OutputError: no space, no permission.
    """
    with (
        replaceable(path, locked=locked) as replaces,
        built_file(path, layout, locked=locked) as (temporary, filemap, fd),
    ):
        write_first_record(filemap, fd, CommitRecord())
        publish(temporary, path, over=over and replaces)
        return os.dup(fd), filemap  # the lock belongs to both


def publish(temporary: Path, path: Path, *, over: bool) -> None:
    """Give a built file its name; raises `ConfigError` if it is taken and `over` is false."""
    if over:
        posix.publish_over(temporary, path)
        return
    try:
        posix.publish_new(temporary, path)
    except FileExistsError:
        raise exists_error(path) from None


@contextmanager
def replaceable(path: Path, *, locked: bool) -> Iterator[bool]:
    """Hold the lock of a file that is to be replaced; yield whether there is one."""
    if not path.exists():
        yield False
        return
    with posix.output_errors("replace", path):
        fd = open_for_writing(path)
    try:
        if locked:
            lock.acquire(fd, path)
        yield True
    finally:
        os.close(fd)


def open_for_writing(path: Path) -> int:
    """Open an existing file for reading and writing."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def remove_strays(path: Path, fd: int | None = None) -> None:
    """Remove the temporary files of processes that were killed while creating `path`.

    Those of living processes are locked and stay, but for a second name of the file itself, open
    at `fd`, whose lock the caller holds: its creator was killed between naming and unlinking.
    """
    for stray in path.parent.glob(f".{glob.escape(_hidden(path))}.????????.tmp"):
        with suppress(OSError):  # its owner has just removed it, or nobody may here
            _remove_stray(stray, fd)


def _hidden(path: Path) -> str:
    """Return the middle of the names of temporary files of `path`, short enough for any disk."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST else f"{zlib.crc32(name):08x}"


def _remove_stray(stray: Path, own: int | None) -> None:
    fd = open_for_writing(stray)
    try:
        is_own = own is not None and os.path.samestat(os.fstat(fd), os.fstat(own))
        if is_own or lock.try_acquire(fd):
            stray.unlink()
    finally:
        os.close(fd)


def new_temporary(path: Path, *, locked: bool) -> tuple[Path, int]:
    """Create an empty file under an unpredictable name next to `path`; return name, descriptor.

    It is locked as a writer locks its file, which keeps it from `remove_strays`.
    """
    while True:
        temporary = path.with_name(f".{_hidden(path)}.{secrets.token_hex(4)}.tmp")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if not locked:
            return temporary, fd
        try:
            lock.acquire(fd, path)
            if os.fstat(fd).st_nlink:
                return temporary, fd
        except TrajectoryLockedError:
            pass
        except BaseException:
            os.close(fd)
            with suppress(OSError):  # it would hide the original error
                temporary.unlink(missing_ok=True)
            raise
        os.close(fd)  # someone has taken it for a stray


@contextmanager
def built_file(path: Path, layout: Layout, *, locked: bool) -> Iterator[tuple[Path, FileMap, int]]:
    """Build the file under a temporary name next to `path`: temporary path, map, descriptor.

    The file is complete except for a commit record; the temporary name is removed at the end,
    whatever happens.
    """
    if locked:
        remove_strays(path)
    posix.require_support()
    posix.require_space(path, layout.nbytes())
    with posix.output_errors("create", path):
        temporary, fd = new_temporary(path, locked=locked)
    try:
        with posix.output_errors("create", path):
            specs = layout.datasets()
            fixed = _contents(layout, specs)
            checksums = {name: zlib.crc32(posix.as_bytes(array)) for name, array in fixed.items()}
            create_container(temporary, layout, specs, checksums)
            filemap = read_map(temporary, fd)
            posix.allocate(fd, path, filemap.size)
            for name, array in fixed.items():
                posix.pwrite(fd, posix.as_bytes(array), filemap[name].offset)
            for name in ("scalars/step", "snapshots/step", "restart/step"):
                empty = np.full(filemap[name].shape, -1, dtype="<i8")
                posix.pwrite(fd, posix.as_bytes(empty), filemap[name].offset)
            yield temporary, filemap, fd
    finally:
        os.close(fd)
        with suppress(OSError):  # it would hide the original error
            temporary.unlink()


def write_first_record(filemap: FileMap, fd: int, record: CommitRecord) -> None:
    """Complete a built file with its commit record and wait until it is on the disk."""
    record = replace(record, fixed_crc=filemap.fixed_crc(fd))
    page = record.pack()
    posix.pwrite(fd, page, filemap["commit/record"].offset + record.slot * len(page))
    os.fsync(fd)


def _contents(layout: Layout, specs: list[DatasetSpec]) -> dict[str, np.ndarray]:
    """Return the data of every dataset that is written once."""
    arrays: dict[str, np.ndarray] = {
        "schedule/snapshots": np.asarray(layout.snapshot_plan),
        "schedule/scalars": np.asarray(layout.scalar_plan),
        **layout.fixed_arrays,
    }
    return {
        spec.path: np.ascontiguousarray(
            arrays.get(spec.path, np.arange(spec.shape[0])), dtype=spec.dtype
        )
        for spec in specs
        if not changes(spec.path)
    }
