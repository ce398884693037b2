"""Symmetry and homogeneity, kept and broken: figure 5 of the poster and related figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from prdsim.analysis import Recording, Snapshot, by_label
from prdsim.analysis.patterns.embedding import principal_plane, tsne
from prdsim.analysis.patterns.entries import excess_kurtosis, normal_distance
from prdsim.analysis.patterns.neurons import coefficient_of_variation, gini, hidden_distances
from prdsim.analysis.patterns.order import morans_i, peak_wavelength, radial_spectrum
from prdsim.analysis.patterns.subspace import trajectory_shares
from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.curves import band_note, draw_measure, draw_points, time_axis, times_of
from prdsim.figures.request import Request, draws, needs_course, needs_plane
from prdsim.figures.style import (
    BAR_ASPECT,
    DARK,
    annotate,
    body_of,
    colors_of,
    draw_curve,
    head,
    legend_of_all,
    line_of,
    new_figure,
    share_axes,
)

Panels = NDArray[Any]
Runs = Sequence[Recording]
Snapshots = Sequence[Snapshot]


@draws(
    "symmetry",
    "entries of U, distances over neurons, Moran's I, spectra, at the last snapshot",
    poster="5",
)
def draw_symmetry(request: Request) -> Figure:
    """Draw one row per run: entries of U, ||u_j(t) - u_j(0)||, Moran's I, spectra."""
    runs = request.runs
    on_grid = all(run.grid is not None for run in runs)
    columns = 4 if on_grid else 2
    figure = new_figure(3.1 * columns, 3.0 * len(runs) + 0.5)
    panels = figure.subplots(len(runs), columns, squeeze=False)
    for column in panels.T:
        share_axes(column)
    final = [run.at(-1) for run in runs]
    _draw_entries(panels[:, 0], runs, final)
    _draw_distances(panels[:, 1], runs, final)
    if on_grid:
        _draw_morans_i(panels[:, 2], runs, final)
        _draw_spectra(panels[:, 3], runs, final)
    annotate(figure, runs)
    return figure


def _draw_entries(column: Panels, runs: Runs, final: Snapshots) -> None:
    """Draw the density of the entries of U, and a normal one of the same scale; bins are shared."""
    scales = [float(np.sqrt(np.mean(now.U**2))) or 1.0 for now in final]
    bins = np.linspace(-6 * max(scales), 6 * max(scales), 121)
    middle, width = (bins[1:] + bins[:-1]) / 2, bins[1] - bins[0]
    least, most = [], []
    shown = zip("abcdefgh", column, runs, final, scales, colors_of(runs), strict=False)
    for letter, axes, run, now, scale, color in shown:
        counts, _ = np.histogram(now.U, bins)
        density = counts / (now.U.size * width)
        axes.stairs(density, bins, color=color, label="U", linewidth=1.5)
        normal = np.exp(-0.5 * (middle / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
        axes.plot(middle, normal, "k--", linewidth=1, label="normal")
        axes.set(xlabel="entries $u_{jk}(t)$", ylabel="density")
        least.append(max(0.3 / (now.U.size * width), 1e-12))
        most.append(2.5 * density.max())
        numbers = f"KS {normal_distance(now.U):.3f}, kurtosis {excess_kurtosis(now.U):.2f}"
        head(axes, f"({letter}) {run.label}, t = {now.time:.4g}\n{numbers}", fontsize=8)
    column[0].set(yscale="log", ylim=(min(least), max(most)))


def _draw_distances(column: Panels, runs: Runs, final: Snapshots) -> None:
    distances = [hidden_distances(now.U, now.U_0) for now in final]
    bins = _bins(distances)
    for axes, moved, color in zip(column, distances, colors_of(runs), strict=True):
        axes.hist(moved, bins=bins, color=color, alpha=0.8)
        axes.set(xlabel=r"$\|u_j(t) - u_j(0)\|$", ylabel="neurons")
        if moved.any():
            numbers = f"CV {coefficient_of_variation(moved):.3f}, Gini {gini(moved):.3f}"
            axes.set_title(numbers, fontsize=8)


def _draw_morans_i(column: Panels, runs: Runs, final: Snapshots) -> None:
    pairs = [
        [_finite(morans_i(U, run.pixels)) for U in (now.U_0, now.U)]
        for run, now in zip(runs, final, strict=True)
    ]
    bins = _bins([values for pair in pairs for values in pair])
    shown = zip(column, final, pairs, colors_of(runs), strict=True)
    for axes, now, (start, end), color in shown:
        axes.hist(end, bins=bins, color=color, alpha=0.8, label=f"t = {now.time:.4g}")
        axes.stairs(*np.histogram(start, bins), color=DARK, linewidth=1, label="t = 0")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel="Moran's I of $u_j$", ylabel="neurons")
        head(axes, f"mean {end.mean():.3f}" if len(end) else "", fontsize=8)


def _draw_spectra(column: Panels, runs: Runs, final: Snapshots) -> None:
    """Draw the mean radial power spectra of u_j(0) and of the changes; frequency 1/wavelength."""
    for axes, run, now, color in zip(column, runs, final, colors_of(runs), strict=True):
        shown = ((now.U_0, "$u_j(0)$", DARK, "--"), (now.change, "change", color, "-"))
        for filters, name, shade, dashes in shown:
            frequency, power = radial_spectrum(filters, run.pixels)
            mean = power.mean(axis=0, keepdims=True)
            if mean.any():
                look = {"color": shade, "linestyle": dashes, "label": name}
                draw_curve(axes, frequency, mean[0], **look)
        axes.set(xlabel="spatial frequency [1/pixel]", ylabel="power per mode", yscale="log")
        peak = f"peak at {peak_wavelength(frequency, mean)[0]:.3g} pixels" if mean.any() else ""
        head(axes, peak, fontsize=8)


_PEAKS = "wavelength_change"


@draws("order", "measures of symmetry and order over time")
def draw_order(request: Request) -> Figure:
    """Draw the measures of symmetry, homogeneity and order over time, a band over runs.

    Peak wavelengths are those of the grid's few rings: the mean of two is the peak of neither.
    """
    shown = [
        ("spread", "cv_U", r"CV of $\|u_j(t) - u_j(0)\|$"),
        ("spread", "gini_U", r"Gini of $\|u_j(t) - u_j(0)\|$"),
        ("entries", "ks_U", "KS distance of entries of U"),
        ("entries", "kurtosis_U", "excess kurtosis of entries of U"),
        ("rank", "effective_rank", "effective rank of U(t) - U(0)"),
    ]
    if all(run.grid is not None for run in request.recordings):
        shown += [
            ("order", "morans_i_U", "mean Moran's I of $u_j$"),
            ("order", _PEAKS, "peak wavelength of changes [pixel]"),
            ("order", "correlation_length_change", "correlation length of changes [pixel]"),
        ]
    histories = request.histories(*dict.fromkeys(group for group, _, _ in shown))
    rows = 2
    columns = -(-len(shown) // rows)
    figure = new_figure(3.0 * columns, 5.5)
    body = body_of(figure)
    panels = body.subplots(rows, columns).ravel()
    for axes, (_, name, title) in zip(panels, shown, strict=False):
        (draw_points if name == _PEAKS else draw_measure)(axes, histories, name)
        axes.set_title(title, fontsize=8.5)
        time_axis(axes, times_of(histories), log=request.log_time)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    legend_of_all(body)
    points = "points: the peak of each run" * any(name == _PEAKS for _, name, _ in shown)
    notes = filter(None, (band_note(histories, neurons=False), points))
    annotate(figure, request.recordings, "; ".join(notes))
    return figure


@draws("subspace", "variance of the path in its first k directions", needs_course)
def draw_subspace(request: Request) -> Figure:
    """Draw the share of the trajectory's variance in its first k principal directions."""
    figure = new_figure(5.0, 3.8)
    body = body_of(figure)
    axes = body.subplots()
    members = by_label(request.recordings)
    for label, runs in members.items():
        for number, run in enumerate(runs):
            shares = np.cumsum(trajectory_shares(run.U))
            axes.plot(
                np.arange(1, len(shares) + 1),
                shares,
                marker=".",
                **line_of(label, list(members)),
                label=label if number == 0 else None,
            )
    axes.set(
        title="variance of the path U(t) in its first k directions",
        xlabel="number of principal directions k",
        ylabel="share of the variance",
        xlim=(0.5, min(12, max(len(run) for run in request.recordings)) + 0.5),
        ylim=(None, 1.01),
    )
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    legend_of_all(body)
    annotate(figure, request.recordings)
    return figure


@draws("embedding", "the neurons in the plane, by PCA or t-SNE", needs_plane)
def draw_embedding(request: Request) -> Figure:
    """Draw the neurons u_j(t) in the plane, first and last, colored by their distances."""
    runs = request.runs
    figure = new_figure(8.4, 4.0 * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 2, squeeze=False)
    final = [run.at(-1) for run in runs]
    moved = [hidden_distances(now.U, now.U_0) for now in final]
    top = max(float(distances.max()) for distances in moved) or 1.0
    for column, name, times in (
        (panels[:, 0], "U_0", [0.0] * len(runs)),
        (panels[:, 1], "U", [now.time for now in final]),
    ):
        planes = [_plane(getattr(now, name), request) for now in final]
        limits = _bins([points for points, _ in planes])
        shown = zip(column, runs, planes, moved, times, strict=True)
        for axes, run, (points, names), distances, time in shown:
            dots = axes.scatter(*points.T, c=distances, s=14, cmap="viridis", vmin=0, vmax=top)
            axes.set(title=f"{run.label}, t = {time:.4g}", xlabel=names[0], ylabel=names[1])
            axes.set(xlim=(limits[0], limits[-1]), ylim=(limits[0], limits[-1]), aspect="equal")
    bar: Any = {"label": r"$\|u_j(t) - u_j(0)\|$ at last", "aspect": BAR_ASPECT * len(runs)}
    figure.colorbar(dots, ax=panels, **bar)
    annotate(figure, runs)
    return figure


def _plane(U: np.ndarray, request: Request) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the neurons' positions in the plane, (m, 2), and the labels of the axes."""
    if request.embedding == "tsne":
        return tsne(U), ("t-SNE 1", "t-SNE 2")
    points, shares = principal_plane(U)
    first, second = (f"principal component {i + 1} ({shares[i]:.1%})" for i in (0, 1))
    return points, (first, second)


def _bins(arrays: Sequence[Array]) -> list[float]:
    """Return 41 edges of bins around the values of all arrays, whatever their spread."""
    values = np.concatenate([np.ravel(array) for array in arrays])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    pad = 0.02 * (high - low) or 0.5
    edges: list[float] = np.linspace(low - pad, high + pad, 41).tolist()
    return edges


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]
