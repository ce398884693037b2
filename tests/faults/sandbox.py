"""One command line on some files, in a folder of its own: its end, and all files that it left."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faults.child import Child, Ended, Line, Work, program
from faults.places import temporary_folder
from prdsim.cli import report
from prdsim.errors import TrajectoryError
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory

Files = Mapping[str, bytes]
PIPE = b"a pipe, not a file"
READ = "@read"  # in place of a verb: read every array by `open_trajectory`


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
        ended = Child(work, folder).wait()
        return path.read_bytes() if ended.code == 0 or path.stat().st_size else None


def call_on(files: Files, arguments: tuple[str, ...]) -> Outcome:
    """Run one command line in a folder that holds the files; `PIPE` stands for a pipe."""
    with temporary_folder() as folder:
        for name, content in files.items():
            if content == PIPE:
                os.mkfifo(folder / name)
            else:
                (folder / name).write_bytes(content)
        ended = Child(_work(arguments), folder).wait()
        return Outcome(ended, _contents(folder))


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
            return report(error)
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
