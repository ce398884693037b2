"""The map of a file that lost its end, as an interrupted copy leaves it.

HDF5 refuses such a file, but its map stands at the beginning: it is shown the bytes that are
there, and zeros for those that are missing.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

from prdsim.errors import DamagedTrajectoryError, PrdsimError
from prdsim.trajectory.container import FileMap, map_of, read_map

_END_OF_FILE = struct.Struct("<28xQ")  # its place in the superblock, version 2


def read_map_of_rest(path: Path, file: Any) -> FileMap:
    """Read the map of an open file, even if the file is truncated; raises as `read_map`."""
    fd = file.fileno()
    start = os.pread(fd, _END_OF_FILE.size, 0)
    size = _END_OF_FILE.unpack(start)[0] if len(start) == _END_OF_FILE.size else 0
    if size <= os.fstat(fd).st_size:
        return read_map(path, fd)
    import h5py

    try:
        with h5py.File(_Padded(fd, size), "r") as padded:
            return map_of(path, size, padded)
    except (PrdsimError, MemoryError):
        raise
    except Exception as error:  # HDF5 and h5py may raise anything for the remaining bytes
        raise DamagedTrajectoryError(
            f"{path} is truncated or damaged so that HDF5 cannot read its structure; nothing in it "
            "can be saved: restore it from a copy"
        ) from error


class _Padded(io.RawIOBase):
    """An open file, with zeros up to its former size."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size, self._position = fd, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self._fd, len(view), self._position)
        view[:] = data.ljust(len(view), b"\0")
        self._position += len(view)
        return len(view)
