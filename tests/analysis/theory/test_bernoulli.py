"""The growth law against an ODE solver, and the fit against planted parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from prdsim.analysis.theory.bernoulli import fit_bernoulli, plateau, relaxation
from prdsim.errors import DataError

TIME = np.linspace(0.0, 12.0, 241)


def bernoulli(t, psi_0, r, K):
    return relaxation(t, np.sqrt(psi_0), r / (2 * K), K) ** 2


def solved(slope, start):
    solution = solve_ivp(slope, (0, 12), [start], t_eval=TIME, rtol=1e-10, atol=1e-12)
    return solution.y[0]


@pytest.mark.parametrize("start", [0.04, 4.0, 25.0])
def test_bernoulli_solves_its_equation(start):
    wanted = solved(lambda _, psi: 0.8 * np.sqrt(psi) * (1 - np.sqrt(psi) / 2.0), start)
    # Errors of the solver at rtol 1e-10, summed over its steps.
    assert np.allclose(bernoulli(TIME, start, 0.8, 2.0), wanted, rtol=1e-8)


def test_growth_from_nothing():
    """It needs no seed: growth begins as (r t / 2)^2."""
    assert bernoulli(1e-4, 0.0, 0.8, 2.0) == pytest.approx((0.8e-4 / 2) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    ("psi_0", "r", "K"), [(25.0, 0.8, 2.0), (0.01, 3.0, 1.0), (9.0, 0.01, 0.01)]
)
@pytest.mark.parametrize("start", [0.0, 7.0])
def test_planted_parameters_are_found(psi_0, r, K, start):
    fit = fit_bernoulli(start + TIME, bernoulli(TIME, psi_0, r, K))
    # The objective is 0 there; gtol 1e-12 on a scaled problem.
    assert (fit.r, fit.K, fit.rate) == pytest.approx((r, K, r / (2 * K)), rel=1e-6)
    assert max(fit.r_error, fit.K_error) < 1e-6
    assert fit.deviation < 1e-8
    assert np.allclose(fit(TIME), bernoulli(TIME, psi_0, r, K), rtol=1e-6)


def test_decay_to_nothing_is_the_curve_with_k_and_r_0():
    fit = fit_bernoulli(TIME, 9.0 * np.exp(-TIME))
    assert fit.rate == pytest.approx(0.5, rel=1e-6)
    assert (fit.r, fit.K) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_records_at_uneven_times_give_the_same_curve():
    time = np.concatenate([[0.0], np.geomspace(0.01, 30.0, 25)])
    fit = fit_bernoulli(time, bernoulli(time, 16.0, 1.5, 1.0))
    assert (fit.r, fit.K) == pytest.approx((1.5, 1.0), rel=1e-6)


def test_standard_errors_are_the_scatter_of_fits_to_noise():
    """100 draws: a standard deviation is known to 1 / sqrt(200) = 7 %; three times that."""
    rng = np.random.default_rng(0)
    rho = np.sqrt(bernoulli(TIME, 25.0, 0.8, 2.0))
    fits = []
    for _ in range(100):
        noise = 0.01 * rng.standard_normal(len(TIME))
        noise[0] = 0.0  # the curve goes through the first record
        fits.append(fit_bernoulli(TIME, (rho + noise) ** 2))
    for name in ("r", "K", "rate"):
        values = np.array([getattr(fit, name) for fit in fits])
        errors = np.array([getattr(fit, f"{name}_error") for fit in fits])
        assert np.std(values) == pytest.approx(np.mean(errors), rel=0.22)
    assert np.mean([fit.K for fit in fits]) == pytest.approx(2.0, abs=5e-4)


@pytest.mark.parametrize(
    "psi",
    [
        np.full(241, 4.0),
        np.zeros(241),
        (5.0 - 1e-5 * TIME) ** 2,
        np.concatenate([[25.0], np.full(240, 4.0)]),
    ],
    ids=["constant", "zero", "straight", "over at once"],
)
def test_records_that_determine_no_curve_are_refused(psi):
    with pytest.raises(DataError, match="psi determines no Bernoulli curve"):
        fit_bernoulli(TIME, psi)


@pytest.mark.parametrize(
    ("time", "psi", "message"),
    [
        ([0, 1, 2], [3, 2, 1], "4 or more records"),
        ([0, 1, 2, 3], [3, 2, 1], "each with its time"),
        ([0, 1, 1, 3], [3, 2, 1, 1], "times must increase"),
        ([0, 1, 2, 3], [3, 2, -1, 1], "finite and not negative"),
        ([0, 1, 2, 3], [3, 2, np.nan, 1], "finite and not negative"),
    ],
)
def test_what_is_no_series_is_refused(time, psi, message):
    with pytest.raises(DataError, match=message):
        fit_bernoulli(time, psi)


def test_plateau_is_the_mean_of_the_last_tenth():
    rho = 2.0 + 3.0 * np.exp(-TIME)
    found = plateau(TIME, rho)
    assert found.since == pytest.approx(10.8)
    last, before = np.mean(rho[216:]), np.mean(rho[192:216])
    assert (found.level, found.drift) == (last, last - before)
    assert found.settled


def test_what_still_falls_or_grows_has_not_settled():
    assert not plateau(TIME, 3.0 * np.exp(-0.3 * TIME)).settled
    assert not plateau(TIME, 1.0 + TIME).settled


def test_a_residual_that_is_gone_has_settled_at_0():
    found = plateau(TIME, 3.0 * np.exp(-2.0 * TIME))
    assert found.settled
    assert found.level < 1e-8


def test_a_plateau_needs_records():
    with pytest.raises(DataError, match="too few records for a plateau"):
        plateau([0.0, 1.0], [3.0, 2.0])
