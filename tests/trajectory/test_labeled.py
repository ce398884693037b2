"""A trajectory as objects of xarray and pandas, and in the memory of another process."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from support_runs import make_run

import prdsim
from prdsim.errors import ConfigError, DamagedTrajectoryError
from prdsim.trajectory import SCALARS


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("labeled") / "run.h5", diffusion=True)


def test_snapshots_have_the_labels_of_the_file(path):
    with prdsim.open_trajectory(path) as trajectory:
        snapshots = trajectory.to_xarray()
        assert isinstance(snapshots, xarray.Dataset)
        assert snapshots.attrs["status"] == "finished"
        assert np.array_equal(snapshots.time, trajectory.time)
        with xarray.open_dataset(path, engine="h5netcdf", group="snapshots") as file:
            for name in ("U", "V", "W", "a"):
                assert snapshots[name].dims == file[name].dims
                assert np.array_equal(snapshots[name], getattr(trajectory, name)[:])
                for attribute in ("long_name", "units"):
                    assert snapshots[name].attrs[attribute] == file[name].attrs[attribute]
    assert float(snapshots.U.sel(step=20)[0, 0]) == snapshots.U.values[-1, 0, 0]


def test_scalars_are_the_columns_of_a_table(path):
    with prdsim.open_trajectory(path) as trajectory:
        table, labeled = trajectory.to_pandas(), trajectory.to_xarray("scalars")
        assert table.index.name == "step"
        assert list(table) == [field.name for field in SCALARS]
        assert {*labeled.variables} == {"step", *table}
        for name, column in trajectory.scalars.items():
            assert np.array_equal(labeled[name], column, equal_nan=True)
            if name != "step":
                assert np.array_equal(table[name], column, equal_nan=True)
    assert table.loc[20, "loss_sup"] == table["loss_sup"].iloc[-1]


def test_measures_too(path):
    with prdsim.open_trajectory(path) as trajectory:
        found = prdsim.history(trajectory, "distances")
    table, labeled = found.to_pandas(), found.to_xarray()
    assert list(table) == ["time", *found.values]
    assert {*labeled.data_vars} == {*found.values}
    assert np.array_equal(table["distance_U_mean"], found["distance_U_mean"])
    assert np.array_equal(labeled["distance_U_mean"], found["distance_U_mean"])
    assert labeled["time"].dims == ("step",)
    assert "mean over neurons" in labeled["distance_U_mean"].attrs["long_name"]


@pytest.mark.parametrize("library", ["xarray", "pandas"])
def test_a_library_that_is_missing_is_named_with_its_extra(library, path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    words = rf"to_{library} needs {library}, which is not installed: pip install 'prdsim\[xarray\]'"
    with prdsim.open_trajectory(path) as trajectory:
        found = prdsim.history(trajectory, "rank")
        for source in (trajectory, found):
            with pytest.raises(ConfigError, match=words):
                getattr(source, f"to_{library}")()


def test_a_pickled_trajectory_is_its_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with prdsim.open_trajectory("run.h5") as trajectory:
        content = pickle.dumps(trajectory)
        monkeypatch.chdir("/")  # where another process may work
        with pickle.loads(content) as again:
            assert again.path == path
            assert np.array_equal(again.U[-1], trajectory.U[-1])
    assert len(content) < 1000


def test_a_damaged_snapshot_is_not_returned(path, tmp_path):
    copy = tmp_path / "copy.h5"
    content = bytearray(path.read_bytes())
    with prdsim.open_trajectory(path) as trajectory:
        content[trajectory._map["snapshots/V"].offset] ^= 1
    copy.write_bytes(content)
    with prdsim.open_trajectory(copy) as trajectory:
        with pytest.raises(DamagedTrajectoryError, match="snapshot 0"):
            trajectory.to_xarray()
        assert len(trajectory.to_pandas()) == 5
