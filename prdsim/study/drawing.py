"""Figures of studies: a measure over one axis, or over two."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from prdsim.errors import ConfigError
from prdsim.figures.style import GRAY, line_of, new_figure, settings
from prdsim.study.effects import Curve, error_in_words, in_words


def draw_curves(found: Sequence[Curve], measure: str, over: str) -> Figure:
    """Draw the curves of a measure, means over seeds with bands of one standard deviation.

    Axes are logarithmic if values are positive, and the axis spans at least a factor of eight.
    """
    with settings():
        figure = new_figure(6.4, 4.6)
        axes = figure.subplots()
        labels = [curve.label for curve in found]
        for curve in found:
            if curve.x.dtype.kind not in "if":
                raise ConfigError(f"{over}: no axis of numbers; give it to --by")
            style = line_of(curve.label, labels)
            axes.plot(curve.x, curve.mean, marker="o", markersize=4, label=curve.label, **style)
            low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
            axes.fill_between(curve.x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        x = np.unique(np.concatenate([curve.x for curve in found]))
        if x[0] > 0 and x[-1] >= 8 * x[0]:
            axes.set_xscale("log")
            axes.set_xticks(x, [f"{value:g}" for value in x], minor=False)
            axes.set_xticks([], minor=True)
            if all(np.all(curve.mean > 0) for curve in found):
                axes.set_yscale("log")
        axes.set(xlabel=over, ylabel=measure)
        if len(found) > 1:
            axes.legend()
        lines = [f"{_seeds(found)}; bands: one standard deviation over seeds"]
        _annotate(figure, [*lines, *(f"{curve.label}: {in_words(curve)}" for curve in found[:6])])
        return figure


def draw_map(found: Sequence[Curve], measure: str, over: str, against: str) -> Figure:
    """Draw a measure over two axes as a heat map of means over seeds.

    ``found`` are the curves over one axis by the other. Raises `ConfigError` for one point of an
    axis, or points that differ between curves.
    """
    x = found[0].x
    if len(found) < 2 or any(not np.array_equal(curve.x, x) for curve in found):
        raise ConfigError(f"a map needs the same values of {over} at two values of {against}")
    with settings():
        figure = new_figure(6.4, 4.8)
        axes = figure.subplots()
        image = axes.imshow([curve.mean for curve in found], origin="lower", aspect="auto")
        axes.grid(visible=False)
        rows = [next(iter(curve.settings.values())) for curve in found]
        axes.set_xticks(range(len(x)), [str(value) for value in x.tolist()])
        axes.set_yticks(range(len(rows)), [str(value) for value in rows])
        axes.set(xlabel=over, ylabel=against)
        figure.colorbar(image, ax=axes, label=f"{measure}, mean over seeds")
        _annotate(figure, [f"{_seeds(found)}; discretization error {error_in_words(found)}"])
        return figure


def _seeds(found: Sequence[Curve]) -> str:
    counts = sorted({curve.values.shape[1] for curve in found})
    return f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"


def _annotate(figure: Figure, lines: Sequence[str]) -> None:
    """Write seeds, exponents and errors below a figure."""
    text = "\n".join(fill(line, 100) for line in lines)
    figure.supxlabel(text, fontsize=7, color=GRAY)
