"""MNIST and Fashion-MNIST: finding and reading their IDX files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import platformdirs
from numpy.typing import NDArray

from prdsim.arguments import file_path
from prdsim.datasets.base import Source, make_source
from prdsim.datasets.reading import check_declared, expanded, reading
from prdsim.errors import DataError
from prdsim.files.foreign import DEFLATE_RATIO, open_regular_file
from prdsim.symbols import Split
from prdsim.words import first_line

SPLITS: tuple[Split, ...] = ("train", "test")
_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08  # the IDX code of the only element type used here
_PIECE = 1 << 20  # bytes inflated at a time


@cache
def manifest() -> dict[str, Any]:
    """Title, mirrors and files (name: size, sha256) of every data set kept in IDX files."""
    text = files("prdsim.data").joinpath("manifest.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def other_owner(name: str, sha256: str) -> str | None:
    """The other data set of the manifest that has a file of this checksum; some share names."""
    for other, entry in manifest().items():
        if other != name and any(known["sha256"] == sha256 for known in entry["files"].values()):
            return other
    return None


def search_folders(name: str, data_dir: str | Path | None) -> list[Path]:
    """The folders in which to look for the files of a data set, best first.

    ``data_dir``, the environment variable PRDSIM_DATA_DIR and the user's cache; in each, first the
    folder named after the data set, then that of torchvision (MNIST/raw), then the folder itself.
    Raises `DataError` if ``data_dir`` is given and is not a folder.
    """
    roots = data_roots(data_dir)
    if data_dir is not None and not roots[0].is_dir():
        raise DataError(f"no folder {roots[0]}: correct --data-dir (data_dir)")
    *given, cache = roots
    if not _is_closed(cache):  # of another user: it was not asked for
        given.append(cache)
    return [
        folder
        for root in given
        for folder in (root / name, root / _TORCHVISION.get(name, name) / "raw", root)
    ]


def data_roots(data_dir: str | Path | None) -> list[Path]:
    """``data_dir`` and PRDSIM_DATA_DIR, if given, and the user's cache, best first."""
    given: list[str | Path] = [] if data_dir is None else [file_path("data_dir", data_dir)]
    given += filter(None, [os.environ.get("PRDSIM_DATA_DIR")])
    return [expanded(root) for root in (*given, platformdirs.user_cache_dir("prdsim"))]


def _is_closed(folder: Path) -> bool:
    """Whether it cannot even be known what is in a folder."""
    try:
        (folder / "any").exists()
    except OSError:
        return True
    return False


def find(name: str, split: Split, data_dir: str | Path | None) -> tuple[Path, Path] | None:
    """Find the files of images and labels in the first folder that holds both, else None."""
    for folder in search_folders(name, data_dir):
        images, labels = (_present(folder, stem) for stem in _stems(split))
        if images is not None and labels is not None:
            return images, labels
    return None


def load_idx(name: str, split: Split, data_dir: str | Path | None) -> Source:
    """Find and read one part of a data set of the manifest, with pixels scaled to [0, 1]."""
    found = find(name, split, data_dir)
    if found is None:
        raise DataError(_not_found(name, split, data_dir))
    for path in found:
        _refuse_namesake(name, path)
    images, labels = read_idx(found[0], dimensions=3), read_idx(found[1], dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{found[0]} holds {len(images)} images, but {found[1].name} next to it "
            f"{len(labels)} labels: they do not belong together"
        )
    description = f"{manifest()[name]['title']}, {split} part"
    grid = images.shape[1:]
    return make_source(
        name, description, images.reshape(len(images), -1), labels, grid, scale=255.0
    )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzip-compressed or not (recognized by its content).

    One byte more is inflated than the header declares, not all that there is. Raises `DataError`
    for a file that is unreadable, not IDX, of another type or number of dimensions, truncated,
    longer than its header says, or larger than the available memory.
    """
    with _opened(path) as stream:
        shape = _read_shape(path, stream, dimensions)
        says = f"its header says {' x '.join(map(str, shape))}"
        declared = math.prod(shape)
        if declared == 0:
            raise DataError(f"{path} is empty: {says}")
        if declared > DEFLATE_RATIO * path.stat().st_size:
            raise DataError(f"{path} is truncated: {says} = {declared} bytes: get it again")
        check_declared(f"{path} ({says})", declared)
        content = np.empty(declared, np.uint8)
        found = _fill(stream, content.data)
        if found < declared:
            raise DataError(
                f"{path} is truncated: {says} = {declared} bytes, it holds {found}: get it again"
            )
        if stream.read(1):
            raise DataError(
                f"{path} has too many bytes: {says} = {declared} bytes, it holds more: get it again"
            )
    return content.reshape(shape)


def count_idx(path: Path) -> int:
    """Return the number of items that an IDX file declares; only its first bytes are read."""
    with _opened(path) as stream:
        head = stream.read(8)
    if len(head) < 8 or head[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    return int.from_bytes(head[4:8], "big")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The content of a file, inflated piece by piece if it is gzip's."""
    with reading(path), open_regular_file(path) as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not compressed:
            yield file
            return
        try:
            with gzip.open(file) as stream:
                yield cast(BinaryIO, stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is a damaged gzip file ({first_line(error)}): get it again"
            ) from None


def _read_shape(path: Path, stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: its first bytes are {start.hex(' ')!r}")
    kind, found = start[2], start[3]
    if kind != _UNSIGNED_BYTE or found != dimensions:
        raise DataError(
            f"{path}: expected an IDX file of unsigned bytes with {dimensions} dimension(s), found "
            f"type 0x{kind:02x} with {found}"
        )
    lengths = stream.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise DataError(f"{path} is truncated within its header: get it again")
    return struct.unpack(f">{dimensions}I", lengths)


def _fill(stream: BinaryIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the content ends; return the number of bytes read."""
    count = 0
    while piece := stream.read(min(_PIECE, len(buffer) - count)):
        buffer[count : count + len(piece)] = piece
        count += len(piece)
    return count


def _stems(split: Split) -> tuple[str, str]:
    prefix = _PREFIXES[split]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _present(folder: Path, stem: str) -> Path | None:
    candidates = (folder / name for each in spellings(stem) for name in (f"{each}.gz", each))
    return next((path for path in candidates if path.exists()), None)


def spellings(name: str) -> tuple[str, str]:
    """The name of a file as the manifest has it, and as older copies have it: with a dot."""
    return name, name.replace("-idx", ".idx")


def _refuse_namesake(name: str, path: Path) -> None:
    """Reject a file of the other data set: those of MNIST and Fashion-MNIST share their names."""
    with reading(path), open_regular_file(path) as file:
        digest = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
    if (other := other_owner(name, digest)) is not None:
        raise DataError(
            f"{path} belongs to {other}, not to {name}: keep the files of {name} in a folder "
            f"named {name}"
        )


def _not_found(name: str, split: Split, data_dir: str | Path | None) -> str:
    images, labels = _stems(split)
    folders = ", ".join(map(str, search_folders(name, data_dir)))
    other: Split = "test" if split == "train" else "train"
    found_other = find(name, other, data_dir)
    hint = f" The {other} part is present: --split {other}." if found_other else ""
    return (
        f"the {split} part of {name} ({images}[.gz], {labels}[.gz]) was not found in {folders}.\n"
        f"Get it with `prdsim data fetch {name}`, or name its folder with --data-dir (data_dir)."
        f"{hint}"
    )
