"""Folders, and sizes for people."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prdsim.errors import ConfigError, OutputError

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@contextmanager
def folder_for_output(path: Path) -> Iterator[None]:
    """Make a folder and its parents unless they exist; those that stay empty are removed again.

    Raises `OutputError`, and `ConfigError` if a file has its name.
    """
    try:
        new = make_folder(path)
    except OSError as error:
        raise OutputError(f"cannot create the folder {path}: {error.strerror}") from None
    with not_left_empty(new):
        yield


def make_folder(path: Path) -> list[Path]:
    """Make a folder and its parents unless they exist; return the new ones, innermost first.

    Raises `OSError`, and `ConfigError` if a file has its name.
    """
    new = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"{path} is a file; name a folder") from None
    return new


@contextmanager
def not_left_empty(folders: Iterable[Path]) -> Iterator[None]:
    """Remove folders, innermost first, that nothing has come into."""
    try:
        yield
    finally:
        with suppress(OSError):  # something has
            for folder in folders:
                folder.rmdir()


def size_text(count: float) -> str:
    """Return a number of bytes for people: 1536 -> '1.5 KB', 2_000_000_000 -> '2.00 GB'."""
    if count < 1000:
        return f"{count:.0f} bytes"
    if count < 1e9:
        return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"
    return f"{count / 1e9:,.2f} GB"


def bytes_of(text: str) -> int:
    """Return the number of bytes that a size says: '2 GB' -> 2_000_000_000.

    Raises ValueError unless it is a positive number and KB, MB, GB or TB.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]B)\s*", text, re.IGNORECASE | re.ASCII)
    count = round(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if count < 1:
        raise ValueError("must be a number and a unit, such as 2 GB or 500 MB")
    return count
