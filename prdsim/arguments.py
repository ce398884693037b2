"""Checks of what callers in Python give, in the words of the configuration's errors."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any

from prdsim.errors import ConfigError, did_you_mean
from prdsim.words import shown, shown_value


def wrong(name: str, requirement: str, value: object) -> ConfigError:
    """Return the error for a value that is not what is required, such as "an integer"."""
    shape = getattr(value, "shape", ())
    got = f"an array of shape {shape}" if shape else shown_value(value)
    return ConfigError(f"{name}: must be {requirement}, got {got}")


def integer(name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """Return an integer of Python's or NumPy's within bounds; raises `ConfigError`."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is None:
        raise wrong(name, "an integer", value)
    if least is not None and found < least:
        raise wrong(name, f"at least {least}", found)
    if most is not None and found > most:
        raise wrong(name, f"at most {most}", found)
    return found


def number(name: str, value: object) -> float:
    """Return a finite real number of Python's or NumPy's; raises `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong(name, "a number", value)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise wrong(name, "a finite number", value)
    return found


def each(name: str, values: object, what: str, *, least: int = 1) -> list[Any]:
    """Return the members of a sequence or array, at least so many; raises `ConfigError`."""
    try:
        found: list[Any] | None = None if isinstance(values, str | bytes) else [*values]  # type: ignore[misc]
    except TypeError:
        found = None
    if found is None or len(found) < least:
        raise wrong(name, f"a sequence of {what}" + ", not empty" * bool(least), values)
    return found


def instance(name: str, value: object, kind: type | UnionType, what: str) -> None:
    """Raise `ConfigError` for what is not of a type, ``what`` in words."""
    if not isinstance(value, kind):
        raise wrong(name, what, value)


def function(name: str, value: object, what: str) -> None:
    """Raise `ConfigError` for what is not a function, ``what`` in words."""
    if not callable(value):
        raise wrong(name, f"a function {what}", value)


def flag(name: str, value: object) -> bool:
    """Return True or False; raises `ConfigError` for anything else."""
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)
    return value


def choice(name: str, value: object, known: Sequence[str]) -> str:
    """Return one of some words; raises `ConfigError` for anything else."""
    if not isinstance(value, str) or value not in known:
        raise wrong(name, f"one of {', '.join(known)}", value)
    return value


def file_path(name: str, value: object) -> Path:
    """Return the path of a file; raises `ConfigError` for what cannot be one."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise wrong(name, "the path of a file", value)
    return Path(text)


def known_name(name: object, known: Iterable[str], kind: str) -> str:
    """Return a name if it is a known one; raises `ConfigError`, with the nearest one."""
    names = list(known)
    if not isinstance(name, str) or name not in names:
        hint = did_you_mean(str(name), names) or f"choose from {', '.join(names)}"
        raise ConfigError(f"{shown(name)}: no such {kind}; {hint}")
    return name
