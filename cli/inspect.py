"""``prdsim inspect``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.errors import DamagedTrajectoryError, ReportError
from prdsim.files.small import size_text
from prdsim.words import shell_word, shown

from .shared_options import takes_run
from .terminal import say

if TYPE_CHECKING:
    from prdsim.config import RunConfig
    from prdsim.trajectory import Problem, Trajectory

_SHOWN = (
    ("time", "time"),
    ("step", "step"),
    ("loss_sup", "supervised loss L_sup"),
    ("loss_adv", "adversarial loss L_adv"),
    ("loss_critic", "critic loss"),
    ("distance_U_mean", "distance of u_j, mean"),
    ("distance_V_mean", "distance of v_j, mean"),
    ("invariant_error", "drift of the invariants"),
    ("mask_flips", "gates flipped"),
)


@click.command(name="inspect")
@takes_run
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--check", is_flag=True, help="verify every checksum; exit code 3 for damage")
def command(path: Path, as_json: bool, check: bool) -> int:
    """Summarize a trajectory file. Works while the file is being written, without disturbing it."""
    from prdsim.progress import noting
    from prdsim.trajectory import open_trajectory

    with open_trajectory(path) as trajectory:
        problems = []
        if check:
            with noting() as note:
                note("verifying")
                problems = trajectory.check()
        damaged = any(problem.is_damage for problem in problems)
        try:
            report, text, unread = _summary(trajectory)
        except DamagedTrajectoryError:
            if not damaged:
                raise
            report, text, unread = {"path": str(path)}, f"{path}: no summary, for damage", True
    if check:
        report["problems"] = [asdict(problem) for problem in problems]
        text = "\n".join([text, *_findings(path, problems)])
    say(json.dumps(report, indent=2) if as_json else text)
    return 3 if damaged or unread else 0


def _summary(trajectory: Trajectory) -> tuple[dict[str, Any], str, bool]:
    """Return the report, its text, and whether the file of its discretization cannot be read."""
    from prdsim.recorded import Recorded
    from prdsim.running.accuracy import signs_of

    state = trajectory.live_status()
    config = Recorded(trajectory).config
    report = _report(trajectory, config, state)
    report["warnings"] = signs_of(trajectory, config)
    report["discretization"], unread = _discretization(trajectory)
    return report, _text(report, config), unread


def _findings(path: Path, problems: list[Problem]) -> list[str]:
    """Describe what is wrong, and what to do about it."""
    words = {"harmless": "harmless", "damage": "damaged"}
    lines = [f"  {words[problem.severity]}: {problem}" for problem in problems]
    if any(problem.is_damage for problem in problems):
        good = shell_word(f"{path.stem}-repaired{path.suffix}")
        lines.append(f"  save what is whole with: prdsim repair {shell_word(path)} -o {good}")
    return lines or ["  all checksums hold"]


def _discretization(trajectory: Trajectory) -> tuple[str, bool]:
    """Describe the run's known accuracy; also return whether its report cannot be read."""
    from prdsim.convergence.report import look_up

    try:
        found = look_up(trajectory)
    except ReportError as error:
        return f"unknown: {error}", True
    return found.reason if found.report is None else found.report.words(), False


def _report(trajectory: Trajectory, config: RunConfig, state: str) -> dict[str, Any]:
    scalars = {name: _plain(column) for name, column in trajectory.scalars.items()}
    return {
        "path": str(trajectory.path),
        "bytes": trajectory.path.stat().st_size,
        "status": state,
        "stop_reason": trajectory.stop_reason,
        "step": trajectory.reached_step,
        "steps": config.steps,
        "time": float(trajectory.time[-1]) if len(trajectory.time) else 0.0,
        "end_time": config.end_time,
        "sessions": trajectory.sessions,
        "snapshots": trajectory.step.tolist(),
        "snapshots_planned": len(trajectory.planned_snapshots),
        "restart_step": trajectory.restart_step,
        "scalars": scalars,
        "shapes": {name: list(array.shape) for name, array in trajectory.initial.items()},
        "attributes": trajectory.attributes,
        "config": config.model_dump(),
    }


def _plain(column: Any) -> list[Any]:
    """Return numbers for JSON: infinities and NaN become null."""
    return [value if math.isfinite(value) else None for value in column.tolist()]


def _text(report: dict[str, Any], config: RunConfig) -> str:
    shapes, resolved = report["shapes"], report["attributes"]["resolved"]
    about = {name: shown(value) for name, value in report["attributes"].items()}
    (m, d_in), (d_out, _), (m_c, _) = shapes["U"], shapes["V"], shapes["W"]
    lines = [
        f"{report['path']}  {size_text(report['bytes'])}, "
        f"written by prdsim {about['prdsim_version']} on {about['created']}",
        f"  {_status(report)}",
        f"  {about['dataset']}, {config.samples} samples, {config.adversary_in_words}",
        f"  m = {m}, d_in = {d_in}, d_out = {d_out}, m_c = {m_c}; {_method(config, resolved)}, "
        f"{shown(resolved['backend'])}, {about['precision']}, {resolved['chart']} chart",
        f"  {len(report['snapshots'])} of {report['snapshots_planned']} snapshots, "
        f"{len(report['scalars']['step'])} rows of scalars",
        f"  discretization: {report['discretization']}",
    ]
    lines += _resumes(report["sessions"])
    lines += _table(report["scalars"])
    lines += [f"  warning: {text}" for text in report["warnings"]]
    resumable = report["restart_step"] >= 0 or not report["scalars"]["step"]
    if report["status"] in ("killed", "interrupted", "failed") and resumable:
        lines.append(f"  continue with: prdsim resume {shell_word(report['path'])}")
    return "\n".join(lines)


def _resumes(sessions: list[dict[str, Any]]) -> list[str]:
    """Tell how often a run was resumed, and where rows were computed anew."""
    if not sessions:
        return []
    last = sessions[-1]
    step, at = (shown(last.get(name, "?")) for name in ("step", "at"))
    count = "once" if last["number"] == 1 else f"{last['number']} times"
    lines = [f"  resumed {count}, last at step {step} on {at}"]
    for session in sessions:
        if withdrawn := session.get("accepted_new_bits"):
            rows = " and ".join(f"{number} of {name}" for name, number in withdrawn.items())
            lines.append(f"  new bits accepted at step {session['step']}: {rows} computed anew")
    return lines


def _status(report: dict[str, Any]) -> str:
    reason = f" ({shown(report['stop_reason'], 100)})" if report["stop_reason"] else ""
    if report["end_time"] is None:
        return f"{report['status']}{reason} at step {report['step']} of {report['steps']}"
    return (
        f"{report['status']}{reason} at step {report['step']}; "
        f"last snapshot at time {report['time']:.6g} of {report['end_time']:g}"
    )


def _method(config: RunConfig, resolved: dict[str, Any]) -> str:
    if config.adaptive:
        return f"{config.integrator}, rtol {config.rtol:g}"
    return f"{config.integrator}, step size {resolved['step_size']:g}"


def _table(scalars: dict[str, list[Any]]) -> list[str]:
    """Show the scalars of a few rows, spread from the first to the last."""
    count = len(scalars["step"])
    if count == 0:
        return ["  nothing recorded yet"]
    rows = sorted({round(i * (count - 1) / 4) for i in range(5)})
    return [
        f"  {label:26}" + "".join(_cell(scalars[name][i]) for i in rows)
        for name, label in _SHOWN
        if name in scalars  # files of format version 1 lack some
    ]


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.5g'):>12}"
