"""Figure 6 of the poster, a schematic: how diffusible factors break symmetry and homogeneity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch

from prdsim.figures.request import FigureKind, Request
from prdsim.figures.style import WITH, WITHOUT, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 24
_RADIUS = 0.95


def draw_schematic(_: Request) -> Figure:
    """Draw neurons as Turing's ring of cells: before, under reaction alone, and with diffusion.

    A drawing, not a result: no run enters it.
    """
    figure = new_figure(9.6, 5.0)
    axes = figure.subplots()
    axes.set(xlim=(-1.6, 10.2), ylim=(-3.3, 3.1), aspect="equal")
    axes.set_axis_off()
    angle = 2 * np.pi * np.arange(_CELLS) / _CELLS
    noise = 0.06 * np.random.default_rng(0).standard_normal(_CELLS)
    _draw_ring(axes, (0.0, 0.0), noise, "t = 0: alike but for noise")
    _draw_ring(axes, (8.3, 1.65), 0.06 + noise / 3, "symmetric, homogeneous")
    _draw_ring(axes, (8.3, -1.75), 0.95 * np.cos(4 * angle), "pattern: differing neurons")
    _draw_arrow(axes, (1.35, 0.45), (6.95, 1.65), WITHOUT)
    _draw_arrow(axes, (1.35, -0.45), (6.95, -1.75), WITH)
    _write(axes, (3.6, 1.92), "supervision: reaction alone", WITHOUT)
    _write(axes, (3.6, 0.38), r"$\dot u_j = R^u_j(u_j, v_j)$", "black")
    _write(axes, (3.6, -0.42), r"$\dot u_j = R^u_j(u_j, v_j) + D^u_j(\nabla^2 u_j)$", "black")
    _write(axes, (3.6, -2.0), "with the adversary: reaction and diffusion", WITH)
    axes.set_title(
        "Neurons $(u_j, v_j)$ as a ring of cells, shaded by their departure from the mean",
        fontsize=10,
    )
    return figure


def _draw_ring(axes: Axes, center: tuple[float, float], values: np.ndarray, words: str) -> None:
    """Draw a ring of cells, shaded by a value in [-1, 1]."""
    from matplotlib import colormaps

    shades = colormaps["RdBu_r"]
    for k, value in enumerate(values):
        angle = 2 * np.pi * k / len(values)
        place = (center[0] + _RADIUS * np.cos(angle), center[1] + _RADIUS * np.sin(angle))
        shade = shades(0.5 + 0.5 * float(value))
        axes.add_patch(Circle(place, 0.115, facecolor=shade, edgecolor="#404040", linewidth=0.7))
    axes.text(center[0], center[1] - _RADIUS - 0.38, words, ha="center", fontsize=9)


def _draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, color=color, linewidth=2)
    )


def _write(axes: Axes, place: tuple[float, float], words: str, color: str) -> None:
    axes.text(*place, words, ha="center", va="center", color=color, fontsize=10)


KINDS = (
    FigureKind(
        "schematic",
        "a drawing of reaction, diffusion and pattern",
        draw_schematic,
        "6",
        needs_run=False,
    ),
)
