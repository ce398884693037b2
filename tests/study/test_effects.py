"""Curves, exponents and discretization errors of studies, on tables whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_cli import Run, assert_refused, caller
from support_study import study

from prdsim.errors import ConfigError
from prdsim.study import StudyFolder, load_plan
from prdsim.study import table as study_tables
from prdsim.study.drawing import draw_curves, draw_map
from prdsim.study.effects import curves, effect_table, exponent, fineness, in_words
from prdsim.study.table import study_table
from prdsim.study.worker import work
from prdsim.table import Table


def table(**axes: list[Any]) -> Table:
    """Of measures 3 m^-1/2 (1 + seed/10), twice that with diffusion, 1 % more at rtol 0.1."""
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    columns: dict[str, list[Any]] = {"member": [str(k) for k in range(len(points))]}
    columns |= {key: [point[key] for point in points] for key in axes}
    columns["state"] = ["finished"] * len(points)
    columns["distance"] = [
        3.0
        * point["width"] ** -0.5
        * (1 + point.get("seed", 0) / 10)
        * (2 if point.get("diffusion") else 1)
        * (1.01 if point.get("rtol") == 0.1 else 1)
        for point in points
    ]
    columns["reason"] = [""] * len(points)
    return Table("", columns)


WIDTHS, SEEDS = [16, 32, 64, 128], [0, 1, 2, 3]


def test_a_power_law_is_found_with_its_spread_and_error():
    given = table(width=WIDTHS, seed=SEEDS, diffusion=[True, False], rtol=[0.1, 0.01])
    with_, without = curves(given, "distance", "width", ["diffusion"], "rtol")
    assert with_.label == "with diffusion"
    np.testing.assert_allclose(with_.mean, 2 * without.mean)
    np.testing.assert_allclose(without.mean, 3 * np.array(WIDTHS) ** -0.5 * 1.15)
    np.testing.assert_allclose(without.deviation[0], 0.75 * np.std(SEEDS, ddof=1) / 10)
    assert without.discretization == pytest.approx(0.01)
    fitted = exponent(without)
    assert fitted is not None
    assert fitted.slope == pytest.approx(-0.5)
    assert "exponent -0.500" in in_words(without)
    assert "discretization error at most 1 %" in in_words(without)


def test_the_interval_of_an_exponent_is_that_of_its_seeds():
    given = table(width=WIDTHS, seed=list(range(12)))
    rng, slopes = np.random.default_rng(3), []
    for seed in range(12):  # a slope of its own for every seed
        slopes.append(-0.5 + 0.1 * rng.standard_normal())
        for row in range(len(given.columns["member"])):
            if given.columns["seed"][row] == seed:
                given.columns["distance"][row] = given.columns["width"][row] ** slopes[-1]
    (curve,) = curves(given, "distance", "width")
    fitted = exponent(curve)
    assert fitted is not None
    assert fitted.slope == pytest.approx(np.mean(slopes))
    half = 2.201 * np.std(slopes, ddof=1) / np.sqrt(12)  # Student's with 11 degrees of freedom
    assert fitted.low == pytest.approx(np.mean(slopes) - half, rel=1e-3)
    assert fitted.high == pytest.approx(np.mean(slopes) + half, rel=1e-3)


def test_seeds_that_lack_a_point_are_left_out():
    given = table(width=WIDTHS, seed=SEEDS)
    given.columns["state"][0] = "diverged"
    (curve,) = curves(given, "distance", "width")
    assert curve.values.shape == (4, 3)
    assert curve.discretization is None
    assert "not assessed: vary rtol, too" in in_words(curve)
    rows = effect_table([curve], "distance", "width").rows
    assert [row["seeds"] for row in rows] == [3] * 4


def test_no_exponent_is_given_where_there_is_none():
    (two,) = curves(table(width=[1, 2], seed=SEEDS), "distance", "width")
    assert exponent(two) is None
    (one_seed,) = curves(table(width=WIDTHS), "distance", "width")
    fitted = exponent(one_seed)
    assert fitted is not None
    assert np.isnan(fitted.low)
    assert "interval" not in in_words(one_seed)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (("rtol=1e-3,1e-4", "integrator=bs23,dopri5"), "rtol"),
        (("rtol=1e-3,1e-4", "integrator=gd,bs23"), ""),  # gd has no tolerance
        (("step_size=0.1,0.05", "integrator=rk4,gd"), "step_size"),
        (("step_size=auto,0.05", "integrator=rk4,gd"), ""),  # which is finer?
        (("step_size=0.1,0.05", "integrator=bs23,dopri5"), ""),  # the first step alone
    ],
)
def test_the_error_comes_from_what_decides_it(settings, key):
    assert fineness(load_plan(None, vary=settings, settings=["steps=3"])) == key


def test_what_is_no_number_has_no_curve():
    given = table(width=WIDTHS, seed=SEEDS)
    given.columns["distance"][3] = float("nan")
    with pytest.raises(ConfigError, match="distance is not a number for some members"):
        curves(given, "distance", "width")


def test_an_axis_of_words_and_numbers_is_ordered():
    given = table(width=WIDTHS, seed=SEEDS)
    given.columns["width"] = ["auto" if at == 16 else at for at in given.columns["width"]]
    (curve,) = curves(given, "distance", "width")
    assert curve.x.tolist() == [32, 64, 128, "auto"]
    assert exponent(curve) is None


@pytest.mark.parametrize(
    ("measure", "over", "by", "words"),
    [
        ("distanc", "width", (), "distanc: no such measure; did you mean distance?"),
        ("distance", "widht", (), "widht does not vary in this study; did you mean width?"),
        ("distance", "width", (), "diffusion varies, too: give --by diffusion"),
        ("distance", "width", ("x",), "x does not vary in this study"),
    ],
)
def test_what_cannot_be_asked_is_refused(measure, over, by, words):
    with pytest.raises(ConfigError) as error:
        curves(table(width=WIDTHS, diffusion=[True, False]), measure, over, by)
    assert words in str(error.value)


def test_no_whole_seed_is_an_error():
    given = table(width=WIDTHS, seed=[0])
    given.columns["state"][2] = "failed"
    with pytest.raises(ConfigError, match="no seed is finished at every width"):
        curves(given, "distance", "width")


def test_figures_show_curves_and_maps():
    found = curves(
        table(width=WIDTHS, seed=SEEDS, diffusion=[True, False]), "distance", "width", ["diffusion"]
    )
    axes = draw_curves(found, "distance", "width").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found[0].mean)
    figure = draw_map(found, "distance", "width", "diffusion")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array()[1], found[1].mean)
    with pytest.raises(ConfigError, match="a map needs"):
        draw_map(found[:1], "distance", "width", "diffusion")


def test_members_without_a_number_are_told_with_the_reason():
    given = table(width=WIDTHS, seed=SEEDS)
    given.columns["distance"][3] = float("nan")
    note = "order left out of 1 of the members, such as no grid"
    with pytest.raises(ConfigError, match=f"for some members; {note}"):
        curves(replace(given, notes=(note,)), "distance", "width")


# -- commands --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> StudyFolder:
    folder = study(tmp_path_factory.mktemp("made") / "s", "width=2,3,4", "seed=0,1")
    work(folder, folder.plan.members)
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, made) -> Run:
    """Run a command line where the study is called s, and one of its members a.h5."""
    monkeypatch.chdir(tmp_path)
    Path("s").symlink_to(made.path)
    Path("a.h5").symlink_to(made.trajectory(made.plan.members[0]))
    return caller(monkeypatch, capsys)


def test_analyze_and_plot_take_a_study(run):
    told = run("analyze", "s", "loss_sup", "--over", "width")
    assert told.code == 0
    assert told.out.startswith("loss_sup over width\n  all: exponent ")
    words = ("s", "loss_sup", "--over", "width", "-o", "f.png")
    assert run("plot", *words).out == "f.png\n"
    assert Path("f.png").stat().st_size > 5000
    assert_refused(run("plot", *words), 2, "f.png exists")
    assert run("plot", *words[:-1], "f.svg", "--dpi", 40, "--against", "seed").code == 0
    assert "mean over seeds" in Path("f.svg").read_text()


def test_a_measure_is_computed_from_the_files_and_its_group_alone(run, made, monkeypatch):
    asked = []
    monkeypatch.setattr(
        study_tables,
        "_measured",
        lambda trajectory, group, measured=study_tables._measured: (
            asked.append(group) or measured(trajectory, group)
        ),
    )
    told = run("analyze", "cv_U", "s", "--over", "width", "--json")
    assert asked == ["spread"] * 6
    rows = json.loads(told.out)["width"]
    values = study_table(made, groups="spread").columns["cv_U"]
    assert [row["mean"] for row in rows] == pytest.approx(np.reshape(values, (3, 2)).mean(axis=1))
    asked.clear()
    assert run("analyze", "s", "step", "--over", "width").code == 0
    assert asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("analyze s", "name one study and one measure"),
        ("analyze s cv_U", "name the axis, such as --over width; these vary: width, seed"),
        ("analyze s cv_U --by width", "name the axis"),
        ("analyze s cv_U gini_U --over width", "name one study and one measure"),
        ("analyze s cv_X --over width", "cv_X: no such measure; did you mean cv_"),
        ("analyze s spread --over width", "spread is a group of measures; choose one: cv_U"),
        ("analyze s cv_U --over widht", "widht does not vary in this study; did you mean width?"),
        ("analyze s cv_U --over width --by rtol", "rtol does not vary in this study"),
        ("analyze s a.h5 --over width", "a.h5 is a run: name a study or runs, not both"),
        ("analyze s a.h5 rank", "a.h5 is a run: name a study or runs, not both"),
        ("analyze a.h5 rank --over width", "--over, --by and --against are for studies"),
        ("analyze rank --over width", "name one study and one measure"),
        ("plot s cv_U --over width", "name the figure, such as -o cv_U.png"),
        ("plot s cv_U --over width -o f.xyz", "f.xyz: end the name in one of .png"),
        ("plot s filters", "filters is a figure of runs; of a study, name a measure"),
        ("plot s cv_U --over width -o f.png --sample 3", "--sample is not for studies"),
        ("plot s cv_U --over width --by seed --against seed -o f.png", "choose one"),
        ("plot a.h5 top --against seed", "--against are for studies; a.h5 is a run"),
        (f"plot s {'x' * 9000} --over width -o f.png", "no such measure"),
    ],
    ids=lambda value: value[:40].replace(" ", "_"),
)
def test_bad_combinations_get_one_clear_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(study_tables, "_measures", None)  # nothing is read for them
    before = sorted(tmp_path.iterdir())
    assert_refused(run(*arguments.split()), 2, words)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_holds_no_study_is_told(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for verb in ("analyze", "plot"):
        told = run(verb, "empty", "cv_U", "--over", "width", *["-o", "f.png"] * (verb == "plot"))
        assert_refused(told, 3, "empty is not the folder of a study")
