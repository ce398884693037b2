"""Assessing a run: make its replays, measure and judge them, and write the report."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from prdsim import __version__
from prdsim.analysis import GROUPS, Recording, history, open_recording
from prdsim.arguments import flag, function, number
from prdsim.convergence.judgment import HEADLINE, JudgedNumber, judge
from prdsim.convergence.replays import (
    Replay,
    ReplayPlan,
    Stopped,
    ensure,
    plan_of,
    refuse_others,
    remove,
)
from prdsim.convergence.report import ReplayRecord, Report, replay_folder, report_path, write_report
from prdsim.errors import ConfigError, DataError, DivergedError, TrajectoryLockedError
from prdsim.files.lock import folder_held
from prdsim.files.small import folder_for_output
from prdsim.progress import noting, silent
from prdsim.running.accuracy import remedy_of
from prdsim.trajectory import Status, Trajectory, open_trajectory

_COUNTS = {"step", "time", "step_size", "evaluations", "rejected_steps", "lambda_max"}
_DRIFTS = {"balance_drift", "critic_balance_drift", "invariant_error"}
NO_FUNCTIONALS = frozenset(_COUNTS | _DRIFTS)
"""Recorded scalars that do not belong to the flow: step counts, and zeros of exact arithmetic."""


@dataclass(frozen=True)
class Assessment:
    """The report and its file; or the signal that stopped it: call `converge` again to continue."""

    path: Path
    report: Report | None
    signal: signal.Signals | None = None


def converge(
    path: str | Path,
    *,
    accuracy: float = 0.01,
    time: float | None = None,
    force: bool = False,
    say: Callable[[str], None] = silent,
    progress: bool = False,
) -> Assessment:
    """Replay a finished run at finer steps and with perturbations, judge it, write the report.

    Functionals are judged, at the run's end or at the snapshot nearest to ``time``, never entries
    of arrays: with a critic a perturbation of 1e-6 grows to a tenth of the state by t = 50, and no
    step size makes entries reproducible. See `judge` for change, scatter, order and verdict.

    Args:
        path: The trajectory file.
        accuracy: The relative change that is allowed, between 0 and 1.
        time: Time of the judgment; by default the end of the run.
        force: Replace an existing report.
        say: Called with a line of text before each replay.
        progress: Show the progress of each replay.

    Raises:
        ConfigError: an argument is invalid, the run is not finished, the time is outside it, or a
            report exists.
        DivergedError: the run itself diverged.
        TrajectoryError: a file cannot be read, or another process is writing it.
        DataError: the run's samples are not in its file, nor to be had.
        BackendUnavailableError: the run's backend is unavailable.
        OutputError: a replay or the report cannot be written.
    """
    flag("force", force)
    flag("progress", progress)
    function("say", say, "of a line of text")
    if not 0.0 < number("accuracy", accuracy) < 1.0:
        raise ConfigError(f"accuracy {accuracy:g} is not between 0 and 1; 0.01 is one percent")
    with open_recording(path) as recording:
        trajectory = recording.trajectory
        assert trajectory is not None
        index = _index(recording, trajectory, time)
        target = report_path(trajectory.path)
        if target.is_dir():
            raise ConfigError(f"{target} is a folder with the name of the report: move it")
        if target.exists() and not force:
            raise ConfigError(f"{target} exists; give --force to replace it")
        plan = plan_of(recording, trajectory, index)
        folder = replay_folder(trajectory.path)
        with folder_for_output(folder), folder_held(folder) as free:
            if not free:
                raise TrajectoryLockedError(f"another converge of {path} is at work: wait for it")
            stopped = _make(plan, say, progress)
            if stopped is not None:
                return Assessment(target, None, stopped)
            with noting() as note:
                if progress:
                    note("measuring the run and its replays")
                report = _report(recording, trajectory, index, plan, accuracy)
            write_report(report, target, force=force)
            remove(plan, folder)
    return Assessment(target, report)


def _make(plan: ReplayPlan, say: Callable[[str], None], progress: bool) -> Stopped:
    """Make all replays; return the signal that stopped one, if any."""
    refuse_others(plan)
    for place, replay in enumerate(plan.replays, start=1):
        say(f"replay {place} of {len(plan.replays)}: {replay.name}, {replay.setting}")
        stopped = ensure(plan, replay, progress)
        if stopped is not None:
            return stopped
    return None


def _index(recording: Recording, trajectory: Trajectory, time: float | None) -> int:
    """Return the index of the snapshot to judge; raise an error if that is impossible."""
    path, status = trajectory.path, trajectory.live_status()
    if status == Status.DIVERGED:
        raise DivergedError(
            f"{path}: the run diverged at step {trajectory.stop_step} and cannot be judged;\n"
            f"start a new one with {remedy_of(trajectory, recording.settings)}"
        )
    if not recording.complete:
        raise ConfigError(
            f"{path}: the run is not finished ({status} at step {trajectory.reached_step}); "
            "prdsim resume continues it"
        )
    end = float(recording.time[-1])
    latest = end * (1 + 1e-5)  # shown with six digits
    if time is not None and not 0.0 < number("time", time) <= latest:
        raise ConfigError(f"--time {time:g} is not between 0 and {end:.6g}, where the run ends")
    index = len(recording) - 1 if time is None else recording.nearest(time)
    if recording.time[index] <= 0.0:
        raise ConfigError(
            f"--time {time}: the nearest snapshot is the initial state; snapshots are at "
            f"{', '.join(f'{t:.4g}' for t in recording.time[:5])}, ..."
        )
    return index


def _report(
    recording: Recording, trajectory: Trajectory, index: int, plan: ReplayPlan, accuracy: float
) -> Report:
    return Report(
        run_id=str(trajectory.attributes["run_id"]),
        config_sha256=str(trajectory.attributes["config_sha256"]),
        run_time=float(recording.time[-1]),
        run_step=int(recording.step[-1]),
        time=float(recording.time[index]),
        step=int(recording.step[index]),
        accuracy=accuracy,
        setting=f"{recording.settings.integrator}, {plan.setting}",
        prdsim_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        replays=tuple(_replayed(replay) for replay in plan.replays),
        rows=tuple(_rows(recording, index, plan, accuracy)),
    )


def _replayed(replay: Replay) -> ReplayRecord:
    with open_trajectory(replay.path) as there:
        diverged = there.stop_reason if there.status is Status.DIVERGED else ""
        return ReplayRecord(replay.name, replay.setting, there.reached_step, diverged)


def _rows(
    recording: Recording, index: int, plan: ReplayPlan, accuracy: float
) -> Iterable[JudgedNumber]:
    """Judge every quantity of the run, headline measures first."""
    values = quantities(recording, index)
    finer, twins = (
        [_quantities_of(replay, recording) for replay in group]
        for group in (plan.finer, plan.twins)
    )
    for name in sorted(values, key=lambda name: name not in HEADLINE):
        yield judge(
            name,
            values[name],
            [there.get(name, np.nan) for there in finer],
            [there.get(name, np.nan) for there in twins],
            accuracy=accuracy,
            ratio=plan.ratio,
        )


def _quantities_of(replay: Replay, like: Recording) -> dict[str, float]:
    """Return the quantities at a replay's end; none if it did not reach it."""
    with open_recording(replay.path) as there:
        if not there.complete:
            return {}
        return quantities(replace(there, grid=like.grid), -1)


def quantities(recording: Recording, index: int) -> dict[str, float]:
    """Return all quantities judged at a snapshot: every computable measure, and the scalars.

    A scalar that is also a measure counts as the measure. Measures of the path are left out: they
    depend on the snapshots before, which replays do not record.
    """
    found = {
        name: value
        for name, value in _scalars_at(recording, recording.time[index]).items()
        if name not in NO_FUNCTIONALS
    }
    for name, group in GROUPS.items():
        try:
            measured = history(recording, [name], snapshots=[index])
        except (ConfigError, DataError):  # no grid or no samples
            continue
        judged = [measure.name for measure in group.measures if not measure.of_path]
        found |= {name: float(measured[name][0]) for name in judged if name in measured.values}
    return found


def _scalars_at(recording: Recording, time: float) -> dict[str, float]:
    """Return the row of scalars at a time; nothing if there is none."""
    columns = dict(recording.scalars or {})
    row = int(np.argmin(np.abs(columns["time"] - time)))
    if abs(columns["time"][row] - time) > 1e-9 * time:
        return {}
    return {name: float(column[row]) for name, column in columns.items()}
