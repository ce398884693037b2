"""``prdsim verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .shared_options import backends_option, takes_config
from .terminal import say

if TYPE_CHECKING:
    from prdsim.verification.verify import LadderCheck, LadderReport


@click.command(name="verify")
@takes_config
@backends_option("verify")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["float64", "float32", "tf32"]),
    help="at this precision; may be repeated  [all that the backend supports]",
)
@click.option(
    "--all", "show_all", is_flag=True, help="print every check, not only the closest of a rung"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON, with every check")
def command(
    config: Path | None,
    settings: tuple[str, ...],
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    show_all: bool,
    as_json: bool,
) -> int:
    """Check that backends agree with the float64 reference on this machine.

    CONFIG is a TOML file of configuration keys: with it, the data and sizes are those of that run,
    else small ones. Exit code 0 if every check holds, 1 if one fails, 4 if a named backend is
    unavailable.
    """
    from prdsim.config.files import load_config
    from prdsim.verification.verify import DEFAULTS, LadderReport, candidates, verify

    small = [] if config else [f"{key}={value}" for key, value in DEFAULTS.items()]
    merged = load_config(config, settings=[*small, *settings])
    found, unavailable = candidates(backends, precisions, threads=merged.threads)
    checks = verify(found, merged, progress=lambda text: say(text, err=True))
    report = LadderReport(checks, unavailable)
    say(json.dumps(report.to_dict(), indent=2) if as_json else _text(report, show_all))
    return 1 if report.failures else 0


def _text(report: LadderReport, show_all: bool) -> str:
    lines = [_row("rung", "holds", "item", "measured", "allowed")]
    for backend, precision in dict.fromkeys((c.backend, c.precision) for c in report.checks):
        lines += ["", f"{backend} {precision}"]
        ours = [c for c in report.checks if (c.backend, c.precision) == (backend, precision)]
        for rung in dict.fromkeys(c.rung for c in ours):
            lines += _rung([c for c in ours if c.rung == rung], show_all)
    lines += ["", _REASONS]
    lines += [f"{name} is not verified: {reason}" for name, reason in report.unavailable.items()]
    return "\n".join([*lines, _summary(report)])


def _rung(checks: list[LadderCheck], show_all: bool) -> list[str]:
    """Show the closest check of a rung, or those that fail, or all."""
    held = sum(check.holds for check in checks)
    shown = checks if show_all else [c for c in checks if not c.holds]
    shown = shown or [max(checks, key=lambda check: check.severity)]
    count = f"{held}/{len(checks)}"
    lines = []
    for check in shown:
        failed = "" if check.holds else "  FAILS"
        numbers = (f"{check.measured:.2g}", f"{check.allowed:.2g}{failed}")
        lines.append(_row(check.rung, count, check.item, *numbers))
        lines += [f"{'':20}{check.reason}"] if show_all or failed else []
    return lines


def _row(rung: str, holds: str, item: str, measured: str, allowed: str) -> str:
    return f"  {rung:12}{holds:>7}  {item:46} {measured:>9}  {allowed}"


_REASONS = """\
Without --all: for each rung the check closest to its allowance, and all that fail.
Allowed, with u the unit roundoff of the precision:
  primitive                0 where nothing rounds, else gamma_k = k u / (1 - k u) times the sum of
                           moduli, k the number of roundings that an entry passes through
  velocity to trajectory   20 times the root mean square change of the float64 reference when
                           every operation rounds as this precision does (8 times, at random)
  determinism, resume      0: the same bits
"""


def _summary(report: LadderReport) -> str:
    failures = report.failures
    if not failures:
        return f"all {len(report.checks)} checks hold"
    first = failures[0]
    return (
        f"{len(failures)} of {len(report.checks)} checks fail; look at rung {first.rung} first: "
        f"{first.backend} {first.precision}, {first.item}, "
        f"{first.measured:.3g} > {first.allowed:.3g}"
    )
