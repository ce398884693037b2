"""The automatic step size against a dense tangent kernel that the oracle builds entry by entry."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle.equations import tangent_kernel
from support import (
    ADAPTIVE,
    BACKENDS,
    INTEGRATORS,
    Problem,
    in_pairs,
    random_problem,
    same_bits,
)

from prdsim.errors import ConfigError
from prdsim.physics.charts import CHARTS
from prdsim.physics.gradients import forward, tangent_kernel_product
from prdsim.physics.state import State
from prdsim.running import step_size
from prdsim.running.step_control import round_down
from prdsim.running.step_size import automatic_step_size, largest_kernel_eigenvalue

positive = st.floats(1e-300, 1e300, allow_nan=False)
TRAINABLES = ("U,V,W,a", "U", "V", "U,V")


def dense_kernel(problem: Problem, trainable: str = "U,V") -> np.ndarray:
    data = problem.lists
    return np.array(
        tangent_kernel(
            data["U"],
            data["V"],
            data["X"],
            moves_U="U" in trainable,
            moves_V="V" in trainable,
        )
    )


def automatic(problem: Problem, **keys: Any) -> float:
    config = problem.config(step_size="auto", **keys)
    return automatic_step_size(config, problem.X, problem.Y, problem.initial)


def all_active(problem: Problem) -> Problem:
    """The same with every neuron active for its first sample."""
    problem.initial["U"] *= np.sign(problem.initial["U"] @ problem.X[:, :1])
    return problem


def largest_of(problem: Problem, backend: str = "numpy", **keys: Any) -> float:
    model, state = problem.model(backend, **keys)
    with model.backend.active():
        return largest_kernel_eigenvalue(model, state)


@in_pairs(trainable=TRAINABLES, backend=BACKENDS, sizes=({}, {"d_out": 1}, {"n": 1}, {"m": 1}))
def test_kernel_product_is_that_of_the_dense_kernel(trainable, sizes, backend):
    problem = random_problem(1, **sizes)
    model, state = problem.model(backend, trainable=trainable)
    forward(model, state)
    E = np.random.default_rng(0).standard_normal(problem.Y.shape)
    velocity = State.empty(model.backend, model.state_shapes, model.moving)
    tangent_kernel_product(model, state, E, velocity)
    expected = (dense_kernel(problem, trainable) @ E.reshape(-1)).reshape(E.shape)
    # Sums of at most 20 products, three deep: 60 eps of the norm.
    assert np.linalg.norm(model.work.Z - expected) < 1e-13 * max(1.0, np.linalg.norm(expected))


@pytest.mark.parametrize("trainable", TRAINABLES)
@pytest.mark.parametrize("seed", range(3))
def test_auto_is_the_inverse_of_the_largest_eigenvalue_rounded_down(trainable, seed):
    """Equal unless a two-digit number lies within the residual that is tolerated, 1e-4."""
    problem = random_problem(seed)
    wanted = 1.0 / np.linalg.eigvalsh(dense_kernel(problem, trainable))[-1]
    assert round_down(wanted) == round_down(wanted * 1.0001), "choose another seed"
    assert automatic(problem, trainable=trainable) == round_down(wanted)


@in_pairs(
    trainable=TRAINABLES,
    chart=tuple(CHARTS),
    backend=BACKENDS,
    precision=("float64", "float32"),
)
def test_largest_eigenvalue_is_that_of_the_dense_kernel(trainable, chart, backend, precision):
    """On any model: the eigenvalue of a symmetric matrix errs by no more than the residual, 1e-4.

    Products in float32 round by some 60 eps of the norm, 1e-5.
    """
    problem = random_problem(3)
    keys = {"trainable": trainable, "chart": chart, "precision": precision}
    wanted = np.linalg.eigvalsh(dense_kernel(problem, trainable))[-1]
    assert largest_of(problem, backend, **keys) == pytest.approx(wanted, rel=1.2e-4)


@pytest.mark.parametrize("d_out", [1, 2, 3, 13])
@pytest.mark.parametrize("m", [1, 40])
def test_largest_eigenvalue_of_the_smallest_kernels(d_out, m):
    """One sample: orders from 1 on, and a rank of 1 where one neuron is active."""
    problem = all_active(random_problem(4, n=1, d_out=d_out, m=m))
    wanted = np.linalg.eigvalsh(dense_kernel(problem))[-1]
    assert wanted > 0.0
    assert largest_of(problem) == pytest.approx(wanted, rel=1e-4)


def test_an_eigenvalue_that_all_vectors_share_is_found():
    """One active neuron, one sample, V alone: K is a multiple of the identity, of order 50."""
    problem = all_active(random_problem(5, n=1, d_out=50, m=1))
    wanted = np.linalg.eigvalsh(dense_kernel(problem, "V"))
    assert wanted[0] == pytest.approx(wanted[-1])
    assert largest_of(problem, trainable="V") == pytest.approx(wanted[-1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("chart", CHARTS)
def test_largest_eigenvalue_in_mid_run_repeats_its_bits_and_changes_none_of_the_run(backend, chart):
    problem = random_problem(6)
    keys = {"backend": backend, "chart": chart, "steps": 9, "integrator": "bs23", "end_time": None}
    with problem.simulation(**keys) as simulation, problem.simulation(**keys) as watched:
        simulation.advance(3)
        watched.advance(3)
        before = {name: array.copy() for name, array in watched.state}
        first, second = (largest_kernel_eigenvalue(watched.model, watched.state) for _ in range(2))
        assert first == second > 0.0
        assert same_bits(before, dict(watched.state))
        simulation.advance(6)
        watched.advance(6)
        assert same_bits(simulation.weights(), watched.weights())


def test_the_search_ends_whatever_the_spectrum(monkeypatch):
    """A residual that rounding keeps from zero; lambda_max is bounded by Ritz values from below."""
    problem = random_problem(1)
    wanted = np.linalg.eigvalsh(dense_kernel(problem))[-1]
    monkeypatch.setattr(step_size, "_TOLERANCE", 0.0)
    assert largest_of(problem) == pytest.approx(wanted, rel=1e-13)


def test_auto_is_refused_where_products_overflow():
    problem = random_problem(1)
    problem.X[:] *= 1e200
    assert np.isnan(largest_of(problem))
    with pytest.raises(ConfigError, match="overflow") as caught:
        automatic(problem)
    assert "--step-size" in str(caught.value)


def test_auto_does_not_depend_on_backend_precision_diffusion_or_the_method_of_fixed_steps():
    """A sixteenth of 1/lambda_max for them, a thousandth as an adaptive method's first step."""
    problem = random_problem(7)
    variants: list[dict[str, Any]] = [
        {"backend": "numpy"},
        {"backend": "numba"},
        {"backend": "numba", "precision": "float32"},
        {"backend": "numpy", "integrator": "rk4"},
        {"backend": "numpy", "integrator": "bs23"},
        {"backend": "numba", "integrator": "dopri5"},
        {"backend": "numpy", "diffusion": False},
    ]
    whole = automatic(problem)
    for keys in variants:
        keys = {"integrator": "gd", **keys}
        adaptive = keys["integrator"] in ADAPTIVE
        with problem.simulation(**{"step_size": "auto", **keys}) as simulation:
            assert simulation.resolved.step_size == round_down(
                whole * (1e-3 if adaptive else 1 / 16)
            )
            assert simulation.observe()["step_size"] == simulation.resolved.step_size


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_automatic_fixed_steps_grow_where_weights_begin_small(integrator):
    """In 64 steps; steps of a given size, or adaptive ones, do not."""
    problem = random_problem(7)

    def ramp(**keys: Any) -> int:
        keys = {"integrator": integrator, "step_size": "auto", **keys}
        with problem.simulation(**keys) as simulation:
            simulation.advance(3)
            ramp, size = simulation.resolved.ramp, simulation.resolved.step_size
            if integrator not in ADAPTIVE:  # 1 + 2 + 3 parts in so many of a step
                sizes = sum(min(1.0, (i + 1) / ramp) for i in range(3))
                assert simulation.time == pytest.approx(size * sizes, rel=1e-14)
            return ramp

    small = 1 if integrator in ADAPTIVE else 64
    assert ramp(init_scale=0.1) == ramp(init_scale=0.99) == small
    assert ramp(init_scale=1.0) == ramp(init_scale=0.1, step_size=0.01) == 1


def test_auto_is_stable_for_gradient_descent_without_diffusion():
    """Euler steps of 1/lambda_max, and all the more of a sixteenth: the loss always falls."""
    problem = random_problem(8, m=40)
    for size in ("auto", automatic(problem)):
        keys = {"integrator": "gd", "step_size": size, "diffusion": False}
        with problem.simulation(**keys) as simulation:
            losses = [simulation.observe()["loss_sup"]]
            for _ in range(20):
                simulation.advance()
                losses.append(simulation.observe()["loss_sup"])
        assert all(after < before for before, after in pairwise(losses))


@pytest.mark.parametrize("trainable", ["W,a", "W"])
def test_auto_is_refused_where_u_and_v_are_frozen(trainable):
    with pytest.raises(ConfigError) as caught:
        automatic(random_problem(1), trainable=trainable)
    assert "U and V frozen" in str(caught.value)
    assert "--step-size" in str(caught.value)


def test_auto_is_refused_where_the_kernel_is_zero():
    problem = random_problem(1)
    problem.X[:] = 0.0
    with pytest.raises(ConfigError, match="tangent kernel is zero"):
        automatic(problem)


def test_pre_activations_that_overflow_are_no_kernel_of_zero():
    """U X is infinity minus infinity: NaN, whose gates are closed."""
    problem = random_problem(1)
    problem.X[:] = 1.7e308
    problem.initial["U"][:] = 10.0
    problem.initial["U"][:, ::2] *= -1.0
    with pytest.raises(ConfigError, match="products with the tangent kernel overflow"):
        automatic(problem)


@given(positive)
def test_round_down_keeps_two_digits_and_rounds_down_by_less_than_one_of_the_second(value):
    rounded = round_down(value)
    digits = Decimal(repr(rounded)).normalize().as_tuple().digits
    assert len(digits) <= 2
    assert rounded <= value
    exact = Decimal(repr(value))
    unit = Decimal(1).scaleb(exact.adjusted() - 1)
    assert 0 <= exact - Decimal(repr(rounded)) < unit
    assert rounded > 0.0


@given(st.integers(10, 99), st.integers(-290, 290))
def test_round_down_leaves_two_digit_numbers_alone(digits, exponent):
    """0.29 is a little less than 29/100 as a float, and still 0.29."""
    number = float(f"{digits}e{exponent}")
    assert round_down(number) == number


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.29, 0.29),
        (0.0999, 0.099),
        (1.0, 1.0),
        (123.4, 120.0),
        (0.05999999, 0.059),
        (5e-324, 5e-324),
    ],
)
def test_round_down_examples(value, rounded):
    assert round_down(value) == rounded
