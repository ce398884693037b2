"""Counter-based random numbers: a pure function of seed, stream and counter, with no state.

Everything random in a run comes from Philox4x64-10 (Salmon et al., 2011) under the key
(seed, stream), so that no draw depends on the order of others, and any backend can reproduce it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_WORD = 64  # bits of one word of Philox4x64's key and counter
_COUNTERS = 1 << 4 * _WORD
_AT_A_TIME = 64  # samples: temporary arrays stay below 4 KiB


class Stream(IntEnum):
    """The second word of the key: one number per use. Numbers are never reused or changed."""

    INITIAL_U = 1
    INITIAL_V = 2
    INITIAL_W = 3
    INITIAL_A = 4
    PENALTY_POINTS = 5
    OBSERVED_PENALTY_POINTS = 6
    SAMPLE_SELECTION = 7
    SYNTHETIC_INPUTS = 8
    SYNTHETIC_TEST_INPUTS = 9
    SYNTHETIC_TEACHER = 10
    KRYLOV_START = 11
    TWINS = 12
    FORCING = 13
    SHUFFLED_SAMPLES = 14
    GROUP_DEVIATIONS = 15


def uniforms(
    seed: int,
    stream: int,
    step: int,
    update: int,
    n: int,
    out: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Uniform numbers e_p in [0, 1), shape (n,), for the samples p = 0 ... n - 1.

    e_p = (word >> 11) 2^-53, where word is output word 0 of the Philox4x64-10 block with key words
    (seed, stream) and counter words (p, update, step, 0), word 0 being the least significant.

    ``seed`` lies in [0, 2^64), ``step`` and ``update`` are not negative. The result is written to
    ``out``, shape (n,), if it is given, rounded to its type.
    """
    # NumPy increments the counter, a 256-bit number, before it computes a block: start one below.
    before_first = ((step << 2 * _WORD) + (update << _WORD) - 1) % _COUNTERS
    philox = np.random.Philox(key=seed + (int(stream) << _WORD), counter=before_first)
    doubles = np.random.Generator(philox)  # (word >> 11) 2^-53, of all four words of each block
    points, blocks = np.empty(n) if out is None else out, np.empty((_AT_A_TIME, 4))
    for first in range(0, n, _AT_A_TIME):
        here = points[first : first + _AT_A_TIME]
        doubles.random(out=blocks[: here.size])
        here[:] = blocks[: here.size, 0]
    return points


def unit_normals(seed: int, stream: int, step: int, rows: int, n: int) -> NDArray[np.float64]:
    """Independent N(0, 1) numbers (rows, n): row i from `uniforms` of update i, by inversion."""
    from scipy.special import ndtri

    drawn = np.empty((rows, n))
    for update, row in enumerate(drawn):
        uniforms(seed, stream, step, update, n, out=row)
    normals: NDArray[np.float64] = ndtri(np.maximum(drawn, 2.0**-54))  # 0 would become infinite
    return normals


def permutation(seed: int, stream: int, step: int, n: int) -> NDArray[np.int64]:
    """A random order of 0 ... n - 1, int64: that of the numbers `uniforms` gives for update 0."""
    return np.argsort(uniforms(seed, stream, step, 0, n), kind="stable").astype(np.int64)


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """NumPy's generator on Philox4x64-10 with the key (seed, stream), for draws on the host.

    ``seed`` lies in [0, 2^64). A stream is used either here or in `uniforms`, never in both.
    """
    return np.random.Generator(np.random.Philox(key=seed + (int(stream) << _WORD)))
