"""Naming a finished file, on file systems that lack one call or another."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from prdsim.errors import OutputError
from prdsim.files import posix

NO_LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def refusing(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)


def without_rename(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """The C library lacks renameat2 (None), or the file system refuses it."""

    class Library:
        def __init__(self, *_, **__) -> None:
            if code is not None:
                self.renameat2 = self._refuse

        def _refuse(self, *_) -> int:
            ctypes.set_errno(code or 0)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Library)


@pytest.fixture
def temporary(tmp_path) -> Path:
    path = tmp_path / "temporary"
    path.write_text("new")
    return path


def one_call_only(monkeypatch: pytest.MonkeyPatch, only: str) -> None:
    if only == "rename":
        refusing(monkeypatch, "link", errno.EPERM)
    else:
        without_rename(monkeypatch, {"link": None}.get(only, errno.EINVAL))


@pytest.mark.parametrize("only", ["rename", "link", "link, as rename is refused"])
def test_a_new_name_is_given_by_either_call(tmp_path, monkeypatch, temporary, only):
    """The file stays the same one: what is open and locked in it remains so."""
    one_call_only(monkeypatch, only)
    path, inode = tmp_path / "run.h5", temporary.stat().st_ino
    posix.publish_new(temporary, path)
    assert (path.stat().st_ino, path.stat().st_nlink, path.read_text()) == (inode, 1, "new")
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("only", ["rename", "link", "link, as rename is refused"])
def test_a_name_that_is_taken_is_kept(tmp_path, monkeypatch, temporary, only):
    one_call_only(monkeypatch, only)
    path = tmp_path / "run.h5"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        posix.publish_new(temporary, path)
    assert (path.read_text(), temporary.read_text()) == ("old", "new")


@pytest.mark.parametrize("code", NO_LINKS)
def test_with_neither_call_it_says_so_and_force_works(tmp_path, monkeypatch, temporary, code):
    refusing(monkeypatch, "link", code)
    without_rename(monkeypatch, errno.ENOSYS)
    path = tmp_path / "run.h5"
    with pytest.raises(OutputError, match=r"nor hard links .*; choose .* or give --force"):
        posix.publish_new(temporary, path)
    assert names(tmp_path) == ["temporary"]
    posix.publish_over(temporary, path)
    assert names(tmp_path) == ["run.h5"]


def test_other_failures_are_not_taken_for_missing_links(tmp_path, monkeypatch, temporary):
    without_rename(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        posix.publish_new(temporary, tmp_path / "run.h5")
    without_rename(monkeypatch, errno.EINVAL)
    refusing(monkeypatch, "link", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        posix.publish_new(temporary, tmp_path / "run.h5")
    assert names(tmp_path) == ["temporary"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_folders_that_cannot_be_synced_are_taken_as_they_are(
    tmp_path, monkeypatch, temporary, code
):
    refusing(monkeypatch, "fsync", code)
    posix.publish_new(temporary, tmp_path / "run.h5")
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADF, errno.ENOSPC])
def test_a_sync_of_the_folder_that_fails_names_nothing(tmp_path, monkeypatch, temporary, code):
    refusing(monkeypatch, "fsync", code)
    with pytest.raises(OSError, match=os.strerror(code)):
        posix.publish_new(temporary, tmp_path / "run.h5")
    assert names(tmp_path) == []
