"""Theorems, growth and stability through the command line, and as figures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from support import Terminal
from support_cli import caller
from support_runs import make_diverged, make_pair, make_run

from prdsim.analysis import (
    Recording,
    growth_of,
    history,
    open_recording,
    recording_of,
)
from prdsim.analysis.run_tables import stability_of
from prdsim.analysis.stability import modes
from prdsim.analysis.stability.growth import growth_rates
from prdsim.analysis.stability.turing import assess_stability
from prdsim.analysis.theory.bounds import residual_bound
from prdsim.analysis.theory.theorem_report import theorem_report
from prdsim.errors import ConfigError, DataError
from prdsim.figures import draw
from prdsim.figures.style import mosaic

THEORY = {
    "preset": "theory",
    "dataset": "synthetic",
    "samples": 6,
    "width": 300,
    "critic_width": 20,
    "trainable": "U,W,a",
    "integrator": "rk4",
    "step_size": 0.1,
    "steps": 60,
    "end_time": None,
    "snapshots": "every:10",
    "scalars": "every:1",
    "diffusivity": 0.02,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of the theorems' set-up, theory-*.h5, and two of digits, *-0.h5."""
    folder = tmp_path_factory.mktemp("theory")
    for side, diffusion in (("without", False), ("with", True)):
        make_run(folder / f"theory-{side}.h5", **THEORY, diffusion=diffusion)
    make_pair(folder)
    return folder


@pytest.fixture
def run(monkeypatch, capsys, folder):
    monkeypatch.chdir(folder)
    return caller(monkeypatch, capsys)


@pytest.fixture
def runs(folder):
    names = ("theory-without", "theory-with")
    with (
        open_recording(folder / f"{names[0]}.h5") as without,
        open_recording(folder / f"{names[1]}.h5") as with_diffusion,
    ):
        yield without, with_diffusion


# -- theorems --------------------------------------------------------------------------------------


def test_analyze_prints_constants_premises_and_verdict(run, runs):
    answer = run("analyze", "theory-with.h5", "theorems")
    assert answer.code == 0
    report = theorem_report(runs[1].trajectory)
    assert report.theorem_2.verdict.status == "holds"
    for line in report.lines():
        assert f"  {line}\n" in answer.out
    assert f"r = {report.constants.growth_rate:.4g}, K = {report.constants.capacity:.4g}" in (
        answer.out
    )
    assert "fitted: r = " in answer.out


def test_theorems_as_json_hold_the_table_and_the_words(run, runs):
    found = json.loads(run("analyze", "theory-without.h5", "theorems", "--format", "json").out)
    report = theorem_report(runs[0].trajectory)
    assert [row["theorem_1"] for row in found["theorems"]] == report.theorem_1.bound.tolist()
    assert set(report.lines()) <= set(found["theorems_notes"])


@pytest.mark.parametrize(
    "command", [("analyze", "without-0.h5", "theorems"), ("plot", "without-0.h5", "theorems")]
)
def test_a_run_of_another_set_up_is_refused_by_its_key(run, command):
    answer = run(*command)
    assert answer.code == 2
    assert "target: the theorems need one output, not 10; use --preset theory" in answer.err


def test_the_figure_holds_every_distance_and_the_bound(runs):
    figure = draw("theorems", runs)
    for column, (run, name) in enumerate(zip(runs, ("theorem_1", "theorem_2"), strict=True)):
        axes = figure.axes[column]
        report = theorem_report(run.trajectory)
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert len(axes.lines) == 300 + 3  # neurons, the largest, the bound drawn twice
        assert np.allclose(lines["largest distance"], report.course.distance, rtol=1e-12)
        bound = getattr(report, name)
        assert lines[bound.name].tolist() == bound.bound.tolist()
        assert f"{bound.name} holds" in axes.get_title()


def test_a_bound_is_drawn_solid_only_as_far_as_it_is_judged(tmp_path):
    path = make_run(tmp_path / "narrow.h5", **{**THEORY, "width": 8, "samples": 8, "steps": 200})
    with open_recording(path) as run:
        report = theorem_report(run.trajectory).theorem_1
        figure = draw("theorems", [run])
        assert report.verdict.status == "no conclusion"
        (solid,) = [line for line in figure.axes[0].lines if line.get_label() == "Theorem 1"]
        until = report.verdict.judged_until
        assert len(solid.get_xdata()) == (0 if until is None else int((report.time <= until).sum()))
        assert "no conclusion" in figure.axes[0].get_title()


def test_the_residual_its_bound_and_the_fit_are_drawn(runs):
    figure = draw("bernoulli", runs)
    for axes, run in zip(figure.axes, runs, strict=True):
        measured, bound = (line.get_ydata() for line in axes.lines[:2])
        assert measured.tolist() == run.scalars["residual_norm"].tolist()
        assert np.all(measured <= bound * (1 + 1e-12))  # the premises hold


def test_legends_stand_above_what_fills_its_panel(runs):
    figure = draw("theorems", runs)
    figure.draw_without_rendering()
    for axes in figure.axes[:6]:
        if axes.get_legend() is not None:  # without diffusion there are no scores
            legend = axes.get_legend().get_window_extent()
            assert axes.bbox.y1 <= legend.y0
            assert not axes.get_title() or legend.y1 <= axes.title.get_window_extent().y0
    eigenvalues = figure.axes[2].lines
    assert len({str(line._unscaled_dash_pattern) for line in eigenvalues}) == 4


def test_rounding_is_left_out_and_a_bound_below_it_does_not_stretch_the_axis(tmp_path):
    with open_recording(
        make_run(tmp_path / "long.h5", **{**THEORY, "width": 100, "steps": 3000})
    ) as run:
        axes = draw("bernoulli", [run]).axes[0]
        assert run.scalars is not None
        least = run.scalars["residual_norm"].min()
    measured, bound, *_ = (line.get_ydata() for line in axes.lines)
    assert bound.min() < least / 100
    assert least < axes.get_ylim()[0] == measured.min() / 2 < 1e-12
    assert "its tolerance and rounding" in axes.get_title()


def test_the_bernoulli_figure_takes_the_constants_and_no_kernel_over_time(runs, monkeypatch):
    wanted = [theorem_report(run.trajectory).constants for run in runs]
    monkeypatch.delattr("prdsim.analysis.theory.theorem_report.follow")
    monkeypatch.delattr("prdsim.analysis.theory.verdicts.empirical_kernel")
    figure = draw("bernoulli", runs)
    for axes, run, constants in zip(figure.axes, runs, wanted, strict=True):
        bound = axes.lines[1]
        assert f"K = {constants.capacity:.3g}" in bound.get_label()
        expected = residual_bound(constants, run.scalars["time"])
        assert np.array_equal(bound.get_ydata(), expected)


def test_theorems_of_arrays_ask_for_the_file():
    rng = np.random.default_rng(0)
    bare = recording_of(rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 1, 3)))
    with pytest.raises(ConfigError, match="needs the trajectory file of a run"):
        draw("theorems", [bare])


# -- growth and stability --------------------------------------------------------------------------


def test_growth_is_a_measure_of_every_snapshot(run, folder):
    with open_recording(folder / "with-0.h5") as recording:
        found = history(recording, ["growth"])
        for k in range(len(recording)):
            rates = growth_rates(*recording.weights(k).values(), *recording.samples, 1.0)
            assert found["growth_rate_mean"][k] == rates.total[:, 0].mean()
            parts = found["growth_reaction"][k] + found["growth_diffusion"][k]
            assert parts == pytest.approx(found["growth_rate_mean"][k], rel=1e-12)
    answer = run("compare", "without-0.h5", "with-0.h5", "growth")
    assert answer.code == 0
    assert "growth_diffusion" in answer.out
    assert "distance_U_mean" not in answer.out


def test_the_leading_rates_are_drawn_over_time(folder):
    with open_recording(folder / "with-0.h5") as recording:
        axes = draw("growth", [recording]).axes[0]
        expected = history(recording, ["growth"])["growth_rate_mean"]
        assert np.allclose(axes.lines[0].get_ydata(), expected, rtol=1e-12)


def test_patterns_are_the_right_singular_vectors(folder):
    with open_recording(folder / "with-0.h5") as recording:
        figure = draw("patterns", [recording], neurons=(1, 4), count=2)
        images, _ = growth_of(recording).patterns(**recording.weights(-1))
        signs = np.where((images * recording.at(-1).change).sum(axis=1) < 0.0, -1.0, 1.0)
        images = signs[:, None] * images
        shown = np.ma.filled(figure.axes[1].images[0].get_array(), np.nan)
        assert np.array_equal(shown, mosaic(images[[1, 4]], (8, 8)), equal_nan=True)
        changed = np.ma.filled(figure.axes[2].images[0].get_array(), np.nan)
        expected = mosaic(recording.at(-1).change[[1, 4]], (8, 8))
        assert np.array_equal(changed, expected, equal_nan=True)


def test_couplings_come_from_a_replay_of_the_run(run):
    answer = run("analyze", "with-0.h5", "couplings")
    assert answer.code == 0
    assert "trapezoidal rule over 5 rows of scalars" in answer.out
    assert "from a replay that equals the snapshots bit for bit" in answer.out
    assert "rank correlation" in answer.out


def test_stability_away_from_an_equilibrium_gets_no_verdict(run, folder):
    answer = run("analyze", "with-0.h5", "stability")
    assert answer.code == 0
    assert "instantaneous growth rates, no verdict: no reaction equilibrium" in answer.out
    assert "Turing condition" not in answer.out
    with open_recording(folder / "with-0.h5") as recording:
        assert recording.config is not None
        expected = assess_stability(recording.config, *recording.samples, recording.weights(-1))
        figure = draw("stability", [recording])
    shown = figure.axes[0].lines[0].get_ydata()
    assert np.allclose(shown, expected.modes["reaction"].eigenvalues.real, rtol=1e-9, atol=1e-12)
    assert "no verdict" in figure.axes[0].get_title()


def test_a_verdict_is_given_where_the_reaction_rests(tmp_path, monkeypatch, capsys):
    keys = {
        "samples": 8,
        "width": 16,
        "steps": 600,
        "integrator": "rk4",
        "snapshots": "every:600",
    }
    path = make_run(tmp_path / "rest.h5", **keys)
    answer = caller(monkeypatch, capsys)("analyze", path, "equilibrium")
    assert answer.code == 0
    assert "reaction equilibrium (||R|| = " in answer.out
    assert "Turing condition, critic frozen: holds" in answer.out
    with open_recording(path) as recording:
        found = stability_of(recording, equilibrium=True)
    assert found.equilibrium
    assert found.stable_without
    assert found.turing("frozen")


def test_a_diverged_run_has_no_modes_and_says_so(tmp_path, monkeypatch, capsys):
    path = make_diverged(tmp_path / "diverged.h5")
    answer = caller(monkeypatch, capsys)("analyze", path, "stability")
    assert answer.code in (0, 3)
    assert "internal error" not in answer.err
    assert answer.code == 0 or "no modes were found" in answer.err


def test_a_jacobian_that_overflows_is_an_error_of_the_data(monkeypatch, folder):
    weights = Recording.weights

    def huge(self: Recording, index: int) -> dict[str, np.ndarray]:
        return {name: 1e200 * array for name, array in weights(self, index).items()}

    monkeypatch.setattr("prdsim.analysis.stability.modes._SMALL", 0)
    monkeypatch.setattr(Recording, "weights", huge)
    with (
        open_recording(folder / "with-0.h5") as recording,
        pytest.raises(DataError, match="no modes were found because products overflow"),
    ):
        stability_of(recording)


def test_a_run_without_diffusion_is_asked_what_its_critic_would_do(folder):
    for side in ("without", "with"):
        with open_recording(folder / f"{side}-0.h5") as recording:
            found = stability_of(recording)
        assert list(found.modes) == ["reaction", "frozen", "joint"]
        assert found.diffusion_norm > 0.0


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plot with-0.h5 ranking", ["drawing ranking", "with-0 again: 20 of 20, step 20"]),
        ("plot with-0.h5 stability", ["drawing stability", " after ", "Jacobian products"]),
        ("analyze with-0.h5 couplings", ["computing couplings", "with-0 again: 20 of 20, step"]),
    ],
)
def test_long_work_is_shown_and_removed(run, monkeypatch, tmp_path, words, shown):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(modes, "_SMALL", 1)  # else small Jacobians are formed at once
    output = ["-o", str(tmp_path / "out.png")] if words.startswith("plot") else []
    assert run(*words.split(), *output).code == 0
    text = terminal.getvalue()
    for part in ("loading", "reading and verifying", *shown):
        assert part in text
    assert text.rpartition("\r")[2] == ""
    assert "\n" not in text
