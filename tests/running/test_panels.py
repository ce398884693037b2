"""The key ``memory``: as few panels as fit, recorded, and resumed to the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import random_problem, same_bits

import prdsim
from prdsim.backends import get_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.state import Dimensions
from prdsim.running import memory, step_size
from prdsim.running.memory import memory_bytes, needed_bytes, panel_of
from prdsim.running.step_size import automatic_step_size, kernel_bytes

KEYS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 600,
    "width": 40,
    "backend": "numpy",
    "threads": 1,
    "diffusion": True,
    "step_size": 0.01,
    "chart": "weight",
}
SIZES = Dimensions(64, 10, 600, 40, 40)


def needed(panel: int | None, **keys: Any) -> int:
    config = RunConfig(**{**KEYS, "steps": 1, **keys})
    return needed_bytes(config, SIZES, get_backend("numpy", threads=1), "weight", panel)


def panel(allowed: int, chart: str = "weight", **keys: Any) -> int | None:
    config = RunConfig(**{**KEYS, "steps": 1, "memory": f"{allowed / 1000} KB", **keys})
    return panel_of(config, SIZES, get_backend("numpy", threads=1), chart)


def test_there_are_as_few_panels_as_fit():
    """Of 16, 32, ... samples, so that their arrays are aligned."""
    assert panel(needed(None)) is None
    assert panel(needed(None) - 1) == panel(needed(304)) == 304
    assert panel(needed(304) - 1) == panel(needed(208)) == 208
    assert panel_of(RunConfig(), SIZES, get_backend("numpy"), "weight") is None


def test_too_little_memory_is_refused_with_the_numbers():
    with pytest.raises(ConfigError) as caught:
        panel(needed(208) - 1)
    first, second = str(caught.value).splitlines()
    assert first.startswith("memory ")
    assert "this run needs 2." in first
    assert first.endswith("MB for arrays, however few samples it takes at a time;")
    assert second.startswith("give more, lower --samples (now 600), --width (now 40) or use")
    with pytest.raises(ConfigError, match=r"for arrays;\ngive more, .* or --chart weight"):
        panel(needed(None), chart="gram")


def test_a_run_that_does_not_fit_is_told_of_panels(monkeypatch):
    k, config = get_backend("numpy", threads=1), RunConfig(**{**KEYS, "steps": 1})
    monkeypatch.setattr(k, "available_bytes", lambda: 10**6)
    with pytest.raises(ConfigError, match=r"or take the samples in panels: --memory with a size$"):
        memory.check_memory(config, SIZES, k, "weight")
    with pytest.raises(ConfigError, match=r"float32 or --chart weight$"):
        memory.check_memory(config, SIZES, k, "gram")


def test_the_search_for_an_automatic_step_counts_too(monkeypatch):
    """It comes before the run's arrays, in float64, and in panels of its own."""
    monkeypatch.setattr(memory, "host_memory_bytes", lambda *_: 0)
    config = RunConfig(**{**KEYS, "steps": 1, "step_size": "auto"})
    kernel = kernel_bytes(config, SIZES) + memory.data_bytes(SIZES)
    assert needed(None, step_size="auto") == max(needed(None), kernel)
    monkeypatch.setattr(step_size, "_LARGEST_A", 40 * 100)
    assert kernel_bytes(config, SIZES) < kernel - memory.data_bytes(SIZES)


def test_the_automatic_step_is_the_same_in_panels(monkeypatch):
    problem = random_problem(3, n=20, m=8)
    arguments = problem.config(), problem.X, problem.Y, problem.initial
    together = automatic_step_size(*arguments)
    monkeypatch.setattr(step_size, "_LARGEST_A", 8 * 6)
    assert automatic_step_size(*arguments) == together


@pytest.mark.parametrize("chart", ["weight", "range"])
def test_predicted_memory_is_what_is_allocated(monkeypatch, chart):
    problem = random_problem(1, d_in=30, d_out=10, n=25, m=50, m_c=20)
    allocated: list[np.ndarray] = []
    empty = NumpyBackend.empty

    def counted(self: Any, shape: Any, dtype: Any = None) -> np.ndarray:
        allocated.append(empty(self, shape, dtype))
        return allocated[-1]

    problem.simulation(chart=chart)
    monkeypatch.setattr(NumpyBackend, "empty", counted)
    simulation = problem.simulation(chart=chart, panel=7)
    second = allocated[len(allocated) // 2 :]  # what the run in panels took, after the one without
    taken = sum(array.nbytes for array in second)
    vectors = 8 * 20 * max(problem.X.shape)
    k, sizes = simulation.backend, simulation.dimensions
    predicted = memory_bytes(simulation.config, sizes, k, chart, 7)
    assert taken - vectors <= predicted <= taken + vectors
    assert predicted < memory_bytes(simulation.config, sizes, k, chart) - 4 * 50 * 15 * 8


def test_a_file_keeps_the_panel_and_is_resumed_to_the_same_bits(tmp_path):
    budget = {"memory": f"{(needed(None, integrator='gd') - 1) / 1000} KB"}
    keys = {**KEYS, **budget, "integrator": "gd", "penalty_points": "random"}
    whole = prdsim.run(output=str(tmp_path / "whole.h5"), steps=6, **keys)
    part = tmp_path / "part.h5"
    prdsim.run(output=str(part), steps=3, **keys)
    with prdsim.open_trajectory(part) as trajectory:
        assert trajectory.attributes["resolved"]["panel"] == whole.resolved.panel == 304
        assert trajectory.config["memory"] == budget["memory"]
    assert same_bits(prdsim.resume(part, steps=6).state, whole.state)
    together = prdsim.run(output=str(tmp_path / "one.h5"), steps=6, **{**keys, "memory": None})
    assert together.resolved.panel is None
    for name, array in together.state.items():
        assert np.allclose(array, whole.state[name], rtol=1e-10, atol=1e-12)


def test_a_run_says_how_many_samples_it_takes_at_a_time():
    problem = random_problem(1)
    assert ", 4 samples at a time; about" in problem.simulation(panel=4).describe()
    assert "at a time" not in problem.simulation().describe()
