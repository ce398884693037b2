"""Growth law of the paper: the Bernoulli equation of psi = ||z - y||^2.

    dpsi/dt <= r sqrt(psi) (1 - sqrt(psi) / K)                   poster eq. (2)

For the theorems' set-up r = lambda_1 mu and K = kappa mu
(`prdsim.analysis.theory.bounds.Constants`). With equality, sqrt(psi) relaxes exponentially to K, at
the rate r / (2 K) = lambda_0 / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from prdsim.analysis.arrays import Reals
from prdsim.errors import DataError


def relaxation(t: ArrayLike, start: float, rate: float, K: float) -> Reals:
    """Return K + (start - K) exp(-rate t), which sqrt(psi) of eq. (2) is with rate = r / (2 K).

    In this form it is also defined for K = r = 0, where a residual decays to 0.
    """
    decay: Reals = np.exp(-rate * np.asarray(t, dtype=np.float64))
    return K + (start - K) * decay


@dataclass(frozen=True)
class BernoulliFit:
    """The curve found by `fit_bernoulli`; errors are standard errors.

    ``rate`` = r / (2 K) of the approach to K, which is also determined if K and r are 0;
    ``deviation`` is the root mean square error of the fit to sqrt(psi).
    """

    psi_0: float
    r: float
    K: float
    rate: float
    r_error: float
    K_error: float
    rate_error: float
    deviation: float

    def __call__(self, t: ArrayLike) -> Reals:
        """Return psi(t) of the fitted curve, with t counted from the first record."""
        return relaxation(t, sqrt(self.psi_0), self.rate, self.K) ** 2


def fit_bernoulli(time: ArrayLike, psi: ArrayLike) -> BernoulliFit:
    """Fit r and K >= 0 of eq. (2) with equality to records psi (k,) at times (k,), k >= 4.

    Least squares in sqrt(psi), through the first record. It starts at the best of a grid of
    rates, each with its best K, which is linear. The standard errors assume independent
    deviations; those of a run are not, so they only show how well the curve is determined.
    Raises `DataError` for records that are not a series, or determine no curve: constant, still
    straight at the end, or already over at the second record.
    """
    t, values = _series(time, psi, "psi", shortest=4)
    rho, t = np.sqrt(values), t - t[0]
    # From a hundredth over the whole time to e^-10 left at the second record.
    rates = np.geomspace(0.01 / t[-1], 10.0 / t[1], 200)
    start = min(rates, key=lambda rate: _misfit(t, rho, rate))
    if start in (rates[0], rates[-1]) or np.ptp(rho) == 0.0:
        raise DataError(
            "psi determines no Bernoulli curve: it ends where it begins, is still straight at the "
            "end, or is over at the second record; record longer or more often"
        )
    K = _best_K(t, rho, start)
    scale = float(np.max(rho))

    def deviations(parameters: Reals) -> Reals:
        rate, K = parameters * (start, scale)
        return (relaxation(t, rho[0], rate, K) - rho) / scale

    solution = least_squares(
        deviations, (1.0, K / scale), bounds=(0.0, np.inf), xtol=1e-12, ftol=1e-12, gtol=1e-12
    )
    rate, K = (float(value) for value in solution.x * (start, scale))
    return _with_errors(t, rho, rate, K)


def _best_K(t: Reals, rho: Reals, rate: float) -> float:
    """The K >= 0 of least squares: rho - rho_0 e^(-rate t) = K (1 - e^(-rate t))."""
    grown = -np.expm1(-rate * t)
    return max(0.0, float(grown @ (rho - rho[0] * (1.0 - grown)) / (grown @ grown)))


def _misfit(t: Reals, rho: Reals, rate: float) -> float:
    return float(np.sum((relaxation(t, rho[0], rate, _best_K(t, rho, rate)) - rho) ** 2))


def _with_errors(t: Reals, rho: Reals, rate: float, K: float) -> BernoulliFit:
    """Standard errors from the Jacobian J in (rate, K): covariance s^2 (J^T J)^-1."""
    left = relaxation(t, rho[0], rate, K) - rho
    decay = np.exp(-rate * t)
    J = np.stack([-(rho[0] - K) * t * decay, 1.0 - decay], axis=1)
    try:
        covariance = np.linalg.inv(J.T @ J) * (left @ left) / (len(t) - 2)
    except np.linalg.LinAlgError:
        raise DataError("psi determines no Bernoulli curve: it begins where it ends") from None
    slope = np.array([2.0 * K, 2.0 * rate])  # of r = 2 rate K
    return BernoulliFit(
        psi_0=float(rho[0] ** 2),
        r=2.0 * rate * K,
        K=K,
        rate=rate,
        r_error=sqrt(slope @ covariance @ slope),
        K_error=sqrt(covariance[1, 1]),
        rate_error=sqrt(covariance[0, 0]),
        deviation=sqrt(float(np.mean(left**2))),
    )


@dataclass(frozen=True)
class Plateau:
    """The final ``level`` of a residual, averaged ``since`` a time, and whether it has settled.

    ``drift`` is the change of the mean from the previous tenth of time; see `plateau`.
    """

    level: float
    since: float
    drift: float
    settled: bool


def plateau(time: ArrayLike, sqrt_psi: ArrayLike) -> Plateau:
    """Return the mean of sqrt(psi) (k,) over the records in the last tenth of time (k,).

    Settled if it differs from the mean over the tenth before by no more than 1 % of itself plus a
    millionth of the largest record, which counts as 0.
    Raises `DataError` if the records are not a series, or one of the two tenths has no record.
    """
    t, rho = _series(time, sqrt_psi, "sqrt(psi)", shortest=2)
    since, before = (t[-1] - share * (t[-1] - t[0]) for share in (0.1, 0.2))
    last, earlier = rho[t >= since], rho[(t >= before) & (t < since)]
    if not len(earlier):
        raise DataError("sqrt(psi): too few records for a plateau; record scalars more often")
    level = float(np.mean(last))
    drift = level - float(np.mean(earlier))
    settled = abs(drift) <= 0.01 * level + 1e-6 * float(np.max(rho))
    return Plateau(level, float(since), drift, settled)


def _series(time: ArrayLike, values: ArrayLike, name: str, *, shortest: int) -> tuple[Reals, Reals]:
    t, series = (np.asarray(array, dtype=np.float64) for array in (time, values))
    if t.ndim != 1 or t.shape != series.shape or len(t) < shortest:
        raise DataError(
            f"{name}: needs {shortest} or more records, each with its time; got shapes "
            f"{series.shape} and {t.shape}"
        )
    if not (np.all(np.isfinite(series)) and np.all(series >= 0.0)):
        raise DataError(f"{name}: must be finite and not negative")
    if not np.all(np.diff(t) > 0.0):
        raise DataError(f"{name}: times must increase")
    return t, series
