"""``prdsim converge``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.convergence.judgment import JudgedNumber, percent

from .shared_options import takes_format, takes_run
from .terminal import say

if TYPE_CHECKING:
    from prdsim.convergence.report import Report


@click.command(name="converge")
@takes_run
@click.option(
    "--accuracy", type=float, default=0.01, metavar="SHARE", help="relative change allowed  [0.01]"
)
@click.option("--time", type=float, help="judge at this time  [the end of the run]")
@click.option("--force", is_flag=True, help="replace the report")
@takes_format("of the printed report  [table]")
def command(path: Path, accuracy: float, time: float | None, force: bool, form: str | None) -> int:
    """Assess how far a run's numbers can be trusted.

    Replays the finished run at two finer tolerances or step sizes, and computes two twins whose
    initial state is off by 1e-6; this takes six to eight times as long as the run. Shown for every
    scalar and measure: value, the larger of its changes in the two finer replays, scatter of the
    twins, observed order, and a verdict.

    The report is saved as RUN.converge.json, and quoted by inspect, compare, analyze, plot and
    reproduce. Ctrl-C stops; repeat the command to continue. Exit code 1 if a headline measure has
    not converged.
    """
    from prdsim.progress import announce, noting

    with noting() as note:
        note("loading")
        from prdsim.convergence.assess import converge

    outcome = converge(path, accuracy=accuracy, time=time, force=force, say=announce, progress=True)
    if outcome.report is None:
        say(f"stopped; continue with: {shlex.join(['prdsim', *sys.argv[1:]])}", err=True)
        return 128 + int(outcome.signal or 0)
    say(_text(path, outcome.path, outcome.report, form), nl=False)
    return 0 if outcome.report.holds else 1


def _text(run: Path, target: Path, report: Report, form: str | None) -> str:
    from prdsim.analysis.patterns.measures import MEANINGS
    from prdsim.table import Table

    if form == "json":
        return target.read_text()
    rows = report.rows
    columns: dict[str, list[Any]] = {
        "quantity": [row.name for row in rows],
        "value": [row.value for row in rows],
        "change": [row.change for row in rows],
        "scatter": [row.scatter for row in rows],
        "order": [row.order for row in rows],
        "verdict": [str(row.verdict) for row in rows],
    }
    if form == "csv":
        return Table("", {**columns, "meaning": [MEANINGS.get(r.name, "") for r in rows]}).to_csv()
    shown = {**columns, **{name: _percents(columns[name]) for name in ("change", "scatter")}}
    shown["order"] = ["-" if row.order is None else f"{row.order:.1f}" for row in rows]
    title = f"{run} at t = {report.time:.6g}, step {report.step} ({report.setting})"
    table = Table(title, shown, notes=tuple(_replays(report))).to_text()
    return "\n".join([table, *_conclusion(report), f"report: {target}"]) + "\n"


def _percents(shares: list[float | None]) -> list[str]:
    return ["-" if share is None else percent(share) for share in shares]


def _replays(report: Report) -> list[str]:
    return [
        f"{replay.name}: {replay.setting}, "
        + (f"diverged: {replay.diverged}" if replay.diverged else f"{replay.steps} steps")
        for replay in report.replays
    ]


def _conclusion(report: Report) -> list[str]:
    """Return the lines of the verdict, with the remedy if the accuracy is insufficient."""
    failed = [f"{row.name} ({_change(row)})" for row in report.headline if not row.holds]
    lines = [report.words()]
    if failed:
        lines.append(f"  changed too much: {', '.join(failed)}")
    if report.diverged:
        lines.append(f"  diverged: {', '.join(replay.name for replay in report.diverged)}")
    if not report.holds:
        lines.append(f"  run again like its finest replay: {report.replays[1].setting}")
    return lines


def _change(row: JudgedNumber) -> str:
    return "unknown" if row.change is None else percent(row.change)
