"""Which settings made a run diverge: those farthest from their usual values, tried by replays."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

from prdsim.config import PRESETS, RunConfig
from prdsim.errors import ConfigError, DivergedError
from prdsim.running.memory import needed_bytes
from prdsim.running.step_control import fixed_step

if TYPE_CHECKING:
    from prdsim.running.simulation import Simulation

_FAR = 2.0  # times the usual value
_SUSPECTS = 3  # that are tried
_STEPS, _SECONDS = 200, 5.0  # of a replay; of all replays
_GROWN = 1e6  # a loss that has grown so much is about to overflow


@dataclass(frozen=True)
class Suspect:
    """A key whose value is ``excess`` times away from a usual one, ``usual``."""

    key: str
    usual: float
    excess: float

    @property
    def option(self) -> str:
        """The option that gives it the usual value."""
        return f"--{self.key.replace('_', '-')} {self.usual:.2g}"


def suspects(config: RunConfig, step_size: float, first: Mapping[str, float]) -> list[Suspect]:
    """Return the keys of a diverged run that are far from their usual values, farthest first.

    Usual are the default, that of the preset, or the automatic value. ``step_size`` is that of
    fixed steps, ``first`` the first row of scalars, if there is one.
    """
    usual: dict[str, tuple[float, float]] = {"init_scale": _both(config, "init_scale")}
    automatic = fixed_step(first.get("lambda_max", nan))
    if first and not config.adaptive and isfinite(automatic):
        usual["step_size"] = step_size, automatic
        step_size = min(step_size, automatic)
    if config.diffuses:
        usual["diffusivity"] = _both(config, "diffusivity")
        if config.controlled and isinstance(config.forcing_norm, float):
            usual["forcing_norm"] = config.forcing_norm, 1.0
    found = [
        Suspect(key, normal, value / normal if normal else inf if value else 1.0)
        for key, (value, normal) in usual.items()
    ]
    if {"W", "a"} & set(config.moving):
        found += _of_critic(config, step_size)
    if config.adaptive:  # too small, steps shrink away
        value, normal = _both(config, "rtol")
        found.append(Suspect("rtol", normal, max(value / normal, normal / value)))
    return sorted((s for s in found if s.excess > _FAR), key=lambda s: -s.excess)


def _both(config: RunConfig, key: str) -> tuple[float, float]:
    """Return a key's value, and its default: that of the preset, if it has one."""
    default = RunConfig.model_fields[key].default
    return getattr(config, key), PRESETS.get(config.preset or "", {}).get(key, default)


def _of_critic(config: RunConfig, step_size: float) -> list[Suspect]:
    """Return the critic's keys; its updates are compared to those of its rate and the step."""
    found = []
    warm_up, usual_warm_up = _both(config, "critic_warmup")
    found.append(Suspect("critic_warmup", usual_warm_up, (warm_up + 0.5) / (usual_warm_up + 0.5)))
    rate, usual_rate = _both(config, "critic_rate")
    if config.critic == "minimax":  # sums over samples
        usual_rate /= config.samples
    if config.critic_step_size is None:
        found.append(Suspect("critic_rate", usual_rate, rate / usual_rate))
    else:
        size = usual_rate * step_size / max(config.critic_steps, 1)
        found.append(Suspect("critic_step_size", size, config.critic_step_size / size))
    if config.critic == "wgan-gp":
        penalty, usual = _both(config, "gradient_penalty")
        excess = max(penalty / usual, usual / penalty) if penalty else inf
        found.append(Suspect("gradient_penalty", usual, excess))
    return found


def to_blame(simulation: Simulation, first: Mapping[str, float]) -> list[str]:
    """Return the keys whose usual values let a run live on that has just diverged.

    One of the farthest alone, or all of them together; none if not even that helps. Where replays
    cannot tell, because the run took too many steps, or memory or time are short, it is the
    farthest.
    """
    found = suspects(simulation.config, simulation.resolved.step_size, first)[:_SUSPECTS]
    if not found:
        return []
    if simulation.step > _STEPS or not _fits(simulation):
        return [found[0].key]
    deadline = time.monotonic() + _SECONDS
    choices = [[suspect] for suspect in found] + ([found] if len(found) > 1 else [])
    for choice in choices:
        changed = {suspect.key: suspect.usual for suspect in choice}
        if _lives(simulation, changed, first, deadline):
            return [suspect.key for suspect in choice]
    return []


def _lives(
    diverged: Simulation, changed: Mapping[str, float], first: Mapping[str, float], deadline: float
) -> bool:
    """Whether a run with other settings comes past the time of the divergence, or may do so."""
    highest = _GROWN * (1.0 + first.get("loss_sup", inf))
    try:
        with diverged.anew(diverged.config.replace(**changed)) as simulation:
            while simulation.time <= diverged.time and simulation.step < _STEPS:
                if simulation.finished or time.monotonic() > deadline:
                    break
                simulation.advance()
            losses = [abs(v) for name, v in simulation.observe().items() if "loss" in name]
            return all(loss <= highest for loss in losses)
    except (ConfigError, DivergedError):
        return False


def _fits(simulation: Simulation) -> bool:
    """Whether there is memory for another run beside the diverged one."""
    k, resolved = simulation.backend, simulation.resolved
    needed = needed_bytes(
        simulation.config, simulation.dimensions, k, resolved.chart, resolved.panel
    )
    return needed <= k.available_bytes()


_BLAMED = re.compile(r" \(to blame: ([a-z_]+(?: and [a-z_]+)*)\)$")


def with_blame(reason: str, keys: list[str]) -> str:
    """Return the reason of a divergence, as the file keeps it, with the keys that are to blame."""
    return f"{reason} (to blame: {' and '.join(keys)})" if keys else reason


def blamed(reason: str) -> list[str]:
    """Return the keys that are to blame, by the reason that a file keeps."""
    found = _BLAMED.search(reason)
    return found[1].split(" and ") if found else []
