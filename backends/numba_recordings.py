"""Recurring operations on the Numba backend, recorded once, then done in one compiled call.

Calling a kernel from Python takes a microsecond or more, which dominates a step of small arrays. A
recording holds the calls of a step, by addresses and scalars, never references to arrays. It is
done again and again in one call, for a few milliseconds: Python notices signals between calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from math import inf
from weakref import WeakKeyDictionary

import numba
import numpy as np

from .arrays import HostArray as Array
from .numba_intrinsics import PARTS, SIZE, fetch_add, give_way, look, perform, publish
from .numba_kernels import PARALLEL_FROM, CannotRecordError, calls, kernel

_SECONDS = 0.01  # of a compiled call, about
_TRIED_AGAIN = 64  # calls after which the slower number of threads has its turn
_APART = 16  # words, so that they lie on different cache lines
_LOOKS = 1 << 10  # at what the others have done, before another process may have the core
_NO_ENTRY = np.ones(1, np.intp)


class Recorder:
    """Does recurring operations: as they are called at first, then from a recording.

    A recording lives as long as its owner. Operations that are not all small kernels have none.
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
    """Return the calls of kernels in operations, without doing them; none if those are not all."""
    entries: list[Array] = []
    calls.entries = entries
    try:
        operations()
    except CannotRecordError:
        return []
    finally:
        calls.entries = None
    return entries


class Recording:
    """Calls of kernels that are done together, in one compiled call or in several.

    One thread does all, or Numba's threads share each kernel's parts, launched once for all of
    them: whichever was faster of late. Waiting for one another, threads do not sleep, which on a
    busy machine may cost more than they gain.
    """

    def __init__(self, entries: Sequence[Array]) -> None:
        self.possible = bool(entries)
        self._calls = len(entries)
        self._words = np.concatenate([entry[: entry[SIZE]] for entry in entries or [_NO_ENTRY]])
        self._progress = np.zeros(2 * _APART, np.intp)
        self._no_number = np.zeros(1, np.uint64)
        self._seconds = dict.fromkeys({1, numba.get_num_threads()}, 0.0)  # by so many threads, once
        self._at_once = 1  # so often in a row that it takes a short time
        self._performed = 0
        self._repeat(1, 0, self._no_number)  # compiled now, so that its times are those of a call

    def perform(self, at_most: int, number: Array | None) -> int:
        """Do all calls once, or up to so many times in a row; return how often."""
        self._performed += 1
        choose = max if self._performed % _TRIED_AGAIN == 0 else min
        threads = choose(self._seconds, key=self._seconds.__getitem__)
        times, begun = min(at_most, self._at_once), time.perf_counter()
        self._repeat(threads, times, self._no_number if number is None else number)
        self._learn(threads, times, time.perf_counter() - begun)
        return times

    def _repeat(self, threads: int, times: int, number: Array) -> None:
        self._progress[:] = 0
        _repeat(
            threads, times * self._calls, self._words, self._words.ctypes.data, self._progress,
            number, entries=PARALLEL_FROM if threads > 1 else 0, parts=threads,
        )  # fmt: skip

    def _learn(self, threads: int, times: int, seconds: float) -> None:
        known = self._seconds[threads]
        self._seconds[threads] = min(seconds / times, 1.5 * known or inf)  # others may disturb
        if seconds > _SECONDS:
            self._at_once = max(1, times // 2)
        elif seconds < _SECONDS / 2 and times == self._at_once:
            self._at_once *= 2


@kernel
def _repeat(_member, _begin, _end, total, words, address, progress, number):  # type: ignore[no-untyped-def]
    """Do the entries of a recording, over and over, ``total`` in all; what each thread does.

    A thread claims a part of the present entry, or waits until the others have done theirs. The
    first word of ``progress`` holds the number of the entry and of its parts that were claimed, in
    16 bits; the other one, how many are done. So nobody waits for a thread that does not run.
    ``number`` counts the times.
    """
    here, at = 0, 0
    while True:
        claimed = fetch_add(progress, (0,), 1)
        entry, part = claimed >> 16, claimed & 0xFFFF
        if entry >= total:
            return
        while here < entry:
            here += 1
            at += words[at + SIZE]
            if at == words.size:
                at = 0
        parts = words[at + PARTS]
        if part < parts:
            perform(address + 8 * at, part)
            if fetch_add(progress, (_APART,), 1) + 1 == parts:
                if at + words[at + SIZE] == words.size:
                    number[0] += np.uint64(1)
                progress[_APART] = 0
                publish(progress, (0,), (entry + 1) << 16)
            continue
        looks = 0
        while look(progress, (0,)) >> 16 == entry:
            looks += 1
            if looks % _LOOKS == 0:
                give_way()
