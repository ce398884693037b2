"""Tables of undisturbed studies."""

from __future__ import annotations

import pytest
from support_study import LARGE, SMALL, complete


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The table of the small study."""
    return complete(tmp_path_factory.mktemp("whole") / "s", "--workers", 2, vary=SMALL)


@pytest.fixture(scope="module")
def whole_of_large(tmp_path_factory) -> bytes:
    """The table of the study of 2 x 4 x 5 members."""
    return complete(tmp_path_factory.mktemp("large") / "s", "--workers", 2, vary=LARGE)
