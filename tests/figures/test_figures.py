"""Every figure is drawn for every kind of run, and shows what it says it shows."""

from __future__ import annotations

import io
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.animation import FFMpegWriter
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image
from support_runs import arrays_of, make_diverged, make_interrupted, make_pair, make_run, opened

import prdsim
from prdsim.analysis import (
    forces_of,
    history,
    open_recording,
    recording_of,
    run_tables,
    scaling_like,
)
from prdsim.analysis.patterns.embedding import principal_plane
from prdsim.analysis.patterns.neurons import hidden_distances
from prdsim.analysis.patterns.order import morans_i
from prdsim.analysis.patterns.subspace import trajectory_shares
from prdsim.analysis.stability.symmetry_breaking import SMALL
from prdsim.analysis.theory.forces import FORCES
from prdsim.analysis.theory.scaling import Sizes, measure_scaling
from prdsim.analysis.theory.theorem_report import recorded_residual, theorem_report
from prdsim.errors import ConfigError, OutputError
from prdsim.figures import FIGURES, Request, check, draw, general, movie, write
from prdsim.figures.curves import value_axis
from prdsim.figures.style import WITH, WITHOUT, mosaic, settings

ALL_LABELS = ("without diffusion", "with diffusion")
OF_THEORY = ("theorems", "bernoulli")
DRAWN = tuple(name for name, kind in FIGURES.items() if kind.draw and name not in OF_THEORY)
OF_RUNS = tuple(name for name in DRAWN if FIGURES[name].needs_run)
OF_IMAGES = ("input", "filters", "changes", "features", "patterns", "wavelengths")
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".svg": b"<?xml", ".gif": b"GIF89a"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    """Without and with diffusion, of two seeds."""
    return make_pair(tmp_path_factory.mktemp("runs"), seeds=2)


@pytest.fixture(scope="module")
def runs(paths):
    with opened(paths) as recordings:
        yield recordings


@pytest.fixture(scope="module", autouse=True)
def _quick_figures():
    """Two draws in place of 24, sizes as small, short Turing tests: half a minute otherwise."""
    quick = measure_scaling(Sizes(8, 8, 8, 4), draws=2, backend="numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(general, "scaling_like", lambda _: quick)
        patch.setitem(SMALL, "end_time", 0.1)
        yield


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One neuron, one input, one output, one sample, and its first snapshot alone."""
    folder = tmp_path_factory.mktemp("one")
    np.savez(folder / "own.npz", X=np.ones((2, 1)), Y=np.ones((2, 1)), grid=(1, 1))
    keys = {"dataset": str(folder / "own.npz"), "samples": 1, "width": 1, "critic_width": 1}
    path = make_interrupted(folder / "one.h5", step=1, diffusion=True, **keys)
    with open_recording(path) as recording:
        assert recording.U.shape == (1, 1, 1)
        yield recording


def panels(figure, *, colorbars: bool = False):
    """The axes that hold data, in order."""
    return [
        axes
        for axes in figure.axes
        if axes.axison and (colorbars or axes.get_label() != "<colorbar>")
    ]


def rendered(figure) -> bytes:
    """The pixels of a figure, drawn in full."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=30)
    return buffer.getvalue()


def image(axes) -> np.ndarray:
    (shown,) = axes.images
    return np.ma.filled(shown.get_array(), np.nan)


def assert_labeled(figure) -> None:
    """Every panel that has ticks says what they are; every panel or figure has a title."""
    assert panels(figure)
    for axes in panels(figure):
        title = axes.get_title() or axes.get_title(loc="left")
        labels = axes.get_xlabel(), axes.get_ylabel()
        assert title or all(labels), labels
        if not axes.images:
            assert len(axes.get_xticks()) > 0
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()


def assert_legends_cross_nothing(figure) -> None:
    """Every legend is within the figure, outside of all panels, of texts and of other legends."""
    figure.draw_without_rendering()
    legends = [legend.get_window_extent() for legend in figure.findobj(Legend)]
    others = [axes.bbox for axes in panels(figure, colorbars=True)]
    texts = [figure.texts, *([a.title, a._left_title, a.xaxis.label] for a in figure.axes)]
    texts += [axes.get_xticklabels() for axes in panels(figure)]
    others += [text.get_window_extent() for some in texts for text in some if text.get_text()]
    for number, legend in enumerate(legends):
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert legend.y1 <= figure.bbox.y1
        for other in others + legends[number + 1 :]:
            assert not legend.overlaps(other.padded(-1)), (legend, other)


# -- all figures, all runs -------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
# One run is drawn below; of several, pairs of a kind are among the four.
@pytest.mark.parametrize("which", [[1], [0, 1], [0, 1, 2, 3]], ids=str)
def test_every_figure_draws_every_choice_of_runs(runs, name, which):
    figure = draw(name, [runs[k] for k in which], log_time=len(which) > 1)
    if name != "schematic":
        assert_labeled(figure)
    if len(which) == 4:  # drawing in full is slow
        assert_legends_cross_nothing(figure)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_every_figure_draws_the_smallest_run(one, name, log):
    if name == "subspace":  # a path of one point has no direction
        with pytest.raises(ConfigError, match="one: holds its initial state alone"):
            draw(name, [one])
        return
    figure = draw(name, [one], log_time=log)
    if log:
        assert rendered(figure)
    if FIGURES[name].needs_run and name != "input":
        assert "one: interrupted at step 1 of 20" in figure.get_supxlabel()


def test_curves_of_one_snapshot_are_marked(one):
    for name in ("distances", "order", "forces", "growth", "dispersion", "features"):
        figure = draw(name, [one])
        lines = [
            line for axes in panels(figure) for line in axes.lines if line.get_label()[0] != "_"
        ]
        assert lines
        assert all(line.get_marker() not in ("None", "") for line in lines), name
    assert any(axes.collections for axes in panels(draw("forces", [one])))  # bars in place of bands


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Runs that are unlike others: begun at zero weights, and diverged."""
    folder = tmp_path_factory.mktemp("odd")
    zero = make_run(folder / "zero.h5", init_scale=0.0, steps=1)
    with opened([zero, make_diverged(folder / "diverged.h5")]) as recordings:
        yield dict(zip(("zero", "diverged"), recordings, strict=True))


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("which", ["zero", "diverged"])
def test_every_figure_draws_odd_runs(odd, name, which):
    assert panels(draw(name, [odd[which]], log_time=which == "zero"))


def test_a_run_that_has_no_pattern_yet_is_drawn_without_one(tmp_path):
    with open_recording(make_interrupted(tmp_path / "a.h5", step=1, init_scale=0.0)) as recording:
        for name in ("symmetry", "order"):
            assert rendered(draw(name, [recording]))


@pytest.fixture(scope="module")
def without_grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    path = make_run(folder / "a.h5", dataset=own_data(folder), samples=9, diffusion=True)
    with open_recording(path) as recording:
        yield recording


def own_data(folder: Path, name: str = "own") -> str:
    """A data file of 9 samples that are no images."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((9, 6)), rng.standard_normal((9, 1))
    np.savez(folder / f"{name}.npz", X=X, Y=Y)
    return str(folder / f"{name}.npz")


@pytest.mark.parametrize("name", OF_RUNS)
def test_inputs_that_are_no_images_are_not_drawn_as_such(without_grid, name):
    if name in OF_IMAGES:
        with pytest.raises(
            ConfigError, match="its inputs are not images: the data set declares no"
        ):
            draw(name, [without_grid])
    else:
        assert_labeled(draw(name, [without_grid]))


def test_without_a_grid_order_in_space_is_left_out(without_grid):
    assert len(panels(draw("order", [without_grid]))) == 5
    assert len(panels(draw("symmetry", [without_grid]))) == 2


@pytest.mark.parametrize("name", [*OF_RUNS, *OF_THEORY])
def test_a_figure_of_runs_needs_one(name):
    with pytest.raises(ConfigError, match=f"{name}: name at least one run"):
        draw(name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("filtres", {}, "filtres: no such figure; did you mean filters?"),
        ("movie", {}, "movie is a movie"),
        ("filters", {"neurons": (3, 7)}, "there is no neuron 7: they are 0 to 6"),
        ("input", {"sample": 10}, "there is no sample 10: they are 0 to 9"),
    ],
)
def test_names_and_choices_that_are_none_are_refused(runs, name, options, words):
    with pytest.raises(ConfigError, match=words):
        draw(name, runs, **options)


def test_what_a_figure_lacks_is_known_without_drawing(runs, one, without_grid, tmp_path):
    bare = recording_of(np.zeros((2, 3, 4)), np.zeros((2, 1, 3)), grid=(2, 2))
    for name, asked, words in (
        *((name, Request((without_grid,)), "its inputs are not images") for name in OF_IMAGES),
        ("changes", Request(tuple(runs), neurons=(7,)), "there is no neuron 7"),
        ("top", Request(tuple(runs), neurons=(7,)), "there is no neuron 7"),
        ("features", Request(tuple(runs), sample=10), "there is no sample 10"),
        ("embedding", Request((one,), embedding="tsne"), "t-SNE needs 4 neurons"),
        ("theorems", Request(tuple(runs)), "the theorems need one output"),
        ("bernoulli", Request((bare,)), "needs the trajectory file of a run"),
        ("growth", Request((bare,)), "needs W and a"),
        ("order", Request(()), "name at least one run"),
        ("order", Request(tuple(runs)), r"order is written as one of \.png, \.pdf, \.svg"),
        ("movie", Request(tuple(runs)), r"movie is written as one of \.gif, \.mp4"),
    ):
        path = tmp_path / ("a.gif" if name == "order" and asked.recordings else "a.png")
        for act in (check, write):
            with pytest.raises(ConfigError, match=words):
                act(name, asked, path)
    check("order", Request((without_grid,)), tmp_path / "a.png")
    assert not list(tmp_path.glob("a.*g"))


def test_runs_that_share_nothing_are_not_shown_together(runs, tmp_path):
    with open_recording(make_run(tmp_path / "a.h5", width=9, diffusion=True)) as wide:
        with pytest.raises(ConfigError, match="runs of 7 and 9 neurons have no neurons in common"):
            draw("filters", [runs[0], wide])
        draw("distances", [runs[0], wide])
    keys = {"dataset": "synthetic", "diffusion": True}
    with open_recording(make_run(tmp_path / "b.h5", **keys)) as other:
        draw("filters", [runs[0], other])


def test_names_and_labels_with_dollar_signs_are_no_formulas(tmp_path):
    keys = [{"dataset": own_data(tmp_path, name), "samples": 9} for name in ("a$^$b", "c$^$d")]
    paths = [make_interrupted(tmp_path / "$\\frac$.h5", **keys[0])]
    paths += [make_run(tmp_path / f"{k}.h5", **keys[k]) for k in (0, 1)]
    with opened(paths) as (unfinished, *others):
        assert rendered(draw("distances", [unfinished]))
        arrays = recording_of(np.ones((2, 3, 6)), np.ones((2, 1, 3)), name="$^$")
        assert rendered(draw("distances", [*others, arrays]))


def test_long_labels_stay_within_their_panels(runs, tmp_path):
    keys = {"diffusion": True, "critic_steps": 2, "gradient_penalty": 1.0}
    with open_recording(make_run(tmp_path / "a.h5", **keys)) as other:
        for name in ("filters", "top", "growth", "stability", "embedding"):
            figure = draw(name, [*runs[:2], other], neurons=(1, 2))
            figure.draw_without_rendering()
            spans: dict[float, list[tuple[float, float]]] = {}
            for axes in panels(figure):
                box = axes.title.get_window_extent()
                assert 0 <= box.x0 < box.x1 <= figure.bbox.width
                spans.setdefault(round(axes.get_position().y0, 3), []).append((box.x0, box.x1))
            for row in spans.values():
                for (_, end), (start, _) in pairwise(sorted(row)):
                    assert end <= start, name


def test_runs_of_several_settings_are_named_and_the_first_of_each_side_has_its_color(
    runs, tmp_path
):
    with open_recording(make_run(tmp_path / "b.h5", samples=8)) as other:
        figure = draw("distances", [runs[0], other, runs[1]])
    assert "digits, n = 10, m = 7" in figure.get_suptitle()
    assert "digits, n = 8, m = 7" in figure.get_suptitle()
    colors = [line.get_color() for line in panels(figure)[0].lines]
    assert colors[::2] == [WITHOUT, WITH]
    assert len(set(colors)) == 3


# -- what is shown ---------------------------------------------------------------------------------


def test_distances_are_the_means_over_neurons_and_runs(runs):
    figure = draw("distances", runs)
    for axes, name in zip(panels(figure), ("distance_U", "distance_V"), strict=True):
        assert [line.get_label() for line in axes.lines] == ["without diffusion", "with diffusion"]
        assert [line.get_color() for line in axes.lines] == [WITHOUT, WITH]
        for line, members in zip(axes.lines, (runs[::2], runs[1::2]), strict=True):
            found = [history(run, ["distances"])[f"{name}_mean"] for run in members]
            assert np.array_equal(line.get_xdata(), members[0].time)
            assert np.array_equal(line.get_ydata(), np.mean(found, axis=0))
        assert axes.get_ylim()[0] == 0
        assert len(axes.collections) == 4  # two bands for each label
    assert "mean over 2 initial draws" in figure.get_suptitle()
    assert "seeds 0, 1" in figure.get_suptitle()


def test_a_band_reaches_over_the_quantiles_of_the_neurons(runs):
    (band,) = panels(draw("distances", runs[:1]))[0].collections
    found = history(runs[0], ["distances"])
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == found["distance_U_q95"].max()
    for quantile in ("q05", "q95"):
        assert set(found[f"distance_U_{quantile}"]) <= set(heights)


def test_runs_that_end_early_shorten_the_common_curve(runs, tmp_path):
    with open_recording(make_interrupted(tmp_path / "a.h5", seed=5)) as short:
        figure = draw("distances", [runs[0], short])
        (line,) = panels(figure)[0].lines
        assert np.array_equal(line.get_xdata(), runs[0].time[:3])
        assert figure.get_supxlabel().splitlines() == [
            "a: interrupted at step 10 of 20",
            "discretization not assessed",
        ]


def test_the_input_is_the_sample_that_is_asked_for(runs):
    X, _ = runs[0].samples
    axes = panels(draw("input", runs, sample=4))[0]
    assert np.array_equal(image(axes), X[:, 4].reshape(8, 8))
    assert axes.get_title() == "input 4 of digits"
    assert axes.images[0].get_clim() == (0.0, X[:, 4].max())


def test_a_mosaic_lays_images_out_in_rows():
    images = np.arange(3 * 2).reshape(3, 2)
    x = np.nan
    expected = [
        [x, x, x, x, x, x, x, x],
        [x, 0, 1, x, x, 2, 3, x],
        [x, x, x, x, x, x, x, x],
        [x, x, x, x, x, x, x, x],
        [x, 4, 5, x, x, x, x, x],
        [x, x, x, x, x, x, x, x],
    ]
    np.testing.assert_array_equal(mosaic(images, (1, 2)), expected)


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(1, 1, 1), (2, 2, 1), (4, 2, 2), (7, 4, 2), (10, 4, 3), (12, 4, 3), (24, 6, 4), (400, 20, 20)],
)
def test_a_mosaic_leaves_few_places_empty(count, columns, rows):
    assert mosaic(np.zeros((count, 1)), (1, 1)).shape == (3 * rows, 3 * columns)


@pytest.mark.parametrize("name", ["filters", "changes"])
def test_filters_are_shown_at_the_times_in_their_titles(runs, name):
    figure = draw(name, runs[:2], neurons=(5, 0, 2), times=(0.0, 0.26, 1.0))
    at = [0, 1, 4] if name == "filters" else [1, 4]
    shown = iter(panels(figure))
    limits = set()  # one for both rows
    for letter, run in zip("ab", runs[:2], strict=True):
        for k in at:
            axes, now = next(shown), run.at(k)
            weights = now.U if name == "filters" else now.change
            assert np.array_equal(image(axes), mosaic(weights[[5, 0, 2]], (8, 8)), equal_nan=True)
            assert axes.get_title() == f"({letter}) {run.label}, t = {now.time:.4g}"
            limits.add(axes.images[0].get_clim())
    ((low, high),) = limits
    assert low == -high < 0
    assert next(shown, None) is None


def test_what_is_the_same_in_both_rows_looks_the_same(runs):
    for name, groups in (
        ("filters", [slice(None)]),
        ("changes", [slice(None)]),
        ("features", [slice(None, None, 2)]),
        ("top", [slice(None)]),
        ("patterns", [[0, 1, 3, 4], [2, 5]]),
    ):
        figure = draw(name, runs[:2])
        shown = np.array(panels(figure), dtype=object)
        for group in groups:
            assert len({axes.images[0].get_clim() for axes in shown[group]}) == 1, name
        assert len(panels(figure, colorbars=True)) - len(shown) == len(groups), name
    for name, pairs in (
        ("symmetry", [(0, 4), (1, 5), (2, 6), (3, 7)]),
        ("forces", [(0, 1), (3, 4)]),  # reaction and diffusion of a layer
        ("growth", [(0, 1)]),
        ("ranking", [(0, 1)]),
        ("stability", [(0, 2), (1, 3)]),
        ("embedding", [(0, 2), (1, 3)]),
        ("dispersion", [(0, 1), (2, 3), (0, 2)]),
    ):
        shown = panels(draw(name, runs[:2]))
        for first, second in ((shown[i], shown[j]) for i, j in pairs):
            assert first.get_xlim() == second.get_xlim(), name
            assert first.get_ylim() == second.get_ylim(), name
            bins = [
                [patch.get_x() for patch in a.patches if hasattr(patch, "get_x")]
                for a in (first, second)
            ]
            assert bins[0] == bins[1]


def test_by_default_first_last_and_one_snapshot_between_are_shown(runs):
    titles = [axes.get_title() for axes in panels(draw("filters", runs[:1]))]
    assert titles == [f"without diffusion, t = {t}" for t in ("0", "1")]  # 0.1 is nearest to 0
    times = runs[0].time[[0, 1, 4]]
    dense = recording_of(np.zeros((5, 1, 1)), np.zeros((5, 1, 1)), time=[0, 1, 4, 9, 10])
    assert Request((dense,)).snapshots(dense) == [0, 1, 4]
    assert Request((runs[0],), times=tuple(times)).snapshots(runs[0]) == [0, 1, 4]
    assert panels(draw("changes", runs[:1]))[0].get_title()[-5:] != "t = 0"


def test_runs_whose_files_have_one_name_are_not_confused(paths, tmp_path):
    for side, path in zip(("a", "b"), paths[:2], strict=True):
        (tmp_path / side).mkdir()
        shutil.copy(path, tmp_path / side / "run.h5")
    with (
        open_recording(tmp_path / "a" / "run.h5") as a,
        open_recording(tmp_path / "b" / "run.h5") as b,
    ):
        for axes, run in zip(panels(draw("features", [a, b]))[::2], (a, b), strict=True):
            U = run.at(-1).U * run.samples[0][:, 0]
            assert np.array_equal(image(axes), mosaic(U, (8, 8)), equal_nan=True)
        dots = [axes.collections[0] for axes in panels(draw("embedding", [a, b]))]
        for found, run in zip(dots[1::2], (a, b), strict=True):
            np.testing.assert_array_equal(found.get_offsets(), principal_plane(run.U[-1])[0])
        shown = [image(axes) for axes in panels(draw("changes", [a, b]))]
        assert not np.array_equal(*shown, equal_nan=True)


def test_neurons_are_chosen_by_how_far_they_moved_in_all_runs(runs):
    moved = sum(hidden_distances(run.U[-1], run.U[0]) for run in runs[:2])
    chosen = Request(tuple(runs[:2]), count=3).chosen_neurons()
    assert set(chosen) == set(np.argsort(moved)[-3:])
    assert chosen.tolist() == sorted(chosen)


def test_random_neurons_depend_on_the_seed_alone_and_are_at_most_all(runs):
    chosen = [Request((runs[0],), "random", 4, seed).chosen_neurons() for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(chosen[0], chosen[1])
    assert len({tuple(neurons) for neurons in chosen}) > 1
    for neurons in chosen:
        assert len(set(neurons)) == 4
        assert set(neurons) <= set(range(7))
    for way in ("displacement", "random"):
        assert Request((runs[0],), way, 400).chosen_neurons().tolist() == list(range(7))


def test_features_are_sorted_at_first_and_at_last(runs):
    figure = draw("features", runs[:2], sample=3)
    x = runs[0].samples[0][:, 3]
    for axes, run in zip(panels(figure)[1::2], runs[:2], strict=True):
        for line, U in zip(axes.lines, (run.U[0], run.U[-1]), strict=True):
            expected = np.sort(np.maximum(U @ x, 0.0))[::-1]
            assert np.array_equal(line.get_ydata(), expected)
            assert np.array_equal(line.get_xdata(), range(1, 8))
    assert len({axes.get_ylim() for axes in panels(figure)[1::2]}) == 1


def test_every_run_is_shown_with_its_own_input(runs, tmp_path):
    keys = {"dataset": "synthetic", "diffusion": True}
    with open_recording(make_run(tmp_path / "b.h5", **keys)) as large:
        for other in (runs[3], large):  # of another seed, and so other samples; of other images
            figure = draw("features", [runs[0], other], neurons=(1, 4))
            shown = np.reshape(panels(figure), (2, 2))
            pictures = panels(draw("input", [runs[0], other]))
            assert figure.get_suptitle().endswith("input 0 of each run, which differ")
            for (maps, features), picture, run in zip(
                shown, pictures, (runs[0], other), strict=True
            ):
                x, now = run.samples[0][:, 0], run.at(-1)
                tiles = mosaic(now.U[[1, 4]] * x, run.grid)
                assert np.array_equal(image(maps), tiles, equal_nan=True)
                assert features.lines[1].get_ydata()[0] == pytest.approx((now.U @ x).max())
                assert np.array_equal(image(picture), x.reshape(run.grid))
                assert picture.get_title().startswith(run.label)
                assert "\ninput 0 of " in picture.get_title()
    figure = draw("features", runs[:2])
    assert figure.get_suptitle().endswith("| input 0")
    assert len(panels(draw("input", runs[:2]))) == 1


def test_the_top_layer_is_shown_first_last_and_its_change(runs):
    run = runs[1]
    shown = panels(draw("top", [run], neurons=(1, 4)))
    now = run.at(-1)
    for axes, V in zip(shown, (now.V_0, now.V, now.V - now.V_0), strict=True):
        assert np.array_equal(image(axes), V[:, [1, 4]])
    assert len({axes.images[0].get_clim() for axes in shown}) == 1


def test_numbers_of_many_neurons_do_not_run_into_each_other():
    rng = np.random.default_rng(0)
    run = recording_of(rng.standard_normal((2, 100, 4)), rng.standard_normal((2, 3, 100)))
    for axes in panels(draw("top", [run], count=100)):
        numbers = [text.get_text() for text in axes.get_xticklabels()]
        assert numbers == [str(j) for j in range(0, 100, 4)]


def test_symmetry_counts_every_neuron_and_every_entry(runs):
    figure = draw("symmetry", runs[:2])
    for row, run in zip(np.reshape(panels(figure), (2, 4)), runs[:2], strict=True):
        now = run.at(-1)
        density = row[0].patches[0]
        values, edges, _ = density.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1.0, abs=1e-12)
        assert sum(patch.get_height() for patch in row[1].patches) == 7
        *bars, outline = row[2].patches
        assert sum(bar.get_height() for bar in bars) == outline.get_data().values.sum() == 7
        assert not outline.get_fill()  # first and last are told apart without color
        assert row[2].get_title() == f"mean {morans_i(now.U, (8, 8)).mean():.3f}"
        assert [line.get_label() for line in row[3].lines] == ["$u_j(0)$", "change"]
    for column in np.reshape(panels(figure), (2, 4)).T:
        assert column[0].get_xlim() == column[1].get_xlim()


def test_order_shows_measures_over_time(runs):
    shown = panels(draw("order", runs[:2]))
    names = ("cv_U", "gini_U", "ks_U", "kurtosis_U", "effective_rank", "morans_i_U")
    names += ("wavelength_change", "correlation_length_change")
    for axes, name in zip(shown, names, strict=True):
        for line, run in zip(axes.lines, runs[:2], strict=True):
            assert np.array_equal(line.get_ydata(), history(run)[name], equal_nan=True), name


def test_a_peak_wavelength_is_never_a_mean_over_runs(runs):
    axes = panels(draw("order", runs))[6]
    assert len(axes.lines) == 4  # each run has its points: without, without, with, with
    for line, run in zip(axes.lines, (runs[0], runs[2], runs[1], runs[3]), strict=True):
        assert np.array_equal(line.get_ydata(), history(run)["wavelength_change"], equal_nan=True)
        assert line.get_linestyle() == "None"
    assert not axes.collections  # nor bands
    assert len({line.get_marker() for line in axes.lines[::2]}) == 2


def test_ticks_are_apart_and_whole_where_they_count():
    U = np.random.default_rng(0).standard_normal((2, 32, 784))
    noise = recording_of(U, np.ones((2, 1, 32)), grid=(28, 28))
    figure = draw("symmetry", [noise])
    figure.draw_without_rendering()
    axes = panels(figure)[2]  # Moran's I, some hundredths
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    boxes = [text.get_window_extent() for x, text in ticks if low <= x <= high]
    assert all(right.x0 - left.x1 > 20 for left, right in pairwise(boxes))
    (axes,) = panels(draw("subspace", [noise]))
    assert all(float(x).is_integer() for x in axes.get_xticks())


def test_logarithmic_axes_say_tenths_in_full(runs):
    with settings():
        axes = panels(draw("forces", runs[:2]))[0]
        axes.set_ylim(0.05, 20)
        shown = {text.get_text() for text in axes.get_yticklabels()}
    assert {r"$\mathdefault{0.1}$", r"$\mathdefault{1}$"} <= shown


def test_growth_along_the_spectrum_is_comparable_between_panels(runs):
    shown = panels(draw("dispersion", runs[:2]))
    assert [line.get_label() for line in shown[-1].lines] == ["both", "reaction", "diffusion"]
    assert len({axes.get_ylim() for axes in shown}) == 1


def test_the_label_of_a_movies_distances_fits(runs):
    final = [run.at(-1).change for run in runs[:2]]
    figure, *_ = movie._frame(runs[:2], final, runs[0].time, 1.0)
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    label = axes.yaxis.label.get_window_extent()
    assert axes.bbox.y0 <= label.y0 < label.y1 <= axes.bbox.y1


def test_the_subspace_is_the_sum_of_shares(runs):
    figure = draw("subspace", runs)
    (axes,) = panels(figure)
    for line, run in zip(axes.lines, (runs[0], runs[2], runs[1], runs[3]), strict=True):
        assert np.array_equal(line.get_ydata(), np.cumsum(trajectory_shares(run.U)))
    (legend,) = figure.findobj(Legend)
    assert [text.get_text() for text in legend.get_texts()] == [
        "without diffusion",
        "with diffusion",
    ]


def test_the_embedding_colors_neurons_by_their_distance(runs):
    for embedding in ("pca", "tsne"):
        first, last = panels(draw("embedding", runs[1:2], embedding=embedding))
        now = runs[1].at(-1)
        for axes in (first, last):
            dots = axes.collections[0]
            assert axes.get_aspect() == 1.0
            assert axes.get_xlim() == axes.get_ylim()
            assert np.array_equal(dots.get_array(), hidden_distances(now.U, now.U_0))
            assert dots.get_offsets().shape == (7, 2)


def value_axis_of(*curves):
    axes = Figure().subplots()
    for curve in curves:
        axes.plot(range(len(curve)), curve)
    value_axis([axes], "rate")
    return axes


def test_an_axis_of_values_is_logarithmic_where_all_are_positive():
    axes = value_axis_of([8.0, 1.0, 0.1], [0.0, 0.0, 0.0], [np.inf, np.nan, 0.5])
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "rate")
    low, high = axes.get_ylim()
    assert 0.1 / 30 < low < 0.1
    assert high > 8


def test_what_has_died_out_does_not_flatten_the_rest():
    low, _ = value_axis_of([1.0, 1e-16]).get_ylim()
    assert low == 1e-4
    axes = Figure().subplots()
    axes.plot([0, 1], [1.0, 0.5])
    axes.fill_between([0, 1], [1e-9, 0.0], [2.0, 2.0])
    value_axis([axes], "rate")
    assert axes.get_ylim()[0] == 0.5 / 30


@pytest.mark.parametrize(
    ("curve", "linear"), [([8.0, -0.02, 0.1], 0.01), ([8.0, 0.0, 0.5], 0.1), ([8.0, -1e-9], 1e-3)]
)
def test_an_axis_of_values_of_both_signs_is_linear_about_0_and_says_so(curve, linear):
    axes = value_axis_of(curve)
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylabel() == f"rate\nlinear below {linear:g}"
    assert axes.yaxis.get_transform().linthresh == pytest.approx(linear)
    assert axes.get_ylim()[0] == 1.5 * min(curve)
    assert value_axis_of([0.0, 0.0]).get_yscale() == "linear"


def test_curves_are_told_apart_without_color(runs):
    for name in ("distances", "forces", "order", "subspace"):
        for axes in panels(draw(name, runs[:2])):
            lines = [line for line in axes.lines if line.get_label() in ALL_LABELS]
            styles = [str((line._unscaled_dash_pattern, line.get_marker())) for line in lines]
            assert len(set(styles)) == len(styles)
    without, driven = panels(draw("growth", runs[:2]))
    assert [line.get_label() for line in without.lines] == ["mean over neurons, all of it reaction"]
    for axes in (driven, panels(draw("dispersion", runs[:2]))[-1]):
        assert len(axes.lines) == 3
        assert len({str(line._unscaled_dash_pattern) for line in axes.lines}) == 3
        dashed = [line for line in axes.lines if line.get_linestyle() != "-"]
        assert {line.get_marker() for line in dashed} == {"None"}  # it would hide the dashes
    assert driven.lines[0].get_marker() == "o"  # where the snapshots are
    assert "dots: 5 of 5 snapshots" in driven.figure.get_suptitle()
    modes = panels(draw("stability", runs[:1]))[0].lines[:3]
    assert len({line.get_marker() for line in modes}) == 3


def test_forces_that_are_0_are_said_where_the_axis_cannot_show_them(runs):
    for which, scale, words in (
        ([0], "log", "\n0 without diffusion"),
        ([1], "log", ""),
        ([0, 1], "log", "\n0 without diffusion"),
    ):
        shown = np.reshape(panels(draw("forces", [runs[k] for k in which])), (2, -1))
        for reaction, diffusion in shown[:, :2]:
            assert reaction.get_yscale() == "log"
            assert diffusion.get_yscale() == scale
            assert diffusion.get_title().endswith(
                f"$D\\,\\|\\Delta^u_j\\|${words}".replace(
                    "u_j", "u_j" if diffusion is shown[0, 1] else "v_j"
                )
            )


def test_the_state_whose_stability_is_shown_is_named(runs):
    titles = [axes.get_title() for axes in panels(draw("stability", runs[:2]))[::2]]
    for title, label in zip(titles, ALL_LABELS, strict=True):
        assert title.startswith(f"state reached {label}, t = 1:\n")


def test_patterns_have_the_sign_that_is_nearer_to_the_change(runs):
    shown = np.reshape(panels(draw("patterns", runs[:2], count=7)), (2, 3))
    aligned = 0
    for first, last, change in shown:
        tiles = [image(axes)[~np.isnan(image(axes))] for axes in (first, last, change)]
        run = runs[int(first is shown[1, 0])]
        moved = mosaic(run.at(-1).change, (8, 8))
        assert np.array_equal(tiles[2], moved[~np.isnan(moved)])
        for pattern in (first, last):
            for product in _products_by_tile(image(pattern), image(change)):
                assert product >= 0.0
                aligned += product > 0.0
    assert aligned > 10  # the others have not moved


def _products_by_tile(one: np.ndarray, other: np.ndarray):
    """The scalar products of the images of two mosaics."""
    for row in range(0, len(one), 10):
        for column in range(0, one.shape[1], 10):
            tile = slice(row + 1, row + 9), slice(column + 1, column + 9)
            yield float(np.nansum(one[tile] * other[tile]))


def test_diffusivity_and_diffusion_have_different_letters(runs):
    for name in ("forces", "scaling", "schematic"):
        texts = [text.get_text() for text in draw(name, runs[:2]).findobj(Text)]
        assert not any("D^" in text for text in texts), name
        assert any(r"\Delta^u_j" in text for text in texts), name


# -- theorems --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theory(tmp_path_factory):
    """Runs of the theorems' set-up, without and with diffusion, to the residual's resolution."""
    folder = tmp_path_factory.mktemp("theory")
    keys = {"preset": "theory", "dataset": "digits", "samples": 3, "width": 300, "rtol": 2e-4}
    keys |= {"backend": "numpy", "threads": 1, "trainable": "U,W,a", "diffusivity": 0.05}
    keys |= {"snapshots": "times:geometric:6", "scalars": "times:every:0.5", "end_time": 40.0}
    paths = [
        prdsim.run(**keys, diffusion=side, output=str(folder / f"{side}.h5")).path
        for side in (False, True)
    ]
    with opened(paths) as recordings:
        yield recordings


def test_theorems_are_shown_over_the_logarithm_of_time_with_their_ratio(theory):
    figure = draw("theorems", theory)
    assert_legends_cross_nothing(figure)
    shown = np.reshape(panels(figure), (4, 2))
    for axes in shown.ravel():
        assert axes.get_xscale() == "log"
        assert axes.get_xlim() == (theory[0].time[1], theory[0].time[-1])
    for axes, run, number in zip(shown[0], theory, (1, 2), strict=True):
        report = theorem_report(run.file)
        assert axes.get_title().endswith(f"\n{getattr(report, f'theorem_{number}').ratios}")
        assert "bound / largest distance" in axes.get_title()
    for row in shown[[0, 1, 3]]:
        assert row[0].get_ylim() == row[1].get_ylim()


def test_what_a_run_does_not_resolve_is_neither_shown_nor_fitted(theory):
    figure = draw("bernoulli", theory)
    assert_legends_cross_nothing(figure)
    without, driven = panels(figure)
    residual = recorded_residual(theory[0].file)
    assert residual.ends is not None
    assert residual.norm.min() < residual.resolution < residual.norm[0]
    measured, _, fit = without.lines
    assert measured.get_ydata().min() > residual.resolution
    assert fit.get_xdata()[-1] == measured.get_xdata()[-1] < residual.ends
    limit = f"{residual.resolution:.2g}, its tolerance and rounding"
    assert (
        without.get_title() == f"without diffusion:\nfrom t = {residual.ends:.3g} on below {limit}"
    )
    assert len(driven.lines) == 4  # and the plateau
    assert without.get_ylim() == driven.get_ylim()


def test_theorems_over_the_initial_state_alone_are_refused(theory):
    (alone,) = (
        replace(run, U=run.U[:1], time=run.time[:1], step=run.step[:1]) for run in theory[:1]
    )
    with pytest.raises(
        ConfigError, match="False: holds its initial state alone; nothing has moved"
    ):
        draw("theorems", [alone])


def test_forces_are_shown_over_time_and_each_neurons_at_the_end(runs):
    shown = panels(draw("forces", runs[:2]))
    run = runs[1]
    found = history(run, ["forces"])
    norms = forces_of(run).norms(run.U[-1], run.V[-1], run.W[-1], run.a[-1])
    for row, layer in zip(np.reshape(shown, (2, 3)), "UV", strict=True):
        for axes, kind in zip(row[:2], ("reaction", "diffusion"), strict=True):
            assert np.array_equal(axes.lines[1].get_ydata(), found[f"{kind}_{layer}_mean"])
        dots = row[2].lines[0]
        assert np.array_equal(dots.get_xdata(), getattr(norms, f"reaction_{layer}"))
        assert np.array_equal(dots.get_ydata(), getattr(norms, f"diffusion_{layer}"))


def test_scaling_shows_what_was_measured_and_predicted():
    quick = general.scaling_like(None)
    figure = draw("scaling")
    shown = np.reshape(panels(figure), (4, 4))
    assert "n = 8, $d_{in}$ = 8, m = 8, $d_{out}$ = 4" in figure.get_suptitle()
    rows = [quick.row(quantity, varied) for quantity in FORCES for varied in Sizes._fields]
    for axes, row in zip(shown.ravel(), rows, strict=True):
        _, predicted, *measured = axes.lines
        assert np.array_equal(predicted.get_ydata(), row.predicted)
        assert np.array_equal(measured[0].get_ydata(), row.measured)
        assert f"exponent {row.exponent:.2f}" in axes.get_title()


def test_scaling_takes_the_initial_draw_of_the_run(runs, monkeypatch):
    asked = []
    monkeypatch.setattr(run_tables, "measure_scaling", lambda **keys: asked.append(keys))
    scaling_like(runs[0])
    scaling_like(recording_of(runs[0].U[:], runs[0].V[:]))
    assert asked == [{"init_scale": 1.0, "output_init": "rademacher"}, {}]


def test_a_file_and_its_arrays_give_the_same_picture(paths, runs):
    arrays = arrays_of(paths[1])
    made = recording_of(**arrays, config=runs[1].config, name=runs[1].name)
    for name in ("distances", "changes"):
        assert rendered(draw(name, [made])) == rendered(draw(name, [runs[1]])), name


def test_drawing_leaves_no_settings_behind(runs):
    before = dict(mpl.rcParams)
    draw("distances", runs)
    assert dict(mpl.rcParams) == before


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
@pytest.mark.parametrize("name", ["distances", "filters"])
def test_the_same_figure_is_the_same_file(runs, tmp_path, name, suffix):
    for stem in "ab":
        write(name, Request(tuple(runs)), tmp_path / f"{stem}{suffix}", dpi=40)
    first, second = ((tmp_path / f"{stem}{suffix}").read_bytes() for stem in "ab")
    assert first.startswith(MAGIC[suffix])
    assert len(first) > 1000
    assert first == second
    assert len(list(tmp_path.iterdir())) == 2


def test_dots_per_inch_scale_a_png(runs, tmp_path):
    for dpi in (40, 80):
        write("input", Request((runs[0],)), tmp_path / f"{dpi}.png", dpi=dpi)
    for dpi, size in ((40, (144, 128)), (80, (288, 256))):
        with Image.open(tmp_path / f"{dpi}.png") as picture:
            assert picture.size == size


def test_a_movie_has_a_frame_a_snapshot(runs, one, tmp_path):
    for stem in "ab":
        write("movie", Request(tuple(runs[:2]), count=4), tmp_path / f"{stem}.gif", dpi=30)
    content = (tmp_path / "a.gif").read_bytes()
    assert content.startswith(MAGIC[".gif"])
    assert content == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as movie:
        assert movie.n_frames == len(runs[0]) == 5
    write("movie", Request((one,)), tmp_path / "one.gif", dpi=30)
    with Image.open(tmp_path / "one.gif") as movie:
        assert movie.n_frames == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_mp4_without_ffmpeg_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda _: False))
    with pytest.raises(ConfigError, match="mp4 needs ffmpeg, which is not on the PATH"):
        write("movie", Request((runs[0],)), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="needs ffmpeg")
def test_mp4_with_ffmpeg_is_written(runs, tmp_path):
    write("movie", Request((runs[0],), count=4), tmp_path / "a.mp4", dpi=41)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_ffmpeg_that_fails_leaves_an_error_and_no_file(runs, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat > /dev/null\nexit 8\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4: ffmpeg ended with code 8"):
        write("movie", Request((runs[0],), count=4), tmp_path / "a.mp4", dpi=40)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize("frames", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_movie_that_is_stopped_leaves_the_former_one(runs, tmp_path, number, frames):
    path = tmp_path / "a.gif"
    path.write_bytes(b"former")

    def stopped(items):
        for count, item in enumerate(items):
            if count == frames:
                signal.raise_signal(number)
            yield item

    request = Request((runs[0],), count=4, progress=stopped)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        write("movie", request, path, dpi=30)
    assert [each.name for each in tmp_path.iterdir()] == ["a.gif"]
    assert path.read_bytes() == b"former"


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_folder_that_is_not_there_is_an_error(runs, tmp_path, name):
    kind = "movie" if name == "a.gif" else "top"
    with pytest.raises(OutputError, match=r"cannot write .*: the folder .*/no does not exist"):
        write(kind, Request((runs[0],), count=4), tmp_path / "no" / name, dpi=40)
