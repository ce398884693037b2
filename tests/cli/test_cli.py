"""The commands, as a user meets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support_cli import ROOT, TINY

import prdsim
from prdsim.config import RunConfig

# -- run -------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_summary_and_a_file(run, tmp_path):
    answer = run("run", *TINY, "--diffusion", "-o", "a.h5")
    assert answer.code == 0
    for words in ("finished at step 20", "L_sup", "distance of u_j", "drift", "a.h5", "inspect"):
        assert words in answer.out
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "finished"
        assert trajectory.config["diffusion"] is True
        assert trajectory.step[-1] == 20
        assert trajectory.scalars["step"].tolist() == [0, 10, 20]


def test_the_summary_repeats_what_the_file_holds(run, tmp_path):
    answer = run("run", *TINY, "--dataset", "digits", "-o", "a.h5")
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        first, last = trajectory.scalars["loss_sup"][[0, -1]]
    assert f"{first:.6g} -> {last:.6g}" in answer.out


def test_every_configuration_key_is_an_option(run):
    text = run("run", "--help").out
    for key in RunConfig.model_fields:
        assert f"--{key.replace('_', '-')}" in text


def test_layers_are_merged_in_order(run, tmp_path):
    (tmp_path / "c.toml").write_text('width = 5\nsamples = 9\nsteps = 7\npreset = "theory"\n')
    tail = ("--set", "samples=8", "--set", "steps=6", "--steps", "5", "--backend", "numpy")
    assert run("run", "c.toml", *tail, "-o", "a.h5").code == 0
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        config = trajectory.config
    assert (config["width"], config["samples"], config["steps"]) == (5, 8, 5)
    assert (config["target"], config["trainable"]) == ("scalar", "U")


def test_default_names_are_never_the_same(run, tmp_path):
    for _ in range(2):
        assert run("run", *TINY).code == 0
    names = [path.name for path in tmp_path.glob("prdsim-*.h5")]
    assert len(names) == 2


def test_force_replaces_a_file(run, tmp_path):
    assert run("run", *TINY, "-o", "a.h5").code == 0
    assert run("run", *TINY, "-o", "a.h5", "--seed", 3, "--force").code == 0
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.config["seed"] == 3


def test_names_may_be_odd(run, tmp_path):
    for name in ("with space.h5", "ünïcode.h5", "-dash.h5", "no_suffix"):
        answer = run("run", *TINY, f"--output={name}")
        assert answer.code == 0, name
        assert (tmp_path / name).is_file()
    assert "'with space.h5'" in run("run", *TINY, "--force", "--output=with space.h5").out


EDGES = [
    "--samples 1 --width 1",
    "--outputs 1",
    "--critic-width 1",
    "--target scalar",
    "--target inputs --critic-rate 1e-3",
    "--normalize none",
    "--steps 1 --snapshots geometric:2",
    "--snapshots every:100000 --scalars every:1000",
    "--end-time 1e-3 --snapshots times:every:100 --scalars times:geometric:2",
    "--end-time 1e-3 --snapshots geometric:3 --scalars times:every:1e-4",
    "--integrator gd --critic-steps 0",
    "--integrator gd --critic-step-size 0.01 --penalty-points random",
    "--penalty-points gauss:5 --critic-warmup 0.1",
    "--init-scale 0",
    "--trainable a,V",
    "--precision float32 --snapshot-precision float64",
    "--correlation-length 3",
    "--gradient-penalty 0",
    "--diffusivity 0",
    "--critic minimax --critic-rate 0.125",
    "--critic minimax --integrator heun --step-size 0.01",
    "--integrator rk4 --step-size 0.01 --end-time 0.05",
    "--preset poster --integrator dopri5 --step-size 0.01 --end-time 0.05",
]


@pytest.mark.parametrize("options", EDGES)
def test_edges_of_the_configuration_run(run, tmp_path, options):
    answer = run("run", *TINY, "--diffusion", "-o", "a.h5", *options.split())
    assert answer.code == 0, answer.err
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "finished"
        assert trajectory.check() == []
        assert np.isfinite(trajectory.U[-1]).all()


def test_progress_goes_to_stderr_and_the_summary_to_stdout(run):
    answer = run("run", *TINY)
    assert "finished" in answer.out
    assert "finished" not in answer.err


@pytest.mark.parametrize(
    ("options", "end", "longer"),
    [
        ("--steps 20", "step 20, t = 2 ", "--steps 40"),
        ("--end-time 1", "t = 1, step 10 ", "--end-time 2"),
        ("--end-time 1 --steps 20", "t = 1, step 10 ", "--end-time 2"),
        ("--end-time 1 --steps 6", "t = 0.6, step 6 ", "--steps 12"),
        ("--end-time 1 --steps 10", "t = 1, step 10 ", "--end-time 2 --steps 20"),
        # One step, which passes twice the end time already.
        ("--end-time 0.04", "t = 0.04, step 1 ", "--end-time 0.2"),
    ],
)
def test_what_the_summary_suggests_goes_on(run, options, end, longer):
    fixed = ("--integrator", "rk4", "--step-size", 0.1, "--backend", "numpy")
    answer = run("run", *TINY[:4], *fixed, *options.split(), "-o", "a.h5")
    assert answer.out.startswith(f"finished at {end}")
    assert "prdsim inspect a.h5" in answer.out
    (suggested,) = re.findall(r"prdsim (resume a\.h5 .*?)    continue", answer.out)
    assert suggested.split() == ["resume", "a.h5", *longer.split()]
    answer = run(*suggested.split())
    assert answer.code == 0
    assert answer.out.startswith("finished at ")


def test_the_first_line_of_the_summary_says_how_the_run_was_computed(run):
    adaptive = run("run", *TINY, "--threads", 1, "-o", "a.h5").out.splitlines()[0]
    pattern = r"finished at step 20, t = [\d.e-]+ \(bs23, rtol 0\.001, (\d+) steps rejected, "
    found = re.match(pattern + r"(\d+) velocities; numpy, 1 thread\)$", adaptive)
    assert found
    rejected, velocities = map(int, found.groups())
    assert velocities == 1 + 3 * (20 + rejected)  # the last stage is the next step's first
    fixed = ("--integrator", "gd", "--step-size", 0.25, "--end-time", 2, "--threads", 2)
    answer = run("run", *TINY, *fixed, "-o", "b.h5")
    line = "finished at t = 2, step 8 (gd, step size 0.25, 8 velocities; numpy, 2 threads)"
    assert answer.out.splitlines()[0] == line


def test_the_summary_gives_the_pace_and_what_comes_next(run):
    out = run("run", *TINY, "-o", "a.h5").out
    assert re.search(r"\n  wall time +\d+\.\d\d s, [\d.]+ ms per step\n", out)
    out = run("run", *TINY[:4], "--backend", "numpy", "--steps", 1, "-o", "b.h5").out
    assert re.search(r"\n  wall time +\d+\.\d\d s\n", out)
    nexts = re.findall(r"prdsim (.*?)    ", out.partition("next: ")[2])
    assert [words.split()[0] for words in nexts] == [
        "plot", "analyze", "converge", "inspect", "resume"
    ]  # fmt: skip
    for words in nexts[:2]:
        assert run(*words.split()).code == 0


def test_json_is_a_form_of_every_table(run):
    run("run", *TINY, "-o", "a.h5")
    run("run", *TINY, "--diffusion", "-o", "b.h5")
    for words in (["analyze", "a.h5", "spread"], ["compare", "a.h5", "b.h5", "spread"]):
        answer = run(*words, "--json")
        assert answer.code == 0
        assert "cv_U" in str(json.loads(answer.out))
        assert answer.out == run(*words, "--format", "json").out
        refused = run(*words, "--json", "--format", "csv")
        assert (refused.code, refused.out) == (2, "")
        assert "--json and --format csv: choose one" in refused.err


# -- resume, inspect -------------------------------------------------------------------------------


def test_inspect_says_what_a_file_holds(run):
    run("run", *TINY, "--diffusion", "-o", "a.h5")
    text = run("inspect", "a.h5").out
    for words in ("finished at step 20 of 20", "synthetic, 8 samples", "with diffusion", "m = 6"):
        assert words in text
    assert "bs23, rtol 0.001" in text
    assert "all checksums hold" in run("inspect", "--check", "a.h5").out


def test_inspect_tells_times_of_a_run_to_a_time(run):
    run("run", *TINY[:4], "--backend", "numpy", "--end-time", 2.5, "-o", "a.h5")
    text = run("inspect", "a.h5").out
    assert re.search(r"finished at step \d+; last snapshot at time 2\.5 of 2\.5\n", text)
    assert "40 of 40 snapshots, 6 rows of scalars" in text
    assert re.search(r"time +0 +0\.5 +1 +2 +2\.5\n", text)
    report = json.loads(run("inspect", "--json", "a.h5").out)
    assert (report["time"], report["end_time"], report["steps"]) == (2.5, 2.5, None)
    assert report["scalars"]["time"] == [0, 0.5, 1, 1.5, 2, 2.5]


def test_inspect_speaks_json(run):
    run("run", *TINY, "-o", "a.h5")
    report = json.loads(run("inspect", "--json", "--check", "a.h5").out)
    assert report["status"] == "finished"
    assert report["step"] == report["steps"] == 20
    assert report["shapes"]["U"] == [6, 784]
    assert len(report["scalars"]["loss_sup"]) == 3
    assert report["problems"] == []


# -- backends, data --------------------------------------------------------------------------------


def test_backends_says_what_works_and_why_the_rest_does_not(run):
    text = run("backends").out
    assert "numpy    available" in text
    assert "numba    available" in text
    assert "cupy" in text
    rows = {row["name"]: row for row in json.loads(run("backends", "--json").out)}
    assert list(rows) == ["cupy", "numba", "numpy"]
    for row in rows.values():
        assert row["available"] or "cupy" in row["reason"].lower()


def test_data_list_names_every_data_set(run):
    text = run("data", "list").out
    for name in ("synthetic", "digits", "mnist", "fashion-mnist"):
        assert name in text
    rows = json.loads(run("data", "list", "--json").out)
    assert {row["name"] for row in rows} >= {"synthetic", "digits", "mnist", "fashion-mnist"}


# -- the program itself ----------------------------------------------------------------------------


def test_the_console_script_answers(start):
    answer = start("--version").answer()
    assert (answer.code, answer.out.strip()) == (0, f"prdsim {prdsim.__version__}")


def test_the_module_runs_from_the_checkout_beside_an_old_build_folder(tmp_path):
    for name in ("prdsim", "backends", "cli", "data", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    old = tmp_path / "build" / "lib" / "prdsim"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("raise ImportError('an old build')\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "prdsim", "run", *TINY, "-o", "a.h5"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.h5").is_file()
