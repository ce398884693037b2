"""The pace of a run: wall-clock time, of the whole and of a step."""

from __future__ import annotations

import time
from math import nan


class Pace:
    """Times the steps of a run; the first, in which kernels may be compiled, apart."""

    def __init__(self) -> None:
        self._begun = self._first = time.perf_counter()
        self._steps = 0

    def step(self) -> None:
        """Count a step that has ended."""
        self._steps += 1
        if self._steps == 1:
            self._first = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return time.perf_counter() - self._begun

    @property
    def step_seconds(self) -> float:
        """The time of a step after the first, records included; NaN before there are two."""
        if self._steps < 2:
            return nan
        return (time.perf_counter() - self._first) / (self._steps - 1)
