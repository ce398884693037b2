"""Small studies, the processes that work on them, and how they are made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from support_cli import ROOT

from prdsim.study import StudyFolder, load_plan

BASE = ("dataset=digits", "samples=6", "width=3", "critic_width=2", "integrator=heun")
BASE += ("step_size=0.05", "steps=4", "backend=numpy", "threads=1")
SMALL = ("diffusion=true,false", "width=2,3", "seed=0:2")
LARGE = ("diffusion=true,false", "width=2,3,4,5", "seed=0:5")  # 2 x 4 x 5 members


def study(path: Path, *vary: str, settings: tuple[str, ...] = ()) -> StudyFolder:
    """Make the folder of a small study."""
    return StudyFolder.create(path, load_plan(None, vary=vary, settings=[*BASE, *settings]))


def words(folder: Path, *more: object, vary: tuple[str, ...] = SMALL) -> list[str]:
    """The command line that starts a study, or goes on with it."""
    given = [word for setting in BASE for word in ("--set", setting)]
    axes = [word for text in vary for word in ("--vary", text)]
    return ["sweep", "-o", str(folder), *given, *axes, *map(str, more)]


def start(folder: Path, *more: object, vary: tuple[str, ...] = SMALL) -> subprocess.Popen[str]:
    """Start that command as a process."""
    command = [sys.executable, "-m", "prdsim", *words(folder, *more, vary=vary)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def complete(folder: Path, *more: object, vary: tuple[str, ...] = SMALL) -> bytes:
    """Do that command to its end; return the table."""
    process = start(folder, *more, vary=vary)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    count = len(StudyFolder.open(folder).plan.members)
    assert out.splitlines()[0] == f"{folder}: {count} members: {count} finished"
    return (folder / "table.csv").read_bytes()


def at_work(folder: Path) -> list[int]:
    """Return the processes that work on a study, by their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if os.fsencode(folder) in command and alive and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def settled(folder: Path, patience: float = 40.0) -> list[int]:
    """Wait until no process works on a study; return those that do all the same."""
    end = time.monotonic() + patience
    while at_work(folder) and time.monotonic() < end:
        time.sleep(0.05)
    return at_work(folder)
