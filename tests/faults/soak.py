"""A long run that commits often: its memory, descriptors and time per step do not grow."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from support_cli import PATIENCE, ROOT, recorded

from faults.places import fresh_folder
from faults.report import Report
from prdsim.trajectory import open_trajectory

_COMMAND = ("--dataset", "digits", "--samples", "8", "--width", "6", "--diffusion")
_COMMAND += ("--integrator", "rk4", "--step-size", "0.001", "--backend", "numpy", "--threads", "1")
_COMMAND += ("--snapshots", "every:5000", "--scalars", "every:50", "--restart-seconds", "0.01")
_COMMAND += ("--steps", "20000000")
_WARM = 0.1  # of the samples: caches fill
_MORE_MEMORY, _MORE_TIME = 2.0, 1.25  # MB; times
_LONG = 60.0  # seconds: in fewer, the time of a step tells how busy the machine is


@dataclass(frozen=True)
class Sample:
    """The process at one moment: bytes, descriptors, processor seconds; the step it reached."""

    resident: int
    descriptors: int
    processor: float
    step: int


def _sample(pid: int, path: Path) -> Sample:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    with open_trajectory(path) as trajectory:
        step = trajectory.restart_step
    return Sample(
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(list((process / "fd").iterdir())),
        (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        step,
    )


def soak(seconds: float, interval: float = 1.0) -> Report:
    """Watch a run for some seconds; compare the last third with the first after a warm-up."""
    report = Report(f"soak of {seconds:g} s")
    path = fresh_folder() / "soak.h5"
    command = [sys.executable, "-m", "prdsim", "run", *_COMMAND, "-o", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        report.timed(),
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        deadline = time.monotonic() + PATIENCE
        while not recorded(path)() and time.monotonic() < deadline:
            time.sleep(0.05)
        samples = []
        for _ in range(round(seconds / interval)):
            time.sleep(interval)
            samples.append(_sample(process.pid, path))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        report.cases = 1
        more_time = _MORE_TIME if seconds >= _LONG else inf
        _compare(report, samples[round(_WARM * len(samples)) :], more_time)
    return report


def _compare(report: Report, samples: list[Sample], more_time: float) -> None:
    """Note the medians of the first and the last third; raise `Broken` if they grow."""
    third = len(samples) // 3
    parts = samples[:third], samples[-third:]
    report.took_effect["steps"] = samples[-1].step - samples[0].step
    for name, measure, allowed in (
        ("resident memory, MB", _memory, lambda before: before + _MORE_MEMORY),
        ("descriptors", _descriptors, lambda before: before),
        ("processor time of a step, us", _step_time, lambda before: more_time * before),
    ):
        before, after = map(measure, parts)
        note = f"{name}: {before:.1f} -> {after:.1f}"
        report.notes.append(note)
        if after > allowed(before):
            report.add("promise", f"{note}: it grows")


def _memory(samples: list[Sample]) -> float:
    return statistics.median(sample.resident for sample in samples) / 1e6


def _descriptors(samples: list[Sample]) -> float:
    return max(sample.descriptors for sample in samples)


def _step_time(samples: list[Sample]) -> float:
    """Of all samples together: of single ones it depends on what else the machine does."""
    steps = samples[-1].step - samples[0].step
    return (samples[-1].processor - samples[0].processor) / steps * 1e6
