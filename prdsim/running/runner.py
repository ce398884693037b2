"""Runs from beginning to end: data, simulation, trajectory file, progress, stopping, resuming."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim import __version__
from prdsim.config import RunConfig, stored_config
from prdsim.datasets import Dataset, from_arrays, load_dataset
from prdsim.errors import ConfigError, DivergedError, PrdsimError, ResumeMismatchError
from prdsim.progress import Progress, Silent, announce, automatic_progress
from prdsim.running.accuracy import warnings_of
from prdsim.running.ordered_calls import OrderedCalls
from prdsim.running.simulation import CARRIED_SINCE_2, RESTART_SCALARS, Resolved, Simulation
from prdsim.running.stopping import StopRequest
from prdsim.schedule import Agenda, Plan, Rule, extended, reaches
from prdsim.trajectory import (
    SCALARS,
    Layout,
    Status,
    Trajectory,
    TrajectoryWriter,
    extend_trajectory,
    open_trajectory,
)
from prdsim.trajectory.create import check_target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from prdsim.backends.base import HostArray

_COMMIT_SECONDS = 1.0  # between commits of scalars alone, so that watchers see a run move


@dataclass(frozen=True)
class Result:
    """How a run ended.

    ``state`` holds U, V, W, a at ``time``: the end time, or that of the last step; ``first`` and
    ``last`` the scalars of the initial and the last recorded state, by the names of the file
    format. ``signal`` is the one that interrupted the run, if any. ``config`` is that of the run.
    """

    path: Path
    stop_reason: str
    step: int
    time: float
    config: RunConfig
    state: Mapping[str, HostArray]
    first: Mapping[str, float]
    last: Mapping[str, float]
    resolved: Resolved
    signal: signal.Signals | None = None

    @property
    def warnings(self) -> list[str]:
        """What speaks against the accuracy of the run, and what to do."""
        return warnings_of(self.config, self.resolved.step_size, self.last)


def run(
    config: RunConfig | None = None,
    *,
    data: tuple[ArrayLike, ArrayLike] | Dataset | None = None,
    initial: Mapping[str, HostArray] | None = None,
    resolved: Resolved | None = None,
    stored_chart: Mapping[str, HostArray] | None = None,
    progress: Progress | bool = False,
    **keys: Any,
) -> Result:
    """Run a simulation and write its trajectory file.

    Args:
        config: The configuration; keywords ``keys`` replace some of its keys.
        data: (X, Y) in place of ``dataset``, one sample a row: X (n, d_in), Y (n, d_out) or
            integer labels (n,). All of them are used; ``samples`` is ignored. A `Dataset` is used
            as it stands.
        initial: U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,) at t = 0, in place of those
            that the seed draws.
        resolved: What ``auto`` came to in an earlier run, to be used again, with the arrays of its
            chart, ``stored_chart``.
        progress: True shows on stderr what is run and the memory that is predicted to need, then a
            bar on a terminal, lines elsewhere; or your own `Progress`.

    Returns:
        The end of the run; an interrupted one (SIGINT, SIGTERM) can be resumed from ``path``.

    Raises:
        ConfigError: a key has no meaning, the output exists, or the memory does not suffice.
        DataError: the data cannot be used.
        BackendUnavailableError: the backend cannot work here.
        OutputError: the file cannot be written.
        DivergedError: the run left the finite numbers; the file holds it up to there.
    """
    config = (config or RunConfig()).replace(**keys)
    path = Path(config.output or default_name())
    check_target(path, force=config.force)
    dataset = load_data(config, data)
    if data is not None:
        config = config.replace(dataset=dataset.name, samples=dataset.X.shape[1])
    with Simulation(
        config, dataset.X, dataset.Y, initial=initial, resolved=resolved, stored_chart=stored_chart
    ) as simulation:
        layout = _layout(simulation, dataset)
        with (
            StopRequest() as stop,
            TrajectoryWriter.create(path, layout, force=config.force) as writer,
        ):
            if progress is True:
                announce(simulation.describe())
            plans = layout.snapshot_plan, layout.scalar_plan
            return _Run(simulation, writer, *plans).go(_progress(progress), stop)


def resume(
    path: str | Path,
    steps: int | None = None,
    *,
    end_time: float | None = None,
    progress: Progress | bool = False,
) -> Result:
    """Continue an interrupted or killed run, or a finished one to a later ``end_time``.

    Or to more ``steps`` in all. The continued trajectory is bit for bit that of a run never
    interrupted, given the same versions, threads and machine; what the file already holds is
    compared, never rewritten.

    Raises:
        ConfigError: nothing is left to do, or less is asked for than was planned.
        TrajectoryError: the file cannot be read, is being written, or is not the same run.
        DivergedError: the run diverged, before or now.
    """
    path = Path(path)
    with open_trajectory(path) as trajectory:
        config, longer = _config_to_resume(trajectory, steps, end_time)
        data = stored_data(trajectory, config)
        initial = {name: np.asarray(array) for name, array in trajectory.initial.items()}
        resolved = Resolved(**trajectory.attributes["resolved"])
        chart = {name: np.asarray(array) for name, array in trajectory.chart.items()}
        plans = _Plans.of(trajectory)
        recorded = _recorded(trajectory)
    with StopRequest() as stop:
        if longer:
            plans = _extend(path, config, plans)
        with TrajectoryWriter.open(path) as writer:
            # Without rows the run was killed before its first commit, and starts anew.
            point = writer.read_restart() if recorded else None
            with Simulation(
                config, *data, initial=initial, resolved=resolved, stored_chart=chart, restart=point
            ) as simulation:
                run = _Run(simulation, writer, plans.snapshots, plans.scalars, recorded)
                return run.go(_progress(progress), stop)


def default_name() -> str:
    """Return a file name that no other run has: prdsim-<time>-<id>.h5."""
    return f"prdsim-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.h5"


class _Run:
    """The loop: advance, record what is due, commit, until the end or a stop.

    Where a device computes by itself, the file is written by a thread behind the loop, in the same
    order; elsewhere in the loop, since another thread would slow down the products.
    """

    def __init__(
        self,
        simulation: Simulation,
        writer: TrajectoryWriter,
        snapshots: Sequence[float],
        scalars: Sequence[float],
        recorded: Sequence[Mapping[str, float]] = (),
    ) -> None:
        self._simulation, self._writer = simulation, writer
        begun = (simulation.step, simulation.time) if recorded else ()
        self._snapshots, self._scalars = Agenda(snapshots, *begun), Agenda(scalars, *begun)
        self._first, self._last = recorded or ({}, {})
        self._committed = self._restarted = time.monotonic()
        self._later = OrderedCalls(behind=simulation.backend.asynchronous)

    def go(self, progress: Progress, stop: StopRequest) -> Result:
        simulation = self._simulation
        progress.start(*simulation.progress)
        try:
            if not self._first:
                self._record(restart=True)
            while not simulation.finished and stop.signal is None:
                simulation.advance(
                    next_view=min(self._snapshots.next_time, self._scalars.next_time)
                )
                self._record()
                loss = self._last.get("loss_sup", float("nan"))
                progress.update(simulation.progress[0], simulation.step, loss)
            return self._end(stop)
        except DivergedError as error:
            reason = str(error).splitlines()[0].removeprefix("diverged: ")
            self._commit_end(Status.DIVERGED, reason)
            raise
        except PrdsimError:
            raise
        except Exception as error:
            self._commit_end(Status.FAILED, repr(error))
            raise
        finally:
            self._later.close()
            progress.close()

    def _record(self, *, restart: bool = False) -> None:
        """Write what has become due with the last step, and commit if it is time."""
        simulation, writer, now = self._simulation, self._writer, time.monotonic()
        scalars, snapshots = simulation.due(self._scalars), simulation.due(self._snapshots)
        restart |= now - self._restarted >= simulation.config.restart_seconds
        if not (scalars or snapshots or restart):
            return
        for moment in sorted({*scalars, *snapshots, simulation.time}):
            self._require_finite(moment)
            if moment in snapshots:
                simulation.measure_stability(moment)
            if moment in scalars:
                self._record_scalars(moment)
            if moment in snapshots:
                self._later.wait()  # one at a time leaves the device and waits for the disk
                copies = simulation.start_weights(moment)
                self._later(self._write_snapshot, simulation.step, moment, copies)
        if simulation.finished:
            return
        if restart:
            self._write_restart(now)
        overdue = now - self._committed >= _COMMIT_SECONDS and self._later.idle
        if snapshots or restart or overdue:
            self._later(writer.commit, Status.RUNNING)
            self._committed = now

    def _record_scalars(self, moment: float) -> None:
        self._last = self._simulation.observe(moment)
        self._first = self._first or self._last
        self._later(self._writer.scalars, self._simulation.step, self._last)

    def _write_snapshot(
        self, step: int, time: float, copies: dict[str, Callable[[], HostArray]]
    ) -> None:
        # Each is dropped once it is here: the device's memory is free before the next one starts.
        arrays = {name: copies.pop(name)() for name in tuple(copies)}
        self._writer.snapshot(step, time, arrays)

    def _write_restart(self, now: float) -> None:
        point = self._simulation.restart_point()
        self._later(self._writer.restart, point.step, point.time, point.arrays, point.scalars)
        self._restarted = now

    def _commit_end(self, status: Status, reason: str) -> None:
        """Commit all there is, and how the run ended."""
        step = self._simulation.step
        self._later(self._writer.commit, status, stop_step=step, stop_reason=reason)
        self._later.wait()

    def _end(self, stop: StopRequest) -> Result:
        """Leave the file so that the run can be continued, and say how it ended."""
        simulation = self._simulation
        self._require_finite()
        self._write_restart(time.monotonic())
        status = Status.FINISHED if simulation.finished else Status.INTERRUPTED
        reason = stop.signal.name if status is Status.INTERRUPTED and stop.signal else ""
        self._commit_end(status, reason)
        return Result(
            path=self._writer.path,
            stop_reason=str(status),
            step=simulation.step,
            time=simulation.shown_time,
            config=simulation.config,
            state=simulation.weights(simulation.shown_time),
            first=self._first,
            last=self._last,
            resolved=simulation.resolved,
            signal=stop.signal if status is Status.INTERRUPTED else None,
        )

    def _require_finite(self, moment: float | None = None) -> None:
        """Raise `DivergedError`, naming the step and the array, unless a state is finite."""
        if self._simulation.non_finite_array(moment) is None:
            return
        self._later.wait()
        simulation, reached = self._simulation, self._simulation.step
        simulation.restore(self._writer.read_restart())
        while (name := simulation.non_finite_array()) is None and simulation.step < reached:
            simulation.advance()
        raise DivergedError(
            f"diverged: {name or 'the state'} is not finite from step {simulation.step} on\n"
            f"{self._writer.path} holds the run up to there; {self._advice(name)}"
        )

    def _advice(self, name: str | None) -> str:
        config, step_size = self._simulation.config, self._simulation.resolved.step_size
        if config.adaptive:
            return f"try --rtol {config.rtol / 10:.2g}"
        if name in ("W", "a") and config.critic_step_size is not None:
            return f"try --critic-step-size {config.critic_step_size / 2:.2g}"
        return f"try --step-size {step_size / 2:.2g}"


def _progress(progress: Progress | bool) -> Progress:
    if isinstance(progress, bool):
        return automatic_progress() if progress else Silent()
    return progress


def load_data(
    config: RunConfig, data: tuple[ArrayLike, ArrayLike] | Dataset | None = None
) -> Dataset:
    """Return the data set that a configuration names, or ``data`` (X, Y) treated as it asks."""
    if isinstance(data, Dataset):
        return data
    if data is not None:
        return from_arrays(
            *data, seed=config.seed, normalize=config.normalize, target=config.target
        )
    return load_dataset(
        config.dataset,
        samples=config.samples,
        seed=config.seed,
        split=config.split,
        normalize=config.normalize,
        target=config.target,
        data_dir=config.data_dir,
        outputs=config.outputs,
        correlation_length=config.correlation_length,
    )


def _layout(simulation: Simulation, dataset: Dataset) -> Layout:
    config, model = simulation.config, simulation.model
    precision = config.array_precision
    data = {"X": dataset.X.astype(precision), "Y": dataset.Y.astype(precision)}
    return Layout(
        shapes=simulation.dimensions.state_shapes,
        restart_shapes=simulation.restart_shapes,
        restart_scalars=RESTART_SCALARS,
        precision=precision,
        snapshot_precision=config.snapshot_precision or precision,
        snapshot_plan=_plan(config, config.snapshot_rule),
        scalar_plan=_plan(config, config.scalar_rule),
        attributes={
            "run_id": secrets.token_hex(8),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "resolved": json.dumps(simulation.resolved.to_dict()),
            "precision": config.precision,
            "versions": json.dumps(_versions(simulation)),
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint,
            **({"grid": dataset.grid} if dataset.grid else {}),
            **_config_attributes(config),
        },
        initial=simulation.initial,
        chart=model.chart.arrays(),
        data=data if config.store_data else None,
    )


def _plan(config: RunConfig, rule: Rule) -> Plan:
    return rule.plan(steps=config.step_limit, end_time=config.end_time)


def _config_attributes(config: RunConfig) -> dict[str, str]:
    return {"config": config.to_json(), "config_sha256": config.sha256()}


def _versions(simulation: Simulation) -> dict[str, Any]:
    import platform

    import h5py

    return {
        **simulation.backend.describe(),
        "prdsim": __version__,
        "python": platform.python_version(),
        "h5py": h5py.__version__,
        "machine": platform.machine(),
    }


@dataclass(frozen=True)
class _Plans:
    """The planned rows of a file: steps, or times."""

    snapshots: Plan
    scalars: Plan

    @classmethod
    def of(cls, trajectory: Trajectory) -> _Plans:
        """Return the plans of a file."""
        return cls(trajectory.planned_snapshots.tolist(), trajectory.planned_scalars.tolist())


def _config_to_resume(
    trajectory: Trajectory, steps: int | None, end_time: float | None
) -> tuple[RunConfig, bool]:
    """Return the configuration to go on with, and whether it asks for more than was planned.

    Raises unless there is something left to do.
    """
    path, config = trajectory.path, stored_config(trajectory)
    if trajectory.status is Status.DIVERGED:
        raise DivergedError(
            f"{path}: the run diverged at step {trajectory.stop_step} and would again;\n"
            f"start a new one with a smaller --{'rtol' if config.adaptive else 'step-size'}"
        )
    for option, given, planned in (
        ("steps", steps, config.steps),
        ("end-time", end_time, config.end_time),
    ):
        if given is not None and planned is not None and given < planned:
            raise ConfigError(
                f"--{option} {given}: {path} is planned for {planned}; give a later end"
            )
    if end_time is not None and config.end_time is None:
        raise ConfigError(f"--end-time {end_time}: {path} was planned by steps; give --steps")
    if trajectory.format_version == 1 and config.critic_warmup and trajectory.restart_step == 0:
        raise ResumeMismatchError(
            f"{path}: the run was stopped before its first step, with which prdsim "
            f"{trajectory.attributes['prdsim_version']} warmed the critic up; run it again"
        )
    longer = config.replace(
        steps=steps if steps is not None else config.steps,
        end_time=end_time if end_time is not None else config.end_time,
    )
    if trajectory.status is Status.FINISHED:
        _require_something_left(trajectory, longer)
    return longer, longer != config


def _require_something_left(trajectory: Trajectory, config: RunConfig) -> None:
    """Raise `ConfigError` if a finished run has come to the end that is asked for."""
    path = trajectory.path
    if reaches(trajectory.restart_time, config.end_time):
        raise ConfigError(
            f"{path}: the run is finished at time {trajectory.time[-1]:g}; "
            f"--end-time T with T > {trajectory.restart_time:.6g}, the end of its last step, "
            "continues it"
        )
    if trajectory.restart_step >= config.step_limit:
        raise ConfigError(
            f"{path}: the run is finished at step {trajectory.restart_step}; "
            f"--steps N with N > {trajectory.restart_step} continues it"
        )


def _recorded(trajectory: Trajectory) -> tuple[dict[str, float], ...]:
    """Return the scalars of the first and the last row up to the restart; () if there are none.

    Those that a file of an older format version lacks are NaN.
    """
    columns = dict(trajectory.scalars)
    steps = columns.pop("step")
    if not len(steps):
        return ()
    last = int((steps <= trajectory.restart_step).sum()) - 1
    unknown = dict.fromkeys((field.name for field in SCALARS), float("nan"))
    first_row, last_row = (
        {**unknown, **{n: float(columns[n][k]) for n in columns}} for k in (0, last)
    )
    return first_row, last_row


def stored_data(trajectory: Trajectory, config: RunConfig) -> tuple[HostArray, HostArray]:
    """Return X (d_in, n) and Y (d_out, n) of a run, from its file or from where they came.

    Raises:
        ResumeMismatchError: the file holds none, and the data set has changed.
        DataError: it is not to be had.

    """
    if trajectory.data:
        return np.asarray(trajectory.data["X"]), np.asarray(trajectory.data["Y"])
    dataset = load_data(config)
    wanted = trajectory.attributes["dataset_sha256"]
    if dataset.fingerprint != wanted:
        raise ResumeMismatchError(
            f"{trajectory.path}: was made from other data than {dataset.name} holds now "
            f"(SHA-256 {wanted[:12]}... there, {dataset.fingerprint[:12]}... here)"
        )
    return dataset.X, dataset.Y


def _extend(path: Path, config: RunConfig, plans: _Plans) -> _Plans:
    """Make room in the file for a longer run; return its plans."""
    with open_trajectory(path) as trajectory:
        reached = {"f": trajectory.restart_time, "i": float(trajectory.restart_step)}

        def longer(done: np.ndarray, planned: Plan, rule: Rule) -> Plan:
            fresh = _plan(config, rule)
            return extended(done.tolist(), planned, fresh, reached=reached[done.dtype.kind])

        plans = _Plans(
            longer(trajectory.recorded_snapshots, plans.snapshots, config.snapshot_rule),
            longer(trajectory.recorded_scalars, plans.scalars, config.scalar_rule),
        )
    extend_trajectory(
        path,
        snapshot_plan=plans.snapshots,
        scalar_plan=plans.scalars,
        attributes=_config_attributes(config),
        carried=CARRIED_SINCE_2,
    )
    return plans
