"""How reaction and diffusion scale with sizes at the initial draw, beside the paper's bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.analysis import scaling_like
from prdsim.analysis.theory.forces import FORCES
from prdsim.analysis.theory.scaling import ScalingRow, Sizes
from prdsim.figures.request import FigureKind, Request
from prdsim.figures.style import GRAY, WITH, WITHOUT, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS = {
    "reaction_U": r"$\|R^u_j\|$",
    "diffusion_U": r"$\|D^u_j\|$",
    "reaction_V": r"$\|R^v_j\|$",
    "diffusion_V": r"$\|D^v_j\|$",
}
_SIZES = {
    "n": "samples n",
    "d_in": "inputs $d_{in}$",
    "m": "neurons m",
    "d_out": "outputs $d_{out}$",
}


def draw_scaling(request: Request) -> Figure:
    """Draw each norm against each size: measured, predicted, and the slope of the paper's bound.

    At white noise inputs of `prdsim.analysis.theory.scaling.BASE`; initial weights as in the first
    run.
    """
    scaling = scaling_like(request.recordings[0] if request.recordings else None)
    figure = new_figure(12.0, 10.0)
    panels = figure.subplots(len(FORCES), len(Sizes._fields), sharey="row")
    for row, quantity in zip(panels, FORCES, strict=True):
        rows = [scaling.row(quantity, varied) for varied in Sizes._fields]
        for axes, found in zip(row, rows, strict=True):
            _panel(axes, found)
        values = np.concatenate([found.measured for found in rows])
        row[0].set_ylim(values.min() / 3, values.max() * 3)
        row[0].set_ylabel(f"{_SYMBOLS[quantity]}, root mean square")
    for axes, varied in zip(panels[-1], Sizes._fields, strict=True):
        axes.set_xlabel(_SIZES[varied])
    panels[0, 0].legend(loc="upper left", fontsize=7)
    symbols = (_SIZES[varied].split()[-1] for varied in Sizes._fields)
    base = ", ".join(f"{s} = {size}" for s, size in zip(symbols, scaling.base, strict=True))
    figure.suptitle(
        f"at the initial draw, white noise inputs, D = 1; one size varied about {base}; "
        f"{scaling.draws} draws; bars: standard error",
        fontsize=9,
    )
    return figure


def _panel(axes: Axes, row: ScalingRow) -> None:
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


KINDS = (
    FigureKind(
        "scaling",
        "how reaction and diffusion scale with n, d_in, m, d_out at the initial draw",
        draw_scaling,
        needs_run=False,
    ),
)
