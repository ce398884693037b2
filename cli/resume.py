"""``prdsim resume``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="resume")
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), help="new total number of steps")
def command(path: Path, steps: int | None) -> int:
    """Continue a run, bit for bit as if it had never stopped.

    An interrupted or killed run goes on to its planned end; with --steps N a finished one goes on
    to N steps in all.
    """
    from prdsim.runner import resume

    from .summary import finish

    return finish(resume(path, steps, progress=True))
