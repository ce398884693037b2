"""Identities that hold exactly, whatever the data: homogeneity, balance, the form per neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle import equations, losses
from support import BACKENDS, INTEGRATORS, random_problem, relative_error, smooth_problem

from prdsim.physics.gradients import critic_gradient, forward, velocity
from prdsim.physics.state import State

backends = pytest.mark.parametrize("backend", BACKENDS)
critics = pytest.mark.parametrize(
    "critic",
    [{"critic": "wgan-gp"}, {"gradient_penalty": 0.0}, {"critic": "minimax"}],
    ids=["wgan-gp", "without penalty", "minimax"],
)
EPS = float(np.finfo(np.float64).eps)


def flow(backend: str, seed: int = 0, **keys: Any) -> tuple[State, State]:
    """A random state and the joint flow's velocity there."""
    model, state = random_problem(seed).model(backend, integrator="rk4", **keys)
    out = State.empty(model.backend, model.state_shapes)
    for _, array in out:
        array[...] = 0.0
    velocity(model, state, out=out)
    return state, out


@backends
@critics
@pytest.mark.parametrize("diffusion", [True, False])
def test_balance_of_every_neuron_is_stationary(backend, critic, diffusion):
    """u_j . du_j = v_j . dv_j and w_r . dw_r = a_r da_r: the losses are homogeneous.

    Both sides are sums of some 10 products of numbers that are good to 50 eps themselves.
    """
    state, out = flow(backend, seed=1, diffusion=diffusion, **critic)
    for left, right, moduli in [
        (
            (state.U * out.U).sum(1),
            (state.V * out.V).sum(0),
            abs(state.U * out.U).sum(1) + abs(state.V * out.V).sum(0),
        ),
        (
            (state.W * out.W).sum(1),
            state.a * out.a,
            abs(state.W * out.W).sum(1) + abs(state.a * out.a),
        ),
    ]:
        scale = moduli.max()
        assert np.all(abs(left - right) <= 100 * EPS * scale)
        if diffusion:
            assert scale > 0.1, "nothing moves: nothing was shown"


@backends
@critics
def test_sums_over_neurons_agree_as_eulers_theorem_says(backend, critic):
    """sum a_r dL/da_r = sum w_r . dL/dw_r, and sum u_j . dL/du_j = sum v_j . dL/dv_j."""
    state, out = flow(backend, seed=2, **critic)
    assert np.sum(state.a * out.a) == pytest.approx(np.sum(state.W * out.W), rel=1e-12)
    assert np.sum(state.U * out.U) == pytest.approx(np.sum(state.V * out.V), rel=1e-12)


@backends
def test_adversarial_loss_is_homogeneous_of_degree_one_in_every_array(backend):
    """Minimax: sum a . dL_c/da = D L_adv itself, as g is linear in a."""
    problem = random_problem(3)
    data = problem.lists
    model, state = problem.model(backend, critic="minimax", diffusivity=0.7)
    forward(model, state)
    out = State.empty(model.backend, model.state_shapes)
    critic_gradient(model, state, out)
    loss = losses.loss_adv(data["U"], data["V"], data["W"], data["a"], data["X"])
    assert float(state.a @ out.a) == pytest.approx(0.7 * loss, rel=1e-12)
    assert np.sum(state.W * out.W) == pytest.approx(0.7 * loss, rel=1e-12)


@backends
@pytest.mark.parametrize("diffusivity", [0.0, 0.7])
def test_every_neuron_is_a_pair_of_morphogens_coupled_by_one_matrix(backend, diffusivity):
    """du_j/dt = C_j^T v_j and dv_j/dt = C_j u_j, without linearization."""
    problem = random_problem(4)
    data = problem.lists
    model, state = problem.model(backend, integrator="rk4", diffusivity=diffusivity)
    out = State.empty(model.backend, model.state_shapes)
    velocity(model, state, out=out)
    Z = losses.predictions(data["U"], data["V"], data["X"])
    G = [losses.slope(data["W"], data["a"], z) for z in Z]
    E = (np.array(data["Y"]) - np.array(Z) + diffusivity * np.array(G)).tolist()
    for j in range(len(data["U"])):
        C_j = np.array(equations.coupling(data["U"], data["V"], data["X"], E, j))
        assert relative_error(out.U[j], C_j.T @ problem.initial["V"][:, j]) < 1e-13
        assert relative_error(out.V[:, j], C_j @ problem.initial["U"][j]) < 1e-13


@backends
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_u_stays_in_the_row_space_of_the_data(backend, integrator):
    """U(t) - U(0) = C X^T: what a projection onto span X leaves is rounding of U itself."""
    problem = random_problem(5, d_in=9, n=3)
    with problem.simulation(backend, integrator=integrator) as simulation:
        simulation.advance(20)
        moved = simulation.weights()["U"] - problem.initial["U"]
    Q, _ = np.linalg.qr(problem.X)
    outside = moved - moved @ Q @ Q.T
    assert np.linalg.norm(moved) > 0.1
    assert np.linalg.norm(outside) <= 20 * 10 * EPS * np.linalg.norm(problem.initial["U"])


@backends
@critics
def test_recorded_drift_of_an_accurate_run_is_rounding(backend, critic):
    """rk4 at h = 1e-4 errs by 10 eps a step at most: (30 h)^5 / 120, at rates below 30.

    Rounding U, V, W, a (of size 1) adds eps a few times a step.
    """
    keys = {"integrator": "rk4", "step_size": 1e-4, **critic}
    with smooth_problem().simulation(backend, **keys) as simulation:
        simulation.advance(400)
        row = simulation.observe()
    assert row["distance_U_mean"] > 0.01
    assert row["balance_drift"] < 400 * 10 * EPS
    assert row["critic_balance_drift"] < 400 * 10 * EPS


def test_recorded_drift_notices_a_frozen_partner():
    """The balance is an invariant only while both partners move."""
    keys = {"integrator": "gd", "trainable": "U,W", "step_size": 1e-2}
    with smooth_problem().simulation(**keys) as simulation:
        simulation.advance(20)
        row = simulation.observe()
    assert row["balance_drift"] > 1e-3
    assert row["critic_balance_drift"] > 1e-3


def test_permuting_neurons_or_samples_permutes_the_velocity():
    problem = random_problem(6)
    _, out = flow("numpy", seed=6)
    rng = np.random.default_rng(0)
    neurons, critics, samples = (rng.permutation(size) for size in (8, 5, 6))
    shuffled = random_problem(6)
    shuffled.X[:], shuffled.Y[:] = problem.X[:, samples], problem.Y[:, samples]
    shuffled.initial["U"], shuffled.initial["V"] = (
        problem.initial["U"][neurons],
        problem.initial["V"][:, neurons],
    )
    shuffled.initial["W"], shuffled.initial["a"] = (
        problem.initial["W"][critics],
        problem.initial["a"][critics],
    )
    model, state = shuffled.model(integrator="rk4")
    again = State.empty(model.backend, model.state_shapes)
    velocity(model, state, out=again)
    assert relative_error(again.U, out.U[neurons]) < 1e-13
    assert relative_error(again.V, out.V[:, neurons]) < 1e-13
    assert relative_error(again.W, out.W[critics]) < 1e-13
    assert relative_error(again.a, out.a[critics]) < 1e-13
