"""The HDF5 side of a trajectory: creating the file and reading its map, nothing else.

Creation writes only metadata: every dataset contiguous, allocated, unfilled. Data are then
written and read at the offsets of the map, so HDF5 never writes to a file in use, and no reader
depends on HDF5's caches.
"""

from __future__ import annotations

import errno
import os
import re
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from prdsim import __version__
from prdsim.errors import (
    DamagedTrajectoryError,
    NotATrajectoryError,
    PrdsimError,
    TrajectoryError,
)
from prdsim.files import posix
from prdsim.files.json_text import read_json
from prdsim.trajectory import commit
from prdsim.trajectory.commit import CommitRecord
from prdsim.trajectory.layout import (
    FORMAT,
    FORMAT_VERSION,
    OWN_ATTRIBUTES,
    UNITS,
    Attribute,
    DatasetSpec,
    Layout,
    changes,
)
from prdsim.trajectory.schema import problems, problems_of
from prdsim.trajectory.structure import (
    Extent,
    StructureError,
    read_attributes,
    read_extents,
    stored_type,
)
from prdsim.words import shown, shown_value

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHUNK = 1 << 20
_RECORD_ATTEMPTS = 5
_RECORD_PAUSE = 0.01  # seconds


@dataclass(frozen=True)
class FileMap:
    """A trajectory file's attributes and the places of its data."""

    path: Path
    size: int
    attributes: dict[str, Any]
    restart_scalars: tuple[str, ...]
    restart_arrays: tuple[str, ...]
    extents: Mapping[str, Extent]

    def __getitem__(self, name: str) -> Extent:
        """Return a dataset's place; raises `DamagedTrajectoryError` if the file lacks it."""
        try:
            return self.extents[name]
        except KeyError:
            raise DamagedTrajectoryError(
                f"{self.path} lacks /{name}; it is not a whole trajectory: restore it from a copy"
            ) from None

    @property
    def version(self) -> int:
        """Version of the file format."""
        version: int = self.attributes["format_version"]
        return version

    def json(self, name: str) -> dict[str, Any]:
        """Return the JSON object in an attribute, {} without it."""
        try:
            value = read_json(self.attributes.get(name, "{}"))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DamagedTrajectoryError(
                f"{self.path} is damaged: its attribute {name!r} is not a JSON object; "
                "restore it from a copy"
            )
        return value

    def group(self, name: str) -> list[str]:
        """Return the names of a group's datasets."""
        prefix = name + "/"
        return [path.removeprefix(prefix) for path in self.extents if path.startswith(prefix)]

    def read(self, fd: int, name: str, rows: slice | None = None) -> np.ndarray:
        """Return a dataset's array, or a contiguous range of its rows, without checks."""
        extent = self[name]
        start, stop = 0, extent.shape[0]
        if rows is not None:
            start, stop, _ = rows.indices(extent.shape[0])
        out = np.empty((max(stop - start, 0), *extent.shape[1:]), dtype=extent.dtype)
        posix.pread(fd, out, extent.offset + start * extent.row_bytes, self.path)
        return out

    def read_fixed(self, fd: int, name: str) -> np.ndarray:
        """Return the array of a dataset that is written once, its checksum verified.

        Raises `DamagedTrajectoryError` if it fails.
        """
        array = self.read(fd, name)
        if zlib.crc32(posix.as_bytes(array)) != self[name].crc32:
            raise DamagedTrajectoryError(
                f"/{name} in {self.path} is damaged (its checksum fails); "
                "restore the file from a copy"
            )
        return array

    def fixed_crc(self, fd: int) -> int:
        """Return the CRC-32 of every byte that no commit changes, metadata included."""
        crc = 0
        for start, stop in self._fixed_ranges():
            for offset in range(start, stop, _CHUNK):
                piece = np.empty(min(_CHUNK, stop - offset), dtype=np.uint8)
                posix.pread(fd, piece, offset, self.path)
                crc = zlib.crc32(posix.as_bytes(piece), crc)
        return crc

    def _fixed_ranges(self) -> Iterator[tuple[int, int]]:
        changing = [e for name, e in self.extents.items() if changes(name)]
        position = 0
        for extent in sorted(changing, key=lambda e: e.offset):
            yield position, extent.offset
            position = extent.offset + extent.nbytes
        yield position, self.size


def create_container(
    path: Path, layout: Layout, specs: list[DatasetSpec], checksums: Mapping[str, int]
) -> None:
    """Make an empty file an HDF5 file with all its datasets, without their data.

    `checksums` gives the CRC-32 of the datasets that are written once. Raises `OSError`.
    """
    try:
        _create_container(path, layout, specs, checksums)
    except (OSError, RuntimeError) as error:  # of HDF5, which tells the reason in its own form
        found = re.search(r"errno = (\d+)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code)) from error


def _create_container(
    path: Path, layout: Layout, specs: list[DatasetSpec], checksums: Mapping[str, int]
) -> None:
    import h5py

    # Superblock 2: checksummed object headers, and no flag for a killed writer to leave set.
    with h5py.File(
        path,
        "w",
        locking=False,  # the caller holds the writer's lock
        libver=("v108", "v108"),
        alignment_threshold=2048,
        alignment_interval=4096,
        meta_block_size=1 << 16,
    ) as file:
        own: tuple[Attribute, ...] = (FORMAT, FORMAT_VERSION, __version__)
        for name, value in [*zip(OWN_ATTRIBUTES, own, strict=True), *layout.attributes.items()]:
            _set_attribute(file, name, value)
        datasets = {spec.path: _create_dataset(file, spec) for spec in specs}
        # In the order of a restart slot's checksum.
        _set_attribute(file["restart"], "scalars", " ".join(layout.restart_scalars))
        _set_attribute(file["restart"], "arrays", " ".join(layout.restart_shapes))
        for name, crc in checksums.items():
            _set_attribute(datasets[name], "crc32", crc)
        for spec in specs:
            _label_axes(datasets, spec)


def _set_attribute(target: Any, name: str, value: Attribute) -> None:
    """Write an attribute; text as fixed-length bytes, which are in checksummed metadata."""
    from h5py import h5a

    # By HDF5's own identifiers: h5py's way takes several times as long.
    array = np.asarray(value.encode() if isinstance(value, str) else value)
    kind = _text_type(array.dtype.itemsize) if isinstance(value, str) else stored_type(array.dtype)
    h5a.create(target.id, name.encode(), kind, _space(array.shape)).write(array, kind)


def _create_dataset(file: Any, spec: DatasetSpec) -> Any:
    from h5py import Dataset, h5d

    group_name, _, name = spec.path.rpartition("/")
    group = file.require_group(group_name) if group_name else file
    kind, space = stored_type(spec.dtype), _space(spec.shape)
    dataset = Dataset(h5d.create(group.id, name.encode(), kind, space, _plain_storage()))
    _set_attribute(dataset, "units", UNITS)
    _set_attribute(dataset, "long_name", spec.long_name)
    if spec.dims[0] == "step" and name not in ("step", "time"):
        _set_attribute(dataset, "coordinates", "time")
    if spec.dims == (name,):
        dataset.make_scale(name)
    return dataset


# Of HDF5's identifiers those that depend on no file are made once: to make one takes a while.


@lru_cache
def _text_type(length: int) -> Any:
    from h5py import h5t, string_dtype

    return h5t.py_create(np.dtype(string_dtype("utf-8", length)), logical=True)


@lru_cache
def _space(shape: tuple[int, ...]) -> Any:
    from h5py import h5s

    return h5s.create_simple(shape)


@cache
def _plain_storage() -> Any:
    from h5py import h5d, h5p

    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # the same run makes the same bytes
    return properties


def _label_axes(datasets: Mapping[str, Any], spec: DatasetSpec) -> None:
    """Label axes by the scales of the same group, or of the root."""
    dataset, group = datasets[spec.path], spec.path.rpartition("/")[0]
    for axis, name in enumerate(spec.dims):
        scale = datasets.get(f"{group}/{name}") or datasets[name]
        if scale is not dataset:
            dataset.dims[axis].attach_scale(scale)


def open_file(path: Path) -> Any:
    """Open the file for reading, unbuffered.

    Raises:
        TrajectoryError: it is missing, a folder, or not readable.
        NotATrajectoryError: it is not an HDF5 file, or a device or a pipe.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # opening could wait forever
            raise NotATrajectoryError(f"{path} is a device or a pipe, not a trajectory")
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise TrajectoryError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:  # a NUL
        raise TrajectoryError(f"cannot read {str(path)!r}: it is not a file name") from None
    start = file.read(len(_SIGNATURE))
    if start != _SIGNATURE:
        file.close()
        what = "is empty" if not start else "is not an HDF5 file"
        raise NotATrajectoryError(f"{path} {what}, so it is not a prdsim trajectory")
    return file


def read_map(path: Path, fd: int, groups: Collection[str] | None = None) -> FileMap:
    """Read the map of the file that is open at `fd`, or of some groups, which is faster.

    Raises:
        NotATrajectoryError: another program's file, or a newer format.
        DamagedTrajectoryError: truncated, or HDF5 cannot read it.
    """
    try:
        with _open_hdf5(path) as file:
            if not os.path.samestat(os.fstat(file.id.get_vfd_handle()), os.fstat(fd)):
                raise TrajectoryError(f"{path} was replaced while it was opened; open it again")
            return map_of(path, os.fstat(fd).st_size, file, groups)
    except StructureError as error:
        raise _damaged(path, str(error)) from None
    except (PrdsimError, MemoryError, ImportError):  # the last: h5py itself cannot be used
        raise
    except Exception as error:  # whatever HDF5 and h5py make of a file that anyone may have made
        if "truncated" in str(error):
            raise DamagedTrajectoryError(
                f"{path} is truncated (it has {os.fstat(fd).st_size} bytes, fewer than were "
                "written); copy it again from its source, or save the rest by prdsim repair"
            ) from error
        raise _damaged(path, "HDF5 cannot read its structure") from error


def _damaged(path: Path, problem: str) -> DamagedTrajectoryError:
    return DamagedTrajectoryError(f"{path} is damaged: {problem}; restore it from a copy")


def _open_hdf5(path: Path) -> Any:
    """Open without locks: a reader neither waits nor makes others wait.

    If this process has the file open already (through xarray, say), HDF5 insists on the locking
    chosen then, so the other choices are tried too; they take no new lock.
    """
    import h5py

    for locking in (False, True):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if "flag values don't match" not in str(error):
                raise
    return h5py.File(path, "r", locking="best-effort")


def _check_format(path: Path, attributes: dict[str, Any]) -> None:
    if attributes.get("format") != FORMAT:
        raise NotATrajectoryError(
            f"{path} is an HDF5 file but not a prdsim trajectory (it lacks format = {FORMAT!r})"
        )
    version, writer = attributes.get("format_version"), attributes.get("prdsim_version", "unknown")
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, f"its format_version is {shown_value(version)}")
    if version > FORMAT_VERSION:
        raise NotATrajectoryError(
            f"{path} has format version {version}, of prdsim {shown(writer)}; this is prdsim "
            f"{__version__}, which reads up to {FORMAT_VERSION}: "
            f'pip install --upgrade "prdsim>={shown(writer)}"'
        )


def map_of(path: Path, size: int, file: Any, groups: Collection[str] | None = None) -> FileMap:
    """Return the map of an HDF5 file; raises `NotATrajectoryError`, `StructureError`."""
    attributes = read_attributes(file)
    _check_format(path, attributes)
    extents = read_extents(file, size, groups)
    if groups is not None:
        for problem in problems_of(groups, attributes["format_version"], attributes, extents):
            raise StructureError(problem)
        return FileMap(path, size, attributes, (), (), extents)
    if "restart" not in file:
        raise StructureError("it lacks /restart")
    restart = read_attributes(file["restart"])
    scalars, arrays = (tuple(str(restart.get(key, "")).split()) for key in ("scalars", "arrays"))
    for problem in problems(attributes["format_version"], attributes, extents, scalars, arrays):
        raise StructureError(problem)
    return FileMap(path, size, attributes, scalars, arrays, extents)


def read_record(filemap: FileMap, fd: int) -> CommitRecord:
    """Return the newest whole commit record; raises `DamagedTrajectoryError` if there is none."""
    for _ in range(_RECORD_ATTEMPTS):
        pages = filemap.read(fd, "commit/record").tobytes()
        record = commit.newest(pages)
        if record is not None:
            break
        time.sleep(_RECORD_PAUSE)  # both torn while being read: a writer is at work
    else:
        raise DamagedTrajectoryError(
            f"both commit records of {filemap.path} are damaged, so it is unknown what counts; "
            "restore it from a copy, or save what is whole by prdsim repair"
        )
    counts = {"scalars": record.scalar_rows, "snapshots": record.snapshot_rows}
    for name, count in counts.items():
        steps = filemap.extents.get(f"{name}/step")  # None if the map is of other groups
        if steps is not None and count > steps.shape[0]:
            raise _damaged(filemap.path, "its commit record counts more rows than it has")
    wrong = record.out_of_range()
    if wrong:
        raise _damaged(filemap.path, f"its commit record holds {wrong}")
    return record
