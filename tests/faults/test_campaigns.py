"""A tenth of each campaign: nothing lost, nothing wrong, nothing that hangs."""

from __future__ import annotations

import pytest

from faults.campaigns import CAMPAIGNS, SHARE
from faults.report import Broken, Report, table
from faults.soak import soak


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_tenth_of_a_campaign_finds_nothing(name, alone):
    campaign, count = CAMPAIGNS[name]
    report = alone(campaign, round(SHARE * count), 0)
    assert report.examples == []
    assert report.broken.total() == 0
    assert report.cases >= round(SHARE * count)
    assert all(report.took_effect.values()), report.took_effect
    assert report.took_effect.total() > 0


def test_a_short_soak():
    report = soak(6, interval=0.2)
    assert report.examples == []
    assert report.took_effect["steps"] > 1000
    assert len(report.notes) == 3


def test_a_report_counts_what_is_broken():
    report = Report("example")
    for number in range(3):
        with report.case(f"case {number}"):
            if number:
                raise Broken("lost", "a row")
    assert (report.cases, report.broken["lost"]) == (3, 2)
    assert report.examples == ["[lost] case 1: a row", "[lost] case 2: a row"]
    assert (
        table([report.to_dict()]).splitlines()[-1] == "| example | 3 | 2 | 0 | 0 | 0 | 0 | 0 | 0 |"
    )
