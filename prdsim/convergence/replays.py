"""The replays of a run: finer ones, and twins with slightly perturbed initial states.

They are ordinary trajectory files in a folder next to the run, so that stopped ones can continue.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prdsim.analysis import Recording
from prdsim.backends.arrays import HostArray
from prdsim.config import Resolved, RunConfig
from prdsim.convergence.report import replay_folder
from prdsim.datasets import Dataset
from prdsim.errors import (
    DamagedTrajectoryError,
    DivergedError,
    NotATrajectoryError,
    OutputError,
)
from prdsim.physics.randomness import Stream, generator
from prdsim.progress import Progress
from prdsim.recorded import Recorded
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.trajectory import Status, Trajectory, open_trajectory
from prdsim.trajectory.create import remove_strays

Stopped = signal.Signals | None

PERTURBATION = 1e-6
"""||dX||_F / ||X||_F of a twin's initial arrays X."""

TWINS = 2
"""One may return to the run by chance; of two, the one further away counts."""


@dataclass(frozen=True)
class Replay:
    """A planned replay: its file, its settings (also in words) and its initial state."""

    path: Path
    config: RunConfig
    resolved: Resolved
    setting: str
    initial: Mapping[str, HostArray]

    @property
    def name(self) -> str:
        """The name of its file without suffix."""
        return self.path.stem


@dataclass(frozen=True)
class ReplayPlan:
    """The replays of a run: two finer ones, the finest last, then twins; and their samples.

    ``ratio`` is the factor by which step size or tolerance falls from run to first and from first
    to second replay; ``setting`` describes the run's own. ``chart`` holds the run's chart arrays.
    """

    setting: str
    ratio: float
    dataset: Dataset
    chart: Mapping[str, HostArray]
    forcing_norms: HostArray | None
    finer: tuple[Replay, ...]
    twins: tuple[Replay, ...]

    @property
    def replays(self) -> tuple[Replay, ...]:
        """All replays, in the order in which they are made."""
        return (*self.finer, *self.twins)


def plan_of(recording: Recording, trajectory: Trajectory, index: int) -> ReplayPlan:
    """Plan the replays of a finished run up to one of its snapshots.

    They have the run's samples, initial arrays, backend, precision, chart and threads. Adaptive
    integrators are replayed with rtol and atol divided by sqrt(10) and by 10; the others with a
    half and a quarter of the step, also of the critic's, so that its speed does not change.
    Raises `DataError` or `ResumeMismatchError` if the samples are unavailable.
    """
    folder, dataset = replay_folder(trajectory.path), _dataset(recording, trajectory)
    recorded = Recorded(trajectory)
    resolved = recorded.resolved
    base = _resolved_config(recording.settings, resolved, dataset, float(recording.time[index]))
    refined, ratio = (_tighter, math.sqrt(10)) if base.adaptive else (_smaller_step, 2.0)
    initial, chart = recorded.initial, recorded.chart

    def replay(name: str, factor: float, begin: Mapping[str, HostArray]) -> Replay:
        path = folder / f"{name}.h5"
        config, fitting = refined(base, resolved, factor)
        return Replay(path, config.replace(output=str(path)), fitting, _setting(config), begin)

    finer = [replay(name, ratio**k, initial) for k, name in enumerate(_FINER, start=1)]
    twins = [replay(f"twin-{k + 1}", 1, begin) for k, begin in enumerate(_twins(base, initial))]
    norms = recorded.forcing_norms
    return ReplayPlan(_setting(base), ratio, dataset, chart, norms, tuple(finer), tuple(twins))


_FINER = ("finer", "finest")


def _dataset(recording: Recording, trajectory: Trajectory) -> Dataset:
    """Return the samples of the run, in its order."""
    X, Y = (np.ascontiguousarray(array, dtype=float) for array in recording.samples)
    about = trajectory.attributes
    name, sha256 = str(about["dataset"]), str(about["dataset_sha256"])
    return Dataset(X, Y, name, recording.grid, sha256, name)


def _resolved_config(
    config: RunConfig, resolved: Resolved, dataset: Dataset, end: float
) -> RunConfig:
    """Return a run's resolved configuration up to a time, recording only start and end."""
    return config.replace(
        dataset=dataset.name,
        samples=dataset.X.shape[1],
        chart=resolved.chart,
        step_size=resolved.step_size,
        end_time=end,
        steps=None,
        snapshots=_ENDS,
        scalars=_ENDS,
        store_data=True,
        force=True,
    )


_ENDS = "times:geometric:2"


def _tighter(config: RunConfig, resolved: Resolved, factor: float) -> tuple[RunConfig, Resolved]:
    return config.replace(rtol=config.rtol / factor, atol=config.atol / factor), resolved


def _smaller_step(
    config: RunConfig, resolved: Resolved, factor: float
) -> tuple[RunConfig, Resolved]:
    """Divide the step, and with gd the critic's step: both follow the same flow as before.

    A run with growing first steps keeps growing them for the same time.
    """
    step_size = resolved.step_size / factor
    ramp = 1 if resolved.ramp == 1 else round(resolved.ramp * factor)
    keys = {"step_size": step_size}
    if config.critic_step_size is not None:
        keys["critic_step_size"] = config.critic_step_size / factor
    return config.replace(**keys), replace(resolved, step_size=step_size, ramp=ramp)


def _setting(config: RunConfig) -> str:
    """Describe the step size or tolerances of a run in words."""
    if config.adaptive:
        return f"rtol {config.rtol:.3g}, atol {config.atol:.3g}"
    assert isinstance(config.step_size, float)
    critic = config.critic_step_size
    return f"step size {config.step_size:.4g}" + (
        "" if critic is None else f", critic's {critic:.4g}"
    )


def _twins(config: RunConfig, initial: Mapping[str, HostArray]) -> list[dict[str, HostArray]]:
    """Return `TWINS` sets of initial arrays, the trainable ones perturbed by `PERTURBATION`."""
    random = generator(config.seed, Stream.TWINS)

    def perturbed(X: HostArray) -> HostArray:
        X = X.astype(float)  # a millionth is too small for float32
        noise = random.standard_normal(X.shape)
        size = np.linalg.norm(X) / np.linalg.norm(noise)
        moved: HostArray = X + PERTURBATION * size * noise
        return moved

    return [
        {name: perturbed(X) if name in config.moving else X for name, X in initial.items()}
        for _ in range(TWINS)
    ]


def ensure(plan: ReplayPlan, replay: Replay, progress: Progress | bool = False) -> Stopped:
    """Make a replay, or continue it; return the signal that stopped it, if any.

    A finished or diverged replay is kept; one with other settings is made again. Divergence is not
    an error here: the replay's file records it. Raises as `refuse_others`.
    """
    _refuse_other(replay.path)
    status = _status(replay, plan.dataset)
    if status in (Status.FINISHED, Status.DIVERGED):
        return None
    with suppress(DivergedError):
        if status is not None:
            return resume(replay.path, progress=progress).signal
        return run(
            replay.config,
            data=plan.dataset,
            initial=dict(replay.initial),
            resolved=replay.resolved,
            stored_chart=plan.chart,
            forcing_norms=plan.forcing_norms,
            progress=progress,
            remarks=False,  # those of the run have been made
        ).signal
    return None


def refuse_others(plan: ReplayPlan) -> None:
    """Raise `OutputError` if the name of a replay is that of a file that is none; it stays."""
    for replay in plan.replays:
        _refuse_other(replay.path)


def _refuse_other(path: Path) -> None:
    """Refuse a link, which may lead to somebody's file, and what cannot be told from one."""
    if path.is_symlink():
        raise OutputError(f"{path} is a link, not a replay: move it away")
    if path.exists() and not _is_replay(path):
        raise OutputError(f"{path} is not a replay of converge, which needs the name: move it away")


def _is_replay(path: Path) -> bool:
    """Whether a file says that it was made under this name, and recorded as replays are."""
    try:
        with open_trajectory(path) as there:
            config = there.config
    except (NotATrajectoryError, DamagedTrajectoryError):
        return False
    named = Path(str(config.get("output"))).parts[-2:] == path.parts[-2:]
    return named and config.get("snapshots") == config.get("scalars") == _ENDS


def _status(replay: Replay, dataset: Dataset) -> Status | None:
    """Return the status of a replay's file; None if it is missing, or of another replay."""
    if not replay.path.exists():
        return None
    with open_trajectory(replay.path) as there:
        if not replay.config.describes(there.config):
            return None
        given = {**replay.initial, "X": dataset.X, "Y": dataset.Y}
        kept = {**there.initial, **there.data}
        precision = replay.config.array_precision
        same = there.attributes["resolved"] == replay.resolved.to_dict() and all(
            np.array_equal(array, given[name].astype(precision)) for name, array in kept.items()
        )
        return there.status if same else None


def remove(plan: ReplayPlan, folder: Path) -> None:
    """Remove the replays' files, and their folder if nothing else is in it."""
    for replay in plan.replays:
        replay.path.unlink()
        remove_strays(replay.path)
    with suppress(OSError):  # the user has put files there
        folder.rmdir()
