"""The instability: growth rates of neurons, their patterns, growth along the spectrum, modes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import History, growth_of, history
from prdsim.analysis.run_tables import stability_of
from prdsim.analysis.stability.coupling_history import replay_couplings
from prdsim.analysis.stability.modes import FLOW_NAMES
from prdsim.figures.curves import time_axis, value_axis
from prdsim.figures.request import Request, draws, needs_images, needs_neurons, needs_samples
from prdsim.figures.style import (
    DARK,
    PARTS,
    WITH,
    WITHOUT,
    YELLOW,
    annotate,
    colors_of,
    extended,
    largest,
    mosaic,
    mosaic_height,
    new_figure,
    show_image,
)
from prdsim.progress import Told

_SNAPSHOTS = 12  # number of snapshots for growth rates, evenly spaced in the file
_MARKS = {"reaction": (WITHOUT, "s", 5), "frozen": (YELLOW, "o", 9), "joint": (WITH, "x", 4)}


@draws("growth", "leading growth rates sigma_1(C_j) over time", needs_samples)
def draw_growth(request: Request) -> Figure:
    """Draw sigma_1(C_j) over time, mean and range over neurons; with diffusion its two parts."""
    runs = request.runs
    figure = new_figure(5.0 * len(runs) + 0.6, 3.8)
    panels = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
    for axes, run, color in zip(panels, runs, colors_of(runs), strict=True):
        chosen = np.unique(np.linspace(0, len(run) - 1, _SNAPSHOTS).round().astype(int))
        found = history(run, ["growth"], snapshots=chosen.tolist(), progress=request.progress)
        _draw_growth_rates(axes, found, color)
        axes.set_title(run.label)
        time_axis(axes, {run.label: [found]}, log=request.log_time)
        axes.legend(fontsize=7.5)
    value_axis(panels, r"leading growth rate $\sigma_1(C_j)$ [1/time]")
    annotate(figure, runs, "band: 5 to 95 % of the neurons")
    return figure


def _draw_growth_rates(axes: Axes, found: History, color: str) -> None:
    driven = bool(found["growth_diffusion"].any())
    label = "mean over neurons" + ", all of it reaction" * (not driven)
    axes.plot(found.time, found["growth_rate_mean"], PARTS["both"], color=color, label=label)
    low, high = found["growth_rate_q05"], found["growth_rate_q95"]
    axes.fill_between(found.time, low, high, color=color, alpha=0.15, linewidth=0)
    for name in ("reaction", "diffusion") if driven else ():
        label, style = f"its {name} part, mean", PARTS[name]
        axes.plot(found.time, found[f"growth_{name}"], color=DARK, linestyle=style, label=label)


@draws(
    "patterns",
    "the patterns that neurons grow towards, and how they changed",
    needs_images,
    needs_neurons,
    needs_samples,
)
def draw_patterns(request: Request) -> Figure:
    """Draw the patterns that neurons grow towards, right singular vectors of C_j, and the changes.

    One row per run: the leading pattern at t = 0, that of the last snapshot, u_j(t) - u_j(0).
    """
    runs, neurons = request.runs, request.chosen_neurons()
    figure = new_figure(10.4, (mosaic_height(len(neurons), 3.1) + 0.35) * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 3, squeeze=False)
    for row, run in zip(panels, runs, strict=True):
        now, growth = run.at(-1), growth_of(run)
        first, last = (growth.patterns(**run.weights(k))[0][neurons] for k in (0, -1))
        limit = largest([first, last])
        for axes, images, time in ((row[0], first, 0.0), (row[1], last, now.time)):
            drawn = show_image(axes, mosaic(images, run.pixels), limit)
            axes.set_title(f"{run.label}: pattern at t = {time:.4g}")
        both = np.concatenate([first, last])
        figure.colorbar(
            drawn, ax=row[:2].tolist(), label="unit vectors", extend=extended(both, limit)
        )
        change = now.change[neurons]
        limit = largest([change])
        drawn = show_image(row[2], mosaic(change, run.pixels), limit)
        row[2].set_title(f"change to t = {now.time:.4g}")
        figure.colorbar(drawn, ax=row[2], label="$u_j(t) - u_j(0)$", extend=extended(change, limit))
    annotate(figure, runs, f"right singular vectors of $C_j$, {len(neurons)} neurons")
    return figure


@draws("dispersion", "growth along the spectrum of the inputs", needs_samples)
def draw_dispersion(request: Request) -> Figure:
    """Draw growth along the spectrum of the inputs, the analogue of a dispersion relation."""
    runs = request.runs
    figure = new_figure(9.6, 3.4 * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 2, squeeze=False, sharex=True, sharey=True)
    for row, run in zip(panels, runs, strict=True):
        growth = growth_of(run)
        for axes, index in zip(row, (0, -1), strict=True):
            found = growth.spectrum(**run.weights(index))
            curves = {"reaction": (found.reaction, WITHOUT)}
            if found.diffusion.any():  # dashed and dotted parts over their sum
                parts = {**curves, "diffusion": (found.diffusion, YELLOW)}
                curves = {"both": (found.total, WITH), **parts}
            for name, (rates, color) in curves.items():
                look: Any = {"color": color, "linestyle": PARTS[name], "label": name}
                axes.plot(found.singular_values, rates, **look)
            axes.set_title(f"{run.label}, t = {run.time[index]:.4g}")
            if found.total.any():  # else nothing is driven, for example by weights that are all 0
                axes.set(xscale="log", yscale="log")
            axes.legend(fontsize=7.5)
        row[0].set_ylabel(r"rate $\|C_j q_i\|$ [1/time]")
    for axes in panels[-1]:
        axes.set_xlabel("singular value of X in direction $q_i$")
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
    figure = new_figure(9.4, 3.2 * len(runs) + 0.6)
    panels = figure.subplots(len(runs), 2, squeeze=False)
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
        head = "reaction equilibrium" if found.equilibrium else "instantaneous rates, no verdict"
        row[0].set(
            title=f"{run.label}, t = {run.time[-1]:.4g}: {head}",
            xlabel="mode",
            ylabel=r"Re $\lambda$ [1/time]",
        )
        row[1].set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", title="in the complex plane")
        row[0].legend(fontsize=7.5, title="the flow", title_fontsize=7.5)
    annotate(figure, runs)
    return figure
