"""Tables of undisturbed studies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_study import LARGE, LONG, SMALL, Witness, study

from prdsim.study import StudyFolder
from prdsim.study.table import study_table
from prdsim.study.worker import work


def undisturbed(folder: Path, vary: tuple[str, ...], settings: tuple[str, ...] = ()) -> StudyFolder:
    """Run all members in this process, one after the other."""
    made = study(folder, *vary, settings=settings)
    work(made, made.plan.members)
    (folder / "table.csv").write_bytes(study_table(made).to_csv().encode())
    return made


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
