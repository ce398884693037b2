"""The fault suite: ``python -m tests.faults``.

Runs the tests' part of every campaign, or of those named, and prints a table. With ``--long``: all
cases, and the table is written to benchmarks/results/<date>-faults.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import ENVIRONMENT  # noqa: E402

os.environ |= ENVIRONMENT

import prdsim  # noqa: E402
from faults.campaigns import CAMPAIGNS  # noqa: E402
from faults.report import KINDS, Report, table  # noqa: E402
from faults.soak import soak  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--long", action="store_true", help="all cases; write the results")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="watch one long run instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    reports = []
    if options.soak:
        reports.append(_said(soak(options.soak)))
    else:
        for name in options.names or CAMPAIGNS:
            campaign = CAMPAIGNS[name]
            count = campaign.long if options.long else campaign.short
            reports.append(_said(campaign.run(count, options.seed)))
    found = [report.to_dict() for report in reports]
    print(table(found))
    if options.long:
        _write(found, options.seed)
    sys.exit(any(report.broken.total() for report in reports))


def _said(report: Report) -> Report:
    """Print what a campaign found, as soon as it is over."""
    effects = ", ".join(f"{name} {count:,}" for name, count in report.took_effect.items())
    lines = [f"{report.campaign}: {effects}", *report.notes, *report.examples]
    text = "\n  ".join(lines)
    print(text.encode(errors="backslashreplace").decode(), flush=True)
    return report


def _write(found: list[dict[str, Any]], seed: int) -> None:
    """Write the results; what the day's file says of other campaigns stays."""
    now = datetime.now(UTC)
    path = ROOT / "benchmarks" / "results" / f"{now:%Y-%m-%d}-faults.json"
    before = json.loads(path.read_text(encoding="utf-8"))["campaigns"] if path.exists() else []
    campaigns = {report["campaign"]: report for report in (*before, *found)}
    content = {
        "date": now.isoformat(timespec="seconds"),
        "command": "python -m tests.faults --long [--soak 900]",
        "prdsim": prdsim.__version__,
        "seed": seed,
        "kinds": KINDS,
        "campaigns": list(campaigns.values()),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
