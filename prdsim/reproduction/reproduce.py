"""Carrying out the plan: existing runs are kept, and the page is written last."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prdsim.analysis import Recording, open_recording
from prdsim.analysis.comparison import Comparison, compare
from prdsim.config import RunConfig
from prdsim.convergence.assess import converge
from prdsim.convergence.report import look_up
from prdsim.errors import ConfigError
from prdsim.figures import Request, write
from prdsim.files import posix
from prdsim.files.small import folder_for_output
from prdsim.files.whole import write_whole
from prdsim.progress import noting, tracked, tracked_after
from prdsim.reproduction.page import Shown, make_page
from prdsim.reproduction.plan import GENERAL, Picture, Study
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.trajectory import Status, open_trajectory


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
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Outcome:
    """Run every study with and without diffusion, draw its figures, and write ``index.html``.

    Finished runs in the folder are kept, unfinished ones continued; the page is written last, so
    that a folder with a page is complete. ``keys`` replace configuration keys in all runs;
    ``assess`` replays the first seed's runs as `prdsim converge` does, so that numbers and figures
    show their discretization error; ``say`` is called with a line of text for each task.

    Raises:
        ConfigError: the folder has a page already (unless ``force``), or runs with other settings.
        OutputError: the folder cannot be written.
        DivergedError: numbers of a run became infinite or NaN.
    """
    page = folder / "index.html"
    if page.exists() and not force:
        raise ConfigError(f"{page} exists; name another folder, or give --force to draw it again")
    plans = {study.name: list(study.runs(folder, seeds, **(keys or {}))) for study in studies}
    missing = {config.output for plan in plans.values() for config in plan if not _finished(config)}
    with ExitStack() as folders:
        names = ("", "runs", "numbers", "figures", *(f"figures/{study.name}" for study in studies))
        for name in names:
            folders.enter_context(folder_for_output(folder / name))
        with posix.output_errors("replace", page):
            page.unlink(missing_ok=True)
        total, done = sum(map(len, plans.values())), 0
        for name, configs in plans.items():
            for config in configs:
                done += 1
                side = "with" if config.diffusion else "without"
                say(f"run {done} of {total}: {name}, seed {config.seed}, {side} diffusion")
                stopped = _ensure(config, progress) if config.output in missing else None
                if stopped is not None:
                    return Outcome(page, stopped)
        if assess:
            for config in (
                config for plan in plans.values() for config in plan if config.seed == 0
            ):
                stopped = _assess(Path(str(config.output)), say, progress)
                if stopped is not None:
                    return Outcome(page, stopped)
        shown = [_draw_study(folder, study, plans[study.name], say) for study in studies]
        shown.append(_draw_general(folder, plans[studies[0].name], say))
        write_whole(page, make_page(shown).encode(), force=force)
        say(str(page))
        return Outcome(page)


def _finished(config: RunConfig) -> bool:
    """Whether a run exists and is finished; raises `ConfigError` if it has other settings."""
    path = Path(str(config.output))
    if not path.exists():
        return False
    with open_trajectory(path) as trajectory:
        if trajectory.attributes.get("config_sha256") != config.sha256():
            raise ConfigError(
                f"{path} was made with other settings; name another folder, or remove the file"
            )
        return trajectory.status is Status.FINISHED


def _ensure(config: RunConfig, progress: bool) -> signal.Signals | None:
    """Make a run, or continue it; return the signal that stopped it, if any."""
    path = Path(str(config.output))
    if path.exists():
        return resume(path, progress=progress).signal
    return run(config, progress=progress, remarks=False).signal  # a study's settings are meant


def _assess(path: Path, say: Callable[[str], None], progress: bool) -> signal.Signals | None:
    """Assess a run's convergence unless it has a report; return the signal that stopped it."""
    with open_trajectory(path) as trajectory:
        if look_up(trajectory).report is not None:
            return None
    say(f"{path.stem}: replayed at finer steps, and from two perturbed initial states")
    return converge(path, force=True, progress=progress).signal


def _draw_study(
    folder: Path, study: Study, configs: Sequence[RunConfig], say: Callable[[str], None]
) -> Shown:
    with ExitStack() as stack:
        runs = [stack.enter_context(open_recording(str(config.output))) for config in configs]
        say(f"{study.name}: measuring {len(runs)} runs")
        comparison = compare(runs, progress=lambda items: tracked(items, "runs"))
        table = comparison.table()
        numbers = folder / "numbers" / f"{study.name}.csv"
        write_whole(numbers, table.to_csv().encode(), force=True)
        return _draw(folder, study.name, study.pictures, runs, comparison, say)


def _draw_general(folder: Path, configs: Sequence[RunConfig], say: Callable[[str], None]) -> Shown:
    with open_recording(str(configs[0].output)) as first:
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
