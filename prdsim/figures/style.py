"""The style of figures, and how they are written: colors, scales and files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isqrt, prod
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prdsim.analysis import Recording, by_label
from prdsim.backends.arrays import HostArray as Array
from prdsim.convergence.report import figure_text
from prdsim.files.whole import write_whole

SUFFIXES = (".png", ".pdf", ".svg")

WITHOUT, WITH, YELLOW = "#3b6ea5", "#d1495b", "#edae49"
GRAY, DARK = "#8a8a8a", "#404040"
_OTHERS = ("#66a182", "#8d6a9f", YELLOW, "#00798c", "#5a5a5a")

CONDITION_LOOKS = {
    "none": (WITHOUT, "o"),
    "adversary": (WITH, "s"),
    "static": (YELLOW, "D"),
    "common": ("#66a182", "v"),
    "shuffled": ("#8d6a9f", "^"),
    "white": (GRAY, "X"),
    "slow": ("#00798c", "P"),
}
"""The color and the marker of what acts beside the residual."""

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # in the order of labels

PARTS: dict[str, Any] = {"both": "-", "reaction": (0, (4, 1.5)), "diffusion": (0, (1, 1.2))}
"""Line styles of a sum and of its two parts."""

SIGNED = "RdBu_r"  # weights and their changes: white is zero
POSITIVE = "magma"  # features and images: black is zero

_SETTINGS: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.min_exponent": 3,  # 0.1 on logarithmic axes, not a power of ten
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "figure.constrained_layout.w_pad": 0.08,  # mosaics are further apart than their tiles
    "figure.constrained_layout.h_pad": 0.06,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "prdsim",
    "image.interpolation": "nearest",
}
_DEFAULTS: Any = {
    name: value
    for name, value in mpl.rcParamsDefault.items()
    if name not in ("backend", "interactive")  # no matter of style
}


@contextmanager
def settings() -> Iterator[None]:
    """Draw and write figures in the style of prdsim meanwhile, whatever the user's settings are."""
    with mpl.rc_context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)  # of its own defaults
            mpl.rcParams.update(_DEFAULTS | _SETTINGS)
        yield


class StyledFigure(Figure):
    """A figure that is drawn in the style of prdsim, whatever the settings are by then.

    Parts of a figure, such as ticks, are made only when it is drawn: by `savefig`, or a notebook.
    """

    def draw(self, renderer: Any) -> None:
        """Draw the figure."""
        with settings():
            super().draw(renderer)

    def savefig(self, fname: Any, **keys: Any) -> None:
        """Save the figure; arguments are matplotlib's."""
        with settings():
            super().savefig(fname, **keys)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches; without pyplot, whose figures are global."""
    return StyledFigure(figsize=(width, height), layout="constrained")


def body_of(figure: Figure) -> SubFigure:
    """Return the part of a new figure between its title and the line below; see `legend_of_all`."""
    body = figure.subfigures()
    assert isinstance(body, SubFigure)
    return body


def color_of(label: str, labels: Sequence[str]) -> str:
    """Return a label's color: blue without, red with diffusion, others in their order."""
    fixed: dict[str, str] = {}
    for side, color in (("without diffusion", WITHOUT), ("with diffusion", WITH)):
        named = [name for name in labels if name.startswith(side)]
        fixed |= dict.fromkeys(named[:1], color)  # further D get other colors
    if label in fixed:
        return fixed[label]
    others = [name for name in labels if name not in fixed]
    return _OTHERS[others.index(label) % len(_OTHERS)]


def colors_of(runs: Sequence[Recording]) -> list[str]:
    """Return the colors of runs of different labels."""
    labels = [run.label for run in runs]
    return [color_of(label, labels) for label in labels]


def line_of(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the line style of a label: its color, and dashes that distinguish it without color."""
    dashes = _DASHES[labels.index(label) % len(_DASHES)]
    return {"color": color_of(label, labels), "linestyle": dashes}


def draw_curve(axes: Axes, x: Array, y: Array, **look: Any) -> None:
    """Draw a curve; one of so few points that no line may show has markers."""
    few: Any = {"marker": "o", "markersize": 4} if len(x) < 3 else {}
    axes.plot(x, y, **few, **look)


def share_axes(panels: Iterable[Axes]) -> None:
    """Give panels the same axes, so that they can be compared; call it before they are drawn."""
    first, *others = panels
    for axes in others:
        axes.sharex(first)
        axes.sharey(first)


def head(axes: Axes, title: str, *, columns: int = 4, **look: Any) -> None:
    """Put the legend of a panel above it, where it crosses nothing, and the title above that."""
    _, labels = axes.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    if rows:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(**place, ncols=columns, fontsize=7)
    axes.set_title(title, pad=6 + 13 * rows, **look)


def legend_of_all(body: SubFigure) -> None:
    """Put one legend for all panels of a part of a figure above them, where it crosses nothing."""
    found: dict[str, Any] = {}
    for axes in body.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(str(label), handle)
    longest = max(len(line) for label in found for line in label.splitlines())
    fitting = int(0.9 * _LETTERS * body.bbox.width / body.dpi / (longest + 8))  # with its line
    columns = max(1, min(fitting, len(found)))
    body.legend(list(found.values()), list(found), loc="outside upper center", ncols=columns)


def without_formulas(text: str) -> str:
    """Return a text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def annotate(figure: Figure, recordings: Sequence[Recording], *notes: str) -> None:
    """Write the setting of the runs above a figure, and the error of their numbers below it.

    Runs that are not finished are listed, too. Raises `ReportError` if a report cannot be read.
    """
    seeds = sorted({run.config.seed for run in recordings if run.config is not None})
    words = ["; ".join(dict.fromkeys(run.setting for run in recordings))]
    if seeds:
        words[0] += f", seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    title = " | ".join([*words, *filter(None, notes)])
    figure.suptitle(fill(title, round(_TITLE_LETTERS * figure.get_figwidth())), fontsize=8.5)
    unfinished = "; ".join(f"{run.name}: {run.status}" for run in recordings if not run.complete)
    reports = [
        [run.assessed(float(run.time[-1])).report for run in runs]
        for runs in by_label(recordings).values()
    ]
    fitting = round(_LETTERS * figure.get_figwidth())
    lines = [unfinished, fill(figure_text(reports), fitting)]
    figure.supxlabel(
        without_formulas("\n".join(filter(None, lines))),
        fontsize=8 if unfinished else 7,
        color="#a03030" if unfinished else GRAY,
    )


_LETTERS, _TITLE_LETTERS = 15, 14  # per inch, of the line below a figure, and of that above


def largest(arrays: Iterable[Array]) -> float:
    """Return the limit of a color scale: 99.5 % of the absolute entries lie below it.

    So a few outliers do not wash out an image; its color bar indicates them.
    """
    limit = float(np.quantile(np.abs(np.concatenate([np.ravel(a) for a in arrays])), 0.995))
    return limit or 1.0


def mosaic_shape(count: int) -> tuple[int, int]:
    """Return the rows and columns of a mosaic: the fewest empty places, at most twice as wide."""
    squarest = isqrt(count - 1) + 1
    shapes = [(-(-count // columns), columns) for columns in range(squarest, count + 1)]
    return min((shape for shape in shapes if shape[1] <= 2 * shape[0]), key=prod)


def mosaic_height(count: int, width: float) -> float:
    """Return the height of a mosaic of square images with the given width."""
    rows, columns = mosaic_shape(count)
    return width * rows / columns


def mosaic(images: Array, grid: tuple[int, int]) -> Array:
    """Arrange images (k, rows * columns of pixels) in rows, with a line of NaN around each."""
    k, (height, width) = len(images), grid
    rows, columns = mosaic_shape(k)
    framed = np.full((rows * columns, height + 2, width + 2), np.nan)
    framed[:k, 1:-1, 1:-1] = images.reshape(k, height, width)
    tiles = framed.reshape(rows, columns, height + 2, width + 2).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * (height + 2), columns * (width + 2))


def show_image(axes: Axes, image: Array, limit: float, *, signed: bool = True) -> Any:
    """Draw an image on a color scale up to ``limit``, from its negative if signed, else from 0."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return axes.imshow(
        image,
        cmap=SIGNED if signed else POSITIVE,
        vmin=-limit if signed else 0.0,
        vmax=limit,
        aspect="equal",
    )


def color_bar(figure: Figure, panels: Any, label: str, images: Iterable[Array]) -> None:
    """Add the color bar of panels that show images on one scale; its ends say what exceeds it."""
    rows = len(panels)
    panels = [axes for axes in np.ravel(panels) if axes.images]
    shown = panels[0].images[0]
    limit = shown.get_clim()[1]
    values = np.concatenate([np.ravel(image) for image in images])
    above, below = bool(values.max() > limit), bool(values.min() < -limit)
    ends = {(0, 0): "neither", (1, 0): "max", (0, 1): "min", (1, 1): "both"}[above, below]
    look: Any = {"aspect": BAR_ASPECT * rows, "extendfrac": 0.04 / rows}
    figure.colorbar(shown, ax=panels, label=label, extend=ends, **look)


BAR_ASPECT = 25
"""Length over width of a color bar for each row of panels, so that it is as wide as for one."""


def write_figure(figure: Figure, path: Path, *, dpi: float = 150.0, force: bool = True) -> None:
    """Write a figure completely or not at all; the same figure gives the same file.

    Raises `OutputError` if the file cannot be written, `ConfigError` if it exists and ``force`` is
    False.
    """
    dates: dict[str, Any] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    buffer = io.BytesIO()
    with settings():
        figure.savefig(buffer, format=path.suffix[1:], dpi=dpi, metadata=dates.get(path.suffix))
    write_whole(path, buffer.getvalue(), force=force)
