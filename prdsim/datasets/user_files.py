"""The user's own data: .npz, .h5 and .csv files."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.datasets.base import Source, check_memory, make_source
from prdsim.errors import DataError


def load_file(path: Path) -> Source:
    """Read the user's own file; its suffix gives the format.

    ``.npz``, ``.h5``, ``.hdf5``: arrays ``X`` (n, d_in), ``Y`` or ``y``, and optionally ``grid``,
    two integers. Y is (n, d_out), real targets, or (n,): labels 0, 1, ... if it holds integers,
    else one real target per sample.

    ``.csv``: the first line names the columns. A column ``label`` holds integer labels; columns
    whose names begin with ``y`` or ``Y`` hold real targets; all others are inputs, in their order.
    """
    if not path.is_file():
        raise DataError(f"{path} is a folder, not a file" if path.is_dir() else f"no file {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: data files end in {', '.join(_READERS)}")
    try:
        content = reader(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"cannot read {path}: its arrays do not fit into memory") from None
    name = path.name
    if "X" not in content:
        raise DataError(f"{path} holds no X (inputs, one sample per row)")
    if "Y" in content and "y" in content:
        raise DataError(f"{path} holds both Y and y: which are the targets? Remove one")
    targets = content.get("Y", content.get("y"))
    return make_source(name, name, content["X"], targets, content.get("grid"))


_KEYS = ("X", "Y", "y", "grid")


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        # NumPy would read a file that does not begin like a zip file as something else.
        if file.read(4) != b"PK\x03\x04" or not zipfile.is_zipfile(file):
            raise DataError(f"{path} is not a .npz file, or truncated: write it with numpy.savez")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in _KEYS if key in archive}
    except ValueError as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds Python objects: only arrays of numbers can be read"
            ) from None
        raise DataError(f"{path} is damaged: {_first_line(error)}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is damaged: {_first_line(error)}") from None


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    if not h5py.is_hdf5(path):
        raise DataError(f"{path} is not an HDF5 file")
    content = {}
    try:
        with h5py.File(path, "r") as file:
            for key in _KEYS:
                if key in file:
                    item = file[key]
                    if not isinstance(item, h5py.Dataset):
                        raise DataError(f"{key} in {path} is a group, not an array")
                    check_memory(f"{key} of {path}", item.size or 0)
                    content[key] = item[()]
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # from h5py if damaged
        raise DataError(f"{path} is damaged: {_first_line(error)}") from None
    return content


def _read_csv(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None
    first, _, body = text.partition("\n")
    try:
        names = [name.strip() for name in next(csv.reader([first]), [])]
    except csv.Error as error:
        raise DataError(f"{path}, in the line of names: {error}") from None
    if not names or all(_is_number(name) for name in names):
        raise DataError(f"{path}: the first line must name the columns, such as x1,x2,label")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "no data": checked below
            table = np.loadtxt(io.StringIO(body), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}, below the line of names: {error}") from None
    if table.size == 0:
        raise DataError(f"{path} is empty: it has no line of numbers")
    if table.shape[1] != len(names):
        raise DataError(f"{path} has {len(names)} column names, but {table.shape[1]} columns")
    return _split_columns(path, names, table)


def _split_columns(path: Path, names: list[str], table: np.ndarray[Any, Any]) -> dict[str, Any]:
    label = [i for i, name in enumerate(names) if name == "label"]
    real = [i for i, name in enumerate(names) if name[:1] in ("y", "Y")]
    inputs = [i for i in range(len(names)) if i not in {*label, *real}]
    if len(label) > 1 or (label and real):
        raise DataError(f"{path}: targets must be one column label, or columns y..., not both")
    content: dict[str, Any] = {"X": table[:, inputs]}
    if real:
        content["Y"] = table[:, real]
    elif label:
        values = table[:, label[0]]
        whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(
                f"label {values[row]} of sample {row} of {path} is not an integer: "
                "name a column of real targets y"
            )
        content["Y"] = values.astype(np.int64)
    return content


def _first_line(error: Exception) -> str:
    lines = str(error.args[0] if error.args else "").splitlines()
    return lines[0] if lines else type(error).__name__


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_READERS = {".npz": _read_npz, ".h5": _read_hdf5, ".hdf5": _read_hdf5, ".csv": _read_csv}
SUFFIXES = tuple(_READERS)
