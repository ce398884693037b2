"""Eigenvalues against dense Jacobians, verdicts at equilibria, and what real runs do."""

from __future__ import annotations

import tracemalloc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cupy_on_host import compiler_missing
from cupy_on_host.harness import put_in
from scipy.sparse.linalg import LinearOperator, eigs, eigsh
from support import BACKENDS, Problem, random_problem, relative_error, same_bits, smooth_problem

from prdsim.analysis.stability import krylov
from prdsim.analysis.stability import modes as modes_module
from prdsim.analysis.stability.equilibrium import Equilibrium, find_equilibrium
from prdsim.analysis.stability.growth import growth_rates
from prdsim.analysis.stability.jacobian_products import JacobianProducts
from prdsim.analysis.stability.modes import (
    FLOW_NAMES,
    Modes,
    leading_modes,
    linearize,
    modes_bytes,
    modes_host_bytes,
)
from prdsim.analysis.stability.turing import Stability, assess_stability
from prdsim.backends import get_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.errors import ConfigError
from prdsim.physics import gradients
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import State
from prdsim.physics.tangent import Flow, Linearization

FLOWS: tuple[Flow, ...] = ("reaction", "frozen", "joint")
KEYS: dict[str, Any] = {"integrator": "rk4", "backend": "numpy", "threads": 1, "diffusivity": 0.7}
flows = pytest.mark.parametrize("flow", FLOWS)


@pytest.fixture
def matrix_free(monkeypatch) -> None:
    """Krylov's method for the smallest problems too, as for large ones."""
    monkeypatch.setattr(modes_module, "_SMALL", 0)


def jacobian_of(problem: Problem, flow: Flow, **keys: Any) -> Linearization:
    config = problem.config(**{**KEYS, **keys})
    return linearize(config, problem.X, problem.Y, problem.initial, flow)


def modes_of(problem: Problem, flow: Flow, count: int | None = 6, **keys: Any) -> Modes:
    options = {name: keys.pop(name) for name in ("accuracy", "seed") if name in keys}
    return leading_modes(jacobian_of(problem, flow, **keys), count, **{"accuracy": 1e-8, **options})


def assessed(
    problem: Problem, weights: Any = None, *, keys: Any = None, **options: Any
) -> Stability:
    """The stability at the problem's initial weights, or at others."""
    config = problem.config(**{**KEYS, **(keys or {})})
    return assess_stability(config, problem.X, problem.Y, weights or problem.initial, **options)


def rest_of(problem: Problem, *, newton_steps: int = 60, **keys: Any) -> Equilibrium:
    config = problem.config(**{**KEYS, "step_size": "auto", **keys})
    data = (problem.X, problem.Y)
    return find_equilibrium(config, *data, initial=problem.initial, newton_steps=newton_steps)


def regression() -> Problem:
    """Many samples, few neurons, far from kinks: L_sup has a minimum, not 0, without any kink."""
    rng = np.random.default_rng(5)
    smooth = smooth_problem()
    X = rng.uniform(0.5, 1.5, (4, 30))
    Y = rng.uniform(0.3, 0.6, (2, 4)) @ X + 0.2 * rng.standard_normal((2, 30))
    return Problem(X, Y, smooth.initial)


def difference_jacobian(problem: Problem, flow: Flow) -> np.ndarray:
    """Column by column from central differences of the velocity, in weight space."""
    alone = {
        "reaction": {"diffusion": False, "trainable": "U,V"},
        "frozen": {"trainable": "U,V"},
        "joint": {},
    }[flow]
    model, state = problem.model(**{**KEYS, **alone})
    columns, h = [], 2.0**-13
    for name in model.moving:
        array = getattr(state, name)
        for index in np.ndindex(array.shape):
            ends = []
            for shift in (h, -h):
                kept = array[index]
                array[index] += shift
                out = State.empty(model.backend, model.state_shapes)
                gradients.velocity(model, state, out=out)
                ends.append(np.concatenate([getattr(out, n).ravel() for n in model.moving]))
                array[index] = kept
            columns.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(columns, axis=1)


# -- eigenvalues -----------------------------------------------------------------------------------


@flows
@pytest.mark.usefixtures("matrix_free")
def test_eigenvalues_are_those_of_a_dense_jacobian(flow):
    """Smooth data of full rank 3 in 4 inputs: weight space has m zeros more, one a neuron.

    Differences err by h^2 / 6 |f'''|, some 1e-8 at h = 2^-13, and by rounding, eps / h = 2e-12;
    residuals are at most 1e-8 of the scale. An eigenvalue of a non-normal matrix errs by its
    condition times that; 1e-6 of the scale leaves room for 30.
    """
    problem = smooth_problem()
    matrix = difference_jacobian(problem, flow)
    expected = np.linalg.eigvals(matrix)
    expected = expected[np.argsort(-expected.real)]
    modes = modes_of(problem, flow)
    assert modes.size == len(matrix) - 5
    assert len(modes.eigenvalues) == modes.requested == 6
    scale = np.abs(expected).max()
    assert modes.scale == pytest.approx(scale, rel=2e-2)
    found = [value for value in expected if abs(value) > 1e-7 * scale or value.real > 0]
    leading = modes.eigenvalues[modes.eigenvalues.real > 1e-5 * scale]
    assert len(leading) >= 2
    assert np.abs(np.sort(leading.real)[::-1] - [v.real for v in found[: len(leading)]]).max() < (
        1e-6 * scale
    )
    for index, value in enumerate(leading):
        pattern = modes.pattern(index)
        vector = np.concatenate([pattern[name].ravel() for name in pattern])
        assert np.linalg.norm(vector) == pytest.approx(1.0)
        assert np.linalg.norm(matrix @ vector - value * vector) < 1e-6 * scale


@flows
def test_krylov_and_the_whole_matrix_agree(flow, monkeypatch):
    problem = random_problem(1)
    whole = modes_of(problem, flow, None)
    assert len(whole.eigenvalues) == whole.size == whole.requested
    assert whole.residuals.max() < 1e-12 * whole.scale
    monkeypatch.setattr(modes_module, "_SMALL", 0)
    leading = modes_of(problem, flow)
    assert leading.products <= whole.size + 20
    expected = whole.eigenvalues.real[:6]
    assert np.abs(leading.eigenvalues.real - expected).max() < 1e-6 * whole.scale
    assert leading.residuals.max() <= 1.01e-8 * leading.scale
    assert np.iscomplexobj(leading.eigenvalues) == (flow == "joint")


@flows
def test_arpack_finds_the_same_modes_of_a_problem_too_large_to_form(flow):
    """An eigensolver of SciPy on the whole coordinates, and ours on driven tangents."""
    problem = random_problem(12, d_in=30, n=40, m=60)
    jacobian = jacobian_of(problem, flow)
    leading = leading_modes(jacobian, 4, accuracy=1e-9)
    products = JacobianProducts(jacobian)
    assert leading.size == products.size > modes_module._SMALL
    assert leading.products < products.size
    operator = LinearOperator(2 * (products.size,), matvec=products, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(products.size)
    if flow == "joint":
        values, vectors = eigs(operator, 4, which="LR", tol=1e-10, v0=start)
    else:
        values, vectors = eigsh(operator, 4, which="LA", tol=1e-10, v0=start)
    order = np.argsort(-values.real)
    assert np.abs(leading.eigenvalues - values[order]).max() < 1e-7 * leading.scale
    overlaps = np.abs(np.sum(leading.vectors.conj() * vectors[:, order], axis=0))
    assert overlaps.min() > 1 - 1e-6


@pytest.mark.usefixtures("matrix_free")
def test_the_same_seed_gives_the_same_bits_and_another_one_the_same_modes():
    results = [modes_of(random_problem(2), "frozen", 3, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(results[0].vectors, results[1].vectors)
    assert not np.array_equal(results[0].vectors, results[2].vectors)
    assert np.allclose(results[0].eigenvalues, results[2].eigenvalues, atol=1e-6)


@pytest.mark.usefixtures("matrix_free")
def test_what_is_said_on_the_way_changes_nothing():
    problem, said = random_problem(2), []
    silent, telling = assessed(problem), assessed(problem, say=said.append)
    for flow, modes in silent.modes.items():
        assert np.array_equal(modes.vectors, telling.modes[flow].vectors)
        vectors = modes.vectors
        for_residuals = vectors.shape[1] + vectors.imag.any(axis=0).sum()  # these come last
        products = telling.modes[flow].products - for_residuals
        words = FLOW_NAMES[flow]
        ours = [text for text in said if text.startswith(f"{words}: ")]
        assert ours[-1].startswith(f"{words}: 6 of 6 modes after ")
        assert ours[-1].endswith(f" {products} Jacobian products")
    said.clear()
    config = problem.config(**KEYS, steps=20)
    find_equilibrium(config, problem.X, problem.Y, initial=problem.initial, say=said.append)
    assert said[0].startswith("equilibrium: ||R|| = ")
    assert said[0].endswith(" after 1 Jacobian products")


@pytest.mark.parametrize("flow", FLOWS[:2])
@pytest.mark.parametrize("seed", range(3))
def test_leading_rates_lie_between_those_of_the_neurons(flow, seed):
    """The Jacobian is blockdiag(S_j) - J^T J with rank(J) <= n d_out (Weyl's inequalities)."""
    problem = random_problem(seed, d_in=9, m=20)
    whole = modes_of(problem, flow, None)
    D = 0.0 if flow == "reaction" else KEYS["diffusivity"]
    rates = np.sort(growth_rates(*problem.initial.values(), problem.X, problem.Y, D).total.ravel())
    of_neurons = np.concatenate([rates[::-1], np.zeros(whole.size - 2 * len(rates)), -rates])
    rank = problem.Y.size
    margin = 1e-10 * whole.scale
    assert np.all(whole.eigenvalues <= of_neurons + margin)
    assert np.all(whole.eigenvalues[:-rank] >= of_neurons[rank:] - margin)


def test_what_has_not_converged_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(krylov, "_PRODUCTS", 40)
    problem = random_problem(3, d_in=20, n=18, m=40)
    found = assessed(problem, accuracy=1e-8)
    counts = {flow: len(modes.eigenvalues) for flow, modes in found.modes.items()}
    assert min(counts.values()) < 6
    assert "(6 requested)" in found.verdict
    for modes in found.modes.values():
        assert len(modes.residuals) == len(modes.eigenvalues) == modes.vectors.shape[1]


@pytest.fixture(scope="module")
def rested() -> Stability:
    """Six modes at the equilibrium of a problem that interpolates."""
    problem = random_problem(1)
    return assessed(problem, rest_of(problem, steps=4000).weights)


def test_where_nothing_converged_nothing_is_concluded(rested):
    none = {"eigenvalues": np.zeros(0), "residuals": np.zeros(0), "vectors": np.zeros((1, 0))}
    for flow in ("reaction", "frozen"):
        modes = {**rested.modes, flow: replace(rested.modes[flow], **none)}
        unknown = replace(rested, modes=modes)
        assert unknown.turing("frozen") is None
        assert "Turing condition, critic frozen" not in unknown.verdict
        assert "leading rate +nan; of 0 modes found (6 requested)" in unknown.verdict


@pytest.mark.parametrize("backend", ["numba", "cupy"])
def test_on_every_backend(backend, monkeypatch):
    if backend == "cupy":
        if compiler_missing():
            pytest.skip(compiler_missing())
        put_in(monkeypatch)
    problem = random_problem(4, m=4)
    expected, other = assessed(problem), assessed(problem, keys={"backend": backend})
    assert other.reaction_norm == pytest.approx(expected.reaction_norm, rel=1e-12)
    assert other.diffusion_norm == pytest.approx(expected.diffusion_norm, rel=1e-12)
    for flow, modes in expected.modes.items():
        apart = np.abs(other.modes[flow].eigenvalues.real - modes.eigenvalues.real).max()
        assert apart < 1e-10 * modes.scale


@flows
@pytest.mark.usefixtures("matrix_free")
def test_float32_finds_the_same_rates(flow):
    """Products err by 1.5e-5 at the most (test_tangent), residuals are 1e-5 of the scale."""
    problem = random_problem(5)
    exact = modes_of(problem, flow, 3)
    single = modes_of(problem, flow, 3, precision="float32", accuracy=1e-5)
    assert single.residuals.max() > 1e-9 * single.scale, "products are of single precision"
    assert np.abs(single.eigenvalues.real - exact.eigenvalues.real).max() < 5e-5 * exact.scale


def test_patterns_have_the_shapes_of_the_weights_and_norm_1():
    problem = random_problem(5)
    modes = modes_of(problem, "joint", 3)
    for index in range(3):
        pattern = modes.pattern(index)
        shapes = {name: array.shape for name, array in problem.initial.items()}
        assert {name: array.shape for name, array in pattern.items()} == shapes
        assert sum(np.linalg.norm(array) ** 2 for array in pattern.values()) == pytest.approx(1.0)


# -- equilibria and verdicts -----------------------------------------------------------------------


def at_rest(problem: Problem, **keys: Any) -> tuple[Problem, Stability]:
    """The problem at its equilibrium, and all modes there."""
    rest = rest_of(problem, steps=4000, **keys)
    assert rest.reached
    assert rest.reaction_norm <= rest.tolerance == 1e-8
    there = Problem(problem.X, problem.Y, {**problem.initial, **rest.weights})
    found = assessed(there, keys=keys, count=None)
    assert found.equilibrium
    return there, found


def test_an_interpolating_equilibrium_is_marginal_without_and_unstable_with_diffusion():
    """m = 8 neurons of rank 3 have 24 growing pairs, more than the 18 residuals can hold down."""
    there, found = at_rest(random_problem(1))
    reaction, frozen = found.modes["reaction"], found.modes["frozen"]
    size = 8 * (6 + 3)
    assert (reaction.size, found.interpolation_nulls, found.rescaling_nulls) == (size, 54, 8)
    assert (reaction.unstable, reaction.marginal) == (0, 54)
    assert reaction.stable == 18
    assert reaction.rescaling_shares[:54].sum() == pytest.approx(8.0, abs=1e-6)
    rates = growth_rates(*there.initial.values(), there.X, there.Y, KEYS["diffusivity"])
    assert frozen.unstable >= (rates.total > 1e-3).sum() - 18 > 0
    assert found.stable_without is found.turing("frozen") is found.turing("joint") is True
    assert found.verdict.startswith("reaction equilibrium (||R|| = ")
    assert "Turing condition, critic frozen: holds" in found.verdict
    assert "Turing condition, critic moving: holds" in found.verdict


def test_an_equilibrium_of_many_samples_has_the_null_modes_of_rescaling():
    """Residuals stay, the minimum is strict but for one direction a neuron (dead ones: all)."""
    there, found = at_rest(regression())
    reaction = found.modes["reaction"]
    assert there.X.shape[1] * 2 > reaction.size == 5 * (4 + 2)
    assert found.interpolation_nulls == 0
    E = there.Y - (
        there.initial["V"] @ np.maximum(there.initial["U"] @ there.X, 0) / np.sqrt(2 * 5)
    )
    assert np.linalg.norm(E) > 0.5, "a minimum with residuals"
    assert reaction.unstable == 0
    assert reaction.rescaling_shares[: reaction.marginal].sum() == pytest.approx(5.0, abs=1e-5)
    assert reaction.rescaling_shares[reaction.marginal :].max() < 1e-5
    assert found.stable_without


def test_a_saddle_is_unstable_without_diffusion_and_no_turing_instability():
    """u_j = v_j = 0: an equilibrium whose neurons grow as soon as they are not 0."""
    problem = random_problem(2)
    problem.initial["U"][:] = 0.0
    problem.initial["V"][:] = 0.0
    found = assessed(problem)
    assert found.reaction_norm == 0.0
    assert found.modes["reaction"].unstable == 6
    assert found.stable_without is found.turing("frozen") is False
    assert "Turing condition, critic frozen: does not hold" in found.verdict


def test_away_from_an_equilibrium_there_is_no_verdict():
    problem = random_problem(3)
    found = assessed(problem)
    assert not found.equilibrium
    assert found.stable_without is found.turing("frozen") is found.turing("joint") is None
    assert found.verdict.startswith("instantaneous growth rates, no verdict: no reaction")
    assert f"(||R|| = {found.reaction_norm:.2g} > 1e-08)" in found.verdict
    assert "Turing" not in found.verdict
    assert assessed(problem, tolerance=1e3).equilibrium, "the tolerance is the user's"


def test_norms_of_reaction_and_diffusion_are_those_of_the_records():
    problem = random_problem(3)
    found = assessed(problem)
    with problem.simulation(**KEYS) as simulation:
        row = simulation.observe()
    for kind in ("reaction", "diffusion"):
        norm = np.hypot(row[f"{kind}_norm_U"], row[f"{kind}_norm_V"])
        assert getattr(found, f"{kind}_norm") == pytest.approx(norm, rel=1e-12)


def test_without_diffusion_the_flow_without_it_is_all_there_is():
    found = assessed(random_problem(4), keys={"diffusion": False})
    assert found.modes.keys() == {"reaction"}
    assert found.diffusion_norm == 0.0
    assert found.turing("frozen") is None


def test_a_minimum_on_a_kink_is_not_called_an_equilibrium():
    problem = random_problem(0, d_in=3, d_out=2, n=40, m=3)
    rest = rest_of(problem, steps=2000)
    assert not rest.reached
    assert rest.reaction_norm <= rest.run_norm
    assert not assessed(problem, rest.weights).equilibrium


def test_newton_steps_finish_what_a_short_run_began():
    problem = regression()
    rest = rest_of(problem, steps=300)
    assert rest.run_norm > 1e-6 > 1e-8 >= rest.reaction_norm
    assert 0 < rest.newton_steps < 20
    assert 0 < rest.newton_distance < 0.5
    for name in "Wa":
        assert np.array_equal(rest.weights[name], problem.initial[name])
    none = rest_of(problem, steps=300, newton_steps=0)
    assert not none.reached
    assert none.run_norm == none.reaction_norm == rest.run_norm


# -- real runs -------------------------------------------------------------------------------------


def measured_rate(problem: Problem, mode: dict[str, np.ndarray], time: float, **keys: Any) -> float:
    """How fast two real runs part that begin 1e-6 of a mode from each other, by rk4."""
    ends, epsilon, steps = [], 1e-6, 40
    for shift in (0.0, epsilon):
        initial = {
            name: array + shift * mode[name].real if name in mode else array
            for name, array in problem.initial.items()
        }
        run = replace(problem, initial=initial).simulation(
            **{**KEYS, "step_size": time / steps, "steps": steps, **keys}
        )
        with run as simulation:
            simulation.advance(steps)
            assert simulation.observe()["mask_flips"] == 0.0
            ends.append(simulation.weights())
    apart = np.sqrt(sum(np.sum((ends[1][name] - ends[0][name]) ** 2) for name in mode))
    return float(np.log(apart / epsilon) / time)


@pytest.mark.parametrize("problem", [smooth_problem(), regression()], ids=["few", "many samples"])
@pytest.mark.parametrize("flow", FLOWS[1:])
def test_real_runs_part_at_the_predicted_rate_with_diffusion(problem, flow):
    """Within 10 % while the mode grows by a third (the mode is real), where diffusion is strong.

    The Jacobian changes at the rate of the drive: the measured rate is off by a share of about
    that times half the time, here at most 0.3 / 2 times the ratio of the two rates.
    """
    there, found = at_rest(problem, diffusivity=100.0)
    modes, keys = found.modes[flow], {"diffusivity": 100.0}
    assert modes.eigenvalues[0].imag == 0
    rate, time = modes.growth_rate, 0.3 / modes.growth_rate
    assert modes.drive_rate < 0.6 * rate
    trainable = {"trainable": "U,V"} if flow == "frozen" else {}
    measured = measured_rate(there, modes.pattern(0), time, **keys, **trainable)
    assert measured == pytest.approx(rate, rel=0.1)
    generator = {name: array for name, array in modes.pattern(0).items() if name in "UV"}
    without = measured_rate(there, generator, time, diffusion=False)
    assert without < 0.1 * rate, "diffusion makes the difference"


def test_weak_diffusion_is_over_before_its_modes_have_grown():
    """The condition holds, and its rate is right at first: that of the drive tells the rest."""
    there, found = at_rest(smooth_problem(), diffusivity=1.0)
    modes = found.modes["frozen"]
    rate = modes.growth_rate
    assert found.turing("frozen")
    assert modes.drive_rate > 10 * rate
    assert f"the drive changes at a rate of {modes.drive_rate:.2g}" in found.verdict
    measured = [
        measured_rate(there, modes.pattern(0), share / rate, diffusivity=1.0, trainable="U,V")
        for share in (1e-3, 0.3)
    ]
    assert measured[0] == pytest.approx(rate, rel=0.1)
    assert measured[1] < 0.2 * rate


@pytest.mark.parametrize("problem", [smooth_problem(), regression()], ids=["few", "many samples"])
def test_real_runs_approach_each_other_at_the_predicted_rate_without(problem):
    """Nothing drifts at an equilibrium of the flow: the rate holds for long, to 1e-3."""
    there, found = at_rest(problem)
    modes = found.modes["reaction"]
    for index in (-1, modes.unstable + modes.marginal):
        rate = modes.eigenvalues[index]
        assert rate < 0
        time = min(-2.0 / rate, 20.0 / modes.scale)  # steps of at most half the fastest time
        measured = measured_rate(there, modes.pattern(index), time, diffusion=False)
        assert measured == pytest.approx(rate, rel=1e-3), index


# -- limits ----------------------------------------------------------------------------------------


def test_bad_requests_are_refused(monkeypatch):
    problem = random_problem(6)
    with pytest.raises(ConfigError, match="neither U nor V is trained"):
        assessed(problem, keys={"trainable": "W,a"})
    monkeypatch.setattr(modes_module, "_LARGEST_DENSE", 50)
    with pytest.raises(ConfigError, match="all modes of 72 coordinates were requested, 50 are"):
        modes_of(problem, "frozen", None)
    monkeypatch.setattr(NumpyBackend, "available_bytes", lambda _: 1000)
    with pytest.raises(ConfigError, match=r"the modes of the Jacobian need .* of memory on cpu"):
        assessed(problem)


@flows
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("driven", [True, False])
def test_memory_is_predicted(flow, backend, driven, monkeypatch):
    """Every array that a backend holds for the Jacobian is counted, and few that it does not.

    On the host the prediction is for whole coordinates, should driven tangents fail.
    """
    problem = random_problem(7, d_in=60, n=70, m=80, m_c=50)
    k = get_backend(backend, threads=1)
    alive, peaks, empty = [0], [0], type(k).empty

    def count(number: int) -> None:
        alive[0] += number
        peaks.append(alive[0])

    def counted(self: Any, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        array = empty(self, shape, dtype)
        count(array.nbytes)
        weakref.finalize(array, count, -array.nbytes)
        return array

    monkeypatch.setattr(type(k), "empty", counted)
    config = problem.config(**KEYS)
    sizes = dimensions_of(config, 60, 3, 70)
    tracemalloc.start()
    jacobian = linearize(config, problem.X, problem.Y, problem.initial, flow, backend=k)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    expected = modes_host_bytes(config, sizes, flow)
    if not driven:
        monkeypatch.setattr(modes_module, "_driven_are_shorter", lambda *_: False)
    modes = leading_modes(jacobian, 6)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert modes.size > modes_module._SMALL
    taken = max(peaks)
    predicted = modes_bytes(config, sizes, k, flow)
    assert taken <= 1.01 * predicted
    assert not driven or predicted <= 1.3 * taken
    assert peak <= 1.05 * expected
    assert driven or expected <= 4 * peak


HARD = {
    "one sample, many neurons": ({"n": 1, "m": 300}, {}, "reaction"),
    "one sample, many outputs": ({"n": 1, "m": 100, "d_out": 10}, {}, "reaction"),
    "one input": ({"d_in": 1, "n": 40, "m": 150}, {}, "frozen"),
    "hidden layer alone": (
        {"d_in": 20, "n": 400, "m": 30, "d_out": 10},
        {"trainable": "U"},
        "reaction",
    ),
    "a third of all modes": ({"d_in": 20, "n": 40, "m": 24, "m_c": 20}, {"count": 180}, "frozen"),
    "zero weights": ({"m": 80, "n": 6, "zero": True}, {}, "frozen"),
}


@pytest.mark.parametrize("driven", ["as it chooses", "driven first"])
@pytest.mark.parametrize(("sizes", "keys", "flow"), HARD.values(), ids=HARD)
def test_where_driven_tangents_are_not_unique_enough(sizes, keys, flow, driven, monkeypatch):
    """Parts that stand for nothing grow until norms are rounding errors: noticed, and mended."""
    if driven == "driven first":
        monkeypatch.setattr(modes_module, "_driven_are_shorter", lambda *_: True)
    sizes, keys = dict(sizes), dict(keys)
    zero, count = sizes.pop("zero", False), keys.pop("count", 6)
    problem = random_problem(1, **sizes)
    if zero:
        problem.initial["U"][:] = 0.0
    jacobian = jacobian_of(problem, flow, **keys)
    modes = leading_modes(jacobian, count)
    matrix = JacobianProducts(jacobian).dense()
    expected = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    assert modes.size > modes_module._SMALL
    assert modes.scale <= 1.01 * np.abs(expected).max()
    assert modes.growth_rate == pytest.approx(expected[-1], abs=1e-6 * modes.scale)
    assert modes.residuals.max() <= 2.1e-4 * modes.scale
    rounding = 1e-13 * modes.size * modes.scale  # of the dense eigenvalues
    for value in modes.eigenvalues:
        assert np.abs(expected - value).min() <= 1.01 * modes.residuals.max() + rounding


def test_restarts_for_the_joint_flow_give_true_residuals(monkeypatch):
    monkeypatch.setattr(krylov, "_MOST_HELD", 40)
    problem = random_problem(3, d_in=12, n=30, m=40, m_c=20)
    jacobian = jacobian_of(problem, "joint")
    modes = leading_modes(jacobian, 6, accuracy=1e-6)
    assert modes.products > 60
    values = np.linalg.eigvals(JacobianProducts(jacobian).dense())
    expected = values[np.argsort(-values.real)][:6]
    assert len(modes.eigenvalues) == 6
    assert np.abs(modes.eigenvalues.real - expected.real).max() < 1e-4 * modes.scale
    assert modes.residuals.max() <= 2.1e-6 * modes.scale


def test_a_null_mode_found_by_krylov_is_one():
    """At Z = Y without diffusion 0 leads; its vector lies where driven tangents do not reach."""
    problem = random_problem(1, d_in=20, n=14, m=60)
    rest = rest_of(problem, steps=1000)
    assert rest.reached
    jacobian = jacobian_of(replace(problem, initial=dict(rest.weights)), "reaction")
    modes = leading_modes(jacobian, 1)
    driven = sum(int(np.prod(shape)) for shape in jacobian.driven_shapes.values())
    assert modes_module._driven_are_shorter(modes.size, driven)
    assert abs(modes.growth_rate) < 1e-10 * modes.scale
    assert modes.residuals.max() < 1e-8 * modes.scale
    assert np.linalg.norm(modes.vectors[:, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize("flow", FLOWS[:2])
def test_modes_of_symmetric_jacobians_are_orthogonal_however_rough(flow):
    """Those of Lanczos' method are, converged or not; Arnoldi's are to the accuracy alone."""
    problem = random_problem(12, d_in=30, n=40, m=60)
    modes = modes_of(problem, flow, 6, accuracy=1e-3)
    assert modes.size > modes_module._SMALL
    assert modes.residuals.max() > 1e-6 * modes.scale
    assert np.abs(modes.vectors.T @ modes.vectors - np.eye(6)).max() < 1e-11


def test_a_mode_whose_measured_residual_is_too_large_does_not_count(monkeypatch):
    measured = modes_module._with_residuals

    def worse(*arguments: Any) -> Any:
        found = measured(*arguments)
        found.residuals[1] = 1e-3 * found.scale
        return found

    monkeypatch.setattr(modes_module, "_with_residuals", worse)
    problem = random_problem(12, d_in=30, n=40, m=60)
    modes = modes_of(problem, "frozen", 4, accuracy=1e-4)
    assert modes.requested == 4
    assert len(modes.eigenvalues) == len(modes.residuals) == modes.vectors.shape[1] == 3
    assert modes.residuals.max() < 2e-4 * modes.scale


def test_where_the_residual_leaves_the_sign_open_there_is_no_verdict(rested):
    """Diffusion so weak that its leading rate lies below the residual."""
    frozen = rested.modes["frozen"]
    rates = np.array([0.5, -0.1]) * 1e-3 * frozen.scale
    small = {
        "eigenvalues": rates,
        "residuals": np.full(2, 1e-3 * frozen.scale),
        "tolerance": 1e-3 * frozen.scale,
    }
    open_sign = replace(frozen, **small)
    assert open_sign.undecided
    assert (open_sign.unstable, open_sign.marginal) == (0, 2)
    unknown = replace(rested, modes={**rested.modes, "frozen": open_sign})
    assert unknown.turing("frozen") is None
    assert unknown.stable_without is True
    unknown = replace(rested, modes={**rested.modes, "reaction": open_sign})
    assert unknown.stable_without is unknown.turing("frozen") is None


def test_linearizing_takes_the_weights_as_they_are():
    problem = random_problem(8)
    kept = {name: array.copy() for name, array in problem.initial.items()}
    modes = modes_of(problem, "joint", 2)
    assert same_bits(problem.initial, kept)
    lifted = modes.pattern(0)["U"].real
    basis = modes.basis
    assert relative_error(lifted @ basis @ basis.T, lifted) < 1e-12, "in the range of X"
