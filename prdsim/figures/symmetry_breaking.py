"""The figure of the Turing test: growth, kappa* of all conditions, and the patterns that win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis.stability.symmetry_breaking import Outcome, small_like, symmetry_breaking
from prdsim.figures.request import Request, draws, needs_samples
from prdsim.figures.style import (
    CONDITION_LOOKS,
    GRAY,
    annotate,
    body_of,
    head,
    new_figure,
    settings,
    show_image,
)
from prdsim.symbols import CONDITIONS

_SAMPLES = 16
_MARKS: dict[str, dict[str, Any]] = {
    "largest; bar: change with the tolerance": {"marker": "s", "color": GRAY},
    "of a group without kinks": {"marker": "o", "color": GRAY, "markerfacecolor": "none"},
    "the same by coupled runs": {"marker": "x", "color": "black"},
}


@draws(
    "turing",
    "whether a homogeneous state loses its stability, on a few samples (runs of its own)",
    needs_samples,
)
def draw_turing(request: Request) -> Figure:
    """Draw the Turing test with the adversary of the first run, on its first samples."""
    run = request.runs[0]
    X, Y = (np.ascontiguousarray(array[:, :_SAMPLES], float) for array in run.samples)
    config = small_like(run.settings, X.shape[1])
    found = symmetry_breaking(config, X, Y, say=request.say)
    figure = draw_symmetry_breaking(found, "", run.grid)
    of = f"the adversary of this run, its first {X.shape[1]} samples, {config.neurons_in_words}"
    annotate(figure, [run], of)
    return figure


def draw_symmetry_breaking(
    found: Sequence[Outcome], title: str, grid: tuple[int, int] | None = None
) -> Figure:
    """Draw growth in the first draw, kappa* in all, and leading deviations where inputs are images.

    ``grid`` holds the rows and columns of an input.
    """
    first = {each.condition: each for each in found if each.seed == found[0].seed}
    with settings():
        figure = new_figure(9.6, 4.0 if grid is None else 6.2)
        body = body_of(figure)
        heights = (1.0,) if grid is None else (3.6, 1.6)
        above, *below = body.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        curves, points = above.subplots(1, 2)
        _draw_growth(curves, first)
        _draw_kappa(points, found)
        if grid is not None:
            _draw_patterns(below[0], first, grid)
        figure.suptitle(title, fontsize=8.5)
        return figure


def _draw_growth(axes: Axes, first: dict[str, Outcome]) -> None:
    for condition, each in first.items():
        color, _ = CONDITION_LOOKS[condition]
        for growth, line, label in ((each.fine, "-", condition), (each.coarse, ":", None)):
            times, sizes = np.append(0.0, growth.times), growth.smooth.largest.max(axis=1)
            axes.plot(times, np.append(1.0, sizes), line, color=color, label=label)
    axes.set_yscale("log")
    axes.set(xlabel="t", ylabel="largest growth of a deviation")
    head(axes, "first draw, no kinks; dotted: larger tolerance", columns=4)


def _draw_kappa(axes: Axes, found: Sequence[Outcome]) -> None:
    for row, condition in enumerate(CONDITIONS):
        color, marker = CONDITION_LOOKS[condition]
        draws = [each for each in found if each.condition == condition]
        places = row + np.linspace(-0.25, 0.25, len(draws) + 2)[1:-1]
        for x, each in zip(places, draws, strict=True):
            axes.errorbar(x, each.exponent, each.error, color=color, marker=marker, markersize=4)
            axes.plot(x, each.expected, "o", color=color, markerfacecolor="none", markersize=7)
            axes.plot(x, each.located, "x", color="black", markersize=5)
    axes.set_xticks(range(len(CONDITIONS)), CONDITIONS, rotation=30)
    axes.set(xlabel="what acts beside the residual", ylabel=r"$\kappa^*$: unstable below")
    for label, look in _MARKS.items():
        axes.plot([], [], linestyle="", label=label, **look)
    head(axes, "every draw", columns=2)


def _draw_patterns(part: Any, first: dict[str, Outcome], grid: tuple[int, int]) -> None:
    """Draw the part in U of the deviation that has grown most, on a scale of its own each."""
    shown = [each for each in first.values() if each.unstable]
    panels = part.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axes, each in zip(panels, shown, strict=False):
        growth, r = each.fine, each.fine.basis.shape[1]
        group = int(np.argmax(growth.smooth.largest[-1]))
        image = (growth.basis @ growth.smooth.end[group, :r]).reshape(grid)
        show_image(axes, image, float(np.abs(image).max()) or 1.0)
        axes.set_title(each.condition, fontsize=8)
    if not shown:
        panels[0].set_axis_off()
