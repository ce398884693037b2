"""Figure 1 of the poster: distances from the initial weights over time, for both layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdsim.figures.bands import band_note, draw_measure, time_axis
from prdsim.figures.request import FigureKind, Request
from prdsim.figures.style import annotate, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = (
    ("(a) hidden layer", "distance_U", r"$\|u_j(t) - u_j(0)\|$"),
    ("(b) top layer", "distance_V", r"$\|v_j(t) - v_j(0)\|$"),
)


def draw_distances(request: Request) -> Figure:
    """Draw the distances of u_j and v_j from where they began, by label."""
    histories = request.histories("distances")
    figure = new_figure(9.0, 3.6)
    for axes, (title, name, symbol) in zip(figure.subplots(1, 2), LAYERS, strict=True):
        draw_measure(axes, histories, f"{name}_mean", over=name)
        axes.set(title=title, ylabel=f"distance {symbol}")
        axes.set_ylim(bottom=0)
        time_axis(axes, histories, log=request.log_time)
        axes.legend(loc="upper left")
    annotate(figure, request.recordings, band_note(histories, neurons=True))
    return figure


KINDS = (
    FigureKind(
        "distances",
        "distances of u_j and v_j from their initial values over time",
        draw_distances,
        "1",
    ),
)
