"""``prdsim resume``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="resume")
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--end-time", type=click.FloatRange(min=0, min_open=True), help="new end")
@click.option("--steps", type=click.IntRange(min=1), help="new total number of steps")
def command(path: Path, end_time: float | None, steps: int | None) -> int:
    """Continue a run, bit for bit as if it had never stopped.

    An interrupted or killed run continues to its planned end. A finished run continues to time T
    with --end-time T or, if it was planned by steps, to N steps in total with --steps N.
    """
    from prdsim.running.resuming import resume

    from .summary import finish

    return finish(resume(path, steps, end_time=end_time, progress=True))
