"""Calling the command line in this process, and as a user would from a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from prdsim.cli import main
from prdsim.trajectory import open_trajectory

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0  # seconds; nothing comes near, but for a machine under heavy load
TINY = ("--samples", "8", "--width", "6", "--steps", "20", "--backend", "numpy")

Run = Callable[..., "Answer"]


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, and what it printed where."""

    code: int
    out: str
    err: str


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["prdsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(end.value.code, int)
        return Answer(end.value.code, out, err)

    return run


class Program(subprocess.Popen[str]):
    """The installed console script, or the checkout's module where nothing is installed."""

    def __init__(self, *arguments: object, cwd: Path) -> None:
        script = shutil.which("prdsim", path=str(Path(sys.executable).parent))
        super().__init__(
            [*([script] if script else [sys.executable, "-m", "prdsim"]), *map(str, arguments)],
            cwd=cwd,
            env=dict(os.environ) if script else {**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll; the program must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def answer(self) -> Answer:
        """Wait for its end."""
        out, err = self.communicate(timeout=PATIENCE)
        for word in ("Traceback", "Exception ignored", 'File "'):
            assert word not in err, err
        return Answer(self.returncode, out, err)


def assert_refused(answer: Answer, code: int, *words: str) -> None:
    """One error of one or two lines on stderr, nothing on stdout."""
    assert (answer.code, answer.out) == (code, ""), answer
    for word in words:
        assert word in answer.err, answer.err
    lines = [line for line in answer.err.splitlines() if not line.startswith(("Usage", "Try"))]
    assert 1 <= len([line for line in lines if line]) <= 2, answer.err
    assert "internal error" not in answer.err


def recorded(path: Path, rows: int = 1) -> Callable[[], bool]:
    """A condition: so many snapshots are committed."""

    def reached() -> bool:
        if not path.exists():
            return False
        with open_trajectory(path) as trajectory:
            return len(trajectory.step) >= rows

    return reached
