"""``prdsim list``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.words import shown

from .choices import some
from .terminal import say

if TYPE_CHECKING:
    from prdsim.listing import ListedRun


@click.command(name="list")
@click.argument(
    "folder",
    default=".",
    type=click.Path(path_type=Path),
    metavar="[FOLDER]",
    shell_complete=some(files=()),
)
@click.option("--json", "as_json", is_flag=True, help="print JSON, with every setting")
def command(folder: Path, as_json: bool) -> int:
    """List the runs of a folder: status, step, time, losses, and the settings that differ.

    Every file that ends in .h5 is listed; one that cannot be read with the reason. Runs that are
    being written are shown as of their last commit, without disturbing them.
    """
    from prdsim.listing import differing_keys, files_of, listed
    from prdsim.progress import tracked

    runs = [listed(path) for path in tracked(files_of(folder), "files")]
    keys = differing_keys(runs)
    say(json.dumps(_report(runs, keys), indent=2) if as_json else _text(folder, runs, keys))
    return 0


def _report(runs: list[ListedRun], keys: list[str]) -> dict[str, Any]:
    return {"differing": keys, "runs": [_entry(each) for each in runs]}


def _entry(each: ListedRun) -> dict[str, Any]:
    """Return what is known of a file, for JSON."""
    if each.run is None or each.config is None:
        return {"path": str(each.path), "status": "unreadable", "reason": each.reason}
    numbers = {
        name: value if math.isfinite(value) else None for name, value in each.run.last.items()
    }
    run = {"path": str(each.path), "status": each.run.status, "step": each.run.step}
    return {**run, **numbers, "config": each.config.model_dump()}


def _text(folder: Path, runs: list[ListedRun], keys: list[str]) -> str:
    from prdsim.table import Table

    if not runs:
        return f"{shown(folder, _LONGEST)} holds no .h5 file"
    found = [(each.run, each.config) for each in runs if each.run and each.config]
    columns: dict[str, Any] = {
        "run": [shown(run.path.name, _LONGEST) for run, _ in found],
        "status": [run.status for run, _ in found],
        "step": [run.step for run, _ in found],
        **{name: [run.last[key] for run, _ in found] for key, name in _SHOWN.items()},
        **{key: [_value(getattr(config, key)) for _, config in found] for key in keys},
    }
    title = f"{shown(folder, _LONGEST)}: {len(found)} run{'s' * (len(found) != 1)}"
    lines = [Table(title, columns).to_text()] if found else []
    lines += [f"unreadable: {shown(each.reason, _LONGEST)}" for each in runs if each.reason]
    return "\n".join(lines)


_LONGEST = 400  # characters, more than any name of a file
_SHOWN = {"time": "t", "loss_sup": "L_sup", "loss_adv": "L_adv", "loss_critic": "critic"}


def _value(value: object) -> object:
    """Return a setting as the table shows it, which knows numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value, 30) if isinstance(value, str) else value
