"""How kernels of the Numba backend share their work: every entry once, whoever does it."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from prdsim.backends import get_backend
from prdsim.backends.numba_kernels import PARALLEL_FROM, kernel

BY_ONE, BY_ALL = 0, PARALLEL_FROM  # entries: whether the calling thread does all


def _marked(part, begin, end, times, shares):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        times[i] += 1
        shares[i] = part


@pytest.fixture(scope="module")
def marked():
    return kernel(_marked)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("entries", [BY_ONE, BY_ALL], ids=["by one", "by all"])
@pytest.mark.parametrize(("count", "parts"), [(1, 1), (7, 3), (3, 7), (1000, 8), (5, 0), (0, 4)])
def test_shares_are_the_same_whoever_does_them(marked, count, parts, entries, threads):
    """Also more of them than threads, more than entries, and none."""
    if threads > numba.config.NUMBA_NUM_THREADS:  # type: ignore[attr-defined]
        pytest.skip("one core")
    times, shares = np.zeros(count, np.int64), np.full(count, -1)
    with get_backend("numba", threads=threads).active():
        for _ in range(3):
            marked(count, times, shares, entries=entries, parts=parts)
    assert np.all(times == 3)
    used = parts or (1 if entries == BY_ONE else threads)
    for part in range(used):
        begin, end = part * count // used, (part + 1) * count // used
        assert np.all(shares[begin:end] == part)
