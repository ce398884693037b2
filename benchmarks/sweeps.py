"""How much faster two workers of `prdsim sweep` do a study than one.

    python benchmarks/sweeps.py [ROUNDS]

Takes a minute a round (3), on two cores that are otherwise idle. A study has 8 members of some four
seconds each, of one thread, whose arrays fit the caches: larger ones also compare the
bandwidth of the memory, which two workers share. What is measured is the command as it is called,
from its start to its end: imports of parent and workers, members, their files, the table.

Prints JSON: seconds of both in every round, in turn, and their ratio; and the seconds of processors
(user and system, of parent and workers), which tell more than the clock where others are at work.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

MEMBERS = 8
SETTINGS = ("dataset=digits", "samples=200", "width=128", "diffusion=true", "end_time=60")
SETTINGS += ("backend=numpy", "threads=1")


def main(rounds: int = 3) -> None:
    measured(2, "end_time=0.1")  # what is read for the first time
    taken = [{workers: measured(workers) for workers in (1, 2)} for _ in range(rounds)]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "members": MEMBERS,
        "settings": SETTINGS,
        "ratio": round(statistics.median(each[1][0] / each[2][0] for each in taken), 2),
        "ratios": [round(each[1][0] / each[2][0], 2) for each in taken],
        "seconds": {n: [round(each[n][0], 2) for each in taken] for n in (1, 2)},
        "processor_seconds": {n: [round(each[n][1], 2) for each in taken] for n in (1, 2)},
    }
    print(json.dumps(report, indent=2))


def measured(workers: int, *settings: str) -> tuple[float, float]:
    """Return the seconds that a study takes with so many workers: of the clock, of processors."""
    with tempfile.TemporaryDirectory() as folder:
        words = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
        words += ["--vary", f"seed=0:{MEMBERS}", "--workers", str(workers)]
        command = [sys.executable, "-m", "prdsim", "sweep", "-o", str(Path(folder) / "s"), *words]
        began, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began, processor_seconds() - used


def processor_seconds() -> float:
    """Return what processes have used that were started here, directly or not, and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
