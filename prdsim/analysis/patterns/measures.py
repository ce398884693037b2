"""The measures of a snapshot, in one declared table, and their history along a run.

A group of measures shares what is expensive. `MEASURES` drives tables, figures and documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prdsim.analysis.patterns.distances import hidden_distances, top_distances
from prdsim.analysis.patterns.distribution import excess_kurtosis, normal_distance, skewness
from prdsim.analysis.patterns.order import (
    correlation_length,
    morans_i,
    peak_wavelength,
    radial_autocovariance,
    radial_spectrum,
)
from prdsim.analysis.patterns.spread import coefficient_of_variation, gini
from prdsim.analysis.patterns.subspace import effective_rank, participation_ratio, singular_values
from prdsim.analysis.recording import Recording, Snapshot, recording_of
from prdsim.analysis.stability.growth import Growth
from prdsim.analysis.table import Table
from prdsim.analysis.theory.forces import FORCES, Forces
from prdsim.errors import ConfigError, PrdsimError

if TYPE_CHECKING:
    from prdsim.trajectory import Trajectory

Reals = NDArray[np.float64]
Values = dict[str, float]
Compute = Callable[[Snapshot], Values]


@dataclass(frozen=True)
class Measure:
    """A number of a snapshot: its name in tables, its group, what it is, and its unit."""

    name: str
    group: str
    meaning: str
    unit: str = "1"


_SUMMARY = {
    "mean": "mean over neurons",
    "sd": "standard deviation over neurons",
    "q05": "5 % quantile over neurons",
    "q50": "median over neurons",
    "q95": "95 % quantile over neurons",
    "max": "largest",
}


def _summarized(name: str, group: str, symbol: str, unit: str = "1") -> list[Measure]:
    return [
        Measure(f"{name}_{key}", group, f"{symbol}, {text}", unit) for key, text in _SUMMARY.items()
    ]


MEASURES: tuple[Measure, ...] = (
    *_summarized("distance_U", "distances", "||u_j(t) - u_j(0)||"),
    *_summarized("distance_V", "distances", "||v_j(t) - v_j(0)||"),
    Measure("cv_U", "spread", "coefficient of variation of ||u_j(t) - u_j(0)||"),
    Measure("gini_U", "spread", "Gini coefficient of ||u_j(t) - u_j(0)||"),
    Measure("cv_V", "spread", "coefficient of variation of ||v_j(t) - v_j(0)||"),
    Measure("gini_V", "spread", "Gini coefficient of ||v_j(t) - v_j(0)||"),
    Measure("skewness_U", "entries", "skewness of the entries of U"),
    Measure("kurtosis_U", "entries", "excess kurtosis of the entries of U"),
    Measure("ks_U", "entries", "KS distance of the entries of U from a normal of their scale"),
    Measure("ks_initial_U", "entries", "KS distance of the entries of U from N(0, init_scale^2)"),
    Measure("morans_i_U", "order", "Moran's I of u_j, mean over neurons"),
    Measure("morans_i_change", "order", "Moran's I of u_j(t) - u_j(0), mean over neurons"),
    Measure("wavelength_U", "order", "peak wavelength of the mean spectrum of u_j", "pixel"),
    Measure(
        "wavelength_change", "order", "peak wavelength of the mean spectrum of changes", "pixel"
    ),
    Measure("correlation_length_U", "order", "correlation length of u_j", "pixel"),
    Measure("correlation_length_change", "order", "correlation length of changes", "pixel"),
    Measure("active_gates", "activity", "share of gates 1{u_j.x_p >= 0} that are open"),
    Measure("inactive_neurons", "activity", "share of neurons that no sample activates"),
    Measure("cv_active_U", "activity", "as cv_U, of the neurons that some sample activates"),
    Measure("gini_active_U", "activity", "as gini_U, of the neurons that some sample activates"),
    Measure("effective_rank", "rank", "effective rank of U(t) - U(0)"),
    Measure("participation_ratio", "rank", "participation ratio of U(t) - U(0)"),
    *_summarized("growth_rate", "growth", "leading growth rate sigma_1(C_j)", "1/time"),
    Measure("growth_reaction", "growth", "reaction part of sigma_1(C_j), mean", "1/time"),
    Measure("growth_diffusion", "growth", "diffusion part of sigma_1(C_j), mean", "1/time"),
    *_summarized("reaction_U", "forces", "||R^u_j||", "1/time"),
    *_summarized("diffusion_U", "forces", "D ||D^u_j||", "1/time"),
    *_summarized("reaction_V", "forces", "||R^v_j||", "1/time"),
    *_summarized("diffusion_V", "forces", "D ||D^v_j||", "1/time"),
)

ON_DEMAND = frozenset({"growth"})
"""Groups that cost more than all others together: computed only where they are named."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(measure.group for measure in MEASURES))
MEANINGS: Mapping[str, str] = {measure.name: measure.meaning for measure in MEASURES}


@dataclass(frozen=True)
class History:
    """Measures by name, each (K,), at the ``step`` and ``time`` of K snapshots.

    ``left_out`` says which groups could not be computed, and why.
    """

    step: NDArray[np.int64]
    time: Reals
    values: Mapping[str, Reals]
    left_out: Mapping[str, str]

    def __getitem__(self, name: str) -> Reals:
        return self.values[name]

    def table(self, title: str) -> Table:
        """Return the measures as a table, one snapshot a row."""
        columns = {"step": self.step, "time": self.time, **self.values}
        return Table(title, columns, MEANINGS, wide=True)


def history(
    source: Trajectory | Recording,
    groups: Iterable[str] | None = None,
    *,
    snapshots: Iterable[int] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> History:
    """Compute groups of measures at each snapshot (or at those given), one in memory at a time.

    ``groups`` are among `GROUPS`; None takes all that can be computed, and says in ``left_out``
    why others cannot. ``progress`` may wrap the loop over snapshots, as tqdm does.

    Raises:
        ConfigError: an unknown group, or one that the recording lacks something for.
        IndexError: there is no such snapshot.
        DamagedTrajectoryError: a snapshot's checksum fails.

    """
    recording = recording_of(source)
    computes, left_out = _computes(recording, groups)
    every = range(len(recording))
    chosen = list(every) if snapshots is None else [every[index] for index in snapshots]
    rows: list[Values] = []
    for index in progress(chosen):
        snapshot = recording.at(index)
        rows.append({name: x for compute in computes for name, x in compute(snapshot).items()})
    names = rows[0] if rows else {}
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
    return History(recording.step[chosen], recording.time[chosen], values, left_out)


def _computes(
    recording: Recording, groups: Iterable[str] | None
) -> tuple[list[Compute], dict[str, str]]:
    """Prepare the groups; those not asked for by name may be left out, with the reason."""
    if groups is not None:
        return [_makers(name)(recording) for name in groups], {}
    computes, left_out = [], {}
    for name in GROUPS:
        if name in ON_DEMAND:
            continue
        try:
            computes.append(_makers(name)(recording))
        except PrdsimError as error:
            left_out[name] = str(error).splitlines()[0]
    return computes, left_out


def _makers(name: str) -> Callable[[Recording], Compute]:
    try:
        return _MAKERS[name]
    except KeyError:
        known = ", ".join(GROUPS)
        raise ConfigError(f"{name}: no such group of measures; there are {known}") from None


def _distances(_: Recording) -> Compute:
    def compute(now: Snapshot) -> Values:
        return {
            **_summary("distance_U", hidden_distances(now.U, now.U_0)),
            **_summary("distance_V", top_distances(now.V, now.V_0)),
        }

    return compute


def _spread(_: Recording) -> Compute:
    def compute(now: Snapshot) -> Values:
        U, V = hidden_distances(now.U, now.U_0), top_distances(now.V, now.V_0)
        return {
            "cv_U": coefficient_of_variation(U),
            "gini_U": gini(U),
            "cv_V": coefficient_of_variation(V),
            "gini_V": gini(V),
        }

    return compute


def _entries(recording: Recording) -> Compute:
    config = recording.config
    scale = config.init_scale if config is not None else float(np.std(recording.initial[0]))

    def compute(now: Snapshot) -> Values:
        return {
            "skewness_U": skewness(now.U),
            "kurtosis_U": excess_kurtosis(now.U),
            "ks_U": normal_distance(now.U),
            # Weights that all began at 0 have no scale to be held against.
            "ks_initial_U": normal_distance(now.U, scale) if scale > 0.0 else np.nan,
        }

    return compute


def _order(recording: Recording) -> Compute:
    grid = recording.pixels

    def lengths(filters: Reals, name: str) -> Values:
        frequency, power = radial_spectrum(filters, grid)
        lag, covariance = radial_autocovariance(filters, grid)
        moran = morans_i(filters, grid)
        known = moran[np.isfinite(moran)]
        mean = power.mean(axis=0, keepdims=True)
        return {
            f"morans_i_{name}": float(np.mean(known)) if len(known) else np.nan,
            # A grid of one pixel has no frequencies.
            f"wavelength_{name}": float(peak_wavelength(frequency, mean)[0])
            if len(frequency)
            else np.nan,
            f"correlation_length_{name}": float(
                correlation_length(lag, covariance.mean(axis=0, keepdims=True))[0]
            ),
        }

    def compute(now: Snapshot) -> Values:
        found = {**lengths(now.U, "U"), **lengths(now.change, "change")}
        return {name: found[name] for name in _names("order")}

    return compute


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


def _rank(_: Recording) -> Compute:
    def compute(now: Snapshot) -> Values:
        values = singular_values(now.change)
        return {
            "effective_rank": effective_rank(values),
            "participation_ratio": participation_ratio(values),
        }

    return compute


def _growth(recording: Recording) -> Compute:
    recording.require_critic()
    growth = growth_of(recording)

    def compute(now: Snapshot) -> Values:
        rates = growth.rates(**now.weights)
        return {
            **_summary("growth_rate", rates.total[:, 0]),
            "growth_reaction": float(np.mean(rates.reaction[:, 0])),
            "growth_diffusion": float(np.mean(rates.diffusion[:, 0])),
        }

    return compute


def _forces(recording: Recording) -> Compute:
    recording.require_critic()
    forces = forces_of(recording)

    def compute(now: Snapshot) -> Values:
        norms = forces.norms(**now.weights)
        found: Values = {}
        for name in FORCES:
            found |= _summary(name, getattr(norms, name))
        return found

    return compute


def forces_of(recording: Recording) -> Forces:
    """Return what computes reaction and diffusion of a recording's snapshots.

    Raises:
        ConfigError: it lacks the configuration or the samples.

    """
    return Forces(recording.settings, *recording.samples)


def growth_of(recording: Recording) -> Growth:
    """Return what computes the growth of a recording's neurons at its snapshots.

    Raises:
        ConfigError: it lacks the configuration or the samples.

    """
    return Growth(recording.settings, *recording.samples)


_MAKERS: dict[str, Callable[[Recording], Compute]] = {
    "distances": _distances,
    "spread": _spread,
    "entries": _entries,
    "order": _order,
    "activity": _activity,
    "rank": _rank,
    "growth": _growth,
    "forces": _forces,
}


def _names(group: str) -> list[str]:
    return [measure.name for measure in MEASURES if measure.group == group]


def _summary(name: str, values: NDArray[Any]) -> Values:
    with np.errstate(invalid="ignore", over="ignore"):  # forces of a run that diverges are infinite
        q05, q50, q95 = np.quantile(values, (0.05, 0.5, 0.95))
        numbers = (np.mean(values), np.std(values), q05, q50, q95, np.max(values))
    return {f"{name}_{key}": float(number) for key, number in zip(_SUMMARY, numbers, strict=True)}
