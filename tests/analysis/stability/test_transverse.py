"""Transverse growth: that of real runs is the fundamental matrix's, also across kinks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from prdsim.analysis.stability.transverse import Group, Propagator, Step, transverse_growth
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.running.tableaux import TABLEAUX

RNG = np.random.default_rng(1)
KEYS: dict[str, Any] = {
    "width": 24, "groups": 4, "group_deviation": 1e-8, "critic_width": 16, "rtol": 1e-4,
    "chart": "weight", "threads": 1, "samples": 20, "backend": "numpy",
}  # fmt: skip


def data(n: int = 20, d_in: int = 30, d_out: int = 3) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).standard_normal((d_in, n))
    return X / np.linalg.norm(X, axis=0), np.eye(d_out)[:, np.arange(n) % d_out]


def step_of(C: np.ndarray, size: float, begin: Group, end: Group, name: str = "dopri5") -> Step:
    """A step in which C stands still."""
    tableau = TABLEAUX[name]
    rows = tableau.a if tableau.first_same_as_last else (*tableau.a, tableau.b)
    return Step([C] * len(rows), rows, tableau.interpolant(1.0), size, begin, end)


@pytest.mark.parametrize("kappa", [0.0, 0.4])
@pytest.mark.parametrize(("name", "error"), [("dopri5", 1e-8), ("rk4", 1e-6), ("bs23", 1e-4)])
def test_between_kinks_it_is_the_matrix_exponential(kappa, name, error):
    r, d_out, K = 6, 3, 2
    R = RNG.standard_normal((r, 5))
    C = RNG.standard_normal((K, d_out, r))
    propagator = Propagator(K, R, d_out, kappa)
    still = Group(C, np.ones((K, 5), bool), np.ones((K, 5)))
    for _ in range(30):
        propagator.step(step_of(C, 0.02, still, still, name))
    for k in range(K):
        S = np.block([[np.zeros((r, r)), C[k].T], [C[k], np.zeros((d_out, d_out))]])
        expected = expm(0.6 * (S - kappa * np.eye(r + d_out)))
        np.testing.assert_allclose(propagator.matrices[k], expected, rtol=error, atol=error)
    assert propagator.crossings.tolist() == [0, 0]


def test_a_kink_stretches_what_crosses_it_by_the_ratio_of_the_rates():
    """u' = g, and g + b x beyond u . x = 0: two neurons, before and after."""
    R, x = np.eye(3), np.array([1.0, 0.0, 0.0])
    before, after = 0.5, 2.0
    propagator = Propagator(1, R, 1, 0.0)
    C = np.zeros((1, 1, 3))
    gates = np.array([[False, True, True]]), np.array([[True, True, True]])
    rates = np.array([[before, 1.0, 1.0]]), np.array([[after, 1.0, 1.0]])
    begin, end = (Group(C, g, r) for g, r in zip(gates, rates, strict=True))
    propagator.step(step_of(C, 0.1, begin, end))
    expected = np.diag([after / before, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(propagator.matrices[0], expected, rtol=1e-14)
    slide = Group(C, gates[1], np.array([[-1.0, 1.0, 1.0]]))
    propagator.step(step_of(C, 0.1, begin, slide))
    assert np.linalg.norm(propagator.matrices[0] @ np.append(x, 0.0)) == 0.0
    assert propagator.crossings.tolist() == [2]


CASES = pytest.mark.parametrize(("D", "beta"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.1), (3.0, 1.0)])


def config_of(D: float, beta: float, **keys: Any) -> RunConfig:
    both = {"diffusion": D > 0.0, "diffusivity": D, "critic_rate": beta, "end_time": 4.0}
    return RunConfig(**{**KEYS, **both, **keys})


@CASES
def test_deviations_that_steps_do_not_resolve_grow_by_the_smooth_matrix(D, beta):
    """As if there were no kinks: by the flow's they would not."""
    found = transverse_growth(config_of(D, beta), *data())
    assert found.crossings.sum() >= 3
    np.testing.assert_allclose(found.measured[-1], found.smooth.growth[-1], rtol=1e-5)
    crossed = found.crossings > 0
    assert np.any(np.abs(found.measured[-1] / found.flow.growth[-1] - 1.0)[crossed] > 0.02)
    for each in (found.flow, found.smooth):
        assert np.all(each.largest >= each.growth * (1.0 - 1e-9))
        np.testing.assert_allclose(np.linalg.norm([each.begin, each.end], axis=2), 1.0, rtol=1e-12)


@pytest.mark.parametrize("D", [0.0, 1.0, 3.0])
def test_deviations_that_steps_resolve_grow_by_the_flows_matrix(D):
    """To what is of second order in a deviation of 1e-3; by the smooth matrix they would not."""
    keys = {"group_deviation": 1e-3, "integrator": "rk4", "step_size": 4e-3}
    found = transverse_growth(config_of(D, 1.0, **keys), *data())
    np.testing.assert_allclose(found.measured[-1], found.flow.growth[-1], rtol=1e-2)
    assert np.any(np.abs(found.measured[-1] / found.smooth.growth[-1] - 1.0) > 0.02)


def test_coupling_takes_its_rate_from_all():
    X, Y = data()
    ends = []
    for kappa in (0.0, 0.3):
        config = config_of(1.0, 1.0, coupling=kappa, end_time=2.0)
        ends.append(transverse_growth(config, X, Y))
    free, coupled = (each.exponents(each.flow) for each in ends)
    np.testing.assert_allclose(coupled, free - 0.3, rtol=1e-3, atol=1e-3)


def test_every_backend_finds_the_same_growth(backend):
    ends = [
        transverse_growth(config_of(1.0, 1.0, end_time=1.0, backend=name), *data())
        for name in ("numpy", backend)
    ]
    np.testing.assert_allclose(ends[1].measured[-1], ends[0].measured[-1], rtol=1e-6)
    np.testing.assert_allclose(ends[1].flow.growth[-1], ends[0].flow.growth[-1], rtol=1e-9)


def test_it_needs_groups_that_differ():
    X, Y = data()
    for keys, message in (
        ({"groups": None}, "transverse growth needs both"),
        ({"steps": 3}, "transverse growth needs both"),
        ({"group_deviation": 0.0}, "neurons of a group are equal"),
    ):
        with pytest.raises(ConfigError, match=message):
            transverse_growth(RunConfig(**{**KEYS, **keys}), X, Y)
