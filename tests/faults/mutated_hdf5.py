"""Mutations by HDF5 itself, which leave a file well-formed: odd attributes, links and datasets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from faults.mutations import ODD_NUMBERS, ON_TEXT, mutated
from faults.places import temporary_folder
from faults.sandbox import apart

SECRET = "secret"  # a file next to the hostile one, which no reader may follow a link to
Change = Callable[[Random, Any], None]


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a file by h5py as far as it can be."""
    with (
        warnings.catch_warnings(action="ignore"),
        suppress(Exception),
        h5py.File(path, "r+", locking=False) as file,
    ):
        change(file)


def odd_hdf5(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Make one to three changes."""
    change = odd_changes(copy(rng))  # its draws are not the caller's, who may do it in a child
    return apart(content, lambda path: edit(path, change)) or content


def odd_changes(rng: Random) -> Callable[[Any], None]:
    """One to three changes; those that HDF5 refuses are left out."""

    def change(file: Any) -> None:
        for _ in range(rng.choice((1, 1, 2, 3))):
            try:
                rng.choice(CHANGES)(rng, file)
            except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError):
                continue

    return change


def _names(file: Any) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


def _pick(rng: Random, file: Any, kind: type | None = None) -> str:
    names = [name for name in _names(file) if kind is None or isinstance(file[name], kind)]
    if not names:
        raise KeyError("nothing to change")
    return rng.choice(names)


def odd_value(rng: Random, old: Any = None) -> Any:
    """Return a value for an attribute that its reader may not expect."""
    choices: list[Any] = [
        0, -1, 2, 3, 2**31, 2**63 - 1, -(2**63), 1.5, float("nan"), float("inf"), True, "", "text",
        "\x1b[31mred\x07", "é" * 10, "[]", "{}", "null", "a" * 3000, "0", "nan", b"\xff\xfe",
        np.void(b"abc"), np.arange(3), np.zeros((2, 2)), np.zeros(0), np.array([[1]]),
        np.float32(1.5), np.uint8(3), np.complex128(1j), h5py.Empty("f8"), h5py.Empty("S4"),
        np.array(["a", "b"], dtype=h5py.string_dtype()), np.array([b"a", b"b"]),
        np.array([1.5, 2.5]), np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f8")]),
        np.datetime64(0, "s").astype("i8"), *ODD_NUMBERS[:6],
    ]  # fmt: skip
    if isinstance(old, (bytes, np.bytes_, str)) and rng.random() < 0.7:
        text = old.encode() if isinstance(old, str) else bytes(old)
        return mutated(rng, text or b"x", (), ON_TEXT).decode(errors="surrogateescape")[:60_000]
    if isinstance(old, np.ndarray) and old.size and rng.random() < 0.5:
        flat = old.copy().ravel()
        flat[rng.randrange(flat.size)] = rng.choice((0, 1, -1, 2**31 - 1))
        return flat if rng.random() < 0.5 else flat[: rng.randrange(flat.size + 1)]
    if isinstance(old, np.integer) and rng.random() < 0.5:
        return type(old)(int(old) ^ 1)
    return rng.choice(choices)


def set_attribute(target: Any, name: str, value: Any) -> None:
    """Write an attribute in place of the old one, text as fixed-length bytes."""
    if name in target.attrs:
        del target.attrs[name]
    if isinstance(value, str):
        text = value.encode(errors="surrogateescape").rstrip(b"\0") or b" "
        target.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))
    else:
        target.attrs[name] = value


def change_attribute(rng: Random, file: Any) -> None:
    targets = [file, *(file[name] for name in _names(file))]
    target = rng.choice((file, rng.choice(targets)))
    names = list(target.attrs)
    if names:
        name = rng.choice(names)
        try:
            old = target.attrs[name]
        except (OSError, TypeError, UnicodeDecodeError):
            old = None
        set_attribute(target, name, odd_value(rng, old))


def remove_attribute(rng: Random, file: Any) -> None:
    target = rng.choice((file, file[_pick(rng, file)]))
    del target.attrs[rng.choice(list(target.attrs) or ["none"])]


def add_attribute(rng: Random, file: Any) -> None:
    target = rng.choice((file, file[_pick(rng, file)]))
    target.attrs[rng.choice(("new", "\x1b[31m", "crc32", "grid", "é"))] = odd_value(rng)


def remove_object(rng: Random, file: Any) -> None:
    del file[_pick(rng, file)]


def exchange_objects(rng: Random, file: Any) -> None:
    a, b = _pick(rng, file, h5py.Dataset), _pick(rng, file, h5py.Dataset)
    file.move(a, "kept_apart")
    if a != b:
        file.move(b, a)
    file.move("kept_apart", b)


def link_elsewhere(rng: Random, file: Any) -> None:
    name, other = _pick(rng, file), _pick(rng, file)
    kind = rng.randrange(6)
    kept = file[other]
    del file[name]
    if kind == 0:
        file[name] = kept  # hard
    elif kind == 1:
        file[name] = h5py.SoftLink("/" + rng.choice((name, other, "nowhere", "")))
    elif kind == 2:
        file[name] = h5py.ExternalLink(SECRET + ".h5", rng.choice(("/X", "/")))
    elif kind == 3:
        file[name] = h5py.ExternalLink(
            rng.choice(("/dev/zero", "nowhere.h5", "fifo", "edited.h5")), "/"
        )
    elif kind == 4:
        file[name] = h5py.SoftLink("/" + name + "/" + name)
    else:
        file.create_group(name)


def store_elsewhere(rng: Random, file: Any) -> None:
    name = _pick(rng, file, h5py.Dataset)
    shape, dtype = file[name].shape or (3,), file[name].dtype
    size = max(int(np.prod(shape)) * dtype.itemsize, 1)
    del file[name]
    if rng.random() < 0.5:
        source = rng.choice((SECRET + ".bin", "/dev/zero", "/proc/self/maps", "nowhere.bin"))
        file.create_dataset(name, shape, dtype, external=[(source, 0, size)])
    else:
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(
            rng.choice((SECRET + ".h5", ".", "nowhere.h5")), "X", shape
        )
        file.create_virtual_dataset(name, layout)


def other_type(rng: Random, file: Any) -> None:
    name = _pick(rng, file, h5py.Dataset)
    shape = file[name].shape
    del file[name]
    kinds = (
        "f4", ">f8", "f2", "i1", "u8", ">i4", "c16", "?", "S5", "V7", h5py.string_dtype(),
        h5py.ref_dtype, h5py.vlen_dtype("f8"), h5py.enum_dtype({"a": 1}),
        np.dtype([("a", "f8"), ("b", "i4")]), np.dtype(("f8", (2,))), "g",
    )  # fmt: skip
    file.create_dataset(name, shape, rng.choice(kinds))


def other_shape(rng: Random, file: Any) -> None:
    name = _pick(rng, file, h5py.Dataset)
    dtype, old = file[name].dtype, file[name].shape or ()
    del file[name]
    shapes: list[Any] = [
        (), (0,), (1,), (0, 3), (3, 0), (2**40,), (2**31, 2), (10**9, 6), (30_000_000, 6),
        (1,) * 32, (2,), (*old, 1), (1, *old), old[::-1], tuple(n + 1 for n in old),
        tuple(max(n - 1, 0) for n in old),
    ]  # fmt: skip
    shape = rng.choice(shapes)
    if rng.random() < 0.1:
        file[name] = h5py.Empty(dtype)
        return
    chunks = tuple(min(n or 1, 4) for n in shape) if shape and rng.random() < 0.7 else None
    large = int(np.prod(shape, dtype=object)) * dtype.itemsize > 1 << 20
    if large and chunks is None:
        chunks = tuple(min(n or 1, 64) for n in shape)
    more = {"maxshape": (None,) * len(shape)} if chunks and rng.random() < 0.3 else {}
    file.create_dataset(name, shape, dtype, chunks=chunks, **more)


def other_storage(rng: Random, file: Any) -> None:
    name = _pick(rng, file, h5py.Dataset)
    values = file[name][()]
    del file[name]
    ways: list[dict[str, Any]] = [
        {"chunks": True}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True},
        {"fletcher32": True}, {"scaleoffset": 2}, {"compression": "gzip", "fletcher32": True},
        {"maxshape": (None,) * np.ndim(values)}, {"track_times": True},
    ]  # fmt: skip
    file.create_dataset(name, data=values, **rng.choice(ways))


def other_values(rng: Random, file: Any) -> None:
    name = _pick(rng, file, h5py.Dataset)
    values = file[name][()]
    odd = (0, 1, -1, np.nan, np.inf, 1e308, -1e308, 1e39, 2**31, 2**62, 1e-320)
    with np.errstate(all="ignore"):
        array = np.atleast_1d(np.array(values))
        number = np.array(rng.choice(odd)).astype(array.dtype)
        if rng.random() < 0.5:
            array.reshape(-1)[rng.randrange(array.size)] = number
        else:
            array[...] = number
    file[name][...] = array.reshape(np.shape(values))


def add_object(rng: Random, file: Any) -> None:
    place = rng.choice(
        ("new", "restart/new", "scalars/new", "Y", "y", "grid", "\x1b[31m", "data/Z")
    )
    kind = rng.randrange(4)
    if kind == 0:
        file.create_dataset(place, data=np.arange(3))
    elif kind == 1:
        file.create_group(place)
    elif kind == 2:
        file[place] = h5py.SoftLink("/")
    else:
        file[place] = np.dtype("f8")


def many_objects(rng: Random, file: Any) -> None:
    for i in range(rng.choice((10, 300))):
        file.create_group(f"many/{i}")


def deep_group(rng: Random, file: Any) -> None:
    name = "/".join("g" * rng.choice((20, 300)))
    file.create_group(name)


CHANGES: tuple[Change, ...] = (
    *(change_attribute,) * 5,
    remove_attribute,
    add_attribute,
    remove_object,
    exchange_objects,
    link_elsewhere,
    link_elsewhere,
    store_elsewhere,
    other_type,
    other_type,
    other_shape,
    other_shape,
    other_storage,
    other_values,
    other_values,
    add_object,
    many_objects,
    deep_group,
)


def chunk_bomb(gigabytes: float) -> bytes:
    """Return a small .h5 data file whose X unpacks to many zeros."""
    rows = int(gigabytes * (1 << 30)) // 48
    with temporary_folder() as place:
        path = place / "bomb.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("X", (rows, 6), "f8", chunks=(1 << 16, 6), compression="gzip")
            file["Y"] = np.zeros(3)
        return path.read_bytes()
