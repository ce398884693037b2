"""A run in memory: chunks, restart, adaptive steps, the end, and refusals."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support import (
    ADAPTIVE,
    BACKENDS,
    INTEGRATORS,
    Problem,
    in_pairs,
    random_problem,
    relative_error,
    same_bits,
    same_numbers,
    smooth_problem,
)

from prdsim.backends import get_backend
from prdsim.config import Resolved, RunConfig
from prdsim.errors import ConfigError, DivergedError
from prdsim.files.small import size_text
from prdsim.physics.charts import CHARTS
from prdsim.physics.initial import draw_initial
from prdsim.physics.state import Dimensions
from prdsim.running.memory import memory_bytes
from prdsim.running.simulation import RESTART_SCALARS, Simulation
from prdsim.schedule import Agenda
from prdsim.symbols import ARRAYS

PRECISIONS = ("float64", "float32")
backends = pytest.mark.parametrize("backend", BACKENDS)
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)
adaptives = pytest.mark.parametrize("integrator", ADAPTIVE)
fixed = pytest.mark.parametrize("integrator", [x for x in INTEGRATORS if x not in ADAPTIVE])


def final(problem: Problem, backend: str, chunks: list[int], **keys: Any) -> Any:
    with problem.simulation(backend, steps=sum(chunks), **keys) as simulation:
        for chunk in chunks:
            simulation.advance(chunk)
        assert simulation.finished
        return simulation.restart_point()


# -- chunks, restart -------------------------------------------------------------------------------


@in_pairs(backend=BACKENDS, integrator=INTEGRATORS, precision=PRECISIONS)
def test_any_chunks_give_the_same_bits(backend, integrator, precision):
    problem = random_problem(1)
    whole, *others = (
        final(problem, backend, chunks, integrator=integrator, precision=precision)
        for chunks in ([12], [1] * 12, [5, 0, 7])
    )
    for other in others:
        assert same_bits(whole.arrays, other.arrays)
        assert (whole.step, whole.time) == (other.step, other.time)
        assert same_numbers(whole.scalars, other.scalars)


@in_pairs(
    backend=BACKENDS,
    integrator=INTEGRATORS,
    trainable=("U,V,W,a", "U,W"),
    chart=("weight", "gram"),
)
def test_a_restored_run_continues_with_the_same_bits(backend, integrator, trainable, chart):
    problem = random_problem(1)
    keys = {"integrator": integrator, "trainable": trainable, "chart": chart}
    whole = final(problem, backend, [12], **keys)
    with problem.simulation(backend, steps=12, **keys) as first:
        first.advance(5)
        point = first.restart_point()
        assert set(point.scalars) == set(RESTART_SCALARS)
        assert {name: array.shape for name, array in point.arrays.items()} == first.restart_shapes
        resolved = first.resolved
        first.advance(3)  # the point is a copy: going on must not change it
    config = problem.config(backend=backend, threads=1, steps=12, **keys)
    for begun_there in (False, True):
        with Simulation(
            config,
            problem.X,
            problem.Y,
            initial=problem.initial,
            resolved=resolved,
            restart=point if begun_there else None,
        ) as second:
            if not begun_there:
                second.advance(2)  # whatever it did before
                second.restore(point)
            assert (second.step, second.time) == (point.step, point.time)
            second.advance(100)
            again = second.restart_point()
        assert again.step == 12
        assert same_bits(whole.arrays, again.arrays)
        assert whole.time == again.time
        assert same_numbers(whole.scalars, again.scalars)


def test_resolved_values_are_used_instead_of_the_configurations():
    problem = random_problem(1)
    resolved = Resolved("numpy", "cpu", "weight", 0.0123, 1, ramp=3)
    for integrator in ("gd", "bs23"):
        config = problem.config(step_size="auto", backend="numba", integrator=integrator)
        simulation = Simulation(config, problem.X, problem.Y, resolved=resolved)
        assert simulation.backend.name == "numpy"
        assert simulation.observe()["step_size"] == 0.0123
        if integrator == "gd":  # whose first steps are a third, two thirds and the whole of it
            simulation.advance(2)
            assert simulation.time == pytest.approx(0.0123, rel=1e-15)
    assert resolved.to_dict()["device"] == "cpu"


# -- the initial state -----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_initial_state_is_drawn_in_float64_and_cast(precision):
    problem = random_problem(1)
    config = problem.config(precision=precision, backend="numpy", seed=6)
    simulation = Simulation(config, problem.X, problem.Y)
    drawn = draw_initial(config, simulation.dimensions, problem.X)
    cast = {name: array.astype(precision) for name, array in drawn.items()}
    assert same_bits(simulation.initial, cast)
    assert same_bits(simulation.weights(), cast)


def test_distributions_of_the_initial_draw():
    problem = random_problem(1, d_in=50, d_out=20, m=200, m_c=300)
    simulation = Simulation(problem.config(init_scale=0.1, backend="numpy"), problem.X, problem.Y)
    drawn = simulation.initial
    # Standard errors of means and deviations of N normal numbers: below 0.02 for N >= 4000.
    assert abs(drawn["U"].std() - 0.1) < 0.01
    assert abs(drawn["W"].std() - 1.0) < 0.1
    assert set(np.unique(drawn["V"])) == set(np.unique(drawn["a"])) == {-1.0, 1.0}
    assert abs(drawn["V"].mean()) < 0.1
    normal = Simulation(problem.config(output_init="normal", backend="numpy"), problem.X, problem.Y)
    assert abs(normal.initial["V"].std() - 1.0) < 0.1
    assert len(np.unique(normal.initial["V"])) == 4000


def test_each_array_has_a_stream_of_its_own():
    """A wider critic or other outputs change no bit of U."""
    narrow, wide = random_problem(1), random_problem(1, m_c=9, d_out=5)
    first, second = (
        Simulation(problem.config(backend="numpy"), problem.X, problem.Y).initial["U"]
        for problem in (narrow, wide)
    )
    assert np.array_equal(first, second)


# -- time and the end ------------------------------------------------------------------------------


@integrators
def test_steps_cap_the_accepted_steps(integrator):
    with random_problem(1).simulation(integrator=integrator, steps=7) as simulation:
        simulation.advance(3)
        assert (simulation.step, simulation.finished) == (3, False)
        simulation.advance(100)
        assert (simulation.step, simulation.finished) == (7, True)
        weights = simulation.weights()
        simulation.advance(5)
        assert same_bits(simulation.weights(), weights)


@fixed
def test_fixed_step_time_is_computed_and_not_accumulated(integrator):
    """Adding 0.1 ten times does not make 1."""
    with smooth_problem().simulation(integrator=integrator, step_size=0.001) as simulation:
        for step in range(1, 40):
            simulation.advance()
            assert simulation.time == step * 0.001


@in_pairs(backend=BACKENDS, integrator=INTEGRATORS, end_time=(0.303, 0.1234567891))
def test_runs_pass_the_end_time_with_a_whole_step_and_show_the_state_there(
    integrator, backend, end_time
):
    """The last step is not shortened; time, rows and weights are those of the end time."""
    keys = {"integrator": integrator, "end_time": end_time, "steps": 10_000, "step_size": 0.01}
    with smooth_problem().simulation(backend, **keys) as simulation:
        before = 0.0
        while not simulation.finished:
            before = simulation.time
            assert simulation.shown_time == before
            simulation.advance()
        assert before < end_time < simulation.time
        assert (
            simulation.shown_time == simulation.observe(simulation.shown_time)["time"] == end_time
        )
        assert simulation.progress == (end_time, end_time)
        assert simulation.due(Agenda([0.0, 2 * end_time]))[-1] == end_time
        step, state = simulation.step, simulation.restart_point().arrays
        assert 2 < step < 1000
        simulation.advance(5)
        assert simulation.step == step
        assert same_bits(simulation.restart_point().arrays, state)


@fixed
def test_fixed_step_runs_stop_at_the_first_step_at_or_past_the_end_time(integrator):
    for end_time, steps in ((0.055, 6), (0.05, 5), (0.07, 7)):  # 7 * 0.01 = 0.07 + 1e-17
        keys = {"integrator": integrator, "step_size": 0.01, "end_time": end_time}
        with smooth_problem().simulation(**keys) as simulation:
            simulation.advance(100)
            assert simulation.step == steps
            assert simulation.shown_time == end_time


@integrators
def test_an_end_time_beyond_the_steps_changes_no_bit(integrator):
    problem = random_problem(1)
    ends = [
        final(problem, "numpy", [8], integrator=integrator, **keys)
        for keys in ({}, {"end_time": 1e9})
    ]
    assert same_bits(ends[0].arrays, ends[1].arrays)


# -- adaptive steps --------------------------------------------------------------------------------


def at_end(integrator: str, end_time: float = 0.3, **keys: Any) -> tuple[np.ndarray, int]:
    """U, V, W, a at the end time, and the steps it took to pass it."""
    with smooth_problem().simulation(
        integrator=integrator, end_time=end_time, step_size=1e-3, steps=10**6, **keys
    ) as simulation:
        simulation.advance(10**6)
        assert simulation.shown_time == end_time
        weights = simulation.weights(end_time)
        return np.concatenate([weights[name].ravel() for name in ARRAYS]), simulation.step


@adaptives
def test_global_error_follows_the_tolerance(integrator):
    """Local extrapolation: error per step ~ tol ~ h^p, global error ~ h^p ~ tol.

    So 100 times less tolerance gives 100 times less error, within a factor of 5: the controller's
    memory and the transient at the start are not part of that argument.
    """
    exact, _ = at_end("dopri5", rtol=1e-12, atol=1e-14)
    results = [at_end(integrator, rtol=rtol, atol=1e-3 * rtol) for rtol in (1e-4, 1e-6, 1e-8)]
    errors = [relative_error(y, exact) for y, _ in results]
    steps = [count for _, count in results]
    assert steps == sorted(steps)
    for rtol, error in zip((1e-4, 1e-6, 1e-8), errors, strict=True):
        assert error < 100 * rtol
    for coarse, fine in pairwise(errors):
        assert 20 < coarse / fine < 500, errors


@adaptives
def test_the_first_step_size_is_soon_forgotten(integrator):
    steps = []
    for step_size in (1e-6, 1e-3, 10.0):  # far too small, about right, to be rejected
        with smooth_problem().simulation(
            integrator=integrator, step_size=step_size, end_time=0.3, steps=10**5, rtol=1e-5
        ) as simulation:
            simulation.advance(10**5)
            assert simulation.shown_time == 0.3
            steps.append(simulation.step)
    # A factor of 5 a step at the most: from 1e-6 to 1e-2 takes 6 steps more.
    assert max(steps) - min(steps) <= 12, steps


@backends
@adaptives
def test_a_rejected_step_counts_for_nothing_and_the_next_is_not_larger(backend, integrator):
    """Started with steps far too large, runs end their first step with a smaller one."""
    for step_size in (1e3, 700.0, 400.0, 200.0, 100.0):
        with random_problem(1).simulation(
            backend, integrator=integrator, step_size=step_size
        ) as simulation:
            simulation.advance()
            assert simulation.step == 1
            assert 0.0 < simulation.time < 1.0
            assert simulation.observe()["step_size"] <= simulation.time
            assert simulation.non_finite_array() is None


@adaptives
def test_a_tolerance_nobody_can_meet_ends_in_a_clear_error(integrator):
    with (
        random_problem(1).simulation(integrator=integrator, rtol=1e-300, atol=0.0) as simulation,
        pytest.raises(DivergedError) as caught,
    ):
        simulation.advance()
    assert "diverged: the step size fell to" in str(caught.value)
    assert "--rtol" in str(caught.value)
    assert caught.value.exit_code == 5
    assert simulation.step == 0
    assert same_bits(simulation.weights(), random_problem(1).initial)


@backends
def test_divergence_is_found_and_named(backend):
    keys = {"integrator": "gd", "step_size": 1e6, "steps": 500}
    with random_problem(1).simulation(backend, **keys) as simulation:
        assert simulation.non_finite_array() is None
        simulation.advance(500)
        assert simulation.non_finite_array() in ARRAYS


# -- memory ----------------------------------------------------------------------------------------


def test_sizes_are_told_in_the_unit_that_suits_them():
    told = [size_text(count) for count in (999, 1536, 43_500_000, 141_500_000, 4e9, 1.5e12)]
    assert told == ["999 bytes", "1.5 KB", "43.5 MB", "141.5 MB", "4.00 GB", "1,500.00 GB"]


@pytest.mark.parametrize("keys", [{"width": 2**31 - 1}, {"critic_width": 2**31 - 1}], ids=str)
def test_an_enormous_run_is_refused_with_the_numbers_before_anything_is_allocated(keys):
    problem = random_problem(1)
    config = problem.config(backend="numpy", **keys)
    with pytest.raises(ConfigError) as caught:
        Simulation(config, problem.X, problem.Y)
    first, second = str(caught.value).splitlines()
    needed = float(first.split("needs ")[1].split(" GB")[0].replace(",", ""))
    assert needed > 2**31 * 8 * 10 / 1e9
    assert "are free" in first
    assert "--width" in second


@in_pairs(integrator=INTEGRATORS, chart=tuple(CHARTS), precision=PRECISIONS)
def test_predicted_memory_is_what_is_allocated(integrator, chart, precision, monkeypatch):
    """Every byte asked of the backend is counted; vectors of a row of scalars may come on top."""
    from prdsim.backends.numpy import NumpyBackend

    problem = random_problem(1, d_in=30, d_out=10, n=25, m=50, m_c=20)
    keys = {"integrator": integrator, "precision": precision, "chart": chart}
    config = problem.config(backend="numpy", **keys)
    allocated: list[np.ndarray] = []
    empty = NumpyBackend.empty

    def counted(self: Any, shape: Any, dtype: Any = None) -> np.ndarray:
        allocated.append(empty(self, shape, dtype))
        return allocated[-1]

    monkeypatch.setattr(NumpyBackend, "empty", counted)
    simulation = Simulation(config, problem.X, problem.Y, initial=problem.initial)
    matrices = sum(array.nbytes for array in allocated if array.ndim == 2 or array.size == 20)
    vectors = sum(array.nbytes for array in allocated) - matrices
    assert simulation.resolved.chart == chart
    predicted = memory_bytes(config, simulation.dimensions, simulation.backend, chart)
    assert matrices <= predicted <= matrices + 2 * vectors
    allocated.clear()
    with simulation:
        simulation.advance(2)
    assert not allocated, "a step allocates nothing"


def test_predicting_memory_takes_none():
    """However large a run is asked for: the numbers of its arrays are never made."""
    sizes = Dimensions(2**31 - 1, 2**20, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    for chart in CHARTS:
        assert memory_bytes(RunConfig(diffusion=True), sizes, get_backend("numpy"), chart) > 2**62


@in_pairs(backend=BACKENDS, integrator=INTEGRATORS, chart=tuple(CHARTS), precision=PRECISIONS)
def test_a_step_allocates_nothing_of_the_size_of_an_array(backend, integrator, chart, precision):
    """The smallest arrays have 1100 entries, 4400 bytes or more: one made on the way is seen."""
    problem = random_problem(1, d_in=20, d_out=12, n=1100, m=150, m_c=1100)
    keys = {"integrator": integrator, "chart": chart, "precision": precision}
    with problem.simulation(backend, step_size=1e-6, **keys) as simulation:
        before_it = simulation.stepper.evaluations + 1
        simulation.advance(before_it)  # of the stages that change places each has been the first
        peaks = []
        tracemalloc.start()
        try:
            for _ in range(5):  # the first may do what is done once in a process
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                simulation.advance()
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
                if peaks[-1] < 1100 * 4:
                    break
        finally:
            tracemalloc.stop()
        assert simulation.step == before_it + len(peaks)
    # NumPy's arrays are traced; what a step makes of Python's own objects is smaller than that.
    assert min(peaks) < 1100 * 4, peaks
