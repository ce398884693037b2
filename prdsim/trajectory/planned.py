"""The rows of one table of a trajectory, in the order of the run's plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, PrdsimError, ResumeMismatchError
from prdsim.trajectory.rows import ascend


class PlannedRows:
    """The rows of /scalars or of the snapshots' index: planned, committed, pending.

    Committed rows are in the file; only their keys are kept here, steps or times as in the plan
    (8 bytes a row), and the pending ones, which the next commit writes or counts.
    """

    def __init__(
        self, name: str, path: Path, planned: np.ndarray, keys: np.ndarray, row_type: np.dtype
    ) -> None:
        self.name = name
        self.key = "time" if planned.dtype.kind == "f" else "step"
        self._path = path
        if not ascend(keys, strictly=True):
            raise DamagedTrajectoryError(
                f"{path} is damaged: the {self.key}s of the committed {name} do not ascend; "
                "restore it from a copy"
            )
        self._planned = planned
        self._row_type = row_type
        self._keys = np.zeros(len(planned), dtype=planned.dtype)
        self._keys[: len(keys)] = keys
        self._done = len(keys)
        self._pending: list[tuple[object, ...]] = []

    @property
    def committed(self) -> int:
        """The number of rows that count."""
        return self._done

    @property
    def total(self) -> int:
        """The number of rows that count, or will from the next commit on."""
        return self._done + len(self._pending)

    @property
    def pending(self) -> np.ndarray:
        """The rows that the next commit will count."""
        return np.array(self._pending, dtype=self._row_type)

    def place(self, step: int, time: float) -> int:
        """Return the row for a step, or a time: a committed one, or else the next free one.

        Raises:
            ResumeMismatchError: the file has later rows but not this one.
            PrdsimError: a planned row was left out or written twice (a fault in the caller).
        """
        key, free = time if self.key == "time" else step, self.total
        written = self._keys[:free]
        place = int(np.searchsorted(written, key))
        if place < self._done and written[place] == key:
            return place
        if self._done and key <= (last := written[self._done - 1]):
            raise ResumeMismatchError(
                f"the resumed run records {self.name} at {self.key} {key}, which {self._path} "
                f"lacks although it reaches {self.key} {last}; it is not the same run"
            )
        if place < free or free == len(self._planned) or key > self._planned[free]:
            raise PrdsimError(f"{self.name} at {self.key} {key} are out of the planned order")
        return free

    def add(self, row: tuple[object, ...]) -> None:
        """Note a row, step first, that the next commit will count."""
        names = self._row_type.names or ()
        self._keys[self.total] = row[names.index(self.key)]
        self._pending.append(row)

    def commit(self) -> None:
        """Count the pending rows."""
        self._done = self.total
        self._pending.clear()

    def keep(self, count: int) -> None:
        """Forget all rows but the first `count`, committed ones."""
        self._done = count
        self._pending.clear()
