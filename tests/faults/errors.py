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

from support import names

from faults.child import Ended, Line, call
from faults.later import Later
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.tables import ANALYZE, TABLES, Table
from faults.world import (
    FORCED,
    LENGTHENED,
    LIVES,
    NAME,
    NEW,
    Life,
    patched,
    promising,
)
from prdsim.files import posix

SHORT = "a part is written"
UNABLE = "the system has no such call"
DISK = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
FAILURES: dict[str, tuple[int | str, ...]] = {
    "pwrite": (*DISK, errno.EFBIG, SHORT),
    "fdatasync": (*DISK, errno.EINTR),
    "fsync": (*DISK, errno.EINTR),
    "posix_fallocate": (*DISK, errno.EFBIG, errno.EINTR),
    "ftruncate": (*DISK, errno.EFBIG),
    "rename_new": DISK,  # renameat2
    "replace": DISK,
    "open": (errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOSPC),
}


def _owner(name: str) -> Any:
    return posix if name == "rename_new" else os


Concerns = Callable[[tuple[Any, ...]], bool]


def _all(_: tuple[Any, ...]) -> bool:
    return True


@dataclass(frozen=True)
class Missing:
    """Something that a file system may lack, what tells so, and whether a life works all the same.

    ``calls`` are (module, function, errors); ``lives`` those that need it.
    """

    name: str
    calls: tuple[tuple[Any, str, tuple[int | str, ...]], ...]
    works: bool
    lives: tuple[Life | Table, ...] = (NEW, FORCED, LENGTHENED)
    concerns: Concerns = _all


def _is_folder(arguments: tuple[Any, ...]) -> bool:
    return stat.S_ISDIR(os.fstat(arguments[0]).st_mode)


def _is_of_open_file(arguments: tuple[Any, ...]) -> bool:
    return arguments[1] in (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK)


_RENAME = (posix, "rename_new", (UNABLE,))
_LINK = (os, "link", (errno.EPERM, errno.EOPNOTSUPP))
MISSING = (
    Missing("renameat2", (_RENAME,), works=True, lives=(NEW, ANALYZE)),
    Missing("renameat2 and links", (_RENAME, _LINK), works=False, lives=(NEW, ANALYZE)),
    Missing(
        "sync of a folder",
        ((os, "fsync", (errno.EINVAL, errno.EOPNOTSUPP)),),
        works=True,
        lives=(NEW, FORCED, LENGTHENED, *TABLES),
        concerns=_is_folder,
    ),
    Missing(
        "flock", ((fcntl, "flock", (errno.ENOLCK, errno.EOPNOTSUPP)),), works=True, lives=LIVES
    ),
    Missing(
        "reserved space",
        ((os, "posix_fallocate", (errno.EOPNOTSUPP, errno.EINVAL)),),
        works=False,
    ),
    Missing(
        "locks of open files",
        ((fcntl, "fcntl", (errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP)),),
        works=False,
        lives=LIVES,
        concerns=_is_of_open_file,
    ),
)


@contextmanager
def failing(
    line: Line,
    owner: Any,
    name: str,
    error: int | str,
    calls: range,
    concerns: Concerns = _all,
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
        if error == UNABLE:
            return False
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
                tell = failing(line, _owner(name), name, SHORT, range(0), _teller(line, name))
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
    """Raise `Broken` unless an error was said, and nothing is lost or left over."""
    if ended.code == 0 and not may_work:
        raise Broken("promise", "the error was not said")
    if ended.code != 0:
        require_error(life, ended, path.parent)
    if left := sorted(set(names(path.parent)) - {NAME, path.name}):
        raise Broken("promise", f"left behind: {left}")
    life.judge(path, life.accepts(ended.told))


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


def _inject(report: Report, later: Later, fault: Fault, folder: Path) -> None:
    life = fault.life

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with (
            promising(line),
            failing(line, _owner(fault.name), fault.name, fault.error, fault.calls),
        ):
            yield

    with report.case(str(fault)):
        path = life.begin(folder)
        ended = call(folder, *life.arguments, hook=hook)
        assert _failed(ended), fault
        report.took_effect["short writes" if fault.error == SHORT else "errors"] += 1
        judge(life, path, ended, may_work=fault.error == SHORT)
        if fault.error == SHORT and ended.code != 0:
            raise Broken("promise", f"a short write was not completed: {ended.err}")
        later.complete(str(fault), life, folder)


def _without(report: Report, later: Later, missing: Missing, random: Random, folder: Path) -> None:
    """Do a life on a file system that lacks something."""
    life = random.choice(missing.lives)

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(promising(line))
            for owner, name, errors in missing.calls:
                error, every = random.choice(errors), range(1, 1 << 30)
                stack.enter_context(failing(line, owner, name, error, every, missing.concerns))
            yield

    label = f"{life.name} without {missing.name}"
    with report.case(label):
        path = life.begin(folder)
        ended = call(folder, *life.arguments, hook=hook)
        assert _failed(ended), (missing, life)
        report.took_effect[f"without {missing.name}"] += 1
        judge(life, path, ended, may_work=missing.works)
        if missing.works and ended.code != 0:
            raise Broken("promise", f"refused: {ended.err}")
        later.complete(label, life, folder)


def _limited(
    report: Report, later: Later, life: Life | Table, random: Random, folder: Path
) -> None:
    """No file may grow beyond a size: HDF5's own writes fail as well."""
    path = life.begin(folder)
    size = random.randrange(4096, 100_000)

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with promising(line):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            yield

    label = f"{life.name} where files may have {size} bytes"
    with report.case(label):
        ended = call(folder, *life.arguments, hook=hook)
        report.took_effect["file size limits"] += ended.code != 0
        judge(life, path, ended, may_work=True)
        later.complete(label, life, folder)


def _full(report: Report, later: Later, life: Life | Table, random: Random, folder: Path) -> None:
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
        label = f"{life.name} with {room} bytes free"
        with report.case(label):
            ended = call(disk, *life.arguments, hook=promising)
            report.took_effect["full disks"] += ended.code != 0
            shutil.rmtree(folder)
            shutil.copytree(disk, folder)
            judge(life, path, ended, may_work=True)
            later.complete(label, life, folder)
    finally:
        subprocess.run(["umount", disk], check=True)


def short_writes(count: int, seed: int) -> Report:
    """Only writes of which the system takes a part."""
    report, folder = Report("short writes"), fresh_folder() / "case"
    later = Later(report)
    with report.timed():
        faults = [fault for fault in all_faults(folder) if fault.error == SHORT]
        for fault in Random(seed).sample(faults, count):
            _inject(report, later, fault, folder)
        later.now()
    return report


def campaign(count: int, seed: int) -> Report:
    """Put errors into all lives: seven of ten at a call, the others by what is missing or full."""
    report, random, folder = Report("errors"), Random(seed), fresh_folder() / "case"
    lives, later = (*LIVES, *TABLES), Later(report)
    with report.timed():
        faults = all_faults(folder)
        for fault in random.sample(faults, min(len(faults), count * 7 // 10)):
            _inject(report, later, fault, folder)
        for number in range(count // 10):
            _without(report, later, MISSING[number % len(MISSING)], random, folder)
        for number in range(count // 10):
            _limited(report, later, lives[number % len(lives)], random, folder)
            _full(report, later, lives[number % len(lives)], random, folder)
        later.now()
    return report
