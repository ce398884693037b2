"""Output files of commands: written completely or not at all, overwritten only on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdsim.errors import ConfigError, did_you_mean
from prdsim.files.whole import check_name, refuse_inputs, write_whole
from prdsim.words import shown, visible

from .terminal import say

if TYPE_CHECKING:
    from prdsim.table import Table


def check_output(paths: Iterable[Path], *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse outputs that cannot be written, and those that are runs to read, or their reports.

    Raises what `check_name` raises, and `ConfigError` for an output that is one of the inputs.
    """
    from prdsim.convergence.report import report_path

    paths = list(paths)
    refuse_inputs(paths, [file for run in inputs for file in (run, report_path(run))])
    for path in paths:
        check_name(path, force=force)


def check_figure(output: Path, *, force: bool) -> None:
    """Refuse a name that is not of a figure's format, and what `check_output` refuses."""
    from prdsim.figures.style import SUFFIXES

    if output.suffix not in SUFFIXES:
        raise ConfigError(f"{shown(output)}: end the name in one of {', '.join(SUFFIXES)}")
    check_output([output], force=force)


def table_format(
    form: str | None, output: Path | None, *, force: bool, inputs: Iterable[Path] = ()
) -> str:
    """Return the format of a table, table, csv or json: the one given, or that of the file name.

    Raises what `check_output` raises, and `ConfigError` for a name without a format.
    """
    if output is None:
        return form or "table"
    formats = {".csv": "csv", ".json": "json", ".txt": "table"}
    if form is None and output.suffix not in formats:
        raise ConfigError(f"{shown(output)}: end the name in .csv, .json or .txt, or give --format")
    check_output([output], force=force, inputs=inputs)
    return form or formats[output.suffix]


def in_format(
    tables: Mapping[str, Table], form: str, about: Mapping[str, Any], head: Iterable[str] = ()
) -> str:
    """Return tables in a format: JSON with facts ``about`` them, CSV, or text under ``head``.

    Raises `ConfigError` for several tables as CSV.
    """
    from prdsim.table import to_json

    if form == "json":
        return to_json(about, tables) + "\n"
    if form == "csv":
        if len(tables) > 1:
            names = ", ".join(tables)
            raise ConfigError(f"csv holds one table, not {names}: ask for one, or for json")
        return next(iter(tables.values())).to_csv()
    return "\n".join([*head, *(table.to_text() for table in tables.values())]) + "\n"


def deliver(text: str, output: Path | None, *, force: bool) -> None:
    """Print a text, or write it to a file as `write_whole` does, with the same errors."""
    if output is None:
        say(text, nl=False)
    else:
        write_whole(output, visible(text).encode(), force=force)


def files_and_names(
    words: Iterable[str], known: Iterable[str], kind: str
) -> tuple[list[Path], list[str]]:
    """Separate files from known names, in any order; duplicates are dropped.

    Raises `ConfigError`, with the nearest name, for a word that is neither.
    """
    known, paths, names = list(known), [], []
    for word in words:
        if word in known:
            names.append(word)
        elif "." in word or "/" in word or Path(word).exists():
            paths.append(Path(word))
        else:
            hint = did_you_mean(word, known) or f"choose from {', '.join(known)}"
            raise ConfigError(f"{shown(word)}: no such {kind} or file; {hint}")
    return list(dict.fromkeys(paths)), list(dict.fromkeys(names))
