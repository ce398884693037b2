"""Where wavelengths come from: spectra of inputs, of what grows and of what has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prdsim.analysis import Recording, growth_of
from prdsim.analysis.patterns.order import radial_spectrum
from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.request import Request, draws, needs_images, needs_samples
from prdsim.figures.style import DARK, WITH, YELLOW, annotate, body_of, head, new_figure

_SPEEDS = ((1.0, 1.0), (0.1, 5.0), (0.0, 1.0))  # k_u and k_v, in units of sigma
_LOOKS: dict[str, dict[str, Any]] = {
    "inputs": {"color": DARK, "linewidth": 5.0, "alpha": 0.3},
    "growth $C_j$": {"color": YELLOW},
    "changes of $u_j$": {"color": WITH, "linestyle": "", "marker": "o", "markersize": 4},
}


@draws(
    "wavelengths",
    "spectra of inputs, of growth and of changes: where wavelengths come from",
    needs_images,
    needs_samples,
)
def draw_wavelengths(request: Request) -> Figure:
    """Draw the rate of coupled morphogens over the Laplacian's eigenvalue, and spectra of runs."""
    runs = request.runs
    figure = new_figure(3.4 * (len(runs) + 1), 3.9)
    rates, *panels = body_of(figure).subplots(1, len(runs) + 1)
    _draw_rates(rates)
    for axes, run in zip(panels, runs, strict=True):
        grid = run.pixels
        for (name, look), images in zip(_LOOKS.items(), _images(run), strict=True):
            power = radial_spectrum(images, grid)[1].mean(axis=0)
            shares = power / (power.max(initial=0.0) or 1.0)
            axes.plot(np.arange(1, len(shares) + 1), shares, label=name, **look)
        axes.set(xlabel="waves along the side")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        head(axes, f"{run.label}, t = {run.time[-1]:.4g}", columns=2)
    panels[0].set_ylabel("power, of its largest")
    annotate(figure, runs, "spectra at the last snapshot")
    return figure


def _draw_rates(axes: Axes) -> None:
    """lambda(L) = -(k_u + k_v) L / 2 + sqrt(((k_u - k_v) L / 2)^2 + sigma^2), sigma = 1."""
    L = np.linspace(0.0, 4.0, 200)
    for (k_u, k_v), line in zip(_SPEEDS, ("-", "--", ":"), strict=True):
        rate = -(k_u + k_v) * L / 2 + np.hypot((k_u - k_v) * L / 2, 1.0)
        axes.plot(L, rate, line, color=DARK, label=f"$k_u$ = {k_u:g}, $k_v$ = {k_v:g}")
    axes.axhline(0.0, color="k", linewidth=0.8)
    axes.set_xlabel("eigenvalue L of the Laplacian")
    axes.set_ylabel(r"largest rate $\lambda(L)$ / $\sigma$")
    head(axes, "coupled morphogens", columns=2)


def _images(run: Recording) -> tuple[Array, Array, Array]:
    """Return the inputs, the rows of all C_j, and the changes, each (k, d_in)."""
    X, _ = run.samples
    growth, now = growth_of(run), run.at(-1)
    parts = growth.couplings(**now.weights, time=now.time)
    rows = [C.reshape(-1, C.shape[2]) for _, C in parts.matrices(parts.drive)]
    return X.T, np.concatenate(rows) @ growth.Q.T, now.change
