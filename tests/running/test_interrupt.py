"""Ctrl-C, SIGTERM and SIGKILL at the command line; looking at a run that is being written."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import prdsim
from prdsim import progress
from prdsim.cli import main
from prdsim.errors import TrajectoryError
from prdsim.progress import Meter, Shown, automatic_progress, noting, progress_stream
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Status, TrajectoryWriter

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; nothing comes near, but for a machine under heavy load
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
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


class Program:
    """A ``prdsim`` process, started in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prdsim", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll; the program must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.poll() is None, self._process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def wait_until_started(self) -> None:
        """Wait for the first line of the program's own code: it handles SIGTERM from there on."""
        status = Path(f"/proc/{self._process.pid}/status")

        def catches_sigterm() -> bool:
            (mask,) = re.findall(r"SigCgt:\s*(\w+)", status.read_text())
            return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

        self.wait_until(catches_sigterm)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Return exit code as a shell tells it, stdout, stderr."""
        out, error = self._process.communicate(timeout=PATIENCE)
        code = self._process.returncode
        return (code if code >= 0 else 128 - code), out, error

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Program]]:
    """Return a function that starts the program; whatever still runs at the end is killed."""
    programs = []

    def started(*arguments: str) -> Program:
        programs.append(Program(tmp_path, *arguments))
        return programs[-1]

    yield started
    for program in programs:
        program.kill()


def options(output: str) -> list[str]:
    """The command line of a run with KEYS."""
    settings = {key: str(value).lower() for key, value in KEYS.items()}
    return ["run", *(f"--set={key}={value}" for key, value in settings.items()), "-o", output]


def recorded(path: Path, rows: int) -> Callable[[], bool]:
    """A condition: so many snapshots are committed."""

    def reached() -> bool:
        if not path.exists():
            return False
        with prdsim.open_trajectory(path) as trajectory:
            return len(trajectory.step) >= rows

    return reached


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The file of an uninterrupted run, made in this process."""
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    return prdsim.run(**KEYS, output=str(path)).path


def assert_same_run(left: Path, right: Path) -> None:
    """The files hold the same rows, snapshots and end, bit for bit."""
    with prdsim.open_trajectory(left) as a, prdsim.open_trajectory(right) as b:
        assert a.check() == b.check() == []
        assert a.status == b.status == Status.FINISHED
        assert a.stop_step == b.stop_step == STEPS
        assert np.array_equal(a.step, b.step)
        assert np.array_equal(a.time, b.time)
        for name, column in a.scalars.items():
            assert column.tobytes() == b.scalars[name].tobytes()
        for name in ARRAYS:
            assert getattr(a, name)[:].tobytes() == getattr(b, name)[:].tobytes()
    left_point, right_point = (restart_point(path) for path in (left, right))
    assert left_point.scalars == right_point.scalars
    for name, array in left_point.arrays.items():
        assert array.tobytes() == right_point.arrays[name].tobytes()


def restart_point(path: Path):
    with TrajectoryWriter.open(path) as writer:
        return writer.read_restart()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def resume_line(text: str) -> list[str]:
    """The arguments of the resume command that a text names."""
    (line,) = re.findall(r"continue with: (prdsim resume .*)", text)
    program, *arguments = shlex.split(line)
    assert program == "prdsim"
    return arguments


def assert_no_traceback(error: str) -> None:
    for word in ("Traceback", "Exception ignored", 'File "', "Error"):
        assert word not in error, error


# -- signals ---------------------------------------------------------------------------------------


@SIGNALS
def test_a_signal_in_mid_run_and_the_line_that_continues_it(number, start, tmp_path, whole):
    path = tmp_path / "my run.h5"
    program = start(*options(path.name))
    program.wait_until(recorded(path, 2))
    program.send(number)
    code, out, error = program.end()
    assert code == 128 + number
    assert_no_traceback(error)
    assert out.startswith("interrupted at step ")
    assert names(tmp_path) == ["my run.h5"]  # no lock, no temporary file
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert (trajectory.status, trajectory.stop_reason) == (Status.INTERRUPTED, number.name)
        assert trajectory.step[-1] <= trajectory.stop_step == trajectory.restart_step < STEPS
        assert f"interrupted at step {trajectory.stop_step}, " in out

    code, out, error = start(*resume_line(error)).end()
    assert code == 0
    assert_no_traceback(error)
    assert out.startswith(f"finished at step {STEPS}, ")
    assert_same_run(path, whole)


@SIGNALS
@pytest.mark.parametrize("seed", [0, 1])
def test_a_signal_while_the_program_starts(number, seed, start, tmp_path):
    path = tmp_path / "run.h5"
    program = start(*options(path.name))
    program.wait_until_started()
    time.sleep(random.Random(f"{seed} {number}").uniform(0.0, 0.4))
    program.send(number)
    code, _, error = program.end()
    assert code == 128 + number
    assert_no_traceback(error)
    assert set(names(tmp_path)) <= {path.name}
    if path.exists():  # the run had begun already: then it can go on
        with prdsim.open_trajectory(path) as trajectory:
            assert trajectory.check() == []
            assert trajectory.status is Status.INTERRUPTED
            assert trajectory.restart_step >= 0


@pytest.mark.parametrize("pause", [0.0, 0.003])
def test_two_signals_in_quick_succession(pause, start, tmp_path, whole):
    path = tmp_path / "run.h5"
    program = start(*options(path.name))
    program.wait_until(recorded(path, 2))
    program.send(signal.SIGINT)
    time.sleep(pause)
    program.send(signal.SIGTERM)
    code, _, error = program.end()
    assert code in (130, 143)
    assert_no_traceback(error)
    assert set(names(tmp_path)) <= {path.name, f"{path.name}.lock"}  # which binds nobody now
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.status in (Status.INTERRUPTED, Status.RUNNING)
        assert not trajectory.is_being_written()
    prdsim.resume(path)
    assert names(tmp_path) == [path.name]
    assert_same_run(path, whole)


# -- looking ---------------------------------------------------------------------------------------


@pytest.fixture
def inspect(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Return a function that runs ``prdsim inspect``: exit code and what it prints."""

    def inspected(path: Path, *flags: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["prdsim", "inspect", str(path), *flags])
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(SystemExit) as end:
            main()
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
        out, error = capsys.readouterr()
        assert error == ""
        return int(end.value.code or 0), out

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
        time.sleep(0.02)
    assert steps == sorted(steps)
    assert steps[-1] == STEPS
    assert len(set(steps)) > 1  # it was seen moving
    code, _, error = program.end()
    assert code == 0
    assert_no_traceback(error)
    assert_same_run(path, whole)


def test_a_killed_run_is_told_from_a_running_one(start, tmp_path, whole, inspect):
    path = tmp_path / "run.h5"
    program = start(*options(str(path)))
    program.wait_until(recorded(path, 2))
    program.kill()
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
    assert_same_run(path, whole)
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
        assert json.loads(text)["problems"] == [problem]
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
    line = shlex.join([sys.executable, "-m", "prdsim", "run", "--dataset", "digits"])
    line += " --samples 8 --width 6 --steps 20 --backend numpy -o a.h5 " + redirection
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "finished"


def test_progress_that_cannot_be_shown_is_dropped(tmp_path):
    class Full(io.StringIO):
        def write(self, text: str) -> int:  # noqa: ARG002
            raise OSError(28, "No space left on device")

    result = prdsim.run(
        dataset="digits",
        samples=8,
        width=6,
        steps=20,
        backend="numpy",
        output=str(tmp_path / "a.h5"),
        progress=automatic_progress(Full()),
    )
    assert result.stop_reason == "finished"
    with Meter(progress_stream(Full())) as meter:
        meter.line("a download does not depend on who watches it either")
    shown = Shown(Full(), seconds=0.0)
    shown.start(0, 10)
    with pytest.raises(OSError, match="No space"):
        shown.update(1, 1, 0.5)


def test_the_time_left_does_not_count_on_every_step_to_compile(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Shown(stream, seconds=5.0)
    shown.start(100, 200)
    for step, now in ((101, 30.0), (102, 31.0), (103, 35.0)):
        clock[0] = now
        shown.update(step, step, 0.5)
    first, second = stream.getvalue().splitlines()
    assert first == "101 of 200  step 101  L_sup 0.5"  # nothing is known of the others yet
    assert second == "103 of 200  step 103  L_sup 0.5  242 s left"  # 2.5 s a step, after the first


def test_the_time_left_of_a_run_to_a_time_is_told_by_time(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Shown(stream, seconds=5.0)
    shown.start(1.5, 50.0)
    for done, step, now in ((2.0, 7, 1.0), (12.0, 9, 6.0), (50.0, 30, 20.0)):
        clock[0] = now
        shown.update(done, step, 0.5)
    assert stream.getvalue().splitlines() == [
        "12 of 50  step 9  L_sup 0.5  19 s left",  # 38 to go, of which 10 took 5 s
        "50 of 50  step 30  L_sup 0.5  0 s left",
    ]


def test_notes_are_lines_now_and_then_or_change_in_place(monkeypatch):
    clock, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", stream)
    with noting(seconds=5.0) as say:
        for now in (1.0, 5.0, 6.0, 11.0):
            clock[0] = now
            say(f"at {now:.0f}")
    assert stream.getvalue() == "at 5\nat 11\n"
    monkeypatch.undo()
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with noting() as say:
        say("half of it")
    assert "half of it [00:00]" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()


def test_without_a_stream_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # what Python makes of 2>&-
    with noting() as say:
        say("nobody sees it")
    assert isinstance(automatic_progress(), progress.Silent)
