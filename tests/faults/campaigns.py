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


def _part(run: Callable[[int, int], Report], long: int, short: int = 10) -> Campaign:
    """A campaign of which the tests do one case in so many."""
    return Campaign(run, long, long // short)


CAMPAIGNS = {
    "kills": _part(kills.campaign, 500, 40),
    "crashes": _part(crashes.campaign, 3000, 40),
    "errors": _part(errors.campaign, 300, 15),
    "writers": _part(writers.campaign, 10 * len(writers.WAYS)),
    "outputs": _part(outputs.campaign, 10 * len(outputs.WAYS)),
    "temporaries": _part(temporaries.campaign, 60),
    # The kept inputs, one of each kind that was ever found, are tried every time.
    "mutations": _part(fuzz.mutations, 6600, 66),
    "forged": _part(fuzz.forgeries, 1000, 40),
    "flips": _part(flips.campaign, 2000, 40),
    "corpus": Campaign(fuzz.kept, corpus.count(), corpus.count()),
}
INPUTS = ("mutations", "forged", "flips", "corpus")  # 10,000 in the long run
