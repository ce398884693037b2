"""A damaged file, and what its checksums verify; it is only read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.errors import DamagedTrajectoryError
from prdsim.files import posix
from prdsim.physics.state import RestartPoint
from prdsim.symbols import ARRAYS
from prdsim.trajectory import commit
from prdsim.trajectory.check import check_content, check_recovery, holds, rows_hold, whole_points
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.container import FileMap
from prdsim.trajectory.rows import read_rows, read_snapshot

Again = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
"""Computes arrays that are written once, by path, from a file's attributes."""


class Salvage:
    """The damaged file, and what its checksums verify."""

    def __init__(self, path: Path, filemap: FileMap, fd: int, again: Again) -> None:
        self.path, self.map, self.fd = path, filemap, fd
        self._compute = again
        try:
            pages = filemap.read(fd, "commit/record").tobytes()
        except DamagedTrajectoryError:
            pages = bytes(commit.SLOTS * commit.SLOT_BYTES)
        record = commit.newest(pages)
        self.record = record if record and self._fits(record) else None
        halves = (pages[: commit.SLOT_BYTES], pages[commit.SLOT_BYTES :])
        claims = (commit.claimed(page) for page in halves)
        self._claims = [claim for claim in claims if claim and self._fits(claim)]

    def _fits(self, record: CommitRecord) -> bool:
        counts = {"scalars": record.scalar_rows, "snapshots": record.snapshot_rows}
        return all(n <= self.map[f"{name}/step"].shape[0] for name, n in counts.items())

    def is_damaged(self) -> bool:
        """Whether anything is lost."""
        if self.record is None:
            return True
        problems = check_content(self.map, self.fd, self.record)
        problems += check_recovery(self.map, self.fd, lambda: False)
        return any(problem.is_damage for problem in problems)

    def _verified(self, group: str) -> int:
        """Return the largest count of rows that a running checksum verifies."""
        counts = [
            (claim.scalar_rows, claim.scalars_crc)
            if group == "scalars"
            else (claim.snapshot_rows, claim.snapshots_crc)
            for claim in self._claims
        ]
        found = [n for n, crc in counts if rows_hold(self.map, self.fd, group, n, crc)]
        return max(found, default=0)

    def written(self, group: str) -> np.ndarray:
        """Return the steps of all rows that seem written, unverified."""
        try:
            steps = self.map.read(self.fd, f"{group}/step")
        except DamagedTrajectoryError:
            return np.empty(0, dtype=np.int64)
        if self.record is not None:
            counted = {"scalars": self.record.scalar_rows, "snapshots": self.record.snapshot_rows}
            return steps[: counted[group]]
        unwritten = np.flatnonzero(steps == -1)
        return steps[: unwritten[0]] if len(unwritten) else steps

    @cached_property
    def scalars(self) -> int:
        """Rows of the scalars to be kept."""
        return self._verified("scalars")

    @cached_property
    def snapshots(self) -> tuple[int, str]:
        """Snapshots to be kept, and what is wrong with the next one."""
        count = max(self._verified("snapshots"), len(self.written("snapshots")))
        try:
            index = read_rows(self.map, self.fd, "snapshots", slice(count))
        except DamagedTrajectoryError:
            return 0, "the file ends before their steps, times and checksums"
        for row in range(count):
            for name in ARRAYS:
                if not holds(read_snapshot, self.map, self.fd, index, row, name):
                    return row, f"{name} of snapshot {row} is damaged"
        return count, ""

    @cached_property
    def index(self) -> np.ndarray:
        """The index of the snapshots to be kept."""
        return read_rows(self.map, self.fd, "snapshots", slice(self.snapshots[0]))

    def fixed(self, part: str) -> np.ndarray | None:
        """Return an array that is written once, or None if it is damaged."""
        try:
            return self.map.read_fixed(self.fd, part)
        except DamagedTrajectoryError:
            return None

    def restored(self, part: str) -> np.ndarray | None:
        """Return a damaged array from elsewhere, if its checksum is that in the file."""
        extent = self.map[part]
        for candidate in self._candidates(part):
            array = np.ascontiguousarray(candidate, dtype=extent.dtype)
            if array.shape == extent.shape and zlib.crc32(posix.as_bytes(array)) == extent.crc32:
                return array
        return None

    def _candidates(self, part: str) -> Iterator[np.ndarray]:
        group, _, name = part.partition("/")
        if group == "initial" and self.snapshots[0]:
            yield self.first_snapshot(name)
        if part in self._again:
            yield self._again[part]

    @cached_property
    def _again(self) -> Mapping[str, np.ndarray]:
        return self._compute(self.map.attributes)

    def first_snapshot(self, name: str) -> np.ndarray:
        """Return an array of the first kept snapshot, which has been verified."""
        array: np.ndarray = self.map.read(self.fd, f"snapshots/{name}", slice(1))[0]
        return array

    def points(self, plans: Mapping[str, np.ndarray]) -> dict[int, RestartPoint]:
        """Return the restart states, by slot, from which the kept rows can be continued."""
        return {
            slot: point
            for slot, point in whole_points(self.map, self.fd).items()
            if point.step >= 0 and self._has_rows_up_to(point, plans)
        }

    def _has_rows_up_to(self, point: RestartPoint, plans: Mapping[str, np.ndarray]) -> bool:
        """Whether every row that the run had recorded when it was in this state is kept."""
        for group, kept in (("scalars", self.scalars), ("snapshots", self.snapshots[0])):
            plan, lost = plans[group], self.written(group)[kept:]
            reached = point.time if plan.dtype.kind == "f" else point.step
            if kept == 0 or (kept < len(plan) and plan[kept] <= reached):
                return False
            if (lost <= point.step).any():
                return False
        return True
