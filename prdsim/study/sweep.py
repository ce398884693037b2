"""A study from beginning to end: what is finished is verified and kept, the rest is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from prdsim.errors import StudyError
from prdsim.files.whole import write_whole
from prdsim.progress import Meter, Say, progress_stream, silent
from prdsim.running.stopping import StopRequest
from prdsim.study.folder import DONE, OPEN, Standing, State, StudyFolder, summary
from prdsim.study.pool import run_here
from prdsim.study.table import look, study_table
from prdsim.words import shell_word

_PAUSE, _LOOK = 0.5, 1.0  # seconds
_IDLE = 3  # rounds of workers without a change

Engine = Callable[[StudyFolder, Callable[[], bool], Callable[[], bool]], None]
"""Works on a study until nothing is open or the first function says stop.

It calls the second one often, which shows progress, and returns whether members are open.
"""


@dataclass(frozen=True)
class Swept:
    """How a sweep ended: the state of every member, and whether it was stopped, by which signal."""

    standings: dict[str, Standing]
    stopped: bool = False
    signal: signal.Signals | None = None

    @property
    def finished(self) -> bool:
        """Whether every member is finished."""
        return all(s.state is State.FINISHED for s in self.standings.values())


def local(workers: int) -> Engine:
    """Return the engine of this machine: so many processes, a member at a time each."""
    return lambda study, stopped, watch: run_here(study, workers, stopped, watch)


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
    study.resume()
    standings = look(study)
    with StopRequest() as stop, Meter(progress_stream(), total=len(standings)) as meter:
        looked = -_LOOK

        def watch(*, now: bool = False) -> bool:
            nonlocal standings, looked
            if now or time.monotonic() >= looked + _LOOK:  # it reads the files of what runs
                standings = look(study, standings)
                looked = time.monotonic()
            meter.move(sum(s.state in DONE for s in standings.values()), summary(standings))
            if meter.due():
                meter.line(summary(standings))
            return any(s.state in OPEN for s in standings.values())

        def stopped() -> bool:
            return stop.signal is not None or study.stop_file.exists()

        idle = 0
        while not stopped():
            before = standings
            if watch(now=True):
                engine(study, stopped, watch)
                watch(now=True)
                idle = idle + 1 if standings == before else 0
            if all(s.state in DONE for s in standings.values()):
                break
            if idle == _IDLE:
                raise StudyError(
                    f"no worker gets anything done: prdsim sweep run {shell_word(study.path)} "
                    "tells why"
                )
            time.sleep(_PAUSE)  # others are at work on what is left
    standings = look(study)
    content = study_table(study, standings).to_csv().encode()
    write_whole(study.path / "table.csv", content, force=True)
    return Swept(standings, stopped(), stop.signal)


def _verify(study: StudyFolder, say: Say) -> None:
    for member in study.plan.members:
        if study.standing(member).state is State.FINISHED and (reason := study.damage(member)):
            say(f"{member.name}: {reason}")
            study.record_failure(member, reason, "damaged")


def _forget_failures(study: StudyFolder, say: Say) -> None:
    for member in study.plan.members:
        standing = study.standing(member)
        if standing.state is State.FAILED:
            say(f"{member.name}: tried again after: {standing.reason}")
            study.forget_failure(member)
