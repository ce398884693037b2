"""Filters as the page keeps them: what is unpacked differs from them by half a step at most."""

from __future__ import annotations

import base64
import zlib

import matplotlib as mpl
import numpy as np
import pytest

from prdsim.explorer.frames import LEVELS, Frames, Scales, color_table, packed


def unpacked(text: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What the page's program does: steps at the start, and of the changes at each time."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.int8)
    _, *filters = shape
    count = int(np.prod(filters))
    changes = np.cumsum(steps[count:].reshape(shape), axis=0, dtype=np.int8)
    return steps[:count].reshape(filters), changes


def random_frames(seed: int, scale: float = 1.0) -> Frames:
    rng = np.random.default_rng(seed)
    changes = scale * np.cumsum(rng.standard_normal((9, 4, 6)), axis=0)
    changes[0] = 0.0
    return Frames(rng.standard_normal((4, 6)), changes)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_nothing_is_cut_off_and_no_number_errs_by_more_than_half_a_step(scale):
    runs = [random_frames(seed, scale) for seed in range(2)]
    scales = Scales.of(runs)
    for run in runs:
        start, changes = unpacked(packed(run, scales), run.changes.shape)
        half = 0.5 * (1 + 1e-9)
        assert np.abs(start * scales.start_step - run.start).max() <= half * scales.start_step
        assert np.abs(changes * scales.change_step - run.changes).max() <= half * scales.change_step
        assert np.abs(changes).max() <= LEVELS
        assert not changes[0].any()
    largest = max(np.abs(run.changes).max() for run in runs)
    assert scales.change_step == pytest.approx(largest / LEVELS)


def test_changes_that_jump_from_end_to_end_survive_the_differences():
    changes = np.array([[[0.0]], [[1.0]], [[-1.0]], [[1.0]]])
    frames = Frames(np.array([[2.0]]), changes)
    start, found = unpacked(packed(frames, Scales.of([frames])), changes.shape)
    assert start.tolist() == [[LEVELS]]
    assert found.ravel().tolist() == [0, LEVELS, -LEVELS, LEVELS]


def test_a_run_that_stands_still_can_be_packed():
    frames = Frames(np.zeros((2, 3)), np.zeros((4, 2, 3)))
    start, changes = unpacked(packed(frames, Scales.of([frames])), frames.changes.shape)
    assert not start.any()
    assert not changes.any()


def test_color_scales_are_those_of_the_figures():
    runs = [random_frames(seed) for seed in range(2)]
    scales = Scales.of(runs)
    changes = np.concatenate([run.changes.ravel() for run in runs])
    filters = np.concatenate([(run.start + run.changes).ravel() for run in runs])
    assert scales.changes_limit == pytest.approx(np.quantile(np.abs(changes), 0.995))
    assert scales.weights_limit == pytest.approx(np.quantile(np.abs(filters), 0.995))


def test_colors_go_from_one_end_to_the_other_through_white():
    colors = np.frombuffer(base64.b64decode(color_table()), dtype=np.uint8).reshape(-1, 3)
    assert len(colors) == 2 * LEVELS + 1
    for place, value in ((0, 0.0), (LEVELS, 0.5), (-1, 1.0)):
        assert colors[place].tolist() == list(mpl.colormaps["RdBu_r"](value, bytes=True)[:3])
    assert colors[LEVELS].min() > 240
