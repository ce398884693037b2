"""``prdsim reproduce``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from prdsim.vocabulary import STUDIES

from .choices import some
from .shared_options import FILE_NAME, settings_option
from .terminal import say


@click.command(name="reproduce")
@click.option(
    "-o",
    "--output",
    type=FILE_NAME,
    default=Path("reproduction"),
    help="folder of runs, figures and the page  [reproduction]",
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="NAME",
    help="mnist, digits, synthetic, theory; may be repeated  [all that are present]",
    shell_complete=some(STUDIES),
)
@click.option(
    "--data-dir", help="folder that holds downloaded data sets", shell_complete=some(files=())
)
@click.option("--seeds", type=click.IntRange(1, 100), help="initial draws of each  [3]")
@click.option("--workers", type=click.IntRange(1, 4096), default=1, help="processes  [1]")
@click.option("--retry-failed", is_flag=True, help="try failed runs again")
@click.option("--quick", is_flag=True, help="one draw; the accuracy of numbers is not assessed")
@settings_option("set a key of all runs; may be repeated")
@click.option("--force", is_flag=True, help="redraw the figures and the page; runs are kept")
def command(
    output: Path,
    datasets: tuple[str, ...],
    data_dir: str | None,
    seeds: int | None,
    workers: int,
    retry_failed: bool,
    quick: bool,
    settings: tuple[str, ...],
    force: bool,
) -> int:
    """Reproduce all figures of the poster, with and without diffusion, on one page.

    Runs the preset "poster" on MNIST (if present), digits and synthetic data, with several initial
    draws each, and the preset "theory". Runs of the first draw are replayed with finer steps, so
    that numbers and figures show their discretization error. The runs of each are a study in the
    folder runs, as of prdsim sweep. Ctrl-C stops; repeat the command to continue.
    """
    from prdsim.config.files import load_config
    from prdsim.progress import noting

    with noting() as note:
        note("loading")
        from prdsim.reproduction import available_studies, reproduce

    values = load_config(settings=["preset=poster", *settings]).model_dump(exclude_unset=True)
    given = {setting.partition("=")[0].strip().replace("-", "_") for setting in settings}
    outcome = reproduce(
        output,
        available_studies(datasets, data_dir),
        seeds=seeds or (1 if quick else 3),
        assess=not quick,
        keys={key: values[key] for key in given},
        workers=workers,
        retry_failed=retry_failed,
        force=force,
        say=say,
        progress=True,
    )
    if outcome.signal is None:
        return 0
    say(f"stopped; continue with: {shlex.join(['prdsim', *sys.argv[1:]])}", err=True)
    return 128 + int(outcome.signal)
