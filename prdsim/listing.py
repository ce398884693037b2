"""The runs of a folder: what each is, how far it has come, and why a file cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prdsim.config import RunConfig, keys_of
from prdsim.errors import PrdsimError, TrajectoryError
from prdsim.recorded import checked_config
from prdsim.trajectory import Glance, glance

SUFFIX = ".h5"


@dataclass(frozen=True)
class ListedRun:
    """A run: what its file says at a glance, and its configuration, checked."""

    path: Path
    seen: Glance
    config: RunConfig


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be read, or is no trajectory, and why."""

    path: Path
    reason: str


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that are named as trajectories are, by name.

    Raises `TrajectoryError` if it is no folder, or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "it is not a file name")
        raise TrajectoryError(f"cannot list {folder}: {reason}") from error
    return [folder / name for name in sorted(names)]


def listed(path: Path) -> ListedRun | Unreadable:
    """Describe a file by a glance at it."""
    try:
        seen = glance(path)
        return ListedRun(path, seen, checked_config(seen))
    except PrdsimError as error:
        return Unreadable(path, str(error).splitlines()[0])


def differing_keys(runs: Iterable[ListedRun]) -> list[str]:
    """Return the keys in which runs differ, those of the output aside, in the table's order."""
    configs = [run.config for run in runs]
    keys = keys_of("data", "network", "adversary", "time", "computing")
    return [key for key in keys if len({getattr(config, key) for config in configs}) > 1]
