"""Runs killed by SIGKILL at a chosen step of the code that writes files."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import prdsim
from faults.child import Ended, Hook, Line, call
from faults.later import Later
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.tables import REPORT, TABLES, Table
from faults.world import LIVES, NAME, Life, promising

# A step is a call or return, of Python or C, in one of these: before and after every system call,
# and between any two objects of the HDF5 file that is being made.
_PRODUCT = Path(prdsim.__file__).parent
WATCHED = (
    str(_PRODUCT / "trajectory"),
    str(_PRODUCT / "files"),
    pathlib.__file__.rpartition("pathlib")[0] + "pathlib",
)
WRITES = {"open", "pwrite", "write", "ftruncate", "posix_fallocate", "fdatasync", "fsync"}
WRITES |= {"link", "rename", "replace", "unlink"}
_COMPLETED = 0.25  # so many go on to the end
_REPORTS = 100  # converge takes seconds: one in so many


def killed_at(last: int | None) -> Hook:
    """A hook that kills at a step, or tells at the end how many there were, and which wrote."""

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        steps, writes = 0, []

        def count(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal steps
            if frame.f_code.co_filename.startswith(WATCHED):
                steps += 1
                if event.startswith("c_") and argument.__name__ in WRITES:
                    writes.append(steps)
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        with promising(line):
            sys.setprofile(count)
            try:
                yield
            finally:
                sys.setprofile(None)
                line.tell(finished=True, steps=steps, writes=writes)

    return hook


def campaign(count: int, seed: int) -> Report:
    """Kill every life in turn, each at random steps; some go on to the end."""
    report, random, folder = Report("kills"), Random(seed), fresh_folder() / "case"
    steps: dict[str, list[int]] = {}
    lives, later = (*LIVES, *TABLES), Later(report)
    with report.timed():
        for number in range(count):
            life = REPORT if (number + 1) % _REPORTS == 0 else lives[number % len(lives)]
            step, path, ended = _killed(life, folder, steps, random)
            report.took_effect[life.name] += 1
            label = f"{life.name} killed at step {step}"
            with report.case(label):
                life.judge(path, life.accepts(ended.told))
                if random.random() < _COMPLETED:
                    _inspect(path)
                    later.complete(label, life, folder)
        later.now()
    return report


def _killed(
    life: Life | Table, folder: Path, steps: dict[str, list[int]], random: Random
) -> tuple[int, Path, Ended]:
    """Kill a life at one of its steps; return that, its file and its end."""
    if life.name not in steps:
        life.begin(folder)
        told = call(folder, *life.arguments, hook=killed_at(None)).told[-1]
        # As many at the calls that write as at all others.
        everywhere = random.choices(range(1, told["steps"] + 1), k=len(told["writes"]))
        steps[life.name] = told["writes"] + everywhere
    while True:
        step = random.choice(steps[life.name])
        path = life.begin(folder)
        ended = call(folder, *life.arguments, hook=killed_at(step))
        if ended.code == -signal.SIGKILL:
            return step, path, ended
        steps[life.name] = [each for each in steps[life.name] if each < step]  # it has fewer now


def _inspect(path: Path) -> None:
    """Raise `Broken` unless the program itself finds the run undamaged, if there is one."""
    if path.name == NAME and path.exists():
        ended = call(path.parent, "inspect", NAME, "--check")
        if ended.code != 0 or "running at" in ended.out:
            raise Broken("lost", f"inspect gave {ended.code}: {ended.out}{ended.err}")
