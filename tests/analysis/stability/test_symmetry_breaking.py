"""The Turing test: its state is homogeneous and at rest, and coupled runs find kappa* predicted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from prdsim.analysis.stability.homogeneous import displaced, homogeneous_state
from prdsim.analysis.stability.symmetry_breaking import (
    Outcome,
    breaking_table,
    located,
    mean_norm,
    measured_growth,
    symmetry_breaking,
)
from prdsim.analysis.stability.transverse import TransverseGrowth, transverse_growth
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.figures.symmetry_breaking import draw_symmetry_breaking
from prdsim.physics.charts import range_factors
from prdsim.physics.groups import deviated
from prdsim.running.simulation import Simulation
from prdsim.symbols import CONDITIONS, CONTROLS

KEYS: dict[str, Any] = {
    "width": 24, "groups": 8, "critic_width": 8, "samples": 6, "end_time": 2.0, "threads": 1,
    "backend": "numpy", "diffusion": True, "rtol": 1e-3,
}  # fmt: skip


def data(n: int = 6, d_in: int = 12, d_out: int = 3) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).standard_normal((d_in, n))
    return X / np.linalg.norm(X, axis=0), np.eye(d_out)[:, np.arange(n) % d_out]


X, Y = data()

# -- the state -------------------------------------------------------------------------------------


def test_the_homogeneous_state_has_equal_neurons_and_is_at_rest():
    state = homogeneous_state(RunConfig(**KEYS), X, Y)
    U, V = state["U"].reshape(8, 3, -1), state["V"].T.reshape(8, 3, -1)
    assert np.ptp(U, axis=1).max() == np.ptp(V, axis=1).max() == 0.0
    Z = state["V"] @ np.maximum(state["U"] @ X, 0.0) / np.sqrt(3 * 24)
    np.testing.assert_allclose(Z, Y, atol=1e-13)
    drawn = Simulation(RunConfig(**KEYS), X, Y).initial
    assert all(np.array_equal(state[name], drawn[name]) for name in "Wa")


def test_states_that_cannot_be():
    for keys, message in (
        ({"groups": None}, "groups of at least two"),
        ({"groups": 24}, "groups of at least two"),
        ({"groups": 2}, "groups = 2 do not reach the targets of 6 samples"),
    ):
        with pytest.raises(ConfigError, match=message):
            homogeneous_state(RunConfig(**{**KEYS, **keys}), X, Y)


def test_two_neurons_of_each_group_are_displaced_one_forth_and_one_back():
    state = homogeneous_state(RunConfig(**KEYS), X, Y)
    Q, _ = range_factors(X)
    directions = np.random.default_rng(1).standard_normal((8, Q.shape[1] + 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    moved = displaced(state, directions, Q, 1e-3)
    move = np.hstack([(moved["U"] - state["U"]) @ Q, (moved["V"] - state["V"]).T])
    length = 1e-3 * np.linalg.norm(state["U"]) / np.sqrt(24)
    expected = length * np.stack([directions, -directions, 0 * directions], axis=1)
    np.testing.assert_allclose(move.reshape(8, 3, -1), expected, atol=1e-15)


# -- growth and kappa* -----------------------------------------------------------------------------

SETTINGS = pytest.mark.parametrize(("D", "beta"), [(1.0, 1.0), (1.0, 0.1), (3.0, 1.0)])


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return homogeneous_state(RunConfig(**KEYS), X, Y)


def grown(config: RunConfig, state: dict[str, np.ndarray]) -> TransverseGrowth:
    return transverse_growth(config, X, Y, initial=deviated(state, 8, 0, X, 1e-8))


@SETTINGS
def test_growth_and_kappa_in_runs_are_those_predicted(D, beta, state, backend):
    """Growth to 1e-4 in the same run; kappa* to 1 %, of which coupled runs have other steps."""
    keys = {"diffusivity": D, "critic_rate": beta, "backend": backend, "rtol": 2e-4}
    config = RunConfig(**{**KEYS, **keys})
    free = grown(config, state)
    quiet = free.crossings == 0
    assert quiet.any()
    start = displaced(state, free.smooth.begin, free.basis, 1e-8)
    largest = measured_growth(config, X, Y, start, free.basis)
    np.testing.assert_allclose(largest[quiet], free.smooth.largest[-1][quiet], rtol=1e-4)
    group, kappa = located(config, X, Y, state, free)
    expected = free.exponents(free.smooth)
    assert quiet[group]
    assert expected[group] == expected[quiet].max() > 0.01
    assert kappa == pytest.approx(expected[group], rel=0.01)


def test_without_diffusion_deviations_stay_as_they_are(state, backend):
    config = RunConfig(**{**KEYS, "diffusion": False, "backend": backend})
    free = grown(config, state)
    np.testing.assert_allclose(free.smooth.largest[-1], 1.0, atol=1e-6)
    np.testing.assert_allclose(free.measured[-1], 1.0, atol=1e-6)
    assert located(config, X, Y, state, free) == (-1, pytest.approx(np.nan, nan_ok=True))
    coupled = config.replace(coupling=0.5, integrator="rk4", step_size=0.1)
    start = displaced(state, free.smooth.begin, free.basis, 1e-8)
    decayed = measured_growth(coupled, X, Y, start, free.basis)
    np.testing.assert_allclose(decayed, np.exp(-0.5 * 2.0), rtol=1e-4)


@pytest.mark.parametrize("condition", CONTROLS)
def test_growth_is_predicted_in_the_field_of_the_step_and_to_the_end_time(condition, state):
    """Within steps, and where a control's field changes, growth is that of the method."""
    keys = {"forcing": condition, "forcing_norm": 0.8, "rtol": 1e-2}
    free = grown(RunConfig(**{**KEYS, **keys}), state)
    assert free.times[-1] == 2.0
    np.testing.assert_allclose(free.measured[-1], free.smooth.growth[-1], rtol=1e-4)
    assert np.abs(free.measured[-1] - 1.0).max() > 5e-3


def test_the_mean_norm_is_that_over_time(state):
    config = RunConfig(**KEYS, forcing="static", forcing_norm=0.7)
    assert mean_norm(config, X, Y, state) == pytest.approx(0.7)


# -- all conditions --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested() -> list[Outcome]:
    config = RunConfig(**{**KEYS, "end_time": 1.5, "rtol": 1e-3})
    return symmetry_breaking(config, X, Y)


def test_all_conditions_are_tested_at_two_tolerances(tested):
    assert [each.condition for each in tested] == list(CONDITIONS)
    for each in tested:
        assert len(each.fine.times) >= len(each.coarse.times)
        assert each.unstable == (each.condition != "none")
        assert each.error < 0.1 * each.exponent or each.condition == "none"
    norms = {each.condition: each.fine.measured for each in tested}
    assert not np.array_equal(norms["static"][-1], norms["common"][-1])


def test_the_table_has_a_row_a_condition_and_a_verdict(tested):
    table = breaking_table(tested, "title")
    assert table.columns["condition"] == list(CONDITIONS)
    by_name = dict(zip(CONDITIONS, table.rows, strict=True))
    assert by_name["adversary"]["located"] == pytest.approx(
        by_name["adversary"]["group_exponent"], rel=0.02
    )
    assert by_name["none"]["located"] is None
    stable, unstable, located, controls = table.notes
    assert stable.startswith("without diffusion every deviation stays as it is")
    assert unstable.startswith("with the adversary the state is unstable below kappa* in 1 of 1 ")
    assert located.startswith("coupled runs find kappa* of groups without kinks to ")
    assert all(f"{name} faster in " in controls for name in CONTROLS)


def like(condition: str, exponent: float, error: float = 0.001) -> Outcome:
    """A test with a given exponent, over a time of 1."""

    def growth(rate: float) -> Any:
        largest = np.exp([[rate]])
        return SimpleNamespace(
            times=np.ones(1),
            smooth=SimpleNamespace(largest=largest),
            flow=SimpleNamespace(largest=largest),
            exponents=lambda predicted: np.log(predicted.largest[-1]),
            crossings=np.zeros(1, int),
        )

    return Outcome(condition, 0, growth(exponent + error), growth(exponent), 0, exponent)


def test_the_verdict_can_come_out_otherwise():
    rates = dict.fromkeys(CONTROLS, 0.01) | {"none": 0.0, "adversary": 0.1}
    *_, own = breaking_table([like(c, rates[c]) for c in CONDITIONS], "").notes
    assert own.endswith("slow faster in 0, slower in 1; it is the adversary's own")
    rates |= {"none": 0.2, "adversary": 0.0005, "static": 0.001, "white": 0.3}
    moves, stays, located, own = breaking_table([like(c, rates[c]) for c in CONDITIONS], "").notes
    assert "CHANGES, by a factor of 1 + 0.2" in moves
    assert "in 0 of 1 draws" in stays
    assert "to < 0.01 %" in located
    assert "errors: static faster in 0, slower in 0, open in 1; common faster in 1, slower" in own
    assert own.endswith("it is not the adversary's alone")


@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_the_figure_shows_all_conditions_and_patterns_of_images(tested, grid):
    figure = draw_symmetry_breaking(tested, "title", grid)
    figure.canvas.draw()
    panels = figure.axes
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == list(CONDITIONS)
    titles = [axes.get_title() for axes in panels[2:]]
    assert titles == ([] if grid is None else list(CONDITIONS[1:]))


def test_keys_that_are_set_by_the_test_and_runs_without_a_tolerance_are_refused():
    for keys, message in (
        ({"coupling": 0.1}, "coupling cannot be set"),
        ({"forcing": "static", "forcing_norm": 1.0}, "forcing cannot be set"),
        ({"diffusivity": 0.0}, "diffusivity cannot be 0"),
        ({"integrator": "rk4"}, "rk4 has no tolerance"),
        ({"precision": "float32"}, "float32 does not resolve"),
        ({"steps": 5}, "deviations grow to a time"),
        ({"trainable": "U,W,a"}, "let both move"),
    ):
        with pytest.raises(ConfigError, match=message):
            symmetry_breaking(RunConfig(**{**KEYS, **keys}), X, Y)
