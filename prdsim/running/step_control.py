"""Step sizes: adaptive ones from the error, fixed ones with an optional ramp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from math import inf, nan

from prdsim.errors import DivergedError

FIXED_FRACTION = 1 / 16
"""Automatic fixed steps in units of 1 / lambda_max at t = 0.

They follow the flow to a few percent through the kinks of the score field; 1 chatters at them.
"""


@dataclass(frozen=True)
class Controller:
    """Proportional-integral step-size control (Gustafsson, 1991) for an error of given order."""

    error_order: int
    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 5.0

    def factor(self, error: float, previous_error: float) -> float:
        """Return the factor for the step size after an accepted step."""
        exponent = 1.0 / (self.error_order + 1)
        error = max(error, 1e-10)
        raw: float = self.safety * error ** (-0.7 * exponent) * previous_error ** (0.4 * exponent)
        return min(self.largest, max(self.smallest, raw))

    def factor_after_rejection(self, error: float) -> float:
        """Return the factor for a step whose error was too large, or not a number."""
        if not error < float("inf"):
            return self.smallest
        raw: float = self.safety * error ** (-1.0 / (self.error_order + 1))
        return max(self.smallest, raw)


@dataclass
class StepControl:
    """The size of the next adaptive step, the state of its control, and the rejections.

    ``smallest`` is the size below which a run counts as diverged.
    """

    controller: Controller
    step_size: float
    smallest: float = 0.0
    previous_error: float = 1.0
    rejected: int = 0

    def step(self, attempt: Callable[[float], float], *, at_most: float = float("inf")) -> float:
        """Call ``attempt`` with step sizes until the error it returns is at most 1.

        Returns the size of that step. One that ``at_most`` has shortened leaves the size of the
        next as it is. Raises `DivergedError` if none is accepted.
        """
        size, first = min(self.step_size, at_most), True
        while not (error := attempt(size)) <= 1.0:
            first = False
            self.rejected += 1
            size *= self.controller.factor_after_rejection(error)
            if size < self.smallest:
                raise DivergedError(
                    f"diverged: the step size fell to {size:.1e}\n"
                    "try larger --rtol and --atol, or a fixed-step integrator"
                )
        if first and size < self.step_size:
            return size
        factor = self.controller.factor(error, self.previous_error)
        self.step_size = size * (factor if first else min(1.0, factor))
        self.previous_error = max(error, 1e-4)
        return size


@dataclass(frozen=True)
class FixedSteps:
    """Sizes and times of fixed steps; the first ``ramp`` of them grow in proportion to ``size``.

    Times are computed from the number of steps, never accumulated.
    """

    size: float
    ramp: int = 1

    def size_of(self, index: int) -> float:
        """Return the size of step ``index`` (from 0)."""
        return self.size * min(1.0, (index + 1) / self.ramp)

    def time(self, steps: int) -> float:
        """Return the time after a number of steps."""
        if steps < self.ramp:
            return self.size * (steps * (steps + 1) / (2 * self.ramp))
        return self.size * (steps - (self.ramp - 1) / 2)

    def alike(self, index: int, at_most: int, until: float) -> int:
        """Return how many steps from ``index`` on have one size and end by a time.

        At least 1, even if that ends later, and at most ``at_most``.
        """
        if index + 1 < self.ramp:
            return 1
        left = (until - self.time(index)) / self.size
        count = max(1, int(min(left + 1, at_most)))  # or one less, by rounding
        while count > 1 and self.time(index + count) > until:
            count -= 1
        return count


def fixed_step(lambda_max: float) -> float:
    """Return the step size for "auto" of fixed steps, by lambda_max at t = 0; NaN if unknown."""
    if not 0.0 < lambda_max < inf:
        return nan
    return round_down(FIXED_FRACTION * round_down(1.0 / lambda_max))


def round_down(value: float) -> float:
    """Return a positive number rounded down to two significant digits."""
    number = Decimal(str(value))  # by its shortest text: 0.29 stays 0.29
    unit = Decimal(1).scaleb(number.adjusted() - 1)
    return float(number.quantize(unit, rounding=ROUND_FLOOR))
