"""``prdsim compare``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from prdsim.vocabulary import GROUPS

from .choices import RUNS, some
from .shared_options import takes_table_output
from .terminal import say


@click.command(name="compare")
@click.argument(
    "words",
    metavar="RUN.h5... [MEASURES]...",
    nargs=-1,
    shell_complete=some(GROUPS, files=RUNS),
)
@click.option("--time", type=float, help="compare at this time  [the end of the shortest run]")
@takes_table_output
def command(
    words: tuple[str, ...], time: float | None, form: str | None, output: Path | None, force: bool
) -> int:
    """Compare the measures of runs with diffusion to those of runs without.

    Runs that differ only in their seed are grouped: the table shows their mean and standard
    deviation, and in how many pairs of equal seed a measure is higher with diffusion. MEASURES are
    those of prdsim analyze that have a row per snapshot; if omitted, all but growth.
    """
    from prdsim.progress import noting, tracked

    with noting() as note:
        note("loading")
        from prdsim.analysis import open_recording
        from prdsim.analysis.comparison import compare

    from .output import deliver, files_and_names, in_format, table_format

    paths, names = files_and_names(words, GROUPS, "measure")
    form = table_format(form, output, force=force, inputs=paths)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(open_recording(path)) for path in tracked(paths, "runs verified")
        ]
        comparison = compare(
            runs, time=time, groups=names or None, progress=lambda items: tracked(items, "runs")
        )
        for run in runs:
            if not run.complete:
                say(f"{run.name}: {run.status}", err=True)
    for name, reason in comparison.left_out.items():
        say(f"{name} left out: {reason}", err=True)
    text = in_format({"measures": comparison.table()}, form, {"time": comparison.time})
    deliver(text, output, force=force)
    return 0
