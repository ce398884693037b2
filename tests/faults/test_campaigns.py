"""A tenth of each campaign: nothing lost, nothing wrong, nothing that hangs."""

from __future__ import annotations

import pytest

from faults.campaigns import CAMPAIGNS, INPUTS
from faults.report import Broken, Report, table


@pytest.mark.parametrize("name", [name for name in CAMPAIGNS if name not in INPUTS])
def test_a_tenth_of_a_campaign(name, finds_nothing):
    finds_nothing(name)


def test_a_report_counts_what_is_broken():
    report = Report("example")
    for number in range(3):
        with report.case(f"case {number}"):
            if number:
                raise Broken("lost", "a row")
    assert (report.cases, report.broken["lost"]) == (3, 2)
    assert report.examples == ["[lost] case 1: a row", "[lost] case 2: a row"]
    assert table([report.to_dict()]).splitlines()[-1].startswith("| example | 3 | 2 | 0 | 0 |")
