"""Forged trajectories: whole HDF5 files with right checksums that hold what no writer writes.

Each function changes a file in place, and then makes its checksums right where that is possible.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from prdsim.errors import TrajectoryError
from prdsim.files import posix
from prdsim.trajectory import commit
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap, read_map
from prdsim.trajectory.rows import read_rows, restart_crc, rolling_crc, unverified_restart


def attribute(path: Path, name: str, value: Any, *, of: str = "/") -> Path:
    """Give the file, or one of its objects, another attribute; None removes it."""
    with h5py.File(path, "r+", locking=False) as file:
        if value is None:
            del file[of].attrs[name]
        else:
            file[of].attrs[name] = value
    return seal(path)


def dataset(path: Path, name: str, data: Any = None, **creation: Any) -> Path:
    """Put another dataset into a place, contiguous unless `creation` says otherwise."""
    with h5py.File(path, "r+", locking=False) as file:
        attributes = {}
        if name in file:
            data = file[name][()] if data is None else data
            attributes = dict(file[name].attrs)
            del file[name]
        made = file.create_dataset(name, data=data, **creation)
        if "crc32" in attributes:
            made.attrs["crc32"] = zlib.crc32(np.ascontiguousarray(made[()]).tobytes())
    return seal(path)


def link(path: Path, name: str, target: Any) -> Path:
    """Put a link into a place: `h5py.SoftLink`, `h5py.ExternalLink`, or the name of an object."""
    with h5py.File(path, "r+", locking=False) as file:
        target = file[target] if isinstance(target, str) else target
        if name in file:
            del file[name]
        file[name] = target
    return seal(path)


def structure(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """Change the file through h5py in any way."""
    with h5py.File(path, "r+", locking=False) as file:
        change(file)
    return seal(path)


def record(path: Path, **changes: Any) -> Path:
    """Replace numbers of the newest commit record."""
    with path.open("r+b") as file:
        filemap = read_map(path, file.fileno())
        _write_record(filemap, file.fileno(), **changes)
    return path


def rows(path: Path, name: str, values: Any) -> Path:
    """Overwrite a column of /scalars, or of the index of /snapshots, for the committed rows."""
    group, _, column = name.partition("/")
    with path.open("r+b") as file:
        fd = file.fileno()
        filemap = read_map(path, fd)
        counts = {"scalars": "scalar_rows", "snapshots": "snapshot_rows"}
        count = getattr(_newest(filemap, fd), counts[group])
        table = read_rows(filemap, fd, group, slice(count))
        table[column] = values
        posix.pwrite(fd, np.ascontiguousarray(table[column]).tobytes(), filemap[name].offset)
        _write_record(filemap, fd, **{f"{group}_crc": rolling_crc(table)})
    return path


def restart(path: Path, **scalars: float) -> Path:
    """Replace numbers of the newest restart state; `step` and `time` too in the commit record."""
    with path.open("r+b") as file:
        fd = file.fileno()
        filemap = read_map(path, fd)
        slot = _newest(filemap, fd).restart_slot
        for name, value in scalars.items():
            extent = filemap[f"restart/{name}"]
            data = np.array(value, dtype=extent.dtype).tobytes()
            posix.pwrite(fd, data, extent.offset + slot * extent.row_bytes)
        _seal_restart(filemap, fd, slot)
        known = {f"restart_{n}": scalars[n] for n in ("step", "time") if n in scalars}
        _write_record(filemap, fd, **known)
    return path


def seal(path: Path) -> Path:
    """Make the checksum of the file's fixed part right, if the file can still be read so far."""
    with suppress(TrajectoryError), path.open("r+b") as file:
        filemap = read_map(path, file.fileno())
        _write_record(filemap, file.fileno(), fixed_crc=filemap.fixed_crc(file.fileno()))
    return path


def _newest(filemap: FileMap, fd: int) -> CommitRecord:
    found = commit.newest(filemap.read(fd, "commit/record").tobytes())
    assert found is not None
    return found


def _write_record(filemap: FileMap, fd: int, **changes: Any) -> None:
    """Write into both slots, so that none holds the truth."""
    old = _newest(filemap, fd)
    for sequence in (old.sequence - 1, old.sequence):
        if sequence >= 0:
            new = replace(old, **{"sequence": sequence, **changes})
            offset = filemap["commit/record"].offset + new.slot * commit.SLOT_BYTES
            posix.pwrite(fd, new.pack(), offset)


def _seal_restart(filemap: FileMap, fd: int, slot: int) -> None:
    extent = filemap["restart/crc32"]
    crc = restart_crc(unverified_restart(filemap, fd, slot)[0])
    data = np.array(crc, dtype=extent.dtype).tobytes()
    posix.pwrite(fd, data, extent.offset + slot * extent.row_bytes)
