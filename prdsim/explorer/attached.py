"""Tables that commands wrote as JSON: theorems, growth rates, the Turing test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prdsim.errors import DataError
from prdsim.files.foreign import ForeignFileError, open_regular_file
from prdsim.files.json_text import read_json
from prdsim.words import shown

_LARGEST = 20_000_000  # bytes
_MOST_ROWS = 1000


@dataclass(frozen=True)
class Attached:
    """A table of a file: its name, what it says in words, and its columns."""

    file: str
    name: str
    about: str
    notes: Sequence[str]
    columns: Mapping[str, Sequence[Any]]


def read_attached(path: Path) -> list[Attached]:
    """Return the tables of a file that `prdsim analyze`, `compare` or `turing` wrote as JSON.

    Raises `DataError` for what is none.
    """
    try:
        with open_regular_file(path) as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 1_000_000} MB")
        content = read_json(text)
        tables = _tables(path, content if isinstance(content, dict) else {})
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from None
    except (ValueError, ForeignFileError) as error:
        raise DataError(f"{shown(path)} cannot be read: {shown(error, 200)}") from None
    if not tables:
        raise DataError(
            f"{shown(path)} holds no table; give files that prdsim analyze, compare or turing "
            "wrote with --json"
        )
    return tables


def _finite(value: Any) -> Any:
    """Return a value, None for a number that overflows."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _about(content: Mapping[str, Any]) -> str:
    """Return what a file says of its run, and of how far its numbers can be trusted."""
    words = [str(content[key]) for key in ("run", "label", "status") if key in content]
    accuracy = content.get("discretization")
    if isinstance(accuracy, dict) and "state" in accuracy:
        words.append(f"discretization: {accuracy['state']}")
    return "; ".join(words)


def _tables(path: Path, content: Mapping[str, Any]) -> list[Attached]:
    about = _about(content)
    found = []
    for name, rows in content.items():
        if name.endswith("_notes") or not isinstance(rows, list) or not rows:
            continue
        keys = rows[0].keys() if isinstance(rows[0], dict) else ()
        if not keys or not all(isinstance(row, dict) and row.keys() == keys for row in rows):
            continue
        if len(rows) > _MOST_ROWS:
            raise ValueError(f"its table {name} has more than {_MOST_ROWS} rows")
        columns = {key: [_finite(row[key]) for row in rows] for key in keys}
        notes = content.get(f"{name}_notes", [])
        words = [str(note) for note in notes] if isinstance(notes, list) else []
        found.append(Attached(path.name, name, about, words, columns))
    return found
