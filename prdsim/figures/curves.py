"""Curves over time with bands over neurons and over initial draws; figure 1 of the poster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import History
from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.request import Histories, Request, draws
from prdsim.figures.style import annotate, body_of, draw_curve, legend_of_all, line_of, new_figure


def _over_time(runs: Sequence[History], name: str) -> tuple[Array, Array]:
    """Return the times (K,) of the first run and a measure there, one run per row, interpolated.

    Times end with the shortest run.
    """
    time = runs[0].time
    time = time[time <= min(float(run.time[-1]) for run in runs)]
    return time, np.array([np.interp(time, run.time, run[name]) for run in runs])


def draw_measure(axes: Axes, histories: Histories, name: str, *, over: str = "") -> None:
    """Draw a measure over time: a line for the mean over runs, a band for their range.

    ``over`` is the stem of measures whose 5 to 95 % quantiles over neurons make a lighter band.
    """
    for label, runs in histories.items():
        look = line_of(label, list(histories))
        color = look["color"]
        time, values = _over_time(runs, name)
        draw_curve(axes, time, values.mean(axis=0), **look, label=label)
        if len(runs) > 1:
            draw_band(axes, time, values.min(axis=0), values.max(axis=0), color, 0.35)
        if over:
            low, high = (_over_time(runs, f"{over}_{q}")[1].mean(axis=0) for q in ("q05", "q95"))
            draw_band(axes, time, low, high, color, 0.12)


def draw_band(axes: Axes, time: Array, low: Array, high: Array, color: str, alpha: float) -> None:
    """Draw a range over time; that of a single time as a bar."""
    if len(time) == 1:
        axes.vlines(time, low, high, color=color, alpha=alpha, linewidth=8)
    else:
        axes.fill_between(time, low, high, color=color, alpha=alpha, linewidth=0)


_POINTS = (("o", 6), ("x", 4), ("s", 4), ("+", 6))  # shapes and sizes, in the order of labels


def draw_points(axes: Axes, histories: Histories, name: str) -> None:
    """Draw a measure that takes few values as points, one a snapshot of each run: no means."""
    for (label, runs), (mark, size) in zip(histories.items(), cycle(_POINTS), strict=False):
        look = {"color": line_of(label, list(histories))["color"], "fillstyle": "none"}
        for run in runs:
            axes.plot(run.time, run[name], mark, markersize=size, **look)
    axes.set_ylim(bottom=0)


def time_axis(axes: Axes, times: Array, *, log: bool) -> None:
    """Label the time axis of times; if logarithmic, it begins at the first one after t = 0."""
    axes.set_xlabel("time t")
    positive = times[times > 0]
    if log and len(positive):
        axes.set_xscale("log")
        if positive.min() < positive.max():
            axes.set_xlim(positive.min(), positive.max())
    elif len(positive):
        axes.set_xlim(0, positive.max())


def times_of(histories: Histories) -> Array:
    """Return the times of all histories, one after the other."""
    return np.concatenate([run.time for runs in histories.values() for run in runs])


def value_axis(panels: Sequence[Axes], label: str) -> None:
    """Label the y axes of panels; logarithmic, so that a large start does not flatten the rest.

    Unless all curves are positive the axis is linear around 0, and its label gives the limit. A
    curve that is 0 throughout does not count: it is invisible on a logarithmic axis.
    """
    drawn = [np.asarray(line.get_ydata(), float) for axes in panels for line in axes.lines]
    values = np.concatenate([curve for curve in drawn if curve.any()] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    sizes = np.abs(values[values != 0.0])
    top = float(sizes.max(initial=0.0))
    if top and values.min() > 0.0:
        for axes in panels:
            axes.set_yscale("log")
            # Deep bands and curves that have died out would flatten the others.
            axes.set_ylim(bottom=max(axes.get_ylim()[0], values.min() / 30, _LEAST * top))
    elif top:
        linear = 10.0 ** np.floor(np.log10(max(sizes.min(), _LINEAR * top)))
        label += f"\nlinear below {linear:g}"
        for axes in panels:
            axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
            axes.set_ylim(bottom=min(1.5 * values.min(), 0.0))
    panels[0].set_ylabel(label)


_LEAST, _LINEAR = 1e-4, 1e-3  # of the largest value: the least shown, the limit of linearity


def band_note(histories: Histories, *, neurons: bool) -> str:
    """Explain lines and bands."""
    counts = {len(runs) for runs in histories.values()}
    parts = []
    if max(counts) > 1:
        number = "/".join(str(count) for count in sorted(counts))
        parts.append(f"line: mean over {number} initial draws; dark band: their range")
    elif neurons:
        parts.append("line: mean over neurons")
    if neurons:
        parts.append("light band: 5 to 95 % of the neurons")
    return "; ".join(parts)


# -- figure 1 --------------------------------------------------------------------------------------

_LAYERS = (
    ("(a) hidden layer", "distance_U", r"$\|u_j(t) - u_j(0)\|$"),
    ("(b) top layer", "distance_V", r"$\|v_j(t) - v_j(0)\|$"),
)


@draws("distances", "distances of u_j and v_j from their initial values over time", poster="1")
def draw_distances(request: Request) -> Figure:
    """Draw the distances of u_j and v_j from their initial values, by label."""
    histories = request.histories("distances")
    figure = new_figure(9.0, 3.8)
    body = body_of(figure)
    for axes, (title, name, symbol) in zip(body.subplots(1, 2), _LAYERS, strict=True):
        draw_measure(axes, histories, f"{name}_mean", over=name)
        axes.set(title=title, ylabel=f"distance {symbol}")
        axes.set_ylim(bottom=0)
        time_axis(axes, times_of(histories), log=request.log_time)
    legend_of_all(body)
    annotate(figure, request.recordings, band_note(histories, neurons=True))
    return figure
