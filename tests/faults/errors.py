"""Errors of the system: at the n-th call of a function, or from there on; and real limits."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from faults.child import Ended, Line, call
from faults.report import Broken, Report
from faults.tables import TABLES, Table
from faults.world import LIVES, NAME, Life, fresh_folder, names, patched, promising

SHORT = "a part is written"
DISK = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
FAILURES: dict[str, tuple[int | str, ...]] = {
    "pwrite": (*DISK, errno.EFBIG, SHORT),
    "write": (*DISK, errno.EFBIG, SHORT),
    "fdatasync": (*DISK, errno.EINTR),
    "fsync": (*DISK, errno.EINTR),
    "posix_fallocate": (*DISK, errno.EFBIG, errno.EINTR),
    "ftruncate": (*DISK, errno.EFBIG),
    "link": (*DISK, errno.EMLINK),
    "rename": DISK,
    "replace": DISK,
    "open": (errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOSPC),
}


@dataclass(frozen=True)
class Missing:
    """Something that a file system may lack, the call that says so, and whether a run works."""

    name: str
    owner: Any
    call: str
    concerns: Callable[[tuple[Any, ...]], bool]
    errors: tuple[int, ...]
    works: bool


def _is_folder(arguments: tuple[Any, ...]) -> bool:
    return stat.S_ISDIR(os.fstat(arguments[0]).st_mode)


MISSING = (
    Missing("hard links", os, "link", lambda _: True, (errno.EPERM, errno.EOPNOTSUPP), works=True),
    Missing("sync of a folder", os, "fsync", _is_folder, (errno.EINVAL,), works=True),
    Missing("flock", fcntl, "flock", lambda _: True, (errno.ENOLCK, errno.EOPNOTSUPP), works=True),
    Missing(
        "reserved space",
        os,
        "posix_fallocate",
        lambda _: True,
        (errno.EOPNOTSUPP, errno.EINVAL),
        works=False,
    ),
    Missing(
        "locks of open files",
        fcntl,
        "fcntl",
        lambda arguments: arguments[1] in (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK),
        (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP),
        works=False,
    ),
)


def _concerns_all(_: tuple[Any, ...]) -> bool:
    return True


@contextmanager
def failing(
    line: Line,
    owner: Any,
    name: str,
    error: int | str,
    calls: range,
    concerns: Callable[[tuple[Any, ...]], bool] = _concerns_all,
) -> Iterator[None]:
    """Let some of the calls of a function fail, and tell when."""
    real, count = getattr(owner, name), 0

    def function(*arguments: Any, **keys: Any) -> Any:
        nonlocal count
        if not concerns(arguments):
            return real(*arguments, **keys)
        count += 1
        if count not in calls:
            return real(*arguments, **keys)
        line.tell(failed=name)
        if isinstance(error, str):
            fd, data, *where = arguments
            return real(fd, memoryview(data)[: max(1, len(data) // 2)], *where)
        raise OSError(error, os.strerror(error))

    with patched(owner, name, function):
        yield


def counting(line: Line) -> Any:
    """A hook's work: tell every call that may fail."""

    @contextmanager
    def hook() -> Iterator[None]:
        with ExitStack() as stack:
            for name in FAILURES:
                tell = failing(line, os, name, SHORT, range(0), _teller(line, name))
                stack.enter_context(tell)
            yield

    return hook()


def _teller(line: Line, name: str) -> Callable[[tuple[Any, ...]], bool]:
    def told(_: tuple[Any, ...]) -> bool:
        line.tell(called=name)
        return False

    return told


# -- what must be left -----------------------------------------------------------------------------


def require_error(life: Life | Table, ended: Ended, folder: Path) -> None:
    """Raise `Broken` unless a command ended with one line of error that names file or folder."""
    lines = [line for line in ended.err.splitlines() if line.startswith("prdsim: ")]
    named = any(name in "".join(lines) for name in (life.output, NAME, str(folder)))
    if ended.code != 3 or len(lines) != 1 or not named:
        raise Broken("promise", f"exit code {ended.code}, {ended.err!r}")


def judge(life: Life | Table, path: Path, ended: Ended, *, may_work: bool) -> None:
    """Raise `Broken` unless an error was said, nothing is lost or left over, and life goes on."""
    if ended.code == 0 and not may_work:
        raise Broken("promise", "the error was not said")
    if ended.code != 0:
        require_error(life, ended, path.parent)
    if left := sorted(set(names(path.parent)) - {NAME, path.name}):
        raise Broken("promise", f"left behind: {left}")
    life.judge(path, life.accepts(ended.told))
    life.complete(path.parent)


# -- the cases -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One error to be put into a life."""

    life: Life | Table
    name: str
    error: int | str
    calls: range

    def __str__(self) -> str:
        error = self.error if isinstance(self.error, str) else errno.errorcode[self.error]
        until = "" if len(self.calls) == 1 else " and after"
        return f"{self.life.name}: {self.name} {self.calls[0]}{until}: {error}"


def all_faults(folder: Path) -> list[Fault]:
    """Every error at every call of every life: once, and from there on."""
    found = []
    for life in (*LIVES, *TABLES):
        life.begin(folder)
        told = call(folder, *life.arguments, hook=lambda line: counting(line)).told
        called = [what["called"] for what in told if "called" in what]
        found += [
            Fault(life, name, error, range(n, stop))
            for name, errors in FAILURES.items()
            for n in range(1, called.count(name) + 1)
            for error in errors
            for stop in (n + 1, 1 << 30)
        ]
    return found


def _failed(ended: Ended) -> bool:
    return any("failed" in what for what in ended.told)


def _inject(report: Report, fault: Fault, folder: Path) -> None:
    life = fault.life

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with promising(line), failing(line, os, fault.name, fault.error, fault.calls):
            yield

    with report.case(str(fault)):
        path = life.begin(folder)
        ended = call(folder, *life.arguments, hook=hook)
        assert _failed(ended), fault
        report.took_effect["short writes" if fault.error == SHORT else "errors"] += 1
        judge(life, path, ended, may_work=fault.error == SHORT)
        if fault.error == SHORT and ended.code != 0:
            raise Broken("promise", f"a short write was not completed: {ended.err}")


def _without(
    report: Report, missing: Missing, error: int, life: Life | Table, folder: Path
) -> None:
    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        every = range(1, 1 << 30)
        with (
            promising(line),
            failing(line, missing.owner, missing.call, error, every, missing.concerns),
        ):
            yield

    with report.case(f"{life.name} without {missing.name}: {errno.errorcode[error]}"):
        path = life.begin(folder)
        ended = call(folder, *life.arguments, hook=hook)
        report.took_effect[f"without {missing.name}"] += _failed(ended)
        reads = isinstance(life, Table)  # a reader needs no locks
        judge(life, path, ended, may_work=missing.works or not _failed(ended) or reads)
        if missing.works and ended.code != 0:
            raise Broken("promise", f"refused: {ended.err}")


def _limited(report: Report, life: Life | Table, random: Random, folder: Path) -> None:
    """No file may grow beyond a size: HDF5's own writes fail as well."""
    path = life.begin(folder)
    size = random.randrange(4096, 100_000)

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with promising(line):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            yield

    with report.case(f"{life.name} where files may have {size} bytes"):
        ended = call(folder, *life.arguments, hook=hook)
        report.took_effect["file size limits"] += ended.code != 0
        judge(life, path, ended, may_work=True)


def _full(report: Report, life: Life | Table, random: Random, folder: Path) -> None:
    """A file system with little room beside the files to begin with."""
    path = life.begin(folder)
    held = sum(-each.stat().st_size // 4096 * -4096 for each in folder.iterdir())
    room = random.choice((0, 1, random.randrange(40))) * 4096
    disk = folder.with_name("disk")
    disk.mkdir(exist_ok=True)
    options = f"size={max(held + room, 4096)}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        report.notes = [f"no small file system could be mounted: {mounted.stderr.strip()}"]
        return
    try:
        shutil.copytree(folder, disk, dirs_exist_ok=True)
        with report.case(f"{life.name} with {room} bytes free"):
            ended = call(disk, *life.arguments, hook=promising)
            report.took_effect["full disks"] += ended.code != 0
            shutil.rmtree(folder)
            shutil.copytree(disk, folder)
            judge(life, path, ended, may_work=True)
    finally:
        subprocess.run(["umount", disk], check=True)


def short_writes(count: int, seed: int) -> Report:
    """Only writes of which the system takes a part."""
    report, folder = Report("short writes"), fresh_folder() / "case"
    with report.timed():
        faults = [fault for fault in all_faults(folder) if fault.error == SHORT]
        for fault in Random(seed).sample(faults, count):
            _inject(report, fault, folder)
    return report


def campaign(count: int, seed: int) -> Report:
    """Put errors into all lives: seven of ten at a call, the others by what is missing or full."""
    report, random, folder = Report("errors"), Random(seed), fresh_folder() / "case"
    lives = (*LIVES, *TABLES)
    with report.timed():
        faults = all_faults(folder)
        for fault in random.sample(faults, min(len(faults), count * 7 // 10)):
            _inject(report, fault, folder)
        lacking = [
            (each, error, life) for each in MISSING for error in each.errors for life in lives
        ]
        for missing, error, life in random.sample(lacking, min(len(lacking), count // 10)):
            _without(report, missing, error, life, folder)
        for number in range(count // 10):
            _limited(report, lives[number % len(lives)], random, folder)
            _full(report, lives[number % len(lives)], random, folder)
    return report
