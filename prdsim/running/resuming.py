"""Continuing a run from its file: one that was interrupted, killed, or is to be made longer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DivergedError, ResumeMismatchError
from prdsim.progress import Progress
from prdsim.recorded import Recorded
from prdsim.running.accuracy import remedy_of
from prdsim.running.loop import Loop, Result
from prdsim.running.runner import config_attributes, plan_of, shown
from prdsim.running.simulation import CARRIED_SINCE_2, Simulation
from prdsim.running.stopping import StopRequest
from prdsim.schedule import Plan, Rule, extended, reaches
from prdsim.trajectory import (
    SCALARS,
    Status,
    Trajectory,
    TrajectoryWriter,
    extend_trajectory,
    open_trajectory,
)


def resume(
    path: str | Path,
    steps: int | None = None,
    *,
    end_time: float | None = None,
    progress: Progress | bool = False,
) -> Result:
    """Continue an interrupted or killed run, or a finished one to a later end.

    ``steps`` is a new total, ``end_time`` a new end. The continued trajectory is bit for bit that
    of an uninterrupted run, given the same versions, threads and machine; rows that the file
    already holds are compared, never rewritten.

    Raises:
        ConfigError: nothing is left to do, or the new end is earlier than planned.
        TrajectoryError: the file cannot be read, is being written, or is not the same run.
        DivergedError: the run diverged, before or now.
    """
    path = Path(path)
    with open_trajectory(path) as trajectory:
        recorded = Recorded(trajectory)
        config, longer = _config_to_resume(recorded, steps, end_time)
        data, beginning = recorded.data, recorded.beginning
        plans, rows = _Plans.of(trajectory), _first_and_last_row(trajectory)
    with StopRequest() as stop:
        if longer:
            plans = _extend(path, config, plans)
        with TrajectoryWriter.open(path) as writer:
            # Without rows the run was killed before its first commit: start from the beginning.
            point = writer.read_restart() if rows else None
            with Simulation(config, *data, **beginning, restart=point) as simulation:
                loop = Loop(simulation, writer, plans.snapshots, plans.scalars, rows)
                return loop.go(shown(progress), stop)


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
    recorded: Recorded, steps: int | None, end_time: float | None
) -> tuple[RunConfig, bool]:
    """Return the configuration to go on with, and whether it goes beyond the plan.

    Raises if nothing is left to do.
    """
    trajectory, config = recorded.trajectory, recorded.config
    path = trajectory.path
    if trajectory.status is Status.DIVERGED:
        raise DivergedError(
            f"{path}: the run diverged at step {trajectory.stop_step} and would again;\n"
            f"start a new one with {remedy_of(trajectory, config)}"
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
            f"{path}: the run was stopped before its first step, in which prdsim "
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
    """Raise `ConfigError` if a finished run has reached the requested end."""
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


def _first_and_last_row(trajectory: Trajectory) -> tuple[dict[str, float], ...]:
    """Return the scalars of the first and the last row up to the restart, () without rows.

    Scalars missing in a file of an older format version are NaN.
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


def _extend(path: Path, config: RunConfig, plans: _Plans) -> _Plans:
    """Extend the file for a longer run; return its plans."""
    with open_trajectory(path) as trajectory:
        reached = {"f": trajectory.restart_time, "i": float(trajectory.restart_step)}

        def longer(done: np.ndarray, planned: Plan, rule: Rule) -> Plan:
            fresh = plan_of(config, rule)
            return extended(done.tolist(), planned, fresh, reached=reached[done.dtype.kind])

        plans = _Plans(
            longer(trajectory.recorded_snapshots, plans.snapshots, config.snapshot_rule),
            longer(trajectory.recorded_scalars, plans.scalars, config.scalar_rule),
        )
    extend_trajectory(
        path,
        snapshot_plan=plans.snapshots,
        scalar_plan=plans.scalars,
        attributes=config_attributes(config),
        carried=CARRIED_SINCE_2,
    )
    return plans
