"""How long `prdsim --help` takes, as a whole process.

    python benchmarks/startup.py [REPEATS]

Prints JSON: the median, least and largest wall-clock time of REPEATS calls (20), after one that
does not count.
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def main(repeats: int = 20) -> None:
    script = shutil.which("prdsim", path=str(Path(sys.executable).parent))
    command = [script, "--help"] if script else [sys.executable, "-m", "prdsim", "--help"]
    seconds = [measure(command) for _ in range(repeats + 1)][1:]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "prdsim --help" if script else "python -m prdsim --help",
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "repeats": repeats,
        "seconds": {
            "median": round(statistics.median(seconds), 3),
            "min": round(min(seconds), 3),
            "max": round(max(seconds), 3),
        },
    }
    print(json.dumps(report, indent=2))


def measure(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
