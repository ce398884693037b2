"""``prdsim plot``."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim import vocabulary
from prdsim.errors import ConfigError, PrdsimError
from prdsim.files.small import folder_for_output
from prdsim.words import shown

from . import tell
from .choices import measures_or, some, varying
from .effects import Axes, are_of_study, draw, takes_axes
from .shared_options import FILE_NAME
from .terminal import say

if TYPE_CHECKING:
    from prdsim.figures import FigureKind
    from prdsim.progress import Say


@click.command(name="plot")
@click.argument(
    "words",
    metavar="[RUN.h5]... [FIGURE]... | STUDY MEASURE",
    nargs=-1,
    shell_complete=measures_or(vocabulary.FIGURES),
)
@takes_axes
@click.option(
    "--against",
    metavar="KEY",
    help="of a study: a second axis, for a map",
    shell_complete=varying,
)
@click.option("-o", "--output", type=FILE_NAME, help="a file, or a folder  [this folder]")
@click.option(
    "--format", "form", type=click.Choice(["png", "pdf", "svg", "gif", "mp4"]), help="[png; gif]"
)
@click.option("--force", is_flag=True, help="overwrite files")
@click.option(
    "--neurons",
    metavar="WHICH",
    help="displacement, random, or 3,17,29  [displacement]",
    shell_complete=some(("displacement", "random")),
)
@click.option("--count", type=click.IntRange(1, 400), default=24, help="neurons shown  [24]")
@click.option("--times", metavar="T,T,...", help="times to show  [first, one between, last]")
@click.option("--sample", type=click.IntRange(0), default=0, help="number of the input image  [0]")
@click.option("--seed", type=click.IntRange(0), default=0, help="of random neurons  [0]")
@click.option("--embedding", type=click.Choice(["pca", "tsne"]), default="pca", help="[pca]")
@click.option("--log-time", is_flag=True, help="draw time logarithmically")
@click.option("--dpi", type=click.IntRange(30, 1200), default=150, help="of png and movies  [150]")
def command(
    words: tuple[str, ...],
    over: str | None,
    by: tuple[str, ...],
    against: str | None,
    **options: Any,
) -> int:
    """Draw figures of runs; without a FIGURE, list them.

    Several runs that differ only in their seed make bands; runs with and without diffusion are
    shown side by side. A run may be unfinished or still being written: the part so far is drawn.

    Missing data are reported before any figure is drawn. A figure that fails does not stop others.

    Of a study: one measure or scalar over a key that varies, with its spread over seeds.
    prdsim plot study loss_sup --over width --by diffusion -o loss.png
    """
    from prdsim.progress import noting

    axes = Axes(over, by, against)
    if are_of_study(words, axes):
        draw(words, axes, options["output"], dpi=options["dpi"], force=options["force"])
        return 0
    with noting() as note:
        return _plot(words, options, note)


def _plot(words: tuple[str, ...], options: dict[str, Any], note: Say) -> int:
    note("loading matplotlib")
    from prdsim.figures import FIGURES

    note("")
    from .output import check_output, files_and_names

    paths, names = files_and_names(words, FIGURES, "figure")
    kinds = [FIGURES[name] for name in names]
    if not kinds:
        say(_listing(FIGURES))
        return 0

    from prdsim.analysis import open_recording
    from prdsim.backends import listening
    from prdsim.figures import Request, check, write
    from prdsim.progress import announced_after, tracked_after

    if not paths and any(kind.needs_run for kind in kinds):
        raise ConfigError(f"{', '.join(names)}: name at least one run to draw, such as run.h5")
    targets = _targets(kinds, paths, options["output"], options["form"])
    folder = options["output"]
    if folder is None or folder.suffix or folder.is_dir():
        folder = None  # no folder to create
        check_output(targets.values(), force=options["force"], inputs=paths)
    with ExitStack() as stack:
        stack.enter_context(listening(announced_after(note)))
        note("reading and verifying")
        runs = tuple(stack.enter_context(open_recording(path)) for path in paths)
        note("")
        for run in runs:
            if not run.complete:
                say(f"{run.name}: {run.status}", err=True)
        request = Request(
            runs,
            neurons=_neurons(options["neurons"]),
            times=_times(options["times"]),
            count=options["count"],
            sample=options["sample"],
            seed=options["seed"],
            embedding=options["embedding"],
            log_time=options["log_time"],
            progress=tracked_after(note, "snapshots"),
            say=note,
        )

        def draw(name: str) -> None:
            note(f"drawing {name}")
            try:
                write(name, request, targets[name], dpi=options["dpi"], force=options["force"])
            finally:
                note("")
            say(targets[name])

        code = _for_each(names, lambda name: check(name, request, targets[name]))
        if code:
            return code
        with folder_for_output(folder) if folder is not None else nullcontext():
            return _for_each(names, draw)


def _for_each(names: list[str], act: Callable[[str], None]) -> int:
    """Call ``act`` for every figure; print an error per failure, return the first exit code."""
    codes = []
    for name in names:
        try:
            act(name)
        except PrdsimError as error:
            codes.append(tell(error, name))
    return codes[0] if codes else 0


def _listing(figures: dict[str, FigureKind]) -> str:
    rows = [
        f"  {kind.name:13}{kind.caption}" + (f" (poster, figure {kind.poster})" * bool(kind.poster))
        for kind in figures.values()
    ]
    return "\n".join(["figures: prdsim plot RUN.h5... FIGURE...", *rows])


def _targets(
    kinds: list[FigureKind], paths: list[Path], output: Path | None, form: str | None
) -> dict[str, Path]:
    """Return the file of each figure."""
    known = {suffix for kind in kinds for suffix in kind.suffixes}
    if form is not None and f".{form}" not in known:
        raise ConfigError(
            f"--format {form}: {kinds[0].name} is written as {', '.join(sorted(known))}"
        )
    if output is not None and output.suffix and not output.is_dir():
        return {kinds[0].name: _one_file(output, len(kinds), form, known)}
    folder = output or Path()
    stem = f"{paths[0].stem}-" if len(paths) == 1 else ""
    targets = {}
    for kind in kinds:
        suffix = f".{form}" if f".{form}" in kind.suffixes else kind.suffixes[0]
        targets[kind.name] = folder / f"{stem}{kind.name}{suffix}"
    return targets


def _one_file(output: Path, figures: int, form: str | None, known: set[str]) -> Path:
    """Return the file given by -o; raise `ConfigError` if it does not fit."""
    if output.suffix not in known:
        raise ConfigError(f"{output}: figures are written as {', '.join(sorted(known))}")
    if figures > 1:
        raise ConfigError(f"{output} is one file for {figures} figures; name a folder")
    if form is not None and output.suffix != f".{form}":
        raise ConfigError(f"{output} is not {form}; leave out --format, or name another file")
    return output


def _neurons(text: str | None) -> Any:
    """Read --neurons: a way to choose, or indices."""
    if text in (None, "displacement", "random"):
        return text or "displacement"
    return tuple(_numbers("neurons", str(text), int))


def _times(text: str | None) -> tuple[float, ...] | None:
    return None if text is None else tuple(_numbers("times", text, float))


def _numbers(option: str, text: str, kind: type) -> list[Any]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"--{option} {shown(text)}: must be numbers, separated by commas")
    return numbers
