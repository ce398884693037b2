"""Data sets made to harm, on the command line: one error, exit code 3, and nothing left behind."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import names
from support_cli import TINY, assert_refused

DATA = 3
X = np.random.default_rng(0).standard_normal((9, 4))
SECRET = b"8 + 1 numbers of another user's file...."


def h5(**items: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, item in items.items():
                file[name] = item

    return write


def external_storage(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (5, 1), "f8", external=[("secret", 0, len(SECRET))])


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((9, 4), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "X", (9, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("X", layout)


def declared(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("X", shape, "f8", chunks=chunks)


def lzma_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("X.npy", b"\x93NUMPY" + bytes(99))


def csv(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


HOSTILE = {
    "link to a pipe": ("a.h5", h5(X=h5py.ExternalLink("pipe", "/X")), ["soft or external link"]),
    "link to a file": (
        "a.h5",
        h5(X=h5py.ExternalLink("other.h5", "/X")),
        ["X of a.h5", "soft or external link", "copy the data into it"],
    ),
    "soft link": ("a.h5", h5(real=X, X=h5py.SoftLink("/real")), ["soft or external link"]),
    "link of targets": ("a.h5", h5(X=X, y=h5py.ExternalLink("pipe", "/y")), ["y of a.h5"]),
    "external storage": ("a.h5", external_storage, ["X of a.h5", "external storage"]),
    "virtual": ("a.h5", virtual, ["X of a.h5", "virtual dataset"]),
    "pipe": ("a.npz", os.mkfifo, ["a.npz is a pipe, not a file"]),
    "folder": ("a.csv", Path.mkdir, ["a.csv is a folder, not a file"]),
    "lzma": ("a.npz", lzma_members, ["X of a.npz", "numpy.savez"]),
    "row numbers": ("a.csv", csv(",a,label\n0,1,1\n1,2,0\n"), ["column 1 of a.csv", "index=False"]),
    "doubled": ("a.csv", csv("a,a,label\n1,2,1\n2,3,0\n"), ["columns 1 and 2 of a.csv", "a"]),
    "enormous labels": ("a.csv", csv(f"a,label\n1,{10**12}\n"), ["1000000000001 classes", "GB"]),
    "declares too much": (
        "a.h5",
        lambda path: declared(path, (10**8, 10**4), (100, 100)),
        ["X of a.h5", "needs 8,000.00 GB of memory", "fewer samples"],
    ),
    "unwritten": (
        "a.h5",
        lambda path: declared(path, (10**6, 2), (1, 1)),
        ["X of a.h5 is incomplete: 0 of 2000000 chunks were written"],
    ),
    "overflow": ("a.csv", csv("a,y\n1e300,1\n"), ["X of a.csv", "1e+300", "float32"]),
}


@pytest.mark.parametrize(("name", "write", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_data_are_refused(run, tmp_path, name, write, words):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_bytes(SECRET)
    h5(X=X)(tmp_path / "other.h5")
    write(tmp_path / name)
    before = names(tmp_path)
    options = ["--samples", 1, "--normalize", "none", "--precision", "float32"]
    answer = run("run", *TINY, *options, "--dataset", name, "-o", "run.h5")
    assert_refused(answer, DATA, *words)
    assert names(tmp_path) == before


def test_plain_arrays_with_compression_are_read(run, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(2, 2), compression="gzip", shuffle=True)
        file["y"] = np.arange(9) % 2
    assert run("run", *TINY, "--dataset", "a.h5").code == 0
