"""What the types of a configuration's keys do not say: texts of a form, keys that go together.

Each raises ValueError with the end of a sentence that begins with the key.
"""

from __future__ import annotations

from typing import Any

from prdsim.running.tableaux import TABLEAUX
from prdsim.symbols import ARRAYS

_CHANGES = 1_000_000  # of a control's field: each ends a step
_RINGS = 14  # of the grid of synthetic inputs


def arrays(value: str) -> str:
    """Return the arrays that move in their order."""
    names = [name.strip() for name in value.split(",")]
    if sorted(set(names)) != sorted(names) or not set(names) <= set(ARRAYS):
        raise ValueError("must list some of U,V,W,a, each once, separated by commas")
    return ",".join(name for name in ARRAYS if name in names)


def penalty_points(value: str) -> str:
    """Return where the penalty is taken."""
    kind, _, number = value.partition(":")
    gauss = kind == "gauss" and number in map(str, range(1, 65))
    if value not in ("midpoint", "random") and not gauss:
        raise ValueError("must be midpoint, random or gauss:K with K from 1 to 64")
    return value


def spectrum(value: str | None) -> str | None:
    """Return the spectrum of synthetic inputs."""
    rings = [f"ring:{K}" for K in range(1, _RINGS + 1)]
    if value is not None and value not in rings:
        raise ValueError(f"must be ring:K with K from 1 to {_RINGS}")
    return value


def consistent(config: Any) -> None:
    """Raise ValueError for keys of a `RunConfig`, which imports this, that do not go together."""
    if config.spectrum is not None and config.correlation_length > 0.0:
        raise ValueError("spectrum: a ring has no correlation_length; give one of the two")
    if config.groups is not None and config.width % config.groups:
        raise ValueError(f"groups: {config.groups} does not divide width, {config.width}")
    if config.integrator in TABLEAUX:
        if config.penalty_points == "random":
            raise ValueError(f"penalty_points: random needs integrator gd, not {config.integrator}")
        if config.critic_step_size is not None:
            raise ValueError(
                f"critic_step_size: is for integrator gd, not {config.integrator}, whose critic "
                "moves at critic_rate"
            )
    if config.controlled and config.end_time and config.end_time > _CHANGES * config.forcing_period:
        raise ValueError(
            f"forcing_time: {config.forcing_period:g} makes more than {_CHANGES:,} changes up to "
            f"time {config.end_time:g}; give a longer one"
        )
    if config.end_time is None and config.steps is None:
        raise ValueError("end_time: give a time at which the run ends, or steps")
    for key, rule in (("snapshots", config.snapshot_rule), ("scalars", config.scalar_rule)):
        if rule.by_time and config.end_time is None:
            raise ValueError(f"{key}: {rule} needs an end_time besides the steps")
        if not rule.by_time and config.steps is None:
            raise ValueError(
                f"{key}: {rule} counts steps, and needs their number: give steps, or "
                f"record by time, such as times:{rule}"
            )
