"""The critic as a part of the flow: its speed, its warm-up, and where its penalty is taken."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from oracle import equations, losses
from scipy.integrate import solve_ivp
from support import (
    BACKENDS,
    INTEGRATORS,
    Problem,
    random_problem,
    relative_error,
    same_bits,
    smooth_problem,
)

from prdsim.physics.gradients import critic_gradient, forward
from prdsim.physics.state import State
from prdsim.symbols import ARRAYS

FLOWS = [name for name in INTEGRATORS if name != "gd"]
END = 0.3
TIGHT = {"integrator": "dopri5", "rtol": 1e-11, "atol": 1e-13}
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)


def at_end(problem: Problem, **keys: Any) -> np.ndarray:
    """U, V, W, a at END as one vector."""
    with problem.simulation(end_time=END, **keys) as simulation:
        simulation.advance(10**6)
        weights = simulation.weights(simulation.shown_time)
    return np.concatenate([weights[name].ravel() for name in ARRAYS])


# -- the critic's speed ----------------------------------------------------------------------------


@pytest.mark.parametrize("critic_steps", [1, 5])
def test_small_steps_of_gd_tend_to_the_flow_of_the_same_critic_rate(critic_steps):
    """With order 1, whatever the number of updates; and to another limit for another rate."""
    problem = smooth_problem()
    flows = {rate: at_end(problem, critic_rate=rate, **TIGHT) for rate in (0.5, 2.0)}
    apart = np.linalg.norm(flows[0.5] - flows[2.0])
    keys = {"integrator": "gd", "penalty_points": "midpoint", "critic_steps": critic_steps}
    for rate, flow in flows.items():
        ends = [at_end(problem, critic_rate=rate, step_size=h, **keys) for h in (2e-3, 1e-3, 5e-4)]
        errors = [float(np.linalg.norm(end - flow)) for end in ends]
        for coarse, fine in pairwise(errors):
            assert abs(np.log2(coarse / fine) - 1) < 0.2, errors
        other = flows[2.5 - rate]
        assert errors[-1] < 0.05 * apart
        assert np.linalg.norm(ends[-1] - other) > 0.95 * apart


@pytest.mark.parametrize("name", ["heun", "rk4", "bs23"])
def test_all_flows_have_the_same_limit(name):
    """At rates below 30 steps of 1e-3 err by (30 h)^2 / 6 with heun, by (30 h)^4 / 120 with rk4.

    An adaptive method's error stays within 100 of its tolerance.
    """
    problem = smooth_problem()
    keys = {"step_size": 1e-3, "rtol": 1e-8, "critic_rate": 2.0}
    expected = at_end(problem, critic_rate=2.0, **TIGHT)
    error = relative_error(at_end(problem, integrator=name, **keys), expected)
    assert error < {"heun": 1.5e-4, "rk4": 7e-9, "bs23": 1e-6}[name]


@pytest.mark.parametrize("critic_steps", [0, 1, 5])
def test_the_critic_rate_of_gd_follows_from_an_update_size_that_is_given(critic_steps):
    problem = random_problem(1)
    keys = {"integrator": "gd", "critic_steps": critic_steps, "step_size": 0.02}
    given = problem.simulation(critic_step_size=0.003, **keys).resolved
    assert given.critic_rate == pytest.approx(critic_steps * 0.003 / 0.02, rel=1e-15)
    free = problem.simulation(critic_rate=0.7, **keys).resolved
    assert free.critic_rate == pytest.approx(0.7 if critic_steps else 0.0, rel=1e-15)


@pytest.mark.parametrize("integrator", FLOWS)
def test_the_critic_rate_of_a_flow_is_that_of_its_configuration(integrator):
    simulation = random_problem(1).simulation(integrator=integrator, critic_rate=0.7)
    assert simulation.resolved.critic_rate == 0.7


def test_a_given_update_size_has_the_bits_of_the_rate_it_makes():
    """Powers of 2, so that nothing is rounded on the way."""
    problem = random_problem(1)
    keys = {"integrator": "gd", "critic_steps": 4, "step_size": 2.0**-6}
    ends = [
        at_end(problem, **keys, **given)
        for given in ({"critic_rate": 2.0}, {"critic_step_size": 2.0**-7})
    ]
    assert np.array_equal(*ends)


# -- the warm-up -----------------------------------------------------------------------------------

WARM_UP = 0.4
RATE, PENALTY = 1.5, 2.0
KEYS: dict[str, Any] = {"critic_rate": RATE, "gradient_penalty": PENALTY, "critic_warmup": WARM_UP}


def warmed_up(problem: Problem, backend: str = "numpy", **keys: Any) -> dict[str, np.ndarray]:
    """The weights at t = 0, after the warm-up."""
    with problem.simulation(backend, **{**KEYS, **keys}) as simulation:
        assert (simulation.step, simulation.time) == (0, 0.0)
        assert simulation.observe()["time"] == 0.0
        assert same_bits(simulation.initial, problem.initial), "what was drawn is kept"
        return simulation.weights()


def expected_critic(problem: Problem, moving: str = "Wa") -> dict[str, np.ndarray]:
    """The critic's own flow by the oracle, at the prediction of t = 0, without a kink."""
    data, shape = problem.lists, problem.initial["W"].shape
    Z = losses.predictions(data["U"], data["V"], data["X"])
    middle = [0.5] * len(Z)
    size = problem.initial["W"].size

    def velocity(_: float, y: np.ndarray) -> np.ndarray:
        W, a = y[:size].reshape(shape).tolist(), y[size:].tolist()
        dW, da = equations.critic_gradients(W, a, Z, data["Y"], middle, PENALTY)
        moves = [("W" in moving) * np.ravel(dW), ("a" in moving) * np.array(da)]
        return -RATE * np.concatenate(moves)

    def gates(y: np.ndarray) -> np.ndarray:
        W = y[:size].reshape(shape)
        points = [*Z, *data["Y"], *(0.5 * (np.array(Z) + np.array(data["Y"])))]
        return W @ np.transpose(points) >= 0

    start = np.concatenate([problem.initial["W"].ravel(), problem.initial["a"]])
    solution = solve_ivp(
        velocity, (0.0, WARM_UP), start, "DOP853", rtol=1e-12, atol=1e-12, dense_output=True
    )
    for time in np.linspace(0.0, WARM_UP, 41):
        assert np.array_equal(gates(solution.sol(time)), gates(start)), time
    end = solution.y[:, -1]
    assert relative_error(end, start) > 0.05, "nothing was warmed up"
    return {"W": end[:size].reshape(shape), "a": end[size:]}


@pytest.mark.parametrize("integrator", FLOWS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U,W", "a"])
def test_the_warm_up_of_a_flow_is_the_flow_of_the_critic_alone(integrator, backend, trainable):
    """Global error follows the tolerance, within 100 of it as in the runs' own test."""
    problem = smooth_problem()
    expected = expected_critic(problem, trainable)
    keys = {"integrator": integrator, "trainable": trainable, "rtol": 1e-8, "atol": 1e-11}
    weights = warmed_up(problem, backend, **keys)
    for name in ("W", "a"):
        assert relative_error(weights[name], expected[name]) < 1e-6, name
    for name in ("U", "V"):
        assert np.array_equal(weights[name], problem.initial[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_warm_up_of_gd_tends_to_that_flow(backend):
    """With order 1 in the size of the updates, which follows from that of the steps."""
    problem = smooth_problem()
    expected = expected_critic(problem)
    errors = []
    for h in (4e-2, 2e-2, 1e-2):
        keys = {"integrator": "gd", "penalty_points": "midpoint", "step_size": h}
        weights = warmed_up(problem, backend, **keys)
        errors.append(max(relative_error(weights[name], expected[name]) for name in ("W", "a")))
        for name in ("U", "V"):
            assert np.array_equal(weights[name], problem.initial[name]), name
    for coarse, fine in pairwise(errors):
        assert abs(np.log2(coarse / fine) - 1) < 0.2, errors


@integrators
def test_without_a_critic_that_moves_there_is_no_warm_up(integrator):
    for keys in ({"diffusion": False}, {"trainable": "U,V"}):
        problem = smooth_problem()
        assert same_bits(warmed_up(problem, integrator=integrator, **keys), problem.initial)


@integrators
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_step_after_the_warm_up_is_that_of_a_run_that_begins_there(integrator, backend):
    """Nothing of it is left but the critic; gd's penalty points are those of its numbers."""
    problem = random_problem(3)
    keys = {"integrator": integrator, "step_size": 0.01}
    with problem.simulation(backend, **keys, **KEYS) as simulation:
        there = simulation.weights()
        simulation.advance(3)
        point, weights = simulation.restart_point(), simulation.weights()
    moved = Problem(problem.X, problem.Y, there)
    with moved.simulation(backend, **keys, **{**KEYS, "critic_warmup": 0.0}) as simulation:
        simulation.advance(3)
        again = simulation.restart_point()
        assert same_bits(simulation.weights(), weights)
    assert again.time == point.time
    assert again.scalars["evaluations"] == point.scalars["evaluations"]


# -- where the penalty is taken --------------------------------------------------------------------


def gradients_at(problem: Problem, backend: str, points: str) -> list[np.ndarray]:
    model, state = problem.model(backend, penalty_points=points)
    with model.backend.active():
        forward(model, state)
        out = State.empty(model.backend, model.state_shapes)
        critic_gradient(model, state, out)
        return [out.W, out.a]


def oracle_gradients(problem: Problem, e: float) -> np.ndarray:
    data = problem.lists
    Z = losses.predictions(data["U"], data["V"], data["X"])
    gradients = equations.critic_gradients(
        data["W"], data["a"], Z, data["Y"], [float(e)] * len(Z), 10.0
    )
    return np.concatenate([np.ravel(part) for part in gradients])


@pytest.fixture(scope="module")
def along_e() -> np.ndarray:
    """The oracle's gradients at 2000 equidistant e, a row each."""
    return np.array([oracle_gradients(random_problem(5), (i + 0.5) / 2000) for i in range(2000)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("K", [2, 3, 8, 64])
def test_gauss_points_give_the_average_over_e(along_e, backend, K):
    """To what a rule of K points can: in e the gradient is a step function.

    Of a step anywhere Gauss's rule errs by the largest of its weights at the most (Chebyshev,
    Markov, Stieltjes), so of the gradient by that many times its total variation; a sum over N
    equidistant points by 1/N of it. Both bounds hold entry by entry. 1e-12 is left for rounding.
    """
    problem, N = random_problem(5), len(along_e)
    variation = np.abs(np.diff(along_e, axis=0)).sum(axis=0)
    assert np.count_nonzero(variation) > len(variation) / 2, "nothing varies"
    computed = np.concatenate([np.ravel(g) for g in gradients_at(problem, backend, f"gauss:{K}")])
    x, w = np.polynomial.legendre.leggauss(K)
    error = np.abs(computed - along_e.mean(axis=0))
    assert np.all(error <= (w.max() / 2 + 1 / N) * variation + 1e-12)
    nodes = zip((1 + x) / 2, w / 2, strict=True)
    exactly = sum(weight * oracle_gradients(problem, e) for e, weight in nodes)
    assert relative_error(computed, exactly) < 1e-13


@integrators
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gauss_point_is_the_midpoint_to_the_last_bit(integrator, backend):
    problem = random_problem(5)
    ends = []
    for points in ("gauss:1", "midpoint", "gauss:2"):
        keys = {"integrator": integrator, "penalty_points": points}
        with problem.simulation(backend, **keys) as simulation:
            simulation.advance(5)
            ends.append(simulation.weights())
    assert same_bits(ends[0], ends[1])
    assert not same_bits(ends[0], ends[2])


def test_points_drawn_at_random_tend_to_the_average_over_e_and_not_to_the_midpoint():
    """The limit of small steps; runs at the midpoint, with the same steps, are the control."""
    problem = random_problem(4)
    keys = {"integrator": "gd", "step_size": 4e-3}
    flows = {
        points: at_end(problem, integrator="bs23", rtol=1e-5, penalty_points=points)
        for points in ("midpoint", "gauss:8")
    }
    apart = np.linalg.norm(flows["midpoint"] - flows["gauss:8"])
    assert apart > 0.2
    for seed in range(4):
        end = at_end(problem, penalty_points="random", seed=seed, **keys)
        assert np.linalg.norm(end - flows["gauss:8"]) < 0.1 * apart
        assert np.linalg.norm(end - flows["midpoint"]) > 0.9 * apart
    end = at_end(problem, penalty_points="midpoint", **keys)
    assert np.linalg.norm(end - flows["midpoint"]) < 0.1 * apart
