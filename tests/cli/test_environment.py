"""The command line in hostile surroundings: it names what failed, and nothing else."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import names, ordinary_user
from support_cli import ROOT, TINY, Answer, Run, assert_refused
from support_runs import make_run

import prdsim
from prdsim.datasets import idx
from prdsim.errors import PrdsimWarning
from prdsim.files import lock

USAGE, FILE, BACKEND, BROKEN_PIPE = 2, 3, 4, 141
PRDSIM = shlex.join([sys.executable, "-m", "prdsim"])
SHORT = shlex.join([sys.executable, "-c"])


def shell(line: str, folder: Path, **environment: str) -> Answer:
    """What a line of bash leaves: the exit code of its first command."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    for word in ("Traceback", "internal error", "Exception ignored", "Warning:"):
        assert word not in done.stderr, done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


# -- standard streams ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["--help", "data fetch --help", "--version"])
def test_an_output_that_cannot_be_written_is_named(tmp_path, arguments):
    """Also if Python does not buffer it: nothing is left over to be written again."""
    full = shell(f"{PRDSIM} {arguments} > /dev/full", tmp_path, PYTHONUNBUFFERED="1")
    assert full == Answer(
        FILE, "", "prdsim: the output cannot be written: No space left on device\n"
    )


def test_a_reader_that_quits_ends_the_command(tmp_path):
    assert shell(f"{PRDSIM} run --help | true", tmp_path) == Answer(BROKEN_PIPE, "", "")


@pytest.mark.parametrize("stderr", ["2> /dev/full", "2>&-", "2> >(exec true)"])
def test_standard_error_changes_no_exit_code(tmp_path, stderr):
    for arguments, code in (("inspect missing.h5", FILE), ("run --width 0", USAGE), ("--help", 0)):
        answer = shell(f"{PRDSIM} {arguments} {stderr}", tmp_path)
        assert (answer.code, answer.err) == (code, ""), arguments


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path, closed):
    """What libraries, or a signal's handler, write there would else be in a trajectory."""
    code = """
import os
from prdsim.__main__ import _occupy_standard_descriptors as occupy
occupy()
number = os.open("file", os.O_CREAT | os.O_WRONLY)
os.write(1, b"lost")
os.write(number, str(number).encode())
"""
    assert shell(f"{SHORT} {shlex.quote(code)} {closed}", tmp_path).code == 0
    assert int((tmp_path / "file").read_text()) >= 3


def test_a_locale_without_a_character_gets_its_escape(tmp_path):
    make_run(tmp_path / "\u03a9.h5")
    answer = shell(f"{PRDSIM} inspect \u03a9.h5", tmp_path, PYTHONIOENCODING="latin-1")
    assert (answer.code, answer.out.split()[0]) == (0, r"\u03a9.h5")


def test_libraries_say_nothing(tmp_path):
    """Neither by warnings nor by log records; prdsim does, in one line."""
    code = """
import logging, warnings
from prdsim.__main__ import _silence_libraries as silence
from prdsim.errors import PrdsimWarning
from prdsim.files import lock
silence()
logging.getLogger("numba").error("of interest to programmers")
warnings.warn("deprecated", UserWarning)
warnings.warn("slower than it could be", PrdsimWarning)
"""
    answer = shell(f"{SHORT} {shlex.quote(code)}", tmp_path)
    assert answer == Answer(0, "", "warning: slower than it could be\n")
    assert issubclass(PrdsimWarning, RuntimeWarning)


# -- folders and files -----------------------------------------------------------------------------


def test_a_working_folder_that_is_gone_is_named(run: Run, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for line in (("run", *TINY, "-o", "a.h5"), ("run", *TINY)):
        answer = run(*line)
        assert_refused(answer, FILE, "the working folder is lost", "change to one that exists")
    path = tmp_path / "a.h5"
    assert run("run", *TINY, "-o", path).code == 0  # it is not needed
    assert run("inspect", path, "--check").code == 0
    assert names(tmp_path) == ["a.h5"]


def test_a_cache_of_data_that_is_another_users_is_passed_over(run: Run, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    (cache / "prdsim").mkdir(parents=True)
    monkeypatch.setattr(idx.platformdirs, "user_cache_dir", lambda name: str(cache / name))
    assert run("data", "list").code == 0
    cache.chmod(0o000)
    with ordinary_user():
        answer = run("data", "list")
    assert answer.code == 0, answer.err
    assert "not found" in answer.out


def test_an_unknown_home_is_named(run: Run, monkeypatch):
    monkeypatch.setenv("PRDSIM_DATA_DIR", "~nobody9/data")
    assert_refused(run("data", "list"), FILE, "~nobody9/data", "no such user's home folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser mounts file systems")
@pytest.mark.parametrize(
    ("options", "remount", "words"),
    [
        ("size=1m", "", "MB are free in"),
        ("size=4m", "mount -o remount,ro disk &&", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_disks(tmp_path, options, remount, words):
    """Real ones, in a name space of their own."""
    (tmp_path / "disk").mkdir()
    sizes = "--samples 8 --width 64 --steps 3 --backend numpy"
    line = f"mount -t tmpfs -o {options} none disk && {remount} {PRDSIM} run {sizes} -o disk/a.h5"
    answer = shell(f"unshare --mount bash -c {shlex.quote(line)}", tmp_path)
    if "unshare" in answer.err or "mount:" in answer.err:
        pytest.skip(answer.err)
    assert_refused(answer, FILE, "disk", words)
    assert "lock" not in answer.err


# -- calls that the system refuses -----------------------------------------------------------------


def test_too_many_open_files(run: Run, tmp_path):
    run("run", *TINY, "-o", "a.h5")  # imports what it needs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        answers = [run(*line) for line in (("inspect", "a.h5"), ("run", *TINY, "-o", "b.h5"))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(taken[0])
    for answer in answers:
        assert_refused(answer, FILE, "Too many open files")
    assert names(tmp_path) == ["a.h5"]


def test_a_refused_affinity_is_done_without(run: Run, monkeypatch):
    """As in some sandboxes."""
    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    assert run("run", *TINY, "-o", "a.h5").code == 0
    with prdsim.open_trajectory("a.h5") as trajectory:
        assert trajectory.attributes["resolved"]["threads"] == os.cpu_count()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_an_unforeseen_refusal_names_the_call(run: Run, monkeypatch):
    monkeypatch.setattr("prdsim.running.runner.run", refuse)
    told = "prdsim: the system refused a call: Operation not permitted (refuse: raise Permission"
    assert_refused(run("run", *TINY), FILE, told)


def test_an_unforeseen_refusal_names_the_file(run: Run, monkeypatch):
    def read(*_: object, **__: object) -> None:
        Path("no/such").read_text()

    monkeypatch.setattr("prdsim.running.runner.run", read)
    assert_refused(
        run("run", *TINY), FILE, "prdsim: no/such cannot be used: No such file or directory"
    )


def test_clean_up_hides_no_error(run: Run, monkeypatch, tmp_path):
    """A lock that is refused is what is told, though the temporary file cannot be removed."""
    monkeypatch.setattr(lock, "try_acquire", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        answer = run("run", *TINY, "-o", "a.h5")
    assert_refused(answer, FILE, "the file system of", "has no locks (Operation not permitted)")
    assert [name for name in names(tmp_path) if not name.startswith(".")] == []


def test_a_traceback_asked_for_goes_to_standard_error_alone(tmp_path):
    shown = subprocess.run(
        ["bash", "-c", f"{PRDSIM} inspect missing.h5 2>&-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PRDSIM_TRACEBACK": "1"},
        capture_output=True,
        check=False,
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (FILE, b"", b"")


def test_a_system_without_the_calls_is_refused_and_reads_all_the_same(run: Run, monkeypatch):
    """As macOS; no other system has run it."""
    run("run", *TINY, "-o", "a.h5")
    content = Path("a.h5").read_bytes()
    for name in ("posix_fallocate", "fdatasync"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(lock, "_HAS_THESE_LOCKS", False)
    told = "this system cannot write trajectories safely: it lacks posix_fallocate, fdatasync"
    for line in (("run", *TINY, "-o", "b.h5"), ("resume", "a.h5", "--steps", "40")):
        assert_refused(run(*line), FILE, told, "run prdsim on Linux")
    assert run("inspect", "a.h5", "--check").code == 0
    assert run("analyze", "a.h5", "distances", "-o", "a.csv").code == 0
    assert (Path("a.h5").read_bytes(), names(Path())) == (content, ["a.csv", "a.h5"])
