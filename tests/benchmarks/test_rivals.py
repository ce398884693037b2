"""benchmarks/: rivals compute the same, promises are held to results, the page repeats them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import report as page_writer
import suite
from support_cli import ROOT
from thresholds import RIVALS, promises
from workers import Worker, WorkerError

from prdsim.config import RunConfig
from prdsim.timing.contenders import Entry
from prdsim.timing.measurement import measure
from prdsim.timing.workload import Workload, comparable

SIZES = {"samples": 24, "width": 32, "critic_width": 16, "step_size": 0.2, "threads": 1}
MISSING = {"label": "jax", "left_out": "jax is not installed", "agreement": []}


# -- the rivals compute the same -------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [{"diffusion": True, "diffusivity": 0.7}, {"target": "inputs", "precision": "float32"}],
    ids=["critic", "autoencoder, float32"],
)
@pytest.mark.parametrize(
    "kind", ["numpy", "torch", "jax", pytest.param("torch.compile", marks=pytest.mark.slow)]
)
def test_a_rival_computes_what_prdsim_computes(kind, keys):
    name = kind.partition(".")[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    config = RunConfig(**SIZES, **keys)
    case = measure(config, [Entry(kind, kind)], rounds=1, block_seconds=1e-3, start=Worker)
    (row,) = case.contenders
    assert row.left_out == ""
    assert [check.array for check in row.agreement] == list(config.moving)
    assert all(check.holds for check in row.agreement)
    assert row.timing.seconds > 0
    assert row.peak_bytes > 1 << 20


def test_a_missing_library_and_a_killed_process_are_reasons(monkeypatch, tmp_path):
    for name in ("torch", "jax"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name={name!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    workload = Workload.of(RunConfig(**SIZES))
    for kind, name in (("torch.compile", "torch"), ("jax", "jax")):
        words = rf"{name} is not installed; pip install -e '\.\[bench\]'"
        with (
            Worker(Entry(kind, kind), workload, 1) as worker,
            pytest.raises(WorkerError, match=words),
        ):
            worker.begin(1)
    with Worker(Entry("numpy", "numpy"), workload, 1) as worker:
        worker.begin(1)
        worker._process.kill()
        with pytest.raises(WorkerError, match="code -9"):
            worker.timed(1)


# -- promises, and the page ------------------------------------------------------------------------


def row(label: str, *rounds: float, chart: str | None = None) -> dict[str, Any]:
    return {"label": label, "ms": median(rounds), "rounds_ms": list(rounds), "chart": chart}


def case(group: str, *rows: dict[str, Any], n: int = 500, m: int = 4096) -> dict[str, Any]:
    name = f"{group}, n = {n}"
    sizes = {"n": n, "m": m}
    found = {"group": group, "name": name, "precision": "float32", "sizes": sizes}
    return {**found, "contenders": list(rows)}


def test_promises_are_held_to_the_fastest_rival():
    ours = row("prdsim", 10.0, 10.0, 20.0, chart="gram")
    rivals = [row("torch", 30.0, 40.0, 50.0), row("torch.compile", 26.0, 25.0, 21.0), MISSING]
    cases = [
        case("steps", row("numpy", 1.0, 1.0, 1.0), *rivals, ours, row("products gram", 8, 8, 8)),
        case("critic", *rivals, ours),
        case("autoencoder", MISSING, ours),
        case("charts", *rivals, ours),
        case("products", ours, row("products weight", 9, 9, 9), n=4000),
        case("products", ours, row("products gram", 9, 9, 9), n=4000),
        case("products", ours, row("products gram", 9, 9, 9), n=2000),
        case("products", ours, row("products gram", 9, 9, 9), m=512),
    ]
    kept = promises({"cases": cases})
    found = [(promise.case, promise.measured, promise.required, promise.holds) for promise in kept]
    assert found == [
        ("steps, n = 500", 2.5, 2.5, True),
        ("steps, n = 500", 1.25, 1.3, True),
        ("critic, n = 500", 2.5, 2.9, False),
        ("autoencoder, n = 500", None, 1.3, None),
        ("products, n = 4000", None, 1.15, None),
        ("products, n = 4000", 10 / 9, 1.15, True),
    ]
    assert "torch.compile; chart gram; by rounds 2.5" in kept[0].note


@pytest.mark.parametrize(("n", "required"), [(100, 2.5), (500, 2.5), (1000, 1.7), (4000, 1.05)])
def test_what_is_promised_depends_on_the_samples(n, required):
    ours = row("prdsim", 1.0, chart="gram")
    promise = promises({"cases": [case("steps", row("jax", 2.0), ours, n=n)]})[0]
    assert (promise.measured, promise.required, promise.holds) == (2.0, required, required <= 2)


def test_memory_and_snapshots_are_held_to_their_promises():
    memory = [
        {"name": "right", "measured_mb": 275.0, "predicted_mb": 100.0},
        {"name": "over", "measured_mb": 275.5, "predicted_mb": 100.0},
    ]
    snapshots = {"name": "runs", "ratio": 1.06}
    found = promises({"cases": [], "memory": memory, "snapshots": snapshots})
    assert [(v.case, v.holds) for v in found] == [("right", True), ("over", False), ("runs", False)]


def page_of(
    results: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, **others: Path
) -> str:
    options = [word for option, path in others.items() for word in (f"--{option}", str(path))]
    words = ["report.py", *map(str, results), *options, "--docs", str(folder)]
    monkeypatch.setattr(sys, "argv", words)
    page_writer.main()
    return (folder / "performance.md").read_text()


def test_the_page_of_the_documentation_follows_from_the_results(tmp_path, monkeypatch):
    published = (ROOT / "docs" / "performance.md").read_text()
    names = re.findall(r"\[([-\w]+-cpu[-\w]*\.json)\]", published)
    assert len(names) == len(set(names)) >= 1
    folder = ROOT / "benchmarks" / "results"
    (whole,) = set(re.findall(r"results/([-\d]+-converged\.json)", published))
    (gpu,) = set(re.findall(r"results/([-\w]+-gpu-[-\w]+\.json)", published))
    others = {"converged": folder / whole, "gpu": folder / gpu}
    page = page_of([folder / name for name in names], tmp_path, monkeypatch, **others)
    source = os.path.relpath(folder, tmp_path)
    assert page == published.replace("../benchmarks/results", source)
    pictures = re.findall(r"\((pictures/.*\.png)\)", page)
    assert len(pictures) >= 3
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_report_of_no_file_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match=r"none\.json: cannot be read"):
        page_writer.main()


# -- the suite -------------------------------------------------------------------------------------


def test_every_planned_case_is_a_run_that_rivals_can_do():
    cases = list(suite.planned())
    assert {planned.group for planned in cases} == set(page_writer.TITLES)
    assert len({(planned.group, planned.name) for planned in cases}) == len(cases)
    for planned in cases:
        config = comparable(RunConfig(**planned.keys))
        assert (config.integrator, config.critic, config.trainable) == ("gd", "wgan-gp", "U,V,W,a")
        labels = [entry.label for entry in planned.entries]
        assert len(set(labels)) == len(labels)
        if planned.group in ("steps", "critic", "autoencoder"):
            assert {*RIVALS, "prdsim"} <= set(labels)
    for _, keys in suite.memory_cases():
        RunConfig(**keys)


@pytest.mark.slow  # it times, for ten seconds
def test_the_suite_measures_writes_and_judges(tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "suite.py"), "--quick", "--threads", "1"]
    done = subprocess.run(
        [*command, "--only", "charts", "memory", "--output", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
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
    assert done.returncode == (0 if kept else 1)
    assert ("holds" if kept else "FAILS") in done.stdout
    found["contenders"].append(MISSING)
    path.write_text(json.dumps(report))
    page = page_of(path, tmp_path / "docs", monkeypatch)
    assert f"`jax` is left out of {found['name']}: jax is not installed." in page
    assert "## Where the charts cross" in page
    assert "## Time per step" not in page
    assert re.findall(r"pictures/.*\.png", page) == ["pictures/performance-charts.png"]
