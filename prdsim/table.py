"""Tables of numbers: as text to read, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prdsim.words import shown

_SHOWN_ROWS = 7  # of a long table, as text


@dataclass(frozen=True, repr=False)
class Table:
    """Columns of equal length by name; ``heads`` are their titles in words.

    ``wide`` tables have a row per snapshot and many columns: as text they are transposed, show a
    few of their rows, and have ``margin``, a text by column, at the end of the column's line.
    ``notes`` are findings in words, included in text and JSON.
    """

    title: str
    columns: Mapping[str, Any]  # sequences, NumPy's or Python's
    heads: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False
    notes: tuple[str, ...] = ()
    margin: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        count = len(next(iter(self.columns.values()), ()))
        return f"<Table {shown(self.title, 200)}: {count} rows of {len(self.columns)} columns>"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping per row, of plain Python values; None for a number that is not finite."""
        rows = zip(*self.columns.values(), strict=True)
        return [dict(zip(self.columns, map(_plain, row), strict=True)) for row in rows]

    def to_csv(self) -> str:
        """Return CSV text with a header; numbers keep every digit, missing ones are empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_text(self) -> str:
        """Return readable text with five significant digits."""
        notes = [f"  {note}" for note in self.notes]
        body = self._turned() if self.wide else self._upright()
        return "\n".join([self.title, *notes, *body])

    def _turned(self) -> list[str]:
        count = len(next(iter(self.columns.values())))
        last = max(count - 1, 0)
        shown = sorted({round(i * last / (_SHOWN_ROWS - 1)) for i in range(_SHOWN_ROWS)})
        rows = [
            [self.heads.get(name, name), *(_cell(column[i]) for i in shown if i < count)]
            for name, column in self.columns.items()
        ]
        if self.margin:
            for row, name in zip(rows, self.columns, strict=True):
                row.append(self.margin.get(name, ""))
        return _aligned(rows)

    def _upright(self) -> list[str]:
        heads = [self.heads.get(name, name) for name in self.columns]
        body = [[_cell(value) for value in row.values()] for row in self.rows]
        return _aligned([heads, *body])


def to_json(about: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
    """Return JSON text: facts about the run, and each table as a list of rows."""
    content = dict(about)
    for name, table in tables.items():
        content[name] = table.rows
        if table.notes:
            content[f"{name}_notes"] = list(table.notes)
    return json.dumps(content, indent=2)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Align the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (
            "  "
            + row[0].ljust(widths[0])
            + "".join(f"  {cell.rjust(w)}" for cell, w in zip(row[1:], widths[1:], strict=True))
        ).rstrip()
        for row in rows
    ]
