"""The notebook docs/tour.ipynb runs, and shows what it was kept with."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"


@pytest.fixture(scope="module")
def kept() -> NotebookNode:
    return nbformat.read(TOUR, as_version=4)


@pytest.fixture(scope="module")
def executed(kept, tmp_path_factory) -> NotebookNode:
    from nbclient import NotebookClient

    notebook = deepcopy(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # the kernel starts in another folder
        for name in ("IPYTHONDIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        folder = {"metadata": {"path": str(tmp_path_factory.mktemp("tour"))}}
        NotebookClient(notebook, timeout=120, resources=folder).execute()
    return notebook


def shown(cell: NotebookNode) -> list[Any]:
    """What a cell shows: results without their numbers, and the kinds of everything else."""
    found: list[Any] = []
    for output in cell.outputs:
        text = output.get("data", {}).get("text/plain", "")
        if output.output_type == "stream":
            found.append((output.name,))
        elif re.match(r"<\w*Figure size", text):
            found.append(sorted(output.data))
        else:
            found.append(re.sub(r"[\d.]+(dev\d+)?", "#", text))
    return sorted(set(map(str, found)))  # a stream may come in parts


def cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_tour_runs_and_shows_what_it_was_kept_with(kept, executed):
    assert len(cells(kept)) > 8
    for before, now in zip(cells(kept), cells(executed), strict=True):
        assert shown(before) == shown(now), before.source


def test_the_tour_has_a_bar_a_stop_and_figures(executed):
    texts = " ".join(
        output.get("text", "") + str(output.get("data", {}))
        for cell in cells(executed)
        for output in cell.outputs
    )
    assert re.search(r"100%\|.*\| 8/8 .*L_sup=", texts), "a bar, though it is no terminal"
    assert "<Result: interrupted at t = " in texts
    assert texts.count("image/png") == 3
    assert texts.count("not assessed") >= 4


def test_the_kept_tour_is_small_and_says_that_its_numbers_are_not_assessed(kept):
    assert TOUR.stat().st_size < 200_000
    assert "not assessed" in kept.cells[0].source
    assert all(cell.execution_count for cell in cells(kept))
