"""Figures 3, 7 and 8 of the poster: filters u_j, and how they changed, as images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.figures.request import Request
from prdsim.figures.style import Array, annotate, extended, largest, mosaic, new_figure, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prdsim.analysis import Recording


def draw_filters(request: Request) -> Figure:
    """Draw u_j at chosen times: a row a run, on one color scale."""
    return _draw(request, changes=False)


def draw_changes(request: Request) -> Figure:
    """Draw u_j(t) - u_j(0) at chosen times: a row a run, on one color scale."""
    return _draw(request, changes=True)


def _draw(request: Request, *, changes: bool) -> Figure:
    neurons, runs = request.chosen_neurons(), request.runs
    shown = [request.snapshots(run) for run in runs]
    if changes:  # nothing has changed at the start
        shown = [[k for k in indices if k > 0] or indices for indices in shown]
    columns = max(map(len, shown))
    across = tiles_across(len(neurons))
    down = -(-len(neurons) // across)
    width = 3.1 * columns + 1.2
    figure = new_figure(width, (3.1 * down / across + 0.35) * len(runs) + 0.4)
    panels = figure.subplots(len(runs), columns, squeeze=False)
    for row, (run, indices) in enumerate(zip(runs, shown, strict=True)):
        images = _images(run, indices, neurons, changes=changes)
        limit = largest(images)
        for column, axes in enumerate(panels[row]):
            if column >= len(images):
                axes.set_axis_off()
                continue
            drawn = show_image(axes, mosaic(images[column], run.pixels, across), limit)
            time = run.time[indices[column]]
            axes.set_title(f"{_letter(row, runs)}{run.label}, t = {time:.4g}")
        symbol = "u_j(t) - u_j(0)" if changes else "u_j(t)"
        figure.colorbar(
            drawn,
            ax=panels[row],
            label=f"entries of ${symbol}$",
            extend=extended(np.concatenate(images), limit),
        )
    annotate(figure, runs, f"{len(neurons)} neurons")
    return figure


def tiles_across(count: int) -> int:
    """Return the number of columns of a mosaic, a little wider than high."""
    return max(1, int(np.ceil(np.sqrt(1.4 * count))))


def _images(run: Recording, indices: list[int], neurons: Array, *, changes: bool) -> list[Array]:
    """Return what is shown of each snapshot, (neurons, d_in)."""
    snapshots = (run.at(index) for index in indices)
    return [(now.change if changes else now.U)[neurons] for now in snapshots]


def _letter(row: int, runs: list[Recording]) -> str:
    return f"({'abcdefgh'[row % 8]}) " if len(runs) > 1 else ""
