"""Theorems 1 and 2 over the measured distances, and the Bernoulli equation over the residual."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import Recording
from prdsim.analysis.theory.bernoulli import fit_bernoulli, plateau
from prdsim.analysis.theory.bounds import residual_bound
from prdsim.analysis.theory.theorem_report import recorded_constants, theorem_report
from prdsim.analysis.theory.verdicts import JudgedBound, TheoremReport
from prdsim.errors import DataError
from prdsim.figures.request import Request, draws, needs_theorems
from prdsim.figures.style import GRAY, WITH, WITHOUT, YELLOW, annotate, colors_of, new_figure

_BOUND = "#1b1b1b"
_ABOVE: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4, "fontsize": 7}


@draws(
    "theorems", "Theorems 1 and 2 over the measured distances, with their premises", needs_theorems
)
def draw_theorems(request: Request) -> Figure:
    """Draw one column per run: every neuron's distance below the bound; the premises beneath.

    A bound is solid while its premises hold, so that it is judged, and dashed beyond.
    """
    runs = request.runs
    figure = new_figure(5.4 * len(runs) + 0.6, 9.0)
    panels = figure.subplots(4, len(runs), squeeze=False, height_ratios=(2.2, 1, 1, 1))
    for column, run, color in zip(panels.T, runs, colors_of(runs), strict=True):
        report = theorem_report(run.file)
        _draw_distances(column[0], run, report, color)
        _draw_eigenvalues(column[1], report)
        _draw_scores(column[2], report)
        _draw_flips(column[3], report)
        for axes in column:
            axes.set_xlim(0, report.course.time[-1] or 1.0)
        column[-1].set_xlabel("time t")
    annotate(figure, runs)
    return figure


def _draw_distances(axes: Axes, run: Recording, report: TheoremReport, color: str) -> None:
    U_0, _ = run.initial
    distances = np.array([np.linalg.norm(U - U_0, axis=1) for U in run.U])
    axes.plot(run.time, distances, color=color, alpha=0.12, linewidth=0.6)
    axes.plot(run.time, distances.max(axis=1), color=color, label="largest distance")
    applying = [
        bound
        for bound in (report.theorem_1, report.theorem_2)
        if bound.verdict.status != "does not apply"
    ]
    for bound in applying:
        _draw_bound(axes, bound)
        axes.set_title(f"{run.label}: {bound.name} {_in_short(bound)}", fontsize=9, pad=22)
    positive = distances[distances > 0]
    axes.set_yscale("log")
    if len(positive):
        top = max(float(bound.bound.max()) for bound in applying)
        axes.set_ylim(float(np.quantile(positive, 0.01)) / 2, 3 * top)
    axes.set_ylabel(r"distance $\|u_j(t) - u_j(0)\|$")
    axes.legend(**_ABOVE)


def _draw_bound(axes: Axes, report: JudgedBound) -> None:
    until = report.verdict.judged_until
    judged = report.time <= (-np.inf if until is None else until)
    axes.plot(report.time, report.bound, "--", color=_BOUND, linewidth=1)
    axes.plot(report.time[judged], report.bound[judged], color=_BOUND, label=f"{report.name}")


def _in_short(report: JudgedBound) -> str:
    verdict = report.verdict
    if verdict.status == "violated":
        return f"violated at t = {verdict.time:.4g}"
    if verdict.status == "no conclusion":
        until = verdict.judged_until
        return "no conclusion" if not until else f"no conclusion after t = {until:.4g}"
    return "holds"


def _draw_eigenvalues(axes: Axes, report: TheoremReport) -> None:
    """Draw the extreme eigenvalues of H(t) and the limits that the premises set for them."""
    time, course, constants = report.course.time, report.course, report.constants
    axes.plot(time, course.lambda_max, "--", color=WITH, label=r"$\lambda_{max}(H(t))$")
    axes.plot(time, course.lambda_min, color=WITHOUT, label=r"$\lambda_{min}(H(t))$")
    axes.axhline(constants.lambda_1 / 2, color=WITH, ls="-.", label=r"$\lambda_1/2$, above")
    axes.axhline(constants.lambda_0 / 2, color=WITHOUT, ls=":", label=r"$\lambda_0/2$, below")
    axes.set(yscale="log", ylabel="eigenvalues")
    axes.legend(**_ABOVE)


def _draw_scores(axes: Axes, report: TheoremReport) -> None:
    axes.set_ylabel(r"$D\,\|\nabla_z g\|_1$")
    if report.constants.mu == 0.0:
        axes.text(0.5, 0.5, "no diffusion", transform=axes.transAxes, ha="center", color=GRAY)
        axes.set(yticks=[])
        return
    axes.plot(report.scores.time, report.scores.value, color="#66a182", label="measured")
    axes.axhline(report.constants.mu, color=_BOUND, ls=":", label=r"$\mu$")
    if report.paper_mu is not None:
        axes.axhline(report.paper_mu, color=GRAY, ls="--", label=r"the paper's $\mu$")
    axes.set_ylim(bottom=0)
    axes.legend(**_ABOVE)


def _draw_flips(axes: Axes, report: TheoremReport) -> None:
    axes.plot(report.course.time, report.course.mask_flips, color="#8d6a9f")
    axes.set_ylabel("gates flipped")
    axes.set_ylim(bottom=0)


@draws("bernoulli", "the residual, its Bernoulli bound and plateau", needs_theorems)
def draw_bernoulli(request: Request) -> Figure:
    """Draw one panel per run: ||z - y||, its Bernoulli bound, the fit, the plateau."""
    runs = request.runs
    figure = new_figure(5.4 * len(runs) + 0.6, 4.0)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for axes, run, color in zip(panels, runs, colors_of(runs), strict=True):
        lowest = _draw_residual(axes, run, color)
        axes.set(xlabel="time t", ylabel=r"residual $\sqrt{\psi} = \|z - y\|$", yscale="log")
        # A bound below the rounding error of the residual has no meaning.
        axes.set_ylim(bottom=max(axes.get_ylim()[0], lowest / 10))
        axes.legend(fontsize=7.5)
    annotate(figure, runs)
    return figure


def _draw_residual(axes: Axes, run: Recording, color: str) -> float:
    """Draw the residual, its bound and its fit; return its least positive value, or 0."""
    constants = recorded_constants(run.file)
    scalars = run.file.scalars
    time, rho = scalars["time"], scalars["residual_norm"]
    axes.plot(time, rho, color=color, label="measured")
    axes.plot(
        time,
        residual_bound(constants, time),
        color=_BOUND,
        label=f"bound: r = {constants.growth_rate:.3g}, K = {constants.capacity:.3g}",
    )
    title = run.label
    try:
        fit = fit_bernoulli(time, rho**2)
        label = f"fit: r = {fit.r:.3g}, K = {fit.K:.3g}"
        axes.plot(time, np.sqrt(fit(time - time[0])), "--", color=GRAY, label=label)
        rest = plateau(time, rho)
    except DataError as error:
        title += f"\n{str(error).split(':')[0].split(';')[0]}"
    else:
        words = "plateau" if rest.settled else "not settled yet"
        ends = [rest.since, float(time[-1])]
        label = "mean of the last tenth"
        axes.plot(ends, [rest.level] * 2, color=YELLOW, linewidth=4, alpha=0.7, label=label)
        title += f": {words} at {rest.level:.3g}"
    axes.set_title(title, fontsize=9)
    return float(rho[rho > 0].min(initial=np.inf)) if (rho > 0).any() else 0.0
