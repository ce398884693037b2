"""Checks of CUDA graphs, on the stand-ins and, but for failures made here, on a device.

Each raises AssertionError. A run without graphs, step by step, is what the others must equal.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import INTEGRATORS, Problem, random_problem, same_bits

from prdsim.backends import get_backend
from prdsim.backends.cuda_graphs import WARM_UP
from prdsim.errors import PrdsimWarning
from prdsim.running.simulation import Simulation

from .device import CUDARuntimeError, Graph, HostCupy, Stream

ENOUGH = WARM_UP + 4  # steps until a graph was launched several times


def eagerly(owner: object, key: object, operations: Callable[[], None], **_: Any) -> int:  # noqa: ARG001
    """In place of a backend's `replay`: without graphs."""
    operations()
    return 1


def end(problem: Problem, *, graphs: bool, steps: int = ENOUGH, **keys: Any) -> dict[str, Any]:
    """The carried arrays after so many steps, of gd unless told otherwise."""
    with problem.simulation("cupy", steps=steps, **{"integrator": "gd", **keys}) as simulation:
        if not graphs:
            simulation.backend.replay = eagerly
        simulation.advance(steps)
        return simulation.restart_point().arrays


def check_same_bits(problem: Problem, **keys: Any) -> None:
    """The same bits with graphs and without."""
    with_graphs, without = (end(problem, graphs=graphs, **keys) for graphs in (True, False))
    assert same_bits(with_graphs, without), "graphs change the result"


def check_graphs_are_used(cupy: HostCupy) -> None:
    """From the third step on one launch a step, and a backend says so."""
    with random_problem(1).simulation("cupy", integrator="gd", steps=10) as simulation:
        assert simulation.backend.describe()["cuda_graphs"] == "used"
        simulation.advance(WARM_UP)
        cupy.log.clear()
        simulation.advance(3)
        assert sum(operation.kind == "graph" for operation in cupy.log) == 3


def check_step_sizes() -> None:
    """Another step size is another recording, not the old one launched again."""
    updates_alike = {"integrator": "gd", "critic_step_size": 0.004}
    for keys in ({"integrator": "gd"}, updates_alike, {"integrator": "rk4"}):
        ends = []
        for graphs in (True, False):
            with random_problem(1).simulation("cupy", **keys) as simulation:
                if not graphs:
                    simulation.backend.replay = eagerly
                for turn in range(2 * ENOUGH):
                    simulation._take(1, 0.01 if turn < ENOUGH else 0.005)
                ends.append(simulation.restart_point().arrays)
        assert same_bits(*ends), f"{keys}: a step size of before"


def check_lifetimes(cupy: HostCupy) -> None:
    """Runs that share a backend have recordings of their own, which they take with them."""
    problem, backend = random_problem(1), get_backend("cupy")
    config = problem.config(backend="cupy", integrator="gd", steps=2 * ENOUGH)
    expected = end(problem, graphs=False, steps=2 * ENOUGH)
    gc.collect()
    used = cupy.used

    def start() -> Simulation:
        arguments = {"initial": problem.initial, "backend": backend}
        return Simulation(config, problem.X, problem.Y, **arguments)

    first, second = start(), start()
    for _ in range(ENOUGH):
        for simulation in (first, second):
            with simulation:
                simulation.advance()
    del first, simulation
    gc.collect()
    third = start()  # where the first one was, perhaps
    with third:
        third.advance(2 * ENOUGH)
    with second:
        second.advance(ENOUGH)
    for run in (second, third):
        with run:
            assert same_bits(run.restart_point().arrays, expected), "the graph of another run"
    del second, third, run
    gc.collect()
    assert cupy.used == used, "recordings keep the memory of a run that is over"
    assert len(backend._recorder._recordings) == 0


# -- recordings that fail --------------------------------------------------------------------------

_ERROR = CUDARuntimeError(900, "cudaErrorStreamCaptureUnsupported")


def _fail(*_: Any) -> None:
    raise _ERROR


def _break_in_the_middle(patch: pytest.MonkeyPatch) -> None:
    note = Stream.note

    def note_some(stream: Stream, noted: Any) -> None:
        if len(stream.noted or ()) == 20:
            stream.refuse_to_capture()
        note(stream, noted)

    patch.setattr(Stream, "note", note_some)


def _end_fails(patch: pytest.MonkeyPatch) -> None:
    end_capture = Stream.end_capture

    def end_and_fail(stream: Stream) -> None:
        end_capture(stream)
        raise _ERROR

    patch.setattr(Stream, "end_capture", end_and_fail)


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "cannot begin": lambda patch: patch.setattr(Stream, "begin_capture", _fail),
    "an operation is refused": _break_in_the_middle,
    "cannot end": _end_fails,
    "no room for the graph": lambda patch: patch.setattr(Graph, "upload", _fail),
}


@contextmanager
def one_warning() -> Iterator[None]:
    """Exactly one warning, in one line, that says what is lost and why."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [warning.category for warning in caught] == [PrdsimWarning], "one warning"
    text = str(caught[0].message)
    assert "recording them as a CUDA graph failed (cudaErrorStreamCaptureUnsupported" in text
    assert "results are the same" in text
    assert "\n" not in text


def check_failed_recording(how: str, integrator: str) -> None:
    """A run whose recording fails goes on eagerly, every step done once, after one warning."""
    problem, keys = random_problem(1), {"integrator": integrator, "steps": 3 * ENOUGH}
    expected = end(problem, graphs=False, **keys)
    with problem.simulation("cupy", **keys) as simulation, pytest.MonkeyPatch.context() as patch:
        FAILURES[how](patch)
        simulation.advance(WARM_UP)
        with one_warning():
            simulation.advance(2 * ENOUGH)
        patch.undo()
        simulation.advance(ENOUGH)  # it stays so, though it could be recorded now
        failure = simulation.backend.describe()["cuda_graphs"]
        assert failure.startswith("failed: cudaErrorStreamCaptureUnsupported"), failure
        assert same_bits(simulation.restart_point().arrays, expected), "a step is lost, or twice"


def check_all(cupy: HostCupy, precision: str = "float64") -> None:
    """Everything but failures, on short runs."""
    check_graphs_are_used(cupy)
    for integrator in INTEGRATORS:
        keys = {"integrator": integrator, "precision": precision, "steps": 2 * ENOUGH}
        check_same_bits(random_problem(1), **keys)
    check_step_sizes()
    check_lifetimes(cupy)
