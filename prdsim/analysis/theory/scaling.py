"""How reaction and diffusion scale with the sizes at the initial draw.

The paper's Theorem 3 bounds both by products of powers of n, d_in, m and d_out (`BOUNDS`). Bounds
are not typical values. Those follow from the second moments of eqs. 52-55 over the initial draw,
`initial_mean_squares`, and are measured by `measure_scaling`, which varies one size at a time.

A neuron's mean square is a sum over pairs of samples p, q, of kernels of the angle between x_p and
x_q. The n pairs p = q add up like independent samples, pairs p != q according to their coherence:
`white_noise_mean_squares` separates them; `INDEPENDENT` and `COHERENT` are the two extremes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prdsim.analysis.theory.arc_cosine import arc_cosine_kernels, both_active, cosines
from prdsim.analysis.theory.forces import FORCES, Forces
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.physics.randomness import Stream, generator
from prdsim.running.snapshot_model import cpu_backend

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend


class Sizes(NamedTuple):
    """Samples n, inputs d_in, neurons m (of the critic too), outputs d_out."""

    n: int
    d_in: int
    m: int
    d_out: int


class Exponents(NamedTuple):
    """A product of powers of the sizes."""

    n: float
    d_in: float
    m: float
    d_out: float

    def at(self, sizes: Sizes) -> float:
        """Return the product at given sizes, with the constant 1."""
        return float(np.prod(np.power(np.asarray(sizes, np.float64), self)))


BASE = Sizes(n=128, d_in=32, m=128, d_out=8)
"""The sizes that `measure_scaling` varies by default."""

BOUNDS = {
    "reaction_U": Exponents(1, 1, -0.5, 0.5),
    "diffusion_U": Exponents(1, 1, 2, 1.5),
    "reaction_V": Exponents(1, 1, -0.5, 0.5),
    "diffusion_V": Exponents(1, 1, 2, 0.5),
}
"""Theorem 3: the paper's bounds on the norms, up to constants."""

INDEPENDENT = {
    "reaction_U": Exponents(0.5, 0, -0.5, -0.5),
    "diffusion_U": Exponents(0.5, 0, -0.5, 0),
    "reaction_V": Exponents(0.5, 0, -0.5, -0.5),
    "diffusion_V": Exponents(0.5, 0, -0.5, 0),
}
"""Typical values for white noise, 1 << d_out << m, where pairs p = q dominate."""

COHERENT = {
    "reaction_U": Exponents(1, -0.5, -0.5, -0.5),
    "diffusion_U": Exponents(1, -0.5, -0.5, 0),
    "reaction_V": Exponents(1, 0, -0.5, -0.5),
    "diffusion_V": Exponents(1, 0, -0.5, 0),
}
"""The same where pairs p != q dominate: n >> d_in for U, n >> 1 for V, whatever d_in."""


# -- prediction ------------------------------------------------------------------------------------


def initial_mean_squares(
    X: HostArray, Y: HostArray, m: int, *, init_scale: float = 1.0, output_init: str = "rademacher"
) -> dict[str, float]:
    """Return the expected squares of the norms at the start.

    Expectation over the initial draw of U, V, W, a with m neurons, given X (d_in, n) and Y
    (d_out, n), D = 1; by the names of `FORCES`. With s^2 = 1/(d_out m), sigma = ``init_scale``,
    h = relu(u . x), k_0 = P(u.x_p >= 0, u.x_q >= 0), k_1 = E[h_p h_q], k_2 = E[h_p^2 h_q^2] the
    arc-cosine kernels, and f = d_out, or d_out + 2 where V is normal,

        E||R^u_j||^2 = s^2 sum_pq [k_0 (y_p.y_q + (1 - 1/m) k_1) + (f/m) k_1] x_p.x_q
        E||R^v_j||^2 = s^2 sum_pq [k_1 (y_p.y_q + (1 - 1/m) k_1) + k_2/m]
        E||Delta^u_j||^2 = s^2 d_out sum_pq k_0 c_pq x_p.x_q
        E||Delta^v_j||^2 = s^2 d_out sum_pq k_1 c_pq,   c_pq = (pi - arccos rho_pq) / (2 pi)

    with rho the correlation k_1(p, q) / sqrt(k_1(p, p) k_1(q, q)) of the predictions at x_p and
    x_q. Reaction: exact, at any sizes; the terms in 1/m are the neuron's own part of Z. Diffusion:
    exact for n = 1, else up to a relative error of order 1/m; the critic's width drops out.
    Needs memory for a few arrays of n^2 numbers.
    """
    d_out, s_squared = Y.shape[0], 1 / (Y.shape[0] * m)
    fourth = d_out + 2 if output_init == "normal" else d_out  # E[(v.v)^2] / d_out
    gram, others = X.T @ X, 1 - 1 / m
    k_0, k_1, k_2 = arc_cosine_kernels(gram, init_scale)
    same_side = both_active(cosines(k_1))
    drive = Y.T @ Y + others * k_1
    sums = {
        "reaction_U": np.sum((k_0 * drive + fourth / m * k_1) * gram),
        "diffusion_U": d_out * np.sum(k_0 * same_side * gram),
        "reaction_V": np.sum(k_1 * drive + k_2 / m),
        "diffusion_V": d_out * np.sum(k_1 * same_side),
    }
    return {name: s_squared * float(total) for name, total in sums.items()}


class MeanSquare(NamedTuple):
    """The two parts of a mean square: pairs of samples p = q, and p != q."""

    independent: float
    coherent: float


def white_noise_mean_squares(sizes: Sizes, *, init_scale: float = 1.0) -> dict[str, MeanSquare]:
    """Return `initial_mean_squares` in closed form for data of `white_noise_data`, V Rademacher.

    Averaged over the data, where cos(x_p, x_q) has mean 0 and variance 1/d_in, to leading order in
    1/d_in: for V, kernels of pairs p != q at right angles; for U, whose pairs are weighted by the
    cosine, their slopes there.
    """
    n, d_in, m, d_out = sizes
    variance = init_scale**2
    s_squared, others, pairs = 1 / (d_out * m), 1 - 1 / m, n * (n - 1)
    # To first order in the cosine c at a right angle: k_0 = 1/4 + c/(2 pi),
    # k_1 = variance (1/(2 pi) + c/4), k_2 = variance^2/4, correlation 1/pi + c/2 of predictions.
    k_1, k_1_slope = variance / (2 * pi), variance / 4
    same_side = float(both_active(1 / pi))
    same_side_slope = 0.5 / (2 * pi * sqrt(1 - 1 / pi**2))
    labels = 1 / d_out  # mean of y_p . y_q
    slope_U = (labels + others * k_1) / (2 * pi) + (others / 4 + d_out / m) * k_1_slope
    drive = 1 + others * variance / 2
    sums = {
        "reaction_U": (n * (drive + d_out / m * variance) / 2, pairs / d_in * slope_U),
        "diffusion_U": (
            n * d_out / 4,
            pairs / d_in * d_out * (same_side / (2 * pi) + same_side_slope / 4),
        ),
        "reaction_V": (
            n * variance * (drive + 3 * variance / m) / 2,
            pairs * (k_1 * (labels + others * k_1) + variance**2 / (4 * m)),
        ),
        "diffusion_V": (n * d_out * variance / 4, pairs * d_out * k_1 * same_side),
    }
    return {
        name: MeanSquare(s_squared * diagonal, s_squared * rest)
        for name, (diagonal, rest) in sums.items()
    }


# -- fit -------------------------------------------------------------------------------------------


class Fit(NamedTuple):
    """values = prefactor sizes^exponent; the standard error is that of the exponent."""

    exponent: float
    standard_error: float
    prefactor: float


def fit_exponent(sizes: Sequence[float] | HostArray, values: Sequence[float] | HostArray) -> Fit:
    """Fit a power law by least squares in the logarithms, with equal weights.

    The standard error follows from the residuals, so it includes curvature of the logarithms as
    well as noise. Raises `DataError` for fewer than three points, for sizes that are all the same,
    and for values without a logarithm.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise DataError(f"a power law needs three points or more, not {x.shape} and {y.shape}")
    if not (np.all(x > 0) and np.all(y > 0) and np.all(np.isfinite([x, y])) and np.ptp(x) > 0):
        raise DataError("a power law needs positive finite values at sizes that differ")
    log_x, log_y = np.log(x), np.log(y)
    centered = log_x - log_x.mean()
    spread = float(centered @ centered)
    exponent = float(centered @ log_y) / spread
    residuals = log_y - log_y.mean() - exponent * centered
    variance = float(residuals @ residuals) / (len(x) - 2)
    prefactor = float(np.exp(log_y.mean() - exponent * log_x.mean()))
    return Fit(exponent, sqrt(variance / spread), prefactor)


# -- measurement -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScalingRow:
    """One quantity against one size; a tuple has one entry for each of ``sizes``.

    ``quantity`` is one of `FORCES`, ``varied`` a field of `Sizes`. ``measured`` is the root mean
    square over neurons and draws, ``spread`` its standard error over draws, ``predicted`` the value
    of `initial_mean_squares` for the same data. ``exponent`` is fitted to ``measured``,
    ``predicted_exponent`` in the same way to ``predicted``. ``exponent_error`` is that of the fit
    (see `fit_exponent`); ``exponent_spread`` is the standard error of the exponent that follows
    from ``spread``, the scale for comparing measurement and prediction. ``bound_ratio`` is the
    paper's bound, with the constant 1, divided by ``measured``; below 1 it would not be a bound.
    """

    quantity: str
    varied: str
    sizes: tuple[int, ...]
    measured: tuple[float, ...]
    spread: tuple[float, ...]
    predicted: tuple[float, ...]
    exponent: float
    exponent_error: float
    exponent_spread: float
    predicted_exponent: float
    independent_exponent: float
    coherent_exponent: float
    bound_exponent: float
    bound_ratio: tuple[float, ...]


@dataclass(frozen=True)
class Scaling:
    """The result of `measure_scaling`: a row for every quantity and size."""

    base: Sizes
    draws: int
    rows: tuple[ScalingRow, ...]

    def row(self, quantity: str, varied: str) -> ScalingRow:
        """Return the row of one quantity and one size; raises `KeyError` if there is none."""
        for row in self.rows:
            if (row.quantity, row.varied) == (quantity, varied):
                return row
        raise KeyError(f"no row of {quantity} against {varied}")


def measure_scaling(
    base: Sizes = BASE,
    *,
    factors: Sequence[float] = (0.25, 0.5, 1, 2, 4),
    draws: int = 24,
    seed: int = 0,
    init_scale: float = 1.0,
    output_init: str = "rademacher",
    backend: Backend | str = "auto",
) -> Scaling:
    """Measure how reaction and diffusion scale with each size about ``base``; about ten seconds.

    Each of n, d_in, m, d_out takes ``base`` times the ``factors``, rounded, while the others stay
    fixed; at each such point, data of `white_noise_data` and the initial weights are drawn
    ``draws`` times, each time with a new seed, beginning with ``seed``. D = 1. ``backend`` is as
    for `Forces`. Raises `ConfigError` for fewer than two draws, ``init_scale`` 0, and if
    ``factors`` do not give three different sizes.
    """
    if draws < 2:
        raise ConfigError(f"draws must be 2 or more, not {draws}: the spread is over draws")
    if not init_scale > 0.0:
        raise ConfigError(f"init_scale = {init_scale:g}: forces that are 0 have no exponents")
    computing = cpu_backend(backend)
    config = RunConfig(diffusion=True, init_scale=init_scale, output_init=output_init)
    grids = [_grid(base, varied, factors) for varied in Sizes._fields]
    seeds, rows = count(seed), []
    for varied, grid in zip(Sizes._fields, grids, strict=True):
        points = []
        for sizes in grid:
            samples = [_draw(config, sizes, next(seeds), computing) for _ in range(draws)]
            points.append(np.array(samples))
        rows += [_row(name, varied, grid, points) for name in FORCES]
    return Scaling(base, draws, tuple(rows))


def white_noise_data(sizes: Sizes, seed: int) -> tuple[HostArray, HostArray]:
    """Draw inputs X (d_in, n), white noise of norm 1, and random one-hot labels Y (d_out, n)."""
    draw = generator(seed, Stream.SYNTHETIC_INPUTS)
    X = draw.standard_normal((sizes.d_in, sizes.n))
    labels = draw.integers(0, sizes.d_out, sizes.n)
    return X / np.sqrt(np.square(X).sum(axis=0)), np.eye(sizes.d_out)[:, labels]


def _grid(base: Sizes, varied: str, factors: Sequence[float]) -> list[Sizes]:
    size = getattr(base, varied)
    values = sorted({round(size * factor) for factor in factors})
    if len(values) < 3 or values[0] < 1:
        raise ConfigError(f"{varied} = {size} times {tuple(factors)} must be 3 sizes or more, >= 1")
    return [base._replace(**{varied: value}) for value in values]


def _draw(config: RunConfig, sizes: Sizes, seed: int, backend: Backend) -> HostArray:
    """Mean squares over neurons, measured and predicted, (2, 4), for one draw of everything."""
    config = config.replace(width=sizes.m, seed=seed)
    X, Y = white_noise_data(sizes, seed)
    initial = draw_initial(config, dimensions_of(config, sizes.d_in, sizes.d_out, sizes.n), X)
    norms = Forces(config, X, Y, backend=backend).norms(**initial, time=0.0)
    predicted = initial_mean_squares(
        X, Y, sizes.m, init_scale=config.init_scale, output_init=config.output_init
    )
    measured = [np.mean(np.square(getattr(norms, name))) for name in FORCES]
    return np.array([measured, [predicted[name] for name in FORCES]])


def _row(quantity: str, varied: str, grid: list[Sizes], points: list[HostArray]) -> ScalingRow:
    """A row from the draws at every point, each (draws, 2, 4)."""
    squares = np.array([samples[:, :, FORCES.index(quantity)] for samples in points])
    measured, predicted = np.sqrt(squares.mean(axis=1)).T
    errors = squares[:, :, 0].std(axis=1, ddof=1) / sqrt(squares.shape[1])
    spread = errors / (2 * measured)
    sizes = [getattr(point, varied) for point in grid]
    fit = fit_exponent(sizes, measured)
    bounds = [BOUNDS[quantity].at(point) for point in grid]
    return ScalingRow(
        quantity=quantity,
        varied=varied,
        sizes=tuple(sizes),
        measured=tuple(measured.tolist()),
        spread=tuple(spread.tolist()),
        predicted=tuple(predicted.tolist()),
        exponent=fit.exponent,
        exponent_error=fit.standard_error,
        exponent_spread=_passed_on(sizes, spread / measured),
        predicted_exponent=fit_exponent(sizes, predicted).exponent,
        independent_exponent=getattr(INDEPENDENT[quantity], varied),
        coherent_exponent=getattr(COHERENT[quantity], varied),
        bound_exponent=getattr(BOUNDS[quantity], varied),
        bound_ratio=tuple((bounds / measured).tolist()),
    )


def _passed_on(sizes: list[int], relative_errors: HostArray) -> float:
    """Return the standard error of an exponent from independent errors of the values."""
    x = np.log(sizes)
    centered = x - x.mean()
    return float(np.linalg.norm(centered * relative_errors) / (centered @ centered))
