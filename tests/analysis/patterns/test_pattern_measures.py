"""Distances, their spread, and the entries' distribution, against hand-made and SciPy's values."""

from __future__ import annotations

from math import erf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import EPS, normal

from prdsim.analysis.patterns.embedding import principal_plane, tsne
from prdsim.analysis.patterns.entries import excess_kurtosis, normal_distance, skewness
from prdsim.analysis.patterns.neurons import (
    coefficient_of_variation,
    gini,
    hidden_distances,
    top_distances,
)
from prdsim.analysis.patterns.order import (
    correlation_length,
    morans_i,
    peak_wavelength,
    radial_autocovariance,
    radial_spectrum,
)
from prdsim.analysis.patterns.subspace import effective_rank, participation_ratio, singular_values
from prdsim.analysis.patterns.synchrony import (
    alignment,
    chi_squared,
    orthogonal_groups,
    polar_order,
)
from prdsim.errors import ConfigError

amounts = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


# ---------------------------------------------------------------------------------- distances


def test_distances_are_of_rows_of_U_and_of_columns_of_V():
    U = [[3, 4, 0], [1, 1, 1]]
    assert hidden_distances(U, np.zeros((2, 3))).tolist() == [5.0, sqrt(3.0)]
    assert top_distances(U, [[0, 0, 0], [1, -2, 1]]).tolist() == [3.0, 5.0, 0.0]


def test_distances_of_float32_weights_are_computed_in_float64():
    """Of 1 and 1 + 2^-23, float32's neighbor, the difference is exact and its square is not lost;
    1e30 squared is infinite in float32."""
    start = np.array([[1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    now = np.array([[1.0 + 2.0**-23, 0.0], [1e30, 0.0]], dtype=np.float32)
    distances = hidden_distances(now, start)
    assert distances.dtype == np.float64
    assert distances.tolist() == [2.0**-23, float(np.float32(1e30))]


def test_distances_of_one_neuron_and_at_the_start():
    U = normal(1, 5)
    assert hidden_distances(U, U).tolist() == [0.0]
    assert top_distances(U, U).tolist() == [0.0] * 5


def test_distances_are_between_arrays_of_one_shape():
    with pytest.raises(ConfigError, match=r"U is \(2, 3\) and U_0 is \(3, 2\): give one array"):
        hidden_distances(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ConfigError, match=r"U_0 must have 2 axes, but its shape is \(3,\)"):
        hidden_distances(np.ones((2, 3)), np.ones(3))


# ------------------------------------------------------------------------------------- spread


def test_spread_of_hand_samples():
    # Mean 2, squares 1, 1, 0 about it.
    assert coefficient_of_variation([1, 2, 3]) == pytest.approx(sqrt(2 / 3) / 2, rel=4 * EPS)
    # |differences| of ordered pairs sum to 2 (1 + 2 + 1) = 8; 2 m^2 mean = 2 * 9 * 2 = 36.
    assert gini([3, 1, 2]) == pytest.approx(8 / 36, rel=4 * EPS)


@pytest.mark.parametrize("m", [1, 2, 7])
def test_spread_at_both_ends(m):
    """One rounding of each partial sum of m <= 7 terms: a few eps."""
    assert coefficient_of_variation([0.3] * m) == pytest.approx(0.0, abs=8 * EPS)
    assert gini([0.3] * m) == pytest.approx(0.0, abs=8 * EPS)
    alone = np.eye(1, m)[0]
    assert coefficient_of_variation(alone) == pytest.approx(sqrt(m - 1), rel=8 * EPS)
    assert gini(alone) == pytest.approx((m - 1) / m, rel=8 * EPS)


@given(amounts)
def test_gini_is_the_mean_absolute_difference(values):
    """The double loop; both sums round at most about m <= 30 and m^2 = 900 times."""
    differences = sum(abs(x - y) for x in values for y in values)
    expected = differences / (2 * len(values) * sum(values))
    assert gini(values) == pytest.approx(expected, abs=1000 * EPS)


@given(amounts, st.floats(1e-6, 1e6), st.randoms())
def test_spread_depends_neither_on_scale_nor_on_order(values, scale, random):
    """Each product rounds by eps / 2, which the coefficients, at most sqrt(29), pass on."""
    other = [scale * x for x in values]
    random.shuffle(other)
    assert gini(other) == pytest.approx(gini(values), abs=100 * EPS)
    expected = coefficient_of_variation(values)
    assert coefficient_of_variation(other) == pytest.approx(expected, abs=300 * EPS)


# ------------------------------------------------------------------------------- distribution


def test_moments_of_hand_samples():
    """A fair coin: fourth moment 1. {-1 thrice, 3}: mean 0, moments 3, 6 and 21, so that the
    skewness is 6 / 3^1.5 and the kurtosis 21 / 9. Sums of four: a few eps."""
    coin, lopsided = np.array([[5.0, 7.0], [7.0, 5.0]]), np.array([[9.0, 9.0, 9.0, 13.0]])
    assert skewness(coin) == 0.0
    assert excess_kurtosis(coin) == -2.0
    assert skewness(lopsided) == pytest.approx(6 / 3**1.5, rel=8 * EPS)
    assert skewness(-lopsided) == pytest.approx(-6 / 3**1.5, rel=8 * EPS)
    assert excess_kurtosis(lopsided) == pytest.approx(21 / 9 - 3, rel=16 * EPS)


def test_moments_agree_with_scipy():
    from scipy.stats import kurtosis, skew

    """Two orders of summing 600 terms of order 1: far below 600 eps of each."""
    entries = np.exp(normal(20, 30))
    assert skewness(entries) == pytest.approx(skew(entries, axis=None), rel=600 * EPS)
    expected = kurtosis(entries, axis=None)
    assert excess_kurtosis(entries) == pytest.approx(expected, rel=600 * EPS)


def cumulative(x: float) -> float:
    return (1 + erf(x / sqrt(2))) / 2


def test_distance_from_the_normal_of_hand_samples():
    """Of {-1, 0, 1} with sigma 1 the shares are 1/3, 2/3, 1, the normal's Phi(-1), 1/2, Phi(1): the
    differences are 1/3 - Phi(-1) = Phi(1) - 2/3 = 0.175, and 0.167 in the middle."""
    three = [[-1.0, 0.0, 1.0]]
    assert normal_distance(three, 1.0) == pytest.approx(1 / 3 - cumulative(-1), abs=4 * EPS)
    # The root mean square is sqrt(2 / 3): Phi(-1.2247) = 0.1103, and 1/3 - 0.1103 is the largest.
    assert normal_distance(three) == pytest.approx(1 / 3 - cumulative(-sqrt(1.5)), abs=4 * EPS)
    # All far to the right: the normal is done before the first entry. Far left: the reverse.
    assert normal_distance([[50.0, 60.0]], 1.0) == 1.0
    assert normal_distance([[-50.0, -60.0]], 1.0) == 1.0


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_distance_from_the_normal_agrees_with_scipy(sigma):
    from scipy.stats import kstest

    """The shares and both distribution functions are good to a few eps of 1."""
    entries = np.round(normal(11, 13), 1)  # rounded: with ties
    expected = kstest(entries.ravel(), "norm", args=(0, sigma)).statistic
    assert normal_distance(entries, sigma) == pytest.approx(expected, abs=8 * EPS)


def test_normal_entries_are_near_the_normal_and_others_are_not():
    """sqrt(n) times the distance has mean sqrt(pi / 2) log 2 = 0.87, and exceeds 2 with probability
    2 exp(-8) = 0.0007; a fitted scale makes it smaller. Skewness and kurtosis of n normal entries
    have standard errors sqrt(6 / n) and sqrt(24 / n): five of them."""
    entries = 0.1 * normal(200, 200)
    n = entries.size
    assert 0.2 < sqrt(n) * normal_distance(entries, 0.1) < 2.0
    assert sqrt(n) * normal_distance(entries) < 2.0
    assert abs(skewness(entries)) < 5 * sqrt(6 / n)
    assert abs(excess_kurtosis(entries)) < 5 * sqrt(24 / n)
    typical = [normal_distance(normal(10, 10, seed=seed), 1.0) for seed in range(1, 400)]
    # The law's standard deviation is 0.26 and there are 399; at n = 100 it is lower than its limit
    # by 0.12 / sqrt(n) of itself, 0.01 (M. A. Stephens): 0.01 + 4 * 0.26 / sqrt(399).
    assert abs(10 * np.mean(typical) - sqrt(pi / 2) * log(2)) < 0.06
    # With three times the scale, |Phi(x) - Phi(x / 3)| is largest at x = sqrt(9 log(9) / 8).
    x = sqrt(9 * log(9) / 8)
    expected = cumulative(x) - cumulative(x / 3)
    assert abs(normal_distance(entries, 0.3) - expected) < 2 / sqrt(n)


def test_shape_measures_do_not_depend_on_scale():
    """By 8, a power of two, every rounding is the same."""
    entries = normal(5, 6)
    for measure in (skewness, excess_kurtosis, normal_distance):
        assert measure(8.0 * entries) == measure(entries)
    assert normal_distance(8.0 * entries, 8.0) == normal_distance(entries, 1.0)


def test_degenerate_entries():
    for constant in (np.zeros((2, 3)), np.full((7, 3), 0.1), [[4.0]]):
        assert np.isnan(skewness(constant))
        assert np.isnan(excess_kurtosis(constant))
    assert np.isnan(normal_distance(np.zeros((2, 3))))
    assert normal_distance(np.zeros((2, 3)), 1.0) == 0.5  # all in the middle
    # Equal entries c: the root mean square is |c|, and all the normal up to 1 comes before.
    assert normal_distance([[0.5, 0.5]]) == pytest.approx(cumulative(1), abs=4 * EPS)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive(sigma):
    with pytest.raises(ConfigError, match="sigma must be a positive number, or None"):
        normal_distance([[1.0, 2.0]], sigma)


# --------------------------------------------------------------------------------- all measures

ONE_ROW = (1, 2)  # the grid of filters of two weights
MEASURES = {  # what takes one array, what errors call it, and how many axes it has
    "hidden_distances": (lambda U: hidden_distances(U, np.ones(np.shape(U))), "U", 2),
    "top_distances": (lambda V: top_distances(V, np.ones(np.shape(V))), "V", 2),
    "coefficient_of_variation": (coefficient_of_variation, "values", 1),
    "gini": (gini, "values", 1),
    "skewness": (skewness, "entries", 2),
    "excess_kurtosis": (excess_kurtosis, "entries", 2),
    "normal_distance": (normal_distance, "entries", 2),
    "morans_i": (lambda filters: morans_i(filters, ONE_ROW), "filters", 2),
    "radial_spectrum": (lambda filters: radial_spectrum(filters, ONE_ROW), "filters", 2),
    "radial_autocovariance": (lambda f: radial_autocovariance(f, ONE_ROW), "filters", 2),
    "peak_wavelength": (lambda power: peak_wavelength([0.5, 1.0], power), "power", 2),
    "correlation_length": (lambda c: correlation_length([0.0, 1.0], c), "covariance", 2),
    "singular_values": (singular_values, "change", 2),
    "effective_rank": (effective_rank, "singular values", 1),
    "participation_ratio": (participation_ratio, "singular values", 1),
    "principal_plane": (principal_plane, "neurons", 2),
    "tsne": (tsne, "neurons", 2),
    "alignment": (alignment, "vectors", 2),
    "orthogonal_groups": (orthogonal_groups, "vectors", 2),
    "polar_order": (polar_order, "vectors", 2),
    "chi_squared": (chi_squared, "signals", 2),
}


@pytest.mark.parametrize(("measure", "name", "axes"), MEASURES.values(), ids=MEASURES)
def test_measures_refuse_what_are_not_real_finite_numbers_of_their_shape(measure, name, axes):
    good = np.ones((2,) * axes)
    for values, message in [
        (good * np.nan, "holds NaN or infinity: measures need finite numbers"),
        (good * -np.inf, "holds NaN or infinity"),
        (good + 0j, "must hold real numbers of up to 64 bits, but has type complex128"),
        (good.astype(str), "must hold real numbers"),
        (good[None], f"must have {axes} axes, but its shape is"),
        (good[:0], "is empty: its shape is"),
    ]:
        with pytest.raises(ConfigError, match=f"{name} {message}"):
            measure(values)


@pytest.mark.parametrize("measure", [coefficient_of_variation, gini, effective_rank])
def test_amounts_are_0_or_more_and_those_of_nothing_are_undefined(measure):
    assert np.isnan(measure(np.zeros(4)))
    with pytest.raises(ConfigError, match="must be 0 or more, but holds -2"):
        measure([1.0, -2.0])
