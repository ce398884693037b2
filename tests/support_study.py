"""Small studies, the processes that work on them, and how they are made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support_cli import ROOT

from prdsim.study import StudyFolder, load_plan
from prdsim.study.table import study_table
from prdsim.study.worker import work

BASE = ("dataset=digits", "samples=6", "width=3", "critic_width=2", "integrator=heun")
BASE += ("step_size=0.05", "steps=4", "backend=numpy", "threads=1")
SMALL = ("diffusion=true,false", "width=2,3", "seed=0:2")
LARGE = ("diffusion=true,false", "width=2,3,4,5", "seed=0:5")  # 2 x 4 x 5 members
LONG = ("steps=5000", "scalars=every:1000", "snapshots=every:2500", "restart_seconds=0.1")
"""Settings of members that can be killed at work: they take some 0.4 s each."""


def study(path: Path, *vary: str, settings: tuple[str, ...] = ()) -> StudyFolder:
    """Make the folder of a small study."""
    return StudyFolder.create(path, load_plan(None, vary=vary, settings=[*BASE, *settings]))


def undisturbed(folder: Path, vary: tuple[str, ...], settings: tuple[str, ...] = ()) -> StudyFolder:
    """Run all members in this process, one after the other."""
    made = study(folder, *vary, settings=settings)
    work(made, made.plan.members)
    (folder / "table.csv").write_bytes(study_table(made).to_csv().encode())
    return made


def given(settings: Sequence[str]) -> list[str]:
    """Settings of all members, as on the command line."""
    return [word for setting in settings for word in ("--set", setting)]


def words(folder: Path, *more: object, vary: tuple[str, ...] = SMALL) -> list[str]:
    """The command line that starts a study, or goes on with it."""
    axes = [word for text in vary for word in ("--vary", text)]
    return ["sweep", "-o", str(folder), *given(BASE), *axes, *map(str, more)]


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
            command = (process / "cmdline").read_bytes().split(b"\0")
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


def assert_failures_are_told(folder: Path, *engine: object) -> None:
    """Do a study with data that are missing, too little memory and divergence on an engine."""
    axes = ("dataset=digits,gone.npz", "width=3,2000000000", "step_size=0.05,1e200")
    process = start(folder, *given(("normalize=none", "seed=2")), *engine, vary=axes)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "8 members: 1 finished, 1 diverged, 6 failed" in out
    expected = ["finished", "diverged", *["GB"] * 2, *["gone.npz"] * 4]
    for row, word in zip(study_table(StudyFolder.open(folder)).rows, expected, strict=True):
        told = row["reason"] if row["state"] == "failed" else row["state"]
        assert word in told, row
        assert row["state"] == "finished" or f"{row['member']} (" in out


@dataclass(frozen=True)
class Told:
    """What a process told of a member: that it begins, ends, stops, or is in two at once.

    ``device`` is what CUDA may see there.
    """

    word: str
    member: str
    process: str
    device: str


class Witness:
    """What all processes that work on studies tell of themselves; see witness/sitecustomize.py."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._log = folder / "log"
        places = (str(Path(__file__).parent / "study" / "witness"), os.environ.get("PYTHONPATH"))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
        monkeypatch.setenv("WITNESS", str(folder))

    @property
    def told(self) -> list[Told]:
        """All that was told, in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [Told(*line.split()) for line in lines]

    @property
    def interrupted(self) -> int:
        """How many times a member was begun by a process that did not come to its end."""
        words = [each.word for each in self.told]
        return words.count("begins") - words.count("ends")

    def assert_each_once(self, study: StudyFolder) -> None:
        """Every member was at work, never in two processes at once, never again after its end."""
        told = self.told
        twice = [each for each in told if each.word == "TWICE"]
        assert not twice, twice
        assert {each.member for each in told} == {member.name for member in study.plan.members}
        ended: set[str] = set()
        for each in told:
            assert each.member not in ended, each
            if each.word == "ends":
                ended.add(each.member)
