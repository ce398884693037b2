"""The notebooks of docs/ run, and show what they were kept with."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
TOUR = ROOT / "docs" / "tour.ipynb"


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return a function that executes a notebook, once."""
    from nbclient import NotebookClient

    done: dict[Path, NotebookNode] = {}

    def execute(path: Path) -> NotebookNode:
        if path in done:
            return done[path]
        notebook = deepcopy(read(path))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(ROOT))  # the kernel starts in another folder
            for name in ("IPYTHONDIR", "MPLCONFIGDIR"):
                patch.setenv(name, str(tmp_path_factory.mktemp(name)))
            folder = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
            NotebookClient(notebook, timeout=120, resources=folder).execute()
        return done.setdefault(path, notebook)

    return execute


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
            text = re.sub(r"[\d.]+(dev\d+)?", "#", re.sub(r"\b(?=\w*\d)[0-9a-f]{12}\b", "#", text))
            found.append(re.sub(r" +", " ", text))  # columns are as wide as their numbers
    return sorted(set(map(str, found)))  # a stream may come in parts


def cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_was_kept_with(path, executed):
    kept, now = cells(read(path)), cells(executed(path))
    assert len(kept) > 5
    for before, after in zip(kept, now, strict=True):
        assert shown(before) == shown(after), before.source


def test_the_tour_has_a_bar_a_stop_and_figures(executed):
    texts = " ".join(
        output.get("text", "") + str(output.get("data", {}))
        for cell in cells(executed(TOUR))
        for output in cell.outputs
    )
    assert re.search(r"100%\|.*\| 8/8 .*L_sup=", texts), "a bar, though it is no terminal"
    assert "<Result: interrupted at t = " in texts
    assert texts.count("image/png") == 3
    assert texts.count("not assessed") >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_kept_notebook_is_small_and_tells_of_its_accuracy(path):
    kept = read(path)
    assert path.stat().st_size < 200_000
    texts = " ".join(cell.source for cell in kept.cells if cell.cell_type == "markdown")
    assert re.search(r"not assessed|discretization error|\*\*assessed\*\*", texts)
    assert all(cell.execution_count for cell in cells(kept))
