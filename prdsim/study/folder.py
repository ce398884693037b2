"""The folder of a study: its plan, and a trajectory a member, which is all that is durable.

What a member's state is follows from its file, never from a list that could disagree with it:
``study.json`` is the plan, ``members/NAME.h5`` a trajectory, ``failures/NAME.json`` the reason why
there is none, ``claims/NAME`` what the process that works on a member holds a lock on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from prdsim import __version__
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DivergedError, PrdsimError, StudyError
from prdsim.files import lock, posix
from prdsim.files.foreign import ForeignFileError, open_regular_file
from prdsim.files.json_text import read_json
from prdsim.files.small import folder_for_output
from prdsim.files.whole import write_whole
from prdsim.study.plan import Member, Plan, in_words
from prdsim.trajectory import Glance, glance, open_trajectory
from prdsim.words import shown

FORMAT, FORMAT_VERSION = "prdsim-study", 1
_LARGEST = 200_000_000  # bytes of a plan
_LARGEST_REASON = 1_000_000  # bytes
MOST_DEATHS = 10
"""Processes that may die on a member in a row, without a word and at the same step."""


class State(StrEnum):
    """What a member's files say."""

    PLANNED = "planned"
    RUNNING = "running"
    BEGUN = "begun"  # interrupted or killed: it can be resumed
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"


OPEN = (State.PLANNED, State.BEGUN)
"""States of members that wait for a process."""

DONE = (State.FINISHED, State.DIVERGED, State.FAILED)
"""States that another start leaves alone."""


@dataclass(frozen=True)
class Standing:
    """The state of a member, with the step it has reached, and the reason of a failure.

    ``scalars`` holds the last row of its scalars by name, if it has any.
    """

    state: State
    step: int = 0
    reason: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def time(self) -> float:
        """The time of the last row of scalars."""
        return self.scalars.get("time", 0.0)


class StudyFolder:
    """A folder that holds a study; see `create` and `open`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan

    @classmethod
    def create(cls, path: Path, plan: Plan) -> StudyFolder:
        """Make the folder of a study, or open it if it is there.

        Members may have been added; those that have not begun may be gone.

        Raises:
            ConfigError: a member cannot be, or the folder holds trajectories of others.
            OutputError: it cannot be written.
            StudyError: the plan in it cannot be read.
        """
        names = {m.name for m in plan.members}
        if os.path.lexists(path / "study.json"):
            before = cls.open(path).plan
            at = cls(path, before).trajectory
            lost = {m.name for m in before.members if os.path.lexists(at(m))} - names
            if lost:
                raise ConfigError(
                    f"{path} holds {len(lost)} members that are not in this study, such as "
                    f"{min(lost)}; name another folder"
                )
            if before == plan:
                return cls(path, plan)
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "prdsim_version": __version__,
            **plan.to_dict(),
        }
        with folder_for_output(path), posix.output_errors("write", path):
            for name in ("members", "failures", "claims"):
                (path / name).mkdir(exist_ok=True)
            write_whole(path / "study.json", json.dumps(about, indent=1).encode(), force=True)
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """Open the folder of a study.

        Raises `StudyError` if it is none, or its plan cannot be read.
        """
        file = path / "study.json"
        try:
            with open_regular_file(file) as opened:
                values = read_json(opened.read(_LARGEST + 1).decode())
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError("it is not a plan of prdsim")
            if values.get("format_version") != FORMAT_VERSION:
                raise ValueError(f"it has format version {values.get('format_version')!r}")
            return cls(path, Plan.from_dict(values))
        except FileNotFoundError:
            raise StudyError(
                f"{path} is not the folder of a study (it has no study.json)"
            ) from None
        except OSError as error:
            raise StudyError(f"{file} cannot be read: {error.strerror}") from None
        except (ValueError, ForeignFileError) as error:
            raise StudyError(f"{file} cannot be read: {shown(error, 200)}") from None

    def trajectory(self, member: Member) -> Path:
        """Return the path of a member's trajectory: its output, if the plan names one."""
        return Path(member.config.output or self.path / "members" / f"{member.name}.h5")

    def config(self, member: Member) -> RunConfig:
        """Return a member's configuration, with its output.

        A file of norms is relative to the study's folder: it may be a member of another study.
        """
        keys = {"output": str(self.trajectory(member))}
        if isinstance(member.config.forcing_norm, str):
            keys["forcing_norm"] = str(self.path / member.config.forcing_norm)
        return member.config.replace(**keys)

    def failure(self, member: Member) -> Path:
        """Return the path of the reason why a member failed."""
        return self.path / "failures" / f"{member.name}.json"

    @property
    def stop_file(self) -> Path:
        """A file that stops whatever works on the study, as long as it exists."""
        return self.path / "stop"

    def resume(self) -> None:
        """Let others work on the study again; raises `OutputError`."""
        if os.path.lexists(self.stop_file):
            with posix.output_errors("remove", self.stop_file):
                self.stop_file.unlink()

    def begun(self) -> set[str]:
        """Return the names of the members that have a file; the others are planned.

        Names of other files may be among them, and members whose files are elsewhere; where folders
        cannot be listed, all members are.
        """
        folders = (self.path / "members", self.path / "failures")
        elsewhere = {member.name for member in self.plan.members if member.config.output}
        try:
            files = [file.name for folder in folders for file in folder.iterdir()]
            return elsewhere | {name.partition(".")[0] for name in files}
        except OSError:
            return {member.name for member in self.plan.members}

    def standing(self, member: Member) -> Standing:
        """Return the state of a member, by a glance at its file; see `damage`."""
        path = self.trajectory(member)
        if (reason := self._reason(member)) is not None:
            return Standing(State.FAILED, reason=reason)
        if not os.path.lexists(path):
            return Standing(State.PLANNED)
        try:
            seen = glance(path)
        except PrdsimError as error:
            if not os.path.lexists(path):  # removed meanwhile
                return Standing(State.PLANNED)
            return Standing(State.FAILED, reason=str(error))
        if reason := _not_of(path, seen.config, member):
            return Standing(State.FAILED, reason=reason)
        return _standing_of(seen)

    def _reason(self, member: Member) -> str | None:
        path = self.failure(member)
        try:
            with open_regular_file(path) as file:
                values = read_json(file.read(_LARGEST_REASON))
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        except (ValueError, ForeignFileError):
            values = None
        known = isinstance(values, dict) and "reason" in values
        return str(values["reason"]) if known else f"unknown: {path} is damaged"

    def record_failure(self, member: Member, reason: str, kind: str) -> None:
        """Record why a member failed; it is left alone until `forget_failure`."""
        about = {
            "member": member.name,
            "settings": member.settings,
            "error": kind,
            "reason": reason,
        }
        write_whole(self.failure(member), json.dumps(about, indent=1).encode(), force=True)

    def forget_failure(self, member: Member) -> None:
        """Let a failed member be tried again; a file that cannot be read is put aside."""
        path = self.trajectory(member)
        self.failure(member).unlink(missing_ok=True)
        (self.path / "claims" / member.name).unlink(missing_ok=True)
        if os.path.lexists(path) and self.damage(member):
            number = 1
            while (aside := path.with_suffix(f".{number}.damaged")).exists():
                number += 1
            path.rename(aside)

    def error_of(self, member: Member, standing: Standing) -> PrdsimError | None:
        """Return the error of a member that diverged or failed, None of another."""
        about = f"{self.trajectory(member)} ({in_words(member.settings)})"
        if standing.state is State.DIVERGED:
            return DivergedError(f"{about} diverged: {standing.reason}")
        if standing.state is State.FAILED:
            return StudyError(f"{about} failed: {standing.reason}")
        return None

    def damage(self, member: Member) -> str:
        """Return what is damaged in a member's file, or why it is not its; empty if it is whole."""
        path = self.trajectory(member)
        try:
            with open_trajectory(path) as trajectory:
                if reason := _not_of(path, trajectory.config, member):
                    return reason
                problems = [problem for problem in trajectory.check() if problem.is_damage]
        except PrdsimError as error:
            return str(error)
        return f"damaged: {problems[0]}" if problems else ""

    @contextmanager
    def claimed(self, member: Member) -> Iterator[bool]:
        """Hold a member against all other processes; yield whether it was free.

        Raises `StudyError` if its processes died again and again, which is recorded as a failure.
        """
        path = self.path / "claims" / member.name
        with posix.output_errors("write", path):
            path.parent.mkdir(exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            free = True
            with suppress(
                OSError
            ):  # no locks here: the trajectory's name has one maker all the same
                free = lock.try_acquire(fd)
            yield free
            if free:
                os.ftruncate(fd, 0)  # an orderly end, whatever it was
        finally:
            os.close(fd)

    def count_start(self, member: Member, step: int) -> int:
        """Note that a process starts at a step; return how many died there without a word."""
        path = self.path / "claims" / member.name
        line = f"{step}\n".encode()
        with posix.output_errors("write", path), path.open("a+b") as file:
            file.seek(0)
            deaths = file.readlines().count(line)
            file.write(line)
        return deaths


def _not_of(path: Path, config: Mapping[str, Any], member: Member) -> str:
    """Return that a file holds another run than a member's; empty if it does not.

    The number of threads may be another one, which a resumed run keeps.
    """
    same = member.config.describes({**config, "threads": member.config.threads})
    return "" if same else f"{path} holds another run; move it elsewhere"


def _standing_of(seen: Glance) -> Standing:
    states = {
        "running": State.RUNNING,
        "finished": State.FINISHED,
        "diverged": State.DIVERGED,
    }
    state = states.get(seen.status, State.BEGUN)
    reason = seen.reason if state is State.DIVERGED else ""
    return Standing(state, seen.step, reason, seen.last)


def summary(standings: dict[str, Any]) -> str:
    """Return how many members are in which state: 7 finished, 1 failed, 2 planned."""
    counts = {state: sum(s.state is state for s in standings.values()) for state in State}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)
