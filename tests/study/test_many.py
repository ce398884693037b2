"""`prdsim.run_many`: each with the bits of its run alone, in order; what fails stops no other."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_equal
from support import same_bits

import prdsim
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError, DivergedError, StudyError
from prdsim.progress import silent
from prdsim.running.loop import Result
from prdsim.study.worker import in_this_process

KEYS: dict[str, Any] = {"dataset": "digits", "samples": 8, "width": 8, "steps": 3}
KEYS |= {"backend": "numpy", "threads": 1}
MEMBERS = [{"seed": seed, "diffusion": diffusion} for seed in (0, 1) for diffusion in (True, False)]
DIVERGES = {"integrator": "heun", "step_size": 1e200}


@pytest.fixture
def here(monkeypatch) -> list[int]:
    """Let members be run by this process; the numbers of workers that were asked for."""
    asked: list[int] = []

    def engine(workers: int) -> object:
        asked.append(workers)
        return in_this_process(silent, progress=False)

    monkeypatch.setattr(import_module("prdsim.study.many"), "local", engine)
    return asked


def finished(results: list[Any]) -> list[Result]:
    assert [type(each) for each in results] == [Result] * len(results), results
    return results


def assert_as_alone(
    results: list[Result], members: list[dict[str, Any]], data: Any = None, **more: Any
) -> None:
    """Members have the bits of runs by `prdsim.run`."""
    for result, member in zip(results, members, strict=True):
        output = result.path.with_suffix(".alone.h5")
        alone = prdsim.run({**KEYS, **member, **more}, data=data, output=str(output))
        assert same_bits(dict(result.state), dict(alone.state))
        assert (result.step, result.time) == (alone.step, alone.time)
        assert_equal(result.last, alone.last)
        assert_equal(result.first, alone.first)
        assert result.resolved == alone.resolved


def test_members_have_the_bits_of_runs_alone_in_order(tmp_path, capsys):
    members = [*MEMBERS, DIVERGES]
    given = ({**KEYS, "threads": None, **member} for member in members)
    results = prdsim.run_many(given, folder=tmp_path / "s", workers=2, progress=True)
    assert "4 finished, 1 diverged" in capsys.readouterr().err
    error = results.pop()
    assert isinstance(error, DivergedError)
    assert "step_size=1e+200) diverged: " in str(error)
    assert "not finite" in str(error)
    assert_as_alone(finished(results), MEMBERS, threads=1)


@pytest.mark.usefixtures("here")
def test_samples_of_the_callers_are_those_of_all_members(tmp_path):
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(7, 5)), np.arange(7) % 3
    again = {"data": (X, labels), "folder": tmp_path / "s"}
    results = prdsim.run_many(MEMBERS, **KEYS, **again)
    assert_as_alone(finished(results), MEMBERS, data=(X, labels))
    assert len(finished(prdsim.run_many(MEMBERS, **KEYS, **again))) == 4
    with pytest.raises(ConfigError, match=r"data.npz holds other samples; name another folder"):
        prdsim.run_many(MEMBERS, **KEYS, data=(X + 1, labels), folder=tmp_path / "s")
    more = {"data": (X, None), "target": "inputs", "folder": tmp_path / "t"}
    inputs = prdsim.run_many(MEMBERS[:1], **KEYS, **more)
    assert_as_alone(finished(inputs), MEMBERS[:1], data=(X, None), target="inputs")


@pytest.mark.usefixtures("here")
def test_what_is_stopped_or_failed_is_told_and_the_same_call_goes_on(tmp_path):
    members = [KEYS, {**KEYS, "seed": 1, "dataset": str(tmp_path / "later.csv")}]
    call = {"configs": members, "folder": tmp_path / "s"}
    stop = Event()
    stop.set()
    for error in prdsim.run_many(**call, stop=stop):
        assert isinstance(error, StudyError)
        assert f"interrupted at step 0; prdsim.run_many with folder='{tmp_path}/s'" in str(error)
    with pytest.raises(ZeroDivisionError):
        prdsim.run_many(**call, stop=lambda: 1 / 0)
    first, error = prdsim.run_many(**call)
    assert isinstance(first, Result)
    assert isinstance(error, StudyError)
    assert f"seed=1) failed: no file {tmp_path}/later.csv" in str(error)
    written = first.path.stat().st_mtime_ns
    (tmp_path / "later.csv").write_text("x,label\n" + "1,0\n" * 9)
    assert isinstance(prdsim.run_many(**call)[1], StudyError)
    first, second = finished(prdsim.run_many(**call, retry_failed=True))
    assert first.path.stat().st_mtime_ns == written  # it is kept
    assert second.config.seed == 1
    assert prdsim.open_study(tmp_path / "s").where(seed=0) == [first.path.stem]


def test_ctrl_c_is_told_of_members_and_returns(tmp_path, monkeypatch):
    def engine(study: object, stopped: Callable[[], bool], watch: object) -> None:  # noqa: ARG001
        signal.raise_signal(signal.SIGINT)
        assert stopped()

    monkeypatch.setattr(import_module("prdsim.study.many"), "local", lambda _: engine)
    results = prdsim.run_many(MEMBERS, **KEYS, folder=tmp_path / "s")
    assert ["was interrupted at step 0" in str(error) for error in results] == [True] * 4


@pytest.mark.usefixtures("here")
def test_outputs_are_where_configurations_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    members = [RunConfig(**KEYS, output="own.h5"), RunConfig(**KEYS, seed=1)]
    first, second = finished(prdsim.run_many(members, folder="s"))
    assert first.path == tmp_path / "own.h5"
    assert second.path.parent == Path("s/members")
    assert finished(prdsim.run_many(members, folder="s"))[0].path == first.path
    (third,) = finished(prdsim.run_many([{"seed": 2}], **KEYS))
    assert third.path.parts[0].startswith("prdsim-")
    prdsim.run(**KEYS, output="other.h5")
    (error,) = prdsim.run_many([{"seed": 3}], **KEYS, output="other.h5")
    assert "other.h5 holds another run; move it elsewhere" in str(error)


def test_members_at_a_time_are_as_many_as_asked_or_as_fit(tmp_path, monkeypatch, here):
    monkeypatch.setattr(import_module("prdsim.study.many"), "at_once", lambda *_: 7)
    for more in ({}, {"workers": 3}):
        prdsim.run_many(MEMBERS[:1], **KEYS, folder=tmp_path / "s", **more)
    assert here == [7, 3]


def twice(**keys: Any) -> dict[str, Any]:
    return {"configs": [keys, {"seed": 1, **keys}]}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"configs": RunConfig()}, "configs: must be a sequence of configurations"),
        ({"configs": {"seed": 1}}, "configs: must be a sequence of configurations"),
        ({"configs": []}, "configs: must be a sequence of configurations, not empty"),
        ({"configs": [3]}, "config: must be a RunConfig, a mapping"),
        ({"configs": [{}, {}]}, "two members are the same run"),
        ({"configs": [{}, {}], "workers": 2}, "two members are the same run"),
        ({"configs": [{"sed": 1}]}, "sed: no such configuration key"),
        (twice(output="a.h5"), "output: two configurations name a.h5"),
        (twice(force=True), "force: members are kept or continued"),
        ({**twice(), "data": 3}, r"data: must be a pair \(X, Y\) of arrays"),
        ({**twice(), "workers": 0}, "workers: must be at least 1"),
        ({**twice(), "folder": 3}, "folder: must be the path of a file"),
        ({**twice(), "stop": 3}, "stop: must be an event"),
        ({**twice(), "progress": "yes"}, "progress: must be true or false"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        prdsim.run_many(**call)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_cannot_be_used_are_refused_before_any_work(tmp_path):
    with pytest.raises(DataError, match="the numbers of rows differ"):
        prdsim.run_many(MEMBERS, data=(np.ones((3, 2)), [0, 1]), folder=tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
