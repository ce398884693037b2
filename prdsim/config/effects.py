"""Settings that were given and change nothing: one table of when a key has no effect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from prdsim.config import RunConfig
from prdsim.config.presets import PRESETS
from prdsim.symbols import DOWNLOADED

SAMPLE_KEYS = (
    *("dataset", "data_dir", "split", "samples", "outputs", "correlation_length", "spectrum"),
)
"""Keys in whose place arrays may be given."""


@dataclass(frozen=True)
class _Idle:
    """When some keys, separated by spaces, have no effect; a reason continues the sentence."""

    keys: str
    when: Callable[[RunConfig], bool]
    reason: Callable[[RunConfig], str]


def _critic_rests(config: RunConfig) -> bool:
    return not {"W", "a"} & set(config.moving)


def _warmed_up(config: RunConfig) -> bool:
    return config.critic_warmup > 0.0 and not _critic_rests(config)


def _without_diffusion(config: RunConfig) -> str:
    return f"on U and V {config.adversary_in_words}"


def _with(key: str) -> Callable[[RunConfig], str]:
    return lambda config: f"with {key} = {_text(getattr(config, key))}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_OF_CRITIC = (
    "critic critic_rate critic_steps critic_step_size critic_warmup gradient_penalty penalty_points"
)

# The first row that applies gives a key's reason.
_TABLE = (
    _Idle("data_dir", lambda c: c.dataset not in DOWNLOADED, _with("dataset")),
    _Idle(
        "outputs correlation_length spectrum", lambda c: c.dataset != "synthetic", _with("dataset")
    ),
    _Idle("outputs", lambda c: c.target != "labels", _with("target")),
    _Idle("group_deviation coupling", lambda c: c.groups is None, lambda _: "without groups"),
    _Idle("diffusivity", lambda c: not c.diffusion, lambda _: "without diffusion"),
    _Idle("diffusion", lambda c: c.diffusion and not c.diffuses, _with("diffusivity")),
    _Idle("forcing forcing_norm forcing_time", lambda c: not c.diffuses, _without_diffusion),
    _Idle("forcing_norm forcing_time", lambda c: not c.controlled, _with("forcing")),
    _Idle("forcing_time", lambda c: c.forcing in ("static", "common"), _with("forcing")),
    # Without diffusion they change the recorded losses of a critic that nothing feels.
    _Idle(f"critic_width {_OF_CRITIC}", lambda c: not c.adversary, _without_diffusion),
    _Idle(_OF_CRITIC, _critic_rests, _with("trainable")),
    _Idle("critic_steps", lambda c: c.integrator != "gd", _with("integrator")),
    _Idle(
        "critic_rate critic_step_size",
        lambda c: c.integrator == "gd" and c.critic_steps == 0 and not _warmed_up(c),
        _with("critic_steps"),
    ),
    _Idle(
        "critic_rate",
        lambda c: c.critic_step_size is not None and not _warmed_up(c),
        _with("critic_step_size"),
    ),
    _Idle("gradient_penalty penalty_points", lambda c: c.critic == "minimax", _with("critic")),
    _Idle("penalty_points", lambda c: c.gradient_penalty == 0.0, _with("gradient_penalty")),
    _Idle(
        "rtol atol",  # the critic's warm-up adapts its steps unless by gd
        lambda c: not c.adaptive and (c.integrator == "gd" or not _warmed_up(c)),
        _with("integrator"),
    ),
)


def without_effect(config: RunConfig, replaced: Collection[str] = ()) -> list[str]:
    """Return a line on each reason why keys that were given change nothing.

    Then a line on those that change a preset. ``replaced`` are the keys in whose place arrays are
    given.
    """
    preset = PRESETS.get(config.preset or "", {})
    given = [
        key
        for key in type(config).model_fields
        if key in config.model_fields_set
        and not (key in preset and getattr(config, key) == preset[key])
    ]
    reasons: dict[str, list[str]] = {}
    for key in given:
        for reason in _reasons(key, config, replaced):
            reasons.setdefault(reason, []).append(key)
            break
    lines = [
        f"{', '.join(keys)} {'has' if len(keys) == 1 else 'have'} no effect {reason}"
        for reason, keys in reasons.items()
    ]
    changed = [
        f"{key} = {_text(getattr(config, key))} (not {_text(preset[key])})"
        for key in given
        if key in preset
    ]
    if changed:
        lines.append(f"preset {config.preset} is changed by {', '.join(changed)}")
    return lines


def _reasons(key: str, config: RunConfig, replaced: Collection[str]) -> Iterator[str]:
    if key in replaced:
        yield "on data given as arrays"
    for row in _TABLE:
        if key in row.keys.split() and row.when(config):
            yield row.reason(config)
