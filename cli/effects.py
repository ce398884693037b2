"""``prdsim analyze`` and ``prdsim plot`` of a study: a measure over what varies in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from prdsim.errors import ConfigError
from prdsim.vocabulary import FIGURES, MEASURES
from prdsim.words import shown

from .choices import RUNS, varying
from .output import check_figure, deliver, in_format, table_format
from .terminal import say

if TYPE_CHECKING:
    from prdsim.study import StudyFolder
    from prdsim.study.effects import Curve

_OF_STUDIES = ("words", "over", "by", "against", "output", "force", "dpi")
"""Parameters of `prdsim plot` that have a meaning for a study."""


@dataclass(frozen=True)
class Axes:
    """The keys over, by and against which a measure is asked for; none if it is no study's."""

    over: str | None = None
    by: tuple[str, ...] = ()
    against: str | None = None

    def __bool__(self) -> bool:
        return bool(self.over or self.by or self.against)


def takes_axes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --over and --by, for studies."""
    by = click.option(
        "--by",
        multiple=True,
        metavar="KEY",
        help="of a study: one curve each; may be repeated",
        shell_complete=varying,
    )
    over = click.option(
        "--over", metavar="KEY", help="of a study: the axis", shell_complete=varying
    )
    decorated: Callable[..., Any] = over(by(command))
    return decorated


def are_of_study(words: Sequence[str], axes: Axes) -> bool:
    """Whether a study is named, or keys that only studies have."""
    return bool(axes) or any(map(_is_study, words))


def tabulate(
    words: Sequence[str], axes: Axes, form: str | None, output: Path | None, *, force: bool
) -> None:
    """Print or write the table of a study's measure over an axis."""
    from prdsim.study.effects import effect_table

    study, measure, over = _asked(words, axes)
    form = table_format(form, output, force=force)
    table = effect_table(_curves(study, measure, over, axes.by), measure, over)
    about = {"study": str(study.path), "measure": measure}
    deliver(in_format({over: table}, form, about), output, force=force)


def draw(words: Sequence[str], axes: Axes, output: Path | None, *, dpi: int, force: bool) -> None:
    """Draw a study's measure over an axis, or as a map over two."""
    from prdsim.figures.style import write_figure
    from prdsim.study.drawing import draw_curves, draw_map

    if axes.by and axes.against:
        raise ConfigError("--by draws curves, --against a map: choose one")
    study, measure, over = _asked(words, axes)
    _refuse_options_of_runs()
    if output is None:
        raise ConfigError(f"name the figure, such as -o {measure}.png")
    check_figure(output, force=force)
    if axes.against is None:
        figure = draw_curves(_curves(study, measure, over, axes.by), measure, over)
    else:
        found = _curves(study, measure, over, [axes.against])
        figure = draw_map(found, measure, over, axes.against)
    write_figure(figure, output, dpi=dpi, force=force)
    say(str(output))


def _asked(words: Sequence[str], axes: Axes) -> tuple[StudyFolder, str, str]:
    """Return the study, the measure and the axis that a command line asks for."""
    from prdsim.study import StudyFolder
    from prdsim.study.table import groups_of

    runs = [word for word in words if word.endswith(RUNS) and not _is_study(word)]
    if runs and any(map(_is_study, words)):
        raise ConfigError(f"{shown(runs[0])} is a run: name a study or runs, not both")
    if runs:
        raise ConfigError(f"--over, --by and --against are for studies; {shown(runs[0])} is a run")
    if len(words) != 2:
        raise ConfigError("name one study and one measure, such as: study loss_sup --over width")
    folder, measure = sorted(words, key=_is_study, reverse=True)
    study = StudyFolder.open(Path(folder))
    if measure in FIGURES and measure not in MEASURES:
        raise ConfigError(f"{measure} is a figure of runs; of a study, name a measure to draw")
    groups_of(measure)
    if axes.over is None:
        keys = ", ".join(study.plan.keys)
        raise ConfigError(f"name the axis, such as --over {study.plan.keys[0]}; these vary: {keys}")
    return study, measure, axes.over


def _refuse_options_of_runs() -> None:
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if given and option.name not in _OF_STUDIES:
            raise ConfigError(f"{option.opts[-1]} is not for studies: leave it out")


def _is_study(word: str) -> bool:
    plan = Path(word) / "study.json"
    return os.path.isfile(plan)  # noqa: PTH113 - which raises for names that are too long


def _curves(study: StudyFolder, measure: str, over: str, by: Sequence[str]) -> list[Curve]:
    from prdsim.progress import tracked
    from prdsim.study.effects import curves_of

    return curves_of(study, measure, over, by, progress=lambda items: tracked(items, "members"))
