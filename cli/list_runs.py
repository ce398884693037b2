"""``prdsim list``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.words import shown

from .choices import some
from .shared_options import FILE_NAME
from .terminal import say

if TYPE_CHECKING:
    from prdsim.listing import ListedRun, Unreadable


@click.command(name="list")
@click.argument(
    "folder",
    default=".",
    type=FILE_NAME,
    metavar="[FOLDER]",
    shell_complete=some(files=()),
)
@click.option("--json", "as_json", is_flag=True, help="print JSON, with every setting")
def command(folder: Path, as_json: bool) -> int:
    """List the runs of a folder: status, step, time, losses, and the settings that differ.

    Every file that ends in .h5 is listed; one that cannot be read with the reason. Runs that are
    being written are shown as of their last commit, without disturbing them.
    """
    from prdsim.listing import ListedRun, Unreadable, differing_keys, files_of, listed
    from prdsim.progress import tracked

    found = [listed(path) for path in tracked(files_of(folder), "files")]
    runs = [each for each in found if isinstance(each, ListedRun)]
    others = [each for each in found if isinstance(each, Unreadable)]
    keys = differing_keys(runs)
    if as_json:
        entries = [*map(_entry, runs), *map(_reason, others)]
        say(json.dumps({"differing": keys, "runs": entries}, indent=2))
    else:
        say("\n".join([_table(folder, runs, keys), *map(_line, others)]))
    return 0


def _entry(run: ListedRun) -> dict[str, Any]:
    last = {name: value if math.isfinite(value) else None for name, value in _last(run).items()}
    about = {"path": str(run.path), "status": run.seen.status, "step": run.seen.step}
    return {**about, **last, "config": run.config.model_dump()}


def _reason(other: Unreadable) -> dict[str, Any]:
    return {"path": str(other.path), "status": "unreadable", "reason": other.reason}


def _line(other: Unreadable) -> str:
    return f"unreadable: {shown(other.reason, _LONGEST)}"


def _table(folder: Path, runs: list[ListedRun], keys: list[str]) -> str:
    from prdsim.table import Table

    columns: dict[str, Any] = {
        "run": [shown(run.path.name, _LONGEST) for run in runs],
        "status": [run.seen.status for run in runs],
        "step": [run.seen.step for run in runs],
        **{head: [_last(run)[name] for run in runs] for name, head in _SHOWN.items()},
        **{key: [_value(getattr(run.config, key)) for run in runs] for key in keys},
    }
    title = f"{shown(folder, _LONGEST)}: {len(runs) or 'no'} run{'s' * (len(runs) != 1)}"
    return Table(title, columns).to_text() if runs else title


_LONGEST = 400  # characters, more than any name of a file
_SHOWN = {"time": "t", "loss_sup": "L_sup", "loss_adv": "L_adv", "loss_critic": "critic"}


def _last(run: ListedRun) -> dict[str, float]:
    """Return the numbers shown of a run, NaN before the first row of scalars."""
    return {name: run.seen.last.get(name, math.nan) for name in _SHOWN}


def _value(value: object) -> object:
    """Return a setting as the table shows it, which knows numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value, 30) if isinstance(value, str) else value
