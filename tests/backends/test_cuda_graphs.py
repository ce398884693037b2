"""Steps recorded as CUDA graphs, on host stand-ins: the same bits, and what happens where not."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from cupy_on_host import DeviceFault, compiler_missing
from cupy_on_host.device import CUDARuntimeError, Stream
from cupy_on_host.graphs import (
    ENOUGH,
    FAILURES,
    check_failed_recording,
    check_graphs_are_used,
    check_lifetimes,
    check_same_bits,
    check_step_sizes,
    end,
    one_warning,
)
from cupy_on_host.harness import check_steps_repeat
from support import random_problem, same_bits

from prdsim.backends import get_backend
from prdsim.backends.cuda_graphs import WARM_UP
from prdsim.running.resuming import resume
from prdsim.running.runner import run

pytestmark = [
    pytest.mark.skipif(bool(compiler_missing()), reason=compiler_missing() or "-"),
    pytest.mark.usefixtures("cupy"),
]
ADAPTIVE_ENOUGH = 2 * ENOUGH  # each of two graphs was launched several times
TOO_LARGE = 10.0  # a first step that is rejected
adaptive = pytest.mark.parametrize("integrator", ["bs23", "dopri5"])
fixed_steps = pytest.mark.parametrize("integrator", ["gd", "heun", "rk4"])


# -- the same bits ---------------------------------------------------------------------------------


@fixed_steps
@pytest.mark.parametrize("critic", ["wgan-gp", "minimax"])
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U,V", "U", "V,a"])
@pytest.mark.parametrize("precision", ["float64", "float32", "tf32"])
def test_graphs_change_no_bit(integrator, critic, trainable, precision):
    keys = {"critic": critic, "trainable": trainable, "precision": precision}
    check_same_bits(random_problem(3), integrator=integrator, **keys)


@fixed_steps
@pytest.mark.parametrize("chart", ["weight", "range", "gram"])
def test_graphs_change_no_bit_in_any_chart(cupy, integrator, chart):
    problem, keys = random_problem(3, d_in=9, n=5), {"integrator": integrator, "chart": chart}
    check_same_bits(problem, **keys)
    check_steps_repeat(cupy, problem, **keys)


RAMP = {"init_scale": 0.5, "step_size": "auto"}
"""Keys of fixed steps that grow at first; over three of them where `short_ramp` is used."""


@pytest.fixture
def short_ramp(monkeypatch):
    monkeypatch.setattr("prdsim.running.resolve._RAMP", 3)


@fixed_steps
@pytest.mark.usefixtures("short_ramp")
@pytest.mark.parametrize("keys", [{"diffusion": False}, {"critic_warmup": 0.03}, RAMP], ids=str)
def test_graphs_change_no_bit_without_a_critic_after_a_warm_up_or_a_ramp(integrator, keys):
    check_same_bits(random_problem(3), integrator=integrator, **keys)


def test_graphs_are_used(cupy):
    check_graphs_are_used(cupy)


@adaptive
@pytest.mark.parametrize("critic", ["wgan-gp", "minimax"])
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U,V", "U", "V,a"])
def test_graphs_change_no_bit_of_adaptive_steps(integrator, critic, trainable):
    keys = {"critic": critic, "trainable": trainable, "step_size": TOO_LARGE}
    check_same_bits(random_problem(3), integrator=integrator, steps=ADAPTIVE_ENOUGH, **keys)


@adaptive
@pytest.mark.parametrize("chart", ["weight", "range", "gram"])
@pytest.mark.parametrize("precision", ["float64", "float32", "tf32"])
def test_graphs_change_no_bit_of_adaptive_steps_in_any_chart(integrator, chart, precision):
    keys = {"chart": chart, "precision": precision, "steps": ADAPTIVE_ENOUGH}
    check_same_bits(random_problem(3, d_in=9, n=5), integrator=integrator, **keys)


@adaptive
@pytest.mark.parametrize("chart", ["weight", "gram"])
def test_an_adaptive_step_is_one_graph_and_one_copy_to_the_host(cupy, integrator, chart):
    """The graphs of a run are two: accepted steps exchange arrays, back and forth."""
    keys = {"integrator": integrator, "chart": chart, "step_size": TOO_LARGE, "steps": 100}
    with random_problem(1).simulation("cupy", **keys) as simulation:
        graphs = cupy.graphs
        simulation.advance(ADAPTIVE_ENOUGH)
        assert cupy.graphs - graphs == 2
        rejected = simulation.restart_point().scalars["rejected_steps"]
        assert rejected > 0
        cupy.log.clear()
        before = cupy.allocations, cupy.uploads, cupy.host_copies, cupy.waits
        simulation.advance(5)
        after = cupy.allocations, cupy.uploads, cupy.host_copies, cupy.waits
        names = [operation.name for operation in cupy.log]
        attempts = 5 + simulation.restart_point().scalars["rejected_steps"] - rejected
    assert cupy.graphs - graphs == 2
    assert np.subtract(after, before).tolist() == [0, 0, attempts, attempts]
    assert names.count("graph") == names.count("set_number") == attempts
    launches = [place for place, name in enumerate(names) if name == "graph"]
    assert [names[place - 1] for place in launches] == ["set_number"] * len(launches)
    inside = np.diff([*launches, len(names) + 1]) - 2
    assert len(set(inside)) == 1, "something is issued beside the graph"


@adaptive
def test_adaptive_steps_that_were_watched_and_restored_among_graphs_have_the_same_bits(integrator):
    problem, keys = random_problem(2), {"integrator": integrator, "steps": 3 * ADAPTIVE_ENOUGH}
    with problem.simulation("cupy", **keys) as simulation:
        simulation.advance(ADAPTIVE_ENOUGH)
        point = simulation.restart_point()
        simulation.advance(3)
        simulation.observe()
        simulation.restore(point)
        for _ in range(2 * ADAPTIVE_ENOUGH):
            simulation.advance()
            simulation.observe()
        computed = simulation.restart_point().arrays
    assert same_bits(computed, end(problem, graphs=False, **keys))


@fixed_steps
@pytest.mark.usefixtures("short_ramp")
def test_a_warm_up_and_the_steps_of_a_ramp_have_no_graphs_of_their_own(cupy, integrator):
    """Nor do they take the place of the others' when a run is put back to its start."""
    problem = random_problem(1)
    keys = {"integrator": integrator, "critic_warmup": 0.03, **RAMP, "steps": ENOUGH + 2}
    with problem.simulation("cupy", **keys) as simulation:
        start, before = simulation.restart_point(), cupy.graphs
        simulation.advance(2)  # the third one is as long as those after it
        assert cupy.graphs == before
        for _ in range(WARM_UP - 1):
            simulation.restore(start)
            simulation.advance(ENOUGH + 2)
        assert cupy.graphs == before + 1
        computed = simulation.restart_point().arrays
    assert same_bits(computed, end(problem, graphs=False, **keys))


@fixed_steps
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_watching_and_restarting_between_graphs_change_no_bit(integrator, precision):
    """Among graphs the observer draws penalty points of its own, by another number."""
    keys = {"integrator": integrator, "precision": precision}
    with random_problem(2).simulation("cupy", steps=2 * ENOUGH, **keys) as simulation:
        simulation.advance(ENOUGH - 1)
        point = simulation.restart_point()
        simulation.advance(3)
        simulation.observe()
        simulation.restore(point)  # perhaps into the other of two states
        for _ in range(ENOUGH + 1):
            simulation.advance()
            simulation.observe()
            simulation.weights()
        computed = simulation.restart_point().arrays
    expected = end(random_problem(2), graphs=False, steps=2 * ENOUGH, **keys)
    assert same_bits(computed, expected)


@fixed_steps
def test_a_run_resumed_among_graphs_is_that_of_a_run_without(integrator, tmp_path, monkeypatch):
    keys: dict[str, Any] = {
        "backend": "cupy",
        "integrator": integrator,
        "diffusion": True,
        "samples": 6,
        "width": 8,
        "outputs": 3,
        "step_size": 0.01,
        "penalty_points": "random" if integrator == "gd" else "midpoint",
    }
    run(**keys, steps=ENOUGH + 1, output=str(tmp_path / "parts.h5"))
    parts = resume(tmp_path / "parts.h5", 3 * ENOUGH)
    monkeypatch.setattr(Stream, "begin_capture", lambda _: pytest.fail("a graph"))
    monkeypatch.setattr("prdsim.backends.cuda_graphs.WARM_UP", 10**6)
    monkeypatch.setattr("prdsim.backends.cupy.CupyBackend.probe", lambda _: None)
    whole = run(**keys, steps=3 * ENOUGH, output=str(tmp_path / "whole.h5"))
    assert same_bits(dict(parts.state), dict(whole.state))


def test_each_step_size_has_its_recording():
    check_step_sizes()


def test_recordings_belong_to_a_run_and_end_with_it(cupy):
    check_lifetimes(cupy)


@fixed_steps
def test_the_host_never_waits_within_fixed_steps(cupy, integrator):
    with random_problem(1).simulation("cupy", integrator=integrator, steps=50) as simulation:
        before = (cupy.waits, cupy.host_copies, cupy.uploads)
        simulation.advance(50)
        assert (cupy.waits, cupy.host_copies, cupy.uploads) == before
        simulation.weights()
        assert cupy.waits > before[0], "waiting is counted"


# -- where recording fails -------------------------------------------------------------------------


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("integrator", ["gd", "rk4"])
def test_a_run_whose_recording_fails_goes_on_eagerly(how, integrator):
    check_failed_recording(how, integrator)


@pytest.mark.parametrize("how", sorted(set(FAILURES) - {"an operation is refused"}))
def test_where_nothing_can_be_recorded_the_backend_says_so_once(monkeypatch, how):
    """Its probe finds out, so that the file of a run can tell."""
    problem = random_problem(1)
    expected = end(problem, graphs=False)
    FAILURES[how](monkeypatch)
    with one_warning():
        computed = end(problem, graphs=True)
    assert same_bits(computed, expected)


def test_an_interrupt_while_recording_leaves_a_backend_that_works(monkeypatch):
    """The step that was interrupted has not begun."""
    problem = random_problem(1)
    expected = end(problem, graphs=False)
    note = Stream.note

    def note_and_interrupt(stream: Stream, noted: Any) -> None:
        note(stream, noted)
        if len(stream.noted) == 20:
            monkeypatch.setattr(Stream, "note", note)
            signal.raise_signal(signal.SIGINT)

    with problem.simulation("cupy", integrator="gd", steps=ENOUGH) as simulation:
        monkeypatch.setattr(Stream, "note", note_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            simulation.advance(ENOUGH)
        assert simulation.step == WARM_UP
        simulation.advance(ENOUGH)
        assert same_bits(simulation.restart_point().arrays, expected)
        assert simulation.backend.describe()["cuda_graphs"] == "used"


# -- the stand-ins themselves ----------------------------------------------------------------------


def test_a_capture_notes_and_a_launch_does():
    backend = get_backend("cupy")
    with backend.active():
        one, total = backend.empty((3,)), backend.empty((3,))
        backend.to_device(np.ones(3), one)
        backend.to_device(np.zeros(3), total)
        backend.combine([(1.0, total), (1.0, one)], out=total)
        stream = backend._stream
        stream.begin_capture()
        backend.combine([(1.0, total), (1.0, one)], out=total)
        backend.combine([(1.0, total), (1.0, total)], out=total)
        graph = stream.end_capture()
        assert backend.to_host(total).tolist() == [1.0] * 3
        for expected in (4.0, 10.0):
            graph.launch(stream)
            assert backend.to_host(total).tolist() == [expected] * 3
        del one
        with pytest.raises(DeviceFault, match="memory given back"):
            graph.launch(stream)


@pytest.mark.parametrize(
    "operation",
    [
        lambda k, A: k.to_host(A),
        lambda k, A: k.to_device(np.ones((2, 2)), A),
        lambda k, A: k.empty((2, 2)),  # noqa: ARG005
        lambda k, A: k.synchronize(),  # noqa: ARG005
        lambda k, A: k.sum(A),
        lambda k, A: k._stream.record(),  # noqa: ARG005
        lambda k, A: k._stream.wait_event(k._leaving.record()),  # noqa: ARG005
        lambda k, A: k.penalty_weights(A, 1.0, A),  # compiled at its first launch
    ],
    ids=["get", "set", "empty", "synchronize", "sum", "record", "wait", "first launch"],
)
def test_what_waits_copies_or_allocates_breaks_a_capture(operation):
    backend = get_backend("cupy")
    with backend.active():
        A = backend.empty((2, 2))
        backend.relu(A, A)
        backend._stream.begin_capture()
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            operation(backend, A)
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            backend.relu(A, A)
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            backend._stream.end_capture()
        backend.relu(A, A)


def test_captures_begin_and_end_in_pairs(cupy):
    stream = cupy.cuda.Stream()
    with pytest.raises(CUDARuntimeError, match="cudaErrorIllegalState"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(CUDARuntimeError, match="cudaErrorIllegalState"):
        stream.begin_capture()
    stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cupy.current_stream().begin_capture()
