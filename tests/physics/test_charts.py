"""The contract of a chart, for every chart there is, and the same trajectory in each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import (
    BACKENDS,
    INTEGRATORS,
    Problem,
    differing,
    random_problem,
    relative_error,
    same_bits,
    smooth_problem,
)

import prdsim
from prdsim.backends import get_backend
from prdsim.backends.base import Rates
from prdsim.backends.cupy import CupyBackend
from prdsim.backends.numba import NumbaBackend
from prdsim.backends.numpy import NumpyBackend
from prdsim.physics.charts import CHARTS, cheapest_chart, make_chart, range_factors
from prdsim.physics.state import Dimensions
from prdsim.running.simulation import Simulation
from prdsim.symbols import ARRAYS

everywhere = [
    pytest.mark.parametrize("backend", BACKENDS),
    pytest.mark.parametrize("name", CHARTS),
    pytest.mark.parametrize("sizes", [{}, {"n": 1}, {"d_in": 1}, {"m": 1}, {"n": 20}], ids=str),
]
charts = pytest.mark.parametrize("chart", CHARTS)
backends = pytest.mark.parametrize("backend", BACKENDS)
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)


def over_all_charts(test):
    for mark in everywhere:
        test = mark(test)
    return test


class Carried:
    """A chart, the problem it is for, and the carried array, moved from its start or not."""

    def __init__(self, name: str, backend: str, sizes: dict[str, int], moved: bool = True) -> None:
        self.problem = random_problem(1, **sizes)
        self.k = get_backend(backend)
        self.U_0 = self.problem.initial["U"]
        self.chart = make_chart(name, self.k, self.problem.X, self.U_0)
        m, n = self.U_0.shape[0], self.problem.X.shape[1]
        self.U = self.k.empty(self.chart.shape(m))
        self.chart.start(out=self.U)
        self.B = np.random.default_rng(2).standard_normal((m, n)) * moved
        if moved:
            self.k.combine([(1.0, self.U), (0.3, self.velocity(self.B))], out=self.U)
        self.weights = self.U_0 + 0.3 * self.B @ self.problem.X.T
        self.scratch = self.k.empty((m, n))

    def velocity(self, B: np.ndarray) -> Any:
        """B X^T in the chart's coordinates."""
        if self.chart.pull_matrix is None:
            return B
        out = self.k.empty(self.U.shape)
        self.k.gemm(B, self.chart.matrix.T, out=out)
        return out

    @property
    def A(self) -> np.ndarray:
        A = self.U @ self.chart.matrix
        return A if self.chart.base is None else A + self.chart.base


@over_all_charts
def test_the_carried_array_starts_as_the_initial_weights(name, backend, sizes):
    c = Carried(name, backend, sizes, moved=False)
    assert c.chart.name == name
    # U_0 itself, or U_0 plus a product that vanishes at the start: no rounding in either.
    assert np.array_equal(c.k.to_host(c.chart.weights(c.U)), c.U_0)
    assert relative_error(c.A, c.U_0 @ c.problem.X) < 1e-13  # sums of at most 20 products
    assert np.all(c.chart.squared_distances(c.U, c.A, c.k.empty(c.U.shape)) < 1e-25)


@over_all_charts
def test_velocities_move_the_weights_by_b_x_transposed(name, backend, sizes):
    """Linear in the velocity: what makes every integrator's result independent of the chart."""
    c = Carried(name, backend, sizes)
    assert relative_error(c.chart.weights(c.U), c.weights) < 1e-13
    assert relative_error(c.A, c.weights @ c.problem.X) < 1e-13


def squared_weight_norm(chart: Any, k: Any, U: Any, A: Any) -> float:
    """As an adaptive step computes it: the inner products first, then the norm."""
    return chart.squared_weight_norm(k.dot(U, B) for B in chart.weight_images(U, A))


@over_all_charts
def test_norms_and_distances_are_those_in_weight_space(name, backend, sizes):
    c = Carried(name, backend, sizes)
    moved = c.weights - c.U_0
    norm = c.chart.squared_norm(c.velocity(c.B), c.scratch)
    assert norm == pytest.approx(np.linalg.norm(moved / 0.3) ** 2, rel=1e-12)
    total = squared_weight_norm(c.chart, c.k, c.U, c.A)
    assert total == pytest.approx(np.linalg.norm(c.weights) ** 2, rel=1e-12)
    rows = c.chart.squared_norms(c.U, c.A)
    assert rows == pytest.approx(np.sum(c.weights**2, axis=1), rel=1e-12)
    distances = c.chart.squared_distances(c.U, c.A, c.k.empty(c.U.shape))
    assert distances == pytest.approx(np.sum(moved**2, axis=1), rel=1e-12)
    assert rows.dtype == distances.dtype == np.float64


def test_norms_that_rounding_makes_negative_are_zero():
    """Pre-activations on the other side of A_0 stand for rounding errors, and exaggerate them."""
    c = Carried("gram", "numpy", {})
    wrong = 2.0 * c.chart.base - c.A
    assert not c.chart.squared_distances(c.U, wrong, c.k.empty(c.U.shape)).any()
    assert squared_weight_norm(c.chart, c.k, c.U, 100.0 * wrong) == 0.0
    c.chart.matrix *= -1.0
    assert c.chart.squared_norm(c.B, c.scratch) == 0.0


@charts
def test_the_norm_of_small_weights_is_small(chart):
    c = Carried(chart, "numpy", {}, moved=False)
    small = make_chart(chart, c.k, c.problem.X, 1e-3 * c.U_0)
    small.start(out=c.U)
    total = squared_weight_norm(small, c.k, c.U, 1e-3 * c.A)
    assert total == pytest.approx(1e-6 * np.sum(c.U_0**2), rel=1e-12)


# -- the range -------------------------------------------------------------------------------------


def test_range_factors_are_exact_and_as_few_as_the_rank():
    rng = np.random.default_rng(0)
    for rank, d_in, n in ((3, 9, 7), (3, 7, 9), (1, 5, 1), (4, 4, 6)):
        X = rng.standard_normal((d_in, rank)) @ rng.standard_normal((rank, n))
        Q, R = range_factors(X)
        assert Q.shape == (d_in, rank)
        assert R.shape == (rank, n)
        assert relative_error(Q @ R, X) < 1e-14
        assert relative_error(Q.T @ Q, np.eye(rank)) < 1e-14


def test_inputs_that_are_all_zero_have_a_range_all_the_same():
    Q, R = range_factors(np.zeros((4, 3)))
    assert (Q.shape, R.shape) == ((4, 1), (1, 3))
    assert not R.any()


def test_repeated_samples_and_pixels_never_lit_lower_the_rank():
    problem = random_problem(1, d_in=9, n=12)
    X = np.hstack([problem.X[:, :5]] * 2)
    X[4] = 0.0
    config = problem.config(backend="numpy", chart="range", samples=10)
    simulation = Simulation(config, X, problem.Y[:, :10], initial=problem.initial)
    assert simulation.resolved.chart == "range"
    assert simulation.state.U.shape == (8, 5)


def test_a_range_that_is_the_whole_space_falls_back_on_the_weights():
    problem = random_problem(1, d_in=4, n=9)
    assert problem.simulation(chart="range").resolved.chart == "weight"


# -- auto ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [NumpyBackend, NumbaBackend, CupyBackend])
@pytest.mark.parametrize(("precision", "itemsize"), [("float64", 8), ("float32", 4)])
def test_auto_takes_the_gram_chart_for_few_samples_and_the_weights_for_many(
    backend, precision, itemsize
):
    def chosen(n: int, d_in: int = 784) -> str:
        sizes = Dimensions(d_in, 10, n, 1024, 1024)
        return cheapest_chart(sizes, itemsize, backend.rates[precision])

    assert chosen(100) == chosen(1000) == "gram"
    assert chosen(1600) == chosen(4000) == "weight"
    assert chosen(256, d_in=64) == "weight"


@pytest.mark.parametrize(
    ("rates", "largest_n"),
    [(Rates(1.0, np.inf), 199), (Rates(np.inf, 1.0), 66), (Rates(1.0, 1.0), 192)],
)
def test_auto_counts_operations_of_products_and_bytes_of_the_rest(rates, largest_n):
    """With d_in = 100: gram if 2 n^2 < 4 d n, if 3 n < 2 d, or if the sums with 8 bytes say so.

    2 n^2 + 24 n < 400 n + 1600 for n < 192.16; m enters both sides alike.
    """
    chosen = [cheapest_chart(Dimensions(100, 1, n, 7, 1), 8, rates) for n in range(1, 300)]
    assert chosen == ["gram"] * largest_n + ["weight"] * (299 - largest_n)


def test_auto_is_recorded_and_tf32_has_rates_of_its_own():
    sizes = Dimensions(784, 10, 256, 512, 512)
    assert cheapest_chart(sizes, 4, CupyBackend.rates["tf32"]) == "gram"
    problem = random_problem(1, d_in=50, n=6)
    assert problem.simulation().resolved.chart == "gram"
    assert problem.simulation(chart="weight").resolved.chart == "weight"


# -- trajectories ----------------------------------------------------------------------------------


def final(problem: Problem, backend: str, steps: int, **keys: Any) -> Any:
    with problem.simulation(backend, steps=steps, **keys) as simulation:
        simulation.advance(steps)
        return simulation.weights(), simulation.observe()


@integrators
@backends
@charts
@pytest.mark.parametrize("keys", [{}, {"critic": "minimax"}, {"trainable": "U,W"}], ids=str)
def test_one_step_agrees_with_the_weight_chart_on_numpy(chart, backend, integrator, keys):
    problem = random_problem(3, d_in=12, n=8)
    keys = {"integrator": integrator, "step_size": 1e-3, "critic_rate": 5.0, **keys}
    expected, scalars = final(problem, "numpy", 1, chart="weight", **keys)
    computed, observed = final(problem, backend, 1, chart=chart, **keys)
    assert max(relative_error(computed[name], expected[name]) for name in ARRAYS) < 1e-12
    # Drifts and flips are differences that vanish but for rounding.
    assert differing(problem, observed, scalars, rel=1e-10) == []


@integrators
@backends
@charts
def test_50_steps_agree_with_the_weight_chart_on_numpy(chart, backend, integrator):
    """No gate changes, so that rounding errors (1e-16 a step) grow smoothly."""
    problem, keys = smooth_problem(), {"integrator": integrator, "step_size": 0.005}
    expected, _ = final(problem, "numpy", 50, chart="weight", **keys)
    computed, _ = final(problem, backend, 50, chart=chart, **keys)
    moved = min(relative_error(expected[name], problem.initial[name]) for name in "UV")
    assert moved > 0.05
    assert max(relative_error(computed[name], expected[name]) for name in ARRAYS) < 1e-9


@integrators
@backends
@charts
def test_a_restored_run_has_the_same_bits(chart, backend, integrator):
    problem = random_problem(1, d_in=12, n=8)
    keys = {"integrator": integrator, "chart": chart, "steps": 8, "precision": "float32"}
    with problem.simulation(backend, **keys) as simulation:
        simulation.advance(3)
        point = simulation.restart_point()
        simulation.advance(5)
        whole = simulation.restart_point()
    with problem.simulation(backend, **keys) as simulation:
        simulation.restore(point)
        simulation.advance(5)
        assert same_bits(simulation.restart_point().arrays, whole.arrays)


@backends
@charts
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_resumed_file_is_that_of_a_run_never_stopped(chart, backend, precision, tmp_path):
    keys = {"dataset": "digits", "samples": 20, "width": 12, "diffusion": True, "threads": 1}
    keys |= {"backend": backend, "chart": chart, "precision": precision, "snapshots": "every:4"}
    whole, part = tmp_path / "whole.h5", tmp_path / "part.h5"
    prdsim.run(**keys, steps=12, output=str(whole))
    prdsim.run(**keys, steps=8, output=str(part))
    prdsim.resume(part, steps=12)
    with prdsim.open_trajectory(whole) as one, prdsim.open_trajectory(part) as other:
        assert one.attributes["resolved"]["chart"] == chart
        assert set(one.chart) == ({"Q", "R"} if chart == "range" else set())
        for name, array in one.chart.items():
            assert np.array_equal(array, other.chart[name])
        for name in ARRAYS:
            assert np.array_equal(getattr(one, name)[:], getattr(other, name)[:])
        for name, column in one.scalars.items():
            mine = other.scalars[name]
            assert np.array_equal(column[-1:], mine[-1:], equal_nan=True), name


@charts
def test_the_basis_of_the_range_is_read_and_never_computed_anew(chart, tmp_path, monkeypatch):
    keys = {"dataset": "digits", "samples": 20, "width": 12, "chart": chart, "backend": "numpy"}
    path = prdsim.run(**keys, steps=4, output=str(tmp_path / "run.h5")).path

    def refuse(_: Any) -> None:
        raise AssertionError("computed anew")

    monkeypatch.setattr("prdsim.physics.charts.range_factors", refuse)
    monkeypatch.setattr("prdsim.running.simulation.range_factors", refuse)
    assert prdsim.resume(path, steps=8).step == 8
