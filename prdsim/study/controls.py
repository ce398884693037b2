"""Controls: what of a pattern is the adversary's own, and what any force would do.

Two studies in one folder: ``references``, runs without diffusion, with the adversary, and along
the response curves; then ``controls``, runs with another field in the critic's place, each of the
norms of the adversarial run of its seed. Every run is made at two tolerances, the second a tenth of
the first, along curves a third: values are those of the second, the difference is the
discretization error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.backends.arrays import HostArray as Array
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError, StudyError
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.running.step_control import round_down
from prdsim.running.step_size import automatic_step_size
from prdsim.study.axes import Settings
from prdsim.study.folder import Standing, State, StudyFolder
from prdsim.study.plan import Plan, name_of
from prdsim.study.table import look, study_table
from prdsim.symbols import CONDITIONS, CONTROLS

GROUPS = ("distances", "spread", "entries", "order", "activity", "rank", "synchrony")
MEASURES = (
    *("distance_U_mean", "distance_V_mean", "cv_U", "gini_U", "cv_active_U", "skewness_U"),
    *("kurtosis_U", "ks_U", "ks_initial_U", "morans_i_U", "morans_i_change"),
    *("correlation_length_change", "wavelength_change", "active_gates", "inactive_neurons"),
    *("effective_rank", "participation_ratio", "alignment_U", "alignment_change", "alignment_V"),
    *("alignment_velocity_U", "alignment_velocity_V", "alignment_motion_U", "alignment_motion_V"),
    *("polar_motion_U", "polar_motion_V", "chi2_activity", "chi2_speed_U"),
)
"""The measures that conditions are compared by; those of images only where inputs are images."""

DEFAULTS: Settings = {
    "preset": "poster",
    "samples": 100,
    "width": 64,
    "threads": 1,
    "snapshots": "times:every:2.5",
}
"""Keys of all runs unless others are given: small, so that a study takes minutes, not hours."""

REFINED, REFINED_CURVES = 10.0, 3.0
"""The ratios of the two tolerances: as in `prdsim converge`, and along curves.

The steps of the flow, which slides along kinks, are proportional to the tolerance.
"""

_NONE: Settings = {"diffusion": False}
_ADVERSARY: Settings = {"diffusion": True}
_STATIC: Settings = {"diffusion": True, "forcing": "static", "forcing_norm": 1.0}
_SIDES: Mapping[str, Settings] = {"none": _NONE, "adversary": _ADVERSARY, "static": _STATIC}
_FRACTIONS = (1.0, 0.5, 0.25, 0.125, 0.0625)  # of 1 / lambda_max, the steps of gd
_VARIED: Mapping[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "diffusivity": ((0.25, 0.5, 1.0, 2.0), ("adversary", "static")),
    "critic_rate": ((0.1, 0.3, 1.0, 3.0), ("adversary",)),
    "init_scale": ((0.03, 0.1, 0.3, 1.0), ("none", "adversary", "static")),
}
"""The response curves of the flow: values of a key, and the conditions in which it varies."""

CURVES = (*_VARIED, "step_size")


@dataclass(frozen=True)
class Found:
    """A finished run of a study, with its scalars and measures at the end by name."""

    config: RunConfig
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """A measure over seeds for one condition, at two tolerances (one: the same twice).

    ``values`` are those at the finer one, ``error`` the largest relative difference, NaN if it is
    not known.
    """

    seeds: tuple[int, ...]
    values: Array
    error: float

    @classmethod
    def of(cls, coarse: Mapping[int, float], fine: Mapping[int, float]) -> Sample:
        """Return the sample of the seeds that have both, in order."""
        seeds = tuple(sorted(coarse.keys() & fine.keys()))
        first, second = (np.array([level[s] for s in seeds]) for level in (coarse, fine))
        change, size = np.abs(first - second), np.abs(second)
        error = np.max(change / np.where(change == 0, 1.0, size), initial=0.0)
        return cls(seeds, second, float(error))


class Base:
    """The settings that all runs share, ``rtol`` apart, which has two values."""

    def __init__(self, given: Settings) -> None:
        for key in ("seed", "diffusion", "forcing", "forcing_norm", "output", "integrator"):
            if key in given:
                raise ConfigError(f"{key} cannot be set: controls sets it for each run")
        self.settings = {**DEFAULTS, **given}
        config = RunConfig(**self.settings, diffusion=True)
        if config.steps is not None:
            raise ConfigError("steps: controls compares runs at a time; give end_time alone")
        if not config.diffuses:
            raise ConfigError("diffusivity cannot be 0: there would be no adversary")
        if not config.adaptive:
            raise ConfigError(f"integrator: {config.integrator} has no tolerance to refine")
        if config.end_time is None:
            raise ConfigError("end_time: controls compares runs at a time; give one")
        self.config = config
        self.tolerances = _pair(config.rtol, REFINED)
        self.curve_tolerances = _pair(config.rtol, REFINED_CURVES)


def _point(seed: int, rtol: float, **keys: Any) -> Settings:
    """Return the settings of a member besides the base's."""
    return {"seed": seed, "rtol": rtol, **keys}


def _pair(rtol: float, ratio: float) -> tuple[float, float]:
    return rtol, float(f"{rtol / ratio:.12g}")  # 3e-05, not 2.99...e-05


# -- plans -----------------------------------------------------------------------------------------


def references(base: Base, seeds: int, curve_seeds: int) -> Plan:
    """Return the plan of the runs without a control, and of those along the response curves.

    Loads the data for the steps of gd, if there are curves; raises what that raises.
    """
    points = list(_references(base, seeds))
    if curve_seeds:
        points += _along_curves(base, curve_seeds)
    return _plan(base, points)


def _references(base: Base, seeds: int) -> Iterator[Settings]:
    for seed in range(seeds):
        for rtol in base.tolerances:
            yield _point(seed, rtol, **_NONE)
            yield _point(seed, rtol, **_ADVERSARY)


def _along_curves(base: Base, seeds: int) -> Iterator[Settings]:
    steps = steps_of_gd(base)
    for seed in range(seeds):
        for rtol in base.curve_tolerances:
            for key, (values, sides) in _VARIED.items():
                for side in sides:
                    for value in values:
                        yield _point(seed, rtol, **{**_SIDES[side], key: value})
        for step in steps:
            for keys in (_NONE, _ADVERSARY):
                alternating = {"integrator": "gd", "step_size": step}
                yield _point(seed, base.tolerances[0], **keys, **alternating)


def steps_of_gd(base: Base) -> tuple[float, ...]:
    """Return the steps of the curve over them: fractions of 1 / lambda_max at seed 0."""
    data = load_data(base.config)
    sizes = dimensions_of(base.config, *data.X.shape[:1], *data.Y.shape)
    initial = draw_initial(base.config, sizes, data.X)
    largest = automatic_step_size(base.config, data.X, data.Y, initial)
    return tuple(round_down(fraction * largest) for fraction in _FRACTIONS)


def adversary(base: Base, seed: int) -> str:
    """Return the name of the member of ``references`` whose norms the controls of a seed have."""
    return name_of(RunConfig(**{**base.settings, **_point(seed, base.tolerances[1], **_ADVERSARY)}))


def controls(base: Base, seeds: Iterable[int]) -> Plan:
    """Return the plan of the runs with controls, whose norms are members of ``references``."""
    points = []
    for seed in seeds:
        norms = f"../references/members/{adversary(base, seed)}.h5"
        for rtol in base.tolerances:
            for kind in CONTROLS:
                keys = {"forcing": kind, "forcing_norm": norms}
                points.append(_point(seed, rtol, **_ADVERSARY, **keys))
    return _plan(base, points)


def usable(base: Base, seeds: int, standings: Mapping[str, Standing]) -> list[int]:
    """Return the seeds whose adversary has finished, so that controls can have its norms."""
    return [
        seed for seed in range(seeds) if standings[adversary(base, seed)].state is State.FINISHED
    ]


def as_expected(plan: Plan, standings: Mapping[str, Standing]) -> bool:
    """Whether all members are finished, or diverged by the steps of gd, some of which are large."""
    states = {m.name: standings[m.name].state for m in plan.members}
    return all(
        states[m.name] is State.FINISHED
        or (states[m.name] is State.DIVERGED and m.config.integrator == "gd")
        for m in plan.members
    )


def _plan(base: Base, points: Iterable[Settings]) -> Plan:
    """Return the plan of some points, each once: curves cross, and pass the references."""
    found: dict[str, Settings] = {}
    for point in points:
        found.setdefault(name_of(RunConfig(**{**base.settings, **point})), point)
    return Plan(base.settings, tuple(found.values()))


# -- what the runs say -----------------------------------------------------------------------------


def collect(studies: Iterable[StudyFolder]) -> list[Found]:
    """Return the finished runs of some studies, with their measures."""
    found = []
    for study in studies:
        standings = look(study)
        table = study_table(study, standings, groups=GROUPS)
        for member, row in zip(study.plan.members, table.rows, strict=True):
            if standings[member.name].state is State.FINISHED:
                found.append(Found(member.config, row))
    return found


Which = Callable[[RunConfig], bool]


def of_condition(name: str) -> Which:
    """Return whether a run is of a condition at the base's settings: none, adversary or a control.

    Controls are those with the norms of an adversarial run.
    """

    def chosen(config: RunConfig) -> bool:
        if not config.adaptive:
            return False
        if name == "none":
            return not config.diffusion
        if name == "adversary":
            return config.diffuses and not config.controlled
        return config.forcing == name and isinstance(config.forcing_norm, str)

    return chosen


def sample(
    found: Iterable[Found], tolerances: tuple[float, float], measure: str, which: Which
) -> Sample | None:
    """Return a measure of the chosen runs at two tolerances; None if no seed has both."""
    by_level: dict[float, dict[int, float]] = {rtol: {} for rtol in tolerances}
    for each in found:
        value = each.numbers.get(measure)
        if which(each.config) and each.config.rtol in by_level and value is not None:
            by_level[each.config.rtol][each.config.seed] = value
    coarse, fine = (by_level[rtol] for rtol in tolerances)
    found_both = Sample.of(coarse, fine)
    return found_both if found_both.seeds else None


def at_base(base: Base, which: Which, **varied: Any) -> Which:
    """Return whether a run is chosen and has the base's settings, but for those given."""
    wanted = {key: getattr(base.config, key) for key in _VARIED} | varied

    def chosen(config: RunConfig) -> bool:
        return which(config) and all(getattr(config, k) == v for k, v in wanted.items())

    return chosen


def of_side(name: str) -> Which:
    """Return whether a run is of a side of the response curves: none, adversary, static."""
    wanted = _SIDES[name]
    return lambda config: (
        all(getattr(config, key) == value for key, value in wanted.items())
        and (name != "adversary" or not config.controlled)
    )


def curve(
    found: Iterable[Found], base: Base, measure: str, key: str, side: str
) -> list[tuple[float, Sample]]:
    """Return the points of a response curve: values of the key, and samples over seeds."""
    runs, points = list(found), []
    if key == "step_size":
        gd = [run for run in runs if run.config.integrator == "gd"]
        chosen = at_base(base, of_side(side))
        for step in sorted({run.config.step_size for run in gd}, key=float):
            values = {
                run.config.seed: run.numbers[measure]
                for run in gd
                if chosen(run.config) and run.config.step_size == step
            }
            if values and None not in values.values():
                points.append((float(step), replace(Sample.of(values, values), error=nan)))
        return points
    flows = [run for run in runs if run.config.adaptive]
    for value in _VARIED[key][0]:
        acts = side in _VARIED[key][1]  # else a constant to compare with
        chosen = at_base(base, of_side(side), **({key: value} if acts else {}))
        point = sample(flows, base.curve_tolerances, measure, chosen)
        if point is not None:
            points.append((value, point))
    return points


def sides_of(key: str) -> tuple[str, ...]:
    """Return the conditions that are shown along a key."""
    return ("none", "adversary") if key == "step_size" else tuple(_SIDES)


def folders(path: Path) -> tuple[Path, Path]:
    """Return the folders of the two studies."""
    return path / "references", path / "controls"


def samples_of(found: Iterable[Found], base: Base) -> dict[str, dict[str, Sample]]:
    """Return the samples of every measure by condition, all of the same seeds.

    Seeds that lack a condition or a tolerance are left out; measures that none has, too. Raises
    `StudyError` if nothing is left.
    """
    runs = list(found)
    samples: dict[str, dict[str, Sample]] = {}
    for measure in MEASURES:
        by = {
            condition: sample(
                runs, base.tolerances, measure, at_base(base, of_condition(condition))
            )
            for condition in CONDITIONS
        }
        paired = _of_shared_seeds({name: one for name, one in by.items() if one is not None})
        if len(paired) == len(CONDITIONS):
            samples[measure] = paired
    if not samples:
        raise StudyError("no seed is finished in all conditions: nothing can be compared")
    return samples


def _of_shared_seeds(by: Mapping[str, Sample]) -> dict[str, Sample]:
    shared = set.intersection(*(set(one.seeds) for one in by.values())) if by else set()
    if not shared:
        return {}
    return {
        name: replace(
            one,
            seeds=tuple(sorted(shared)),
            values=np.array([v for s, v in zip(one.seeds, one.values, strict=True) if s in shared]),
        )
        for name, one in by.items()
    }


def curves_of(
    found: Iterable[Found], base: Base, measures: Iterable[str]
) -> dict[tuple[str, str, str], list[tuple[float, Sample]]]:
    """Return the response curves of some measures, by measure, key and condition."""
    runs = list(found)
    curves = {
        (measure, key, side): curve(runs, base, measure, key, side)
        for measure in measures
        for key in CURVES
        for side in sides_of(key)
    }
    varied = [points for (_, _, side), points in curves.items() if side == "adversary"]
    return curves if any(len(points) > 1 for points in varied) else {}


def title_of(base: Base, tolerances: tuple[float, float]) -> str:
    """Return the data, sizes and tolerance of runs, in words."""
    config = base.config
    return (
        f"{Path(config.dataset).stem}, n = {config.samples}, m = {config.width}, t = "
        f"{config.end_time:g}, init_scale = {config.init_scale:g}, rtol {tolerances[1]:.2g}"
    )
