"""The CuPy backend on a real device. Skipped without one; PRDSIM_REQUIRE_GPU=1 fails instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cupy_on_host.graphs import ENOUGH, check_same_bits, check_step_sizes
from cupy_on_host.harness import check_50_steps, final, worst
from support import (
    INTEGRATORS,
    PAPER,
    Problem,
    differing,
    random_problem,
    relative_error,
    same_bits,
)
from support_backends import elementwise, failures, precision

from prdsim.analysis.stability.homogeneous import homogeneous_state
from prdsim.analysis.stability.lyapunov import tangent_growth
from prdsim.analysis.stability.symmetry_breaking import located
from prdsim.analysis.stability.transverse import transverse_growth
from prdsim.backends import get_backend
from prdsim.config import Resolved, RunConfig
from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.physics.groups import deviated
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory

pytestmark = pytest.mark.gpu
PRECISIONS = ("float64", "float32", "tf32")


@pytest.fixture(scope="module", autouse=True)
def _device() -> None:
    try:
        get_backend("cupy")
    except BackendUnavailableError as error:
        reason = str(error).splitlines()[0]
        if os.environ.get("PRDSIM_REQUIRE_GPU") == "1":
            pytest.fail(f"PRDSIM_REQUIRE_GPU=1, but {reason}")
        pytest.skip(reason)


@pytest.fixture(params=PRECISIONS)
def k(request) -> Iterator[Any]:
    backend = get_backend("cupy", precision=request.param)
    with backend.active():
        yield backend


def large_problem() -> Problem:
    """Blocks and tiles of all kernels more than once, and none of them full."""
    return random_problem(6, d_in=785, d_out=11, n=301, m=517, m_c=259)


def test_every_operation_keeps_the_rules(k):
    assert failures(k) == []


def test_elementwise_operations_have_the_bits_of_an_expression(k):
    elementwise(k)


def test_products_are_as_accurate_as_the_precision_says(k):
    precision(k)


def test_a_copy_is_of_its_moment_whatever_comes_after(k):
    """Of an array so large that it is still leaving when the next operations are done."""
    array = k.empty((4096, 4096))
    k.to_device(np.full(array.shape, 5.0), array)
    k.combine([(0.2, array)], out=array)
    copy = k.start_copy(array)
    k.combine([(5.0, array)], out=array)
    later = k.start_copy(array)
    assert np.all(k.to_host(array) == 5.0)
    assert np.all(later() == 5.0)
    assert np.all(copy() == 1.0), "overtaken"


def test_one_step_agrees_with_numpy():
    """An inner product of 785 terms errs by 785 eps at the most, in sums by far less."""
    keys = {**PAPER, "step_size": 1e-4, "critic_step_size": 1e-3}
    expected, computed = (final(large_problem(), name, 1, **keys) for name in ("numpy", "cupy"))
    assert worst(computed, expected) < 1e-12


def test_50_steps_agree_with_numpy():
    problem = random_problem(2, d_in=20, d_out=4, n=15, m=24, m_c=12)
    expected, computed = (final(problem, name, 50, **PAPER) for name in ("numpy", "cupy"))
    assert worst(computed, expected) < 1e-10


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_50_steps_agree_within_what_rounding_allows(precision):
    check_50_steps(precision)


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("critic", ["wgan-gp", "minimax"])
def test_every_integrator_and_critic_agrees_with_numpy(integrator, critic):
    problem, keys = random_problem(3), {"integrator": integrator, "critic": critic}
    expected, computed = (final(problem, name, 6, **keys) for name in ("numpy", "cupy"))
    assert worst(computed, expected) < 1e-11


def test_scalars_agree_with_numpy():
    rows = []
    for backend in ("numpy", "cupy"):
        with large_problem().simulation(backend, **PAPER, step_size=1e-4) as simulation:
            simulation.advance(2)
            rows.append(simulation.observe())
    assert differing(large_problem(), rows[1], rows[0], rel=1e-9) == []


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_coupled_groups_agree_with_numpy(integrator):
    problem = random_problem(2, d_in=20, d_out=4, n=15, m=24, m_c=12)
    keys = {"integrator": integrator, "groups": 6, "coupling": 0.7}
    expected, computed = (final(problem, name, 20, **keys) for name in ("numpy", "cupy"))
    assert worst(computed, expected) < 1e-11


def followed(backend: str) -> tuple[Any, ...]:
    """The growth of a difference along a run; that of deviations within groups, and kappa*."""
    keys: dict[str, Any] = {"backend": backend, "diffusion": True, "end_time": 1.0, "rtol": 1e-3}
    keys |= {"width": 24, "critic_width": 8}
    X = np.random.default_rng(0).standard_normal((12, 6))
    X, Y = X / np.linalg.norm(X, axis=0), np.eye(3)[:, np.arange(6) % 3]
    along = tangent_growth(RunConfig(**keys), X, Y)
    config = RunConfig(**keys, groups=8)
    state = homogeneous_state(config, X, Y)
    free = transverse_growth(config, X, Y, initial=deviated(state, 8, 0, X, 1e-8))
    return along.times, along.logs, free.smooth.largest[-1], located(config, X, Y, state, free)


def test_tangents_and_the_turing_test_agree_with_numpy():
    for computed, expected in zip(followed("cupy"), followed("numpy"), strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-6)


@pytest.mark.parametrize("integrator", ["gd", "bs23"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_three_runs_have_the_same_bits(integrator, precision):
    keys = {"integrator": integrator, "precision": precision, "step_size": 1e-4}
    first, *others = (final(large_problem(), "cupy", 10, **keys) for _ in range(3))
    assert all(same_bits(first, other) for other in others)


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_restart_is_bit_identical(integrator, precision):
    keys = {"integrator": integrator, "precision": precision, "steps": 8}
    with random_problem(1).simulation("cupy", **keys) as whole:
        whole.advance(8)
        expected = whole.restart_point()
    with random_problem(1).simulation("cupy", **keys) as parts:
        parts.advance(3)
        point = parts.restart_point()
        parts.advance(2)
        parts.restore(point)
        parts.observe()
        parts.advance(100)
        assert same_bits(parts.restart_point().arrays, expected.arrays)


def test_run_and_resume_through_files(tmp_path):
    keys: dict[str, Any] = {"backend": "cupy", "diffusion": True, "samples": 50, "width": 64}
    keys |= PAPER
    whole = run(**keys, steps=20, output=str(tmp_path / "whole.h5"))
    run(**keys, steps=7, output=str(tmp_path / "parts.h5"))
    parts = resume(tmp_path / "parts.h5", 20)
    assert same_bits(dict(whole.state), dict(parts.state))
    on_host = run(**{**keys, "backend": "numpy"}, steps=20, output=str(tmp_path / "host.h5"))
    for name in ARRAYS:
        assert relative_error(whole.state[name], on_host.state[name]) < 1e-9


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_are_used_and_change_no_bit(integrator, precision):
    keys = {"integrator": integrator, "precision": precision, "step_size": 1e-4}
    for problem in (random_problem(1), large_problem()):
        check_same_bits(problem, steps=2 * ENOUGH, **keys)
    assert get_backend("cupy", precision=precision).describe()["cuda_graphs"] == "used"


def test_each_step_size_has_its_graph():
    check_step_sizes()


def test_snapshots_that_leave_while_the_device_computes_are_of_their_steps(tmp_path):
    keys: dict[str, Any] = {"backend": "cupy", "diffusion": True, "samples": 200, "width": 2000}
    result = run(**keys, steps=200, snapshots="every:20", output=str(tmp_path / "run.h5"))
    with open_trajectory(result.path) as trajectory:
        assert trajectory.check() == []
        config = RunConfig(**trajectory.config)
        X, Y = (np.asarray(trajectory.data[name]) for name in "XY")
        initial = {name: np.asarray(array) for name, array in trajectory.initial.items()}
        resolved = Resolved(**trajectory.attributes["resolved"])
        with Simulation(config, X, Y, initial=initial, resolved=resolved) as simulation:
            for row, step in enumerate(trajectory.step.tolist()):
                simulation.advance(step - simulation.step)
                for name, array in simulation.weights().items():
                    assert np.array_equal(getattr(trajectory, name)[row], array), (name, step)


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_a_step_allocates_nothing(integrator):
    import cupy

    pool = cupy.get_default_memory_pool()
    with large_problem().simulation(
        "cupy", integrator=integrator, step_size=1e-4, steps=100
    ) as simulation:
        simulation.advance(2 * ENOUGH)
        before = (pool.used_bytes(), pool.total_bytes())
        simulation.advance(5)
        assert (pool.used_bytes(), pool.total_bytes()) == before


def test_running_out_of_memory_is_explained(k):
    with pytest.raises(ConfigError, match="has no room for an array"):
        k.empty((10**6, 10**7))
    assert np.all(k.to_host(k.empty((1,))).shape == (1,)), "and it goes on"
