"""Krylov's method against dense factorizations, in inner products of its own."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest

from prdsim.analysis.stability import krylov
from prdsim.analysis.stability.krylov import (
    CancellationError,
    Pairs,
    held_vectors,
    krylov_bytes,
    leading_pairs,
)


@dataclass
class Matrix:
    """A matrix A in the inner product <x, y> = x . M y."""

    A: np.ndarray
    M: np.ndarray
    precision: float = 2.0**-52
    euclidean: bool = False
    products: int = field(default=0)

    @property
    def size(self) -> int:
        return len(self.A)

    def __call__(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.products += 1
        return self.A @ vector, self.M @ vector

    def pairs(self, count: int, *, symmetric: bool, accuracy: float = 1e-9, seed: int = 0) -> Pairs:
        start = np.random.default_rng(seed).standard_normal(self.size)
        return leading_pairs(self, start, count, symmetric=symmetric, accuracy=accuracy)


def random_matrix(size: int, *, symmetric: bool, seed: int = 0) -> Matrix:
    """Random, with a random inner product; symmetric means with regard to that."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size)) / np.sqrt(size) + 2 * np.eye(size)
    A = rng.standard_normal((size, size)) / np.sqrt(size)
    if symmetric:
        A = np.linalg.solve(root, (A + A.T) @ root)  # M A = root^T (A + A^T) root
    return Matrix(A, root.T @ root)


def check(matrix: Matrix, found: Pairs, count: int, accuracy: float) -> None:
    """The leading eigenvalues, of residuals within what was asked, and unit vectors."""
    expected = np.linalg.eigvals(matrix.A)
    expected = expected[np.argsort(-expected.real)]
    scale = np.abs(expected).max()
    assert len(found.values) == count
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert np.abs(found.values.real - expected.real[:count]).max() < 1e-6 * scale
    for value, x in zip(found.values, found.vectors.T, strict=True):
        rest = matrix.A @ x - value * x
        square = np.vdot(rest, matrix.M @ rest).real
        # Two roundings for each of 320 products at the most, beside what was asked for.
        assert np.sqrt(square) <= (1.01 * accuracy + 1e-12) * scale
        assert np.vdot(x, matrix.M @ x).real == pytest.approx(1.0)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("count", [1, 6])
def test_leading_pairs_are_those_of_the_whole_matrix(symmetric, count):
    matrix = random_matrix(300, symmetric=symmetric)
    found = matrix.pairs(count, symmetric=symmetric)
    assert np.iscomplexobj(found.values) == np.iscomplexobj(found.vectors) == (not symmetric)
    if not symmetric and count > 1:
        assert (found.values.imag != 0).any(), "pairs of complex eigenvalues are among them"
    check(matrix, found, count, 1e-9)
    assert matrix.products < 300


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_full_basis_is_restarted(symmetric, monkeypatch):
    """40 vectors of 300; without restarts there would be no more than 41 products."""
    monkeypatch.setattr(krylov, "_MOST_HELD", 40)
    matrix = random_matrix(300, symmetric=symmetric)
    assert held_vectors(matrix.size, 4, euclidean=False) == 40
    found = matrix.pairs(4, symmetric=symmetric)
    assert matrix.products > 41
    check(matrix, found, 4, 1e-9)


@pytest.mark.parametrize("symmetric", [True, False])
def test_coordinates_that_mean_nothing_do_no_harm(symmetric):
    """Vectors x stand for T x, 50 of 80 coordinates: M = T^T T is singular, its kernel is free.

    A is the lift of a matrix on what they stand for, with something left over in the kernel.
    """
    rng = np.random.default_rng(2)
    T = rng.standard_normal((50, 80)) / 7
    small = random_matrix(50, symmetric=False).A
    small = small + small.T if symmetric else small
    inverse = np.linalg.pinv(T)
    kernel = np.eye(80) - inverse @ T
    lifted = Matrix(
        inverse @ small @ T + kernel @ rng.standard_normal((80, 80)) @ inverse @ T, T.T @ T
    )
    found = lifted.pairs(5, symmetric=symmetric)
    expected = np.sort(np.linalg.eigvals(small).real)[::-1][:5]
    assert np.abs(found.values.real - expected).max() < 1e-8
    for value, x in zip(found.values, found.vectors.T, strict=True):
        assert np.linalg.norm(small @ T @ x - value * (T @ x)) < 1e-7
        assert np.linalg.norm(T @ x) == pytest.approx(1.0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_what_the_start_does_not_reach_ends_the_search(symmetric):
    """Three eigenvalues of many vectors each: the start has one vector for each."""
    values = np.repeat([2.0, 0.0, -1.0], 30)
    matrix = Matrix(np.diag(values), np.eye(90))
    found = matrix.pairs(6, symmetric=symmetric)
    assert found.values.real == pytest.approx([2.0, 0.0, -1.0], abs=1e-12)
    assert matrix.products == 4
    assert np.abs(matrix.A @ found.vectors - found.vectors * found.values).max() < 1e-12


def test_nothing_at_all_is_an_eigenvalue_of_zero():
    found = Matrix(np.zeros((60, 60)), np.eye(60)).pairs(3, symmetric=True)
    assert found.values.tolist() == [0.0]
    assert found.scale == 0.0


def test_what_has_not_converged_is_left_out(monkeypatch):
    monkeypatch.setattr(krylov, "_PRODUCTS", 45)
    matrix = random_matrix(400, symmetric=True, seed=3)
    found = matrix.pairs(6, symmetric=True, accuracy=1e-3)
    assert matrix.products <= 45 + krylov._LOOK
    assert 0 < len(found.values) < 6
    expected = np.sort(np.linalg.eigvals(matrix.A).real)[::-1]
    assert np.abs(found.values - expected[: len(found.values)]).max() < 1e-3 * found.scale


def test_products_that_overflow_are_said():
    for A in (np.full((50, 50), 1e308), np.full((50, 50), np.nan)):
        with (
            np.errstate(over="ignore", invalid="ignore"),
            pytest.raises(FloatingPointError, match="not finite"),
        ):
            Matrix(A, np.eye(50)).pairs(3, symmetric=True)


def test_the_basis_is_as_long_as_memory_allows():
    def held(size: int, count: int) -> tuple[int, int]:
        both = (held_vectors(size, count, euclidean=euclidean) for euclidean in (False, True))
        return tuple(both)

    assert held(1000, 6) == (320, 320)
    assert held(1000, 400) == (802, 802), "room for the modes and as many to go on with"
    assert held(10**6, 6) == (67, 134)
    assert held(10**8, 6) == (40, 40)


@pytest.mark.parametrize("euclidean", [True, False])
def test_memory_is_predicted_with_restarts(euclidean, monkeypatch):
    monkeypatch.setattr(krylov, "_MOST_HELD", 60)
    size = 3 * krylov._BLOCK

    class Diagonal:
        values = -np.sqrt(np.linspace(1.0, 0.0, size))
        precision = 2.0**-52

        def __init__(self) -> None:
            self.size, self.euclidean, self.products = size, euclidean, 0

        def __call__(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.products += 1
            return self.values * vector, vector

    operator = Diagonal()
    start = np.random.default_rng(0).standard_normal(size)
    tracemalloc.start()
    found = leading_pairs(operator, start, 3, symmetric=True, accuracy=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert operator.products > 61, "restarted"
    assert peak <= krylov_bytes(size, 3, euclidean=euclidean) <= 1.5 * peak
    rest = operator.values[:, None] * found.vectors - found.vectors * found.values
    assert np.linalg.norm(rest, axis=0).max() < 1e-6


def nonnormal(kind: str, size: int = 300) -> np.ndarray:
    """Not symmetric, with real eigenvalues alone; the two leading ones may be defective."""
    rng = np.random.default_rng(4)
    A = np.diag(np.linspace(-2.0, 1.0, size))
    A += 0.02 * np.triu(rng.standard_normal((size, size)), 1) / np.sqrt(size)
    if kind == "defective":
        A[-2, -2], A[-2, -1] = A[-1, -1], 0.1
    return A


@pytest.mark.parametrize("kind", ["real", "defective"])
def test_restarts_where_eigenvectors_are_real_and_not_orthogonal(kind, monkeypatch):
    monkeypatch.setattr(krylov, "_MOST_HELD", 40)
    A = nonnormal(kind)
    matrix = Matrix(A, np.eye(len(A)), euclidean=True)
    found = matrix.pairs(6, symmetric=False, accuracy=1e-6)
    assert matrix.products > 41
    assert found.scale == pytest.approx(2.0, rel=0.1)
    residuals = np.linalg.norm(A @ found.vectors - found.vectors * found.values, axis=0)
    assert len(residuals) == 6
    assert residuals.max() < 2e-6 * found.scale


@pytest.mark.parametrize("symmetric", [True, False])
def test_coordinates_that_cancel_are_refused(symmetric):
    """Nothing holds down what stands for nothing, where 0 is no eigenvalue: it grows."""
    rng = np.random.default_rng(2)
    T = rng.standard_normal((50, 80)) / 7
    Q = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    small, inverse = (Q * np.linspace(-2.0, -1.0, 50)) @ Q.T, np.linalg.pinv(T)
    free = (np.eye(80) - inverse @ T) @ rng.standard_normal((80, 80))
    lifted = Matrix(inverse @ small @ T + free @ inverse @ T, T.T @ T)
    with pytest.raises(CancellationError):
        lifted.pairs(5, symmetric=symmetric)


@pytest.mark.parametrize("exponent", [-300, -170, -100, 100, 140])
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_scale_is_too_small_or_too_large(exponent, symmetric):
    matrix = random_matrix(120, symmetric=symmetric, seed=5)
    scaled = Matrix(10.0**exponent * matrix.A, matrix.M)
    found = scaled.pairs(3, symmetric=symmetric)
    expected = matrix.pairs(3, symmetric=symmetric)
    assert found.values / 10.0**exponent == pytest.approx(expected.values, rel=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
def test_vectors_that_are_their_own_duals_need_no_second_basis(symmetric):
    A = random_matrix(200, symmetric=False, seed=6).A
    A = A + A.T if symmetric else A
    one, two = (Matrix(A, np.eye(200), euclidean=euclidean) for euclidean in (True, False))
    results = [matrix.pairs(4, symmetric=symmetric) for matrix in (one, two)]
    assert np.array_equal(results[0].values, results[1].values)
    assert np.array_equal(results[0].vectors, results[1].vectors)
