"""The kept corpus of inputs that once broke a promise, or might."""

from __future__ import annotations

from faults.corpus import FOLDER
from faults.test_mutated_inputs import PROMISES, campaign

LARGEST = 300_000


def test_no_promise_is_broken():
    report = campaign("corpus", 10_000)
    assert report["cases"] > 400
    assert not any(report[kind] for kind in PROMISES), "\n".join(report["examples"])


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < LARGEST
