"""How measures of a snapshot are declared: in groups that share expensive computations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prdsim.analysis.recording import Recording, Snapshot

Values = dict[str, float]
Compute = Callable[["Snapshot"], Values]


@dataclass(frozen=True)
class Measure:
    """A number measured at a snapshot: its name in tables, its meaning and its unit.

    ``of_path``: it depends on the snapshots before, and so on when they were recorded.
    """

    name: str
    meaning: str
    unit: str = "1"
    of_path: bool = False


@dataclass(frozen=True)
class Group:
    """Measures that are computed together, in their order; `prdsim.vocabulary` says their meaning.

    ``prepare`` takes a recording, once, and returns a function that computes the measures of a
    snapshot; it raises `PrdsimError` if the recording lacks necessary data. ``on_demand`` groups
    cost more than all others together: they are computed only if named.
    """

    name: str
    measures: tuple[Measure, ...]
    prepare: Callable[[Recording], Compute]
    on_demand: bool = False


_SUMMARY = {
    "mean": "mean over neurons",
    "sd": "standard deviation over neurons",
    "q05": "5 % quantile over neurons",
    "q50": "median over neurons",
    "q95": "95 % quantile over neurons",
    "max": "largest",
}


def summarized(name: str, symbol: str, unit: str = "1") -> list[Measure]:
    """Declare the measures that `summary` returns for a number per neuron."""
    return [Measure(f"{name}_{key}", f"{symbol}, {text}", unit) for key, text in _SUMMARY.items()]


def summary(name: str, values: NDArray[Any]) -> Values:
    """Return mean, standard deviation, quantiles and maximum of numbers (m,)."""
    with np.errstate(invalid="ignore", over="ignore"):  # a diverging run has infinite forces
        q05, q50, q95 = np.quantile(values, (0.05, 0.5, 0.95))
        numbers = (np.mean(values), np.std(values), q05, q50, q95, np.max(values))
    return {f"{name}_{key}": float(number) for key, number in zip(_SUMMARY, numbers, strict=True)}
