"""The input of an analysis: weights over snapshots, from a trajectory file or from arrays.

Snapshots are read one at a time, so that a file of any size is analyzed in the memory of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import as_array, real_array, require_real
from prdsim.arguments import each, instance, integer, number, wrong
from prdsim.backends.arrays import HostArray as Array
from prdsim.config import RunConfig
from prdsim.config.files import config_of
from prdsim.convergence.report import NOT_ASSESSED, FoundReport, look_up
from prdsim.errors import ConfigError, DamagedTrajectoryError, TrajectoryError
from prdsim.notebook import html_table
from prdsim.recorded import Recorded
from prdsim.symbols import ARRAYS
from prdsim.trajectory import SnapshotArray, Trajectory, open_trajectory
from prdsim.words import shown

Snapshots = Array | SnapshotArray

_STATUS = {
    "running": "being written: shown up to {reached}",
    "killed": "killed: shown up to {reached}",
    "interrupted": "interrupted at {reached}",
    "failed": "failed at {reached}",
    "diverged": "diverged at {reached}: shown up to the last good snapshot",
    "finished": "finished at {reached}",
}


_AXES = {
    "U": ("K", "m", "d_in"),
    "V": ("K", "d_out", "m"),
    "W": ("K", "m_c", "d_out"),
    "a": ("K", "m_c"),
    "X": ("d_in", "n"),
    "Y": ("d_out", "n"),
}


@dataclass(frozen=True, repr=False)
class Snapshot:
    """One recorded state with the initial one; U (m, d_in), V (d_out, m), float64.

    W (m_c, d_out) and a (m_c,) are None if the recording has none.
    """

    step: int
    time: float
    U: Array
    V: Array
    U_0: Array
    V_0: Array
    W: Array | None = None
    a: Array | None = None

    def __repr__(self) -> str:
        m, d_in = self.U.shape
        return f"<Snapshot of step {self.step}, t = {self.time:.6g}: m = {m}, d_in = {d_in}>"

    @property
    def weights(self) -> dict[str, Array]:
        """U, V, W, a by name; check with `Recording.require_critic` that W and a exist."""
        assert self.W is not None
        assert self.a is not None
        return {"U": self.U, "V": self.V, "W": self.W, "a": self.a}

    @cached_property
    def change(self) -> Array:
        """U(t) - U(0), one neuron per row."""
        return self.U - self.U_0


@dataclass(frozen=True, repr=False)
class Recording:
    """Weights over K snapshots, U (K, m, d_in) and V (K, d_out, m), with data on their run.

    W (K, m_c, d_out) and a (K, m_c) may be missing; so may ``grid``, the (rows, columns) of the
    pixels of the inputs, and ``config``. ``scalars`` are the recorded rows, if any. ``status``
    describes the state of the run in words; ``complete`` is whether it finished; ``apart``
    distinguishes it from others of its label, see `told_apart`. Build one by `recording_of`, or
    `open_recording`.
    """

    name: str
    step: Array
    time: Array
    U: Snapshots
    V: Snapshots
    W: Snapshots | None = None
    a: Snapshots | None = None
    grid: tuple[int, int] | None = None
    config: RunConfig | None = None
    scalars: Mapping[str, Array] | None = None
    status: str = ""
    complete: bool = True
    load_samples: Callable[[], tuple[Array, Array]] | None = None
    trajectory: Trajectory | None = None
    apart: str = ""

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        facts = [self.label, f"{len(self)} snapshots", *([self.status] if self.status else [])]
        return f"<Recording {shown(self.name)}: {shown(', '.join(facts), 200)}>"

    def _repr_html_(self) -> str:
        facts = {"run": self.label, "status": self.status, "snapshots": len(self)}
        shapes = {
            name: getattr(self, name).shape[1:]
            for name in ARRAYS
            if getattr(self, name) is not None
        }
        return html_table(f"Recording {self.name}", {**facts, **shapes})

    @property
    def label(self) -> str:
        """The run in legends: with or without diffusion; its name if it is made of arrays."""
        if self.config is None:
            return self.name
        label = "without diffusion"
        if self.config.diffuses:
            D, kind = self.config.diffusivity, self.config.forcing
            label = f"with {kind} forcing" if self.config.controlled else "with diffusion"
            label += "" if D == 1.0 else f", D = {D:g}"
        return f"{label}, {self.apart}" if self.apart else label

    @property
    def setting(self) -> str:
        """The data and the sizes, in a few words, with formulas for matplotlib."""
        _, m, d_in = self.U.shape
        sizes = f"m = {m}, $d_{{in}}$ = {d_in}"
        if self.config is None:
            return sizes
        name = Path(self.config.dataset).stem.replace("$", r"\$")
        return f"{name}, n = {self.config.samples}, {sizes}"

    @cached_property
    def initial(self) -> tuple[Array, Array]:
        """U(0) and V(0), float64."""
        return _float64(self.U[0]), _float64(self.V[0])

    @cached_property
    def samples(self) -> tuple[Array, Array]:
        """X (d_in, n) and Y (d_out, n), float64.

        Raises `ConfigError` if it was made of arrays without them, `DataError` or
        `ResumeMismatchError` if they are neither in the file nor available from their source.
        """
        if self.load_samples is None:
            raise ConfigError("this measure needs the samples: give X and Y with the weights")
        X, Y = self.load_samples()
        return _float64(X), _float64(Y)

    @property
    def forcing_norms(self) -> Array | None:
        """The norms (n,) of a control's field, if they are another run's."""
        norms = {} if self.trajectory is None else self.trajectory.forcing
        return np.asarray(norms["norm"]) if norms else None

    @property
    def pixels(self) -> tuple[int, int]:
        """The grid; raises a `ConfigError` that says how to give one."""
        if self.grid is None:
            raise ConfigError(
                f"{self.name}: its inputs are not images: the data set declares no grid; give a "
                "data file a `grid` of (rows, columns)"
            )
        return self.grid

    @property
    def settings(self) -> RunConfig:
        """The configuration; raises `ConfigError` if there is none."""
        if self.config is None:
            raise ConfigError(f"{self.name}: this measure needs a configuration with the weights")
        return self.config

    @property
    def file(self) -> Trajectory:
        """The trajectory; raises `ConfigError` for a recording of arrays."""
        if self.trajectory is None:
            raise ConfigError(f"{self.name}: this measure needs the trajectory file of a run")
        return self.trajectory

    def require_critic(self) -> None:
        """Raise `ConfigError` unless the recording has W and a."""
        if self.W is None or self.a is None:
            raise ConfigError(f"{self.name}: this measure needs W and a in addition to U and V")

    @cached_property
    def _found(self) -> FoundReport:
        return (
            FoundReport(None, NOT_ASSESSED) if self.trajectory is None else look_up(self.trajectory)
        )

    def assessed(self, time: float) -> FoundReport:
        """Return the run's report at a time, or the reason for its lack; raises `ReportError`."""
        report = self._found.report
        if report is None or abs(report.time - time) <= 1e-5 * time:
            return self._found
        return FoundReport(None, f"assessed only at t = {report.time:.6g}")

    def weights(self, index: int) -> dict[str, Array]:
        """Return U, V, W, a of a snapshot, float64; raises `ConfigError` if W or a is missing."""
        self.require_critic()
        return self.at(index).weights

    def at(self, index: int) -> Snapshot:
        """Read one snapshot; the index is as for `place`."""
        index = self.place(index)
        U_0, V_0 = self.initial
        U, V = _float64(self.U[index]), _float64(self.V[index])
        W, a = (None if x is None else _float64(x[index]) for x in (self.W, self.a))
        return Snapshot(int(self.step[index]), float(self.time[index]), U, V, U_0, V_0, W, a)

    def __iter__(self) -> Iterator[Snapshot]:
        return (self.at(index) for index in range(len(self)))

    def place(self, index: int) -> int:
        """Return the index of a snapshot from 0; a negative one counts from the last.

        Raises `ConfigError` if there is no such snapshot.
        """
        if not -len(self) <= integer("snapshot", index) < len(self):
            raise ConfigError(f"there is no snapshot {index}: they are 0 to {len(self) - 1}")
        return range(len(self))[index]

    def nearest(self, time: float) -> int:
        """Return the index of the snapshot nearest to a time.

        Raises `ConfigError` if it is no number.
        """
        return int(np.argmin(np.abs(self.time - number("time", time))))


def recording_of(
    U: Trajectory | Recording | ArrayLike,
    V: ArrayLike | None = None,
    *,
    time: ArrayLike | None = None,
    W: ArrayLike | None = None,
    a: ArrayLike | None = None,
    X: ArrayLike | None = None,
    Y: ArrayLike | None = None,
    grid: tuple[int, int] | None = None,
    config: RunConfig | Mapping[str, Any] | None = None,
    name: str = "arrays",
) -> Recording:
    """Return a recording of a trajectory, or of arrays: U (K, m, d_in), V (K, d_out, m) and more.

    ``time`` holds the times of the snapshots (by default their numbers); measures of reaction and
    diffusion need X (d_in, n), Y (d_out, n), W, a and ``config``.
    Raises `ConfigError` for shapes that do not belong together, `TrajectoryError` for a file that
    holds no snapshot yet, or whose configuration was changed.
    """
    if isinstance(U, Recording):
        return U
    if isinstance(U, Trajectory):
        return _of_trajectory(U)
    if V is None:
        what = "an open trajectory, a recording, or arrays U (K, m, d_in) and V (K, d_out, m)"
        raise wrong("source", what, U)
    instance("name", name, str, "text")
    given = {"U": U, "V": V, "W": W, "a": a, "X": X, "Y": Y}
    arrays = {key: as_array(key, value) for key, value in given.items() if value is not None}
    _check_shapes(arrays, grid)
    count = len(arrays["U"])
    times = np.arange(count, dtype=float) if time is None else real_array("time", time, ndim=1)
    if times.shape != (count,):
        raise ConfigError(f"time has shape {times.shape}, but U holds {count} snapshots")
    samples = (arrays["X"], arrays["Y"]) if {"X", "Y"} <= arrays.keys() else None
    return Recording(
        name=name,
        step=np.arange(count),
        time=times,
        U=arrays["U"],
        V=arrays["V"],
        W=arrays.get("W"),
        a=arrays.get("a"),
        grid=grid,
        config=None if config is None else config_of(config),
        load_samples=None if samples is None else lambda: samples,
    )


@contextmanager
def open_recording(path: str | os.PathLike[str]) -> Iterator[Recording]:
    """Open a trajectory file for analysis: running, interrupted or diverged, but never damaged.

    Raises `ConfigError` if it is no path, `TrajectoryError` if it is missing, unreadable, or has no
    snapshot yet, and `DamagedTrajectoryError` if any checksum of the results fails.
    """
    with open_trajectory(path) as trajectory:
        recording = _of_trajectory(trajectory)
        problems = trajectory.check_content()
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DamagedTrajectoryError(
                f"{path} is damaged: {str(problems[0]).removesuffix(' is damaged')}{more}\n"
                "nothing was analyzed; prdsim inspect --check lists all; restore it from a copy"
            )
        yield recording


def _of_trajectory(trajectory: Trajectory) -> Recording:
    status = trajectory.live_status()
    path, recorded = trajectory.path, Recorded(trajectory)
    if not len(trajectory.step):
        raise TrajectoryError(f"{path} holds no snapshot yet (status: {status})")
    words = _STATUS[status].format(reached=_reached(trajectory, whole=status == "finished"))
    return Recording(
        name=path.stem,
        step=trajectory.step,
        time=trajectory.time,
        U=trajectory.U,
        V=trajectory.V,
        W=trajectory.W,
        a=trajectory.a,
        grid=trajectory.grid,
        config=recorded.config,
        scalars=trajectory.scalars,
        status=words,
        complete=status == "finished",
        load_samples=lambda: recorded.data,
        trajectory=trajectory,
    )


def _reached(trajectory: Trajectory, *, whole: bool) -> str:
    """Describe how far a run has come, in time or steps, as it was planned."""
    planned = trajectory.planned_snapshots[-1]
    if planned.dtype.kind == "i":
        return f"step {trajectory.reached_step}" + f" of {planned}" * (not whole)
    recorded = (trajectory.time, trajectory.scalars["time"])
    last = max(float(times[-1]) if len(times) else 0.0 for times in recorded)
    return f"time {last:.6g}" + f" of {planned:g}" * (not whole)


def _check_shapes(arrays: Mapping[str, Array], grid: tuple[int, int] | None) -> None:
    """Reject arrays that are not real numbers, are empty, or do not fit together."""
    sizes: dict[str, int] = {}
    for key, array in arrays.items():
        axes = _AXES[key]
        shape = f"({', '.join(axes)})"
        require_real(key, array.dtype)
        if array.ndim != len(axes) or 0 in array.shape:
            raise ConfigError(
                f"{key} has shape {array.shape}; it must be {shape}, none of them 0, K snapshots"
            )
        for axis, size in zip(axes, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ConfigError(
                    f"{key} has shape {array.shape}; it must be {shape} with {axis} = "
                    f"{sizes[axis]}, as the other arrays have"
                )
    if grid is not None:
        sides = [integer("grid", side, least=1) for side in each("grid", grid, "rows and columns")]
        if len(sides) != 2 or sides[0] * sides[1] != sizes["d_in"]:
            shape = " x ".join(map(str, sides))
            raise ConfigError(f"a grid of {shape} does not hold {sizes['d_in']} inputs")


def _float64(array: Array) -> Array:
    return np.asarray(array, dtype=np.float64)
