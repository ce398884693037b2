"""The writer of a trajectory: rows into uncommitted space, then a commit record, in this order.

After creation nothing here calls HDF5: rows go by `pwrite` to the offsets of the map, so the file
is whole whenever the process ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from prdsim.errors import (
    DamagedTrajectoryError,
    OutputError,
    PrdsimError,
    ResumeMismatchError,
    TrajectoryError,
    TrajectoryLockedError,
)
from prdsim.files import posix
from prdsim.files.lock import WriterLock
from prdsim.physics.state import RestartPoint
from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import CommitRecord, Status
from prdsim.trajectory.container import FileMap, open_file, read_map, read_record
from prdsim.trajectory.create import build_and_publish, check_target, remove_strays
from prdsim.trajectory.layout import FORMAT_VERSION, Layout, scalar_columns
from prdsim.trajectory.planned import PlannedRows
from prdsim.trajectory.rows import (
    SNAPSHOT_ROW,
    array_crc,
    read_restart_slot,
    read_rows,
    restart_crc,
    rolling_crc,
    row_type,
)


class TrajectoryWriter:
    """The one writer of a trajectory file; a context manager.

    Rows count from the next `commit`. Rows that the file already holds are compared bit by bit,
    never rewritten. Closing drops uncommitted rows.
    """

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], layout: Layout, *, force: bool = False
    ) -> TrajectoryWriter:
        """Create a trajectory that holds no rows yet and open it, under one lock.

        Raises:
            ConfigError: it exists and `force` is not given.
            TrajectoryLockedError: it is being written.
            OutputError: no folder, no permission, no space.
        """
        shown = Path(path)
        check_target(shown, force=force)
        target = Path(os.path.realpath(shown))
        check_target(target, force=force)
        lock = WriterLock(target)
        try:
            build_and_publish(target, layout, over=force)
            return cls(shown, target, lock)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TrajectoryWriter:
        """Open an existing trajectory to continue it.

        Raises:
            TrajectoryLockedError: it is being written.
            OutputError: no permission to write.
            NotATrajectoryError, DamagedTrajectoryError, TrajectoryError: it cannot be read.
        """
        shown = Path(path)
        target = Path(os.path.realpath(shown))
        open_file(shown).close()
        lock = WriterLock(target)
        try:
            remove_strays(target)
            return cls(shown, target, lock)
        except BaseException:
            lock.close()
            raise

    def __init__(self, path: Path, target: Path, lock: WriterLock) -> None:
        """Take over a held lock; use `create` or `open` instead."""
        self.path = path
        self._lock = lock
        self._broken = False
        with posix.output_errors("write", path):
            self._fd = os.open(target, os.O_RDWR)
        try:
            # HDF5's own lock: programs that would open the file for writing are refused.
            if not posix.try_lock(self._fd, exclusive=False):
                raise TrajectoryLockedError(
                    f"{path} is open for writing in another program; close it there"
                )
            self._read_state()
        except BaseException:
            os.close(self._fd)
            raise

    def _read_state(self) -> None:
        self._map: FileMap = read_map(self.path, self._fd)
        self._record = record = read_record(self._map, self._fd)
        self._scalars = self._table("scalars", record.scalar_rows, record.scalars_crc)
        self._snapshots = self._table("snapshots", record.snapshot_rows, record.snapshots_crc)
        self._restart = (record.restart_slot, record.restart_step, record.restart_time)
        self._next_restart = self._restart
        for table in (self._scalars, self._snapshots):
            self._clear_uncommitted(table)

    def _table(self, name: str, count: int, crc: int) -> PlannedRows:
        rows = read_rows(self._map, self._fd, name, count)
        if rolling_crc(rows) != crc:
            raise DamagedTrajectoryError(
                f"the committed {name} in {self.path} are damaged (their checksum fails); "
                "the run cannot be continued: restore the file from a copy"
            )
        planned = self._map.read_fixed(self._fd, f"schedule/{name}")
        return PlannedRows(name, self.path, planned, rows)

    def _clear_uncommitted(self, table: PlannedRows) -> None:
        """Mark rows that a killed writer left beyond its last commit as not yet written."""
        extent = self._map[f"{table.name}/step"]
        steps = self._map.read(self._fd, f"{table.name}/step", slice(len(table.committed), None))
        if (steps != -1).any():
            steps[:] = -1
            offset = extent.offset + len(table.committed) * extent.row_bytes
            with self._writing():
                posix.pwrite(self._fd, posix.as_bytes(steps), offset)

    @property
    def record(self) -> CommitRecord:
        """The last commit."""
        return self._record

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write into an OutputError and refuse all later ones.

        It is then unknown which bytes reached the disk (a failed fdatasync may drop data
        silently), so only a new writer, which reads the file again, may go on.
        """
        if self._broken:
            raise OutputError(f"{self.path} could not be written earlier; open it again")
        try:
            yield
        except OSError as error:
            self._broken = True
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; committed rows are "
                "safe, and the run can be resumed from them"
            ) from error
        except BaseException:
            self._broken = True
            raise

    def _write_row(self, name: str, row: int, array: np.ndarray) -> None:
        extent = self._map[name]
        posix.pwrite(self._fd, posix.as_bytes(array), extent.offset + row * extent.row_bytes)

    def _stored(self, name: str, array: np.ndarray, *, exact: bool) -> np.ndarray:
        """Return the array as one row of /`name` stores it."""
        extent = self._map[name]
        array = np.asarray(array)
        if array.shape != extent.shape[1:] or (exact and array.dtype != extent.dtype):
            raise PrdsimError(
                f"/{name} takes {extent.dtype} {extent.shape[1:]}, not {array.dtype} {array.shape}"
            )
        with np.errstate(over="ignore"):  # float32 snapshots of float64 runs may overflow
            return np.ascontiguousarray(array, dtype=extent.dtype)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record one row of every column of SCALARS; a file of an older version has fewer.

        Raises:
            ResumeMismatchError: the file holds other values at this step.
            PrdsimError: columns missing or unknown, or out of the planned order.
        """
        odd = set(scalar_columns(FORMAT_VERSION)[1:]) ^ set(values)
        if odd:
            raise PrdsimError(f"scalars missing or unknown: {sorted(odd)}")
        place = self._scalars.place(step, values["time"])
        columns = scalar_columns(self._map.version)
        row = (step, *(values[name] for name in columns[1:]))
        if place == len(self._scalars.committed) + len(self._scalars.pending):
            self._scalars.add(row)
            return
        held = self._scalars.committed[place]
        now = np.array(row, dtype=held.dtype)
        for name in columns:
            if now[name].tobytes() != held[name].tobytes():
                raise self._mismatch(step, f"scalar {name}", f"{held[name]!s}, now {now[name]!s}")

    def snapshot(self, step: int, time: float, arrays: Mapping[str, np.ndarray]) -> None:
        """Record U, V, W, a (any float dtype; stored at snapshot precision).

        Raises:
            ResumeMismatchError: the file holds other values at this step.
            OutputError: the disk refuses.
        """
        place = self._snapshots.place(step, time)
        stored = {n: self._stored(f"snapshots/{n}", arrays[n], exact=False) for n in ARRAYS}
        if place < len(self._snapshots.committed):
            self._compare_snapshot(place, time, stored)
            return
        crcs = [array_crc(step, time, array) for array in stored.values()]
        index = np.array((step, time, crcs), dtype=SNAPSHOT_ROW)
        with self._writing():
            for name, array in stored.items():
                self._write_row(f"snapshots/{name}", place, array)
            for name in SNAPSHOT_ROW.names or ():
                self._write_row(f"snapshots/{name}", place, np.ascontiguousarray(index[name]))
        self._snapshots.add((step, time, crcs))

    def _compare_snapshot(self, place: int, time: float, stored: dict[str, np.ndarray]) -> None:
        held = self._snapshots.committed[place]
        step = int(held["step"])
        if np.float64(time).tobytes() != held["time"].tobytes():
            raise self._mismatch(step, "snapshot time", f"{held['time']!s}, now {time!s}")
        for k, (name, array) in enumerate(stored.items()):
            old = self._map.read(self._fd, f"snapshots/{name}", slice(place, place + 1))[0]
            if array_crc(step, float(held["time"]), old) != held["crc32"][k]:
                raise DamagedTrajectoryError(
                    f"{name} of the snapshot at step {step} in {self.path} is damaged (its "
                    "checksum fails); restore the file from a copy"
                )
            if posix.as_bytes(old) != posix.as_bytes(array):
                count = int((old != array).sum())
                raise self._mismatch(step, f"snapshot array {name}", f"in {count} elements")

    def _mismatch(self, step: int, what: str, detail: str) -> ResumeMismatchError:
        return ResumeMismatchError(
            f"{what} at step {step}, computed again, differs from {self.path} ({detail}); "
            "resume with the program versions and threads that made it. The file is unchanged"
        )

    def restart(
        self, step: int, time: float, arrays: Mapping[str, np.ndarray], scalars: Mapping[str, float]
    ) -> None:
        """Write the exact state into the slot that the last commit does not use.

        Raises:
            OutputError: the disk refuses.
            PrdsimError: arrays other than the layout's, or missing scalars (a fault in the
                caller); scalars that the layout lacks are left out.
        """
        names = (set(self._map.restart_arrays), set(self._map.restart_scalars))
        if set(arrays) != names[0] or names[1] - set(scalars):
            raise PrdsimError(f"a restart state takes {names}, not {set(arrays), set(scalars)}")
        point = RestartPoint(
            step,
            time,
            {
                n: self._stored(f"restart/{n}", arrays[n], exact=True)
                for n in self._map.restart_arrays
            },
            {n: float(scalars[n]) for n in self._map.restart_scalars},
        )
        slot = 0 if self._restart[0] != 0 else 1
        values: dict[str, object] = {"step": np.int64(step), "time": np.float64(time)}
        values |= {name: np.float64(value) for name, value in point.scalars.items()}
        values |= point.arrays
        values["crc32"] = np.uint32(restart_crc(point))
        with self._writing():
            for name, value in values.items():
                dtype = self._map[f"restart/{name}"].dtype
                self._write_row(f"restart/{name}", slot, np.ascontiguousarray(value, dtype=dtype))
        self._next_restart = (slot, step, time)

    def commit(self, status: Status, *, stop_step: int = -1, stop_reason: str = "") -> None:
        """Commit all rows written: first they reach the disk, then the record does.

        Raises `OutputError` if the disk refuses; the previous commit remains valid.
        """
        scalars, snapshots = self._scalars, self._snapshots
        slot, step, time = self._next_restart
        record = replace(
            self._record,
            sequence=self._record.sequence + 1,
            scalar_rows=len(scalars.committed) + len(scalars.pending),
            snapshot_rows=len(snapshots.committed) + len(snapshots.pending),
            restart_slot=slot,
            restart_step=step,
            restart_time=time,
            status=Status(status),
            stop_step=stop_step,
            stop_reason=stop_reason,
            scalars_crc=rolling_crc(scalars.pending, self._record.scalars_crc),
            snapshots_crc=rolling_crc(snapshots.pending, self._record.snapshots_crc),
        )
        page = record.pack()
        with self._writing():
            if len(scalars.pending):
                self._write_scalars(scalars)
            posix.fdatasync(self._fd)
            place = self._map["commit/record"].offset + record.slot * len(page)
            posix.pwrite(self._fd, page, place)
            posix.fdatasync(self._fd)
        self._record = record
        self._restart = self._next_restart
        scalars.commit()
        snapshots.commit()

    def _write_scalars(self, table: PlannedRows) -> None:
        for name in row_type(self._map, "scalars").names or ():
            column = np.ascontiguousarray(table.pending[name])
            self._write_row(f"scalars/{name}", len(table.committed), column)

    def read_restart(self) -> RestartPoint:
        """Return the newest committed exact state, its checksum verified.

        If its slot is damaged, the other is used, and kept until a new state is committed.

        Raises:
            TrajectoryError: none was ever committed.
            DamagedTrajectoryError: no slot is whole.
        """
        slot, step, _ = self._restart
        if slot < 0:
            raise TrajectoryError(
                f"{self.path} holds no state to resume from (its run ended before the first "
                "commit, or it was repaired without one); run it again with --force"
            )
        for candidate in (slot, 1 - slot):
            point = read_restart_slot(self._map, self._fd, candidate)
            # A state later than the committed one was never committed, nor were its rows.
            if point is not None and (
                point.step == step if candidate == slot else 0 <= point.step <= step
            ):
                self._restart = self._next_restart = (candidate, point.step, point.time)
                return point
        raise DamagedTrajectoryError(
            f"both restart states in {self.path} are damaged (their checksums fail); the "
            "snapshots can still be read, but the run cannot be continued"
        )

    def close(self) -> None:
        """Release the file and its lock; uncommitted rows are dropped."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._broken = True
            os.close(fd)
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
