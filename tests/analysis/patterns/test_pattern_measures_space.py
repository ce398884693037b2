"""Subspaces of changes and trajectories, and neurons in a plane, against planted ones and SVD."""

from __future__ import annotations

import sys
from math import exp, log, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import EPS, normal
from threadpoolctl import threadpool_info

import prdsim
from prdsim.analysis import arrays
from prdsim.analysis.patterns.embedding import principal_plane, tsne
from prdsim.analysis.patterns.subspace import (
    effective_rank,
    participation_ratio,
    singular_values,
    trajectory_shares,
)
from prdsim.errors import ConfigError


def orthonormal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(normal(rows, columns, seed=seed))[0]


def planted(m: int, d_in: int, values: list[float]) -> np.ndarray:
    """A matrix (m, d_in) of the given singular values, the others 0."""
    k = len(values)
    return orthonormal(m, k) * values @ orthonormal(d_in, k, seed=1).T


# ------------------------------------------------------------------------ a change's subspace


def test_singular_values_of_a_planted_change():
    """A backward stable SVD: within a few eps of the largest value, more for its products."""
    for shape in [(9, 6), (6, 9)]:
        values = singular_values(planted(*shape, [5.0, 2.0, 0.5]))
        expected = [5.0, 2.0, 0.5, 0.0, 0.0, 0.0]
        np.testing.assert_allclose(values, expected, rtol=0, atol=5 * 50 * EPS)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_equal_singular_values_count_as_their_number(k):
    """The zeros of a matrix of rank k come out as 1e-16 of the largest: p log p of six of them is
    below 6 * 40 eps."""
    values = singular_values(planted(8, 7, [3.0] * k))
    assert effective_rank(values) == pytest.approx(k, rel=500 * EPS)
    assert participation_ratio(values) == pytest.approx(k, rel=100 * EPS)


def test_uneven_singular_values_by_hand():
    """(3, 1): p = 3/4, 1/4, and (9 + 1)^2 / (81 + 1)."""
    entropy = 0.75 * log(4 / 3) + 0.25 * log(4)
    assert effective_rank([3.0, 1.0, 0.0]) == pytest.approx(exp(entropy), rel=8 * EPS)
    assert participation_ratio([3.0, 1.0, 0.0]) == pytest.approx(100 / 82, rel=8 * EPS)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(1e-140, 1e140))
def test_ranks_have_bounds_and_no_scale(values, scale):
    """Squares are less even than values, and the sum of squared shares weighs the largest more: 1
    <= participation ratio <= effective rank <= number. Scaling rounds each value by eps / 2."""
    ranks = participation_ratio(values), effective_rank(values)
    slack = 1 + 1000 * EPS
    assert 1 <= ranks[0] * slack <= ranks[1] * slack**2 <= len(values) * slack**3
    scaled = [scale * value for value in values]
    assert participation_ratio(scaled) == pytest.approx(ranks[0], rel=1000 * EPS)
    assert effective_rank(scaled) == pytest.approx(ranks[1], rel=1000 * EPS)


# ------------------------------------------------------------------- a trajectory's subspace


def dense_shares(snapshots: np.ndarray) -> np.ndarray:
    points = snapshots.reshape(len(snapshots), -1)
    squares = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) ** 2
    return np.pad(squares / squares.sum(), (0, max(0, len(points) - squares.size)))


@pytest.mark.parametrize("shape", [(6, 5, 4), (9, 2, 3), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("block", [1, 48, 2**22])
def test_trajectory_shares_are_those_of_the_dense_svd(shape, block, monkeypatch):
    """Both are good to a few eps of the total."""
    monkeypatch.setattr(arrays, "BLOCK", block)
    snapshots = normal(*shape).cumsum(axis=0)
    shares = trajectory_shares(snapshots)
    assert shares.shape == shape[:1]
    np.testing.assert_allclose(shares, dense_shares(snapshots), rtol=0, atol=100 * EPS)


def test_a_planted_trajectory_of_three_dimensions():
    """Circles of radii 3 and 1 and a line, all orthogonal: variances 9/2, 9/2, 1/2, 1/2 and 4."""
    phase = 2 * pi * np.arange(40) / 40
    line = np.where(np.arange(40) % 2, 2.0, -2.0)
    coordinates = [
        *(3 * np.cos(phase), 3 * np.sin(phase)),
        *(np.cos(3 * phase), np.sin(3 * phase)),
        line,
    ]
    motion = np.transpose(coordinates) @ orthonormal(7 * 6, 5).T
    shares = trajectory_shares(motion.reshape(40, 7, 6))
    expected = np.array([4.5, 4.5, 4.0, 0.5, 0.5]) / 14
    np.testing.assert_allclose(shares[:5], expected, rtol=100 * EPS)
    assert shares[5:].max() < 1e-15


def test_steps_at_right_angles_have_the_shares_of_a_random_walk():
    """K points, each an orthonormal step from the last: the centered Gram matrix is the
    pseudo-inverse of the Laplacian of a path, whose eigenvalues are 4 sin^2(pi k / (2 K))."""
    count = 30
    points = np.tril(np.ones((count, count)), -1) @ orthonormal(8 * 5, count).T
    inverse = 1 / np.sin(pi * np.arange(1, count) / (2 * count)) ** 2
    shares = trajectory_shares(points.reshape(count, 8, 5))
    np.testing.assert_allclose(shares[:-1], inverse / inverse.sum(), rtol=0, atol=100 * EPS)
    # 6 / (pi k)^2 in the limit, from which 1 / K^2 is missing.
    assert shares[0] == pytest.approx(6 / pi**2, rel=3 / count**2)


def test_small_motion_of_large_weights_keeps_its_digits():
    """Weights of 1e6 that move by 1: the motion itself is rounded to 1e-10, its squared shares to
    twice that; the Gram matrix of the weights as they stand would be good to 1e12 eps = 2e-4."""
    motion = normal(6, 5, 4)
    shares = trajectory_shares(1e6 * normal(1, 5, 4, seed=1) + motion)
    np.testing.assert_allclose(shares, dense_shares(motion), rtol=0, atol=1e-9)


def test_snapshots_of_a_file_are_read_by_blocks_of_neurons(tmp_path, monkeypatch):
    """A run's own file; where 9 numbers are a block, less than a neuron, each is read alone."""
    path = tmp_path / "run.h5"
    prdsim.run(dataset="digits", samples=8, width=5, steps=6, snapshots="every:2", output=str(path))
    with prdsim.open_trajectory(path) as trajectory:
        expected = dense_shares(trajectory.U[:])
        for block in (2**22, 9):
            monkeypatch.setattr(arrays, "BLOCK", block)
            shares = trajectory_shares(trajectory.U)
            # Motion of 1e-2 of weights of 1: rounding of both is below 1e-10 of the total.
            np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-10)


class Recorder:
    """An array that says what was read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.read = array, array.shape, []

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        part = self.array[key]
        self.read.append(part.shape)
        return part


def test_no_more_than_a_block_is_ever_read(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 50)  # two neurons of 4 * 6 numbers
    snapshots = Recorder(normal(4, 5, 6))
    trajectory_shares(snapshots)
    assert snapshots.read == [(4, 2, 6), (4, 2, 6), (4, 1, 6)]


def test_what_stands_still_has_no_shares():
    """0.1 is not the mean of three of itself once rounded."""
    assert np.isnan(trajectory_shares(np.full((3, 2, 4), 0.1))).tolist() == [True] * 3
    assert np.isnan(trajectory_shares(normal(1, 2, 4))).tolist() == [True]


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [
        (np.ones((3, 4)), r"snapshots must be \(K, m, d_in\) and not empty, but are \(3, 4\)"),
        (np.ones((3, 0, 4)), r"snapshots must be .* are \(3, 0, 4\)"),
        (np.full((3, 2, 4), np.nan), "snapshots holds NaN or infinity"),
    ],
)
def test_trajectory_shares_refuse_bad_arrays(snapshots, message):
    with pytest.raises(ConfigError, match=message):
        trajectory_shares(snapshots)


# -------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)], ids=str)
def test_the_principal_plane_of_planted_neurons(shape):
    """Coordinates of mean 0 and orthogonal, 3 to 1 in length, in a plane: PCA returns them, with
    the sign that makes the largest loading positive. Products of numbers up to 3: 100 eps."""
    m, d_in = shape
    centered = np.linalg.qr(np.column_stack([np.ones(m), normal(m, 2)]))[0][:, 1:] * [3.0, 1.0]
    axes = orthonormal(d_in, 2, seed=3).T
    signs = [np.sign(axis[np.argmax(np.abs(axis))]) for axis in axes]
    coordinates, shares = principal_plane(centered @ axes + 7.0)
    np.testing.assert_allclose(coordinates, centered * signs, rtol=0, atol=1000 * EPS)
    np.testing.assert_allclose(shares, [0.9, 0.1], rtol=0, atol=1000 * EPS)


def test_the_principal_plane_agrees_with_the_covariance_matrix():
    """Its eigenvalues are the variances of the coordinates; they are well apart here."""
    neurons = normal(30, 6) * [5, 3, 1, 1, 1, 1]
    coordinates, shares = principal_plane(neurons)
    variances = np.linalg.eigvalsh(np.cov(neurons.T, bias=True))[::-1]
    np.testing.assert_allclose(coordinates.var(axis=0), variances[:2], rtol=1000 * EPS)
    np.testing.assert_allclose(shares, variances[:2] / variances.sum(), rtol=1000 * EPS)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0.0, atol=100 * EPS)


def test_signs_follow_the_neurons_and_not_the_solver():
    """Mirrored neurons have mirrored coordinates, and another order of them the same ones."""
    neurons = normal(10, 4) * [5, 3, 1, 1]
    coordinates, _ = principal_plane(neurons)
    np.testing.assert_allclose(principal_plane(-neurons)[0], -coordinates, atol=1000 * EPS)
    np.testing.assert_allclose(principal_plane(neurons[::-1])[0][::-1], coordinates, atol=1e-13)


def test_degenerate_principal_planes():
    for equal in (np.full((3, 4), 0.1), normal(1, 4), np.zeros((2, 1))):
        coordinates, shares = principal_plane(equal)
        assert coordinates.tolist() == [[0.0, 0.0]] * len(equal)
        assert np.isnan(shares).all()
    coordinates, shares = principal_plane([[1.0], [3.0], [5.0]])
    assert coordinates.tolist() == [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    assert shares.tolist() == [1.0, 0.0]


def two_groups(each: int = 30) -> np.ndarray:
    """Neurons around two points 20 standard deviations apart."""
    neurons = normal(2 * each, 5)
    neurons[each:, 0] += 20.0
    return neurons


def test_tsne_keeps_groups_together():
    """The nearest neighbor of every neuron in the picture is of its own group."""
    pytest.importorskip("sklearn")
    coordinates = tsne(two_groups(), perplexity=10.0)
    assert coordinates.shape == (60, 2)
    assert coordinates.dtype == np.float64
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(np.argmin(distances, axis=1) < 30, np.arange(60) < 30)


@pytest.mark.usefixtures("two_threads")
def test_tsne_gives_the_same_bits_again_on_one_thread(monkeypatch):
    manifold = pytest.importorskip("sklearn.manifold")
    fit, threads = manifold.TSNE.fit_transform, set()

    def observed_fit(method, neurons):
        threads.update(pool["num_threads"] for pool in threadpool_info())
        return fit(method, neurons)

    monkeypatch.setattr(manifold.TSNE, "fit_transform", observed_fit)
    neurons = normal(50, 6)
    assert np.array_equal(tsne(neurons), tsne(neurons))
    assert threads == {1}


@pytest.mark.parametrize("neurons", [normal(4, 3), normal(5, 1), np.eye(6)], ids=len)
def test_tsne_of_few_neurons_lowers_the_perplexity(neurons):
    pytest.importorskip("sklearn")
    coordinates = tsne(neurons)
    assert coordinates.shape == (len(neurons), 2)
    assert np.isfinite(coordinates).all()


def test_tsne_of_neurons_partly_or_all_equal():
    """As at t = 0, or where some never move."""
    pytest.importorskip("sklearn")
    neurons = normal(12, 4)
    neurons[:5] = 0.0
    assert np.isfinite(tsne(neurons)).all()
    assert not tsne(np.full((6, 4), 0.1)).any()


def test_tsne_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="t-SNE needs 4 neurons or more, not 3: use PCA"):
        tsne(normal(3, 5))
    for perplexity in (0.0, float("nan")):
        with pytest.raises(ConfigError, match="perplexity must be positive, not"):
            tsne(normal(9, 5), perplexity=perplexity)


def test_tsne_without_scikit_learn_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    message = r"scikit-learn, which is not installed: pip install 'prdsim\[tsne\]'"
    with pytest.raises(ConfigError, match=message):
        tsne(normal(9, 5))
