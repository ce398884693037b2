"""How much processor time the main job takes when no kernel is compiled, and which kernels take it.

    python benchmarks/first_run.py [REPEATS]

Prints JSON: user and system time of whole processes (`resource.getrusage`), with an empty folder of
kernels and, after that, with a full one, as medians of REPEATS (3); and the seconds of each kernel.
The job is the README's, ended early: by then it has called every kernel.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

JOB = ("run", "--diffusion", "--end-time", "0.3")


def main(repeats: int = 3) -> None:
    runs = [measure() for _ in range(repeats)]
    cold, warm, kernels = zip(*runs, strict=True)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(("prdsim", *JOB)),
        "repeats": repeats,
        "cold_cpu_seconds": round(statistics.median(cold), 2),
        "warm_cpu_seconds": round(statistics.median(warm), 2),
        "kernels": {
            name: round(statistics.median(run.get(name, 0.0) for run in kernels), 2)
            for name in kernels[0]
        },
    }
    print(json.dumps(report, indent=2))


def measure() -> tuple[float, float, dict[str, float]]:
    """Return the processor time of a cold and a warm run, and that of each kernel of the cold."""
    with tempfile.TemporaryDirectory() as folder:
        cold, kernels = processor_time(Path(folder))
        warm, _ = processor_time(Path(folder))
    return cold, warm, kernels


def processor_time(folder: Path) -> tuple[float, dict[str, float]]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    table = folder / "table.json"
    subprocess.run(
        [sys.executable, __file__, "--job", str(table), *JOB, "--force", "-o", folder / "run.h5"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads(table.read_text())


def job(table: str, *arguments: str) -> None:
    """Run prdsim in this process; write the processor time of each compiled function to a file."""
    from numba.core import event

    from prdsim.cli import main as run

    seconds: dict[str, float] = {}
    begun: list[list[float]] = []  # of compilations that are under way: when, and of inner ones

    class Listener(event.Listener):
        def on_start(self, event: event.Event) -> None:  # noqa: ARG002
            begun.append([time.process_time(), 0.0])

        def on_end(self, event: event.Event) -> None:
            start, inner = begun.pop()
            took = time.process_time() - start
            if begun:
                begun[-1][1] += took
            function = event.data["dispatcher"].py_func
            name = f"{function.__module__}.{function.__qualname__}"
            seconds[name] = seconds.get(name, 0.0) + took - inner

    event.register("numba:compile", Listener())
    sys.argv = ["prdsim", *arguments]
    try:
        run()
    finally:
        ranked = sorted(seconds.items(), key=lambda item: -item[1])
        Path(table).write_text(json.dumps(dict(ranked)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        job(*sys.argv[2:])
    else:
        main(*map(int, sys.argv[1:]))
