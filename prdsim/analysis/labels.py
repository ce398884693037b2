"""How runs that are shown together are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from prdsim.analysis.recording import Recording
from prdsim.arguments import each, instance
from prdsim.config import RunConfig, keys_of


def told_apart(recordings: Iterable[Recording]) -> list[Recording]:
    """Return recordings with labels that show all differences other than the seed.

    Runs of one label then differ only in their initial draw, and may be averaged; those with and
    without diffusion only in that. The adversary's keys count only among runs with
    diffusion, a control's among controls. Raises `ConfigError` for what is no recording.
    """
    runs = [replace(run, apart="") for run in _checked(recordings)]
    configs = [run.config for run in runs if run.config is not None]
    differing = _differing(configs, "data", "network", "time")
    fields = _differing([c for c in configs if c.diffuses], "adversary")
    of_controls = _differing([c for c in configs if c.controlled], "adversary")

    def told(config: RunConfig) -> list[str]:
        of_all = [key for key in fields if key not in _OF_CONTROLS and config.diffuses]
        own = [key for key in of_controls if key in _OF_CONTROLS and config.controlled]
        return [*differing, *of_all, *own]

    return [
        replace(run, apart=_values(run.config, told(run.config))) if run.config else run
        for run in runs
    ]


def by_label(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """Group recordings by label, those without diffusion first.

    Raises `ConfigError` for what is no recording.
    """
    found: dict[str, list[Recording]] = {}
    for recording in _checked(recordings):
        found.setdefault(recording.label, []).append(recording)
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("without diffusion")))


def _checked(recordings: Iterable[Recording]) -> list[Recording]:
    runs = each("recordings", recordings, "recordings of runs", least=0)
    for run in runs:
        instance("recordings", run, Recording, "recordings of runs")
    return runs


def _differing(configs: Sequence[RunConfig], *groups: str) -> list[str]:
    """Return the relevant keys of some groups in which configurations differ."""
    keys = [key for key in keys_of(*groups) if key not in _NOT_COMPARED]
    return [key for key in keys if len({_shown(config, key) for config in configs}) > 1]


def _shown(config: RunConfig, key: str) -> str:
    """Return a value as text; draws of a control have the norms of different files."""
    value = getattr(config, key)
    return "of runs" if key == "forcing_norm" and isinstance(value, str) else str(value)


def _values(config: RunConfig, keys: list[str]) -> str:
    return ", ".join(f"{key} = {_shown(config, key)}" for key in keys)


_OF_CONTROLS = ("forcing_norm", "forcing_time")
_NOT_COMPARED = ("seed", "data_dir", "diffusion", "diffusivity", "forcing", "steps", "end_time")
"""Keys that differ between initial draws, appear in labels, or only determine the end."""
