"""How the time of a step and the peak of memory grow with the number of samples.

    python benchmarks/samples.py [--samples 1000 4000 16000] [--memory "0.85 GB"] ...

Each number of samples is a run in a process of its own, from images of MNIST's size and kind
(pixels and labels drawn at random, in a file) to its trajectory file; all with the same budget of
memory. ``--samples 1000 2000 4000 8000 15000 30000 60000 --steps 4`` is what docs/configuration.md
shows; it takes some minutes.

Writes benchmarks/results/<date>-samples.json, and with ``--draw`` the picture
docs/pictures/performance-samples.png: median seconds of a step, of the clock and of processors;
the peak of the process's memory, its part before the run (interpreter and imports), and what is
predicted for arrays, in panels and for all samples at once. The images are there three times:
float64 as loaded, float32 on the device and for the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PIXELS, CLASSES = 784, 10


def main() -> None:
    options = parse()
    from prdsim.timing.machine import circumstances

    cases = [in_a_process(n, options) for n in options.samples]
    report = {**circumstances(), "settings": settings(options), "cases": cases}
    path = ROOT / "benchmarks" / "results" / f"{report['date'][:10]}-samples.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    if options.draw:
        draw(report, ROOT / "docs" / "pictures" / "performance-samples.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--memory", default="0.85 GB")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--draw", action="store_true", help="draw the picture of the docs")
    return parser.parse_args()


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The keys of the runs: fixed steps of two velocities each, with the adversary."""
    names = "width", "memory", "precision", "backend", "threads", "steps"
    fixed = {"diffusion": True, "integrator": "heun", "step_size": 1e-6, "chart": "weight"}
    fixed |= {"snapshots": "every:1000", "scalars": "every:1000"}
    return {**{name: getattr(options, name) for name in names}, **fixed}


def in_a_process(n: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        drawn = np.random.default_rng(n)
        images = drawn.integers(1, 256, (n, PIXELS), dtype=np.uint8)
        np.savez(Path(folder) / "images.npz", X=images, Y=drawn.integers(0, CLASSES, n))
        keys = {**settings(options), "samples": n, "dataset": f"{folder}/images.npz"}
        keys |= {"output": f"{folder}/run.h5"}
        command = [sys.executable, __file__, "--child", json.dumps(keys)]
        out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    print(out, end="", flush=True)
    return dict(json.loads(out))


def child(keys: dict[str, Any]) -> None:
    """Take a run and print what it took."""
    import prdsim
    from prdsim.physics.model import dimensions_of
    from prdsim.running.memory import needed_bytes
    from prdsim.running.resolve import backend_of
    from prdsim.timing.contenders import peak_bytes

    config = prdsim.RunConfig(**keys)
    backend_of(config, None)  # imports it
    before = peak_bytes()
    clock: list[tuple[float, float]] = []
    result = prdsim.run(
        config, stop=lambda: clock.append((time.perf_counter(), time.process_time()))
    )
    sizes = dimensions_of(config, PIXELS, CLASSES, config.samples)
    resolved = result.resolved
    k = backend_of(config, resolved)
    steps = np.diff(clock, axis=0)[1:]  # the first compiles
    report = {
        "samples": sizes.n,
        "panel": resolved.panel,
        "seconds": round(float(median(steps[:, 0])), 4),
        "processor_seconds": round(float(median(steps[:, 1])), 4),
        "imports_bytes": before,
        "together_bytes": needed_bytes(config, sizes, k, resolved.chart),
        "predicted_bytes": needed_bytes(config, sizes, k, resolved.chart, resolved.panel),
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(report))


def draw(report: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    cases = report["cases"]
    n = [case["samples"] for case in cases]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    seconds = [case["processor_seconds"] for case in cases]
    left.loglog(n, seconds, "o-", label="measured")
    left.loglog(n, [seconds[-1] * each / n[-1] for each in n], "k:", label="in proportion to n")
    left.set(xlabel="samples n", ylabel="processor seconds of a step")
    labels = {"peak": "peak of the process", "predicted": "predicted for arrays"}
    labels["together"] = "predicted for all samples at once"
    for key, label in labels.items():
        right.plot(n, [case[f"{key}_bytes"] / 1e9 for case in cases], "o-", label=label)
    right.plot(n, [16 * PIXELS * each / 1e9 for each in n], "k:", label="images, three times")
    right.set(xlabel="samples n", ylabel="GB", ylim=(0, None))
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        main()
