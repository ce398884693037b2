"""Recurring operations on the Numba backend, recorded once, then done in one compiled call.

Calling a kernel from Python takes a microsecond or more, which dominates a step of small arrays. A
recording holds the calls of a step, by addresses and scalars, never references to arrays. It is
done again and again in one call, for a few milliseconds: Python notices signals between calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from weakref import WeakKeyDictionary

import numpy as np

from .arrays import HostArray as Array
from .numba_cache import compiled
from .numba_intrinsics import perform
from .numba_kernels import calls, pool

_SECONDS = 0.01  # of a compiled call, about
_ALL = 1 << 30  # threads: as many as were recorded


class CannotRecordError(Exception):
    """An operation that is not a kernel was called while kernels are recorded."""


def refuse_to_record() -> None:
    """Raise `CannotRecordError` if calls are being recorded: for operations that are no kernels."""
    if calls.entries is not None:
        raise CannotRecordError


class Recorder:
    """Does recurring operations: as they are called at first, then from a recording.

    A recording lives as long as its owner. Operations that are not all kernels are never recorded.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[object, dict[Hashable, Recording | None]]
        self._known = WeakKeyDictionary()

    def __call__(
        self,
        owner: object,
        key: Hashable,
        operations: Callable[[], None],
        at_most: int,
        number: Array | None,
    ) -> int:
        """Do the operations, up to so many times in a row; see `Backend.replay`."""
        known = self._known.setdefault(owner, {})
        if key not in known:  # it may not come again: the steps of a ramp do not
            known[key] = None
            operations()
            return 1
        recording = known[key] = known[key] or Recording(_calls_of(operations))
        if not recording.possible:
            operations()
            return 1
        return recording.perform(at_most, number)


def _calls_of(operations: Callable[[], None]) -> list[Array]:
    """Return the calls of kernels in operations, without doing them; none if that is not all."""
    calls.entries = entries = []
    try:
        operations()
    except CannotRecordError:
        return []
    finally:
        calls.entries = None
    return entries


class Recording:
    """Calls of kernels that are done together, in one compiled call or in several."""

    def __init__(self, entries: Sequence[Array]) -> None:
        self.possible = bool(entries)
        self._words = np.concatenate([entry[: entry[0]] for entry in entries or [np.zeros(1, int)]])
        self._turn = pool.turn if any(entry[2] > 1 for entry in entries) else nullcontext()
        self._at_once = 1
        self._no_number = np.zeros(1, np.uint64)

    def perform(self, at_most: int, number: Array | None) -> int:
        """Do all calls once, or up to so many times in a row; return how often."""
        times, begun = min(at_most, self._at_once), time.perf_counter()
        number = self._no_number if number is None else number
        with self._turn:
            _repeat(times, self._words.ctypes.data, self._words.size, 1 if pool.lost else _ALL, number)
        seconds = time.perf_counter() - begun
        if seconds > _SECONDS:
            self._at_once = max(1, times // 2)
        elif seconds < _SECONDS / 2 and times == self._at_once:
            self._at_once *= 2
        return times


def _repeat(times, begin, size, most_threads, number):  # type: ignore[no-untyped-def]
    """Do the entries of a recording so many times; ``number`` counts them."""
    for _ in range(times):
        at = 0
        while at < size:
            at += perform(begin + 8 * at, most_threads)
        number[0] += np.uint64(1)


_repeat = compiled(_repeat, nogil=True)
