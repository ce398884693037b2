"""Two processes and one output, and a user who will not wait: through the program itself."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from support import names
from support_cli import Program, assert_refused, recorded

import prdsim

SMALL = ("--dataset", "digits", "--samples", "8", "--width", "6", "--backend", "numpy")
SMALL += ("--threads", "1", "--diffusion", "--step-size", "0.01")
FOREVER = ("--integrator", "rk4", "--steps", "10000000", "--scalars", "every:1000")
FOREVER += ("--restart-seconds", "0.1")
LONG_STEP = ("--integrator", "gd", "--steps", "5", "--critic-steps", "10000")
LONG_STEP += ("--samples", "500", "--width", "200")


def processor_seconds(process: Program) -> float:
    """What the process has used so far, by proc(5): fields 14 and 15 of stat, in clock ticks."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_file_is_safe_from_others_while_its_writer_lives(run, start, tmp_path):
    path = tmp_path / "a.h5"
    over = ("run", *SMALL, "--steps", "3", "-o", "a.h5", "--force")
    process = start("run", *SMALL, *FOREVER, "-o", "a.h5")
    process.wait_until(recorded(path))
    inode = path.stat().st_ino
    for arguments in (over, ("resume", "a.h5"), ("resume", "a.h5", "--steps", "20000000")):
        assert_refused(run(*arguments), 3, f"a.h5 is being written by process {process.pid}")
    assert process.poll() is None
    assert path.stat().st_ino == inode
    process.kill()
    process.wait()
    assert run(*over).code == 0  # the lock of a killed writer holds nobody up
    assert names(tmp_path) == ["a.h5"]
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.stop_step == 3


def test_of_two_runs_with_one_output_one_is_refused(run, start, tmp_path):
    arguments = ("run", *SMALL, "--steps", "10", "-o", "a.h5", "--seed")
    answers = [process.answer() for process in [start(*arguments, seed) for seed in (1, 2)]]
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
def test_the_second_signal_does_not_wait_for_the_end_of_a_step(run, start, tmp_path, second):
    path = tmp_path / "a.h5"
    process = start("run", *SMALL, *LONG_STEP, "-o", "a.h5")
    process.wait_until(recorded(path))
    # Half a second of computing after the commit is spent in the step and nowhere else.
    begun = processor_seconds(process)
    process.wait_until(lambda: processor_seconds(process) > begun + 0.5)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(second)
    answer = process.answer()
    assert answer.code == 128 + second
    assert answer.out == ""
    assert names(tmp_path) == ["a.h5"]
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.restart_step == 0
        assert trajectory.check() == []
    assert "killed at step 0 of 5" in run("inspect", "a.h5").out
