"""How much faster two workers of `prdsim sweep` do a study than one.

    python benchmarks/sweeps.py [ROUNDS]

Prints JSON: members per second of both, in turn in every round, and the median ratio of ROUNDS (3)
after one that does not count. Members are the same, each on one thread.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

MEMBERS = 24
SETTINGS = ("dataset=digits", "samples=200", "width=128", "diffusion=true", "end_time=15")
SETTINGS += ("backend=numpy", "threads=1")


def main(rounds: int = 3) -> None:
    rates = [{count: rate(count) for count in (1, 2)} for _ in range(rounds + 1)][1:]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "members": MEMBERS,
        "settings": SETTINGS,
        "members_per_second": {
            count: round(statistics.median(each[count] for each in rates), 3) for count in (1, 2)
        },
        "ratio": round(statistics.median(each[2] / each[1] for each in rates), 2),
        "ratios": [round(each[2] / each[1], 2) for each in rates],
    }
    print(json.dumps(report, indent=2))


def rate(workers: int) -> float:
    """Members per second of a study with so many workers, start and end included."""
    with tempfile.TemporaryDirectory() as folder:
        words = [word for setting in SETTINGS for word in ("--set", setting)]
        words += ["--vary", f"seed=0:{MEMBERS}", "--workers", str(workers)]
        command = [sys.executable, "-m", "prdsim", "sweep", "-o", str(Path(folder) / "s"), *words]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return MEMBERS / (time.perf_counter() - began)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
