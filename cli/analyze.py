"""``prdsim analyze``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .shared_options import takes_table_output

if TYPE_CHECKING:
    from prdsim.analysis import Group, Recording, Table
    from prdsim.analysis.run_tables import RunTable
    from prdsim.convergence import FoundReport


class _Analyze(click.Command):
    """Lists the measures in its help, which imports them."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        formatter.write_paragraph()
        for name, entry in _known().items():
            formatter.write(f"    {name:10} {entry.meaning}\n")


def _known() -> dict[str, Group | RunTable]:
    """Return all measures and tables by name, in the order of the help."""
    from prdsim.analysis import GROUPS
    from prdsim.analysis.run_tables import RUN_TABLES

    return {**GROUPS, **RUN_TABLES}


@click.command(name="analyze", cls=_Analyze)
@click.argument("words", metavar="RUN.h5 [MEASURES]...", nargs=-1, required=True)
@takes_table_output
def command(words: tuple[str, ...], form: str | None, output: Path | None, force: bool) -> int:
    """Measure the patterns of a run: finished, interrupted, diverged, or being written.

    MEASURES are some of those below; if omitted, those down to forces except growth.
    """
    from prdsim.analysis import open_recording
    from prdsim.analysis.run_tables import RUN_TABLES
    from prdsim.progress import silent

    from .output import check_output, deliver, files_and_names, format_of

    paths, measures = files_and_names(words, _known(), "measure")
    form = form or format_of(output)
    if output is not None:
        check_output([output], force=force)
    general = [name for name in measures if name in RUN_TABLES and RUN_TABLES[name].general]
    if measures and measures == general and not paths:
        tables = {name: RUN_TABLES[name].make(None, silent) for name in general}
        deliver(_text({}, tables, form), output)
        return 0
    with open_recording(_only(paths)) as recording:
        found = recording.assessed(float(recording.time[-1]))
        tables = _with_errors(_tables(recording, measures), found)
        about = {
            "run": recording.name,
            "label": recording.label,
            "status": recording.status,
            "discretization": _errors(found) if form == "json" else _words(found),
        }
        text = _text(about, tables, form)
    deliver(text, output)
    return 0


def _only(paths: list[Path]) -> Path:
    from prdsim.errors import ConfigError

    if len(paths) != 1:
        raise ConfigError(
            "analyze takes one run, such as run.h5; prdsim compare sets several side by side"
        )
    return paths[0]


def _with_errors(tables: dict[str, Table], found: FoundReport) -> dict[str, Table]:
    """Add each measure's error next to its last value, if there is a report."""
    from prdsim.convergence import error_text

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


def _tables(recording: Recording, measures: list[str]) -> dict[str, Table]:
    """Compute the requested tables, in the order of the list."""
    from prdsim.analysis import GROUPS, history
    from prdsim.analysis.run_tables import RUN_TABLES
    from prdsim.progress import noting, tracked

    groups = [name for name in GROUPS if name in measures] if measures else None
    tables: dict[str, Table] = {}
    if groups or groups is None:
        found = history(recording, groups, progress=lambda rows: tracked(rows, "snapshots"))
        for name, reason in found.left_out.items():
            click.echo(f"{name} left out: {reason}", err=True)
        tables["snapshots"] = found.table(f"{len(recording)} snapshots")
    with noting() as say:
        for name, table in RUN_TABLES.items():
            if name in measures:
                tables[name] = table.make(recording, say)
    return tables


def _text(about: dict[str, Any], tables: dict[str, Table], form: str) -> str:
    from prdsim.analysis import to_json
    from prdsim.errors import ConfigError

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
