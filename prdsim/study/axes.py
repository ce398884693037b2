"""What varies in a study: axes of settings, each a list, crossed with each other.

Written as TOML or as ``--vary`` gives it: a list, ``1,2,4``; integers ``0:10`` (without the last,
``0:100:5`` in steps) or real numbers, evenly ``linear:0:1:5`` or geometrically ``log:0.1:10:5``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from prdsim.config import RunConfig
from prdsim.config.files import from_text
from prdsim.errors import ConfigError, did_you_mean
from prdsim.words import shown

MOST_MEMBERS = 100_000
"""Members of a study: every one is a file."""

_LARGEST = 2**63

Settings = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Settings that are tried in turn; several keys of one axis vary together."""

    points: tuple[Settings, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(self.points[0])


def crossed(axes: Sequence[Axis]) -> Iterator[Settings]:
    """Yield every combination of the axes' settings; the last axis varies fastest.

    Raises `ConfigError` for more than `MOST_MEMBERS`.
    """
    count = math.prod(len(axis.points) for axis in axes)
    if count > MOST_MEMBERS:
        raise ConfigError(f"the study has {count} members, more than {MOST_MEMBERS}")
    for points in product(*(axis.points for axis in axes)):
        yield {key: value for point in points for key, value in point.items()}


def axis(key: str, values: object) -> Axis:
    """Return the axis of one key; ``values`` is a list, or a text as ``--vary`` takes it.

    Raises `ConfigError` for an unknown key, no values, or values given twice.
    """
    _require_key(key)
    listed = _listed(key, values)
    if not listed:
        raise ConfigError(f"{key}: an axis needs at least one value")
    for number, value in enumerate(listed):
        if any(value == other and type(value) is type(other) for other in listed[:number]):
            raise ConfigError(f"{key}: the value {shown(value)} is given twice")
    return Axis(tuple({key: value} for value in listed))


def zipped(table: Mapping[str, object]) -> Axis:
    """Return the axis of several keys that vary together; raises `ConfigError` as `axis`."""
    columns = {}
    for key, values in table.items():
        _require_key(key)
        columns[key] = _listed(key, values)
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        sizes = ", ".join(f"{key} {len(column)}" for key, column in columns.items())
        raise ConfigError(f"keys that vary together need as many values each, not {sizes or 0}")
    rows = zip(*columns.values(), strict=True)
    return Axis(tuple(dict(zip(columns, row, strict=True)) for row in rows))


def from_option(text: str) -> Axis:
    """Return the axis that ``--vary KEY=VALUES`` gives; raises `ConfigError`."""
    key, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(f"--vary {shown(text)}: must be key=values, such as --vary seed=0:10")
    return axis(key.strip().replace("-", "_"), values.strip())


def _require_key(key: str) -> None:
    if key not in RunConfig.model_fields:
        hint = did_you_mean(key, RunConfig.model_fields) or "prdsim run --help lists all keys"
        raise ConfigError(f"{shown(key)}: no such configuration key; {hint}")
    if key in ("output", "force", "lock"):
        raise ConfigError(f"{key}: the study decides where its members are; remove it")


def _listed(key: str, values: object) -> list[Any]:
    if isinstance(values, list):
        return values
    if not isinstance(values, str):
        raise ConfigError(f"{key}: must be a list or a range such as 0:10, got {shown(values)}")
    if values.startswith("["):
        return _of_list(key, values)
    numbers = _of_range(key, values)
    if numbers is not None:
        return numbers
    return [from_text(key, word) for word in values.split(",")] if values else []


def _of_list(key: str, text: str) -> list[Any]:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{key}: {shown(text)} is not a list: {shown(error)}") from None
    if set(parsed) != {"value"} or not isinstance(parsed["value"], list):
        raise ConfigError(f"{key}: {shown(text)} is not a list")
    return parsed["value"]


def _of_range(key: str, text: str) -> list[Any] | None:
    """Return the numbers of a range, None if the text is no range."""
    kind, _, rest = text.partition(":")
    if kind in ("linear", "log"):
        return _of_spacing(key, text, kind, rest)
    try:
        bounds = [int(word) for word in text.split(":")]
    except ValueError:
        return None
    if len(bounds) not in (2, 3):
        return None
    if len(bounds) == 3 and bounds[2] < 1:
        raise ConfigError(f"{key}: {shown(text)}: the step of a range is at least 1")
    if any(abs(bound) > _LARGEST for bound in bounds):
        raise ConfigError(f"{key}: {shown(text)}: no key takes numbers so large")
    numbers = range(*bounds)
    if len(numbers) > MOST_MEMBERS:
        raise ConfigError(f"{key}: {shown(text)} has more than {MOST_MEMBERS} values")
    return list(numbers)


def _of_spacing(key: str, text: str, kind: str, rest: str) -> list[Any]:
    numbers = _spaced(key, text, kind, rest)
    annotation = str(RunConfig.model_fields[key].annotation)
    if "int" in annotation and "float" not in annotation:
        return sorted({round(number) for number in numbers})
    return numbers


def _spaced(key: str, text: str, kind: str, rest: str) -> list[float]:
    problem = f"{key}: {shown(text)}: must be {kind}:FIRST:LAST:COUNT"
    try:
        first_text, last_text, count_text = rest.split(":")
        first, last, count = float(first_text), float(last_text), int(count_text)
    except ValueError:
        raise ConfigError(f"{problem}, such as {kind}:0.1:10:5") from None
    if not 2 <= count <= MOST_MEMBERS or not math.isfinite(first - last):
        raise ConfigError(f"{problem}, with finite ends and a count from 2 to {MOST_MEMBERS}")
    shares = [number / (count - 1) for number in range(count)]
    if kind == "linear":
        return [first + share * (last - first) for share in shares[:-1]] + [last]
    if first <= 0 or last <= 0:
        raise ConfigError(f"{problem}, with positive ends")
    inner = [first * (last / first) ** share for share in shares[1:-1]]
    return [first, *inner, last]
