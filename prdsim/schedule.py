"""When a run records: plans of steps or of times, known before the first step.

A rule is text such as ``times:geometric:40`` or ``every:100``. It becomes a plan, ascending from 0:
integers are steps, floats are times. An `Agenda` follows a plan along a run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from prdsim.errors import ConfigError

Plan = list[int] | list[float]

_MOST_ROWS = 5_000_000  # a plan is held in memory, some 100 bytes a row
_FIRST_TIME = 1e-3  # first nonzero time of times:geometric, relative to the end
_SLACK = 1e-12  # relative: ten steps of 0.1 reach 1, whatever the rounding of the product


@dataclass(frozen=True)
class Rule:
    """When to record: ``number`` rows for ``geometric``, their distance for ``every``.

    Distances are in steps, or in units of time if ``by_time``.
    """

    kind: str
    number: float
    by_time: bool

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule; raises `ValueError`, with an explanation, if it is not one."""
        by_time = text.startswith("times:")
        kind, _, digits = text.removeprefix("times:").partition(":")
        number = _number(digits, whole=not by_time or kind == "geometric")
        if kind not in ("geometric", "every") or not 0 < number < math.inf:
            raise ValueError(
                "must be times:geometric:COUNT or times:every:TIME, such as times:every:0.5; or, "
                "by step, geometric:COUNT or every:STEPS, such as every:100"
            )
        if kind == "geometric" and number < 2:
            raise ValueError("geometric needs at least 2 rows: the first and the last")
        return cls(kind, number, by_time)

    def __str__(self) -> str:
        return f"{'times:' * self.by_time}{self.kind}:{self.number:.15g}"

    def plan(self, *, steps: int, end_time: float | None) -> Plan:
        """Return the plan of a run of ``steps``, or to ``end_time``, the first and last included.

        Geometric rows are spread evenly in the logarithm of the step (fewer if whole steps
        coincide) or of the time, from a thousandth of the end. Raises `ConfigError` for more than
        five million rows.
        """
        if not self.by_time:
            return self._steps(steps)
        assert end_time is not None
        return self._times(end_time)

    def _steps(self, steps: int) -> list[int]:
        number = int(self.number)
        if self.kind == "every":
            self._check_count(-(-steps // number))
            return [*range(0, steps, number), steps]
        self._check_count(number)
        intervals = number - 2
        spread = (round(steps ** (i / intervals)) for i in range(intervals)) if intervals else ()
        return sorted({0, *spread, steps})

    def _times(self, end: float) -> list[float]:
        if self.kind == "every":
            count = end / self.number * (1 - _SLACK)
            self._check_count(count)
            return [*(i * self.number for i in range(math.ceil(count))), end]
        intervals = int(self.number) - 2
        self._check_count(intervals)
        spread = (end * _FIRST_TIME ** (1 - i / intervals) for i in range(intervals))
        times = [0.0, *spread, end]
        if any(a >= b for a, b in itertools.pairwise(times)):
            raise ConfigError(f"end_time: {end:g} is too short to be divided")
        return times

    def _check_count(self, count: float) -> None:
        if count > _MOST_ROWS:
            shown = f"{count:,.0f}" if count < 1e18 else f"{count:.3g}"
            raise ConfigError(
                f"{self}: {shown} rows are planned, at most {_MOST_ROWS:,} are possible; "
                "record less often"
            )


def _number(text: str, *, whole: bool) -> float:
    """Return the number in a text, or 0 if there is none."""
    try:
        return float(text) if not whole or text.isdecimal() else 0.0
    except ValueError:
        return 0.0


def is_by_time(plan: Sequence[float]) -> bool:
    """Whether a plan is one of times, which are floats, and not of steps."""
    return any(isinstance(entry, float) for entry in plan)


def _rounded_up(time: float) -> float:
    """Return the latest planned time that counts as reached, allowing for rounding."""
    return time * (1 + _SLACK)


def reaches(time: float, end: float | None) -> bool:
    """Whether a time is at the end or past it, up to rounding."""
    return end is not None and time >= end * (1 - _SLACK)


def extended(recorded: Plan, planned: Plan, fresh: Plan, *, reached: float) -> Plan:
    """Return a plan for a longer run that keeps the recorded and planned entries.

    ``recorded`` are the entries in the file, ``fresh`` is the plan of the longer run, of which
    entries up to ``reached``, the step or time from which it goes on, are dropped.
    """
    kept = [*recorded, *(entry for entry in planned if entry > max(recorded, default=-1))]
    over = max(kept[-1], reached)
    if is_by_time(kept):
        over = _rounded_up(over)
    return [*kept, *(entry for entry in fresh if entry > over)]


class Agenda:
    """Follows a plan along a run that has reached a step and a time."""

    def __init__(self, plan: Sequence[float], step: int = -1, time: float = -1.0) -> None:
        self._by_time = is_by_time(plan)
        reached = _rounded_up(time) if self._by_time else step
        self._left = [entry for entry in reversed(plan) if entry > reached]

    @property
    def next_time(self) -> float:
        """The next planned time; infinite for a plan of steps."""
        return self._left[-1] if self._by_time and self._left else math.inf

    @property
    def next_step(self) -> float:
        """The next planned step; infinite for a plan of times."""
        return math.inf if self._by_time or not self._left else self._left[-1]

    def due(self, step: int, time: float) -> list[float]:
        """Return the times of the rows due since the last call, at a step and time of the run."""
        found = []
        reached = _rounded_up(time) if self._by_time else step
        while self._left and self._left[-1] <= reached:
            entry = self._left.pop()
            found.append(entry if self._by_time else time)
        return found
