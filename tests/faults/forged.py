"""Forged trajectories: mutated, and every checksum made right again.

The checksums are computed here from the description of the format, not by the reader that is tried.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from faults.mutated_hdf5 import edit, odd_changes, odd_value, set_attribute
from faults.mutations import EXTREMES, ON_TEXT, mutated
from faults.sandbox import apart

CHANGING = ("commit", "sessions", "scalars", "snapshots", "restart")
PAGE = 4096
RUNNING = 0  # a status
RECORD = struct.Struct("<8sQQQqqdqqIIII")
FIELDS = (
    "magic", "sequence", "scalar_rows", "snapshot_rows", "restart_slot", "restart_step",
    "restart_time", "status", "stop_step", "scalars_crc", "snapshots_crc", "fixed_crc", "length",
)  # fmt: skip
_WITHOUT_SHA = {
    "output", "force", "snapshots", "scalars", "snapshot_precision", "store_data",
    "restart_seconds", "lock", "preset", "data_dir", "scalars_every",
}  # fmt: skip


def regions(file: Any) -> dict[str, tuple[int, int]]:
    """Return offset and bytes of every dataset's data."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            found[name] = (item.id.get_offset(), item.id.get_storage_size())

    file.visititems(visit)
    return found


def fields_of(page: bytes) -> dict[str, Any]:
    return dict(zip(FIELDS, RECORD.unpack_from(page), strict=True))


def page_of(fields: dict[str, Any], reason: bytes) -> bytes:
    body = RECORD.pack(*(fields[name] for name in FIELDS))
    body += reason[: PAGE - 4 - len(body)].ljust(PAGE - 4 - len(body), b"\0")
    return body + struct.pack("<I", zlib.crc32(body))


Fields = dict[str, Any]
"""The fields of a commit record, and its "reason"."""


def sealed(
    content: bytes,
    change: Callable[[Any], object] = lambda _: None,
    record: Callable[[Fields], object] = lambda _: None,
) -> bytes:
    """Change a trajectory by h5py, and each commit record, and make every checksum right.

    A file that HDF5 cannot open, or without rows to seal, is returned as far as it was sealed.
    """

    def work(path: Path) -> None:
        edit(path, change)
        with h5py.File(path, "r+", locking=False) as file:
            _seal_fixed(file)
        data = bytearray(path.read_bytes())
        with h5py.File(path, "r", locking=False) as file:
            places, values = regions(file), _values(file)
            order = [name for key in ("scalars", "arrays") for name in _words_of(file, key)]
        _seal_records(data, places, values, record)
        path.write_bytes(data)
        _seal_snapshots(data, places, values)
        _seal_restart(data, places, values, order)
        _seal_records(data, places, values, record)
        path.write_bytes(data)

    return apart(content, work) or content


def _words_of(file: Any, key: str) -> list[str]:
    value = file["restart"].attrs.get(key, b"")
    return _text(value).split()


def _seal_fixed(file: Any) -> None:
    for group in ("initial", "chart", "data", "schedule"):
        for name in file.get(group, {}):
            item = file[group][name]
            if isinstance(item, h5py.Dataset) and item.size and item.size < 1 << 20:
                item.attrs["crc32"] = np.int64(zlib.crc32(np.ascontiguousarray(item[()]).tobytes()))
    text = _text(file.attrs.get("config"))
    try:
        config = json.loads(text)
        kept = {key: config[key] for key in sorted(config) if key not in _WITHOUT_SHA}
    except (ValueError, AttributeError, RecursionError):
        return
    set_attribute(file, "config_sha256", hashlib.sha256(json.dumps(kept).encode()).hexdigest())


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _values(file: Any) -> dict[str, np.ndarray]:
    names = [n for n in regions(file) if n.partition("/")[0] in CHANGING]
    return {n: np.asarray(file[n][()]) for n in names if file[n].size < 1 << 20}


def _write(data: bytearray, places: Any, name: str, array: np.ndarray) -> None:
    offset, size = places[name]
    data[offset : offset + size] = array.tobytes()[:size]


def _seal_snapshots(data: bytearray, places: Any, values: dict[str, np.ndarray]) -> None:
    crcs = values["snapshots/crc32"]
    for row in range(len(crcs)):
        head = b"".join(values[f"snapshots/{name}"][row].tobytes() for name in ("step", "time"))
        for column, name in enumerate("UVWa"):
            content = values[f"snapshots/{name}"][row].tobytes()
            crcs[row, column] = zlib.crc32(head + content)
    _write(data, places, "snapshots/crc32", crcs)


def _seal_restart(data: bytearray, places: Any, values: Any, order: list[str]) -> None:
    crcs = values["restart/crc32"]
    for slot in range(len(crcs)):
        crc = zlib.crc32(values["restart/step"][slot].tobytes())
        for name in ("time", *order):
            crc = zlib.crc32(values[f"restart/{name}"][slot].tobytes(), crc)
        crcs[slot] = crc
    _write(data, places, "restart/crc32", crcs)


# The columns of /scalars in the order of their checksum.
_SCALARS = (
    "step", "time", "step_size", "loss_sup", "loss_adv", "loss_aug", "loss_critic", "residual_norm",
    "reaction_norm_U", "diffusion_norm_U", "reaction_norm_V", "diffusion_norm_V", "distance_U_mean",
    "distance_U_max", "distance_V_mean", "distance_V_max", "balance_drift", "critic_balance_drift",
    "score_norm_mean", "penalty_norm_mean", "mask_flips", "evaluations", "rejected_steps",
    "invariant_error", "lambda_max",
)  # fmt: skip


def _rows_crc(values: dict[str, np.ndarray], group: str, count: int) -> int:
    order = _SCALARS if group == "scalars" else ("step", "time", "crc32")
    names = [name for name in order if f"{group}/{name}" in values]
    crc = 0
    for row in range(min(count, len(values[f"{group}/step"]))):
        for name in names:
            crc = zlib.crc32(values[f"{group}/{name}"][row].tobytes(), crc)
    return crc


def _seal_records(
    data: bytearray, places: Any, values: Any, change: Callable[[Fields], object]
) -> None:
    offset, _ = places["commit/record"]
    ranges = sorted(places[name] for name in places if name.partition("/")[0] in CHANGING)
    fixed, position = 0, 0
    for start, size in ranges:
        fixed = zlib.crc32(data[position:start], fixed)
        position = start + size
    fixed = zlib.crc32(data[position:], fixed)
    for slot in range(2):
        at = offset + slot * PAGE
        page = bytes(data[at : at + PAGE])
        fields = fields_of(page)
        if fields["magic"][:6] != b"PRDCMT":
            continue
        fields["fixed_crc"] = fixed
        fields["scalars_crc"] = _rows_crc(values, "scalars", fields["scalar_rows"])
        fields["snapshots_crc"] = _rows_crc(values, "snapshots", fields["snapshot_rows"])
        fields["reason"] = page[RECORD.size : RECORD.size + min(fields["length"], 4000)]
        change(fields)
        data[at : at + PAGE] = page_of(fields, fields.pop("reason"))


# --- Mutators ---


def odd_record(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change a field or two of the commit records."""
    names = rng.sample([*FIELDS[1:], "reason"], rng.choice((1, 1, 2)))
    both = rng.random() < 0.7
    rng = copy(rng)  # the draws of a change are not the caller's, who may do it in a child
    state = rng.getstate()

    def change(fields: dict[str, Any]) -> None:
        if both:
            rng.setstate(state)
        elif rng.random() < 0.5:
            return
        for name in names:
            if name == "reason":
                fields[name] = mutated(rng, fields[name] or b"reason", (), ON_TEXT)[:4000]
                fields["length"] = len(fields[name])
            elif name == "restart_time":
                fields[name] = rng.choice((math.nan, math.inf, -1.0, 0.0, 1e308, 5e-324, 0.3))
            else:
                near = (3, 4, 5, 6, 7, fields[name] + 1, fields[name] - 1, -2)
                fields[name] = _fitting(name, rng.choice((*EXTREMES, *near)))

    return sealed(content, record=change)


def _fitting(name: str, value: int) -> int:
    if name.endswith("crc") or name == "length":
        return value % 2**32
    if name in ("sequence", "scalar_rows", "snapshot_rows"):
        return value % 2**64
    return (value + 2**63) % 2**64 - 2**63


def odd_attributes(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change one of the attributes that the reader uses."""
    rng = copy(rng)

    def change(file: Any) -> None:
        names = list(file.attrs)
        name = rng.choice(names)
        old = file.attrs[name]
        if name in ("config", "resolved", "versions") and rng.random() < 0.8:
            set_attribute(file, name, odd_json(rng, _text(old)))
        else:
            set_attribute(file, name, odd_value(rng, old))

    return sealed(content, change)


def odd_json(rng: Random, text: str) -> str:
    """Change a key or a value of a JSON object."""
    content = json.loads(text)
    odd: list[Any] = [
        None, True, 0, -1, 1, 2, 1.5, -1e308, 1e-300, 1e308, float("nan"), float("inf"), 10**9,
        2**31, 2**63, 10**30, "", "a", "auto", "\x1b[31m", "é", [], {}, [1], {"a": 1}, "a" * 5000,
        "/dev/zero", "1", [[[[]]]], "numpy", "cupy", "cupy:99", "numpy:1", "gram", "range",
        "\ud800",
    ]  # fmt: skip
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice(list(content) or ["a"])
        kind = rng.randrange(10)
        if kind == 0:
            content.pop(key, None)
        elif kind == 1:
            content[rng.choice(("new", "\x1b[31m", "", "steps"))] = rng.choice(odd)
        else:
            content[key] = rng.choice(odd)
    return json.dumps(content)


def _odd_number(rng: Random, dtype: Any) -> Any:
    odd = (0, 1, -1, np.nan, np.inf, -np.inf, 1e308, 1e-320, 2**62, 10**6, 1e200)
    with np.errstate(all="ignore"):
        return np.array(rng.choice(odd)).astype(dtype)


def odd_fixed(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change initial arrays, data or plans."""
    rng = copy(rng)

    def change(file: Any) -> None:
        groups = [g for g in ("initial", "chart", "data", "schedule") if len(file.get(g, {}))]
        group = file[rng.choice(groups)]
        item = group[rng.choice(list(group))]
        values = item[()]
        flat, number = values.reshape(-1), _odd_number(rng, values.dtype)
        kind = rng.randrange(3)
        if kind == 0:
            flat[:] = number
        elif kind == 1:
            flat[rng.randrange(flat.size)] = number
        else:
            flat[:] = flat[::-1].copy()
        item[...] = values

    return sealed(content, change)


def odd_rows(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change committed rows or restart states."""
    rng = copy(rng)

    def change(file: Any) -> None:
        group = file[rng.choice(("scalars", "snapshots", "restart"))]
        item = group[rng.choice(list(group))]
        values = item[()]
        where = rng.randrange(len(values)) if rng.random() < 0.5 else ...
        values[where] = _odd_number(rng, values.dtype)
        item[...] = values

    return sealed(content, change)


def odd_structure(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change links, datasets and attributes anywhere."""
    return sealed(content, odd_changes(copy(rng)))


FORGERS = (
    *(odd_record,) * 3,
    *(odd_attributes,) * 4,
    odd_fixed,
    *(odd_rows,) * 2,
    *(odd_structure,) * 4,
)
