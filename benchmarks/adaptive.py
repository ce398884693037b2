"""What an adaptive step costs, counted in velocities of the flow.

    python benchmarks/adaptive.py [--width 512] [--samples 256] [--chart gram] [--gd] ...

A step of bs23 computes three velocities, combines them, and measures the error. Velocities and
steps are timed in turn, call by call, in one process and on the same threads, so that whatever
else the machine does slows both. Prints JSON: the median time of each in milliseconds, and the
median ratio of a step to the velocity before it. A step that is rejected counts as part of the
next one; the medians leave such pairs out.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from prdsim import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.physics.gradients import velocity
from prdsim.physics.state import State
from prdsim.running.simulation import Simulation

WARM_UP = 10  # pairs that compile, and warm the caches


def main() -> None:
    options = vars(parse())
    blocks, gd = options.pop("blocks"), options.pop("gd")
    config = RunConfig(steps=10**9, **options)
    simulation = build(config)
    with simulation:
        actions = {"velocity": velocity_of(simulation), "step": simulation.advance}
        if gd:
            actions["gd_step"] = build(config.replace(integrator="gd")).advance
        seconds = measure(actions, blocks)
    ratios = [step / one for step, one in zip(seconds["step"], seconds["velocity"], strict=True)]
    report = {
        **options,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "milliseconds": {name: round(1e3 * median(times), 3) for name, times in seconds.items()},
        "velocities_a_step": round(median(ratios), 2),
    }
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--chart", default="gram")
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--integrator", default="bs23", choices=["bs23", "dopri5"])
    parser.add_argument("--rtol", type=float, default=1e-3)
    parser.add_argument("--no-diffusion", dest="diffusion", action="store_false")
    parser.add_argument("--gd", action="store_true", help="time a step of gd, too")
    parser.add_argument("--blocks", type=int, default=200, help="how often each is timed")
    return parser.parse_args()


def build(config: RunConfig) -> Simulation:
    dataset = load_data(config)
    return Simulation(config, dataset.X, dataset.Y)


def velocity_of(simulation: Simulation) -> Callable[[], None]:
    model = simulation.model
    out = State.empty(model.backend, model.state_shapes, model.moving)
    return lambda: velocity(model, simulation.state, out=out)


def measure(actions: dict[str, Callable[[], Any]], blocks: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for block in range(WARM_UP + blocks):
        for name, act in actions.items():
            begun = time.perf_counter()
            act()
            if block >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


if __name__ == "__main__":
    main()
