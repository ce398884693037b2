"""How far numbers can be trusted: the judgment by hand, the report, the replays, the command."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_cli import Run, caller
from support_runs import At, Killed, make_diverged, make_interrupted, make_run

import prdsim
from prdsim.analysis import history, open_recording
from prdsim.analysis.comparison import compare
from prdsim.config import Resolved, RunConfig
from prdsim.convergence.assess import NO_FUNCTIONALS, Assessment, converge, quantities
from prdsim.convergence.judgment import HEADLINE, Verdict, judge, percent
from prdsim.convergence.replays import PERTURBATION, ReplayPlan, ensure, plan_of
from prdsim.convergence.report import (
    NOT_ASSESSED,
    ReplayRecord,
    Report,
    error_text,
    figure_text,
    look_up,
    read_report,
    replay_folder,
    report_path,
    write_report,
)
from prdsim.errors import ConfigError, DivergedError, ReportError, TrajectoryError
from prdsim.figures import draw
from prdsim.running.accuracy import warnings_of
from prdsim.trajectory import SCALARS, Status, open_trajectory

NAN = math.nan
GD = {"integrator": "gd"}
FLOW = {"penalty_points": "midpoint", "critic_step_size": None}  # what integrators but gd take
BY_TIME = {"end_time": 1.0, "steps": None, "snapshots": None, "scalars": None}
BS23 = {**FLOW, **BY_TIME, "integrator": "bs23", "rtol": 1e-2, "atol": 1e-6}
HALF = {"accuracy": 0.01, "ratio": 2.0}
# Without diffusion, smooth; and a step some eight times the largest that is sensible.
FINE = {**GD, "steps": 80, "step_size": 0.005, "snapshots": "every:20"}
COARSE = {**GD, "diffusion": True, "step_size": 1.0, "critic_step_size": 0.01}
REPLAYS = ("finer", "finest", "twin-1", "twin-2")


# -- the judgment ----------------------------------------------------------------------------------


CONVERGED, FLOOR, FAILED = Verdict.CONVERGED, Verdict.AT_THE_FLOOR, Verdict.NOT_CONVERGED
UNKNOWN = {"change": None, "error": None}
JUDGED = {
    # name, value, finer, twins: what is found, at an accuracy of 0.01 and steps halved
    "first order": (
        *("loss_sup", 1.008, [1.004, 1.002], [1.00801], CONVERGED),
        {"change": 0.006 / 1.002, "error": 0.006 / 1.002, "scatter": 1e-5 / 1.002, "order": 1.0},
    ),
    "above": ("cv_U", 1.02, [1.01, 1.0], [1.0201, 1.0199], FAILED, {"change": 0.02}),
    "chance": ("cv_U", 1.0, [1.3, 1.001], [1.0], FAILED, {"change": 0.3 / 1.001}),
    "floor": ("ks_U", 1.02, [1.01, 1.0], [1.019, 1.03], FLOOR, {"scatter": 0.01}),
    "floor, twins in turn": ("ks_U", 1.02, [1.01, 1.0], [1.03, 1.019], FLOOR, {"scatter": 0.01}),
    "above the floor": ("ks_U", 1.02, [1.01, 1.0], [1.029, 1.011], FAILED, {"scatter": 0.009}),
    "scattered": ("x", 1.001, [1.0, 1.0], [1.05], CONVERGED, {"change": 0.001, "error": 0.049}),
    "equal": ("x", 2.0, [2.0, 2.0], [2.0], CONVERGED, {"change": 0, "scatter": 0, "order": None}),
    "all zero": ("x", 0.0, [0.0, 0.0], [0.0], CONVERGED, {"change": 0}),
    "zero in the finer": ("x", 0.1, [0.0, 0.0], [0.1], FAILED, UNKNOWN),
    # Shares change by percentage points, and what passes through 0 by its own unit.
    "no share": ("inactive_neurons", 0.0, [0.0, 0.0], [0.0], CONVERGED, {"change": 0}),
    "share": ("inactive_neurons", 0.105, [0.1, 0.1], [0.105], CONVERGED, {"change": 0.005}),
    "far share": ("inactive_neurons", 0.527, [0.3, 0.133], [0.527], FAILED, {"change": 0.394}),
    "near 0": ("morans_i_U", 0.0012, [0.001, 0.001], [], CONVERGED, {"change": 0.002}),
    "off 0": ("morans_i_U", 0.26, [0.25, 0.25], [], FAILED, {"change": 0.04}),
    "no replay": ("cv_U", 1.0, [NAN, NAN], [1.0], FAILED, {**UNKNOWN, "order": None}),
    "no finest": ("cv_U", 1.0, [1.0, NAN], [1.0], FAILED, {**UNKNOWN, "order": None}),
    "no finer": ("cv_U", 1.0, [NAN, 1.0], [1.0], FAILED, {**UNKNOWN, "order": None}),
    "infinite": ("cv_U", 1.0, [math.inf, 1.0], [1.0], FAILED, {**UNKNOWN, "order": None}),
    "no twin": ("cv_U", 1.02, [1.01, 1.0], [1.2, NAN], FAILED, {"scatter": None}),
    "no twin needed": ("cv_U", 1.0, [1.0, 1.0], [NAN], CONVERGED, {"scatter": None}),
    "undefined": ("cv_U", NAN, [NAN, NAN], [NAN], Verdict.UNDEFINED, {"value": None}),
}


@pytest.mark.parametrize(
    ("name", "value", "finer", "twins", "verdict", "found"), JUDGED.values(), ids=JUDGED
)
def test_a_quantity_is_judged_by_its_change_and_scatter(name, value, finer, twins, verdict, found):
    row = judge(name, value, finer, twins, **HALF)
    assert (row.verdict, row.holds) == (verdict, verdict is not FAILED)
    for attribute, expected in found.items():
        shown = getattr(row, attribute)
        assert shown is None if expected is None else shown == pytest.approx(expected), attribute


def test_an_order_in_the_tolerance_is_the_exponent_of_rtol():
    row = judge("loss_sup", 1.0 + 1e-3, [1.0 + 1e-4, 1.0], [], accuracy=0.01, ratio=math.sqrt(10))
    assert row.order == pytest.approx(math.log(9.0) / math.log(math.sqrt(10)))


def test_the_accuracy_is_the_limit_itself():
    assert judge("x", 1.25, [1.0, 1.0], [], accuracy=0.25, ratio=2.0).verdict == "converged"
    assert judge("x", 1.251, [1.0, 1.0], [], accuracy=0.25, ratio=2.0).verdict == "not converged"


@pytest.mark.parametrize("values", [(1.02, 1.01, 1.0), (1.2, 1.001, 1.0)])
def test_an_order_below_the_scatter_is_not_said(values):
    assert judge("x", values[0], values[1:], [values[0]], **HALF).order is not None
    assert judge("x", values[0], values[1:], [values[0] + 0.0101], **HALF).order is None


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1e-9, "< 0.01 %"), (0.004, "0.4 %"), (0.56, "56 %"), (2.34, "234 %")],
)
def test_shares_in_words(share, text):
    assert percent(share) == text


# -- the report ------------------------------------------------------------------------------------


def made_up(**changes: float) -> Report:
    """A report whose headline measures change as told, by default by 0.4 %."""
    values = {name: 1.0 + changes.get(name, 0.004) for name in HEADLINE if name != "morans_i_U"}
    rows = [judge(name, value, [1.0, 1.0], [value], **HALF) for name, value in values.items()]
    rows.append(judge("loss_adv", NAN, [NAN, NAN], [NAN], **HALF))
    replays = (
        ReplayRecord("finer", "step size 0.1", 7),
        ReplayRecord("finest", "step size 0.05", 14),
    )
    about = ("id", "sha", 2.0, 7, 1.0, 3, 0.01, "gd, step size 0.2", "0.1.0", "2026-11-25")
    return Report(*about, replays, tuple(rows))


def test_a_report_comes_back_as_it_was_written(tmp_path):
    report = made_up(cv_U=0.3)
    write_report(report, tmp_path / "r.json")
    assert read_report(tmp_path / "r.json") == report
    content = json.loads((tmp_path / "r.json").read_text())
    assert (content["format"], content["format_version"]) == ("prdsim-convergence", 1)


def test_the_headline_decides():
    assert made_up().verdict is Verdict.CONVERGED
    failed = made_up(cv_U=0.3)
    assert (failed.holds, failed.verdict) == (False, Verdict.NOT_CONVERGED)
    assert failed.error == pytest.approx(0.3)
    beside = judge("reaction_norm_U", 1.0, [2.0, 2.0], [1.0], **HALF)
    assert replace(made_up(), rows=(*made_up().rows, beside)).holds
    floor = judge("cv_U", 1.02, [1.01, 1.0], [1.04], **HALF)
    rows = [floor if row.name == "cv_U" else row for row in made_up().rows]
    assert replace(made_up(), rows=tuple(rows)).verdict is Verdict.AT_THE_FLOOR


def test_a_replay_that_diverged_fails_the_run():
    ended = ReplayRecord("twin-1", "step size 0.2", 3, "a is not finite from step 3 on")
    assert not replace(made_up(), replays=(*made_up().replays, ended)).holds


def test_errors_in_words_of_several_runs():
    good, bad = made_up(), made_up(cv_U=0.3)
    assert error_text("cv_U", [[good], [good]]) == "0.4 %"
    assert error_text("cv_U", [[good], [bad]]) == "30 % (not converged)"
    assert error_text("cv_U", [[good, None, None], [good, good]]) == "0.4 % (3 of 5 runs)"
    assert error_text("cv_U", [[None, bad]]) == "30 % (not converged; 1 of 2 runs)"
    assert error_text("cv_U", [[good], [None]]) == NOT_ASSESSED
    assert error_text("cv_U", []) == NOT_ASSESSED
    assert error_text("morans_i_U", [[good]]) == NOT_ASSESSED
    assert error_text("loss_adv", [[good]]) == "undefined"


def test_the_line_of_figures():
    good, bad = made_up(), made_up(ks_U=0.3)
    assert figure_text([[good]]) == "discretization: mean distance 0.4 %, cv 0.4 %"
    assert figure_text([[good], [None]]) == "discretization not assessed"
    expected = "discretization: mean distance 0.4 %, cv 0.4 %; not converged: KS"
    assert figure_text([[good], [bad]]) == expected


def damaged(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Contents of a file that is no whole report, and what is said of them."""
    row = {**content["rows"][0], "verdict": "fine"}
    return [
        ("", "is not JSON"),
        (json.dumps(content)[:-200], "is not JSON"),
        ("[1]", "is not a report of prdsim converge"),
        (json.dumps({**content, "format": "x"}), "is not a report of prdsim converge"),
        (json.dumps({**content, "format_version": None}), "has format version None"),
        (json.dumps({**content, "rows": [row]}), "rows.0.verdict"),
        (json.dumps({**content, "run_time": "1"}), "run_time"),
        (json.dumps({k: v for k, v in content.items() if k != "accuracy"}), "accuracy"),
        (json.dumps({**content, "more": 1}), "more"),
    ]


def test_a_damaged_report_is_an_error_in_one_line(tmp_path):
    path = tmp_path / "r.json"
    write_report(made_up(), path)
    for text, words in damaged(json.loads(path.read_text())):
        path.write_text(text)
        with pytest.raises(ReportError, match=re.escape(words)) as error:
            read_report(path)
        assert len(str(error.value).splitlines()) == 1
        assert "replace it with prdsim converge --force" in str(error.value)
        assert error.value.exit_code == 3
    path.unlink()
    path.mkdir()
    with pytest.raises(ReportError, match="is a folder, not a file"):
        read_report(path)


def test_a_report_of_a_newer_version_is_not_guessed_at(tmp_path):
    path = tmp_path / "r.json"
    write_report(made_up(), path)
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ReportError, match="has format version 2, this prdsim reads 1"):
        read_report(path)


@pytest.mark.parametrize(
    ("run", "report"),
    [("a.h5", "a.converge.json"), ("a.b", "a.b.converge.json"), ("a", "a.converge.json")],
)
def test_reports_stand_beside_their_runs(run, report):
    assert report_path(Path("x") / run) == Path("x") / report


# -- replays ---------------------------------------------------------------------------------------


def planned(path: Path, index: int = -1) -> ReplayPlan:
    with open_recording(path) as run:
        assert run.trajectory is not None
        return plan_of(run, run.trajectory, range(len(run))[index])


def test_fixed_steps_are_halved_twice_and_the_critic_keeps_its_speed(tmp_path):
    keys = {**GD, "critic_step_size": 0.04, "critic_warmup": 0.3, "diffusion": True}
    plan = planned(make_run(tmp_path / "a.h5", **keys))
    configs = [replay.config for replay in plan.finer]
    assert [config.step_size for config in configs] == [0.025, 0.0125]
    assert [config.critic_step_size for config in configs] == [0.02, 0.01]
    assert {(config.critic_warmup, config.critic_steps) for config in configs} == {(0.3, 5)}
    assert {replay.resolved.critic_rate for replay in plan.replays} == {5 * 0.04 / 0.05}
    assert plan.ratio == 2.0
    assert plan.setting == "step size 0.05, critic's 0.04"


def test_a_flow_of_fixed_steps_keeps_the_critics_keys(tmp_path):
    path = make_run(tmp_path / "a.h5", **FLOW, integrator="heun", diffusion=True)
    base, finer = planned(path).twins[0].config, planned(path).finer[0].config
    assert finer.step_size == 0.025
    assert (finer.critic_rate, finer.critic_warmup) == (base.critic_rate, base.critic_warmup)


def test_tolerances_are_divided_by_the_root_of_ten_and_ten(tmp_path):
    plan = planned(make_run(tmp_path / "a.h5", **BS23))
    rtols = [replay.config.rtol for replay in plan.finer]
    assert rtols == [pytest.approx(1e-2 / math.sqrt(10)), pytest.approx(1e-3)]
    assert plan.finer[1].config.atol == pytest.approx(1e-7)
    assert plan.finer[0].config.step_size == plan.twins[0].config.step_size
    assert plan.finer[1].setting == "rtol 0.001, atol 1e-07"


def test_replays_resolve_nothing_anew(tmp_path):
    keys = {"step_size": "auto", "init_scale": 0.1, "integrator": "heun", **FLOW}
    plan = planned(make_run(tmp_path / "a.h5", **keys))
    with open_trajectory(tmp_path / "a.h5") as run:
        resolved = run.attributes["resolved"]
    assert plan.twins[0].resolved.to_dict() == resolved
    finer = plan.finer[1].resolved.to_dict()
    ramp, step_size = resolved["ramp"], resolved["step_size"]
    assert ramp > 1  # the first steps grow: for the same time in all
    assert finer == {**resolved, "step_size": step_size / 4, "ramp": 4 * ramp}
    assert plan.finer[1].config.step_size == step_size / 4


@pytest.mark.parametrize("diffusion", [False, True])
def test_twins_begin_a_millionth_beside_what_moves(tmp_path, diffusion):
    path = make_run(tmp_path / "a.h5", diffusion=diffusion, trainable="U,W,a")
    plan, moving = planned(path), {"U", "W", "a"} if diffusion else {"U"}
    with open_trajectory(path) as run:
        first = dict(run.initial)
    for twin in plan.twins:
        for name, X in first.items():
            moved = np.linalg.norm(twin.initial[name] - X) / np.linalg.norm(X)
            assert moved == pytest.approx(PERTURBATION * (name in moving), rel=1e-6), name
    one, two = (twin.initial["U"] for twin in plan.twins)
    assert np.linalg.norm(one - two) > PERTURBATION * np.linalg.norm(one)
    again = planned(path).twins[0].initial["U"]
    assert np.array_equal(one, again)


@pytest.mark.parametrize(
    ("chart", "precision", "store_data"),
    [
        ("weight", "float64", False),
        ("range", "float64", True),
        ("gram", "float64", True),
        ("weight", "float32", True),
        ("range", "float32", True),
        ("gram", "float32", True),
    ],
)
@pytest.mark.parametrize(
    "method", [GD, {**FLOW, "integrator": "heun"}, BS23], ids=["gd", "heun", "bs23"]
)
def test_a_replay_at_the_runs_settings_repeats_its_bits(
    tmp_path, chart, precision, store_data, method
):
    """What differs in a replay is then the step or the perturbation alone."""
    keys = {"precision": precision, "store_data": store_data, "chart": chart, "diffusion": True}
    path = make_run(tmp_path / "a.h5", **method, **keys)
    plan = planned(path)
    (tmp_path / "a.converge").mkdir()
    with open_trajectory(path) as run:
        same = replace(plan.twins[0], initial=dict(run.initial))
        assert ensure(plan, same) is None
        with open_trajectory(same.path) as replay:
            assert replay.time[-1] == run.time[-1]
            for name in "UVWa":
                assert np.array_equal(getattr(replay, name)[-1], getattr(run, name)[-1]), name


# -- judging runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine(tmp_path_factory) -> Path:
    """A run that has converged, with its report."""
    path = make_run(tmp_path_factory.mktemp("fine") / "fine.h5", **FINE)
    converge(path)
    return path


@pytest.fixture(scope="module")
def coarse(tmp_path_factory) -> Path:
    """A run of a much too large step, with its report."""
    path = make_run(tmp_path_factory.mktemp("coarse") / "coarse.h5", **COARSE)
    converge(path)
    return path


def report_of(path: Path) -> Report:
    with open_trajectory(path) as run:
        report = look_up(run).report
    assert report is not None
    return report


def test_a_smooth_run_of_small_steps_has_converged_at_first_order(fine):
    report = report_of(fine)
    assert report.verdict is Verdict.CONVERGED
    assert [row.verdict for row in report.headline] == [Verdict.CONVERGED] * len(HEADLINE)
    assert report.error is not None
    assert 1e-6 < report.error < 0.01
    row = report.by_name["distance_V_mean"]
    assert row.order == pytest.approx(1.0, abs=0.2)  # gd; gates that flip disturb it
    assert row.scatter is not None
    assert 0.0 < row.scatter < 1e-5  # 1e-6 in all weights, not amplified


def test_the_change_is_that_of_runs_made_by_hand(fine, tmp_path):
    values = [history_at_end(fine, "cv_U")]
    for k in (2, 4):
        keys = {**FINE, "step_size": 0.005 / k, "steps": 80 * k}
        values.append(history_at_end(make_run(tmp_path / f"{k}.h5", **keys), "cv_U"))
    row = report_of(fine).by_name["cv_U"]
    assert [row.value, *row.finer] == pytest.approx(values, rel=1e-10)
    assert row.change == pytest.approx(abs(values[2] - values[0]) / values[2], rel=1e-6)


def history_at_end(path: Path, name: str) -> float:
    with open_recording(path) as run:
        return float(history(run, snapshots=[-1])[name][0])


def test_a_run_of_large_steps_fails_with_its_numbers(coarse):
    report = report_of(coarse)
    assert report.verdict is Verdict.NOT_CONVERGED
    failed = {row.name: row.change for row in report.headline if not row.holds}
    assert {"distance_U_mean", "cv_U"} <= failed.keys()
    assert all(change is None or change > 0.01 for change in failed.values())
    assert max(change or 0.0 for change in failed.values()) > 0.1


def test_an_adaptive_run_is_replayed_to_the_same_time(tmp_path):
    outcome = converge(make_run(tmp_path / "a.h5", **{**BS23, "rtol": 1e-3, "atol": 1e-8}))
    assert outcome.report is not None
    assert outcome.report.verdict is Verdict.CONVERGED
    assert outcome.report.time == 1.0
    steps = [replay.steps for replay in outcome.report.replays]
    assert steps[0] < steps[1]
    assert outcome.report.setting == "bs23, rtol 0.001, atol 1e-08"


def test_every_functional_is_judged_once(fine):
    with open_recording(fine) as run:
        values = quantities(run, -1)
    names = [row.name for row in report_of(fine).rows]
    assert len(set(names)) == len(names)
    assert set(names) == set(values)
    assert names[: len(HEADLINE)] == list(HEADLINE)
    assert not NO_FUNCTIONALS & set(names)
    assert {scalar.name for scalar in SCALARS} - NO_FUNCTIONALS <= set(names)
    assert {"growth_rate_mean", "effective_rank", "morans_i_change", "reaction_U_q95"} <= set(names)


def test_a_run_is_judged_at_the_snapshot_nearest_to_a_time(fine, tmp_path):
    path = tmp_path / "fine.h5"
    path.write_bytes(fine.read_bytes())
    outcome = converge(path, time=0.21)
    assert outcome.report is not None
    assert (outcome.report.step, outcome.report.time) == (40, 0.2)
    assert (outcome.report.run_step, outcome.report.run_time) == (80, 0.4)
    with open_recording(path) as run:
        expected = history(run, snapshots=[2])["cv_U"][0]
        assert run.assessed(0.2).report == outcome.report
        assert run.assessed(0.4).report is None
        assert run.assessed(0.4).reason == "assessed only at t = 0.2"
        loss = run.scalars["loss_sup"][run.scalars["step"] == 40][0]
    assert outcome.report.by_name["cv_U"].value == expected
    assert outcome.report.by_name["loss_sup"].value == loss


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"time": t}, "is not between 0 and 0.4, where the run ends") for t in (0, -1, 0.5)),
        ({"time": 0.01}, "the nearest snapshot is the initial state"),
        *(({"accuracy": a}, "is not between 0 and 1") for a in (0.0, 1.0, -0.1)),
        *(({key: NAN}, f"{key}: must be a finite number, got nan") for key in ("time", "accuracy")),
    ],
    ids=str,
)
def test_a_time_of_another_run_and_an_accuracy_that_is_no_share_are_refused(fine, options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        converge(fine, **options, force=True)


def test_a_replay_that_diverges_is_a_failed_verdict(tmp_path, monkeypatch):
    path = make_run(tmp_path / "a.h5", diffusion=True, **GD)
    module = "prdsim.convergence.replays._smaller_step"

    def too_large(
        config: RunConfig, resolved: Resolved, factor: float
    ) -> tuple[RunConfig, Resolved]:
        if factor == 1:
            return config, resolved
        return config.replace(end_time=1e5), replace(resolved, step_size=1e3)

    monkeypatch.setattr(module, too_large)
    outcome = converge(path)
    assert outcome.report is not None
    assert [replay.name for replay in outcome.report.diverged] == ["finer", "finest"]
    assert "is not finite" in outcome.report.diverged[0].diverged
    assert outcome.report.verdict is Verdict.NOT_CONVERGED
    assert error_text("cv_U", [[outcome.report]]) == "unbounded (not converged)"
    assert not replay_folder(path).exists()


# -- stale reports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("run_id", "x", "it was made for another run of this name"),
        ("run_time", 0.3, "it was made when the run ended at t = 0.3"),
        ("config_sha256", "x", "it was made when the run had other settings"),
    ],
)
def test_a_report_of_another_run_another_end_or_other_settings_is_stale(
    fine, tmp_path, attribute, value, reason
):
    path = tmp_path / "fine.h5"
    path.write_bytes(fine.read_bytes())
    write_report(replace(report_of(fine), **{attribute: value}), report_path(path))
    with open_trajectory(path) as run:
        assert look_up(run).report is None
        assert look_up(run).reason == f"stale: {reason}"


# -- going on --------------------------------------------------------------------------------------


def converging(path: Path, step: int, action: Callable[[], None], **keys: Any) -> Assessment:
    """Converge, with something that happens when a replay reaches a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prdsim.running.runner.automatic_progress", lambda: At(step, action))
        return converge(path, progress=True, **keys)


def kill() -> None:
    raise Killed


def only_if(there: Path, action: Callable[[], None]) -> Callable[[], None]:
    """Return what acts once a file is there: the replays before it are finished then."""
    return lambda: action() if there.exists() else None


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [20, -1], ids=["midway", "before its first commit"])
def test_a_begun_replay_goes_on_and_a_finished_one_is_kept(tmp_path, step):
    path = make_run(tmp_path / "a.h5", **GD)
    whole = converge(path).report
    assert whole is not None
    with pytest.raises(Killed):
        converging(path, step, kill, force=True)
    begun = replay_folder(path) / "finer.h5"
    with open_trajectory(begun) as run:
        assert run.status is Status.RUNNING
        began = run.attributes["run_id"]
    finest = replay_folder(path) / "finest.h5"
    outcome = converging(path, 20, only_if(finest, terminate), force=True)
    assert (outcome.report, outcome.signal) == (None, signal.SIGTERM)
    with open_trajectory(begun) as run:
        assert run.status is Status.FINISHED
        assert run.attributes["run_id"] == began
    with open_trajectory(finest) as run:
        assert run.status is Status.INTERRUPTED
    kept = begun.stat().st_mtime_ns, begun.stat().st_ino
    seen = []
    report = converge(path, force=True, say=lambda _: seen.append(stamp(begun))).report
    assert seen == [kept] * len(REPLAYS)
    assert report is not None
    assert report.rows == whole.rows  # resumed or not, bit for bit
    assert not replay_folder(path).exists()


def stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ino


def test_replays_of_another_run_of_the_name_are_made_anew(tmp_path):
    path = make_run(tmp_path / "a.h5", seed=1, **GD)
    with pytest.raises(Killed):
        converging(path, 20, only_if(replay_folder(path) / "finest.h5", kill))
    path.unlink()
    make_run(path, seed=2, **GD)
    report = converge(path).report
    assert report is not None
    expected = converge(make_run(tmp_path / "b.h5", seed=2, **GD)).report
    assert expected is not None
    assert report.rows == expected.rows


def test_what_else_is_in_the_folder_stays(tmp_path):
    path = make_run(tmp_path / "a.h5", **GD)
    replay_folder(path).mkdir()
    (replay_folder(path) / "notes.txt").write_text("mine")
    converge(path)
    assert [p.name for p in replay_folder(path).iterdir()] == ["notes.txt"]


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def refused(answer, code: int, *words: str) -> None:
    assert (answer.code, answer.out) == (code, ""), answer
    assert len(answer.err.splitlines()) <= 2, answer.err
    for word in words:
        assert word in answer.err


def test_the_command_says_what_holds(run, tmp_path):
    make_run(tmp_path / "a.h5", **FINE)
    answer = run("converge", "a.h5")
    assert answer.code == 0
    assert "a.h5 at t = 0.4, step 80 (gd, step size 0.005, critic's 0.01)\n" in answer.out
    assert "  finest: step size 0.00125, critic's 0.0025, 320 steps\n" in answer.out
    assert re.search(r"  cv_U +\d\.\d+ +0\.\d+ % +< 0\.01 % +\d\.\d +converged\n", answer.out)
    assert "converged at accuracy 1 %, t = 0.4; largest error of a headline" in answer.out
    assert "replay 4 of 4: twin-2, step size 0.005" in answer.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.converge.json", "a.h5"]

    refused(run("converge", "a.h5"), 2, "a.converge.json exists; give --force")
    answer = run("converge", "a.h5", "--force", "--accuracy", 1e-6, "--format", "csv")
    assert answer.code == 1
    rows = {row["quantity"]: row for row in csv.DictReader(io.StringIO(answer.out))}
    assert rows["cv_U"]["verdict"] == "not converged"
    assert rows["cv_U"]["meaning"] == "coefficient of variation of ||u_j(t) - u_j(0)||"
    answer = run("converge", "a.h5", "--force", "--time", 0.2, "--format", "json")
    assert json.loads(answer.out) == json.loads((tmp_path / "a.converge.json").read_text())


def test_the_command_fails_a_run_of_large_steps_with_numbers(run, tmp_path):
    make_run(tmp_path / "a.h5", **COARSE)
    answer = run("converge", "a.h5")
    assert answer.code == 1
    assert re.search(r"\n  changed too much: .*cv_U \(\d+(\.\d+)? %\)", answer.out)
    assert "\n  run again like its finest replay: step size 0.25, critic's 0.0025\n" in answer.out


def test_the_command_refuses_what_it_cannot_judge(run, tmp_path):
    refused(run("converge", "no.h5"), 3, "no.h5")
    make_interrupted(tmp_path / "i.h5")
    words = ("i.h5: the run is not finished (interrupted at step 10)", "prdsim resume")
    refused(run("converge", "i.h5"), 2, *words)
    make_diverged(tmp_path / "d.h5")
    refused(run("converge", "d.h5"), 5, "d.h5: the run diverged at step", "--step-size")
    for name, error in (("no.h5", TrajectoryError), ("d.h5", DivergedError)):
        with pytest.raises(error):
            converge(tmp_path / name)
    refused(run("converge", "d.h5", "--accuracy", 2), 2, "accuracy 2 is not between 0 and 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.h5", "i.h5"]


def test_the_command_says_how_to_go_on(run, tmp_path, monkeypatch):
    make_run(tmp_path / "a.h5", **GD)
    with monkeypatch.context() as patch:
        patch.setattr("prdsim.running.runner.automatic_progress", lambda: At(20, terminate))
        answer = run("converge", "a.h5")
    assert (answer.code, answer.out) == (143, "")
    assert "stopped; continue with: prdsim converge a.h5" in answer.err
    assert run("converge", "a.h5").code in (0, 1)


# -- who quotes it ---------------------------------------------------------------------------------


def test_inspect_tells_assessed_from_stale_and_not(run, fine, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(fine.read_bytes())
    assert "\n  discretization: not assessed\n" in run("inspect", path).out
    report_path(path).write_bytes(report_path(fine).read_bytes())
    answer = run("inspect", path)
    assert f"\n  discretization: {report_of(fine).words()}\n" in answer.out
    assert json.loads(run("inspect", path, "--json").out)["discretization"] == (
        report_of(fine).words()
    )
    prdsim.resume(path, steps=100)
    assert "\n  discretization: stale: it was made when the run" in run("inspect", path).out


def test_analyze_sets_errors_beside_the_last_snapshot(run, fine):
    report = report_of(fine)
    lines = run("analyze", fine, "spread").out.splitlines()
    assert lines[1] == f"  discretization: {report.words()}"
    assert lines[3].endswith("discretization")
    (line,) = [line for line in lines if "variation of ||u_j" in line]
    assert line.endswith(f"  {error_text('cv_U', [[report]])}")
    content = json.loads(run("analyze", fine, "spread", "--format", "json").out)
    assert content["discretization"]["errors"]["cv_U"] == report.by_name["cv_U"].error
    assert content["discretization"]["time"] == report.time


@pytest.mark.parametrize(
    "words", [("inspect",), ("analyze",), ("compare", "b.h5"), ("plot", "distances"), ("converge",)]
)
def test_a_damaged_report_is_never_taken_for_none(run, tmp_path, words):
    for name in ("a.h5", "b.h5"):
        make_run(tmp_path / name, **GD)
    (tmp_path / "a.converge.json").write_text("{")
    answer = run(*words[:1], "a.h5", *words[1:])
    if words == ("converge",):
        refused(answer, 2, "a.converge.json exists")
        assert run("converge", "a.h5", "--force").code in (0, 1)
    elif words == ("inspect",):  # the run itself is shown, and its checksums are not in doubt
        assert (answer.code, answer.err) == (3, "")
        assert "discretization: unknown: " in answer.out
        assert "a.converge.json is not JSON" in answer.out
        assert "supervised loss" in answer.out
    else:
        refused(answer, 3, "a.converge.json is not JSON; replace it with prdsim converge --force")


def test_a_file_with_the_name_of_a_replay_is_refused_and_stays(run, tmp_path):
    """Of any kind: a text, a damaged file, a run of the user's own, even made under that name."""
    make_run(tmp_path / "a.h5", **GD)
    folder = tmp_path / "a.converge"
    folder.mkdir()
    own = make_run(folder / "twin-2.h5", seed=3, **GD).read_bytes()
    for content in (b"mine", own[:5000], own):
        (folder / "twin-2.h5").write_bytes(content)
        answer = run("converge", "a.h5")
        words = "a.converge/twin-2.h5 is not a replay of converge, which needs the name: move it"
        refused(answer, 3, words)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"twin-2.h5": content}
    (folder / "twin-2.h5").rename(folder / "my-twin-2.h5")
    assert run("converge", "a.h5").code in (0, 1)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"my-twin-2.h5": own}


def test_a_critic_with_updates_of_its_own_is_named_in_settings_and_remedies(run, tmp_path):
    """A smaller step alone would be that of a faster critic: another model."""
    make_run(tmp_path / "a.h5", **GD, critic_step_size=0.02, diffusion=True)
    answer = run("converge", "a.h5")
    assert ", critic's 0.005" in answer.out
    config, row = RunConfig(integrator="gd", critic_step_size=0.02), {"lambda_max": 0.0}
    (text,) = warnings_of(config, 0.1, {**row, "invariant_error": 0.5})
    assert text.endswith("try --step-size 0.025 --critic-step-size 0.005")


def test_figures_say_it_below(fine, coarse, tmp_path):
    bare = make_run(tmp_path / "bare.h5", diffusion=True)
    with open_recording(fine) as one, open_recording(coarse) as two, open_recording(bare) as three:
        good = draw("distances", [one]).get_supxlabel()
        assert good == figure_text([[report_of(fine)]])
        assert good.startswith("discretization: mean distance 0.")
        text = draw("order", [one, two]).get_supxlabel().replace("\n", " ")
        assert "; not converged: mean distance, " in text
        assert draw("subspace", [one, three]).get_supxlabel() == "discretization not assessed"
        assert draw("schematic", []).get_supxlabel() == ""


def test_compare_quotes_the_larger_error_of_both_sides(fine, coarse):
    with open_recording(fine) as one, open_recording(coarse) as two:
        comparison = compare([one, two], time=0.4)
    column = {row["measure"]: row["discretization"] for row in comparison.table().rows}
    assert set(column.values()) == {NOT_ASSESSED}  # coarse was judged at its end, t = 20
    assert "coarse: its discretization is assessed only at t = 20" in comparison.notes


def test_measures_that_depend_on_the_snapshots_before_are_not_judged(tmp_path):
    """Replays record none of them: their alignment of motion would be that of the whole change."""
    keys = {"integrator": "heun", "step_size": 0.05, "steps": 8, "diffusion": True}
    report = converge(make_run(tmp_path / "run.h5", **keys, snapshots="every:2")).report
    assert report is not None
    assert {"alignment_change", "alignment_velocity_U", "chi2_activity"} <= set(report.by_name)
    assert not [name for name in report.by_name if "motion" in name or name == "chi2_speed_U"]
