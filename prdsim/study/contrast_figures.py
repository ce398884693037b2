"""Figures of controls: effect sizes with their intervals, and response curves."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prdsim.convergence.judgment import percent
from prdsim.figures.style import CONDITION_LOOKS, GRAY, body_of, new_figure, settings
from prdsim.study.contrasts import LEVEL, Curves, Effects, Samples
from prdsim.study.controls import CURVES, Sample
from prdsim.symbols import CONDITIONS

_AXES = {
    "diffusivity": "D",
    "critic_rate": r"critic's speed $\beta$",
    "init_scale": "init_scale",
    "step_size": "step size of gd",
}

Curve = Sequence[tuple[float, Sample]]


def draw_effects(samples: Samples, effects: Effects, title: str) -> Figure:
    """Draw every effect beside none (left) and beside the adversary (right), with its interval."""
    with settings():
        figure = new_figure(9.6, 0.42 * len(samples) + 1.6)
        body = body_of(figure)
        left, right = body.subplots(1, 2, sharey=True)
        for axes, reference in ((left, "none"), (right, "adversary")):
            shown = [c for c in CONDITIONS if c not in ("none", reference)]
            _draw_reference(axes, list(samples), shown, effects, reference)
        left.set_yticks(range(len(samples)), list(samples))
        left.invert_yaxis()
        body.legend(
            handles=[_handle(c) for c in CONDITIONS[1:]],
            loc="outside upper center",
            ncols=len(CONDITIONS) - 1,
        )
        figure.suptitle(title, fontsize=8.5)
        errors = [s.error for by in samples.values() for s in by.values()]
        seeds = max(len(s.values) for by in samples.values() for s in by.values())
        text = (
            f"difference of the means over {seeds} seeds, paired, in standard deviations over "
            f"seeds; bars: bootstrap intervals, {1 - LEVEL:.0%} for all {len(samples)} measures; "
            "hollow: the interval holds 0, or the difference is within discretization errors, "
            f"whose median over measures and conditions is {percent(float(np.median(errors)))}"
        )
        figure.supxlabel(fill(text, 140), fontsize=7, color=GRAY)
        return figure


def _handle(condition: str) -> Line2D:
    color, marker = CONDITION_LOOKS[condition]
    look: Any = {"marker": marker, "markersize": 4.5, "linestyle": ""}
    return Line2D([], [], color=color, label=condition, **look)


def _draw_reference(
    axes: Axes, measures: Sequence[str], shown: Sequence[str], effects: Effects, reference: str
) -> None:
    offsets = np.linspace(-0.3, 0.3, len(shown))
    sizes = [abs(found.size) for (_, _, beside), found in effects.items() if beside == reference]
    limit = 3 * max((size for size in sizes if np.isfinite(size)), default=1.0)
    for row in range(1, len(measures), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0)
    for offset, condition in zip(offsets, shown, strict=True):
        for row, measure in enumerate(measures):
            found = effects.get((measure, condition, reference))
            if found is None or not np.isfinite(found.size):
                continue
            (color, marker), y = CONDITION_LOOKS[condition], row + offset
            bar = np.clip([found.low, found.high], -limit, limit)  # of few seeds they are endless
            axes.plot(bar, [y, y], color=color, linewidth=1.1)
            face = color if found.sign else "white"
            look: Any = {"marker": marker, "markersize": 4.5, "linestyle": ""}
            axes.plot([found.size], [y], color=color, markerfacecolor=face, **look)
    axes.axvline(0, color="k", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-limit, limit)
    axes.set_xlabel(f"effect beside {reference}")
    axes.grid(visible=False, axis="y")


def draw_response(curves: Curves, measures: Sequence[str], title: str) -> Figure:
    """Draw response curves, a row per measure and a column per key: means, and bands over seeds."""
    with settings():
        figure = new_figure(2.6 * len(CURVES) + 0.6, 2.1 * len(measures) + 1.3)
        body = body_of(figure)
        panels = body.subplots(len(measures), len(CURVES), squeeze=False, sharey="row")
        for row, measure in zip(panels, measures, strict=True):
            for axes, key in zip(row, CURVES, strict=True):
                for condition in CONDITIONS:
                    _draw_curve(axes, curves.get((measure, key, condition), ()), condition)
                _scale(axes, curves.get((measure, key, "adversary"), ()))
            row[0].set_ylabel(measure)
        for axes, key in zip(panels[-1], CURVES, strict=True):
            axes.set_xlabel(_AXES[key])
        named = {
            label: handle
            for axes in panels.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        body.legend(list(named.values()), list(named), loc="outside upper center", ncols=len(named))
        figure.suptitle(title, fontsize=8.5)
        shown = {names: points for names, points in curves.items() if names[0] in measures}
        figure.supxlabel(fill(_errors_of(shown), 130), fontsize=7, color=GRAY)
        return figure


def _scale(axes: Axes, points: Curve) -> None:
    """Make the axis logarithmic, with ticks at the values."""
    axes.set_xscale("log")
    values = [value for value, _ in points]
    axes.set_xticks(values, [f"{value:.2g}" for value in values], minor=False)
    axes.set_xticks([], minor=True)


def _draw_curve(axes: Axes, points: Curve, condition: str) -> None:
    if not points:
        return
    x = [value for value, _ in points]
    mean = np.array([np.mean(found.values) for _, found in points])
    spread = np.array([np.std(found.values) for _, found in points])
    color, marker = CONDITION_LOOKS[condition]
    axes.plot(x, mean, color=color, marker=marker, markersize=4, label=condition)
    axes.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)


def _errors_of(curves: Curves) -> str:
    by_measure: dict[str, list[float]] = {}
    for (measure, key, _), points in curves.items():
        if key != "step_size":
            by_measure.setdefault(measure, []).extend(found.error for _, found in points)
    largest = [f"{name} {percent(max(errors))}" for name, errors in by_measure.items() if errors]
    counts = sorted({len(found.values) for points in curves.values() for _, found in points})
    seeds = " or ".join(map(str, counts))
    return (
        f"{seeds} seeds; bands: one standard deviation over seeds; largest discretization errors: "
        f"{', '.join(largest)}; along the steps of gd the curve itself is the error"
    )
