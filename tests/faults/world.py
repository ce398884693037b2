"""A tiny run, its lives (new, resumed, longer, over another), and what must be left of each."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from support import names
from support_runs import assert_same_trajectory

from faults.child import Hook, Line, call, warm
from faults.places import fresh_folder
from faults.report import Broken
from prdsim.errors import PrdsimError
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Status, Trajectory, TrajectoryWriter, open_trajectory

STEPS, LONGER = 12, 24
NAME = "run.h5"


def run_command(steps: int = STEPS, seed: int = 0, output: str = NAME) -> tuple[object, ...]:
    """A run with the adversary, of gd, that commits a restart state with every row."""
    sizes = ("--dataset", "digits", "--samples", 6, "--width", 4, "--critic-width", 3)
    method = ("--diffusion", "--integrator", "gd", "--penalty-points", "random")
    pace = ("--critic-step-size", 0.01, "--step-size", 0.02, "--backend", "numpy", "--threads", 1)
    rows = ("--snapshots", "every:4", "--scalars", "every:2", "--restart-seconds", 0)
    end = ("--steps", steps, "--seed", seed, "-o", output)
    return ("run", *sizes, *method, *pace, *rows, *end)


@dataclass(frozen=True)
class Promise:
    """So many rows of the run of a seed are in the file; of a file named so, at least."""

    seed: int
    scalars: int
    snapshots: int


NOTHING = Promise(0, 0, 0)

# -- what a child does besides its work ------------------------------------------------------------


@contextmanager
def patched(owner: Any, name: str, function: Any) -> Iterator[None]:
    """Put another function in the place of one."""
    real = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextmanager
def promising(line: Line, after: Sequence[tuple[int, Any]] = ()) -> Iterator[None]:
    """Tell every commit once it is acknowledged; ``after`` so many, call something."""
    real, count, actions = TrajectoryWriter.commit, 0, dict(after)

    def commit(self: TrajectoryWriter, *arguments: Any, **keys: Any) -> None:
        nonlocal count
        real(self, *arguments, **keys)
        record = self.record
        seed = json.loads(self._map.attributes["config"])["seed"]
        line.tell(promise=[seed, record.scalar_rows, record.snapshot_rows])
        count += 1
        actions.get(count, lambda: None)()

    with patched(TrajectoryWriter, "commit", commit):
        yield


def paused_after(*commits: int) -> Hook:
    """A hook that lets a run pause after so many commits."""
    return lambda line: promising(line, [(count, line.pause) for count in commits])


def stopped_after(commits: int) -> Hook:
    """A hook that lets a run stop as by SIGTERM after some commits."""
    return lambda line: promising(line, [(commits, lambda: signal.raise_signal(signal.SIGTERM))])


def last_promise(told: Sequence[dict[str, Any]]) -> Promise | None:
    """The last acknowledged commit, if any."""
    promises = [what["promise"] for what in told if "promise" in what]
    return Promise(*promises[-1]) if promises else None


# -- lives -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """A command on a file, or on none, and the step at which it ends.

    ``or_else`` may be there before the first commit in place of the old file; None: no file.
    """

    name: str
    arguments: tuple[object, ...]
    begins_with: str | None
    end: int = STEPS
    or_else: tuple[Promise | None, ...] = ()
    output: str = NAME

    def begin(self, folder: Path) -> Path:
        """Make the folder as it is before the command; return the file."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.begins_with:
            shutil.copy(world().files[self.begins_with], folder / NAME)
        return folder / NAME

    def accepts(
        self, told: Sequence[dict[str, Any]], before: tuple[Promise | None, ...] = ()
    ) -> tuple[Promise | None, ...]:
        """What may be left after what a child told, or before it told anything."""
        if promise := last_promise(told):
            return (promise,)
        held = world().held[self.begins_with] if self.begins_with else None
        return before or (held, *self.or_else)

    def judge(self, path: Path, accepted: Sequence[Promise | None]) -> None:
        """Raise `Broken` unless a file holds one of the promises, undamaged and right."""
        if not path.exists():
            if None not in accepted:
                raise Broken("lost", f"{path.name} is missing, after {accepted}")
            return
        with reading(path) as trajectory:
            found = held_by(trajectory)
            if not any(_keeps(found, promise) for promise in accepted):
                raise Broken("lost", f"{found} of {accepted}")
            if damage := [str(problem) for problem in trajectory.check() if problem.is_damage]:
                raise Broken("lost", f"{damage}")
            require_bits(trajectory, world().rows[found.seed])

    def complete(self, folder: Path) -> None:
        """Go on as a user would, to the end; raise `Broken` unless it is the uninterrupted run."""
        path = folder / NAME
        command = self.what_is_left(path)
        if command:
            ended = call(folder, *command)
            if ended.code != 0:
                raise Broken("lost", f"{command[0]} gave {ended.code}: {ended.err}")
        require_same(world().files[f"whole {self.end}"], path)
        if left := sorted(set(names(folder)) - {NAME}):
            raise Broken("promise", f"left behind: {left}")

    def what_is_left(self, path: Path) -> tuple[object, ...]:
        """The command that a user would go on with; () if all is done."""
        if not path.exists():
            return run_command()
        with reading(path) as trajectory:
            finished = trajectory.status is Status.FINISHED
            planned = trajectory.planned_snapshots[-1]
            seed = trajectory.config["seed"]
        if seed != 0:
            return (*run_command(), "--force")
        if planned < self.end:
            return ("resume", NAME, "--steps", self.end)
        return () if finished else ("resume", NAME)


def held_by(trajectory: Trajectory) -> Promise:
    """What a file holds."""
    seed = trajectory.config["seed"]
    return Promise(seed, len(trajectory.scalars["step"]), len(trajectory.step))


def _keeps(found: Promise, promise: Promise | None) -> bool:
    return (
        promise is not None
        and found.seed == promise.seed
        and found.scalars >= promise.scalars
        and found.snapshots >= promise.snapshots
    )


@contextmanager
def reading(path: Path) -> Iterator[Trajectory]:
    """Open a file that must be readable: what fails is lost."""
    try:
        with open_trajectory(path) as trajectory:
            yield trajectory
    except PrdsimError as error:
        raise Broken("lost", f"{type(error).__name__}: {error}") from error


def require_bits(trajectory: Trajectory, rows: dict[str, np.ndarray]) -> None:
    """Raise `Broken` unless every row is the run's, to the last bit."""
    for name, found in rows_of(trajectory).items():
        if found.tobytes() != rows[name][: len(found)].tobytes():
            raise Broken("wrong", f"{name} differs")


def rows_of(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """All committed rows."""
    rows = {f"scalars/{name}": column for name, column in trajectory.scalars.items()}
    rows |= {name: getattr(trajectory, name)[:] for name in ARRAYS}
    return rows | {"step": trajectory.step, "time": trajectory.time}


def require_same(left: Path, right: Path) -> None:
    """Raise `Broken` unless two files hold the same run."""
    try:
        assert_same_trajectory(left, right)
    except AssertionError as error:
        raise Broken("wrong", f"not the uninterrupted run: {error}") from error
    except PrdsimError as error:
        raise Broken("lost", f"{type(error).__name__}: {error}") from error


NEW = Life("run", run_command(), None, or_else=(NOTHING,))
FORCED = Life("run --force", (*run_command(), "--force"), "other", or_else=(NOTHING,))
RESUMED = Life("resume", ("resume", NAME), "stopped")
LENGTHENED = Life(
    "resume --steps", ("resume", NAME, "--steps", LONGER), f"whole {STEPS}", end=LONGER
)
LIVES = (NEW, FORCED, RESUMED, LENGTHENED)


# -- the files to begin with, and to compare with --------------------------------------------------


@dataclass(frozen=True)
class World:
    """A folder in memory where there is such a place, files to begin with, rows to expect."""

    folder: Path
    files: dict[str, Path]
    held: dict[str, Promise]
    rows: dict[int, dict[str, np.ndarray]]


@cache
def world() -> World:
    """Make the world, and import everything that the children need."""
    folder = fresh_folder()
    files, rows = {}, {}

    def make(name: str, code: int, *command: object, hook: Hook = promising) -> None:
        ended = call(folder, *command, hook=hook)
        assert ended.code == code, ended
        files[name] = folder / f"{name}.h5"

    warm()
    for steps in (STEPS, LONGER):
        make(f"whole {steps}", 0, *run_command(steps, 0, f"whole {steps}.h5"))
    make("other", 0, *run_command(seed=1, output="other.h5"))
    terminated = 128 + signal.SIGTERM
    make("stopped", terminated, *run_command(output="stopped.h5"), hook=stopped_after(4))
    held = {}
    for name, path in files.items():
        with open_trajectory(path) as trajectory:
            held[name] = held_by(trajectory)
            if name in ("other", f"whole {LONGER}"):
                rows[held[name].seed] = rows_of(trajectory)
    return World(folder, files, held, rows)
