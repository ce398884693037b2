"""What a measure of a study does along an axis: curves over seeds, exponents, their errors.

The spread is that over seeds. The discretization error is known if a study also varies what decides
it, `rtol` of adaptive steps or `step_size` of fixed ones: values are those of its finest value, the
error the largest relative difference from the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prdsim.arguments import known_name
from prdsim.backends.arrays import HostArray as Array
from prdsim.convergence.judgment import percent
from prdsim.errors import ConfigError, did_you_mean
from prdsim.study.folder import State, StudyFolder
from prdsim.study.plan import Member, Plan
from prdsim.study.table import groups_of, study_table
from prdsim.table import Table
from prdsim.words import shown

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """A measure over an axis for some settings: ``values`` is (points, seeds).

    ``discretization`` is relative, None if it is not known.
    """

    settings: Mapping[str, Any]
    x: Array
    values: Array
    discretization: float | None

    @property
    def label(self) -> str:
        """The settings as text."""
        return _label(self.settings)

    @property
    def mean(self) -> Array:
        """Means over seeds."""
        means: Array = self.values.mean(axis=1)
        return means

    @property
    def deviation(self) -> Array:
        """Standard deviations over seeds; NaN for one."""
        if self.values.shape[1] < 2:
            return np.full(len(self.x), np.nan)
        deviations: Array = self.values.std(axis=1, ddof=1)
        return deviations


def _label(settings: Mapping[str, Any]) -> str:
    sides = {True: "with diffusion", False: "without diffusion"}
    words = [
        sides[value] if key == "diffusion" else f"{key} = {value}"
        for key, value in settings.items()
    ]
    return ", ".join(words) or "all"


@dataclass(frozen=True)
class Exponent:
    """The slope of log(measure) over log(axis): mean over seeds, and its confidence interval."""

    slope: float
    low: float
    high: float


def fineness(plan: Plan) -> str:
    """Return the key whose values decide the discretization error of a study; "" if none does."""
    configs = [member.config for member in plan.members]
    if "rtol" in plan.keys and all(config.adaptive for config in configs):
        return "rtol"
    fixed = all(not c.adaptive and not isinstance(c.step_size, str) for c in configs)
    return "step_size" if "step_size" in plan.keys and fixed else ""


def curves_of(
    study: StudyFolder,
    measure: str,
    over: str,
    by: Sequence[str] = (),
    *,
    progress: Callable[[Iterable[Member]], Iterable[Member]] = iter,
) -> list[Curve]:
    """Return the curves of a measure of a study, see `curves`; its group alone is computed.

    ``progress`` may wrap the loop over members. Raises what `study_table` and `curves` raise.
    """
    groups, fine = groups_of(measure), fineness(study.plan)
    _require_keys(study.plan.keys, over, by, fine)
    table = study_table(study, groups=groups, progress=progress)
    return curves(table, measure, over, by, fine)


def curves(
    table: Table, measure: str, over: str, by: Sequence[str] = (), fine: str = ""
) -> list[Curve]:
    """Return the curves of a measure over a key, one for every setting of the keys ``by``.

    ``table`` is that of `prdsim.study.table.study_table`, ``fine`` the study's `fineness`. Members
    that are not finished are left out, with the seeds that lack a point. Raises `ConfigError` if a
    key does not vary, the measure is unknown or no number, another key varies, or no seed has all
    points.
    """
    names = list(table.columns)
    keys = names[1 : names.index("state")]  # between the member's name and its state
    known_name(measure, [name for name in names[len(keys) + 2 :] if name != "reason"], "measure")
    fine = _require_keys(keys, over, by, fine)
    rows = table.rows
    if any(row[measure] is None for row in rows if row["state"] == State.FINISHED):
        problem = f"{measure} is not a number for some members"
        raise ConfigError("; ".join([problem, *table.notes]))
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return [
        _curve(dict(zip(by, group, strict=True)), members, measure, over, fine)
        for group, members in groups.items()
    ]


def _require_keys(keys: Sequence[str], over: str, by: Sequence[str], fine: str) -> str:
    """Require that all keys that vary are given, and no others; return ``fine`` unless it is."""
    for key in (over, *by):
        if key not in keys:
            hint = did_you_mean(key, keys) or f"these vary: {', '.join(keys)}"
            raise ConfigError(f"{shown(key)} does not vary in this study; {hint}")
    fine = "" if fine in (over, *by) else fine
    others = set(keys) - {over, *by, "seed", fine}
    if others:
        raise ConfigError(f"{min(others)} varies, too: give --by {min(others)}")
    return fine


def _curve(
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    measure: str,
    over: str,
    fine: str,
) -> Curve:
    found = {
        (row.get(fine), row[over], None if over == "seed" else row.get("seed")): row[measure]
        for row in rows
        if row["state"] == State.FINISHED
    }
    finest = sorted({row.get(fine) for row in rows}, key=_size)[:2]
    x = sorted({row[over] for row in rows}, key=_place)
    seeds = sorted({key[2] for key in found}, key=str)
    whole = [s for s in seeds if all((f, at, s) in found for f in finest for at in x)]
    if not whole:
        raise ConfigError(f"no seed is finished at every {over} ({_label(settings)})")
    levels = [np.array([[found[f, at, s] for s in whole] for at in x], dtype=float) for f in finest]
    error = None
    if len(levels) == 2:
        change, value = np.abs(levels[1] - levels[0]), np.abs(levels[0])
        error = float(np.max(change / np.where(change == 0, 1.0, value), initial=0.0))
    numbers = all(isinstance(at, int | float) and not isinstance(at, bool) for at in x)
    return Curve(settings, np.array(x, dtype=None if numbers else object), levels[0], error)


def _place(value: Any) -> tuple[bool, float, str]:
    """Return the place of a value on an axis: numbers in order, then all else by its text."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, str(value)


def _size(value: Any) -> float:
    return value if isinstance(value, int | float) else float("inf")


def exponent(curve: Curve) -> Exponent | None:
    """Return the exponent of a curve, None where logarithms do not exist or there are two points.

    The interval is Student's over seeds, whose slopes are fitted one by one.
    """
    x = curve.x
    if len(x) < 3 or x.dtype.kind not in "if" or np.any(x <= 0) or np.any(curve.values <= 0):
        return None
    slopes = np.polyfit(np.log(x), np.log(curve.values), 1)[0]
    mean = float(slopes.mean())
    count = len(slopes)
    if count < 2:
        return Exponent(mean, float("nan"), float("nan"))
    from scipy.special import stdtrit

    half = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * slopes.std(ddof=1) / np.sqrt(count)
    return Exponent(mean, float(mean - half), float(mean + half))


def effect_table(found: Sequence[Curve], measure: str, over: str) -> Table:
    """Return one row per point of each curve: mean and standard deviation over seeds."""
    columns: dict[str, list[Any]] = {key: [] for key in found[0].settings}
    columns |= {over: [], "seeds": [], "mean": [], "deviation": []}
    notes = []
    for curve in found:
        for at, mean, deviation in zip(curve.x.tolist(), curve.mean, curve.deviation, strict=True):
            row = {over: at, "seeds": curve.values.shape[1], "mean": mean, "deviation": deviation}
            for name, column in columns.items():
                column.append(row.get(name, curve.settings.get(name)))
        notes.append(f"{curve.label}: {in_words(curve)}")
    return Table(f"{measure} over {over}", columns, notes=tuple(notes))


def in_words(curve: Curve) -> str:
    """Describe the exponent of a curve and its discretization error."""
    words = []
    if (fitted := exponent(curve)) is not None:
        interval = ""
        if np.isfinite(fitted.low):
            interval = f" ({CONFIDENCE:.0%} interval {fitted.low:.3f} to {fitted.high:.3f})"
        words.append(f"exponent {fitted.slope:.3f}{interval}")
    return "; ".join([*words, f"discretization error {error_in_words([curve])}"])


def error_in_words(found: Sequence[Curve]) -> str:
    """Describe the largest discretization error of curves."""
    errors = [curve.discretization for curve in found if curve.discretization is not None]
    if len(errors) < len(found):
        return "not assessed: vary rtol, too"
    return f"at most {percent(max(errors))}"
