"""The hand-derived gradients against references that share nothing with them.

Tolerance of the oracle comparisons, 1e-13 relative: an entry is a chain of at most four sums of
at most 20 products, each correct to 20 eps; 4 * 20 * 1.1e-16 = 9e-15, and norms forgive what
cancels in single entries. The published bound of the project is 1e-13.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracle import equations, losses, tape
from support import BACKENDS, PAPER, Problem, random_problem, relative_error, same_bits

from prdsim.physics import gradients
from prdsim.physics.randomness import Stream, uniforms
from prdsim.physics.state import State

TOLERANCE = 1e-13
SEED_FAR_FROM_KINKS = 22  # of 200 the one whose pre-activations stay farthest from 0

SIZES = {
    "general": {},
    "wide critic": {"m_c": 11},
    "one output": {"d_out": 1},
    "one sample": {"n": 1},
    "one neuron": {"m": 1},
    "one critic neuron": {"m_c": 1},
    "one input": {"d_in": 1},
    "one of all": {"d_in": 1, "d_out": 1, "n": 1, "m": 1, "m_c": 1},
    "many outputs": {"d_in": 3, "d_out": 9, "n": 12, "m": 4, "m_c": 6},
}
sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
backends = pytest.mark.parametrize("backend", BACKENDS)


def generator_gradients(problem: Problem, backend: str, part: str, **keys: Any) -> State:
    """dU/dt and dV/dt that the whole drive, or one part of it, gives."""
    model, state = problem.model(backend, **keys)
    out = State.empty(model.backend, model.state_shapes, model.moving)
    gradients.forward(model, state)
    if part == "reaction":
        gradients.residual(model, out=model.work.E)
    elif part == "diffusion":
        gradients.score_field(model, state)
    else:
        gradients.drive(model, state)
    E = model.work.G if part == "diffusion" else model.work.E
    gradients.generator_velocity(model, state, E, out=out)
    return out


def critic_gradients(
    problem: Problem, backend: str = "numpy", *, step: int = 3, update: int = 2, **keys: Any
) -> tuple[np.ndarray, np.ndarray]:
    model, state = problem.model(backend, **keys)
    gradients.forward(model, state)
    gradients.begin_step(model, step)
    out = State.empty(model.backend, model.state_shapes)
    gradients.critic_gradient(model, state, out, update=update)
    return out.W, out.a


def tape_gradient(loss: Any, arrays: list[Any]) -> list[np.ndarray]:
    """The gradient of ``loss(*arrays)`` in all of the arrays, by the oracle's tape."""
    shapes = [np.shape(array) for array in arrays]
    nodes = [[tape.Node(entry) for entry in np.ravel(array)] for array in arrays]

    def shaped(entries: list[Any], shape: tuple[int, ...]) -> list[Any]:
        return np.array(entries, dtype=object).reshape(shape).tolist()

    output = loss(*(shaped(entries, shape) for entries, shape in zip(nodes, shapes, strict=True)))
    flat = iter(tape.gradient(output, [node for entries in nodes for node in entries]))
    return [
        np.array([tape.value(next(flat)) for _ in entries]).reshape(shape)
        for entries, shape in zip(nodes, shapes, strict=True)
    ]


def taped_slope(W: Any, a: Any, y: Any) -> list[Any]:
    """grad g, found by differentiating g."""
    point = [y_k if isinstance(y_k, tape.Node) else tape.Node(y_k) for y_k in y]
    return tape.gradient(losses.critic(W, a, point), point)


# -- the generator against the paper's equations and the published losses --------------------------


@backends
@sizes
def test_reaction_and_diffusion_apart_and_together_follow_the_papers_equations(sizes, backend):
    problem = random_problem(1, **sizes)
    expected = equations.generator_velocities(**problem.lists)
    reaction = generator_gradients(problem, backend, "reaction")
    diffusion = generator_gradients(problem, backend, "diffusion")
    whole = generator_gradients(problem, backend, "whole", diffusivity=0.7)
    for name in ("U", "V"):
        R = np.array(getattr(expected, f"reaction_{name}"))
        D = np.array(getattr(expected, f"diffusion_{name}"))
        assert relative_error(getattr(reaction, name), R) < TOLERANCE
        assert relative_error(getattr(diffusion, name), D) < TOLERANCE
        assert relative_error(getattr(whole, name), R + 0.7 * D) < TOLERANCE


@sizes
def test_velocity_of_the_generator_descends_the_published_loss(sizes):
    problem = random_problem(2, **sizes)
    data = problem.lists
    U, V = tape_gradient(
        lambda U, V: losses.loss_aug(U, V, data["W"], data["a"], data["X"], data["Y"], 0.7),
        [data["U"], data["V"]],
    )
    whole = generator_gradients(problem, "numpy", "whole", diffusivity=0.7)
    assert relative_error(whole.U, -U) < TOLERANCE
    assert relative_error(whole.V, -V) < TOLERANCE


def test_without_diffusion_the_drive_is_the_residual_alone():
    problem = random_problem(3)
    alone = generator_gradients(problem, "numpy", "reaction")
    without = generator_gradients(problem, "numpy", "whole", diffusion=False)
    zero = generator_gradients(problem, "numpy", "whole", diffusivity=0.0)
    for other in (without, zero):
        assert np.array_equal(alone.U, other.U)
        assert np.array_equal(alone.V, other.V)
    problem.initial["a"][:] = np.inf  # 0 times its field would be NaN
    overflown = generator_gradients(problem, "numpy", "whole", diffusivity=0.0)
    assert np.array_equal(alone.U, overflown.U)


def test_alpha_beta_and_updating_the_state_itself():
    """gd writes U + h dU/dt over U while V changes too: both must use the old V."""
    problem = random_problem(4)
    model, state = problem.model()
    velocity = generator_gradients(problem, "numpy", "whole")
    gradients.forward(model, state)
    gradients.drive(model, state)
    gradients.generator_velocity(model, state, model.work.E, out=state, alpha=0.3, beta=1.0)
    assert relative_error(state.U, problem.initial["U"] + 0.3 * velocity.U) < TOLERANCE
    assert relative_error(state.V, problem.initial["V"] + 0.3 * velocity.V) < TOLERANCE


# -- the critic ------------------------------------------------------------------------------------


@backends
@sizes
@pytest.mark.parametrize("penalty", [1.0, 0.0])
@pytest.mark.parametrize("points", ["random", "midpoint"])
def test_critic_gradient_follows_the_equations(sizes, backend, penalty, points):
    problem = random_problem(5, **sizes)
    data = problem.lists
    n = len(data["Y"])
    keys = {"gradient_penalty": penalty, "penalty_points": points, "seed": 9}
    W, a = critic_gradients(problem, backend, integrator="gd", **keys)
    e = uniforms(9, Stream.PENALTY_POINTS, 3, 2, n) if points == "random" else np.full(n, 0.5)
    Z = losses.predictions(data["U"], data["V"], data["X"])
    expected_W, expected_a = equations.critic_gradients(
        data["W"], data["a"], Z, data["Y"], e.tolist(), penalty
    )
    assert relative_error(W, expected_W) < TOLERANCE
    assert relative_error(a, expected_a) < TOLERANCE


def test_a_penalty_of_zero_is_none_where_its_norms_overflow():
    problem = random_problem(5)
    problem.initial["a"] *= 1e200
    W, a = critic_gradients(problem, gradient_penalty=0.0)
    assert np.isfinite(W).all()
    assert np.isfinite(a).all()


@sizes
def test_critic_gradient_is_that_of_the_published_wgan_gp_loss(sizes):
    """The loss differentiates g to find the penalty, and that gradient once more."""
    problem = random_problem(6, **sizes)
    data = problem.lists
    Z = losses.predictions(data["U"], data["V"], data["X"])
    e = uniforms(0, Stream.PENALTY_POINTS, 3, 2, len(Z)).tolist()
    expected_W, expected_a = tape_gradient(
        lambda W, a: losses.loss_wgan_gp(W, a, Z, data["Y"], e, 10.0, taped_slope),
        [data["W"], data["a"]],
    )
    W, a = critic_gradients(problem, **PAPER)
    assert relative_error(W, expected_W) < TOLERANCE
    assert relative_error(a, expected_a) < TOLERANCE


@backends
@sizes
def test_minimax_critic_ascends_the_augmented_loss(sizes, backend):
    problem = random_problem(7, **sizes)
    data = problem.lists
    expected_W, expected_a = tape_gradient(
        lambda W, a: losses.loss_aug(data["U"], data["V"], W, a, data["X"], data["Y"], 0.7),
        [data["W"], data["a"]],
    )
    W, a = critic_gradients(problem, backend, critic="minimax", diffusivity=0.7)
    assert relative_error(W, -expected_W) < TOLERANCE
    assert relative_error(a, -expected_a) < TOLERANCE
    Z = losses.predictions(data["U"], data["V"], data["X"])
    again_W, again_a = equations.minimax_gradients(data["W"], data["a"], Z, 0.7)
    assert relative_error(W, again_W) < TOLERANCE
    assert relative_error(a, again_a) < TOLERANCE


@backends
@pytest.mark.parametrize("trainable", ["U,V,W,a", "W", "V,a"])
def test_joint_velocity_is_the_flow_of_the_arrays_that_move(backend, trainable):
    problem = random_problem(8)
    keys = {"critic_rate": 2.5, "diffusivity": 0.7, "trainable": trainable}
    model, state = problem.model(backend, integrator="rk4", **keys)
    out = State.empty(model.backend, model.state_shapes, model.moving)
    gradients.velocity(model, state, out=out)
    expected = equations.joint_velocity(
        **problem.lists, diffusivity=0.7, critic_rate=2.5, penalty=10.0
    )
    moving = trainable.split(",")
    for name, reference in zip("UVWa", expected, strict=True):
        if name in moving:
            assert relative_error(getattr(out, name), reference) < TOLERANCE, name


@pytest.mark.parametrize(
    "keys", [PAPER, {"penalty_points": "midpoint"}, {"penalty_points": "gauss:3"}], ids=str
)
def test_penalty_points_leave_the_prediction_alone(keys):
    """All critic updates of a gd step see the same Z: the gradient must not overwrite it."""
    model, state = random_problem(9).model(**keys)
    gradients.forward(model, state)
    arrays = {"A": model.work.A, "H": model.fused.H, "Z": model.work.Z}
    kept = {name: array.copy() for name, array in arrays.items()}
    gradients.begin_step(model, 0)
    gradients.critic_gradient(model, state, State.empty(model.backend, model.state_shapes))
    assert same_bits(arrays, kept)


# -- conventions where the losses have no derivative -----------------------------------------------


@backends
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_relu_has_derivative_one_at_zero(backend, zero):
    """u_j = 0 and w_r = 0 put exact zeros at U X, W Z, W Y, W Y_hat: their gates are open."""
    problem = random_problem(10)
    problem.initial["U"][2] = zero
    problem.initial["W"][1] = zero
    data = problem.lists
    whole = generator_gradients(problem, backend, "whole")
    parts = equations.generator_velocities(**data)
    expected_U = np.array(parts.reaction_U) + np.array(parts.diffusion_U)
    assert relative_error(whole.U, expected_U) < TOLERANCE
    assert np.linalg.norm(whole.U[2]) > 0.1  # would be 0 with relu'(0) = 0
    W, _ = critic_gradients(problem, backend, gradient_penalty=0.0)
    Z = np.array(losses.predictions(data["U"], data["V"], data["X"])).T
    n, s_c = Z.shape[1], 1 / np.sqrt(len(data["a"]))
    expected_w = s_c * data["a"][1] * (Z - problem.Y).sum(axis=1) / n  # every gate is open
    assert relative_error(W[1], expected_w) < TOLERANCE
    assert np.linalg.norm(expected_w) > 0.01


@backends
def test_a_vanishing_critic_gradient_contributes_nothing(backend):
    """q = 0 where a = 0; (||q|| - 1)^2 has no derivative there, and 0 is used."""
    problem = random_problem(11)
    problem.initial["a"][:] = 0.0
    with_penalty = critic_gradients(problem, backend, gradient_penalty=10.0)
    without = critic_gradients(problem, backend, gradient_penalty=0.0)
    for one, other in zip(with_penalty, without, strict=True):
        if backend == "numba":  # another order of the sums
            assert relative_error(one, other) < 1e-15
        else:
            assert np.array_equal(one, other)
        assert np.isfinite(one).all()
    assert np.linalg.norm(with_penalty[1]) > 0.01


@backends
def test_only_samples_with_a_vanishing_gradient_are_left_out(backend):
    """One critic neuron: q_p = 0 at the points where it is off, and not elsewhere."""
    problem = random_problem(12, m_c=1, n=9)
    data = problem.lists
    Z = losses.predictions(data["U"], data["V"], data["X"])
    e = [0.5] * len(Z)
    middles = 0.5 * (np.array(Z) + problem.Y.T)
    off = middles @ problem.initial["W"][0] < 0
    assert 0 < off.sum() < len(Z)
    W, a = critic_gradients(problem, backend, penalty_points="midpoint")
    expected_W, expected_a = equations.critic_gradients(data["W"], data["a"], Z, data["Y"], e, 10.0)
    assert relative_error(W, expected_W) < TOLERANCE
    assert relative_error(a, expected_a) < TOLERANCE


# -- central differences of the published losses ---------------------------------------------------


def central_difference(loss: Any, array: np.ndarray, index: tuple[int, ...], h: float) -> float:
    shifted = [array.copy(), array.copy()]
    shifted[0][index] += h
    shifted[1][index] -= h
    return float(loss(shifted[0].tolist()) - loss(shifted[1].tolist())) / (2.0 * h)


def gates(problem: Problem, e: list[float]) -> np.ndarray:
    data = {key: value for key, value in problem.lists.items() if key != "a"}
    return np.array(equations.pre_activations(**data, e=e)) >= 0.0


@pytest.mark.parametrize("name", ["U", "V", "W", "a"])
def test_central_differences_of_the_losses_away_from_kinks(name):
    """All entries of all arrays.

    Between kinks L_aug is quadratic in every single entry of U and V: the difference is exact but
    for rounding, (K eps |L|) / h with K = 100 roundings a loss: 2e-11 |L| at h = 2^-10. L_c is
    smooth but not polynomial in entries of W and a, so that h^2 / 6 |L'''| comes on top; it is
    measured, as the difference between h and 2 h is three times that error, to leading order.
    """
    problem = random_problem(SEED_FAR_FROM_KINKS, n=4, m=5, m_c=4)
    data = problem.lists
    h, n = 2.0**-10, problem.X.shape[1]
    e = [0.5] * n
    Z = losses.predictions(data["U"], data["V"], data["X"])

    def loss(array: Any) -> float:
        arrays = {key: data[key] for key in "UVWa"} | {name: array}
        if name in "UV":
            return float(losses.loss_aug(**arrays, X=data["X"], Y=data["Y"], diffusivity=0.7))
        wgan = losses.loss_wgan_gp(arrays["W"], arrays["a"], Z, data["Y"], e, 10.0, losses.slope)
        return float(wgan)

    if name in "UV":
        whole = generator_gradients(problem, "numpy", "whole", diffusivity=0.7)
        computed = -getattr(whole, name)
    else:
        both = critic_gradients(problem, penalty_points="midpoint")
        computed = both[name == "a"]
    here = gates(problem, e)
    array = problem.initial[name]
    rounding = 100 * 2.2e-16 * abs(loss(array.tolist())) / h
    for index in np.ndindex(array.shape):
        for shift in (-2 * h, 2 * h):  # all in between is linear in the entry: ends suffice
            array[index] += shift
            assert np.array_equal(gates(problem, e), here), "a kink lies within the difference"
            array[index] -= shift
        fine = central_difference(loss, array, index, h)
        coarse = central_difference(loss, array, index, 2 * h)
        truncation = 0.0 if name in "UV" else abs(fine - coarse)
        assert abs(computed[index] - fine) <= rounding + truncation
        assert truncation <= 1e-4 * np.abs(computed).max()  # the bound means something


# -- autodiff where PyTorch is installed -----------------------------------------------------------


def test_autodiff_of_the_published_losses_in_pytorch():
    torch = pytest.importorskip("torch")
    problem = random_problem(14)
    leaves = {
        name: torch.tensor(array, requires_grad=True) for name, array in problem.initial.items()
    }
    U, V, W, a = (leaves[name] for name in "UVWa")
    X, Y = torch.tensor(problem.X), torch.tensor(problem.Y)
    m, d_out, n = U.shape[0], V.shape[0], X.shape[1]

    def g(points: Any) -> Any:
        return a @ torch.relu(W @ points) / len(a) ** 0.5

    Z = V @ torch.relu(U @ X) / (d_out * m) ** 0.5
    loss_aug = 0.5 * ((Z - Y) ** 2).sum() - 0.7 * g(Z).sum()
    expected_U, expected_V = torch.autograd.grad(loss_aug, (U, V), retain_graph=True)
    e = torch.tensor(uniforms(0, Stream.PENALTY_POINTS, 3, 2, n))
    fixed = Z.detach()
    between = (e * Y + (1 - e) * fixed).requires_grad_()
    (q,) = torch.autograd.grad(g(between).sum(), between, create_graph=True)
    penalty = 10.0 * ((q.norm(dim=0) - 1) ** 2).mean()
    loss_critic = g(fixed).mean() - g(Y).mean() + penalty
    expected_W, expected_a = torch.autograd.grad(loss_critic, (W, a))

    whole = generator_gradients(problem, "numpy", "whole", diffusivity=0.7)
    computed_W, computed_a = critic_gradients(problem, **PAPER)
    for computed, expected in [
        (whole.U, -expected_U),
        (whole.V, -expected_V),
        (computed_W, expected_W),
        (computed_a, expected_a),
    ]:
        assert relative_error(computed, expected.numpy()) < TOLERANCE


def test_sums_over_targets_may_run_over_distinct_ones():
    """sum_p f(y_p) y_p^T = sum_k f(points_k) values_k^T, for labels; others stay as they are."""
    problem = random_problem(1, d_out=4, n=30)
    labels = np.eye(4)[:, np.random.default_rng(0).integers(0, 3, 30)]
    for Y, few in ((labels, True), (problem.Y, False)):
        model, state = replace(problem, Y=Y).model("numba")
        assert (model.targets.points is model.Y) != few
        assert model.targets.points.shape == model.targets.values.shape == (4, 3 if few else 30)
        gates = state.W @ Y >= 0
        sums = (state.W @ model.targets.points >= 0) @ model.targets.values.T
        assert relative_error(sums, gates @ Y.T) < 1e-15
