"""How unevenly a quantity, such as the distances, is spread over the neurons."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import non_negative


def coefficient_of_variation(values: ArrayLike) -> float:
    """Return the standard deviation over the mean, of numbers >= 0, shape (m,).

    The deviation is the population's (divided by m). 0 when all are equal, at most sqrt(m - 1),
    when one alone is not 0; NaN when all are 0, as distances are at t = 0: nothing is spread.

    Raises:
        ConfigError: a number is negative or not finite, or there is none.

    """
    numbers = non_negative("values", values)
    mean = float(numbers.mean())
    return float(numbers.std()) / mean if mean > 0.0 else float("nan")


def gini(values: ArrayLike) -> float:
    """Return the Gini coefficient sum_ij |x_i - x_j| / (2 m^2 mean) of numbers >= 0, shape (m,).

    0 when all are equal, (m - 1) / m when one alone is not 0; NaN when all are 0, as distances are
    at t = 0: nothing is spread. Source: C. Gini, Variabilita e mutabilita, 1912.

    Raises:
        ConfigError: a number is negative or not finite, or there is none.

    """
    numbers = np.sort(non_negative("values", values))
    m, total = len(numbers), float(numbers.sum())
    if total == 0.0:
        return float("nan")
    # Sorted, x_(i) is the larger of i - 1 pairs and the smaller of m - i.
    weights = np.arange(1 - m, m, 2)
    return float(weights @ numbers) / (m * total)
