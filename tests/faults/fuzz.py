"""Mutated inputs of every format, each given to a command in a forked child.

``python -m faults.fuzz CAMPAIGN COUNT SEED [FOLDER]`` prints the report as JSON, and keeps the inputs
that broke a promise in a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from random import Random

from faults import corpus
from faults.flips import campaign_flips
from faults.formats import FORMATS, option_case, schedule_case, setting_case, trajectories
from faults.oracle import Case, Fault, judge
from faults.report import Report
from faults.sandbox import READ, call, warm

_MUTATED = {
    "trajectory": 25, "spliced": 3, "restructured": 10, "npz": 9, "hdf5": 9, "csv": 6, "idx": 3, "idx-labels": 2,
    "idx-gz": 4, "toml": 7, "report": 5, "setting": 6, "schedule": 4, "option": 4,
}  # fmt: skip
_FORGED = {"forged": 1}
_OTHERS: dict[str, Callable[[Random, str], Case]] = {
    "setting": setting_case,
    "schedule": schedule_case,
    "option": option_case,
}


def random_case(seed: int, number: int, shares: dict[str, int]) -> Case:
    """Return a case, which its seed and number decide."""
    rng = Random(f"{seed} {number}")
    kind = rng.choices(list(shares), list(shares.values()))[0]
    make = _OTHERS.get(kind) or FORMATS[kind].case
    return make(rng, f"{seed} {number}")


def faults_of(case: Case) -> list[Fault]:
    """Run a case; another answer counts as right if the check of the file says that it is damaged."""
    faults = judge(case, call(case.files, case.arguments))
    if any(fault.kind == "wrong" for fault in faults) and case.arguments[0] != READ:
        checked = call(case.files, (READ, "run.h5"))
        if checked.code != 0 or json.loads(checked.out)["check"]:
            faults = [fault for fault in faults if fault.kind != "wrong"]
    return faults


def _campaign(name: str, cases: Callable[[], Iterable[Case]], keep: Path | None) -> Report:
    report = Report(name)
    with report.timed():
        prepare()
        for case in cases():
            report.cases += 1
            report.took_effect[case.name.partition(":")[0]] += 1
            faults = faults_of(case)
            for fault in faults:
                report.add(
                    fault.kind, f"{case.name}: {' '.join(case.arguments)[:99]}: {fault.text}"
                )
            if faults and keep is not None:
                _keep(case, faults, keep)
    return report


def prepare() -> None:
    """Import everything, and let the first use of a command compile what is kept on disk."""
    warm()
    call(trajectories()[0], ("analyze", "run.h5", "neurons"), limited=False)


def _keep(case: Case, faults: list[Fault], folder: Path) -> None:
    place = folder / case.name.replace(": ", "-").replace(" ", "-").replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    for name, content in case.files.items():
        (place / name).write_bytes(content)
    words = [f"{fault.kind}: {fault.text}" for fault in faults]
    text = "\n".join([json.dumps(case.arguments), *words])
    (place / "case.txt").write_text(text, errors="backslashreplace")


def campaign_mutations(count: int, seed: int, keep: Path | None = None) -> Report:
    """Random mutations of every format."""
    cases = (random_case(seed, number, _MUTATED) for number in range(count))
    return _campaign("mutated inputs", lambda: cases, keep)


def campaign_forged(count: int, seed: int, keep: Path | None = None) -> Report:
    """Trajectories changed at random, with every checksum made right again."""
    cases = (random_case(seed, number, _FORGED) for number in range(count))
    return _campaign("forged trajectories", lambda: cases, keep)


def campaign_corpus(count: int, seed: int, keep: Path | None = None) -> Report:  # noqa: ARG001
    """Replay the kept corpus, or so many cases of it."""
    return _campaign("kept corpus", lambda: islice(corpus.cases(), count), keep)


CAMPAIGNS: dict[str, Callable[..., Report]] = {
    "mutations": campaign_mutations,
    "forged": campaign_forged,
    "corpus": campaign_corpus,
    "flips": campaign_flips,
}

if __name__ == "__main__":
    done = CAMPAIGNS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), *map(Path, sys.argv[4:]))
    print(json.dumps(done.to_dict(), indent=1))
