"""Output files of commands: written completely or not at all, overwritten only on request."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click


def check_output(paths: Iterable[Path], *, force: bool) -> None:
    """Raise `ConfigError` for an existing file unless ``force``, `OutputError` without a folder."""
    from prdsim.errors import ConfigError, OutputError

    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
        if path.exists() and not force:
            raise ConfigError(f"{path} exists; name another, or give --force to overwrite it")
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist")


def format_of(output: Path | None) -> str:
    """Return the format of a table from its file name: table, csv or json."""
    from prdsim.errors import ConfigError

    if output is None:
        return "table"
    formats = {".csv": "csv", ".json": "json", ".txt": "table"}
    if output.suffix not in formats:
        raise ConfigError(f"{output}: end the name in .csv, .json or .txt, or give --format")
    return formats[output.suffix]


def deliver(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file, completely or not at all; raises `OutputError`."""
    from prdsim.files.small import write_whole

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
    from prdsim.errors import ConfigError, did_you_mean

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
