"""Names of temporary files: those of one run, planted as links, lead the next one nowhere."""

from __future__ import annotations

from pathlib import Path
from random import Random

from faults.child import call
from faults.crashes import Named, record
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.tables import TABLES, Table
from faults.world import LIVES, Life, names

CONTENT = b"precious\n"


def _hidden_names(life: Life | Table, folder: Path) -> set[str]:
    """The names that a life gave and took away again."""
    path = life.begin(folder)
    seen = {
        name
        for event in record(folder, *life.arguments).events
        if isinstance(event, Named)
        for name in event.entries
    }
    return seen - set(names(path.parent))


def _plant(life: Life | Table, hidden: set[str], folder: Path, victim: Path) -> None:
    path = life.begin(folder)
    victim.write_bytes(CONTENT)
    for name in hidden:
        (folder / name).symlink_to(victim)
    ended = call(folder, *life.arguments)
    if victim.read_bytes() != CONTENT:
        raise Broken("lost", "the target of a planted link was overwritten")
    if ended.code != 0:
        raise Broken("promise", f"exit code {ended.code}: {ended.err}")
    if path.is_symlink():
        raise Broken("promise", f"{path.name} is a link")


def campaign(count: int, seed: int) -> Report:
    """Every life in turn."""
    report, random, folder = Report("temporary names"), Random(seed), fresh_folder() / "case"
    lives = (*TABLES, *LIVES)
    with report.timed():
        for number in range(count):
            life = lives[number % len(lives)]
            with report.case(life.name):
                hidden = _hidden_names(life, folder)
                report.took_effect["names"] += len(hidden)
                _plant(life, hidden, folder, folder.with_name(f"victim-{random.random()}"))
    return report
