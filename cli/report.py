"""``prdsim report``: one page to explore runs, or a live view of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prdsim.errors import ConfigError
from prdsim.words import shown

from .choices import some
from .shared_options import FILE_NAME
from .terminal import say

if TYPE_CHECKING:
    from prdsim.analysis import Recording
    from prdsim.explorer import Attached
    from prdsim.progress import Say

_SUFFIXES = (".html", ".htm")


@click.command(name="report")
@click.argument(
    "paths",
    metavar="RUN.h5...|STUDY [TABLES.json]...",
    nargs=-1,
    required=True,
    type=FILE_NAME,
    shell_complete=some(files=(".h5", ".json")),
)
@click.option("-o", "--output", type=FILE_NAME, help="the page  [report.html]")
@click.option("--force", is_flag=True, help="overwrite the page")
@click.option("--count", type=click.IntRange(1, 1000), default=256, help="filters shown  [256]")
@click.option("--snapshots", type=click.IntRange(2, 400), default=40, help="times shown  [40]")
@click.option("--watch", is_flag=True, help="serve the page to this machine, and follow the runs")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="for --watch  [a free one]")
def command(
    paths: tuple[Path, ...],
    output: Path | None,
    force: bool,
    count: int,
    snapshots: int,
    watch: bool,
    port: int,
) -> int:
    """Make one page to explore runs: filters over time side by side, curves, measures, settings.

    The page is one file that needs no network: send it to a colleague. A run may be unfinished or
    still being written: the page says so. Of a STUDY, the finished members are shown. TABLES are
    files that prdsim analyze, compare or turing wrote with --json: theorems, growth rates, the
    Turing test.

    prdsim report with.h5 without.h5 -o report.html
    prdsim report --watch run.h5 serves the page on loopback and follows the file.
    """
    from prdsim.progress import noting

    from .output import check_output

    runs, tables = _sorted(paths)
    if watch:
        if output is not None:
            raise ConfigError("--watch serves the page and writes no file; leave out -o")
        return _watch(runs, tables, port, count=count, snapshots=snapshots)
    target = output or Path("report.html")
    if target.suffix not in _SUFFIXES:
        raise ConfigError(f"{shown(target)}: end the name in {' or '.join(_SUFFIXES)}")
    check_output([target], force=force, inputs=[*runs, *tables])
    with noting() as note:
        text = _page(runs, tables, note, count=count, snapshots=snapshots)
    from prdsim.files.whole import write_whole

    write_whole(target, text.encode(), force=force)
    say(target)
    return 0


def _sorted(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the runs and the files of tables; a study is replaced by its finished members."""
    runs: list[Path] = []
    tables = [path for path in paths if path.suffix == ".json"]
    for path in dict.fromkeys(paths):
        if path.suffix == ".json":
            continue
        runs += _members(path) if path.is_dir() else [path]
    if not runs:
        raise ConfigError("report: name at least one run, such as run.h5")
    return runs, list(dict.fromkeys(tables))


def _members(folder: Path) -> list[Path]:
    from prdsim.study.results import open_study

    study = open_study(folder)
    if not len(study):
        raise ConfigError(f"{shown(folder)}: no member of this study is finished yet")
    return study.paths


@contextmanager
def _opened(runs: Sequence[Path]) -> Iterator[list[Recording]]:
    from prdsim.analysis import open_recording

    with ExitStack() as stack:
        yield [stack.enter_context(open_recording(path)) for path in runs]


def _page(
    runs: Sequence[Path],
    tables: Sequence[Path],
    note: Say,
    *,
    count: int,
    snapshots: int,
    version: str = "",
) -> str:
    note("loading")
    from prdsim.explorer import content_of, html_page, read_attached
    from prdsim.progress import tracked_after

    attached: list[Attached] = [table for path in tables for table in read_attached(path)]
    note("reading and verifying")
    with _opened(runs) as recordings:
        note("")
        for run in recordings:
            if not run.complete:
                say(f"{run.name}: {run.status}", err=True)
        content = content_of(
            recordings,
            attached,
            count=count,
            snapshots=snapshots,
            progress=tracked_after(note, "snapshots"),
            say=note,
        )
    note("")
    return html_page(content, version=version)


def _watch(
    runs: Sequence[Path], tables: Sequence[Path], port: int, *, count: int, snapshots: int
) -> int:
    from prdsim.explorer.server import PageServer, Served, follow
    from prdsim.progress import silent

    served = Served()

    def make(version: str) -> str:
        return _page(runs, tables, silent, count=count, snapshots=snapshots, version=version)

    first = _state(runs)
    served.replace(make(first), first)
    with PageServer(served, port) as server:
        say(server.address)
        say("open it in a browser of this machine; Ctrl-C ends it", err=True)
        follow(served, lambda: _state(runs), make)
    return 0


def _state(runs: Sequence[Path]) -> str:
    """Return a text that changes when a run has recorded more."""
    from prdsim.trajectory import open_trajectory

    states = []
    for path in runs:
        with open_trajectory(path) as trajectory:
            found = (len(trajectory.step), trajectory.live_status(), trajectory.reached_step)
        states.append("-".join(map(str, found)))
    return " ".join(states)
