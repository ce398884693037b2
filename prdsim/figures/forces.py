"""Reaction and diffusion (paper eq. 4, Theorem 3): per neuron, over time; how they scale."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import forces_of
from prdsim.figures.curves import band_note, draw_measure, time_axis, times_of, value_axis
from prdsim.figures.request import Request, draws, needs_samples
from prdsim.figures.style import WITH, annotate, body_of, legend_of_all, new_figure, share_axes

_LAYERS = (("hidden layer", "U", "u"), ("top layer", "V", "v"))


@draws("forces", "norms of reaction and diffusion per neuron", needs_samples)
def draw_forces(request: Request) -> Figure:
    """Draw norms of reaction and diffusion over time, and per neuron at the last snapshot.

    Both of a layer have one axis.
    """
    histories = request.histories("forces")
    figure = new_figure(11.5, 6.4)
    body = body_of(figure)
    for row, (layer, name, symbol) in zip(body.subplots(2, 3), _LAYERS, strict=True):
        kinds = (
            ("reaction", f"reaction_{name}", rf"$\|R^{symbol}_j\|$"),
            ("diffusion", f"diffusion_{name}", rf"$D\,\|\Delta^{symbol}_j\|$"),
        )
        share_axes(row[:2])
        for axes, (kind, measure, math) in zip(row, kinds, strict=False):
            draw_measure(axes, histories, f"{measure}_mean", over=measure)
            axes.set_title(f"{layer}: {kind} {math}")
            time_axis(axes, times_of(histories), log=request.log_time)
        value_axis(row[:2], "norm [1/time]")
        for axes in row[:2]:
            _name_zero_curves(axes)
        _draw_balance(row[2], request, name, symbol)
    legend_of_all(body)
    annotate(figure, request.recordings, band_note(histories, neurons=True))
    return figure


def _name_zero_curves(axes: Axes) -> None:
    """Name the curves that a logarithmic axis cannot show."""
    zero = [str(line.get_label()) for line in axes.lines if not np.any(line.get_ydata())]
    if zero and axes.get_yscale() == "log":
        axes.set_title(f"{axes.get_title()}\n0 {', '.join(zero)}")


def _draw_balance(axes: Axes, request: Request, name: str, symbol: str) -> None:
    """Draw each neuron's reaction against its diffusion, at the last snapshot with diffusion."""
    with_diffusion = [run for run in request.runs if run.config and run.config.diffuses]
    if not with_diffusion:
        axes.set_axis_off()
        return
    run = with_diffusion[0]
    norms = forces_of(run).norms(**run.weights(-1), time=float(run.time[-1]))
    reaction = np.asarray(getattr(norms, f"reaction_{name}"))
    diffusion = np.asarray(getattr(norms, f"diffusion_{name}"))
    axes.plot(reaction, diffusion, ".", color=WITH, alpha=0.6)
    top = 1.05 * float(max(reaction.max(), diffusion.max())) or 1.0
    axes.plot([0, top], [0, top], color="k", linewidth=0.8, linestyle="--")
    axes.set(
        title=f"each neuron {run.label}, t = {run.time[-1]:.4g}",
        xlabel=rf"reaction $\|R^{symbol}_j\|$",
        ylabel=rf"diffusion $D\,\|\Delta^{symbol}_j\|$",
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
    )
