"""All campaigns: by name, with the number of cases of the long run."""

from __future__ import annotations

from collections.abc import Callable

from faults import crashes, errors, kills, outputs, temporaries, writers
from faults.report import Report

Campaign = Callable[[int, int], Report]

CAMPAIGNS: dict[str, tuple[Campaign, int]] = {
    "kills": (kills.campaign, 500),
    "crashes": (crashes.campaign, 3000),
    "errors": (errors.campaign, 400),
    "writers": (writers.campaign, 10 * len(writers.WAYS)),
    "outputs": (outputs.campaign, 10 * len(outputs.WAYS)),
    "temporaries": (temporaries.campaign, 60),
}
SHARE = 0.1  # of these, in the tests
