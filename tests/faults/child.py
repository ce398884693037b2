"""A command in a forked child: it tells its parent what happened, and waits where it is told to.

The parent has imported everything, so that a child costs milliseconds; it has no other threads.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from faults.report import Broken
from prdsim.cli import main

PATIENCE = 5.0  # seconds without a sign of life are a hang
MEMORY = 1 << 30
_SUITE_FAILED = 99  # an exit code that no command has

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
        return 0

    return work


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code (negative: by a signal), what it printed and told."""

    code: int
    out: str
    err: str
    told: list[dict[str, Any]]


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
            os.chdir(folder)
            os.dup2(self._out, 1)
            os.dup2(self._err, 2)
            sys.stdout, sys.stderr = (
                os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2)
            )
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
        """Wait for the end.

        Raises `Broken` for a hang, a traceback, an "internal error", too much memory, or a death
        by a signal other than SIGKILL, which is the suite's own.
        """
        while self.hear():
            pass
        code, peak = self._reap()
        out, err = self._printed
        assert code != _SUITE_FAILED, err
        for word in ("Traceback", "internal error", "Exception ignored"):
            if word in err:
                raise Broken("traceback", err)
        if code < 0 and code != -9:
            raise Broken("traceback", f"killed by signal {-code}: {err}")
        if peak > MEMORY:
            raise Broken("memory", f"{peak / 1e9:.1f} GB")
        return Ended(code, out, err, self.told)

    def _reap(self) -> tuple[int, int]:
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._ear)
        os.close(self._go)
        self._printed = [_content(fd) for fd in (self._out, self._err)]
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


def _content(fd: int) -> str:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read().decode()


def call(folder: Path, *arguments: object, hook: Hook = lambda _: nullcontext()) -> Ended:
    """Do a command line to its end; raises what `Child.end` raises."""
    return Child(program(*arguments, hook=hook), folder).end()
