"""One command line on some files, in a folder of its own: its end, and all files that it left.

Each gets a child of its own, or with `in_turn` as many as can share one.
"""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from faults.child import Child, Ended, Line, Work, done, program, share
from faults.places import stay_in, temporary_folder
from faults.report import Broken
from prdsim.cli import tell
from prdsim.errors import TrajectoryError
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory

Files = Mapping[str, bytes]
PIPE = b"a pipe, not a file"
READ = "@read"  # in place of a verb: read every array by `open_trajectory`
_TOGETHER = 25  # jobs of one child

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and the files then in its folder."""

    ended: Ended
    files: Files


def apart(content: bytes, change: Callable[[Path], None]) -> bytes | None:
    """Let ``change`` change a file in a child, which may crash; None if it fails."""

    def work(_: Line) -> int:
        try:
            change(path)
        except Exception:  # the change makes no sense
            return 1
        return 0

    with temporary_folder() as folder:
        path = folder / "file"
        path.write_bytes(content)
        ended = done(work, folder)
        return path.read_bytes() if ended.code == 0 or path.stat().st_size else None


def call_on(files: Files, arguments: tuple[str, ...]) -> Outcome:
    """Run one command line in a folder that holds the files; `PIPE` stands for a pipe."""
    with temporary_folder() as folder:
        for name, content in files.items():
            if content == PIPE:
                os.mkfifo(folder / name)
            else:
                (folder / name).write_bytes(content)
        return Outcome(done(_work(arguments), folder), _contents(folder))


def tried(files: Files, arguments: tuple[str, ...]) -> Outcome | Broken:
    """Do as `call_on`; what hangs is returned as what is broken."""
    try:
        return call_on(files, arguments)
    except Broken as hang:
        return hang


def in_turn(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do jobs, many in one child: to fork costs more than most of them.

    One that ends the child, by a crash or a limit, is done again with children of its own.
    """
    rest = iter(jobs)
    while batch := list(islice(rest, _TOGETHER)):
        while batch:
            results = _together(batch)
            yield from results
            batch = batch[len(results) :]
            if batch:
                yield batch.pop(0)()


def _together(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do jobs in one child; return what they return, up to one that ends the child."""
    results: list[T] = []
    with temporary_folder() as folder:

        def work(line: Line) -> int:
            share()
            stay_in(folder)
            for number, job in enumerate(jobs):
                (folder / str(number)).write_bytes(pickle.dumps(job()))
                line.tell(done=number)
            return 0

        child = Child(work, folder)
        with suppress(Broken):  # no sign of life
            while told := child.hear():
                results.append(pickle.loads((folder / str(told["done"])).read_bytes()))
            child.wait()
    return results


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else PIPE
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def _work(arguments: tuple[str, ...]) -> Work:
    def read(_: Line) -> int:
        try:
            print(json.dumps(read_all(Path(arguments[1]))))
        except Exception as error:
            return tell(error)
        return 0

    return read if arguments[0] == READ else program(*arguments)


def read_all(path: Path) -> dict[str, Any]:
    """Read every array of a trajectory: the checksums of its rows, or None if it fails.

    "check" holds the severity and text of each problem.
    """
    found: dict[str, Any] = {}

    def keep(name: str, read: Callable[[], Any]) -> None:
        try:
            array = np.atleast_1d(read())
        except TrajectoryError:
            found[name] = None
        else:
            found[name] = [zlib.crc32(row.tobytes()) for row in array]

    with open_trajectory(path) as run:
        for name in ("step", "time", "planned_snapshots", "planned_scalars"):
            keep(name, lambda name=name: getattr(run, name))
        for name in ARRAYS:
            for row in range(len(getattr(run, name))):
                keep(f"{name}[{row}]", lambda n=name, row=row: getattr(run, n)[row])
        for group in ("initial", "chart", "data", "scalars"):
            for name in getattr(run, group):
                keep(f"{group}/{name}", lambda g=group, n=name: getattr(run, g)[n])
        found["check"] = [(problem.severity, problem.text) for problem in run.check()]
    return found
