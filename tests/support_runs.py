"""Tiny runs and their files: finished, interrupted, killed, diverged, damaged."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import same_bits, same_numbers

import prdsim
from prdsim.analysis import Recording, open_recording
from prdsim.errors import DivergedError
from prdsim.physics.state import RestartPoint
from prdsim.progress import Progress
from prdsim.symbols import ARRAYS
from prdsim.trajectory import TrajectoryWriter, open_trajectory

KEYS = {
    "dataset": "digits",
    "samples": 10,
    "width": 7,
    "critic_width": 5,
    "integrator": "gd",
    "critic_step_size": 0.01,
    "penalty_points": "random",
    "step_size": 0.05,
    "steps": 20,
    "snapshots": "every:5",
    "scalars": "every:5",
    "backend": "numpy",
    "threads": 1,
}
_OF_GD = ("critic_step_size", "penalty_points")


class Killed(BaseException):
    """What no run catches: its file is left as by SIGKILL."""


class At(Progress):
    """Progress that does something when a run reaches a step, or begins there or beyond."""

    every_step = True

    def __init__(self, step: int, action: Callable[[], None]) -> None:
        self._step, self._action = step, action

    def start(self, done: float, total: float) -> None:
        assert 0 <= done <= total
        if self._step <= done:  # at 0: before the first commit
            self._action()

    def update(self, done: float, step: int, loss: float) -> None:  # noqa: ARG002
        assert loss > 0
        if step == self._step:
            self._action()


def stop_at(step: int, number: signal.Signals = signal.SIGTERM) -> At:
    """Ask the run to stop, as Ctrl-C or a batch system do."""
    return At(step, lambda: signal.raise_signal(number))


def kill_at(step: int) -> At:
    def kill() -> None:
        raise Killed

    return At(step, kill)


def keys_of_run(**keys: Any) -> dict[str, Any]:
    """`KEYS` with some replaced; what is gd's alone only with gd."""
    merged = {**KEYS, **keys}
    if merged["integrator"] != "gd":
        merged = {key: merged[key] for key in merged if key in keys or key not in _OF_GD}
    return merged


def make_run(path: Path, **keys: Any) -> Path:
    """A finished run, with diffusion only if asked for."""
    return prdsim.run(**keys_of_run(**keys), output=str(path)).path


def make_pair(folder: Path, seeds: int = 1, **keys: Any) -> list[Path]:
    """Runs without and with diffusion from each of some seeds."""
    return [
        make_run(folder / f"{side}-{seed}.h5", seed=seed, diffusion=side == "with", **keys)
        for seed in range(seeds)
        for side in ("without", "with")
    ]


@contextmanager
def opened(paths: Iterable[Path]) -> Iterator[list[Recording]]:
    """The recordings of several files, open together."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_recording(path)) for path in paths]


def make_interrupted(path: Path, step: int = 10, **keys: Any) -> Path:
    result = prdsim.run(**keys_of_run(**keys), output=str(path), progress=stop_at(step))
    assert result.stop_reason == "interrupted"
    return path


def make_killed(path: Path, step: int = 10, **keys: Any) -> Path:
    with pytest.raises(Killed):
        prdsim.run(**keys_of_run(**keys), output=str(path), progress=kill_at(step))
    return path


def make_diverged(path: Path, step_size: float = 1e3) -> Path:
    """Weights grow to a power with each step: infinite after a few."""
    keys = {**KEYS, "diffusion": True, "step_size": step_size, "snapshots": "every:1"}
    with pytest.raises(DivergedError):
        prdsim.run(**keys, output=str(path))
    return path


def damage(path: Path, name: str) -> Path:
    """Flip a bit in the third snapshot of an array, in data/X, or in the scalars."""
    with open_trajectory(path) as trajectory:
        if name in "UVWa":
            part = trajectory._map[f"snapshots/{name}"]
            offset = part.offset + 2 * part.nbytes // part.shape[0]
        else:
            offset = trajectory._map[{"X": "data/X", "scalars": "scalars/loss_sup"}[name]].offset
    content = bytearray(path.read_bytes())
    content[offset + 3] ^= 4
    path.write_bytes(content)
    return path


def restart_point(path: Path) -> RestartPoint:
    with TrajectoryWriter.open(path) as writer:
        return writer.read_restart()


def assert_same_points(left: Path, right: Path) -> None:
    """Two runs would go on from the same state, to the last bit."""
    a, b = restart_point(left), restart_point(right)
    assert (a.step, a.time) == (b.step, b.time)
    assert same_numbers(a.scalars, b.scalars)
    assert same_bits(a.arrays, b.arrays)


def assert_same_trajectory(left: Path, right: Path) -> None:
    """Everything a run decides is equal to the last bit in two files, its end included."""
    with open_trajectory(left) as a, open_trajectory(right) as b:
        assert a.check() == b.check() == []
        assert (a.status, a.stop_step, a.stop_reason) == (b.status, b.stop_step, b.stop_reason)
        assert a.attributes["config_sha256"] == b.attributes["config_sha256"]
        assert np.array_equal(a.planned_snapshots, b.planned_snapshots)
        assert np.array_equal(a.planned_scalars, b.planned_scalars)
        assert len(a.step) >= 2
        assert len(a.scalars["step"]) >= 2
        assert same_bits(dict(a.scalars), dict(b.scalars))
        assert same_bits({"step": a.step, "time": a.time}, {"step": b.step, "time": b.time})
        for name in ARRAYS:
            assert same_bits({name: getattr(a, name)[:]}, {name: getattr(b, name)[:]})
        for group in ("initial", "chart", "data"):
            assert same_bits(dict(getattr(a, group)), dict(getattr(b, group)))
    assert_same_points(left, right)


def arrays_of(path: Path) -> dict[str, Any]:
    """What `recording_of` takes in place of a file: all it holds, as arrays."""
    with open_trajectory(path) as run:
        arrays = {name: np.asarray(getattr(run, name)) for name in ("U", "V", "W", "a")}
        return {
            **arrays,
            "X": run.data["X"],
            "Y": run.data["Y"],
            "time": run.time,
            "grid": run.grid,
        }
