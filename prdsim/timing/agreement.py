"""Whether a contender agrees with the reference, by the changes of the arrays since t = 0.

The error allowed, relative to the norm of a change, with u the unit roundoff of the precision and
K steps taken, is `SPREAD` times the sum of the random errors from three sources:

* storage: X_0 cast, and each update rounded, at the size of X: u sqrt(K + 1) ||X_0|| / ||change||;
* sums, of up to r terms: u sqrt(r);
* gates: A errs by about u sqrt(d_in) of its spread, so 0.8 u sqrt(d_in) of all m n gates lie close
  enough to 0 to open on one side only; each such gate is one of some m n / 2 entries of B, all of
  similar size. The same holds for the critic's m_c n gates, from sums over m. Fewer than one gate
  in a hundred such comparisons counts as none.

A wrong term or factor shows in float64, where this is many orders of magnitude below 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from prdsim.backends.arrays import HostArray
from prdsim.timing.workload import Workload
from prdsim.verification.rounding import SPREAD

CHECKED_STEPS = 3
_NO_FLIP = 0.01  # expected number of differing gates below which they are neglected


@dataclass(frozen=True)
class Agreement:
    """Relative error of the change of one array, and the error allowed."""

    array: str
    measured: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the allowance; NaN is not."""
        return self.measured <= self.allowed


def compare(
    workload: Workload, reference: Mapping[str, HostArray], found: Mapping[str, HostArray]
) -> list[Agreement]:
    """Compare weights after `CHECKED_STEPS` steps with the float64 reference's."""
    result = []
    for name in workload.config.moving:
        before, after = workload.initial[name], reference[name]
        change = float(np.linalg.norm(after - before)) or 1.0
        error = float(np.linalg.norm(found[name].astype(np.float64) - after)) / change
        size = float(np.linalg.norm(before)) / change
        result.append(Agreement(name, error, SPREAD * _expected_error(workload, size)))
    return result


def _expected_error(workload: Workload, relative_size: float) -> float:
    sizes, u = workload.sizes, float(np.finfo(workload.config.precision).eps) / 2
    storage = u * sqrt(CHECKED_STEPS + 1) * relative_size
    sums = u * sqrt(max(sizes.d_in, sizes.n, sizes.m, sizes.m_c))
    gates = _gates(sizes.m * sizes.n, u * sqrt(sizes.d_in))
    if workload.config.adversary:
        gates += _gates(sizes.m_c * sizes.n, u * sqrt(sizes.m))
    return storage + sums + gates


def _gates(count: int, error: float) -> float:
    """Return the change caused by gates that differ, relative to all gates."""
    flips = 0.8 * error * count
    return sqrt(2 * max(flips, 1.0) / count) if flips * CHECKED_STEPS > _NO_FLIP else 0.0
