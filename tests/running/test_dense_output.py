"""States between steps: looking at them changes nothing, and a run's end is one of them."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from cupy_on_host import compiler_missing
from cupy_on_host.harness import put_in
from support import (
    ADAPTIVE,
    BACKENDS,
    INTEGRATORS,
    Problem,
    in_pairs,
    random_problem,
    same_bits,
    same_numbers,
    smooth_problem,
)

from prdsim.errors import DivergedError, PrdsimError
from prdsim.physics.charts import CHARTS
from prdsim.physics.gradients import velocity
from prdsim.running.step_control import Controller, FixedSteps, StepControl

EVERYWHERE = (*BACKENDS, *(() if compiler_missing() else ("cupy",)))
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)
on_stand_ins = pytest.mark.skipif(bool(compiler_missing()), reason=compiler_missing() or "-")
everywhere = pytest.mark.parametrize(
    "backend", [*BACKENDS, pytest.param("cupy", marks=on_stand_ins)]
)


@pytest.fixture(autouse=True)
def cupy(monkeypatch) -> Any:
    """The stand-in that `get_backend("cupy")` finds."""
    return None if compiler_missing() else put_in(monkeypatch)


# -- looking ---------------------------------------------------------------------------------------


@in_pairs(
    integrator=INTEGRATORS,
    chart=tuple(CHARTS),
    backend=EVERYWHERE,
    keys=({}, {"trainable": "U,W"}, {"diffusion": False}),
)
def test_looking_between_steps_changes_no_bit_of_those_that_follow(
    integrator, chart, keys, backend
):
    """In any way, any number of times, in any order; nor of states looked at later."""
    problem = random_problem(4, d_in=9, n=5)
    keys = {"integrator": integrator, "chart": chart, "step_size": 0.01, **keys}
    rng = np.random.default_rng(0)
    points, last = [], []
    for watched in (False, True):
        with problem.simulation(backend, **keys) as simulation:
            for step in range(8):
                begun = simulation.time
                simulation.advance(next_view=begun if watched or step == 7 else np.inf)
                if not watched:
                    continue
                for fraction in (*rng.uniform(0, 1, 2), 0.0, 1.0, 1e-9):
                    time = begun + fraction * (simulation.time - begun)
                    simulation.view(time)
                    simulation.observe(time)
                    simulation.weights(time)
                    assert simulation.non_finite_array(time) is None
                copies = simulation.start_weights(begun + 0.5 * (simulation.time - begun))
                expected = simulation.weights(begun + 0.5 * (simulation.time - begun))
                simulation.view(begun)  # a copy is of its moment, whatever comes after
                assert same_bits({name: copy() for name, copy in copies.items()}, expected)
            points.append(simulation.restart_point())
            last.append(simulation.weights(begun + 0.3 * (simulation.time - begun)))
    assert same_bits(*last)
    assert points[0].time == points[1].time
    assert same_bits(points[0].arrays, points[1].arrays)
    assert same_numbers(points[0].scalars, points[1].scalars)


@integrators
@everywhere
def test_a_state_between_steps_is_looked_at_with_the_same_bits_again(integrator, backend):
    problem = random_problem(4)
    with problem.simulation(backend, integrator=integrator, step_size=0.01) as simulation:
        simulation.advance(3)
        begun = simulation.time
        simulation.advance(next_view=begun)
        time = 0.7 * begun + 0.3 * simulation.time
        first, row = simulation.weights(time), simulation.observe(time)
        simulation.weights(0.2 * begun + 0.8 * simulation.time)
        assert same_bits(simulation.weights(time), first)
        assert same_numbers(simulation.observe(time), row)
        assert row["time"] == time
        assert not same_bits(simulation.weights(), first)


@integrators
@pytest.mark.parametrize("trainable", ["U", "V,W", "U,V,W,a"])
def test_frozen_arrays_are_the_initial_ones_between_steps_too(integrator, trainable):
    problem = random_problem(6)
    keys = {"integrator": integrator, "trainable": trainable}
    with problem.simulation(**keys) as simulation:
        simulation.advance(2)
        begun = simulation.time
        simulation.advance(next_view=begun)
        weights = simulation.weights(0.5 * (begun + simulation.time))
    for name, array in weights.items():
        assert np.array_equal(array, problem.initial[name]) == (name not in trainable.split(","))


def test_the_line_between_two_steps_of_gd_is_its_state_between_them():
    problem = random_problem(6)
    with problem.simulation(integrator="gd", step_size=0.01) as simulation:
        simulation.advance(3)
        before = simulation.weights()
        simulation.advance(next_view=0.0325)
        after, between = simulation.weights(), simulation.weights(0.0325)
    for name, array in between.items():
        line = 0.75 * before[name] + 0.25 * after[name]
        assert np.allclose(array, line, rtol=1e-13, atol=1e-15), name


# -- the end ---------------------------------------------------------------------------------------


def at(problem: Problem, backend: str, time: float, **keys: Any) -> tuple[dict, dict]:
    """Weights and scalars at a time of a run."""
    with problem.simulation(backend, **keys) as simulation:
        while simulation.time < time:
            simulation.advance(next_view=time)
        return simulation.weights(time), simulation.observe(time)


@in_pairs(integrator=INTEGRATORS, backend=EVERYWHERE, end_time=(0.123, 0.0701))
def test_the_end_of_a_run_is_a_state_of_a_longer_one_to_the_last_bit(integrator, backend, end_time):
    problem, keys = random_problem(1), {"integrator": integrator, "step_size": 0.01}
    with problem.simulation(backend, end_time=end_time, **keys) as simulation:
        simulation.advance(10**6)
        assert simulation.finished
        assert simulation.time > end_time
        ended = simulation.weights(simulation.shown_time)
        row = simulation.observe(simulation.shown_time)
    weights, longer = at(problem, backend, end_time, end_time=10.0, **keys)
    assert same_bits(ended, weights)
    assert same_numbers(row, longer)


# -- sizes of steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("ramp", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("size", [1.0, 0.1, 1 / 3, 3e-7])
def test_times_of_fixed_steps_are_the_sums_of_their_sizes(ramp, size):
    steps = FixedSteps(size, ramp)
    sizes = [steps.size_of(index) for index in range(ramp + 5)]
    # Sums of up to 1005 numbers, each rounded once: 1005 eps / 2.
    for count in (0, 1, ramp - 1, ramp, ramp + 5):
        assert steps.time(count) == pytest.approx(sum(sizes[:count]), rel=2e-13, abs=0)
    assert sizes[ramp - 1 :] == [size] * 6
    assert sizes[0] == pytest.approx(size / ramp, rel=1e-15)
    assert all(0.0 < before <= after for before, after in pairwise(sizes))


@pytest.mark.parametrize("size", [0.1, 0.001, 1 / 3, 0.3])
def test_without_a_ramp_time_is_the_product_of_size_and_step_to_the_last_bit(size):
    steps = FixedSteps(size)
    assert [steps.time(step) for step in range(1000)] == [size * step for step in range(1000)]
    assert all(steps.size_of(step) == size for step in range(10))


class Errors:
    """Attempts whose errors are as told, in turn; keeps the sizes."""

    def __init__(self, *errors: float) -> None:
        self.errors, self.sizes = list(errors), []

    def __call__(self, size: float) -> float:
        self.sizes.append(size)
        return self.errors.pop(0)


@pytest.mark.parametrize("ramp", [1, 4])
@pytest.mark.parametrize("size", [0.1, 0.07, 1 / 3])
def test_steps_alike_have_one_size_and_end_in_time(ramp, size):
    steps = FixedSteps(size, ramp)
    untils = [*(steps.time(k) for k in range(12)), 0.0, size / 2, 5.5 * size, np.inf]
    for index, most, until in product(range(9), (1, 2, 7), untils):
        fitting = [
            count
            for count in range(1, most + 1)
            if steps.size_of(index + count - 1) == steps.size_of(index)
            and steps.time(index + count) <= until
        ]
        assert steps.alike(index, most, until) == max([1, *fitting])


def test_a_step_is_attempted_until_its_error_is_allowed():
    control, attempt = StepControl(Controller(2), 1.0), Errors(8.0, float("nan"), 1.0)
    # By (0.9 / 2), then by the smallest factor, 0.2; see `Controller`.
    assert control.step(attempt) == pytest.approx(0.45 * 0.2)
    assert attempt.sizes == pytest.approx([1.0, 0.45, 0.09])
    assert control.rejected == 2
    assert control.step_size == pytest.approx(0.9 * 0.09)
    assert control.previous_error == 1.0
    assert control.step(Errors(1e-12)) == control.step_size / 5.0
    assert (control.previous_error, control.rejected) == (1e-4, 2)
    control.step(Errors(1.0 + 1e-15, 1.0))
    assert control.rejected == 3


def test_after_a_rejection_no_step_grows():
    control = StepControl(Controller(2), 1.0)
    assert control.step(Errors(float("inf"), 1e-12)) == control.step_size == 0.2


def test_a_step_may_be_shortened_to_what_is_left():
    control, attempt = StepControl(Controller(2), 1.0), Errors(0.5)
    assert control.step(attempt, at_most=0.25) == 0.25
    assert attempt.sizes == [0.25]


def test_a_step_size_that_falls_below_the_smallest_is_a_divergence():
    control = StepControl(Controller(2), 1.0, smallest=0.01)
    with pytest.raises(DivergedError, match=r"the step size fell to 8\.0e-03"):
        control.step(Errors(*[float("inf")] * 9))
    assert control.rejected == 3
    control = StepControl(Controller(2), 1.0, smallest=0.2)
    assert control.step(Errors(float("inf"), 1.0)) == 0.2, "the smallest itself is allowed"


@pytest.mark.parametrize("integrator", ADAPTIVE)
def test_evaluations_are_those_that_were_made(integrator, monkeypatch):
    """The first velocity of a run, and six or three for every attempt, accepted or not.

    One product less for one of bs23's three in the Gram chart: those of the error are used again.
    """
    made = []

    def counted(*arguments: Any, **keys: Any) -> None:
        made.append(keys.get("with_A", False))
        velocity(*arguments, **keys)

    for module in ("runge_kutta", "simulation"):
        monkeypatch.setattr(f"prdsim.running.{module}.velocity", counted)
    keys = {"integrator": integrator, "step_size": 0.3, "chart": "gram"}
    with smooth_problem().simulation(**keys) as simulation:
        simulation.advance(9)
        row = simulation.observe()
    assert row["rejected_steps"] > 0
    assert row["evaluations"] == len(made)
    attempts = 9 + row["rejected_steps"]
    assert len(made) == 1 + attempts * {"bs23": 3, "dopri5": 6}[integrator]
    assert sum(made) == attempts * (integrator == "bs23")


def test_a_time_before_the_last_step_is_refused():
    with smooth_problem().simulation(integrator="bs23", end_time=1.0) as simulation:
        simulation.advance(3)
        begun = simulation.time
        point = simulation.restart_point()
        simulation.advance()
        simulation.view((begun + simulation.time) / 2)
        with pytest.raises(PrdsimError, match="is not within the last step"):
            simulation.view(0.9 * begun)
        simulation.restore(point)
        with pytest.raises(PrdsimError, match="is not within the last step"):
            simulation.view(0.9 * begun)
