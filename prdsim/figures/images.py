"""Figures 2, 3, 4, 7 and 8 of the poster: inputs, filters and features as images; the top layer."""

from __future__ import annotations

from itertools import chain

import numpy as np
from matplotlib.figure import Figure

from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.request import Request, draws, needs_images, needs_input_image, needs_neurons
from prdsim.figures.style import (
    DARK,
    annotate,
    color_bar,
    colors_of,
    draw_curve,
    head,
    largest,
    mosaic,
    mosaic_height,
    new_figure,
    show_image,
)

_NUMBERS = 32  # at most this many neurons are numbered below a panel


@draws("input", "the input image of the features", needs_images, needs_input_image, poster="2")
def draw_input(request: Request) -> Figure:
    """Draw the input image of the features; one for each run if they differ."""
    runs, inputs = request.runs, _inputs(request)
    if _all_equal(inputs):
        runs, inputs = runs[:1], inputs[:1]
    figure = new_figure(3.6 * len(runs), 3.2)
    for axes, run, x in zip(
        np.atleast_1d(figure.subplots(1, len(runs))), runs, inputs, strict=True
    ):
        limit = float(np.abs(x).max()) or 1.0
        drawn = show_image(axes, x.reshape(run.pixels), limit, signed=bool(x.min() < 0))
        whose = f"{run.label}:\n" * (len(runs) > 1)
        axes.set_title(f"{whose}input {request.sample} of {run.setting.split(',')[0]}")
        figure.colorbar(drawn, ax=axes, label=f"entries of $x$, norm {np.linalg.norm(x):.3g}")
    return figure


@draws("filters", "hidden filters u_j as images", needs_images, needs_neurons, poster="3, 7, 8")
def draw_filters(request: Request) -> Figure:
    """Draw u_j at chosen times: one row per run, all on one color scale."""
    return _draw_mosaics(request, changes=False)


@draws("changes", "changes u_j(t) - u_j(0) of filters as images", needs_images, needs_neurons)
def draw_changes(request: Request) -> Figure:
    """Draw u_j(t) - u_j(0) at chosen times: one row per run, all on one color scale."""
    return _draw_mosaics(request, changes=True)


def _draw_mosaics(request: Request, *, changes: bool) -> Figure:
    neurons, runs = request.chosen_neurons(), request.runs
    shown = [request.snapshots(run) for run in runs]
    if changes:  # nothing has changed at the start
        shown = [[k for k in indices if k > 0] or indices for indices in shown]
    rows = [
        [(now.change if changes else now.U)[neurons] for now in map(run.at, indices)]
        for run, indices in zip(runs, shown, strict=True)
    ]
    limit = largest(chain(*rows))
    columns = max(map(len, shown))
    height = mosaic_height(len(neurons), 3.1) + 0.35
    figure = new_figure(3.1 * columns + 1.2, height * len(runs) + 0.4)
    panels = figure.subplots(len(runs), columns, squeeze=False)
    for row, (run, indices, images) in enumerate(zip(runs, shown, rows, strict=True)):
        letter = f"({'abcdefgh'[row % 8]}) " if len(runs) > 1 else ""
        for axes in panels[row, len(images) :]:
            axes.set_axis_off()
        for axes, k, image in zip(panels[row], indices, images, strict=False):
            show_image(axes, mosaic(image, run.pixels), limit)
            axes.set_title(f"{letter}{run.label}, t = {run.time[k]:.4g}")
    symbol = "u_j(t) - u_j(0)" if changes else "u_j(t)"
    color_bar(figure, panels, f"entries of ${symbol}$", chain(*rows))
    annotate(figure, runs, f"{len(neurons)} neurons")
    return figure


@draws(
    "features",
    "maps u_j * x and features relu(U x) of the input image",
    needs_images,
    needs_neurons,
    needs_input_image,
    poster="4",
)
def draw_features(request: Request) -> Figure:
    """Draw the maps u_j * x (entry by entry) and the features relu(U x) of an input image.

    The image is input ``sample`` of the run itself; the title says if runs' inputs differ.
    """
    runs, neurons = request.runs, request.chosen_neurons()
    figure = new_figure(10.0, (mosaic_height(len(neurons), 4.6) + 0.6) * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 2, squeeze=False, width_ratios=(1.25, 1.0))
    inputs, final = _inputs(request), [run.at(-1) for run in runs]
    top = max(float((now.U @ x).max()) for now, x in zip(final, inputs, strict=True))
    images = [now.U[neurons] * x for now, x in zip(final, inputs, strict=True)]
    limit = largest(images)
    shown = zip(panels, runs, final, inputs, images, colors_of(runs), strict=True)
    for (maps, features), run, now, x, image, color in shown:
        show_image(maps, mosaic(image, run.pixels), limit)
        maps.set_title(f"{run.label}, t = {now.time:.4g}: maps $u_j \\circ x$")
        for time, U, look in (
            (0.0, now.U_0, {"color": DARK, "linestyle": "--"}),
            (now.time, now.U, {"color": color}),
        ):
            h = np.sort(np.maximum(U @ x, 0.0))[::-1]
            draw_curve(features, np.arange(1, len(h) + 1), h, **look, label=f"t = {time:.4g}")
        features.set(
            xlabel="rank of the neuron",
            ylabel=r"$\mathrm{relu}(u_j \cdot x)$",
            ylim=(0, 1.05 * top if top > 0 else 1.0),
        )
        head(features, "hidden features, largest first")
    color_bar(figure, panels[:, 0], "entries of $u_j \\circ x$", images)
    whose = "" if _all_equal(inputs) else " of each run, which differ"
    annotate(figure, runs, f"input {request.sample}{whose}")
    return figure


@draws("top", "columns v_j of the top layer, first, last, and changes", needs_neurons)
def draw_top(request: Request) -> Figure:
    """Draw the columns v_j of the top layer of chosen neurons: first, last, and the change."""
    runs, neurons = request.runs, request.chosen_neurons()
    d_out = runs[0].V.shape[1]
    figure = new_figure(11.0, (min(1.2 + 0.16 * d_out, 5.0) + 0.4) * len(runs) + 0.3)
    panels = figure.subplots(len(runs), 3, squeeze=False)
    final = [run.at(-1) for run in runs]
    columns = [[V[:, neurons] for V in (now.V_0, now.V, now.V - now.V_0)] for now in final]
    limit = largest(chain(*columns))
    for row, run, now, images in zip(panels, runs, final, columns, strict=True):
        names = ("$v_j(0)$", f"$v_j(t)$, t = {now.time:.4g}", "$v_j(t) - v_j(0)$")
        for axes, image, name in zip(row, images, names, strict=True):
            show_image(axes, image, limit)
            axes.set_aspect("auto")
            axes.set(title=f"{run.label}: {name}", xlabel="neuron j, of those chosen")
            axes.set_yticks([0, d_out - 1])
            every = slice(None, None, -(-len(neurons) // _NUMBERS))
            numbers = [str(neuron) for neuron in neurons]
            axes.set_xticks(np.arange(len(neurons))[every], numbers[every], rotation=90, fontsize=6)
        row[0].set_ylabel("output i")
    color_bar(figure, panels, "entries", chain(*columns))
    annotate(figure, runs, f"{len(neurons)} neurons")
    return figure


def _inputs(request: Request) -> list[Array]:
    """Return the requested input of each run shown, (d_in,)."""
    return [request.input_of(run) for run in request.runs]


def _all_equal(arrays: list[Array]) -> bool:
    return all(np.array_equal(array, arrays[0]) for array in arrays)
