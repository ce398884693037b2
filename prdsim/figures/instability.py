"""The instability: growth rates of neurons, their patterns, growth along the spectrum, modes."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import History, growth_of, history
from prdsim.analysis.run_tables import stability_of
from prdsim.analysis.stability.coupling_history import replay_couplings
from prdsim.analysis.stability.modes import FLOW_NAMES
from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.curves import draw_band, time_axis, value_axis
from prdsim.figures.request import Request, draws, needs_images, needs_neurons, needs_samples
from prdsim.figures.style import (
    DARK,
    PARTS,
    WITH,
    WITHOUT,
    YELLOW,
    annotate,
    body_of,
    color_bar,
    colors_of,
    draw_curve,
    head,
    largest,
    legend_of_all,
    mosaic,
    mosaic_height,
    new_figure,
    share_axes,
    show_image,
)
from prdsim.progress import Told

_SNAPSHOTS = 12  # number of snapshots for growth rates, evenly spaced in the file
_MARKS = {"reaction": (WITHOUT, "s", 5), "frozen": (YELLOW, "o", 9), "joint": (WITH, "x", 4)}


@draws("growth", "leading growth rates sigma_1(C_j) over time", needs_samples)
def draw_growth(request: Request) -> Figure:
    """Draw sigma_1(C_j) over time, mean and range over neurons; with diffusion its two parts."""
    runs = request.runs
    figure = new_figure(5.0 * len(runs) + 0.6, 4.0)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    share_axes(panels)
    counts = set()
    for axes, run, color in zip(panels, runs, colors_of(runs), strict=True):
        chosen = np.unique(np.linspace(0, len(run) - 1, _SNAPSHOTS).round().astype(int))
        found = history(run, ["growth"], snapshots=chosen.tolist(), progress=request.progress)
        _draw_growth_rates(axes, found, color)
        head(axes, run.label)
        counts.add(f"{len(chosen)} of {len(run)}")
    time_axis(panels[0], np.concatenate([run.time for run in runs]), log=request.log_time)
    for axes in panels[1:]:
        axes.set_xlabel(panels[0].get_xlabel())
    value_axis(panels, r"leading growth rate $\sigma_1(C_j)$ [1/time]")
    dots = f"dots: {' and '.join(sorted(counts))} snapshots"
    annotate(figure, runs, f"means and 5 to 95 % of the neurons; {dots}")
    return figure


def _draw_growth_rates(axes: Axes, found: History, color: str) -> None:
    driven = bool(found["growth_diffusion"].any())
    look: Any = {"color": color, "linestyle": PARTS["both"], "marker": "o", "markersize": 3.5}
    label = "mean over neurons" + ", all of it reaction" * (not driven)
    axes.plot(found.time, found["growth_rate_mean"], **look, label=label)
    draw_band(axes, found.time, found["growth_rate_q05"], found["growth_rate_q95"], color, 0.15)
    for name in ("reaction", "diffusion") if driven else ():
        look = {"color": DARK, "linestyle": PARTS[name], "label": f"{name} part"}
        draw_curve(axes, found.time, found[f"growth_{name}"], **look)


@draws(
    "patterns",
    "the patterns that neurons grow towards, and how they changed",
    needs_images,
    needs_neurons,
    needs_samples,
)
def draw_patterns(request: Request) -> Figure:
    """Draw the patterns that neurons grow towards, right singular vectors of C_j, and the changes.

    One row per run: the leading pattern at t = 0, that of the last snapshot, u_j(t) - u_j(0). The
    sign of a singular vector is arbitrary: here it is that which is nearer to the change.
    """
    runs, neurons = request.runs, request.chosen_neurons()
    figure = new_figure(10.4, (mosaic_height(len(neurons), 3.1) + 0.35) * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 3, squeeze=False)
    final = [run.at(-1) for run in runs]
    changes = [now.change[neurons] for now in final]
    patterns = [
        [
            _aligned(growth.patterns(**run.weights(k), time=run.time[k])[0][neurons], change)
            for k in (0, -1)
        ]
        for run, growth, change in zip(runs, map(growth_of, runs), changes, strict=True)
    ]
    limits = [largest(chain(*patterns))] * 2 + [largest(changes)]
    for row, run, now, images, change in zip(panels, runs, final, patterns, changes, strict=True):
        for axes, image, limit in zip(row, (*images, change), limits, strict=True):
            show_image(axes, mosaic(image, run.pixels), limit)
        for axes, time in ((row[0], 0.0), (row[1], now.time)):
            axes.set_title(f"{run.label}: pattern at t = {time:.4g}")
        row[2].set_title(f"change to t = {now.time:.4g}")
    color_bar(figure, panels[:, :2], "unit vectors", chain(*patterns))
    color_bar(figure, panels[:, 2], "$u_j(t) - u_j(0)$", changes)
    annotate(figure, runs, f"right singular vectors of $C_j$, {len(neurons)} neurons")
    return figure


def _aligned(patterns: Array, changes: Array) -> Array:
    """Return patterns (k, d_in) with the signs that are nearer to the changes (k, d_in)."""
    opposed = np.einsum("jk,jk->j", patterns, changes) < 0.0
    return np.where(opposed[:, None], -patterns, patterns)


@draws("dispersion", "growth along the spectrum of the inputs", needs_samples)
def draw_dispersion(request: Request) -> Figure:
    """Draw growth along the spectrum of the inputs, the analogue of a dispersion relation."""
    runs = request.runs
    figure = new_figure(9.6, 3.4 * len(runs) + 0.6)
    body = body_of(figure)
    panels = body.subplots(len(runs), 2, squeeze=False, sharex=True, sharey=True)
    for row, run in zip(panels, runs, strict=True):
        growth = growth_of(run)
        for axes, index in zip(row, (0, -1), strict=True):
            found = growth.spectrum(**run.weights(index), time=run.time[index])
            curves = {"reaction": (found.reaction, WITHOUT)}
            if found.diffusion.any():  # dashed and dotted parts over their sum
                parts = {**curves, "diffusion": (found.diffusion, YELLOW)}
                curves = {"both": (found.total, WITH), **parts}
            for name, (rates, color) in curves.items():
                look: Any = {"color": color, "linestyle": PARTS[name], "label": name}
                draw_curve(axes, found.singular_values, rates, **look)
            axes.set_title(f"{run.label}, t = {run.time[index]:.4g}")
            if found.total.any():  # else nothing is driven, for example by weights that are all 0
                axes.set(xscale="log", yscale="log")
        row[0].set_ylabel(r"rate $\|C_j q_i\|$ [1/time]")
    for axes in panels[-1]:
        axes.set_xlabel("singular value of X in direction $q_i$")
    legend_of_all(body)
    annotate(figure, runs, "root mean square over neurons")
    return figure


@draws(
    "ranking", "distances against integrated growth rates (runs again, in memory)", needs_samples
)
def draw_ranking(request: Request) -> Figure:
    """Draw neurons' distances against their integrated growth rates, from a replay of the run."""
    runs = request.runs
    figure = new_figure(4.8 * len(runs) + 0.4, 3.8)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    share_axes(panels)
    for axes, run, color in zip(panels, runs, colors_of(runs), strict=True):
        found = replay_couplings(run.file, progress=Told(request.say, f"{run.name} again"))
        moved = found.span_shares[found.distances > 0]
        share = f"{np.median(moved):.3f}" if len(moved) else "none moved"
        axes.plot(found.leading, found.distances, ".", color=color, alpha=0.6)
        axes.set(
            title=f"{run.label}: rank correlation {found.rank_correlation:.2f}\n"
            f"median share in the span of $\\int C_j\\,dt$: {share}",
            xlabel=r"$\int \sigma_1(C_j)\,dt$ to the end",
            ylabel=r"$\|u_j(t) - u_j(0)\|$",
        )
    annotate(figure, runs)
    return figure


@draws("stability", "leading eigenvalues of the flow's Jacobian", needs_samples)
def draw_stability(request: Request) -> Figure:
    """Draw the leading eigenvalues of the three flows at the last snapshot of each run."""
    runs = request.runs
    figure = new_figure(9.4, 3.2 * len(runs) + 0.8)
    body = body_of(figure)
    panels = body.subplots(len(runs), 2, squeeze=False)
    for column in panels.T:
        share_axes(column)
    for row, run in zip(panels, runs, strict=True):
        found = stability_of(run, say=request.say)
        for flow, modes in found.modes.items():
            color, mark, size = _MARKS[flow]
            marks: Any = {"color": color, "marker": mark, "ms": size, "markeredgewidth": 1.5}
            marks |= {"fillstyle": "none"}
            count = np.arange(1, len(modes.eigenvalues) + 1)
            row[0].plot(
                count, modes.eigenvalues.real, label=FLOW_NAMES[flow], linewidth=0.8, **marks
            )
            row[1].plot(modes.eigenvalues.real, modes.eigenvalues.imag, linestyle="", **marks)
        row[0].axhline(0, color="k", linewidth=0.8)
        row[1].axvline(0, color="k", linewidth=0.8)
        judged = "reaction equilibrium" if found.equilibrium else "instantaneous rates, no verdict"
        row[0].set(
            title=f"state reached {run.label}, t = {run.time[-1]:.4g}:\n{judged}",
            xlabel="mode",
            ylabel=r"Re $\lambda$ [1/time]",
        )
        row[1].set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", title="in the complex plane")
    legend_of_all(body)
    annotate(figure, runs, "legend: the flow whose modes are shown")
    return figure
