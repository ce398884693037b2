"""How predictable a run is: the growth of a small difference, by the tangent flow.

A random difference of U, V, W, a is carried along with the run by the tangents of the method
itself, the flow's Jacobian at its stages, eq. 14. The rate of its growth tends to the leading
Lyapunov exponent between kinks: gates are those of the run. Differences large enough that a gate
changes in another stage jump there, by far more than they grow in between; `prdsim converge`
measures that by twins, and `benchmarks/separation.py` sets both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.stability.coupling_history import up_to_last_snapshot
from prdsim.analysis.stability.jacobian_products import JacobianProducts
from prdsim.config import RunConfig
from prdsim.physics.randomness import Stream, generator
from prdsim.physics.tangent import Linearization
from prdsim.progress import Progress
from prdsim.recorded import Recorded
from prdsim.running.stages import StagedSimulation, carried
from prdsim.trajectory import Trajectory

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray


@dataclass(frozen=True)
class TangentGrowth:
    """Growth of a small difference at the ends of steps: ``times`` (T,), ``logs`` (T,) of it."""

    times: HostArray
    logs: HostArray

    @property
    def exponents(self) -> HostArray:
        """The finite-time exponents, log(growth) / t, (T,)."""
        exponents: HostArray = self.logs / self.times
        return exponents


def tangent_growth(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> TangentGrowth:
    """Follow a random difference along a run to its end time; other arguments as of `Simulation`.

    U is carried in coordinates in which lengths are those of the weights, the range chart.
    Raises `ConfigError` for gd, without an end time, and as `Linearization` does; the errors of a
    run.
    """
    shown = progress or Progress()
    config = config.replace(chart="range", memory=None)
    last = config.end_time or 0.0
    times, logs, total = [], [], 0.0
    with StagedSimulation(config, X, Y, **options) as simulation:
        rows = simulation.rows
        products = JacobianProducts(Linearization(simulation.model, simulation.state))
        difference = random_difference(config.seed, products.size)
        shown.start(*simulation.progress)
        try:
            while not simulation.finished:
                simulation.advance(next_view=simulation.time)
                until = min(simulation.time, last)
                weights, derivatives = simulation.weights_until(until), _along(simulation, products)
                difference = carried(difference, simulation.taken, rows, weights, derivatives)
                size = float(np.linalg.norm(difference))
                total, difference = total + np.log(size), difference / size
                times.append(until)
                logs.append(total)
                shown.update(simulation.progress[0], simulation.step, total)
        finally:
            shown.close()
    return TangentGrowth(np.array(times), np.array(logs))


def _along(
    simulation: StagedSimulation, products: JacobianProducts
) -> Iterator[Callable[[HostArray], HostArray]]:
    """Yield the Jacobian's products in float64 at each stage of the last step, in turn."""
    for state in simulation.stages():
        products.jacobian.at(state)
        yield lambda tangent: products(tangent).astype(np.float64)


def random_difference(seed: int, size: int) -> HostArray:
    """Return a random unit vector, the arrays that move one after another, U in the range chart."""
    vector = generator(seed, Stream.KRYLOV_START).standard_normal(size)
    unit: HostArray = vector / np.linalg.norm(vector)
    return unit


def replay_tangent(trajectory: Trajectory, *, progress: Progress | None = None) -> TangentGrowth:
    """Follow a random difference along a run of a file, made again up to its last snapshot.

    In the range chart: its numbers are the file's, up to rounding and what that grows to.
    Raises `TrajectoryError` if the file cannot be read, and as `tangent_growth` does.
    """
    recorded = Recorded(trajectory)
    beginning = {
        key: value
        for key, value in recorded.beginning.items()
        if key in ("initial", "forcing_norms")
    }
    config = up_to_last_snapshot(recorded)
    return tangent_growth(config, *recorded.data, progress=progress, **beginning)
