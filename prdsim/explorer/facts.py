"""What the page says of runs, in words and tables that stand there without its program."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from prdsim import __version__
from prdsim.analysis import Recording, by_label
from prdsim.analysis.comparison import Comparison, measured_at
from prdsim.convergence.report import error_text
from prdsim.explorer.attached import Attached
from prdsim.figures import FIGURES, Request, draw_request
from prdsim.figures.style import colors_of, settings
from prdsim.running.accuracy import signs_of

_STILL_NEURONS = 24  # of the picture that needs no JavaScript
_STILL_DPI = 72


def facts_of(
    runs: Sequence[Recording], request: Request, attached: Sequence[Attached], pictured: int
) -> dict[str, Any]:
    """Return all words and tables of the page by name; ``pictured`` labels have pictures."""
    end = min(float(run.time[-1]) for run in runs)
    comparison = measured_at(runs, end)
    left_out = [f"{name} left out: {reason}" for name, reason in comparison.left_out.items()]
    return {
        "generator": __version__,
        "title": "; ".join(dict.fromkeys(map(_setting, runs))),
        "runs": list(map(_about, runs, _colors(runs))),
        "unpictured": len(by_label(runs)) - pictured,
        "time": f"{end:.6g}",
        **_measures(comparison, left_out),
        "judged": [_judgment(run) for run in runs],
        "settings": _settings(runs),
        "attached": [_table(each) for each in attached],
        "picture": _picture(request),
    }


def errors_of(runs: Sequence[Recording]) -> dict[str, str]:
    """Return the discretization error in words of each number that a report judges, at the end."""
    sides = [
        [run.assessed(float(run.time[-1])).report for run in side]
        for side in by_label(runs).values()
    ]
    names = {row.name for side in sides for report in side if report for row in report.rows}
    return {name: error_text(name, sides) for name in sorted(names)}


def _measures(comparison: Comparison, left_out: list[str]) -> dict[str, Any]:
    """Return heads, rows and notes of the table of measures."""
    table = comparison.table()
    columns = table.columns
    told = ("measure", "meaning")
    rows = [
        {
            "name": columns["measure"][k],
            "meaning": columns["meaning"][k],
            "cells": [_cell(column[k]) for name, column in columns.items() if name not in told],
        }
        for k in range(len(columns["measure"]))
    ]
    heads = [name for name in columns if name not in told]
    return {"heads": heads, "rows": rows, "notes": [*table.notes, *left_out]}


def _colors(runs: Sequence[Recording]) -> list[str]:
    """Return each run's color, that of its label in all figures."""
    labels = by_label(runs)
    of = dict(zip(labels, colors_of([side[0] for side in labels.values()]), strict=True))
    return [of[run.label] for run in runs]


def _setting(run: Recording) -> str:
    _, m, d_in = run.U.shape
    if run.config is None:
        return f"m = {m}, d_in = {d_in}"
    return f"{run.config.dataset}, n = {run.config.samples}, m = {m}, d_in = {d_in}"


def _about(run: Recording, color: str) -> dict[str, Any]:
    found = run.assessed(float(run.time[-1]))
    signs = [] if run.trajectory is None else signs_of(run.trajectory, run.settings)
    return {
        "name": run.name,
        "label": run.label,
        "color": color,
        "seed": "-" if run.config is None else str(run.config.seed),
        "status": run.status or "of arrays",
        "complete": run.complete,
        "signs": signs,
        "discretization": found.reason if found.report is None else found.report.words(),
    }


def _cell(value: Any) -> dict[str, str]:
    """Return a cell's text, and every digit of its number."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return {"text": "-", "value": ""}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return {"text": text, "value": repr(value) if number else ""}


def _judgment(run: Recording) -> dict[str, Any]:
    """Return the judged numbers of a run's report, the headline measures alone."""
    report = run.assessed(float(run.time[-1])).report
    if report is None:
        return {"name": run.name, "rows": []}
    errors = {row.name: error_text(row.name, [[report]], verdict=False) for row in report.headline}
    rows = [[row.name, str(row.verdict), errors[row.name]] for row in report.headline]
    return {"name": run.name, "rows": rows}


def _settings(runs: Sequence[Recording]) -> list[dict[str, Any]]:
    """Return every key with its values, those that differ first."""
    configs = [run.config for run in runs if run.config is not None]
    if not configs:
        return []
    rows = []
    for key in type(configs[0]).model_fields:
        values = [str(getattr(config, key)) for config in configs]
        differs = len(set(values)) > 1
        cells = values if differs else values[:1]
        rows.append({"key": key, "cells": cells, "differs": differs})
    return sorted(rows, key=lambda row: not row["differs"])


def _table(attached: Attached) -> dict[str, Any]:
    columns = attached.columns
    rows = [list(map(_cell, row)) for row in zip(*columns.values(), strict=True)]
    curves, notes = _curves(columns), list(attached.notes)
    if "time" in columns and not curves:
        notes.append("no curves are drawn: they need times that ascend, and real numbers")
    return {
        "title": f"{attached.name} ({attached.file})",
        "about": attached.about,
        "notes": notes,
        "heads": list(columns),
        "rows": rows,
        "curves": curves,
    }


def _curves(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return time and the curves of a table: columns of real numbers, not of counts or texts."""
    times = columns.get("time", ())
    if not all(isinstance(time, int | float) for time in times):
        return {}
    found = {
        name: list(column)
        for name, column in columns.items()
        if {type(value) for value in column} - {type(None)} == {float} and name != "time"
    }
    ascending = all(before < after for before, after in pairwise(times))
    return {"time": list(times), **found} if found and times and ascending else {}


def _picture(request: Request) -> str:
    """Return the filters at three times, as a PNG in base64; of inputs without grid distances."""
    images = all(run.grid is not None for run in request.recordings)
    few = Request(request.recordings, count=min(request.count, _STILL_NEURONS))
    figure = draw_request(FIGURES["filters" if images else "distances"], few)
    buffer = io.BytesIO()
    with settings():
        figure.savefig(buffer, format="png", dpi=_STILL_DPI)
    return base64.b64encode(buffer.getvalue()).decode()
