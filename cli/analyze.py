"""``prdsim analyze``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.errors import ConfigError
from prdsim.vocabulary import GROUPS, TABLES

from .choices import measures_or
from .effects import Axes, are_of_study, tabulate, takes_axes
from .shared_options import takes_table_output
from .terminal import say

if TYPE_CHECKING:
    from prdsim.analysis import Recording, Table
    from prdsim.convergence.report import FoundReport
    from prdsim.progress import Say


def _list_of_measures() -> str:
    rows = [f"  {name:11} {text}" for name, text in {**GROUPS, **TABLES}.items()]
    return "\b\n" + "\n".join(rows)


@click.command(
    name="analyze",
    help=f"""Measure the patterns of a run: finished, interrupted, diverged, or being written.

MEASURES are some of those below; if omitted, those down to synchrony except growth.

Of a study, one measure or scalar at the end of its members, over a key that varies: mean, spread
over seeds, fitted exponent. prdsim analyze study loss_sup --over width --by diffusion

{_list_of_measures()}
""",
)
@click.argument(
    "words",
    metavar="RUN.h5|STUDY [MEASURES]...",
    nargs=-1,
    required=True,
    shell_complete=measures_or(GROUPS, TABLES),
)
@takes_axes
@takes_table_output
def command(
    words: tuple[str, ...],
    over: str | None,
    by: tuple[str, ...],
    form: str | None,
    output: Path | None,
    force: bool,
) -> int:
    """Measure; see the help above."""
    from prdsim.progress import noting

    axes = Axes(over, by)
    if are_of_study(words, axes):
        tabulate(words, axes, form, output, force=force)
        return 0
    with noting() as note:
        note("loading")
        return _analyze(words, form, output, note, force=force)


def _analyze(
    words: tuple[str, ...], form: str | None, output: Path | None, note: Say, *, force: bool
) -> int:
    from prdsim.analysis import open_recording, scaling_like, scaling_table

    from .output import deliver, files_and_names, in_format, table_format

    paths, measures = files_and_names(words, {**GROUPS, **TABLES}, "measure")
    form = table_format(form, output, force=force, inputs=paths)
    if measures == ["scaling"] and not paths:
        note("computing scaling")
        text = in_format({"scaling": scaling_table(scaling_like(None))}, form, {})
    else:
        note("reading and verifying")
        with open_recording(_only(paths)) as recording:
            found = recording.assessed(float(recording.time[-1]))
            tables = _with_errors(_tables(recording, measures, note), found)
            about = {
                "run": recording.name,
                "label": recording.label,
                "status": recording.status,
                "discretization": _errors(found) if form == "json" else _words(found),
            }
            head = f"{recording.name}: {recording.label}; {recording.status}"
            trust = f"  discretization: {about['discretization']}"
            text = in_format(tables, form, about, [head, trust])
    note("")
    deliver(text, output, force=force)
    return 0


def _only(paths: list[Path]) -> Path:
    if len(paths) != 1:
        raise ConfigError(
            "analyze takes one run, such as run.h5; prdsim compare sets several side by side"
        )
    return paths[0]


def _with_errors(tables: dict[str, Table], found: FoundReport) -> dict[str, Table]:
    """Add each measure's error next to its last value, if there is a report."""
    from prdsim.convergence.report import error_text

    table, report = tables.get("snapshots"), found.report
    if table is None or report is None:
        return tables
    measured = [name for name in table.columns if name not in ("step", "time")]
    margin = {name: error_text(name, [[report]]) for name in measured}
    return {**tables, "snapshots": replace(table, margin={"step": "discretization", **margin})}


def _words(found: FoundReport) -> str:
    return found.reason if found.report is None else found.report.words()


def _errors(found: FoundReport) -> dict[str, Any]:
    report = found.report
    if report is None:
        return {"state": found.reason}
    errors = {row.name: row.error for row in report.rows}
    return {"state": report.words(), "time": report.time, "errors": errors}


def _tables(recording: Recording, measures: list[str], note: Say) -> dict[str, Table]:
    """Compute the requested tables, in the order of the list."""
    from prdsim.analysis import history
    from prdsim.analysis.run_tables import RUN_TABLES
    from prdsim.backends import listening
    from prdsim.progress import announced_after, tracked

    groups = [name for name in GROUPS if name in measures] if measures else None
    tables: dict[str, Table] = {}
    if groups or groups is None:
        note("")
        found = history(recording, groups, progress=lambda rows: tracked(rows, "snapshots"))
        for name, reason in found.left_out.items():
            say(f"{name} left out: {reason}", err=True)
        tables["snapshots"] = found.table(f"{len(recording)} snapshots")
    with listening(announced_after(note)):
        for name in TABLES:
            if name in measures:
                note(f"computing {name}")
                tables[name] = RUN_TABLES[name](recording, note)
    return tables
