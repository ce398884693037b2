"""Controls in the critic's place: their fields, their times, and the velocities they drive.

Bounds of statistics, five standard errors of independent draws: a right field fails one in two
million times, and the draws are the same in every run.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, sqrt
from typing import Any

import numpy as np
import pytest
from support import BACKENDS, Problem, random_problem, relative_error

from prdsim.backends import get_backend
from prdsim.errors import ConfigError
from prdsim.physics.forcing import Forcing
from prdsim.physics.gradients import (
    acting_field,
    critic_gradient,
    drive,
    forward,
    generator_velocity,
    score_field,
    velocity,
)
from prdsim.physics.randomness import Stream, permutation, uniforms, unit_normals
from prdsim.physics.state import Dimensions, State
from prdsim.physics.tangent import Linearization

PRESCRIBED = ("static", "common", "white", "slow")
N = 2000


def forcing(kind: Any, *, n: int = N, backend: str = "numpy", **options: Any) -> Forcing:
    sizes, k = Dimensions(1, 3, n, 1, 1), get_backend(backend, threads=1)
    return Forcing(kind, k, sizes, **{"seed": 5, "time": 0.5, "norms": None, **options})


def field(made: Forcing, interval: int) -> np.ndarray:
    """The field of an interval, (3, n)."""
    made.load(interval)
    return np.array(made.field)


# -- fields ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PRESCRIBED)
@pytest.mark.parametrize("norms", [None, 0.7, np.linspace(0.0, 2.0, N)], ids=["1", "0.7", "many"])
def test_every_column_has_its_norm(kind, norms):
    found = np.linalg.norm(field(forcing(kind, norms=norms), 3), axis=0)
    assert np.allclose(found, 1.0 if norms is None else norms, rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", ["static", "white", "slow"])
def test_directions_of_samples_are_independent_and_isotropic(kind):
    columns = field(forcing(kind), 40)
    assert np.all(np.abs(columns.mean(axis=1)) < 5 / sqrt(3 * N))
    covariance = columns @ columns.T / N  # of unit vectors in 3 dimensions: 1/3
    assert np.all(np.abs(covariance - np.eye(3) / 3) < 5 * 0.3 / sqrt(N))


def test_a_common_field_has_one_direction():
    columns = field(forcing("common", norms=np.linspace(1.0, 2.0, N)), 0)
    assert np.linalg.matrix_rank(columns) == 1
    assert np.all(columns[0] / columns[0, 0] > 0)


def correlation(made: Forcing, first: int, second: int) -> float:
    """The mean over samples of the products of unit vectors at two intervals."""
    return float(np.mean(np.sum(field(made, first) * field(made, second), axis=0)))


@pytest.mark.parametrize("kind", ["static", "common"])
def test_static_fields_last_for_ever(kind):
    made = forcing(kind)
    assert made.interval(1e9) == made.interval_before(1e9) == 0
    assert made.end(0) == float("inf")
    made.load(0)
    assert not made.load(0)


def test_white_fields_are_drawn_anew_in_every_interval():
    made = forcing("white")
    for other in (1, 2, 1000, 2**40):
        assert abs(correlation(made, 0, other)) < 5 / sqrt(3 * N)


def test_slow_fields_forget_exponentially():
    made = forcing("slow", time=2.0)
    assert made.period == 2.0 / 16
    # The mean product of the directions of normal vectors in 3 dimensions whose correlation is r:
    # 8 r / (3 pi) (1 + r^2 / 10 + ...).
    near, middle, far = (correlation(made, 0, k) for k in (1, 16, 160))
    assert 0.9 < near < 1.0
    normal = 8 / (3 * np.pi) * exp(-1)
    assert middle == pytest.approx(normal * (1 + exp(-2) / 10), abs=5 * 0.55 / sqrt(N))
    assert abs(far) < 5 / sqrt(3 * N)


def test_the_way_to_an_interval_changes_no_bit():
    for kind in PRESCRIBED:
        made = forcing(kind, n=7)
        there = field(made, 9)
        assert np.array_equal(field(forcing(kind, n=7), 9), there)
        field(made, 30)
        assert np.array_equal(field(made, 9), there), kind


@pytest.mark.parametrize("kind", PRESCRIBED)
def test_fields_have_the_same_bits_on_every_backend(kind):
    first, second = (field(forcing(kind, n=50, backend=name), 4) for name in BACKENDS)
    assert np.array_equal(first, second)


def test_seeds_and_samples_have_draws_of_their_own():
    assert not np.array_equal(field(forcing("static"), 0), field(forcing("static", seed=6), 0))
    more = field(forcing("static", n=N + 1), 0)
    assert np.array_equal(more[:, :N], field(forcing("static"), 0)), "a sample keeps its vector"


def test_normal_numbers_are_the_inverse_of_the_uniform_ones():
    from scipy.special import ndtr

    normals = unit_normals(3, Stream.FORCING, 8, 2, 5)
    drawn = [uniforms(3, Stream.FORCING, 8, row, 5) for row in range(2)]
    assert np.allclose(ndtr(normals), drawn, rtol=1e-13, atol=0)
    assert np.all(np.isfinite(normals))


def test_permutations_differ_from_each_other():
    orders = [permutation(3, Stream.SHUFFLED_SAMPLES, step, N) for step in range(3)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert all(np.mean(a == b) < 0.01 for a, b in pairwise(orders))


# -- times -----------------------------------------------------------------------------------------


def test_intervals_begin_at_the_multiples_of_the_period():
    made = forcing("white", time=0.1)
    for k in range(1, 400):
        at = made.end(k - 1)
        assert made.interval(at) == k
        assert made.interval_before(at) == k - 1
        assert made.interval(at + 0.04) == made.interval_before(at + 0.04) == k
        assert made.interval(at * (1 - 1e-15)) == k, "rounding makes no interval"
    assert made.interval(0.0) == made.interval_before(0.0) == 0


# -- velocities ------------------------------------------------------------------------------------


def at_start(problem: Problem, backend: str = "numpy", **keys: Any) -> Any:
    model, state = problem.model(backend, **keys)
    model.forcing.load(2)
    forward(model, state)
    return model, state


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [*PRESCRIBED, "shuffled"])
def test_the_drive_is_the_residual_and_d_times_the_field(kind, backend):
    problem = random_problem()
    model, state = at_start(problem, backend, forcing=kind, diffusivity=0.3, forcing_norm=1.5)
    drive(model, state)
    Z, E, F = (np.array(array) for array in (model.work.Z, model.work.E, model.F))
    assert relative_error(E, problem.Y - Z + 0.3 * F) < 1e-14
    assert np.allclose(np.linalg.norm(F, axis=0), 1.5, rtol=1e-13)


def test_a_shuffled_field_is_the_critics_own_at_other_samples():
    model, state = at_start(random_problem(), forcing="shuffled")
    acting_field(model, state)
    score_field(model, state)
    G, F = np.array(model.work.G), np.array(model.F)
    order = permutation(0, Stream.SHUFFLED_SAMPLES, 2, G.shape[1])
    assert np.array_equal(F, G[:, order])
    assert not np.array_equal(F, G)


@pytest.mark.parametrize("kind", ["static", "shuffled"])
def test_the_velocity_is_that_of_the_drive_and_the_critic_learns_as_ever(kind):
    problem = random_problem()
    model, state = at_start(problem, forcing=kind, forcing_norm=0.4)
    computed = State.empty(model.backend, model.state_shapes, model.moving)
    velocity(model, state, out=computed)
    E = problem.Y - np.array(model.work.Z) + np.array(model.F)
    expected = State.empty(model.backend, model.state_shapes)
    generator_velocity(model, state, E, out=expected)
    assert relative_error(computed.U, expected.U) < 1e-14
    assert relative_error(computed.V, expected.V) < 1e-14
    assert model.moving == (("U", "V") if kind == "static" else ("U", "V", "W", "a"))
    if kind == "shuffled":
        other, start = problem.model()
        forward(other, start)
        critic_gradient(other, start, out=expected, alpha=-1.0)
        assert np.array_equal(computed.W, expected.W)


def test_a_prescribed_field_descends_l_sup_less_d_z_f():
    """Central differences of the loss along random directions, away from kinks."""
    problem = random_problem(22)
    model, state = at_start(problem, forcing="static", diffusivity=0.7)
    out = State.empty(model.backend, model.state_shapes, model.moving)
    velocity(model, state, out=out)
    F, s = np.array(model.F), model.s
    U, V = problem.initial["U"], problem.initial["V"]

    def loss(U: np.ndarray, V: np.ndarray) -> float:
        Z = s * V @ np.maximum(U @ problem.X, 0)
        return float(0.5 * np.sum((Z - problem.Y) ** 2) - 0.7 * np.sum(Z * F))

    rng, h = np.random.default_rng(0), 1e-6
    for _ in range(5):
        dU, dV = rng.standard_normal(U.shape), rng.standard_normal(V.shape)
        slope = (loss(U + h * dU, V + h * dV) - loss(U - h * dU, V - h * dV)) / (2 * h)
        along = np.sum(np.array(out.U) * dU) + np.sum(np.array(out.V) * dV)
        assert slope == pytest.approx(-along, rel=1e-6)


def test_the_jacobian_of_a_control():
    problem = random_problem()
    model, state = at_start(problem, forcing="static")
    jacobian = Linearization(model, state, "joint")
    assert jacobian.moving == ("U", "V")
    model, state = at_start(problem, forcing="shuffled")
    Linearization(model, state, "frozen")
    with pytest.raises(ConfigError, match="no Jacobian"):
        Linearization(model, state, "joint")
