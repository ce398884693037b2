"""Spatial order of filters: the similarity of neighboring weights on the pixel grid.

A filter is u_j or u_j(t) - u_j(0) as an image; filters are (m, rows * columns), one neuron per row,
and ``grid`` is (rows, columns). Every measure applies to the filter minus its own mean. Functions
raise `ConfigError` unless they get real, finite numbers that fit the grid, or each other.
"""

from __future__ import annotations

from math import e

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import Reals, real_array, row_blocks
from prdsim.analysis.group import Compute, Group, Measure, Values
from prdsim.analysis.recording import Recording, Snapshot
from prdsim.errors import ConfigError


def morans_i(filters: ArrayLike, grid: tuple[int, int]) -> Reals:
    """Return Moran's I of each filter, shape (m,); NaN for a constant filter.

    I = (N / w) sum_ab w_ab z_a z_b / sum_a z_a^2 over the N pixels, z the filter minus its mean,
    w_ab = 1 if a and b share an edge, else 0, and w the sum of all w_ab; pixels at the border have
    fewer neighbors. 1 is perfect order, -1 a checkerboard, and -1 / (N - 1) the expectation for
    independent pixels. Source: P. A. P. Moran, Biometrika 37, 17 (1950).
    """
    rows, columns = grid
    z = _centered(filters, grid)
    pairs = rows * (columns - 1) + (rows - 1) * columns
    across = np.einsum("jab,jab->j", z[:, :, 1:], z[:, :, :-1])
    below = np.einsum("jab,jab->j", z[:, 1:], z[:, :-1])
    squares = np.einsum("jab,jab->j", z, z)
    return _ratio(rows * columns * (across + below), pairs * squares)


def radial_spectrum(filters: ArrayLike, grid: tuple[int, int]) -> tuple[Reals, Reals]:
    """Return frequencies (bins,) in cycles per pixel and the power (m, bins) of each filter.

    Power is |sum_x z(x) exp(-2 pi i k x)|^2 / N, averaged over the modes k of a ring: a density,
    which for white noise is the variance of the pixels at every frequency. Rings are as wide as the
    resolution of the longer side, 1 / max(rows, columns), and centered on its multiples up to 1/2;
    the corners beyond hold only diagonal waves and are left out. A constant filter has no power.

    There is no window. On grids as small as images of digits it would blur a peak over two more
    rings and leak a residual mean into the first; without one, a wave that fits the grid stays in
    its ring.
    """
    z = _centered(filters, grid)
    rows, columns = grid
    longer = max(grid)
    k = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :])
    in_ring = _rings(k * longer)[:, 1 : longer // 2 + 1]
    power = np.empty((len(z), in_ring.shape[1]))
    for block in row_blocks(len(z), 2 * rows * columns):
        modes = np.square(np.abs(np.fft.fft2(z[block]))) / (rows * columns)
        power[block] = modes.reshape(len(modes), -1) @ in_ring / in_ring.sum(axis=0)
    return np.arange(1, in_ring.shape[1] + 1) / longer, power


def peak_wavelength(frequency: ArrayLike, power: ArrayLike) -> Reals:
    """Return the wavelength in pixels at the peak of each spectrum of `radial_spectrum`.

    ``power`` is (m, bins): the result is (m,). For the mean over the neurons give
    ``power.mean(axis=0, keepdims=True)``, in which strong filters weigh more. It is that of the
    ring's center, whose frequency is accurate to about 1 / min(rows, columns): a wavelength of 7
    pixels on 28 x 28 to 7^2 / 28 pixels. A wavelength as long as the grid means that no shorter one
    dominates; NaN means that there is no power at all.
    """
    frequency, power = _curves("frequency", frequency, "power", power)
    wavelength = 1.0 / frequency[np.argmax(power, axis=1)]
    return np.where(power.max(axis=1) > 0.0, wavelength, np.nan)


def radial_autocovariance(filters: ArrayLike, grid: tuple[int, int]) -> tuple[Reals, Reals]:
    """Return lags (bins,) in pixels and the autocovariance (m, bins) of each filter.

    The autocovariance at a lag is the mean of z(x) z(y) over all pairs of pixels whose distance
    rounds to the same integer; the lag is the mean of those distances. Pairs do not wrap around the
    border. The first bin, at lag 0, is the filter's variance.
    """
    z = _centered(filters, grid)
    padded = (2 * grid[0], 2 * grid[1])  # zeros around, so that nothing wraps
    down, right = (np.abs(np.fft.fftfreq(size) * size) for size in padded)
    distance = np.hypot(down[:, None], right[None, :])
    pairs = np.multiply.outer(grid[0] - down, grid[1] - right).ravel()
    in_ring = _rings(distance)[pairs > 0]
    in_ring = in_ring[:, in_ring.any(axis=0)]
    counts = pairs[pairs > 0] @ in_ring
    lag = (pairs * distance.ravel())[pairs > 0] @ in_ring / counts
    covariance = np.empty((len(z), len(lag)))
    for block in row_blocks(len(z), 4 * pairs.size):
        squared = np.square(np.abs(np.fft.rfft2(z[block], s=padded)))
        sums = np.fft.irfft2(squared, s=padded).reshape(len(squared), -1)
        covariance[block] = sums[:, pairs > 0] @ in_ring / counts
    return lag, covariance


def correlation_length(lag: ArrayLike, covariance: ArrayLike) -> Reals:
    """Return the lag in pixels at which each autocovariance first falls below 1/e of its start.

    ``lag`` and ``covariance`` (m, bins) are those of `radial_autocovariance`: the result is (m,),
    interpolated linearly between lags. For the mean over the neurons give
    ``covariance.mean(axis=0, keepdims=True)``, in which strong filters weigh more. Where the
    correlation is exp(-r^2 / (2 l^2)), it is l sqrt(2), a little less because the mean is
    subtracted; white noise has about 0.76, the grid's limit. NaN for a constant filter, and if the
    covariance stays above 1/e.
    """
    lag, covariance = _curves("lag", lag, "covariance", covariance)
    excess = covariance - covariance[:, :1] / e
    after = np.argmax(excess < 0.0, axis=1)
    neurons = np.arange(len(excess))
    high, low = excess[neurons, after - 1], excess[neurons, after]
    share = _ratio(high, high - low)
    crossing = lag[after - 1] + share * (lag[after] - lag[after - 1])
    return np.where((covariance[:, 0] > 0.0) & (after > 0), crossing, np.nan)


def _centered(filters: ArrayLike, grid: tuple[int, int]) -> Reals:
    """Filters minus their means, (m, rows, columns), exactly 0 for constant ones."""
    array = real_array("filters", filters, ndim=2)
    rows, columns = grid
    if min(rows, columns) < 1 or rows * columns != array.shape[1]:
        raise ConfigError(
            f"grid is {rows} x {columns}, but the filters have {array.shape[1]} weights each: give "
            "the rows and columns of the pixel grid"
        )
    centered = array - array.mean(axis=1, keepdims=True)
    # The mean of equal numbers may be rounded, and the difference would look like a pattern.
    centered[np.ptp(array, axis=1) == 0.0] = 0.0
    images: Reals = centered.reshape(len(array), rows, columns)
    return images


def _rings(radius: Reals) -> Reals:
    """(positions, rings): 1 where the radius of a position rounds to the index of the ring."""
    ring = np.floor(radius.ravel() + 0.5)
    members: Reals = np.equal(ring[:, None], np.arange(ring.max() + 1)).astype(np.float64)
    return members


def _curves(x_name: str, x: ArrayLike, y_name: str, y: ArrayLike) -> tuple[Reals, Reals]:
    abscissa, ordinates = real_array(x_name, x, ndim=1), real_array(y_name, y, ndim=2)
    if ordinates.shape[1] != len(abscissa):
        raise ConfigError(
            f"{y_name} is {ordinates.shape} and {x_name} is {abscissa.shape}: {y_name} must be "
            f"(m, bins) for {x_name} (bins,)"
        )
    return abscissa, ordinates


def _ratio(numerator: Reals, denominator: Reals) -> Reals:
    """Return numerator / denominator, NaN where the denominator is 0."""
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0.0)
    return out


def _prepare(recording: Recording) -> Compute:
    grid = recording.pixels

    def compute(now: Snapshot) -> Values:
        of_U, of_change = _scales(now.U, grid), _scales(now.change, grid)
        return {
            f"{name}_{what}": found[name]
            for name in of_U
            for what, found in (("U", of_U), ("change", of_change))
        }

    return compute


def _scales(filters: Reals, grid: tuple[int, int]) -> Values:
    """Return the mean Moran's I of the filters that have one, and the scales of mean curves."""
    frequency, power = radial_spectrum(filters, grid)
    lag, covariance = radial_autocovariance(filters, grid)
    moran = morans_i(filters, grid)
    known = moran[np.isfinite(moran)]
    mean = power.mean(axis=0, keepdims=True)
    peaks = peak_wavelength(frequency, mean) if len(frequency) else np.array([np.nan])
    lengths = correlation_length(lag, covariance.mean(axis=0, keepdims=True))
    return {
        "morans_i": float(np.mean(known)) if len(known) else np.nan,
        "wavelength": float(peaks[0]),  # a grid of one pixel has no frequencies
        "correlation_length": float(lengths[0]),
    }


ORDER = Group(
    "order",
    (
        Measure("morans_i_U", "Moran's I of u_j, mean over neurons"),
        Measure("morans_i_change", "Moran's I of u_j(t) - u_j(0), mean over neurons"),
        Measure("wavelength_U", "peak wavelength of the mean spectrum of u_j", "pixel"),
        Measure("wavelength_change", "peak wavelength of the mean spectrum of changes", "pixel"),
        Measure("correlation_length_U", "correlation length of u_j", "pixel"),
        Measure("correlation_length_change", "correlation length of changes", "pixel"),
    ),
    _prepare,
)
