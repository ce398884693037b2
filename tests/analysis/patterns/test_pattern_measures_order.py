"""Spatial order of filters: hand-made patterns, double loops, and fields of known covariance."""

from __future__ import annotations

from itertools import product
from math import e, hypot, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import EPS, normal

from prdsim.analysis import arrays
from prdsim.analysis.patterns.order import (
    correlation_length,
    morans_i,
    peak_wavelength,
    radial_autocovariance,
    radial_spectrum,
)
from prdsim.datasets.synthetic import random_fields
from prdsim.errors import ConfigError

GRIDS = [(4, 5), (5, 4), (1, 6), (6, 1), (3, 3), (2, 7), (1, 2)]
SIDE = 28


def pixels(grid: tuple[int, int]) -> list[tuple[int, int]]:
    return list(product(range(grid[0]), range(grid[1])))


def grating(grid: tuple[int, int], k: tuple[float, float], phase: float = 0.3) -> np.ndarray:
    """One sine wave of k = (down, right) cycles per pixel, (1, rows * columns)."""
    return np.array([[np.sin(2 * np.pi * (k[0] * y + k[1] * x) + phase) for y, x in pixels(grid)]])


def whole_ensemble(length: float) -> np.ndarray:
    """Filters whose second moments are those of random fields exactly, (784, 784).

    Random fields are white noise times a matrix; these are that matrix's columns, the responses to
    one pixel each, so that sums over the filters of f(x) f(y) are the covariance: no sampling.
    """
    impulses = np.eye(SIDE * SIDE).reshape(-1, SIDE, SIDE)
    return random_fields(impulses, length).reshape(SIDE * SIDE, -1)


# -------------------------------------------------------------------------------- Moran's I


def brute_morans_i(filter_: np.ndarray, grid: tuple[int, int]) -> float:
    z = dict(zip(pixels(grid), filter_ - np.mean(filter_), strict=True))
    weight = covariance = 0.0
    for a, b in product(z, z):
        if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1:
            weight += 1
            covariance += z[a] * z[b]
    return len(z) / weight * covariance / sum(value**2 for value in z.values())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_morans_i_is_the_double_loop(grid):
    """Sums of at most 40 terms of order 1, in two orders, and a mean that is rounded."""
    filters = normal(3, grid[0] * grid[1]) + 5.0
    expected = [brute_morans_i(row, grid) for row in filters]
    np.testing.assert_allclose(morans_i(filters, grid), expected, rtol=0, atol=500 * EPS)


def test_morans_i_of_a_checkerboard_and_of_half_planes():
    """Of a board with as many black as white fields, every pair is -1 and the mean 0: I = -1.

    Of halves, all P pairs are 1 but the c across the boundary: I = (P - 2 c) / P; 6 x 4 has
    P = 6 * 3 + 5 * 4 = 38. Whole numbers: exact, up to the last quotient."""
    y, x = np.indices((6, 4))
    patterns = [(-1.0) ** (y + x), np.where(y < 3, 1.0, -1.0), np.where(x < 2, 1.0, -1.0)]
    filters = np.reshape(patterns, (3, 24))
    expected = [-1.0, (38 - 2 * 4) / 38, (38 - 2 * 6) / 38]
    np.testing.assert_allclose(morans_i(filters, (6, 4)), expected, rtol=EPS)
    np.testing.assert_allclose(morans_i(7 * filters + 3, (6, 4)), expected, rtol=EPS)


@pytest.mark.parametrize("grid", [(7, 5), (1, 12), (28, 28)], ids=str)
def test_morans_i_of_white_noise_is_minus_one_over_n_minus_one(grid):
    """Over 3000 filters; the variance of I for normal pixels is Cliff and Ord's
    (N^2 S1 - N S2 + 3 w^2) / (w^2 (N^2 - 1)) - 1 / (N - 1)^2, with w the sum of weights,
    S1 = 2 w and S2 = sum_a (2 neighbors of a)^2. Four standard errors of the mean; the standard
    deviation itself has a relative error of 1 / sqrt(2 * 3000) = 0.013, if I is near normal."""
    count, (rows, columns) = 3000, grid
    n = rows * columns
    neighbors = np.zeros(grid)
    for axis in range(2):
        inner = np.ones(grid)
        inner[(slice(None),) * axis + (0,)] = 0  # none before the first
        neighbors += inner + np.flip(inner, axis)
    w = neighbors.sum()
    s1, s2 = 2 * w, np.square(2 * neighbors).sum()
    variance = (n**2 * s1 - n * s2 + 3 * w**2) / (w**2 * (n**2 - 1)) - 1 / (n - 1) ** 2
    measured = morans_i(normal(count, n, seed=4), grid)
    assert abs(measured.mean() + 1 / (n - 1)) < 4 * sqrt(variance / count)
    assert measured.std() == pytest.approx(sqrt(variance), rel=4 * 0.013)


def test_morans_i_of_smooth_fields_grows_with_their_correlation_length():
    white = normal(50, SIDE, SIDE)
    means = [
        morans_i(random_fields(white, length).reshape(50, -1), (SIDE, SIDE)).mean()
        for length in (0.0, 1.0, 2.0, 4.0)
    ]
    assert means == sorted(means)
    # Neighbors at distance 1 have correlation exp(-1 / (2 l^2)) before the mean is taken off, which
    # lowers it by less than 2 pi l^2 / 784 = 0.13 of 1 - exp(-1 / 32) at l = 4; and of 50 fields
    # with 4 independent patches each, 1 - I has a relative standard error of 0.1.
    assert means[-1] == pytest.approx(np.exp(-1 / 32), abs=0.5 * (1 - np.exp(-1 / 32)))


# --------------------------------------------------------------------------------- spectrum


def brute_spectrum(filter_: np.ndarray, grid: tuple[int, int]) -> tuple[list[float], list[float]]:
    z = np.reshape(filter_ - np.mean(filter_), grid)
    rows, columns = grid
    longer = max(grid)
    rings: dict[int, list[float]] = {}
    for p, q in pixels(grid):
        down, right = (
            (p - rows * (2 * p > rows)) / rows,
            (q - columns * (2 * q > columns)) / columns,
        )
        amplitude = sum(
            z[y, x] * np.exp(-2j * np.pi * (down * y + right * x)) for y, x in pixels(grid)
        )
        ring = int(hypot(down, right) * longer + 0.5)
        rings.setdefault(ring, []).append(abs(amplitude) ** 2 / (rows * columns))
    wanted = range(1, longer // 2 + 1)
    return [ring / longer for ring in wanted], [float(np.mean(rings[ring])) for ring in wanted]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_spectrum_is_the_double_loop(grid):
    """Sums of at most 20 terms of order 1, squared."""
    filters = normal(3, grid[0] * grid[1]) + 5.0
    frequency, power = radial_spectrum(filters, grid)
    assert power.shape == (3, len(frequency))
    for row, filter_ in zip(power, filters, strict=True):
        expected_frequency, expected = brute_spectrum(filter_, grid)
        assert frequency.tolist() == expected_frequency
        np.testing.assert_allclose(row, expected, rtol=0, atol=1000 * EPS)


def test_a_single_pixel_and_white_noise_have_a_flat_spectrum():
    """A pixel's transform has magnitude 1 at every mode, so its power is 1 / N: exact up to the
    rounding of one transform. White noise: n modes of m filters, at least 8 n and each with a
    relative standard deviation of at most sqrt(2)."""
    impulse = np.zeros((1, 15 * 10))
    impulse[0, 37] = 1.0
    _, power = radial_spectrum(impulse, (15, 10))
    np.testing.assert_allclose(power, 1 / 150, rtol=100 * EPS)
    _, power = radial_spectrum(3.0 * normal(400, SIDE * SIDE), (SIDE, SIDE))
    np.testing.assert_allclose(power.mean(axis=0), 9.0, rtol=5 * sqrt(2 / (400 * 8 / 2)))


def test_the_spectrum_of_random_fields_is_that_they_are_made_with():
    """lambda_k = exp(-2 pi^2 l^2 k^2), normalized, averaged over rings; exact for the ensemble."""
    length = 2.0
    frequency, power = radial_spectrum(whole_ensemble(length), (SIDE, SIDE))
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    made_with = np.exp(-2 * np.pi**2 * length**2 * k**2)
    made_with /= made_with.mean()
    for bin_, center in enumerate(frequency):
        ring = (k >= center - 0.5 / SIDE) & (k < center + 0.5 / SIDE)
        # Transforms of numbers up to 0.05 are good to 1e-16, which squared is below this.
        expected = made_with[ring].mean()
        assert power[:, bin_].sum() == pytest.approx(expected, rel=1e-12, abs=1e-24)
    assert peak_wavelength(frequency, power.mean(axis=0, keepdims=True)).tolist() == [SIDE]


@pytest.mark.parametrize("cycles", [1, 2, 4, 7, 10, 14])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_grating_that_fits_the_grid_has_its_wavelength_exactly(cycles, axis):
    k = (0.0, cycles / SIDE) if axis else (cycles / SIDE, 0.0)
    frequency, power = radial_spectrum(5.0 + grating((SIDE, SIDE), k), (SIDE, SIDE))
    assert peak_wavelength(frequency, power) == pytest.approx(SIDE / cycles, rel=EPS)
    # All of it in one ring: the others hold the squared rounding of the transform.
    assert np.delete(power, np.argmax(power)).max() < 1e-24


@pytest.mark.parametrize("grid", [(28, 28), (20, 32), (1, 40)], ids=str)
def test_any_grating_has_its_wavelength_to_the_stated_resolution(grid):
    """From two cycles over the longer side to 0.4 a pixel. The nearest mode is half a mode away at
    most, along either side, and the center of its ring half a ring from it."""
    draws, longer = np.random.default_rng(8), max(grid)
    off = 0.5 * hypot(*(1 / side for side in grid if side > 1)) + 0.5 / longer
    assert off <= 1.25 / min(side for side in grid if side > 1)
    for _ in range(100):
        frequency = draws.uniform(2 / longer, 0.4)
        angle = draws.uniform(0, np.pi) if min(grid) > 1 else np.pi / 2
        k = (frequency * np.cos(angle), frequency * np.sin(angle))
        filters = grating(grid, k, draws.uniform(0, 2 * np.pi))
        (wavelength,) = peak_wavelength(*radial_spectrum(filters, grid))
        assert abs(1 / wavelength - frequency) <= off, (frequency, angle)


def test_peaks_are_per_filter_or_of_the_mean():
    filters = np.vstack([grating((8, 8), (0, 1 / 8)), 3 * grating((8, 8), (1 / 4, 0))])
    frequency, power = radial_spectrum(filters, (8, 8))
    assert peak_wavelength(frequency, power).tolist() == [8.0, 4.0]
    assert peak_wavelength(frequency, power.mean(axis=0, keepdims=True)).tolist() == [4.0]


# ----------------------------------------------------------------------- correlation length


def brute_autocovariance(
    filter_: np.ndarray, grid: tuple[int, int]
) -> tuple[list[float], list[float]]:
    z = dict(zip(pixels(grid), filter_ - np.mean(filter_), strict=True))
    rings: dict[int, list[tuple[float, float]]] = {}
    for a, b in product(z, z):
        distance = hypot(a[0] - b[0], a[1] - b[1])
        rings.setdefault(round(distance), []).append((distance, z[a] * z[b]))
    means = [np.mean(rings[ring], axis=0) for ring in sorted(rings)]
    return [float(lag) for lag, _ in means], [float(value) for _, value in means]


@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)], ids=str)
def test_the_autocovariance_is_the_double_loop(grid):
    """Sums of at most 20 terms of order 1, through a transform."""
    filters = normal(3, grid[0] * grid[1]) + 5.0
    lag, covariance = radial_autocovariance(filters, grid)
    for row, filter_ in zip(covariance, filters, strict=True):
        expected_lag, expected = brute_autocovariance(filter_, grid)
        np.testing.assert_allclose(lag, expected_lag, rtol=20 * EPS)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1000 * EPS)
    np.testing.assert_allclose(covariance[:, 0], filters.var(axis=1), atol=100 * EPS)


@pytest.mark.parametrize("length", [1.0, 1.5, 2.0, 3.0])
def test_the_correlation_length_of_random_fields(length):
    """It is l sqrt(2), but for the mean: b, its variance, is taken off, so that correlations are
    (exp(-r^2 / (2 l^2)) - b) / (1 - b), and 1/e is reached at l sqrt(-2 log((1 - b) / e + b)).

    With slope sqrt(2) / (e l) and curvature 1 / (e l^2) there, the line between lags h = 1.2 apart
    is off by at most h^2 / 8 curvature / slope = 0.13 / l, the mean over a ring one pixel wide,
    with a variance of distances below 0.1, by 0.05 / sqrt(2) / l in the same direction."""
    lag, covariance = radial_autocovariance(whole_ensemble(length), (SIDE, SIDE))
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    b = 1.0 / np.exp(-2 * np.pi**2 * length**2 * k**2).sum()
    (measured,) = correlation_length(lag, covariance.mean(axis=0, keepdims=True))
    expected = length * sqrt(-2 * log((1 - b) / e + b))
    assert -0.01 < measured - expected < 0.17 / length
    assert expected == pytest.approx(length * sqrt(2), rel=0.07)


def test_the_autocovariance_of_random_fields_is_unbiased():
    """Ring by ring, as far as periodic fields do not see themselves: to the rounding of sums."""
    length = 2.0
    _, covariance = radial_autocovariance(whole_ensemble(length), (SIDE, SIDE))
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    b = 1.0 / np.exp(-2 * np.pi**2 * length**2 * k**2).sum()
    offsets = np.arange(-SIDE + 1, SIDE)
    distance = np.hypot(offsets[:, None], offsets[None, :])
    pairs = np.multiply.outer(SIDE - abs(offsets), SIDE - abs(offsets))
    law = np.exp(-(distance**2) / (2 * length**2)) - b
    for ring in range(8):
        inside = np.rint(distance) == ring
        expected = np.average(law[inside], weights=pairs[inside])
        # At lag 8, the nearest image is 20 pixels off: exp(-20^2 / 8) = 2e-22. The grid's
        # resolution cuts the spectrum at exp(-2 pi^2 l^2 / 4) = 3e-9, with 4 * 28 modes near it.
        assert covariance[:, ring].sum() == pytest.approx(expected, abs=1e-8)


def test_each_random_field_has_about_the_correlation_length_of_all():
    """200 fields of about 28^2 / (4 pi l^2) = 15 patches: single ones scatter, the median less."""
    fields = random_fields(normal(200, SIDE, SIDE, seed=6), 2.0).reshape(200, -1)
    lag, covariance = radial_autocovariance(fields, (SIDE, SIDE))
    each = correlation_length(lag, covariance)
    assert each.shape == (200,)
    (mean,) = correlation_length(lag, covariance.mean(axis=0, keepdims=True))
    # A field of 15 patches has a relative error of about sqrt(1 / 15) = 0.26, 200 of 0.018.
    assert np.median(each) == pytest.approx(mean, rel=4 * 0.018)
    assert each.std() / mean < 2 * 0.26


def test_white_noise_has_the_shortest_correlation_length():
    """From 1 at lag 0 a line to -1 / (N - 1) at the first ring, whose lag is (d + s sqrt(2)) /
    (d + s) of d = 2 * 28 * 27 pairs side by side and s = 2 * 27^2 on diagonals."""
    lag, covariance = radial_autocovariance(np.eye(SIDE * SIDE), (SIDE, SIDE))
    side, diagonal = 2 * 28 * 27, 2 * 27**2
    first = (side + diagonal * sqrt(2)) / (side + diagonal)
    assert lag[1] == pytest.approx(first, rel=100 * EPS)
    (measured,) = correlation_length(lag, covariance.mean(axis=0, keepdims=True))
    expected = first * (1 - 1 / e) / (1 + 1 / (SIDE * SIDE - 1))
    assert measured == pytest.approx(expected, rel=1e-12)  # sums of 784 filters
    assert measured == pytest.approx(0.76, abs=0.01)


def test_correlation_length_of_hand_made_curves():
    """With covariances e, 2, 0 at lags 0, 1, 3 the line from 2 to 0 is 1 at lag 2."""
    curves = [[e, 2.0, 0.0], [2 * e, 4.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [e, -e, 9.0]]
    expected = [2.0, 2.0, np.nan, np.nan, (1 - 1 / e) / 2]
    np.testing.assert_allclose(correlation_length([0.0, 1.0, 3.0], curves), expected, rtol=8 * EPS)


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_every_filter_that_varies_has_a_correlation_length_on_its_grid(rows, columns, data):
    """Summed over all pairs, z(x) z(y) is (sum z)^2 = 0: some covariance must be negative."""
    n = rows * columns
    values = data.draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    (length,) = correlation_length(*radial_autocovariance([values], (rows, columns)))
    if len(set(values)) == 1:
        assert np.isnan(length)
    else:
        assert 0.0 < length <= hypot(rows - 1, columns - 1)


# ------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7e5])
def test_constant_filters_are_without_order_beside_others(value):
    """0.1 is not its own mean once rounded: what is left must not count as a pattern."""
    filters = np.vstack([np.full(49, value), normal(49)])
    grid = (7, 7)
    for measured in (
        morans_i(filters, grid),
        peak_wavelength(*radial_spectrum(filters, grid)),
        correlation_length(*radial_autocovariance(filters, grid)),
    ):
        assert np.isnan(measured).tolist() == [True, False]
    assert not radial_spectrum(filters, grid)[1][0].any()
    assert not radial_autocovariance(filters, grid)[1][0].any()


def test_one_pixel_has_no_order():
    assert np.isnan(morans_i([[2.0]], (1, 1))).tolist() == [True]
    frequency, power = radial_spectrum([[2.0]], (1, 1))
    assert frequency.shape == (0,)
    assert power.shape == (1, 0)
    with pytest.raises(ConfigError, match="frequency is empty"):
        peak_wavelength(frequency, power)
    assert np.isnan(correlation_length(*radial_autocovariance([[2.0]], (1, 1)))).tolist() == [True]


def test_float32_and_whole_numbers_are_computed_in_float64():
    filters = normal(2, 20).astype(np.float32)
    wide = filters.astype(np.float64)
    for measure in (radial_spectrum, radial_autocovariance):
        for low, high in zip(measure(filters, (4, 5)), measure(wide, (4, 5)), strict=True):
            assert low.dtype == np.float64
            assert np.array_equal(low, high)
    bytes_ = np.array([[200, 0, 200, 0]], dtype=np.uint8)
    assert morans_i(bytes_, (1, 4)).tolist() == [-4 * 3 / (3 * 4)]


def test_blocks_of_neurons_change_nothing(monkeypatch):
    """Up to the order in which a product of another size sums a ring."""
    filters, grid = normal(10, 30), (5, 6)
    whole = [measure(filters, grid)[1] for measure in (radial_spectrum, radial_autocovariance)]
    for numbers in (1, 300):
        monkeypatch.setattr(arrays, "BLOCK", numbers)
        for measure, expected in zip((radial_spectrum, radial_autocovariance), whole, strict=True):
            np.testing.assert_allclose(measure(filters, grid)[1], expected, atol=100 * EPS)


@pytest.mark.parametrize("measure", [morans_i, radial_spectrum, radial_autocovariance])
@pytest.mark.parametrize("grid", [(2, 4), (-2, -3)])
def test_filters_that_do_not_fit_are_refused(measure, grid):
    words = f"grid is {grid[0]} x {grid[1]}, but the filters have 6 weights each"
    with pytest.raises(ConfigError, match=words):
        measure(np.ones((2, 6)), grid)


@pytest.mark.parametrize("measure", [peak_wavelength, correlation_length])
def test_curves_that_do_not_fit_are_refused(measure):
    with pytest.raises(ConfigError, match=r"must be \(m, bins\) for .* \(bins,\)"):
        measure([1.0, 2.0], [[1.0, 2.0, 3.0]])
