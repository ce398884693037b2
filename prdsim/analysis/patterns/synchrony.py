"""Synchrony of the neurons: how alike their weights, velocities and activities are.

A neuron has no phase here: while the drive is constant its matrix [[0, C_j^T], [C_j, 0]] is
symmetric, and what is symmetric does not oscillate. So there is no Kuramoto order; synchrony is
that of directions, of activities over the samples, and of speeds over time.

Functions raise `ConfigError` unless they get real, finite numbers of the stated shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import Reals, real_array
from prdsim.analysis.group import Compute, Group, Measure, Values
from prdsim.analysis.recording import Recording, Snapshot
from prdsim.analysis.theory.forces import Forces, forces_of
from prdsim.errors import ConfigError
from prdsim.physics.groups import within_groups

_VECTORS = {
    "U": "u_j",
    "change": "u_j(t) - u_j(0)",
    "V": "v_j",
    "velocity_U": "du_j/dt",
    "velocity_V": "dv_j/dt",
    "motion_U": "the change of u_j since the snapshot before",
    "motion_V": "the change of v_j since the snapshot before",
}


def alignment(vectors: ArrayLike) -> float:
    """Return P = sum over i != j of cos^2(x_i, x_j) / (m (m - 1)) of the rows x_j, (m, d).

    1 if all lie on one line, 1 / d for independent directions in d dimensions, 0 if all are
    orthogonal. Rows of zeros have no direction and are left out; NaN if fewer than two are left.
    K orthogonal groups of m / K equal directions have (m / K - 1) / (m - 1).
    """
    return _order(vectors)["alignment"]


def orthogonal_groups(vectors: ArrayLike) -> float:
    """Return 1 / tr Q^2, Q = sum_j x_j x_j^T / m of the unit vectors of rows x_j, (m, d).

    K for K orthogonal groups of equally many equal directions. It is m / (1 + (m - 1) P) with the
    P of `alignment`; NaN if all rows are zeros.
    """
    return _order(vectors)["directions"]


def polar_order(vectors: ArrayLike) -> float:
    """Return the norm of the mean of the unit vectors of rows x_j, (m, d).

    1 if all point the same way, about 1 / sqrt(m) for independent directions. Rows of zeros are
    left out; NaN if none is left.
    """
    return _order(vectors)["polar"]


def chi_squared(signals: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return Golomb and Rinzel's synchrony Var(mean_j h_j) / mean_j Var(h_j) of signals (m, N).

    Variances are over the N values of a signal, which may have ``weights`` (N,). 1 if all signals
    are equal, 1 / m if they are independent and alike, 1 / K for K independent groups of equal
    ones. NaN if none of them varies. Source: D. Golomb and J. Rinzel, Physica D 72, 259, 1994.
    """
    h = real_array("signals", signals, ndim=2)
    share = np.ones(h.shape[1]) if weights is None else real_array("weights", weights, ndim=1)
    if share.shape != h.shape[1:] or share.min() < 0.0 or share.sum() == 0.0:
        raise ConfigError("weights must be one for each value of a signal, and none negative")
    each = float(_variance(h, share).mean())
    return float(_variance(h.mean(axis=0, keepdims=True), share)[0]) / each if each else np.nan


def _variance(h: Reals, weights: Reals) -> Reals:
    share = weights / weights.sum()
    variance: Reals = np.square(h - (h @ share)[:, None]) @ share
    return variance


def _order(vectors: ArrayLike) -> Values:
    """Return `alignment`, `orthogonal_groups` and `polar_order`, which share the unit vectors."""
    m = len(units := _units(vectors))
    if m == 0:
        return dict.fromkeys(_SAID, float("nan"))
    polar = float(np.linalg.norm(units.mean(axis=0)))
    if m == 1:
        return {"alignment": float("nan"), "directions": 1.0, "polar": polar}
    gram = units.T @ units if units.shape[1] < m else units @ units.T
    P = max(0.0, float(np.sum(gram * gram)) - m) / (m * (m - 1))
    return {"alignment": P, "directions": m / (1.0 + (m - 1.0) * P), "polar": polar}


def _units(vectors: ArrayLike) -> Reals:
    rows = real_array("vectors", vectors, ndim=2)
    rows = rows / (np.max(np.abs(rows), axis=1, keepdims=True) + (rows == 0.0).all(axis=1)[:, None])
    norms = np.linalg.norm(rows, axis=1)
    units: Reals = rows[norms > 0.0] / norms[norms > 0.0, None]
    return units


# -- the group -------------------------------------------------------------------------------------


class Speeds:
    """The speeds ||du_j/dt|| of a run at its snapshots, each computed when it is first needed."""

    def __init__(self, recording: Recording, forces: Forces) -> None:
        self._recording, self._forces = recording, forces
        self._found: dict[int, Reals] = {}

    def keep(self, now: Snapshot, dU: Reals) -> None:
        """Keep the speeds of a snapshot whose velocity is known."""
        self._found[now.step] = np.linalg.norm(dU, axis=1)

    def until(self, now: Snapshot) -> tuple[Reals, Reals]:
        """Return the speeds (m, K) at the snapshots up to one, and their times (K,)."""
        steps = self._recording.step
        count = int(np.searchsorted(steps, now.step, side="right"))
        for index in range(count):
            if int(steps[index]) not in self._found:
                then = self._recording.at(index)
                self.keep(then, self._forces.velocities(**then.weights, time=then.time)[0])
        columns = [self._found[int(step)] for step in steps[:count]]
        return np.stack(columns, axis=1), np.asarray(self._recording.time[:count], float)


class Passed:
    """The snapshots of a run that were looked at: in their order, none is read again."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._last: Snapshot | None = None

    def before(self, now: Snapshot) -> Snapshot:
        """Return the snapshot before one; itself of the first."""
        index = int(np.searchsorted(self._recording.step, now.step)) - 1
        last, self._last = self._last, now
        if index < 0:
            return now
        if last is not None and last.step == self._recording.step[index]:
            return last
        return self._recording.at(index)


def _shares(times: Reals) -> Reals:
    """Return the share of each time in a mean over the whole, by the trapezoidal rule."""
    between = np.diff(times)
    shares: Reals = 0.5 * (np.append(between, 0.0) + np.insert(between, 0, 0.0))
    return shares


def _prepare(recording: Recording) -> Compute:
    recording.require_critic()
    X, _ = recording.samples
    forces = forces_of(recording)
    moving, speeds = recording.settings.moving, Speeds(recording, forces)
    passed = Passed(recording)

    def compute(now: Snapshot) -> Values:
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run
            return measured(now)

    def measured(now: Snapshot) -> Values:
        dU, dV = forces.velocities(**now.weights, time=now.time)
        speeds.keep(now, dU)
        vectors = {"U": now.U, "change": now.change, "V": now.V.T}
        vectors |= {"velocity_U": dU if "U" in moving else np.zeros_like(dU)}
        vectors |= {"velocity_V": (dV if "V" in moving else np.zeros_like(dV)).T}
        before = passed.before(now)
        vectors |= {"motion_U": now.U - before.U, "motion_V": (now.V - before.V).T}
        orders = {
            of: _order(x) if np.isfinite(x).all() else dict.fromkeys(_SAID, np.nan)
            for of, x in vectors.items()
        }
        found = {f"{name}_{of}": orders[of][name] for name in _SAID for of in _VECTORS}
        for of, rows in (("U", now.U), ("V", now.V.T)):
            found[f"within_groups_{of}"] = _share_within(rows, recording.settings.groups)
        found["chi2_activity"] = _if_finite(chi_squared, np.maximum(now.U @ X, 0.0))
        pace, times = speeds.until(now)
        defined = "U" in moving and times[-1] > times[0]
        of_speeds = partial(chi_squared, weights=_shares(times))
        found["chi2_speed_U"] = _if_finite(of_speeds, pace) if defined else np.nan
        return found

    return compute


def _share_within(rows: Reals, K: int | None) -> float:
    """Return the norm of deviations within K groups of rows over that of the rows."""
    if K is None:  # each is a group of its own
        return 0.0
    return float(np.linalg.norm(within_groups(rows, K)) / (np.linalg.norm(rows) or 1.0))


def _if_finite(measure: Callable[[Reals], float], values: Reals) -> float:
    """Return a measure, NaN of values that are not finite, as forces before a run diverges."""
    return measure(values) if np.isfinite(values).all() else float("nan")


_SAID = {
    "alignment": "mean over pairs of cos^2 of {}: 1 on one line, 1/d independent",
    "directions": "1 / tr Q^2 of directions of {}: the number of orthogonal groups of equal ones",
    "polar": "norm of the mean direction of {}: 1 all alike, 1/sqrt(m) independent",
}

SYNCHRONY = Group(
    "synchrony",
    (
        *(
            Measure(f"{name}_{of}", said.format(symbol), of_path=of.startswith("motion"))
            for name, said in _SAID.items()
            for of, symbol in _VECTORS.items()
        ),
        Measure("within_groups_U", "||u_j - group mean||, all over ||U||; 0 without groups"),
        Measure("within_groups_V", "||v_j - group mean||, all over ||V||; 0 without groups"),
        Measure("chi2_activity", "Var_p(mean_j h_jp) / mean_j Var_p(h_jp), h = relu(u_j.x_p)"),
        Measure(
            "chi2_speed_U",
            "Var_t(mean_j s_j) / mean_j Var_t(s_j), s_j = ||du_j/dt||, so far",
            of_path=True,
        ),
    ),
    _prepare,
)
