"""A loss that is not finite ends a run as diverged, though every array is finite."""

from __future__ import annotations

import re

import numpy as np
import pytest

import prdsim
from prdsim.errors import DivergedError
from prdsim.recorded import Recorded
from prdsim.running.simulation import Simulation
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Status, open_trajectory

COMMON = {
    "dataset": "digits",
    "samples": 6,
    "width": 5,
    "scalars": "every:1",
    "snapshots": "every:1",
    "backend": "numpy",
    "threads": 1,
}
# The critic of minimax grows exponentially while U and V rest; gd with a large step explodes.
GROWING = {
    "dopri5": {
        "critic": "minimax",
        "trainable": "W,a",
        "rtol": 0.5,
        "atol": 1.0,
        "step_size": 1.0,
        "steps": 1500,
    },
    "gd": {"step_size": 10.0, "steps": 12},
}


@pytest.fixture(scope="module", params=GROWING)
def diverged(request, tmp_path_factory):
    """A run that diverges by a loss: its file, and the error."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    keys = {**COMMON, **GROWING[request.param], "integrator": request.param}
    with pytest.raises(DivergedError) as info:
        prdsim.run(diffusion=True, output=str(path), **keys)
    return path, info.value


def test_the_error_names_the_loss_the_step_and_the_file(diverged):
    path, error = diverged
    assert error.exit_code == 5
    with open_trajectory(path) as trajectory:
        step = trajectory.stop_step
    first, second = str(error).splitlines()
    assert " loss L_" in first
    assert first.startswith("diverged: the ")
    assert re.fullmatch(rf".* is not finite at step {step}( \(to blame: \w+\))?", first)
    assert second.startswith(f"{path} holds the run up to there; try --")


def test_the_rows_and_states_before_it_are_kept(diverged):
    path, error = diverged
    with open_trajectory(path) as trajectory:
        assert trajectory.status is Status.DIVERGED
        assert f"diverged: {trajectory.stop_reason}" == str(error).splitlines()[0]
        kept = np.arange(trajectory.stop_step)
        assert len(kept) >= 1
        assert trajectory.step.tolist() == trajectory.scalars["step"].tolist() == kept.tolist()
        for name in ("loss_sup", "loss_adv", "loss_critic"):
            assert np.isfinite(trajectory.scalars[name]).all()
        assert all(np.isfinite(getattr(trajectory, name)[-1]).all() for name in ARRAYS)
        assert trajectory.check() == []
        recorded = Recorded(trajectory)
        with Simulation(recorded.config, *recorded.data, **recorded.beginning) as simulation:
            simulation.advance(trajectory.stop_step)
            assert simulation.non_finite_array() is None, "all arrays were finite"
    before = path.read_bytes()
    with pytest.raises(DivergedError, match=f"diverged at step {len(kept)} and would again"):
        prdsim.resume(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("integrator", ["gd", "dopri5"])
def test_a_loss_that_is_infinite_at_the_beginning(tmp_path, integrator):
    path = tmp_path / "run.h5"
    X, Y = np.eye(4), np.full((4, 2), 1e160)
    keys = {"integrator": integrator, "steps": 3, "step_size": 1.0, "width": 5}
    with pytest.raises(DivergedError) as info:
        prdsim.run(data=(X, Y), backend="numpy", output=str(path), **keys)
    assert str(info.value) == (
        "diverged: the supervised loss L_sup is not finite at step 0\n"
        f"{path} holds the run up to there; try data of a smaller scale"
    )
    with open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.DIVERGED, 0)
        assert len(trajectory.step) == len(trajectory.scalars["step"]) == 0
        assert trajectory.check() == []
        assert np.isfinite(trajectory.initial["U"]).all()


def test_a_critic_that_explodes_in_its_warm_up(tmp_path):
    path = tmp_path / "run.h5"
    keys = {**COMMON, "integrator": "gd", "critic_step_size": 1e9, "critic_warmup": 1e10}
    reason = (
        r"diverged: a is not finite from step 0 on \(to blame: critic_step_size and critic_warmup"
    )
    advice = r"\)\n.*run\.h5 holds .*; try --critic-step-size 0\.02 --critic-warmup 0$"
    with pytest.raises(DivergedError, match=reason + advice):
        prdsim.run(diffusion=True, step_size=0.1, steps=3, output=str(path), **keys)
    with open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.DIVERGED, 0)
