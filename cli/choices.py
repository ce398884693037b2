"""The words that a command line can go on with, for a shell that completes it.

Nothing heavy is imported: the user waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import click

from prdsim.files.json_text import read_json
from prdsim.symbols import ARRAYS
from prdsim.vocabulary import DATA_SUFFIXES, DATASETS, MEASURES, SCALARS

Choose = Callable[[click.Context, click.Parameter, str], list[str]]
"""What click calls for the choices of a parameter that begin with a text."""

RUNS = (".h5",)
"""The suffix of trajectory files."""

_RULES = ("times:geometric:", "times:every:", "geometric:", "every:")
_WORDS = {
    "dataset": DATASETS,
    "snapshots": _RULES,
    "scalars": _RULES,
    "penalty_points": ("midpoint", "gauss:", "random"),
}
_FILES: dict[str, tuple[str, ...]] = {
    "dataset": DATA_SUFFIXES,
    "data_dir": (),  # folders alone
    "output": RUNS,
}


def some(*known: Iterable[str], files: tuple[str, ...] | None = None) -> Choose:
    """Return a function that gives known words, and files with some suffixes."""

    def choose(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
        found = [word for words in known for word in _matching(words, begun)]
        return found if files is None else [*found, *_files(begun, files)]

    return choose


def measures_or(*known: Iterable[str]) -> Choose:
    """Return a function that gives known words and runs; after a study, measures and scalars."""
    of_runs = some(*known, files=RUNS)
    of_study = some(dict.fromkeys([*SCALARS, *chain(*MEASURES.values())]))

    def choose(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        chosen = of_study if _keys_that_vary(context) else of_runs
        return chosen(context, parameter, begun)

    return choose


def varying(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return the keys that vary in the study that a command line names."""
    return _matching(_keys_that_vary(context), begun)


def _keys_that_vary(context: click.Context) -> list[str]:
    """Return them as the study's plan tells them; none if there is no study."""
    words = (*(context.params.get("words") or ()), *context.args)
    for word in words:
        try:
            plan = read_json((Path(word) / "study.json").read_bytes())
            return list(dict.fromkeys(key for point in plan["members"] for key in point))
        except (OSError, ValueError, LookupError, TypeError):  # nothing to offer
            continue
    return []


def settings(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Return the choices of ``--set``: keys, then their values."""
    return _with_key(begun, values)


def axes(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Return the choices of ``--vary``: keys, then values, the last of a list."""

    def last_value(key: str, listed: str) -> list[str]:
        before, comma, last = listed.rpartition(",")
        return [f"{before}{comma}{value}" for value in values(key, last)]

    return _with_key(begun, last_value)


def _with_key(begun: str, values_of: Callable[[str, str], list[str]]) -> list[str]:
    from prdsim.config import RunConfig

    key, equals, value = begun.partition("=")
    if not equals:
        return [f"{name}=" for name in _matching(RunConfig.model_fields, key)]
    return [f"{key}={found}" for found in values_of(key.replace("-", "_"), value)]


def of_key(key: str) -> Choose:
    """Return a function that gives the values of a configuration key."""
    return lambda _, __, begun: values(key, begun)


def values(key: str, begun: str) -> list[str]:
    """Return the values of a key that begin with a text, where they can be listed."""
    if key == "trainable":
        return _array_lists(begun)
    found = _matching(_known(key), begun)
    return [*found, *_files(begun, _FILES[key])] if key in _FILES else found


def backends(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Return the backends that begin with a text."""
    from prdsim.backends import backend_names

    return _matching(backend_names(), begun)


def _known(key: str) -> Iterable[str]:
    from prdsim.backends import backend_names
    from prdsim.config import RunConfig
    from prdsim.config.messages import literals

    if key == "backend":
        return ["auto", *backend_names()]
    if key in _WORDS or key not in RunConfig.model_fields:
        return _WORDS.get(key, ())
    annotation = RunConfig.model_fields[key].annotation
    return ("true", "false") if annotation is bool else literals(annotation)


def _array_lists(begun: str) -> list[str]:
    """Return lists of arrays: the text that is there with each of the others at its end."""
    before, comma, last = begun.rpartition(",")
    others = [name for name in ARRAYS if name not in before.split(",")]
    return [f"{before}{comma}{name}" for name in _matching(others, last)]


def _files(begun: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return files with some suffixes, and folders, which end in a slash, as they are typed.

    Names that a terminal cannot show are left out.
    """
    folder, slash, start = begun.rpartition("/")
    found = []
    try:
        for entry in os.scandir(Path(folder + slash or ".").expanduser()):
            hidden = entry.name.startswith(".") and not start
            if hidden or not entry.name.startswith(start) or not entry.name.isprintable():
                continue
            if entry.is_dir():
                found.append(f"{folder}{slash}{entry.name}/")
            elif entry.name.endswith(suffixes):
                found.append(f"{folder}{slash}{entry.name}")
    except (OSError, RuntimeError):  # no such folder, or no such user
        return []
    return sorted(found)


def _matching(known: Iterable[str], begun: str) -> list[str]:
    return [word for word in known if word.startswith(begun)]
