"""Operands for the checks of operations, and the comparison of results with an expression.

Operands are numbers of the backend's type, the same on both sides. Results that cannot round must
agree in every entry; others err by a share of the sum of moduli, entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prdsim.verification.rounding import ROUNDING, gamma

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend
    from prdsim.physics.state import Dimensions

# 401 x 397 has enough entries for parallel loops, and two primes.
SHAPES = ((1, 1), (1, 7), (7, 1), (5, 3), (401, 397))
UNIT64 = ROUNDING["float64"].unit
EXACT = "entries that differ: nothing rounds"
_SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5]


class Finding(NamedTuple):
    """A compared item, its error, the error allowed, and the reason for that allowance."""

    item: str
    measured: float
    allowed: float
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the error is within the allowance; NaN is not."""
        return self.measured <= self.allowed

    @property
    def severity(self) -> float:
        """The error in units of the allowance."""
        if self.measured == 0.0:
            return 0.0
        share = self.measured / self.allowed if self.allowed > 0.0 else float("inf")
        return share if share == share else float("inf")


class Operands:
    """Draws operands, puts them on a backend, applies an operation, and compares the result."""

    def __init__(self, backend: Backend, sizes: Dimensions, seed: int = 0) -> None:
        self.k = backend
        self.sizes = sizes
        self.rounding = ROUNDING[backend.precision]
        self.spoiled = 0
        self._random = np.random.default_rng(seed)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of matrices: the fixed ones, and the run's own."""
        s = self.sizes
        return [*SHAPES, (s.m, s.n), (s.d_out, s.n), (s.m_c, s.n), (s.m, s.d_in)]

    def normal(self, *shape: int) -> HostArray:
        """Normal numbers, some of them zeros of both signs, in the backend's type."""
        array = self._random.standard_normal(shape).astype(self.k.dtype)
        array.reshape(-1)[::5] *= 0.0
        return array

    def integers(self, bits: int, *shape: int) -> HostArray:
        """Integers of the given number of bits, in the backend's type."""
        return self._random.integers(-(2**bits) + 1, 2**bits, shape).astype(self.k.dtype)

    def pairs(self) -> Iterator[tuple[HostArray, HostArray]]:
        """Yield two matrices of every shape, and all pairs of zeros, infinities and NaN."""
        for shape in self.shapes:
            yield self.normal(*shape), self.normal(*shape)
        special = np.array(len(_SPECIAL) * [_SPECIAL], self.k.dtype)
        yield special, special.T.copy()

    def matrices(self) -> Iterator[HostArray]:
        """Yield the first matrices of `pairs`."""
        return (A for A, _ in self.pairs())

    def load(self, host: HostArray) -> Array:
        """Return a device array that holds ``host``."""
        array = self.k.empty(host.shape, host.dtype.name)
        self.k.to_device(host, array)
        return array

    def unset(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Return a device array that an operation must overwrite completely."""
        name = dtype or self.k.dtype.name
        return self.load(np.full(shape, 77 if name == "uint8" else np.nan, name))

    def apply(
        self,
        operation: Callable[..., None],
        *hosts: HostArray,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        alias: int | None = None,
    ) -> HostArray:
        """Return ``out`` of operation(*operands, out=out), in place of an operand if ``alias``."""
        operands = [self.load(host) for host in hosts]
        out = self.unset(shape or hosts[0].shape, dtype) if alias is None else operands[alias]
        operation(*operands, out=out)
        for index, (host, operand) in enumerate(zip(hosts, operands, strict=True)):
            if index != alias:
                self.left_alone(operand, host)
        return self.k.to_host(out)

    def left_alone(self, operand: Array, host: HostArray) -> None:
        """Count the entries of an operand that have changed."""
        self.spoiled += differing(self.k.to_host(operand), host)

    def rounded(
        self, where: str, computed: HostArray, expected: HostArray, moduli: HostArray, count: int
    ) -> Finding:
        """Compare a result of ``count`` roundings with a float64 expression of as many."""
        allowed = gamma(count, self.rounding.unit) + gamma(count, UNIT64)
        reason = f"gamma of {count} rounding{'s' * (count > 1)}"
        return Finding(where, share(computed, expected, moduli), allowed, reason)


def differing(computed: HostArray, expected: HostArray) -> int:
    """Count entries that differ (NaN equals NaN, -0 equals 0); all, if the types do."""
    if computed.dtype != expected.dtype or computed.shape != expected.shape:
        return max(computed.size, 1)
    return int(np.count_nonzero(~_equal(computed, expected)))


def _equal(computed: HostArray, expected: HostArray) -> HostArray:
    both_nan = (computed != computed) & (expected != expected)
    equal: HostArray = (computed == expected) | both_nan
    return equal


def share(computed: HostArray, expected: HostArray, moduli: HostArray) -> float:
    """Return the largest error as a share of its modulus.

    Infinite if an entry is not finite but should be, or vice versa.
    """
    error = np.abs(computed.astype(np.float64) - expected)
    shares = np.where(_equal(computed, expected), 0.0, error / moduli)
    largest = float(np.max(shares, initial=0.0))
    return largest if largest == largest else float("inf")


def same(where: str, computed: HostArray, expected: HostArray) -> Finding:
    """Compare results without rounding."""
    return Finding(where, differing(computed, expected), 0.0, EXACT)


def sizes_of(*sizes: int) -> str:
    """Return sizes as words: 5x3."""
    return "x".join(map(str, sizes))


def in_float64(*arrays: HostArray) -> list[HostArray]:
    """Return arrays in float64, for the expressions."""
    return [array.astype(np.float64) for array in arrays]
