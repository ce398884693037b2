"""Step sizes: adaptive ones from the error, fixed ones with an optional ramp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prdsim.errors import DivergedError


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

        Returns the size of that step. Raises `DivergedError` if none is accepted.
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
