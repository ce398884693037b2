"""Running and resuming from Python."""

from __future__ import annotations

import numpy as np
import pytest
from support_runs import At

import prdsim
from prdsim.errors import ConfigError, DataError, PrdsimError
from prdsim.running.simulation import Simulation

KEYS = {
    "samples": 8,
    "width": 6,
    "integrator": "gd",
    "steps": 20,
    "backend": "numpy",
    "diffusion": True,
}


def test_the_result_is_the_end_of_the_file(tmp_path):
    result = prdsim.run(prdsim.RunConfig(**KEYS), output=tmp_path / "a.h5")
    assert (result.stop_reason, result.step, result.signal) == ("finished", 20, None)
    with prdsim.open_trajectory(result.path) as trajectory:
        for name in ("U", "V", "W", "a"):
            assert np.array_equal(getattr(trajectory, name)[-1], result.state[name])
            assert np.array_equal(getattr(trajectory, name)[0], trajectory.initial[name])
        for name, column in trajectory.scalars.items():
            if name != "step":
                assert np.array_equal(result.first[name], column[0], equal_nan=True)
                assert np.array_equal(result.last[name], column[-1], equal_nan=True)
        assert trajectory.time[-1] == result.time == 20 * result.resolved.step_size


def test_the_file_holds_the_states_of_its_steps(tmp_path):
    config = prdsim.RunConfig(**KEYS, snapshots="every:5")
    path = prdsim.run(config, output=str(tmp_path / "a.h5")).path
    dataset = prdsim.load_dataset("synthetic", samples=8, seed=0)
    with (
        Simulation(config, dataset.X, dataset.Y) as simulation,
        prdsim.open_trajectory(path) as trajectory,
    ):
        assert trajectory.step.tolist() == [0, 5, 10, 15, 20]
        for row, step in enumerate(trajectory.step):
            simulation.advance(int(step) - simulation.step)
            assert np.array_equal(trajectory.U[row], simulation.weights()["U"])
            assert np.array_equal(trajectory.W[row], simulation.weights()["W"])
            assert trajectory.time[row] == simulation.time


def test_keywords_replace_fields(tmp_path):
    config = prdsim.RunConfig(**KEYS)
    result = prdsim.run(config, steps=5, output=str(tmp_path / "a.h5"))
    assert result.step == 5
    assert config.steps == 20
    with pytest.raises(ConfigError, match="stepz"):
        prdsim.run(config, stepz=5)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_same_seed_gives_the_same_bits(tmp_path, backend):
    ends = [
        prdsim.run(**{**KEYS, "backend": backend, "seed": seed}, output=str(tmp_path / name)).state
        for seed, name in ((1, "a.h5"), (1, "b.h5"), (2, "c.h5"))
    ]
    for name in ("U", "V", "W", "a"):
        assert np.array_equal(ends[0][name], ends[1][name])
        assert not np.array_equal(ends[0][name], ends[2][name])


def test_data_of_ones_own_have_one_sample_a_row(tmp_path):
    generator = np.random.default_rng(0)
    X, Y = generator.standard_normal((9, 4)), generator.standard_normal((9, 2))
    result = prdsim.run(**KEYS, data=(X, Y), normalize="none", output=str(tmp_path / "a.h5"))
    assert result.state["U"].shape == (6, 4)
    assert result.state["V"].shape == (2, 6)
    with prdsim.open_trajectory(result.path) as trajectory:
        assert np.array_equal(np.sort(trajectory.data["X"], axis=1), np.sort(X.T, axis=1))
        assert trajectory.config["samples"] == 9
    more = prdsim.resume(result.path, 25)
    assert more.step == 25


def test_data_that_do_not_fit_are_refused(tmp_path):
    X = np.ones((9, 4))
    with pytest.raises(DataError, match="9"):
        prdsim.run(**KEYS, data=(X, np.ones((8, 2))), output=str(tmp_path / "a.h5"))
    assert not list(tmp_path.iterdir())


def test_a_failure_in_the_middle_is_kept_in_the_file(tmp_path):
    def slip() -> None:
        raise ValueError("a slip of the user's")

    with pytest.raises(ValueError, match="a slip"):
        prdsim.run(**KEYS, progress=At(13, slip), output=str(tmp_path / "a.h5"))
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "failed"
        assert "a slip" in trajectory.stop_reason
    whole = prdsim.run(**KEYS, output=str(tmp_path / "b.h5"))
    resumed = prdsim.resume(tmp_path / "a.h5")
    assert np.array_equal(resumed.state["U"], whole.state["U"])


def test_every_error_is_one_of_ours():
    with pytest.raises(PrdsimError):
        prdsim.open_trajectory("nowhere.h5")
    with pytest.raises(PrdsimError):
        prdsim.load_dataset("nothing")
    with pytest.raises(PrdsimError):
        prdsim.get_backend("nothing")
