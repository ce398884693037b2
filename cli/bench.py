"""``prdsim bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .shared_options import backends_option, takes_config

if TYPE_CHECKING:
    from prdsim.benchmark.measurement import Case, Row

_DEFAULTS = {"samples": 500, "width": 1024}


@click.command(name="bench")
@takes_config
@backends_option("measure")
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    type=click.Choice(["numpy", "torch", "torch.compile", "jax"]),
    help="measure this one; may be repeated  [all that are installed]",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, help="blocks of each contender  [5]"
)
@click.option(
    "--seconds", type=click.FloatRange(0.001, 60), default=0.3, help="length of a block  [0.3]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON, with every block")
def command(
    config: Path | None,
    settings: tuple[str, ...],
    backends: tuple[str, ...],
    rivals: tuple[str, ...],
    rounds: int,
    seconds: float,
    as_json: bool,
) -> int:
    """Measure the time of a step, here, beside NumPy, PyTorch, JAX and bare matrix products.

    CONFIG is a TOML file of configuration keys: with it, the data and sizes are those of that run,
    else small ones. Every contender is first checked against the float64 reference. Exit code 1 if
    one computes something else, 4 if a backend that was named cannot work here.
    """
    from prdsim.benchmark.machine import circumstances
    from prdsim.benchmark.measurement import entries_here, measure
    from prdsim.config.files import load_config
    from prdsim.errors import ConfigError
    from prdsim.running.stopping import StopByException

    if not seconds > 0:  # NaN passes click's range
        raise ConfigError(f"--seconds {seconds}: must be a number of seconds, such as 0.3")

    small = [] if config else [f"{key}={value}" for key, value in _DEFAULTS.items()]
    merged = load_config(config, settings=[*small, *settings])
    entries = entries_here(merged, backends=backends, rivals=rivals)
    with StopByException():  # so that the workers are ended, and their folder removed
        case = measure(
            merged,
            entries,
            rounds=rounds,
            block_seconds=seconds,
            progress=lambda text: click.echo(text, err=True),
        )
    report = {**circumstances(), "rounds": rounds, "block_seconds": seconds, **case.to_dict()}
    click.echo(json.dumps(report, indent=2) if as_json else _text(case))
    return 1 if any(row.disagrees for row in case.rows) else 0


def _text(case: Case) -> str:
    sizes = ", ".join(f"{name} = {size}" for name, size in case.sizes.items())
    kind = "with critic" if case.config.adversary else "without critic"
    lines = [
        f"{sizes}; {kind}, {case.config.precision}, {case.threads} threads",
        "",
        f"  {'contender':26}{'ms/step':>10}{'x numpy':>10}{'x products':>12}",
    ]
    lines += [_row(case, row) for row in case.rows if row.timing is not None]
    out = [f"{row.label} is left out: {row.left_out}" for row in case.rows if row.left_out]
    disturbed = sum(row.timing.disturbed for row in case.rows if row.timing is not None)
    if disturbed:
        out.append(
            f"other processes disturbed {disturbed} blocks: measure again on a quiet machine"
        )
    return "\n".join([*lines, "", *_EXPLANATION.splitlines(), *out])


def _row(case: Case, row: Row) -> str:
    assert row.timing is not None
    plain = case.timing("numpy")
    faster = f"{plain.seconds / row.timing.seconds:.2f}" if plain else "-"
    bare = case.timing(f"products {row.description.get('chart', 'weight')}")
    over = "-" if bare is None else f"{row.timing.seconds / bare.seconds:.2f}"
    over = "" if row.kind.startswith("products") else over
    chart = f" ({row.description['chart']})" if row.label == "prdsim" else ""
    label = f"{row.label}{chart}"
    return f"  {label:26}{1e3 * row.timing.seconds:>10.3f}{faster:>10}{over:>12}"


_EXPLANATION = """\
ms/step: median over the rounds. x numpy: how many times faster than plain NumPy. x products: the
time of a step over that of its chart's bare matrix products, of the weight chart's for rivals.
"""
