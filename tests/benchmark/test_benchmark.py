"""The benchmark: rivals compute the same, blocks take turns, promises are held to results."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_cli import ROOT, Answer, Run, caller

from prdsim.benchmark import agreement
from prdsim.benchmark.contenders import RIVALS, make
from prdsim.benchmark.measurement import REFERENCE, measure
from prdsim.benchmark.problem import Problem, comparable
from prdsim.benchmark.processes import Entry, WorkerError, WorkerProcess
from prdsim.benchmark.products import CHARTS_PRODUCTS
from prdsim.benchmark.race import Block, race
from prdsim.benchmark.thresholds import verdicts
from prdsim.config import RunConfig
from prdsim.errors import ConfigError

SIZES = {"samples": 24, "width": 32, "critic_width": 16, "step_size": 0.2, "threads": 1}
BENCH = ("--set", "samples=16", "--set", "width=8", "--rounds", "1", "--seconds", "0.002")
PATIENCE = 120.0  # seconds; nothing comes near it unless it hangs
KINDS = ["numpy", "torch", "jax", pytest.param("torch.compile", marks=pytest.mark.slow)]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def without_rivals(tmp_path) -> dict[str, str]:
    """The environment of a machine where neither PyTorch nor JAX is installed."""
    folder = tmp_path / "missing"
    folder.mkdir()
    for name in ("torch", "jax"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name={name!r})\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def program(*arguments: str) -> list[str]:
    script = shutil.which("prdsim", path=str(Path(sys.executable).parent))
    return [*([script] if script else [sys.executable, "-m", "prdsim"]), "bench", *arguments]


def answered(command: list[str], cwd: Path, environment: dict[str, str]) -> Answer:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert "Traceback" not in done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


# -- the contenders compute the same ---------------------------------------------------------------


def need(kind: str) -> None:
    name = kind.partition(".")[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "keys",
    [{}, {"diffusion": True, "diffusivity": 0.7}, {"target": "inputs"}],
    ids=["plain", "critic", "autoencoder"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_rivals_compute_what_prdsim_computes(kind, keys, precision):
    need(kind)
    config = RunConfig(**SIZES, **keys, precision=precision)
    case = measure(config, [Entry(kind, kind)], rounds=1, block_seconds=1e-3)
    (row,) = case.rows
    assert row.left_out == ""
    assert [check.array for check in row.agreement] == list(config.moving)
    assert all(check.holds for check in row.agreement)
    assert row.timing is not None
    assert row.timing.seconds > 0
    assert row.peak_bytes > 1 << 20


def steps_of(kind: str, problem: Problem, folder: Path, **keys: Any) -> dict[str, np.ndarray]:
    path = folder / "problem.npz"
    problem.save(path)
    contender = make(kind, path, keys, threads=1)
    contender.prepare(agreement.CHECKED_STEPS)
    contender.advance(agreement.CHECKED_STEPS)
    return contender.weights()


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
def test_a_slightly_different_program_disagrees_in_float64(tmp_path, key, value):
    problem = Problem.of(RunConfig(**SIZES, diffusion=True))
    reference = steps_of("prdsim", problem, tmp_path, **REFERENCE.keys)
    same = steps_of("numpy", problem, tmp_path)
    assert all(check.holds for check in agreement.compare(problem, reference, same))
    other = steps_of("numpy", problem, tmp_path, **{key: value})
    assert not all(check.holds for check in agreement.compare(problem, reference, other))


def test_infinite_numbers_disagree():
    problem = Problem.of(RunConfig(**SIZES))
    after = {name: array + 1e-3 for name, array in problem.initial.items()}
    wrong = {**after, "U": np.full_like(after["U"], np.nan)}
    U, V = agreement.compare(problem, after, wrong)
    assert (U.array, U.holds, V.array, V.holds) == ("U", False, "V", True)


def test_a_problem_comes_back_from_its_file(tmp_path):
    problem = Problem.of(RunConfig(**SIZES, diffusion=True))
    problem.save(tmp_path / "p.npz")
    again = Problem.load(tmp_path / "p.npz", precision="float32")
    assert again.config == problem.config.replace(precision="float32")
    assert np.array_equal(again.X, problem.X)
    assert all(np.array_equal(again.initial[name], problem.initial[name]) for name in "UVWa")


@pytest.mark.parametrize("chart", CHARTS_PRODUCTS)
def test_bare_products_are_those_of_their_chart(tmp_path, chart):
    problem = Problem.of(RunConfig(**SIZES))
    problem.save(tmp_path / "p.npz")
    bare = make(f"products:{chart}", tmp_path / "p.npz", {}, threads=1)
    before = {name: getattr(bare, name).copy() for name in ("U", "V", "X", "H", "E")}
    bare.advance(1)
    U, V, X, H, E = before.values()
    rows = {"weight": 784, "range": 24, "gram": 24}[chart]
    assert U.shape == (32, rows)
    assert np.allclose(bare.A, U @ X)
    assert np.allclose(bare.B, V.T @ E)
    assert np.allclose(bare.Z, V @ H)
    assert np.allclose(1e9 * (bare.V - V), E @ H.T, rtol=1e-4, atol=1e-4)
    pulled_back = 1e9 * (bare.U - U)
    if chart == "gram":
        assert not pulled_back.any()
    else:
        assert np.allclose(pulled_back, bare.B @ X.T, rtol=1e-4, atol=1e-4)


# -- who cannot take part --------------------------------------------------------------------------


def test_a_contender_that_fails_is_left_out_with_the_reason():
    entries = [
        Entry("odd", "prdsim", {"backend": "numpy", "chart": "round"}),
        Entry("numpy", "numpy"),
    ]
    case = measure(RunConfig(**SIZES), entries, rounds=1, block_seconds=1e-3)
    odd, plain = case.rows
    assert "chart: must be one of" in odd.left_out
    assert odd.timing is None
    assert plain.timing is not None


def test_a_contender_that_leaves_the_finite_numbers_has_no_time():
    config = RunConfig(**{**SIZES, "step_size": 1e60})
    case = measure(config, [Entry("numpy", "numpy")], rounds=2, block_seconds=1e-3)
    (row,) = case.rows
    assert row.timing is None
    assert row.left_out


def test_a_killed_worker_is_noticed(tmp_path):
    Problem.of(RunConfig(**SIZES)).save(tmp_path / "p.npz")
    with WorkerProcess(Entry("x", "numpy"), tmp_path / "p.npz", 1) as process:
        process.ask("begin", steps=1, weights=str(tmp_path / "w.npz"))
        process._process.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerError, match="code -9"):
            process.ask("time", steps=1)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"integrator": "rk4"}, "integrator gd alone, not rk4"),
        ({"critic": "minimax"}, "critic wgan-gp alone, not minimax"),
        ({"trainable": "U"}, "trainable U,V,W,a alone, not U"),
        ({"precision": "tf32"}, "float64 and float32 alone"),
        ({"penalty_points": "gauss:3"}, "penalty_points random and midpoint alone"),
    ],
)
def test_what_rivals_have_no_program_for_is_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        Problem.of(RunConfig(**keys))


def test_rivals_alone_import_pytorch_and_jax():
    importing = set()
    for folder in ("prdsim", "backends", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    names = [str(node.module)]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    continue
                if {name.partition(".")[0] for name in names} & {"torch", "jax"}:
                    importing.add(path.name)
    assert importing == {"torch_rival.py", "jax_rival.py"}


# -- timing in turn --------------------------------------------------------------------------------


class Scripted:
    """An entrant that takes a given time a step, and says how others disturb it."""

    def __init__(self, label: str, seconds: float, calls: list[str], others: Any = ()) -> None:
        self.label, self.seconds, self.calls = label, seconds, calls
        self.others = iter(others)
        self.asked: list[int] = []

    def timed(self, steps: int) -> Block:
        self.calls.append(self.label)
        self.asked.append(steps)
        return Block(self.seconds, next(self.others, 0.0))


def raced(entrants: list[Scripted], **keys: Any) -> Any:
    pauses: list[float] = []
    timings = race(entrants, sleep=pauses.append, **{"rounds": 3, "block_seconds": 1.0, **keys})
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


def test_bench_prints_a_table_and_names_what_is_missing(tmp_path, without_rivals):
    answer = answered(program(*BENCH, "--set", "threads=1"), tmp_path, without_rivals)
    assert answer.code == 0, answer.err
    labels = "numpy", "prdsim numpy weight", "prdsim numba weight", r"prdsim \(\w+\)"
    for label in labels:
        assert re.search(rf"^  {label} +\d+\.\d+ +\d+\.\d\d +\d+\.\d\d$", answer.out, re.M), label
    assert re.search(r"^  products weight +\d+\.\d+ +\d+\.\d\d *$", answer.out, re.M)
    for name in ("torch", "torch.compile", "jax"):
        package = name.partition(".")[0]
        reason = f"{package} is not installed; pip install 'prdsim[bench]'"
        assert f"{name} is left out: {reason}" in answer.out
    assert "n = 16, m = 8" in answer.out
    assert "round 1/1" in answer.err
    assert "round" not in answer.out.replace("rounds", "")


def test_bench_speaks_json(tmp_path, without_rivals):
    arguments = (*BENCH, "--set", "diffusion=true", "--backend", "numpy", "--rival", "numpy")
    answer = answered(program(*arguments, "--json"), tmp_path, without_rivals)
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert report["critic"] is True
    assert report["sizes"] == {"d_in": 784, "d_out": 10, "n": 16, "m": 8, "m_c": 8}
    assert set(report["versions"]) >= {"python", "prdsim", "numpy", "scipy"}
    for row in report["contenders"]:
        assert {check["array"] for check in row["agreement"]} == set("UVWa")
        assert len(row["rounds_ms"]) == 1
        assert row["ms"] == row["rounds_ms"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.toml"], "no such configuration file"),
        (["--set", "integrator=heun"], "integrator gd alone, not heun"),
        (["--set", "widht=3"], "did you mean width?"),
        (["--backend", "nunba"], "did you mean numba?"),
        (["--rival", "keras"], "is not one of"),
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
    answer = run("bench", *BENCH, "--rival", "numpy", "--backend", "numpy")
    assert answer.code == 1
    assert "numpy is left out: disagrees with the reference: the change of" in answer.out
    assert "prdsim numpy weight" in answer.out  # the reference's own program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_benchmark_leaves_nothing_behind(tmp_path, number):
    arguments = (*BENCH[:4], "--seconds", "60", "--rival", "numpy", "--backend", "numpy")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        program(*arguments),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("products"):
            assert process.poll() is None
        assert workers(tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + PATIENCE
    while workers(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(folder: Path) -> list[str]:
    """Processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text()
        except OSError:  # it has just ended
            continue
        found += [text] if str(folder) in text else []
    return found


# -- promises, and the page ------------------------------------------------------------------------


def row(label: str, *rounds: float, chart: str | None = None) -> dict[str, Any]:
    return {
        "label": label,
        "ms": float(np.median(rounds)),
        "rounds_ms": list(rounds),
        "chart": chart,
        "left_out": None,
        "disturbed_blocks": 1,
        "peak_mb": 123.0,
    }


def case(group: str, *rows: dict[str, Any], n: int = 500, m: int = 4096) -> dict[str, Any]:
    return {
        "group": group,
        "name": f"{group}, n = {n}",
        "sizes": {"d_in": 784, "d_out": 10, "n": n, "m": m, "m_c": m},
        "precision": "float64",
        "contenders": list(rows),
    }


def planted(*cases: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789abcdef",
        "machine": {"processor": "Abacus", "cores": 2},
        "versions": {"python": "3.99", "torch": "2.99"},
        "threads": 2,
        "rounds": 3,
        "block_seconds": 0.5,
        "cases": list(cases),
        **parts,
    }


MISSING = {"label": "jax", "left_out": "jax is not installed", "agreement": []}


def test_promises_are_held_to_the_fastest_rival():
    ours = row("prdsim", 10.0, 10.0, 20.0, chart="gram")
    rivals = [row("torch", 30.0, 40.0, 50.0), row("torch.compile", 26.0, 25.0, 21.0), MISSING]
    report = planted(
        case("steps", row("numpy", 1.0, 1.0, 1.0), *rivals, ours, row("products gram", 8, 8, 8)),
        case("critic", *rivals, ours),
        case("autoencoder", MISSING, ours),
        case("charts", *rivals, ours),
        case("products", ours, row("products weight", 9, 9, 9), n=4000),
        case("products", ours, row("products gram", 9, 9, 9), n=4000),
        case("products", ours, row("products gram", 9, 9, 9), n=2000),
        case("products", ours, row("products gram", 9, 9, 9), m=512),
    )
    found = [(v.case, v.measured, v.required, v.holds) for v in verdicts(report)]
    assert found == [
        ("steps, n = 500", 2.5, 2.5, True),
        ("steps, n = 500", 1.25, 1.3, True),
        ("critic, n = 500", 2.5, 3.0, False),
        ("autoencoder, n = 500", None, 1.3, None),
        ("products, n = 4000", None, 1.15, None),
        ("products, n = 4000", 10 / 9, 1.15, True),
    ]
    assert "torch.compile; chart gram; by rounds 2.5" in verdicts(report)[0].note


@pytest.mark.parametrize(("n", "required"), [(100, 2.5), (500, 2.5), (1000, 1.7), (4000, 1.05)])
def test_what_is_promised_depends_on_the_samples(n, required):
    report = planted(case("steps", row("jax", 2.0), row("prdsim", 1.0, chart="gram"), n=n))
    verdict = verdicts(report)[0]
    assert (verdict.measured, verdict.required, verdict.holds) == (2.0, required, required <= 2)


def test_memory_and_snapshots_are_held_to_their_promises():
    memory = [
        {"name": "right", "measured_mb": 275.0, "predicted_mb": 100.0},
        {"name": "over", "measured_mb": 275.5, "predicted_mb": 100.0},
    ]
    snapshots = {"name": "runs", "ratio": 1.06}
    found = verdicts(planted(memory=memory, snapshots=snapshots))
    assert [(v.case, v.holds) for v in found] == [("right", True), ("over", False), ("runs", False)]


def reported(report: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    results = folder / "results.json"
    results.write_text(json.dumps(report))
    arguments = ["report.py", str(results), "--docs", str(folder / "docs")]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(ROOT / "benchmarks" / "report.py"), run_name="__main__")
    return (folder / "docs" / "performance.md").read_text()


def test_the_page_says_what_the_results_say(tmp_path, monkeypatch):
    rows = [row("torch", 30.0, 40.0, 50.0), row("prdsim", 8.0, 9.0, 10.0, chart="gram"), MISSING]
    gram = [row("prdsim gram", 9.0, 9.0, 9.0, chart="gram"), row("products gram", 6.0, 6.0, 6.0)]
    report = planted(
        case("steps", *rows, *gram),
        case("steps", *rows, *gram, n=1000),
        case("width", *rows),
        memory=[{"name": "a run", "measured_mb": 275.5, "predicted_mb": 100.0}],
        snapshots={"name": "runs", "ratio": 1.0123},
    )
    page = reported(report, tmp_path, monkeypatch)
    assert "[results.json](../results.json)" in page
    assert "2026-01-02 at commit 0123456789ab on Abacus, 2 cores, with 2 threads" in page
    assert "python 3.99, torch 2.99" in page
    assert "10 of 30 stayed disturbed" in page
    assert "| steps, n = 500 | 40 | 9 (gram) |  | 9 | 6 |" in page
    assert "| steps, n = 500 |  |  | 1.50 |" in page
    assert "| 4.44 | at least 2.5 | yes | torch; chart gram; by rounds 4.44 |" in page
    assert "| 1.5 | at most 1.3 | **no** |" in page
    assert "`jax` is left out of steps, n = 500: jax is not installed." in page
    assert "| a run | 276 | 100 |" in page
    assert "1.012 times as long" in page
    assert "No GPU has run this comparison yet" in page
    for name in ("performance-steps", "performance-width-outputs"):
        assert f"(pictures/{name}.png)" in page
        picture = tmp_path / "docs" / "pictures" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "docs" / "pictures" / "performance-charts.png").exists()


def test_a_page_of_nothing_claims_nothing(tmp_path, monkeypatch):
    page = reported(planted(), tmp_path, monkeypatch)
    assert "## Time per step" not in page
    assert "## Memory" not in page
    assert "![" not in page


def test_a_report_of_no_file_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match=r"none\.json: cannot be read"):
        runpy.run_path(str(ROOT / "benchmarks" / "report.py"), run_name="__main__")


# -- the suite -------------------------------------------------------------------------------------


def test_every_planned_case_is_a_run_that_rivals_can_do():
    suite = runpy.run_path(str(ROOT / "benchmarks" / "suite.py"))
    titles = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))["TITLES"]
    cases = list(suite["planned"]())
    assert {planned.group for planned in cases} == set(titles)
    assert len({(planned.group, planned.name) for planned in cases}) == len(cases)
    for planned in cases:
        config = comparable(RunConfig(**planned.keys))
        assert (config.integrator, config.critic, config.trainable) == ("gd", "wgan-gp", "U,V,W,a")
        labels = [entry.label for entry in planned.entries]
        assert len(set(labels)) == len(labels)
    for planned in cases:
        if planned.group in ("steps", "critic", "autoencoder"):
            assert {*RIVALS, "prdsim"} <= {entry.label for entry in planned.entries}
    for _, keys in suite["memory_cases"]():
        RunConfig(**keys)


def test_the_suite_measures_writes_and_judges(tmp_path, without_rivals, monkeypatch):
    path = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "suite.py"), "--quick", "--threads", "1"]
    groups = ["--only", "charts", "memory", "--output", str(path)]
    answer = answered([*command, *groups], tmp_path, without_rivals)
    report = json.loads(path.read_text())
    (found,) = report["cases"]
    assert found["name"] == "n = 50, m = 2048, float64"
    assert {row["label"] for row in found["contenders"] if "ms" in row} >= {
        "prdsim",
        "prdsim weight",
    }
    (memory,) = report["memory"]
    assert memory["measured_mb"] > memory["predicted_mb"] > 1
    kept = memory["measured_mb"] <= 1.25 * memory["predicted_mb"] + 150
    assert answer.code == (0 if kept else 1)
    assert ("holds" if kept else "FAILS") in answer.out
    assert "Where the charts cross" in reported(report, tmp_path, monkeypatch)
