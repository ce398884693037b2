"""``prdsim controls``: what is the adversary's own, and what any force would do."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .choices import of_key, some
from .shared_options import FILE_NAME, settings_option
from .terminal import say

if TYPE_CHECKING:
    from prdsim.study import Plan, Swept
    from prdsim.study.controls import Base

_CURVES_SHOWN = ("distance_U_mean", "cv_U", "ks_U")


@click.command(name="controls")
@click.option("-o", "--output", type=FILE_NAME, default=Path("controls"), help="folder  [controls]")
@click.option(
    "--dataset", help="data set of all runs  [synthetic]", shell_complete=of_key("dataset")
)
@click.option(
    "--data-dir", help="folder that holds downloaded data sets", shell_complete=some(files=())
)
@click.option("--seeds", type=click.IntRange(2, 1000), default=10, help="initial draws  [10]")
@click.option(
    "--curve-seeds",
    type=click.IntRange(0, 1000),
    default=5,
    help="initial draws of the response curves; 0: no curves  [5]",
)
@settings_option("set a key of all runs; may be repeated")
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="processes  [as cores and memory allow]"
)
@click.option("--retry-failed", is_flag=True, help="try failed members again")
def command(
    output: Path,
    dataset: str | None,
    data_dir: str | None,
    seeds: int,
    curve_seeds: int,
    settings: tuple[str, ...],
    workers: int | None,
    retry_failed: bool,
) -> int:
    """Compare the adversary with controls: other fields of its norm in its place.

    Runs a study without diffusion, with the adversary, and with fields that are static, common to
    all samples, shuffled over samples, white or slow in time, over seeds, each at two tolerances;
    then response curves in D, the critic's speed, the initial scale and the step of gd. Small
    runs (100 samples, 64 neurons) unless --set says otherwise. Ctrl-C stops; repeat the command to
    continue.
    """
    from prdsim.config.files import from_text, parted
    from prdsim.datasets.configured import load_data
    from prdsim.study.controls import Base, as_expected, controls, folders, references, usable
    from prdsim.study.forecast import at_once, forecast

    given = {key: from_text(key, text) for key, text in parted(settings)}
    places = {"dataset": dataset, "data_dir": data_dir and str(Path(data_dir).absolute())}
    base = Base({**given, **{key: value for key, value in places.items() if value is not None}})
    data = load_data(base.config)  # what cannot be is told once, not by every run
    plan = references(base, seeds, curve_seeds)
    forecast(plan, data)
    first, second = folders(output)
    count = workers or at_once(plan, data)
    swept = _work(first, plan, count, retry_failed=retry_failed)
    complete = as_expected(plan, swept.standings)
    if not swept.stopped and (left := usable(base, seeds, swept.standings)):
        plan = controls(base, left)
        swept = _work(second, plan, count, retry_failed=retry_failed)
        complete &= as_expected(plan, swept.standings)
    if swept.stopped:
        say("stopped; the same command goes on", err=True)
        return 128 + (swept.signal or signal.SIGTERM)
    _conclude(output, base, seeds)
    return 0 if complete else 1


def _work(path: Path, plan: Plan, workers: int, *, retry_failed: bool) -> Swept:
    """Do what is left of one of the two studies."""
    from prdsim.files.small import folder_for_output
    from prdsim.study import StudyFolder, sweep
    from prdsim.study.sweep import local

    from .sweep import report

    with folder_for_output(path.parent):
        folder = StudyFolder.create(path, plan)
    swept = sweep(folder, local(workers), retry_failed=retry_failed, say=say)
    report(folder, swept.standings)
    return swept


def _conclude(output: Path, base: Base, seeds: int) -> None:
    """Tabulate and draw what the studies say."""
    from prdsim.figures.style import write_figure
    from prdsim.files.whole import write_whole
    from prdsim.progress import noting
    from prdsim.study import StudyFolder
    from prdsim.study.contrast_figures import draw_effects, draw_response
    from prdsim.study.contrasts import curve_table, effect_table, effects_of, summary_table
    from prdsim.study.controls import (
        MEASURES,
        collect,
        curves_of,
        folders,
        samples_of,
        title_of,
    )

    with noting() as note:
        note("measuring")
        made = [path for path in folders(output) if path.exists()]
        found = collect(map(StudyFolder.open, made))
    samples, title = samples_of(found, base), title_of(base, base.tolerances)
    effects = effects_of(samples)
    tables = {"effects": effect_table(samples, effects, title)}
    figures = {"effects": draw_effects(samples, effects, title)}
    curves = curves_of(found, base, MEASURES)
    if curves:
        about = title_of(base, base.curve_tolerances)
        tables["curves"] = curve_table(curves, about)
        figures["curves"] = draw_response(curves, _CURVES_SHOWN, about)
    for name, table in tables.items():
        write_whole(output / f"{name}.csv", table.to_csv().encode(), force=True)
        write_figure(figures[name], output / f"{name}.png")
    say(summary_table(samples, effects, title, seeds).to_text())
    made = [output / f"{name}.{suffix}" for name in tables for suffix in ("csv", "png")]
    say(", ".join(map(str, made)))
