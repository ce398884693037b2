"""Workers on this machine: child processes that end with their parent, in any case."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import prdsim
from prdsim.study.folder import StudyFolder

GRACE = 6.0
"""Seconds from SIGTERM to SIGKILL: less than a cluster's own limit of 8."""

_REPLACED = 100  # workers that died
_PAUSE = 0.2  # seconds between looks


class Children:
    """Worker processes; on exit they are told to stop, waited for, and killed if they do not."""

    def __init__(self, study: StudyFolder) -> None:
        self._study = study
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> None:
        """Start ``prdsim sweep run FOLDER`` with more arguments.

        It has a session of its own: a Ctrl-C reaches it through its parent alone. It holds the end
        of a pipe, which closes with the parent, even if that is killed.
        """
        words = ["sweep", "run", str(self._study.path), "--attached", *arguments]
        home = str(Path(prdsim.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self._running.append(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "prdsim", *words],  # nothing of the present folder
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        )

    def ended(self) -> list[int]:
        """Return the exit codes of processes that have ended since the last call."""
        codes = []
        for child in list(self._running):
            if (code := child.poll()) is not None:
                self._running.remove(child)
                assert child.stdin is not None
                child.stdin.close()
                codes.append(code)
        return codes

    @property
    def count(self) -> int:
        """Processes at work."""
        return len(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._running:
            child.terminate()
        end = time.monotonic() + GRACE
        for child in self._running:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(end - time.monotonic(), 0.0))
        for child in self._running:
            child.kill()  # what is committed is safe
            child.wait()
            assert child.stdin is not None
            child.stdin.close()
        self._running.clear()


def run_here(
    study: StudyFolder, workers: int, stopped: Callable[[], bool], watch: Callable[[], bool]
) -> None:
    """Work on a study with processes of this machine; see `prdsim.study.sweep.Engine`.

    A worker that is killed is replaced, `_REPLACED` times at most.
    """
    left = _REPLACED
    with Children(study) as children:
        for _ in range(workers):
            children.start()
        while children.count and not stopped():
            for code in children.ended():
                if code < 0 and left:
                    left -= 1
                    children.start()
            watch()
            time.sleep(_PAUSE)
