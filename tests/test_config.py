"""The configuration: what is refused and with which words, layers, and round trips."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prdsim.config import PRESETS, STEP_LIMIT, RunConfig, group_of, keys_of
from prdsim.config.files import load_config
from prdsim.errors import ConfigError

KEYS = list(RunConfig.model_fields)
INTEGERS = [
    *("samples", "outputs", "width", "critic_width", "seed", "critic_steps", "steps", "threads"),
    "groups",
]
NUMBERS = [
    *("correlation_length", "init_scale", "diffusivity", "critic_step_size", "critic_rate"),
    *("critic_warmup", "gradient_penalty", "step_size", "end_time", "rtol", "atol"),
    *("restart_seconds", "forcing_time", "group_deviation", "coupling"),
]
BOOLEANS = ["diffusion", "force", "lock", "store_data"]
CHOICES = [
    *("split", "normalize", "target", "output_init", "critic", "integrator", "precision", "chart"),
    "forcing",
    *("snapshot_precision", "preset"),
]
TEXTS = [
    *("dataset", "data_dir", "trainable", "penalty_points", "backend", "output"),
    *("snapshots", "scalars", "memory", "spectrum"),
]
EITHER = {"forcing_norm": "a positive number or the file of a run"}
LIMITS = {"seed": 2**63 - 1, "threads": 4096, "critic_steps": 10_000}
MAY_BE_ZERO = [
    *("seed", "critic_steps", "critic_warmup", "correlation_length", "init_scale", "diffusivity"),
    *("gradient_penalty", "atol", "restart_seconds", "group_deviation", "coupling"),
]
NAN, INF = float("nan"), float("inf")
KINDS = (  # keys, what each must be, and what it must not
    (INTEGERS, "an integer", ["12", 1.5, 2.0, True, [1], {}, NAN, b"1"]),
    (NUMBERS, "a number", ["1", True, [1.0], {}, 1j]),
    (NUMBERS, "", [NAN, INF, -INF, -1]),
    (BOOLEANS, "true or false, got", [1, 0, "true", "yes", []]),
    (CHOICES, "one of ", ["", "no such", 3, True, [], 1.5]),
    (TEXTS, "text, got", [3, 1.5, True, [], {}]),
    (EITHER, "", [True, [1.0], {}, 1j, b"1"]),
    (INTEGERS, "", [-1]),
    ([key for key in INTEGERS + NUMBERS if key not in MAY_BE_ZERO], "", [0]),
    ([key for key in INTEGERS if key not in LIMITS], "at most 2147483647", [2**31]),
)


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        RunConfig(**values)
    text = str(caught.value)
    assert text
    assert len(text.splitlines()) == 1
    assert "pydantic" not in text.lower()
    assert caught.value.exit_code == 2
    return text


def test_every_key_is_of_one_of_the_kinds_above():
    assert sorted(KEYS) == sorted(INTEGERS + NUMBERS + BOOLEANS + CHOICES + TEXTS + [*EITHER])


@pytest.mark.parametrize(
    "size", ["2", "GB", "-1 GB", "0 GB", "2 GiB", "nan GB", "1e3 MB", "", "2 GB!"]
)
def test_memory_is_a_number_and_a_unit(size):
    assert refusal(memory=size).startswith("memory: must be a number and a unit, such as 2 GB")


# -- defaults --------------------------------------------------------------------------------------


def test_defaults_are_the_documented_ones():
    config = RunConfig()
    assert (config.dataset, config.samples, config.width) == ("synthetic", 256, 512)
    assert (config.diffusion, config.diffusivity, config.critic) == (False, 1.0, "wgan-gp")
    assert (config.critic_rate, config.gradient_penalty, config.critic_steps) == (1.0, 10.0, 5)
    assert (config.penalty_points, config.critic_step_size) == ("midpoint", None)
    assert (config.critic_warmup, config.integrator, config.step_size) == (0.0, "bs23", "auto")
    assert (config.rtol, config.atol, config.end_time, config.steps) == (1e-3, 1e-8, 50.0, None)
    rules = str(config.snapshot_rule), str(config.scalar_rule)
    assert rules == ("times:geometric:40", "times:every:0.5")
    assert (config.backend, config.precision, config.chart) == ("auto", "float64", "auto")


def test_a_run_ends_at_a_time_unless_steps_are_given_and_then_records_by_step():
    by_step = RunConfig(steps=2000)
    assert (by_step.end_time, by_step.steps, by_step.step_limit) == (None, 2000, 2000)
    assert (str(by_step.snapshot_rule), str(by_step.scalar_rule)) == ("geometric:40", "every:10")
    both = RunConfig(steps=2000, end_time=3.0)
    assert (both.end_time, both.step_limit) == (3.0, 2000)
    assert both.snapshot_rule.by_time
    assert both.scalar_rule.by_time
    assert RunConfig().step_limit == STEP_LIMIT == 10_000_000
    # A preset's end stands; steps are a limit beside it.
    preset = RunConfig(preset="theory", steps=7)
    assert (preset.end_time, preset.step_limit) == (PRESETS["theory"]["end_time"], 7)
    assert RunConfig(end_time=3.0, steps=7, snapshots="every:2").snapshot_rule.by_time is False


def test_every_key_explains_itself_and_belongs_to_a_group():
    groups = ("data", "network", "adversary", "time", "computing", "output", "preset")
    for key in KEYS:
        assert RunConfig.model_fields[key].description
        assert group_of(key) in groups
    assert keys_of(*groups) == KEYS
    times = ["integrator", "end_time", "rtol", "atol", "step_size", "steps"]
    assert keys_of("time") == times


def test_a_configuration_does_not_change():
    config = RunConfig()
    with pytest.raises(Exception, match="frozen"):
        config.width = 3


# -- values that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("widht", "width"),
        ("step-size", "step_size"),
        ("sample", "samples"),
        ("Seed", "seed"),
        ("difusion", "diffusion"),
        ("grad_penalty", "gradient_penalty"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_one_that_was_meant(key, meant):
    assert refusal(**{key: 1}) == f"{key}: no such configuration key; did you mean {meant}?"


def test_a_key_like_no_other_gets_a_pointer_to_the_list():
    assert "prdsim run --help lists all keys" in refusal(zzzzzz=1)


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_another_kind_is_refused_in_words(key):
    tried = 0
    for keys, kind, values in KINDS:
        if key == "step_size" and kind == "a number":
            kind = "a positive number or auto"
        kind = EITHER.get(key, kind)
        for value in values if key in keys else ():
            text = refusal(**{key: value})
            assert text.startswith(f"{key}: must be {kind}")
            assert text.endswith(f"got {value!r}")
            tried += 1
    assert tried >= 5
    if key in MAY_BE_ZERO:
        assert getattr(RunConfig(**{key: 0}), key) == 0
    if key == "precision":
        assert "float64" in text


def test_the_limits_of_seed_and_threads():
    assert RunConfig(seed=2**63 - 1).seed == 2**63 - 1
    assert "must be less than 9223372036854775808" in refusal(seed=2**63)
    assert "must be at most 4096" in refusal(threads=4097)


@pytest.mark.parametrize(
    "value", ["", "X", "U,,V", "U,U", "U;V", "u,v", "U V", ",", "U,V,W,a,b", "all"]
)
def test_trainable_lists_arrays_once(value):
    text = refusal(trainable=value)
    assert "trainable: must list some of U,V,W,a, each once" in text
    assert text.endswith(f"got {value!r}")


BAD_RULES = [
    *("", "every", "every:", "every:0", "every:-5", "every:1.5", "every:x", "geometric:0"),
    *("geometric:1", "geometric", "log:40", "40", "every:10:20", " every:10", "geometric:²"),
    *("times", "times:", "times:40", "times:every", "times:every:0", "times:every:-0.5"),
    *("times:every:nan", "times:every:inf", "times:every:x", "times:geometric:1"),
    *("times:geometric:2.5", "times:times:every:1", "time:every:1", "Times:every:1"),
]


@pytest.mark.parametrize("key", ["snapshots", "scalars"])
@pytest.mark.parametrize("value", BAD_RULES)
def test_rules_of_recording_have_a_kind_and_a_number(key, value):
    text = refusal(**{key: value})
    assert text.startswith(f"{key}: ")
    assert "geometric" in text


@pytest.mark.parametrize("key", ["snapshots", "scalars"])
def test_rules_of_recording_say_how_they_are_written(key):
    assert refusal(**{key: "often"}) == (
        f"{key}: must be times:geometric:COUNT or times:every:TIME, such as times:every:0.5; or, "
        "by step, geometric:COUNT or every:STEPS, such as every:100, got 'often'"
    )
    assert refusal(**{key: "geometric:1"}) == (
        f"{key}: geometric needs at least 2 rows: the first and the last, got 'geometric:1'"
    )


BAD_POINTS = [
    *("", "no such", "auto", "gauss", "gauss:", "gauss:0", "gauss:65", "gauss:1.5", "gauss:-3"),
    *("gauss:x", "gauss:²", "gauss:3:4", "Midpoint", "midpoint:1", "random:2", " random"),
]


@pytest.mark.parametrize("value", BAD_POINTS)
def test_penalty_points_are_one_of_three_kinds(value):
    assert refusal(penalty_points=value) == (
        f"penalty_points: must be midpoint, random or gauss:K with K from 1 to 64, got {value!r}"
    )


@pytest.mark.parametrize("key", ["dataset", "backend", "output", "data_dir"])
@pytest.mark.parametrize("value", ["", "  ", "a\0b"], ids=repr)
def test_names_and_paths_are_not_empty(key, value):
    assert refusal(**{key: value}).startswith(f"{key}: must not be empty")


# -- values that contradict each other -------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["heun", "rk4", "bs23", "dopri5"])
def test_flows_are_deterministic_and_their_critic_has_a_rate(integrator):
    assert refusal(integrator=integrator, penalty_points="random") == (
        f"penalty_points: random needs integrator gd, not {integrator}"
    )
    assert refusal(integrator=integrator, critic_step_size=0.01) == (
        f"critic_step_size: is for integrator gd, not {integrator}, whose critic moves at "
        "critic_rate"
    )
    assert RunConfig(integrator=integrator, preset="poster").integrator == integrator
    assert RunConfig(integrator=integrator).penalty_points == "midpoint"


def test_penalty_points_are_random_for_gd_alone_and_where_asked_for():
    assert RunConfig(integrator="gd").penalty_points == "midpoint"
    assert RunConfig(integrator="gd", penalty_points="random").penalty_points == "random"
    assert RunConfig(integrator="gd", critic_step_size=0.01).critic_step_size == 0.01
    for points in ("gauss:1", "gauss:64"):
        assert RunConfig(penalty_points=points).penalty_points == points


def test_a_run_without_an_end_is_refused():
    text = "end_time: give a time at which the run ends, or steps"
    assert refusal(end_time=None) == refusal(end_time=None, steps=None) == text
    assert RunConfig(end_time=None, steps=3).end_time is None


@pytest.mark.parametrize("key", ["snapshots", "scalars"])
def test_rules_by_step_need_steps_and_rules_by_time_an_end_time(key):
    assert refusal(**{key: "every:5"}) == (
        f"{key}: every:5 counts steps, and needs their number: give steps, or record by time, "
        "such as times:every:5"
    )
    assert refusal(steps=9, **{key: "times:every:0.5"}) == (
        f"{key}: times:every:0.5 needs an end_time besides the steps"
    )
    both = RunConfig(steps=9, end_time=2.0, **{key: "times:every:0.5"})
    assert getattr(both, key) == "times:every:0.5"
    assert getattr(RunConfig(steps=9, **{key: "every:5"}), key) == "every:5"


# -- derived values --------------------------------------------------------------------------------


def test_what_moves():
    assert RunConfig().moving == ("U", "V")
    assert RunConfig(diffusion=True).moving == ("U", "V", "W", "a")
    assert RunConfig(diffusion=True, diffusivity=0).moving == ("U", "V")
    assert RunConfig(diffusion=True, trainable=" a , U").moving == ("U", "a")
    assert RunConfig(diffusion=True, trainable=" a , U").trainable == "U,a"
    assert RunConfig(trainable="W,a").moving == ()


def test_precision_of_arrays():
    assert [RunConfig(precision=p).array_precision for p in ("float64", "float32", "tf32")] == [
        "float64",
        "float32",
        "float32",
    ]


def test_numpy_numbers_and_paths_are_taken_as_what_they_are():
    config = RunConfig(
        width=np.int64(7),
        step_size=np.float64(0.1),
        init_scale=np.float32(0.5),
        diffusion=np.bool_(True),
        output=Path("a") / "b.h5",
    )
    assert (config.width, config.step_size, config.diffusion) == (7, 0.1, True)
    assert type(config.width) is int
    assert type(config.step_size) is float
    assert config.output == str(Path("a") / "b.h5")
    assert "must be an integer" in refusal(width=np.array([3, 4]))


# -- layers ----------------------------------------------------------------------------------------


def toml(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_each_layer_goes_over_the_one_before(tmp_path):
    """defaults < preset < TOML < --set < options, shown key by key."""
    path = toml(tmp_path, 'preset = "poster"\nsamples = 11\nsteps = 11\nseed = 11\n')
    config = load_config(path, settings=["steps=22", "seed=22"], options={"seed": "33"})
    assert config.atol == RunConfig().atol
    assert config.rtol == PRESETS["poster"]["rtol"] != RunConfig().rtol
    assert config.init_scale == PRESETS["poster"]["init_scale"] != RunConfig().init_scale
    assert (config.samples, config.steps, config.seed) == (11, 22, 33)


def test_a_preset_is_chosen_in_any_layer_and_always_lies_below_given_keys(tmp_path):
    path = toml(tmp_path, "init_scale = 0.7\n")
    for layers in ({"settings": ["preset=poster"]}, {"options": {"preset": "poster"}}):
        config = load_config(path, **layers)
        assert config.init_scale == 0.7
        assert config.critic_warmup == PRESETS["poster"]["critic_warmup"]
    assert load_config(
        path, settings=["preset=theory"], options={"preset": "poster"}
    ).trainable == ("U,V,W,a")


@pytest.mark.parametrize(
    ("below", "above", "words"),
    [
        ({"settings": ["samples=many"]}, {"samples": "5"}, "samples: must be an integer"),
        ({"settings": ["samples=0", "samples=5"]}, {}, "samples: must be at least 1, got 0"),
        ({"settings": ["preset=none"]}, {"preset": "poster"}, "preset: must be one of "),
        ({"path": "rtol = -1.0\n"}, {"rtol": "1e-4"}, "rtol: must be greater than 0"),
        ({"path": "penalty_points = 'x'\n"}, {"penalty_points": "midpoint"}, "penalty_points: "),
    ],
)
def test_a_value_that_is_overridden_must_be_one_all_the_same(below, above, words, tmp_path):
    if "path" in below:
        below = {"path": toml(tmp_path, below["path"])}
    with pytest.raises(ConfigError) as caught:
        load_config(**below, options=above)
    assert str(caught.value).startswith(words)
    # What needs other keys is judged at the end alone: here the last layer gives the steps.
    config = load_config(
        settings=["snapshots=every:5"], options={"steps": "9", "snapshots": "every:3"}
    )
    assert config.snapshots == "every:3"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    path = toml(tmp_path, "\ufeffsamples = 7\r\n")
    assert load_config(path).samples == 7


def test_the_home_folder_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = toml(tmp_path, "output = '~/a.h5'\ndata_dir = '~'\n")
    config = load_config(path)
    assert (config.output, config.data_dir) == (str(tmp_path / "a.h5"), str(tmp_path))
    assert load_config(options={"output": "~/b.h5"}).output == str(tmp_path / "b.h5")
    nobodys = "~no-such-user/a~b.h5"
    assert RunConfig(output=nobodys).output == nobodys
    assert RunConfig(data_dir="~").sha256() == RunConfig().sha256()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_do_what_they_say(name):
    config = RunConfig(preset=name)
    for key, value in PRESETS[name].items():
        assert getattr(config, key) == value
    assert RunConfig(preset=name, width=9).width == 9


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("samples=500", "samples", 500),
        (" samples = 500 ", "samples", 500),
        ("step-size=0.04", "step_size", 0.04),
        ("step_size=1e-3", "step_size", 1e-3),
        ("step_size=auto", "step_size", "auto"),
        ("step_size=1", "step_size", 1.0),
        ("diffusion=true", "diffusion", True),
        ("diffusion=True", "diffusion", True),
        ("store_data=FALSE", "store_data", False),
        ("step_size=.1", "step_size", 0.1),
        ("end_time=1.", "end_time", 1.0),
        ("rtol=.5e-3", "rtol", 5e-4),
        ("atol=-.0", "atol", 0.0),
        ("samples=007", "samples", 7),
        ("critic=minimax", "critic", "minimax"),
        ('critic="minimax"', "critic", "minimax"),
        ("dataset=7.csv", "dataset", "7.csv"),
        ("dataset=true", "dataset", "true"),
        ("output=a=b.h5", "output", "a=b.h5"),
        ("trainable=U,V", "trainable", "U,V"),
        ("snapshots=times:every:5", "snapshots", "times:every:5"),
        ("scalars=times:geometric:5", "scalars", "times:geometric:5"),
        ("penalty-points=gauss:8", "penalty_points", "gauss:8"),
    ],
)
def test_settings_are_read_as_the_key_needs(text, key, value):
    result = getattr(load_config(settings=[text]), key)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("samples", "--set samples: must be key=value"),
        ("samples=many", "samples: must be an integer, got 'many'"),
        ("samples=1e3", "samples: must be an integer, got 1000.0"),
        ("samples=", "samples: must be an integer, got ''"),
        ("step_size=nan", "step_size: must be a finite number"),
        ("rtol=nan", "rtol: must be"),
        ("snapshots=every:5", "snapshots: every:5 counts steps"),
        ("diffusion=yes", "diffusion: must be true or false, got 'yes'"),
        ("samples=1.", "samples: must be an integer, got 1.0"),
        ("samples=0_7", "samples: must be an integer, got '0_7'"),
        ("widht=3", "did you mean width?"),
        ("=3", "--set =3: must be key=value"),
    ],
)
def test_settings_that_cannot_be_read(setting, words):
    with pytest.raises(ConfigError) as caught:
        load_config(settings=[setting])
    assert words in str(caught.value)


# -- TOML files ------------------------------------------------------------------------------------


def test_a_toml_file_may_give_every_key(tmp_path):
    config = RunConfig(threads=1, end_time=3.0, data_dir="d", output="o")
    given = {key: value for key, value in config.model_dump().items() if value is not None}
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
    assert load_config(toml(tmp_path, text)) == config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"width = ", "is not valid TOML"),
        (b"width = 3\nwidth = 4", "is not valid TOML"),
        (b"\xff\xfe\x00", "is not valid TOML"),
        (b"[network]\nwidth = 3", "[network] is a table"),
        (b"widht = 3", "did you mean width?"),
        (b"width = '3'", "width: must be an integer, got '3'"),
        (b"rtol = nan", "rtol: must be"),
        (b"steps = 2000-01-01", "steps: must be an integer"),
        (b"samples = [3]", "samples: must be an integer"),
    ],
)
def test_bad_toml_files_are_named_with_what_is_wrong(tmp_path, content, words):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert words in text
    assert str(path) in text
    assert len(text.splitlines()) <= 2


def test_missing_and_unreadable_toml_files(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: no such configuration file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_an_empty_file_means_the_defaults(tmp_path):
    assert load_config(toml(tmp_path, "")) == RunConfig() == load_config()


# -- round trips -----------------------------------------------------------------------------------

configurations = st.fixed_dictionaries(
    {},
    optional={
        "width": st.integers(1, 2**31 - 1),
        "seed": st.integers(0, 2**63 - 1),
        "diffusion": st.booleans(),
        "init_scale": st.floats(0, 1e300),
        "step_size": st.one_of(st.just("auto"), st.floats(1e-300, 1e300), st.integers(1, 9)),
        "end_time": st.floats(1e-300, 1e300),
        "steps": st.one_of(st.none(), st.integers(1, 2**31 - 1)),
        "critic_width": st.one_of(st.none(), st.integers(1, 99)),
        "trainable": st.sampled_from(["U", "V,U", "U,V,W,a"]),
        "preset": st.sampled_from([None, "poster", "theory"]),
        "dataset": st.sampled_from(["mnist", "größe.npz", 'quo"te.csv']),
        "penalty_points": st.sampled_from(["midpoint", "gauss:8"]),
    },
)


@given(configurations)
def test_json_round_trip(values):
    config = RunConfig(**values)
    again = RunConfig(**json.loads(config.to_json()))
    assert again == config
    assert again.to_json() == config.to_json()
    assert again.sha256() == config.sha256()
    assert sorted(json.loads(config.to_json())) == sorted(KEYS)


def test_replace_is_checked_like_the_constructor():
    config = RunConfig(width=7, preset="poster")
    assert config.replace(steps=5).width == 7
    assert config.replace(steps=5).init_scale == PRESETS["poster"]["init_scale"]
    with pytest.raises(ConfigError, match="did you mean width"):
        config.replace(widht=5)


# -- the fingerprint of the physics ----------------------------------------------------------------


def test_the_fingerprint_ignores_what_decides_no_number():
    config = RunConfig(steps=9)
    for other in (
        {"output": "x.h5"},
        {"force": True},
        {"data_dir": "d"},
        {"snapshots": "every:3"},
        {"scalars": "every:1"},
        {"restart_seconds": 1.0},
        {"store_data": False},
    ):
        assert config.replace(**other).sha256() == config.sha256(), other


def test_the_fingerprint_notices_everything_that_decides_a_number():
    changed = {
        "dataset": "digits", "split": "test", "samples": 3, "normalize": "none", "target": "scalar",
        "outputs": 3, "correlation_length": 2.0, "spectrum": "ring:3", "width": 3,
        "critic_width": 3, "init_scale": 0.5, "groups": 2, "group_deviation": 0.1, "coupling": 0.5,
        "output_init": "normal", "trainable": "U", "seed": 1, "diffusion": True,
        "diffusivity": 0.5, "forcing": "slow", "forcing_norm": 2.0, "forcing_time": 2.0,
        "critic": "minimax", "critic_steps": 1, "critic_step_size": 0.5,
        "critic_warmup": 1.0, "critic_rate": 2.0, "gradient_penalty": 1.0,
        "penalty_points": "random", "integrator": "rk4", "step_size": 0.5, "end_time": 3.0,
        "rtol": 0.1, "atol": 0.1, "steps": 3, "backend": "numpy",
        "precision": "float32", "chart": "weight", "threads": 1, "memory": "2 GB",
    }  # fmt: skip
    assert set(changed) == {*keys_of("data", "network", "adversary", "time", "computing")} - {
        "data_dir"
    }
    start = RunConfig(integrator="gd")  # which each of the keys may be given for
    prints = [start.sha256()]
    prints += [start.replace(**{key: value}).sha256() for key, value in changed.items()]
    assert all(before != after for before, after in pairwise(sorted(prints)))


def test_a_setting_cannot_smuggle_in_another():
    with pytest.raises(ConfigError, match="samples: must be an integer"):
        load_config(settings=["samples=3\nwidth=4"])
