"""A study from beginning to end: what is finished is verified and kept, the rest is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    progress: bool = True,
    request: StopRequest | None = None,
) -> Swept:
    """Do what is left of a study, and write its table, ``table.csv``, from the files.

    Finished members are verified by their checksums; a damaged one is a failure. ``retry_failed``
    lets failed members be tried again; ``progress`` shows how many members are in which state;
    ``request`` can ask to stop besides signals. Raises `StudyError` if no worker gets anything
    done, and the failure of the request, once all members have stopped.
    """
    request, stream = request or StopRequest(), progress_stream() if progress else None
    standings = _verified(study, say)
    if retry_failed:
        standings |= _tried_again(study, standings, say)
    study.resume()
    with request, Meter(stream, total=len(standings)) as meter:
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
            return request.due() or study.stop_file.exists()

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
    standings = look(study, standings)
    _write(study.path / "table.csv", study_table(study, standings).to_csv().encode())
    if request.failure is not None:
        raise request.failure
    return Swept(standings, stopped(), request.signal)


def _verified(study: StudyFolder, say: Say) -> dict[str, Standing]:
    """Return the state of every member; a finished one whose file is damaged is a failure."""
    standings = look(study)
    for member in study.plan.members:
        finished = standings[member.name].state is State.FINISHED
        if finished and (reason := study.damage(member)):
            say(f"{member.name}: {reason}")
            study.record_failure(member, reason, "damaged")
            standings[member.name] = study.standing(member)
    return standings


def _tried_again(
    study: StudyFolder, standings: Mapping[str, Standing], say: Say
) -> dict[str, Standing]:
    """Forget failures; return the state of the members that had failed."""
    failed = [m for m in study.plan.members if standings[m.name].state is State.FAILED]
    for member in failed:
        say(f"{member.name}: tried again after: {standings[member.name].reason}")
        study.forget_failure(member)
    return {member.name: study.standing(member) for member in failed}


def _write(path: Path, content: bytes) -> None:
    """Write a file unless it is as it should be: nothing need be writable where nothing is done."""
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    write_whole(path, content, force=True)
