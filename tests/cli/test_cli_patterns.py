"""prdsim analyze, plot and compare, as a user meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from support_cli import Run, assert_refused, caller
from support_runs import make_diverged, make_interrupted, make_pair, make_run

from prdsim.analysis import GROUPS, history, open_recording
from prdsim.figures import FIGURES
from prdsim.files import posix

USAGE, DATA = 2, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_pair(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    """The folder that commands are called in: a run without diffusion, a.h5, and one with, b.h5."""
    for name, side in (("a.h5", "without"), ("b.h5", "with")):
        (tmp_path / name).write_bytes((made / f"{side}-0.h5").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys) -> Run:
    assert folder == Path.cwd()
    return caller(monkeypatch, capsys)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"a.h5", "b.h5"}


# -- analyze ---------------------------------------------------------------------------------------


def test_analyze_shows_every_measure_of_a_run(run):
    answer = run("analyze", "b.h5")
    assert answer.code == 0
    assert "left out" not in answer.err
    assert answer.out.startswith(
        "b: with diffusion; finished at step 20\n  discretization: not assessed\n5 snapshots\n"
    )
    for group in GROUPS.values():
        for measure in group.measures:
            shown = f"  {measure.meaning}  " in answer.out
            assert shown == (not group.on_demand)


def test_analyze_writes_the_formats_that_names_end_in(run, folder):
    with open_recording("b.h5") as recording:
        expected = history(recording, ["rank"])["effective_rank"]
    for name in ("t.csv", "t.json", "t.txt"):
        answer = run("analyze", "b.h5", "rank", "-o", name)
        assert (answer.code, answer.out, answer.err) == (0, "", "")
    rows = list(csv.DictReader(io.StringIO((folder / "t.csv").read_text())))
    assert list(rows[0]) == ["step", "time", "effective_rank", "participation_ratio"]
    assert [float(row["effective_rank"]) for row in rows[1:]] == expected[1:].tolist()
    assert rows[0]["effective_rank"] == ""
    report = json.loads((folder / "t.json").read_text())
    assert (report["run"], report["status"]) == ("b", "finished at step 20")
    assert [row["effective_rank"] for row in report["snapshots"]] == [None, *expected[1:]]
    assert (folder / "t.txt").read_text() == run("analyze", "b.h5", "rank").out
    assert names(folder) == {"t.csv", "t.json", "t.txt"}


def test_analyze_gives_several_tables_in_one_order(run):
    answer = run("analyze", "neurons", "subspace", "rank", "b.h5", "--format", "json")
    assert list(json.loads(answer.out)) == [
        *("run", "label", "status", "discretization", "snapshots", "subspace", "neurons")
    ]
    assert len(json.loads(answer.out)["neurons"]) == 7
    csv_answer = run("analyze", "neurons", "subspace", "b.h5", "--format", "csv")
    assert_refused(csv_answer, USAGE, "csv holds one table, not subspace, neurons")


def test_analyze_says_what_it_left_out_and_why(run, folder):
    X = np.random.default_rng(0).standard_normal((10, 6))
    np.savez(folder / "own.npz", X=X, Y=X[:, :2])
    make_run(folder / "c.h5", dataset="own.npz")
    answer = run("analyze", "c.h5")
    assert answer.code == 0
    assert answer.err.startswith("order left out: c: its inputs are not images")
    assert_refused(run("analyze", "c.h5", "order"), USAGE, "its inputs are not images")


@pytest.mark.parametrize("command", ["analyze", "plot", "compare"])
def test_unfinished_runs_say_so(run, folder, command):
    make_interrupted(folder / "c.h5")
    rest = {"plot": ["distances"], "compare": ["a.h5"]}.get(command, ["rank"])
    answer = run(command, "c.h5", *rest)
    assert answer.code == 0
    assert "interrupted at step 10 of 20" in answer.out + answer.err


def test_a_diverged_run_can_be_looked_at(run, folder):
    make_diverged(folder / "c.h5")
    assert "diverged at step" in run("analyze", "c.h5").out
    assert run("plot", "c.h5", "distances").code == 0
    assert run("compare", "a.h5", "c.h5").code == 0


# -- plot ------------------------------------------------------------------------------------------


def test_plot_without_a_figure_lists_them(run, folder):
    for words in ([], ["a.h5"]):
        answer = run("plot", *words)
        assert answer.code == 0
        for name, kind in FIGURES.items():
            assert f"  {name} " in answer.out
            assert kind.caption in answer.out
    assert names(folder) == set()


def test_plot_writes_a_file_a_figure_and_names_it(run, folder):
    answer = run("plot", "a.h5", "top", "input")
    assert (answer.code, answer.out, answer.err) == (0, "a-top.png\na-input.png\n", "")
    answer = run("plot", "a.h5", "b.h5", "top", "--format", "svg")
    assert answer.out == "top.svg\n"
    (folder / "f").mkdir()
    assert run("plot", "a.h5", "top", "top", "-o", "f").out == "f/a-top.png\n"
    assert run("plot", "input", "a.h5", "-o", "x.pdf").out == "x.pdf\n"
    assert names(folder) == {*("a-top.png", "a-input.png", "top.svg", "f", "f/a-top.png", "x.pdf")}


def test_a_run_named_twice_is_one_draw(run, folder):
    assert run("plot", "a.h5", "a.h5", "distances", "-o", "x.svg").code == 0
    assert run("plot", "a.h5", "distances", "-o", "y.svg").code == 0
    assert (folder / "x.svg").read_bytes() == (folder / "y.svg").read_bytes()
    assert_refused(run("compare", "a.h5", "a.h5"), USAGE, "compare needs at least two runs")


def test_figures_that_need_no_run_are_drawn_without(run, folder):
    assert run("plot", "schematic").out == "schematic.png\n"
    assert names(folder) == {"schematic.png"}


def test_options_choose_what_is_shown(run, folder):
    for number, options in enumerate(
        (
            ["--neurons", "1,3"],
            ["--neurons", "3,1"],
            ["--neurons", "random", "--count", 2],
            ["--neurons", "random", "--count", 2, "--seed", 2],
            ["--times", "0.5"],
            ["--times", "0,0.5,1"],
        )
    ):
        assert run("plot", "a.h5", "filters", "-o", f"{number}.svg", *options).code == 0
    contents = {path.read_bytes() for path in folder.glob("*.svg")}
    assert len(contents) == 6


@pytest.fixture
def theory_of_equal_inputs(folder) -> Path:
    """A run of the theorems' set-up on which they cannot be judged, c.h5: lambda_0 is 0."""
    np.savez(folder / "own.npz", X=np.eye(4)[[0, 0, 1, 2]], Y=np.ones((4, 1)))
    keys = {"preset": "theory", "dataset": "own.npz", "samples": 4, "target": "labels"}
    return make_run(folder / "c.h5", **keys)


def test_what_a_figure_lacks_is_said_before_any_is_drawn(run, folder):
    answer = run("plot", "a.h5", "top", "theorems", "input", "--sample", 99, "-o", "new")
    assert (answer.code, answer.out) == (USAGE, "")
    assert answer.err.splitlines() == [
        "prdsim: theorems: target: the theorems need one output, not 10; use --preset theory",
        "prdsim: input: there is no sample 99: they are 0 to 9",
    ]
    assert names(folder) == set()


def test_a_figure_that_fails_stops_no_other(run, folder, theory_of_equal_inputs):
    kept = names(folder)
    answer = run("plot", theory_of_equal_inputs.name, "theorems", "distances", "bernoulli")
    assert (answer.code, answer.out) == (DATA, "c-distances.png\n")
    first, second = answer.err.splitlines()
    assert first.startswith("prdsim: theorems: no theorem: lambda_0 = ")
    assert second.startswith("prdsim: bernoulli: no theorem: lambda_0 = ")
    assert names(folder) == {*kept, "c-distances.png"}


def test_one_file_that_exists_stops_all_figures(run, folder):
    (folder / "a-input.png").write_text("mine")
    assert_refused(run("plot", "a.h5", "top", "input"), USAGE, "a-input.png exists", "--force")
    assert names(folder) == {"a-input.png"}
    (folder / "f").mkdir()
    (folder / "f" / "a-top.png").write_text("mine")
    answer = run("plot", "a.h5", "input", "top", "-o", "f")
    assert_refused(answer, USAGE, "f/a-top.png exists", "--force")
    assert names(folder) == {"a-input.png", "f", "f/a-top.png"}


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["analyze"], ["Missing argument"]),
        (["analyze", "rank"], ["analyze takes one run"]),
        (["analyze", "a.h5", "b.h5"], ["analyze takes one run", "prdsim compare"]),
        (["analyze", "a.h5", "ranks"], ["ranks: no such measure", "did you mean rank?"]),
        (["analyze", "a.h5", "xyzzy"], ["xyzzy: no such measure", "choose from distances, spread"]),
        (["analyze", "a.h5", "-o", "t.xlsx"], ["t.xlsx: end the name in .csv, .json or .txt"]),
        (["analyze", "a.h5", "--format", "xml"], ["xml"]),
        (["compare"], ["compare needs at least two runs"]),
        (["compare", "a.h5"], ["compare needs at least two runs"]),
        (["compare", "a.h5", "b.h5", "--time", "nan"], ["time: must be a finite number, got nan"]),
        (["compare", "a.h5", "b.h5", "--time", "7"], ["time 7 is not between 0 and 1"]),
        (["compare", "a.h5", "b.h5", "--time", "-1"], ["time -1 is not between 0 and 1"]),
        (["plot", "distances"], ["distances: name at least one run to draw"]),
        (["plot", "movie"], ["movie: name at least one run to draw"]),
        (["plot", "a.h5", "fliters"], ["fliters: no such figure", "did you mean filters?"]),
        (["plot", "a.h5", "top", "input", "-o", "x.png"], ["x.png is one file for 2 figures"]),
        (["plot", "a.h5", "top", "-o", "x.jpg"], ["x.jpg: figures are written as .pdf, .png"]),
        (["plot", "a.h5", "top", "-o", "x.gif"], ["x.gif: figures are written as .pdf, .png"]),
        (["plot", "a.h5", "top", "--format", "gif"], ["--format gif: top is written as"]),
        (["plot", "a.h5", "movie", "--format", "png"], ["--format png: movie is written as"]),
        (["plot", "a.h5", "top", "--format", "jpg"], ["jpg"]),
        (["plot", "a.h5", "filters", "--times", "x"], ["--times x: must be numbers"]),
        (["plot", "a.h5", "filters", "--times", "nan"], ["--times nan: must be numbers"]),
        (["plot", "a.h5", "filters", "--times", "0,inf"], ["--times 0,inf: must be numbers"]),
        (["plot", "a.h5", "filters", "--times", ""], ["--times : must be numbers"]),
        (["plot", "a.h5", "filters", "--neurons", "999"], ["there is no neuron 999"]),
        (["plot", "a.h5", "filters", "--neurons", "-1"], ["there is no neuron -1"]),
        (["plot", "a.h5", "filters", "--neurons", "1.5"], ["--neurons 1.5: must be numbers"]),
        (["plot", "a.h5", "filters", "--neurons", "best"], ["--neurons best: must be numbers"]),
        (["plot", "a.h5", "filters", "--count", "0"], ["--count", "1<=x<=400"]),
        (["plot", "a.h5", "filters", "--count", "99999999"], ["--count", "1<=x<=400"]),
        (["plot", "a.h5", "input", "--sample", "99999"], ["there is no sample 99999", "0 to 9"]),
        (["plot", "a.h5", "input", "--sample", "-1"], ["--sample"]),
        (["plot", "a.h5", "top", "--dpi", "1e9"], ["--dpi"]),
        (["plot", "a.h5", "embedding", "--embedding", "umap"], ["umap"]),
    ],
    ids=lambda value: "_".join(value) if value[0] in ("analyze", "plot", "compare") else "",
)
def test_bad_use_gets_one_clear_error_and_writes_nothing(run, folder, arguments, words):
    assert_refused(run(*arguments), USAGE, *words)
    assert names(folder) == set()


WRITERS = (
    (["analyze", "a.h5", "rank"], "t.csv"),
    (["compare", "a.h5", "b.h5"], "t.json"),
    (["plot", "a.h5", "top"], "t.png"),
    (["plot", "a.h5", "movie", "--count", "2", "--dpi", "30"], "t.gif"),
)
writers = pytest.mark.parametrize(("words", "name"), WRITERS, ids=[w[1] for w in WRITERS])


@writers
def test_a_file_that_exists_is_kept_unless_forced(run, folder, words, name):
    (folder / name).write_text("mine")
    assert_refused(run(*words, "-o", name), USAGE, f"{name} exists", "--force")
    assert (folder / name).read_text() == "mine"
    assert run(*words, "-o", name, "--force").code == 0
    assert (folder / name).read_bytes() != b"mine"
    assert names(folder) == {name}


@writers
def test_a_folder_that_is_not_there_is_said(run, folder, words, name):
    assert_refused(
        run(*words, "-o", f"no/{name}"),
        DATA,
        f"cannot write no/{name}: the folder no does not exist",
    )
    assert names(folder) == set()


def test_a_folder_in_place_of_a_file_is_refused(run, folder):
    for words, name in WRITERS[:2]:
        (folder / name).mkdir()
        assert_refused(run(*words, "-o", name), USAGE, f"{name} is a folder; name a file")


@writers
def test_a_file_that_cannot_be_written_leaves_nothing(run, folder, words, name, monkeypatch):
    """As in a folder without permission, which stops no root user."""

    def refuse(source: Path, target: Path) -> None:  # noqa: ARG001
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(posix, "rename_new", refuse)
    answer = run(*words, "-o", name)
    assert_refused(answer, DATA, f"cannot write {name}: Permission denied")
    assert names(folder) == set()


@pytest.mark.parametrize("command", ["analyze", "plot", "compare"])
def test_files_that_are_no_runs_are_refused(run, folder, command):
    (folder / "text.h5").write_text("step,loss\n")
    (folder / "empty.h5").touch()
    (folder / "short.h5").write_bytes((folder / "a.h5").read_bytes()[:50_000])
    (folder / "folder").mkdir()
    kept = names(folder)
    rest = {"plot": ["distances"], "compare": ["a.h5"]}.get(command, [])
    for name, words in (
        ("text.h5", "not an HDF5 file"),
        ("empty.h5", "is empty"),
        ("short.h5", "truncated"),
        ("folder", "Is a directory"),
        ("missing.h5", "No such file"),
        ("", "Is a directory"),
    ):
        if name or command == "compare":
            assert_refused(run(command, name, *rest), DATA, name, words)
    assert names(folder) == kept


def test_names_may_be_odd(run, folder):
    for name in ("with space.h5", "ünïcode.h5", "two.dots.h5", "$x$.h5"):
        (folder / name).write_bytes((folder / "b.h5").read_bytes())
        assert run("plot", name, "distances").out == f"{name[:-3]}-distances.png\n"
        assert run("analyze", name, "rank").out.startswith(f"{name[:-3]}: with diffusion")
    (folder / "rank").write_bytes(b"")  # a file named as a measure is not taken for one
    assert run("analyze", "b.h5", "rank").code == 0


# -- compare ---------------------------------------------------------------------------------------


def test_compare_sets_runs_side_by_side_in_every_format(run, folder):
    text = run("compare", "b.h5", "a.h5")
    assert text.out.startswith("at time 1\n  1 run without diffusion\n  1 run with diffusion\n")
    rows = list(csv.DictReader(io.StringIO(run("compare", "b.h5", "a.h5", "--format", "csv").out)))
    report = json.loads(run("compare", "b.h5", "a.h5", "--format", "json").out)
    assert report["time"] == pytest.approx(1.0)
    assert [row["measure"] for row in rows] == [
        measure.name
        for group in GROUPS.values()
        for measure in group.measures
        if not group.on_demand
    ]
    for row, other in zip(rows, report["measures"], strict=True):
        assert float(row["with diffusion: mean"] or "nan") == pytest.approx(
            other["with diffusion: mean"], rel=0, nan_ok=True
        )
    run("compare", "a.h5", "b.h5", "-o", "t.txt")
    assert (folder / "t.txt").read_text() == text.out
    assert run("compare", "a.h5", "b.h5", "--time", 0.5).out.startswith("at time 0.5\n")


def test_the_folder_of_figures_is_made(run, folder):
    assert run("plot", "a.h5", "subspace", "-o", "new/figures").code == 0
    assert (folder / "new" / "figures" / "a-subspace.png").exists()
    (folder / "file").write_text("")
    answer = run("plot", "a.h5", "subspace", "-o", "file/figures")
    assert answer.code == 3
    assert "cannot create the folder file/figures: Not a directory" in answer.err
