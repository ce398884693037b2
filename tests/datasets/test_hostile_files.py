"""Files made to harm: bombs, pipes, and content on which decoders raise errors of every type."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from support_cli import ROOT

from prdsim.config import RunConfig
from prdsim.datasets import available_datasets, from_arrays, load_dataset
from prdsim.datasets.configured import load_data
from prdsim.datasets.reading import reading
from prdsim.errors import ConfigError, DataError

X = np.random.default_rng(1).standard_normal((8, 6))
Y = np.random.default_rng(2).standard_normal((8, 2))


# -- bombs -----------------------------------------------------------------------------------------

SIDE = (10_000, 30_000)  # 300 MB of bytes
COUNT = SIDE[0] * SIDE[1]


def npy_header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def write_zip(path: Path, name: str, *pieces: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open(name, "w") as member,
    ):
        for piece in pieces:
            member.write(piece)
    return path


def npz_bomb(folder: Path) -> None:
    zeros = [bytes(COUNT // 100)] * 100
    write_zip(folder / "bomb.npz", "X.npy", npy_header(SIDE), *zeros)


def idx_bomb(folder: Path) -> None:
    header = struct.pack(">4B3I", 0, 0, 8, 3, 10_000, 300, 100)
    content = gzip.compress(header) + 100 * gzip.compress(bytes(COUNT // 100))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x01\0")


def h5_bomb(folder: Path) -> None:
    with h5py.File(folder / "bomb.h5", "w") as file:
        file.create_dataset("X", SIDE, "u1", chunks=(100, 30_000), compression="gzip")


def chunk_bomb(folder: Path) -> None:
    """A chunk of 128 bytes by declaration."""
    deflate = zlib.compressobj(1)
    content = b"".join([*(deflate.compress(bytes(COUNT // 100)) for _ in range(100))])
    with h5py.File(folder / "chunk.h5", "w") as file:
        dataset = file.create_dataset("X", (4, 4), "f8", chunks=(4, 4), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), content + deflate.flush())


def csv_bomb(folder: Path) -> None:
    (folder / "bomb.csv").write_bytes(b"a,b\n" + b"1,1\n" * 4_000_000)


def one_line(folder: Path) -> None:
    (folder / "line.csv").write_bytes(b"," * 20_000_000)


BOMBS = {
    "bomb.npz": (npz_bomb, "X of bomb.npz: needs 300.0 MB of memory, but only"),
    "mnist": (idx_bomb, "(its header says 10000 x 300 x 100): needs 300.0 MB of memory, but only"),
    "bomb.h5": (h5_bomb, "X of bomb.h5: needs 303.0 MB of memory, but only"),
    "chunk.h5": (chunk_bomb, "X of chunk.h5 is damaged: a chunk holds more than it declares"),
    "bomb.csv": (csv_bomb, "bomb.csv (8000002 numbers): needs 192.0 MB of memory, but only"),
    "line.csv": (one_line, "line.csv has a line of more than 16.8 MB: write it as .npz or .h5"),
}
LOADER = """
import resource, sys
from pathlib import Path
import h5py
from prdsim.datasets import load_dataset
from prdsim.errors import DataError

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

limit = 1024 * status("VmSize") + 150_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name in sys.argv[1:]:
    try:
        load_dataset(name, split="test" if name == "mnist" else "train", data_dir=".")
    except DataError as error:
        print(error)
print(status("VmHWM"))
"""


def test_bombs_are_refused_by_their_declared_size(tmp_path):
    for write, _ in BOMBS.values():
        write(tmp_path)
    assert max(path.stat().st_size for path in tmp_path.glob("bomb.[nh]*")) < 2_000_000
    answer = subprocess.run(
        [sys.executable, "-c", LOADER, *BOMBS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    *errors, peak = answer.stdout.splitlines()
    assert answer.stderr == ""
    for error, (_, message) in zip(errors, BOMBS.values(), strict=True):
        assert message in error
        if "needs" in message:
            assert error.endswith("put fewer samples into the file, or use a larger machine")
    assert int(peak) < 250_000  # KB, of which Python, NumPy and HDF5 take about 70 MB


def test_an_archive_that_declares_more_than_it_holds_is_damaged(tmp_path):
    path = write_zip(tmp_path / "a.npz", "X.npy", npy_header((2**31, 2**26)), bytes(80))
    with pytest.raises(DataError, match=r"X of .*a.npz is damaged: its header declares another"):
        load_dataset(path)


# -- errors of every type --------------------------------------------------------------------------

ERRORS = (
    lzma.LZMAError,
    zlib.error,
    struct.error,
    OverflowError,
    RecursionError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    AssertionError,
    SyntaxError,
    NotImplementedError,
)


@pytest.mark.parametrize("kind", ERRORS)
def test_the_boundary_makes_a_data_error_of_every_error(kind):
    for error, text in ((kind("text\nand more"), "text"), (kind(), kind.__name__)):
        with pytest.raises(DataError, match=f"^a.npz is damaged: {text}$"), reading(Path("a.npz")):
            raise error


def test_the_boundary_leaves_warnings_to_others_and_lets_interrupts_pass():
    with reading(Path("a.npz")):
        warnings.warn("from a decoder", UserWarning, stacklevel=1)
    with pytest.raises(KeyboardInterrupt), reading(Path("a.npz")):
        raise KeyboardInterrupt
    no_room = r"^cannot read a.npz: its content does not fit"
    with pytest.raises(DataError, match=no_room), reading(Path("a.npz")):
        raise MemoryError


NESTED = b"(" * 3000 + b")" * 3000
BAD_MEMBERS = {
    "nested": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 6000) + NESTED, "is damaged"),
    "no array": (b"hello, world", "is damaged: .*magic string is not correct"),
    "empty": (b"", "is damaged"),
    "long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 10**6, "is damaged: EOF"),
    "version": (b"\x93NUMPY\x03\x00\x10\x00\x00\x00", r"has version \(3, 0\) of the .npy format"),
    "negative": (npy_header((-2, -4)) + bytes(8), "is damaged"),
    "objects": (npy_header((1,), "|O") + bytes(8), "holds Python objects"),
    "texts": (npy_header((1, 1), "|S8") + bytes(8), "must hold real numbers"),
    "surplus": (npy_header((1, 8)) + bytes(9), "declares another length"),
}


@pytest.mark.parametrize(("content", "message"), BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_bad_arrays_in_an_archive(tmp_path, content, message):
    path = write_zip(tmp_path / "a.npz", "X.npy", content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(path)
    assert "a.npz" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_only_numpys_ways_of_compression_are_read(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("X.npy", npy_header((1, 8)) + bytes(8))
    with pytest.raises(DataError, match=r"X of .*a.npz is compressed by a method that is not"):
        load_dataset(tmp_path / "a.npz")


# -- pipes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.csv"])
def test_a_pipe_is_refused_without_waiting(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is a pipe, not a file"):
        load_dataset(tmp_path / name)


def test_pipes_in_the_folder_of_mnist_are_refused_without_waiting(tmp_path):
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"):
        os.mkfifo(tmp_path / name)
    hint = available_datasets(tmp_path)[2].hint
    assert hint is not None
    assert "t10k-images-idx3-ubyte is a pipe, not a file" in hint
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is a pipe, not a file"):
        load_dataset("mnist", split="test", data_dir=tmp_path)


@pytest.mark.parametrize("path", ["~nobody-of-this-name/a.npz", "a\0.npz"])
def test_paths_that_cannot_be(path):
    words = r"there is no such user|dataset: must not be empty, got 'a\\x00.npz'"
    with pytest.raises((ConfigError, DataError), match=words):
        load_dataset(path)


# -- numbers that are not all there ----------------------------------------------------------------


def masked(values: np.ndarray, *places: tuple[int, int]) -> np.ma.MaskedArray:
    array = np.ma.masked_array(values, mask=np.zeros(values.shape, bool))
    for place in places:
        array[place] = np.ma.masked
    return array


def test_masked_values_are_refused_with_their_number():
    for data in ((masked(X, (0, 0), (3, 1)), Y), (list(masked(X, (0, 0), (3, 1))), Y)):
        with pytest.raises(DataError, match=r"X of arrays has 2 masked values: leave out .* fill"):
            load_data(RunConfig(), data)
    with pytest.raises(DataError, match=r"Y of arrays has 1 masked values"):
        from_arrays(X, masked(Y, (5, 1)))


def test_arrays_of_which_nothing_is_masked_are_taken():
    assert from_arrays(masked(X), masked(Y)).fingerprint == from_arrays(X, Y).fingerprint


BAD_NAMES = {
    "to_csv": (",a,y\n0,1,2\n", "column 1 of .*a.csv has no name: .*index=False"),
    "blank": ("a, ,y\n0,1,2\n", "column 2 of .*a.csv has no name"),
    "trailing comma": ("a,y,\n0,1,2\n", "column 3 of .*a.csv has no name"),
    "doubled": ("a,b,y,a\n1,2,3,4\n", "columns 1 and 4 of .*a.csv are both named a: rename one"),
    "doubled label": ("a,label,label\n1,2,3\n", "columns 2 and 3 of .* are both named label"),
    "nothing": ("\n1,2\n", "the first line must name the columns"),
    "commas": (",,\n1,2,3\n", "the first line must name the columns"),
    "long name": ("a" * 200_000 + "\n1\n", "in the line of names: field larger than"),
    "doubled long": (f"{'a' * 99},{'a' * 99}\n1,2\n", f"are both named {'a' * 40}: "),
}


@pytest.mark.parametrize(("text", "message"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_columns_have_names_and_each_its_own(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "a.csv", target="inputs")


# -- numbers beyond the run's precision ------------------------------------------------------------


def test_numbers_beyond_the_runs_precision_are_refused():
    large, small = X.copy(), X.copy()
    large[2, 3], small[4] = -1e300, 1e-60
    single = RunConfig(normalize="none", precision="float32")
    with pytest.raises(DataError, match=r"X of arrays holds -1e\+300, .* range of float32: scale"):
        load_data(single, (large, Y))
    with pytest.raises(DataError, match=r"Y of arrays holds 1e\+39, .* --precision float64"):
        load_data(single, (X, np.full(8, 1e39)))
    with pytest.raises(DataError, match=r"largest number is 1e-60, becomes 0 in float32"):
        load_data(single, (small, Y))
    for data in ((large, Y), (small, Y)):
        dataset = load_data(single.replace(precision="float64"), data)
        assert dataset.X.dtype == np.float64
        with pytest.raises(DataError, match="float32"):
            load_data(single, dataset)


def test_small_numbers_among_others_are_rounded():
    mixed = X.copy()
    mixed[4, 1:] = 1e-60
    assert load_data(RunConfig(normalize="none", precision="float32"), (mixed, Y)).X.shape == (6, 8)
