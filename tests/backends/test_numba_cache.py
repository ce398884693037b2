"""Compiled kernels are kept where they can be, and nothing depends on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from prdsim.backends import numba_cache
from prdsim.backends.notices import COMPILING
from prdsim.backends.numba_cache import compiled, trouble

ROOT = Path(__file__).parents[2]


def triple(x):
    return x + x + x


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where kernels are kept; nothing has gone wrong yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba_cache, "_users_folder", lambda: None)  # known from other tests
    monkeypatch.setattr(numba_cache, "_troubles", [])
    return tmp_path


def computed() -> bool:
    """Call the kernel as a new process would; whether it was compiled, not loaded."""
    kernel = compiled(triple)
    assert kernel(1.5) == 4.5
    return bool(kernel.stats.cache_misses)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_a_kernel_is_compiled_once(folder):
    assert [computed(), computed()] == [True, False]
    assert [path.suffix for path in files(folder)] == [".kernel"]
    assert trouble() == ()


def of_another_signature(path: Path) -> None:
    """What Numba's index leaves if two processes save at once."""
    content = path.read_bytes()
    compiled(triple)(1)
    (other,) = set(files(path.parent)) - {path}
    assert content != other.read_bytes()
    other.replace(path)


SPOILED: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x80\x05garbage" * 100),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a flipped bit": lambda path: path.write_bytes(
        path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])
    ),
    "of another signature": of_another_signature,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_file_is_ignored_and_written_again(folder, how):
    computed()
    (path,) = files(folder)
    SPOILED[how](path)
    assert [computed(), computed()] == [True, False]
    assert trouble() == ()


def test_a_file_of_other_sources_is_ignored_and_replaced(folder, monkeypatch):
    """A kernel holds the code of those that it calls, whose file may have changed."""
    computed()
    monkeypatch.setattr(numba_cache, "_sources", lambda: b"others")
    assert [computed(), computed()] == [True, False]
    assert len(files(folder)) == 1, "old ones pile up"


def test_a_folder_in_the_place_of_a_file_is_gone_round(folder):
    computed()
    (path,) = files(folder)
    path.unlink()
    path.mkdir()
    assert [computed(), computed()] == [True, True]
    assert files(folder) == []
    (line,) = trouble()
    assert "because they cannot be written to" in line


def test_a_full_disk_is_said_and_leaves_nothing(folder, file_size_limit):
    file_size_limit(100)
    assert computed()
    (line,) = trouble()
    assert f"cannot be written to {folder}" in line
    assert "(File too large); make room there, or set NUMBA_CACHE_DIR" in line
    assert files(folder) == []


def test_a_folder_that_was_deleted_is_made_again(folder):
    first, again = compiled(triple), compiled(triple)
    for path in folder.iterdir():
        path.rmdir()
    assert first(1.5) == again(1.5) == 4.5
    assert again.stats.cache_hits
    assert trouble() == ()


def test_without_any_folder_kernels_are_compiled_all_the_same(tmp_path):
    """In a process of its own, with files in the places of all folders, whoever runs the tests."""
    for name in ("prdsim", "cli", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "backends").mkdir()
    for path in (ROOT / "backends").glob("*.py"):
        (tmp_path / "backends" / path.name).symlink_to(path)
    (tmp_path / "backends" / "__pycache__").touch()
    settings = {"XDG_CACHE_HOME": "/dev/null/x", "NUMBA_CACHE_DIR": "/dev/null/y"}
    done = subprocess.run(
        [sys.executable, "-m", "prdsim", "backends"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, f"{COMPILING}\n")
    numba_row, note, numpy_row = done.stdout.splitlines()[-3:]
    assert numba_row.startswith("numba    available ")
    assert "because no folder for them can be used; set NUMBA_CACHE_DIR to one that can" in note
    assert numpy_row.startswith("numpy    available ")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where a user's caches are."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(numba_cache, "_troubles", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    numba_cache._users_folder.cache_clear()
    yield tmp_path / "prdsim" / "kernels"
    numba_cache._users_folder.cache_clear()


def test_environments_of_one_user_share_kernels(home):
    assert [computed(), computed()] == [True, False]
    (path,) = files(home)
    assert path.parent.parent == home  # in a folder of these sources


def test_kernels_that_nobody_used_for_long_are_removed(home):
    for name, days in (("old", 100), ("young", 10)):
        (home / name).mkdir(parents=True)
        os.utime(home / name, (time.time() - days * 86400,) * 2)
    computed()
    assert [path.name for path in home.iterdir() if path.name in ("old", "young")] == ["young"]


def test_numbas_own_folder_serves_where_the_users_cannot_be_made(home):
    home.parent.write_bytes(b"in the way")
    computed()
    assert trouble() == ()
    kernels = list((Path(__file__).parent / "__pycache__").glob("test_numba_cache.triple*.kernel"))
    assert kernels
    for path in kernels:
        path.unlink()
