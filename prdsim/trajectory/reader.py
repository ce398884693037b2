"""The reader of a trajectory: never blocked by its writer, and never blocking it.

Only committed rows are shown. HDF5 reads the file's map once; data are then read from the open
file, so a trajectory that has been replaced stays readable until `refresh`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from prdsim.arguments import file_path
from prdsim.errors import DamagedTrajectoryError, TrajectoryError
from prdsim.notebook import html_table
from prdsim.trajectory import liveness
from prdsim.trajectory.arrays import NamedArrays, SnapshotArray
from prdsim.trajectory.check import Problem, check_content, check_recovery
from prdsim.trajectory.commit import Status
from prdsim.trajectory.container import FileMap, open_file, read_map, read_record
from prdsim.trajectory.labeled import to_pandas, to_xarray
from prdsim.trajectory.layout import scalar_columns
from prdsim.trajectory.rows import (
    ascend,
    read_rows,
    read_scalars,
    read_snapshot,
    rolling_crc,
)
from prdsim.trajectory.sessions import SESSIONS, Session, unpack

_JSON_ATTRIBUTES = ("config", "resolved", "versions")
_TOLD = ("dataset", "samples", "diffusion", "diffusivity", "integrator", "seed")  # in notebooks


def open_trajectory(path: str | os.PathLike[str]) -> Trajectory:
    """Open a trajectory for reading, even while it is being written; a context manager.

    Raises:
        ConfigError: not a path.
        TrajectoryError: missing or unreadable.
        NotATrajectoryError: another program's file, or a newer format.
        DamagedTrajectoryError: truncated, or its structure is damaged.
    """
    return Trajectory(path)


class Trajectory:
    """A trajectory as of its last commit (or of the last `refresh`); a context manager.

    `U`, `V`, `W`, `a` are array-like over the snapshots of `step` and `time`; `scalars`,
    `initial`, `chart`, `data` map names to arrays (`chart` and `data` may be empty). Pickled, it is
    its absolute path, opened again where it is loaded. Raises as `open_trajectory`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = file_path("path", path)
        self._open()

    def _open(self) -> None:
        file = open_file(self.path)
        try:
            self._map: FileMap = read_map(self.path, file.fileno())
            self._record = read_record(self._map, file.fileno())
            self.config: dict[str, Any] = self._map.json("config")
            self.attributes: dict[str, Any] = {
                name: self._map.json(name) if name in _JSON_ATTRIBUTES else value
                for name, value in self._map.attributes.items()
            }
        except BaseException:
            file.close()
            raise
        self._file = file
        self._forget()

    def _forget(self) -> None:
        """Drop rows read under an older commit."""
        self._scalar_rows: np.ndarray | None = None
        self._snapshot_rows: np.ndarray | None = None

    @property
    def _fd(self) -> int:
        if self._file.closed:
            raise TrajectoryError(f"{self.path} is closed; open it again")
        fd: int = self._file.fileno()
        return fd

    @property
    def format_version(self) -> int:
        """Version of the file format."""
        return self._map.version

    @property
    def status(self) -> Status:
        """The run's status at its last commit; see `is_being_written`."""
        return self._record.status

    @property
    def stop_step(self) -> int:
        """The step a run stopped at; -1 while it goes on."""
        return self._record.stop_step

    @property
    def stop_reason(self) -> str:
        """Why the run stopped, in words; empty while it goes on."""
        return self._record.stop_reason

    @property
    def restart_step(self) -> int:
        """Step that a resumed run starts from; -1 if there is none."""
        return self._record.restart_step

    @property
    def restart_time(self) -> float:
        """Time that a resumed run starts from; NaN if there is none."""
        return self._record.restart_time

    @property
    def reached_step(self) -> int:
        """The last step recorded in the file."""
        if self.stop_step >= 0:
            return self.stop_step
        recorded = (self.scalars["step"], self.step)
        return max([self.restart_step, 0, *(int(steps[-1]) for steps in recorded if len(steps))])

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the inputs' pixel grid, or None."""
        grid = self.attributes.get("grid")
        return (int(grid[0]), int(grid[1])) if grid else None

    @property
    def array_precision(self) -> str:
        """The NumPy name of the type of the run's arrays."""
        return self._map["initial/U"].dtype.name

    @property
    def step(self) -> np.ndarray:
        """Steps of the committed snapshots, int64."""
        steps: np.ndarray = self._index()["step"].copy()
        return steps

    @property
    def time(self) -> np.ndarray:
        """Times of the committed snapshots, float64."""
        times: np.ndarray = self._index()["time"].copy()
        return times

    @property
    def U(self) -> SnapshotArray:
        """Hidden layer, (snapshots, m, d_in)."""
        return SnapshotArray(self, "U")

    @property
    def V(self) -> SnapshotArray:
        """Top layer, (snapshots, d_out, m)."""
        return SnapshotArray(self, "V")

    @property
    def W(self) -> SnapshotArray:
        """Critic's hidden layer, (snapshots, m_c, d_out)."""
        return SnapshotArray(self, "W")

    @property
    def a(self) -> SnapshotArray:
        """Critic's top layer, (snapshots, m_c)."""
        return SnapshotArray(self, "a")

    @property
    def scalars(self) -> Mapping[str, np.ndarray]:
        """The committed rows of /scalars, "step" included.

        Reading a column raises `DamagedTrajectoryError` if their checksum fails.
        """
        return NamedArrays(list(scalar_columns(self.format_version)), self._scalar)

    @property
    def initial(self) -> Mapping[str, np.ndarray]:
        """U, V, W, a before the first step, at run precision."""
        return self._fixed("initial")

    @property
    def chart(self) -> Mapping[str, np.ndarray]:
        """Arrays of the run's coordinates."""
        return self._fixed("chart")

    @property
    def forcing(self) -> Mapping[str, np.ndarray]:
        """The norms of a control's field by sample, if they are those of an adversarial run."""
        return self._fixed("forcing")

    @property
    def data(self) -> Mapping[str, np.ndarray]:
        """The samples as used; empty if they were not stored."""
        return self._fixed("data")

    @property
    def planned_snapshots(self) -> np.ndarray:
        """Planned steps (int64) or times (float64) of the snapshots, committed ones included."""
        return self._plan("snapshots")

    @property
    def planned_scalars(self) -> np.ndarray:
        """Planned steps (int64) or times (float64) of the scalars, committed ones included."""
        return self._plan("scalars")

    def _plan(self, name: str) -> np.ndarray:
        plan = self._map.read_fixed(self._fd, f"schedule/{name}")
        if plan[0] != 0 or not ascend(plan, strictly=True):
            raise DamagedTrajectoryError(
                f"{self.path} is damaged: /schedule/{name} does not ascend from 0; "
                "restore it from a copy"
            )
        return plan

    @property
    def recorded_snapshots(self) -> np.ndarray:
        """Steps (int64) or times (float64) of the committed snapshots, as in their plan."""
        return self.time if self.planned_snapshots.dtype.kind == "f" else self.step

    @property
    def recorded_scalars(self) -> np.ndarray:
        """Steps (int64) or times (float64) of the committed scalars, as in their plan."""
        return self.scalars["time" if self.planned_scalars.dtype.kind == "f" else "step"]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the datasets by path, such as "restart/U"."""
        return {path: extent.shape for path, extent in self._map.extents.items()}

    def _fixed(self, group: str) -> Mapping[str, np.ndarray]:
        return NamedArrays(
            self._map.group(group), lambda name: self._map.read_fixed(self._fd, f"{group}/{name}")
        )

    def _scalar(self, name: str) -> np.ndarray:
        if self._scalar_rows is None:
            self._scalar_rows = read_scalars(self._map, self._fd, self._record)
        column: np.ndarray = self._scalar_rows[name].copy()
        return column

    def _unverified_index(self) -> np.ndarray:
        if self._snapshot_rows is None:
            count = self._record.snapshot_rows
            self._snapshot_rows = read_rows(self._map, self._fd, "snapshots", slice(count))
        return self._snapshot_rows

    def _index(self) -> np.ndarray:
        rows = self._unverified_index()
        ordered = ascend(rows["step"]) and ascend(rows["time"])
        if rolling_crc(rows) != self._record.snapshots_crc or not ordered:
            raise DamagedTrajectoryError(
                f"the steps and times of the snapshots in {self.path} are damaged (their "
                "checksum fails); single snapshots can still be read and verified"
            )
        return rows

    def _read_snapshot(self, name: str, row: int) -> np.ndarray:
        """Read one whole array and verify its checksum, which covers step and time too."""
        index = self._unverified_index()
        array = read_snapshot(self._map, self._fd, index, row, name)
        if array is None:
            raise DamagedTrajectoryError(
                f"snapshot {row} (step {index['step'][row]}) of {name} in {self.path} is damaged "
                "(its checksum fails); read the others, or restore the file from a copy"
            )
        return array

    def _mapped(self, name: str) -> np.ndarray:
        """Return the committed snapshots of an array as a read-only map of the file."""
        fd, extent = self._fd, self._map[f"snapshots/{name}"]
        if extent.offset + extent.nbytes > os.fstat(fd).st_size:  # else a read would be SIGBUS
            raise DamagedTrajectoryError(f"{self.path} was truncated; restore it from a copy")
        array: np.ndarray = np.memmap(
            self._file, dtype=extent.dtype, mode="r", offset=extent.offset, shape=extent.shape
        )
        return array[: self._record.snapshot_rows]

    @property
    def sessions(self) -> list[Session]:
        """What is recorded of each resume, oldest first; [] in files of older versions."""
        if SESSIONS not in self._map.extents:
            return []
        return unpack(self._map.read(self._fd, SESSIONS).tobytes())

    def is_being_written(self) -> bool | None:
        """Whether a live process has the file open for writing; takes no lock from it.

        A status of "running" with no writer means that the run was killed. None: it cannot be
        known, for the writer takes no locks (``lock = false``), or this file system has none.
        """
        return liveness.is_being_written(self._fd, self.config, self.sessions)

    def live_status(self) -> str:
        """Refresh, and return the status; "killed" if a running run has no writer.

        "running or killed" if that cannot be known.
        """
        file = None
        while file is not self._file:  # again if it was replaced
            file = self._file
            # In this order, so that a run that ends in between is not mistaken for a killed one.
            written = self.is_being_written()
            self.refresh()
        return liveness.live_status(self.status, written)

    def refresh(self) -> None:
        """Show the newest commit, even if the file was replaced; raises as `open_trajectory`."""
        fd = self._fd
        try:
            replaced = not os.path.samestat(os.fstat(fd), self.path.stat())
        except OSError:
            replaced = False  # deleted: the open file stays readable
        if replaced:
            old = self._file
            self._open()
            old.close()
        else:
            self._record = read_record(self._map, fd)
            self._forget()

    def check(self) -> list[Problem]:
        """Verify every checksum; [] means that nothing at all is wrong. Works on a live file."""
        return [*self.check_content(), *self.check_recovery()]

    def check_content(self) -> list[Problem]:
        """Verify a run's results: attributes, fixed arrays, committed rows."""
        return check_content(self._map, self._fd, self._record)

    def check_recovery(self) -> list[Problem]:
        """Verify the commit records and the restart states, which a resume needs.

        Raises `DamagedTrajectoryError` if no record has stayed whole since the file was opened.
        """
        return check_recovery(self._map, self._fd, self.is_being_written)

    def to_xarray(self, group: str = "snapshots") -> Any:
        """Return the rows of a group, "snapshots" or "scalars", as an `xarray.Dataset` in memory.

        Raises `ConfigError` if xarray is not installed, `DamagedTrajectoryError` as reading does.
        """
        return to_xarray(self, group)

    def to_pandas(self) -> Any:
        """Return the scalars as a `pandas.DataFrame`, indexed by step; raises as `to_xarray`."""
        return to_pandas(self)

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path.absolute(),)

    def __repr__(self) -> str:
        return f"<trajectory {self.path}: {self._record.snapshot_rows} snapshots, {self.status}>"

    def _repr_html_(self) -> str:
        (m, d_in), (m_c, d_out) = self.U.shape[1:], self.W.shape[1:]
        run = {name: self.config[name] for name in _TOLD if name in self.config}
        sizes = {"U": f"{m} x {d_in}", "V": f"{d_out} x {m}", "W": f"{m_c} x {d_out}", "a": m_c}
        rows = {"status": self.status, "snapshots": self._record.snapshot_rows}
        return html_table(self.path, {**rows, **sizes, **run})
