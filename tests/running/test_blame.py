"""The advice after a divergence: the setting that is to blame, whatever overflowed first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prdsim
from prdsim.config import RunConfig
from prdsim.errors import DivergedError
from prdsim.running import blame
from prdsim.running.accuracy import remedy, remedy_of
from prdsim.running.blame import blamed, suspects, with_blame

KEYS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 8,
    "width": 6,
    "backend": "numpy",
    "threads": 1,
    "diffusion": True,
    "steps": 30,
    "remarks": False,
}
ROW = {"lambda_max": 1.0, "loss_sup": 1.0}  # 1 / (16 lambda_max) is 0.0625

# In gd the critic moves first: with the first two its arrays overflow first, whoever is to blame.
DIVERGED: list[tuple[dict[str, Any], list[str], str]] = [
    ({"integrator": "gd", "step_size": 1e4}, ["step_size"], r"--step-size 0\.05\d?"),
    (
        {"integrator": "gd", "diffusivity": 1e60, "critic_step_size": 0.03},
        ["diffusivity"],
        "--diffusivity 1",
    ),
    ({"integrator": "gd", "critic_rate": 1e5}, ["critic_rate"], "--critic-rate 1"),
    (
        {"integrator": "gd", "critic_step_size": 1e4},
        ["critic_step_size"],
        r"--critic-step-size 0\.01",
    ),
    (
        {"integrator": "heun", "gradient_penalty": 1e9},
        ["gradient_penalty"],
        "--gradient-penalty 10",
    ),
    ({"integrator": "rk4", "step_size": 0.1, "init_scale": 1e80}, ["init_scale"], "--init-scale 1"),
    ({"end_time": 9.0, "diffusivity": 1e200}, ["diffusivity"], "--diffusivity 1"),
    ({"end_time": 9.0, "rtol": 1e-300, "atol": 0.0}, ["rtol"], r"--rtol 0\.001"),
    (
        {"integrator": "heun", "diffusivity": 1e60, "step_size": 1e3},
        ["diffusivity", "step_size"],
        r"--diffusivity 1 --step-size 0\.05\d?",
    ),
]


def diverge(path: Path, **keys: Any) -> str:
    with pytest.raises(DivergedError) as caught:
        prdsim.run(**{**KEYS, **keys}, output=str(path))
    return str(caught.value)


@pytest.mark.parametrize(("keys", "names", "advice"), DIVERGED, ids=[str(x) for x, *_ in DIVERGED])
def test_the_setting_that_is_to_blame_is_named(keys, names, advice, tmp_path):
    path = tmp_path / "run.h5"
    first, second = diverge(path, **keys).splitlines()
    assert first.endswith(f" (to blame: {' and '.join(names)})")
    assert re.fullmatch(rf"{re.escape(str(path))} holds the run up to there; try {advice}", second)
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert f"diverged: {trajectory.stop_reason}" == first
        config = RunConfig(**trajectory.config)
        assert second.endswith(f"try {remedy_of(trajectory, config)}")


def test_the_advice_is_one_that_helps(tmp_path):
    text = diverge(tmp_path / "run.h5", integrator="gd", step_size=1e4)
    step_size = float(text.rpartition(" ")[2])
    keys = {**KEYS, "integrator": "gd", "step_size": step_size, "output": str(tmp_path / "b.h5")}
    assert prdsim.run(**keys).stop_reason == "finished"


def test_where_replays_cannot_tell_it_is_the_farthest(tmp_path, monkeypatch):
    keys = {"integrator": "heun", "diffusivity": 1e60, "step_size": 1e3}
    monkeypatch.setattr(blame, "_fits", lambda _: False)  # no memory for a second run
    assert "(to blame: diffusivity)" in diverge(tmp_path / "a.h5", **keys)
    monkeypatch.undo()
    monkeypatch.setattr(blame, "_STEPS", 0)  # the run was too long to be replayed
    assert "(to blame: diffusivity)" in diverge(tmp_path / "b.h5", **keys)
    monkeypatch.undo()
    monkeypatch.setattr(blame, "_SECONDS", -1.0)  # too slow: what is finite so far may be well
    assert "(to blame: diffusivity)" in diverge(tmp_path / "c.h5", **keys)


def test_where_no_setting_is_unusual_nothing_is_blamed(tmp_path):
    X, Y = np.eye(4), np.full((4, 2), 1e200)
    with pytest.raises(DivergedError) as caught:
        prdsim.run(
            data=(X, Y), backend="numpy", width=5, normalize="none", output=str(tmp_path / "a")
        )
    assert "to blame" not in str(caught.value)
    assert str(caught.value).endswith("; try --normalize unit, or data of a smaller scale")


def test_what_is_usual():
    def found(step_size: float = 0.06, **keys: Any) -> dict[str, float]:
        return {s.key: s.usual for s in suspects(RunConfig(**keys), step_size, ROW)}

    gd = {"integrator": "gd", "diffusion": True}
    assert found() == found(**gd) == found(preset="poster", diffusion=True) == {}
    assert found(1.0, integrator="heun") == {"step_size": 0.062}
    assert found(1.0) == {}  # adaptive steps find their size
    assert found(preset="poster", init_scale=1.0) == {"init_scale": 0.1}
    assert found(diffusivity=9.0) == found(critic_rate=9.0) == {}  # without diffusion
    assert found(critic_rate=9.0, diffusion=True, trainable="U,V") == {}  # the critic rests
    assert found(1.0, **gd, critic_step_size=0.1)["critic_step_size"] == pytest.approx(0.062 / 5)
    assert found(**gd, critic="minimax") == {"critic_rate": 1 / 256}
    assert found(rtol=1e-5) == found(rtol=0.1) == {"rtol": 1e-3}
    assert list(found(5.0, **gd, diffusivity=1e3, init_scale=9.0)) == [
        "diffusivity",
        "step_size",
        "init_scale",
    ]


def test_the_reason_in_a_file_carries_the_blame():
    for keys in ([], ["step_size"], ["step_size", "diffusivity"]):
        assert blamed(with_blame("V is not finite from step 3 on", keys)) == keys
    assert blamed("V is not finite (to blame: the weather, probably)") == []
    config = RunConfig(integrator="heun")
    assert remedy(config, 1.0, "U (to blame: step_size)", ROW) == "--step-size 0.062"
    assert remedy(config, 1.0, "U (to blame: no_such_key)", ROW) == "--step-size 0.5"
    assert remedy(config, 1.0, "of an older version", {"loss_sup": 1.0}) == "--step-size 0.5"
    assert remedy(RunConfig(), 1.0, "U is not finite", ROW) == "--rtol 0.0001"
