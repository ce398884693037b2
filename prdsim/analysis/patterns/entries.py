"""The entries of a weight array compared to the normal distribution they were drawn from.

Functions raise `ConfigError` unless the entries are (m, d_in), real and finite.
"""

from __future__ import annotations

from math import isfinite, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from prdsim.analysis.arrays import Reals, real_array
from prdsim.analysis.group import Compute, Group, Measure, Values
from prdsim.analysis.recording import Recording, Snapshot
from prdsim.errors import ConfigError


def skewness(entries: ArrayLike) -> float:
    """Return the third standardized moment of all entries of an array (m, d_in); 0 if normal.

    Moments are about the entries' own mean, divided by their number. NaN for equal entries.
    """
    return float(np.mean(_standardized(entries) ** 3))


def excess_kurtosis(entries: ArrayLike) -> float:
    """Return the fourth standardized moment minus 3 of all entries of an array; 0 if normal.

    Positive: heavier tails than a normal distribution; the minimum is -2, for two equal halves.
    Moments are about the entries' own mean, divided by their number. NaN for equal entries.
    """
    return float(np.mean(_standardized(entries) ** 4)) - 3.0


def normal_distance(entries: ArrayLike, sigma: float | None = None) -> float:
    """Return the Kolmogorov-Smirnov distance of all entries of an array from N(0, sigma^2).

    That is the largest difference between the share of entries up to a value and the normal
    distribution function, 0 to 1. ``sigma`` None stands for the root mean square of the entries,
    so that only the shape counts; with a number, such as the initial scale, growth counts too. A
    sample of that normal distribution has about 0.87 / sqrt(number of entries); as the scale may be
    fitted and entries depend on each other, no p-value is given. NaN if sigma is None and all
    entries are 0, which have no shape.
    Raises `ConfigError` unless sigma is positive or None.
    """
    ordered = np.sort(real_array("entries", entries, ndim=2), axis=None)
    scale = _root_mean_square(ordered) if sigma is None else float(sigma)
    if sigma is not None and not (isfinite(scale) and scale > 0.0):
        raise ConfigError(f"sigma must be a positive number, or None for the entries' own: {sigma}")
    if scale == 0.0:
        return float("nan")
    normal = ndtr(ordered / scale)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    # The share of entries jumps at each entry: both sides of the jump count.
    return float(max(np.max(steps[1:] - normal), np.max(normal - steps[:-1])))


def _root_mean_square(numbers: Reals) -> float:
    return sqrt(float(np.mean(np.square(numbers))))


def _standardized(entries: ArrayLike) -> Reals:
    """(x - mean) / standard deviation of all entries; NaN for equal ones."""
    numbers = real_array("entries", entries, ndim=2)
    if numbers.min() == numbers.max():  # the mean of equal numbers may be rounded off them
        return np.full(numbers.shape, np.nan)
    centered: Reals = numbers - numbers.mean()
    return centered / _root_mean_square(centered)


def _prepare(recording: Recording) -> Compute:
    config = recording.config
    scale = config.init_scale if config is not None else float(np.std(recording.initial[0]))

    def compute(now: Snapshot) -> Values:
        return {
            "skewness_U": skewness(now.U),
            "kurtosis_U": excess_kurtosis(now.U),
            "ks_U": normal_distance(now.U),
            # Weights that all began at 0 have no scale to be compared to.
            "ks_initial_U": normal_distance(now.U, scale) if scale > 0.0 else np.nan,
        }

    return compute


ENTRIES = Group(
    "entries",
    (
        Measure("skewness_U", "skewness of the entries of U"),
        Measure("kurtosis_U", "excess kurtosis of the entries of U"),
        Measure("ks_U", "KS distance of the entries of U from a normal of their scale"),
        Measure("ks_initial_U", "KS distance of the entries of U from N(0, init_scale^2)"),
    ),
    _prepare,
)
