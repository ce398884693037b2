"""IDX files: where they are looked for, and every way they can be bad."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from prdsim.datasets import available_datasets, idx, load_dataset
from prdsim.datasets.fetch import check_dataset
from prdsim.errors import DataError

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def encode(array: np.ndarray, kind: int = 0x08) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGE_ARRAY = np.random.default_rng(0).integers(1, 256, (6, 3, 4))
LABEL_ARRAY = np.array([0, 1, 2, 3, 2, 1])
GOOD_IMAGES, GOOD_LABELS = encode(IMAGE_ARRAY), encode(LABEL_ARRAY)


@pytest.fixture(autouse=True)
def _empty_surroundings(tmp_path, monkeypatch):
    monkeypatch.delenv("PRDSIM_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(
    folder: Path, images: bytes = GOOD_IMAGES, labels: bytes = GOOD_LABELS, suffix=""
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{IMAGES}{suffix}").write_bytes(images)
    (folder / f"{LABELS}{suffix}").write_bytes(labels)
    return folder


def load(folder: Path | None, name: str = "mnist", **options):
    options = {"samples": None, "split": "test", "normalize": "none", **options}
    return load_dataset(name, data_dir=folder, **options)


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".gz", bytes), ("", gzip.compress)]
)
def test_plain_and_gzip_are_told_by_content(tmp_path, suffix, pack):
    dataset = load(write(tmp_path, pack(GOOD_IMAGES), pack(GOOD_LABELS), suffix))
    assert dataset.grid == (3, 4)
    assert dataset.Y.shape == (4, 6)
    found = {tuple(x): y for x, y in zip(dataset.X.T, dataset.Y.argmax(axis=0), strict=True)}
    for image, label in zip(IMAGE_ARRAY, LABEL_ARRAY, strict=True):
        assert found[tuple(image.ravel() / 255)] == label


@pytest.mark.parametrize("sub", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("place", ["data_dir", "environment", "cache"])
def test_places(tmp_path, monkeypatch, place, sub):
    roots = {name: tmp_path / name for name in ("data_dir", "environment")}
    roots["cache"] = tmp_path / "cache" / "prdsim"
    for root in roots.values():
        root.mkdir(parents=True)
    monkeypatch.setenv("PRDSIM_DATA_DIR", str(roots["environment"]))
    write(roots[place] / sub)
    assert load(roots["data_dir"]).X.shape == (12, 6)
    info = available_datasets(roots["data_dir"])[2]
    assert info.location == str(roots[place] / sub)
    assert info.samples == {"test": 6}
    assert info.hint is not None
    assert info.hint.startswith("train not found: get it with `prdsim data fetch mnist`, or name ")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_as_torchvision_lays_them_out_and_as_older_copies_are_named(tmp_path, suffix):
    """Both sets in one folder: those of torchvision tell them apart, their names do not."""
    write(tmp_path / "MNIST" / "raw", suffix=suffix)
    fashion = write(
        tmp_path / "FashionMNIST" / "raw", encode(IMAGE_ARRAY[:2]), encode(LABEL_ARRAY[:2])
    )
    for name in (IMAGES, LABELS):
        (fashion / name).rename(fashion / f"{name.replace('-idx', '.idx')}{suffix}")
    assert load(tmp_path).X.shape == (12, 6)
    assert load(tmp_path, "fashion-mnist").X.shape == (12, 2)
    states = {file.path for file in check_dataset("fashion-mnist", data_dir=tmp_path)}
    assert states == {None, *fashion.iterdir()}


def test_the_folder_of_the_name_comes_first(tmp_path):
    write(tmp_path)
    write(tmp_path / "fashion-mnist", encode(IMAGE_ARRAY[:2]), encode(LABEL_ARRAY[:2]))
    assert load(tmp_path, "fashion-mnist").X.shape == (12, 2)
    assert load(tmp_path).X.shape == (12, 6)


def test_missing_tells_where_it_looked_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PRDSIM_DATA_DIR", str(tmp_path / "from_environment"))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    for part in ("test part of mnist", IMAGES, LABELS, str(tmp_path), "from_environment", "cache"):
        assert part in message
    assert "`prdsim data fetch mnist`, or name its folder with --data-dir" in message
    assert len(message.splitlines()) == 2


def test_missing_part_points_to_the_other(tmp_path):
    with pytest.raises(DataError, match=r"The test part is present: --split test\."):
        load(write(tmp_path), split="train")


def test_labels_alone_are_not_enough(tmp_path):
    (write(tmp_path) / IMAGES).unlink()
    with pytest.raises(DataError, match="the test part of mnist"):
        load(tmp_path)


def test_missing_data_dir(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere: correct --data-dir"):
        load(tmp_path / "nowhere")


HUGE = struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
BAD_IMAGES = {
    "truncated": (GOOD_IMAGES[:-1], "is truncated: its header says 6 x 3 x 4 = 72 .* holds 71"),
    "surplus": (
        GOOD_IMAGES + b"\0",
        "has too many bytes: its header says .* = 72 bytes, it holds more",
    ),
    "header": (GOOD_IMAGES[:9], "is truncated within its header"),
    "empty file": (b"", "is not an IDX file"),
    "foreign": (b"<html>not found</html>", "is not an IDX file: its first bytes are '3c 68 74 6d'"),
    "element type": (encode(IMAGE_ARRAY, kind=0x0D), "found type 0x0d with 3"),
    "dimensions": (encode(LABEL_ARRAY), r"with 3 dimension\(s\), found type 0x08 with 1"),
    "enormous": (HUGE, "is truncated: its header says 4294967295 x 4294967295 x 4294967295"),
    "no images": (encode(np.zeros((0, 3, 4))), "is empty: its header says 0 x 3 x 4"),
    "no pixels": (encode(np.zeros((6, 0, 4))), "is empty"),
    "short gzip": (gzip.compress(GOOD_IMAGES)[:-12], "is a damaged gzip file"),
    "broken gzip": (gzip.compress(GOOD_IMAGES)[:-8] + bytes(8), "is a damaged gzip file"),
    "only gzip magic": (b"\x1f\x8b", "is a damaged gzip file"),
    "gzip of foreign": (gzip.compress(b"hello"), "is not an IDX file"),
}


@pytest.mark.parametrize(("content", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, content))
    assert IMAGES in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_images_and_labels_of_different_length(tmp_path):
    with pytest.raises(DataError, match=r"holds 6 images, but t10k-labels.* 5 labels"):
        load(write(tmp_path, labels=encode(LABEL_ARRAY[:5])))


def test_black_image_has_no_norm(tmp_path):
    images = IMAGE_ARRAY.copy()
    images[4] = 0
    folder = write(tmp_path, encode(images))
    with pytest.raises(DataError, match="sample 4 of mnist has norm 0"):
        load(folder, normalize="unit")
    assert load(folder).X.shape == (12, 6)


def test_unreadable_file(tmp_path, monkeypatch):
    folder = write(tmp_path)
    real_open = idx.open_regular_file

    def refuse(path):  # permissions do not stop the superuser
        if path.name == IMAGES:
            raise PermissionError(13, "Permission denied")
        return real_open(path)

    monkeypatch.setattr(idx, "open_regular_file", refuse)
    with pytest.raises(DataError, match=f"cannot read .*{IMAGES}: Permission denied"):
        load(folder)


def test_available_datasets_survives_a_bad_file(tmp_path):
    info = available_datasets(write(tmp_path, gzip.compress(GOOD_IMAGES)[:15]))[2]
    assert info.location is None
    assert info.hint is not None
    assert "is a damaged gzip file" in info.hint
    foreign = available_datasets(write(tmp_path, b"hello, world"))[2]
    assert foreign.hint is not None
    assert "is not an IDX file" in foreign.hint


def test_no_prefix_of_a_file_is_taken_for_the_whole(tmp_path):
    packed = gzip.compress(GOOD_IMAGES)
    for content in (GOOD_IMAGES, packed):
        for length in range(len(content)):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(DataError):
                idx.read_idx(tmp_path / "cut", dimensions=3)


def test_manifest_is_complete():
    for name, entry in idx.manifest().items():
        assert set(entry) == {"title", "mirrors", "files"}, name
        assert all(mirror.endswith("/") for mirror in entry["mirrors"])
        assert sorted(entry["files"]) == sorted(
            f"{stem}.gz"
            for prefix in ("train", "t10k")
            for stem in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        )
        for file in entry["files"].values():
            assert file["size"] > 0
            assert len(bytes.fromhex(file["sha256"])) == 32


def test_manifest_agrees_with_the_files_at_hand():
    folder = Path(__file__).parents[2].parent / "shared" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no MNIST test part in {folder}")
    for name in (f"{IMAGES}.gz", f"{LABELS}.gz"):
        entry = idx.manifest()["mnist"]["files"][name]
        content = (folder / name).read_bytes()
        assert len(content) == entry["size"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
