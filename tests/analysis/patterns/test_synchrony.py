"""Synchrony: every measure meets its closed forms, and a run's measures are of its velocities."""

from __future__ import annotations

import numpy as np
import pytest
from support import smooth_problem
from support_runs import make_run

from prdsim.analysis import history, open_recording, recording_of
from prdsim.analysis.patterns.synchrony import (
    alignment,
    chi_squared,
    orthogonal_groups,
    polar_order,
)
from prdsim.errors import ConfigError
from prdsim.physics.gradients import velocity
from prdsim.physics.state import State

RNG = np.random.default_rng(0)


def groups(K: int, q: int, d: int) -> np.ndarray:
    """K groups of q vectors of one direction, of any lengths; those of groups are orthogonal."""
    directions = np.linalg.qr(RNG.standard_normal((d, d)))[0][:K]
    return np.repeat(directions, q, axis=0) * RNG.uniform(0.1, 10.0, (K * q, 1))


# -- directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5), (30, 5), (5, 30)])
def test_vectors_on_one_line_are_aligned_and_of_one_direction_have_polar_order(shape):
    alike = np.ones(shape) * RNG.uniform(0.1, 10.0, (shape[0], 1))
    assert alignment(alike) == pytest.approx(1.0, abs=1e-14)
    assert orthogonal_groups(alike) == pytest.approx(1.0, abs=1e-14)
    assert polar_order(alike) == pytest.approx(1.0, abs=1e-14)
    opposite = alike * np.where(np.arange(shape[0]) % 2, -1.0, 1.0)[:, None]
    assert alignment(opposite) == pytest.approx(1.0, abs=1e-14)
    assert polar_order(opposite) == pytest.approx(shape[0] % 2 / shape[0], abs=1e-14)


@pytest.mark.parametrize(("K", "q", "d"), [(1, 6, 4), (3, 5, 7), (7, 2, 7), (4, 9, 40)])
def test_orthogonal_groups_are_counted(K, q, d):
    vectors = groups(K, q, d)
    assert orthogonal_groups(vectors) == pytest.approx(K, rel=1e-12)
    assert alignment(vectors) == pytest.approx((q - 1) / (K * q - 1), abs=1e-13)
    assert polar_order(vectors) == pytest.approx(K**-0.5, rel=1e-12)


@pytest.mark.parametrize("d", [3, 20, 200])
def test_independent_directions_have_the_order_of_chance(d):
    """cos^2 has the mean 1/d and the variance 2 (d - 1) / (d^2 (d + 2)), pairs are independent."""
    m = 400
    vectors = RNG.standard_normal((m, d))
    scatter = np.sqrt(4 * (d - 1) / (d**2 * (d + 2) * m * (m - 1)))
    assert abs(alignment(vectors) - 1 / d) < 6 * scatter
    assert 0.5 / m < polar_order(vectors) ** 2 < 2.0 / m


def test_lengths_and_vectors_without_a_direction_do_not_count():
    vectors = RNG.standard_normal((9, 6))
    more = np.vstack([vectors * 1e-200, np.zeros((3, 6))])
    for measure in (alignment, orthogonal_groups, polar_order):
        assert measure(more) == pytest.approx(measure(vectors), rel=1e-12)
        assert np.isnan(measure(np.zeros((4, 6))))
    assert np.isnan(alignment(vectors[:1]))
    assert orthogonal_groups(vectors[:1]) == 1.0


# -- signals ---------------------------------------------------------------------------------------


def test_equal_signals_are_synchronous_and_opposite_ones_cancel():
    signal = RNG.standard_normal(50)
    assert chi_squared(np.tile(signal, (7, 1))) == pytest.approx(1.0, rel=1e-13)
    assert chi_squared([signal, -signal]) == pytest.approx(0.0, abs=1e-30)
    assert np.isnan(chi_squared(np.ones((3, 5))))


@pytest.mark.parametrize(("K", "q"), [(1, 5), (2, 1), (4, 3), (8, 8)])
def test_independent_groups_are_counted(K, q):
    drawn = RNG.standard_normal((50, K))
    signals = np.linalg.qr(drawn - drawn.mean(axis=0))[0].T  # uncorrelated, of mean 0
    assert chi_squared(np.repeat(signals, q, axis=0) + 3.0) == pytest.approx(1 / K, rel=1e-10)


def test_weights_stand_for_repeated_values():
    signals, times = RNG.standard_normal((4, 6)), np.array([1, 3, 2, 1, 1, 4])
    repeated = np.repeat(signals, times, axis=1)
    assert chi_squared(signals, times) == pytest.approx(chi_squared(repeated), rel=1e-13)
    for wrong in (times[:-1], -times, 0 * times):
        with pytest.raises(ConfigError, match="weights must be one for each value"):
            chi_squared(signals, wrong)


# -- of a run --------------------------------------------------------------------------------------


def test_velocities_are_those_of_the_model():
    problem = smooth_problem()
    weights = {name: array[None] for name, array in problem.initial.items()}
    recording = recording_of(**weights, X=problem.X, Y=problem.Y, config=problem.config())
    found = history(recording, "synchrony")
    model, state = problem.model()
    rate = State.empty(model.backend, model.state_shapes)
    velocity(model, state, out=rate)
    U, dU, dV = problem.initial["U"], rate.U, rate.V
    assert found["alignment_velocity_U"][0] == pytest.approx(alignment(dU), rel=1e-9)
    assert found["polar_velocity_V"][0] == pytest.approx(polar_order(dV.T), rel=1e-9)
    assert found["chi2_activity"][0] == pytest.approx(chi_squared(np.maximum(U @ problem.X, 0)))
    assert np.isnan(found["alignment_change"][0])
    assert np.isnan(found["chi2_speed_U"][0]), "there is no time yet"


def test_speeds_are_those_so_far_whichever_snapshots_are_asked(tmp_path):
    path = make_run(tmp_path / "run.h5", diffusion=True)
    with open_recording(path) as recording:
        whole = history(recording, "synchrony")
        for k in range(len(recording)):
            alone = history(recording, "synchrony", snapshots=[k])
            for name, values in alone.values.items():
                assert values.tobytes() == whole[name][k : k + 1].tobytes(), name
    assert 0.0 < whole["chi2_speed_U"][-1] <= 1.0


def test_motion_is_that_since_the_snapshot_before(tmp_path):
    path = make_run(tmp_path / "run.h5", diffusion=True)
    with open_recording(path) as recording:
        found = history(recording, "synchrony")
        U, V = (np.array([getattr(recording.at(k), x) for k in range(2)], float) for x in "UV")
    assert np.isnan([found["alignment_motion_U"][0], found["polar_motion_V"][0]]).all()
    assert found["alignment_motion_U"][1] == alignment(U[1] - U[0])
    assert found["polar_motion_V"][1] == polar_order((V[1] - V[0]).T)


def test_deviations_within_groups_are_followed(tmp_path):
    keys = {"width": 8, "groups": 2, "group_deviation": 0.01}
    path = make_run(tmp_path / "run.h5", **keys)
    with open_recording(path) as recording:
        found = history(recording, "synchrony")
    for name in ("within_groups_U", "within_groups_V"):
        assert found[name][0] == pytest.approx(0.01, rel=1e-3)
        assert 0.0 < found[name][-1] < 1.0


def test_arrays_that_do_not_move_have_no_velocity(tmp_path):
    path = make_run(tmp_path / "run.h5", diffusion=True, trainable="V,W,a")
    with open_recording(path) as recording:
        found = history(recording, "synchrony", snapshots=[-1])
    assert np.isnan([found["alignment_velocity_U"][0], found["chi2_speed_U"][0]]).all()
    assert found["alignment_velocity_V"][0] > 0.0
