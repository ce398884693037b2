"""Figure 1 of the poster: distances from the initial weights over time, for both layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .bands import Histories, band_note, draw_measure, time_axis
from .style import add_note, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prdsim.analysis import Recording

LAYERS = (
    ("(a) hidden layer", "distance_U", r"$\|u_j(t) - u_j(0)\|$"),
    ("(b) top layer", "distance_V", r"$\|v_j(t) - v_j(0)\|$"),
)


def draw(recordings: Sequence[Recording], histories: Histories, *, log_time: bool) -> Figure:
    """Draw the distances of u_j and v_j from where they began, by label."""
    figure = new_figure(9.0, 3.6)
    for axes, (title, name, symbol) in zip(figure.subplots(1, 2), LAYERS, strict=True):
        draw_measure(axes, histories, f"{name}_mean", over=name)
        axes.set(title=title, ylabel=f"distance {symbol}")
        axes.set_ylim(bottom=0)
        time_axis(axes, histories, log=log_time)
        axes.legend(loc="upper left")
    figure.suptitle(f"{recordings[0].setting}\n{band_note(histories, neurons=True)}", fontsize=8.5)
    add_note(figure, recordings)
    return figure
