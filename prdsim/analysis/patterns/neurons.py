"""The neurons' distances from their initial values, their unevenness, and silent neurons.

Functions raise `ConfigError` unless they get real, finite numbers of the stated shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import Reals, non_negative, real_array
from prdsim.analysis.group import Compute, Group, Measure, Values, summarized, summary
from prdsim.analysis.recording import Recording, Snapshot
from prdsim.errors import ConfigError


def hidden_distances(U: ArrayLike, U_0: ArrayLike) -> Reals:
    """Return ||u_j(t) - u_j(0)||, shape (m,), of the rows of U and U_0, both (m, d_in)."""
    return _row_norms(_change("U", U, U_0))


def top_distances(V: ArrayLike, V_0: ArrayLike) -> Reals:
    """Return ||v_j(t) - v_j(0)||, shape (m,), of the columns of V and V_0, both (d_out, m)."""
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


def coefficient_of_variation(values: ArrayLike) -> float:
    """Return the standard deviation divided by the mean, for numbers >= 0, shape (m,).

    The deviation is the population's (divided by m). 0 if all are equal, at most sqrt(m - 1), if
    only one is not 0; NaN if all are 0, as distances are at t = 0.
    """
    numbers = non_negative("values", values)
    mean = float(numbers.mean())
    return float(numbers.std()) / mean if mean > 0.0 else float("nan")


def gini(values: ArrayLike) -> float:
    """Return the Gini coefficient sum_ij |x_i - x_j| / (2 m^2 mean) of numbers >= 0, shape (m,).

    0 if all are equal, (m - 1) / m if only one is not 0; NaN if all are 0, as distances are at
    t = 0. Source: C. Gini, Variabilita e mutabilita, 1912.
    """
    numbers = np.sort(non_negative("values", values))
    m, total = len(numbers), float(numbers.sum())
    if total == 0.0:
        return float("nan")
    # Sorted, x_(i) is the larger of i - 1 pairs and the smaller of m - i.
    weights = np.arange(1 - m, m, 2)
    return float(weights @ numbers) / (m * total)


# -- the groups ------------------------------------------------------------------------------------


def _distances(now: Snapshot) -> Values:
    return {
        **summary("distance_U", hidden_distances(now.U, now.U_0)),
        **summary("distance_V", top_distances(now.V, now.V_0)),
    }


DISTANCES = Group(
    "distances",
    (
        *summarized("distance_U", "||u_j(t) - u_j(0)||"),
        *summarized("distance_V", "||v_j(t) - v_j(0)||"),
    ),
    lambda _: _distances,
)


def _spread(now: Snapshot) -> Values:
    U, V = hidden_distances(now.U, now.U_0), top_distances(now.V, now.V_0)
    return {
        "cv_U": coefficient_of_variation(U),
        "gini_U": gini(U),
        "cv_V": coefficient_of_variation(V),
        "gini_V": gini(V),
    }


SPREAD = Group(
    "spread",
    (
        Measure("cv_U", "coefficient of variation of ||u_j(t) - u_j(0)||"),
        Measure("gini_U", "Gini coefficient of ||u_j(t) - u_j(0)||"),
        Measure("cv_V", "coefficient of variation of ||v_j(t) - v_j(0)||"),
        Measure("gini_V", "Gini coefficient of ||v_j(t) - v_j(0)||"),
    ),
    lambda _: _spread,
)


def _activity(recording: Recording) -> Compute:
    X, _ = recording.samples

    def compute(now: Snapshot) -> Values:
        gates = now.U @ X >= 0.0
        active = gates.any(axis=1)
        moved = hidden_distances(now.U, now.U_0)[active]
        return {
            "active_gates": float(np.mean(gates)),
            "inactive_neurons": float(np.mean(~active)),
            "cv_active_U": coefficient_of_variation(moved) if len(moved) else np.nan,
            "gini_active_U": gini(moved) if len(moved) else np.nan,
        }

    return compute


ACTIVITY = Group(
    "activity",
    (
        Measure("active_gates", "share of gates 1{u_j.x_p >= 0} that are open"),
        Measure("inactive_neurons", "share of neurons that no sample activates"),
        Measure("cv_active_U", "as cv_U, of the neurons that some sample activates"),
        Measure("gini_active_U", "as gini_U, of the neurons that some sample activates"),
    ),
    _activity,
)
