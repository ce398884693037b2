"""A part of each campaign of mutated inputs; a file of its own, for the second core."""

from __future__ import annotations

import pytest

from faults.campaigns import CAMPAIGNS, INPUTS
from faults.corpus import FOLDER

LARGEST = 300_000


@pytest.mark.parametrize("name", INPUTS)
def test_a_part_of_a_campaign(name, finds_nothing):
    finds_nothing(name, CAMPAIGNS[name].short)


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < LARGEST
