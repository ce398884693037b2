"""Mutated inputs of every format, each given to a command."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

from faults import corpus
from faults.child import warm
from faults.forged import sealed
from faults.formats import (
    FORMATS,
    make_examples,
    option_case,
    schedule_case,
    setting_case,
    trajectories,
)
from faults.oracle import Case, judge
from faults.report import Broken, Report
from faults.sandbox import READ, Outcome, call_on, in_turn, tried

_MUTATED = {
    "trajectory": 25, "spliced": 3, "restructured": 10, "npz": 9, "hdf5": 9, "csv": 6, "idx": 3,
    "idx-labels": 2, "idx-gz": 4, "toml": 7, "report": 5, "setting": 6, "schedule": 4, "option": 4,
}  # fmt: skip
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


def _try_all(name: str, cases: Iterable[Callable[[], Case]]) -> Report:
    report = Report(name)
    with report.timed():
        warm()
        make_examples()  # once, not in every child
        for case, outcome in in_turn(partial(_tried, make) for make in cases):
            report.took_effect[case.name.partition(":")[0].partition("/")[0]] += 1
            with report.case(f"{case.name}: {' '.join(case.arguments)[:99]!r}"):
                try:
                    if isinstance(outcome, Broken):
                        raise outcome
                    judge(case, outcome)
                except Broken as broken:
                    report.notes.append(f"input kept: {_keep(case, broken)}")
                    raise
    return report


def _tried(make: Callable[[], Case]) -> tuple[Case, Outcome | Broken]:
    case = make()
    return case, tried(case.files, case.arguments)


def _keep(case: Case, broken: Broken) -> Path:
    """Write the input that broke a promise to a folder, with the command line."""
    place = Path(tempfile.mkdtemp(prefix="prdsim-broken-"))
    for name, content in case.files.items():
        (place / name).write_bytes(content)
    words = [case.name, json.dumps(case.arguments), broken.kind, broken.text]
    (place / "case.txt").write_text("\n".join(words), errors="backslashreplace")
    return place


def mutations(count: int, seed: int) -> Report:
    """Random mutations of every format."""
    cases = (partial(random_case, seed, number, _MUTATED) for number in range(count))
    return _try_all("mutated inputs", cases)


def forgeries(count: int, seed: int) -> Report:
    """Trajectories changed at random, with every checksum made right again."""
    for files in trajectories():  # what nobody changed is as good as before
        content = sealed(files["run.h5"])
        for arguments in ((READ, "run.h5"), ("resume", "run.h5", "--steps", "8")):
            ended = call_on({"run.h5": content}, arguments).ended
            assert ended.code in (0, 2), ended  # 2: a run by time
    cases = (partial(random_case, seed, number, {"forged": 1}) for number in range(count))
    return _try_all("forged trajectories", cases)


def kept(count: int, seed: int) -> Report:  # noqa: ARG001
    """Replay the kept corpus, or so many cases of it."""
    cases = islice(corpus.cases(), count)
    return _try_all("kept corpus", (partial(_same, case) for case in cases))


def _same(case: Case) -> Case:
    return case
