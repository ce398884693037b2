"""Whether a number holds: a pure function of its values at the run's steps and at finer ones.

Functionals are judged (distances, spreads, losses), never the entries of a trajectory: with a
critic a perturbation of 1e-6 grows to a tenth of the state by t = 50, so that no step size makes
entries reproducible. Functionals are reproducible, up to the scatter of the run's twins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

HEADLINE: Mapping[str, str] = {
    "distance_U_mean": "mean distance",
    "distance_V_mean": "mean distance of V",
    "cv_U": "cv",
    "gini_U": "Gini",
    "ks_U": "KS",
    "morans_i_U": "Moran's I",
    "inactive_neurons": "silent neurons",
}
"""The measures that decide about a run, with their short names."""

LEAST_SCALE: Mapping[str, float] = {
    # Shares of all neurons or gates: one percent is one percentage point, not 1 % of a few neurons.
    "inactive_neurons": 1.0,
    "active_gates": 1.0,
    "mask_flips": 1.0,
    # These pass through 0, where a relative error has no meaning; their natural unit is 1.
    "morans_i_U": 0.1,
    "morans_i_change": 0.1,
    "skewness_U": 0.1,
    "kurtosis_U": 0.1,
}
"""The least scale that changes are divided by; 0 for all other quantities."""

FLOOR_SCATTERS = 2.0
"""The largest change, in units of the twins' scatter, that counts as at the floor."""


class Verdict(StrEnum):
    """The conclusion about a number."""

    CONVERGED = "converged"
    AT_THE_FLOOR = "at the floor"
    NOT_CONVERGED = "not converged"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class JudgedNumber:
    """One judged quantity; None stands for an unknown or undefined number.

    ``value`` is the run's, ``finer`` those of the replays, the finest last, ``twins`` those of its
    twins. ``change`` and ``scatter`` are relative to the finest value, ``order`` is observed.
    """

    name: str
    value: float | None
    finer: tuple[float | None, ...]
    twins: tuple[float | None, ...]
    change: float | None
    scatter: float | None
    order: float | None
    verdict: Verdict

    @property
    def holds(self) -> bool:
        """Whether the number can be trusted."""
        return self.verdict is not Verdict.NOT_CONVERGED

    @property
    def error(self) -> float | None:
        """The relative error: the larger of change and scatter.

        A change that happens to be below the scatter does not make the number more certain.
        """
        if self.change is None:
            return None
        return max(self.change, self.scatter or 0.0)


def judge(
    name: str,
    value: float,
    finer: Sequence[float],
    twins: Sequence[float],
    *,
    accuracy: float,
    ratio: float,
) -> JudgedNumber:
    """Judge a quantity by its values; NaN marks one that is undefined or was not reached.

    Args:
        name: Name of the quantity; in `LEAST_SCALE` if it is a share, or passes through 0.
        value: Its value in the run.
        finer: Its values in two replays, each with a step or tolerance ``ratio`` times smaller
            than the one before.
        twins: Its values in replays at the run's settings, with initial states off by 1e-6.
        accuracy: The relative change that is allowed.
        ratio: 2 for step sizes, sqrt(10) for tolerances.

    Returns:
        The change, |v_i - v| / |v_2| for the replay v_i further from the run's value v (the
        finest, v_2, in a converging sequence); the scatter, |twin - v| / |v_2| for the twin
        further away; the observed order, log(|v - v_1| / |v_1 - v_2|) / log(ratio), if both
        differences are above the scatter; and the verdict: converged if the change is at most
        ``accuracy``, at the floor if it is at most twice the scatter, undefined if the quantity has
        no value in any run, else not converged.
    """
    scale = max(abs(finer[-1]), LEAST_SCALE.get(name, 0.0))
    change, scatter = (_furthest(value, others, scale) for others in (finer, twins))
    return JudgedNumber(
        name,
        _known(value),
        tuple(map(_known, finer)),
        tuple(map(_known, twins)),
        change,
        scatter,
        _order([value, *finer], (scatter or 0.0) * scale, ratio),
        _verdict([value, *finer], change, scatter, accuracy),
    )


def _verdict(
    values: Sequence[float], change: float | None, scatter: float | None, accuracy: float
) -> Verdict:
    if not any(map(math.isfinite, values)):
        return Verdict.UNDEFINED
    if change is None:
        return Verdict.NOT_CONVERGED
    if change <= accuracy:
        return Verdict.CONVERGED
    if scatter is not None and change <= FLOOR_SCATTERS * scatter:
        return Verdict.AT_THE_FLOOR
    return Verdict.NOT_CONVERGED


def _order(values: Sequence[float], scatter: float, ratio: float) -> float | None:
    first, second = (abs(b - a) for a, b in zip(values[-3:], values[-2:], strict=False))
    known = math.isfinite(first) and math.isfinite(second)
    if not known or min(first, second) <= scatter:
        return None
    return math.log(first / second) / math.log(ratio)


def _furthest(value: float, others: Sequence[float], scale: float) -> float | None:
    """Return the largest difference in units of the scale; None if a value or all are unknown.

    It is 0 if all are equal, whatever the scale.
    """
    differences = [abs(other - value) for other in others]
    if not differences or not all(map(math.isfinite, differences)):
        return None
    largest = max(differences)
    if largest == 0.0:
        return 0.0
    return _known(largest / scale) if scale > 0.0 else None


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def percent(share: float) -> str:
    """Return a share in percent with two digits: 0.4 %, 56 %."""
    if 0.0 < share < 1e-4:
        return "< 0.01 %"
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
