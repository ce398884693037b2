"""A run without physics, for tests of the trajectory file.

Every element follows the logistic map x -> 3.75 x (1 - x), which is chaotic: a state that is
resumed one bit off is soon another one, and the same on every machine, because IEEE products
and differences are exact to the bit. As a script it continues the run in the given file.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prdsim.symbols import ARRAYS
from prdsim.trajectory import SCALARS, Layout, Status, TrajectoryWriter, extend_trajectory

SHAPES = {"U": (6, 5), "V": (3, 6), "W": (4, 3), "a": (4,)}
RESTART_SHAPES = {**SHAPES, "velocity_U": SHAPES["U"]}
RESTART_SCALARS = (
    "step_size",
    "previous_error",
    "evaluations",
    "rejected_steps",
    "lambda_max",
)
STEPS = 24
SNAPSHOT_STEPS = (0, 1, 2, 4, 8, 16, 24)
SCALAR_STEPS = tuple(range(0, STEPS + 1, 2))
SNAPSHOT_TIMES = (0.0, 0.1, 0.4, 0.45, 1.5, 3.0, 3.3, 6.0)
SCALAR_TIMES = tuple(0.375 * k for k in range(17))
RESTART_EVERY = 5
STEP_SIZE = 0.25


def initial(precision: str = "float64") -> dict[str, np.ndarray]:
    """Return the arrays at step 0, in (0, 0.8)."""
    state = {}
    for k, (name, shape) in enumerate(RESTART_SHAPES.items()):
        size = int(np.prod(shape))
        values = ((37 * np.arange(size) + 11 * k + 5) % 101 + 1) / 128
        state[name] = values.reshape(shape).astype(precision)
    return state


def advance(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays one step later."""
    rate = np.float32(3.75)
    return {name: rate * (x * (1 - x)) for name, x in state.items()}


def states(steps: int, precision: str = "float64") -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of steps 0, 1, ..., `steps`."""
    state = initial(precision)
    yield state
    for _ in range(steps):
        state = advance(state)
        yield state


def scalar_values(
    step: int, state: dict[str, np.ndarray], time: float | None = None
) -> dict[str, float]:
    """Return one row of /scalars, of the time of its step unless it has one of its own."""
    values = {f.name: float(state["U"].flat[k]) for k, f in enumerate(SCALARS)}
    return values | {"time": STEP_SIZE * step if time is None else time, "step_size": STEP_SIZE}


def step_of(entry: float) -> int:
    """Return the step that records an entry of a plan: a step, or a time that it reaches."""
    return math.ceil(entry / STEP_SIZE) if isinstance(entry, float) else entry


def time_of(entry: float) -> float:
    """Return the time of an entry of a plan."""
    return entry if isinstance(entry, float) else STEP_SIZE * entry


def layout(**changes: Any) -> Layout:
    """Return the run's layout; keywords replace fields."""
    fields: dict[str, Any] = {
        "shapes": SHAPES,
        "restart_shapes": RESTART_SHAPES,
        "restart_scalars": RESTART_SCALARS,
        "precision": "float64",
        "snapshot_precision": "float64",
        "snapshot_plan": SNAPSHOT_STEPS,
        "scalar_plan": SCALAR_STEPS,
        "attributes": {
            "config": json.dumps({"dataset": "synthetic", "width": 6}),
            "resolved": json.dumps({"backend": "numpy", "device": "größer"}),
            "versions": json.dumps({"numpy": "2.0"}),
            "run_id": "golden",
            "grid": (28, 28),
            "comment": "",
            "rate": 0.5,
        },
        "data": {
            "X": np.arange(10.0).reshape(5, 2),
            "Y": np.arange(6, dtype=np.float32).reshape(3, 2),
        },
    }
    fields |= changes
    if "initial" not in fields:
        start = initial(fields["precision"])
        fields["initial"] = {name: start[name] for name in ARRAYS}
    return Layout(**fields)


def extend(path: Path, **changes: Any) -> None:
    """Extend a trajectory by other plans and attributes."""
    with TrajectoryWriter.open(path) as writer:
        extend_trajectory(writer, **changes)


def write_restart(writer: TrajectoryWriter, step: int, state: dict[str, np.ndarray]) -> None:
    """Write a restart slot."""
    carry = {
        "step_size": STEP_SIZE,
        "previous_error": 1.0 / (step + 1),
        "evaluations": 3.0 * step,
        "rejected_steps": float(step // 7),
        "lambda_max": 0.1 * step,
    }
    writer.restart(step, STEP_SIZE * step, state, carry)


def _by_step(plan: tuple[float, ...]) -> dict[int, list[float]]:
    """Return the times of a plan's rows by the step that records them."""
    times: dict[int, list[float]] = {}
    for entry in plan:
        times.setdefault(step_of(entry), []).append(time_of(entry))
    return times


def continue_run(
    writer: TrajectoryWriter,
    snapshot_plan: tuple[float, ...] = SNAPSHOT_STEPS,
    scalar_plan: tuple[float, ...] = SCALAR_STEPS,
    *,
    stop: int | None = None,
    restart_every: int = RESTART_EVERY,
) -> None:
    """Go on from the last restart state to the last planned row, or be interrupted at `stop`.

    A row between steps has the state after the step that passes its time.
    """
    last = step_of(snapshot_plan[-1])
    if writer.record.restart_slot < 0:
        step, state = 0, initial()
    else:
        point = writer.read_restart()
        step, state = point.step, point.arrays
        state = advance(state)
        step += 1
    end = last if stop is None else stop
    snapshots, scalars = _by_step(snapshot_plan), _by_step(scalar_plan)
    while step <= end:
        for time in scalars.get(step, ()):
            writer.scalars(step, scalar_values(step, state, time))
        for time in snapshots.get(step, ()):
            writer.snapshot(step, time, state)
        if step % restart_every == 0 or step == end:
            write_restart(writer, step, state)
        if step in snapshots or step % restart_every == 0:
            writer.commit(Status.RUNNING)
        state = advance(state)
        step += 1
    if stop is None:
        writer.commit(Status.FINISHED, stop_step=last, stop_reason="all steps done")
    else:
        writer.commit(Status.INTERRUPTED, stop_step=stop, stop_reason="SIGTERM")


def create_trajectory(path: Path, layout: Layout, *, force: bool = False) -> None:
    """Create a trajectory that holds no rows yet."""
    TrajectoryWriter.create(path, layout, force=force).close()


if __name__ == "__main__":
    path, steps, snapshots_every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with TrajectoryWriter.open(path) as the_writer:
        print("writing", flush=True)
        continue_run(
            the_writer,
            tuple(range(0, steps + 1, snapshots_every)),
            tuple(range(steps + 1)),
            restart_every=7,
        )
