"""The user's own .npz, .h5 and .csv files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from prdsim.datasets import load_dataset
from prdsim.errors import DataError

X = np.random.default_rng(1).standard_normal((8, 6))
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
REAL = np.random.default_rng(2).standard_normal((8, 2))


def write_npz(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def write_h5(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


WRITERS = {".npz": write_npz, ".h5": write_h5, ".hdf5": write_h5}


def load(path: Path, **options):
    return load_dataset(path, **{"samples": None, "normalize": "none", **options})


def paired(dataset, X: np.ndarray, Y: np.ndarray) -> bool:
    """Whether the columns of the data set are the rows of X and Y, in some order."""
    rows = {tuple(x): tuple(y) for x, y in zip(X, Y, strict=True)}
    columns = {tuple(x): tuple(y) for x, y in zip(dataset.X.T, dataset.Y.T, strict=True)}
    return rows == columns


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("key", ["Y", "y"])
def test_array_files(tmp_path, suffix, key):
    write, path = WRITERS[suffix], tmp_path / f"mine{suffix}"
    dataset = load(write(path, X=X, **{key: REAL}, grid=np.array([2, 3])))
    assert paired(dataset, X, REAL)
    assert dataset.grid == (2, 3)
    assert dataset.name == path.name
    assert paired(load(write(path, X=X, **{key: LABELS})), X, np.eye(3)[LABELS])
    assert load(write(path, X=X), target="inputs").Y.shape == (6, 8)


def test_the_same_content_has_the_same_fingerprint_in_any_file(tmp_path):
    prints = {
        load(write(tmp_path / f"{i}{suffix}", X=X, Y=REAL)).fingerprint
        for i, (suffix, write) in enumerate(WRITERS.items())
    }
    assert len(prints) == 1


def test_csv_with_labels(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffa, b ,label\r\n1,2,0\r\n3,4.5,2\r\n", encoding="utf-8")
    dataset = load(path)
    assert paired(dataset, np.array([[1, 2], [3, 4.5]]), np.eye(3)[[0, 2]])
    assert dataset.grid is None


def test_csv_with_real_targets_anywhere(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("y0,a,b,Y1\n0.5,1,2,-1\n1.5,3,4,1e-300\n")
    expected = np.array([[0.5, -1], [1.5, 1e-300]])
    assert paired(load(path), np.array([[1, 2], [3, 4]]), expected)


def test_csv_keeps_every_bit(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [",".join(map(repr, [*x.tolist(), y.tolist()[0]])) for x, y in zip(X, REAL, strict=True)]
    path.write_text("\n".join(["a,b,c,d,e,f,y", *rows]))
    assert paired(load(path), X, REAL[:, :1])


def test_csv_without_targets(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,2\n")
    assert load(path, target="inputs").Y.shape == (2, 1)
    with pytest.raises(DataError, match="has no Y"):
        load(path)


BAD_CSV = {
    "empty": ("", "the first line must name the columns"),
    "names alone": ("a,b,y\n", "is empty: it has no line of numbers"),
    "no names": ("1,2,3\n4,5,6\n", "the first line must name the columns"),
    # Lines count from 1, as editors do: the line of names, and lines that are empty, included.
    "text": (
        "a,y\n1,2\n\n3,four\n",
        "line 4 of .*mine.csv holds 'four' in column y, not a number$",
    ),
    "quoted": ('a,y\n"1","2"\n', "line 2 of .*mine.csv holds '\"1\"' in column a, not a number$"),
    "underscore": ("a,y\n1,2\n1_0,2\n", "line 3 of .*mine.csv holds '1_0' in column a"),
    "ragged": ("a,b,y\n1,2,3\n4,5\n", "line 3 of .* has 2 values, but line 1 names 3 columns$"),
    "columns": ("a,b,c,y\n1,2,3\n", "line 2 of .* has 3 values, but line 1 names 4 columns$"),
    "semicolons": ("a;y\n1;2\n", "line 2 of .* holds '1;2' in column a;y, not a number$"),
    "missing value": ("a,b,y\n1,,3\n", "line 2 of .* holds nothing in column b, not a number$"),
    "blanks": ("a,y\n1,2\n  \n", "line 3 of .* has 1 value, but line 1 names 2 columns$"),
    "nan": ("a,y\n1,1\nnan,1\n", "line 3 of .* holds nan in column a: all numbers must be finite"),
    "infinite y": ("a,y\n\n1,1\n1,inf\n", "line 4 of .* holds inf in column y: all numbers"),
    "real label": ("a,label\n1,0\n2,0.5\n", "label 0.5 of line 3 of .* is not an integer"),
    "nan label": ("a,label\n1,nan\n", "label nan of line 2 of .* is not an integer"),
    "negative label": ("a,label\n1,-1\n", "label -1 of line 2 of mine.csv is negative"),
    "both": ("a,label,y\n1,1,1\n", "one column label, or columns y..., not both"),
    "no inputs": ("y\n1\n", r"X of mine.csv is empty: its shape is \(1 x 0\)"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load(path)


def test_a_row_of_zeros_is_named_by_its_line(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b,label\n1,1,1\n\n0,0,0\n")
    with pytest.raises(DataError, match=r"^line 4 of mine\.csv has norm 0 and cannot be scaled"):
        load(path, normalize="unit")


def test_classes_without_a_sample_are_told(tmp_path):
    """Labels that begin at 1, or were left out: the network gets an output for each class."""
    path = write_npz(tmp_path / "mine.npz", X=X, Y=LABELS)
    assert load(path).notes == ()
    path = write_npz(tmp_path / "mine.npz", X=X, Y=LABELS + 1)
    dataset = load(path)
    assert dataset.Y.shape == (4, 8)
    assert dataset.notes == (
        "mine.npz: no sample has label 0 (1 of 4 classes, 0 to 3); each has an output all the same",
    )
    assert load(path, target="inputs").notes == ()
    path = write_npz(tmp_path / "mine.npz", X=X, Y=LABELS * 10)
    (note,) = load(path, target="scalar").notes
    assert "no sample has label 1, 2, 3, 4, 5, ... (18 of 21 classes, 0 to 20)" in note


def test_csv_that_is_no_text(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load(path)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": X, "Y": REAL}, "holds no X"),
        ({"X": X, "Y": REAL, "y": LABELS}, "holds both Y and y"),
        ({"X": X, "Y": REAL[:5]}, "numbers of rows differ"),
        ({"X": X[0], "Y": REAL[0]}, r"must be \(n, d_in\)"),
        ({"X": np.float64(3.0), "Y": REAL[0]}, r"must be \(n, d_in\)"),
        ({"X": X, "Y": LABELS, "grid": np.array([5, 5])}, "is 5 x 5, but X has 6 inputs"),
        ({"X": X, "Y": np.array([b"a"] * 8)}, "must hold real numbers"),
    ],
)
def test_bad_content(tmp_path, suffix, arrays, message):
    with pytest.raises(DataError, match=message):
        load(WRITERS[suffix](tmp_path / f"mine{suffix}", **arrays))


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".csv"])
def test_missing_and_folder(tmp_path, suffix):
    with pytest.raises(DataError, match=r"no file .*mine"):
        load(tmp_path / f"mine{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        load(tmp_path / f"folder{suffix}")


def test_unsupported_kind(tmp_path):
    (tmp_path / "mine.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"mine.txt: data files end in .npz, .h5, .hdf5, .csv"):
        load(tmp_path / "mine.txt")


def test_own_files_have_no_test_part(tmp_path):
    with pytest.raises(DataError, match="has no test part: leave split at train"):
        load(write_npz(tmp_path / "mine.npz", X=X, Y=REAL), split="test")


def test_pickled_objects_are_never_loaded(tmp_path):
    with pytest.raises(DataError, match="holds Python objects"):
        load(write_npz(tmp_path / "mine.npz", X=np.array([{}, {}], dtype=object)))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_foreign_content(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"is not (a .npz|an HDF5) file"):
        load(path)


def test_npy_renamed_to_npz(tmp_path):
    path = tmp_path / "mine.npz"
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match=r"is not a .npz file"):
        load(path)


def test_h5_dataset_that_declares_too_much(tmp_path):
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", shape=(2**31, 2**20), dtype="f8", chunks=(1, 1024))
    with pytest.raises(DataError, match=r"needs .* GB of memory"):
        load(path)


def test_h5_group_in_place_of_an_array(tmp_path):
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file.create_group("X")
    with pytest.raises(DataError, match=r"X of .*mine.h5 is not an array"):
        load(path)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_truncated_files_are_refused_at_any_length(tmp_path, suffix):
    whole = WRITERS[suffix](tmp_path / f"whole{suffix}", X=X, Y=REAL)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in range(0, len(content), max(1, len(content) // 150)):
        cut.write_bytes(content[:length])
        with pytest.raises(DataError):
            load(cut)


def test_damaged_npz_gives_its_true_content_or_a_data_error(tmp_path):
    whole = write_npz(tmp_path / "whole.npz", X=X, Y=REAL)
    truth = load(whole).fingerprint
    content = whole.read_bytes()
    damaged, messages = tmp_path / "damaged.npz", []
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 0x55
        damaged.write_bytes(changed)
        try:
            assert load(damaged).fingerprint == truth  # a time stamp or the like was hit
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > len(content) // 6  # most bytes are content
    assert all(len(message.splitlines()) == 1 for message in messages)


def test_damaged_h5_is_a_data_error(tmp_path):
    path = write_h5(tmp_path / "mine.h5", X=X, Y=REAL)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"SNOD", b"NONE"))  # the signature of its table of names
    with pytest.raises(DataError, match=r"mine.h5 is damaged|cannot read .*mine.h5"):
        load(path)
