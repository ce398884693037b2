"""Every recorded scalar against its definition, and that looking changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import (
    ADAPTIVE,
    INTEGRATORS,
    PAPER,
    Problem,
    random_problem,
    same_bits,
    same_numbers,
)

from prdsim.physics.randomness import Stream, uniforms

Nodes = list[tuple[Any, float]]

SCALARS = [
    "time",
    "step_size",
    "loss_sup",
    "loss_adv",
    "loss_aug",
    "loss_critic",
    "residual_norm",
    "reaction_norm_U",
    "diffusion_norm_U",
    "reaction_norm_V",
    "diffusion_norm_V",
    "distance_U_mean",
    "distance_U_max",
    "distance_V_mean",
    "distance_V_max",
    "balance_drift",
    "critic_balance_drift",
    "score_norm_mean",
    "penalty_norm_mean",
    "mask_flips",
    "evaluations",
    "rejected_steps",
    "invariant_error",
    "lambda_max",
]


def expected_row(
    problem: Problem, now: dict[str, np.ndarray], nodes: Nodes, keys: dict[str, Any]
) -> dict[str, float]:
    """The scalars of a state, from whole matrices, as the formulas are published.

    The penalty is a sum over nodes (e, weight).
    """
    X, Y, start = problem.X, problem.Y, problem.initial
    U, V, W, a = (now[name].astype(np.float64) for name in ("U", "V", "W", "a"))
    D = keys.get("diffusivity", 1.0) if keys.get("diffusion", True) else 0.0
    gp = keys.get("gradient_penalty", 10.0)
    m, d_out = U.shape[0], V.shape[0]
    s, s_c = 1 / np.sqrt(d_out * m), 1 / np.sqrt(len(a))
    A = U @ X
    H, open_A = np.maximum(A, 0), A >= 0
    Z = s * V @ H

    def g(y):
        return s_c * a @ np.maximum(W @ y, 0)

    def slope(y):
        return s_c * W.T @ (a[:, None] * (W @ y >= 0))

    G = slope(Z)
    lengths = [np.linalg.norm(slope(e * Y + (1 - e) * Z), axis=0) for e, _ in nodes]
    q = sum(weight * length for length, (_, weight) in zip(lengths, nodes, strict=True))
    excess = sum(w * (length - 1) ** 2 for length, (_, w) in zip(lengths, nodes, strict=True))
    loss_sup, loss_adv = 0.5 * np.sum((Z - Y) ** 2), np.sum(g(Z))
    loss_aug = loss_sup - D * loss_adv
    wgan = np.mean(g(Z)) - np.mean(g(Y)) + gp * np.mean(excess)
    distance_U = np.linalg.norm(U - start["U"], axis=1)
    distance_V = np.linalg.norm(V - start["V"], axis=0)

    def norms(E):
        return {
            "U": np.linalg.norm(s * ((V.T @ E) * open_A) @ X.T),
            "V": np.linalg.norm(s * E @ H.T),
        }

    def drift(left, right):
        now_, then = left(now) - right(now), left(start) - right(start)
        return np.max(np.abs(now_ - then)) / (1 + np.max(np.abs(then)))

    balance = (lambda x: (x["U"] ** 2).sum(1), lambda x: (x["V"] ** 2).sum(0))
    moving = keys.get("trainable", "U,V,W,a").split(",")
    drifted = [
        left - right for left, right in [[part(x) for part in balance] for x in (now, start)]
    ]
    invariant_error = np.mean(np.abs(drifted[0] - drifted[1])) / np.mean(
        distance_U**2 + distance_V**2
    )
    if not {"U", "V"} <= set(moving):
        invariant_error = np.nan
    velocities = {}
    for name in ("U", "V"):
        on = name in moving
        velocities[f"reaction_norm_{name}"] = norms(Y - Z)[name] if on else 0.0
        velocities[f"diffusion_norm_{name}"] = D * norms(G)[name] if on else 0.0
    return {
        "loss_sup": loss_sup,
        "loss_adv": loss_adv,
        "loss_aug": loss_aug,
        "loss_critic": -loss_aug if keys.get("critic") == "minimax" else wgan,
        "residual_norm": np.linalg.norm(Z - Y),
        **velocities,
        "distance_U_mean": distance_U.mean(),
        "distance_U_max": distance_U.max(),
        "distance_V_mean": distance_V.mean(),
        "distance_V_max": distance_V.max(),
        "balance_drift": drift(*balance),
        "invariant_error": invariant_error,
        "critic_balance_drift": drift(lambda x: (x["W"] ** 2).sum(1), lambda x: x["a"] ** 2),
        "score_norm_mean": np.linalg.norm(G, axis=0).mean(),
        "penalty_norm_mean": q.mean(),
        "mask_flips": np.mean(open_A != (start["U"] @ X >= 0)),
    }


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"diffusion": False},
        {"diffusivity": 0.3, "critic": "minimax"},
        {"gradient_penalty": 0.0},
        {"penalty_points": "midpoint", "gradient_penalty": 3.0},
        {"penalty_points": "gauss:3"},
        {"trainable": "U,W,a"},
        {"trainable": "V"},
        {"integrator": "bs23"},
        {"integrator": "bs23", "penalty_points": "gauss:2"},
        {"integrator": "dopri5"},
        {"integrator": "rk4", "critic_rate": 3.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [{}, {"d_out": 1, "m_c": 1}, {"n": 1, "m": 2}], ids=str)
def test_every_scalar_is_what_it_is_called(backend, keys, sizes):
    """1e-10 relative, and absolute for those that may be 0 or small: drifts and distances are
    differences of sums of some 20 squares, each good to 20 eps."""
    problem = random_problem(2, **sizes)
    keys = {"integrator": "gd", **keys}
    with problem.simulation(backend, seed=5, **keys) as simulation:
        simulation.advance(4)
        row, now = simulation.observe(), simulation.weights()
        points = simulation.config.penalty_points
        time, evaluations = simulation.time, simulation.evaluations
    nodes = {
        "random": [(uniforms(5, Stream.OBSERVED_PENALTY_POINTS, 4, 0, problem.X.shape[1]), 1.0)],
        "midpoint": [(0.5, 1.0)],
        # Gauss and Legendre's rules on [0, 1], from a table.
        "gauss:2": [(0.5 - 0.75**0.5 / 3, 0.5), (0.5 + 0.75**0.5 / 3, 0.5)],
        "gauss:3": [(0.5 - 0.15**0.5, 5 / 18), (0.5, 4 / 9), (0.5 + 0.15**0.5, 5 / 18)],
    }
    expected = expected_row(problem, now, nodes[points], keys)
    assert set(row) == set(SCALARS)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-10, abs=1e-12, nan_ok=True), name
        assert type(row[name]) is float, name
    assert row["time"] == time
    assert row["evaluations"] == evaluations
    assert np.isnan(row["lambda_max"]), "it is measured at snapshots"
    if keys["integrator"] not in ADAPTIVE:
        assert row["step_size"] == 0.02
        assert row["time"] == 4 * 0.02
        assert row["rejected_steps"] == 0.0


def test_the_first_row_has_no_distance_drift_or_flip(backend):
    with random_problem(2).simulation(backend) as simulation:
        row = simulation.observe()
    for name in SCALARS:
        if name.startswith("distance") or "drift" in name or name in ("mask_flips", "time"):
            assert row[name] == 0.0, name


def test_float32_scalars_are_accumulated_in_float64(backend):
    """The state is that of float32; sums over it err by float32's eps of each term, not more."""
    problem = random_problem(3, n=50, m=60)
    with problem.simulation(backend, precision="float32", penalty_points="midpoint") as simulation:
        row, now = simulation.observe(), simulation.weights()
    expected = expected_row(problem, now, [(0.5, 1.0)], {})
    for name in ("loss_sup", "loss_adv", "residual_norm", "score_norm_mean", "reaction_norm_U"):
        # 60 products and roundings to 1.2e-7 in Z, in single.
        assert row[name] == pytest.approx(expected[name], rel=60 * 1.2e-7, abs=1e-4), name
    assert row["balance_drift"] == 0.0


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("diffusion", [True, False])
def test_observing_changes_no_bit(backend, integrator, diffusion):
    weights, points = [], []
    for watched in (False, True):
        problem = random_problem(4)
        with problem.simulation(backend, integrator=integrator, diffusion=diffusion) as simulation:
            for _ in range(6):
                simulation.advance()
                if watched:
                    simulation.observe()
                    simulation.weights()
                    simulation.restart_point()
                    simulation.non_finite_array()
            weights.append(simulation.weights())
            points.append(simulation.restart_point())
    assert same_bits(*weights)
    assert same_bits(points[0].arrays, points[1].arrays)
    assert same_numbers(points[0].scalars, points[1].scalars)


def test_observing_twice_gives_the_same_row():
    with random_problem(4).simulation(**PAPER) as simulation:
        simulation.advance(3)
        first, second = simulation.observe(), simulation.observe()
    assert same_numbers(first, second)
