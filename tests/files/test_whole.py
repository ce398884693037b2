"""Output files: whole or not at all, whatever the system answers and whoever else writes there."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support import names

from prdsim.errors import ConfigError, OutputError
from prdsim.files import posix
from prdsim.files.whole import check_name, refuse_inputs, whole_file, write_whole

CALLS = ("open", "fchmod", "pwrite", "fsync", "rename_new", "replace", "unlink")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Faults:
    """Fails the n-th system call, before it acts or after."""

    def __init__(self, monkeypatch, at: int, fault: BaseException, *, acts: bool) -> None:
        self.made: list[str] = []
        self._at, self._fault, self._acts = at, fault, acts
        for name in CALLS:
            module = posix if name == "rename_new" else os
            monkeypatch.setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments, **keywords):
            self.made.append(name)
            fails = len(self.made) == self._at + 1
            if fails and not self._acts:
                raise self._fault
            answer = call(*arguments, **keywords)
            if fails:
                raise self._fault
            return answer

        return act


def calls_of(tmp_path: Path, force: bool) -> list[str]:
    """The calls of a write without faults."""
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, -1, OSError(), acts=False)
        write_whole(tmp_path / "t.csv", b"new", force=force)
    return faults.made


EXPECTED = {
    False: ["open", "pwrite", "fsync", "rename_new", "open", "fsync", "unlink"],
    # Whether the former file is a trajectory that is being written is asked first.
    True: ["open", "open", "pwrite", "fchmod", "fsync", "replace", "open", "fsync", "unlink"],
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("force", [False, True])
def test_a_failing_call_leaves_no_temporary_file_and_the_former_one(tmp_path, force, code):
    """The last call, the removal of a temporary file that is gone, cannot matter."""
    path, before = tmp_path / "t.csv", {"t.csv": b"old"} if force else {}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    assert calls_of(tmp_path, force) == EXPECTED[force]
    named = EXPECTED[force].index("replace") if force else len(EXPECTED[force])
    for index, call in enumerate(EXPECTED[force][:-1]):
        if index < EXPECTED[force].index("pwrite") - 1:
            continue  # a file that nobody may read is replaced
        path.unlink()
        if force:
            path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, index, OSError(code, os.strerror(code)), acts=False)
            with pytest.raises(OutputError) as caught:
                write_whole(path, b"new", force=force)
        assert str(caught.value) == f"cannot write {path}: {os.strerror(code)}", call
        # Once it is renamed the former file is gone: what remains is whole.
        assert contents(tmp_path) == ({"t.csv": b"new"} if index > named else before), call
        path.touch()


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(143)], ids=["INT", "TERM"])
@pytest.mark.parametrize("force", [False, True])
def test_an_interrupt_before_or_after_any_call_leaves_the_former_or_the_whole_file(
    tmp_path, force, fault
):
    path, before = tmp_path / "t.csv", {"t.csv": b"old"} if force else {}
    for index in range(len(EXPECTED[force]) - 1):
        for acts in (False, True):
            path.write_bytes(b"old") if force else path.unlink(missing_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                faults = Faults(patch, index, fault, acts=acts)
                with pytest.raises(type(fault)):
                    write_whole(path, b"new", force=force)
            publishing = {"rename_new", "replace"} & set(faults.made)
            left = contents(tmp_path)
            assert left == before or (publishing and left == {"t.csv": b"new"}), (index, acts)


def test_a_signal_during_a_long_write_leaves_nothing(tmp_path):
    def record() -> None:
        with whole_file(tmp_path / "a.gif", force=False) as (temporary, _):
            temporary.write_bytes(b"half a movie")
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the signal is late")

    with pytest.raises(SystemExit) as end:
        record()
    assert (end.value.code, contents(tmp_path)) == (143, {})


@pytest.mark.parametrize("force", [False, True])
def test_planted_links_are_not_followed(tmp_path, monkeypatch, force):
    """Names are random; even the right guess meets a file that is not opened."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".t.csv.part").symlink_to(victim)  # the name that it once had
    write_whole(tmp_path / "t.csv", b"new", force=force)
    write_whole(tmp_path / "u.csv", b"new", force=force)
    assert (tmp_path / ".t.csv.part").is_symlink()
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    (tmp_path / ".prdsim-0.part.csv").symlink_to(victim)
    with pytest.raises(OutputError, match="File exists"):
        write_whole(tmp_path / "v.csv", b"new", force=force)
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "v.csv").exists()


def test_temporary_names_differ_and_are_beside_the_file(tmp_path):
    with (
        whole_file(tmp_path / "a.gif", force=False) as (first, _),
        whole_file(tmp_path / "b.gif", force=False) as (second, _),
    ):
        assert first != second
        assert {first.parent, second.parent} == {tmp_path}
        assert first.suffix == ".gif"


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_meanwhile_is_replaced_only_by_request(tmp_path, force):
    path = tmp_path / "t.csv"

    def write() -> None:
        with whole_file(path, force=force) as (_, fd):
            path.write_bytes(b"another's")
            posix.pwrite(fd, b"new", 0)

    if force:
        write()
    else:
        with pytest.raises(ConfigError, match=r"t\.csv exists; name another, or give --force"):
            write()
    assert contents(tmp_path) == {"t.csv": b"new" if force else b"another's"}


def test_permissions_are_those_of_a_new_file_or_of_the_one_replaced(tmp_path):
    path = tmp_path / "t.csv"
    former = os.umask(0o027)
    try:
        write_whole(path, b"a", force=False)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        os.umask(0)
        write_whole(tmp_path / "u.csv", b"a", force=False)
        assert stat.S_IMODE((tmp_path / "u.csv").stat().st_mode) == 0o666
        path.chmod(0o405)
        with whole_file(path, force=True) as (temporary, _):
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o405
    finally:
        os.umask(former)


def test_no_descriptor_stays_open(tmp_path):
    before = names(Path("/proc/self/fd"))
    for force in (False, True):
        write_whole(tmp_path / "t.csv", b"new", force=force)
        with pytest.raises(OutputError, match="File name too long"):  # the temporary one
            write_whole(tmp_path / f"t.{'x' * 250}", b"new", force=force)
    assert names(Path("/proc/self/fd")) == before


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "t.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    for content in (None, b"old"):  # nowhere, and somewhere
        if content is not None:
            target.write_bytes(content)
        with pytest.raises(ConfigError, match=r"link\.csv exists"):
            write_whole(link, b"new", force=False)
        assert contents(target.parent) == ({} if content is None else {"t.csv": content})
        write_whole(link, b"new", force=True)
        assert link.is_symlink()
        assert contents(target.parent) == {"t.csv": b"new"}
        target.unlink()
    target.parent.rmdir()
    with pytest.raises(OutputError, match=r"the folder .*/there does not exist"):
        write_whole(link, b"new", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_devices_and_pipes_are_refused_without_a_wait(tmp_path, force):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")
    (tmp_path / "null.csv").symlink_to("/dev/null")
    for path in (*tmp_path.iterdir(), Path("/dev/null"), Path("/dev/full")):
        with pytest.raises(OutputError, match="is a device or a pipe; name a file"):
            write_whole(path, b"new", force=force)
    assert stat.S_ISFIFO((tmp_path / "pipe.csv").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 3


def test_names_that_cannot_be(tmp_path):
    for path, error, told in (
        (tmp_path, ConfigError, "is a folder; name a file"),
        (tmp_path / "no" / "t.csv", OutputError, r"cannot write .*: the folder .*/no does not"),
        (tmp_path / ("x" * 300), OutputError, r"cannot write .*: File name too long"),
    ):
        with pytest.raises(error, match=told):
            check_name(path, force=True)


def test_an_output_that_is_an_input_is_found_by_any_name(tmp_path):
    path, hard, soft = tmp_path / "run.h5", tmp_path / "hard.h5", tmp_path / "soft.h5"
    path.touch()
    hard.hardlink_to(path)
    soft.symlink_to(path)
    refuse_inputs([tmp_path / "new.h5"], [path, tmp_path / "missing"])
    with pytest.raises(ConfigError, match=r"run\.h5 is read here; name another output"):
        refuse_inputs([path], [path])
    for other in (hard, soft, tmp_path / ".." / tmp_path.name / "run.h5"):
        with pytest.raises(ConfigError, match=r" is .*/run\.h5, which is read here"):
            refuse_inputs([other], [path])
