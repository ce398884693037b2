"""How far each neuron has gone from where it began."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import Reals, real_array
from prdsim.errors import ConfigError


def hidden_distances(U: ArrayLike, U_0: ArrayLike) -> Reals:
    """Return ||u_j(t) - u_j(0)||, shape (m,), of the rows of U and U_0, both (m, d_in).

    Raises:
        ConfigError: their shapes differ, or they hold anything but finite real numbers.

    """
    return _row_norms(_change("U", U, U_0))


def top_distances(V: ArrayLike, V_0: ArrayLike) -> Reals:
    """Return ||v_j(t) - v_j(0)||, shape (m,), of the columns of V and V_0, both (d_out, m).

    Raises:
        ConfigError: their shapes differ, or they hold anything but finite real numbers.

    """
    return _row_norms(_change("V", V, V_0).T)


def _row_norms(rows: Reals) -> Reals:
    norms: Reals = np.linalg.norm(rows, axis=1)
    return norms


def _change(name: str, now: ArrayLike, start: ArrayLike) -> Reals:
    here, there = real_array(name, now, ndim=2), real_array(f"{name}_0", start, ndim=2)
    if here.shape != there.shape:
        raise ConfigError(
            f"{name} is {here.shape} and {name}_0 is {there.shape}: give one array of one run at "
            "two times"
        )
    return here - there
