"""When a run records: pure functions of integers, known before the first step."""

from __future__ import annotations

from .errors import ConfigError

_MOST_ROWS = 10_000_000  # a schedule is held in memory; the file would be larger than any disk


def snapshot_steps(rule: str, steps: int) -> list[int]:
    """Return the steps of the snapshots of a run: 0, those of the rule, and the last.

    ``geometric:COUNT`` spreads COUNT snapshots evenly in the logarithm of the step, fewer where
    whole steps coincide; ``every:STEPS`` takes the multiples. Raises `ConfigError` for more
    than ten million.
    """
    kind, _, number = rule.partition(":")
    if kind == "every":
        return _multiples(int(number), steps, f"snapshots {rule}")
    _check_count(min(int(number), steps), f"snapshots {rule}")
    intervals = int(number) - 2
    spread = (round(steps ** (i / intervals)) for i in range(intervals)) if intervals else ()
    return sorted({0, *spread, steps})


def scalar_steps(every: int, steps: int) -> list[int]:
    """Return the steps of the rows of scalars: the multiples of ``every``, and the last.

    Raises `ConfigError` for more than ten million.
    """
    return _multiples(every, steps, f"scalars_every {every}")


def _multiples(every: int, steps: int, rule: str) -> list[int]:
    planned = range(0, steps, every)
    _check_count(len(planned), rule)
    return [*planned, steps]


def _check_count(count: int, rule: str) -> None:
    if count > _MOST_ROWS:
        raise ConfigError(
            f"{rule}: {count:,} rows are planned, {_MOST_ROWS:,} are possible; record less often"
        )


def extended(planned: list[int], fresh: list[int]) -> list[int]:
    """Return a plan for more steps that keeps all of an earlier plan.

    ``planned`` ends at the old last step, ``fresh`` is the plan of the new total.
    """
    return [*planned, *(step for step in fresh if step > planned[-1])]
