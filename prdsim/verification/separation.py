"""The separation of a trajectory from the reference, and how large it may be.

A gate 1{A >= 0} of a pre-activation within rounding of 0 may open on one side only; from then on
two trajectories are both right. They are compared up to the last step before a gate of the
generator differs, and the pre-activation of a differing gate must itself be within its allowance of
0. The critic's gates are not examined: they also flip in the perturbed references, and widen the
allowance from then on. For each array the step closest to its allowance is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.running.simulation import Simulation
from prdsim.verification.experiments import (
    SPREAD_REASON,
    TRAJECTORY_STEPS,
    allowed_errors,
    relative_errors,
)
from prdsim.verification.operands import Finding


@dataclass(frozen=True)
class Separation:
    """The separation from the reference: errors after each step, and gates of the generator.

    ``flips`` holds the number of gates that differ in each step, ``flipped`` the largest |A| of the
    reference among them, ``drift`` the largest error of A.
    """

    errors: list[dict[str, float]]
    flips: list[int]
    flipped: list[float]
    drift: list[float]

    @property
    def compared(self) -> int:
        """The number of steps before a gate differs."""
        return next((i for i, count in enumerate(self.flips) if count), len(self.flips))


def course(simulation: Simulation) -> Iterator[tuple[dict[str, HostArray], HostArray]]:
    """Take steps of gd; yield the weights after each, and the pre-activations it saw."""
    for _ in range(TRAJECTORY_STEPS):
        simulation.advance()
        A = simulation.backend.to_host(simulation.model.work.A).astype(np.float64)
        yield simulation.weights(), A


def separation(
    simulation: Simulation, reference: list[tuple[dict[str, HostArray], HostArray]]
) -> Separation:
    """Run in parallel with the reference's `course`."""
    result = Separation([], [], [], [])
    with simulation:
        for (weights, A), (expected, A_ref) in zip(course(simulation), reference, strict=True):
            differ = (A >= 0) != (A_ref >= 0)
            result.errors.append(relative_errors(weights, expected))
            result.flips.append(int(np.count_nonzero(differ)))
            result.flipped.append(float(np.max(np.abs(A_ref[differ]), initial=0.0)))
            result.drift.append(float(np.max(np.abs(A - A_ref))))
    return result


def compare_separations(
    chart: str, measured: Separation, others: list[Separation]
) -> Iterator[Finding]:
    """Compare a separation with those of the perturbed references."""
    steps = measured.compared
    allowed = [allowed_errors(errors) for errors in zip(*(o.errors for o in others), strict=True)]
    for name in measured.errors[0]:
        findings = [
            Finding(
                f"{chart}, gd: {name} after step {i + 1}", error[name], bound[name], SPREAD_REASON
            )
            for i, (error, bound) in enumerate(zip(measured.errors, allowed, strict=True))
        ][: max(steps, 1)]
        yield max(reversed(findings), key=lambda finding: finding.severity)
    if steps == TRAJECTORY_STEPS:
        yield Finding(f"{chart}, gd: gates", 0.0, 0.0, f"none differs in {steps} steps")
        return
    drift = allowed_errors([{"A": other.drift[steps]} for other in others])["A"]
    item = f"{chart}, gd: |A| at {measured.flips[steps]} gates that differ in step {steps + 1}"
    yield Finding(item, measured.flipped[steps], drift, SPREAD_REASON)
