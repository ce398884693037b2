"""Configurations from TOML files, settings and options."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prdsim.arguments import file_path, wrong
from prdsim.config import RunConfig
from prdsim.config.messages import ContradictionError
from prdsim.errors import ConfigError, UnreadableConfigError
from prdsim.files.foreign import ForeignFileError, open_regular_file
from prdsim.files.small import size_text
from prdsim.words import shown

_LARGEST = 100_000  # bytes of a file: there are dozens of keys
_MOST_DOTS = 100  # of a line


def load_config(
    path: Path | None = None,
    *,
    settings: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Merge the layers of a configuration: defaults < preset < TOML < settings < options.

    ``path`` names a TOML file; ``settings`` are texts ``key=value`` as ``--set`` takes them;
    ``options`` maps keys to values or to the texts a command line gives. A relative ``output`` or
    ``data_dir`` is relative to the current folder. Raises `ConfigError`, also for a value that a
    later layer overrides, and of its kind `UnreadableConfigError` for the file as such.
    """
    values: dict[str, Any] = {} if path is None else _flat(path)

    def put(key: str, value: Any) -> None:
        if key in values:
            _check_alone(key, values[key])
        values[key] = from_text(key, value) if isinstance(value, str) else value

    for key, text in parted(settings):
        put(key, text)
    for key, value in (options or {}).items():
        put(key, value)
    try:
        return RunConfig(**values)
    except ConfigError as error:
        where = "" if path is None else f"\n(configuration: {path} with the options given)"
        raise ConfigError(f"{error}{where}") from None


def parted(settings: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield keys and texts of settings ``key=value``; raises `ConfigError` for others."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {shown(setting)}: must be key=value, such as --set samples=500"
            )
        yield key.strip().replace("-", "_"), text


def _check_alone(key: str, value: Any) -> None:
    """Raise `ConfigError` for a value that its key cannot have, whatever the other keys are."""
    with suppress(ContradictionError):
        RunConfig(**{key: value})


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file; raises `ConfigError` if it cannot be read."""
    try:
        with open_regular_file(path) as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        is_file_name = {".", "/"} & set(str(path))  # else a word that was meant otherwise
        kind = UnreadableConfigError if is_file_name else ConfigError
        raise kind(f"{path}: no such configuration file") from None
    except OSError as error:
        raise UnreadableConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ForeignFileError as error:
        raise UnreadableConfigError(f"{path}: cannot be read ({error})") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{path}: is larger than any configuration ({size_text(_LARGEST)})")
    try:
        return _parsed(content.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid TOML: {shown(error, 200)}") from None


def _flat(path: Path) -> dict[str, Any]:
    """Return the values of a file that has no tables."""
    values = read_toml(path)
    for key, value in values.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path}: [{shown(key)}] is a table; write keys flat, without [sections]"
            )
    return values


def _parsed(text: str) -> dict[str, Any]:
    """Return the values of a TOML text; raises `ValueError`, with the reason, for all others."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > _MOST_DOTS:  # the parser takes time and memory as their square
            raise ValueError(f"line {number} has more than {_MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # of the parser, on text that anyone may have written
        raise ValueError("it holds a number that no key can have") from error


def from_text(key: str, text: str) -> Any:
    """Read a value as TOML would, and numbers and true, false also as people write them.

    A key that takes only text gets it as it is.
    """
    field = RunConfig.model_fields.get(key)
    text = text.strip()
    if field is None or field.annotation in (str, str | None):
        return text
    try:
        parsed = _parsed(f"value = {text}")
    except ValueError:
        return _as_people_write(text)
    return parsed["value"] if set(parsed) == {"value"} else text


def _as_people_write(text: str) -> Any:
    """Return the value of True, 007, .1 or 1., which TOML does not know; else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?[0-9]{1,400}", text):  # Python refuses thousands of digits
        return int(text)
    if re.fullmatch(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", text, re.IGNORECASE):
        return float(text)
    return text


def config_of(given: RunConfig | Mapping[str, Any] | str | Path | None) -> RunConfig:
    """Return what a caller in Python means: a configuration, its keys, a TOML file, the defaults.

    Raises `ConfigError`.
    """
    if given is None or isinstance(given, RunConfig):
        return given or RunConfig()
    if isinstance(given, Mapping):
        return RunConfig(**{str(key): value for key, value in given.items()})
    if isinstance(given, str | Path):
        return load_config(file_path("config", given))
    raise wrong("config", "a RunConfig, a mapping of its keys, or the path of a TOML file", given)
