"""Runs side by side, in pairs of equal seed; tables as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support_runs import make_interrupted, make_pair, make_run, opened

from prdsim.analysis import Recording, Table, history, open_recording, recording_of, to_json
from prdsim.analysis.comparison import Comparison, compare
from prdsim.config import RunConfig
from prdsim.convergence.assess import converge
from prdsim.convergence.judgment import judge, percent
from prdsim.convergence.report import Report
from prdsim.errors import ConfigError
from prdsim.running.resuming import resume

WITHOUT, WITH = "without diffusion", "with diffusion"


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return make_pair(tmp_path_factory.mktemp("runs"), seeds=3)


@pytest.fixture
def runs(paths):
    with opened(paths) as recordings:
        yield recordings


def last(run: Recording, name: str) -> float:
    return float(history(run, snapshots=[-1])[name][0])


def made_up(first: list[float], second: list[float], seeds: tuple[list[int], list[int]]):
    """A comparison of one measure."""
    values = {
        WITHOUT: {"gini_U": np.array(first)},
        WITH: {"gini_U": np.array(second)},
    }
    return Comparison(1.0, values, dict(zip((WITHOUT, WITH), seeds, strict=True)), {})


# -- runs ------------------------------------------------------------------------------------------


def test_runs_are_gathered_by_label_in_their_order(runs):
    comparison = compare(reversed(runs))
    assert list(comparison.values) == [WITHOUT, WITH]  # whatever was named first
    assert comparison.seeds == {WITHOUT: [2, 1, 0], WITH: [2, 1, 0]}
    for label, chosen in ((WITHOUT, runs[::2]), (WITH, runs[1::2])):
        expected = [last(run, "cv_U") for run in reversed(chosen)]
        assert comparison.values[label]["cv_U"].tolist() == expected


def test_means_and_deviations_are_those_of_the_runs(runs):
    table = compare(runs).table()
    row = next(row for row in table.rows if row["measure"] == "effective_rank")
    for label, chosen in ((WITHOUT, runs[::2]), (WITH, runs[1::2])):
        values = [last(run, "effective_rank") for run in chosen]
        assert row[f"{label}: mean"] == np.mean(values)
        assert row[f"{label}: sd"] == np.std(values, ddof=1)
    assert row["meaning"] == "effective rank of U(t) - U(0)"
    assert table.notes == ("3 runs without diffusion", "3 runs with diffusion")
    assert "without diffusion: mean" in table.to_text().splitlines()[3]


def test_a_comparison_says_how_far_its_numbers_can_be_trusted(runs):
    """The largest error of both sides; how many were assessed; or that a side was not at all."""

    def column(*sides: list[Report | None]) -> str:
        values = {"one": {"gini_U": np.ones(2)}, "two": {"gini_U": np.ones(2)}}
        seeds = {"one": [0, 1], "two": [0, 1]}
        reports = dict(zip(values, sides, strict=True))
        made = Comparison(1.0, values, seeds, {}, reports=reports)
        return str(made.table().rows[0]["discretization"])

    half, one, fifty = (report_with("gini_U", change) for change in (0.005, 0.01, 0.5))
    assert column([half, one], [half, half]) == "1 %"
    assert column([half, None], [None, one]) == "1 % (2 of 4 runs)"
    assert column([half, fifty], [half, half]) == "50 % (not converged)"
    assert column([half, half], [None, None]) == "not assessed"
    comparison = compare(runs)
    assert comparison.reports == {WITHOUT: [None] * 3, WITH: [None] * 3}
    assert {row["discretization"] for row in comparison.table().rows} == {"not assessed"}
    assert "not assessed" in comparison.table().to_csv()


def report_with(name: str, change: float) -> Report:
    """A report in which a measure changes so much, at an accuracy of one percent."""
    value = 1.0 + change - 1e-12
    row = judge(name, value, [1.0, 1.0], [value], accuracy=0.01, ratio=2.0)
    return Report("i", "c", 1.0, 1, 1.0, 1, 0.01, "gd", "0", "today", (), (row,))


def test_a_report_beside_a_run_is_found_and_a_stale_one_is_said(tmp_path):
    paths = make_pair(tmp_path)
    for path in paths:
        converge(path)
    with open_recording(paths[0]) as one, open_recording(paths[1]) as two:
        reports = [run.assessed(run.time[-1]).report for run in (one, two)]
        comparison = compare([one, two])
        errors = [report.by_name["cv_U"].error for report in reports if report is not None]
        assert len(errors) == 2
        assert percent(max(errors)) in comparison.discretization("cv_U")
        assert comparison.notes == ()
    resume(paths[1], steps=21)
    with open_recording(paths[0]) as one, open_recording(paths[1]) as two:
        comparison = compare([one, two])
    assert comparison.discretization("cv_U") == "not assessed"
    expected = "with-0: its discretization is stale: it was made when the run ended at t = 1"
    assert expected in comparison.notes
    assert expected in comparison.table().to_text()


def test_higher_counts_the_pairs_in_which_diffusion_raises_a_measure(runs):
    rows = {row["measure"]: row["higher"] for row in compare(runs).table().rows}
    for name in ("distance_U_mean", "gini_V", "diffusion_U_mean"):
        pairs = zip(runs[::2], runs[1::2], strict=True)
        count = sum(last(right, name) > last(left, name) for left, right in pairs)
        assert rows[name] == f"{count} of 3"
    assert rows["diffusion_U_mean"] == "3 of 3"  # the norms are 0 without


def test_pairs_are_matched_by_seed_not_by_place():
    comparison = made_up([1.0, 2.0, 3.0], [30.0, 0.5, 9.0], ([0, 1, 2], [2, 0, 7]))
    left, right = comparison.pairs("gini_U")
    assert (left.tolist(), right.tolist()) == ([3.0, 1.0], [30.0, 0.5])
    assert comparison.table().rows[0]["higher"] == "1 of 2"


def test_equal_values_and_missing_ones_are_not_higher():
    comparison = made_up([1.0, 2.0, np.nan], [1.0, 3.0, 1.0], ([0, 1, 2], [0, 1, 2]))
    assert comparison.table().rows[0]["higher"] == "1 of 3, 1 equal"


def test_unknown_seeds_make_no_pairs():
    comparison = made_up([1.0], [2.0], ([-1], [-1]))
    assert comparison.table().rows[0]["higher"] == "-"
    assert f"{WITHOUT}: sd" not in comparison.table().columns  # of one run


def test_three_labels_are_set_side_by_side_without_pairs(runs, tmp_path):
    strong = make_run(tmp_path / "strong.h5", diffusion=True, diffusivity=2.0)
    with open_recording(strong) as third:
        table = compare([*runs[:2], third]).table()
    assert [name for name in table.columns if name.endswith("mean")] == [
        "without diffusion: mean",
        "with diffusion: mean",
        "with diffusion, D = 2: mean",
    ]
    assert "higher" not in table.columns
    assert table.notes[2] == "(3) 1 run with diffusion, D = 2"
    head, last = table.to_text().splitlines()[4].split(), ("discretization", "meaning")
    assert head == ["measure", *("(1)", "mean", "(2)", "mean", "(3)", "mean"), *last]


# -- times -----------------------------------------------------------------------------------------


def test_runs_are_measured_where_the_shortest_ends(runs, tmp_path):
    with open_recording(make_interrupted(tmp_path / "short.h5", diffusion=True)) as short:
        assert short.step[-1] == 10
        comparison = compare([runs[0], short])
        assert comparison.time == short.time[-1] < runs[0].time[-1]
    expected = history(runs[0], snapshots=[2])["distance_U_mean"][0]
    assert comparison.values[WITHOUT]["distance_U_mean"].tolist() == [expected]


def test_a_time_is_that_of_the_nearest_snapshot(runs):
    time = runs[0].time
    comparison = compare(runs[:2], time=0.6 * time[1] + 0.4 * time[2])
    expected = history(runs[0], snapshots=[1])["gini_U"][0]
    assert comparison.values[WITHOUT]["gini_U"].tolist() == [expected]


@pytest.mark.parametrize("time", [-1.0, 1e9, np.nan, np.inf])
def test_a_time_that_the_runs_do_not_share_is_refused(runs, time):
    words = "is not between 0 and 1, where the shortest run ends|must be a finite number"
    with pytest.raises(ConfigError, match=words):
        compare(runs[:2], time=time)


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_cannot_be_compared(runs, count):
    with pytest.raises(ConfigError, match="at least two runs"):
        compare(runs[:count])


# -- runs that differ ------------------------------------------------------------------------------


def test_runs_of_other_sizes_are_compared_by_numbers_that_both_have(runs, tmp_path):
    with open_recording(make_run(tmp_path / "wide.h5", width=9, diffusion=True)) as wide:
        comparison = compare([runs[0], wide])
        labels = ["without diffusion, width = 7", "with diffusion, width = 9"]
        assert list(comparison.values) == labels
        assert comparison.values[labels[1]].keys() == history(wide).values.keys()
        assert comparison.higher("cv_U") == "-"  # no pair: more than diffusion differs


def test_a_run_measured_at_another_time_is_named(runs, tmp_path):
    with open_recording(make_run(tmp_path / "few.h5", diffusion=True, snapshots="every:20")) as few:
        comparison = compare([runs[0], few], time=0.25)
    assert comparison.notes == ("few is measured at its nearest snapshot, t = 0",)
    assert comparison.notes[0] in comparison.table().to_text()


def test_what_one_run_lacks_is_left_out_and_said(runs):
    bare = replace(runs[1], grid=None, load_samples=None)
    comparison = compare([runs[0], bare])
    assert set(comparison.left_out) == {"order", "activity", "forces", "synchrony"}
    assert "cv_U" in comparison.values[WITH]
    assert "morans_i_U" not in comparison.values[WITHOUT]


def test_arrays_are_compared_by_their_names():
    rng = np.random.default_rng(0)
    one, two = (
        recording_of(rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 1, 4)), name=name)
        for name in ("one", "two")
    )
    comparison = compare([one, two], groups=["distances", "rank"])
    assert list(comparison.values) == ["one", "two"]
    assert "gini_U" not in comparison.values["one"]
    assert comparison.table().rows[0]["higher"] == "-"


def test_labels_say_what_drives_a_run():
    U, V = np.ones((1, 2, 3)), np.ones((1, 1, 2))
    for keys, label in (
        ({}, WITHOUT),
        ({"diffusion": True}, WITH),
        ({"diffusion": True, "diffusivity": 0.5}, "with diffusion, D = 0.5"),
        ({"diffusion": True, "diffusivity": 0}, WITHOUT),
    ):
        assert recording_of(U, V, config=RunConfig(**keys)).label == label


# -- tables ----------------------------------------------------------------------------------------


@pytest.fixture
def table() -> Table:
    columns = {
        "name": ["a", "b, c", "d"],
        "count": np.array([1, 2, 3]),
        "value": np.array([0.1 + 0.2, np.nan, -np.inf]),
    }
    return Table("three rows", columns, {"value": "its value"})


def test_csv_keeps_every_digit_and_leaves_what_is_missing_empty(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["name"] for row in rows] == ["a", "b, c", "d"]
    assert float(rows[0]["value"]) == 0.1 + 0.2
    assert [row["value"] for row in rows[1:]] == ["", ""]
    assert [row["count"] for row in rows] == ["1", "2", "3"]


def test_json_says_null_and_keeps_every_digit(table):
    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(to_json({"run": "r"}, {"rows": table}), parse_constant=refuse)
    assert found["run"] == "r"
    assert found["rows"][0] == {"name": "a", "count": 1, "value": 0.1 + 0.2}
    assert [row["value"] for row in found["rows"][1:]] == [None, None]


def test_text_shows_five_digits_and_a_dash_for_what_is_missing(table):
    title, head, *body = table.to_text().splitlines()
    assert title == "three rows"
    assert re.split(r"  +", head.strip()) == ["name", "count", "its value"]
    assert [re.split(r"  +", line.strip())[-1] for line in body] == ["0.3", "-", "-"]
    assert len({len(line) for line in (head, *body)}) == 1  # aligned


def test_wide_text_shows_seven_rows_at_most_with_both_ends():
    columns = {"step": np.arange(100), "x": np.linspace(0.0, 1.0, 100)}
    step = Table("t", columns, wide=True).to_text().splitlines()[1].split()
    assert len(step) == 8
    assert (step[0], step[1], step[-1]) == ("step", "0", "99")
    few = Table("t", {"step": np.arange(2)}, wide=True).to_text().splitlines()[1].split()
    assert few == ["step", "0", "1"]


def test_a_comparison_goes_through_csv_without_loss(runs):
    comparison = compare(runs)
    rows = list(csv.DictReader(io.StringIO(comparison.table().to_csv())))
    by_name = {row["measure"]: row for row in rows}
    for name, values in comparison.values[WITH].items():
        mean = np.mean(values)
        written = by_name[name]["with diffusion: mean"]
        assert written == "" if np.isnan(mean) else float(written) == mean
