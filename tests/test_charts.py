"""The contract of a chart, for every chart there is."""

from __future__ import annotations

import numpy as np
import pytest
from support import BACKENDS, random_problem, relative_error

from prdsim.backends import get_backend
from prdsim.charts import CHARTS, Chart, resolve_chart
from prdsim.config import RunConfig

everywhere = [
    pytest.mark.parametrize("backend", BACKENDS),
    pytest.mark.parametrize("name", CHARTS),
    pytest.mark.parametrize("sizes", [{}, {"n": 1}, {"d_in": 1}, {"m": 1}, {"n": 20}], ids=str),
]


def over_all_charts(test):
    for mark in everywhere:
        test = mark(test)
    return test


def carried(name: str, backend: str, sizes: dict[str, int]):
    """A chart, the problem it is for, and the carried array at t = 0 on the backend."""
    problem = random_problem(1, **sizes)
    k = get_backend(backend)
    chart: Chart = CHARTS[name](k, problem.X)
    start = chart.start(problem.initial["U"])
    U = k.empty(chart.shape(problem.initial["U"].shape[0]))
    k.to_device(start, U)
    return problem, k, chart, U


@over_all_charts
def test_carried_array_starts_in_its_shape_and_stands_for_the_initial_weights(name, backend, sizes):
    problem, k, chart, U = carried(name, backend, sizes)
    assert chart.name == name
    assert chart.start(problem.initial["U"]).shape == U.shape
    assert np.array_equal(k.to_host(chart.X), problem.X)
    # U_0 itself, or U_0 plus a product that vanishes at the start: no rounding in either.
    assert np.array_equal(k.to_host(chart.weights(U)), problem.initial["U"])


@over_all_charts
def test_pre_activations_are_those_of_the_weights(name, backend, sizes):
    problem, k, chart, U = carried(name, backend, sizes)
    A = k.empty((U.shape[0], problem.X.shape[1]))
    chart.pre_activations(U, out=A)
    expected = problem.initial["U"] @ problem.X
    assert relative_error(A, expected) < 1e-13  # sums of at most 20 products


@over_all_charts
def test_steps_along_pull_backs_move_the_weights_by_b_x_transposed(name, backend, sizes):
    """Linear in the velocity: what makes every integrator's result independent of the chart."""
    problem, k, chart, U = carried(name, backend, sizes)
    rng = np.random.default_rng(2)
    m, n = U.shape[0], problem.X.shape[1]
    B_1, B_2 = rng.standard_normal((m, n)), rng.standard_normal((m, n))
    chart.pull_back(B_1, out=U, alpha=0.3, beta=1.0)
    velocity = k.empty(U.shape)
    velocity[...] = np.nan
    chart.pull_back(B_2, out=velocity, alpha=-2.0)
    k.combine([(1.0, U), (0.1, velocity)], out=U)
    moved = (0.3 * B_1 - 0.2 * B_2) @ problem.X.T
    expected = problem.initial["U"] + moved
    assert relative_error(chart.weights(U), expected) < 1e-13
    A = k.empty((m, n))
    chart.pre_activations(U, out=A)
    assert relative_error(A, expected @ problem.X) < 1e-13


@over_all_charts
def test_squared_norm_of_a_difference_is_that_in_weight_space(name, backend, sizes):
    problem, k, chart, U = carried(name, backend, sizes)
    B = np.random.default_rng(3).standard_normal((U.shape[0], problem.X.shape[1]))
    difference = k.empty(U.shape)
    chart.pull_back(B, out=difference, alpha=0.5)
    expected = np.linalg.norm(0.5 * B @ problem.X.T) ** 2
    assert chart.squared_norm(difference) == pytest.approx(expected, rel=1e-12)


def test_auto_is_a_chart_and_names_stand_for_themselves():
    assert resolve_chart("auto") in CHARTS
    for name in CHARTS:
        assert resolve_chart(name) == name
        assert RunConfig(chart=name).chart == name


def test_the_weight_chart_needs_nothing_from_a_file():
    assert CHARTS["weight"](get_backend("numpy"), np.ones((2, 3))).arrays() == {}
