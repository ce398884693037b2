"""The plan of a study: a base configuration, axes, and the members that follow from them.

A member's name follows from the settings that decide its trajectory, so it is the same in every
study, folder and order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prdsim.config import RunConfig, without_folder
from prdsim.config.files import from_text, parted, read_toml
from prdsim.errors import ConfigError
from prdsim.study.axes import MOST_MEMBERS, Axis, Settings, axis, crossed, from_option, zipped
from prdsim.words import shown

_PLACES = ("output", "force", "lock", "data_dir", "store_data", "restart_seconds", "preset")
"""Keys that do not decide which numbers a member records."""


@dataclass(frozen=True)
class Member:
    """One run of a study: its name, the settings that distinguish it, and the configuration."""

    name: str
    settings: Settings
    config: RunConfig


@dataclass(frozen=True)
class Plan:
    """The members of a study, in order: the axes crossed, or an explicit list.

    ``base`` holds the keys that all members share, ``points`` the settings of each.
    """

    base: Settings
    points: tuple[Settings, ...]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that vary, in the order in which they are given."""
        return tuple(dict.fromkeys(key for point in self.points for key in point))

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All members; raises `ConfigError` if one cannot be, or two are the same run."""
        members: dict[str, Member] = {}
        for point in self.points:
            try:
                config = RunConfig(**{**self.base, **point})
            except ConfigError as error:
                raise ConfigError(f"{error}\n(of the member with {in_words(point)})") from None
            name = name_of(config)
            if name in members:
                both = f"{in_words(members[name].settings)} and {in_words(point)}"
                raise ConfigError(f"two members are the same run: {both}")
            members[name] = Member(name, point, config)
        return tuple(members.values())

    def member(self, name: str) -> Member:
        """Return a member by name; raises `ConfigError` if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise ConfigError(f"{shown(name)}: the study has no such member")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {"base": self.base, "members": list(self.points)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` gave; raises `ValueError` for anything else."""
        base, points = values.get("base"), values.get("members")
        if not isinstance(base, dict) or not isinstance(points, list) or not points:
            raise ValueError("it does not hold a base and members")
        if not all(isinstance(point, dict) for point in points):
            raise ValueError("a member is not a table of settings")
        return cls(base, tuple(points))


def in_words(point: Settings) -> str:
    """Return settings as text: width=64, seed=0."""
    return ", ".join(f"{key}={shown(value)}" for key, value in point.items()) or "the base settings"


def name_of(config: RunConfig) -> str:
    """Return the name of the member with a configuration: twelve hexadecimal digits."""
    chosen = config.model_dump(exclude_defaults=True)  # keys of later versions change no name
    values = {key: without_folder(key, x) for key, x in chosen.items() if key not in _PLACES}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def load_plan(
    path: Path | None,
    *,
    vary: Iterable[str] = (),
    settings: Iterable[str] = (),
) -> Plan:
    """Return the plan of a study from a TOML file, ``--vary`` and ``--set``.

    The file holds configuration keys, then ``[vary]`` with an axis a key, any number of
    ``[[together]]`` with keys that vary together, or ``[[member]]``, a list of settings in place of
    axes. Axes of ``vary`` are crossed with those of the file, or replace them; a key that varies
    replaces the base's.
    Raises `ConfigError`.
    """
    values = {} if path is None else read_toml(path)
    axes = {key: axis(key, listed) for key, listed in _table(values, "vary").items()}
    joint = [zipped(table) for table in _tables(values, "together")]
    explicit = _tables(values, "member")
    base = {**values, **{key: from_text(key, text) for key, text in parted(settings)}}
    for key, value in base.items():
        if isinstance(value, dict | list):
            raise ConfigError(f"{shown(key)}: not a part of a study; vary, together or member are")
    given = [from_option(text) for text in vary]
    axes |= {each.keys[0]: each for each in given}
    for number, each in enumerate(given):
        if each.keys in [other.keys for other in given[:number]]:
            raise ConfigError(f"{each.keys[0]}: varies in two ways; give it once")
    points = _points([*axes.values(), *joint], explicit)
    for key in ("output", "force", "lock"):
        if key in base:
            raise ConfigError(f"{key}: the study decides where its members are; remove it")
    return Plan(from_anywhere(base), tuple(map(from_anywhere, points)))


def from_anywhere(values: Mapping[str, Any]) -> Settings:
    """Return settings whose paths are absolute: members run in other folders, too."""
    found = dict(values)
    for key in ("dataset", "data_dir", "forcing_norm", "output"):
        value = values.get(key)
        if isinstance(value, str) and (key != "dataset" or Path(value).suffix):
            found[key] = str(Path(value).expanduser().absolute())
    return found


def _points(axes: Sequence[Axis], explicit: list[Settings]) -> list[Settings]:
    keys = [key for each in axes for key in each.keys]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"{twice[0]}: varies in two ways; give it once")
    if explicit and axes:
        raise ConfigError("member: a list of members and axes exclude each other; give one")
    if not explicit and not axes:
        raise ConfigError("nothing varies: give an axis, such as --vary seed=0:10")
    if len(explicit) > MOST_MEMBERS:
        raise ConfigError(f"the study has {len(explicit)} members, more than {MOST_MEMBERS}")
    return explicit or list(crossed(axes))


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    table = values.pop(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{name}: must be a table, [{name}]")
    return table


def _tables(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tables = values.pop(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{name}: must be a list of tables, each [[{name}]]")
    return tables
