"""Carrying out the plan: the runs are those of studies, and the page is written last."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prdsim.analysis import Recording, open_recording
from prdsim.analysis.comparison import Comparison, compare
from prdsim.convergence.assess import converge
from prdsim.convergence.report import look_up
from prdsim.errors import ConfigError, StudyError
from prdsim.figures import Request, write
from prdsim.files import posix
from prdsim.files.small import folder_for_output
from prdsim.files.whole import write_whole
from prdsim.progress import noting, tracked, tracked_after
from prdsim.reproduction.page import Shown, make_page
from prdsim.reproduction.plan import GENERAL, Picture, Study
from prdsim.study import Member, State, StudyFolder, Swept, sweep
from prdsim.study.forecast import forecast
from prdsim.study.plan import in_words
from prdsim.study.sweep import local
from prdsim.study.worker import in_this_process
from prdsim.trajectory import open_trajectory


@dataclass(frozen=True)
class Outcome:
    """The page's path, or the signal that stopped the reproduction; call it again to continue."""

    page: Path
    signal: signal.Signals | None = None


def reproduce(
    folder: Path,
    studies: Sequence[Study],
    *,
    seeds: int = 3,
    keys: Mapping[str, Any] | None = None,
    assess: bool = True,
    workers: int = 1,
    retry_failed: bool = False,
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Outcome:
    """Run every study with and without diffusion, draw its figures, and write ``index.html``.

    The runs are members of studies in ``folder``/runs: finished ones are verified and kept, others
    continued, by ``workers`` processes (one: this process); ``retry_failed`` is that of
    `prdsim.study.sweep`. The page is written last, so that a folder with a page is complete.
    ``keys`` replace configuration keys in all runs; ``assess`` replays the first seed's runs as
    `prdsim converge` does, so that numbers and figures show their discretization error; ``say`` is
    called with a line of text for each task.

    Raises:
        ConfigError: the folder has a page already (unless ``force``), or runs with other settings.
        DataError: data cannot be used.
        BackendUnavailableError: the backend cannot work here.
        OutputError: the folder cannot be written.
        DivergedError: numbers of a run became infinite or NaN.
        StudyError: a run failed.
    """
    page = folder / "index.html"
    if page.exists() and not force:
        raise ConfigError(f"{page} exists; name another folder, or give --force to draw it again")
    plans = {study.name: study.plan(seeds, **(keys or {})) for study in studies}
    for plan in plans.values():
        forecast(plan)  # data or a backend that cannot be: before anything is made
    with ExitStack() as folders:
        names = ("", "runs", "numbers", "figures", *(f"figures/{study.name}" for study in studies))
        for name in names:
            folders.enter_context(folder_for_output(folder / name))
        made = {
            name: StudyFolder.create(folder / "runs" / name, plan) for name, plan in plans.items()
        }
        with posix.output_errors("replace", page):
            page.unlink(missing_ok=True)
        engine = local(workers) if workers > 1 else in_this_process(say, progress=progress)
        for name, runs in made.items():
            say(f"{name}: {len(runs.plan.members)} runs")
            swept = sweep(runs, engine, retry_failed=retry_failed, say=say)
            if swept.stopped:
                return Outcome(page, swept.signal or signal.SIGTERM)
            _require_finished(runs, swept)
        for runs in made.values() if assess else ():
            for member in runs.plan.members:
                if member.config.seed == 0:
                    stopped = _assess(runs, member, say, progress)
                    if stopped is not None:
                        return Outcome(page, stopped)
        shown = [_draw_study(folder, study, made[study.name], say) for study in studies]
        shown.append(_draw_general(folder, made[studies[0].name], say))
        write_whole(page, make_page(shown).encode(), force=force)
        say(str(page))
        return Outcome(page)


def _require_finished(runs: StudyFolder, swept: Swept) -> None:
    """Raise the error of the first run that diverged or failed."""
    for member in runs.plan.members:
        standing = swept.standings[member.name]
        error = runs.error_of(member, standing)
        if standing.state is State.FAILED:
            raise StudyError(f"{error}; --retry-failed tries again")
        if error is not None:
            raise error


def _assess(
    runs: StudyFolder, member: Member, say: Callable[[str], None], progress: bool
) -> signal.Signals | None:
    """Assess a run's convergence unless it has a report; return the signal that stopped it."""
    path = runs.trajectory(member)
    with open_trajectory(path) as trajectory:
        if look_up(trajectory).report is not None:
            return None
    about = f"{member.name}, {in_words(member.settings)}"
    say(f"{about}: replayed at finer steps, and from two perturbed initial states")
    return converge(path, force=True, progress=progress).signal


def _draw_study(folder: Path, study: Study, made: StudyFolder, say: Callable[[str], None]) -> Shown:
    with ExitStack() as stack:
        paths = map(made.trajectory, made.plan.members)
        runs = [stack.enter_context(open_recording(path)) for path in paths]
        say(f"{study.name}: measuring {len(runs)} runs")
        comparison = compare(runs, progress=lambda items: tracked(items, "runs"))
        table = comparison.table()
        numbers = folder / "numbers" / f"{study.name}.csv"
        write_whole(numbers, table.to_csv().encode(), force=True)
        return _draw(folder, study.name, study.pictures, runs, comparison, say)


def _draw_general(folder: Path, made: StudyFolder, say: Callable[[str], None]) -> Shown:
    with open_recording(made.trajectory(made.plan.members[0])) as first:
        return _draw(folder, "", GENERAL, [first], None, say)


def _draw(
    folder: Path,
    name: str,
    pictures: Sequence[Picture],
    runs: Sequence[Recording],
    comparison: Comparison | None,
    say: Callable[[str], None],
) -> Shown:
    """Draw pictures into ``figures/<name>``; measures that several need are computed once."""
    files: list[tuple[Picture, Path, list[Recording]]] = []
    shared: dict[Any, Any] = {}
    for picture in pictures:
        chosen = _chosen(picture, runs)
        path = folder / "figures" / name / f"{picture.stem}.png"
        with noting() as note:
            note(f"drawing {picture.stem}")
            request = Request(
                tuple(chosen),
                **picture.options,
                progress=tracked_after(note, "snapshots"),
                say=note,
                _histories=shared,
            )
            write(picture.figure, request, path)
        say(str(path))
        files.append((picture, path.relative_to(folder), chosen))
    return Shown(name, runs if comparison else (), files, comparison)


def _chosen(picture: Picture, runs: Sequence[Recording]) -> list[Recording]:
    """Return the runs that a picture shows."""
    first = [run for run in runs if run.config and run.config.seed == 0]
    sides = {
        "without": [run for run in first if run.config and not run.config.diffusion],
        "with": [run for run in first if run.config and run.config.diffusion],
    }
    choices = {"all": list(runs), "first": first, "none": [], **sides}
    return choices[picture.runs]
