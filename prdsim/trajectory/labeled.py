"""A trajectory's rows as objects of xarray and pandas, with the file's labels.

Neither library is needed for anything else; the extra `xarray` installs both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prdsim.arguments import choice
from prdsim.errors import ConfigError
from prdsim.trajectory.commit import Status
from prdsim.trajectory.layout import UNITS, Row, declared_rows


class Labeled(Protocol):
    """What is read of an open `Trajectory`, besides its arrays by name."""

    path: Path

    @property
    def format_version(self) -> int:
        """Version of the file format."""
        ...

    @property
    def status(self) -> Status:
        """The run's status."""
        ...

    @property
    def scalars(self) -> Mapping[str, np.ndarray]:
        """The rows of /scalars, by column."""
        ...


def library(name: str, purpose: str) -> Any:
    """Return an optional library; raises `ConfigError`, with the remedy, if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(
            f"{purpose} needs {name}, which is not installed: pip install 'prdsim[xarray]'"
        ) from None


def to_xarray(trajectory: Labeled, group: str = "snapshots") -> Any:
    """Return the committed rows of a group, "snapshots" or "scalars", as an `xarray.Dataset`."""
    choice("group", group, ("snapshots", "scalars"))
    xarray = library("xarray", "to_xarray")
    columns = {row.path.partition("/")[2]: row for row in _rows_of(trajectory, group)}
    variables = {
        name: (row.dims, _values(trajectory, row), {"long_name": row.long_name, "units": UNITS})
        for name, row in columns.items()
    }
    labels = {name: variables.pop(name) for name in ("step", "time")}
    attributes = {"source": str(trajectory.path), "status": str(trajectory.status)}
    return xarray.Dataset(variables, labels, attributes)


def to_pandas(trajectory: Labeled) -> Any:
    """Return the committed scalars as a `pandas.DataFrame`, indexed by step."""
    pandas = library("pandas", "to_pandas")
    scalars = dict(trajectory.scalars)
    return pandas.DataFrame(scalars, index=pandas.Index(scalars.pop("step"), name="step"))


def _rows_of(trajectory: Labeled, group: str) -> Iterator[Row]:
    """Yield the declared datasets of a group, without its checksums."""
    for row in declared_rows(trajectory.format_version):
        if row.path.startswith(f"{group}/") and not row.path.endswith("/crc32"):
            yield row


def _values(trajectory: Labeled, row: Row) -> np.ndarray:
    group, _, name = row.path.partition("/")
    if group == "scalars":
        return trajectory.scalars[name]
    return np.asarray(getattr(trajectory, name))
