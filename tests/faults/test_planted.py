"""The campaigns find what they are for: a bug of each kind, put into the product."""

from __future__ import annotations

import pytest

from faults.planted import BUGS, report_with


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug, alone):
    report = alone(report_with, bug, 0)
    assert report.broken.total() > 0
