"""Operations that a backend may record, and what recordings read and leave: see `operations`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.physics import randomness
from prdsim.physics.randomness import Stream
from prdsim.verification.operands import SHAPES, Finding, Operands, same, sizes_of

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Sums

COEFFICIENTS = (1.0, -1.0, 0.3, 2.0, 1 / 3, -7.0, 1e-3, 11.0, 0.7, -0.1, 1 / 7)
_REPLAYS = 6  # a device records after a few calls


def replay(o: Operands) -> Iterator[Finding]:
    """Two recurring tasks in turn, often enough to be recorded: as often as is said, no more.

    Once a call or up to some times in a row, in which a number grows.
    """
    for shape, at_most in product((SHAPES[3], SHAPES[-1]), (1, 5)):
        A, cell = o.normal(*shape), o.load(np.zeros(1, np.uint64))
        tasks = [_Recurring(o, A, cell), _Recurring(o, -A, cell)]
        for _, task in product(range(_REPLAYS), tasks):
            task.replay(at_most)
        for name, task in zip(("first", "second"), tasks, strict=True):
            where = f"{name} of two, {task.done} times"
            yield same(where, o.k.to_host(task.total), task.expected(A.shape[1]))
            most = _REPLAYS * at_most
            wrong = not _REPLAYS <= task.done <= most
            yield Finding(f"{where}, at most {most}", wrong, 0.0, "what it returns")


class _Recurring:
    """total += A + a row of random numbers, drawn by the number of the time."""

    def __init__(self, o: Operands, A: HostArray, cell: Array) -> None:
        self._o, self._A, self._cell, self.done = o, A, cell, 0
        self._term, self.total = o.load(A), o.load(np.zeros_like(A))
        self._row, self._ones = o.unset((A.shape[1],)), o.load(np.ones_like(A))
        self._rows = o.unset(A.shape)

    def replay(self, at_most: int) -> None:
        k = self._o.k
        k.set_word(self.done, out=self._cell)
        self.done += k.replay(self, None, self._add, at_most=at_most, number=self._cell)

    def _add(self) -> None:
        k = self._o.k
        k.uniforms(0, Stream.PENALTY_POINTS, self._cell, 0, out=self._row)
        k.scale_columns(self._row, self._ones, out=self._rows)
        terms = [(1.0, self.total), (1.0, self._term)]
        k.combine(terms, out=self.total)
        k.combine([(1.0, self.total), (1.0, self._rows)], out=self.total)

    def expected(self, n: int) -> HostArray:
        total = np.zeros_like(self._A)
        for number in range(self.done):
            total += self._A
            total += randomness.uniforms(0, Stream.PENALTY_POINTS, number, 0, n).astype(total.dtype)
        return total


def hold(o: Operands) -> Iterator[Finding]:
    """Factors of a held number are the coefficients that they stand for, recorded or not."""
    place, shape = o.k.empty((1,), "float64"), SHAPES[3]
    arrays = [o.load(o.normal(*shape)) for _ in COEFFICIENTS]
    for value, count in product((0.37, -1e-5), range(1, len(arrays) + 1)):
        held, results = o.k.hold(value, place), []
        for number in (held, value):
            factors = [number * c if i % 3 else c for i, c in enumerate(COEFFICIENTS[:count])]
            factors[-1] = number * COEFFICIENTS[count - 1]
            out = o.unset(shape)
            o.k.combine(list(zip(factors, arrays, strict=False)), out=out)
            results.append(o.k.to_host(out))
        yield same(f"{sizes_of(*shape)}, {count} terms", *results)
    yield _recorded(o, place)


def _recorded(o: Operands, place: Array) -> Finding:
    """A recording takes the number that was held last."""
    A, owner = o.load(o.normal(*SHAPES[-1])), _Owner()
    totals = [o.load(np.zeros(A.shape, o.k.dtype)) for _ in range(2)]
    for value in np.geomspace(1.0, 1e-3, _REPLAYS).tolist():
        held = o.k.hold(value, place)

        def add(held: Any = held) -> None:
            o.k.combine([(1.0, totals[0]), (held * -0.3, A)], out=totals[0])

        _replay_if_held(o, owner, add)
        o.k.combine([(1.0, totals[1]), (value * -0.3, A)], out=totals[1])
    return same(f"{sizes_of(*A.shape)}, recorded", *(o.k.to_host(total) for total in totals))


def sums(o: Operands) -> Iterator[Finding]:
    """The inner products of `dot`, each in its place, of the arrays as they are by then."""
    for A, B in o.pairs():
        a, b, together, owner = o.load(A), o.load(B), o.k.sums(3), _Owner()
        pairs = [(a, b), (b, b), (a, a)]

        def compute(pairs: list[tuple[Array, Array]] = pairs, together: Sums = together) -> None:
            o.k.combine([(0.5, pairs[0][0])], out=pairs[0][0])
            for number, pair in enumerate(pairs):
                together.dot(number, *pair)

        for time in range(_REPLAYS):
            _replay_if_held(o, owner, compute)
            expected = np.array([o.k.dot(*pair) for pair in pairs])
            yield same(
                f"{sizes_of(*A.shape)}, {time + 1} times", np.array(together.read()), expected
            )


class _Owner:
    """Of recordings."""


def _replay_if_held(o: Operands, owner: object, operations: Callable[[], None]) -> None:
    if o.k.holds_numbers:
        o.k.replay(owner, None, operations)
    else:
        operations()
