"""A part of each campaign finds nothing lost or wrong; with a bug of any kind, it finds that.

A part: of most a fortieth or more, and a tenth with the marker `slow`; all:
`python -m tests.faults --long`.
"""

from __future__ import annotations

import pytest

from faults.campaigns import CAMPAIGNS, INPUTS
from faults.planted import BUGS, is_found
from faults.report import Broken, Report, table
from faults.soak import soak


@pytest.mark.parametrize("name", [name for name in CAMPAIGNS if name not in INPUTS])
def test_a_part_of_a_campaign(name, finds_nothing):
    finds_nothing(name, CAMPAIGNS[name].short)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kills", "crashes", "mutations", "forged"])
def test_a_tenth_of_a_campaign(name, finds_nothing):
    finds_nothing(name, CAMPAIGNS[name].long // 10)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug, alone):
    assert alone(is_found, bug, 0)


def test_a_short_soak():
    report = soak(2.4, interval=0.08)
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
    assert table([report.to_dict()]).splitlines()[-1].startswith("| example | 3 | 2 | 0 | 0 |")
