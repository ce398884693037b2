"""The whole comparison: every group of cases, measured, held against what is promised, written.

    python benchmarks/suite.py [--only GROUP ...] [--match TEXT] [--rounds 7] [--quick]

Writes benchmarks/results/<date>-cpu.json (-gpu with --only gpu) and prints the promises. About an
hour on two cores; --quick takes the smallest case of each group, few rounds, and writes only where
--output says. Needs pip install -e '.[bench]'; a rival that is not installed is left out.
Then: python benchmarks/report.py RESULTS.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from thresholds import RIVALS, Promise, promises
from workers import Worker

from prdsim.config import RunConfig
from prdsim.files.whole import write_whole
from prdsim.physics.charts import CHARTS
from prdsim.timing.contenders import Entry
from prdsim.timing.machine import circumstances
from prdsim.timing.measurement import bare_products, measure
from prdsim.timing.workload import Workload

RESULTS = Path(__file__).resolve().parent / "results"
PRECISIONS = ("float64", "float32")
STEP_SIZE = 0.01  # below 1/lambda_max of every case: what is computed stays finite
SNAPSHOT_RUN = {"diffusion": True, "integrator": "gd", "scalars": "every:10"}  # m = 512, n = 256
MEMORY_RUN = {"steps": 20, "step_size": "auto", "integrator": "gd"}

OURS = Entry("prdsim", "prdsim", {"backend": "numba", "chart": "auto"})
GPU = Entry("prdsim cupy", "prdsim", {"backend": "cupy", "chart": "auto"})
CHART_ENTRIES = [
    Entry(f"prdsim {chart}", "prdsim", {"backend": "numba", "chart": chart}) for chart in CHARTS
]
RIVAL_ENTRIES = [Entry(kind, kind) for kind in RIVALS]
GPU_RIVALS = [Entry(f"{kind}@cuda", f"{kind}@cuda") for kind in RIVALS if kind != "numpy"]
PRODUCTS = bare_products(list(CHARTS))


@dataclass(frozen=True)
class Planned:
    """A case to be measured: its group and name, keys of the configuration, who takes part."""

    group: str
    name: str
    keys: dict[str, Any]
    entries: list[Entry]


def planned() -> Iterator[Planned]:
    """Yield every case, the small ones of a group first."""
    everyone = [*RIVAL_ENTRIES, OURS, *CHART_ENTRIES]
    for n, precision in itertools.product((100, 500, 1000, 4000), PRECISIONS):
        yield _case("steps", [*everyone, *PRODUCTS], precision, samples=n, width=4096)
    for precision in PRECISIONS:
        yield _case("critic", everyone, precision, samples=500, width=1024, diffusion=True)
        yield _case("autoencoder", everyone, precision, samples=500, width=1024, target="inputs")
    for m, n in ((1024, 500), (1024, 1000), (1024, 1500), (1024, 4000), (4096, 1500)):
        for precision in PRECISIONS:
            entries = [OURS, *CHART_ENTRIES, *PRODUCTS]
            yield _case("products", entries, precision, samples=n, width=m)
    for precision, n in itertools.product(
        PRECISIONS, (50, 100, 200, 300, 400, 600, 800, 1200, 1600, 2400)
    ):
        yield _case("charts", [OURS, *CHART_ENTRIES], precision, samples=n, width=2048)
    for m in (128, 256, 512, 1024, 2048, 8192):
        yield _case("width", [*RIVAL_ENTRIES, OURS], "float32", samples=500, width=m)
    for d_out in (1, 10, 100, 784):
        keys = {"samples": 500, "width": 1024, "outputs": d_out}
        yield _case("outputs", [*RIVAL_ENTRIES, OURS], "float32", **keys)
    for n, m in ((64, 128), (500, 1024), (1400, 4096)):  # 8 x 8 images
        keys = {"dataset": "digits", "samples": n, "width": m}
        yield _case("small inputs", [*everyone, *PRODUCTS], "float32", **keys)
    gpu = [OURS, GPU, *GPU_RIVALS]
    for n, precision in itertools.product((500, 1000, 4000), PRECISIONS):
        yield _case("gpu", gpu, precision, samples=n, width=4096)
    for precision in PRECISIONS:
        yield _case("gpu", gpu, precision, samples=500, width=1024, diffusion=True)


def _case(group: str, entries: list[Entry], precision: str, **keys: Any) -> Planned:
    words = {"samples": "n", "width": "m", "outputs": "d_out", "target": "Y", "dataset": ""}
    sizes = ", ".join(
        f"{words[key]} = {value}".removeprefix(" = ") for key, value in keys.items() if key in words
    )
    critic = ", critic" if keys.get("diffusion") else ""
    name = f"{sizes}{critic}, {precision}".replace("Y = inputs", "Y = X")
    return Planned(group, name, {**keys, "precision": precision}, entries)


def memory_cases() -> list[tuple[str, dict[str, Any]]]:
    """Return names and keys of the runs whose peak memory is measured."""
    return [
        ("m = 512, n = 256, critic, float64", {"diffusion": True}),
        ("m = 4096, n = 1000, float64", {"width": 4096, "samples": 1000}),
        (
            "m = 4096, n = 4000, float32",
            {"width": 4096, "samples": 4000, "precision": "float32", "step_size": STEP_SIZE},
        ),
        (
            "m = 1024, n = 1000, Y = X, float64",
            {"width": 1024, "samples": 1000, "target": "inputs"},
        ),
    ]


def main() -> int:
    """Measure, write, and say which promises are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cases = list(planned())
    groups = [*dict.fromkeys(case.group for case in cases), "memory", "snapshots"]
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", help=str(groups))
    parser.add_argument("--match", default="", metavar="TEXT", help="only cases so named")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a block")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--quick", action="store_true", help="a case a group, 2 short rounds")
    parser.add_argument("--output", type=Path, help="the file to write")
    options = parser.parse_args()
    chosen = options.only or [group for group in groups if group != "gpu"]
    if options.quick:
        options.rounds, options.seconds = 2, 0.05
        cases = [next(case for case in cases if case.group == name) for name in groups[:-2]]
    report: dict[str, Any] = {
        "format": 1,
        **circumstances("torch", "jax", "jaxlib"),
        "threads": options.threads,
        "rounds": options.rounds,
        "block_seconds": options.seconds,
        "cases": [],
    }
    path = options.output or _default_path(report, "gpu" if "gpu" in chosen else "cpu")
    for case in cases:
        if case.group in chosen and options.match in case.name:
            _say(f"{case.group}: {case.name}")
            report["cases"].append(_measured(case, options))
            _write(report, path)  # what is measured stays, whatever happens to the rest
    if "memory" in chosen:
        runs = memory_cases()[: 1 if options.quick else None]
        report["memory"] = [_memory(name, keys, options.threads) for name, keys in runs]
    if "snapshots" in chosen:
        steps = 50 if options.quick else 2000
        report["snapshots"] = _snapshots(steps, options.rounds, options.threads)
    _write(report, path)
    found = promises(report)
    print("\n".join([_promise(promise) for promise in found] + [str(path)]))
    return 0 if all(promise.holds is not False for promise in found) else 1


def _measured(case: Planned, options: argparse.Namespace) -> dict[str, Any]:
    config = RunConfig(**case.keys, step_size=STEP_SIZE, threads=options.threads)
    found = measure(
        config,
        case.entries,
        rounds=options.rounds,
        block_seconds=options.seconds,
        start=Worker,
        progress=lambda text: _say(f"    {text}"),
    )
    return {"group": case.group, "name": case.name, **found.to_dict()}


def _memory(name: str, keys: dict[str, Any], threads: int) -> dict[str, Any]:
    """Run once, in a process of its own, and compare its peak with the prediction."""
    _say(f"memory: {name}")
    with _runs({"backend": "numba", **MEMORY_RUN, **keys}, {"run": {}}, threads) as workers:
        description, _ = workers["run"].begin(1)
        _, peak = workers["run"].end()
    predicted = description["predicted_bytes"]
    return {"name": name, "measured_mb": peak / 1e6, "predicted_mb": predicted / 1e6}


def _snapshots(steps: int, rounds: int, threads: int) -> dict[str, Any]:
    """Whole runs with 40 snapshots and with 2, in turn."""
    keys = {"backend": "numba", "step_size": "auto", "steps": steps, **SNAPSHOT_RUN}
    kinds = {count: {"snapshots": f"geometric:{count}"} for count in ("40", "2")}
    seconds: dict[str, list[float]] = {count: [] for count in kinds}
    with _runs(keys, kinds, threads) as workers:
        for worker in workers.values():
            worker.begin(1)
        for number in range(rounds):
            _say(f"snapshots: round {number + 1}/{rounds}")
            for count, worker in workers.items():
                seconds[count].append(worker.timed(1).seconds)
    return {
        "name": f"m = 512, n = 256, critic, {steps} steps",
        "seconds": seconds,
        "ratio": statistics.median(seconds["40"]) / statistics.median(seconds["2"]),
    }


@contextmanager
def _runs(
    keys: dict[str, Any], kinds: dict[str, dict[str, Any]], threads: int
) -> Iterator[dict[str, Worker]]:
    """Yield workers that do whole runs of a configuration, by name."""
    nothing = np.empty((0, 0))
    with TemporaryDirectory(prefix="prdsim-bench-") as folder, ExitStack() as stack:
        workers = {}
        for kind, others in kinds.items():
            config = RunConfig(**keys, **others, output=f"{folder}/{kind}.h5", force=True)
            workload = Workload(config, nothing, nothing, {})
            workers[kind] = stack.enter_context(Worker(Entry(kind, "run"), workload, threads))
        yield workers


def _write(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(report, indent=1) + "\n").encode(), force=True)


def _default_path(report: dict[str, Any], device: str) -> Path:
    return RESULTS / f"{report['date'][:10]}-{device}.json"


def _promise(promise: Promise) -> str:
    sign = "at least" if promise.at_least else "at most"
    kept = {True: "holds", False: "FAILS", None: "not measured"}[promise.holds]
    measured = "-" if promise.measured is None else f"{promise.measured:.3g}"
    required = f"{sign} {promise.required:.3g}"
    return f"{kept:13}{measured:>8}  {required:15} {promise.what}: {promise.case} ({promise.note})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
