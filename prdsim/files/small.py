"""Folders, and sizes for people."""

from __future__ import annotations

from pathlib import Path

from prdsim.errors import OutputError


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist; raises `OutputError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}") from None


def size_text(count: float) -> str:
    """Return a number of bytes for people: 1536 -> '1.5 KB', 2_000_000_000 -> '2.00 GB'."""
    if count < 1000:
        return f"{count:.0f} bytes"
    if count < 1e9:
        return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"
    return f"{count / 1e9:,.2f} GB"
