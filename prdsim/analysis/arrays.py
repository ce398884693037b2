"""Checks of the input of every measure, and the blocks in which large inputs are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prdsim.errors import ConfigError

Reals = NDArray[np.float64]
Numbers = NDArray[np.floating]
"""Real numbers of either precision."""

BLOCK = 2**22
"""Numbers in a block: 32 MiB of float64."""


def real_array(name: str, values: ArrayLike, *, ndim: int) -> Reals:
    """Return real, finite numbers as float64, not empty and with ``ndim`` axes.

    Raises `ConfigError` for anything else; the message calls the array ``name``.
    """
    array = as_array(name, values)
    require_real(name, array.dtype)
    if array.ndim != ndim:
        raise ConfigError(f"{name} must have {ndim} axes, but its shape is {array.shape}")
    if array.size == 0:
        raise ConfigError(f"{name} is empty: its shape is {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds NaN or infinity: measures need finite numbers")
    return array.astype(np.float64, copy=False)


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return an array; raises `ConfigError` for rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ConfigError(f"{name} is not an array: its rows differ in length") from None


def require_real(name: str, dtype: np.dtype[Any]) -> None:
    """Raise `ConfigError` for a type that float64 cannot hold, such as complex numbers."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ConfigError(f"{name} must hold real numbers of up to 64 bits, but has type {dtype}")


def non_negative(name: str, values: ArrayLike) -> Reals:
    """Return a one-dimensional array of non-negative numbers as float64.

    Raises `ConfigError` for anything else.
    """
    array = real_array(name, values, ndim=1)
    if array.min() < 0.0:
        raise ConfigError(f"{name} must be 0 or more, but holds {array.min():g}")
    return array


def row_blocks(rows: int, numbers: int) -> Iterator[slice]:
    """Yield slices that cover ``rows`` rows of ``numbers`` numbers, in blocks of about `BLOCK`."""
    step = max(1, BLOCK // numbers)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
