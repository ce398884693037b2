"""The declared table of measures, and the values that a history holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import EPS
from support_runs import KEYS, make_run

from prdsim import vocabulary
from prdsim.analysis import (
    GROUPS,
    History,
    Recording,
    history,
    neuron_table,
    open_recording,
    recording_of,
    subspace_table,
)
from prdsim.analysis.patterns import entries, neurons, order, subspace
from prdsim.analysis.run_tables import RUN_TABLES
from prdsim.errors import ConfigError


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "run.h5", diffusion=True)


@pytest.fixture(scope="module")
def measured(path) -> History:
    with open_recording(path) as recording:
        return history(recording)


@pytest.fixture
def recording(path):
    with open_recording(path) as recording:
        yield recording


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_produces_its_measures_and_nothing_else(recording, name):
    measures = [measure.name for measure in GROUPS[name].measures]
    assert list(history(recording, [name]).values) == measures


def test_all_groups_are_measured_in_the_order_of_the_table(measured):
    asked = [group for group in GROUPS.values() if not group.on_demand]
    assert list(measured.values) == [m.name for group in asked for m in group.measures]
    assert measured.left_out == {}
    assert {len(values) for values in measured.values.values()} == {5}
    assert {values.dtype for values in measured.values.values()} == {np.dtype(float)}
    assert measured.step.tolist() == [0, 5, 10, 15, 20]


def test_names_of_measures_are_unique_and_say_what_they_are():
    measures = [measure for group in GROUPS.values() for measure in group.measures]
    assert all(measure.meaning and measure.unit for measure in measures)
    for attribute in ("name", "meaning"):
        assert len({getattr(measure, attribute) for measure in measures}) == len(measures)
    assert (list(GROUPS), list(RUN_TABLES)) == (list(vocabulary.GROUPS), list(vocabulary.TABLES))
    assert not set(GROUPS) & set(RUN_TABLES)


def test_an_unknown_group_is_refused(recording):
    with pytest.raises(
        ConfigError, match="shape: no such group of measures; choose from distances,"
    ):
        history(recording, ["shape"])


# -- which snapshots -------------------------------------------------------------------------------


def test_snapshots_may_be_chosen(recording, measured):
    for absent in (5, -6):
        with pytest.raises(ConfigError, match=f"there is no snapshot {absent}: they are 0 to 4"):
            history(recording, ["rank"], snapshots=[absent])
    chosen = history(recording, ["rank"], snapshots=[3, -1, 0])
    assert chosen.step.tolist() == [15, 20, 0]
    assert chosen.time.tolist() == measured.time[[3, -1, 0]].tolist()
    whole = measured["effective_rank"][[3, -1, 0]]
    assert np.array_equal(chosen["effective_rank"], whole, equal_nan=True)


def test_progress_sees_every_snapshot(recording):
    seen = []

    def watched(indices):
        for index in indices:
            seen.append(index)
            yield index

    history(recording, ["distances"], progress=watched)
    assert seen == [0, 1, 2, 3, 4]


def test_a_table_has_a_row_a_snapshot(measured):
    rows = measured.table("five").rows
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20]
    assert rows[-1]["gini_U"] == measured["gini_U"][-1]
    assert rows[0]["gini_U"] is None  # nothing has moved


# -- values ----------------------------------------------------------------------------------------


def summary(name: str, values: np.ndarray) -> dict[str, float]:
    """Of seven neurons: quantiles lie 6 q ranks up, between two of the sorted values."""
    ordered = np.sort(values)
    assert len(ordered) == 7
    return {
        f"{name}_mean": sum(values) / 7,
        f"{name}_sd": np.sqrt(sum((values - sum(values) / 7) ** 2) / 7),
        f"{name}_q05": 0.7 * ordered[0] + 0.3 * ordered[1],
        f"{name}_q50": ordered[3],
        f"{name}_q95": 0.3 * ordered[5] + 0.7 * ordered[6],
        f"{name}_max": ordered[6],
    }


def order_of(filters: np.ndarray, name: str) -> dict[str, float]:
    """Means are over the filters that have a pattern, of spectra and covariances over all."""
    moran = order.morans_i(filters, (8, 8))
    frequency, power = order.radial_spectrum(filters, (8, 8))
    lag, covariance = order.radial_autocovariance(filters, (8, 8))
    mean = covariance.mean(axis=0)[None]
    return {
        f"morans_i_{name}": np.nanmean(moran),
        f"wavelength_{name}": order.peak_wavelength(frequency, power.mean(axis=0)[None])[0],
        f"correlation_length_{name}": order.correlation_length(lag, mean)[0],
    }


def direct(recording: Recording, k: int) -> dict[str, float]:
    """All measures but forces, by the functions of arrays and by hand."""
    U, V = np.array(recording.U[k]), np.array(recording.V[k])
    U_0, V_0 = np.array(recording.U[0]), np.array(recording.V[0])
    far_U, far_V = neurons.hidden_distances(U, U_0), neurons.top_distances(V, V_0)
    X, _ = recording.samples
    gates = [[sum(u * x) >= 0 for x in X.T] for u in U]
    rank = subspace.singular_values(U - U_0)
    return {
        **summary("distance_U", far_U),
        **summary("distance_V", far_V),
        "cv_U": neurons.coefficient_of_variation(far_U),
        "gini_U": neurons.gini(far_U),
        "cv_V": neurons.coefficient_of_variation(far_V),
        "gini_V": neurons.gini(far_V),
        "skewness_U": entries.skewness(U),
        "kurtosis_U": entries.excess_kurtosis(U),
        "ks_U": entries.normal_distance(U),
        "ks_initial_U": entries.normal_distance(U, 1.0),
        **order_of(U, "U"),
        **order_of(U - U_0, "change"),
        "active_gates": sum(map(sum, gates)) / (7 * X.shape[1]),
        "inactive_neurons": sum(not any(row) for row in gates) / 7,
        "effective_rank": subspace.effective_rank(rank),
        "participation_ratio": subspace.participation_ratio(rank),
    }


@pytest.mark.parametrize("k", [1, 4])
def test_values_are_those_of_the_array_functions(recording, measured, k):
    """Sums of seven numbers in another order, and quantiles: a few roundings."""
    for name, value in direct(recording, k).items():
        assert measured[name][k] == pytest.approx(value, rel=32 * EPS, abs=32 * EPS), name


def test_distances_agree_with_what_the_run_recorded(recording, measured):
    """It sums differently, and in its own coordinates: 64 inputs, 20 steps of roundings."""
    rows = np.isin(recording.scalars["step"], recording.step)
    for name in ("distance_U_mean", "distance_V_mean"):
        recorded = recording.scalars[name][rows]
        np.testing.assert_allclose(measured[name], recorded, rtol=1e-12, atol=1e-12)


def test_forces_agree_with_what_the_run_recorded(recording, measured):
    """The mean square over neurons, (mean^2 + sd^2), times m is the square of the whole norm."""
    rows = np.isin(recording.scalars["step"], recording.step)
    for kind in ("reaction", "diffusion"):
        for layer in "UV":
            stem = f"{kind}_{layer}"
            squares = measured[f"{stem}_mean"] ** 2 + measured[f"{stem}_sd"] ** 2
            recorded = recording.scalars[f"{kind}_norm_{layer}"][rows]
            np.testing.assert_allclose(np.sqrt(7 * squares), recorded, rtol=1e-10)


def test_without_diffusion_its_norms_are_zero(tmp_path):
    with open_recording(make_run(tmp_path / "a.h5")) as recording:
        found = history(recording, ["forces"])
    assert not found["diffusion_U_max"].any()
    assert not found["diffusion_V_max"].any()
    assert found["reaction_U_mean"].all()


def test_weights_that_begin_at_zero_have_no_scale_and_no_pattern(tmp_path):
    with open_recording(make_run(tmp_path / "a.h5", init_scale=0.0)) as recording:
        found = history(recording)
    assert np.isnan(found["ks_initial_U"]).all()
    assert np.isnan(found["morans_i_U"][0])
    assert found["distance_U_mean"][0] == 0.0


def test_inactive_neurons_are_those_that_no_sample_opens():
    U = [[[1.0, 0.0], [-1.0, -1.0], [0.0, 0.0], [1.0, -2.0]]]
    X = [[1.0, 1.0, 0.5], [0.0, 1.0, 2.0]]
    recording = recording_of(U, np.zeros((1, 1, 4)), X=X, Y=np.zeros((1, 3)))
    found = history(recording, ["activity"])
    assert found["active_gates"].tolist() == [(3 + 0 + 3 + 1) / 12]  # 0 counts as open
    assert found["inactive_neurons"].tolist() == [1 / 4]


def test_the_initial_scale_of_arrays_is_that_of_their_first_snapshot():
    U = np.random.default_rng(0).standard_normal((2, 5, 9)) * 3.0
    found = history(recording_of(U, np.zeros((2, 1, 5))), ["entries"])
    assert found["ks_initial_U"][1] == entries.normal_distance(U[1], float(np.std(U[0])))


# -- other tables ----------------------------------------------------------------------------------


def test_neurons_are_listed_at_a_snapshot(recording, measured):
    for index in (-1, 2):
        table = neuron_table(recording, index)
        columns = {name: np.array(values) for name, values in table.columns.items()}
        assert columns["neuron"].tolist() == list(range(KEYS["width"]))
        for name in ("distance_U", "distance_V", "reaction_U", "diffusion_V"):
            assert columns[name].mean() == pytest.approx(measured[f"{name}_mean"][index], rel=1e-14)
        moran = np.nanmean(columns["morans_i"])
        assert moran == pytest.approx(measured["morans_i_U"][index], rel=1e-14)
    assert table.title.startswith("neurons at step 10, t = ")


def test_the_shares_of_the_path_are_listed(recording):
    table = subspace_table(recording)
    shares = subspace.trajectory_shares(np.asarray(recording.U))
    assert np.array_equal(table.columns["share"], shares)
    assert table.columns["cumulative"][-1] == pytest.approx(1.0)
    assert list(table.columns["directions"]) == [1, 2, 3, 4, 5]
