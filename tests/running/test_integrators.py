"""Tableaus, order, parity between backends, and what moves and what does not."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from oracle import equations
from oracle.losses import predictions
from scipy.integrate import solve_ivp
from support import (
    ADAPTIVE,
    BACKENDS,
    INTEGRATORS,
    Problem,
    in_pairs,
    random_problem,
    relative_error,
    same_bits,
    smooth_problem,
)

from prdsim.config import RunConfig
from prdsim.physics.charts import CHARTS
from prdsim.physics.randomness import Stream, uniforms
from prdsim.running.integrators import make_stepper
from prdsim.running.runge_kutta import RungeKutta
from prdsim.running.step_control import Controller
from prdsim.running.stepper import beside
from prdsim.running.tableaux import TABLEAUX
from prdsim.symbols import ARRAYS

# As stated; whether they hold is measured below.
ORDERS = {name: make_stepper(RunConfig(integrator=name)).order for name in INTEGRATORS}
FLOWS = [name for name in INTEGRATORS if name != "gd"]
flows = pytest.mark.parametrize("name", FLOWS)
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)
adaptives = pytest.mark.parametrize("integrator", ADAPTIVE)


# -- tableaus --------------------------------------------------------------------------------------


def rational(weights: tuple[float, ...]) -> list[Fraction]:
    """The fractions that the weights are the nearest floats to."""
    fractions = [Fraction(weight).limit_denominator(400_000) for weight in weights]
    assert [float(fraction) for fraction in fractions] == list(weights)
    return fractions


def stages(name: str) -> tuple[list[list[Fraction]], list[Fraction]]:
    """The matrix of a tableau, square, and its nodes c."""
    rows = [rational(row) for row in TABLEAUX[name].a]
    full = [row + [Fraction(0)] * (len(rows) - len(row)) for row in rows]
    return full, [sum(row, Fraction(0)) for row in full]


def order_conditions(A: Any, b: Any, c: Any) -> list[tuple[Fraction, Fraction, int]]:
    """The (left side, right side, order) of all conditions up to order 5 (Butcher's trees)."""

    def times(x: Any) -> list[Fraction]:
        return [sum((a * x_j for a, x_j in zip(row, x, strict=True)), Fraction(0)) for row in A]

    def product(*factors: Any) -> list[Fraction]:
        entries = [Fraction(1)] * len(c)
        for factor in factors:
            entries = [e * f for e, f in zip(entries, factor, strict=True)]
        return entries

    Ac, Ac2, Ac3 = times(c), times(product(c, c)), times(product(c, c, c))
    AAc, AAc2 = times(Ac), times(Ac2)
    trees = [
        ([Fraction(1)] * len(c), 1, 1),
        (c, 2, 2),
        (product(c, c), 3, 3),
        (Ac, 6, 3),
        (product(c, c, c), 4, 4),
        (product(c, Ac), 8, 4),
        (Ac2, 12, 4),
        (AAc, 24, 4),
        (product(c, c, c, c), 5, 5),
        (product(c, c, Ac), 10, 5),
        (product(c, Ac2), 15, 5),
        (product(c, AAc), 30, 5),
        (product(Ac, Ac), 20, 5),
        (Ac3, 20, 5),
        (times(product(c, Ac)), 40, 5),
        (AAc2, 60, 5),
        (times(AAc), 120, 5),
    ]
    return [
        (
            sum((w * x for w, x in zip(b, tree, strict=True)), Fraction(0)),
            Fraction(1, density),
            order,
        )
        for tree, density, order in trees
    ]


def satisfied_order(A: Any, b: Any, c: Any) -> int:
    failed = [order for left, right, order in order_conditions(A, b, c) if left != right]
    return min(failed, default=6) - 1


@flows
def test_weights_satisfy_exactly_the_order_conditions_of_their_order(name):
    A, c = stages(name)
    assert satisfied_order(A, rational(TABLEAUX[name].b), c) == TABLEAUX[name].order


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_error_weights_belong_to_an_embedded_method_of_the_stated_order(name):
    tableau = TABLEAUX[name]
    A, c = stages(name)
    embedded = [
        (b - Fraction(e)).limit_denominator(400_000)
        for b, e in zip(rational(tableau.b), tableau.error, strict=True)
    ]
    assert satisfied_order(A, embedded, c) == tableau.error_order == tableau.order - 1
    # The weights were subtracted in floats: 2 eps of numbers below 1.
    assert abs(sum(tableau.error)) < 1e-15


@flows
def test_first_same_as_last_means_that_the_last_stage_is_the_solution(name):
    tableau = TABLEAUX[name]
    assert tableau.first_same_as_last == ((*tableau.a[-1], 0.0) == tableau.b)
    assert [len(row) for row in tableau.a] == list(range(len(tableau.b)))


def test_coefficients_of_dormand_prince_are_those_scipy_has():
    from scipy.integrate import RK45

    tableau = TABLEAUX["dopri5"]
    assert np.allclose(tableau.b[:-1], RK45.B, rtol=1e-15, atol=0)
    assert np.allclose(np.abs(tableau.error), np.abs(RK45.E), rtol=0, atol=1e-15)
    dense = [row or (0.0,) * 4 for row in tableau.dense]
    assert np.allclose(dense, RK45.P, rtol=1e-15, atol=0)
    assert RK45.P.shape == (7, 4)


# -- order -----------------------------------------------------------------------------------------

END = 0.3
RATE, DIFFUSIVITY, PENALTY = 0.8, 0.5, 1.0


def oracle_velocity(problem: Problem) -> Any:
    """The joint flow as a function of one vector, in scalar loops."""
    shapes = [problem.initial[name].shape for name in ARRAYS]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    data = problem.lists

    def unpack(y: np.ndarray) -> list[Any]:
        parts = np.split(y, ends[:-1])
        return [part.reshape(shape).tolist() for part, shape in zip(parts, shapes, strict=True)]

    def velocity(_: float, y: np.ndarray) -> np.ndarray:
        rows = equations.joint_velocity(
            *unpack(y),
            data["X"],
            data["Y"],
            diffusivity=DIFFUSIVITY,
            critic_rate=RATE,
            penalty=PENALTY,
        )
        return np.concatenate([np.ravel(part) for part in rows])

    def open_gates(y: np.ndarray) -> np.ndarray:
        U, V, W, _ = unpack(y)
        e = [0.5] * len(data["Y"])
        return np.array(equations.pre_activations(U, V, W, data["X"], data["Y"], e)) >= 0.0

    return velocity, open_gates


def pack(weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([weights[name].ravel() for name in ARRAYS])


@pytest.fixture(scope="module")
def reference():
    """The solution of the oracle's flow at END, on an interval without a single kink.

    DOP853, of order 8, at a tolerance of 1e-13 in few steps is correct to about 1e-12: errors
    measured against it stay ten times larger.
    """
    problem = smooth_problem()
    velocity, open_gates = oracle_velocity(problem)
    start = pack(problem.initial)
    solution = solve_ivp(
        velocity, (0.0, END), start, "DOP853", rtol=1e-13, atol=1e-13, dense_output=True
    )
    for time in np.linspace(0.0, END, 101):
        assert np.array_equal(open_gates(solution.sol(time)), open_gates(start)), time
    moved = np.linalg.norm(solution.y[:, -1] - start) / np.linalg.norm(start)
    assert moved > 0.1, "an interval in which nothing happens shows nothing"
    return problem, solution.y[:, -1], open_gates


def begun(problem: Problem, name: str, backend: str = "numpy") -> Any:
    """Model, state, stepper and its memory, at t = 0 of the flow that the oracle has."""
    keys = {"integrator": name, "diffusivity": DIFFUSIVITY, "gradient_penalty": PENALTY}
    keys |= {"critic_rate": RATE, "critic_steps": 2, "penalty_points": "midpoint"}
    model, state = problem.model(backend, **keys)
    stepper = make_stepper(problem.config(**keys))
    return model, state, stepper, stepper.allocate(model, state)


def stepped(model: Any, state: Any, stepper: Any, memory: Any, index: int, h: float) -> Any:
    """The state after a step, whatever its error."""
    if not stepper.adaptive:
        assert stepper.advance(model, state, memory, index=index, step_size=h) == 1
        return state
    new, _ = stepper.attempt(model, state, memory, step_size=h)
    stepper.accept(state, new, memory)
    return new


def run_fixed(problem: Problem, name: str, steps: int, open_gates: Any) -> np.ndarray:
    """Take steps of END / steps without error control; return U, V, W, a as one vector."""
    model, state, stepper, memory = begun(problem, name)
    gates = open_gates(pack(problem.initial))
    for index in range(steps):
        state = stepped(model, state, stepper, memory, index, END / steps)
        assert np.array_equal(open_gates(pack(model.weights(state))), gates), index
    return pack(model.weights(state))


_BY_ORDER = {1: (100, 200, 400), 2: (32, 64, 128), 3: (32, 64, 128)}
STEPS = {name: _BY_ORDER.get(order, (16, 32, 64)) for name, order in ORDERS.items()}


@integrators
def test_the_stepper_is_the_one_that_was_asked_for(integrator):
    assert make_stepper(RunConfig(integrator=integrator)).name == integrator


@integrators
def test_solution_error_has_the_nominal_order(reference, integrator):
    problem, exact, open_gates = reference
    errors = [
        float(np.linalg.norm(run_fixed(problem, integrator, steps, open_gates) - exact))
        for steps in STEPS[integrator]
    ]
    assert min(errors) > 1e-11, "errors of the reference would show"
    sizes = [END / steps for steps in STEPS[integrator]]
    assert orders(errors, sizes) == pytest.approx([ORDERS[integrator]] * 2, abs=0.2), errors


# -- states within a step --------------------------------------------------------------------------


def run_into_a_step(
    problem: Problem, backend: str, name: str, steps: int, h: float, fraction: float
) -> np.ndarray:
    """The state at a fraction of the last of so many steps."""
    model, state, stepper, memory = begun(problem, name, backend)
    within = beside(model, state)
    with model.backend.active():
        for index in range(steps):
            if not stepper.adaptive:
                stepper.remember(model, state, memory)
            state = stepped(model, state, stepper, memory, index, h)
        stepper.interpolate(model, state, memory, fraction=fraction, step_size=h, out=within)
        return pack(model.weights(within))


def orders(errors: list[float], sizes: list[float]) -> list[float]:
    """The exponents of the step size between neighbors."""
    assert min(errors) > 1e-12, "errors of the reference would show"
    steps = zip(pairwise(errors), pairwise(sizes), strict=True)
    return [float(np.log(e[0] / e[1]) / np.log(h[0] / h[1])) for e, h in steps]


@in_pairs(integrator=INTEGRATORS, backend=BACKENDS, fraction=(0.3, 0.65))
def test_states_within_a_step_have_the_order_of_the_interpolant(
    reference, integrator, backend, fraction
):
    """Of one step from the exact state: an error of order q + 1, as a step of order q makes it."""
    problem, _, _ = reference
    velocity, _ = oracle_velocity(problem)
    first = {"gd": 16, "heun": 16, "dopri5": 24}.get(integrator, 32)
    sizes, errors = [END / (first * 2**i) for i in range(3)], []
    for h in sizes:
        exact = solve_ivp(
            velocity, (0.0, fraction * h), pack(problem.initial), "DOP853", rtol=1e-13, atol=1e-13
        ).y[:, -1]
        computed = run_into_a_step(problem, backend, integrator, 1, h, fraction)
        errors.append(float(np.linalg.norm(computed - exact)))
    stated = make_stepper(problem.config(integrator=integrator)).dense_order
    assert orders(errors, sizes) == pytest.approx([1 + stated] * 2, abs=0.2), errors


@flows
def test_memory_for_the_velocity_at_the_end_is_taken_where_it_is_needed(name):
    """For states within steps, unless the last stage is that velocity."""
    problem = random_problem(1)
    for end, needed in (({"steps": 1}, False), ({"end_time": 1.0}, True)):
        keys = {"integrator": name, "end_time": None, **end}
        memory = make_stepper(problem.config(**keys)).allocate(*problem.model(**keys))
        within = needed and not TABLEAUX[name].first_same_as_last
        assert (memory.last is not None) == within


@integrators
@pytest.mark.parametrize("fraction", [0.3, 0.65])
def test_states_within_steps_are_as_good_as_those_at_their_ends(reference, integrator, fraction):
    """The interpolant's error arises once, a step's in every step: the nominal order remains."""
    problem, exact, _ = reference
    counts = STEPS[integrator]
    sizes = [END / (steps - 1 + fraction) for steps in counts]
    errors = [
        float(np.linalg.norm(run_into_a_step(problem, "numpy", integrator, n, h, fraction) - exact))
        for n, h in zip(counts, sizes, strict=True)
    ]
    assert orders(errors, sizes) == pytest.approx([ORDERS[integrator]] * 2, abs=0.2), errors


@integrators
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_interpolant_meets_both_ends_of_its_step(reference, integrator, backend):
    """Some 10 roundings of the state, and as much as it moves in 1e-13 of a step."""
    problem, _, _ = reference
    h = END / 16
    start = pack(problem.initial)
    end = run_fixed(problem, integrator, 16, reference[2])
    keys = (problem, backend, integrator)
    assert relative_error(run_into_a_step(*keys, 1, h, 1e-13), start) < 1e-14
    assert relative_error(run_into_a_step(*keys, 16, h, 1 - 1e-13), end) < 1e-14


@flows
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_the_weights_of_the_interpolant_sum_to_the_fraction(name, fraction):
    """What moves uniformly is met exactly; at the end of the step they are the method's own."""
    tableau = TABLEAUX[name]
    weights = tableau.interpolant(fraction)
    assert len(weights) == len(tableau.b) + (not tableau.first_same_as_last)
    # dopri5's are sums of 28 numbers below 6, each rounded to eps / 2 of itself.
    assert sum(weights) == pytest.approx(fraction, rel=0, abs=2e-14)
    if fraction in (0.0, 1.0):
        ends = [fraction * b for b in tableau.b]
        assert weights == pytest.approx([*ends, *([0.0] * (len(weights) - len(ends)))], abs=1e-14)


def balances(problem: Problem, y: np.ndarray) -> np.ndarray:
    """||u_j||^2 - ||v_j||^2 and ||w_r||^2 - a_r^2."""
    shapes = [problem.initial[name].shape for name in ARRAYS]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = zip(np.split(y, ends), shapes, strict=True)
    U, V, W, a = (part.reshape(shape) for part, shape in parts)
    return np.concatenate([(U**2).sum(1) - (V**2).sum(0), (W**2).sum(1) - a**2])


@integrators
def test_invariants_drift_at_least_at_the_nominal_order(reference, integrator):
    """Some methods do better: their leading error term keeps quadratic invariants."""
    problem, _, open_gates = reference
    start = balances(problem, pack(problem.initial))
    drifts = []
    for steps in STEPS[integrator]:
        end = balances(problem, run_fixed(problem, integrator, steps, open_gates))
        drifts.append(abs(end - start).reshape(-1))
    generator = slice(0, problem.initial["U"].shape[0])
    critic = slice(generator.stop, None)
    for part in (generator, critic):
        worst = [drift[part].max() for drift in drifts]
        for coarse, fine in pairwise(worst):
            if fine > 1e-13:  # below, rounding: about 100 operations on numbers near 10
                assert np.log2(coarse / fine) > ORDERS[integrator] - 0.2, worst
        assert worst[0] > 1e-12, "nothing was measured"


# -- the algorithm of gd, literally ----------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_gd_is_the_published_algorithm(backend):
    """A warm-up at the first Z, then in each step critic updates at a fixed Z and one Euler step.

    The warm-up's updates have numbers of their own within step 0, and as many as eta is contained
    in its time at `critic_rate`. Eight gradients are chained; each is good to 1e-13 and no mask is
    near a kink: 1e-12.
    """
    problem = random_problem(3)
    h, eta, updates, warmup, penalty, D, seed = 0.05, 0.02, 2, 3, 10.0, 0.7, 4
    data = problem.lists
    U, V, W, a = (np.array(data[name]) for name in ARRAYS)
    for step in range(2):
        Z = predictions(U.tolist(), V.tolist(), data["X"])
        extra = range(updates, updates + warmup) if step == 0 else ()
        for update in (*extra, *range(updates)):
            e = uniforms(seed, Stream.PENALTY_POINTS, step, update, len(Z)).tolist()
            dW, da = equations.critic_gradients(W.tolist(), a.tolist(), Z, data["Y"], e, penalty)
            W, a = W - eta * np.array(dW), a - eta * np.array(da)
        parts = equations.generator_velocities(
            U.tolist(), V.tolist(), W.tolist(), a.tolist(), data["X"], data["Y"]
        )
        U = U + h * (np.array(parts.reaction_U) + D * np.array(parts.diffusion_U))
        V = V + h * (np.array(parts.reaction_V) + D * np.array(parts.diffusion_V))

    keys = {"integrator": "gd", "penalty_points": "random", "critic_steps": updates}
    keys |= {"step_size": h, "diffusivity": D, "seed": seed}
    explicit = {"critic_step_size": eta, "critic_warmup": warmup * eta}
    rate = updates * eta / h  # of which the same size of an update follows
    for given in (explicit, {"critic_rate": rate, "critic_warmup": warmup * eta / rate}):
        with problem.simulation(backend, **keys, **given) as simulation:
            assert simulation.resolved.critic_rate == pytest.approx(rate, rel=1e-15)
            simulation.advance(2)
            weights = simulation.weights()
        for name, expected in zip(ARRAYS, (U, V, W, a), strict=True):
            assert relative_error(weights[name], expected) < 1e-12, name


def test_a_step_of_gd_is_one_euler_step():
    """Stable up to h lambda = 2, where |1 - h lambda| = 1."""
    stepper = make_stepper(RunConfig(integrator="gd"))
    assert (stepper.order, stepper.evaluations, stepper.stability_limit) == (1, 1, 2.0)


@pytest.mark.parametrize(("critic_steps", "size"), [(0, 1.5), (1, 1.5), (2, 0.75)])
def test_updates_of_the_critic_divide_the_step_of_gd(critic_steps, size):
    stepper = make_stepper(RunConfig(integrator="gd", critic_steps=critic_steps, critic_rate=3.0))
    assert stepper.critic_update_size(0.5) == size


@pytest.mark.parametrize("updates", [0, 1])
def test_gd_without_critic_steps_leaves_the_critic_alone(updates):
    problem = random_problem(3)
    with problem.simulation(integrator="gd", critic_steps=updates) as simulation:
        simulation.advance(3)
        moved = not np.array_equal(simulation.weights()["W"], problem.initial["W"])
    assert moved == (updates > 0)


# -- what moves and what does not ------------------------------------------------------------------


@in_pairs(
    integrator=INTEGRATORS, backend=BACKENDS, trainable=("U", "V", "U,V", "W,a", "U,a", "V,W", "W")
)
def test_frozen_arrays_keep_their_bits_and_the_others_move(integrator, backend, trainable):
    problem = random_problem(6)
    with problem.simulation(backend, integrator=integrator, trainable=trainable) as simulation:
        simulation.advance(3)
        weights = simulation.weights()
    for name in ARRAYS:
        frozen = weights[name].tobytes() == problem.initial[name].tobytes()
        assert frozen == (name not in trainable.split(",")), name


@integrators
@pytest.mark.parametrize("keys", [{"diffusion": False}, {"diffusivity": 0.0}], ids=str)
def test_without_diffusion_the_critic_stays_where_it_is(integrator, keys):
    problem = random_problem(6)
    with problem.simulation(integrator=integrator, **keys) as simulation:
        simulation.advance(3)
        weights = simulation.weights()
        row = simulation.observe()
    for name in ("W", "a"):
        assert weights[name].tobytes() == problem.initial[name].tobytes()
    assert row["diffusion_norm_U"] == row["diffusion_norm_V"] == 0.0
    assert row["loss_aug"] == row["loss_sup"]
    assert np.linalg.norm(weights["U"] - problem.initial["U"]) > 1e-3


def test_a_frozen_partner_does_not_change_how_the_others_move_in_the_first_gd_step():
    """Freezing U leaves dV/dt as it was (and the other way round)."""
    problem = random_problem(6)
    weights = {}
    for trainable in ("U,V,W,a", "U,W,a", "V,W,a"):
        with problem.simulation(integrator="gd", trainable=trainable) as simulation:
            simulation.advance()
            weights[trainable] = simulation.weights()
    assert np.array_equal(weights["U,V,W,a"]["U"], weights["U,W,a"]["U"])
    assert np.array_equal(weights["U,V,W,a"]["V"], weights["V,W,a"]["V"])


# -- parity ----------------------------------------------------------------------------------------


def trajectories(problem: Problem, steps: int, **keys: Any) -> list[dict[str, np.ndarray]]:
    weights = []
    for backend in BACKENDS:
        with problem.simulation(backend, steps=steps, **keys) as simulation:
            simulation.advance(steps)
            assert simulation.step == steps
            weights.append(simulation.weights())
    return weights


def assert_close(left: dict[str, Any], right: dict[str, Any], tolerance: float) -> None:
    for name in ARRAYS:
        assert relative_error(left[name], right[name]) <= tolerance, name


@in_pairs(integrator=INTEGRATORS, critic=("wgan-gp", "minimax"), penalty=(10.0, 0.0))
def test_one_step_is_the_same_on_numpy_and_numba(integrator, critic, penalty):
    """1e-12 relative: both differ only in the order of sums (20 products: 4e-15 each time)."""
    problem = random_problem(20, d_in=20, n=17, m=19, m_c=13)
    keys = {"integrator": integrator, "critic": critic, "gradient_penalty": penalty}
    assert_close(*trajectories(problem, 1, **keys), 1e-12)


@integrators
@pytest.mark.parametrize("critic", ["wgan-gp", "minimax"])
def test_fifty_steps_are_the_same_on_numpy_and_numba(integrator, critic):
    """1e-10 relative: 50 steps of 1e-14, and room for growth by 200 while masks agree.

    Of adaptive steps, whose size would follow the growth, an error estimate at rtol = 1e-3 leaves
    eps / rtol of its digits wrong: 2e-13 of a step size, within the same room.
    """
    problem = random_problem(20, d_in=20, n=17, m=19, m_c=13)
    keys = {"integrator": integrator, "critic": critic, "step_size": 0.01}
    keys |= {"critic_rate": 0.5}  # minimax sums over samples: 5 would diverge
    assert_close(*trajectories(problem, 50, **keys), 1e-10)


@pytest.mark.parametrize(
    "sizes", [{"d_out": 1}, {"n": 1}, {"m": 1}, {"m_c": 1}, {"d_in": 1}], ids=str
)
@integrators
def test_sizes_of_one_are_the_same_on_numpy_and_numba(integrator, sizes):
    """An adaptive step size has the digits of its error estimate, at times 1e-4 of rtol here."""
    problem = random_problem(21, **sizes)
    tolerance = 1e-10 if integrator in ADAPTIVE else 1e-14
    assert_close(*trajectories(problem, 5, integrator=integrator, step_size=0.002), tolerance)


@pytest.mark.parametrize("integrator", ["gd", "bs23"])
def test_parity_in_parallel_loops(integrator):
    """Arrays above Numba's threshold for threads; sums of 400 products: 400 eps = 9e-14 a step."""
    problem = random_problem(22, d_in=5, n=400, m=400, m_c=400)
    weights = []
    for backend in BACKENDS:
        keys = {"threads": 2, "step_size": 1e-3, "integrator": integrator}
        with problem.simulation(backend, **keys) as simulation:
            simulation.advance(2)
            weights.append(simulation.weights())
    assert_close(*weights, 1e-12)


@integrators
@pytest.mark.parametrize("critic", ["wgan-gp", "minimax"])
def test_float32_stays_within_its_own_rounding_of_float64(integrator, critic):
    """One step in float32 against float64, on both backends, and on each other.

    X, Y and the state are rounded (eps/2 each, eps = 1.2e-7), then every entry is a chain of at
    most four sums of 20 products, each within 20 eps: an increment is wrong by at most 100 eps of
    itself, with at most 7 chained increments of the size of the state or below: 1000 eps.
    """
    problem = random_problem(20, d_in=20, n=17, m=19, m_c=13)
    keys = {"integrator": integrator, "critic": critic, "step_size": 0.002}
    bound = 1000 * float(np.finfo(np.float32).eps)
    exact, _ = trajectories(problem, 1, **keys)
    single = trajectories(problem, 1, precision="float32", **keys)
    for weights in single:
        assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
        assert_close(weights, exact, bound)
    assert_close(*single, bound)
    assert relative_error(single[0]["U"], exact["U"]) > 1e-9, "this was not computed in float32"


# -- error control ---------------------------------------------------------------------------------


def test_controller_keeps_a_step_whose_error_is_as_wanted():
    """Factor 0.9 at error 1 after error 1; larger for smaller errors, within its limits."""
    controller = Controller(error_order=4)
    assert controller.factor(1.0, 1.0) == pytest.approx(0.9)
    factors = [controller.factor(error, 1.0) for error in (1.0, 0.1, 0.01, 0.0)]
    assert factors == sorted(factors)
    assert factors[-1] == controller.largest
    assert controller.factor(1.0, 1e-30) == controller.smallest
    # 0.9 error^(-0.7/10) previous^(0.4/10)
    assert Controller(9).factor(2.0**-10, 2.0**-20) == pytest.approx(0.9 * 2.0 ** (0.7 - 0.8))


def test_controller_shrinks_after_every_rejection():
    controller = Controller(error_order=2)
    for error in (1.0 + 1e-12, 2.0, 1e6, float("inf"), float("nan")):
        assert controller.smallest <= controller.factor_after_rejection(error) < 1.0
    assert controller.factor_after_rejection(float("nan")) == controller.smallest
    assert controller.factor_after_rejection(8.0) == pytest.approx(0.9 / 2)  # 8^(1/3)


def test_the_share_of_the_solution_leaves_the_first_and_last_stage_alone():
    """error - alpha b is zero in between: what the image of an error in the Gram chart rests on."""
    shares = {name: tableau.solution_share for name, tableau in TABLEAUX.items()}
    assert shares == {"heun": None, "rk4": None, "bs23": 1 / 4, "dopri5": None}
    rest = [e - w / 4 for e, w in zip(TABLEAUX["bs23"].error, TABLEAUX["bs23"].b, strict=True)]
    assert rest == pytest.approx([-1 / 8, 0.0, 0.0, -1 / 8], abs=1e-16)


@pytest.mark.parametrize("moving", ["U", "U,V,W,a"])
@pytest.mark.parametrize("chart", CHARTS)
@adaptives
def test_error_estimate_is_the_documented_norm(integrator, chart, moving):
    """The largest over arrays of ||e||_F / (atol sqrt(size) + rtol ||X||_F), from the oracle.

    In every chart, of a first attempt and of one after a rejected one; of all arrays it is not
    that of U, whose norm depends on the chart.
    """
    problem = smooth_problem()
    velocity, _ = oracle_velocity(problem)
    tableau, h, rtol, atol = TABLEAUX[integrator], 0.3, 1e-3, 1e-2
    start = pack(problem.initial)
    moves = pack({n: np.full_like(x, n in moving.split(",")) for n, x in problem.initial.items()})
    ks: list[np.ndarray] = []
    for row in tableau.a:
        stage = start + h * sum(c * k for c, k in zip(row, ks, strict=False))
        ks.append(velocity(0.0, stage) * moves)
    error = h * sum(c * k for c, k in zip(tableau.error, ks, strict=True))
    new = start + h * sum(c * k for c, k in zip(tableau.b, ks, strict=True))
    ends = np.cumsum([problem.initial[name].size for name in ARRAYS])[:-1]
    expected = max(
        np.linalg.norm(e) / (atol * np.sqrt(e.size) + rtol * np.linalg.norm(x))
        for e, x in zip(np.split(error, ends), np.split(new, ends), strict=True)
    )
    keys = {"diffusivity": DIFFUSIVITY, "gradient_penalty": PENALTY, "critic_rate": RATE}
    model, state = problem.model(integrator=integrator, chart=chart, trainable=moving, **keys)
    stepper = RungeKutta(tableau, rtol, atol)
    memory = stepper.allocate(model, state)
    _, norm = stepper.attempt(model, state, memory, step_size=h)
    stepper.attempt(model, state, memory, step_size=2.0 * h)
    _, again = stepper.attempt(model, state, memory, step_size=h)
    assert again == norm
    assert memory.images is None or memory.images.valid  # computed once
    # The estimate is a difference of nearly equal sums: 7 stages, each good to 1e-14 of |h k|.
    cancellation = 1e-13 * h * max(np.abs(k).max() for k in ks) / atol
    assert norm == pytest.approx(expected, rel=1e-9, abs=cancellation)


@adaptives
@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("bad", ["U", "V", "W", "a"])
def test_a_step_that_is_not_finite_is_never_within_tolerance(integrator, bad, chart):
    """Whichever array goes wrong: NaN in one must not be lost beside small errors of others."""
    problem = smooth_problem()
    # U alone, since others move by it: the error of their velocities would be NaN too.
    keys = {"integrator": integrator, "chart": chart, "trainable": bad if bad == "U" else "U,V,W,a"}
    model, state = problem.model(**keys)
    stepper = make_stepper(problem.config(**keys))
    memory = stepper.allocate(model, state)
    stepper.attempt(model, state, memory, step_size=1e-3)
    getattr(memory.stages[0], bad)[...] = np.nan  # its velocity, and nothing else
    with model.backend.active():
        _, error = stepper.attempt(model, state, memory, step_size=1e-3)
    assert not error <= 1.0


@adaptives
def test_without_an_absolute_tolerance_arrays_that_are_zero_allow_no_error(integrator):
    problem = smooth_problem()
    for name in "Wa":
        problem.initial[name][:] = 0.0  # and stay so
    model, state = problem.model(integrator=integrator)
    stepper = RungeKutta(TABLEAUX[integrator], rtol=1e-3, atol=0.0)
    memory = stepper.allocate(model, state)
    _, error = stepper.attempt(model, state, memory, step_size=1e-3)
    assert error == float("inf")


@adaptives
@pytest.mark.parametrize("backend", BACKENDS)
def test_rejected_steps_leave_the_state_as_it_was(integrator, backend):
    problem = random_problem(6)
    model, state = problem.model(backend, integrator=integrator)
    stepper = make_stepper(problem.config(integrator=integrator))
    memory = stepper.allocate(model, state)
    before = model.weights(state)
    with model.backend.active():
        _, error = stepper.attempt(model, state, memory, step_size=100.0)
        assert error > 1.0
        assert same_bits(model.weights(state), before)
        small, _ = stepper.attempt(model, state, memory, step_size=1e-4)
        fresh = stepper.allocate(model, state)
        direct, _ = stepper.attempt(model, state, fresh, step_size=1e-4)
    assert same_bits(model.weights(small), model.weights(direct))
