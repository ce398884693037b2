"""Groups of equal neurons: their draw, their coupling, and what becomes of deviations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracle import equations
from support import Problem, relative_error, same_bits, smooth_problem

from prdsim.config import RunConfig
from prdsim.config.effects import without_effect
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError
from prdsim.physics.charts import CHARTS
from prdsim.physics.gradients import velocity
from prdsim.physics.groups import group_means, within_groups
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import State
from prdsim.running.accuracy import invariants_in_words
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation

K, Q = 3, 4
KEYS: dict[str, Any] = {"groups": K, "coupling": 0.7}
charts = pytest.mark.parametrize("chart", CHARTS)


def grouped(deviation: float = 0.1, seed: int = 0, **keys: Any) -> Problem:
    """A problem whose neurons are drawn in three groups of four; fewer samples than inputs."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((9, 6))
    Y = rng.standard_normal((2, 6))
    config = RunConfig(width=K * Q, critic_width=5, groups=K, group_deviation=deviation, **keys)
    return Problem(X, Y, draw_initial(config, dimensions_of(config, 9, 2, 6), X))


# -- the draw --------------------------------------------------------------------------------------


def test_neurons_of_a_group_are_equal_but_for_deviations_of_the_given_size():
    exact, apart = grouped(0.0), grouped(1e-3)
    for name, rows in (("U", lambda U: U), ("V", lambda V: V.T)):
        equal, near = rows(exact.initial[name]), rows(apart.initial[name])
        assert np.array_equal(equal, np.repeat(equal[::Q], Q, axis=0))
        assert len(np.unique(equal, axis=0)) == K or name == "V"  # signs may agree
        change = near - equal
        assert np.linalg.norm(change) == pytest.approx(1e-3 * np.linalg.norm(equal), rel=1e-9)
        assert np.abs(group_means(change, K)).max() < 1e-17 + 1e-15 * np.abs(equal).max()
    outside = within_groups(apart.initial["U"], K)
    fitted = np.linalg.lstsq(apart.X, outside.T)[0]
    assert np.linalg.norm(apart.X @ fitted - outside.T) < 1e-12 * np.linalg.norm(outside)
    assert same_bits({k: exact.initial[k] for k in "Wa"}, {k: apart.initial[k] for k in "Wa"})


def test_groups_divide_the_width_and_others_have_no_use():
    with pytest.raises(ConfigError, match="groups: 5 does not divide width, 512"):
        RunConfig(groups=5)
    config = RunConfig(coupling=0.5, group_deviation=0.1)
    assert without_effect(config) == ["group_deviation, coupling have no effect without groups"]
    assert "12 neurons in 3 groups, coupled at 0.5" in RunConfig(
        width=12, groups=3, coupling=0.5
    ).neurons_in_words  # fmt: skip


# -- the velocity ----------------------------------------------------------------------------------


def with_coupling(problem: Problem, kappa: float, diffusivity: float) -> dict[str, np.ndarray]:
    """The joint velocity of scalar loops, and kappa (mean - own) by loops over groups."""
    constants = {"diffusivity": diffusivity, "critic_rate": 1.0, "penalty": 10.0}
    arrays = equations.joint_velocity(**problem.lists, **constants)
    found = {name: np.array(array) for name, array in zip("UVWa", arrays, strict=True)}
    for name, rows in (("U", problem.initial["U"]), ("V", problem.initial["V"].T)):
        pull = np.zeros_like(rows)
        for j, row in enumerate(rows):
            own = range(j // Q * Q, j // Q * Q + Q)
            pull[j] = kappa * (sum(rows[i] for i in own) / Q - row)
        found[name] = found[name] + (pull if name == "U" else pull.T)
    return found


@charts
def test_the_coupled_velocity_is_that_of_loops(backend, chart):
    problem = grouped()
    model, state = problem.model(backend, chart=chart, diffusivity=1.3, **KEYS)
    out = State.empty(model.backend, model.state_shapes)
    with model.backend.active():
        velocity(model, state, out=out)
        found = {name: model.backend.to_host(array) for name, array in out}
    carried = {"weight": lambda U: U, "gram": lambda C: C @ problem.X.T}
    if chart == "range":
        Q_ = model.chart.arrays()["Q"]
        carried["range"] = lambda P: P @ Q_.T
    found["U"] = carried[chart](found["U"])
    for name, array in with_coupling(problem, KEYS["coupling"], 1.3).items():
        assert relative_error(found[name], array) < 1e-12, name


@pytest.mark.parametrize("integrator", ["gd", "rk4", "bs23"])
def test_every_chart_and_backend_has_the_same_run(backend, integrator):
    problem, keys = grouped(), {**KEYS, "integrator": integrator, "steps": 8}
    ends = []
    for chart in ("weight", *CHARTS):
        name = "numpy" if not ends else backend
        with problem.simulation(name, chart=chart, **keys) as simulation:
            simulation.advance(8)
            ends.append(simulation.weights())
    for end in ends[1:]:
        assert max(relative_error(end[name], ends[0][name]) for name in "UVWa") < 1e-10


@pytest.mark.parametrize("chart", ["range", "gram"])
def test_a_chart_that_cannot_carry_the_coupling_refuses_it(chart):
    problem = grouped()
    rng = np.random.default_rng(1)
    U = problem.initial["U"] + rng.standard_normal(problem.initial["U"].shape)
    other = replace(problem, initial={**problem.initial, "U": U})
    with pytest.raises(ConfigError, match="more than combinations of the inputs, which this chart"):
        other.model(chart=chart, **KEYS)
    other.model(chart="weight", **KEYS)


@pytest.mark.parametrize("deviation", [0.0, 1e-16, 1e-10, 1e-7])
@charts
def test_neurons_that_hardly_differ_are_coupled_in_every_chart(chart, deviation):
    """A mean of equal numbers may differ from them by rounding: six of them, say."""
    config = RunConfig(dataset="digits", samples=20, width=24, groups=4, coupling=0.3, end_time=0.1)
    config = config.replace(group_deviation=deviation, chart=chart, backend="numpy", threads=1)
    data = load_data(config)
    with Simulation(config, data.X, data.Y) as simulation:
        simulation.advance(2)
        assert simulation.resolved.chart == chart


def test_auto_carries_the_weights_of_coupled_neurons():
    problem = grouped()
    assert problem.simulation(chart="auto", **KEYS).resolved.chart == "weight"
    assert problem.simulation(chart="auto", **{**KEYS, "coupling": 0.0}).resolved.chart == "gram"


def test_panels_change_nothing():
    problem, ends = grouped(), []
    for panel in (None, 4):
        with problem.simulation(chart="weight", panel=panel, **KEYS, steps=6) as simulation:
            simulation.advance(6)
            ends.append(simulation.weights())
    assert max(relative_error(ends[1][name], ends[0][name]) for name in "UVWa") < 1e-13


@pytest.mark.parametrize("integrator", ["gd", "bs23"])
def test_a_coupled_run_is_resumed_to_the_same_bits(tmp_path, integrator):
    keys = {"dataset": "digits", "samples": 20, "width": 8, "groups": 2, "group_deviation": 0.1}
    keys |= {"coupling": 0.3, "integrator": integrator, "diffusion": True, "step_size": 0.05}
    whole = run(**keys, steps=12, output=str(tmp_path / "whole.h5"))
    run(**keys, steps=5, output=str(tmp_path / "parts.h5"))
    parts = resume(tmp_path / "parts.h5", 12)
    assert same_bits(dict(whole.state), dict(parts.state))


# -- what it does ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.0, 0.5, 2.0])
def test_at_the_targets_deviations_decay_at_kappa_alone(kappa):
    """C = 0 there: the homogeneous state is marginal without coupling, and stable with it."""
    problem = grouped(1e-7)
    means = grouped(0.0).initial
    s = 1 / np.sqrt(means["V"].size)
    Z = s * means["V"] @ np.maximum(means["U"] @ problem.X, 0.0)
    at_targets = replace(problem, Y=Z)
    keys = {**KEYS, "coupling": kappa, "diffusion": False, "integrator": "rk4"}
    with at_targets.simulation(chart="weight", **keys, step_size=0.01, steps=100) as simulation:
        simulation.advance(100)
        end = simulation.weights()
    for name, rows in (("U", lambda U: U), ("V", lambda V: V.T)):
        sizes = [np.linalg.norm(within_groups(rows(x[name]), K)) for x in (problem.initial, end)]
        assert sizes[1] / sizes[0] == pytest.approx(np.exp(-kappa), rel=1e-5)


def test_equal_neurons_do_not_feel_their_coupling():
    ends = []
    for kappa in (0.0, 3.0):
        problem, keys = grouped(0.0), {**KEYS, "coupling": kappa, "integrator": "rk4"}
        with problem.simulation(chart="weight", **keys, steps=50) as simulation:
            simulation.advance(50)
            ends.append(simulation.weights())
    assert max(relative_error(ends[1][name], ends[0][name]) for name in "UVWa") < 1e-12


def test_invariants_change_as_derived():
    """By each neuron, and by group, where the loss is of second order in the deviations."""
    problem, kappa = grouped(0.3), KEYS["coupling"]
    model, state = problem.model(chart="weight", **KEYS)
    out = State.empty(model.backend, model.state_shapes)
    velocity(model, state, out=out)
    U, V = problem.initial["U"], problem.initial["V"].T
    rate = 2.0 * (np.sum(U * out.U, axis=1) - np.sum(V * out.V.T, axis=1))
    dU, dV = within_groups(U, K), within_groups(V, K)
    expected = -2.0 * kappa * (np.sum(U * dU, axis=1) - np.sum(V * dV, axis=1))
    np.testing.assert_allclose(rate, expected, rtol=1e-10, atol=1e-12)
    lost = -2.0 * kappa * (np.sum(dU**2, axis=1) - np.sum(dV**2, axis=1))
    np.testing.assert_allclose(
        rate.reshape(K, Q).sum(axis=1), lost.reshape(K, Q).sum(axis=1), rtol=1e-10, atol=1e-12
    )
    with problem.simulation(**KEYS, chart="weight") as simulation:
        simulation.advance()
        row = simulation.observe()
    assert np.isnan(row["invariant_error"])
    assert "or neurons are coupled" in invariants_in_words(row)


def test_the_jacobian_of_the_joint_flow_takes_the_coupling():
    from prdsim.physics.tangent import Linearization

    problem = smooth_problem()
    m = problem.initial["U"].shape[0]
    model, state = problem.model(chart="weight", groups=1, coupling=0.7)
    jacobian = Linearization(model, state)
    rng, h = np.random.default_rng(0), 1e-6
    tangent = State(*(rng.standard_normal(array.shape) for _, array in state))
    product = State.empty(model.backend, model.state_shapes)
    jacobian.product(tangent, out=product)
    rates = []
    for sign in (1.0, -1.0):
        moved = State(*(array + sign * h * getattr(tangent, name) for name, array in state))
        rates.append(State.empty(model.backend, model.state_shapes))
        velocity(model, moved, out=rates[-1])
    for name, array in product:
        slope = (getattr(rates[0], name) - getattr(rates[1], name)) / (2 * h)
        assert relative_error(array, slope) < 1e-6, name
    for flow in ("reaction", "frozen"):
        with pytest.raises(ConfigError, match="modes of coupled neurons are not computed"):
            Linearization(model, state, flow)
    with pytest.raises(ConfigError, match="modes of coupled neurons are not computed"):
        jacobian.prepare_driven()
    assert m > 1
