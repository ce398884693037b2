"""Two writers on one file: whichever way the second comes, it is refused, and the first goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from faults.child import Child, call, program
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.world import (
    LIVES,
    LONGER,
    NAME,
    Life,
    paused_after,
    require_same,
    run_command,
    world,
)

OTHER = "other.h5"


def removed_lock(path: Path) -> str:
    """Whatever lies beside the file is removed."""
    for each in path.parent.iterdir():
        if each != path:
            each.unlink()
    return NAME


def hard_link(path: Path) -> str:
    path.with_name(OTHER).hardlink_to(path)
    return OTHER


def renamed(path: Path) -> str:
    path.rename(path.with_name(OTHER))
    return OTHER


def symlink(path: Path) -> str:
    path.with_name(OTHER).symlink_to(path)
    return OTHER


def same_name(path: Path) -> str:
    return path.name


def copy_moved_over(path: Path) -> str:
    """Another file now has the name: it is nobody's, and a second run goes on there."""
    shutil.copy(path, path.with_name(OTHER)).replace(path)
    return NAME


WAYS: tuple[Callable[[Path], str], ...] = (
    removed_lock,
    hard_link,
    renamed,
    symlink,
    same_name,
    copy_moved_over,
)


def _second_commands(name: str, seed: int) -> tuple[tuple[object, ...], ...]:
    return (
        ("resume", name),
        ("resume", name, "--steps", 2 * LONGER),
        (*run_command(seed=seed, output=name), "--force"),
    )


def _meet(way: Callable[[Path], str], life: Life, pause: int, kind: int, folder: Path) -> None:
    """Let a second writer come while the first pauses; raise `Broken` unless all is well."""
    path = life.begin(folder)
    first = Child(program(*life.arguments, hook=paused_after(pause)), folder)
    if not first.reach():
        raise Broken("lost", f"the first did not get there: {first.end()}")
    name = way(path)
    held = (folder / name).read_bytes()
    command = _second_commands(name, seed=1)[kind]
    legitimate = way is copy_moved_over
    if legitimate:
        command = ("resume", name)
    else:
        status = json.loads(call(folder, "inspect", name, "--json").out)["status"]
        if status != "running":
            raise _after(first, Broken("promise", f"inspect calls the living run {status}"))
    second = call(folder, *command)
    refused = second.code == 3 and f".h5 is being written by process {first.pid};" in second.err
    if not legitimate and not refused:
        raise _after(first, Broken("lost", f"{command[0]} gave {second.code}: {second.err}"))
    if not legitimate and (folder / name).read_bytes() != held:
        raise _after(first, Broken("lost", "the refused command changed the file"))
    first.go_on()
    ended = first.end()
    if ended.code != 0:
        raise Broken("lost", f"the first ended with {ended.code}: {ended.err}")
    whole = world().files[f"whole {life.end}"]
    (said,) = (line for line in ended.out.splitlines() if line.startswith("  file "))
    require_same(whole, folder / said.split()[1])
    if legitimate:
        require_same(whole, folder / name)


def _after(first: Child, broken: Broken) -> Broken:
    """Let the first writer end before its case does."""
    first.go_on()
    first.end()
    return broken


def campaign(count: int, seed: int) -> Report:
    """Each way in turn, into any life, after some commits, with any command."""
    report, random, folder = Report("two writers"), Random(seed), fresh_folder() / "case"
    with report.timed():
        for number in range(count):
            way, life = WAYS[number % len(WAYS)], random.choice(LIVES)
            pause, kind = random.randint(1, 3), random.randrange(3)
            with report.case(f"{way.__name__} of {life.name} after {pause} commits, {kind}"):
                report.took_effect[way.__name__] += 1
                _meet(way, life, pause, kind, folder)
    return report
