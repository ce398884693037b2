"""The writer of a trajectory: rows into uncommitted space, then a commit record, in this order.

After creation nothing here calls HDF5: rows go by `pwrite` to the offsets of the map, so the file
is whole whenever the process ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from prdsim.errors import (
    DamagedTrajectoryError,
    OutputError,
    PrdsimError,
    ResumeMismatchError,
    TrajectoryError,
)
from prdsim.files import lock, posix
from prdsim.physics.state import RestartPoint
from prdsim.progress import Say, warn
from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import Status
from prdsim.trajectory.container import open_file
from prdsim.trajectory.create import (
    build_and_publish,
    check_target,
    open_for_writing,
    remove_strays,
)
from prdsim.trajectory.layout import FORMAT_VERSION, Layout, scalar_columns
from prdsim.trajectory.planned import PlannedRows
from prdsim.trajectory.rows import (
    SNAPSHOT_ROW,
    array_crc,
    crc_of_rows,
    read_restart_slot,
    read_rows,
    restart_crc,
    rolling_crc,
    row_type,
)
from prdsim.trajectory.writable import WritableFile


class TrajectoryWriter(WritableFile):
    """The one writer of a trajectory file; a context manager.

    Rows count from the next `commit`. Rows that the file already holds are compared bit by bit,
    never rewritten. Closing drops uncommitted rows.
    """

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        layout: Layout,
        *,
        force: bool = False,
        locked: bool = True,
        say: Say = warn,
    ) -> TrajectoryWriter:
        """Create a trajectory that holds no rows yet and open it; it is locked from the first.

        `locked` is false on file systems without locks; `say` is told what happens to the file.

        Raises:
            ConfigError: it exists and `force` is not given.
            TrajectoryLockedError: it is being written.
            OutputError: no folder, no permission, no space, no locks.
        """
        shown = Path(path)
        check_target(shown, force=force)
        target = Path(os.path.realpath(shown))
        check_target(target, force=force)
        fd, filemap = build_and_publish(target, layout, over=force, locked=locked)
        return cls(shown, fd, locked=locked, say=say, filemap=replace(filemap, path=shown))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, locked: bool = True, say: Say = warn
    ) -> TrajectoryWriter:
        """Open an existing trajectory to continue it; nothing is changed yet.

        Raises:
            TrajectoryLockedError: it is being written.
            OutputError: no permission to write, no locks, a system without the calls needed.
            NotATrajectoryError, DamagedTrajectoryError, TrajectoryError: it cannot be read.
        """
        shown = Path(path)
        open_file(shown).close()
        posix.require_support()
        with posix.output_errors("write", shown):
            fd = open_for_writing(shown)
        try:
            if locked:
                lock.acquire(fd, shown)
                remove_strays(Path(os.path.realpath(shown)), fd)
        except BaseException:
            os.close(fd)
            raise
        return cls(shown, fd, locked=locked, say=say)

    def _read_state(self) -> None:
        record = self._record
        self._scalars = self._table("scalars", record.scalar_rows, record.scalars_crc)
        self._snapshots = self._table("snapshots", record.snapshot_rows, record.snapshots_crc)
        self._restart = (record.restart_slot, record.restart_step, record.restart_time)
        self._next_restart = self._restart

    @property
    def _tables(self) -> tuple[PlannedRows, PlannedRows]:
        return self._scalars, self._snapshots

    def _table(self, name: str, count: int, crc: int) -> PlannedRows:
        if crc_of_rows(self._map, self._fd, name, count) != crc:
            raise DamagedTrajectoryError(
                f"the committed {name} in {self.path} are damaged (their checksum fails); "
                "the run cannot be continued: restore the file from a copy"
            )
        planned = self._map.read_fixed(self._fd, f"schedule/{name}")
        key = "time" if planned.dtype.kind == "f" else "step"
        keys = self._map.read(self._fd, f"{name}/{key}", slice(count))
        return PlannedRows(name, self.path, planned, keys, row_type(self._map, name))

    def _clear_uncommitted(self) -> None:
        for table in self._tables:
            extent = self._map[f"{table.name}/step"]
            steps = self._map.read(self._fd, f"{table.name}/step", slice(table.committed, None))
            if (steps != -1).any():
                steps[:] = -1
                offset = extent.offset + table.committed * extent.row_bytes
                posix.pwrite(self._fd, posix.as_bytes(steps), offset)

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
        if place == self._scalars.total:
            self._scalars.add(row)
            return
        held = read_rows(self._map, self._fd, "scalars", slice(place, place + 1))[0]
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
        if place < self._snapshots.committed:
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
        held = read_rows(self._map, self._fd, "snapshots", slice(place, place + 1))[0]
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
            "resume with the program versions and threads that made it, or give --accept-new-bits "
            "to compute the rows after the last restart state anew. The file is unchanged"
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

        Before that the file is looked for: one that was renamed is followed, one that lost its
        name is saved, and `path` says where.

        Raises:
            OutputError: the disk refuses, and the previous commit remains valid; or the file was
                deleted, and is saved (this commit included) where the run should not go on.
            TrajectoryLockedError: another writer has changed the file.
        """
        with self._writing():
            found = self._follow()
            self._check_record()
            if len(self._scalars.pending):
                self._write_scalars()
        scalars, snapshots = self._scalars, self._snapshots
        slot, step, time = self._next_restart
        self._write_record(
            scalar_rows=scalars.total,
            snapshot_rows=snapshots.total,
            restart_slot=slot,
            restart_step=step,
            restart_time=time,
            status=Status(status),
            stop_step=stop_step,
            stop_reason=stop_reason,
            scalars_crc=rolling_crc(scalars.pending, self._record.scalars_crc),
            snapshots_crc=rolling_crc(snapshots.pending, self._record.snapshots_crc),
        )
        self._restart = self._next_restart
        scalars.commit()
        snapshots.commit()
        if found.last:
            self._broken = True
            raise OutputError(found.note)
        if found.note:
            self._say(found.note)

    def _write_scalars(self) -> None:
        rows = self._scalars.pending
        for name in rows.dtype.names or ():
            self._write_row(
                f"scalars/{name}", self._scalars.committed, np.ascontiguousarray(rows[name])
            )

    @property
    def rows_after_restart(self) -> dict[str, int]:
        """Numbers of committed rows that a run computes again from `read_restart`."""
        return {t.name: t.committed - self._rows_to_restart(t) for t in self._tables}

    def _rows_to_restart(self, table: PlannedRows) -> int:
        steps = self._map.read(self._fd, f"{table.name}/step", slice(table.committed))
        return int(np.searchsorted(steps, self._restart[1], side="right"))

    def rewind(self) -> None:
        """Withdraw the committed rows after the state of `read_restart`, to be computed anew.

        Raises `OutputError` if the disk refuses.
        """
        counts = [self._rows_to_restart(table) for table in self._tables]
        for table, count in zip(self._tables, counts, strict=True):
            table.keep(count)
        scalars, snapshots = (
            crc_of_rows(self._map, self._fd, table.name, table.committed) for table in self._tables
        )
        slot, step, time = self._restart
        self._write_record(
            scalar_rows=counts[0],
            snapshot_rows=counts[1],
            restart_slot=slot,
            restart_step=step,
            restart_time=time,
            status=Status.RUNNING,
            stop_step=-1,
            stop_reason="",
            scalars_crc=scalars,
            snapshots_crc=snapshots,
        )
        with self._writing():
            self._clear_uncommitted()

    def read_restart(self, *, before: float = inf) -> RestartPoint:
        """Return the newest committed exact state, its checksum verified.

        If its slot is damaged, or its time not below ``before``, the other is used, and kept until
        a new state is committed; if that is of no use either, the newest is the answer.

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
        found = []
        for candidate in (slot, 1 - slot):
            point = read_restart_slot(self._map, self._fd, candidate)
            # A state later than the committed one was never committed, nor were its rows.
            if point is not None and (
                point.step == step if candidate == slot else 0 <= point.step <= step
            ):
                found.append((candidate, point))
        for candidate, point in [each for each in found if each[1].time < before] or found:
            self._restart = self._next_restart = (candidate, point.step, point.time)
            return point
        raise DamagedTrajectoryError(
            f"both restart states in {self.path} are damaged (their checksums fail); the "
            "snapshots can still be read, but the run cannot be continued"
        )
