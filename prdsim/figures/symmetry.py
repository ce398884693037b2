"""Symmetry and homogeneity, kept and broken: figure 5 of the poster and related figures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from prdsim.analysis import Recording, Snapshot, by_label
from prdsim.analysis.patterns.embedding import principal_plane, tsne
from prdsim.analysis.patterns.entries import excess_kurtosis, normal_distance
from prdsim.analysis.patterns.neurons import coefficient_of_variation, gini, hidden_distances
from prdsim.analysis.patterns.order import morans_i, peak_wavelength, radial_spectrum
from prdsim.analysis.patterns.subspace import trajectory_shares
from prdsim.figures.curves import band_note, draw_measure, time_axis
from prdsim.figures.request import Request, draws, needs_plane
from prdsim.figures.style import DARK, annotate, colors_of, line_of, new_figure


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
    figure = new_figure(3.1 * columns, 2.7 * len(runs) + 0.5)
    panels = figure.subplots(len(runs), columns, squeeze=False)
    for letter, row, run, color in zip("abcdefgh", panels, runs, colors_of(runs), strict=False):
        now = run.at(-1)
        _draw_entries(row[0], now, color)
        row[0].set_title(f"({letter}) {run.label}, t = {now.time:.4g}", loc="left")
        _draw_distances(row[1], now, color)
        if on_grid:
            _draw_morans_i(row[2], run, now, color)
            _draw_spectrum(row[3], run, now, color)
    for column in panels.T:
        _share_limits(list(column))
    annotate(figure, runs)
    return figure


def _draw_entries(axes: Axes, now: Snapshot, color: str) -> None:
    """Draw the density of the entries of U, a normal one of the same scale, and the initial one."""
    entries = now.U.ravel()
    scale = float(np.sqrt(np.mean(entries**2))) or 1.0
    bins = np.linspace(-6 * scale, 6 * scale, 121)
    counts, _ = np.histogram(entries, bins)
    density = counts / (entries.size * np.diff(bins))
    axes.stairs(density, bins, color=color, label="U", linewidth=1.5)
    middle = (bins[1:] + bins[:-1]) / 2
    axes.plot(middle, norm.pdf(middle, scale=scale), "k--", linewidth=1, label="normal")
    axes.set_yscale("log")
    axes.set_ylim(max(0.3 / (entries.size * (bins[1] - bins[0])), 1e-12), 2.5 * density.max())
    axes.set(xlabel="entries $u_{jk}(t)$", ylabel="density")
    axes.legend(loc="upper left", fontsize=7)
    words = f"KS {normal_distance(now.U):.3f}\nkurtosis {excess_kurtosis(now.U):.2f}"
    _numbers(axes, words)


def _draw_distances(axes: Axes, now: Snapshot, color: str) -> None:
    distances = hidden_distances(now.U, now.U_0)
    axes.hist(distances, bins=_bins(distances), color=color, alpha=0.8)
    axes.set(xlabel=r"$\|u_j(t) - u_j(0)\|$", ylabel="neurons")
    if distances.any():
        words = f"CV {coefficient_of_variation(distances):.3f}\nGini {gini(distances):.3f}"
        _numbers(axes, words)


def _draw_morans_i(axes: Axes, run: Recording, now: Snapshot, color: str) -> None:
    start, end = morans_i(now.U_0, run.pixels), morans_i(now.U, run.pixels)
    start, end = start[np.isfinite(start)], end[np.isfinite(end)]
    bins = _bins(np.concatenate([start, end]))
    axes.hist(end, bins=bins, color=color, alpha=0.8, label=f"t = {now.time:.4g}")
    axes.stairs(*np.histogram(start, bins), color=DARK, linewidth=1, label="t = 0")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set(xlabel="Moran's I of $u_j$", ylabel="neurons")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left", fontsize=7)
    if len(end):
        _numbers(axes, f"mean {end.mean():.3f}")


def _draw_spectrum(axes: Axes, run: Recording, now: Snapshot, color: str) -> None:
    """Draw the mean radial power spectra of u_j(0) and of the changes; frequency 1/wavelength."""
    shown = ((now.U_0, "$u_j(0)$", DARK, "--"), (now.change, "change", color, "-"))
    for filters, name, shade, dashes in shown:
        frequency, power = radial_spectrum(filters, run.pixels)
        mean = power.mean(axis=0, keepdims=True)
        if mean.any():
            axes.plot(frequency, mean[0], color=shade, linestyle=dashes, label=name)
    axes.set(xlabel="spatial frequency [1/pixel]", ylabel="power per mode")
    axes.set_yscale("log")
    if axes.lines:
        axes.legend(loc="center right", fontsize=7)
    if mean.any():
        words = f"peak at {peak_wavelength(frequency, mean)[0]:.3g} pixels"
        axes.set_title(words, loc="right", fontsize=8)


@draws("order", "measures of symmetry and order over time")
def draw_order(request: Request) -> Figure:
    """Draw the measures of symmetry, homogeneity and order over time, a band over runs."""
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
            ("order", "wavelength_change", "peak wavelength of changes [pixel]"),
            ("order", "correlation_length_change", "correlation length of changes [pixel]"),
        ]
    histories = request.histories(*dict.fromkeys(group for group, _, _ in shown))
    rows = 2
    columns = -(-len(shown) // rows)
    figure = new_figure(3.0 * columns, 5.2)
    panels = figure.subplots(rows, columns).ravel()
    for axes, (_, name, title) in zip(panels, shown, strict=False):
        draw_measure(axes, histories, name)
        axes.set_title(title)
        time_axis(axes, histories, log=request.log_time)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].legend()
    annotate(figure, request.recordings, band_note(histories, neurons=False))
    return figure


@draws("subspace", "variance of the path in its first k directions")
def draw_subspace(request: Request) -> Figure:
    """Draw the share of the trajectory's variance in its first k principal directions."""
    figure = new_figure(4.6, 3.4)
    axes = figure.subplots()
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
    axes.legend(loc="lower right")
    annotate(figure, request.recordings)
    return figure


@draws("embedding", "the neurons in the plane, by PCA or t-SNE", needs_plane)
def draw_embedding(request: Request) -> Figure:
    """Draw the neurons u_j(t) in the plane, first and last, colored by their distances."""
    runs = request.runs
    figure = new_figure(8.4, 3.4 * len(runs) + 0.4)
    panels = figure.subplots(len(runs), 2, squeeze=False)
    final = [run.at(-1) for run in runs]
    moved = [hidden_distances(now.U, now.U_0) for now in final]
    top = max(float(distances.max()) for distances in moved) or 1.0
    for row, run, now, distances in zip(panels, runs, final, moved, strict=True):
        for axes, U, time in ((row[0], now.U_0, 0.0), (row[1], now.U, now.time)):
            points, names = _plane(U, request)
            dots = axes.scatter(*points.T, c=distances, s=14, cmap="viridis", vmin=0, vmax=top)
            axes.set(title=f"{run.label}, t = {time:.4g}", xlabel=names[0], ylabel=names[1])
        figure.colorbar(dots, ax=row, label=r"$\|u_j(t) - u_j(0)\|$ at last")
    annotate(figure, runs)
    return figure


def _plane(U: np.ndarray, request: Request) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the neurons' positions in the plane, (m, 2), and the labels of the axes."""
    if request.embedding == "tsne":
        return tsne(U), ("t-SNE 1", "t-SNE 2")
    points, shares = principal_plane(U)
    first, second = (f"principal component {i + 1} ({shares[i]:.1%})" for i in (0, 1))
    return points, (first, second)


def _bins(values: np.ndarray) -> list[float]:
    """Return 41 edges of bins around the values, whatever their spread."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    pad = 0.02 * (high - low) or 0.5
    edges: list[float] = np.linspace(low - pad, high + pad, 41).tolist()
    return edges


def _numbers(axes: Axes, words: str) -> None:
    axes.text(0.97, 0.95, words, transform=axes.transAxes, ha="right", va="top", fontsize=8)


def _share_limits(column: list[Axes]) -> None:
    """Give the panels of a column the same range, so that rows can be compared."""
    low, high = zip(*(axes.get_xlim() for axes in column), strict=True)
    for axes in column:
        axes.set_xlim(min(low), max(high))
