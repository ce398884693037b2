"""The number of directions in which weights move, of one change and of a whole trajectory.

Functions raise `ConfigError` unless they get real, finite numbers of the stated shape; singular
values are 0 or more.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from prdsim.analysis.arrays import Reals, non_negative, real_array, row_blocks
from prdsim.analysis.group import Group, Measure, Values
from prdsim.analysis.recording import Snapshot
from prdsim.errors import ConfigError


class ReadInBlocks(Protocol):
    """An array (K, m, d_in) that is read by `array[:, rows, :]`: a file's snapshots, or NumPy's."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, m, d_in)."""

    def __getitem__(self, key: Any) -> Any:
        """Return a part of it."""


def singular_values(change: ArrayLike) -> Reals:
    """Return the singular values of a change U(t) - U(0), (m, d_in), in descending order."""
    values = np.linalg.svd(real_array("change", change, ndim=2), compute_uv=False)
    return np.asarray(values, dtype=np.float64)


def effective_rank(values: ArrayLike) -> float:
    """Return the effective rank exp(-sum_i p_i log p_i), p = s / sum s, of singular values s.

    1 for one direction, k for k equal ones, less for k uneven ones; NaN if all are 0.
    Source: O. Roy and M. Vetterli, EUSIPCO 2007.
    """
    numbers = non_negative("singular values", values)
    total = float(numbers.sum())
    return float(np.exp(entr(numbers / total).sum())) if total > 0.0 else float("nan")


def participation_ratio(values: ArrayLike) -> float:
    """Return the participation ratio (sum_i s_i^2)^2 / sum_i s_i^4 of singular values s.

    1 for one direction, k for k equal ones. Weak directions count less than in `effective_rank`.
    NaN if all are 0. Source: R. J. Bell and P. Dean, Discuss. Faraday Soc. 50, 55 (1970).
    """
    numbers = non_negative("singular values", values)
    if numbers.max() == 0.0:
        return float("nan")
    squares = np.square(numbers / numbers.max())  # fourth powers of small numbers would be 0
    return float(squares.sum() ** 2 / np.square(squares).sum())


def trajectory_shares(snapshots: ReadInBlocks) -> Reals:
    """Return the shares (K,) of a trajectory's variance in its principal directions, descending.

    The K snapshots, (K, m, d_in), are points in m d_in dimensions; their variance is about their
    mean. The shares sum to 1, and ``shares[:k].sum()`` is the part of the motion in a space of k
    dimensions. NaN if nothing moves. Neurons are read in blocks, so that the whole array is never
    in memory; shares come from squares, so that those below about 1e-15 are rounding errors.

    A random walk of many steps in many dimensions also has shares of about 6 / (pi k)^2, 0.61,
    0.15, 0.07, ... Source: J. Antognini and J. Sohl-Dickstein, arXiv:1806.08805.
    """
    shape = snapshots.shape
    if len(shape) != 3 or 0 in shape:
        raise ConfigError(f"snapshots must be (K, m, d_in) and not empty, but are {tuple(shape)}")
    gram = np.zeros((shape[0], shape[0]))
    for rows in row_blocks(shape[1], shape[0] * shape[2]):
        block = real_array("snapshots", snapshots[:, rows, :], ndim=3).reshape(shape[0], -1)
        # Relative to the first snapshot, so that fixed weights are exactly 0 and small changes
        # keep their digits; then relative to the mean.
        moved = block - block[0]
        moved -= moved.mean(axis=0)
        gram += moved @ moved.T
    variances = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    total = float(variances.sum())
    return variances / total if total > 0.0 else np.full(shape[0], np.nan)


def _ranks(now: Snapshot) -> Values:
    values = singular_values(now.change)
    return {
        "effective_rank": effective_rank(values),
        "participation_ratio": participation_ratio(values),
    }


RANK = Group(
    "rank",
    (
        Measure("effective_rank", "effective rank of U(t) - U(0)"),
        Measure("participation_ratio", "participation ratio of U(t) - U(0)"),
    ),
    lambda _: _ranks,
)
