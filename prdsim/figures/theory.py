"""Theorems 1 and 2 over the measured distances, and the Bernoulli equation over the residual."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prdsim.analysis import Recording
from prdsim.analysis.theory.bernoulli import plateau
from prdsim.analysis.theory.bounds import residual_bound
from prdsim.analysis.theory.theorem_report import (
    Residual,
    recorded_constants,
    recorded_residual,
    theorem_report,
)
from prdsim.analysis.theory.verdicts import JudgedBound, TheoremReport
from prdsim.errors import DataError
from prdsim.figures.curves import time_axis
from prdsim.figures.request import Request, draws, needs_course, needs_theorems
from prdsim.figures.style import (
    GRAY,
    WITH,
    WITHOUT,
    YELLOW,
    annotate,
    colors_of,
    draw_curve,
    head,
    new_figure,
    share_axes,
)

_BOUND = "#1b1b1b"
_TITLE = 70  # letters in a line of a panel's title


@draws(
    "theorems",
    "Theorems 1 and 2 over the measured distances, with their premises",
    needs_course,
    needs_theorems,
)
def draw_theorems(request: Request) -> Figure:
    """Draw one column per run: every neuron's distance below the bound; the premises beneath.

    A bound is solid while its premises hold, so that it is judged, and dashed beyond.
    """
    runs = request.runs
    figure = new_figure(5.4 * len(runs) + 0.6, 9.6)
    panels = figure.subplots(4, len(runs), squeeze=False, height_ratios=(2.2, 1.3, 1, 1))
    for row in panels[[0, 1, 3]]:
        share_axes(row)
    limits = []
    for column, run, color in zip(panels.T, runs, colors_of(runs), strict=True):
        report = theorem_report(run.file)
        limits.append(_draw_distances(column[0], run, report, color))
        _draw_eigenvalues(column[1], report)
        _draw_scores(column[2], report)
        _draw_flips(column[3], report)
        for axes in column:
            time_axis(axes, np.concatenate([run.time for run in runs]), log=True)
    low, high = zip(*limits, strict=True)
    panels[0, 0].set(yscale="log", ylim=(min(low), max(high)))
    annotate(figure, runs)
    return figure


def _draw_distances(
    axes: Axes, run: Recording, report: TheoremReport, color: str
) -> tuple[float, float]:
    """Draw the distances and the bound that applies; return the range of values to show."""
    U_0, _ = run.initial
    distances = np.array([np.linalg.norm(U - U_0, axis=1) for U in run.U])
    draw_curve(axes, run.time, distances, color=color, alpha=0.12, linewidth=0.6)
    draw_curve(axes, run.time, distances.max(axis=1), color=color, label="largest distance")
    applying = [
        bound
        for bound in (report.theorem_1, report.theorem_2)
        if bound.verdict.status != "does not apply"
    ]
    for bound in applying:
        _draw_bound(axes, bound)
    axes.set_ylabel(r"distance $\|u_j(t) - u_j(0)\|$")
    words = [f"{bound.name} {_in_short(bound)}\n{bound.ratios}".strip() for bound in applying]
    head(axes, f"{run.label}: {' '.join(words)}", fontsize=9)
    positive = distances[distances > 0]
    if not len(positive):
        return 0.1, 1.0
    top = max(float(bound.bound.max()) for bound in applying)
    return float(np.quantile(positive, 0.01)) / 2, 3 * top


def _draw_bound(axes: Axes, report: JudgedBound) -> None:
    until = report.verdict.judged_until
    judged = report.time <= (-np.inf if until is None else until)
    draw_curve(axes, report.time, report.bound, color=_BOUND, linestyle="--", linewidth=1)
    bound = report.time[judged], report.bound[judged]
    draw_curve(axes, *bound, color=_BOUND, label=report.name)


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
    largest, smallest = r"$\lambda_{max}(H(t))$", r"$\lambda_{min}(H(t))$"
    draw_curve(axes, time, course.lambda_max, color=WITH, linestyle="--", label=largest)
    draw_curve(axes, time, course.lambda_min, color=WITHOUT, label=smallest)
    axes.axhline(constants.lambda_1 / 2, color=WITH, ls="-.", label=r"$\lambda_1/2$, above")
    axes.axhline(constants.lambda_0 / 2, color=WITHOUT, ls=":", label=r"$\lambda_0/2$, below")
    axes.set(yscale="log", ylabel="eigenvalues")
    head(axes, "")


def _draw_scores(axes: Axes, report: TheoremReport) -> None:
    axes.set_ylabel(r"$D\,\|\nabla_z g\|_1$")
    if report.constants.mu == 0.0:
        axes.text(0.5, 0.5, "no diffusion", transform=axes.transAxes, ha="center", color=GRAY)
        axes.set(yticks=[])
        return
    draw_curve(axes, report.scores.time, report.scores.value, color="#66a182", label="measured")
    axes.axhline(report.constants.mu, color=_BOUND, ls=":", label=r"$\mu$")
    if report.paper_mu is not None:
        axes.axhline(report.paper_mu, color=GRAY, ls="--", label=r"the paper's $\mu$")
    axes.set_ylim(bottom=0)
    head(axes, "")


def _draw_flips(axes: Axes, report: TheoremReport) -> None:
    draw_curve(axes, report.course.time, report.course.mask_flips, color="#8d6a9f")
    axes.set_ylabel("gates flipped")
    axes.set_ylim(bottom=0)


@draws("bernoulli", "the residual, its Bernoulli bound and plateau", needs_theorems)
def draw_bernoulli(request: Request) -> Figure:
    """Draw one panel per run: ||z - y||, its Bernoulli bound, the fit, the plateau.

    What the run does not resolve is left out, and not fitted.
    """
    runs = request.runs
    figure = new_figure(5.4 * len(runs) + 0.6, 4.4)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    share_axes(panels)
    residuals = [recorded_residual(run.file) for run in runs]
    for axes, run, residual, color in zip(panels, runs, residuals, colors_of(runs), strict=True):
        title = f"{run.label}{_draw_residual(axes, run, residual, color)}"
        axes.set(xlabel="time t", ylabel=r"residual $\sqrt{\psi} = \|z - y\|$", yscale="log")
        head(axes, title, columns=2, fontsize=9)
    shown = np.concatenate([residual.resolved[1] for residual in residuals])
    if len(shown):
        panels[0].set_ylim(shown.min() / 2, 2 * shown.max())
    annotate(figure, runs)
    return figure


def _draw_residual(axes: Axes, run: Recording, residual: Residual, color: str) -> str:
    """Draw the residual, its bound and its fit; return how it ends, for the title."""
    constants = recorded_constants(run.file)
    time, rho = residual.resolved
    draw_curve(axes, time, rho, color=color, label="measured")
    label = f"bound: r = {constants.growth_rate:.3g}, K = {constants.capacity:.3g}"
    bound = residual_bound(constants, residual.time)
    draw_curve(axes, residual.time, bound, color=_BOUND, label=label)
    try:
        fit = residual.fit()
    except DataError as error:
        return f"\n{fill(str(error), _TITLE)}"
    label = f"fit: r = {fit.r:.3g}, K = {fit.K:.3g}, rms deviation {fit.deviation:.2g}"
    draw_curve(axes, time, np.sqrt(fit(time - time[0])), color=GRAY, linestyle="--", label=label)
    if residual.ends is not None:
        limit = f"{residual.resolution:.2g}, its tolerance and rounding"
        return f":\nfrom t = {residual.ends:.3g} on below {limit}"
    try:
        rest = plateau(time, rho)
    except DataError as error:
        return f"\n{fill(str(error), _TITLE)}"
    look: Any = {"color": YELLOW, "linewidth": 4, "alpha": 0.7}
    ends = [rest.since, float(time[-1])]
    axes.plot(ends, [rest.level] * 2, label="mean of the last tenth", **look)
    return f": {'plateau' if rest.settled else 'not settled yet'} at {rest.level:.3g}"
