"""How runs part: differences of several sizes beside the tangent flow, which no kink enters.

    python benchmarks/separation.py

Digits, 100 samples, 64 neurons, preset poster, rk4 at two steps: log10 of the growth of a random
difference of all arrays by t = 10, 25, 50, in the same direction for all. Sizes are shares of the
norm of all weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prdsim.analysis.stability.jacobian_products import unpack
from prdsim.analysis.stability.lyapunov import random_difference, tangent_growth
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.physics.charts import range_factors
from prdsim.physics.state import entries
from prdsim.running.simulation import Simulation

TIMES = (10.0, 25.0, 50.0)
SIZES = (1e-10, 1e-8, 1e-6, 1e-4)
STEPS = (0.04, 0.02)


def moved(
    first: Mapping[str, np.ndarray], X: np.ndarray, size: float, config: RunConfig
) -> dict[str, np.ndarray]:
    """Weights, a share of their norm away in the direction in which the tangent begins."""
    Q, _ = range_factors(X)
    Q = np.eye(len(Q)) if Q.shape[0] == Q.shape[1] else Q  # the range chart is the weight chart
    shapes = {name: first[name].shape for name in config.moving}
    shapes["U"] = len(first["U"]), Q.shape[1]
    unit = random_difference(config.seed, entries(shapes))
    length = size * np.sqrt(sum(np.sum(array**2) for array in first.values()))
    found = dict(first)
    for name, part in unpack(unit, shapes).items():
        found[name] = first[name] + length * (part @ Q.T if name == "U" else part)
    return found


def separation(config: RunConfig, X: np.ndarray, Y: np.ndarray, size: float) -> list[float]:
    """log10 of the growth of a difference, by the times."""
    one = Simulation(config, X, Y)
    first = {name: array.astype(float) for name, array in one.initial.items()}
    pair = one, Simulation(config, X, Y, initial=moved(first, X, size, config))

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
