"""Signs of inaccuracy in a run's own numbers: the drift of its invariants, and its fixed step.

Both are available in any run at next to no cost. They can show that a run does not follow the flow;
only `prdsim converge` shows that it does, by computing it again with smaller errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan

from prdsim.config import RunConfig
from prdsim.running.blame import blamed, suspects
from prdsim.running.integrators import make_stepper
from prdsim.trajectory import Status, Trajectory

_INVARIANT_TOLERANCE = 0.01
_INVARIANT_TOLERANCE_OF_GD = 0.005


def invariant_tolerance(config: RunConfig) -> float:
    """Return the `invariant_error` above which a warning is issued.

    Calibrated on the three cases of docs/accuracy.md: runs whose functionals err by 5 % or more lie
    above it, those at the default tolerance at about half of it or less. The drift of gd is
    smaller for the same error of its results.
    """
    return _INVARIANT_TOLERANCE_OF_GD if config.integrator == "gd" else _INVARIANT_TOLERANCE


def invariants_in_words(scalars: Mapping[str, float]) -> str:
    """Say how far the flow's invariants have drifted, by a row of scalars."""
    error = scalars["invariant_error"]
    if isnan(error):
        return "no invariant: U or V is held fixed, or neurons are coupled"
    return f"{_percent(error)} of the squared distances"


def warnings_of(config: RunConfig, step_size: float, scalars: Mapping[str, float]) -> list[str]:
    """Return the signs that a run is inaccurate, with remedies, one line each.

    ``step_size`` is that of fixed steps, ``scalars`` the last row of the run.
    """
    found = [_drift(config, step_size, scalars), _instability(config, step_size, scalars)]
    return [text for text in found if text]


def _drift(config: RunConfig, step_size: float, scalars: Mapping[str, float]) -> str:
    allowed = invariant_tolerance(config)
    if not scalars["invariant_error"] > allowed:
        return ""
    remedy = f"--rtol {config.rtol / 10:.2g}" if config.adaptive else _smaller(config, step_size, 4)
    return (
        f"the flow's invariants drifted by {invariants_in_words(scalars)}, more than "
        f"{_percent(allowed)}: results are the step's, not the model's; try {remedy}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _instability(config: RunConfig, step_size: float, scalars: Mapping[str, float]) -> str:
    measured = scalars.get("lambda_max", nan)  # not in files of format version 1
    if config.adaptive or not step_size * measured > make_stepper(config).stability_limit:
        return ""
    limit, lambda_max = make_stepper(config).stability_limit, scalars["lambda_max"]
    return (
        f"step size {step_size:g} is beyond the stability limit of {config.integrator}, "
        f"{limit:g} / lambda_max = {limit / lambda_max:.2g} now; "
        f"try {_smaller(config, step_size, 16 * step_size * lambda_max)}"
    )


def remedy(config: RunConfig, step_size: float, reason: str, first: Mapping[str, float]) -> str:
    """Return the options to try after a divergence.

    ``reason`` is the divergence in one line, as the file keeps it, with the keys that are to blame;
    ``first`` the first row of scalars, if there is one.
    """
    keys = blamed(reason)
    options = [s.option for s in suspects(config, step_size, first) if s.key in keys]
    if options:
        return " ".join(options)
    if reason.startswith("the step size fell"):
        return "larger --rtol and --atol, or a fixed-step integrator"
    if not first:  # before the first step
        unit = "--normalize unit, or " * (config.normalize == "none")
        return f"{unit}data of a smaller scale"
    if config.adaptive:
        return f"--rtol {config.rtol / 10:.2g}"
    return _smaller(config, step_size, 2)


def remedy_of(trajectory: Trajectory, config: RunConfig) -> str:
    """Return the options to try after the divergence that a file records."""
    first = {name: float(column[0]) for name, column in trajectory.scalars.items() if len(column)}
    step_size = float(trajectory.attributes["resolved"]["step_size"])
    return remedy(config, step_size, trajectory.stop_reason, first)


def signs_of(trajectory: Trajectory, config: RunConfig) -> list[str]:
    """Return the signs of inaccuracy in a file's last row, or what to do if its run diverged."""
    if trajectory.status is Status.DIVERGED:
        return [f"start a new run with {remedy_of(trajectory, config)}"]
    columns = {name: column for name, column in trajectory.scalars.items() if len(column)}
    if "invariant_error" not in columns:  # nothing recorded yet, or a file of format version 1
        return []
    last = {name: float(column[-1]) for name, column in columns.items()}
    return warnings_of(config, trajectory.attributes["resolved"]["step_size"], last)


def _smaller(config: RunConfig, step_size: float, factor: float) -> str:
    """Return the options of a fixed step so many times smaller, at the same critic's speed."""
    options = f"--step-size {step_size / factor:.2g}"
    if config.critic_step_size is not None:
        options += f" --critic-step-size {config.critic_step_size / factor:.2g}"
    return options
