"""The structure of a trajectory file as HDF5 tells it, where nothing is taken on trust.

Anyone can write an HDF5 file. Only the groups of a trajectory are looked at, one level deep, so
that no circle of links is followed; a dataset's storage is examined before anything else of it,
since HDF5 opens the files that external storage and virtual datasets name.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from prdsim.trajectory.layout import GROUPS

_MOST_LINKS = 4096  # of a group, and of the attributes of an object: a trajectory has dozens
_LONGEST_LIST = 16  # of an attribute that is a list


class StructureError(Exception):
    """What makes the file no trajectory, in words that follow "is damaged:"."""


@dataclass(frozen=True)
class Extent:
    """The place of a dataset's data in the file; `crc32` is known for those written once."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    crc32: int | None

    @property
    def nbytes(self) -> int:
        """Bytes of the dataset."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, an index of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def read_extents(file: Any, size: int, groups: Collection[str] | None = None) -> dict[str, Extent]:
    """Return the datasets of a trajectory by path, in a file of `size` bytes, or of some groups.

    In the root, datasets that no trajectory has (of another program) are left out.
    Raises `StructureError` for links to elsewhere, and for datasets that are no plain arrays.
    """
    from h5py import h5d, h5g

    # By HDF5's own identifiers: h5py's objects take three times as long.
    extents: dict[str, Extent] = {}
    for name, member in _members(file.id, ""):
        if isinstance(member, h5d.DatasetID):
            if groups is None:
                _add(extents, member, name, size, own=False)
        elif isinstance(member, h5g.GroupID) and name in (groups or GROUPS):
            for inner, dataset in _members(member, f"{name}/"):
                if isinstance(dataset, h5d.DatasetID):
                    _add(extents, dataset, f"{name}/{inner}", size, own=True)
    return extents


def _members(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the names of members, and the members, opened: datasets, groups, types."""
    from h5py import h5l, h5o

    count = group.get_num_objs()
    if count > _MOST_LINKS:
        raise StructureError(f"/{prefix} has {count} members, more than any trajectory")
    for name in group:
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            place = f"/{prefix}{name.decode(errors='replace')}"
            raise StructureError(f"{place} is a link to elsewhere, not a dataset")
        yield name.decode(errors="surrogateescape"), h5o.open(group, name)


def _add(extents: dict[str, Extent], dataset: Any, path: str, size: int, *, own: bool) -> None:
    """Add a dataset's extent; one that is not the trajectory's `own` may be of any other kind."""
    from h5py import h5d

    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout == h5d.VIRTUAL or properties.get_external_count():
        raise StructureError(f"/{path} takes its data from other files")
    problem = "is not stored in one piece" if layout != h5d.CONTIGUOUS else _foreign_type(dataset)
    offset, shape = None if problem else dataset.get_offset(), dataset.shape
    if offset is None or not shape or not math.prod(shape):
        if own:
            raise StructureError(f"/{path} {problem or 'has no data'}")
        return
    extent = Extent(offset, shape, dataset.dtype, _checksum(dataset, path))
    if extent.offset + extent.nbytes > size:
        raise StructureError(f"/{path} lies outside the file")
    extents[path] = extent


def _checksum(dataset: Any, path: str) -> int | None:
    from h5py import h5a, h5t

    if not h5a.exists(dataset, b"crc32"):
        return None
    attribute = h5a.open(dataset, b"crc32")
    if attribute.shape != () or attribute.get_type().get_class() != h5t.INTEGER:
        raise StructureError(f"the checksum of /{path} is not a number")
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return int(value)


def _foreign_type(dataset: Any) -> str:
    """Describe a dataset's type, unless it is one of NumPy's little-endian numbers."""
    from h5py import h5t

    kind = dataset.get_type()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT):
        return "does not hold numbers"
    dtype = dataset.dtype
    plain = dtype == dtype.newbyteorder("<") and stored_type(dtype) == kind
    return "" if plain else "holds numbers of another machine"


@cache
def stored_type(dtype: np.dtype) -> Any:
    """Return HDF5's type of a NumPy type of numbers, made once: to make one takes a while."""
    from h5py import h5t

    return h5t.py_create(dtype)


def read_attributes(item: Any) -> dict[str, Any]:
    """Return the attributes that are text (str), a number, or a short list.

    Others, which no trajectory has, are left out. Raises `StructureError` for text that is not
    Unicode.
    """
    from h5py import h5a, h5t

    if h5a.get_num_attrs(item.id) > _MOST_LINKS:
        raise StructureError("it has more attributes than any trajectory")
    found = {}
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        kind = attribute.get_type().get_class()
        shape = attribute.shape
        numbers = kind in (h5t.INTEGER, h5t.FLOAT)
        listed = shape is not None and len(shape) == 1 and 0 < shape[0] <= _LONGEST_LIST
        if (shape == () and kind == h5t.STRING) or (numbers and (shape == () or listed)):
            found[name] = _plain(name, item.attrs[name])
    return found


def _plain(name: str, value: Any) -> Any:
    """Return an attribute as str, int, float or list."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, bytes | str):
        return value.tolist()
    try:
        # h5py smuggles bytes that are not Unicode through as surrogates.
        return value.decode() if isinstance(value, bytes) else value.encode().decode()
    except UnicodeError:
        raise StructureError(f"its attribute {name!r} is not Unicode text") from None
