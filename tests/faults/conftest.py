"""A process without other threads, from which children can be forked, and the tests' campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from faults import ENVIRONMENT
from faults.campaigns import CAMPAIGNS


@pytest.fixture(scope="module")
def alone() -> Iterator[Callable[..., Any]]:
    """Call a function in a process of its own, the same for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ENVIRONMENT.items():
            patch.setenv(variable, value)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture
def finds_nothing(alone: Callable[..., Any]) -> Callable[[str, int], None]:
    """Run so many cases of a campaign; every one took effect, and nothing is broken."""

    def require(name: str, count: int) -> None:
        report = alone(CAMPAIGNS[name].run, count, 0)
        assert report.examples == [], "\n".join(report.notes)
        assert report.broken.total() == 0
        assert report.cases == count
        assert report.took_effect.total() > 0
        assert all(report.took_effect.values()), report.took_effect

    return require
