"""Outputs of commands: never their own inputs, nothing half done; and the words of refusals."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support_cli import TINY, Run, assert_refused
from support_runs import KEYS, make_diverged, make_run

import prdsim
from prdsim import backends
from prdsim.backends import register_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.convergence.report import report_path
from prdsim.files.lock import folder_held
from prdsim.trajectory import TrajectoryWriter

USAGE, FILE, DIVERGED = 2, 3, 5


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "a.h5", diffusion=True)


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A run by three names, one of which could be a picture's, and what stands for its report."""
    path = tmp_path / "a.h5"
    path.write_bytes(made.read_bytes())
    (tmp_path / "hard.h5").hardlink_to(path)
    (tmp_path / "soft.png").symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("output", ["a.h5", "hard.h5", "soft.png"])
@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_a_table_never_replaces_its_run(run, folder, command, output):
    before = contents(folder)
    answer = run(command, "a.h5", "-o", output, "--format", "csv", "--force")
    assert_refused(answer, USAGE, output, "is read here; name another output")
    assert contents(folder) == before


def test_a_table_never_replaces_the_report_that_it_quotes(run, folder):
    report = report_path(folder / "a.h5")
    report.write_text("{}")
    answer = run("analyze", "a.h5", "-o", report.name, "--force")
    assert_refused(answer, USAGE, "a.converge.json is read here")
    assert report.read_text() == "{}"


def test_a_figure_never_replaces_its_run(run, folder):
    before = contents(folder)
    for source in ("a.h5", "soft.png"):
        answer = run("plot", source, "distances", "-o", "soft.png", "--force")
        assert_refused(answer, USAGE, "soft.png", "is read here; name another output")
    assert contents(folder) == before
    assert (folder / "soft.png").is_symlink()


def test_a_run_never_replaces_its_configuration_or_data(run, tmp_path):
    Path("its.toml").write_text("seed = 3\n")
    np.savez("data.npz", X=np.arange(36.0).reshape(9, 4), Y=np.arange(9) % 3)
    Path("data.csv").write_text("x0,x1,label\n" + "1,2,0\n2,1,1\n" * 5)
    Path("link.h5").symlink_to("data.npz")
    before = contents(tmp_path)
    for words in (
        ("its.toml", "-o", "its.toml"),
        ("--dataset", "data.npz", "-o", "data.npz"),
        ("--dataset", "data.npz", "-o", "link.h5"),
        ("--dataset", "data.csv", "-o", "data.csv"),
    ):
        answer = run("run", *words, *TINY, "--force")
        assert_refused(answer, USAGE, words[-1], "is read here; name another output")
        assert contents(tmp_path) == before
    with pytest.raises(prdsim.errors.ConfigError, match=r"data\.npz is read here"):
        prdsim.run(**{**KEYS, "dataset": "data.npz", "samples": 8}, output="data.npz", force=True)
    assert contents(tmp_path) == before


def test_a_run_replaces_any_other_file_by_request(run, tmp_path):
    Path("notes.txt").write_text("mine")
    assert_refused(run("run", *TINY, "-o", "notes.txt"), USAGE, "notes.txt exists")
    assert Path("notes.txt").read_text() == "mine"
    assert run("run", *TINY, "-o", "notes.txt", "--force").code == 0
    with prdsim.open_trajectory(tmp_path / "notes.txt") as trajectory:
        assert trajectory.check() == []


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_pipes_and_devices_are_no_outputs(run, folder, force):
    os.mkfifo(folder / "pipe.csv")
    for name in ("pipe.csv", "/dev/null"):
        answer = run("analyze", "a.h5", "-o", name, "--format", "csv", *force)
        assert_refused(answer, FILE, f"{name} is a device or a pipe; name a file")
    assert not Path("/dev/null").is_file()


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["analyse", "a.h5"], "No such command 'analyse'; did you mean analyze?"),
        (["data", "fetsh"], "No such command 'fetsh'; did you mean fetch?"),
        (["frobnicate"], "No such command 'frobnicate'."),
        (["run", "--integrator", "heunn"], "(did you mean heun?), got 'heunn'"),
        (["run", "--chart", "wieght"], "(did you mean weight?), got 'wieght'"),
        (["run", "--preset", "postre"], "(did you mean poster?), got 'postre'"),
        (["run", "--chart", "xyz"], "must be one of auto, weight, range, gram, got 'xyz'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_the_nearest_known_word_is_suggested(run: Run, words, told):
    assert_refused(run(*words), USAGE, told)


# -- leftovers -------------------------------------------------------------------------------------


def test_converge_that_cannot_begin_leaves_no_folder(run, tmp_path, monkeypatch):
    class Mine(NumpyBackend):
        name = "mine"

    monkeypatch.setattr(backends, "_REGISTERED", {})
    register_backend("mine", Mine)
    make_run(tmp_path / "a.h5", backend="mine")
    backends._REGISTERED.clear()
    before = contents(tmp_path)
    answer = run("converge", "a.h5")
    assert answer.code == USAGE
    assert "mine" in answer.err
    assert contents(tmp_path) == before
    assert not (tmp_path / "a.converge").exists()


def test_every_command_has_the_same_remedy_for_a_divergence(run, tmp_path):
    make_diverged(tmp_path / "a.h5", step_size=1e3)
    answers = [run(*words, "a.h5") for words in (["inspect"], ["resume"], ["converge"])]
    assert [answer.code for answer in answers] == [0, DIVERGED, DIVERGED]
    shown = {(a.out + a.err).rstrip().rpartition(" with ")[2] for a in answers}
    assert len(shown) == 1, shown
    (remedy,) = shown
    assert remedy.startswith("--")
    settings = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
    settings += ["--diffusion", "--step-size", 1e3, "--snapshots", "every:1"]
    again = run("run", *settings, "-o", "b.h5")
    assert again.err.endswith(f"; try {remedy}\n")


def test_steps_that_shrink_away_are_not_to_be_made_smaller(run):
    first = run("run", *TINY, "--rtol", 1e-300, "--atol", 0, "-o", "a.h5")
    assert (first.code, "the step size fell to" in first.err) == (DIVERGED, True)
    remedy = "--rtol 0.001\n"
    for answer in (first, run("resume", "a.h5"), run("inspect", "a.h5")):
        assert (answer.err or answer.out).endswith(remedy)


@pytest.mark.parametrize("words", [("analyze", "a.h5", "rank"), ("plot", "a.h5", "distances")])
def test_a_run_that_is_being_written_is_no_output(run, folder, words):
    live = folder / "live.png"
    live.write_bytes((folder / "a.h5").read_bytes())
    with TrajectoryWriter.open(live):
        before = contents(folder)
        form = ("--format", "csv") if words[0] == "analyze" else ()
        answer = run(*words, "-o", live.name, *form, "--force")
        assert_refused(answer, FILE, f"live.png is being written by process {os.getpid()}")
        assert contents(folder) == before


@pytest.mark.parametrize("end_time", ["1e-320", "5e-324"])
def test_an_end_too_short_to_be_divided(run, tmp_path, end_time):
    answer = run("run", *TINY, "--end-time", end_time, "-o", "a.h5")
    assert_refused(answer, USAGE, "end_time: ", "is too short to be divided")
    assert contents(tmp_path) == {}


def test_converge_follows_no_link_and_works_alone(run, folder):
    target = folder / "other"
    target.write_text("mine")
    replays = folder / "a.converge"
    replays.mkdir()
    (replays / "twin-1.h5").symlink_to(target)
    with folder_held(replays):
        assert_refused(run("converge", "a.h5"), FILE, "another converge of a.h5 is at work")
        assert [path.name for path in replays.iterdir()] == ["twin-1.h5"]
    answer = run("converge", "a.h5")
    assert answer.code == FILE
    assert answer.err.endswith("twin-1.h5 is a link, not a replay: move it away\n")
    assert (replays / "twin-1.h5").is_symlink()
    assert target.read_text() == "mine"
