"""How much faster `prdsim.run_many` does the runs of the poster than one run after the other.

    python benchmarks/many.py [DATASET [END_TIME [SEEDS]]]

The members are those of the preset "poster" on a data set (synthetic): seeds (10), with and without
diffusion. They run one after the other by `prdsim.run`, with two threads, in this process, which
has loaded all it needs; then at once, with one thread each on two cores, start-up of the workers
included. That takes some twelve minutes for the preset's end time of 50, on two cores that are
otherwise idle; two for `python benchmarks/many.py synthetic 4`: the same runs, stopped earlier.

Prints JSON: the ratio, seconds of both; the seconds of processors (user and system), which tell
more than the clock where others are at work; and whether the first member has the bits of its run
alone with as many threads.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prdsim


def main(dataset: str = "synthetic", end_time: float = 50.0, seeds: int = 10) -> None:
    keys = {"preset": "poster", "dataset": dataset, "end_time": end_time, "backend": "numba"}
    members = [
        {**keys, "seed": seed, "diffusion": diffusion}
        for seed in range(seeds)
        for diffusion in (True, False)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(members[:2], folder / "warm", threads=2, end_time=0.1)
        after = measured(lambda: run(members, folder / "after", threads=2))
        many: list[Any] = []
        at_once = measured(lambda: many.extend(prdsim.run_many(members, folder=folder / "many")))
        (alone,) = run(members[:1], folder / "alone", threads=many[0].resolved.threads)
        same = all((alone.state[n] == many[0].state[n]).all() for n in alone.state)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "members": len(members),
        "settings": keys,
        "steps": sum(result.step for result in many),
        "ratio": round(after[0] / at_once[0], 2),
        "seconds": {"after": round(after[0], 2), "at once": round(at_once[0], 2)},
        "processor_seconds": {"after": round(after[1], 2), "at once": round(at_once[1], 2)},
        "same_bits": same,
    }
    print(json.dumps(report, indent=2))


def run(members: list[dict[str, Any]], folder: Path, **keys: Any) -> list[prdsim.Result]:
    """Run members one after the other in this process."""
    folder.mkdir()
    outputs = [str(folder / f"{number}.h5") for number in range(len(members))]
    return [
        prdsim.run({**member, **keys}, output=output)
        for member, output in zip(members, outputs, strict=True)
    ]


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that some work takes: of the clock, of processors, of all processes."""
    began, used = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - began, processor_seconds() - used


def processor_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*given[:1], *map(float, given[1:2]), *map(int, given[2:3]))
