"""``prdsim analyze``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.errors import ConfigError
from prdsim.vocabulary import GROUPS, TABLES

from .choices import RUNS, some
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

MEASURES are some of those below; if omitted, those down to forces except growth.

{_list_of_measures()}
""",
)
@click.argument(
    "words",
    metavar="RUN.h5 [MEASURES]...",
    nargs=-1,
    required=True,
    shell_complete=some(GROUPS, TABLES, files=RUNS),
)
@takes_table_output
def command(words: tuple[str, ...], form: str | None, output: Path | None, force: bool) -> int:
    """Measure; see the help above."""
    from prdsim.progress import noting

    with noting() as note:
        note("loading")
        return _analyze(words, form, output, note, force=force)


def _analyze(
    words: tuple[str, ...], form: str | None, output: Path | None, note: Say, *, force: bool
) -> int:
    from prdsim.analysis import open_recording, scaling_like, scaling_table

    from .output import deliver, files_and_names, table_format

    paths, measures = files_and_names(words, {**GROUPS, **TABLES}, "measure")
    form = table_format(form, output, force=force, inputs=paths)
    if measures == ["scaling"] and not paths:
        note("computing scaling")
        text = _text({}, {"scaling": scaling_table(scaling_like(None))}, form)
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
            text = _text(about, tables, form)
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


def _text(about: dict[str, Any], tables: dict[str, Table], form: str) -> str:
    from prdsim.analysis import to_json

    if form == "json":
        return to_json(about, tables) + "\n"
    if form == "csv":
        if len(tables) > 1:
            names = ", ".join(tables)
            raise ConfigError(f"csv holds one table, not {names}: ask for one, or for json")
        return next(iter(tables.values())).to_csv()
    head = []
    if about:
        head = [f"{about['run']}: {about['label']}; {about['status']}"]
        head += [f"  discretization: {about['discretization']}"]
    return "\n".join([*head, *(table.to_text() for table in tables.values())]) + "\n"
