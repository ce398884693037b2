"""Progress: what a run tells, how it is shown, and that showing it is dispensable."""

from __future__ import annotations

import io
import re
import sys
import time
from math import isnan
from typing import Any

import pytest
from support import Terminal
from support_runs import KEYS

import prdsim
from prdsim import backends, progress
from prdsim.backends.notices import COMPILING, tell
from prdsim.backends.numpy import NumpyBackend
from prdsim.progress import (
    Meter,
    Progress,
    Shown,
    Told,
    announced_after,
    automatic_progress,
    noting,
    progress_stream,
)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Ears(Progress):
    """Progress that keeps what it is told."""

    every_step = True

    def __init__(self) -> None:
        self.told: list[tuple[float, ...]] = []

    def start(self, done: float, total: float) -> None:
        self.told.append((done, total))

    def update(self, done: float, step: int, loss: float) -> None:
        self.told.append((done, step, loss))

    def close(self) -> None:
        self.told.append(())


def test_progress_is_told_every_step(tmp_path):
    ears = Ears()
    prdsim.run(**KEYS, progress=ears, output=str(tmp_path / "a.h5"))
    assert ears.told[0] == (0, 20)
    assert [(done, step) for done, step, _ in ears.told[1:-1]] == [(k, k) for k in range(1, 21)]
    assert all(loss > 0 for *_, loss in ears.told[1:-1])
    assert ears.told[-1] == ()


def test_progress_of_a_run_to_a_time_is_told_in_time(tmp_path):
    ears = Ears()
    keys = {**KEYS, "end_time": 1.0, "step_size": 0.3}
    prdsim.run(**keys, progress=ears, output=str(tmp_path / "a.h5"))
    assert ears.told[0] == (0.0, 1.0)
    places = [(done, step) for done, step, _ in ears.told[1:-1]]
    # The fourth step passes the end, and is not shortened.
    assert places == [(0.3, 1), (0.6, 2), (pytest.approx(0.9), 3), (1.0, 4)]


def test_lines_tell_step_loss_and_time_left(tmp_path):
    stream = io.StringIO()
    keys = {**KEYS, "output": str(tmp_path / "run.h5"), "remarks": False}
    prdsim.run(**keys, progress=Shown(stream, 0.0))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("20 of 20  step 20  L_sup ")
    assert lines[-1].endswith("0 s left")


def test_progress_that_cannot_be_shown_is_dropped(tmp_path):
    class Full(io.StringIO):
        def write(self, text: str) -> int:  # noqa: ARG002
            raise OSError(28, "No space left on device")

    progress = automatic_progress(Full())
    result = prdsim.run(**KEYS, output=str(tmp_path / "a.h5"), progress=progress)
    assert result.stop_reason == "finished"
    with Meter(progress_stream(Full())) as meter:
        meter.line("a download does not depend on who watches it either")
    shown = Shown(Full(), seconds=0.0)
    shown.start(0, 10)
    with pytest.raises(OSError, match="No space"):
        shown.update(1, 1, 0.5)


def test_the_time_left_does_not_count_on_every_step_to_compile(clock):
    stream = io.StringIO()
    shown = Shown(stream, seconds=5.0)
    shown.start(100, 200)
    for step, now in ((101, 30.0), (102, 31.0), (103, 35.0)):
        clock[0] = now
        shown.update(step, step, 0.5)
    first, second = stream.getvalue().splitlines()
    assert first == "101 of 200  step 101  L_sup 0.5"  # nothing is known of the others yet
    assert second == "103 of 200  step 103  L_sup 0.5  242 s left"  # 2.5 s a step, after the first


def test_the_time_left_of_a_run_to_a_time_is_told_by_time(clock):
    stream = io.StringIO()
    shown = Shown(stream, seconds=5.0)
    shown.start(1.5, 50.0)
    for done, step, now in ((2.0, 7, 1.0), (12.0, 9, 6.0), (50.0, 30, 20.0)):
        clock[0] = now
        shown.update(done, step, 0.5)
    assert stream.getvalue().splitlines() == [
        "12 of 50  step 9  L_sup 0.5  19 s left",  # 38 to go, of which 10 took 5 s
        "50 of 50  step 30  L_sup 0.5  0 s left",
    ]


def test_no_time_is_left_before_a_second_step(clock):
    """A replay tells its beginning too, which is no step; the first one may compile for long."""
    stream = io.StringIO()
    shown = Shown(stream, seconds=5.0)
    shown.start(0, 2000)
    for done, now in ((0, 1.0), (1, 12.7), (2, 18.7)):
        clock[0] = now
        shown.update(done, done, 0.5)
    assert stream.getvalue().splitlines() == [
        "1 of 2000  step 1  L_sup 0.5",
        "2 of 2000  step 2  L_sup 0.5  11988 s left",
    ]


def test_a_run_within_other_work_is_told_in_texts(clock):
    texts: list[str] = []
    told = Told(texts.append, "run again")
    told.start(0.0, 4.0)
    for done, step, now in ((0.0, 0, 1.0), (1.0, 1, 3.0), (2.0, 2, 5.0)):
        clock[0] = now
        told.update(done, step, 0.5)
    assert texts == [
        "run again",
        "run again: 0 of 4, step 0",
        "run again: 1 of 4, step 1",
        "run again: 2 of 4, step 2  4 s left",
    ]


def test_the_time_left_is_not_told_to_the_digit_when_nobody_lives_to_see_the_end(clock):
    stream = io.StringIO()
    shown = Shown(stream, seconds=5.0)
    shown.start(0.0, 1e300)
    for done, now in ((1.0, 1.0), (2.0, 6.0)):
        clock[0] = now
        shown.update(done, 3, 0.5)
    assert stream.getvalue() == "2 of 1e+300  step 3  L_sup 0.5  years left\n"
    terminal = Terminal()
    shown = Shown(terminal)
    shown.start(0.0, 1e300)
    for done, now in ((1.0, 7.0), (2.0, 8.0)):
        clock[0] = now
        shown.update(done, 3, 0.5)
    shown.close()
    assert "2/1e+300" in terminal.getvalue()
    assert "years left, step 3" in terminal.getvalue()
    assert max(map(len, terminal.getvalue().split("\r"))) < 200


def test_notes_command_no_terminal(clock):  # noqa: ARG001 - no line is due
    stream, terminal = io.StringIO(), Terminal()
    for shown in (Shown(stream), Shown(terminal)):
        shown.start(0.0, 1.0)
        shown.note("run\x1b[31m.h5 is now \x07.h5")
        shown.close()
        told = (stream if shown._stream is stream else terminal).getvalue()
        assert r"run\u001b[31m.h5 is now \u0007.h5" in told


def test_notes_are_lines_now_and_then_or_change_in_place(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with noting(seconds=5.0) as say:
        for now in (1.0, 5.0, 6.0, 11.0):
            clock[0] = now
            say(f"at {now:.0f}")
        announced_after(say)("at once")
    assert stream.getvalue() == "at 6\nat 11\nat once\n"  # five seconds after the first
    monkeypatch.undo()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with noting() as say:
        say("half of it")
    assert "half of it [00:00]" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()


def test_the_clock_of_a_note_goes_on_until_the_note_is_removed(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with noting() as say:
        say("reading")
        while "reading [00:01]" not in terminal.getvalue():
            time.sleep(0.05)
        say("")
        shown = terminal.getvalue()
        assert shown.endswith("\r")
        assert shown.split("\r")[-2].strip() == ""  # the line is empty again
        time.sleep(0.6)
        assert terminal.getvalue() == shown


class _Preparing(NumpyBackend):
    """A backend that takes long before its first operation, and tells so twice."""

    name = "preparing"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for _ in range(2):
            tell(COMPILING)


def test_what_takes_long_is_told_before_the_run_is_described(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backends, "_REGISTERED", {"preparing": _Preparing})
    keys = {**KEYS, "backend": "preparing", "diffusion": True}
    prdsim.run(**keys, output=str(tmp_path / "a.h5"), progress=True)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == COMPILING
    assert "; 7 neurons, " in second
    prdsim.run(**keys, output=str(tmp_path / "b.h5"))  # not shown, and no warning
    assert capsys.readouterr().err == ""
    ended = prdsim.resume(tmp_path / "a.h5", 22, progress=True)
    assert ended.step == 22
    assert capsys.readouterr().err.startswith(f"{COMPILING}\n")


def test_a_run_measures_its_pace(tmp_path):
    result = prdsim.run(**KEYS, output=str(tmp_path / "a.h5"))
    assert 0 < 19 * result.step_seconds < result.seconds
    result = prdsim.run(**{**KEYS, "steps": 1}, output=str(tmp_path / "b.h5"))
    assert isnan(result.step_seconds)
    assert result.seconds > 0


def test_a_notebook_gets_a_bar_that_may_be_a_widget(monkeypatch):
    """The stream of Jupyter is no terminal; the tour, tests/test_tour.py, shows the bar there."""

    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = automatic_progress()
    progress.start(0.0, 2.0)
    progress.update(1.0, 3, 0.5)
    progress.note("a note")
    progress.close()
    assert "a note\n" in stream.getvalue()
    assert re.search(r"50%\|.*\| 1/2 \[.*, step 3, L_sup=0.5\]", stream.getvalue())
    import tqdm.auto

    assert type(progress._meter._bar) is tqdm.auto.tqdm


def test_without_a_stream_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # what Python makes of 2>&-
    with noting() as say:
        say("nobody sees it")
    assert type(automatic_progress()) is Progress
