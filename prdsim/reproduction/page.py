"""The page ``index.html``: every picture with its caption, numbers and command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.analysis import Recording
from prdsim.analysis.comparison import Comparison
from prdsim.analysis.patterns.measures import MEANINGS
from prdsim.figures import FIGURES
from prdsim.markup import page_of
from prdsim.reproduction.plan import Picture, sweep_command
from prdsim.reproduction.sentences import introduction, study


@dataclass(frozen=True)
class Shown:
    """The pictures of a study (or of none, with an empty name), their files and their runs.

    ``runs`` are those of the study; each picture shows some of them.
    """

    name: str
    runs: Sequence[Recording]
    pictures: Sequence[tuple[Picture, Path, Sequence[Recording]]]
    comparison: Comparison | None


def make_page(shown: Sequence[Shown]) -> str:
    """Return the page as HTML; pictures are named relative to it.

    All that it says of runs is read from them.
    """
    runs = [run for part in shown for run in part.runs]
    return page_of(
        "prdsim.reproduction",
        intro=introduction([picture for part in shown for picture, *_ in part.pictures], runs),
        sections=[_section(part) for part in shown],
        commands=[
            sweep_command(part.name, [run.settings for run in part.runs])
            for part in shown
            if part.runs
        ],
    )


def _section(part: Shown) -> dict[str, Any]:
    comparison = part.comparison
    return {
        "id": part.name or "general",
        "about": study(part.runs, comparison) if comparison else (),
        "figures": [_figure(*picture, comparison) for picture in part.pictures],
        "comparison": comparison,
        "rows": _rows(comparison) if comparison else (),
    }


def _figure(
    picture: Picture, path: Path, runs: Sequence[Recording], comparison: Comparison | None
) -> dict[str, Any]:
    return {
        "path": path.as_posix(),
        "number": picture.poster,
        "title": picture.title,
        "shown": FIGURES[picture.figure].caption,
        "numbers": [_number(comparison, name) for name in picture.numbers if comparison],
        "command": _plot_command(picture, path, runs),
    }


def _number(comparison: Comparison, name: str) -> str:
    """Describe how a measure differs between the labels."""
    parts = []
    for label, values in comparison.values.items():
        if name not in values:
            return f"{MEANINGS[name]}: unavailable"
        parts.append(f"{_spread(values[name])} {label}")
    text = f"{MEANINGS[name]}: {', '.join(parts)}"
    pairs = f"higher in {comparison.higher(name)} pairs; " if len(parts) == 2 else ""
    return f"{text} ({pairs}discretization {comparison.discretization(name)})"


def _spread(values: np.ndarray) -> str:
    if not np.all(np.isfinite(values)):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g}"


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    """Yield the cells of each measure: its meaning, spread by label, pairs and error."""
    by_label = comparison.values.values()
    for name in next(iter(by_label)):
        spreads = [_spread(values[name]) for values in by_label]
        higher = comparison.higher(name) if len(spreads) == 2 else ""
        yield [MEANINGS[name], *spreads, higher, comparison.discretization(name)]


def _plot_command(picture: Picture, path: Path, runs: Sequence[Recording]) -> str:
    """Return the command that draws a picture, from the folder of the page."""
    places = [Path(*run.file.path.parts[-4:]).as_posix() for run in runs]  # runs/STUDY/members/...
    words = ["prdsim", "plot", *places, picture.figure]
    for name, value in picture.options.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "-o", path.as_posix(), "--force"])
