"""Reaction and diffusion by neuron, against scalar loops and against the recorded scalars."""

from __future__ import annotations

import numpy as np
import pytest
from oracle.equations import generator_velocities
from support import BACKENDS, Problem, random_problem, relative_error

from prdsim.analysis.theory.forces import FORCES, Forces, force_norms
from prdsim.backends import get_backend
from prdsim.errors import BackendUnavailableError, DataError
from prdsim.running import snapshot_model

SIZES = [{}, {"d_out": 1}, {"n": 1}, {"m": 1, "m_c": 1}, {"d_in": 1}]

# Sums of fewer than 100 products, three deep, and a root: below 1e3 eps of the norm.
TOLERANCE = 1e3 * np.finfo(float).eps

backends = pytest.mark.parametrize("backend", BACKENDS)


def by_loops(problem: Problem, diffusivity: float = 1.0) -> dict[str, np.ndarray]:
    """The norms from the oracle's neurons."""
    lists = problem.lists
    terms = generator_velocities(*(lists[name] for name in ("U", "V", "W", "a", "X", "Y")))
    return {
        "reaction_U": np.linalg.norm(terms.reaction_U, axis=1),
        "diffusion_U": diffusivity * np.linalg.norm(terms.diffusion_U, axis=1),
        "reaction_V": np.linalg.norm(terms.reaction_V, axis=0),
        "diffusion_V": diffusivity * np.linalg.norm(terms.diffusion_V, axis=0),
    }


@backends
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_neuron_is_that_of_scalar_loops(backend, sizes):
    problem = random_problem(2, **sizes)
    norms = force_norms(
        **problem.initial, X=problem.X, Y=problem.Y, diffusivity=0.7, backend=backend
    )
    for name, expected in by_loops(problem, 0.7).items():
        assert relative_error(getattr(norms, name), expected) < TOLERANCE, name


@backends
@pytest.mark.parametrize("chart", ["weight", "range", "gram"])
def test_together_they_are_the_recorded_scalars_at_every_step(backend, chart):
    problem = random_problem(3)
    keys = {"chart": chart, "diffusivity": 0.6, "integrator": "gd", "critic_step_size": 0.1}
    forces = Forces(problem.config(**keys), problem.X, problem.Y, backend=backend)
    with problem.simulation(backend, **keys) as simulation:
        for _ in range(4):
            row, norms = simulation.observe(), forces.norms(**simulation.weights())
            for name in FORCES:
                kind, _, array = name.partition("_")
                recorded = row[f"{kind}_norm_{array}"]
                # The range and Gram charts reach the weights by one more product.
                assert np.linalg.norm(getattr(norms, name)) == pytest.approx(
                    recorded, rel=10 * TOLERANCE
                )
                assert recorded > 0.0
            simulation.advance(5)


@backends
@pytest.mark.parametrize("keys", [{"diffusion": False}, {"trainable": "U"}], ids=str)
def test_forces_are_those_of_the_state_without_diffusion_and_of_arrays_that_do_not_move(
    backend, keys
):
    problem = random_problem(4)
    norms = Forces(problem.config(**keys), problem.X, problem.Y, backend=backend).norms(
        **problem.initial
    )
    for name, expected in by_loops(problem).items():
        if name.startswith("diffusion") and "diffusion" in keys:
            assert not getattr(norms, name).any()
        else:
            assert relative_error(getattr(norms, name), expected) < TOLERANCE, name
    without = force_norms(**problem.initial, X=problem.X, Y=problem.Y, diffusivity=0.0)
    assert not without.diffusion_U.any()


@backends
def test_one_snapshot_leaves_nothing_behind_for_the_next(backend):
    problem, other = random_problem(6), random_problem(7)
    forces = Forces(problem.config(), problem.X, problem.Y, backend=backend)
    first = forces.norms(**problem.initial)
    forces.norms(**other.initial)
    again = forces.norms(**problem.initial)
    for name in FORCES:
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_weights_may_be_float32_and_read_only_and_the_backend_an_instance():
    problem = random_problem(8)
    weights = {name: array.astype(np.float32) for name, array in problem.initial.items()}
    for array in weights.values():
        array.flags.writeable = False
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    backend = get_backend("numpy", threads=1)
    norms = Forces(problem.config(), problem.X, problem.Y, backend=backend).norms(**weights)
    assert norms.reaction_U.dtype == np.float64
    for name, expected in by_loops(Problem(problem.X, problem.Y, exact)).items():
        assert relative_error(getattr(norms, name), expected) < TOLERANCE, name


def test_auto_is_numba_else_numpy_and_never_a_gpu(monkeypatch):
    asked = []

    def only_numpy(name):
        asked.append(name)
        if name != "numpy":
            raise BackendUnavailableError(f"backend {name}: not here")
        return get_backend(name)

    monkeypatch.setattr(snapshot_model, "get_backend", only_numpy)
    problem = random_problem(9)
    norms = Forces(problem.config(), problem.X, problem.Y).norms(**problem.initial)
    assert asked == ["numba", "numpy"]
    assert relative_error(norms.reaction_U, by_loops(problem)["reaction_U"]) < TOLERANCE


def test_what_does_not_fit_together_is_named():
    problem = random_problem()
    with pytest.raises(DataError, match=r"X holds 6 samples, Y 5; they must be the same"):
        Forces(problem.config(), problem.X, problem.Y[:, 1:])
    forces = Forces(problem.config(), problem.X, problem.Y, backend="numpy")
    weights = {**problem.initial, "a": problem.initial["a"][:1]}
    with pytest.raises(DataError, match=r"a has shape \(1,\), but \(5,\) is that of the run"):
        forces.norms(**weights)
