"""Fused operations: the same physics as the primitives they replace, and no array beside it."""

from __future__ import annotations

import numpy as np
import pytest
from support import (
    ADAPTIVE,
    INTEGRATORS,
    differing,
    random_problem,
    relative_error,
    same_bits,
    same_numbers,
)
from support_backends import SIZES

from prdsim.backends import get_backend
from prdsim.backends.fused import Fused
from prdsim.backends.numba import NumbaBackend
from prdsim.physics.charts import CHARTS
from prdsim.symbols import ARRAYS
from prdsim.verification.operands import Operands
from prdsim.verification.operations import check_operation
from prdsim.verification.operations_products import critic_moments, gradients_of_moments

KEYS = [
    {},
    {"critic": "minimax"},
    {"diffusion": False},
    {"trainable": "U,a"},
    {"trainable": "V,W"},
    {"gradient_penalty": 0.0},
]


def final(problem, steps=3, **keys):
    with problem.simulation("numba", steps=steps, **keys) as simulation:
        simulation.advance(steps)
        return simulation.weights(), simulation.observe()


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_runs_are_those_of_the_primitives(chart, integrator, keys, monkeypatch):
    problem = random_problem(2, d_in=40, d_out=3, n=21, m=37, m_c=29)
    keys = {"chart": chart, "integrator": integrator, "step_size": 1e-3, "critic_rate": 5.0, **keys}
    keys |= {"rtol": 1e-5}
    fused, observed = final(problem, threads=2, **keys)
    monkeypatch.setattr(NumbaBackend, "fused", lambda k, m, m_c, _, n: Fused(k, m, m_c, n))
    plain, expected = final(problem, threads=2, **keys)
    # An error estimate near rtol = 1e-5 is a difference that leaves eps / rtol of its digits wrong,
    # some 1e-11, and the next step size follows it.
    bound = 1e-10 if integrator in ADAPTIVE else 1e-12
    for name in ARRAYS:
        assert relative_error(fused[name], plain[name]) < bound, name
    assert differing(problem, observed, expected, rel=1e-9) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_operation_is_within_its_bound_whatever_the_threads(threads, precision):
    k = get_backend("numba", precision=precision, threads=threads)
    with k.active():
        fused = check_operation("fused", Operands(k, SIZES))
    assert fused.holds
    assert fused.measured > 0, "nothing was compared"


class WrongEnd(Fused):
    """e from the targets instead of from the prediction."""

    def critic_moments(self, given, scratch, **others):
        turned = [(1.0 - e, weight) for e, weight in given.sets]
        super().critic_moments(given._replace(sets=turned), scratch, **others)


class OneSet(Fused):
    def critic_moments(self, given, scratch, **others):
        super().critic_moments(given._replace(sets=given.sets[:1]), scratch, **others)


class NoPenalty(Fused):
    def critic_moments(self, given, scratch, **others):
        super().critic_moments(given._replace(penalty=0.0), scratch, **others)


class UpdatesWFirst(Fused):
    """a moves along the new W."""

    def gradients_of_moments(self, W, a, N, *, out_W, out_a, **others):
        super().gradients_of_moments(W, a, N, out_W=out_W, out_a=None, **others)
        super().gradients_of_moments(W, a, N, out_W=None, out_a=out_a, **others)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (WrongEnd, critic_moments),
        (OneSet, critic_moments),
        (NoPenalty, critic_moments),
        (UpdatesWFirst, gradients_of_moments),
    ],
)
def test_a_wrong_update_of_the_critic_is_found(fault, check):
    k, sizes = get_backend("numpy"), (7, 5, 3, 11, 4)
    for kind in (Fused, fault):
        fused = kind(k, 7, 5, 11)
        fused.allocate()
        with np.errstate(all="ignore"):
            found = [finding.holds for finding in check(Operands(k, SIZES), fused, sizes)]
        assert found
        assert all(found) == (kind is Fused)


def test_a_step_makes_no_array_of_the_size_of_the_features_or_the_critics_gates():
    model, _ = random_problem(1).model("numba")
    sizes = model.dimensions
    features = {(sizes.m, sizes.n), (sizes.m_c, sizes.n)}
    made = [array.shape for array in vars(model.fused).values() if hasattr(array, "shape")]
    assert made
    assert not features & set(made)


@pytest.mark.parametrize("integrator", ["gd", "bs23"])
def test_a_run_has_the_same_bits_again_with_as_many_threads(integrator):
    problem = random_problem(2, d_in=90, d_out=10, n=300, m=400, m_c=300)
    keys = {"integrator": integrator, "chart": "gram", "step_size": 1e-4, "threads": 2}
    (first, row), (second, again) = final(problem, **keys), final(problem, **keys)
    assert same_bits(first, second)
    assert same_numbers(row, again)


def test_what_is_not_finite_is_not_hidden_by_a_shut_gate():
    """As with `gate`: an infinite drive becomes NaN where its gate is shut."""
    problem = random_problem(2)
    model, state = problem.model("numba", chart="gram")
    with model.backend.active():
        fused = model.fused
        A, E = -np.ones(model.work.A.shape), np.ones(model.work.E.shape)
        E[0, 0] = np.inf
        U = np.zeros(state.U.shape)
        operands = {"B": model.work.B, "out_U": U, "out_V": None}
        fused.pull_back(A, state.V, E, None, alpha=1.0, beta=1.0, **operands)
    assert np.isnan(U[:, 0]).all()
    assert (U[:, 1:] == 0).all()
