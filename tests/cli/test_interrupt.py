"""Ctrl-C, SIGTERM and SIGKILL at the command line; looking at a run that is being written."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import names
from support_cli import ROOT, TINY, recorded
from support_runs import assert_same_trajectory, stop_at

import prdsim
from prdsim.cli.summary import finish
from prdsim.errors import TrajectoryError
from prdsim.trajectory import Status

STEPS = 1500  # about a second
KEYS = {
    "dataset": "digits",
    "samples": 12,
    "width": 12,
    "diffusion": True,
    "integrator": "rk4",
    "step_size": 0.02,
    "steps": STEPS,
    "backend": "numpy",
    "threads": 1,
    "snapshots": "every:100",
    "restart_seconds": 0.1,
}
KEYS_OF_20 = {**KEYS, "steps": 20}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def options(output: str) -> list[str]:
    """The command line of a run with KEYS."""
    settings = {key: str(value).lower() for key, value in KEYS.items()}
    return ["run", *(f"--set={key}={value}" for key, value in settings.items()), "-o", output]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The file of an uninterrupted run, made in this process."""
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    return prdsim.run(**KEYS, output=str(path)).path


def resume_line(text: str) -> list[str]:
    """The arguments of the resume command that a text names."""
    (line,) = re.findall(r"continue with: (prdsim resume .*)", text)
    program, *arguments = shlex.split(line)
    assert program == "prdsim"
    return arguments


def catches_sigterm(pid: int) -> bool:
    """Whether the program's own code has begun: it handles SIGTERM from its first line on."""
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


# -- signals ---------------------------------------------------------------------------------------


@SIGNALS
def test_a_signal_in_mid_run_and_the_line_that_continues_it(number, start, run, tmp_path, whole):
    path = tmp_path / "my run.h5"
    program = start(*options(path.name))
    program.wait_until(recorded(path, 2))
    program.send_signal(number)
    answer = program.answer()
    assert answer.code == 128 + number
    assert answer.out.startswith("interrupted at step ")
    assert names(tmp_path) == ["my run.h5"]  # no lock, no temporary file
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert (trajectory.status, trajectory.stop_reason) == (Status.INTERRUPTED, number.name)
        assert trajectory.step[-1] <= trajectory.stop_step == trajectory.restart_step < STEPS
        assert f"interrupted at step {trajectory.stop_step}, " in answer.out
    answer = run(*resume_line(answer.err))
    assert answer.code == 0
    assert answer.out.startswith(f"finished at step {STEPS}, ")
    assert_same_trajectory(path, whole)


@SIGNALS
def test_a_signal_while_the_program_starts(number, start, tmp_path):
    path = tmp_path / "run.h5"
    program = start(*options(path.name))
    program.wait_until(lambda: catches_sigterm(program.pid))
    time.sleep(random.Random(str(number)).uniform(0.0, 0.4))
    program.send_signal(number)
    assert program.answer().code == 128 + number
    assert set(names(tmp_path)) <= {path.name}
    if path.exists():  # the run had begun already: then it can go on
        with prdsim.open_trajectory(path) as trajectory:
            assert trajectory.check() == []
            assert trajectory.status is Status.INTERRUPTED
            assert trajectory.restart_step >= 0


def test_a_terminal_that_is_closed_asks_to_stop_unless_that_is_ignored(run, tmp_path):
    """SIGHUP is SIGTERM; nohup ignores it before the program begins."""
    for handler, handled in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
        signal.signal(signal.SIGHUP, handler)
        assert run("--version").code == 0
        now = signal.getsignal(signal.SIGHUP)
        assert (now == signal.getsignal(signal.SIGTERM)) is handled
        assert (now == signal.SIG_IGN) is not handled
        path = tmp_path / f"{handled}.h5"
        result = prdsim.run(**KEYS_OF_20, output=str(path), progress=stop_at(9, signal.SIGHUP))
        assert (result.stop_reason, result.step) == (
            ("interrupted", 9) if handled else ("finished", 20)
        )
        assert result.signal == (signal.SIGHUP if handled else None)


def test_a_run_that_was_hung_up_has_its_exit_code_though_nobody_listens(tmp_path, monkeypatch):
    result = prdsim.run(
        **KEYS_OF_20, output=str(tmp_path / "a.h5"), progress=stop_at(9, signal.SIGHUP)
    )
    closed, other = os.openpty()
    os.close(closed)
    with monkeypatch.context() as patch:
        terminal = open(other, "w", closefd=False)  # noqa: SIM115 - closing it would write again
        patch.setattr(sys, "stdout", terminal)
        assert finish(result) == 129
    os.dup2(os.open(os.devnull, os.O_WRONLY), other)
    terminal.close()


def test_two_signals_in_quick_succession(start, tmp_path, whole):
    path = tmp_path / "run.h5"
    program = start(*options(path.name))
    program.wait_until(recorded(path, 2))
    program.send_signal(signal.SIGINT)
    program.send_signal(signal.SIGTERM)
    assert program.answer().code in (130, 143)
    assert set(names(tmp_path)) <= {path.name, f"{path.name}.lock"}  # which binds nobody now
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.status in (Status.INTERRUPTED, Status.RUNNING)
        assert not trajectory.is_being_written()
    prdsim.resume(path)
    assert names(tmp_path) == [path.name]
    assert_same_trajectory(path, whole)


# -- looking ---------------------------------------------------------------------------------------


@pytest.fixture
def inspect(run):
    """Look at a file: exit code and what is printed."""

    def inspected(path: Path, *flags: str) -> tuple[int, str]:
        answer = run("inspect", path, *flags)
        assert answer.err == ""
        return answer.code, answer.out

    return inspected


def test_a_run_that_is_watched_and_undisturbed(start, tmp_path, whole, inspect):
    path = tmp_path / "run.h5"
    program = start(*options(path.name))
    program.wait_until(recorded(path, 2))
    code, text = inspect(path)
    assert code == 0
    assert re.search(rf"^  running at step \d+ of {STEPS}$", text, re.MULTILINE)
    assert "continue with" not in text
    assert "digits, 12 samples, with diffusion (D = 1, wgan-gp)" in text
    steps = []
    while True:
        code, text = inspect(path, "--json", "--check")
        report = json.loads(text)
        assert (code, report["problems"]) == (0, [])
        assert report["status"] in ("running", "finished")
        assert len(report["scalars"]["step"]) == len(report["scalars"]["loss_sup"])
        steps.append(report["step"])
        if report["status"] == "finished":
            break
        time.sleep(0.1)
    assert steps == sorted(steps)
    assert steps[-1] == STEPS
    assert len(set(steps)) > 1  # it was seen moving
    assert program.answer().code == 0
    assert_same_trajectory(path, whole)


def test_a_killed_run_is_told_from_a_running_one(start, tmp_path, whole, inspect):
    path = tmp_path / "run.h5"
    program = start(*options(str(path)))
    program.wait_until(recorded(path, 2))
    program.kill()
    program.wait()
    code, text = inspect(path, "--check")
    assert code == 0
    step = int(re.findall(rf"^  killed at step (\d+) of {STEPS}$", text, re.MULTILINE)[0])
    assert 100 <= step < STEPS
    assert "all checksums hold" in text
    arguments = resume_line(text)
    assert arguments == ["resume", str(path)]
    report = json.loads(inspect(path, "--json")[1])
    assert (report["status"], report["step"], report["steps"]) == ("killed", step, STEPS)
    prdsim.resume(arguments[1])
    assert_same_trajectory(path, whole)
    code, text = inspect(path)
    assert code == 0
    assert f"  finished at step {STEPS} of {STEPS}" in text
    assert "continue with" not in text


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_check_finds_one_wrong_byte_of_a_snapshot(flags, tmp_path, whole, inspect):
    path = tmp_path / "run.h5"
    content = bytearray(whole.read_bytes())
    with prdsim.open_trajectory(whole) as trajectory:
        assert inspect(whole, "--check", *flags)[0] == 0
        place = content.find(trajectory.U[7].tobytes())
        assert place > 0
    content[place + 100] ^= 1
    path.write_bytes(content)
    assert inspect(path, *flags)[0] == 0  # nobody asked for the checksums
    code, text = inspect(path, "--check", *flags)
    assert code == 3
    problem = "snapshot 7 (step 700) of U is damaged"
    if flags:
        where = "snapshots/U[7]"
        found = {"severity": "damage", "where": where, "text": problem}
        assert json.loads(text)["problems"] == [found]
    else:
        assert f"  damaged: {problem}" in text
        assert "all checksums hold" not in text
    with prdsim.open_trajectory(path) as trajectory:
        assert np.isfinite(trajectory.U[6]).all()
        with pytest.raises(TrajectoryError, match="snapshot 7"):
            trajectory.U[7]


# -- output that cannot be written -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">/dev/full", 3),  # the work is done, but nobody was told
        (">&-", 0),
        ("2>/dev/full", 0),  # progress is dispensable
        ("2>&-", 0),
        ("2>/dev/null | true", 141),
    ],
)
def test_a_run_does_not_depend_on_who_listens(tmp_path, redirection, code):
    line = shlex.join([sys.executable, "-m", "prdsim", "run", *TINY, "-o", "a.h5"])
    done = subprocess.run(
        ["bash", "-c", f"{line} {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "finished"
