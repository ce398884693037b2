"""Settings without effect: for each row of the table, a change of the key changes no bit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from support_cli import caller

import prdsim
from prdsim.config import RunConfig
from prdsim.config.effects import without_effect
from prdsim.datasets import idx
from prdsim.running.simulation import Simulation
from prdsim.symbols import ARRAYS, DOWNLOADED

GD = {"integrator": "gd", "diffusion": True}
FLOW = {"diffusion": True}
OFF = "on U and V without diffusion"

# What is given, what is then said, and another value for a key that is said to have no effect.
IDLE: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"diffusivity": 3.0}, "diffusivity has no effect without diffusion", {"diffusivity": 1.0}),
    (
        {"diffusion": True, "diffusivity": 0.0},
        "diffusion has no effect with diffusivity = 0",
        {"diffusion": False},
    ),
    (
        {"forcing": "static", "forcing_norm": 2.0, "forcing_time": 1.0},
        f"forcing, forcing_norm, forcing_time have no effect {OFF}",
        {"forcing": "white", "forcing_norm": 3.0, "forcing_time": 2.0},
    ),
    (
        {**FLOW, "forcing_norm": 2.0, "forcing_time": 1.0},
        "forcing_norm, forcing_time have no effect with forcing = adversary",
        {"forcing_norm": 3.0, "forcing_time": 0.001},
    ),
    (
        {**FLOW, "forcing": "static", "forcing_time": 1.0},
        "forcing_time has no effect with forcing = static",
        {"forcing_time": 0.001},
    ),
    (
        {**FLOW, "forcing": "static", "critic": "minimax", "critic_warmup": 1.0},
        "critic, critic_warmup have no effect on U and V with static forcing (D = 1)",
        {"critic": "wgan-gp", "critic_warmup": 0.0},
    ),
    ({"outputs": 3}, "outputs has no effect with dataset = digits", {"outputs": 5}),
    (
        {"correlation_length": 1.0},
        "correlation_length has no effect with dataset = digits",
        {"correlation_length": 2.0},
    ),
    (
        {"spectrum": "ring:3"},
        "spectrum has no effect with dataset = digits",
        {"spectrum": "ring:4"},
    ),
    (
        {"group_deviation": 0.1, "coupling": 0.5},
        "group_deviation, coupling have no effect without groups",
        {"group_deviation": 0.2, "coupling": 0.7},
    ),
    ({"data_dir": "a"}, "data_dir has no effect with dataset = digits", {"data_dir": "b"}),
    (
        {"dataset": "synthetic", "target": "scalar", "outputs": 3},
        "outputs has no effect with target = scalar",
        {"outputs": 5},
    ),
    ({"critic_width": 3}, f"critic_width has no effect {OFF}", {"critic_width": 4}),
    (
        {"critic_rate": 3.0, "critic_warmup": 1.0, "gradient_penalty": 1.0},
        f"critic_rate, critic_warmup, gradient_penalty have no effect {OFF}",
        {"critic_rate": 1.0, "critic_warmup": 2.0, "gradient_penalty": 2.0},
    ),
    (
        {"diffusion": True, "trainable": "U,V", "critic": "minimax", "critic_rate": 2.0},
        "critic, critic_rate have no effect with trainable = U,V",
        {"critic": "wgan-gp", "critic_rate": 3.0},
    ),
    (
        {**FLOW, "critic_steps": 2},
        "critic_steps has no effect with integrator = bs23",
        {"critic_steps": 3},
    ),
    (
        {**GD, "critic_steps": 0, "critic_rate": 2.0},
        "critic_rate has no effect with critic_steps = 0",
        {"critic_rate": 3.0},
    ),
    (
        {**GD, "critic_step_size": 0.01, "critic_rate": 2.0},
        "critic_rate has no effect with critic_step_size = 0.01",
        {"critic_rate": 3.0},
    ),
    (
        {**FLOW, "critic": "minimax", "gradient_penalty": 1.0, "penalty_points": "gauss:2"},
        "gradient_penalty, penalty_points have no effect with critic = minimax",
        {"gradient_penalty": 3.0, "penalty_points": "midpoint"},
    ),
    (
        {**FLOW, "gradient_penalty": 0.0, "penalty_points": "gauss:2"},
        "penalty_points has no effect with gradient_penalty = 0",
        {"penalty_points": "midpoint"},
    ),
    (
        {**GD, "rtol": 1e-5, "atol": 1e-5},
        "rtol, atol have no effect with integrator = gd",
        {"rtol": 1e-2, "atol": 1e-2},
    ),
    (
        {"integrator": "rk4", "rtol": 1e-5},
        "rtol has no effect with integrator = rk4",
        {"rtol": 0.1},
    ),
]
BASE: dict[str, Any] = {"dataset": "digits", "backend": "numpy", "threads": 1, "steps": 2}
SIZES = {"samples": 6, "width": 5}


def state_of(**keys: Any) -> dict[str, np.ndarray]:
    """U and V after two steps; W and a too where they move, or may."""
    config = RunConfig(**{**BASE, **SIZES, **keys})
    dataset = prdsim.load_dataset(
        config.dataset,
        **{key: getattr(config, key) for key in ("samples", "target", "outputs", "seed")},
    )
    with Simulation(config, dataset.X, dataset.Y) as simulation:
        simulation.advance(2)
        weights = simulation.weights()
    return {name: weights[name] for name in ARRAYS if config.adversary or name in "UV"}


@pytest.mark.parametrize(("given", "said", "other"), IDLE, ids=[said for _, said, _ in IDLE])
def test_a_key_that_is_said_to_have_no_effect_has_none(given, said, other):
    assert without_effect(RunConfig(**{**BASE, **given})) == [said]
    before, after = state_of(**given), state_of(**{**given, **other})
    assert all(np.array_equal(before[name], after[name]) for name in before.keys() & after.keys())


ACTING: list[dict[str, Any]] = [
    {},
    {"dataset": "synthetic", "outputs": 3, "correlation_length": 1.0},
    {"dataset": "mnist", "data_dir": "a", "split": "test"},
    {**FLOW, "diffusivity": 3.0, "critic": "minimax", "critic_rate": 0.1, "critic_width": 3},
    {**FLOW, "trainable": "U,V,W", "gradient_penalty": 1.0, "penalty_points": "gauss:2"},
    {**GD, "critic_steps": 3, "critic_step_size": 0.1, "penalty_points": "random"},
    {**GD, "critic_steps": 0, "critic_step_size": 0.1, "critic_warmup": 1.0, "critic_rate": 2.0},
    {"diffusion": True, "integrator": "heun", "critic_warmup": 1.0, "rtol": 1e-4, "atol": 1e-9},
    {**FLOW, "forcing": "shuffled", "forcing_norm": 2.0, "forcing_time": 1.0, "critic_rate": 0.1},
    {"preset": "poster", "rtol": 3e-4},
    {"diffusion": False},
    {"dataset": "synthetic", "spectrum": "ring:3"},
    {"groups": 2, "group_deviation": 0.1, "coupling": 0.5},
]


@pytest.mark.parametrize("given", ACTING, ids=str)
def test_nothing_is_said_of_keys_that_act_and_of_defaults(given):
    assert without_effect(RunConfig(**{**BASE, **given})) == []


def test_a_preset_that_is_contradicted():
    config = RunConfig(preset="theory", trainable="U,V", rtol=1e-3, target="scalar", seed=4)
    said = "preset theory is changed by trainable = U,V (not U), rtol = 0.001 (not 1e-05)"
    assert without_effect(config) == [said]


def test_arrays_in_place_of_a_data_set():
    config = RunConfig(dataset="mnist", samples=4, data_dir="a", width=3)
    assert without_effect(config, ("dataset", "samples", "data_dir")) == [
        "dataset, data_dir, samples have no effect on data given as arrays"
    ]


def test_the_data_sets_of_a_folder_are_those_of_the_manifest():
    assert set(DOWNLOADED) == set(idx.manifest())


def test_it_is_said_on_stderr_and_the_head_line_names_data_and_diffusion(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    run = caller(monkeypatch, capsys)
    (tmp_path / "run.toml").write_text("outputs = 4\nwidth = 5\ndataset = 'digits'\n")
    words = ["--set", "rtol=.1", "--integrator", "gd", "--steps", 2, "--samples", 6]
    answer = run("run", "run.toml", *words, "--backend", "numpy", "-o", "a.h5")
    assert answer.code == 0
    first, second, head, *_ = answer.err.splitlines()
    assert first == "note: outputs has no effect with dataset = digits"
    assert second == "note: rtol has no effect with integrator = gd"
    assert head.startswith("digits, without diffusion; 5 neurons, 6 samples, ")
    assert "\n  run                      digits, 6 samples, without diffusion\n" in answer.out
    options = ["--diffusion", "--diffusivity", 3, "--dataset", "digits", "--steps", 2]
    answer = run("run", *options, "--samples", 6, "--width", 5, "--backend", "numpy", "-o", "b.h5")
    words = "digits, with diffusion (D = 3, wgan-gp); 5 neurons"
    assert [line[: len(words)] for line in answer.err.splitlines()[:1]] == [words]
    assert " digits, 6 samples, with diffusion (D = 3, wgan-gp)\n" in answer.out


def test_python_hears_of_it_in_the_log_unless_it_does_not_want_to(tmp_path, caplog):
    keys = {**BASE, **SIZES, "diffusivity": 2.0, "force": True, "output": str(tmp_path / "a.h5")}
    with caplog.at_level(logging.WARNING, "prdsim"):
        prdsim.run(**keys, remarks=False)
        assert caplog.messages == []
        data = np.ones((3, 2)), np.array([1, 2, 2])
        keys.pop("samples")
        prdsim.run(RunConfig(**keys), data=data)
    assert caplog.messages == [
        "dataset has no effect on data given as arrays",
        "diffusivity has no effect without diffusion",
        "arrays: no sample has label 0 (1 of 3 classes, 0 to 2); each has an output all the same",
    ]
