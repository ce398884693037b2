"""A run compared to both theorems: its trajectory file is read one snapshot at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from prdsim.analysis.arrays import Numbers
from prdsim.analysis.theory.bernoulli import BernoulliFit, fit_bernoulli
from prdsim.analysis.theory.bounds import (
    Constants,
    check_unit_inputs,
    empirical_kernel,
    extreme_eigenvalues,
    paper_mu,
    theorem_constants,
)
from prdsim.analysis.theory.verdicts import Scores, TheoremReport, follow, judge_bounds
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.recorded import Recorded
from prdsim.running.simulation import Simulation
from prdsim.trajectory import Trajectory


def theorem_report(
    trajectory: Trajectory, *, mu: float | None = None, replay: bool = False
) -> TheoremReport:
    """Compare a run to both theorems, reading one snapshot of U at a time.

    Args:
        trajectory: A run of the preset "theory", with diffusion or without.
        mu: Judge Theorem 2 with this mu; by default with the largest measured D ||grad_z g||_1.
        replay: Repeat the steps of a gd run to measure the scores that moved U; see
            `applied_scores`. Otherwise mu is that of the recorded states.

    Raises:
        ConfigError: the run does not have the theorems' set-up; the error names the key.
        DataError: lambda_0 is 0 up to rounding, so no theorem holds; or samples are unavailable.
        DamagedTrajectoryError: a snapshot's checksum fails.
    """
    config, X, Y = _set_up(trajectory)
    scores = _recorded_scores(trajectory, config, X.shape[1])
    if replay and config.diffuses:
        scores = applied_scores(trajectory)
    report = judge_bounds(
        _constants(trajectory, X, Y, scores, mu),
        follow(trajectory.time, trajectory.U, X),
        scores,
        diffusion=config.diffuses,
        step_size=Recorded(trajectory).resolved.step_size if config.integrator == "gd" else 0.0,
    )
    by_paper = paper_mu(trajectory.W[0], X.shape[1], diffusivity=config.effective_diffusivity)
    return replace(
        report,
        paper_mu=by_paper if config.diffuses else None,
        notes=tuple(_notes(trajectory, config, replay=replay)),
    )


def recorded_constants(trajectory: Trajectory) -> Constants:
    """Return only the constants of `theorem_report`; they need the first snapshot and no H(t).

    Raises as `theorem_report` does.
    """
    config, X, Y = _set_up(trajectory)
    return _constants(trajectory, X, Y, _recorded_scores(trajectory, config, X.shape[1]))


@dataclass(frozen=True)
class Residual:
    """The recorded ``norm`` ||z - y|| (k,) at ``time`` (k,), which ``resolution`` limits.

    Below that it is error: U is only known to the tolerance of a step, and to rounding.
    """

    time: Numbers
    norm: Numbers
    resolution: float

    @property
    def ends(self) -> float | None:
        """The time of the first record that is not above the resolution; None without one."""
        below = self.norm <= self.resolution
        return float(self.time[np.argmax(below)]) if below.any() else None

    @property
    def resolved(self) -> tuple[Numbers, Numbers]:
        """Times and norms of the records before that one."""
        kept = self.time < (np.inf if self.ends is None else self.ends)
        return self.time[kept], self.norm[kept]

    def fit(self) -> BernoulliFit:
        """Fit the Bernoulli equation to the records that are resolved; raises `DataError`."""
        time, norm = self.resolved
        return fit_bernoulli(time, norm**2)


def recorded_residual(trajectory: Trajectory) -> Residual:
    """Return the residual of a run with the theorems' set-up; raises as `theorem_report` does.

    An error dU within tolerance and rounding moves z by J dU, at most sqrt(lambda_max(H)) ||dU||_F
    since J J^T = H.
    """
    config, X, _ = _set_up(trajectory)
    U = trajectory.U[0]
    rtol, atol = (config.rtol, config.atol) if config.adaptive else (0.0, 0.0)
    error = (rtol + np.finfo(U.dtype).eps) * np.linalg.norm(U) + atol * sqrt(U.size)
    _, lambda_max = extreme_eigenvalues(empirical_kernel(U, X))
    scalars = trajectory.scalars
    resolution = float(sqrt(lambda_max) * error)
    return Residual(scalars["time"], scalars["residual_norm"], resolution)


def _set_up(trajectory: Trajectory) -> tuple[RunConfig, Numbers, Numbers]:
    """Return configuration and samples of a run that has the theorems' set-up."""
    if not len(trajectory.U):
        raise DataError(f"{trajectory.path} holds no snapshot yet")
    recorded = Recorded(trajectory)
    config, (X, Y) = recorded.config, recorded.data
    check_set_up(config, X, trajectory.V[0])
    return config, X, Y


def _constants(
    trajectory: Trajectory, X: Numbers, Y: Numbers, scores: Scores, mu: float | None = None
) -> Constants:
    """Return the constants of a run; ``mu`` is by default the largest of the scores."""
    U, V = trajectory.U[0], trajectory.V[0]
    residual = float(np.linalg.norm(V @ np.maximum(U @ X, 0.0) / np.sqrt(len(U)) - Y))
    if mu is None:
        mu = float(np.max(scores.value, initial=0.0))
    return theorem_constants(X, residual=residual, m=len(U), mu=mu)


def check_set_up(config: RunConfig, X: Numbers, V: Numbers) -> None:
    """Raise `ConfigError` unless a run has the theorems' set-up: V (1, m) = +-1 fixed, U trained.

    X (d_in, n) has columns of norm 1; W and a may be trained or fixed.
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


def applied_scores(trajectory: Trajectory) -> Scores:
    """Return D ||grad_z g||_1 of the scores that moved U in a gd run, (steps,), at step starts.

    A step of gd computes Z, updates the critic, and moves U with the new critic at the old Z:
    a score that belongs to no recorded state. So the run is repeated from its beginning, at its
    full cost; nothing is written. Raises `ConfigError` for other integrators.
    """
    recorded = Recorded(trajectory)
    config, (X, Y) = recorded.config, recorded.data
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
            G = simulation.backend.to_host(simulation.model.F)
            values[step] = diffusivity * float(np.sum(np.abs(G), dtype=np.float64))
        return Scores(times, values)


def _recorded_scores(trajectory: Trajectory, config: RunConfig, n: int) -> Scores:
    """Scores of the recorded states; with one output ||grad_z g||_1 is n times the mean norm."""
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
            "take no account of gates that change within a step"
        )
    else:
        yield f"the theorems are about the flow, which {config.integrator} follows to its error"
