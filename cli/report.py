"""``prdsim report``: one page to explore runs, or a live view of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prdsim.errors import ConfigError
from prdsim.words import shown

from .choices import some
from .shared_options import FILE_NAME
from .terminal import say

if TYPE_CHECKING:
    from prdsim.analysis import Recording
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

    With --watch, the page is served at a secret address of this machine, and follows the runs.
    """
    from prdsim.progress import noting

    from .output import check_output

    if watch and (output is not None or force):
        raise ConfigError("--watch serves the page and writes no file; leave out -o and --force")
    if port and not watch:
        raise ConfigError("--port is for --watch, which serves the page")
    runs, tables, remarks = _sorted(paths)
    if watch:
        return _watch(runs, tables, port, remarks=remarks, count=count, snapshots=snapshots)
    target = output or Path("report.html")
    if target.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{shown(target)}: end the name in {' or '.join(_SUFFIXES)}")
    check_output([target], force=force, inputs=[*runs, *tables])
    with noting() as note:
        text = _page(runs, tables, note, remarks=remarks, count=count, snapshots=snapshots)
    from prdsim.files.whole import write_whole

    write_whole(target, text.encode(), force=force)
    say(target)
    return 0


def _sorted(paths: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Return runs, files of tables, and remarks; a study is replaced by its finished members."""
    runs: list[Path] = []
    remarks: list[str] = []
    tables = [path for path in dict.fromkeys(paths) if path.suffix == ".json"]
    for path in dict.fromkeys(paths):
        if path.is_dir():
            members, states = _members(path)
            runs += members
            remarks += states
        elif path not in tables:
            runs.append(path)
    if not runs:
        raise ConfigError("report: name at least one run, such as run.h5")
    return runs, tables, remarks


def _members(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of a study's finished members, and a remark if there are others."""
    from prdsim.study.results import open_study

    study = open_study(folder)
    if not len(study):
        raise ConfigError(f"{shown(folder)}: no member of this study is finished yet")
    others = [f"{count} {state}" for state, count in study.states.items() if state != "finished"]
    total = sum(study.states.values())
    remark = f"{len(study)} of {total} members of {shown(folder)} are shown; {', '.join(others)}"
    return study.paths, [remark] if others else []


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
    version: str = "",
    **options: Any,
) -> str:
    note("loading")
    from prdsim.explorer import content_of, html_page, read_attached
    from prdsim.progress import tracked_after

    attached = [table for path in tables for table in read_attached(path)]
    note("reading and verifying")
    with _opened(runs) as recordings:
        note("")
        if not version:
            for run in recordings:
                if not run.complete:
                    say(f"{run.name}: {run.status}", err=True)
        progress = iter if version else tracked_after(note, "snapshots")
        content = content_of(recordings, attached, progress=progress, say=note, **options)
    note("")
    return html_page(content, version=version)


def _watch(runs: Sequence[Path], tables: Sequence[Path], port: int, **options: Any) -> int:
    """Serve the page until Ctrl-C; a run that cannot be read now is read again later."""
    from prdsim.errors import TrajectoryError
    from prdsim.explorer.server import PageServer, Served, follow
    from prdsim.progress import silent

    served, told = Served(), ""
    server = PageServer(served, port)  # before the work begins: the port may be taken

    def make(version: str) -> str:
        return _page(runs, tables, silent, version=version, **options)

    def unless_unreadable(act: Callable[[], str]) -> str | None:
        nonlocal told
        try:
            return act()
        except TrajectoryError as error:
            if str(error) != told:
                told = str(error)
                say(f"the page stays as it is: {told}", err=True)
            return None

    first = _state(runs)
    served.replace(make(first), first)
    with server:
        say(server.address)
        say("open it in a browser of this machine; Ctrl-C ends it", err=True)
        follow(
            served,
            first,
            lambda: unless_unreadable(lambda: _state(runs)),
            lambda version: unless_unreadable(lambda: make(version)),
        )
    return 0


def _state(runs: Sequence[Path]) -> str:
    """Return a text that changes when a run has recorded more, or is another run."""
    from prdsim.trajectory import open_trajectory

    states = []
    for path in runs:
        with open_trajectory(path) as trajectory:
            status = trajectory.live_status()
            identity = trajectory.attributes.get("run_id", "")
            found = (identity, len(trajectory.step), trajectory.reached_step, status)
        states.append("-".join(map(str, found)))
    return " ".join(states)
