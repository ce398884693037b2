"""A tenth of each campaign: nothing lost, nothing wrong, nothing that hangs."""

from __future__ import annotations

import pytest

from faults.campaigns import CAMPAIGNS
from faults.report import Broken, Report, table


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_tenth_of_a_campaign_finds_nothing(name, alone):
    campaign = CAMPAIGNS[name]
    report = alone(campaign.run, campaign.short, 0)
    assert report.examples == [], "\n".join(report.notes)
    assert report.broken.total() == 0
    assert report.cases == campaign.short
    assert all(report.took_effect.values()), report.took_effect
    assert report.took_effect.total() > 0


def test_a_report_counts_what_is_broken():
    report = Report("example")
    for number in range(3):
        with report.case(f"case {number}"):
            if number:
                raise Broken("lost", "a row")
    assert (report.cases, report.broken["lost"]) == (3, 2)
    assert report.examples == ["[lost] case 1: a row", "[lost] case 2: a row"]
    assert table([report.to_dict()]).splitlines()[-1].startswith("| example | 3 | 2 | 0 | 0 |")
