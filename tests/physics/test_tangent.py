"""Jacobian-vector products against differences of the velocity, identities and one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cupy_on_host import HostCupy, compiler_missing
from cupy_on_host.harness import put_in
from support import BACKENDS, random_problem, relative_error, same_bits, smooth_problem

from prdsim.backends.fused import Fused
from prdsim.errors import ConfigError
from prdsim.physics import gradients
from prdsim.physics.charts import CHARTS, range_factors
from prdsim.physics.driven import Driven
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.physics.tangent import Flow, Linearization
from prdsim.symbols import ARRAYS

FLOWS: tuple[Flow, ...] = ("reaction", "frozen", "joint")
SIZES = {
    "general": {},
    "wide critic": {"m_c": 11},
    "one output": {"d_out": 1},
    "one sample": {"n": 1},
    "one neuron": {"m": 1},
    "one critic neuron": {"m_c": 1},
    "one of all": {"d_in": 1, "d_out": 1, "n": 1, "m": 1, "m_c": 1},
    "many outputs": {"d_in": 3, "d_out": 9, "n": 12, "m": 4, "m_c": 6},
}
KEYS: dict[str, Any] = {"integrator": "rk4", "diffusivity": 0.7, "critic_rate": 2.5}
backends = pytest.mark.parametrize("backend", BACKENDS)
charts = pytest.mark.parametrize("chart", CHARTS)
sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def tangent_of(model: Model, seed: int = 0) -> State:
    """A random tangent on the model's backend, of all four arrays."""
    rng = np.random.default_rng(seed)
    tangent = State.empty(model.backend, model.state_shapes)
    for _, array in tangent:
        model.backend.to_device(rng.standard_normal(array.shape), array)
    return tangent


def applied(jacobian: Linearization, tangent: State) -> dict[str, np.ndarray]:
    """The product, on the host, of the arrays that move."""
    k = jacobian.model.backend
    out = State.empty(k, jacobian.model.state_shapes)
    jacobian.product(tangent, out=out)
    return {name: k.to_host(getattr(out, name)) for name in jacobian.moving}


def masks(model: Model, state: State) -> list[np.ndarray]:
    """Every mask of the joint flow; reads what `velocity` leaves on a backend without fusing."""
    gradients.forward(model, state)
    points = (model.work.Z, model.Y, (model.work.Z + model.Y) / 2)
    return [model.work.A >= 0, *(state.W @ y >= 0 for y in points)]


def shifted_velocity(model: Model, state: State, tangent: State, shift: float) -> dict[str, Any]:
    moved = State(
        *(
            array + shift * getattr(tangent, name) if name in model.moving else array
            for name, array in state
        )
    )
    now, there = masks(model, state), masks(model, moved)
    assert all(map(np.array_equal, now, there)), "a kink lies within the difference"
    out = State.empty(model.backend, model.state_shapes)
    gradients.velocity(model, moved, out=out)
    return {name: getattr(out, name) for name in model.moving}


def check_against_differences(model_of: Callable[[str], tuple[Model, State]]) -> None:
    """The product agrees with central differences of the velocity of the unfused NumPy model.

    A central difference errs by h^2 / 6 times the third derivative, which is measured: the
    difference between those of h and 2 h is three times that, to leading order. Rounding errs by
    at most K eps |velocity| / h with K = 100 roundings: 2e-14 / h relative.
    """
    model, state = model_of("numpy")
    tangent, h = tangent_of(model), 2.0**-12
    computed = applied(Linearization(*model_of("tested")), tangent_of(model_of("tested")[0]))
    ends = {c: shifted_velocity(model, state, tangent, c * h) for c in (-2, -1, 1, 2)}
    assert computed.keys() == ends[1].keys()
    for name, product in computed.items():
        fine = (ends[1][name] - ends[-1][name]) / (2 * h)
        coarse = (ends[2][name] - ends[-2][name]) / (4 * h)
        truncation = np.linalg.norm(fine - coarse)
        rounding = 2e-14 / h * np.linalg.norm(ends[1][name])
        assert np.linalg.norm(product - fine) <= truncation + rounding, name
        assert truncation + rounding <= 1e-4 * np.linalg.norm(product), "the bound says nothing"


@backends
@charts
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U", "V", "U,W", "V,a", "W,a"])
def test_products_are_central_differences_of_the_velocity(backend, chart, trainable):
    problem, keys = smooth_problem(), {**KEYS, "trainable": trainable, "chart": chart}

    def model_of(which: str) -> tuple[Model, State]:
        return problem.model("numpy" if which == "numpy" else backend, **keys)

    check_against_differences(model_of)


@backends
@pytest.mark.parametrize("keys", [{"critic": "minimax"}, {"gradient_penalty": 0.0}], ids=str)
def test_products_for_the_other_critics(backend, keys):
    problem = smooth_problem(1)
    check_against_differences(
        lambda which: problem.model("numpy" if which == "numpy" else backend, **KEYS, **keys),
    )


@pytest.mark.parametrize("diffusion", [True, False])
def test_products_with_masks_of_all_kinds(diffusion):
    problem = random_problem(22, n=4, m=5, m_c=4)  # the seed far from kinks of test_gradients
    check_against_differences(lambda _: problem.model(**KEYS, diffusion=diffusion))


@pytest.mark.parametrize("flow", FLOWS[:2])
def test_the_generators_flows_are_parts_of_the_joint_one(flow):
    """Without diffusion the same as D = 0; with a frozen critic as if it were not trainable."""
    problem = random_problem(1)
    model, state = problem.model(**KEYS)
    alone = {"reaction": {"diffusion": False}, "frozen": {"trainable": "U,V"}}[flow]
    other, other_state = problem.model(**{**KEYS, **alone})
    tangent = tangent_of(model)
    part = applied(Linearization(model, state, flow), tangent)
    assert part.keys() == {"U", "V"}
    assert same_bits(part, applied(Linearization(other, other_state), tangent))


@sizes
@pytest.mark.parametrize("flow", FLOWS)
def test_backends_agree_fused_or_not(sizes, flow):
    """Chains of up to six sums of at most 20 products: 1e-13, as for the gradients."""
    problem = random_problem(2, **sizes)
    products = {}
    for backend in BACKENDS:
        model, state = problem.model(backend, **KEYS)
        assert (type(model.fused) is Fused) == (backend == "numpy"), "both kinds are tested"
        products[backend] = applied(Linearization(model, state, flow), tangent_of(model))
    for name, product in products["numpy"].items():
        assert relative_error(products["numba"][name], product) < 1e-13, name


def test_backends_agree_on_labels():
    """Where few targets are distinct, fused operations sum over those alone."""
    problem = random_problem(2, d_out=4, n=30)
    labels = np.eye(4)[:, np.random.default_rng(0).integers(0, 3, 30)]
    products = []
    for backend in BACKENDS:
        model, state = replace(problem, Y=labels).model(backend, **KEYS)
        assert (model.targets.points.shape == model.Y.shape) == (backend == "numpy")
        products.append(applied(Linearization(model, state), tangent_of(model)))
    for name in ARRAYS:
        assert relative_error(products[1][name], products[0][name]) < 1e-13, name


@sizes
@pytest.mark.parametrize("flow", FLOWS)
def test_range_coordinates_give_the_same_product(sizes, flow):
    """P = U Q: tangents dU = dP Q^T, and the product's U times Q."""
    problem = random_problem(3, **sizes)
    Q, _ = range_factors(problem.X)
    ranged, weight = (problem.model(**KEYS, chart=chart) for chart in ("range", "weight"))
    tangent = tangent_of(ranged[0])
    product = applied(Linearization(*ranged, flow), tangent)
    lifted = State(tangent.U @ Q.T, tangent.V, tangent.W, tangent.a)
    expected = applied(Linearization(*weight, flow), lifted)
    expected["U"] = expected["U"] @ Q
    for name, array in expected.items():
        assert relative_error(product[name], array) < 1e-12, name


@backends
@pytest.mark.parametrize("flow", FLOWS)
def test_along_a_rescaling_the_product_is_the_velocity(backend, flow):
    """(c u, v / c) changes no prediction: dU/dt goes with 1 / c and dV/dt with c, at any state.

    So J (u_j, -v_j) = (-du_j/dt, dv_j/dt), and likewise for the critic, whose own rescaling the
    generator does not notice. Nothing but rounding: 1e-13.
    """
    problem = random_problem(4)
    model, state = problem.model(backend, **KEYS)
    jacobian = Linearization(model, state, flow)
    velocity = State.empty(model.backend, model.state_shapes)
    gradients.velocity(jacobian.model, jacobian.state, out=velocity)
    none = {name: np.zeros_like(array) for name, array in state}
    for first, second in ("UV", "Wa"):
        if first not in jacobian.moving:
            continue
        signs = {first: 1.0, second: -1.0}
        along = {**none, **{name: sign * getattr(state, name) for name, sign in signs.items()}}
        product = applied(jacobian, State(**along))
        for name, array in product.items():
            expected = -signs.get(name, 0.0) * getattr(velocity, name)
            size = np.linalg.norm(getattr(velocity, name))
            assert np.linalg.norm(array - expected) <= 1e-13 * size, name


@pytest.mark.parametrize("chart", ["weight", "range"])
@pytest.mark.parametrize("flow", FLOWS)
def test_gradient_flows_have_symmetric_jacobians(flow, chart):
    model, state = random_problem(5).model(**KEYS, chart=chart)
    jacobian = Linearization(model, state, flow)
    x, y = tangent_of(model, 1), tangent_of(model, 2)
    inner = [
        sum(np.sum(getattr(left, name) * array) for name, array in applied(jacobian, right).items())
        for left, right in ((x, y), (y, x))
    ]
    apart = abs(inner[0] - inner[1]) / abs(inner[0])
    assert jacobian.symmetric == (flow != "joint") == (apart < 1e-12)
    assert jacobian.symmetric or apart > 1e-3


def test_penalty_points_are_the_midpoints_whatever_the_integrator():
    problem = random_problem(6)
    products = []
    for integrator in ("gd", "rk4"):
        model, state = problem.model(**{**KEYS, "integrator": integrator})
        assert model.penalty_nodes == (() if integrator == "gd" else ((0.5, 1.0),))
        products.append(applied(Linearization(model, state), tangent_of(model)))
    assert same_bits(*products)


def test_the_jacobian_of_a_penalty_averaged_over_several_points_is_refused_in_words():
    """One point is the midpoint; without a moving critic there is no penalty to differentiate."""
    problem = random_problem(6)
    midpoint, one = (
        applied(Linearization(*problem.model(**KEYS, penalty_points=points)), tangent)
        for tangent in [tangent_of(problem.model(**KEYS)[0])]
        for points in ("midpoint", "gauss:1")
    )
    assert same_bits(midpoint, one)
    averaged = {**KEYS, "penalty_points": "gauss:4"}
    with pytest.raises(ConfigError, match="penalty_points: the Jacobian of a moving critic"):
        Linearization(*problem.model(**averaged))
    Linearization(*problem.model(**averaged, trainable="U,V"))


def test_a_vanishing_critic_gradient_contributes_nothing():
    """q = 0 where a = 0: its norm has no derivative there, and 0 is used, as in the gradients."""
    problem = random_problem(7)
    problem.initial["a"][:] = 0.0
    products = []
    for penalty in (10.0, 0.0):
        model, state = problem.model(**KEYS, gradient_penalty=penalty)
        products.append(applied(Linearization(model, state), tangent_of(model)))
    assert same_bits(*products)
    assert all(np.isfinite(array).all() for array in products[0].values())


@backends
def test_linearizing_disturbs_no_run_and_no_run_disturbs_it(backend):
    keys = {**KEYS, "steps": 6}
    problem = random_problem(8)
    with problem.simulation(backend, **keys) as alone:
        alone.advance(6)
        expected = alone.weights()
    with problem.simulation(backend, **keys) as simulation:
        jacobian = Linearization(simulation.model, simulation.state)
        tangent = tangent_of(simulation.model)
        before = applied(jacobian, tangent)
        for _ in range(6):
            simulation.advance()
            applied(jacobian, tangent)
        assert same_bits(simulation.weights(), expected)
        assert same_bits(applied(jacobian, tangent), before)
        jacobian.at(simulation.state)
        moved = applied(jacobian, tangent)
        assert same_bits(moved, applied(Linearization(simulation.model, simulation.state), tangent))
        assert not same_bits(moved, before)


# -- driven tangents -------------------------------------------------------------------------------


def driven_of(jacobian: Linearization, seed: int = 0) -> Driven:
    """A random driven tangent on the model's backend."""
    rng, k = np.random.default_rng(seed), jacobian.model.backend
    driven = Driven.empty(k, jacobian.driven_shapes)
    for _, array in driven:
        k.to_device(rng.standard_normal(array.shape), array)
    return driven


def expanded(jacobian: Linearization, driven: Driven) -> State:
    out = State.empty(jacobian.model.backend, jacobian.shapes, jacobian.moving)
    jacobian.expand(driven, out=out)
    return out


def driven_results(jacobian: Linearization, tangent: Driven | State) -> tuple[Driven, Driven]:
    """The product as a driven tangent, and the tangent's dual."""
    k = jacobian.model.backend
    out, dual = (Driven.empty(k, jacobian.driven_shapes) for _ in range(2))
    product = jacobian.driven_product if isinstance(tangent, Driven) else jacobian.driven_response
    product(tangent, out=out, dual=dual)
    return out, dual


def on_host(jacobian: Linearization, arrays: Driven | State) -> dict[str, np.ndarray]:
    to_host = jacobian.model.backend.to_host
    return {name: to_host(array) for name, array in arrays if array is not None}


def inner(jacobian: Linearization, first: Driven | State, second: Driven | State) -> float:
    left, right = on_host(jacobian, first), on_host(jacobian, second)
    assert left.keys() == right.keys()
    return float(sum(np.sum(left[name] * right[name]) for name in left))


def check_driven(model: Model, state: State, flow: Flow) -> None:
    """Images and inner products of driven and other tangents are those of the whole arrays.

    Chains of up to eight sums of at most 20 products: 1e-12, cancellation within them included.
    """
    jacobian = Linearization(model, state, flow)
    whole = tangent_of(jacobian.model)
    driven, other = driven_of(jacobian), driven_of(jacobian, 1)
    for tangent in (driven, whole):
        full = expanded(jacobian, tangent) if isinstance(tangent, Driven) else tangent
        image, dual = driven_results(jacobian, tangent)
        found, expected = on_host(jacobian, expanded(jacobian, image)), applied(jacobian, full)
        assert found.keys() == expected.keys() == set(jacobian.moving)
        for name, array in expected.items():
            assert relative_error(found[name], array) < 1e-12, name
        if model.chart.pull_matrix is not None:  # the Gram chart's are not orthonormal
            along = expanded(jacobian, other)
            mine = State(
                *(getattr(full, name) if name in jacobian.moving else None for name in ARRAYS)
            )
            sizes = [np.sqrt(inner(jacobian, x, x)) for x in (mine, along)]
            apart = inner(jacobian, dual, other) - inner(jacobian, mine, along)
            assert abs(apart) < 1e-12 * sizes[0] * sizes[1]


@backends
@charts
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U", "V", "U,W", "V,a", "W,a"])
def test_driven_tangents_are_whole_ones_in_fewer_numbers(backend, chart, trainable):
    problem = random_problem(23)
    model, state = problem.model(backend, **{**KEYS, "trainable": trainable, "chart": chart})
    check_driven(model, state, "joint")


@sizes
@pytest.mark.parametrize("flow", FLOWS)
def test_driven_tangents_of_all_sizes_and_flows(sizes, flow):
    model, state = random_problem(24, **sizes).model("numba", **KEYS, chart="range")
    check_driven(model, state, flow)


@backends
@pytest.mark.parametrize(("n", "by_K"), [(11, True), (12, False), (13, False)])
def test_kernel_or_factors_whichever_is_cheaper_to_apply(backend, n, by_K):
    """K (n, n) once, or a matrix (6, n) and its transpose: the same to rounding."""
    problem = random_problem(25, d_in=6, n=n)
    model, state = problem.model(backend, **KEYS, chart="range")
    check_driven(model, state, "joint")
    jacobian = Linearization(model, state)
    driven_results(jacobian, driven_of(jacobian))
    assert (jacobian._K is not None) == by_K


@pytest.mark.skipif(bool(compiler_missing()), reason=compiler_missing() or "-")
@pytest.mark.parametrize("flow", FLOWS)
def test_on_a_device_products_are_the_same_and_allocate_nothing(monkeypatch, flow):
    cupy: HostCupy = put_in(monkeypatch)
    problem = random_problem(9)
    products, drives, counts = {}, {}, []
    for backend in ("numpy", "cupy"):
        model, state = problem.model(backend, **KEYS)
        with model.backend.active():
            jacobian, tangent = Linearization(model, state, flow), tangent_of(model)
            products[backend] = applied(jacobian, tangent)
            out = State.empty(model.backend, model.state_shapes)
            driven = driven_of(jacobian)
            image, dual = driven_results(jacobian, driven)
            drives[backend] = on_host(jacobian, image), on_host(jacobian, dual)
            for _ in range(2):
                counts.append((cupy.allocations, cupy.host_copies, cupy.uploads))
                jacobian.product(tangent, out=out)
                jacobian.driven_product(driven, out=image, dual=dual)
    assert all(one == other for one, other in list(pairwise(counts))[2:])
    for here, there in zip(drives["numpy"], drives["cupy"], strict=True):
        for name in here:
            assert relative_error(there[name], here[name]) < 1e-13, name
    for name in products["numpy"]:
        assert relative_error(products["cupy"][name], products["numpy"][name]) < 1e-13, name
    assert {operation.kind for operation in cupy.log} >= {"kernel"}


def test_float32_is_as_near_as_float32_can_be():
    """Six sums of at most 20 products, each correct to 20 u with u = 6e-8: 7e-6; twice that."""
    problem = random_problem(10)
    products = []
    for precision in ("float64", "float32"):
        model, state = problem.model(**KEYS, precision=precision)
        products.append(applied(Linearization(model, state), tangent_of(model)))
    for name in ARRAYS:
        assert products[1][name].dtype == np.float32
        assert 1e-9 < relative_error(products[1][name], products[0][name]) < 1.5e-5, name


def test_every_array_of_the_tangent_has_its_part():
    """A part that is left out would show in no identity that does not need it."""
    model, state = replace(random_problem(11)).model(**KEYS)
    jacobian, whole = Linearization(model, state), tangent_of(model)
    parts = []
    for chosen in ARRAYS:
        zeros = {name: np.zeros_like(array) for name, array in whole}
        parts.append(applied(jacobian, State(**{**zeros, chosen: getattr(whole, chosen)})))
    for name, array in applied(jacobian, whole).items():
        assert relative_error(sum(part[name] for part in parts), array) < 1e-13
        reached = [np.linalg.norm(part[name]) > 0.01 for part in parts]
        assert reached == [True] * 4, (name, reached)


@backends
@pytest.mark.parametrize("keys", [{}, {"trainable": "U,V"}, {"critic": "minimax"}], ids=str)
def test_the_rate_of_the_drive_is_that_of_its_difference_along_the_flow(backend, keys):
    """E at states a little before and after on the flow's tangent line, and products unharmed."""
    model, state = smooth_problem().model(backend, **KEYS, **keys)
    jacobian, tangent = Linearization(model, state), tangent_of(model)
    before = applied(jacobian, tangent)
    rate = jacobian.drive_rate()
    assert same_bits(applied(jacobian, tangent), before)
    velocity, drives, h = State.empty(model.backend, model.state_shapes), [], 2.0**-14
    gradients.velocity(jacobian.model, jacobian.state, out=velocity)
    for shift in (h, -h):
        moved = State(
            *(
                array + shift * getattr(velocity, name) if name in model.moving else array
                for name, array in state
            )
        )
        drives.append(Linearization(model, moved).model.work.E.copy())
    here = Linearization(model, state).model.work.E
    expected = np.linalg.norm(drives[0] - drives[1]) / (2 * h) / np.linalg.norm(here)
    assert expected > 1.0
    assert rate == pytest.approx(expected, rel=1e-5)  # h^2 / 6 times third derivatives: some 1e-7
