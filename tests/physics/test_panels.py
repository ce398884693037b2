"""Samples in panels give what all samples together give, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import Problem, differing, random_problem, relative_error

from prdsim.backends import get_backend
from prdsim.backends.cupy_narrow import NarrowFused
from prdsim.backends.fused import Fused, leading
from prdsim.backends.numba_fused import NumbaFused
from prdsim.errors import ConfigError
from prdsim.physics import gradients
from prdsim.physics.model import Model, Workspace
from prdsim.physics.panels import Panels
from prdsim.physics.tangent import Linearization
from prdsim.running.step_size import largest_kernel_eigenvalue

N, PANEL = 11, 4  # panels of 4, 4 and 3 samples
PROBLEM = random_problem(7, n=N, m=12)
EVERY: dict[str, dict[str, Any]] = {
    "gd": {"integrator": "gd", "chart": "weight"},  # random points: e is of all samples
    "gd, shuffled": {"integrator": "gd", "chart": "weight", "forcing": "shuffled"},
    "gd, without": {"integrator": "gd", "chart": "range", "diffusion": False},
    "bs23": {"chart": "range"},
    "bs23, only the critic": {"chart": "weight", "trainable": "W,a"},
    "heun, gauss": {"integrator": "heun", "chart": "weight", "penalty_points": "gauss:2"},
    "rk4, minimax": {"integrator": "rk4", "chart": "weight", "critic": "minimax"},
    "dopri5, norms": {"integrator": "dopri5", "chart": "range", "forcing": "white"},
    "bs23, shuffled norms": {"chart": "weight", "forcing": "shuffled", "forcing_norm": 0.7},
    "bs23, warm-up": {"chart": "weight", "critic_warmup": 0.05},
}
STEPS = 6  # gd's are recorded as a graph by then

Ends = tuple[dict[str, np.ndarray], dict[str, float]]


def ends(backend: str, panel: int | None, problem: Problem = PROBLEM, **keys: Any) -> Ends:
    with problem.simulation(backend, panel=panel, **keys) as simulation:
        simulation.advance(STEPS)
        return simulation.weights(), simulation.observe()


def disagreement(found: Ends, expected: Ends) -> list[str]:
    """What differs by more than rounding; a step's rounding grows by less than 100 in 6 steps."""
    wrong = [name for name in "UVWa" if relative_error(found[0][name], expected[0][name]) > 1e-13]
    return wrong + differing(PROBLEM, found[1], expected[1], rel=1e-10)


@pytest.mark.parametrize("name", EVERY)
def test_a_run_in_panels_is_that_of_all_samples_together(backend, name):
    expected = ends("numpy", None, **EVERY[name])
    for panel in (PANEL, N - 1):
        assert disagreement(ends(backend, panel, **EVERY[name]), expected) == []
    assert expected[1]["mask_flips"] > 0 or "only" in name


@pytest.mark.parametrize("name", ["gd", "bs23"])
def test_so_it_is_with_many_outputs(backend, name):
    """For which a device has other operations."""
    problem = random_problem(7, n=N, m=12, d_out=17)
    expected = ends("numpy", None, problem, **EVERY[name])
    found = ends(backend, PANEL, problem, **EVERY[name])
    assert max(relative_error(found[0][array], expected[0][array]) for array in "UVWa") < 1e-13


def test_a_panel_of_all_samples_is_the_model_itself():
    for panel in (N, 10**9, None):
        simulation = PROBLEM.simulation(panel=panel, chart="weight")
        assert simulation.model.panels == (simulation.model,)
        assert simulation.model.work.A.shape == (12, N)
    assert [part.Y.shape[1] for part in PROBLEM.simulation(panel=PANEL).model.panels] == [4, 4, 3]


# -- bugs that the comparison must find ------------------------------------------------------------


def forget_a_panel(patch: pytest.MonkeyPatch) -> None:
    flow = gradients.generator_flow

    def wrong(whole: Model, state: Any, out: Any, **keywords: Any) -> None:
        flow(replace(whole, parts=whole.parts[:-1]), state, out, **keywords)

    patch.setattr("prdsim.running.integrators.generator_flow", wrong)


def count_samples_of_the_panel(patch: pytest.MonkeyPatch) -> None:
    for kind in (Fused, NumbaFused, NarrowFused):
        right = kind.critic_moments

        def wrong(self: Any, given: Any, *rest: Any, right=right, **named: Any) -> None:
            right(self, given._replace(n=given.Z.shape[1]), *rest, **named)

        patch.setattr(kind, "critic_moments", wrong)


def take_the_points_of_another_panel(patch: pytest.MonkeyPatch) -> None:
    of_panels = Workspace.of_panels

    def wrong(self: Workspace, panels: Panels) -> list[Workspace]:
        parts = of_panels(self, panels)
        for part in parts[1:2]:
            part.e = parts[0].e
        return parts

    patch.setattr(Workspace, "of_panels", wrong)


def draw_points_for_a_panel(patch: pytest.MonkeyPatch) -> None:
    draw = gradients.draw_points

    def wrong(whole: Model, **keywords: Any) -> None:
        for part in whole.panels:
            draw(part, **keywords)

    patch.setattr(gradients, "draw_points", wrong)


def use_the_last_pre_activations(patch: pytest.MonkeyPatch) -> None:
    def wrong(whole: Model, _: Any) -> Any:
        yield from whole.panels

    patch.setattr(gradients, "with_pre_activations", wrong)


def take_the_new_weights(patch: pytest.MonkeyPatch) -> None:
    """A step of gd in place, as with one panel: the second panel sees what the first moved."""
    flow = gradients.generator_flow

    def wrong(whole: Model, state: Any, out: Any, **keywords: Any) -> None:
        for part in whole.parts:
            flow(part, state, out, **keywords)

    patch.setattr("prdsim.running.integrators.generator_flow", wrong)


BUGS = [
    forget_a_panel,
    count_samples_of_the_panel,
    take_the_points_of_another_panel,
    draw_points_for_a_panel,
    use_the_last_pre_activations,
    take_the_new_weights,
]


@pytest.mark.parametrize("plant", BUGS, ids=lambda bug: bug.__name__)
def test_planted_bugs_are_found(backend, monkeypatch, plant: Callable[..., None]):
    keys = EVERY["gd"]
    expected = ends(backend, None, **keys)
    assert disagreement(ends(backend, PANEL, **keys), expected) == []
    with monkeypatch.context() as patch:
        plant(patch)
        assert disagreement(ends(backend, PANEL, **keys), expected)


# -- what else reads pre-activations ---------------------------------------------------------------


def test_the_kernels_largest_eigenvalue(backend):
    """Its start vector is of samples, in whatever order they lie: the same iteration."""
    found = []
    for panel in (None, PANEL):
        with PROBLEM.simulation(backend, panel=panel, chart="weight") as simulation:
            simulation.advance(2)
            found.append(largest_kernel_eigenvalue(simulation.model, simulation.state))
    assert found[1] == pytest.approx(found[0], rel=1e-9)
    assert found[0] > 0.0


def test_the_jacobian_takes_all_samples_and_says_so():
    simulation = PROBLEM.simulation(panel=PANEL)
    with pytest.raises(ConfigError, match="memory: the Jacobian takes all samples at once"):
        Linearization(simulation.model, simulation.state)


# -- arrays ----------------------------------------------------------------------------------------


def test_panels_are_contiguous_views_in_order():
    k, panels = get_backend("numpy"), Panels(7, 3)
    host = np.arange(14.0).reshape(2, 7)
    array = panels.load(k, host)
    parts = panels.split(array)
    assert panels.bounds == [(0, 3), (3, 6), (6, 7)]
    assert [part.tolist() for part in parts] == [host[:, p:q].tolist() for p, q in panels.bounds]
    assert all(part.flags.c_contiguous and part.base is not None for part in parts)
    assert np.array_equal(panels.to_host(k, array), host)
    assert np.array_equal(array.reshape(-1)[panels.positions(2)], host)
    vector = panels.load(k, host[0])
    assert [part.tolist() for part in panels.split(vector)] == [[0, 1, 2], [3, 4, 5], [6]]
    parts[1][:] = -1.0
    assert (array == -1.0).sum() == 6


def test_one_panel_is_the_array_itself():
    array = np.zeros((2, 5))
    assert Panels(5, 5).split(array)[0] is array
    assert leading(array, (2, 5)) is array
    assert leading(array, (2, 3)).base is not None
