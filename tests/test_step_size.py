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
from support import Problem, random_problem

from prdsim.errors import ConfigError
from prdsim.gradients import forward, tangent_kernel_product
from prdsim.model import State
from prdsim.step_size import automatic_step_size, round_down

positive = st.floats(1e-300, 1e300, allow_nan=False)
trainables = pytest.mark.parametrize("trainable", ["U,V,W,a", "U", "V", "U,V"])


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


@trainables
@pytest.mark.parametrize("sizes", [{}, {"d_out": 1}, {"n": 1}, {"m": 1}], ids=str)
def test_kernel_product_is_that_of_the_dense_kernel(trainable, sizes):
    problem = random_problem(1, **sizes)
    model, state = problem.model(trainable=trainable)
    forward(model, state)
    E = np.random.default_rng(0).standard_normal(problem.Y.shape)
    velocity = State.empty(model.backend, model.state_shapes, model.moving)
    tangent_kernel_product(model, state, E, velocity)
    expected = (dense_kernel(problem, trainable) @ E.reshape(-1)).reshape(E.shape)
    # Sums of at most 20 products, three deep: 60 eps of the norm.
    assert np.linalg.norm(model.work.Z - expected) < 1e-13 * max(1.0, np.linalg.norm(expected))


@trainables
@pytest.mark.parametrize("seed", range(5))
def test_auto_is_the_inverse_of_the_largest_eigenvalue_rounded_down(trainable, seed):
    """Equal unless a two-digit number lies within the error of power iteration, 1e-4."""
    problem = random_problem(seed)
    wanted = 1.0 / np.linalg.eigvalsh(dense_kernel(problem, trainable))[-1]
    assert round_down(wanted) == round_down(wanted * 1.0001), "choose another seed"
    assert automatic(problem, trainable=trainable) == round_down(wanted)


def test_auto_does_not_depend_on_backend_precision_diffusion_or_integrator():
    problem = random_problem(7)
    variants: list[dict[str, Any]] = [
        {"backend": "numpy"},
        {"backend": "numba"},
        {"backend": "numba", "precision": "float32"},
        {"backend": "numpy", "integrator": "dopri5"},
        {"backend": "numpy", "diffusion": False},
    ]
    taken = set()
    for keys in variants:
        with problem.simulation(**{"step_size": "auto", **keys}) as simulation:
            taken.add(simulation.resolved.step_size)
            assert simulation.observe()["step_size"] == simulation.resolved.step_size
    assert taken == {automatic(problem)}


def test_auto_is_stable_for_gradient_descent_without_diffusion():
    """Euler steps of 1/lambda_max: the loss falls at every step."""
    problem = random_problem(8, m=40)
    with problem.simulation(step_size="auto", diffusion=False) as simulation:
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
