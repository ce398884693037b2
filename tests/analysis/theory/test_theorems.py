"""Theorems 1 and 2: kernels, constants, bounds, and what a report concludes and does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from support import random_problem

import prdsim
from prdsim.analysis.theory.bounds import (
    Constants,
    empirical_kernel,
    extreme_eigenvalues,
    limiting_kernel,
    paper_mu,
    residual_bound,
    theorem_1,
    theorem_2,
    theorem_constants,
)
from prdsim.analysis.theory.theorem_report import applied_scores, theorem_report
from prdsim.analysis.theory.verdicts import Course, Scores, TheoremReport, follow, judge_bounds
from prdsim.errors import ConfigError, DataError
from prdsim.physics.gradients import forward, tangent_kernel_product
from prdsim.physics.state import State


def units(n: int, d_in: int, seed: int = 0) -> np.ndarray:
    """Random unit inputs (d_in, n)."""
    X = np.random.default_rng(seed).standard_normal((d_in, n))
    return X / np.linalg.norm(X, axis=0)


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.array([np.cos(angles), np.sin(angles)])


def train(path: Path, **keys: Any) -> Path:
    """A run of the set-up; 8 inputs in 16 dimensions, wide enough that the premises hold."""
    rng = np.random.default_rng(5)
    data = (rng.standard_normal((8, 16)), rng.standard_normal((8, 1)))
    given = {"preset": "theory", "width": 2000, "critic_width": 30, "backend": "numpy"}
    time = {"integrator": "rk4", "step_size": 0.1, "steps": 60, "snapshots": "geometric:15"}
    time["scalars"] = "every:1"
    output = path / "run.h5"
    prdsim.run(data=data, output=str(output), force=True, **{**given, **time, **keys})
    return output


def report_of(path: Path, **options: Any) -> TheoremReport:
    with prdsim.open_trajectory(path) as trajectory:
        return theorem_report(trajectory, **options)


# -- kernels and constants -------------------------------------------------------------------------


def test_limiting_kernel_by_hand():
    """60 degrees: 1/2 (pi - pi/3) / (2 pi) = 1/6; opposite inputs never pass one mask together."""
    assert np.allclose(limiting_kernel(on_circle(0, 60)), [[1 / 2, 1 / 6], [1 / 6, 1 / 2]])
    # arccos(-1 + eps) is off by sqrt(2 eps) = 2e-8
    assert np.allclose(limiting_kernel(on_circle(10, 190)), np.eye(2) / 2, atol=1e-8)


def test_limiting_kernel_is_the_mean_of_the_empirical_one():
    """Entries are means of |x.y| times a Bernoulli variable: 5 standard errors, 2.5 / sqrt(m)."""
    X, m = units(6, 3), 40_000
    for scale in (0.1, 1.0):
        U = scale * np.random.default_rng(1).standard_normal((m, 3))
        assert np.max(np.abs(empirical_kernel(U, X) - limiting_kernel(X))) < 2.5 / np.sqrt(m)


def test_empirical_kernel_is_the_tangent_kernel_of_the_gradients():
    problem = random_problem(3, d_out=1, n=6, m=9)
    problem.initial["V"][:] = np.sign(problem.initial["V"])
    problem.initial["U"][2] = 0.0  # 1{0 >= 0} = 1
    model, state = problem.model(trainable="U")
    velocity = State.empty(model.backend, model.state_shapes, model.moving)
    columns = []
    for E in np.eye(6)[:, None, :]:
        forward(model, state)
        tangent_kernel_product(model, state, np.ascontiguousarray(E), velocity)
        columns.append(model.work.Z[0].copy())
    H = empirical_kernel(problem.initial["U"], problem.X)
    assert np.allclose(H, np.array(columns).T, rtol=1e-13, atol=1e-14)
    assert np.array_equal(H, H.T)


def test_eigenvalues_are_numpys():
    H = limiting_kernel(units(40, 12))
    wanted = np.linalg.eigvalsh(H)
    # Both are backward stable: n eps |H| apart.
    assert extreme_eigenvalues(H) == pytest.approx((wanted[0], wanted[-1]), abs=40 * 2e-16)


def test_constants_are_the_issues():
    X = units(7, 5)
    eigenvalues = np.linalg.eigvalsh(limiting_kernel(X))
    constants = theorem_constants(X, residual=3.0, m=50, mu=0.4)
    assert constants.lambda_0 == pytest.approx(eigenvalues[0])
    assert constants.lambda_1 == pytest.approx(2 * (eigenvalues[-1] + eigenvalues[0] / 2))
    assert constants.kappa == constants.lambda_1 / constants.lambda_0
    assert constants.growth_rate == constants.lambda_1 * 0.4
    assert constants.capacity == constants.kappa * 0.4
    assert (constants.residual, constants.n, constants.m) == (3.0, 7, 50)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_equal_inputs_leave_no_theorem(precision):
    X = units(6, 20).astype(precision)
    X[:, 4] = X[:, 1]
    with pytest.raises(DataError, match="no theorem: lambda_0") as caught:
        theorem_constants(X, residual=1.0, m=10)
    assert "inputs 1 and 4 are equal" in str(caught.value)


def test_opposite_inputs_are_harmless_until_their_directions_depend_on_each_other():
    harmless = on_circle(0, 180, 57, 237)
    assert theorem_constants(harmless, residual=1.0, m=10).lambda_0 > 0.2
    with pytest.raises(DataError, match="linearly dependent directions"):
        theorem_constants(on_circle(0, 60, 120, 180, 240, 300), residual=1.0, m=10)


def test_inputs_must_have_norm_1_to_rounding():
    X = units(5, 300)
    limiting_kernel(X)
    limiting_kernel(X.astype(np.float32))
    X[:, 3] *= 1 + 1e-9
    with pytest.raises(ConfigError, match=r"normalize: .* input 3 has norm 1; use --preset theory"):
        limiting_kernel(X)


# -- bounds ----------------------------------------------------------------------------------------

ABOVE = Constants(lambda_0=0.3, lambda_1=1.2, mu=0.2, residual=3.0, n=9, m=100)
BELOW = replace(ABOVE, mu=5.0)  # ||z(0) - y|| < kappa mu


@pytest.mark.parametrize("constants", [ABOVE, BELOW], ids=["above", "below"])
def test_theorem_2_is_the_integral_of_the_speed(constants):
    """(sqrt(n) rho(t) + mu) / sqrt(m) with rho of the Bernoulli equation; quad's own tolerance."""

    def speed(t: float) -> float:
        K, start = constants.capacity, constants.residual
        rho = K + (start - K) * np.exp(-constants.growth_rate * t / (2 * K))
        return float((3.0 * rho + constants.mu) / 10.0)

    times = np.array([0.0, 0.1, 3.0, 40.0])
    wanted = [quad(speed, 0.0, t)[0] for t in times]
    bound = theorem_2(constants, times)
    assert np.allclose(bound, wanted, rtol=1e-8)
    assert np.all(np.diff(bound) > 0)


def test_theorem_1_is_theorem_2_without_mu_and_saturates():
    constants = replace(ABOVE, mu=0.0)
    times = np.linspace(0, 200, 9)
    assert np.array_equal(theorem_1(ABOVE, times), theorem_2(constants, times))
    assert theorem_1(ABOVE, 200.0) == pytest.approx(2 * 3 * 3 / (10 * 0.3))
    assert theorem_1(ABOVE, times[:, None]).shape == (9, 1)


@pytest.mark.parametrize("constants", [ABOVE, BELOW], ids=["above", "below"])
@pytest.mark.parametrize("h", [0.01, 0.5, 20 / 3])
def test_bounds_of_euler_steps_are_their_recursion(constants, h):
    """rho <- (1 - lambda_0 h / 2) rho + h lambda_1 mu / 2, distances summed; 1e-12 for 50 terms."""
    rho, moved, distances = constants.residual, 0.0, [0.0]
    for _ in range(50):
        moved += h * (3.0 * rho + constants.mu) / 10.0
        contraction = 1 - constants.lambda_0 * h / 2
        rho = contraction * rho + (1 - contraction) * constants.capacity
        distances.append(moved)
    times = h * np.arange(51)
    assert np.allclose(theorem_2(constants, times, step_size=h), distances, rtol=1e-12)


def test_paper_mu_bounds_one_sum_of_random_signs_as_hoeffding_says():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((40, 1))
    signs = 2.0 * rng.integers(0, 2, (2000, 40)) - 1.0
    slopes = np.abs(signs @ np.where(W[:, 0] >= 0, W[:, 0], 0.0)) / np.sqrt(40)
    mu = paper_mu(W, 6, delta=0.2, diffusivity=0.5)
    assert mu == pytest.approx(0.5 * 6 * np.linalg.norm(W) * np.sqrt(2 * np.log(10) / 40))
    assert np.mean(0.5 * 6 * slopes > mu) < 0.2
    with pytest.raises(ConfigError, match="delta: must be between 0 and 1, got 0"):
        paper_mu(W, 6, delta=0)


# -- runs whose premises hold ----------------------------------------------------------------------

CRITIC = {"diffusion": True, "trainable": "U,W,a"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"integrator": "gd", "step_size": "auto"},
        {"precision": "float32"},
        {"diffusion": True, "diffusivity": 0.01},
        {**CRITIC, "diffusivity": 0.02},
        {**CRITIC, "diffusivity": 1.0},
        {**CRITIC, "integrator": "gd", "diffusivity": 1.0},
    ],
    ids=str,
)
def test_bounds_hold_for_every_neuron_at_every_time_where_the_premises_do(tmp_path, keys):
    path = train(tmp_path, **keys)
    report = report_of(path)
    judged, other = report.theorem_1, report.theorem_2
    if keys.get("diffusion"):
        judged, other = other, judged
    assert all(premise.holds.all() for premise in report.theorem_2.premises)
    assert judged.verdict.status == "holds"
    assert judged.verdict.text == "holds for every neuron, at every record to t = " + (
        f"{report.course.time[-1]:.4g}"
    )
    assert other.verdict.status == "does not apply"
    with prdsim.open_trajectory(path) as trajectory:
        changes = trajectory.U[:].astype(np.float64) - trajectory.U[0]
        distances = np.linalg.norm(changes, axis=2)
        largest = trajectory.scalars["distance_U_max"][trajectory.step]
        flips = trajectory.scalars["mask_flips"][trajectory.step]
        residuals, times = trajectory.scalars["residual_norm"], trajectory.scalars["time"]
        eps = float(np.finfo(trajectory.U.dtype).eps)
    assert np.all(distances <= judged.bound[:, None])
    assert np.all(distances[1:].max(axis=1) > 0.0)
    assert np.nanmin(judged.tightness) > 1.0
    # What the run has recorded of the same, from other coordinates: rounding of u, |u| < 10.
    assert np.allclose(report.course.distance, largest, atol=10 * eps)
    assert np.allclose(report.course.mask_flips, flips)
    assert report.constants.residual == pytest.approx(residuals[0], rel=100 * eps)
    allowed = residual_bound(report.constants, times)
    assert np.all(residuals[1:] <= allowed[1:])
    below = report.constants.residual < report.constants.capacity
    assert below == (keys.get("diffusivity") == 1.0), "both signs of the first term are tested"


def test_one_sample_moves_by_gd_as_far_as_euler_steps_allow_and_farther_than_the_flow():
    """n = 1: the first step is the bound itself; that of the flow is less by lambda_0 h / 4."""
    constants = Constants(0.5, 1.5, 0.0, 1.0, 1, 4)
    h, x = 0.4, np.array([[0.6], [0.8]])
    U = np.random.default_rng(0).standard_normal((4, 2))
    U[0] = x[:, 0]
    moved = U.copy()
    moved[0] += h / 2.0 * x[:, 0]
    course = follow([0.0, h], [U, moved], x)
    course = replace(course, lambda_min=np.full(2, 0.5), lambda_max=np.full(2, 0.5))
    none = Scores(np.zeros(1), np.zeros(1))
    steps = judge_bounds(constants, course, none, diffusion=False, step_size=h).theorem_1
    flow = judge_bounds(constants, course, none, diffusion=False).theorem_1
    assert steps.verdict.status == "holds"
    assert steps.tightness[1] == pytest.approx(1.0)
    assert flow.verdict.status == "violated"
    assert flow.tightness[1] == pytest.approx(1 - 0.5 * h / 4, rel=0.01)


# -- what is concluded, and what is not ------------------------------------------------------------

NO_SCORES = Scores(np.zeros(1), np.zeros(1))


def made_course(*, distance: float, count: int = 5) -> Course:
    """Times 0, 1, 2, ..., at which all premises of ABOVE hold; neuron 7 moves at constant speed."""
    times = np.arange(count, dtype=float)
    return Course(
        times,
        np.full(count, 0.2),
        np.full(count, 0.5),
        np.zeros(count),
        distance * times,
        np.full(count, 7),
        0.0,
    )


def test_a_planted_violation_is_found_with_its_time_and_neuron(tmp_path):
    with prdsim.open_trajectory(train(tmp_path)) as trajectory:
        snapshots, times = trajectory.U[:], trajectory.time
        report = theorem_report(trajectory)
        X = trajectory.data["X"]
    bound = report.theorem_1.bound
    for k in (9, 12):
        direction = snapshots[k, 321] - snapshots[0, 321]
        snapshots[k, 321] = snapshots[0, 321]
        snapshots[k, 321] += direction / np.linalg.norm(direction) * bound[k] * 1.001
    found = judge_bounds(report.constants, follow(times, snapshots, X), NO_SCORES, diffusion=False)
    verdict = found.theorem_1.verdict
    assert (verdict.status, verdict.time, verdict.neuron) == ("violated", times[9], 321)
    assert verdict.text.startswith(f"violated at t = {times[9]:.4g}, neuron 321: it moved ")


@pytest.mark.parametrize("diffusion", [False, True])
def test_no_conclusion_from_where_a_premise_fails_whatever_the_distances(diffusion):
    course = made_course(distance=0.5)
    course.distance[3:] = 1e9
    course.lambda_min[3] = 0.14
    report = judge_bounds(ABOVE, course, NO_SCORES, diffusion=diffusion)
    judged = report.theorem_2 if diffusion else report.theorem_1
    assert judged.verdict.status == "no conclusion"
    assert judged.verdict.judged_until == 2.0
    assert judged.verdict.text == (
        "no conclusion: premise lambda_min(H(t)) >= lambda_0 / 2 fails from t = 3 "
        "(the bound holds until t = 2)"
    )
    failing = report.theorem_2.premises[0]
    assert failing.fails_from == 3.0
    assert failing.holds.tolist() == [True, True, True, False, True]


def test_a_violation_before_a_premise_fails_counts():
    course = made_course(distance=50.0)
    course.lambda_min[3] = 0.14
    verdict = judge_bounds(ABOVE, course, NO_SCORES, diffusion=False).theorem_1.verdict
    assert (verdict.status, verdict.time, verdict.neuron) == ("violated", 1.0, 7)


def test_each_theorem_is_judged_by_its_own_premises_between_snapshots_too():
    """A large eigenvalue, a score above mu, and too large a step, each of which ends a judgment."""
    large = made_course(distance=0.1)
    large.lambda_max[1:] = 0.7
    assert (
        judge_bounds(ABOVE, large, NO_SCORES, diffusion=False).theorem_1.verdict.status == "holds"
    )
    scores = Scores(np.array([0.0, 1.5, 1.75, 4.0]), np.array([0.1, 0.1, 0.21, 0.1]))
    steps = {"diffusion": False, "step_size": 4.0}
    for judged, premise in (
        (
            judge_bounds(ABOVE, large, NO_SCORES, diffusion=True).theorem_2,
            "lambda_max(H(t)) <= lambda_1 / 2 fails from t = 1",
        ),
        (
            judge_bounds(ABOVE, made_course(distance=0.1), scores, diffusion=True).theorem_2,
            "D ||grad_z g||_1 <= mu fails from t = 1.75 (the bound holds until t = 1)",
        ),
        (
            judge_bounds(ABOVE, made_course(distance=0.0), NO_SCORES, **steps).theorem_1,
            "step_size (lambda_max(H(t)) + lambda_0 / 2) <= 2 fails from t = 0",
        ),
    ):
        assert judged.verdict.text == f"no conclusion: premise {premise}"


def test_a_narrow_run_gets_no_verdict(tmp_path):
    """With two neurons H(0) of eight samples has rank 4 at the most."""
    report = report_of(train(tmp_path, width=2))
    verdict = report.theorem_1.verdict
    assert verdict.status == "no conclusion"
    assert verdict.judged_until is None
    assert verdict.text == (
        "no conclusion: premise lambda_min(H(t)) >= lambda_0 / 2 fails from t = 0"
    )


def test_the_report_in_words_and_as_a_table(tmp_path):
    report = report_of(train(tmp_path, **CRITIC, width=300, steps=20))
    lines = report.lines()
    assert lines[0].startswith("n = 8, m = 300, ||z(0) - y|| = ")
    assert "which bounds the measured scores" in lines[2]
    assert lines[3] == ("premise lambda_min(H(t)) >= lambda_0 / 2: holds at every record to t = 2")
    assert "Theorem 1: does not apply: it is for runs without diffusion" in lines
    tightness = report.theorem_2.tightness
    assert lines[-3] == (
        "Theorem 2: holds for every neuron, at every record to t = 2; bound / largest distance "
        f"{np.nanmin(tightness):.3g} at the tightest, {tightness[-1]:.3g} at the end"
    )
    assert [line[:6] for line in lines[-2:]] == ["note: "] * 2
    assert {len(column) for column in report.columns().values()} == {len(report.course.time)}
    failing = report_of(train(tmp_path, width=2)).lines()
    assert failing[3] == "premise lambda_min(H(t)) >= lambda_0 / 2: fails from t = 0"
    assert failing[-4].endswith("fails from t = 0")


def test_snapshots_from_the_start_are_needed():
    with pytest.raises(DataError, match="from t = 0 on"):
        follow([1.0], [np.ones((2, 3))], units(4, 3))


# -- mu --------------------------------------------------------------------------------------------


def test_the_preset_records_densely_and_a_coarser_cadence_is_told(tmp_path):
    keys = {**CRITIC, "width": 300, "steps": 20}
    dense = prdsim.RunConfig(preset="theory").scalars
    fine = report_of(train(tmp_path, **keys, scalars=dense))
    assert np.array_equal(fine.scores.time, 0.05 * np.arange(41))  # 20 steps of 0.1
    assert fine.constants.mu == fine.scores.value.max()
    assert not any("measured at" in note for note in fine.notes)
    coarse = report_of(train(tmp_path, **keys, scalars="every:8"))
    assert any("mu was measured at 4 times of a run of 20 steps" in note for note in coarse.notes)
    assert coarse.constants.mu == fine.scores.value[[0, 16, 32, 40]].max()


def test_a_mu_of_ones_own_is_judged(tmp_path):
    report = report_of(train(tmp_path, **CRITIC, width=300, steps=20), mu=1e-3)
    assert report.constants.mu == 1e-3
    assert report.theorem_2.verdict.text.startswith(
        "no conclusion: premise D ||grad_z g||_1 <= mu fails from t = 0"
    )


def test_the_papers_mu_is_shown_beside_with_diffusion_alone(tmp_path):
    path = train(tmp_path, **CRITIC, width=300, steps=20, diffusivity=0.5)
    report = report_of(path)
    with prdsim.open_trajectory(path) as trajectory:
        wanted = paper_mu(trajectory.W[0], 8, diffusivity=0.5)
    assert report.paper_mu == wanted
    assert report.paper_mu_bounds is (wanted >= report.constants.mu)
    without = report_of(train(tmp_path, width=300, steps=20))
    assert (without.paper_mu, without.paper_mu_bounds, without.constants.mu) == (None, None, 0.0)


@pytest.mark.parametrize("scalars", ["every:1", "times:every:0.05"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_replayed_scores_are_those_that_moved_u(tmp_path, backend, scalars):
    """By gd: the critic after its updates, at the predictions before the step."""
    keys = {**CRITIC, "integrator": "gd", "width": 40, "steps": 12, "diffusivity": 0.7}
    keys |= {"critic_step_size": 0.01, "penalty_points": "random", "critic_warmup": 0.3}
    keys |= {"snapshots": "every:1", "scalars": scalars, "backend": backend, "threads": 1}
    path = train(tmp_path, **keys)
    with prdsim.open_trajectory(path) as trajectory:
        X, time = trajectory.data["X"], trajectory.time
        wanted = []
        for k in range(12):
            U, V = trajectory.U[k], trajectory.V[k]
            W, a = trajectory.W[k + 1], trajectory.a[k + 1]
            z = V @ np.maximum(U @ X, 0) / np.sqrt(40)
            G = W.T @ (a[:, None] * (W @ z >= 0)) / np.sqrt(30)
            wanted.append(0.7 * np.abs(G).sum())
        scores = applied_scores(trajectory)
        report = theorem_report(trajectory, replay=True)
    # Sums of 40 and 30 products each.
    assert np.allclose(scores.value, wanted, rtol=1e-12)
    assert np.allclose(scores.time, time[:12], rtol=1e-15)
    assert report.constants.mu == scores.value.max()
    assert not any("replay" in note for note in report.notes)
    assert any("replay measures those used" in note for note in report_of(path).notes)


def test_flows_are_not_replayed(tmp_path):
    path = train(tmp_path, **CRITIC, width=40, steps=5)
    with pytest.raises(ConfigError, match="integrator: rk4 moves U by the scores of its states"):
        report_of(path, replay=True)


# -- the set-up ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trainable": "U,V"}, "trainable: the theorems need V fixed and U trainable, not U,V"),
        ({"trainable": "W,a", "diffusion": True}, "trainable: the theorems need V fixed"),
        ({"output_init": "normal"}, "output_init: the theorems need every v_j to be 1 or -1"),
        ({"normalize": "none"}, "normalize: the theorems need inputs of norm 1"),
        ({"target": "inputs"}, "target: the theorems need one output, not 16"),
    ],
    ids=str,
)
def test_another_set_up_is_refused_by_its_key(tmp_path, keys, message):
    path = train(tmp_path, width=20, steps=2, **keys)
    with pytest.raises(ConfigError) as caught:
        report_of(path)
    assert str(caught.value).startswith(message)
    assert "--preset theory" in str(caught.value)


def test_samples_that_neither_the_file_nor_a_source_holds_are_an_error(tmp_path):
    with pytest.raises(DataError, match="arrays"):  # data given as arrays have no source to ask
        report_of(train(tmp_path, width=20, steps=2, store_data=False))
