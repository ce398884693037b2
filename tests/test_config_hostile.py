"""Configurations that were made to stop a program: refused at once, in one line."""

from __future__ import annotations

import os
import time

import pytest

from prdsim.config import RunConfig
from prdsim.config.files import load_config
from prdsim.errors import ConfigError

DEEP = 100_000


def refused(*arguments, code=2, **keywords):
    begun = time.monotonic()
    with pytest.raises(ConfigError) as info:
        load_config(*arguments, **keywords)
    assert time.monotonic() - begun < 2
    assert info.value.exit_code == code
    text = str(info.value)
    assert len(text) < 1000
    return text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a." * (DEEP // 4) + b"a = 1", "is not valid TOML: line 1 has more than 100 dots"),
        (b"x = {" + b"a." * 9000 + b"a = 1}", "line 1 has more than 100 dots"),
        (b"\n[" + b"a." * 9000 + b"a]", "line 2 has more than 100 dots"),
        (b"x = " + b"[" * 90_000, "is not valid TOML: it is nested too deeply"),
        (b"x = " + b"{a = " * 10_000, "is not valid TOML: it is nested too deeply"),
        (b"[" * 90_000, "is not valid TOML: "),
        (b"steps = " + b"9" * 5000, "is not valid TOML: it holds a number that no key can have"),
        (b"steps = " + b"9" * 4000, "steps: must be at most 2147483647, got 9999"),
        (b"end_time = 1e999", "end_time: must be a finite number"),
        (b"end_time = 1979-05-27", "end_time: "),
        (b"samples = [1, [2, {a = 3}]]", "samples: must be an integer"),
        (b"\x00\x01\x02", "is not valid TOML: "),
        (b"\xff\xfe", "is not valid TOML: 'utf-8' codec"),
        (b"x = '\x1b[31m'", "is not valid TOML: "),
        (b"#" * 100_001, "is larger than any configuration (100.0 KB)"),
        (b'penalty_points = "gauss:' + b"9" * 5000 + b'"', "penalty_points: must be midpoint"),
        (b'snapshots = "geometric:' + b"9" * 5000 + b'"', "snapshots: must be times:geometric"),
        (b'dataset = "' + b"a" * 50_000 + b'"\nsteps = "' + b"b" * 40_000 + b'"', "steps: must be"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_files(tmp_path, content, words):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    text = refused(path)
    assert words in text
    assert str(path) in text


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.toml")
    assert "cannot be read" in (text := refused(tmp_path / "c.toml", code=3))
    assert "is a pipe, not a file" in text


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("steps=" + "9" * 5000, "steps: must be an integer, got '9999"),
        ("steps=" + "a." * DEEP + "a", "steps: must be an integer, got 'a.a."),
        ("steps=" + "[" * DEEP, "steps: must be an integer, got '[["),
        ("steps={" + "a." * DEEP + "a = 1}", "steps: must be an integer"),
        ("end_time=1e400", "end_time: must be a finite number"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_settings(setting, words):
    assert words in refused(settings=[setting])
    key, _, value = setting.partition("=")
    assert words in refused(options={key: value})


def test_a_number_of_too_many_digits_from_python():
    with pytest.raises(ConfigError, match=r"steps: must be at most .* too long to be shown"):
        RunConfig(steps=10**5000)
