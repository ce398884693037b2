"""Whether a number holds: a pure function of its values at the run's steps and at finer ones.

Functionals are judged (distances, spreads, losses), never the entries of a trajectory: with a
critic a perturbation of 1e-6 grows to a tenth of the state by t = 50, so that no step size makes
entries reproducible. Functionals are, up to a scatter that twins of the run measure.
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
"""The measures that decide about a run, and what they are called in a few letters."""

LEAST_SCALE: Mapping[str, float] = {
    # Shares of all neurons or gates: one percent is one percentage point, not 1 % of a few neurons.
    "inactive_neurons": 1.0,
    "active_gates": 1.0,
    "mask_flips": 1.0,
    # These pass through 0, where nothing has an error relative to itself; their own unit is 1.
    "morans_i_U": 0.1,
    "morans_i_change": 0.1,
    "skewness_U": 0.1,
    "kurtosis_U": 0.1,
}
"""The least value that changes are relative to; 0 for all other quantities."""

FLOOR_SCATTERS = 2.0
"""How many times the twins' scatter a change may be where nothing finer is reproducible."""


class Verdict(StrEnum):
    """The conclusion about a number."""

    CONVERGED = "converged"
    AT_THE_FLOOR = "at the floor"
    NOT_CONVERGED = "not converged"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class JudgedNumber:
    """One judged quantity; None stands for what is not known, or has no value.

    ``value`` is the run's; ``finer`` those of the replays, the finest last; ``twins`` those of its
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
        """Whether nothing speaks against the number."""
        return self.verdict is not Verdict.NOT_CONVERGED

    @property
    def error(self) -> float | None:
        """How far the number can be trusted, relative: the larger of change and scatter.

        A change that happens to be below the scatter is no better known than the scatter.
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
    """Judge a quantity by its values; NaN is what is not defined, or was not reached.

    Args:
        name: The quantity's; `LEAST_SCALE` has it if it is a share, or passes through 0.
        value: That of the run.
        finer: Those of two replays, each with a step or tolerance ``ratio`` times smaller than the
            one before.
        twins: Those of replays at the run's settings, begun 1e-6 beside it.
        accuracy: The relative change that is allowed.
        ratio: 2 for step sizes, sqrt(10) for tolerances.

    Returns:
        The change, |v_i - v| / |v_2| for the replay v_i further from the run's value v (of a
        sequence that converges, the finest, v_2); the scatter, |twin - v| / |v_2| for the twin
        further away; the observed order, log(|v - v_1| / |v_1 - v_2|) / log(ratio), if both
        differences are above the scatter; and the verdict: converged if the change is at most
        ``accuracy``, at the floor if it is at most twice the scatter, undefined if the quantity has
        no value in any of them, else not converged.
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
    """Return the largest difference in units of the scale; None if one is not known, or none is.

    It is 0 where all are equal, whatever the scale.
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
