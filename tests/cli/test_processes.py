"""Two processes and one output, and a user who will not wait: through the program itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support_cli import ROOT, Answer, Run, caller

import prdsim

PATIENCE = 120.0  # seconds; nothing comes near it unless it hangs
SMALL = ("--dataset", "digits", "--samples", "8", "--width", "6", "--backend", "numpy")
SMALL += ("--threads", "1", "--diffusion", "--step-size", "0.01")
FOREVER = ("--integrator", "rk4", "--steps", "10000000", "--scalars", "every:1000")
FOREVER += ("--restart-seconds", "0.1")
ENDLESS_STEP = ("--integrator", "gd", "--steps", "5", "--critic-steps", "1000000000")

Program = subprocess.Popen[str]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@contextmanager
def started(*arguments: str) -> Iterator[Program]:
    """A process of the program in the present folder, killed at the end if it is still there."""
    script = shutil.which("prdsim", path=str(Path(sys.executable).parent))
    process = subprocess.Popen(
        [*([script] if script else [sys.executable, "-m", "prdsim"]), *arguments],
        env=dict(os.environ) if script else {**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def answered(process: Program) -> Answer:
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err
    return Answer(process.returncode, out, err)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def committed(path: Path) -> bool:
    if not path.exists():
        return False
    with prdsim.open_trajectory(path) as trajectory:
        return len(trajectory.step) > 0


def processor_seconds(process: Program) -> float:
    """What the process has used so far, by proc(5): fields 14 and 15 of stat, in clock ticks."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_safe_from_others_while_its_writer_lives(run, tmp_path):
    path = tmp_path / "a.h5"
    over = ("run", *SMALL, "--steps", "3", "-o", "a.h5", "--force")
    with started("run", *SMALL, *FOREVER, "-o", "a.h5") as process:
        wait_for(lambda: committed(path))
        inode = path.stat().st_ino
        for arguments in (over, ("resume", "a.h5"), ("resume", "a.h5", "--steps", "20000000")):
            answer = run(*arguments)
            assert (answer.code, answer.out) == (3, "")
            assert f"a.h5 is being written by process {process.pid}" in answer.err
            assert len(answer.err.splitlines()) == 1
        assert process.poll() is None
        assert path.stat().st_ino == inode
        process.kill()
        process.wait()
    assert run(*over).code == 0  # the lock of a killed writer holds nobody up
    assert names(tmp_path) == ["a.h5"]
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.stop_step == 3


def test_of_two_runs_with_one_output_one_is_refused(run, tmp_path):
    arguments = ("run", *SMALL, "--steps", "10", "-o", "a.h5", "--seed")
    with started(*arguments, "1") as one, started(*arguments, "2") as other:
        answers = [answered(one), answered(other)]
    winner, loser = sorted((0, 1), key=lambda k: answers[k].code)
    assert answers[winner].code == 0
    # 2 if the file was there already, 3 if it was just being made.
    assert answers[loser].code in (2, 3)
    assert "a.h5" in answers[loser].err
    assert answers[loser].out == ""
    assert names(tmp_path) == ["a.h5"]
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.config["seed"] == winner + 1
        assert trajectory.status == "finished"
        assert trajectory.check() == []
    assert run("inspect", "--check", "a.h5").code == 0


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_second_signal_does_not_wait_for_the_end_of_a_step(run, tmp_path, second):
    path = tmp_path / "a.h5"
    with started("run", *SMALL, *ENDLESS_STEP, "-o", "a.h5") as process:
        wait_for(lambda: committed(path))
        # Half a second of computing after the commit is spent in the step and nowhere else.
        begun = processor_seconds(process)
        wait_for(lambda: processor_seconds(process) > begun + 0.5)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(second)
        answer = answered(process)
    assert answer.code == 128 + second
    assert answer.out == ""
    assert names(tmp_path) == ["a.h5"]
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.restart_step == 0
        assert trajectory.check() == []
    assert "killed at step 0 of 5" in run("inspect", "a.h5").out
