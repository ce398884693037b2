"""Tables of undisturbed studies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_study import LARGE, SMALL, study

from prdsim.study.table import study_table
from prdsim.study.worker import work


def undisturbed(folder: Path, vary: tuple[str, ...]) -> bytes:
    """Run all members in this process, one after the other; return the table."""
    made = study(folder, *vary)
    work(made, made.plan.members)
    return study_table(made).to_csv().encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The table of the small study."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "s", SMALL)


@pytest.fixture(scope="module")
def whole_of_large(tmp_path_factory) -> bytes:
    """The table of the study of 2 x 4 x 5 members."""
    return undisturbed(tmp_path_factory.mktemp("large") / "s", LARGE)
