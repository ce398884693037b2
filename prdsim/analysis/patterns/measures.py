"""All measures of a snapshot, and their history along a run.

`GROUPS` drives tables, figures, commands and documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prdsim.analysis.arrays import Reals
from prdsim.analysis.group import Compute, Group, Values
from prdsim.analysis.patterns.entries import ENTRIES
from prdsim.analysis.patterns.neurons import ACTIVITY, DISTANCES, SPREAD
from prdsim.analysis.patterns.order import ORDER
from prdsim.analysis.patterns.subspace import RANK
from prdsim.analysis.patterns.synchrony import SYNCHRONY
from prdsim.analysis.recording import Recording, recording_of
from prdsim.analysis.stability.growth import GROWTH
from prdsim.analysis.theory.forces import FORCE_NORMS
from prdsim.arguments import each, function, known_name
from prdsim.errors import PrdsimError
from prdsim.notebook import html_table
from prdsim.table import Table
from prdsim.trajectory import Trajectory
from prdsim.trajectory.labeled import library
from prdsim.words import shown

_ALL = (DISTANCES, SPREAD, ENTRIES, ORDER, ACTIVITY, RANK, GROWTH, FORCE_NORMS, SYNCHRONY)
GROUPS: Mapping[str, Group] = {group.name: group for group in _ALL}
MEANINGS: Mapping[str, str] = {
    measure.name: measure.meaning for group in _ALL for measure in group.measures
}


@dataclass(frozen=True, repr=False)
class History:
    """Measures by name, each (K,), at the ``step`` and ``time`` of K snapshots.

    ``left_out`` gives the groups that could not be computed, and why.
    """

    step: NDArray[np.int64]
    time: Reals
    values: Mapping[str, Reals]
    left_out: Mapping[str, str]

    def __getitem__(self, name: str) -> Reals:
        return self.values[name]

    def __repr__(self) -> str:
        names = shown(", ".join(self.values), 100)
        return f"<History of {len(self.values)} measures at {len(self.time)} snapshots: {names}>"

    def _repr_html_(self) -> str:
        ends = {name: f"{x[0]:.5g} -> {x[-1]:.5g}" for name, x in self.values.items() if len(x)}
        return html_table(f"History of {len(self.time)} snapshots, first -> last", ends)

    def to_pandas(self) -> Any:
        """Return the measures as a `pandas.DataFrame`, indexed by step.

        Raises `ConfigError` if pandas is not installed.
        """
        pandas = library("pandas", "to_pandas")
        index = pandas.Index(self.step, name="step")
        return pandas.DataFrame({"time": self.time, **self.values}, index=index)

    def to_xarray(self) -> Any:
        """Return the measures along step and time as an `xarray.Dataset`, with their meaning.

        Raises `ConfigError` if xarray is not installed.
        """
        xarray = library("xarray", "to_xarray")
        measures = {
            name: ("step", values, {"long_name": MEANINGS[name]})
            for name, values in self.values.items()
        }
        return xarray.Dataset(measures, {"step": self.step, "time": ("step", self.time)})

    def table(self, title: str) -> Table:
        """Return the measures as a table, one snapshot per row."""
        columns = {"step": self.step, "time": self.time, **self.values}
        return Table(title, columns, MEANINGS, wide=True)


def history(
    source: Trajectory | Recording,
    groups: str | Iterable[str] | None = None,
    *,
    snapshots: Iterable[int] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> History:
    """Compute groups of measures at each snapshot (or at those given), one in memory at a time.

    ``groups`` are among `GROUPS`, one or several; None takes all that can be computed, with the
    reasons for others in ``left_out``. ``progress`` may wrap the loop over snapshots, as tqdm does.

    Raises:
        ConfigError: an unknown group, or one that needs data missing from the recording; an
            argument that is invalid, or no such snapshot.
        DamagedTrajectoryError: a snapshot's checksum fails.
        TrajectoryError: as `recording_of`.
    """
    recording = recording_of(source)
    function("progress", progress, "that wraps a loop, such as tqdm")
    computes, left_out = _prepared(recording, groups_named(groups))
    chosen = list(range(len(recording)))
    if snapshots is not None:
        chosen = [recording.place(k) for k in each("snapshots", snapshots, "indices")]
    rows: list[Values] = []
    for index in progress(chosen):
        snapshot = recording.at(index)
        rows.append({name: x for compute in computes for name, x in compute(snapshot).items()})
    names = rows[0] if rows else {}
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
    return History(recording.step[chosen], recording.time[chosen], values, left_out)


def _prepared(
    recording: Recording, names: Iterable[str] | None
) -> tuple[list[Compute], dict[str, str]]:
    """Prepare the groups; those not requested by name may be left out, with the reason."""
    if names is not None:
        return [GROUPS[name].prepare(recording) for name in names], {}
    computes, left_out = [], {}
    for group in _ALL:
        if group.on_demand:
            continue
        try:
            computes.append(group.prepare(recording))
        except PrdsimError as error:
            left_out[group.name] = str(error).splitlines()[0]
    return computes, left_out


def groups_named(groups: str | Iterable[str] | None) -> list[str] | None:
    """Return the names of groups, one or several; None for all. Raises `ConfigError`."""
    if groups is None:
        return None
    names = [groups] if isinstance(groups, str) else each("groups", groups, "names", least=0)
    return [known_name(name, GROUPS, "group of measures") for name in names]
