"""The synthetic data set: random fields as inputs, a random network as teacher."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prdsim.datasets.base import Source
from prdsim.datasets.reading import check_memory
from prdsim.errors import ConfigError
from prdsim.physics.randomness import Stream, generator
from prdsim.symbols import Split, Target

GRID = (28, 28)
TEACHER_WIDTH = 64
_LONGEST = 1e6  # pixels; fields are constant long before that
_INPUT_STREAMS = {"train": Stream.SYNTHETIC_INPUTS, "test": Stream.SYNTHETIC_TEST_INPUTS}


def make_synthetic(
    n: int,
    *,
    seed: int,
    split: Split,
    target: Target,
    outputs: int,
    correlation_length: float,
    spectrum: str | None = None,
) -> Source:
    """Draw n samples; a smaller draw of the same seed is the beginning of a larger one.

    Inputs are `random_fields` of the given correlation length, or `waves` of the ring of
    ``spectrum``; "train" and "test" are two draws with one teacher. Targets: for "labels" the index
    of the largest of the teacher's ``outputs`` outputs, for "scalar" the single output of a
    teacher; see `teach`.
    """
    if not 0 <= correlation_length <= _LONGEST:
        raise ConfigError(
            f"correlation_length must be 0 to {_LONGEST:g} pixels, not {correlation_length}"
        )
    d_in = GRID[0] * GRID[1]
    needed = 8 * (3 * n * d_in + (n + TEACHER_WIDTH) * outputs)
    what = f"{n} synthetic samples of {outputs} outputs"
    check_memory(what, needed, "lower `samples` or `outputs`", ConfigError)
    white = generator(seed, _INPUT_STREAMS[split]).standard_normal((n, *GRID))
    kind = f"fields of correlation length {correlation_length:g}" if correlation_length else "noise"
    if spectrum is None:
        X = random_fields(white, correlation_length).reshape(n, d_in)
    else:
        X = waves(white, int(spectrum.removeprefix("ring:"))).reshape(n, d_in)
        kind = f"waves of {spectrum}"
    description = f"synthetic {kind}, {split} part"
    Y: NDArray[np.int64] | NDArray[np.float64] | None = None
    classes = None
    if target == "labels":
        Y = np.argmax(teach(X, outputs, seed), axis=0)
        classes = outputs
    elif target == "scalar":
        Y = teach(X, 1, seed).T
    return Source("synthetic", description, X, Y, classes, GRID)


def random_fields(white: NDArray[np.float64], correlation_length: float) -> NDArray[np.float64]:
    """Filter white noise, shape (n, rows, columns), into periodic Gaussian random fields.

    With l the correlation length in pixels, each Fourier mode k (cycles per pixel) is multiplied by
    the root of lambda_k = exp(-2 pi^2 l^2 |k|^2), divided by the mean of all lambda_k. Every pixel
    keeps variance 1, and two pixels at distance r covary by exp(-r^2 / (2 l^2)), wrapped around the
    edges and limited to the grid's resolution. l = 0 returns the white noise itself.
    """
    if correlation_length == 0:
        return white
    exponent = -2.0 * np.pi**2 * correlation_length**2
    return _filtered(white, lambda squared: np.exp(exponent * squared))


def waves(white: NDArray[np.float64], ring: int) -> NDArray[np.float64]:
    """Filter white noise, shape (n, rows, columns), into waves of one ring of wavenumbers.

    The modes whose |k|, in cycles along the longer side, rounds to the ring's number: those of one
    bin of `prdsim.analysis.patterns.order.radial_spectrum`, all alike. Pixels have variance 1.
    """
    longer = max(white.shape[-2:])
    return _filtered(white, lambda squared: np.floor(np.sqrt(squared) * longer + 0.5) == ring)


def _filtered(
    white: NDArray[np.float64], power: Callable[[NDArray[np.float64]], NDArray[Any]]
) -> NDArray[np.float64]:
    """Give white noise a power for each |k|^2 in (cycles per pixel)^2, of mean 1 over the modes."""
    rows, columns = white.shape[-2:]
    down, across = np.fft.fftfreq(rows)[:, None] ** 2, np.fft.fftfreq(columns)[None, :] ** 2
    half = np.fft.rfftfreq(columns)[None, :] ** 2
    gain = np.sqrt(power(down + half) / power(down + across).mean())
    return np.fft.irfft2(np.fft.rfft2(white) * gain, s=(rows, columns))


def teach(X: NDArray[np.float64], outputs: int, seed: int) -> NDArray[np.float64]:
    """Compute the outputs, shape (outputs, n), of a random two-layer ReLU teacher for X (n, d_in).

    y = V relu(U x / ||x||) / sqrt(h (1/2 - 1/(2 pi))) with h = 64 hidden neurons, U standard
    normal, and V standard normal less the mean of each row. The divisor is sqrt(h) times the
    standard deviation of relu(N(0, 1)), and V without its mean ignores the neurons' common mode:
    for white noise each output has mean about 0 and variance about 1, whatever the scale of x.
    """
    draws = generator(seed, Stream.SYNTHETIC_TEACHER)
    U = draws.standard_normal((TEACHER_WIDTH, X.shape[1]))
    V = draws.standard_normal((outputs, TEACHER_WIDTH))
    V -= V.mean(axis=1, keepdims=True)
    directions = X / np.sqrt(np.square(X).sum(axis=1))[:, None]
    hidden = np.maximum(_product(U, directions.T), 0.0)
    return _product(V, hidden) / math.sqrt(TEACHER_WIDTH * (0.5 - 0.5 / math.pi))


def _product(A: NDArray[np.float64], B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return A B as a sum of outer products: unlike BLAS, the same bits for any thread count."""
    total = np.zeros((A.shape[0], B.shape[1]))
    for column, row in zip(A.T, np.ascontiguousarray(B), strict=True):
        total += np.multiply.outer(column, row)
    return total
