"""``prdsim sweep``: studies of many runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prdsim.errors import did_you_mean
from prdsim.vocabulary import GROUPS
from prdsim.words import shell_word

from .choices import axes, some
from .output import deliver, in_format, table_format
from .shared_options import FILE_NAME, HintingGroup, settings_option, takes_table_output
from .terminal import say

if TYPE_CHECKING:
    from prdsim.study import Member, Plan, StudyFolder, Swept
    from prdsim.study.folder import Standing
    from prdsim.study.sweep import Engine


class _Sweep(HintingGroup):
    """A group whose command is ``start`` unless another one is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if self._names_another(ctx, args) else ["start", *args])

    def _names_another(self, ctx: click.Context, args: list[str]) -> bool:
        """Whether another command is named, is meant, or may be completed."""
        if not args:
            return ctx.resilient_parsing
        names = self.list_commands(ctx)
        meant = not Path(args[0]).suffix and bool(did_you_mean(args[0], names))
        return args[0] in (*names, *self.get_help_option_names(ctx)) or meant


_FOLDER = click.argument("folder", type=FILE_NAME)


@click.group(cls=_Sweep, name="sweep")
def command() -> None:
    """Run a study: many runs that differ in a few settings.

    prdsim sweep study.toml -o study/ starts a study, or goes on with it. A study without a file:
    prdsim sweep -o study/ --set dataset=digits --vary seed=0:10 --vary diffusion=true,false
    """


@command.command(name="start")
@click.argument("study", metavar="[STUDY.toml]", required=False, type=FILE_NAME)
@click.option("-o", "--output", type=FILE_NAME, help="folder of the study")
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUES",
    help="an axis, such as seed=0:10",
    shell_complete=axes,
)
@settings_option("set a key of all members; may be repeated")
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="processes  [as cores and memory allow]"
)
@click.option("--dask", is_flag=True, help="use Dask for the workers of this machine")
@click.option("--scheduler", metavar="ADDRESS", help="use a running Dask scheduler")
@click.option("--scheduler-file", type=FILE_NAME, help="use the scheduler that wrote it")
@click.option("--retry-failed", is_flag=True, help="try failed members again")
@click.option("--detach", is_flag=True, help="go on in the background, whatever ends here")
@click.option("--plan-only", is_flag=True, help="make the folder; others do the work")
@click.option("--dry-run", is_flag=True, help="show the plan, and what it needs; do nothing")
def start(
    study: Path | None,
    output: Path | None,
    vary: tuple[str, ...],
    settings: tuple[str, ...],
    workers: int | None,
    dask: bool,
    scheduler: str | None,
    scheduler_file: Path | None,
    retry_failed: bool,
    detach: bool,
    plan_only: bool,
    dry_run: bool,
) -> int:
    """Run all members of a study, or those that are left.

    Finished members are verified and kept, interrupted and killed ones resumed. Ctrl-C stops; the
    same command goes on.
    """
    from prdsim.errors import ConfigError
    from prdsim.study import StudyFolder, load_plan, sweep
    from prdsim.study.cluster import OnCluster
    from prdsim.study.forecast import at_once
    from prdsim.study.sweep import local

    plan = load_plan(study, vary=vary, settings=settings)
    if dry_run:
        _describe(plan)
        return 0
    if output is None:
        raise ConfigError("name the folder of the study, such as -o study")
    folder = StudyFolder.create(output, plan)
    if plan_only:
        folder.resume()
        say(f"{len(plan.members)} members; prdsim sweep run {shell_word(output)} works on them")
        return 0
    if detach:
        return _detached(folder)
    count = workers or at_once(plan)
    engine: Engine = local(count)
    if dask or scheduler or scheduler_file:
        engine = OnCluster(address=scheduler or "", scheduler_file=scheduler_file, workers=count)
    return _finish(folder, sweep(folder, engine, retry_failed=retry_failed, say=say))


@command.command(name="run")
@_FOLDER
@click.option("--member", metavar="K/N|NAME", help="the share K of N, or one member  [all]")
@click.option("--attached", is_flag=True, hidden=True)
def run(folder: Path, member: str | None, attached: bool) -> int:
    """Work on a study in this process: an element of a job array, or one more worker."""
    from prdsim.errors import StudyError
    from prdsim.study import State, StudyFolder
    from prdsim.study.worker import chosen, end_with_parent, work

    if attached:
        end_with_parent()
    study = StudyFolder.open(folder)
    if study.stop_file.exists() and not attached:
        raise StudyError(
            f"the study is stopped: remove {study.stop_file}, or go on by prdsim sweep"
        )
    members = chosen(study, member)
    done = work(study, members, say=say)
    if done.stopped:
        return 128 + (done.signal or signal.SIGTERM)
    if attached:  # by a sweep, which tells how members ended
        return 0
    standings = {each.name: study.standing(each) for each in members}
    _failures(members, standings)
    return 0 if all(s.state in (State.FINISHED, State.RUNNING) for s in standings.values()) else 1


@command.command(name="stop")
@_FOLDER
def stop(folder: Path) -> None:
    """Stop whatever works on a study, here or elsewhere, within one step.

    Until `prdsim sweep` goes on with the study, nothing works on it.
    """
    from prdsim.files import posix
    from prdsim.study import StudyFolder

    study = StudyFolder.open(folder)
    with posix.output_errors("write", study.stop_file):
        study.stop_file.touch()
    say(f"{study.stop_file} stops all members; prdsim sweep ... goes on")


@command.command(name="status")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def status(folder: Path, as_json: bool) -> None:
    """Tell how far a study is, and which members failed, with their reasons."""
    from prdsim.study import StudyFolder
    from prdsim.study.table import look, study_table
    from prdsim.table import to_json

    study = StudyFolder.open(folder)
    standings = look(study)
    if as_json:
        say(to_json({"study": str(folder)}, {"members": study_table(study, standings)}))
    else:
        report(study, standings)


@command.command(name="table")
@_FOLDER
@click.option(
    "--measures",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="add this group of measures at the end; may be repeated",
    shell_complete=some(GROUPS),
)
@takes_table_output
def table(
    folder: Path, groups: tuple[str, ...], form: str | None, output: Path | None, force: bool
) -> None:
    """Print the table of a study: settings, state and final scalars of every member.

    prdsim analyze --help lists the groups of measures.
    """
    from prdsim.progress import tracked
    from prdsim.study import StudyFolder
    from prdsim.study.table import study_table

    form = table_format(form, output, force=force)
    study = StudyFolder.open(folder)
    members = study_table(study, groups=groups, progress=lambda items: tracked(items, "members"))
    for note in members.notes if form == "csv" else ():
        say(note, err=True)
    text = in_format({"members": members}, form, {"study": str(folder)})
    deliver(text, output, force=force)


def _detached(study: StudyFolder) -> int:
    """Call this command again, in a session of its own."""
    import sys

    words = [word for word in sys.argv[1:] if word != "--detach"]
    log = study.path / "sweep.log"
    command = [sys.executable, "-m", "prdsim", *words]
    with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
        streams = ((nothing, 0), (file, 1), (file, 2))
        actions = [(os.POSIX_SPAWN_DUP2, stream.fileno(), number) for stream, number in streams]
        os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
    say(f"at work; prdsim sweep status {shell_word(study.path)} tells how far, {log} what is said")
    return 0


def _describe(plan: Plan) -> None:
    from prdsim.files.small import size_text
    from prdsim.study.forecast import forecast
    from prdsim.study.plan import in_words

    needs = forecast(plan)
    for member in plan.members:
        say(f"  {member.name}  {in_words(member.settings)}")
    say(
        f"{len(plan.members)} members; up to {size_text(needs.memory)} of memory each, "
        f"{size_text(needs.disk)} of disk; a velocity of all takes {needs.operations / 1e9:.3g} "
        "billion operations"
    )


def _finish(study: StudyFolder, swept: Swept) -> int:
    report(study, swept.standings)
    say(f"table: {study.path / 'table.csv'}")
    if swept.stopped:
        say("stopped; the same command goes on", err=True)
        return 128 + (swept.signal or signal.SIGTERM)
    return 0 if swept.finished else 1


def report(study: StudyFolder, standings: dict[str, Standing]) -> None:
    """Tell the state of a study, and which members failed."""
    from prdsim.study.folder import summary

    stopped = "; stopped" if study.stop_file.exists() else ""
    say(f"{study.path}: {len(study.plan.members)} members: {summary(standings)}{stopped}")
    _failures(study.plan.members, standings)


def _failures(members: Iterable[Member], standings: dict[str, Standing]) -> None:
    """Name the members that failed or diverged, with their reasons."""
    from prdsim.study.folder import State
    from prdsim.study.plan import in_words

    for member in members:
        standing = standings[member.name]
        if standing.state in (State.FAILED, State.DIVERGED):
            which = f"{member.name} ({in_words(member.settings)})"
            say(f"  {standing.state}: {which}: {standing.reason}")
