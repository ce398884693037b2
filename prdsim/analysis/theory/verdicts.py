"""A run compared to Theorems 1 and 2: constants, premises, bounds, verdicts.

`follow` and `judge_bounds` work on arrays; `prdsim.analysis.theory.theorem_report` reads a file. A
bound is judged at a recorded time if its premises hold then and at every earlier recorded time;
once one has failed, no conclusion is drawn, whatever the distances are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prdsim.analysis.arrays import Numbers, Reals
from prdsim.analysis.theory.bounds import (
    Constants,
    empirical_kernel,
    extreme_eigenvalues,
    gates,
    theorem_1,
    theorem_2,
)
from prdsim.errors import DataError

BoundStatus = Literal["holds", "violated", "no conclusion", "does not apply"]


@dataclass(frozen=True)
class Course:
    """The course of U over the k recorded times; the first is t = 0.

    ``lambda_min``, ``lambda_max`` (k,) are the extreme eigenvalues of H(t); ``mask_flips`` (k,) the
    share of gates that differ from t = 0; ``distance`` (k,) the largest ||u_j(t) - u_j(0)|| and
    ``neuron`` (k,) its j; ``rounding`` the uncertainty of distances.
    """

    time: Reals
    lambda_min: Reals
    lambda_max: Reals
    mask_flips: Reals
    distance: Reals
    neuron: NDArray[np.int64]
    rounding: float


@dataclass(frozen=True)
class Scores:
    """D ||grad_z g||_1 (rows,), the sum over samples, at the times (rows,) of measurement."""

    time: Numbers
    value: Numbers


@dataclass(frozen=True)
class Premise:
    """A condition at recorded times (rows,): ``value`` at most ``limit``, or at least."""

    text: str
    time: Numbers
    value: Numbers
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Where it holds, (rows,)."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def fails_from(self) -> float | None:
        """The first time at which it does not hold; None if it always holds."""
        return None if self.holds.all() else float(self.time[np.argmin(self.holds)])

    def line(self) -> str:
        """Describe in one line how long it holds."""
        if self.fails_from is None:
            return f"premise {self.text}: holds at every record to t = {self.time[-1]:.4g}"
        return f"premise {self.text}: fails from t = {self.fails_from:.4g}"


@dataclass(frozen=True)
class BoundVerdict:
    """``status`` in a word or two, ``text`` in full.

    ``judged_until`` is the last time at which the bound was judged, None if never. For a violated
    bound, ``time`` and ``neuron`` are the first time and the worst neuron at that time.
    """

    status: BoundStatus
    text: str
    judged_until: float | None = None
    time: float | None = None
    neuron: int | None = None


@dataclass(frozen=True)
class JudgedBound:
    """One theorem: its bound (k,) at times (k,), premises and the verdict.

    ``tightness`` (k,) is bound / largest distance, NaN where nothing has moved yet.
    """

    name: str
    time: Reals
    bound: Reals
    tightness: Reals
    premises: tuple[Premise, ...]
    verdict: BoundVerdict

    @property
    def ratios(self) -> str:
        """The tightness where the bound was judged, in words; empty if nothing moved there."""
        until = self.verdict.judged_until
        judged = self.tightness[self.time <= (-np.inf if until is None else until)]
        if not np.any(np.isfinite(judged)):
            return ""
        return (
            f"bound / largest distance {np.nanmin(judged):.3g} at the tightest, "
            f"{judged[-1]:.3g} at the end"
        )

    def line(self) -> str:
        """Return the verdict in one line, and the tightness of the bound where it was judged."""
        return "; ".join(filter(None, (f"{self.name}: {self.verdict.text}", self.ratios)))


@dataclass(frozen=True)
class TheoremReport:
    """Both theorems over a run; ``notes`` list the gaps of the measurement in words.

    ``paper_mu`` is the paper's expression, None without diffusion.
    """

    constants: Constants
    course: Course
    scores: Scores
    theorem_1: JudgedBound
    theorem_2: JudgedBound
    paper_mu: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def paper_mu_bounds(self) -> bool | None:
        """Whether the paper's mu is at least the largest measured score; None without diffusion."""
        return None if self.paper_mu is None else self.paper_mu >= float(np.max(self.scores.value))

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return a table over the snapshots, columns (k,) by name."""
        course = self.course
        return {
            "time": course.time,
            "distance": course.distance,
            "neuron": course.neuron,
            "theorem_1": self.theorem_1.bound,
            "theorem_2": self.theorem_2.bound,
            "lambda_min": course.lambda_min,
            "lambda_max": course.lambda_max,
            "mask_flips": course.mask_flips,
        }

    def lines(self) -> list[str]:
        """Return the report in words, one statement per line."""
        constants = self.constants
        paper = ""
        if self.paper_mu is not None:
            bounds = "bounds" if self.paper_mu_bounds else "does not bound"
            paper = f"; paper: {self.paper_mu:.4g}, which {bounds} the measured scores"
        return [
            f"n = {constants.n}, m = {constants.m}, ||z(0) - y|| = {constants.residual:.4g}",
            f"lambda_0 = {constants.lambda_0:.4g}, lambda_1 = {constants.lambda_1:.4g}, "
            f"kappa = {constants.kappa:.4g}",
            f"mu = {constants.mu:.4g}{paper}",
            *(premise.line() for premise in self.theorem_2.premises),
            f"gates flipped at the end: {self.course.mask_flips[-1]:.2%}",
            self.theorem_1.line(),
            self.theorem_2.line(),
            *(f"note: {note}" for note in self.notes),
        ]


# -- arrays ----------------------------------------------------------------------------------------


def follow(time: ArrayLike, snapshots: Iterable[Numbers], X: Numbers) -> Course:
    """Measure the course of U over its snapshots (m, d_in) at times (k,), for inputs X (d_in, n).

    Snapshots are read one by one; only the first and the current one are kept. Raises
    `DataError` unless the first is that of t = 0.
    """
    times: Reals = np.asarray(time, dtype=np.float64)
    if not len(times) or times[0] != 0.0:
        raise DataError("the theorems need snapshots from t = 0 on")
    rows: list[tuple[float, float, float, float, int]] = []
    rounding = 0.0
    for U in snapshots:
        opened = gates(U, X)
        if not rows:
            start, first_opened = U.astype(np.float64), opened
            rounding = float(np.finfo(U.dtype).eps * np.max(_norms_of_rows(U)))
        distances = _norms_of_rows(U.astype(np.float64) - start)
        neuron = int(np.argmax(distances))
        eigenvalues = extreme_eigenvalues(empirical_kernel(U, X, opened))
        differ = float(np.mean(opened != first_opened))
        rows.append((*eigenvalues, differ, distances[neuron], neuron))
    smallest, largest, flips, distance, neurons = map(np.array, zip(*rows, strict=True))
    return Course(times, smallest, largest, flips, distance, neurons, rounding)


def _norms_of_rows(U: Numbers) -> Reals:
    norms: Reals = np.sqrt(np.einsum("jk,jk->j", U, U, dtype=np.float64))
    return norms


def judge_bounds(
    constants: Constants, course: Course, scores: Scores, *, diffusion: bool, step_size: float = 0.0
) -> TheoremReport:
    """Compare a course to both bounds: Theorem 1 without ``diffusion``, Theorem 2 with it.

    A ``step_size`` h > 0 means that the course was taken in Euler steps: their bounds are judged,
    with the premise under which ||1 - h H(t)|| <= 1 - lambda_0 h / 2.
    """
    half_0, half_1 = constants.lambda_0 / 2.0, constants.lambda_1 / 2.0
    time, largest = course.time, course.lambda_max
    reaction = [
        Premise("lambda_min(H(t)) >= lambda_0 / 2", time, course.lambda_min, half_0, at_least=True)
    ]
    if step_size > 0.0:
        text = "step_size (lambda_max(H(t)) + lambda_0 / 2) <= 2"
        reaction.append(Premise(text, time, step_size * (largest + half_0), 2.0))
    diffusive = [
        Premise("lambda_max(H(t)) <= lambda_1 / 2", time, largest, half_1),
        Premise("D ||grad_z g||_1 <= mu", scores.time, scores.value, constants.mu),
    ]
    return TheoremReport(
        constants,
        course,
        scores,
        _judged_bound(
            "Theorem 1",
            theorem_1(constants, time, step_size=step_size),
            (*reaction,),
            course,
            "it is for runs without diffusion" if diffusion else "",
        ),
        _judged_bound(
            "Theorem 2",
            theorem_2(constants, time, step_size=step_size),
            (*reaction, *diffusive),
            course,
            "" if diffusion else "it is for runs with diffusion",
        ),
    )


def _judged_bound(
    name: str, bound: Reals, premises: tuple[Premise, ...], course: Course, not_for: str
) -> JudgedBound:
    moved = course.distance > course.rounding
    tightness = np.full(len(bound), np.nan)
    tightness[moved] = bound[moved] / course.distance[moved]
    if not_for:
        verdict = BoundVerdict("does not apply", f"does not apply: {not_for}")
    else:
        verdict = _verdict(bound, premises, course)
    return JudgedBound(name, course.time, bound, tightness, premises, verdict)


def _verdict(bound: Reals, premises: tuple[Premise, ...], course: Course) -> BoundVerdict:
    """Judge the bound at times up to which all premises hold at every record."""
    failures = [(p.fails_from, p.text) for p in premises if p.fails_from is not None]
    fails_from, failed = min(failures, key=lambda failure: failure[0], default=(np.inf, ""))
    judged = course.time < fails_from
    until = float(course.time[judged][-1]) if judged.any() else None
    exceeded = judged & (course.distance > bound + course.rounding)
    if exceeded.any():
        k = int(np.argmax(exceeded))
        t, j = float(course.time[k]), int(course.neuron[k])
        text = (
            f"violated at t = {t:.4g}, neuron {j}: it moved {course.distance[k]:.4g}, "
            f"the bound is {bound[k]:.4g}"
        )
        return BoundVerdict("violated", text, until, t, j)
    if not failures:
        text = f"holds for every neuron, at every record to t = {until:.4g}"
        return BoundVerdict("holds", text, until)
    text = f"no conclusion: premise {failed} fails from t = {fails_from:.4g}"
    if until:
        text += f" (the bound holds until t = {until:.4g})"
    return BoundVerdict("no conclusion", text, until)
