"""The rows of one table of a trajectory, in the order of the run's plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prdsim.errors import DamagedTrajectoryError, PrdsimError, ResumeMismatchError
from prdsim.schedule import is_by_time
from prdsim.trajectory.rows import ascend


class PlannedRows:
    """The rows of /scalars or of the snapshots' index: planned, written, committed."""

    def __init__(self, name: str, path: Path, planned: np.ndarray, committed: np.ndarray) -> None:
        self.name = name
        self._path = path
        self._planned = planned.tolist()
        self._key = "time" if is_by_time(self._planned) else "step"
        self._places = {key: k for k, key in enumerate(committed[self._key].tolist())}
        self._rows = np.empty(len(planned), dtype=committed.dtype)
        self._rows[: len(committed)] = committed
        self._done = len(committed)
        if len(self._places) < self._done or not ascend(committed[self._key]):
            raise DamagedTrajectoryError(
                f"{path} is damaged: the {self._key}s of the committed {name} do not ascend; "
                "restore it from a copy"
            )

    @property
    def committed(self) -> np.ndarray:
        """The rows that count."""
        return self._rows[: self._done]

    @property
    def pending(self) -> np.ndarray:
        """The rows that the next commit will count."""
        return self._rows[self._done : len(self._places)]

    def place(self, step: int, time: float) -> int:
        """Return the row for a step, or a time: a committed one, or else the next free one.

        Raises:
            ResumeMismatchError: the file has later rows but not this one.
            PrdsimError: a planned row was left out or written twice (a fault in the caller).
        """
        name, key = self._key, time if self._key == "time" else step
        done, free = self._done, len(self._places)
        if key in self._places and self._places[key] < done:
            return self._places[key]
        last = self.committed[name][-1].item() if done else -1
        if key <= last:
            raise ResumeMismatchError(
                f"the resumed run records {self.name} at {name} {key}, which {self._path} lacks "
                f"although it reaches {name} {last}; it is not the same run"
            )
        if key in self._places or free == len(self._planned) or key > self._planned[free]:
            raise PrdsimError(f"{self.name} at {name} {key} are out of the planned order")
        return free

    def add(self, row: tuple[object, ...]) -> None:
        """Note a row, step first, that the next commit will count."""
        free = len(self._places)
        self._rows[free] = row
        self._places[self._rows[self._key][free].item()] = free

    def commit(self) -> None:
        """Count the pending rows."""
        self._done = len(self._places)
