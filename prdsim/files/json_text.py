"""JSON that others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

_DEEPEST = 50  # levels; more of them exhaust the stack of whoever walks them


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; raises `ValueError`, with the reason, for all others.

    NaN and infinities are no JSON, and more than fifty levels are not read.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _require_shallow(value)
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
