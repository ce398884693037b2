"""Output files of commands: written completely or not at all, overwritten only on request."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from prdsim.errors import ConfigError, OutputError, did_you_mean
from prdsim.files.small import write_whole


def check_output(paths: Iterable[Path], *, force: bool) -> None:
    """Raise `ConfigError` for an existing file unless ``force``, `OutputError` without a folder."""
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
        if path.exists() and not force:
            raise ConfigError(f"{path} exists; name another, or give --force to overwrite it")
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist")


def table_format(form: str | None, output: Path | None, *, force: bool) -> str:
    """Return the format of a table, table, csv or json: the one given, or that of the file name.

    Raises what `check_output` raises, and `ConfigError` for a name without a format.
    """
    if output is None:
        return form or "table"
    formats = {".csv": "csv", ".json": "json", ".txt": "table"}
    if form is None and output.suffix not in formats:
        raise ConfigError(f"{output}: end the name in .csv, .json or .txt, or give --format")
    check_output([output], force=force)
    return form or formats[output.suffix]


def deliver(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file, completely or not at all; raises `OutputError`."""
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())


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
            raise ConfigError(f"{word}: no such {kind} or file; {hint}")
    return list(dict.fromkeys(paths)), list(dict.fromkeys(names))
