"""Tables of undisturbed studies."""

from __future__ import annotations

import pytest
from support_study import LARGE, LONG, SMALL, Witness, undisturbed

from prdsim.study import StudyFolder


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> bytes:
    """The table of the small study."""
    made = undisturbed(tmp_path_factory.mktemp("whole") / "s", SMALL)
    return (made.path / "table.csv").read_bytes()


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> StudyFolder:
    """The study of 2 x 4 x 5 members that take long enough to be killed at work."""
    return undisturbed(tmp_path_factory.mktemp("large") / "s", LARGE, LONG)


@pytest.fixture
def witness(tmp_path, monkeypatch) -> Witness:
    return Witness(tmp_path / "witness", monkeypatch)
