"""Each condition of docs/environment.md is tried by the test that its row names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prdsim.errors import EXIT_CODES

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (\d+|-) \| \[(test_\w+)\]\((\S+)\) \|$", re.MULTILINE)


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_condition_has_its_test():
    text = (DOCS / "environment.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    assert len(rows) == len(re.findall(r"^\| ", text, re.MULTILINE)) - 1  # the head
    assert len({condition for condition, *_ in rows}) == len(rows) >= 30
    for condition, _, code, name, file in rows:
        assert code == "-" or int(code) in EXIT_CODES, condition
        assert name in functions_of(DOCS / file), condition
