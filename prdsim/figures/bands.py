"""Curves over time of one run or of several, with bands over neurons and over initial draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from prdsim.figures.style import Array, line_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from prdsim.analysis import History

Histories = dict[str, list["History"]]
"""The histories of the runs of each label."""


def common_time(histories: Sequence[History]) -> Array:
    """Return the snapshot times of the first run, up to where the shortest run ends."""
    end = min(float(history.time[-1]) for history in histories)
    times: Array = histories[0].time
    common: Array = times[times <= end]
    return common


def curves(histories: Sequence[History], name: str) -> tuple[Array, Array]:
    """Return common times (K,) and a measure at them, one run a row; linear in between."""
    time = common_time(histories)
    return time, np.array([np.interp(time, run.time, run[name]) for run in histories])


def draw_measure(axes: Axes, histories: Histories, name: str, *, over: str = "") -> None:
    """Draw a measure over time: a line for the mean over runs, a band for their range.

    ``over`` names a measure's stem whose 5 to 95 % quantiles over neurons make a lighter band.
    """
    for label, runs in histories.items():
        look = line_of(label, list(histories))
        color = look["color"]
        time, values = curves(runs, name)
        axes.plot(time, values.mean(axis=0), **look, label=label)
        if len(runs) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(time, low, high, color=color, alpha=0.35, linewidth=0)
        if over:
            low, high = (curves(runs, f"{over}_{q}")[1].mean(axis=0) for q in ("q05", "q95"))
            axes.fill_between(time, low, high, color=color, alpha=0.12, linewidth=0)


def time_axis(axes: Axes, histories: Histories, *, log: bool) -> None:
    """Label the axis of time; logarithmic from the first snapshot after t = 0."""
    axes.set_xlabel("time t")
    times = np.concatenate([run.time for runs in histories.values() for run in runs])
    positive = times[times > 0]
    if log and len(positive):
        axes.set_xscale("log")
        if positive.min() < positive.max():
            axes.set_xlim(positive.min(), positive.max())
    elif len(positive):
        axes.set_xlim(0, positive.max())


def value_axis(panels: Sequence[Axes], label: str) -> None:
    """Label the y axes of panels; logarithmic, so that a large start does not flatten the rest.

    Where curves are not all positive the axis is linear around 0, and says how far. A curve that is
    0 throughout does not count: it is not seen on a logarithmic axis.
    """
    drawn = [np.asarray(line.get_ydata(), float) for axes in panels for line in axes.lines]
    values = np.concatenate([curve for curve in drawn if curve.any()] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    sizes = np.abs(values[values != 0.0])
    top = float(sizes.max(initial=0.0))
    if top and values.min() > 0.0:
        for axes in panels:
            axes.set_yscale("log")
            # Bands that reach far down, and what has died out, would flatten the curves.
            axes.set_ylim(bottom=max(axes.get_ylim()[0], values.min() / 30, _LEAST * top))
    elif top:
        linear = 10.0 ** np.floor(np.log10(max(sizes.min(), _LINEAR * top)))
        label += f"\nlinear below {linear:g}"
        for axes in panels:
            axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
            axes.set_ylim(bottom=min(1.5 * values.min(), 0.0))
    panels[0].set_ylabel(label)


_LEAST, _LINEAR = 1e-4, 1e-3  # of the largest value: the least that is shown, or told from 0


def band_note(histories: Histories, *, neurons: bool) -> str:
    """Say what lines and bands are."""
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
