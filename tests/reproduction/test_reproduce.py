"""The poster's figures in one command: runs, pictures, a page, and going on where it stopped."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from support_cli import Run, caller
from support_runs import Killed, kill_at, opened, stop_at
from test_docs import check_command

import prdsim
from prdsim.analysis.comparison import Comparison, compare
from prdsim.analysis.stability.symmetry_breaking import SMALL
from prdsim.analysis.theory.scaling import Sizes, measure_scaling
from prdsim.convergence.judgment import judge
from prdsim.convergence.report import Report
from prdsim.errors import DataError
from prdsim.figures import general
from prdsim.progress import Progress, silent
from prdsim.reproduction import available_studies, plan, reproduce, sentences
from prdsim.reproduction.page import Shown, make_page
from prdsim.reproduction.sentences import introduction, study
from prdsim.study import StudyFolder
from prdsim.study.worker import in_this_process, work
from prdsim.symbols import ARRAYS
from prdsim.trajectory import Status, open_trajectory

KEYS = {
    "steps": 20,
    "width": 8,
    "samples": 16,
    "backend": "numpy",
    "integrator": "rk4",
    "step_size": 0.05,  # so that all runs end at the same time
    "snapshots": "every:10",
}
TINY = ("--quick", *(f"--set={key}={value}" for key, value in KEYS.items()))
FEW = (plan._DISTANCES, plan._IMAGES[1], plan._BEYOND[0])  # figures that are drawn at once


@pytest.fixture(scope="module", autouse=True)
def _quick_figures():
    """Two draws in place of 24, and a Turing test to a short time: a minute otherwise."""
    quick = measure_scaling(Sizes(8, 8, 8, 4), draws=2, backend="numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(general, "scaling_like", lambda _: quick)
        patch.setitem(SMALL, "end_time", 0.1)
        yield


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRDSIM_DATA_DIR", raising=False)
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A reproduction on digits, of two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reproduce(Path("r"), available_studies(("digits",), None), seeds=2, keys=KEYS, assess=False)
    return folder / "r"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def members(folder: Path) -> dict[str, Path]:
    """The files of the runs on digits, in order: without-0, with-0, without-1, ..."""
    runs = StudyFolder.open(folder / "runs" / "digits")
    return {
        f"{'with' if m.config.diffusion else 'without'}-{m.config.seed}": runs.trajectory(m)
        for m in runs.plan.members
    }


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in members(folder).values()}


def commands(page: str) -> list[list[str]]:
    """The command lines that a page shows, without the program's name."""
    blocks = re.findall(r"<(?:code|pre)>(.*?)</(?:code|pre)>", page, re.DOTALL)
    lines = [line for block in blocks for line in html.unescape(block).splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("prdsim ")]


# -- what is there at the end ----------------------------------------------------------------------


def test_every_run_and_every_figure_of_the_plan_is_there(whole):
    pictures = {f"figures/digits/{picture.stem}.png" for picture in plan._IMAGES}
    pictures |= {f"figures/{picture.stem}.png" for picture in plan.GENERAL}
    found = {path for path in contents(whole) if not path.startswith("runs/")}
    assert found == {*pictures, "numbers/digits.csv", "index.html"}
    assert list(members(whole)) == ["without-0", "with-0", "without-1", "with-1"]
    for side, path in members(whole).items():
        with open_trajectory(path) as trajectory:
            assert trajectory.status is Status.FINISHED
            assert trajectory.check() == []
            assert trajectory.config["diffusion"] is ("without" not in side)
    table = (whole / "runs" / "digits" / "table.csv").read_text()
    assert table.count(",finished,20,") == 4


def test_plans_show_every_figure_of_the_poster_once():
    for pictures in (plan._IMAGES, plan._SYNTHETIC):
        numbers = [picture.poster for picture in (*pictures, *plan.GENERAL) if picture.poster]
        assert len(set(numbers)) == len(numbers)
        assert len({picture.stem for picture in pictures}) == len(pictures)
    shown = {p.poster for p in (*plan._IMAGES, *plan._SYNTHETIC, *plan.GENERAL)}
    assert {*"12345678"} <= shown


def test_the_page_names_every_picture_and_nothing_that_is_not_there(whole):
    page = (whole / "index.html").read_text()
    named = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', page))
    assert all((whole / name).is_file() for name in named)
    pictures = {str(path.relative_to(whole)) for path in whole.rglob("*.png")}
    assert named == pictures | {"numbers/digits.csv"}
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    assert page.count("<figcaption>") == len(pictures)
    for picture in (*plan._IMAGES, *plan.GENERAL):
        assert picture.title in html.unescape(page)
    text = html.unescape(page)
    assert "<p>Figures 1, 2, 3, 4, 5 and 6 of Rout's poster" in text
    assert f"drawn by prdsim {prdsim.__version__} from 4 runs.</p>" in text
    assert "4 runs of 2 initial draws (seeds 0 and 1), each without and with diffusion" in text
    for name in pictures:  # at full size
        assert f'<a href="{name}"><img src="{name}"' in page
    assert str(whole.parent) not in page


def test_numbers_on_the_page_are_those_of_the_runs(whole):
    page = html.unescape((whole / "index.html").read_text())
    for side, label in (("without", "without diffusion"), ("with", "with diffusion")):
        values = []
        for seed in (0, 1):
            with open_trajectory(members(whole)[f"{side}-{seed}"]) as run:
                values.append(np.linalg.norm(run.U[-1] - run.U[0], axis=1).mean())
        assert f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.2g} {label}" in page


def test_the_page_says_how_far_its_numbers_can_be_trusted(whole):
    page = (whole / "index.html").read_text()
    assert page.count("<th>discretization</th>") == 1
    rows = page.count("<tr><td>")
    assert page.count("<td>not assessed</td></tr>") == rows > 30
    assert "No run was assessed by prdsim converge." in page
    assert page.count("; discretization not assessed)") == sum(
        len(picture.numbers) for picture in plan._IMAGES
    )
    row = judge("gini_U", 1.004, [1.0, 1.0], [1.004], accuracy=0.01, ratio=2.0)
    report = Report("i", "c", 1.0, 1, 1.0, 1, 0.01, "gd", "0", "today", (), (row,))
    values = {"one": {"gini_U": np.ones(1)}}
    comparison = Comparison(1.0, values, {"one": [0]}, {}, reports={"one": [report]})
    with opened([members(whole)["without-0"]]) as runs:
        page = make_page([Shown("<script>alert(1)</script>", runs, [], comparison)])
    assert "is the largest relative error of 1 of the 1 runs" in page
    assert "<td>0.4 %</td></tr>" in page
    assert "<script" not in page  # a data set may have any name
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6


def test_the_page_says_of_runs_what_is_in_their_files(whole, monkeypatch):
    with opened([members(whole)[name] for name in ("without-0", "with-0")]) as runs:
        comparison = compare(runs, groups=["spread"])
        text = " ".join(study(runs, comparison))
        assert "2 runs of 1 initial draw (seed 0), without and with diffusion from the same" in text
        assert "; diffusivity D = 1; to t = 1." in text
        assert (
            "Data set digits; of the preset poster: init_scale = 0.1, critic_warmup = 0.5" in text
        )
        assert "; set in addition or instead: samples = 16, width = 8, " in text
        assert "256" not in text  # the preset's
        assert text.endswith(
            "Numbers are those of one draw. No run was assessed by prdsim converge."
        )
        monkeypatch.setattr(sentences, "__version__", "9.9")
        (schematic, *_) = plan.GENERAL
        made = f"drawn by prdsim 9.9 from 2 runs, made by prdsim {prdsim.__version__}."
        assert introduction([schematic], runs) == f"Figure 6 of {sentences._POSTER}, {made}"
        assert introduction(plan._THEORY, runs) == f"3 figures, {made}"


def test_the_page_is_read_on_any_screen(whole):
    page = (whole / "index.html").read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "@media (prefers-color-scheme: dark)" in page
    assert re.search(r"img {[^}]*max-width: 100%;[^}]*background: #fff;", page)
    assert page.count('<div class="table"><table>') == page.count("<table>")  # they scroll alone


def test_runs_of_the_first_draw_are_assessed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {**KEYS, "steps": None, "integrator": "bs23", "end_time": 0.2, "step_size": "auto"}
    keys["snapshots"] = "times:every:0.1"
    (digits,) = available_studies(("digits",), None)
    studies = [replace(digits, pictures=digits.pictures[:1])]  # the others take minutes
    monkeypatch.setattr(import_module("prdsim.reproduction.reproduce"), "GENERAL", ())
    assert reproduce(Path("r"), studies, seeds=2, keys=keys).signal is None
    reports = {path.name for path in Path("r/runs/digits/members").glob("*.json")}
    first = (members(Path("r"))[name].stem for name in ("without-0", "with-0"))
    assert reports == {f"{name}.converge.json" for name in first}
    page = Path("r/index.html").read_text()
    rows = page.count("<tr><td>")
    assert page.count("<td>not assessed</td></tr>") < rows
    times = stamps(tmp_path / "r")
    said: list[str] = []
    reproduce(Path("r"), studies, seeds=2, keys=keys, force=True, say=said.append)
    assert stamps(tmp_path / "r") == times
    assert not any("replayed" in line for line in said)


def test_every_command_on_the_page_parses(whole):
    found = commands((whole / "index.html").read_text())
    assert [words[0] for words in found].count("sweep") == 1
    assert [words[0] for words in found].count("plot") == len(plan._IMAGES) + len(plan.GENERAL)
    for words in found:
        check_command(words)


def test_the_command_of_a_study_makes_it_again_bit_for_bit(whole, run, tmp_path):
    found = commands((whole / "index.html").read_text())
    (words,) = (words for words in found if words[0] == "sweep")
    assert run(*words, "--plan-only").code == 0
    assert run("sweep", "run", words[words.index("-o") + 1]).code == 0
    assert members(tmp_path).keys() == members(whole).keys()
    for there, here in zip(members(whole).values(), members(tmp_path).values(), strict=True):
        assert there.name == here.name
        with open_trajectory(there) as old, open_trajectory(here) as new:
            for name in ARRAYS:
                assert np.array_equal(getattr(old, name)[:], getattr(new, name)[:])
            for name in old.scalars:
                assert old.scalars[name].tobytes() == new.scalars[name].tobytes()
            assert old.attributes["config_sha256"] == new.attributes["config_sha256"]


def test_a_pictures_command_draws_it_again(whole, run, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "r")
    monkeypatch.chdir(tmp_path / "r")
    for words in commands((whole / "index.html").read_text()):
        path = Path(words[words.index("-o") + 1]) if words[0] == "plot" else None
        if path is None or words[-4] not in ("distances", "input", "--log-time"):
            continue
        path.unlink()
        assert run(*words).code == 0
        assert path.read_bytes() == (whole / path).read_bytes(), path


# -- calling it again ------------------------------------------------------------------------------


def draw_few(patch: pytest.MonkeyPatch) -> None:
    """Few figures alone: what is tested is how runs and files are kept."""
    make = plan.Study.__init__

    def few(self, name, keys, pictures=()) -> None:  # noqa: ARG001
        make(self, name, keys, FEW)

    patch.setattr(plan.Study, "__init__", few)
    patch.setattr(import_module("prdsim.reproduction.reproduce"), "GENERAL", plan.GENERAL[:1])


@pytest.fixture
def quick(monkeypatch):
    draw_few(monkeypatch)


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """A complete reproduction of few figures, of one seed."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        draw_few(patch)
        patch.chdir(folder)
        reproduce(Path("r"), available_studies(("digits",), None), seeds=1, keys=KEYS, assess=False)
    return folder / "r"


@pytest.fixture
def copy(complete, quick, tmp_path) -> Path:  # noqa: ARG001
    """A copy of it, times of files included."""
    return shutil.copytree(complete, tmp_path / "r")


@pytest.mark.usefixtures("quick")
def test_a_complete_folder_is_left_alone_unless_forced(run, tmp_path):
    words = ("reproduce", "-o", "r", "--dataset", "digits", "--seeds", 1, *TINY)
    answer = run(*words)
    assert answer.code == 0
    assert answer.out.splitlines()[0] == "digits: 2 runs"
    assert answer.out.splitlines()[1].endswith(": seed=0, diffusion=False")
    assert answer.out.splitlines()[-1] == "r/index.html"
    before, times = contents(tmp_path / "r"), stamps(tmp_path / "r")
    answer = run(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "r/index.html exists" in answer.err
    assert "--force" in answer.err
    (tmp_path / "r" / "figures" / "digits" / "changes.png").write_text("spoiled")
    (tmp_path / "r" / "index.html").write_text("spoiled")
    assert run(*words, "--force").code == 0
    assert contents(tmp_path / "r") == before
    assert stamps(tmp_path / "r") == times  # no run was touched

    changed = [word.replace("steps=20", "steps=30") for word in map(str, words)]
    answer = run(*changed, "--force")
    assert (answer.code, answer.out) == (2, "")
    assert "r/runs/digits holds 2 members that are not in this study" in answer.err
    assert contents(tmp_path / "r") == before  # the page, too


def test_processes_are_those_of_a_sweep(run, copy, monkeypatch):
    asked = []

    def here(workers: int) -> Callable[..., None]:
        asked.append(workers)
        return in_this_process(silent, progress=False)

    monkeypatch.setattr(import_module("prdsim.reproduction.reproduce"), "local", here)
    members(copy)["with-0"].unlink()
    before = contents(copy / "figures")
    words = ("reproduce", "-o", "r", "--dataset", "digits", *TINY, "--force", "--workers", 3)
    assert run(*words).code == 0
    assert asked == [3]
    assert contents(copy / "figures") == before


def test_more_seeds_join_those_that_are_there(run, copy):
    times = stamps(copy)
    words = ("reproduce", "-o", "r", "--dataset", "digits", *TINY)
    assert run(*words, "--seeds", 2, "--force").code == 0
    assert len(stamps(copy)) == 4
    assert times.items() <= stamps(copy).items()


def test_a_figure_that_was_lost_is_drawn_again(run, copy):
    before, times = contents(copy), stamps(copy)
    (copy / "index.html").unlink()
    (copy / "figures" / "digits" / "changes.png").unlink()
    assert run("reproduce", "-o", "r", "--dataset", "digits", "--seeds", 1, *TINY).code == 0
    assert contents(copy) == before
    assert stamps(copy) == times


STOPS = {  # and what of the run is in its file
    "terminated": stop_at(10),
    "killed": kill_at(10),
    "killed before its first commit": kill_at(0),
}


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.usefixtures("quick")
def test_it_goes_on_where_it_stopped(run, tmp_path, monkeypatch, complete, how):
    words = ("reproduce", "--dataset", "digits", "--seeds", 1, *TINY)
    monkeypatch.setattr("prdsim.running.runner.automatic_progress", Progress)
    studies = available_studies(("digits",), None)
    (tmp_path / "r").mkdir()
    made = StudyFolder.create(Path("r/runs/digits"), studies[0].plan(1, **KEYS))
    work(made, made.plan.members[:1])  # the first run is there
    without, with_ = members(tmp_path / "r").values()
    first = without.stat().st_mtime_ns

    with monkeypatch.context() as patch:
        patch.setattr("prdsim.running.runner.automatic_progress", lambda: STOPS[how])
        if how.startswith("killed"):
            with pytest.raises(Killed):
                reproduce(Path("r"), studies, seeds=1, keys=KEYS, assess=False, progress=True)
        else:
            answer = run(*words, "-o", "r")
            assert answer.code == 143
            assert "stopped; continue with: prdsim reproduce --dataset digits" in answer.err
    assert not (tmp_path / "r" / "index.html").exists()
    with open_trajectory(with_) as trajectory:
        assert trajectory.status in (Status.INTERRUPTED, Status.RUNNING)

    assert run(*words, "-o", "r").code == 0
    assert first == without.stat().st_mtime_ns
    once, twice = contents(complete), contents(tmp_path / "r")
    assert once.keys() == twice.keys()
    for name in once:
        if name.endswith((".png", ".csv")):
            assert once[name] == twice[name], name


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_file_that_is_no_run_is_not_overwritten(run, tmp_path):
    (study,) = available_studies(("digits",), None)
    made = StudyFolder.create(tmp_path / "r" / "runs" / "digits", study.plan(1, **KEYS))
    path = made.trajectory(made.plan.members[1])
    path.write_text("mine")
    words = ("reproduce", "-o", "r", "--dataset", "digits", "--seeds", 1, *TINY)
    answer = run(*words)
    assert answer.code == 3
    assert "(seed=0, diffusion=True) failed: " in answer.err
    assert "is not an HDF5 file" in answer.err
    assert "; --retry-failed tries again" in answer.err
    assert path.read_text() == "mine"
    assert not (tmp_path / "r" / "index.html").exists()
    assert run(*words, "--retry-failed").code == 0
    assert path.with_suffix(".1.damaged").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "mnits"], ["mnits: no such study; choose from mnist, digits, synthetic"]),
        (["--seeds", 0], ["--seeds"]),
        (["--set", "widht=3"], ["widht", "did you mean width?"]),
        (["--set", "width=none"], ["width", "must be an integer"]),
        (["--set", "seed=5"], ["seed cannot be set"]),
        (["--set", "diffusion=true"], ["diffusion cannot be set"]),
        (["--set", "dataset=mnist"], ["dataset cannot be set"]),
        (["--set", "output=x.h5"], ["output cannot be set"]),
        (["--set", "preset=theory"], ["preset cannot be set"]),
        (["--set", "diffusivity=0"], ["diffusivity cannot be 0"]),
        (["-o", "file"], ["file"]),
    ],
    ids=lambda value: "_".join(map(str, value)) if str(value[0]).startswith("-") else "",
)
def test_bad_use_gets_one_clear_error_and_writes_nothing(
    run, tmp_path, monkeypatch, arguments, words
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(plan, "available_datasets", lambda _: [_Missing])
    answer = run("reproduce", *arguments)
    assert (answer.code, answer.out) == (2, "")
    for word in words:
        assert word in answer.err
    assert "internal error" not in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_data_that_are_not_there_are_no_misuse(run, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "available_datasets", lambda _: [_Missing])
    answer = run("reproduce", "--dataset", "mnist")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith("prdsim: mnist is unavailable: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_a_run_that_diverges_ends_it(run, tmp_path):
    settings = ("--set", "integrator=gd", "--set", "step_size=1e120")
    settings += ("--set", "critic_step_size=1e120")
    answer = run("reproduce", "-o", "r", "--dataset", "digits", "--seeds", 1, *TINY, *settings)
    assert answer.code == 5
    assert "diverged: " in answer.err
    assert not (tmp_path / "r" / "index.html").exists()


# -- studies ---------------------------------------------------------------------------------------


def test_mnist_is_left_out_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.delenv("PRDSIM_DATA_DIR", raising=False)
    found = [study.name for study in available_studies((), str(tmp_path))]
    assert found in (["digits", "synthetic", "theory"], ["mnist", "digits", "synthetic", "theory"])
    monkeypatch.setattr(plan, "available_datasets", lambda _: [_Missing])
    assert [study.name for study in available_studies((), None)] == [
        "digits",
        "synthetic",
        "theory",
    ]
    with pytest.raises(DataError, match="mnist is unavailable: fetch it"):
        available_studies(("mnist",), None)


class _Missing:
    name, samples, hint = "mnist", {}, "fetch it"


@pytest.mark.parametrize(("samples", "split"), [({"test": 9}, "test"), ({"train": 9}, "train")])
def test_mnist_is_taken_from_the_part_that_is_here(monkeypatch, samples, split):
    present = type("Info", (), {"name": "mnist", "samples": samples})
    monkeypatch.setattr(plan, "available_datasets", lambda _: [present])
    (study,) = available_studies(("mnist", "mnist"), "somewhere")
    assert study.keys == {
        "dataset": "mnist",
        "split": split,
        "data_dir": str(Path("somewhere").absolute()),
    }


def test_a_pair_differs_by_diffusion_alone():
    (study,) = available_studies(("synthetic",), None)
    members = study.plan(2, width=8).members
    without, with_diffusion, *others = (member.config for member in members)
    assert len(others) == 2
    changed = {key for key, value in without if value != getattr(with_diffusion, key)}
    assert changed == {"diffusion"}
    assert (without.correlation_length, without.width, without.seed) == (2.0, 8, 0)
    assert {other.seed for other in others} == {1}
