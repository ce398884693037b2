"""The kept corpus: what once went wrong, or easily might; each is small and named by what it is.

Files are in ``corpus/<format>/``. Trajectories are made here, so that they are of the present
format version: a named change of an undamaged one, with every checksum made right again.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from faults.forged import sealed
from faults.formats import (
    FORMATS,
    SMALL,
    Command,
    Format,
    case_of,
    command,
    setting,
    trajectories,
)
from faults.mutated_archives import gzip_bomb, npz_bomb
from faults.mutated_hdf5 import chunk_bomb, set_attribute
from faults.oracle import Case
from faults.sandbox import in_turn

FOLDER = Path(__file__).with_name("corpus")
_COMMANDS = (
    command("inspect run.h5 --check"),
    command("resume run.h5 --steps 8", changes=("run.h5",)),
)


def count() -> int:
    """The number of all `cases`."""
    files = sum(len(_commands(FORMATS[path.parent.name])) for path in FOLDER.glob("*/*"))
    changed = len(CHANGES) + 2 * len(RECORDS)
    return files + len(SETTINGS) + changed * len(_COMMANDS) + _BOMBS


def cases() -> Iterator[Case]:
    """Every case of the corpus."""
    for folder in sorted(FOLDER.iterdir()):
        yield from _of_files(folder)
    for name, text in SETTINGS.items():
        yield setting(f"setting: {name}", text)
    yield from _of_trajectories()
    yield from _bombs()


def _commands(form: Format) -> Sequence[Command]:
    return _COMMANDS if form.target == "run.h5" else form.commands[:2]


def _of_files(folder: Path) -> Iterator[Case]:
    form = FORMATS[folder.name]
    rest = {k: v for k, v in form.examples()[0].items() if k != form.target}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        for one in _commands(form):
            yield case_of(f"{folder.name}/{path.name}", {**rest, form.target: content}, one)


SETTINGS = {
    "control character in a key": "\x07=0.1",
    "control character in a value": "integrator=\x1b[31m",
    "line separator": "\u2028=1",
    "next line": "diffusion\x85=true",
    "no equals sign": "a\x1b[31m",
    "2,000 lines": "rtol\n" * 2000,
    "50,000 brackets": "[" * 50_000,
    "value of 50,000 brackets": "rtol=" + "[" * 50_000,
    "inline tables": "rtol=" + "{a=" * 5000,
    "5,000 digits": "seed=" + "9" * 5000,
    "surrogate in a key": "\udcf5=1",
    "surrogate in a value": "integrator=\udcf5",
    "dotted key": "rtol=" + "a." * 20_000,
    "geometric:1e15": "snapshots=geometric:1000000000000000",
    "times:geometric:1e15": "snapshots=times:geometric:1000000000000000",
    "geometric of 5,000 digits": "scalars=geometric:" + "9" * 5000,
    "every smallest number": "scalars=times:every:5e-324",
    "every 1e-300": "snapshots=times:every:1e-300",
    "every superscript": "scalars=every:²",
    "every in Arabic digits": "scalars=every:٣",
    "every with an underscore": "scalars=times:every:1_0",
    "every nan": "scalars=times:every:nan",
    "schedule with a control character": "scalars=every:\x1b[31m",
    "points of 5,000 digits": "penalty_points=gauss:" + "9" * 5000,
    "points superscript": "penalty_points=gauss:²",
    "folder of a long name": "data_dir=" + "a" * 5000,
    "data of a long name": "dataset=" + "a" * 5000 + ".npz",
    "output of a long name": "output=" + "a" * 5000,
}


_BOMBS = 3


def _bombs() -> Iterator[Case]:
    """Small files that become 1.5 GB."""
    more = FORMATS["hdf5"].examples()[0]
    for name, content in {"data.npz": npz_bomb(1.5), "data.h5": chunk_bomb(1.5)}.items():
        arguments = tuple(f"run --dataset {name} {SMALL}".split())
        yield Case(f"bomb {name}", {**more, name: content}, arguments, outputs=("out.h5",))
    (files,) = FORMATS["idx-gz"].examples()
    target = "train-images-idx3-ubyte.gz"
    header = gzip.decompress(files[target])[:4] + np.array([1536, 1024, 1024], ">u4").tobytes()
    for one in FORMATS["idx-gz"].commands[:1]:
        yield case_of("bomb idx", {**files, target: gzip_bomb(1.5, header)}, one)


# --- Trajectories ---


def _replace(name: str, **keys: Any) -> Callable[[Any], None]:
    """Another dataset, or whatever a keyword says, in the place of one."""

    def change(file: Any) -> None:
        old = file[name]
        shape, dtype = old.shape, old.dtype
        del file[name]
        file.create_dataset(name, **{"shape": shape, "dtype": dtype, **keys})

    return change


def _link(name: str, link: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if name in file:
            del file[name]
        file[name] = link

    return change


def _remove(name: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]

    return change


def _attribute(name: str, value: Any, where: str = "/") -> Callable[[Any], None]:
    return lambda file: set_attribute(file[where], name, value)


def _no_attribute(name: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file.attrs[name]

    return change


def _in_json(attribute: str, **values: Any) -> Callable[[Any], None]:
    """Values in a JSON attribute; None removes a key."""

    def change(file: Any) -> None:
        content = json.loads(bytes(file.attrs[attribute]))
        content.update(values)
        kept = {key: value for key, value in content.items() if value != "removed"}
        set_attribute(file, attribute, json.dumps(kept))

    return change


CHANGES: dict[str, Callable[[Any], None]] = {
    "scalars of another length": _replace("scalars/loss_sup", shape=(3,)),
    "scalars of three axes": _replace("scalars/loss_sup", shape=(4, 3, 4)),
    "scalars of complex numbers": _replace("scalars/loss_sup", dtype="c16"),
    "scalars of texts": _replace("scalars/loss_sup", dtype="S5"),
    "scalars big-endian": _replace("scalars/step", dtype=">i8"),
    "checksums of one axis": _replace("snapshots/crc32", shape=(3,)),
    "snapshots without rows": _replace("snapshots/U", shape=(0, 4, 6)),
    "snapshots of another shape": _replace("snapshots/V", shape=(2, 2)),
    "restart without slots": _replace("restart/step", shape=(0,)),
    "restart of another shape": _replace("restart/step", shape=(2, 2)),
    "initial of another shape": _replace("initial/U", shape=(6, 4)),
    "initial in chunks": _replace("initial/U", chunks=True),
    "schedule of texts": _replace("schedule/scalars", dtype="S8"),
    "record of another type": _replace("commit/record", shape=(8192,), dtype="u1"),
    "declared far beyond the file": _replace("data/X", shape=(1 << 40, 4), chunks=(1, 4)),
    "initial W is missing": _remove("initial/W"),
    "data X is missing": _remove("data/X"),
    "data Y is missing": _remove("data/Y"),
    "restart is missing": _remove("restart"),
    "schedule is missing": _remove("schedule"),
    "initial is a number": _link("initial", np.arange(3)),
    "restart is a type": _link("restart", np.dtype("f8")),
    "data in another file": _link("data", h5py.ExternalLink("secret.h5", "/")),
    "initial by a soft link": _link("initial/U", h5py.SoftLink("/snapshots/U")),
    "scalars by a hard link": lambda f: _link("scalars/loss_adv", f["scalars/loss_sup"])(f),
    "resolved is missing": _no_attribute("resolved"),
    "precision is missing": _no_attribute("precision"),
    "versions is missing": _no_attribute("versions"),
    "created is missing": _no_attribute("created"),
    "config is missing": _no_attribute("config"),
    "grid of one number": _attribute("grid", np.array([3])),
    "grid a text": _attribute("grid", "a"),
    "grid zero": _attribute("grid", np.array([0, 6])),
    "grid 2e9 by 2e9": _attribute("grid", np.array([2**31, 2**31])),
    "config nested deep": _attribute("config", "[" * 20_000),
    "resolved nested deep": _attribute("resolved", '{"a":' * 8_000),
    "config a list": _attribute("config", "[]"),
    "resolved empty": _attribute("resolved", "{}"),
    "checksum infinite": _attribute("crc32", np.inf, "data/X"),
    "checksum an array": _attribute("crc32", np.zeros((2, 2)), "data/X"),
    "checksum a text": _attribute("crc32", "a", "data/X"),
    "scalars of restart a number": _attribute("scalars", 5, "restart"),
    "arrays of restart unknown": _attribute("arrays", "U V nowhere", "restart"),
    "arrays of restart doubled": _attribute("arrays", "U U U", "restart"),
    "control characters in created": _attribute("created", "\x1b[31m\x07\x9b1m\u2028"),
    "control characters in dataset": _attribute("dataset", "\x1b]0;title\x07"),
    "control characters in backend": _in_json("resolved", backend="\x1b[31m"),
    "format version a long text": _attribute("format_version", "a" * 3000),
    "format version 2.0": _attribute("format_version", 2.0),
    "prdsim version a long text": _attribute("prdsim_version", "\x07" * 3000),
    "backend unknown": _in_json("resolved", backend="é"),
    "threads 1e9": _in_json("resolved", threads=10**9),
    "threads a text": _in_json("resolved", threads="1"),
    "step size zero": _in_json("resolved", step_size=0.0),
    "step size nan": _in_json("resolved", step_size=float("nan")),
    "step size a list": _in_json("resolved", step_size=[1]),
    "ramp 1e30": _in_json("resolved", ramp=10**30),
    "chart unknown": _in_json("resolved", chart="weights"),
    "chart not stored": _in_json("resolved", chart="gram"),
    "resolved with more": _in_json("resolved", more=1),
    "resolved without chart": _in_json("resolved", chart="removed"),
    "width of another size": _in_json("config", width=7),
    "samples of another number": _in_json("config", samples=2),
    "dataset a device": _in_json("config", dataset="/dev/zero", store_data=False),
    "data elsewhere": lambda f: (_remove("data")(f), _in_json("config", dataset="fifo")(f)),
    "steps 1e30": _in_json("config", steps=10**30),
    "steps a list": _in_json("config", steps=[6]),
    "unknown key": _in_json("config", novel=1),
}  # fmt: skip


def _field(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.update(values)


RECORDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "record: sequence at its end": lambda f: f.update(sequence=2**64 - 2 + f["sequence"] % 2),
    "record: more rows": _field(scalar_rows=2**40),
    "record: no rows": _field(scalar_rows=0, snapshot_rows=0),
    "record: fewer scalars than snapshots": _field(scalar_rows=1),
    "record: restart slot 2": _field(restart_slot=2),
    "record: restart slot -5": _field(restart_slot=-5),
    "record: restart step beyond": _field(restart_step=10**6),
    "record: restart step negative": _field(restart_step=-3),
    "record: restart time nan": _field(restart_time=float("nan")),
    "record: restart time beyond": _field(restart_time=1e300),
    "record: stop step beyond": _field(stop_step=2**62),
    "record: running": _field(status=0),
    "record: diverged": _field(status=3),
    "record: status 200": _field(status=200),
    "record: reason": _field(reason=b"\x1b[31m\x07\x00\xff\n\r" * 9, length=63),
}


def _of_trajectories() -> Iterator[Case]:
    finished, killed = (dict(files) for files in trajectories()[:2])
    secret = {k: v for k, v in FORMATS["hdf5"].examples()[0].items() if k != "data.h5"}
    whole, torn = finished["run.h5"], killed["run.h5"]
    makers = {name: partial(sealed, whole, change) for name, change in CHANGES.items()}
    makers |= {name: partial(sealed, whole, record=change) for name, change in RECORDS.items()}
    for name, change in RECORDS.items():
        makers[f"{name}, killed"] = partial(sealed, torn, record=change)
    for name, content in zip(makers, in_turn(makers.values()), strict=True):
        for one in _COMMANDS:
            yield case_of(f"trajectory: {name}", {"run.h5": content, **secret}, one)
