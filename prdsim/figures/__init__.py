"""Figures of runs by name, from trajectories or arrays, as a matplotlib `Figure`.

Example::

    with prdsim.open_trajectory("run.h5") as run:
        prdsim.figures.draw("filters", [run], count=12).savefig("filters.png")
"""

from __future__ import annotations

import prdsim.figures.importing  # noqa: F401 - before the first import of matplotlib

# isort: split
from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from prdsim.analysis import Recording, recording_of
from prdsim.arguments import each, file_path, flag, instance, known_name, number, wrong
from prdsim.errors import ConfigError
from prdsim.figures import movie
from prdsim.figures.request import FIGURES, FigureKind, Request
from prdsim.figures.style import settings, write_figure
from prdsim.trajectory import Trajectory

__all__ = ["FIGURES", "FigureKind", "Request", "check", "draw", "draw_request", "write"]


for _module in (
    *("curves", "images", "symmetry", "forces", "general", "theory", "instability"),
    *("wavelengths", "symmetry_breaking"),
):
    import_module(f"{__name__}.{_module}")  # declares its figures, in this order
FIGURES[movie.MOVIE.name] = movie.MOVIE

_OPTIONS = [option.name for option in fields(Request) if option.name[0] != "_"]
_OPTIONS.remove("recordings")


def draw(
    name: str,
    sources: Trajectory | Recording | Iterable[Trajectory | Recording] = (),
    **options: Any,
) -> Figure:
    """Draw a figure of runs; runs of one label make bands, the labels are shown together.

    ``sources`` are open trajectories, or recordings of arrays (`prdsim.analysis.recording_of`), one
    or several; ``options`` are the fields of `Request`.
    Raises `ConfigError` for an unknown figure or option, no run, or a choice that does not fit the
    runs.
    """
    kind = figure_kind(name)
    for option in options:
        known_name(option, _OPTIONS, "option of a figure")
    if isinstance(sources, Trajectory | Recording):
        sources = [sources]
    runs = map(recording_of, each("sources", sources, "open trajectories or recordings", least=0))
    return draw_request(kind, Request(tuple(runs), **options))


def draw_request(kind: FigureKind, request: Request) -> Figure:
    """Draw a figure other than a movie; raises `ConfigError` as `draw`."""
    if kind.draw is None:
        raise ConfigError(f"{kind.name} is a movie: use prdsim.figures.write")
    _require(kind, request)
    with settings():
        return kind.draw(request)


def check(name: str, request: Request, path: str | Path) -> None:
    """Raise the errors of `write` that can be known before drawing; nothing is written.

    Raises:
        ConfigError: as `draw`; or the figure does not have the format, or it cannot be written.
        DataError, ResumeMismatchError: a run's samples are needed, and unavailable.
    """
    kind, path = figure_kind(name), file_path("path", path)
    instance("request", request, Request, "a Request")
    if path.suffix not in kind.suffixes:
        known = ", ".join(kind.suffixes)
        raise ConfigError(f"{path}: {name} is written as one of {known}")
    if kind.draw is None:
        movie.require_writer(path)
    _require(kind, request)


def write(
    name: str, request: Request, path: str | Path, *, dpi: float = 150.0, force: bool = True
) -> None:
    """Draw a figure or a movie, and write it in the format of the path's suffix.

    An existing file is replaced, unless ``force`` is False.

    Raises:
        ConfigError, DataError, ResumeMismatchError: as `check` and `draw`; or the file exists.
        OutputError: the file cannot be written.
        TrajectoryLockedError: it is a trajectory that is being written.
    """
    check(name, request, path)
    kind, path = figure_kind(name), Path(path)
    flag("force", force)
    if number("dpi", dpi) <= 0:
        raise wrong("dpi", "greater than 0", dpi)
    if kind.draw is None:
        movie.write_movie(request, path, dpi=dpi, force=force)
    else:
        write_figure(draw_request(kind, request), path, dpi=dpi, force=force)


def _require(kind: FigureKind, request: Request) -> None:
    if kind.needs_run and not request.recordings:
        raise ConfigError(f"{kind.name}: name at least one run to draw, such as run.h5")
    for need in kind.needs:
        need(request)


def figure_kind(name: str) -> FigureKind:
    """Return a figure by its name; raises `ConfigError` for an unknown one."""
    return FIGURES[known_name(name, FIGURES, "figure")]
