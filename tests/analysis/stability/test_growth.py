"""The matrices C_j: their exact form, rates and patterns, and their integrals along runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cupy_on_host import compiler_missing
from cupy_on_host.harness import put_in
from support import BACKENDS, Problem, random_problem, relative_error, same_bits, smooth_problem

from prdsim.analysis import recording_of
from prdsim.analysis.patterns import measures
from prdsim.analysis.stability import growth
from prdsim.analysis.stability.coupling_history import (
    CouplingIntegral,
    integrate_couplings,
    rank_correlation,
    replay_couplings,
    span_share,
)
from prdsim.analysis.stability.growth import Couplings, Growth, growth_rates
from prdsim.backends import get_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.errors import ConfigError, ResumeMismatchError
from prdsim.physics import gradients
from prdsim.physics.charts import range_factors
from prdsim.physics.state import Dimensions, State
from prdsim.running import snapshot_model
from prdsim.running.runner import run
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory

D = 0.7
SIZES = {
    "general": {},
    "one output": {"d_out": 1},
    "one sample": {"n": 1},
    "one neuron": {"m": 1},
    "one input": {"d_in": 1},
    "many outputs": {"d_in": 3, "d_out": 9, "n": 12, "m": 4, "m_c": 6},
}
sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


@pytest.fixture(params=[*BACKENDS, "cupy"])
def backend(request, monkeypatch) -> Any:
    if request.param == "cupy":
        if compiler_missing():
            pytest.skip(compiler_missing())
        put_in(monkeypatch)
    return get_backend(request.param, threads=1)


def arguments(problem: Problem, diffusivity: float = D) -> tuple[Any, ...]:
    return (*(problem.initial[name] for name in ARRAYS), problem.X, problem.Y, diffusivity)


def growth_at(problem: Problem, diffusivity: float = D, backend: Any = "numpy") -> Growth:
    config = problem.config(diffusivity=diffusivity)
    return Growth(config, problem.X, problem.Y, backend=backend)


def matrices(problem: Problem, part: str = "whole") -> np.ndarray:
    """C_j (m, d_out, d_in) as the definition has it, sample by sample."""
    U, V, W, a = (problem.initial[name] for name in ARRAYS)
    s, s_c = 1 / np.sqrt(V.size), 1 / np.sqrt(len(a))
    Z = s * V @ np.maximum(U @ problem.X, 0)
    G = np.array([s_c * sum(a[r] * W[r] * (W[r] @ z >= 0) for r in range(len(a))) for z in Z.T]).T
    E = {"reaction": problem.Y - Z, "diffusion": D * G, "whole": problem.Y - Z + D * G}[part]
    C = np.zeros((len(U), len(V), len(problem.X)))
    for j, u in enumerate(U):
        for x, e in zip(problem.X.T, E.T, strict=True):
            C[j] += s * (u @ x >= 0) * np.outer(e, x)
    return C


# -- one state -------------------------------------------------------------------------------------


@sizes
def test_velocities_are_the_two_morphogens(sizes, backend):
    """du_j/dt = C_j^T v_j, dv_j/dt = C_j u_j; 1e-13 as the gradients against the equations."""
    problem = random_problem(1, **sizes)
    at = growth_at(problem, backend=backend)
    parts = at.couplings(**problem.initial)
    C = np.concatenate([batch for _, batch in parts.matrices(parts.drive)]) @ at.Q.T
    assert relative_error(C, matrices(problem)) < 1e-13
    model, state = problem.model(integrator="rk4", diffusivity=D)
    out = State.empty(model.backend, model.state_shapes)
    gradients.velocity(model, state, out=out)
    U, V = problem.initial["U"], problem.initial["V"]
    assert relative_error(np.einsum("jkd,kj->jd", C, V), out.U) < 1e-13
    assert relative_error(np.einsum("jkd,jd->kj", C, U), out.V) < 1e-13


@sizes
def test_growth_rates_are_singular_values_and_their_parts(sizes, backend):
    problem = random_problem(2, **sizes)
    rates = growth_rates(*arguments(problem), backend=backend)
    count = min(len(problem.Y), *problem.X.shape)
    whole, reaction, diffusion = (
        np.linalg.svd(matrices(problem, part), compute_uv=False)[:, :count]
        for part in ("whole", "reaction", "diffusion")
    )
    assert np.abs(rates.total - whole).max() < 1e-13 * whole.max()
    without = growth_rates(*arguments(problem, 0.0), backend=backend)
    assert np.abs(without.total - reaction).max() < 1e-13 * reaction.max()
    assert np.abs(rates.reaction + rates.diffusion - rates.total).max() < 1e-13 * rates.total.max()
    # A part cannot grow faster along the common patterns than along its own.
    assert np.all(np.abs(rates.reaction) <= reaction[:, :1] + 1e-12)
    assert np.all(np.abs(rates.diffusion) <= diffusion[:, :1] + 1e-12)


def test_without_diffusion_growth_is_reaction_alone():
    problem = random_problem(3)
    rates = growth_rates(*arguments(problem, 0.0))
    assert np.array_equal(rates.diffusion, np.zeros_like(rates.total))
    assert np.abs(rates.total - rates.reaction).max() < 1e-13 * rates.total.max()
    assert growth_at(problem, 0.0).spectrum(**problem.initial).diffusion.max() == 0.0


def test_neurons_are_handled_some_at_a_time_with_the_same_result(monkeypatch):
    problem = random_problem(4, m=11)
    whole = growth_rates(*arguments(problem))
    monkeypatch.setattr(growth, "BATCH_BYTES", 8 * 3 * problem.Y.size)
    parts = growth_at(problem).couplings(**problem.initial)
    assert [s.stop - s.start for s, _ in parts.matrices(parts.drive)] == [3, 3, 3, 2]
    assert relative_error(growth_rates(*arguments(problem)).total, whole.total) < 1e-13


@pytest.mark.parametrize("name", ["couplings", "rates", "patterns", "spectrum"])
def test_one_snapshot_leaves_nothing_behind_for_the_next(name, backend):
    problem, other = random_problem(9), random_problem(10)
    at = growth_at(problem, backend=backend)
    found = [getattr(at, name)(**one.initial) for one in (problem, other, problem)]
    first, between, again = (
        one if isinstance(one, tuple) else tuple(vars(one).values()) for one in found
    )
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(first, between, strict=True))


def test_what_does_not_depend_on_the_snapshot_is_made_once_for_a_run(monkeypatch):
    """The inputs are factored, and the model built, once for all snapshots of a history."""
    made = []
    for module, name in ((growth, "range_factors"), (snapshot_model, "build_model")):
        original = getattr(module, name)

        def counted(*given: Any, name: str = name, original: Any = original) -> Any:
            made.append(name)
            return original(*given)

        monkeypatch.setattr(module, name, counted)
    problem, later = random_problem(11), random_problem(12)
    arrays = {key: np.stack([problem.initial[key], later.initial[key]]) for key in ARRAYS}
    recording = recording_of(
        **arrays, X=problem.X, Y=problem.Y, config=problem.config(diffusivity=D)
    )
    rates = measures.history(recording, ["growth"])["growth_rate_mean"]
    assert sorted(made) == ["build_model", "range_factors"]
    later = replace(problem, initial=later.initial)
    assert rates.tolist() == [
        growth_rates(*arguments(one)).total[:, 0].mean() for one in (problem, later)
    ]


def test_leading_patterns_grow_at_the_leading_rate(backend):
    """alpha = r.u_j + l.v_j of a short real run, masks unchanged: alpha(t) = alpha(0) e^(sigma t).

    The drive changes meanwhile by a share of at most 20 t (its rate here), half of it on average.
    """
    problem = smooth_problem()
    images, outputs = growth_at(problem, backend=backend).patterns(**problem.initial)
    assert np.allclose(np.linalg.norm(images, axis=1), 1.0)
    assert np.allclose(np.linalg.norm(outputs, axis=1), 1.0)
    C = matrices(problem)
    sigma = growth_rates(*arguments(problem)).total[:, 0]
    assert np.allclose(np.einsum("jkd,jd->jk", C, images), sigma[:, None] * outputs, atol=1e-12)

    def alpha(weights: dict[str, np.ndarray]) -> np.ndarray:
        along_u = np.sum(images * weights["U"], axis=1)
        return np.asarray(along_u + np.sum(outputs * weights["V"].T, axis=1))

    assert np.all(alpha(problem.initial) >= 0)
    time = 1e-3
    keys = {"integrator": "rk4", "step_size": time / 4, "steps": 4, "diffusivity": D}
    with problem.simulation(**keys) as simulation:
        simulation.advance(4)
        assert simulation.observe()["mask_flips"] == 0.0
        grown = alpha(simulation.weights())
    active = sigma > 0.1
    assert active.sum() == 4
    measured = np.log(grown[active] / alpha(problem.initial)[active]) / time
    assert np.abs(measured / sigma[active] - 1).max() < 20 * time / 2


def test_the_spectrum_shares_out_the_whole_coupling(backend):
    """Principal directions are an orthonormal basis of the inputs: sums of squares are ||C||^2."""
    problem = random_problem(5)
    spectrum = growth_at(problem, backend=backend).spectrum(**problem.initial)
    assert np.all(np.diff(spectrum.singular_values) <= 0)
    sigma = np.linalg.svd(problem.X, compute_uv=False)
    assert np.allclose(spectrum.singular_values, sigma)
    for name, part in [("total", "whole"), ("reaction",) * 2, ("diffusion",) * 2]:
        C = matrices(problem, part) @ spectrum.directions
        expected = np.sqrt(np.mean(np.sum(C**2, axis=1), axis=0))
        assert relative_error(getattr(spectrum, name), expected) < 1e-12, name


# -- over time -------------------------------------------------------------------------------------


def fed(drive: Any, times: Any, m: int = 4, n: int = 5) -> tuple[CouplingIntegral, np.ndarray]:
    """An integral over drives drive(t) (2, n) with fixed masks, and 1{.} x^T of unit drives."""
    rng = np.random.default_rng(0)
    R, masks = rng.standard_normal((3, n)), rng.standard_normal((m, n)) > 0
    integral = CouplingIntegral(Dimensions(3, 2, n, m, 1), 3)
    for t in times:
        integral.add(Couplings(masks, drive(t), np.zeros((2, n)), R, 0.5), t)
    integral.finish()
    return integral, 0.5 * np.einsum("jp,rp->jpr", masks, R)


def test_the_quadrature_is_the_trapezoidal_rule():
    """Exact for drives linear in time at uneven times; of second order for others."""
    E = np.random.default_rng(1).standard_normal((2, 5))
    times = [0.0, 0.1, 0.5, 0.6, 2.0]
    integral, unit = fed(lambda t: (1 + 3 * t) * E, times)
    assert relative_error(integral.matrices, 8.0 * np.einsum("kp,jpr->jkr", E, unit)) < 1e-14
    sigma = np.linalg.svd(np.einsum("kp,jpr->jkr", E, unit), compute_uv=False)[:, 0]
    assert relative_error(integral.leading, 8.0 * sigma) < 1e-13
    assert (
        relative_error(np.array(integral.rates), np.outer(1 + 3 * np.array(times), sigma)) < 1e-13
    )
    errors = []
    for count in (11, 21):
        integral, _ = fed(lambda t: np.exp(t) * E, np.linspace(0.0, 1.0, count))
        errors.append(relative_error(integral.leading, (np.e - 1) * sigma))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.01)


def test_shares_in_the_span():
    integral = np.zeros((4, 2, 3))
    integral[:, 0, 0], integral[:, 1, 0] = 1.0, 2.0  # dependent rows: one direction
    change = np.array([[2.0, 0, 0], [0, 1.0, 0], [3.0, 4.0, 0], [0, 0, 0]])
    assert np.allclose(span_share(change, integral), [1.0, 0.0, 9 / 25, 1.0])


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 6, 30).astype(float), rng.standard_normal(30)
    expected = spearmanr(x, y).statistic
    assert rank_correlation(x, y) == pytest.approx(expected, abs=1e-14)
    assert rank_correlation(y, np.exp(y)) == pytest.approx(1.0)
    assert np.isnan(rank_correlation(x, np.ones(30)))


def test_integrals_account_for_where_neurons_went():
    """With V at rest u_j(t) - u_j(0) is the integral of C_j, transposed, times v_j.

    Exactly so but for the quadrature, whose error falls by four as rows come twice as often.
    """
    problem, errors = smooth_problem(), []
    for every in (20, 10):
        config = problem.config(
            trainable="U,W,a",
            integrator="rk4",
            step_size=0.0025,
            steps=200,
            scalars=f"every:{every}",
            backend="numpy",
            threads=1,
        )
        history = integrate_couplings(config, problem.X, problem.Y, initial=problem.initial)
        assert len(history.times) == len(history.rates) == 200 // every + 1
        moved = np.einsum("jkr,kj->jr", history.integral, problem.initial["V"])
        errors.append(abs(np.linalg.norm(moved, axis=1) - history.distances).max())
        assert np.all(history.span_shares[history.distances > 0.01] > 0.999)
        assert history.difference is None
    assert history.distances.max() > 0.1
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert errors[1] < 0.02 * history.distances.max()


@pytest.mark.parametrize("integrator", ["gd", "dopri5"])
def test_watching_changes_no_bit_of_the_run(integrator):
    problem = random_problem(6)
    keys = {"integrator": integrator, "steps": 12, "scalars": "every:5"}
    config = problem.config(**keys, backend="numba", threads=1)
    seen = []
    with problem.simulation("numba", **keys) as simulation:
        simulation.advance(12)
        expected = simulation.weights()
    history = integrate_couplings(
        config,
        problem.X,
        problem.Y,
        initial=problem.initial,
        watch=lambda simulation: seen.append((simulation.step, simulation.weights())),
    )
    assert [step for step, _ in seen] == list(range(13))
    assert same_bits(seen[-1][1], expected)
    assert len(history.times) == 4  # steps 0, 5, 10, 12
    change = expected["U"] - problem.initial["U"]
    assert np.allclose(history.distances, np.linalg.norm(change, axis=1), rtol=1e-12)


TIMED = {"steps": None, "end_time": 3.0}
TIMED |= {"snapshots": "times:every:0.17", "scalars": "times:every:1.1"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "keys",
    [
        {"integrator": "gd", "critic_step_size": 0.01, "penalty_points": "random"},
        {"snapshot_precision": "float32"},
        {"chart": "range"},
        # Steps of 0.2, of which most have a snapshot within and no row of scalars.
        {**TIMED, "integrator": "gd", "step_size": 0.2},
        {**TIMED, "integrator": "rk4", "step_size": 0.2},
        TIMED,
        {**TIMED, "steps": 5},
        {"snapshots": "every:3", "scalars": "every:2", "end_time": 0.25, "steps": 999},
    ],
    ids=str,
)
def test_a_file_is_replayed_to_the_same_bits(backend, keys, tmp_path):
    config = {"dataset": "digits", "samples": 20, "width": 12, "steps": 40, "diffusion": True}
    path = tmp_path / "run.h5"
    result = run(**{**config, **keys}, backend=backend, threads=1, output=str(path))
    with open_trajectory(path) as trajectory:
        history = replay_couplings(trajectory)
        assert history.difference == 0.0
        assert np.array_equal(history.times, trajectory.scalars["time"])
        change = result.state["U"] - trajectory.initial["U"]
        assert np.allclose(history.distances, np.linalg.norm(change, axis=1), rtol=1e-11)
        assert -1 <= history.rank_correlation <= 1
        assert np.all((history.span_shares > 0) & (history.span_shares <= 1 + 1e-12))
        basis = history.basis
        images = history.integral @ basis.T
        shares = span_share(change, images)
        assert np.allclose(shares, history.span_shares, atol=1e-9)


@pytest.mark.parametrize(
    "plan", [{"integrator": "gd", "steps": 30}, {"steps": 30}, {"end_time": 0.3}], ids=str
)
def test_a_replay_that_goes_elsewhere_is_refused(plan, tmp_path):
    path = tmp_path / "run.h5"
    config = {"dataset": "digits", "samples": 20, "width": 12, "diffusion": True, **plan}
    run(**config, backend="numba", threads=1, output=str(path))
    other = NumpyBackend(threads=1)
    with open_trajectory(path) as trajectory:
        history = replay_couplings(trajectory, backend=other)
        assert history.difference is not None
        assert 0 < history.difference < 1e-10
        with pytest.raises(ResumeMismatchError, match=r"the replay differs from snapshot \d+ \(st"):
            replay_couplings(trajectory, backend=other, tolerance=0.0)


@pytest.mark.parametrize(
    "plan",
    [
        {"steps": 40, "snapshots": "every:8", "scalars": "every:4"},
        {"end_time": 9.0, "snapshots": "times:every:0.01", "scalars": "times:every:0.1"},
    ],
    ids=["steps", "times"],
)
def test_an_interrupted_run_is_replayed_as_far_as_it_came(plan, tmp_path, monkeypatch):
    from prdsim.running.simulation import Simulation

    path, advance = tmp_path / "run.h5", Simulation.advance_some

    def fail(simulation: Simulation, at_most: int = 1, **view: float) -> int:  # noqa: ARG001
        if simulation.step == 17:
            raise KeyboardInterrupt
        return advance(simulation, 1, **view)

    config = {"dataset": "digits", "samples": 10, "width": 5, **plan}
    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "advance_some", fail)
        with pytest.raises(KeyboardInterrupt):
            run(**config, backend="numpy", threads=1, output=str(path))
    with open_trajectory(path) as trajectory:
        last = float(trajectory.time[-1])
        assert 0 < trajectory.step[-1] <= 17
        history = replay_couplings(trajectory)
        assert history.times[-1] == last
        assert history.difference == 0.0


def test_memory_is_predicted_and_checked(monkeypatch):
    problem = random_problem(7)
    config = problem.config(backend="numpy", threads=1, steps=2)
    assert CouplingIntegral.needed_bytes(Dimensions(784, 10, 1000, 4096, 4096), 100) < 1e9
    small = replace(problem)
    monkeypatch.setattr(NumpyBackend, "available_bytes", lambda _: 10**6)
    with pytest.raises(
        ConfigError, match=r"integrals of C_j need .* of memory on cpu, but only 1\.0 MB"
    ):
        integrate_couplings(config, small.X, small.Y, initial=small.initial)


def test_range_coordinates_hold_all_of_the_inputs():
    problem = random_problem(8, n=4)
    at = growth_at(problem)
    parts, Q = at.couplings(**problem.initial), at.Q
    assert Q.shape == (7, 4) == (7, len(parts.R))
    assert relative_error(Q @ parts.R, problem.X) < 1e-13
    assert np.array_equal(range_factors(problem.X)[0], Q)
