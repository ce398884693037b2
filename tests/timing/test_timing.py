"""``prdsim bench``: who is timed computes the same, blocks take turns, and the table says so."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import numpy as np
import pytest
from support_cli import Run, caller

from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.charts import CHARTS
from prdsim.timing import agreement
from prdsim.timing.contenders import Entry, own_contender
from prdsim.timing.measurement import AUTOMATIC, REFERENCE, entries_here, measure
from prdsim.timing.race import Block, race
from prdsim.timing.workload import Workload, comparable

SIZES = {"samples": 24, "width": 32, "critic_width": 16, "step_size": 0.2, "threads": 1}
BENCH = ("--set", "samples=16", "--set", "width=8", "--set", "threads=1", "--rounds", "1")
BENCH += ("--seconds", "0.002")
SHORT: dict[str, Any] = {"rounds": 1, "block_seconds": 1e-3}
NUMPY = Entry("plain", "prdsim", {"backend": "numpy", "chart": "weight"})


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


# -- the contenders compute the same ---------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"precision": "float32"},
        {"diffusion": True, "diffusivity": 0.7},
        {"diffusion": True, "penalty_points": "midpoint", "integrator": "gd"},
        {"target": "inputs", "outputs": 784},
    ],
)
def test_every_backend_and_chart_agrees_and_is_timed(keys):
    config = RunConfig(**SIZES, **keys)
    case = measure(config, entries_here(config), **SHORT)
    labels = [f"prdsim {backend} {chart}" for backend in ("numba", "numpy") for chart in CHARTS]
    bare = [] if config.adversary else [f"products {chart}" for chart in CHARTS]
    assert {each.label for each in case.contenders} >= {*labels, AUTOMATIC.label, *bare}
    for each in case.contenders:
        assert each.left_out == ""
        assert each.timing.seconds > 0
        assert each.peak_bytes > 1 << 20
        if not each.kind.startswith("products"):
            assert [check.array for check in each.agreement] == list(config.moving)
            assert all(check.holds for check in each.agreement)


def steps_of(workload: Workload, entry: Entry = NUMPY, **keys: Any) -> dict[str, np.ndarray]:
    contender = own_contender(entry, workload.replace(**keys), threads=1)
    return contender.begin(agreement.CHECKED_STEPS)[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gradient_penalty", 10.0 * (1 + 1e-8)),
        ("diffusivity", 1.0 + 1e-8),
        ("critic_step_size", 0.01 * (1 + 1e-8)),
        ("step_size", 0.2 * (1 + 1e-8)),
        ("critic_steps", 4),
        ("seed", 1),
        ("penalty_points", "midpoint"),
    ],
)
def test_a_slightly_different_program_disagrees_in_float64(key, value):
    workload = Workload.of(RunConfig(**SIZES, diffusion=True))
    reference = steps_of(workload, REFERENCE)
    other_chart = Entry("gram", "prdsim", {"backend": "numpy", "chart": "gram"})
    same = steps_of(workload, other_chart)
    assert all(check.holds for check in agreement.compare(workload, reference, same))
    other = steps_of(workload, **{key: value})
    assert not all(check.holds for check in agreement.compare(workload, reference, other))


def test_infinite_numbers_disagree():
    workload = Workload.of(RunConfig(**SIZES))
    after = {name: array + 1e-3 for name, array in workload.initial.items()}
    wrong = {**after, "U": np.full_like(after["U"], np.nan)}
    U, V = agreement.compare(workload, after, wrong)
    assert (U.array, U.holds, V.array, V.holds) == ("U", False, "V", True)


@pytest.mark.parametrize("chart", CHARTS)
def test_bare_products_are_those_of_their_chart(chart):
    workload = Workload.of(RunConfig(**SIZES))
    bare = own_contender(Entry("bare", f"products:{chart}"), workload, threads=1)
    before = {name: getattr(bare, name).copy() for name in ("U", "V", "X", "H", "E")}
    bare.advance(1)
    U, V, X, H, E = before.values()
    rows = {"weight": 784, "range": 24, "gram": 24}[chart]
    assert U.shape == (32, rows)
    assert np.allclose(bare.A, U @ X)
    assert np.allclose(bare.B, V.T @ E)
    assert np.allclose(bare.Z, V @ H)
    assert np.allclose(1e9 * (bare.V - V), E @ H.T, rtol=1e-4, atol=1e-4)
    pulled_back = 0 * U if chart == "gram" else bare.B @ X.T
    assert np.allclose(1e9 * (bare.U - U), pulled_back, rtol=1e-4, atol=1e-4)


# -- who cannot take part --------------------------------------------------------------------------


def test_a_contender_that_fails_is_left_out_with_the_reason(monkeypatch):
    odd = Entry("odd", "prdsim", {"backend": "numpy", "chart": "round"})
    case = measure(RunConfig(**SIZES), [odd, NUMPY], **SHORT)
    assert "chart: must be one of" in case.contenders[0].left_out
    assert [each.timing is None for each in case.contenders] == [True, False]
    monkeypatch.setattr("prdsim.timing.contenders._busy_seconds", lambda: 1 / 0)
    (late,) = measure(RunConfig(**SIZES), [NUMPY], **SHORT).contenders  # once it is timed
    assert (late.left_out, late.timing) == ("ZeroDivisionError: division by zero", None)


def test_a_contender_that_leaves_the_finite_numbers_has_no_time():
    config = RunConfig(**{**SIZES, "step_size": 1e60})
    (row,) = measure(config, [NUMPY], **SHORT).contenders
    assert row.timing is None
    assert row.left_out


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"integrator": "rk4"}, "only integrator gd, not rk4"),
        ({"critic": "minimax"}, "only critic wgan-gp, not minimax"),
        ({"trainable": "U"}, "only trainable U,V,W,a, not U"),
        ({"precision": "tf32"}, "only precision float64 and float32"),
        ({"penalty_points": "gauss:3"}, "only penalty_points random and midpoint"),
    ],
)
def test_other_steps_than_those_compared_are_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        Workload.of(RunConfig(**keys))


def test_penalty_points_are_random_unless_asked_for():
    assert comparable(RunConfig()).penalty_points == "random"
    assert comparable(RunConfig(penalty_points="midpoint")).penalty_points == "midpoint"


# -- timing in turn --------------------------------------------------------------------------------


class Scripted:
    """An entrant that takes a given time a step, and says how others disturb it."""

    def __init__(self, label: str, seconds: float, calls: list[str], others: Any = ()) -> None:
        self.label, self.seconds, self.calls = label, seconds, calls
        self.others = iter(others)
        self.asked: list[int] = []

    def __call__(self, steps: int) -> Block:
        self.calls.append(self.label)
        self.asked.append(steps)
        return Block(self.seconds, next(self.others, 0.0))


def raced(entrants: list[Scripted], **keys: Any) -> Any:
    pauses: list[float] = []
    by_label = {entrant.label: entrant for entrant in entrants}
    timings = race(by_label, sleep=pauses.append, **{"rounds": 3, "block_seconds": 1.0, **keys})
    return timings, pauses


def test_blocks_are_as_long_as_asked_for():
    calls: list[str] = []
    fast, slow = Scripted("fast", 1e-3, calls), Scripted("slow", 7.0, calls)
    timings, _ = raced([fast, slow])
    assert (timings["fast"].steps, timings["slow"].steps) == (1000, 1)
    assert fast.asked[-3:] == [1000] * 3
    assert timings["fast"].seconds == 1e-3
    assert raced([Scripted("instant", 0.0, calls)])[0]["instant"].steps == 100_000


def test_everyone_has_a_turn_a_round_and_the_order_rotates():
    calls: list[str] = []
    entrants = [Scripted(label, 1.0, calls) for label in "abc"]
    _, pauses = raced(entrants)
    assert "".join(calls[-9:]) == "abcbcacab"
    assert len(pauses) == 9


def test_a_disturbed_block_is_measured_again_whatever_its_length():
    calls: list[str] = []
    others = (0.0, 0.0, 1.9, 0.0, 0.9, 0.5, 0.4, 0.6)  # two to find the length, then blocks
    entrant = Scripted("a", 1.0, calls, others)
    timings, _ = raced([entrant], rounds=2)
    assert [block.others for block in timings["a"].blocks] == [0.0, 0.4]
    assert timings["a"].disturbed == 1
    assert len(calls) == 8


# -- the command -----------------------------------------------------------------------------------


def test_bench_prints_a_table(run):
    answer = run("bench", *BENCH)
    assert answer.code == 0, answer.err
    for label in ("prdsim numpy weight", "prdsim numba gram", r"prdsim \(\w+\)"):
        assert re.search(rf"^  {label} +\d+\.\d+ +\d+\.\d\d +\d+\.\d\d$", answer.out, re.M), label
    assert re.search(r"^  prdsim numpy weight .* 1\.00 ", answer.out, re.M)
    assert re.search(r"^  products weight +\d+\.\d+ +\d+\.\d\d *$", answer.out, re.M)
    assert "n = 16, m = 8" in answer.out
    assert "round 1/1" in answer.err
    assert "round" not in answer.out.replace("rounds", "")


def test_bench_speaks_json(run):
    answer = run("bench", *BENCH, "--set", "diffusion=true", "--backend", "numpy", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert report["critic"] is True
    assert report["sizes"] == {"d_in": 784, "d_out": 10, "n": 16, "m": 8, "m_c": 8}
    assert set(report["versions"]) >= {"python", "prdsim", "numpy", "scipy"}
    assert [row["label"] for row in report["contenders"]] == [f"prdsim numpy {c}" for c in CHARTS]
    for row in report["contenders"]:
        assert {check["array"] for check in row["agreement"]} == set("UVWa")
        assert len(row["rounds_ms"]) == 1
        assert row["ms"] == row["rounds_ms"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no such configuration file"),
        (["--set", "integrator=heun"], "only integrator gd, not heun"),
        (["--set", "widht=3"], "did you mean width?"),
        (["--backend", "nunba"], "did you mean numba?"),
        (["--rounds", "0"], "--rounds"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--set", "width=2000000000"], "of memory"),
    ],
)
def test_bad_input_is_a_usage_error(run, arguments, words):
    answer = run("bench", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_a_named_backend_that_cannot_work_here_is_an_error(run):
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("cupy is installed")
    answer = run("bench", "--backend", "cupy")
    assert (answer.code, answer.out) == (4, "")


def test_a_contender_that_disagrees_fails_the_command(run, monkeypatch):
    monkeypatch.setattr(agreement, "SPREAD", 1e-9)
    answer = run("bench", *BENCH, "--backend", "numpy")
    assert answer.code == 1
    words = "prdsim numpy gram is left out: disagrees with the reference: the change of"
    assert words in answer.out
    assert "  prdsim numpy weight" in answer.out  # the reference's own program: the same bits
