"""Arrays of a trajectory that are read on access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap


class Snapshots(Protocol):
    """The source of snapshots: an open `Trajectory`."""

    path: Path
    _map: FileMap
    _record: CommitRecord

    def _read_snapshot(self, name: str, row: int) -> np.ndarray: ...

    def _mapped(self, name: str) -> np.ndarray: ...


class SnapshotArray:
    """One weight array over the committed snapshots, read when indexed; always returns copies.

    `array[k]`, `array[2:5]`, `array[[0, -1]]` read whole snapshots and verify their checksums.
    Any further index, as in `array[:, 5, :]`, reads that part only and verifies nothing.
    """

    def __init__(self, trajectory: Snapshots, name: str) -> None:
        self._trajectory = trajectory
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """(snapshots, *shape of the array)."""
        filemap = self._trajectory._map
        return (len(self), *filemap[f"snapshots/{self.name}"].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The snapshots' precision."""
        return self._trajectory._map[f"snapshots/{self.name}"].dtype

    @property
    def ndim(self) -> int:
        """Number of axes, the snapshots' included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self._trajectory._record.snapshot_rows

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return snapshots or parts of them.

        Raises `DamagedTrajectoryError` if a whole snapshot's checksum fails.
        """
        if isinstance(key, tuple):
            part: np.ndarray = np.array(self._trajectory._mapped(self.name)[key])
            return part
        rows = np.arange(len(self))[key]
        if np.ndim(rows) == 0:
            return self._trajectory._read_snapshot(self.name, int(rows))
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(rows):
            out[place] = self._trajectory._read_snapshot(self.name, int(row))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("snapshots are read from the file: an array is always a copy")
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.shape} {self.dtype} of {self._trajectory.path}>"


class NamedArrays(Mapping[str, np.ndarray]):
    """Named arrays, read on access."""

    def __init__(self, names: list[str], read: Callable[[str], np.ndarray]) -> None:
        self._names = names
        self._read = read

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<arrays {', '.join(self._names)}>"
