"""Finite-time Lyapunov exponents: those of differences of real runs, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support_runs import make_run

import prdsim
from prdsim.analysis import open_recording
from prdsim.analysis.run_tables import RUN_TABLES
from prdsim.analysis.stability.lyapunov import (
    random_difference,
    replay_tangent,
    tangent_growth,
)
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.state import entries
from prdsim.progress import silent
from prdsim.running.simulation import Simulation

KEYS: dict[str, Any] = {
    "width": 8, "critic_width": 7, "samples": 12, "end_time": 1.0, "threads": 1,
    "backend": "numpy", "diffusion": True,
}  # fmt: skip
RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((4, 12)) / 2.0, RNG.standard_normal((3, 12))


def differences(config: RunConfig, size: float) -> float:
    """Log of the growth of a difference of two runs, in the direction in which a tangent begins."""
    with Simulation(config, X, Y) as one:
        first = {name: array.astype(float) for name, array in one.initial.items()}
    shapes = {name: array.shape for name, array in first.items() if name in config.moving}
    unit = random_difference(config.seed, entries(shapes))
    parts = np.split(unit, np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1])
    moved = {
        **first,
        **{
            name: first[name] + size * part.reshape(shapes[name])
            for name, part in zip(shapes, parts, strict=True)
        },
    }
    ends = []
    for initial in (first, moved):
        with Simulation(config, X, Y, initial=initial) as simulation:
            while not simulation.finished:
                simulation.advance(next_view=simulation.time)
            ends.append(simulation.weights(config.end_time))
    apart = sum(float(np.sum((ends[1][name] - ends[0][name]) ** 2)) for name in first)
    return float(np.log(np.sqrt(apart) / size))


@pytest.mark.parametrize(
    ("integrator", "diffusion"),
    [("heun", True), ("heun", False), ("rk4", True), ("bs23", False), ("dopri5", False)],
)
def test_growth_is_that_of_the_difference_of_two_runs(integrator, diffusion):
    keys = {"integrator": integrator, "diffusion": diffusion}
    fixed = integrator in ("heun", "rk4")
    keys |= {"step_size": 0.03} if fixed else {"rtol": 1e-6, "end_time": 0.1}
    config = RunConfig(**{**KEYS, **keys, "chart": "weight"})
    found = tangent_growth(config, X, Y)
    assert found.times[-1] == config.end_time
    # Of adaptive methods the step sizes of two runs differ, too, which a tangent does not know.
    apart = 1e-6 if fixed else 1e-3
    assert found.logs[-1] == pytest.approx(differences(config, 1e-8), abs=apart)


def test_every_backend_finds_the_same_exponent(backend):
    found = [
        tangent_growth(RunConfig(**{**KEYS, "backend": name}), X, Y) for name in ("numpy", backend)
    ]
    np.testing.assert_allclose(found[1].logs, found[0].logs, rtol=1e-7, atol=1e-9)


def test_coupled_neurons_and_controls_have_exponents():
    for keys in ({"groups": 4, "group_deviation": 1e-3, "coupling": 0.5}, {"forcing": "slow"}):
        found = tangent_growth(RunConfig(**KEYS, **keys), X, Y)
        assert np.isfinite(found.logs).all()


def test_a_file_is_followed_to_its_last_snapshot(tmp_path):
    keys = {"integrator": "bs23", "end_time": 0.4, "steps": None, "snapshots": "times:every:0.2"}
    path = make_run(tmp_path / "run.h5", diffusion=True, scalars="times:every:0.2", **keys)
    with prdsim.open_trajectory(path) as trajectory:
        found = replay_tangent(trajectory)
        assert found.times[-1] == trajectory.time[-1] == 0.4
    with open_recording(path) as recording:
        table = RUN_TABLES["lyapunov"](recording, silent)
    assert table.columns["time"][-1] == 0.4
    assert table.columns["exponent"][-1] == found.exponents[-1]


def test_alternating_descent_has_no_tangent_flow():
    keys = {"integrator": "gd", "step_size": 0.01}
    with pytest.raises(ConfigError, match="the steps of gd have no tangents"):
        tangent_growth(RunConfig(**KEYS, **keys), X, Y)
    with pytest.raises(ConfigError, match="only runs to an end time"):
        tangent_growth(RunConfig(**{**KEYS, "end_time": None, "steps": 3}), X, Y)
