"""The pace of a run: wall-clock time, of the whole and of a step."""

from __future__ import annotations

import time
from math import nan


class Pace:
    """Times the steps of a run; the first, in which kernels may be compiled, apart."""

    def __init__(self) -> None:
        self._begun = self._first = time.perf_counter()
        self._steps = self._at_first = 0

    def steps(self, count: int) -> None:
        """Count steps that have ended, since the last call."""
        self._steps += count
        if not self._at_first:
            self._first, self._at_first = time.perf_counter(), count

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return time.perf_counter() - self._begun

    @property
    def step_seconds(self) -> float:
        """The time of a step after the first, records included; NaN before there are two."""
        counted = self._steps - self._at_first
        return (time.perf_counter() - self._first) / counted if counted else nan
