"""Files that others wrote: what is refused in them, and that nothing waits."""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z

from prdsim.files.foreign import (
    ForeignFileError,
    declared_bytes,
    open_regular_file,
    plain_dataset,
    plain_group,
    require_regular_file,
    require_true_chunks,
    require_written,
)

NUMBERS = np.arange(12.0).reshape(3, 4)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4), "f8", maxshape=(None, 4))
    source = h5py.VirtualSource("pipe", "X", (3, 4), maxshape=(None, 4))
    layout[: h5s.UNLIMITED] = source[: h5s.UNLIMITED]
    file.create_virtual_dataset("X", layout)


def unknown_filter(file: h5py.File) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((2,))
    properties.set_filter(32099, h5z.FLAG_OPTIONAL, ())
    h5d.create(file.id, b"X", h5t.NATIVE_DOUBLE, h5s.create_simple((4,)), properties)


def link(target: object):
    def put(file: h5py.File) -> None:
        file["good"] = NUMBERS
        file["X"] = target

    return put


def array(**options: object):
    def put(file: h5py.File) -> None:
        file.create_dataset("X", **options)

    return put


REFUSED = {
    "soft link": (link(h5py.SoftLink("/good")), "is a soft or external link"),
    "external link": (link(h5py.ExternalLink("pipe", "/X")), "is a soft or external link"),
    "dangling link": (link(h5py.SoftLink("/nothing")), "is a soft or external link"),
    "external storage": (
        array(shape=(3, 4), dtype="f8", external=[("pipe", 0, h5py.h5f.UNLIMITED)]),
        "is in external storage",
    ),
    "virtual": (virtual, "is a virtual dataset"),
    "filter": (unknown_filter, "is compressed by filter 32099"),
    "group": (lambda file: file.create_group("X"), "is not an array"),
    "type": (lambda file: file.__setitem__("X", np.dtype("f8")), "is not an array"),
    "no shape": (array(data=h5py.Empty("f8")), "is empty"),
    "texts": (array(data=["a", "b"]), "must hold real numbers"),
    "bytes": (array(data=np.array([b"a"])), r"must hold real numbers, but has type \|S1"),
    "compound": (array(data=np.zeros(2, "f8,i4")), "must hold real numbers"),
    "complex": (array(data=np.zeros(2, complex)), "must hold real numbers"),
    "references": (array(shape=(2,), dtype=h5py.ref_dtype), "must hold real numbers"),
    "variable length": (array(shape=(2,), dtype=h5py.vlen_dtype("f8")), "must hold real numbers"),
    "arrays": (array(shape=(2,), dtype=np.dtype(("f8", (3,)))), "must hold real numbers"),
    "opaque": (array(data=np.zeros(2, "V4")), "must hold real numbers"),
}


@pytest.mark.parametrize(("put", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_dataset_is_refused(tmp_path, monkeypatch, put, message):
    """Whatever would follow a link would wait for the pipe's writer forever."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with h5py.File("a.h5", "w") as file:
        put(file)
    with (
        h5py.File("a.h5") as file,
        pytest.raises(ForeignFileError, match=f"^X of a.h5 {message}"),
    ):
        plain_dataset(file, "X")


def test_paths_are_followed_by_hard_links_alone(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/U"] = NUMBERS
        file["hard"] = file["g"]
        file["soft"] = h5py.SoftLink("/g")
    with h5py.File(tmp_path / "a.h5") as file:
        for name in ("g/U", "hard/U"):
            assert np.array_equal(plain_dataset(file, name)[()], NUMBERS)
        assert np.array_equal(plain_dataset(plain_group(file, "g"), "U")[()], NUMBERS)
        for name in ("soft", "soft/U"):
            with pytest.raises(ForeignFileError, match=r"^soft of .*a.h5 is a soft"):
                plain_dataset(file, name)
        with pytest.raises(ForeignFileError, match="is a soft"):
            plain_group(file, "soft")
        with pytest.raises(ForeignFileError, match=r"^g/U of .*a.h5 is not a group"):
            plain_dataset(file, "g/U/more")
        for name in ("", "/", "/g/U", "g//U", "..", "missing", "g/missing"):
            with pytest.raises(KeyError):
                plain_dataset(file, name)


def test_declared_bytes_are_those_of_the_array_and_one_chunk(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = NUMBERS
        file.create_dataset("chunked", (3,), "f4", chunks=(1000,), maxshape=(None,))
        assert declared_bytes(plain_dataset(file, "plain")) == 96
        assert declared_bytes(plain_dataset(file, "chunked")) == 4 * (3 + 1000)


FAIR = {
    "gzip": {"compression": "gzip"},
    "all": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "none": {},
}


@pytest.mark.parametrize("options", FAIR.values(), ids=FAIR)
def test_fair_chunks_pass_however_little_memory_there_is(tmp_path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("X", data=NUMBERS, chunks=(2, 3), **options)
        if options:
            dataset.id.write_direct_chunk((0, 0), NUMBERS[:2, :3].tobytes(), filter_mask=7)
        require_true_chunks(dataset, available=0)


def test_chunks_that_hold_more_than_they_declare_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("X", (4, 4), "f8", chunks=(4, 4), compression="gzip")
        content = zlib.compress(bytes(1_000_000))
        dataset.id.write_direct_chunk((0, 0), content)
        require_true_chunks(dataset, available=1032 * len(content))
        with pytest.raises(ForeignFileError, match="a chunk holds more than it declares"):
            require_true_chunks(dataset, available=1032 * len(content) - 1)


def test_arrays_of_which_most_was_never_written_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        few = file.create_dataset("few", (1001,), "f8", chunks=(1,))
        many = file.create_dataset("many", (1002,), "f8", chunks=(1,))
        few[0] = many[0] = 1.0
        require_written(few)
        with pytest.raises(ForeignFileError, match=r"^many of .*a.h5 is incomplete: 1 of"):
            require_written(many)
        many[1] = 1.0
        require_written(many)
        require_written(file.create_dataset("plain", data=NUMBERS))


def test_arrays_compressed_twice_are_refused(tmp_path):
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((2,))
    properties.set_deflate(9)
    properties.set_deflate(9)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5d.create(file.id, b"X", h5t.NATIVE_DOUBLE, h5s.create_simple((4,)), properties)
        with pytest.raises(ForeignFileError, match="is compressed twice"):
            require_true_chunks(file["X"], available=0)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    kinds = {"pipe": "a pipe", "link": "a pipe", "socket": "a socket", ".": "a folder"}
    for name, kind in {**kinds, "/dev/zero": "a device"}.items():
        for look in (require_regular_file, open_regular_file):
            with pytest.raises(ForeignFileError, match=f"^{name} is {kind}, not a file$"):
                look(Path(name))
    with pytest.raises(FileNotFoundError):
        open_regular_file(Path("missing"))


def test_a_pipe_put_in_place_of_the_file_is_refused_without_waiting(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"content")
    with open_regular_file(path) as file:
        assert file.read() == b"content"
    seen = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda _: seen)  # as if it were replaced just now
    with pytest.raises(ForeignFileError, match="a is a pipe, not a file"):
        open_regular_file(path)
