"""Plans of studies: axes, members and their names, and what is refused."""

from __future__ import annotations

import json

import pytest

from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.study.axes import axis, from_option, zipped
from prdsim.study.plan import Plan, load_plan, name_of


def values(text: str) -> list[object]:
    (key,) = (found := from_option(text)).keys
    return [point[key] for point in found.points]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=0:4", [0, 1, 2, 3]),
        ("seed=0:10:5", [0, 5]),
        ("width=8,16", [8, 16]),
        ("diffusion=true,false", [True, False]),
        ("init-scale=linear:0:1:3", [0.0, 0.5, 1.0]),
        ("diffusivity=log:0.01:1:3", [0.01, pytest.approx(0.1), 1.0]),
        ("width=log:64:512:4", [64, 128, 256, 512]),
        ('trainable=["U,V", "U"]', ["U,V", "U"]),
        ("dataset=digits,synthetic", ["digits", "synthetic"]),
        ("step_size=auto,0.1", ["auto", 0.1]),
    ],
)
def test_values_are_read_as_written(text, expected):
    found = values(text)
    assert found == expected
    assert [type(value) for value in found] == [type(getattr(v, "expected", v)) for v in expected]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed=0:3", "sed: no such configuration key; did you mean seed?"),
        ("seed", "--vary seed: must be key=values, such as --vary seed=0:10"),
        ("seed=", "seed: an axis needs at least one value"),
        ("seed=3:3", "seed: an axis needs at least one value"),
        ("seed=1,1", "seed: the value 1 is given twice"),
        ("seed=0:4:0", "seed: 0:4:0: the step of a range is at least 1"),
        ("seed=0:999999999", "seed: 0:999999999 has more than 100000 values"),
        ("seed=0:1" + "0" * 30, "no key takes numbers so large"),
        ("seed=[1]\ndiffusion=[true]", "is not a list"),
        ("diffusivity=log:0:1:3", "positive ends"),
        ("diffusivity=log:1:2", "diffusivity: log:1:2: must be log:FIRST:LAST:COUNT"),
        ("diffusivity=linear:0:inf:3", "with finite ends and a count from 2"),
        ('trainable=["U"', 'trainable: ["U" is not a list'),
        ("output=a,b", "output: the study decides where its members are; remove it"),
    ],
)
def test_what_no_axis_can_be_is_refused(text, words):
    with pytest.raises(ConfigError) as error:
        from_option(text)
    assert words in str(error.value)


def test_an_axis_of_a_file_is_a_list_or_a_range():
    with pytest.raises(ConfigError, match="seed: must be a list or a range such as 0:10, got 3"):
        axis("seed", 3)
    with pytest.raises(ConfigError, match="as many values each, not width 2, critic_width 1"):
        zipped({"width": [1, 2], "critic_width": [3]})


def test_a_file_crosses_axes_and_zips_what_varies_together(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'samples = 8\n[vary]\nseed = "0:2"\n[[together]]\nwidth = [4, 8]\ncritic_width = [2, 4]\n'
    )
    plan = load_plan(path, vary=["diffusion=true,false"], settings=["samples=9"])
    assert plan.base["samples"] == 9
    assert plan.keys == ("seed", "diffusion", "width", "critic_width")
    assert [(m.config.seed, m.config.diffusion, m.config.critic_width) for m in plan.members] == [
        (s, d, c) for s in (0, 1) for d in (True, False) for c in (2, 4)
    ]


def test_a_list_of_members_stands_in_place_of_axes(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("[[member]]\nseed = 1\n[[member]]\nwidth = 3\n")
    assert [m.config.width for m in load_plan(path).members] == [512, 3]
    with pytest.raises(ConfigError, match="exclude each other"):
        load_plan(path, vary=["seed=0:2"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("samples = 3\n", "nothing varies"),
        ("[vary]\nseed = [1]\n[[together]]\nseed = [1]\n", "seed: varies in two ways"),
        ("vary = 3\n", "vary: must be a table"),
        ("member = 3\n", "member: must be a list of tables"),
        ("[other]\nx = 1\n", "other: not a part of a study"),
        ("output = 'x'\n[vary]\nseed = [1]\n", "output: the study decides"),
        ("[[member]]\nwidth = 512\n[[member]]\nseed = 0\n", "two members are the same run"),
        ("[vary]\nwidth = [0]\n", "width: must be at least 1, got 0\n(of the member with width=0)"),
    ],
)
def test_what_no_study_can_be_is_refused(tmp_path, text, words):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        assert load_plan(path).members
    assert words in str(error.value)


def test_a_key_varies_in_one_way():
    with pytest.raises(ConfigError, match="seed: varies in two ways; give it once"):
        load_plan(None, vary=["seed=0:2", "seed=5:7"])


def test_too_many_members_are_refused_before_they_are_made():
    with pytest.raises(ConfigError, match="1000000 members, more than 100000"):
        load_plan(None, vary=["seed=0:1000", "width=1:1001"])


def test_a_members_name_follows_from_what_decides_its_numbers():
    config = RunConfig(samples=8)
    assert name_of(config.replace(output="x.h5", data_dir="/y", force=True)) == name_of(config)
    assert name_of(config.replace(seed=1)) != name_of(config)
    assert name_of(config.replace(scalars="times:every:1")) != name_of(config)  # other rows
    assert len(name_of(config)) == 12


def test_a_plan_is_the_same_after_json():
    plan = load_plan(None, vary=["seed=0:2", "step_size=auto,0.1"], settings=["width=8"])
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert [m.name for m in again.members] == [m.name for m in plan.members]
    for wrong in ({}, {"base": {}, "members": []}, {"base": {}, "members": [1]}):
        with pytest.raises(ValueError, match=r"member"):
            Plan.from_dict(wrong)
