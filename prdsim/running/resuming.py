"""Continuing a run from its file: one that was interrupted, killed, or is to be made longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.arguments import file_path, flag
from prdsim.backends import listening
from prdsim.config import RunConfig
from prdsim.errors import (
    ConfigError,
    DamagedTrajectoryError,
    DivergedError,
    ResumeMismatchError,
)
from prdsim.physics.state import RestartPoint
from prdsim.progress import Progress, Say, noted
from prdsim.recorded import Recorded
from prdsim.running.accuracy import remedy_of
from prdsim.running.loop import Loop, Result
from prdsim.running.observing import Observer, observers_of
from prdsim.running.runner import config_attributes, environment, plan_of, shown
from prdsim.running.simulation import CARRIED_SINCE_2, Simulation
from prdsim.running.stopping import Condition, StopRequest
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
    accept_new_bits: bool = False,
    lock: bool = True,
    progress: Progress | bool = False,
    stop: Condition | None = None,
    observe: Observer | Sequence[Observer] = (),
) -> Result:
    """Continue an interrupted or killed run, or a finished one to a later end.

    ``steps`` is a new total, ``end_time`` a new end. The continued trajectory is bit for bit that
    of an uninterrupted run, given the same versions, threads and machine, and a difference from
    those recorded is said; rows that the file already holds are compared, never rewritten. With
    ``accept_new_bits`` rows after the last restart state are withdrawn and computed anew, for a
    machine on which they differ; the file records it. ``lock`` is as in `RunConfig`; a run that
    began without one goes on without. The others are as in `prdsim.run`.

    Raises:
        ConfigError: an argument is invalid, nothing is left to do, or the new end is earlier than
            planned.
        TrajectoryError: the file cannot be read, is being written, or is not the same run.
        BackendUnavailableError: the run's backend cannot work here.
        DivergedError: the run diverged, before or now.
        What ``stop`` or an observer raises: the run has ended as by Ctrl-C.
    """
    path, display = file_path("path", path), shown(progress)
    stopping, observers = StopRequest(stop), observers_of(observe)
    given = {"steps": steps, "end_time": end_time, "lock": lock}
    RunConfig(**{key: value for key, value in given.items() if value is not None})
    flag("accept_new_bits", accept_new_bits)
    with open_trajectory(path) as trajectory:
        lock = lock and Recorded(trajectory).config.lock
    say = noted(display.note)
    with stopping, TrajectoryWriter.open(path, locked=lock, say=say) as writer:
        with open_trajectory(path) as trajectory:
            recorded = Recorded(trajectory)
            config, longer = _config_to_resume(recorded, steps, end_time)
            data, beginning = recorded.data, recorded.beginning
            former = [trajectory.attributes, *trajectory.sessions][-1].get("versions", {})
            rows = first_and_last_row(trajectory)
            # Without rows the run was killed before its first commit: start from the beginning.
            before = _passed(recorded, config)
            point = writer.read_restart(before=before) if rows else None
            if point is not None and point.time >= before:
                raise _finished(trajectory, again=False)
            plans = _plans(trajectory, config, point, longer=longer)
        with (
            listening(display.busy),
            Simulation(config, *data, **beginning, restart=point) as simulation,
        ):
            session = _session(simulation, former, lock=lock, say=say)
            if longer:
                extend_trajectory(
                    writer,
                    snapshot_plan=plans[0],
                    scalar_plan=plans[1],
                    attributes=config_attributes(config),
                    carried=CARRIED_SINCE_2,
                )
                if before < inf:
                    writer.read_restart(before=before)  # the copy begins at its newest
            if accept_new_bits and rows:
                session["accepted_new_bits"] = writer.rows_after_restart
            writer.session(session)
            if accept_new_bits and rows:
                writer.rewind()
            return Loop(simulation, writer, *plans, rows, observers).go(display, stopping)


def _session(
    simulation: Simulation, before: dict[str, Any], *, lock: bool, say: Say
) -> dict[str, Any]:
    """Return what the file records of this resume; say what differs from the one before."""
    now = environment(simulation)
    changes = [
        f"{name} {_words(now[name])} (before: {_words(before[name])})"
        for name in now
        if name in before and _words(before[name]) != _words(now[name])
    ]
    if changes:
        say(
            f"resumed with {'; '.join(changes)}: the last bits may differ from those of an "
            "uninterrupted run"
        )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": at, "step": simulation.step, "lock": lock, "versions": now}


def _words(value: Any) -> str:
    """Show a version, or several, in an order that is always the same."""
    return ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)


def _plans(
    trajectory: Trajectory, config: RunConfig, point: RestartPoint | None, *, longer: bool
) -> tuple[Plan, Plan]:
    """Return the planned snapshots and scalars, of a longer run with what was planned before.

    Raises `DamagedTrajectoryError` if rows are missing that the run had recorded at its restart.
    """
    committed = {"f": trajectory.restart_time, "i": float(trajectory.restart_step)}
    reached = {"f": point.time, "i": float(point.step)} if point else committed

    def plan(name: str, done: np.ndarray, planned: np.ndarray, rule: Rule) -> Plan:
        kind = done.dtype.kind
        if len(done) < len(planned) and planned[len(done)] <= committed[kind]:
            raise DamagedTrajectoryError(
                f"{trajectory.path} is damaged: its commit record counts {len(done)} {name}, fewer "
                "than were recorded up to its restart state; restore it from a copy"
            )
        if not longer:
            return list(planned.tolist())
        fresh = plan_of(config, rule)
        return extended(done.tolist(), planned.tolist(), fresh, reached=reached[kind])

    snapshots = trajectory.recorded_snapshots, trajectory.planned_snapshots, config.snapshot_rule
    scalars = trajectory.recorded_scalars, trajectory.planned_scalars, config.scalar_rule
    return plan("snapshots", *snapshots), plan("scalars", *scalars)


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
        _require_something_left(recorded, longer)
    return longer, longer != config


def _require_something_left(recorded: Recorded, config: RunConfig) -> None:
    """Raise `ConfigError` if a finished run has reached the requested end."""
    trajectory = recorded.trajectory
    if reaches(trajectory.restart_time, config.end_time) and _passed(recorded, config) == inf:
        raise _finished(trajectory, again=_by_time(trajectory))
    if trajectory.restart_step >= config.step_limit:
        raise ConfigError(
            f"{trajectory.path}: the run is finished at step {trajectory.restart_step}; "
            f"--steps N with N > {trajectory.restart_step} continues it"
        )


def _passed(recorded: Recorded, config: RunConfig) -> float:
    """Return a later end that the last step has passed, else infinity.

    States within that step are interpolated: it is to be taken again, from an earlier restart
    state.
    """
    former, end = recorded.config.end_time, config.end_time
    if former is None or end is None or end <= former or not _by_time(recorded.trajectory):
        return inf
    return end if reaches(recorded.trajectory.restart_time, end) else inf


def _by_time(trajectory: Trajectory) -> bool:
    """Whether rows are planned by time; the last of those by step is not in a longer run."""
    return all(
        plan.dtype.kind == "f"
        for plan in (trajectory.planned_snapshots, trajectory.planned_scalars)
    )


def _finished(trajectory: Trajectory, *, again: bool) -> ConfigError:
    """Return the error of a run that has reached its end; whether its last step can be repeated."""
    end, passed = trajectory.time[-1], trajectory.restart_time
    later = f"T > {end:g}" if again else f"T > {passed:.6g}, the end of its last step,"
    return ConfigError(
        f"{trajectory.path}: the run is finished at time {end:g}; "
        f"--end-time T with {later} continues it"
    )


def first_and_last_row(trajectory: Trajectory) -> tuple[dict[str, float], ...]:
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
