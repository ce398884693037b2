"""The automatic step size: 1 / lambda_max of the tangent kernel at t = 0."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from prdsim.backends.numpy import NumpyBackend

from .charts import WeightChart
from .config import RunConfig
from .errors import ConfigError
from .gradients import forward, tangent_kernel_product
from .model import State, build_model
from .randomness import Stream, generator

if TYPE_CHECKING:
    from .backends.base import HostArray

_ITERATIONS = 500
_TOLERANCE = 1e-6  # relative change of the Rayleigh quotient; two digits are kept


def automatic_step_size(
    config: RunConfig, X: HostArray, Y: HostArray, initial: dict[str, HostArray]
) -> float:
    """Return 1 / lambda_max of K = J J^T at t = 0, rounded down to two significant digits.

    J is the Jacobian of the prediction Z in the arrays of U, V that move; the flow of L_sup is
    stable for Euler steps below 2 / lambda_max. Found by power iteration, matrix-free, on the
    host in float64, so that every backend and precision takes the same step. Raises
    `ConfigError` where no step follows: U and V frozen, or no neuron active.
    """
    host = NumpyBackend(threads=config.threads)
    with host.active():
        largest = _largest_eigenvalue(config, host, X, Y, initial)
    if not largest > 0.0:
        raise ConfigError(
            "step_size auto: the tangent kernel is zero (U and V frozen, or all inactive); "
            "give --step-size a number"
        )
    return round_down(1.0 / largest)


def _largest_eigenvalue(
    config: RunConfig,
    host: NumpyBackend,
    X: HostArray,
    Y: HostArray,
    initial: dict[str, HostArray],
) -> float:
    model = build_model(config, host, WeightChart(host, X, initial["U"]), X, Y)
    if not {"U", "V"} & set(model.moving):
        return 0.0
    state = model.start(initial)
    velocity = State.empty(host, model.state_shapes, model.moving)
    forward(model, state)
    E = np.empty(Y.shape)
    generator(config.seed, Stream.POWER_ITERATION).standard_normal(out=E)
    largest = 0.0
    for _ in range(_ITERATIONS):
        E /= sqrt(np.sum(E**2))
        tangent_kernel_product(model, state, E, velocity)
        previous, largest = largest, float(np.sum(E * model.work.Z))
        if largest == 0.0 or abs(largest - previous) <= _TOLERANCE * largest:
            break
        E[...] = model.work.Z
    return largest


def round_down(value: float) -> float:
    """Return a positive number rounded down to two significant digits."""
    number = Decimal(str(value))  # the shortest text of the number: 0.29 stays 0.29
    unit = Decimal(1).scaleb(number.adjusted() - 1)
    return float(number.quantize(unit, rounding=ROUND_FLOOR))
