"""Checks of what callers in Python give, in the words of the configuration's errors."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path

from prdsim.errors import ConfigError, did_you_mean
from prdsim.words import shown, shown_value


def wrong(name: str, requirement: str, value: object) -> ConfigError:
    """Return the error for a value that is not what is required, such as "an integer"."""
    return ConfigError(f"{name}: must be {requirement}, got {shown_value(value)}")


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


def each(name: str, values: object, what: str) -> list[object]:
    """Return the members of a sequence or array that is not empty; raises `ConfigError`."""
    try:
        found = [] if isinstance(values, str | bytes) else list(values)  # type: ignore[call-overload]
    except TypeError:
        found = []
    if not found:
        raise wrong(name, f"a sequence of {what}, not empty", values)
    return found


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


def known_keywords(given: Iterable[str], known: Iterable[str], kind: str) -> None:
    """Raise `ConfigError`, with the nearest name, for a keyword that is not known."""
    names = list(known)
    for name in given:
        if name not in names:
            hint = did_you_mean(str(name), names) or f"choose from {', '.join(names)}"
            raise ConfigError(f"{shown(name)}: no such {kind}; {hint}")
