"""A run says what speaks against its numbers: drifted invariants, a step beyond stability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support_cli import caller

import prdsim
from prdsim.config import RunConfig
from prdsim.running.accuracy import invariants_in_words, warnings_of
from prdsim.running.integrators import make_stepper
from prdsim.running.tableaux import TABLEAUX

SMALL: dict[str, Any] = {
    "dataset": "digits",
    "samples": 60,
    "width": 20,
    "diffusion": True,
    "backend": "numpy",
    "threads": 1,
    "end_time": 10,
}
# What prdsim did by default until 0.1, at 1/lambda_max = 0.23 of this problem.
BEFORE = {
    "integrator": "gd",
    "step_size": 0.23,
    "critic_step_size": 0.01,
    "penalty_points": "random",
}


def finished(path: Any, **keys: Any) -> prdsim.running.loop.Result:
    return prdsim.run(**{**SMALL, **keys}, output=str(path))


def test_a_run_at_the_default_tolerance_is_not_warned_about(tmp_path):
    result = finished(tmp_path / "a.h5")
    assert result.warnings == []
    assert 0.0 < result.last["invariant_error"] < 0.005


def test_a_run_at_the_step_of_version_0_1_is_told_to_be_wrong_with_its_numbers(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    run = caller(monkeypatch, capsys)
    words = [f"--{key.replace('_', '-')}={value}" for key, value in {**SMALL, **BEFORE}.items()]
    words = [word for word in words if not word.startswith("--diffusion")]
    answer = run("run", "--diffusion", *words, "-o", "old.h5")
    assert answer.code == 0
    with prdsim.open_trajectory("old.h5") as trajectory:
        error = trajectory.scalars["invariant_error"][-1]
    assert error > 0.05
    text = f"drifted by {100 * error:.0f} %" if error >= 0.1 else f"drifted by {100 * error:.2g} %"
    assert text in answer.err
    assert "results are the step's" in answer.err
    assert "--step-size 0.058" in answer.err  # a quarter
    assert text in run("inspect", "old.h5").out
    answer = run("converge", "old.h5")
    assert answer.code == 1
    assert "not converged" in answer.out
    assert "changed too much: distance_U_mean (" in answer.out


def test_the_invariant_error_is_the_drift_beside_the_squared_distances(tmp_path):
    result = finished(tmp_path / "a.h5", rtol=0.05)
    with prdsim.open_trajectory(result.path) as trajectory:
        U_0, V_0 = trajectory.U[0], trajectory.V[0]
        U, V = trajectory.U[-1], trajectory.V[-1]
        recorded = trajectory.scalars["invariant_error"]
    before = (U_0**2).sum(axis=1) - (V_0**2).sum(axis=0)
    drift = np.abs((U**2).sum(axis=1) - (V**2).sum(axis=0) - before)
    moved = ((U - U_0) ** 2).sum(axis=1) + ((V - V_0) ** 2).sum(axis=0)
    assert recorded[0] == 0.0
    # Differences of squared norms of about 64 lose some 1e-14 each; the drift is above 1e-3.
    assert recorded[-1] == pytest.approx(drift.mean() / moved.mean(), rel=1e-9)


def test_where_a_layer_is_held_fixed_there_is_no_invariant(tmp_path):
    result = finished(tmp_path / "a.h5", trainable="U,W,a", end_time=1)
    assert np.isnan(result.last["invariant_error"])
    assert (
        invariants_in_words(result.last)
        == "no invariant: U or V is held fixed, or neurons are coupled"
    )
    assert result.warnings == []


@pytest.mark.parametrize(("integrator", "limit"), [("gd", 2.0), ("heun", 2.0), ("rk4", 2.785)])
def test_a_fixed_step_beyond_the_limit_of_stability_is_said_with_a_remedy(integrator, limit):
    config = RunConfig(integrator=integrator)
    row = {"invariant_error": 0.0, "lambda_max": 100.0}
    assert warnings_of(config, 0.99 * limit / 100, row) == []
    (text,) = warnings_of(config, 1.01 * limit / 100, row)
    assert f"{limit:g} / lambda_max = {limit / 100:.2g} now" in text
    assert "--step-size 0.00063" in text  # 1/16 of 1/lambda_max


def test_lambda_max_is_measured_at_the_snapshots_of_fixed_steps_alone(tmp_path):
    keys = {"snapshots": "times:every:2", "scalars": "times:every:1", "end_time": 4}
    fixed = finished(tmp_path / "a.h5", integrator="heun", step_size=0.05, **keys)
    adaptive = finished(tmp_path / "b.h5", **keys)
    with prdsim.open_trajectory(fixed.path) as trajectory:
        measured = trajectory.scalars["lambda_max"]
    assert len(measured) == 5
    assert measured[0] == measured[1] != measured[2] == measured[3] != measured[4]
    assert measured.min() > 0.0
    with prdsim.open_trajectory(adaptive.path) as trajectory:
        assert np.isnan(trajectory.scalars["lambda_max"]).all()


@pytest.mark.parametrize("name", list(TABLEAUX))
def test_limits_of_stability_are_those_of_the_methods(name):
    """Beyond it |R(-z)| > 1, R being what one step makes of dx/dt = -z x, x = 1; below not."""
    tableau, limit = TABLEAUX[name], make_stepper(RunConfig(integrator=name)).stability_limit

    def one_step(z: float) -> float:
        stages: list[float] = []
        for row in tableau.a:
            stages.append(-z * (1 + sum(a * k for a, k in zip(row, stages, strict=True))))
        return 1 + sum(b * k for b, k in zip(tableau.b, stages, strict=True))

    assert abs(one_step(0.999 * limit)) < 1.0
    assert abs(one_step(1.001 * limit)) > 1.0
