"""The long run of the fault suite: ``python -m tests.faults --long``.

Runs every campaign at full size, or those named, prints a table, and with ``--long`` writes it to
benchmarks/results/<date>-faults.json. Without ``--long``: a tenth of each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # children are forked: there must be no other threads
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import prdsim  # noqa: E402
from faults.campaigns import CAMPAIGNS, SHARE  # noqa: E402
from faults.report import KINDS, Report, table  # noqa: E402
from faults.soak import soak  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--long", action="store_true", help="full size; write the results")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="watch one long run instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    reports: list[Report] = []
    if options.soak:
        reports.append(soak(options.soak))
    else:
        for name in options.names or CAMPAIGNS:
            campaign, count = CAMPAIGNS[name]
            count = count if options.long else max(1, round(SHARE * count))
            reports.append(campaign(count, options.seed))
            print(json.dumps(reports[-1].to_dict(), indent=1), flush=True)
    found = [report.to_dict() for report in reports]
    print(table(found))
    if options.long:
        _write(found, options.seed)
    sys.exit(any(report.broken.total() for report in reports))


def _write(found: list[dict[str, object]], seed: int) -> None:
    now = datetime.now(UTC)
    content = {
        "date": now.isoformat(timespec="seconds"),
        "command": "python -m tests.faults --long",
        "prdsim": prdsim.__version__,
        "seed": seed,
        "kinds": KINDS,
        "campaigns": found,
    }
    path = ROOT / "benchmarks" / "results" / f"{now:%Y-%m-%d}-faults.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
