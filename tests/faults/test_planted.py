"""The campaigns find what they are for: a bug of each kind, put into the product."""

from __future__ import annotations

import pytest

from faults.planted import BUGS, is_found
from faults.soak import soak


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug, alone):
    assert alone(is_found, bug, 0)


def test_a_short_soak():
    report = soak(6, interval=0.2)
    assert report.examples == []
    assert report.took_effect["steps"] > 1000
    assert len(report.notes) == 3
