"""A process that works on members of a study, one after the other.

All engines are this: a local process, an element of a job array, a task of a cluster. What is done
is in the files, so any number of them may work on a study, and die, at any time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prdsim.errors import ConfigError, DivergedError, PrdsimError
from prdsim.progress import Say, silent
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.stopping import StopRequest
from prdsim.study.folder import MOST_DEATHS, OPEN, StudyFolder
from prdsim.study.plan import Member, in_words
from prdsim.words import shown

_LOOK = 1.0  # seconds between looks for the stop file
_GRACE = 30.0  # seconds in which a process without a parent stops


@dataclass(frozen=True)
class Worked:
    """How a worker ended: members it worked on, and the signal that stopped it, if any.

    ``stopped`` without a signal: the study's stop file was there.
    """

    members: int
    stopped: bool = False
    signal: signal.Signals | None = None


def work(
    study: StudyFolder,
    members: Sequence[Member],
    *,
    say: Say = silent,
    progress: bool = False,
) -> Worked:
    """Run or resume members that are not done and not in other hands, in order.

    A member that fails is recorded with its reason, and stops nothing else. ``progress`` shows
    that of each run. New ones have one thread unless they say otherwise: several members at a time
    use cores better than several threads of one, and the bits of a study are then the same however
    many workers it has. Resumed ones keep theirs.
    """
    done = 0
    with StopRequest() as stop, _heeding(study.stop_file):
        for member in members:
            number = stop.signal
            if study.stop_file.exists():
                return Worked(done, stopped=True)
            if number is None and study.standing(member).state in OPEN:
                with study.claimed(member) as free:
                    standing = study.standing(member)  # it may have been done meanwhile
                    if free and standing.state in OPEN:
                        done += 1
                        number = _perform(study, member, standing.step, say, progress)
            if number is not None:
                asked = study.stop_file.exists()
                return Worked(done, stopped=True, signal=None if asked else number)
    return Worked(done)


def _perform(
    study: StudyFolder, member: Member, step: int, say: Say, progress: bool
) -> signal.Signals | None:
    """Run or resume a member; return the signal that stopped it, if any."""
    path = study.trajectory(member)
    if (deaths := study.count_start(member, step)) >= MOST_DEATHS:
        study.record_failure(
            member,
            f"{deaths} processes died at step {step} without a word; is memory short?",
            "died",
        )
        return None
    say(f"{member.name}: {in_words(member.settings)}")
    try:
        if path.exists():
            return resume(path, progress=progress).signal
        config = study.config(member)
        config = config.replace(threads=config.threads or 1)
        return run(config, progress=progress, remarks=False).signal  # they are meant
    except DivergedError:
        return None  # its file tells
    except MemoryError:
        study.record_failure(member, "out of memory; lower width or samples", "MemoryError")
    except PrdsimError as error:
        if study.standing(member).state in OPEN:  # else another process has it, without locks
            study.record_failure(member, str(error), type(error).__name__)
    except Exception as error:
        study.record_failure(member, f"internal error: {error!r}", type(error).__name__)
    return None


def in_this_process(say: Say, *, progress: bool) -> Callable[..., None]:
    """Return the engine that works here, a member at a time; see `prdsim.study.sweep.Engine`."""

    def engine(study: StudyFolder, stopped: object, watch: object) -> None:  # noqa: ARG001
        done = work(study, study.plan.members, say=say, progress=progress)
        if done.signal is not None:
            signal.raise_signal(done.signal)  # to the sweep, from whose request it was kept

    return engine


@contextmanager
def _heeding(stop_file: Path) -> Iterator[None]:
    """Stop as by SIGTERM once the study's stop file is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            if stop_file.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def end_with_parent() -> None:
    """Stop as by SIGTERM when the parent is gone: it holds the other end of stdin.

    What is then not stopped within a few seconds is killed: nobody waits for it any more.
    """

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock the interpreter needs at its end
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def chosen(study: StudyFolder, which: str | None) -> list[Member]:
    """Return the members that ``K/N`` (the K-th of N shares, from 1) or a name chooses; or all.

    Raises `ConfigError` for anything else.
    """
    members = list(study.plan.members)
    if which is None:
        return members
    number, slash, count = which.partition("/")
    if not slash:
        return [study.plan.member(which)]
    numbers = f"{number}{count}"
    known = numbers.isdecimal() and len(numbers) < 20
    if not known or not count or not number or not 1 <= int(number) <= int(count):
        raise ConfigError(f"--member {shown(which)}: must be K/N with K from 1 to N, or a name")
    return members[int(number) - 1 :: int(count)]
