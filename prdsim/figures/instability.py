"""The instability: growth rates of neurons, their patterns, growth along the spectrum, modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.analysis import growth_of
from prdsim.analysis.growth import GrowthRates
from prdsim.analysis.theory import coupling_history, stability_of

from .filters import tiles_across
from .request import Request
from .style import (
    GRAY,
    WITH,
    WITHOUT,
    Array,
    annotate,
    color_of,
    extended,
    largest,
    mosaic,
    new_figure,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SNAPSHOTS = 12  # at which growth rates are computed, evenly in the order of the file
_FLOWS = {
    "reaction": ("without diffusion", WITHOUT, 5),
    "frozen": ("with diffusion, critic frozen", "#edae49", 8),
    "joint": ("with diffusion, critic moving", WITH, 4),
}


def draw_growth(request: Request) -> Figure:
    """Draw sigma_1(C_j) over time, mean and range over neurons, and its two parts."""
    runs = request.runs
    figure = new_figure(5.0 * len(runs) + 0.6, 3.8)
    panels = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
    labels = [run.label for run in runs]
    for axes, run in zip(panels, runs, strict=True):
        chosen = np.unique(np.linspace(0, len(run) - 1, _SNAPSHOTS).round().astype(int))
        growth = growth_of(run)
        rates = [growth.rates(**run.weights(k)) for k in request.progress(chosen.tolist())]
        _growth(axes, run.time[chosen], rates, color_of(run.label, labels))
        axes.set(title=run.label, xlabel="time t")
        if len(chosen) > 1 and request.log_time:
            axes.set_xscale("symlog", linthresh=float(run.time[chosen[1]]))
        axes.set_xlim(0, float(run.time[-1]) or 1.0)
        axes.legend(fontsize=7.5)
    panels[0].autoscale(axis="y")
    panels[0].set_ylabel(r"leading growth rate $\sigma_1(C_j)$ [1/time]")
    annotate(figure, runs, "band: 5 to 95 % of the neurons")
    return figure


def _growth(axes: Axes, time: Array, rates: list[GrowthRates], color: str) -> None:
    leading = np.array([rate.total[:, 0] for rate in rates])
    low, high = np.quantile(leading, (0.05, 0.95), axis=1)
    axes.plot(time, leading.mean(axis=1), ".-", color=color, label="mean over neurons")
    axes.fill_between(time, low, high, color=color, alpha=0.15, linewidth=0)
    for name, style in (("reaction", "--"), ("diffusion", ":")):
        part = [np.mean(getattr(rate, name)[:, 0]) for rate in rates]
        axes.plot(time, part, style, color=GRAY, label=f"its {name} part, mean")


def draw_patterns(request: Request) -> Figure:
    """Draw what neurons grow towards at first, the right singular vectors of C_j, and where to.

    A row a run: the leading pattern at t = 0, that of the last snapshot, u_j(t) - u_j(0).
    """
    runs, neurons = request.runs, request.chosen_neurons()
    across = tiles_across(len(neurons))
    down = -(-len(neurons) // across)
    figure = new_figure(10.4, (3.1 * down / across + 0.35) * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 3, squeeze=False)
    for row, run in zip(panels, runs, strict=True):
        now, growth = run.at(-1), growth_of(run)
        first, last = (growth.patterns(**run.weights(k))[0][neurons] for k in (0, -1))
        limit = largest([first, last])
        for axes, images, time in ((row[0], first, 0.0), (row[1], last, now.time)):
            drawn = show_image(axes, mosaic(images, run.pixels, across), limit)
            axes.set_title(f"{run.label}: pattern at t = {time:.4g}")
        both = np.concatenate([first, last])
        figure.colorbar(
            drawn, ax=row[:2].tolist(), label="unit vectors", extend=extended(both, limit)
        )
        change = now.change[neurons]
        limit = largest([change])
        drawn = show_image(row[2], mosaic(change, run.pixels, across), limit)
        row[2].set_title(f"change to t = {now.time:.4g}")
        figure.colorbar(drawn, ax=row[2], label="$u_j(t) - u_j(0)$", extend=extended(change, limit))
    annotate(figure, runs, f"right singular vectors of $C_j$, {len(neurons)} neurons")
    return figure


def draw_dispersion(request: Request) -> Figure:
    """Draw growth along the spectrum of the inputs, the analogue of a dispersion relation."""
    runs = request.runs
    figure = new_figure(9.6, 3.4 * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 2, squeeze=False, sharex=True)
    for row, run in zip(panels, runs, strict=True):
        growth = growth_of(run)
        for axes, index in zip(row, (0, -1), strict=True):
            found = growth.spectrum(**run.weights(index))
            axes.plot(found.singular_values, found.reaction, color=WITHOUT, label="reaction")
            if found.diffusion.any():
                axes.plot(
                    found.singular_values, found.diffusion, color="#edae49", label="diffusion"
                )
                axes.plot(found.singular_values, found.total, color=WITH, label="both")
            axes.set(
                title=f"{run.label}, t = {run.time[index]:.4g}",
                ylabel=r"rate $\|C_j q_i\|$ [1/time]",
            )
            if found.total.any():  # else nothing is driven, as from weights that are all 0
                axes.set(xscale="log", yscale="log")
            axes.legend(fontsize=7.5)
    for axes in panels[-1]:
        axes.set_xlabel("singular value of X in direction $q_i$")
    annotate(figure, runs, "root mean square over neurons")
    return figure


def draw_ranking(request: Request) -> Figure:
    """Draw how far neurons went against their integrated growth rate, from a replay of the run."""
    runs = request.runs
    figure = new_figure(4.8 * len(runs) + 0.4, 3.8)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    labels = [run.label for run in runs]
    for axes, run in zip(panels, runs, strict=True):
        found = coupling_history(run)
        moved = found.span_shares[found.distances > 0]
        share = f"{np.median(moved):.3f}" if len(moved) else "none moved"
        color = color_of(run.label, labels)
        axes.plot(found.leading, found.distances, ".", color=color, alpha=0.6)
        axes.set(
            title=f"{run.label}: rank correlation {found.rank_correlation:.2f}\n"
            f"median share in the span of $\\int C_j\\,dt$: {share}",
            xlabel=r"$\int \sigma_1(C_j)\,dt$ to the end",
            ylabel=r"$\|u_j(t) - u_j(0)\|$",
        )
    annotate(figure, runs)
    return figure


def draw_stability(request: Request) -> Figure:
    """Draw the leading eigenvalues of the three flows at the last snapshot of each run."""
    runs = request.runs
    figure = new_figure(9.4, 3.2 * len(runs) + 0.6)
    panels = figure.subplots(len(runs), 2, squeeze=False)
    for row, run in zip(panels, runs, strict=True):
        found = stability_of(run)
        for flow, modes in found.modes.items():
            words, color, size = _FLOWS[flow]
            marks = {"color": color, "ms": size, "fillstyle": "none", "markeredgewidth": 1.5}
            count = np.arange(1, len(modes.eigenvalues) + 1)
            row[0].plot(count, modes.eigenvalues.real, "o-", label=words, linewidth=0.8, **marks)
            row[1].plot(modes.eigenvalues.real, modes.eigenvalues.imag, "o", **marks)
        row[0].axhline(0, color="k", linewidth=0.8)
        row[1].axvline(0, color="k", linewidth=0.8)
        head = "reaction equilibrium" if found.equilibrium else "instantaneous rates, no verdict"
        row[0].set(
            title=f"{run.label}, t = {run.time[-1]:.4g}: {head}",
            xlabel="mode",
            ylabel=r"Re $\lambda$ [1/time]",
        )
        row[1].set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", title="in the complex plane")
        row[0].legend(fontsize=7.5)
    annotate(figure, runs)
    return figure
