"""A study from beginning to end: what is finished is verified and kept, the rest is done."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from prdsim.files.whole import write_whole
from prdsim.progress import Meter, Say, progress_stream, silent
from prdsim.running.stopping import StopRequest
from prdsim.study.folder import DONE, Standing, State, StudyFolder, summary
from prdsim.study.pool import run_here
from prdsim.study.table import broken, look, study_table

Engine = Callable[[StudyFolder, Callable[[], bool], Callable[[], None]], None]
"""Works on a study until all is done or the first function says stop; calls the second often."""


@dataclass(frozen=True)
class Swept:
    """How a sweep ended: the state of every member, and the signal that stopped it, if any."""

    standings: dict[str, Standing]
    signal: signal.Signals | None = None

    @property
    def finished(self) -> bool:
        """Whether every member is finished."""
        return all(s.state is State.FINISHED for s in self.standings.values())


def local(workers: int) -> Engine:
    """Return the engine of this machine: so many processes, a member at a time each."""
    return lambda study, stopped, watch: run_here(study, workers, stopped=stopped, watch=watch)


def sweep(
    study: StudyFolder,
    engine: Engine,
    *,
    retry_failed: bool = False,
    say: Say = silent,
) -> Swept:
    """Do what is left of a study, and write its table, ``table.csv``, from the files.

    Finished members are verified by their checksums; a damaged one is a failure. ``retry_failed``
    lets failed members be tried again.
    """
    _verify(study, say)
    if retry_failed:
        _forget_failures(study, say)
    with StopRequest() as stop, Meter(progress_stream(), total=len(study.plan.members)) as meter:

        def watch() -> None:
            standings = look(study)
            meter.move(sum(s.state in DONE for s in standings.values()), summary(standings))
            if meter.due():
                meter.line(summary(standings))

        engine(study, lambda: stop.signal is not None or study.stop_file.exists(), watch)
        watch()
    standings = look(study)
    content = study_table(study, standings).to_csv().encode()
    write_whole(study.path / "table.csv", content, force=True)
    return Swept(standings, stop.signal)


def _verify(study: StudyFolder, say: Say) -> None:
    for member in study.plan.members:
        if study.standing(member).state is State.FINISHED and (reason := broken(study, member)):
            say(f"{member.name}: {reason}")
            study.record_failure(member, reason, "damaged")


def _forget_failures(study: StudyFolder, say: Say) -> None:
    for member in study.plan.members:
        standing = study.standing(member)
        if standing.state is State.FAILED:
            say(f"{member.name}: tried again after: {standing.reason}")
            study.forget_failure(member)
