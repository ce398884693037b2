"""What the page shows of runs, read from their files: pictures, curves, tables, words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prdsim.analysis import History, Recording, by_label, history, told_apart
from prdsim.analysis.patterns.measures import GROUPS, MEANINGS
from prdsim.analysis.patterns.neurons import hidden_distances, top_distances
from prdsim.analysis.patterns.order import radial_spectrum
from prdsim.arguments import integer
from prdsim.backends.arrays import HostArray as Array
from prdsim.errors import ConfigError
from prdsim.explorer.attached import Attached
from prdsim.explorer.facts import errors_of, facts_of
from prdsim.explorer.frames import LEVELS, Frames, Scales, color_table, packed
from prdsim.figures import Request
from prdsim.figures.style import mosaic_shape
from prdsim.progress import Say, silent
from prdsim.trajectory import SCALARS

MOST_PICTURED = 4
"""Runs whose filters are shown, the first of each label."""

_MOST_NUMBERS = 100_000_000  # of filters: a byte each in a browser, some dozens here
_MOST_ROWS = 400  # points of a curve of scalars
_DIGITS = 5


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    ``facts`` are texts and tables for the template, ``data`` numbers for the page's program, both
    ready for JSON; ``frames`` are the filters of each pictured run as text; see `packed`.
    """

    facts: Mapping[str, Any]
    data: Mapping[str, Any]
    frames: Sequence[str]


@dataclass(frozen=True, eq=False)
class _Part:
    """A run, the snapshots of it that are shown, and its measures there."""

    run: Recording
    snapshots: Sequence[int]
    measures: History


def content_of(
    recordings: Iterable[Recording],
    attached: Sequence[Attached] = (),
    *,
    remarks: Sequence[str] = (),
    count: int = 256,
    snapshots: int = 40,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    say: Say = silent,
) -> Content:
    """Gather what a page shows of runs: at most ``count`` filters at ``snapshots`` times.

    The filters are those that moved most, in all runs together. ``remarks`` are said in the page's
    head. ``progress`` may wrap the loop over the snapshots of each run; ``say`` is told of other
    long work.

    Raises:
        ConfigError: no run, runs that differ in the number of neurons or inputs, or a number
            that cannot be.
        TrajectoryError, ReportError: a file, or the report beside it, cannot be read.
        ResumeMismatchError: a run's configuration or samples were changed.
    """
    runs = [run for side in by_label(told_apart(recordings)).values() for run in side]
    if not runs:
        raise ConfigError("report: name at least one run, such as run.h5")
    pictured = [side[0] for side in by_label(runs).values()][:MOST_PICTURED]
    most = integer("snapshots", snapshots, least=2)
    _check_sizes(runs, pictured, integer("count", count, least=1), most)
    request = Request(tuple(runs), count=count, progress=progress)
    neurons = request.chosen_neurons()
    parts = []
    for run in runs:
        say(f"measuring {run.name}")
        shown = _spread(len(run), most)
        parts.append(_Part(run, shown, history(run, snapshots=shown, progress=progress)))
    say("compressing filters")
    shown_too = {id(run): _pictured(run, neurons, most) for run in pictured}
    frames = [frames for frames, _ in shown_too.values()]
    scales = Scales.of(frames)
    data = {
        "runs": [_of_run(part, shown_too.get(id(part.run))) for part in parts],
        **_of_filters(pictured[0], neurons, scales),
        "names": {**{field.name: field.long_name for field in SCALARS}, **MEANINGS},
        "groups": _groups(parts),
        "errors": errors_of(runs),
    }
    say("drawing")
    facts = {**facts_of(runs, request, attached, len(pictured)), "remarks": list(remarks)}
    return Content(facts, data, [packed(each, scales) for each in frames])


def _check_sizes(
    runs: Sequence[Recording], pictured: Sequence[Recording], count: int, snapshots: int
) -> None:
    """Refuse runs that cannot be shown beside each other, and more than a browser should hold."""
    for axis, what in ((1, "neurons"), (2, "inputs")):
        sizes = sorted({run.U.shape[axis] for run in runs})
        if len(sizes) > 1:
            raise ConfigError(
                f"runs of {' and '.join(map(str, sizes))} {what} have no filters in common; make a "
                "page of those that are alike, such as prdsim report A.h5 B.h5"
            )
    _, m, d_in = runs[0].U.shape
    numbers = sum(min(count, m) * min(snapshots, len(run)) for run in pictured) * d_in
    if numbers > _MOST_NUMBERS:
        raise ConfigError(
            f"the page would hold {numbers / 1e6:.0f} million numbers, more than "
            f"{_MOST_NUMBERS / 1e6:.0f}: lower --count or --snapshots"
        )


def _spread(count: int, most: int) -> list[int]:
    """Return at most so many of the indices, evenly spread from the first to the last."""
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


# -- numbers ---------------------------------------------------------------------------------------


def _of_filters(run: Recording, neurons: Array, scales: Scales) -> dict[str, Any]:
    """Return what the page's program needs to draw filters such as a run's."""
    grid = run.grid
    return {
        "neurons": neurons.tolist(),
        "grid": list(grid or (1, run.U.shape[2])),
        "tiles": list(mosaic_shape(len(neurons)) if grid else (len(neurons), 1)),
        "scales": vars(scales),
        "levels": LEVELS,
        "colors": color_table(),
    }


def _of_run(part: _Part, pictured: tuple[Frames, dict[str, Any]] | None) -> dict[str, Any]:
    """Return the numbers of a run, with those of its filters if it is pictured."""
    run = part.run
    return {
        "label": run.label,
        "name": run.name,
        "pictured": pictured is not None,
        "time": _rounded(run.time[part.snapshots]),
        "curves": {name: _rounded(values) for name, values in part.measures.values.items()},
        "scalars": _scalars(run),
        **(pictured[1] if pictured else {}),
    }


def _pictured(run: Recording, neurons: Array, most: int) -> tuple[Frames, dict[str, Any]]:
    """Return the filters of some neurons over time, and their distances and spectra.

    Snapshots are read once, one at a time.
    """
    U_0, V_0 = run.initial[0][neurons], run.initial[1][:, neurons]
    changes: list[Array] = []
    distances: dict[str, list[Any]] = {"U": [], "V": []}
    spectra: dict[str, Any] = {"frequency": [], "power": []}
    for index in _spread(len(run), most):
        now = run.at(index)
        U, V = now.U[neurons], now.V[:, neurons]
        changes.append(U - U_0)
        distances["U"].append(_rounded(hidden_distances(U, U_0)))
        distances["V"].append(_rounded(top_distances(V, V_0)))
        if run.grid is not None:
            frequency, power = radial_spectrum(changes[-1], run.grid)
            spectra["frequency"] = _rounded(frequency)
            spectra["power"].append(_rounded(power.mean(axis=0)))
    numbers = {"distances": distances, **({"spectra": spectra} if run.grid is not None else {})}
    return Frames(U_0, np.asarray(changes)), numbers


def _scalars(run: Recording) -> dict[str, list[float | None]]:
    """Return the recorded rows, thinned, by name; a run of arrays has none."""
    columns = {name: column for name, column in (run.scalars or {}).items() if name != "step"}
    count = len(columns.get("time", ()))
    rows = _spread(count, _MOST_ROWS) if count else []
    return {name: _rounded(column[rows]) for name, column in columns.items()}


def _rounded(values: Array) -> list[float | None]:
    """Return numbers with five digits, for drawing; None for those that are not finite."""
    return [float(f"{x:.{_DIGITS}g}") if np.isfinite(x) else None for x in values.tolist()]


def _groups(parts: Sequence[_Part]) -> dict[str, list[str]]:
    """Return the names of curves by the group in which they are chosen."""
    measured = {name for part in parts for name in part.measures.values}
    recorded = {name for part in parts for name in part.run.scalars or {}}
    groups = {
        name: [measure.name for measure in group.measures if measure.name in measured]
        for name, group in GROUPS.items()
    }
    scalars = [field.name for field in SCALARS if field.name in recorded - measured - {"time"}]
    groups["scalars"] = scalars
    return {name: members for name, members in groups.items() if members}
