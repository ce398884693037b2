"""How runs part: differences of several sizes beside the tangent flow, which no kink enters.

    python benchmarks/separation.py

Digits, 100 samples, 64 neurons, preset poster, rk4 at two steps: log10 of the growth of a random
difference of all arrays by t = 10, 25, 50.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prdsim.analysis.stability.lyapunov import tangent_growth
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.running.simulation import Simulation

TIMES = (10.0, 25.0, 50.0)
SIZES = (1e-10, 1e-8, 1e-6, 1e-4)
STEPS = (0.04, 0.02)


def moved(
    first: Mapping[str, np.ndarray], X: np.ndarray, size: float, moving: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Weights, each by a share of its norm away; those of U within the span of the inputs."""
    random, found = np.random.default_rng(1), dict(first)
    for name in moving:
        shape = first[name].shape
        change = random.standard_normal((shape[0], X.shape[1]) if name == "U" else shape)
        change = change @ X.T if name == "U" else change
        length = size * np.linalg.norm(first[name]) / np.linalg.norm(change)
        found[name] = first[name] + length * change
    return found


def separation(config: RunConfig, X: np.ndarray, Y: np.ndarray, size: float) -> list[float]:
    """log10 of the growth of a difference, by the times."""
    one = Simulation(config, X, Y)
    first = {name: array.astype(float) for name, array in one.initial.items()}
    pair = one, Simulation(config, X, Y, initial=moved(first, X, size, config.moving))

    def apart() -> float:
        one, other = (simulation.weights() for simulation in pair)
        return float(np.sqrt(sum(np.sum((one[name] - other[name]) ** 2) for name in one)))

    begun, found = apart(), []
    for time in TIMES:
        for simulation in pair:
            simulation.advance(round(time / config.step_size) - simulation.step)
        found.append(float(np.log10(apart() / begun)))
    return found


def main() -> None:
    print("| | step | difference | t = 10 | 25 | 50 |\n|---|---|---|---|---|---|")
    for diffusion in (False, True):
        side = "with" if diffusion else "without"
        for step in STEPS:
            config = RunConfig(
                preset="poster", dataset="digits", samples=100, width=64, diffusion=diffusion,
                integrator="rk4", step_size=step, end_time=TIMES[-1], chart="weight", threads=1,
            )  # fmt: skip
            data = load_data(config)
            rows = {f"{size:.0e}": separation(config, data.X, data.Y, size) for size in SIZES}
            growth = tangent_growth(config, data.X, data.Y)
            places = np.searchsorted(growth.times, np.array(TIMES) - step / 2)
            rows = {"tangent": (growth.logs[places] / np.log(10)).tolist(), **rows}
            for name, row in rows.items():
                numbers = " | ".join(f"{value:.2f}" for value in row)
                print(f"| {side} | {step} | {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
