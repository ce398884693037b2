"""Folders for the cases, in memory where there is such a place."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_place = Path("/dev/shm")


def stay_in(folder: Path) -> None:
    """Make all folders in this one from now on: who made it removes what a killed child leaves."""
    global _place
    _place = folder


def _made() -> Path:
    place = _place if _place.is_dir() else None
    return Path(tempfile.mkdtemp(prefix="prdsim-faults-", dir=place))


def fresh_folder() -> Path:
    """A folder of this process, removed at its end."""
    folder = _made()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end of the block."""
    folder = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
