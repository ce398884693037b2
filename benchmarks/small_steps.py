"""Steps of a small problem, where calls take longer than computing: numba against numpy.

    python benchmarks/small_steps.py [--threads 2] [--rounds 9] [--samples 64] [--width 128]

Steps of gd on digits: without the critic, with one at rest, and with the paper's critic. Both
backends step in turn in one process, in short blocks; one that other processes disturbed is taken
again. Prints JSON: the median time of a step in microseconds, the ratio, and how many of the blocks
were disturbed all the same. With ``--processor`` times are processor time, which others disturb
less; give it one thread.
"""

from __future__ import annotations

import argparse
import json
import time

from prdsim import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.timing.contenders import OwnSteps
from prdsim.timing.race import Block, race
from prdsim.timing.workload import Workload

CASES = {
    "no critic": {"diffusion": False},
    "critic at rest": {"diffusion": True, "trainable": "U,V"},
    "critic": {"diffusion": True, "penalty_points": "random"},
}
BLOCK_SECONDS = 0.02
_ENDLESS = 2**31 - 1


class ByProcessor(OwnSteps):
    """Steps timed by the processor time of the process."""

    def timed(self, steps: int) -> Block:
        with self.active():
            self.advance(self.uncounted)
            begun = time.process_time()
            self.advance(steps)
            return Block((time.process_time() - begun) / steps)


def main() -> None:
    options = parse()
    report = [case(name, p, options) for p in ("float64", "float32") for name in CASES]
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--processor", action="store_true")
    return parser.parse_args()


def case(name: str, precision: str, options: argparse.Namespace) -> dict[str, object]:
    kind = ByProcessor if options.processor else OwnSteps
    entrants = {
        backend: kind(workload(backend, precision, options, CASES[name])).timed
        for backend in ("numpy", "numba")
    }
    timings = race(entrants, rounds=options.rounds, block_seconds=BLOCK_SECONDS)
    microseconds = {label: 1e6 * timing.seconds for label, timing in timings.items()}
    return {
        "case": name,
        "precision": precision,
        "threads": options.threads,
        "microseconds": {label: round(value, 1) for label, value in microseconds.items()},
        "ratio": round(microseconds["numpy"] / microseconds["numba"], 2),
        "disturbed": {label: timing.disturbed for label, timing in timings.items()},
    }


def workload(
    backend: str, precision: str, options: argparse.Namespace, keys: dict[str, object]
) -> Workload:
    config = RunConfig(
        dataset="digits",
        integrator="gd",
        steps=_ENDLESS,
        samples=options.samples,
        width=options.width,
        threads=options.threads,
        backend=backend,
        precision=precision,
        **keys,  # type: ignore[arg-type]
    )
    data = load_data(config)
    sizes = dimensions_of(config, data.X.shape[0], data.Y.shape[0], data.X.shape[1])
    return Workload(config, data.X, data.Y, draw_initial(config, sizes, data.X))


if __name__ == "__main__":
    main()
