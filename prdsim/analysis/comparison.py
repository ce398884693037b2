"""Runs with diffusion compared to runs without: each measure, its spread over draws, by pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prdsim.analysis.labels import by_label, told_apart
from prdsim.analysis.patterns.measures import MEANINGS, History, groups_named, history
from prdsim.analysis.recording import Recording, recording_of
from prdsim.arguments import each, number
from prdsim.convergence.report import NOT_ASSESSED, Report, error_text
from prdsim.errors import ConfigError
from prdsim.table import Table
from prdsim.trajectory import Trajectory
from prdsim.words import shown

_LONGEST_HEAD = 20  # characters of a label that the head of a column holds


@dataclass(frozen=True, repr=False)
class Comparison:
    """Measures of runs at one time, by label: ``values[label][name]`` is (runs,), in their order.

    ``seeds[label]`` are the runs' seeds, -1 for runs without a partner: unknown, or with other
    settings; ``left_out`` gives the reasons for missing groups, ``notes`` the runs measured at
    another time; ``reports[label]`` are those of `prdsim converge` at this time, None without one.
    """

    time: float
    values: dict[str, dict[str, np.ndarray]]
    seeds: dict[str, list[int]]
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()
    reports: dict[str, list[Report | None]] = field(default_factory=dict)

    def __repr__(self) -> str:
        runs = [f"{len(self.seeds[label])} {label}" for label in self.values]
        return f"<Comparison at t = {self.time:.6g}: {shown(', '.join(runs), 200)}>"

    def discretization(self, name: str) -> str:
        """Describe how far a measure can be trusted: its largest relative error in any run."""
        return error_text(name, self.reports.values())

    def pairs(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a measure for the runs of the first and of the second label that share seeds."""
        first, second = list(self.values)[:2]
        places = [
            (self.seeds[first].index(seed), at)
            for at, seed in enumerate(self.seeds[second])
            if seed >= 0 and seed in self.seeds[first]
        ]
        left, right = (np.array([p[k] for p in places], dtype=int) for k in (0, 1))
        return self.values[first][name][left], self.values[second][name][right]

    def table(self) -> Table:
        """Return one row per measure: mean and standard deviation by label, and how pairs differ.

        ``higher`` counts the pairs of equal seed in which the second label's value is higher.
        """
        names = list(next(iter(self.values.values())))
        columns: dict[str, Sequence[Any]] = {"measure": names}
        heads: dict[str, str] = {}
        legend = []
        for mark, (label, values) in zip(self._marks(), self.values.items(), strict=True):
            count = len(self.seeds[label])
            columns[f"{label}: mean"] = [float(np.mean(values[name])) for name in names]
            heads[f"{label}: mean"] = f"{mark} mean"
            if count > 1:
                columns[f"{label}: sd"] = [float(np.std(values[name], ddof=1)) for name in names]
                heads[f"{label}: sd"] = f"{mark} sd"
            runs = f"{count} run{'s' if count > 1 else ''} {label}"
            legend.append(runs if mark == f"{label}:" else f"{mark} {runs}")
        if len(self.values) == 2:
            columns["higher"] = [self.higher(name) for name in names]
        columns["discretization"] = [self.discretization(name) for name in names]
        columns["meaning"] = [MEANINGS[name] for name in names]
        return Table(f"at time {self.time:.6g}", columns, heads, notes=(*legend, *self.notes))

    def _marks(self) -> list[str]:
        """Return marks for the labels in column heads: numbers, if one label is long."""
        if max(map(len, self.values)) <= _LONGEST_HEAD:
            return [f"{label}:" for label in self.values]
        return [f"({number})" for number in range(1, len(self.values) + 1)]

    def higher(self, name: str) -> str:
        """Count in words the pairs of equal seed whose second value is higher, or equal."""
        first, second = self.pairs(name)
        if not len(first):
            return "-"
        same = int(np.sum(second == first))
        text = f"{int(np.sum(second > first))} of {len(first)}"
        return f"{text}, {same} equal" if same else text


def compare(
    sources: Iterable[Trajectory | Recording],
    *,
    time: float | None = None,
    groups: str | Iterable[str] | None = None,
    progress: Callable[[Iterable[Recording]], Iterable[Recording]] = iter,
) -> Comparison:
    """Measure runs at one time, by default the end of the shortest, grouped by label.

    Runs of one label are initial draws of the same setting; all other differences are in the label.
    Each is measured at its snapshot nearest to the time.
    Raises `ConfigError` for fewer than two runs, a time that they do not share, or groups of
    measures that cannot be computed.
    """
    if isinstance(sources, Trajectory | Recording):
        sources = [sources]
    recordings = told_apart(map(recording_of, each("sources", sources, "runs", least=0)))
    if len(recordings) < 2:
        raise ConfigError("compare needs at least two runs, such as with.h5 without.h5")
    end = min(float(run.time[-1]) for run in recordings)
    at = end if time is None else number("time", time)
    if not 0.0 <= at <= end * (1 + 1e-5):  # the end is shown with six digits
        raise ConfigError(
            f"time {at:g} is not between 0 and {end:.6g}, where the shortest run ends"
        )
    return measured_at(recordings, at, groups, progress)


def measured_at(
    recordings: Sequence[Recording],
    at: float,
    groups: str | Iterable[str] | None = None,
    progress: Callable[[Iterable[Recording]], Iterable[Recording]] = iter,
) -> Comparison:
    """Measure runs labeled by `told_apart`, one or more; raises `ConfigError` as `compare`."""
    chosen = groups_named(groups)
    found = {
        id(run): history(run, chosen, snapshots=[run.nearest(at)]) for run in progress(recordings)
    }
    shared = _shared_names(list(found.values()))
    labeled = by_label(recordings)
    values = {
        label: {name: np.array([found[id(run)][name][0] for run in runs]) for name in shared}
        for label, runs in labeled.items()
    }
    seeds = {
        label: [run.config.seed if run.config and not run.apart else -1 for run in runs]
        for label, runs in labeled.items()
    }
    left_out = {name: text for one in found.values() for name, text in one.left_out.items()}
    times = {id(run): float(found[id(run)].time[0]) for run in recordings}
    reports = {
        label: [run.assessed(times[id(run)]).report for run in runs]
        for label, runs in labeled.items()
    }
    notes = [note for run in recordings for note in _notes(run, times[id(run)], at)]
    return Comparison(at, values, seeds, left_out, tuple(notes), reports)


def _notes(run: Recording, time: float, wanted: float) -> Iterator[str]:
    """Yield remarks on a run that is measured at a time."""
    if abs(time - wanted) > 1e-5 * wanted:
        yield f"{run.name} is measured at its nearest snapshot, t = {time:.6g}"
    reason = run.assessed(time).reason
    if reason not in ("", NOT_ASSESSED):
        yield f"{run.name}: its discretization is {reason}"


def _shared_names(histories: Sequence[History]) -> list[str]:
    """Return the names of measures that every run has, in the order of the table."""
    shared = set.intersection(*(set(measured.values) for measured in histories))
    return [name for name in MEANINGS if name in shared]
