"""The Turing test: does a homogeneous state lose its stability with the adversary, and only so?

From the same homogeneous state the flow goes on without diffusion, with the adversary, and with
controls: other fields in the critic's place, of the norm that the adversary's had on average. Over
a time T a deviation within a group grows at most by the largest singular value of the fundamental
matrix, so that the coupled state loses its stability below

    kappa* = log(largest) / T.

Every number is computed at two tolerances; their difference is its discretization error. Of the
group that grows most among those that pass no kink, kappa* is located by coupled runs as well:
elsewhere tiny deviations measure the method, as `prdsim.analysis.stability.transverse` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.stability.homogeneous import displaced, homogeneous_state
from prdsim.analysis.stability.transverse import TransverseGrowth, deviations, transverse_growth
from prdsim.config import RunConfig
from prdsim.convergence.judgment import percent
from prdsim.errors import ConfigError
from prdsim.physics.groups import deviated
from prdsim.progress import Say, silent
from prdsim.running.simulation import Simulation
from prdsim.symbols import CONDITIONS, CONTROLS
from prdsim.table import Table

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray

REFINED = 10.0
"""The ratio of the two tolerances."""

SMALL: Mapping[str, Any] = {
    "samples": 16,
    "width": 64,
    "groups": 32,
    "critic_width": 32,
    "end_time": 20.0,
    "threads": 1,
}
"""Keys of a test that takes half a minute a draw."""

_NO_NORM = 1e-300  # of a critic without a field: a control's must be positive
_DEVIATION = 1e-8
_LOCATED = 1e-5  # of kappa*
_STILL = 1e-6  # a rate times the time: deviations stay as they are


@dataclass(frozen=True)
class Outcome:
    """A condition from one draw, at two tolerances; ``fine`` is at the smaller one.

    ``group`` is that whose kappa* was located by coupled runs at ``located``; -1 and NaN if no
    group grows without passing a kink.
    """

    condition: str
    seed: int
    coarse: TransverseGrowth
    fine: TransverseGrowth
    group: int
    located: float

    @property
    def exponent(self) -> float:
        """kappa*: the largest exponent of all groups, without kinks."""
        return _exponent(self.fine)

    @property
    def error(self) -> float:
        """The discretization error of `exponent`."""
        return abs(self.exponent - _exponent(self.coarse))

    @property
    def median(self) -> float:
        """The median over groups of the exponents without kinks."""
        return float(np.median(self.fine.exponents(self.fine.smooth)))

    @property
    def typical(self) -> float:
        """The median over groups of the exponents with kinks."""
        return _typical(self.fine)

    @property
    def typical_error(self) -> float:
        """The discretization error of `typical`."""
        return abs(self.typical - _typical(self.coarse))

    @property
    def expected(self) -> float:
        """What ``located`` is to be: the exponent of the same group."""
        if self.group < 0:
            return nan
        return float(self.fine.exponents(self.fine.smooth)[self.group])

    @property
    def unstable(self) -> bool:
        """Whether some deviation grows, by more than the discretization error."""
        return self.exponent * self.fine.times[-1] > _STILL and self.exponent > 2.0 * self.error


def _exponent(growth: TransverseGrowth) -> float:
    return float(growth.exponents(growth.smooth).max())


def _typical(growth: TransverseGrowth) -> float:
    return float(np.median(growth.exponents(growth.flow)))


def symmetry_breaking(
    config: RunConfig, X: HostArray, Y: HostArray, *, say: Say = silent
) -> list[Outcome]:
    """Test all conditions from one homogeneous state, to the configuration's end time.

    ``config`` has the sizes, D, the critic and the tolerance. Raises `ConfigError` as
    `homogeneous_state` does, without an end time or a tolerance, and for keys that are set here.
    """
    _check(config)
    state = homogeneous_state(config, X, Y)
    start = deviated(state, config.groups or 1, config.seed, X, _DEVIATION)
    found, norm = [], nan
    for condition in CONDITIONS:
        say(f"seed {config.seed}: {condition}")
        keys = config.replace(**_keys(condition, norm))
        fine = keys.replace(rtol=config.rtol / REFINED)
        coarse, finer = (transverse_growth(each, X, Y, initial=start) for each in (keys, fine))
        group, kappa = located(fine, X, Y, state, finer)
        found.append(Outcome(condition, config.seed, coarse, finer, group, kappa))
        if condition == "adversary":
            norm = max(mean_norm(keys, X, Y, start), _NO_NORM)
    return found


def small_like(config: RunConfig, n: int) -> RunConfig:
    """Return the configuration of a small test with the adversary of another run, on n samples.

    To its end time, at most that of `SMALL`; to 1 for runs without. Groups are four times as many
    as samples, so that they reach the targets.
    """
    keys = {"samples": n, "groups": 4 * n, "width": 8 * n, "threads": 1}
    keys["critic_width"] = min(config.critic_width or config.width, SMALL["critic_width"])
    keys["end_time"] = min(config.end_time or 1.0, SMALL["end_time"])
    alike = ("seed", "diffusivity", "critic", "critic_rate", "gradient_penalty", "init_scale")
    same = {name: getattr(config, name) for name in alike}
    return RunConfig(**same, **keys, diffusion=True)


def _check(config: RunConfig) -> None:
    if not {"U", "V"} <= set(config.moving):
        raise ConfigError("trainable: deviations of equal neurons are of U and V; let both move")
    if config.precision != "float64":
        raise ConfigError(f"precision: {config.precision} does not resolve tiny deviations")
    if not config.adaptive:
        raise ConfigError(f"integrator: {config.integrator} has no tolerance to refine")
    if config.steps is not None or config.end_time is None:
        raise ConfigError("steps: deviations grow to a time; give end_time alone")
    if config.diffusivity == 0.0:
        raise ConfigError("diffusivity cannot be 0: there would be no adversary")
    for key, usual in (("coupling", 0.0), ("forcing", "adversary"), ("forcing_norm", None)):
        if getattr(config, key) != usual:
            raise ConfigError(f"{key} cannot be set: it is set for each run")


def _keys(condition: str, norm: float) -> dict[str, Any]:
    if condition == "none":
        return {"diffusion": False}
    if condition == "adversary":
        return {"diffusion": True}
    return {"diffusion": True, "forcing": condition, "forcing_norm": norm}


def mean_norm(
    config: RunConfig, X: HostArray, Y: HostArray, initial: Mapping[str, HostArray]
) -> float:
    """Return the mean of the critic's ||G_p|| over samples, and over the time of a run."""
    rows = []
    with Simulation(config, X, Y, initial=initial) as simulation:
        while True:
            time = min(simulation.time, config.end_time or 0.0)
            rows.append((time, simulation.observe(time)["score_norm_mean"]))
            if simulation.finished:
                break
            simulation.advance(next_view=time)
    times, norms = np.array(rows).T
    return float(np.trapezoid(norms, times) / (times[-1] - times[0]))


def located(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    state: Mapping[str, HostArray],
    free: TransverseGrowth,
) -> tuple[int, float]:
    """Return a group, and the coupling at which its leading deviation neither grows nor decays.

    In real runs: by bracketing (Brent's method) of the logarithm of the measured growth.
    """
    from scipy.optimize import brentq

    exponents = np.where(free.crossings == 0, free.exponents(free.smooth), -np.inf)
    group = int(np.argmax(exponents))
    expected, time = float(exponents[group]), float(free.times[-1])
    if not expected * time > _STILL:
        return -1, nan
    # Others stay equal: where they pass a kink they would part by more than is tiny.
    alone = np.where(np.arange(len(exponents))[:, None] == group, free.smooth.begin, 0.0)
    start = displaced(state, alone, free.basis, _DEVIATION)

    def grown(kappa: float) -> float:
        coupled = config.replace(coupling=kappa)
        return float(np.log(measured_growth(coupled, X, Y, start, free.basis)[group]))

    try:
        kappa = brentq(grown, 0.0, 4.0 * expected, xtol=_LOCATED * expected, rtol=_LOCATED)
    except ValueError:  # of one sign at both ends
        return group, nan
    return group, float(kappa)


def measured_growth(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    initial: Mapping[str, HostArray],
    basis: HostArray,
) -> HostArray:
    """Return by how much deviations within groups grow in a run, (K,); NaN of equal neurons."""
    K = config.groups or 1
    with Simulation(config, X, Y, initial=initial) as simulation:
        first = deviations(simulation, basis, K)
        while not simulation.finished:
            simulation.advance(1000)
        last = deviations(simulation, basis, K, config.end_time)
    begun, grown = (np.linalg.norm(each, axis=(1, 2)) for each in (first, last))
    ratio: HostArray = grown / np.where(begun > 0.0, begun, nan)
    return ratio


# -- what it says ----------------------------------------------------------------------------------


def breaking_table(found: Iterable[Outcome], title: str) -> Table:
    """Return a row for each condition, medians over draws, with the verdict as notes."""
    rows = _by_condition(found)

    def over_draws(name: str, merge: Any) -> list[float]:
        """Merge the values of draws that have one; NaN if none has."""
        found = [[getattr(each, name) for each in row] for row in rows.values()]
        known = [[value for value in values if np.isfinite(value)] for values in found]
        return [float(merge(values)) if values else nan for values in known]

    columns = {
        "condition": list(rows),
        "unstable": [sum(each.unstable for each in row) for row in rows.values()],
        "exponent": over_draws("exponent", np.median),
        "least": over_draws("exponent", min),
        "most": over_draws("exponent", max),
        "error": over_draws("error", max),
        "group_exponent": over_draws("expected", np.median),
        "located": over_draws("located", np.median),
        "median": over_draws("median", np.median),
        "typical": over_draws("typical", np.median),
        "typical_error": over_draws("typical_error", max),
        "kinks": [float(np.median([t.fine.crossings.sum() for t in row])) for row in rows.values()],
    }
    heads = {
        "exponent": "kappa*",
        "group_exponent": "quiet group",
        "median": "median group",
        "typical": "with kinks",
        "typical_error": "error",
    }
    return Table(title, columns, heads, notes=tuple(verdict(rows)))


def _by_condition(found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    every = list(found)
    return {name: [each for each in every if each.condition == name] for name in CONDITIONS}


def verdict(rows: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Return what follows, in words, with what would have refuted it."""
    none, adversary = rows["none"], rows["adversary"]
    stays = max(abs(each.exponent) * each.fine.times[-1] for each in none)
    rests = "stays as it is" if stays < _STILL else f"CHANGES, by a factor of 1 + {stays:.2g}"
    low, high = (f(each.exponent for each in adversary) for f in (min, max))
    unstable = sum(each.unstable for each in adversary)
    lines = [
        f"without diffusion every deviation {rests}: stable for every kappa > 0 (growth in row "
        "none would refute it)",
        f"with the adversary the state is unstable below kappa* in {unstable} of {len(adversary)} "
        f"draws, {low:.3g} to {high:.3g} (exponents of 0 would refute it)",
    ]
    every = [each for row in rows.values() for each in row if each.expected > 0.0]
    known = [abs(t.located / t.expected - 1.0) for t in every if np.isfinite(t.located)]
    if known:
        lines.append(
            f"coupled runs find kappa* of groups without kinks to {percent(max(known))}, median "
            f"{percent(float(np.median(known)))} (more than other steps make would refute it)"
        )
    parts = {name: _beside(rows[name], adversary) for name in CONTROLS}
    own = all(slower == len(adversary) for _, slower, _ in parts.values())
    said = "; ".join(
        f"{name} faster in {faster}, slower in {slower}"
        + (f", open in {unknown}" if unknown else "")
        for name, (faster, slower, unknown) in parts.items()
    )
    alone = "the adversary's own" if own else "not the adversary's alone"
    return [*lines, f"controls of its norm, beyond errors: {said}; it is {alone}"]


def _beside(control: Sequence[Outcome], adversary: Sequence[Outcome]) -> tuple[int, int, int]:
    """Return in how many draws deviations grow faster, slower, and by an unresolved difference."""
    pairs = list(zip(control, adversary, strict=True))
    faster = sum(a.exponent - a.error > b.exponent + b.error for a, b in pairs)
    slower = sum(a.exponent + a.error < b.exponent - b.error for a, b in pairs)
    return faster, slower, len(pairs) - faster - slower
