"""What the page says of its runs in words: each sentence is derived from their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prdsim import __version__
from prdsim.analysis import Recording
from prdsim.analysis.comparison import Comparison
from prdsim.config import PRESETS, RunConfig, keys_of
from prdsim.reproduction.plan import Picture

_POSTER = (
    "Rout's poster \"Towards a pseudo-reaction-diffusion model for Turing instability in "
    'adversarial learning"'
)
_ELSEWHERE = {"preset", "dataset", "seed", "diffusion", "data_dir", *keys_of("output")}
"""Keys that other sentences, names or commands give."""


def introduction(pictures: Sequence[Picture], runs: Sequence[Recording]) -> str:
    """Say which figures the page shows, and how many runs they are from."""
    numbers = sorted({picture.poster for picture in pictures if picture.poster})
    others = sum(not picture.poster for picture in pictures)
    parts = [f"figure{'s' * (len(numbers) > 1)} {listed(numbers)} of {_POSTER}"] * bool(numbers)
    parts += [f"{others} {'other ' * bool(numbers)}{plural('figure', others)}"] * bool(others)
    made = sorted({str(run.file.attributes["prdsim_version"]) for run in runs})
    by = "" if made in ([], [__version__]) else f", made by prdsim {listed(made)}"
    text = f"{listed(parts)}, drawn by prdsim {__version__} from {counted(len(runs), 'run')}{by}."
    return text[0].upper() + text[1:]


def study(runs: Sequence[Recording], comparison: Comparison) -> list[str]:
    """Describe the runs of a study, their settings, and how far their numbers can be trusted."""
    return [_draws(runs), _settings([run.settings for run in runs]), _numbers(runs, comparison)]


def _draws(runs: Sequence[Recording]) -> str:
    configs = [run.settings for run in runs]
    seeds = {side: [c.seed for c in configs if c.adversary is side] for side in (False, True)}
    draws = sorted({config.seed for config in configs})
    text = f"{counted(len(runs), 'run')} of {counted(len(draws), 'initial draw')}"
    text += f" (seed{'s' * (len(draws) > 1)} {listed(draws)})"
    if sorted(seeds[False]) == sorted(seeds[True]) == draws:
        each = "each " * (len(draws) > 1)
        text += f", {each}without and with diffusion from the same weights and samples"
    D = sorted({config.diffusivity for config in configs if config.adversary})
    ends = sorted({f"{run.time[-1]:.6g}" for run in runs}, key=float)
    return f"{text}; diffusivity D = {listed(f'{d:g}' for d in D)}; to t = {listed(ends)}."


def _settings(configs: Sequence[RunConfig]) -> str:
    """Name the data set, what is the preset's, and what differs from it, in all of the runs."""
    first, preset = configs[0], RunConfig(preset=configs[0].preset)
    shared = {
        key: value
        for key, value in first
        if key not in _ELSEWHERE and all(getattr(config, key) == value for config in configs)
    }
    own = [key for key, value in shared.items() if value != getattr(preset, key)]
    kept = [key for key in PRESETS[str(first.preset)] if key in shared and key not in own]
    parts = [f"Data set {first.dataset}"]
    for whose, keys in (
        (f"of the preset {first.preset}", kept),
        ("set in addition or instead", own),
    ):
        if keys:
            parts.append(f"{whose}: {listed(f'{key} = {shared[key]}' for key in keys)}")
    return f"{'; '.join(parts)}; all else is the default."


def _numbers(runs: Sequence[Recording], comparison: Comparison) -> str:
    reports = [report for side in comparison.reports.values() for report in side]
    assessed = sum(report is not None for report in reports)
    draws = len({run.settings.seed for run in runs})
    values = "those of one draw"
    if draws > 1:
        values = f"means over the {draws} draws, ± their standard deviation"
    if not assessed:
        return f"Numbers are {values}. No run was assessed by prdsim converge."
    return (
        f"Numbers are {values}. Discretization is the largest relative error of {assessed} of the "
        f"{len(runs)} runs, from replays at finer steps and twins by prdsim converge."
    )


def listed(items: Iterable[object]) -> str:
    """Join items as in a sentence: a, b and c."""
    words = [str(item) for item in items]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {plural(noun, count)}"


def plural(noun: str, count: int) -> str:
    """Return a noun in the number of a count."""
    return noun + "s" * (count != 1)
