"""The output of a living run is deleted, renamed, replaced: said at once, and nothing is lost."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from faults.child import Child, Ended, Line, call, program
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.world import (
    LIVES,
    NAME,
    Life,
    last_promise,
    patched,
    paused_after,
    require_same,
    world,
)

FOREIGN = b"a file of somebody else\n"


def deleted(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("other.h5"))


def moved_to_another_folder(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir()
    path.rename(path.parent.parent / "elsewhere" / NAME)


def replaced(path: Path) -> None:
    path.with_name("foreign").write_bytes(FOREIGN)
    path.with_name("foreign").rename(path)


def replaced_by_another_run(path: Path) -> None:
    shutil.copy(world().files["other"], path.with_name("foreign")).rename(path)


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def all_folders_removed(path: Path) -> None:
    """The working folder as well."""
    shutil.rmtree(path.parent.parent)


def folder_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("other"))


def linked_and_deleted(path: Path) -> None:
    path.with_name("kept.h5").hardlink_to(path)
    path.unlink()


WAYS: tuple[Callable[[Path], None], ...] = (
    deleted,
    renamed,
    moved_to_another_folder,
    replaced,
    replaced_by_another_run,
    folder_removed,
    all_folders_removed,
    folder_renamed,
    linked_and_deleted,
)
STOPS = (folder_removed, all_folders_removed)


def _vanish(way: Callable[[Path], None], life: Life, pause: int, folder: Path) -> None:
    """Do something to the output of a run that pauses; raise `Broken` unless all is well."""
    shutil.rmtree(folder, ignore_errors=True)
    spare = folder / "spare"  # in place of /tmp
    path = life.begin(folder / "work" / "runs")
    spare.mkdir()
    arguments = [f"runs/{NAME}" if each == NAME else each for each in life.arguments]

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        with patched(tempfile, "tempdir", str(spare)), paused_after(pause, pause + 1)(line):
            yield

    run = Child(program(*arguments, hook=hook), folder / "work")
    if not run.reach():
        raise Broken("lost", f"the run did not get there: {run.end()}")
    way(path)
    run.go_on()
    paused = run.reach()
    said = run.err  # by the next commit
    if paused:
        run.go_on()
    ended = run.end()
    if str(path) not in said or (way.__name__ not in STOPS and " while it was written" not in said):
        raise Broken("promise", f"not said at once: {said!r}")
    final = _final(ended, folder / "work")
    promise = last_promise(ended.told)
    life.judge(final, (promise,))
    if ended.code == 3:
        if way not in STOPS:
            raise Broken("promise", f"stopped: {ended.err}")
        again = call(final.parent, "resume", final.name)
        if again.code != 0:
            raise Broken("lost", f"resume gave {again.code}: {again.err}")
    elif ended.code != 0 or way in STOPS:
        raise Broken("promise", f"exit code {ended.code}: {ended.err}")
    require_same(world().files[f"whole {life.end}"], final)
    if way is replaced and path.read_bytes() != FOREIGN:
        raise Broken("lost", "the other file was changed")
    other = world().files["other"]
    if way is replaced_by_another_run and path.read_bytes() != other.read_bytes():
        raise Broken("lost", "the other run was changed")


def _final(ended: Ended, folder: Path) -> Path:
    """The file that the last message names."""
    found = re.findall(r"^  file +(.+) \(", ended.out, re.MULTILINE) or re.findall(
        r"saved as (\S+): continue", ended.err
    )
    if len(found) != 1:
        raise Broken("promise", f"no file is named: {ended.out!r} {ended.err!r}")
    return folder / found[0]


def campaign(count: int, seed: int) -> Report:
    """Each way in turn, in any life, after some commits."""
    report, random, folder = Report("vanishing outputs"), Random(seed), fresh_folder() / "case"
    with report.timed():
        for number in range(count):
            way, life, pause = WAYS[number % len(WAYS)], random.choice(LIVES), random.randint(1, 3)
            with report.case(f"{way.__name__} in {life.name} after {pause} commits"):
                report.took_effect[way.__name__] += 1
                _vanish(way, life, pause, folder)
    return report
