"""``prdsim turing``: does a homogeneous state lose its stability with the adversary alone?"""

from __future__ import annotations

from pathlib import Path

import click

from prdsim.errors import ConfigError
from prdsim.words import shown

from .choices import of_key, some
from .shared_options import FILE_NAME, settings_option, takes_table_output

_SET_HERE = (
    "seed",
    "diffusion",
    "forcing",
    "forcing_norm",
    "coupling",
    "group_deviation",
    "output",
)


@click.command(name="turing")
@click.option("--dataset", help="data set  [synthetic]", shell_complete=of_key("dataset"))
@click.option(
    "--data-dir", help="folder that holds downloaded data sets", shell_complete=some(files=())
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, help="initial draws  [3]")
@settings_option("set a key of all runs; may be repeated")
@click.option("--figure", type=FILE_NAME, help="draw to a .png, .pdf or .svg file")
@takes_table_output
def command(
    dataset: str | None,
    data_dir: str | None,
    seeds: int,
    settings: tuple[str, ...],
    figure: Path | None,
    form: str | None,
    output: Path | None,
    force: bool,
) -> int:
    """Test whether a homogeneous state loses its stability with the adversary, and only so.

    Neurons in groups of equal ones are brought to the targets. How fast tiny deviations within
    groups grow is computed without diffusion, with the adversary, and with controls of its norm in
    its place, at two tolerances: the coupling kappa* below which the state is unstable, the same by
    coupled runs, and a verdict. Small runs (16 samples, 32 pairs of neurons, to t = 20) unless
    --set says otherwise.
    """
    from prdsim.analysis.stability.symmetry_breaking import (
        SMALL,
        breaking_table,
        symmetry_breaking,
    )
    from prdsim.config import RunConfig
    from prdsim.config.files import from_text, parted
    from prdsim.datasets.configured import load_data
    from prdsim.progress import noting

    from .output import check_figure, deliver, in_format, table_format

    given = {key: from_text(key, text) for key, text in parted(settings)}
    places = {"dataset": dataset, "data_dir": data_dir}
    given |= {key: value for key, value in places.items() if value is not None}
    form = table_format(form, output, force=force)
    for key in _SET_HERE:
        if key in given:
            raise ConfigError(f"{key} cannot be set: turing sets it for each run")
    if figure is not None:
        if output == figure:
            raise ConfigError(f"{shown(figure)}: name two files, for the figure and for the table")
        check_figure(figure, force=force)
    keys = {**SMALL, **given}
    if "groups" not in given and isinstance(keys["width"], int):
        keys["groups"] = keys["width"] // 2
    found = []
    with noting() as note:
        for seed in range(seeds):
            config = RunConfig(**{**keys, "seed": seed})
            data = load_data(config)
            found += symmetry_breaking(config, data.X, data.Y, say=note)
    title = (
        f"{config.dataset}, n = {config.samples}, {config.neurons_in_words}, D = "
        f"{config.diffusivity:g}, {config.critic}, to t = {config.end_time:g}; "
        f"seeds 0 to {seeds - 1}; rtol {config.rtol:g} and a tenth of it"
    )
    table = breaking_table(found, title)
    if figure is not None:
        from prdsim.figures.style import write_figure
        from prdsim.figures.symmetry_breaking import draw_symmetry_breaking

        drawn = draw_symmetry_breaking(found, title, data.grid)
        write_figure(drawn, figure, force=force)
    deliver(in_format({"turing": table}, form, {}), output, force=force)
    return 0
