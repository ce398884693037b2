"""A run held against Theorems 1 and 2: constants, premises, bounds, verdicts.

`follow` and `judge` work on arrays; `theorem_report` reads a trajectory file, one snapshot at a
time. A bound is judged at a recorded time if its premises hold there and at every recorded time
before; where one has failed, no conclusion is drawn, whatever the distances are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prdsim.analysis.theory.bounds import (
    Constants,
    Floats,
    check_unit_inputs,
    empirical_kernel,
    extreme_eigenvalues,
    gates,
    paper_mu,
    theorem_1,
    theorem_2,
    theorem_constants,
)
from prdsim.config import Resolved, RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.recorded import Recorded
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.trajectory import Trajectory

Status = Literal["holds", "violated", "no conclusion", "does not apply"]


@dataclass(frozen=True)
class Course:
    """What U did, at the k recorded times; the first is t = 0.

    ``lambda_min``, ``lambda_max`` (k,) are the extreme eigenvalues of H(t); ``mask_flips`` (k,) the
    share of masks that differ from t = 0; ``distance`` (k,) the largest ||u_j(t) - u_j(0)|| and
    ``neuron`` (k,) its j; ``rounding`` what distances are uncertain by.
    """

    time: Floats
    lambda_min: Floats
    lambda_max: Floats
    mask_flips: Floats
    distance: Floats
    neuron: NDArray[np.int64]
    rounding: float


@dataclass(frozen=True)
class Scores:
    """D ||grad_z g||_1 (rows,), the sum over samples, at the times (rows,) it was measured."""

    time: NDArray[np.floating]
    value: NDArray[np.floating]


@dataclass(frozen=True)
class Premise:
    """One condition at the times (rows,) it was measured: ``value`` against ``limit``."""

    text: str
    time: NDArray[np.floating]
    value: NDArray[np.floating]
    limit: float
    holds: NDArray[np.bool_]

    @property
    def fails_from(self) -> float | None:
        """The first time at which it does not hold; None if it always holds."""
        return None if self.holds.all() else float(self.time[np.argmin(self.holds)])

    @property
    def holds_until(self) -> float | None:
        """The last time up to which it holds throughout; None if it fails at the first."""
        count = len(self.holds) if self.holds.all() else int(np.argmin(self.holds))
        return float(self.time[count - 1]) if count else None

    def line(self) -> str:
        """Say in a line how long it holds."""
        if self.fails_from is None:
            return f"premise {self.text}: holds at every record to t = {self.time[-1]:.4g}"
        return f"premise {self.text}: fails from t = {self.fails_from:.4g}"


@dataclass(frozen=True)
class Verdict:
    """``status`` in a word or two, ``text`` in full.

    ``judged_until`` is the last time the bound was judged at, None if at none. Where it is
    violated, ``time`` and ``neuron`` are the first time, and the worst neuron then.
    """

    status: Status
    text: str
    judged_until: float | None = None
    time: float | None = None
    neuron: int | None = None


@dataclass(frozen=True)
class BoundReport:
    """One theorem: its bound (k,) at times (k,), premises and the verdict.

    ``tightness`` (k,) is bound / largest distance, NaN where nothing has moved yet.
    """

    name: str
    time: Floats
    bound: Floats
    tightness: Floats
    premises: tuple[Premise, ...]
    verdict: Verdict

    def line(self) -> str:
        """Give the verdict in a line, and how tight the bound is where it was judged."""
        until = self.verdict.judged_until
        judged = self.tightness[self.time <= (-np.inf if until is None else until)]
        if not np.any(np.isfinite(judged)):
            return f"{self.name}: {self.verdict.text}"
        return (
            f"{self.name}: {self.verdict.text}; bound / largest distance {np.nanmin(judged):.3g} "
            f"at the tightest, {judged[-1]:.3g} in the end"
        )


@dataclass(frozen=True)
class TheoremReport:
    """Both theorems over a run; ``notes`` say in words what was not measured.

    ``paper_mu`` is the paper's expression, None without diffusion.
    """

    constants: Constants
    course: Course
    scores: Scores
    theorem_1: BoundReport
    theorem_2: BoundReport
    paper_mu: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def premises(self) -> tuple[Premise, ...]:
        """All premises, which are those of Theorem 2."""
        return self.theorem_2.premises

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
        """Return the report in words, a statement a line."""
        constants = self.constants
        paper = ""
        if self.paper_mu is not None:
            bounds = "bounds" if self.paper_mu_bounds else "does not bound"
            paper = f"; paper: {self.paper_mu:.4g}, which {bounds} what was measured"
        return [
            f"n = {constants.n}, m = {constants.m}, ||z(0) - y|| = {constants.residual:.4g}",
            f"lambda_0 = {constants.lambda_0:.4g}, lambda_1 = {constants.lambda_1:.4g}, "
            f"kappa = {constants.kappa:.4g}",
            f"mu = {constants.mu:.4g}{paper}",
            *(premise.line() for premise in self.premises),
            f"masks flipped in the end: {self.course.mask_flips[-1]:.2%}",
            self.theorem_1.line(),
            self.theorem_2.line(),
            *(f"note: {note}" for note in self.notes),
        ]


# -- arrays ----------------------------------------------------------------------------------------


def follow(
    time: ArrayLike, snapshots: Iterable[NDArray[np.floating]], X: NDArray[np.floating]
) -> Course:
    """Measure the course of U over its snapshots (m, d_in) at times (k,), for inputs X (d_in, n).

    Snapshots are taken one by one, and no two are kept but the first and the present one. Raises
    `DataError` unless the first is that of t = 0.
    """
    times: Floats = np.asarray(time, dtype=np.float64)
    if not len(times) or times[0] != 0.0:
        raise DataError("the theorems need snapshots from t = 0 on")
    rows: list[tuple[float, float, float, float, int]] = []
    rounding = 0.0
    for U in snapshots:
        masks = gates(U, X)
        if not rows:
            start, opened = U.astype(np.float64), masks
            rounding = float(np.finfo(U.dtype).eps * np.max(_row_norms(U)))
        distances = _row_norms(U.astype(np.float64) - start)
        neuron = int(np.argmax(distances))
        eigenvalues = extreme_eigenvalues(empirical_kernel(U, X, masks))
        rows.append((*eigenvalues, float(np.mean(masks != opened)), distances[neuron], neuron))
    low, high, flips, largest, moved = (np.array(column) for column in zip(*rows, strict=True))
    return Course(times, low, high, flips, largest, moved, rounding)


def _row_norms(U: NDArray[np.floating]) -> Floats:
    norms: Floats = np.sqrt(np.einsum("jk,jk->j", U, U, dtype=np.float64))
    return norms


def judge(
    constants: Constants,
    course: Course,
    scores: Scores,
    *,
    diffusion: bool,
    step_size: float = 0.0,
) -> TheoremReport:
    """Hold a course against both bounds: Theorem 1 without ``diffusion``, Theorem 2 with it.

    A ``step_size`` h > 0 says that the course was taken in Euler steps: their bounds are judged,
    with the premise under which ||1 - h H(t)|| <= 1 - lambda_0 h / 2.
    """
    half_0, half_1 = constants.lambda_0 / 2.0, constants.lambda_1 / 2.0
    time, largest = course.time, course.lambda_max
    reaction = [
        _premise("lambda_min(H(t)) >= lambda_0 / 2", time, course.lambda_min, half_0, at_least=True)
    ]
    if step_size > 0.0:
        text = "step_size (lambda_max(H(t)) + lambda_0 / 2) <= 2"
        reaction.append(_premise(text, time, step_size * (largest + half_0), 2.0))
    diffusive = [
        _premise("lambda_max(H(t)) <= lambda_1 / 2", time, largest, half_1),
        _premise("D ||grad_z g||_1 <= mu", scores.time, scores.value, constants.mu),
    ]
    return TheoremReport(
        constants,
        course,
        scores,
        _bound_report(
            "Theorem 1",
            theorem_1(constants, time, step_size=step_size),
            (*reaction,),
            course,
            "it is for runs without diffusion" if diffusion else "",
        ),
        _bound_report(
            "Theorem 2",
            theorem_2(constants, time, step_size=step_size),
            (*reaction, *diffusive),
            course,
            "" if diffusion else "it is for runs with diffusion",
        ),
    )


def _premise(
    text: str,
    time: NDArray[np.floating],
    value: NDArray[np.floating],
    limit: float,
    *,
    at_least: bool = False,
) -> Premise:
    return Premise(text, time, value, limit, value >= limit if at_least else value <= limit)


def _bound_report(
    name: str, bound: Floats, premises: tuple[Premise, ...], course: Course, not_for: str
) -> BoundReport:
    moved = course.distance > course.rounding
    tightness = np.full(len(bound), np.nan)
    tightness[moved] = bound[moved] / course.distance[moved]
    if not_for:
        verdict = Verdict("does not apply", f"does not apply: {not_for}")
    else:
        verdict = _verdict(bound, premises, course)
    return BoundReport(name, course.time, bound, tightness, premises, verdict)


def _verdict(bound: Floats, premises: tuple[Premise, ...], course: Course) -> Verdict:
    """Judge the bound where all premises hold at every recorded time up to there."""
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
        return Verdict("violated", text, until, t, j)
    if not failures:
        text = f"holds for every neuron, at every record to t = {until:.4g}"
        return Verdict("holds", text, until)
    text = f"no conclusion: premise {failed} fails from t = {fails_from:.4g}"
    if until:
        text += f" (the bound holds until t = {until:.4g})"
    return Verdict("no conclusion", text, until)


# -- trajectories ----------------------------------------------------------------------------------


def theorem_report(
    trajectory: Trajectory,
    *,
    data: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    mu: float | None = None,
    delta: float = 0.05,
    replay: bool = False,
) -> TheoremReport:
    """Hold a run against both theorems, reading one snapshot of U at a time.

    Args:
        trajectory: A run of the preset "theory", with diffusion or without.
        data: X (d_in, n) and Y (1, n) as the run used them, if the file does not keep them.
        mu: Judge Theorem 2 with this mu; else with the largest measured D ||grad_z g||_1.
        delta: Of the paper's own expression for mu, which is shown beside.
        replay: Take the steps of a run by gd again to measure the scores that moved U; see
            `applied_scores`. Else mu is that of the recorded states.

    Raises:
        ConfigError: the run is not of the theorems' set-up; the error names the key.
        DataError: lambda_0 is 0 to rounding, and no theorem holds.
        DamagedTrajectoryError: a snapshot's checksum fails.
    """
    config, X, Y = _set_up(trajectory, data)
    if replay and config.adversary:
        scores = applied_scores(trajectory, data=data)
    else:
        scores = _recorded_scores(trajectory, config, X.shape[1])
    report = judge(
        _constants(trajectory, X, Y, scores, mu),
        follow(trajectory.time, trajectory.U, X),
        scores,
        diffusion=config.adversary,
        step_size=_resolved(trajectory).step_size if config.integrator == "gd" else 0.0,
    )
    D = config.effective_diffusivity
    by_paper = paper_mu(trajectory.W[0], X.shape[1], delta=delta, diffusivity=D)
    return replace(
        report,
        paper_mu=by_paper if config.adversary else None,
        notes=tuple(_notes(trajectory, config, replay=replay)),
    )


def recorded_constants(trajectory: Trajectory) -> Constants:
    """Return the constants of `theorem_report` alone, which take the first snapshot and no H(t).

    Raises as `theorem_report` does.
    """
    config, X, Y = _set_up(trajectory, None)
    return _constants(trajectory, X, Y, _recorded_scores(trajectory, config, X.shape[1]))


def _set_up(
    trajectory: Trajectory, data: tuple[NDArray[np.floating], NDArray[np.floating]] | None
) -> tuple[RunConfig, NDArray[np.floating], NDArray[np.floating]]:
    """Return configuration and samples of a run, which is one of the theorems."""
    if not len(trajectory.U):
        raise DataError(f"{trajectory.path} holds no snapshot yet")
    recorded = Recorded(trajectory)
    config, (X, Y) = recorded.config, data or recorded.data
    check_set_up(config, X, trajectory.V[0])
    return config, X, Y


def _constants(
    trajectory: Trajectory,
    X: NDArray[np.floating],
    Y: NDArray[np.floating],
    scores: Scores,
    mu: float | None = None,
) -> Constants:
    """Return the constants of a run; ``mu`` is the largest of the scores unless given."""
    U, V = trajectory.U[0], trajectory.V[0]
    residual = float(np.linalg.norm(V @ np.maximum(U @ X, 0.0) / np.sqrt(len(U)) - Y))
    if mu is None:
        mu = float(np.max(scores.value, initial=0.0))
    return theorem_constants(X, residual=residual, m=len(U), mu=mu)


def check_set_up(config: RunConfig, X: NDArray[np.floating], V: NDArray[np.floating]) -> None:
    """Raise `ConfigError` unless a run is one of the theorems: V (1, m) = +-1 fixed, U moves.

    X (d_in, n) has columns of norm 1; W and a may move or not.
    """
    hint = "use --preset theory"
    if V.shape[0] != 1:
        raise ConfigError(f"target: the theorems need one output, not {V.shape[0]}; {hint}")
    moving = config.trainable.split(",")
    if "V" in moving or "U" not in moving:
        raise ConfigError(
            f"trainable: the theorems need V fixed and U trainable, not {config.trainable}; {hint}"
        )
    if not np.all(np.abs(V) == 1.0):
        raise ConfigError(f"output_init: the theorems need every v_j to be 1 or -1; {hint}")
    check_unit_inputs(X)


def applied_scores(
    trajectory: Trajectory,
    *,
    data: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> Scores:
    """Return D ||grad_z g||_1 of the scores that moved U in a run by gd, (steps,), at their starts.

    A step of gd computes Z, updates the critic, and moves U with the new critic at the old Z:
    a score that belongs to no recorded state. So the run is taken again from its beginning, which
    costs what it cost; nothing is written. Raises `ConfigError` for other integrators.
    """
    recorded = Recorded(trajectory)
    config, (X, Y) = recorded.config, data or recorded.data
    if config.integrator != "gd":
        raise ConfigError(f"integrator: {config.integrator} moves U by the scores of its states")
    steps = int(trajectory.scalars["step"][-1])
    diffusivity, values = config.diffusivity, np.empty(steps)
    with Simulation(
        config.replace(steps=max(steps, 1), end_time=None, snapshots=None, scalars=None),
        X.astype(np.float64),
        Y.astype(np.float64),
        **recorded.beginning,
    ) as simulation:
        times = np.empty(steps)
        for step in range(steps):
            times[step] = simulation.time
            simulation.advance()
            G = simulation.backend.to_host(simulation.model.work.G)
            values[step] = diffusivity * float(np.sum(np.abs(G), dtype=np.float64))
        return Scores(times, values)


def _resolved(trajectory: Trajectory) -> Resolved:
    return Resolved(**trajectory.attributes["resolved"])


def _recorded_scores(trajectory: Trajectory, config: RunConfig, n: int) -> Scores:
    """Of the recorded states; with one output ||grad_z g||_1 is n times the mean of norms."""
    scalars = trajectory.scalars
    value = config.effective_diffusivity * n * scalars["score_norm_mean"]
    return Scores(scalars["time"], value)


def _notes(trajectory: Trajectory, config: RunConfig, *, replay: bool) -> Iterable[str]:
    steps = trajectory.scalars["step"]
    taken, rows = int(steps[-1]), len(steps)
    if config.adversary and not replay:
        if rows <= taken:
            yield (
                f"mu was measured at {rows} times of a run of {taken} steps: it may be larger "
                "between (--scalars times:every:TIME records more)"
            )
        if config.integrator == "gd" and {"W", "a"} & set(config.moving):
            yield (
                "mu is that of the recorded states; a step of gd uses the critic after its "
                "updates, at predictions before the step: scores differ by the samples whose "
                "prediction changes sign (replay measures those used)"
            )
    yield f"premises on H(t) were judged at {len(trajectory.U)} snapshots, not between"
    if config.integrator == "gd":
        yield (
            "the theorems are about the flow; the bounds drawn are those of Euler steps, which "
            "take no account of masks that change within a step"
        )
    else:
        yield f"the theorems are about the flow, which {config.integrator} follows to its error"
