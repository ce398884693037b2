"""Curves, exponents and discretization errors of studies, on tables whose answers are known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from support_cli import caller
from support_study import study

from prdsim.errors import ConfigError
from prdsim.study import load_plan
from prdsim.study.drawing import draw_curves, draw_map
from prdsim.study.effects import curves, effect_table, exponent, fineness, in_words
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


def test_the_commands_tabulate_and_draw(tmp_path, monkeypatch, capsys):
    run = caller(monkeypatch, capsys)
    folder = study(tmp_path / "s", "width=2,3,4", "seed=0,1")
    run("sweep", "run", folder.path)
    about = (folder.path, "loss_sup", "--over", "width")
    told = run("sweep", "analyze", *about)
    assert told.code == 0
    assert told.out.startswith("loss_sup over width\n  all: exponent ")
    assert run("sweep", "plot", *about, "-o", tmp_path / "f.png").code == 0
    assert (tmp_path / "f.png").stat().st_size > 5000
    told = run("sweep", "plot", *about, "-o", tmp_path / "f.png")
    assert (told.code, "exists" in told.err) == (2, True)
    told = run("sweep", "plot", *about, "-o", tmp_path / "f.xyz")
    assert (told.code, "end the name in one of .png" in told.err) == (2, True)
