"""All campaigns: by name, with the number of cases of the long run and of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faults import corpus, crashes, errors, flips, fuzz, kills, outputs, temporaries, writers
from faults.report import Report


class Campaign(NamedTuple):
    """A function (count, seed) -> Report, and its counts."""

    run: Callable[[int, int], Report]
    long: int
    short: int


def _tenth(run: Callable[[int, int], Report], long: int) -> Campaign:
    return Campaign(run, long, long // 10)


CAMPAIGNS = {
    "kills": _tenth(kills.campaign, 500),
    "crashes": _tenth(crashes.campaign, 3000),
    "errors": _tenth(errors.campaign, 300),
    "writers": _tenth(writers.campaign, 10 * len(writers.WAYS)),
    "outputs": _tenth(outputs.campaign, 10 * len(outputs.WAYS)),
    "temporaries": _tenth(temporaries.campaign, 60),
    # Of the mutated inputs a tenth together: the kept ones are tried every time.
    "mutations": Campaign(fuzz.mutations, 6600, 350),
    "forged": Campaign(fuzz.forgeries, 1000, 100),
    "flips": Campaign(flips.campaign, 2000, 100),
    "corpus": Campaign(fuzz.kept, corpus.count(), corpus.count()),
}
INPUTS = ("mutations", "forged", "flips", "corpus")  # 10,000 in the long run
