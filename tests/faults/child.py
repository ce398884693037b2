"""A command in a forked child: it tells its parent what happened, and waits where it is told to.

The parent has imported everything (`warm`), so that a child costs milliseconds; it has no other
threads. A child that crashes, hangs or fills memory harms nothing else.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import prdsim
from faults.places import temporary_folder
from faults.report import Broken
from prdsim.cli import _VERBS, main, module_of

CPU_SECONDS = 5  # more is a hang,
PATIENCE = 20.0  # and so are as many seconds without a sign of life: the machine may be busy
MEMORY = 1 << 30
_LARGEST_FILE = 64 << 20
_SUITE_FAILED = 99  # an exit code that no command has
_WORDS = ("Traceback", "internal error", "Exception ignored", "Warning:", "HDF5-DIAG")

_LATE = ("matplotlib.pyplot", "scipy.linalg", "scipy.stats", "lzma", "bz2", "prdsim.cli.summary")
_LATE += ("prdsim.cli.output", "prdsim.analysis.comparison", "prdsim.analysis.run_tables")
_LATE += ("prdsim.convergence.assess", "prdsim.datasets.fetch", "prdsim.figures")
_LATE += ("prdsim.backends.numba", "prdsim.backends.numpy")

# Campaigns put other functions into `os`; the pipes go on.
_write, _read, _fork = os.write, os.read, os.fork


class Line:
    """The child's end: it tells its parent something, or waits for it."""

    def __init__(self, told: int, go: int) -> None:
        self._told, self._go = told, go

    def tell(self, **what: Any) -> None:
        _write(self._told, json.dumps(what).encode() + b"\n")

    def pause(self) -> None:
        """Tell that this point is reached, and wait for `Child.go_on`."""
        self.tell(paused=True)
        _read(self._go, 1)


Work = Callable[[Line], int]
Hook = Callable[[Line], AbstractContextManager[Any]]


def program(*arguments: object, hook: Hook = lambda _: nullcontext()) -> Work:
    """The command line, inside what a hook puts around it."""

    def work(line: Line) -> int:
        sys.argv = ["prdsim", *map(str, arguments)]
        with hook(line):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
            except Exception:
                traceback.print_exc()
                return 1
        return 0

    return work


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code (negative: by a signal), what it printed, told and used."""

    code: int
    out: str
    err: str
    told: list[dict[str, Any]]
    cpu: float
    peak: int

    def require_order(self) -> None:
        """Raise `Broken` for a hang, a traceback, too much memory, a death by a signal.

        SIGKILL may be the suite's own.
        """
        assert self.code != _SUITE_FAILED, self.err
        if self.code == -signal.SIGXCPU:
            raise Broken("hang", f"{self.cpu:.1f} s: {self.err}")
        for word in _WORDS:
            for text in (self.err, self.out):
                if word in text:
                    raise Broken("traceback", text[text.index(word) :][:3000])
        if self.code < 0 and self.code != -signal.SIGKILL:
            raise Broken("traceback", f"killed by signal {-self.code}: {self.err}")
        if self.peak > MEMORY or "out of memory" in self.err:
            raise Broken("memory", f"{self.peak / 1e9:.1f} GB: {self.err}")


class Child:
    """A child at work in a folder."""

    def __init__(self, work: Work, folder: Path) -> None:
        self._out, self._err = (os.memfd_create(name) for name in ("out", "err"))
        (self._ear, told), (go, self._go) = os.pipe(), os.pipe()
        self.told: list[dict[str, Any]] = []
        self._unread = b""
        self.pid = _fork()
        if self.pid == 0:
            os.close(self._ear)
            os.close(self._go)
            self._live(work, folder, Line(told, go))
        os.close(told)
        os.close(go)

    def _live(self, work: Work, folder: Path, line: Line) -> NoReturn:
        code = _SUITE_FAILED
        try:
            _begin(folder, self._out, self._err)
            _limit()
            code = work(line)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def hear(self) -> dict[str, Any] | None:
        """The next that the child tells, or None at its end.

        Raises `Broken` if it gives no sign of life.
        """
        while b"\n" not in self._unread:
            if not select.select([self._ear], [], [], PATIENCE)[0]:
                os.kill(self.pid, 9)
                self._reap()
                raise Broken("hang", f"no sign of life for {PATIENCE} s")
            piece = _read(self._ear, 1 << 16)
            if not piece:
                return None
            self._unread += piece
        text, _, self._unread = self._unread.partition(b"\n")
        told: dict[str, Any] = json.loads(text)
        self.told.append(told)
        return told

    def reach(self) -> bool:
        """Wait until the child pauses; False if it ends before."""
        while told := self.hear():
            if "paused" in told:
                return True
        return False

    def go_on(self) -> None:
        """Let the child go on after a pause."""
        _write(self._go, b".")

    @property
    def err(self) -> str:
        """What it has printed on stderr up to now."""
        return os.pread(self._err, 1 << 20, 0).decode()

    def end(self) -> Ended:
        """Wait for the end; raises what `Ended.require_order` raises."""
        ended = self.wait()
        ended.require_order()
        return ended

    def wait(self) -> Ended:
        """Wait for the end, whatever it is."""
        while self.hear():
            pass
        code, cpu, peak = self._reap()
        return Ended(code, *self._printed, self.told, cpu, peak)

    def _reap(self) -> tuple[int, float, int]:
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._ear)
        os.close(self._go)
        self._printed = [_content(fd) for fd in (self._out, self._err)]
        cpu = usage.ru_utime + usage.ru_stime
        return os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss * 1024


_shared = False  # whether this is a child in which some works take turns


def share() -> None:
    """From now on works are done in this process, a child, and not in children of its own."""
    global _shared
    _shared = True


def done(work: Work, folder: Path) -> Ended:
    """Do work to its end, whatever that is: in a child, or here if that is one to share."""
    return _here(work, folder) if _shared else Child(work, folder).wait()


def _here(work: Work, folder: Path) -> Ended:
    place, printed = Path.cwd(), [os.memfd_create(name) for name in ("out", "err")]
    kept = [os.dup(number) for number in (1, 2)]
    _begin(folder, *printed)
    before = resource.getrusage(resource.RUSAGE_SELF)
    used = before.ru_utime + before.ru_stime
    _limit_time(used)
    try:
        code = work(Line(-1, -1))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os.chdir(place)
        for number, fd in enumerate(kept, start=1):
            os.dup2(fd, number)
            os.close(fd)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime - used
    out, err = map(_content, printed)
    return Ended(code, out, err, [], cpu, usage.ru_maxrss * 1024)


def _begin(folder: Path, out: int, err: int) -> None:
    """Be in a folder, with the standard streams of a new process, which go to two files."""
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, closefd=False, encoding="utf-8", errors=errors)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))  # as Python's own
    )


def _limit_time(used: float) -> None:
    """Limit processor time beyond what is used already."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + CPU_SECONDS, hard))


def _limit() -> None:
    """Limit memory, processor time, and the size of files."""
    _limit_time(0.0)
    pages = Path("/proc/self/statm").read_text().split()
    size, resident = (int(count) * resource.getpagesize() for count in pages[:2])
    space = size + max(MEMORY - resident, 1 << 28)
    for kind, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _content(fd: int) -> str:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="surrogateescape")


def call(folder: Path, *arguments: object, hook: Hook = lambda _: nullcontext()) -> Ended:
    """Do a command line to its end; raises what `Ended.require_order` raises."""
    ended = done(program(*arguments, hook=hook), folder)
    ended.require_order()
    return ended


@cache
def warm() -> None:
    """Import what any command needs; make the caches that first calls make."""
    os.environ["MPLBACKEND"] = "Agg"
    for name in (*_LATE, *map(module_of, _VERBS)):
        import_module(name)
    with temporary_folder() as folder:
        path = str(folder / "first.h5")
        tiny = {"dataset": "digits", "samples": 4, "width": 3, "backend": "numpy"}
        prdsim.run(**tiny, steps=2, output=path)
        prdsim.resume(path, 4)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            program("analyze", path, "neurons")(Line(0, 0))  # compiles what is kept on disk
    gc.collect()
    gc.freeze()  # so that children need not copy what they only count
