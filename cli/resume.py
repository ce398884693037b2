"""``prdsim resume``."""

from __future__ import annotations

from pathlib import Path

import click

from .shared_options import takes_run


@click.command(name="resume")
@takes_run
@click.option("--end-time", type=click.FloatRange(min=0, min_open=True), help="new end")
@click.option("--steps", type=click.IntRange(min=1), help="new total number of steps")
@click.option(
    "--accept-new-bits",
    is_flag=True,
    help="compute rows after the last restart state anew, where they differ on this machine",
)
@click.option("--lock/--no-lock", default=True, help="as for run  [true]")
def command(
    path: Path, end_time: float | None, steps: int | None, accept_new_bits: bool, lock: bool
) -> int:
    """Continue a run, bit for bit as if it had never stopped.

    An interrupted or killed run continues to its planned end. A finished run continues to time T
    with --end-time T or, if it was planned by steps, to N steps in total with --steps N.

    Versions, libraries and threads that differ from those recorded are said. If rows computed
    again differ from the file's, nothing is changed; --accept-new-bits withdraws these rows and
    goes on from the last restart state, which the file records.
    """
    from prdsim.running.resuming import resume

    from .summary import finish

    result = resume(
        path,
        steps,
        end_time=end_time,
        accept_new_bits=accept_new_bits,
        lock=lock,
        progress=True,
    )
    return finish(result)
