"""``prdsim repair``."""

from __future__ import annotations

from pathlib import Path

import click

from prdsim.words import shell_word

from .shared_options import FILE_NAME, takes_run
from .terminal import say


@click.command(name="repair")
@takes_run
@click.option("-o", "--output", required=True, type=FILE_NAME, help="the repaired file")
@click.option("--force", is_flag=True, help="overwrite the output")
def command(path: Path, output: Path, force: bool) -> None:
    """Save what is whole in a damaged trajectory file as another file.

    Kept is what a checksum verifies: snapshots up to the first damaged one, scalars, states to
    continue from; what is dropped is listed with the reason. The damaged file is only read. If
    nothing in it is damaged, no file is written.
    """
    from prdsim.running.again import written_once
    from prdsim.running.simulation import CARRIED_SINCE_2
    from prdsim.trajectory import repair_trajectory

    found = repair_trajectory(
        path, output, force=force, carried=CARRIED_SINCE_2, again=written_once
    )
    if found is None:
        say(f"{path} is not damaged; {output} was not written")
        return
    lines = [f"{output}: what is whole in {path}"]
    lines += [f"  kept: {words}" for words in found.kept]
    lines += [f"  dropped: {words}" for words in found.dropped]
    if found.can_be_continued:
        lines.append(f"  continue with: prdsim resume {shell_word(output)}")
    say("\n".join(lines))
