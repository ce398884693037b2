"""``prdsim bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .shared_options import backends_option, takes_config
from .terminal import say

if TYPE_CHECKING:
    from prdsim.timing.measurement import TimedCase, TimedContender
    from prdsim.timing.race import Timing

_DEFAULTS = {"samples": 500, "width": 1024}


@click.command(name="bench")
@takes_config
@backends_option("measure")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, help="blocks per contender  [5]")
@click.option(
    "--seconds", type=click.FloatRange(0.001, 60), default=0.3, help="length of a block  [0.3]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON, with every block")
def command(
    config: Path | None,
    settings: tuple[str, ...],
    backends: tuple[str, ...],
    rounds: int,
    seconds: float,
    as_json: bool,
) -> int:
    """Time a step on this machine, for every backend and chart, next to bare matrix products.

    CONFIG is a TOML file of configuration keys: with it, the data and sizes are those of that run,
    else 500 samples and 1024 neurons. Every contender is first checked against the float64
    reference. Exit code 1 if one disagrees with it, 4 if a named backend is unavailable.
    """
    from prdsim.config.files import load_config
    from prdsim.errors import ConfigError
    from prdsim.timing.machine import circumstances
    from prdsim.timing.measurement import entries_here, measure

    if not seconds > 0:  # NaN passes click's range
        raise ConfigError(f"--seconds {seconds}: must be a number of seconds, such as 0.3")

    small = [] if config else [f"{key}={value}" for key, value in _DEFAULTS.items()]
    merged = load_config(config, settings=[*small, *settings])
    case = measure(
        merged,
        entries_here(merged, backends),
        rounds=rounds,
        block_seconds=seconds,
        progress=lambda text: say(text, err=True),
    )
    report = {**circumstances(), "rounds": rounds, "block_seconds": seconds, **case.to_dict()}
    say(json.dumps(report, indent=2) if as_json else _text(case))
    return 1 if any(each.disagrees for each in case.contenders) else 0


def _text(case: TimedCase) -> str:
    sizes = ", ".join(f"{name} = {size}" for name, size in case.sizes.items())
    kind = "with critic" if case.config.adversary else "without critic"
    lines = [
        f"{sizes}; {kind}, {case.config.precision}, {case.threads} threads",
        "",
        f"  {'contender':26}{'ms/step':>10}{'x numpy':>10}{'x products':>12}",
    ]
    lines += [_line(case, each, each.timing) for each in case.contenders if each.timing is not None]
    out = [
        f"{each.label} is left out: {each.left_out}" for each in case.contenders if each.left_out
    ]
    disturbed = sum(each.timing.disturbed for each in case.contenders if each.timing is not None)
    if disturbed:
        out.append(
            f"other processes disturbed {disturbed} blocks: measure again on a quiet machine"
        )
    return "\n".join([*lines, "", *_EXPLANATION.splitlines(), *out])


def _line(case: TimedCase, contender: TimedContender, timing: Timing) -> str:
    chart = contender.description.get("chart")
    faster = _ratio(case.timing("prdsim numpy weight"), timing)
    over = _ratio(timing, case.timing(f"products {chart}")) if chart else ""
    label = f"prdsim ({chart})" if contender.label == "prdsim" else contender.label
    return f"  {label:26}{1e3 * timing.seconds:>10.3f}{faster:>10}{over:>12}"


def _ratio(above: Timing | None, below: Timing | None) -> str:
    return f"{above.seconds / below.seconds:.2f}" if above and below else "-"


_EXPLANATION = """\
ms/step: median over the rounds. x numpy: how many times faster than the numpy backend in the weight
chart. x products: the time of a step divided by that of its chart's bare matrix products.
"""
