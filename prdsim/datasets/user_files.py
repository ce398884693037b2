"""The user's own data: .npz, .h5 and .csv files."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from prdsim.datasets.base import Source, make_source, sample_place
from prdsim.datasets.reading import check_declared, reading
from prdsim.errors import DataError
from prdsim.files.foreign import (
    declared_bytes,
    open_regular_file,
    plain_dataset,
    require_regular_file,
    require_true_chunks,
    require_written,
)
from prdsim.files.memory import available_bytes
from prdsim.files.small import size_text
from prdsim.words import shown

_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_NPY_HEADER_BYTES = 1 << 14  # NumPy trusts no longer one
_LONGEST_LINE = 1 << 24  # bytes: a million numbers with every digit
_NUMBER_BYTES = 24  # 8 in the table, which grows in steps, and 8 in X or Y
_NAME_BYTES = 200  # a text of Python's, with its place in two tables
_SHOWN = 40  # characters of a name in a message


def load_file(path: Path) -> Source:
    """Read the user's own file; its suffix gives the format.

    ``.npz``, ``.h5``, ``.hdf5``: arrays ``X`` (n, d_in), ``Y`` or ``y``, and optionally ``grid``,
    two integers. Y is (n, d_out), real targets, or (n,): labels 0, 1, ... if it holds integers,
    else one real target per sample.

    ``.csv``: the first line names the columns. A column ``label`` holds integer labels; columns
    whose names begin with ``y`` or ``Y`` hold real targets; all others are inputs, in their order.

    Raises `DataError`, before anything large is read, if the file declares arrays that exceed the
    available memory, or an HDF5 file refers to other files.
    """
    with reading(path):
        if not path.exists():
            raise DataError(f"no file {path}")
        require_regular_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: data files end in {', '.join(_READERS)}")
    content = reader(path)
    name = path.name
    if "X" not in content:
        raise DataError(f"{path} holds no X (inputs, one sample per row)")
    if "Y" in content and "y" in content:
        raise DataError(f"{path} holds both Y and y: which are the targets? Remove one")
    targets = content.get("Y", content.get("y"))
    where = partial(_place, path) if reader is _read_csv else sample_place
    return make_source(name, name, content["X"], targets, content.get("grid"), where=where)


_KEYS = ("X", "Y", "y", "grid")


def _read_npz(path: Path) -> dict[str, Any]:
    with reading(path), open_regular_file(path) as file:
        if file.read(4) != b"PK\x03\x04" or not zipfile.is_zipfile(file):
            raise DataError(f"{path} is not a .npz file, or truncated: write it with numpy.savez")
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            return {
                key: _read_npy(f"{key} of {path}", archive, members[f"{key}.npy"])
                for key in _KEYS
                if f"{key}.npy" in members
            }


def _read_npy(what: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one array, if it is of numbers, and as long as both its header and the archive say."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{what} is compressed by a method that is not NumPy's: write it with numpy.savez"
        )
    with archive.open(member) as stream:
        start = io.BytesIO(stream.read(_NPY_HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    if version not in _NPY_HEADERS:
        raise DataError(f"{what} has version {version} of the .npy format: write it anew")
    shape, _, dtype = _NPY_HEADERS[version](start)
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects: only arrays of numbers can be read")
    declared = math.prod(shape) * dtype.itemsize
    if start.tell() + declared != member.file_size:
        raise DataError(f"{what} is damaged: its header declares another length than the archive")
    check_declared(what, declared)
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with reading(path):
        require_regular_file(path)
        if not h5py.is_hdf5(path):
            raise DataError(f"{path} is not an HDF5 file")
        content = {}
        with h5py.File(path, "r") as file:
            for key in _KEYS:
                if key.encode() in file.id:
                    dataset = plain_dataset(file, key)
                    check_declared(f"{key} of {path}", declared_bytes(dataset))
                    require_written(dataset)
                    require_true_chunks(dataset, available_bytes())
                    content[key] = dataset[()]
    return content


def _read_csv(path: Path) -> dict[str, Any]:
    with reading(path):
        names, table = _read_table(path)
    return _split_columns(path, names, table)


def _read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    _check_csv_size(path)
    try:
        with _csv_text(path) as text:
            names = _column_names(path, text.readline())
            table = _numbers(text)
        if table is None or (table.size and table.shape[1] != len(names)):
            raise DataError(_fault(path, names))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None
    if table.size == 0:
        raise DataError(f"{path} is empty: it has no line of numbers")
    return names, table


@contextmanager
def _csv_text(path: Path) -> Iterator[TextIO]:
    with open_regular_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        yield text


def _numbers(text: TextIO) -> NDArray[np.float64] | None:
    """Return the table of numbers in the rest of a text; None if it is none."""
    try:
        return np.loadtxt(text, delimiter=",", comments=None, ndmin=2)
    except UnicodeDecodeError:
        raise
    except ValueError:  # its rows do not count the line of names, nor lines that are empty
        return None


def _rows(text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the values below the line of names as text, with the number of their line from 1."""
    for number, line in enumerate(text, 1):
        values = line.removesuffix("\n").split(",")
        if number > 1 and values != [""]:
            yield number, values


def _fault(path: Path, names: list[str]) -> str:
    """Say what is wrong in the first line that is not a number for every name."""
    with _csv_text(path) as text:
        for number, values in _rows(text):
            if len(values) != len(names):
                count = f"{len(values)} value{'s' * (len(values) != 1)}"
                return f"line {number} of {path} has {count}, but line 1 names {len(names)} columns"
            for name, value in zip(names, values, strict=True):
                if not _is_number(value):
                    what = f"'{shown(value.strip(), _SHOWN)}'" if value.strip() else "nothing"
                    return (
                        f"line {number} of {path} holds {what} in column {shown(name, _SHOWN)}, "
                        "not a number"
                    )
    return f"{path} is not a table of numbers separated by commas"


def _place(path: Path, row: int) -> str:
    """Return the line of a row of numbers, as text for a message."""
    with reading(path), _csv_text(path) as text:
        return f"line {next(number for k, (number, _) in enumerate(_rows(text)) if k == row)}"


def _check_csv_size(path: Path) -> None:
    """Refuse a file whose numbers and names, counted by their commas, do not fit into memory."""
    names = numbers = 0
    with open_regular_file(path) as file:
        while line := file.readline(_LONGEST_LINE + 1):
            numbers += line.count(b",") + line.count(b"\r") + 1
            names = names or numbers
            if len(line) > _LONGEST_LINE:
                raise DataError(
                    f"{path} has a line of more than {size_text(_LONGEST_LINE)}: "
                    "write it as .npz or .h5"
                )
    check_declared(f"{path} ({numbers} numbers)", _NAME_BYTES * names + _NUMBER_BYTES * numbers)


def _column_names(path: Path, line: str) -> list[str]:
    """Return the names in the first line: each is there, and there once."""
    try:
        names = [name.strip() for name in next(csv.reader([line]), [])]
    except csv.Error as error:
        raise DataError(f"{path}, in the line of names: {error}") from None
    if not any(names) or all(_is_number(name) for name in names):
        raise DataError(f"{path}: the first line must name the columns, such as x1,x2,label")
    seen: dict[str, int] = {}
    for column, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"column {column} of {path} has no name: name it, or leave it out "
                "(pandas writes row numbers so: to_csv(..., index=False))"
            )
        if name in seen:
            raise DataError(
                f"columns {seen[name]} and {column} of {path} are both named {name[:_SHOWN]}: "
                "rename one, or leave it out"
            )
        seen[name] = column
    return names


def _split_columns(path: Path, names: list[str], table: np.ndarray[Any, Any]) -> dict[str, Any]:
    label = [i for i, name in enumerate(names) if name == "label"]
    real = [i for i, name in enumerate(names) if name[:1] in ("y", "Y")]
    inputs = [i for i in range(len(names)) if i not in {*label, *real}]
    if len(label) > 1 or (label and real):
        raise DataError(f"{path}: targets must be one column label, or columns y..., not both")
    for row, column in zip(*np.nonzero(~np.isfinite(table)), strict=True):
        if column not in label:
            raise DataError(
                f"{_place(path, row)} of {path} holds {table[row, column]} in column "
                f"{shown(names[column], _SHOWN)}: all numbers must be finite"
            )
    content: dict[str, Any] = {"X": table[:, inputs]}
    if real:
        content["Y"] = table[:, real]
    elif label:
        values = table[:, label[0]]
        whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(
                f"label {values[row]} of {_place(path, row)} of {path} is not an integer: "
                "name a column of real targets y"
            )
        content["Y"] = values.astype(np.int64)
    return content


def _is_number(text: str) -> bool:
    """Whether NumPy reads a text as a number: unlike Python, no 1_000, no digits but ASCII's."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


_READERS = {".npz": _read_npz, ".h5": _read_hdf5, ".hdf5": _read_hdf5, ".csv": _read_csv}
SUFFIXES = tuple(_READERS)
