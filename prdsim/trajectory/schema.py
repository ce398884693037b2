"""What a trajectory file must hold to be one: its datasets and attributes agree with each other.

Checked once, when a file is opened, against the declared tables; nothing later asks again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import SLOT_BYTES, SLOTS
from prdsim.trajectory.layout import NORMS, PAIRS, RESERVED, Row, declared_rows
from prdsim.trajectory.structure import Extent

#: Attributes of a run that are text; a grid is a pair of numbers.
TEXTS = (
    "config",
    "config_sha256",
    "created",
    "dataset",
    "dataset_sha256",
    "precision",
    "prdsim_version",
    "resolved",
    "run_id",
    "versions",
)

_TYPES = {
    "run": ("float64", "float32"),
    "snapshot": ("float64", "float32"),
    "plan": ("int64", "float64"),
    "stored": ("float64", "float32"),
}


def problems(
    version: int,
    attributes: Mapping[str, Any],
    extents: Mapping[str, Extent],
    restart_scalars: tuple[str, ...],
    restart_arrays: tuple[str, ...],
) -> Iterator[str]:
    """Yield what is wrong with a file of a format version, in words after "is damaged:"."""
    yield from _of_attributes(attributes)
    rows, names = declared_rows(version), [*restart_scalars, *restart_arrays]
    rows += [NORMS] * (NORMS.path in extents)
    for pair in PAIRS:
        present = [row for row in pair if row.path in extents]
        rows += present
        if len(present) == 1:
            yield f"it lacks one of /{pair[0].path} and /{pair[1].path}"
    needed = [*(row.path for row in rows), *(f"restart/{name}" for name in names)]
    missing = [path for path in needed if path not in extents]
    if missing:
        yield f"it lacks /{missing[0]}"
        return
    yield from _disagreements(rows, extents)
    if len({*names, *RESERVED}) != len(names) + len(RESERVED):
        yield "the attributes of /restart name a dataset twice"
    yield from _of_restart(extents, restart_scalars, restart_arrays)


def problems_of(
    groups: Collection[str],
    version: int,
    attributes: Mapping[str, Any],
    extents: Mapping[str, Extent],
) -> Iterator[str]:
    """Yield what is wrong with some groups of a file, /restart apart, as `problems` does."""
    yield from _of_attributes(attributes)
    rows = [row for row in declared_rows(version) if row.path.partition("/")[0] in groups]
    missing = [row.path for row in rows if row.path not in extents]
    if missing:
        yield f"it lacks /{missing[0]}"
        return
    yield from _disagreements(rows, extents)


def _of_attributes(attributes: Mapping[str, Any]) -> Iterator[str]:
    for name in TEXTS:
        if name in attributes and not isinstance(attributes[name], str):
            yield f"its attribute {name!r} is not text"
    grid = attributes.get("grid", [1, 1])
    pair = isinstance(grid, list) and len(grid) == 2
    if not pair or not all(isinstance(n, int) and n >= 1 for n in grid):
        yield "its attribute 'grid' is not a pair of positive numbers"


def _disagreements(rows: list[Row], extents: Mapping[str, Extent]) -> Iterator[str]:
    """Yield datasets whose axes or types are not those of the datasets before them."""
    sizes = {"slot": SLOTS, "word": SLOT_BYTES // 8, "array": len(ARRAYS)}
    types: dict[str, np.dtype] = {}
    for row in rows:
        extent = extents[row.path]
        # The rows of a table are as many as its schedule has entries, whose axis has its name.
        axes = [row.path.partition("/")[0] if axis == "step" else axis for axis in row.dims]
        if len(axes) != len(extent.shape) or any(
            sizes.setdefault(axis, n) != n for axis, n in zip(axes, extent.shape, strict=True)
        ):
            yield f"/{row.path} has the shape {extent.shape}, which does not fit the others"
        # All arrays of a run share its precision, all snapshots theirs.
        shared = types.get(row.dtype, extent.dtype)
        if extent.dtype not in _TYPES.get(row.dtype, (row.dtype,)) or extent.dtype != shared:
            yield f"/{row.path} holds {extent.dtype}, which does not fit the others"
        if row.dtype in ("run", "snapshot"):
            types[row.dtype] = extent.dtype


def _of_restart(
    extents: Mapping[str, Extent], scalars: tuple[str, ...], arrays: tuple[str, ...]
) -> Iterator[str]:
    precision = extents["initial/U"].dtype
    lacking = [name for name in ARRAYS if name not in arrays]
    if lacking:
        yield f"the attributes of /restart do not name {lacking[0]}"
        return
    for name in scalars:
        extent = extents[f"restart/{name}"]
        if extent.shape != (SLOTS,) or extent.dtype != np.float64:
            yield f"/restart/{name} is not one number a slot"
    for name in arrays:
        extent = extents[f"restart/{name}"]
        if extent.shape[0] != SLOTS or len(extent.shape) < 2 or extent.dtype != precision:
            yield f"/restart/{name} is not an array of the run a slot"
        elif (whose := name.removeprefix("velocity_")) in ARRAYS:
            shape = extents[f"initial/{whose}"].shape
            if whose == "U":  # in the coordinates of the chart
                shape = (shape[0], *extents["restart/U"].shape[2:])
            if extent.shape[1:] != shape:
                yield f"/restart/{name} has the shape {extent.shape}, which does not fit the others"
