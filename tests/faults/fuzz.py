"""Mutated inputs of every format, each given to a command in a forked child."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from faults.formats import FORMATS, option_case, schedule_case, setting_case
from faults.oracle import Case, Fault, judge
from faults.sandbox import READ, Outcome, call, warm

SHARES: dict[str, int] = {
    "trajectory": 25, "spliced": 3, "restructured": 12, "forged": 20, "npz": 9, "hdf5": 9, "csv": 5, "idx": 2,
    "idx-labels": 1, "idx-gz": 3, "toml": 5, "report": 4, "setting": 4, "schedule": 2, "option": 3,
}  # fmt: skip
_OTHERS: dict[str, Callable[[Random, str], Case]] = {
    "setting": setting_case,
    "schedule": schedule_case,
    "option": option_case,
}


def random_case(seed: int, number: int, kinds: dict[str, int]) -> Case:
    """Return a case, which its seed and number decide."""
    rng = Random(f"{seed} {number}")
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    make = _OTHERS.get(kind) or FORMATS[kind].case
    return make(rng, f"{seed} {number}")


def tried(case: Case) -> tuple[Outcome, list[Fault]]:
    """Run a case; another answer counts as right if the check of the file says damage."""
    outcome = call(case.files, case.arguments)
    faults = judge(case, outcome)
    if any(fault.kind == "wrong" for fault in faults) and case.arguments[0] != READ:
        checked = call(case.files, (READ, "run.h5"))
        if checked.code != 0 or json.loads(checked.out)["check"]:
            faults = [fault for fault in faults if fault.kind != "wrong"]
    return outcome, faults


def main(count: int, seed: int, keep: Path | None, kinds: dict[str, int], first: int = 0) -> None:
    warm()
    begun, found, codes = time.monotonic(), Counter(), Counter()
    for number in range(first, first + count):
        case = random_case(seed, number, kinds)
        outcome, faults = tried(case)
        codes[case.name.partition(":")[0], outcome.code] += 1
        for fault in faults:
            found[fault.kind] += 1
            print(
                f"{case.name} | {' '.join(case.arguments)[:150]} | {fault.kind} | {fault.text}",
                flush=True,
            )
        if faults and keep is not None:
            place = keep / case.name.replace(": ", "-").replace(" ", "-")
            place.mkdir(parents=True, exist_ok=True)
            for name, content in case.files.items():
                (place / name).write_bytes(content)
            (place / "case.txt").write_text(
                "\n".join([json.dumps(case.arguments), *(f"{f.kind}: {f.text}" for f in faults)])
            )
    print(f"{count} cases in {time.monotonic() - begun:.1f} s; {dict(found)}", file=sys.stderr)
    for key in sorted(codes):
        print(*key, codes[key], file=sys.stderr)


if __name__ == "__main__":
    wanted = sys.argv[4:] or list(SHARES)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), {k: SHARES[k] for k in wanted})
