"""Calling the command line in this process, and as a user would from a shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from prdsim.cli import main

ROOT = Path(__file__).parents[1]
STOPS = (signal.SIGINT, signal.SIGTERM)
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
        handlers = {number: signal.getsignal(number) for number in STOPS}
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(end.value.code, int)
        return Answer(end.value.code, out, err)

    return run


def shell(*arguments: object, cwd: Path) -> Answer:
    """Run the installed console script, or the checkout's module where nothing is installed."""
    script = shutil.which("prdsim", path=str(Path(sys.executable).parent))
    command = [script] if script else [sys.executable, "-m", "prdsim"]
    environment = {**os.environ} if script else {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
