"""Leading eigenpairs of an operator known by its products, in an inner product of its own.

The methods of Lanczos and Arnoldi, restarted as Krylov-Schur is (Stewart, SIAM J. Matrix Anal.
Appl. 23, 2001): when full, the space continues from its leading Ritz vectors. ARPACK does not
suffice here, for two reasons. Vectors represent tangents of the flow by few numbers (see
`prdsim.physics.tangent`), whose inner product is not the sum of their entries' products; and
products are expensive compared with those vectors, so that the basis is kept as long as possible
and convergence checked every few products, which halves their number.

The representation of a tangent need not be unique. A component that represents zero can grow from
product to product, until norms are rounding errors of sums that cancel; this is detected and raises
`CancellationError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Protocol

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import dtrsen

from prdsim.backends.arrays import HostArray

LEAST_HELD = 40
"""Vectors that the basis holds, at the least."""

_MOST_HELD = 320
_HELD_BYTES = 2**30  # for the basis and its duals, unless LEAST_HELD or the modes need more
_LOOK = 10  # products between two checks of the residuals
_BLOCK = 2**12  # entries of vectors that are rotated at once
_PRODUCTS = 10_000
_CANCELLED = 0.1  # rounding error allowed in a norm, as a share of the accuracy
_NEGLIGIBLE = 100.0  # rounding errors below which a new vector counts as zero


class CancellationError(ArithmeticError):
    """Norms have become rounding errors: other coordinates are needed."""


class Operator(Protocol):
    """A linear operator on vectors of ``size`` numbers, float64.

    ``precision`` is the relative rounding error of its products. ``euclidean`` means that every
    vector is its own dual.
    """

    size: int
    precision: float
    euclidean: bool

    def __call__(self, vector: HostArray) -> tuple[HostArray, HostArray]:
        """Return the image of a vector x, and its dual d: <x, y> = d . y for every y."""


@dataclass(frozen=True)
class Pairs:
    """The converged eigenvalues (k,) by descending real part; their unit vectors (size, k).

    Real if the operator is symmetric or all Ritz values are real, else complex. ``scale`` is the
    largest absolute Ritz value found.
    """

    values: HostArray
    vectors: HostArray
    scale: float


def held_vectors(size: int, count: int, *, euclidean: bool) -> int:
    """Return how many vectors of ``size`` numbers the basis holds for ``count`` modes."""
    affordable = _HELD_BYTES // ((1 if euclidean else 2) * 8 * size)
    return max(LEAST_HELD, 2 * count + 2, min(_MOST_HELD, affordable))


def krylov_bytes(size: int, count: int, *, euclidean: bool) -> int:
    """Predict the bytes of `leading_pairs`: the basis and its duals, and the pairs (complex)."""
    held = held_vectors(size, count, euclidean=euclidean)
    basis = (1 if euclidean else 2) * (held + 1) * size
    rotated = held * min(size, _BLOCK)
    return 8 * (basis + rotated + 4 * count * size + 10 * held**2 + 10 * size)


def leading_pairs(
    operator: Operator,
    start: HostArray,
    count: int,
    *,
    symmetric: bool,
    accuracy: float,
    watch: Callable[[int], None] = lambda _: None,
) -> Pairs:
    """Return the ``count`` eigenpairs of largest real part, or those of them that converged.

    Estimates of their residuals are at most ``accuracy`` times the spectral scale. ``start``
    (size,) is the first vector; for a multiple eigenvalue one vector is found, the part of the
    start in its eigenspace, and of several closer than the accuracy one may be missed. ``watch`` is
    called now and then with the number of converged pairs.
    Raises `FloatingPointError` if a product is not finite, `CancellationError` if rounding errors
    of norms exceed the accuracy.
    """
    held = held_vectors(operator.size, count, euclidean=operator.euclidean)
    space = _Space(operator, start, held, symmetric=symmetric, tolerated=_CANCELLED * accuracy)
    scale = 0.0
    while True:
        space.extend()
        values, vectors, residuals = space.ritz()
        scale = max(scale, float(np.abs(values).max()))
        converged = residuals[:count] <= accuracy * scale
        watch(int(converged.sum()))
        enough = len(values) >= max(count, LEAST_HELD)
        if (enough and converged.all()) or space.exhausted or space.products >= _PRODUCTS:
            break
        if space.full:
            space.restart(vectors, space.capacity // 2)
    chosen = np.flatnonzero(converged)
    return Pairs(values[chosen], space.combined(vectors[:, chosen]), scale)


class _Space:
    """A Krylov space: an orthonormal basis q_i, the duals of its vectors, and H.

    A q_i = sum_l H_li q_l for the ``length`` vectors whose images are included; one more vector
    continues the basis.
    """

    def __init__(
        self,
        operator: Operator,
        start: HostArray,
        capacity: int,
        *,
        symmetric: bool,
        tolerated: float,
    ) -> None:
        self._operator, self.capacity = operator, capacity
        self._symmetric, self._tolerated = symmetric, tolerated
        self._basis = np.empty((capacity + 1, operator.size))
        self._duals = self._basis if operator.euclidean else np.empty_like(self._basis)
        self._H = np.zeros((capacity + 1, capacity))
        self.length, self.products, self.exhausted = 0, 0, False
        self._append(start)

    @property
    def full(self) -> bool:
        return self.length == self.capacity

    def _append(self, vector: HostArray) -> float:
        """Append a vector to the basis, normalized; return its original norm."""
        size = float(np.abs(vector).max())  # so that no square over- or underflows
        if not isfinite(size):
            raise FloatingPointError("a product is not finite")
        if size == 0.0:
            self.exhausted = True
            return 0.0
        vector = vector / size
        image, dual = self._operator(vector)
        self.products += 1
        with np.errstate(over="ignore", invalid="ignore"):
            square, terms = float(vector @ dual), float(np.abs(vector) @ np.abs(dual))
        if not isfinite(terms):
            raise FloatingPointError("a product is not finite")
        root = sqrt(max(square, 0.0))
        precision, scale = self._operator.precision, float(np.abs(self._H).max())
        self.exhausted = size * root <= _NEGLIGIBLE * precision * scale
        if not self.exhausted:
            if precision * terms > self._tolerated * square:
                raise CancellationError
            self._basis[self.length], self._duals[self.length] = vector / root, dual / root
            self._image = image / root
        return size * root

    def extend(self) -> None:
        """Add some more images, while there is room and they contain something new."""
        for _ in range(min(_LOOK, self.capacity - self.length)):
            if self.exhausted:
                return
            k, rest = self.length, self._image
            for _ in range(2):  # twice, since rounding leaves components along the basis
                overlaps = self._duals[: k + 1] @ rest
                self._H[: k + 1, k] += overlaps
                rest = rest - overlaps @ self._basis[: k + 1]
            self.length += 1
            self._H[k + 1, k] = self._append(rest)

    def ritz(self) -> tuple[HostArray, HostArray, HostArray]:
        """Return Ritz values by descending real part, their vectors in the basis, and residuals."""
        k = self.length
        H, last = self._H[:k, :k], self._H[k, :k]
        values, vectors = np.linalg.eigh((H + H.T) / 2) if self._symmetric else np.linalg.eig(H)
        order = np.argsort(-values.real, kind="stable")
        values, vectors = values[order], vectors[:, order]
        return values, vectors, np.abs(last @ vectors)

    def restart(self, vectors: HostArray, kept: int) -> None:
        """Restart from the first ``kept`` Ritz vectors, or one more to keep a pair together."""
        k = self.length
        H, last = self._H[:k, :k], self._H[k, :k]
        chosen = vectors[:, :kept] if self._symmetric else _leading_schur_vectors(H, kept)
        p = chosen.shape[1]
        rotated, row = chosen.T @ H @ chosen, last @ chosen
        self._H[:] = 0.0
        self._H[:p, :p], self._H[p, :p] = rotated, row
        for array in (self._basis,) if self._operator.euclidean else (self._basis, self._duals):
            for begin in range(0, array.shape[1], _BLOCK):
                part = array[:, begin : begin + _BLOCK]
                part[:p] = chosen.T @ part[:k]
            array[p] = array[k]
        self.length = p

    def combined(self, vectors: HostArray) -> HostArray:
        """Return combinations of the basis, given by columns, as columns (size, k)."""
        if np.iscomplexobj(vectors):  # separately, to avoid a complex copy of the basis
            return self.combined(vectors.real) + 1j * self.combined(vectors.imag)
        combined: HostArray = self._basis[: self.length].T @ vectors
        return combined


def _leading_schur_vectors(H: HostArray, kept: int) -> HostArray:
    """Return an orthonormal basis of the invariant space of the eigenvalues of largest real part.

    Eigenvectors would not suffice: they may be nearly dependent.
    """
    T, Z = scipy.linalg.schur(H, output="real")
    below = np.append(np.diag(T, -1) != 0, False)
    values = np.diag(T)  # real parts: both entries of a standardized block of two are the same
    chosen = np.zeros(len(T), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:kept]] = True
    chosen[:-1] |= chosen[1:] & below[:-1]
    chosen[1:] |= chosen[:-1] & below[:-1]
    vectors: HostArray = dtrsen(chosen.astype(np.intc), T, Z, job="N")[1]
    return vectors[:, : int(chosen.sum())]
