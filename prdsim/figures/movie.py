"""Movies of the formation of patterns: gif, and mp4 if ffmpeg is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.figure import Figure

from prdsim.analysis import Recording
from prdsim.analysis.patterns.neurons import hidden_distances
from prdsim.errors import ConfigError, OutputError
from prdsim.figures.request import FigureKind, Request, needs_images, needs_neurons
from prdsim.figures.style import (
    annotate,
    draw_curve,
    head,
    largest,
    line_of,
    mosaic,
    new_figure,
    settings,
    show_image,
)
from prdsim.files.whole import whole_file


def write_movie(
    request: Request, path: Path, *, dpi: float = 100.0, rate: int = 6, force: bool = True
) -> None:
    """Write u_j(t) - u_j(0) of chosen neurons, one frame per snapshot, and distances.

    Runs are side by side, at the snapshots of the first one, on the color scale of the end.
    Raises `ConfigError` for mp4 without ffmpeg, inputs that are not images, and an existing file if
    ``force`` is False; `OutputError` if the file cannot be written.
    """
    require_writer(path)
    writer = PillowWriter(fps=rate) if path.suffix == ".gif" else FFMpegWriter(fps=rate)
    try:
        with whole_file(path, force=force) as (temporary, _), settings():
            _record(request, writer, temporary, dpi)
    except CalledProcessError as error:  # for example an ffmpeg without this codec
        raise OutputError(
            f"cannot write {path}: ffmpeg ended with code {error.returncode}; name a .gif"
        ) from None


def require_writer(path: Path) -> None:
    """Raise `ConfigError` if the format of the path's suffix cannot be written."""
    with settings():  # name the program, too
        available = path.suffix != ".mp4" or FFMpegWriter.isAvailable()
    if not available:
        raise ConfigError(f"{path}: mp4 needs ffmpeg, which is not on the PATH; name a .gif")


def _record(request: Request, writer: Any, path: Path, dpi: float) -> None:
    runs, neurons = request.runs, request.chosen_neurons()
    times = runs[0].time
    final = [run.at(-1).change[neurons] for run in runs]
    limit = largest(final)
    figure, images, titles, cursor = _frame(runs, final, times, limit)
    annotate(figure, runs, f"{len(neurons)} neurons")
    with _saving(writer, figure, path, dpi):
        for time in request.progress(range(len(times))):
            for run, image, title in zip(runs, images, titles, strict=True):
                now = run.at(run.nearest(times[time]))
                tiles = mosaic(now.change[neurons], run.pixels)
                image.set_data(tiles)
                title.set_text(f"{run.label}, t = {now.time:.4g}")
            cursor.set_xdata([times[time], times[time]])
            writer.grab_frame()


@contextmanager
def _saving(writer: Any, figure: Figure, path: Path, dpi: float) -> Iterator[None]:
    """Do as the writer's own `saving`, which replaces errors by those of a movie without frames."""
    writer.setup(figure, str(path), dpi)
    with rc_context({"savefig.bbox": None}):
        try:
            yield
        except OSError:
            writer.finish()  # the failure of ffmpeg tells more than that of the pipe to it
            raise
        except BaseException:
            with suppress(Exception):
                writer.finish()  # ends ffmpeg
            raise
        writer.finish()


def _frame(
    runs: Sequence[Recording], final: list[np.ndarray], times: np.ndarray, limit: float
) -> tuple[Figure, list[Any], list[Any], Any]:
    """Draw the parts that all frames share; return the figure and the parts that change."""
    labels = [run.label for run in runs]
    figure = new_figure(4.6 * len(runs) + 1.0, 5.6)
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.0, 1.0))
    top, bottom = parts
    panels = np.atleast_1d(top.subplots(1, len(runs)))
    images, titles = [], []
    for axes, run, filters in zip(panels, runs, final, strict=True):
        images.append(show_image(axes, mosaic(filters, run.pixels), limit))
        titles.append(axes.set_title(run.label))
    top.colorbar(images[0], ax=panels, label="$u_j(t) - u_j(0)$", extend="both")
    axes = bottom.subplots()
    for run in runs:
        mean = np.array([hidden_distances(U, run.initial[0]).mean() for U in run.U])
        draw_curve(axes, run.time, mean, **line_of(run.label, labels), label=run.label)
    if len(times) > 1:
        axes.set_xscale("symlog", linthresh=float(times[1]) or 1.0)
    axes.set(xlabel="time t", ylabel="mean distance")
    head(axes, "")
    return figure, images, titles, axes.axvline(times[0], color="k", linewidth=0.8)


MOVIE = FigureKind(
    "movie",
    "the formation of the pattern over all snapshots",
    None,
    needs=(needs_images, needs_neurons),
    suffixes=(".gif", ".mp4"),
)
