"""The bytes that checksums cover, defined once for the writer and the reader."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from prdsim.errors import DamagedTrajectoryError
from prdsim.files import posix
from prdsim.physics.state import RestartPoint
from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap
from prdsim.trajectory.layout import scalar_columns

#: One row of the snapshots' index.
SNAPSHOT_ROW = np.dtype([("step", "<i8"), ("time", "<f8"), ("crc32", "<u4", (len(ARRAYS),))])

_POINT = struct.Struct("<qd")
_ROWS = 1 << 14  # read at once


def row_type(filemap: FileMap, group: str) -> np.dtype:
    """Return the type of a row of /scalars, in declared order, or of the snapshots' index."""
    if group != "scalars":
        return SNAPSHOT_ROW
    step, *numbers = scalar_columns(filemap.version)
    return np.dtype([(step, "<i8"), *((name, "<f8") for name in numbers)])


def restart_crc(point: RestartPoint) -> int:
    """Return the checksum of a whole restart slot."""
    crc = zlib.crc32(_POINT.pack(point.step, point.time))
    for value in point.scalars.values():
        crc = zlib.crc32(struct.pack("<d", value), crc)
    for array in point.arrays.values():
        crc = zlib.crc32(posix.as_bytes(array), crc)
    return crc


def array_crc(step: int, time: float, array: np.ndarray) -> int:
    """Return the checksum of one weight array of a snapshot."""
    return zlib.crc32(posix.as_bytes(array), zlib.crc32(_POINT.pack(step, time)))


def ascend(values: np.ndarray, *, strictly: bool = False) -> bool:
    """Whether steps or times begin at 0 or later, are finite, and none is before the last."""
    if not len(values):
        return True
    gaps = values[1:] > values[:-1] if strictly else values[1:] >= values[:-1]
    return bool(values[0] >= 0 and values[-1] < np.inf and gaps.all())


def rolling_crc(rows: np.ndarray, crc: int = 0) -> int:
    """Return the running checksum of rows (see `row_type`) appended to others."""
    return zlib.crc32(rows.tobytes(), crc)


def read_rows(filemap: FileMap, fd: int, group: str, rows: slice) -> np.ndarray:
    """Return a range of rows of /scalars or of the snapshots' index, without checks."""
    kind = row_type(filemap, group)
    columns = {name: filemap.read(fd, f"{group}/{name}", rows) for name in kind.names or ()}
    found = np.empty(len(columns["step"]), dtype=kind)
    for name, column in columns.items():
        found[name] = column
    return found


def read_scalars(filemap: FileMap, fd: int, record: CommitRecord) -> np.ndarray:
    """Return the committed rows of /scalars; raises `DamagedTrajectoryError` for others."""
    rows = read_rows(filemap, fd, "scalars", slice(record.scalar_rows))
    if rolling_crc(rows) != record.scalars_crc or not ascend(rows["step"]):
        raise DamagedTrajectoryError(
            f"the scalars in {filemap.path} are damaged (their checksum fails); "
            "the snapshots can still be read, else restore the file from a copy"
        )
    return rows


def crc_of_rows(filemap: FileMap, fd: int, group: str, count: int) -> int:
    """Return the running checksum of the first `count` rows, read piece by piece."""
    crc = 0
    for start in range(0, count, _ROWS):
        crc = rolling_crc(
            read_rows(filemap, fd, group, slice(start, min(start + _ROWS, count))), crc
        )
    return crc


def read_snapshot(
    filemap: FileMap, fd: int, index: np.ndarray, row: int, name: str
) -> np.ndarray | None:
    """Return one array of a snapshot, or None if its checksum fails, which covers step and time.

    `index` holds the rows of the snapshots' index, unverified.
    """
    array: np.ndarray = filemap.read(fd, f"snapshots/{name}", slice(row, row + 1))[0]
    step, time = int(index["step"][row]), float(index["time"][row])
    crc = index["crc32"][row][ARRAYS.index(name)]
    return array if array_crc(step, time, array) == crc else None


def read_restart_slot(filemap: FileMap, fd: int, slot: int) -> RestartPoint | None:
    """Return the restart point in a slot, or None if its checksum fails."""
    point, crc = unverified_restart(filemap, fd, slot)
    return point if restart_crc(point) == crc else None


def unverified_restart(filemap: FileMap, fd: int, slot: int) -> tuple[RestartPoint, int]:
    """Return what a restart slot holds, and its checksum."""

    def value(name: str) -> np.ndarray:
        array: np.ndarray = filemap.read(fd, f"restart/{name}", slice(slot, slot + 1))[0]
        return array

    point = RestartPoint(
        step=int(value("step")),
        time=float(value("time")),
        arrays={name: value(name) for name in filemap.restart_arrays},
        scalars={name: float(value(name)) for name in filemap.restart_scalars},
    )
    return point, int(value("crc32"))
