"""``prdsim sweep``: studies of many runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import deliver, table_format
from .shared_options import HintingGroup, settings_option, takes_table_output
from .terminal import say

if TYPE_CHECKING:
    from prdsim.study import Plan, StudyFolder, Swept


class _Sweep(HintingGroup):
    """A group whose command is ``start`` unless another one is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.list_commands(ctx), *self.get_help_option_names(ctx)}
        return super().parse_args(ctx, args if args[:1] and args[0] in known else ["start", *args])


_FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group(cls=_Sweep, name="sweep")
def command() -> None:
    """Run a study: many runs that differ in a few settings.

    prdsim sweep study.toml -o study/ starts a study, or goes on with it. A study without a file:
    prdsim sweep -o study/ --set dataset=digits --vary seed=0:10 --vary diffusion=true,false
    """


@command.command(name="start")
@click.argument("study", metavar="[STUDY.toml]", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="folder of the study")
@click.option("--vary", multiple=True, metavar="KEY=VALUES", help="an axis, such as seed=0:10")
@settings_option("set a key of all members; may be repeated")
@click.option("--workers", type=click.IntRange(1, 4096), help="processes  [the cores]")
@click.option("--retry-failed", is_flag=True, help="try failed members again")
@click.option("--dry-run", is_flag=True, help="show the plan, and what it needs; do nothing")
def start(
    study: Path | None,
    output: Path | None,
    vary: tuple[str, ...],
    settings: tuple[str, ...],
    workers: int | None,
    retry_failed: bool,
    dry_run: bool,
) -> int:
    """Run all members of a study, or those that are left.

    Finished members are verified and kept, interrupted and killed ones resumed. Ctrl-C stops; the
    same command goes on.
    """
    from prdsim.errors import ConfigError
    from prdsim.study import StudyFolder, load_plan, sweep
    from prdsim.study.sweep import local

    plan = load_plan(study, vary=vary, settings=settings)
    if dry_run:
        _describe(plan)
        return 0
    if output is None:
        raise ConfigError("name the folder of the study, such as -o study")
    folder = StudyFolder.create(output, plan)
    engine = local(workers or len(os.sched_getaffinity(0)))
    return _finish(folder, sweep(folder, engine, retry_failed=retry_failed, say=say))


@command.command(name="run")
@_FOLDER
@click.option("--member", metavar="K/N|NAME", help="the share K of N, or one member  [all]")
@click.option("--attached", is_flag=True, hidden=True)
def run(folder: Path, member: str | None, attached: bool) -> int:
    """Work on a study in this process: an element of a job array, or one more worker."""
    from prdsim.study import StudyFolder
    from prdsim.study.worker import chosen, end_with_parent, work

    if attached:
        end_with_parent()
    study = StudyFolder.open(folder)
    done = work(study, chosen(study, member), say=say)
    return 0 if done.signal is None else 128 + done.signal


@command.command(name="status")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def status(folder: Path, as_json: bool) -> None:
    """Tell how far a study is, and which members failed, with their reasons."""
    from prdsim.analysis.table import to_json
    from prdsim.study import StudyFolder
    from prdsim.study.table import look, study_table

    study = StudyFolder.open(folder)
    standings = look(study)
    if as_json:
        say(to_json({"study": str(folder)}, {"members": study_table(study, standings)}))
    else:
        _report(study, standings)


@command.command(name="table")
@_FOLDER
@takes_table_output
def table(folder: Path, form: str | None, output: Path | None, force: bool) -> None:
    """Print the table of a study: settings, state and final scalars of every member."""
    from prdsim.analysis.table import to_json
    from prdsim.study import StudyFolder
    from prdsim.study.table import study_table

    form = table_format(form, output, force=force)
    members = study_table(StudyFolder.open(folder))
    texts = {
        "csv": members.to_csv,
        "json": lambda: to_json({"study": str(folder)}, {"members": members}) + "\n",
        "table": lambda: members.to_text() + "\n",
    }
    deliver(texts[form](), output, force=force)


def _describe(plan: Plan) -> None:
    from prdsim.study.plan import in_words

    for member in plan.members:
        say(f"  {member.name}  {in_words(member.settings)}")
    say(f"{len(plan.members)} members")


def _finish(study: StudyFolder, swept: Swept) -> int:
    _report(study, swept.standings)
    say(f"table: {study.path / 'table.csv'}")
    if swept.signal is not None:
        say("stopped; the same command goes on", err=True)
        return 128 + swept.signal
    return 0 if swept.finished else 1


def _report(study: StudyFolder, standings: dict[str, object]) -> None:
    from prdsim.study.folder import State, summary
    from prdsim.study.plan import in_words

    say(f"{study.path}: {len(study.plan.members)} members: {summary(standings)}")
    for member in study.plan.members:
        standing = standings[member.name]
        if standing.state in (State.FAILED, State.DIVERGED):
            which = f"{member.name} ({in_words(member.settings)})"
            say(f"  {standing.state}: {which}: {standing.reason}")
