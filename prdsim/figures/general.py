"""Figures without a run: scaling of the forces at the initial draw; a schematic (figure 6)."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from prdsim.analysis import scaling_like
from prdsim.analysis.theory.forces import FORCES
from prdsim.analysis.theory.scaling import ScalingRow, Sizes
from prdsim.figures.request import Request, draws
from prdsim.figures.style import GRAY, WITH, WITHOUT, body_of, legend_of_all, new_figure

_SYMBOLS = {
    "reaction_U": r"$\|R^u_j\|$",
    "diffusion_U": r"$\|\Delta^u_j\|$",
    "reaction_V": r"$\|R^v_j\|$",
    "diffusion_V": r"$\|\Delta^v_j\|$",
}
_SIZES = {
    "n": "samples n",
    "d_in": "inputs $d_{in}$",
    "m": "neurons m",
    "d_out": "outputs $d_{out}$",
}


@draws(
    "scaling",
    "how reaction and diffusion scale with n, d_in, m, d_out at the initial draw",
    needs_run=False,
)
def draw_scaling(request: Request) -> Figure:
    """Draw each norm against each size: measured, predicted, and the slope of the paper's bound.

    For white noise inputs of `prdsim.analysis.theory.scaling.BASE`, with initial weights as in the
    first run.
    """
    scaling = scaling_like(request.recordings[0] if request.recordings else None)
    figure = new_figure(12.0, 10.4)
    body = body_of(figure)
    panels = body.subplots(len(FORCES), len(Sizes._fields), sharey="row")
    for row, quantity in zip(panels, FORCES, strict=True):
        rows = [scaling.row(quantity, varied) for varied in Sizes._fields]
        for axes, found in zip(row, rows, strict=True):
            _draw_scaling_panel(axes, found)
        values = np.concatenate([found.measured for found in rows])
        row[0].set_ylim(values.min() / 3, values.max() * 3)
        row[0].set_ylabel(f"{_SYMBOLS[quantity]}, root mean square")
    for axes, varied in zip(panels[-1], Sizes._fields, strict=True):
        axes.set_xlabel(_SIZES[varied])
    legend_of_all(body)
    symbols = (_SIZES[varied].split()[-1] for varied in Sizes._fields)
    base = ", ".join(f"{s} = {size}" for s, size in zip(symbols, scaling.base, strict=True))
    figure.suptitle(
        f"at the initial draw, white noise inputs, D = 1; one size varied about {base}; "
        f"{scaling.draws} draws; bars: standard error",
        fontsize=9,
    )
    return figure


def _draw_scaling_panel(axes: Axes, row: ScalingRow) -> None:
    measured = np.array(row.measured)
    middle = len(row.sizes) // 2
    slope = (np.array(row.sizes) / row.sizes[middle]) ** row.bound_exponent * measured[middle]
    axes.plot(row.sizes, slope, ":", color=GRAY, label="slope of the paper's bound")
    axes.plot(row.sizes, row.predicted, color=WITHOUT, label="predicted, no free parameter")
    axes.errorbar(row.sizes, measured, row.spread, fmt="o", ms=4, color=WITH, label="measured")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(row.sizes, [str(size) for size in row.sizes])
    axes.minorticks_off()
    axes.set_title(
        f"exponent {row.exponent:.2f} $\\pm$ {row.exponent_error:.2f}\n"
        f"predicted {row.predicted_exponent:.2f}, bound {row.bound_exponent:g}",
        fontsize=8,
    )


# -- the schematic ---------------------------------------------------------------------------------

_CELLS = 24
_RADIUS = 0.95


@draws("schematic", "a drawing of reaction, diffusion and pattern", poster="6", needs_run=False)
def draw_schematic(_: Request) -> Figure:
    """Draw neurons as Turing's ring of cells: before, under reaction alone, and with diffusion.

    A drawing, not a result: it uses no run.
    """
    figure = new_figure(9.6, 5.0)
    axes = figure.subplots()
    axes.set(xlim=(-1.6, 10.2), ylim=(-3.3, 3.1), aspect="equal")
    axes.set_axis_off()
    angle = 2 * np.pi * np.arange(_CELLS) / _CELLS
    noise = 0.06 * np.random.default_rng(0).standard_normal(_CELLS)
    _draw_ring(axes, (0.0, 0.0), noise, "t = 0: equal up to noise")
    _draw_ring(axes, (8.3, 1.65), 0.06 + noise / 3, "symmetric, homogeneous")
    _draw_ring(axes, (8.3, -1.75), 0.95 * np.cos(4 * angle), "pattern: differing neurons")
    _draw_arrow(axes, (1.35, 0.45), (6.95, 1.65), WITHOUT)
    _draw_arrow(axes, (1.35, -0.45), (6.95, -1.75), WITH)
    _write(axes, (3.6, 1.92), "supervision: reaction alone", WITHOUT)
    _write(axes, (3.6, 0.38), r"$\dot u_j = R^u_j(u_j, v_j)$", "black")
    _write(axes, (3.6, -0.42), r"$\dot u_j = R^u_j(u_j, v_j) + D\,\Delta^u_j(u_j, v_j)$", "black")
    _write(axes, (3.6, -2.0), "with the adversary: reaction and diffusion", WITH)
    axes.set_title(
        "Neurons $(u_j, v_j)$ as a ring of cells, shaded by their departure from the mean",
        fontsize=10,
    )
    return figure


def _draw_ring(axes: Axes, center: tuple[float, float], values: np.ndarray, words: str) -> None:
    """Draw a ring of cells, shaded by a value in [-1, 1]."""
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
