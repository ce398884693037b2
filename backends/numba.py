"""The Numba backend: compiled loops, fused operations, and products on one pool of threads.

Kernels are compiled at first use and cached on disk. They run without fastmath: every entry is
computed as NumPy would, and sums do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numba
import numpy as np

from . import numba_cache, numba_kernels, numba_notices
from .arrays import HostArray as Array
from .numba_cache import compiled
from .numba_fused import NumbaFused
from .numba_intrinsics import entries
from .numba_kernels import PARALLEL_FROM, kernel
from .numba_recordings import Recorder
from .numpy import NumpyBackend

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


_TERMS = 5  # of a linear combination in one kernel: a state and the stages of bs23
_BLOCK = np.uintp(1 << 11)  # entries combined at a time
_SHARES = 64  # of a sum over all entries, each added by one thread


class NumbaBackend(NumpyBackend):
    """Compiled loops on the host's cores; ``threads`` limits BLAS and the loops."""

    name = "numba"

    def __init__(
        self, precision: str = "float64", threads: int | None = None, device: str = ""
    ) -> None:
        super().__init__(precision, threads, device)
        most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        self.threads = min(self.threads, most)
        numba_notices.begin()
        numba_kernels.pool.launch()
        numba_kernels.load_blas(self.dtype)
        self.notes = numba_cache.trouble()
        self._recorder = Recorder()

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "numba": numba.__version__}

    @property
    def _blas_threads(self) -> int:
        return 1  # the calling one: kernels divide products among Numba's threads

    @contextmanager
    def active(self) -> Iterator[None]:
        before = numba.get_num_threads()
        numba.set_num_threads(self.threads)
        try:
            with super().active():
                yield
        finally:
            numba.set_num_threads(before)

    def fused(self, m: int, m_c: int, d_out: int, n: int) -> NumbaFused:
        return NumbaFused(self, m, m_c, d_out, n)

    def replay(
        self,
        owner: object,
        key: Hashable,
        operations: Callable[[], None],
        *,
        at_most: int = 1,
        number: Array | None = None,
    ) -> int:
        return self._recorder(owner, key, operations, at_most, number)

    def to_device(self, source: Array, out: Array) -> None:
        numba_kernels.calls.refuse()
        super().to_device(source, out)

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        scalar, (A, A_transposed), (B, B_transposed) = self.dtype.type, _stored(A), _stored(B)
        operands = scalar(alpha), A, A_transposed, B, B_transposed, scalar(beta), out
        numba_kernels.gemm(max(out.shape), *operands, parts=self.threads)

    def copy(self, source: Array, out: Array) -> None:
        _copy(out.size, source.reshape(-1), out.reshape(-1))

    def relu(self, A: Array, out: Array) -> None:
        _relu(out.size, A.reshape(-1), out.reshape(-1))

    def heaviside(self, A: Array, out: Array) -> None:
        _heaviside(out.size, A.reshape(-1), out.reshape(-1))

    def gate(self, B: Array, A: Array, out: Array) -> None:
        _gate(out.size, B.reshape(-1), A.reshape(-1), out.reshape(-1))

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        flat, scalar = out.reshape(-1), self.dtype.type
        operands = [(scalar(c), A.reshape(-1)) for c, A in terms]
        while True:
            now, operands = operands[:_TERMS], operands[_TERMS:]
            _combine(out.size, len(now), *chain(*now), *(_TERMS - len(now)) * now[0], flat)
            if not operands:
                return
            operands.insert(0, (scalar(1.0), flat))

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        _interpolate(len(out), e, Y, Z, out)

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        _scale_rows(len(out), r, A, out)

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        _scale_columns(len(out), c, A, out)

    def take_columns(self, A: Array, order: Array, out: Array) -> None:
        _take_columns(len(out), A, order, out)

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        _penalty_weights(out.size, squared_norms, self.dtype.type(scale), out)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        words = np.uint64(seed), np.uint64(stream), step, np.uint64(update)
        _uniforms(out.size, *words, out)

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        _row_dots(len(out), out, A, B)

    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        if out.size == 1:  # NumPy adds a single column in another order
            numba_kernels.calls.refuse()
            super().column_dots(A, B, out)
        else:
            _column_dots(len(out), A, B, out, entries=A.size)

    def dot(self, A: Array, B: Array) -> float:
        if A.size < PARALLEL_FROM:  # not worth another second of compiling
            return super().dot(A, B)
        shares = np.empty(_SHARES)
        _dot(A.size, shares, A.reshape(-1), B.reshape(-1), parts=_SHARES)
        total = 0.0
        for share in shares.tolist():  # in order: `sum` rounds otherwise
            total += share
        return total

    def all_finite(self, A: Array) -> bool:
        infinite = np.empty(self.threads, bool)
        _any_infinite(A.size, infinite, A.reshape(-1), parts=self.threads)
        return True not in infinite.tolist()

    def gates(self, A: Array, out: Array) -> None:
        numba_kernels.calls.refuse()
        super().gates(A, out)

    def gate_changes(self, A: Array, gates: Array) -> int:
        changes = np.empty(self.threads, np.int64)
        _gate_changes(A.size, changes, A.reshape(-1), gates.reshape(-1), parts=self.threads)
        return sum(changes.tolist())


def _stored(M: Array) -> tuple[Array, bool]:
    """Return a matrix as it is stored in memory, and whether that is its transpose."""
    return (M, False) if M.flags.c_contiguous else (M.T, True)


@kernel
def _copy(_part, begin, end, source, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        out[i] = source[i]


@kernel
def _relu(_part, begin, end, A, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        out[i] = 0 if A[i] < 0 else A[i]  # written so that NaN passes


@kernel
def _heaviside(_part, begin, end, A, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        out[i] = 1 if A[i] >= 0 else 0


@kernel
def _gate(_part, begin, end, B, A, out):  # type: ignore[no-untyped-def]
    zero = B.dtype.type(0)
    for i in range(begin, end):
        out[i] = B[i] if A[i] >= 0 else B[i] * zero  # not 0: NaN and infinities pass as NaN


@kernel
def _combine(_part, begin, end, count, c, C, d, D, e, E, f, F, g, G, out):  # type: ignore[no-untyped-def]
    """out = c C + d D + ... (``count`` terms), left to right, in blocks that stay in the cache."""
    for block in range(begin, end, _BLOCK):
        last = min(block + _BLOCK, end)
        if count == 1:
            for i in range(block, last):
                out[i] = c * C[i]
        else:
            for i in range(block, last):
                out[i] = c * C[i] + d * D[i]
        if count > 2:
            for i in range(block, last):
                out[i] += e * E[i]
        if count > 3:
            for i in range(block, last):
                out[i] += f * F[i]
        if count > 4:
            for i in range(block, last):
                out[i] += g * G[i]


@kernel
def _interpolate(_part, begin, end, e, Y, Z, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        for p in range(out.shape[1]):
            out[i, p] = (Y[i, p] - Z[i, p]) * e[p] + Z[i, p]


@kernel
def _scale_rows(_part, begin, end, r, A, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        for j in range(out.shape[1]):
            out[i, j] = r[i] * A[i, j]


@kernel
def _scale_columns(_part, begin, end, c, A, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        for j in range(out.shape[1]):
            out[i, j] = c[j] * A[i, j]


@kernel
def _take_columns(_part, begin, end, A, order, out):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        for p in range(out.shape[1]):
            out[i, p] = A[i, order[p]]


@kernel
def _penalty_weights(_part, begin, end, squared_norms, scale, out):  # type: ignore[no-untyped-def]
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for p in range(begin, end):
        norm = np.sqrt(squared_norms[p])
        out[p] = (norm - one) / norm * scale if norm > zero else zero


@compiled
def _high(a, b):  # type: ignore[no-untyped-def]
    """The upper 64 of the 128 bits of a product of two words."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    return a1 * b1 + (middle >> half) + ((a0 * b1 + (middle & low)) >> half)


@kernel
def _uniforms(_part, begin, end, seed, stream, step, update, out):  # type: ignore[no-untyped-def]
    """Output word 0 of the Philox4x64-10 block of each entry, as a number in [0, 1)."""
    for i in range(begin, end):
        c0, c1, c2, c3, k0, k1 = np.uint64(i), update, step[0], np.uint64(0), seed, stream
        for _ in range(10):
            high0, low0 = _high(_M0, c0), _M0 * c0
            high1, low1 = _high(_M1, c2), _M1 * c2
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0 += _W0
            k1 += _W1
        out[i] = np.float64(c0 >> np.uint64(11)) * 2.0**-53


@kernel
def _row_dots(_part, begin, end, out, A, B):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        total = out.dtype.type(0)
        for j in range(A.shape[1]):
            total += out.dtype.type(A[i, j]) * out.dtype.type(B[i, j])
        out[i] = total


@kernel
def _column_dots(_part, begin, end, A, B, out):  # type: ignore[no-untyped-def]
    for j in range(begin, end):
        out[j] = 0
    for i in range(A.shape[0]):
        for j in range(begin, end):
            out[j] += out.dtype.type(A[i, j]) * out.dtype.type(B[i, j])


@kernel
def _dot(part, begin, end, shares, A, B):  # type: ignore[no-untyped-def]
    """Eight sums side by side, which compile to vector instructions without fastmath."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    a, b = entries(A, (begin,), end - begin), entries(B, (begin,), end - begin)
    whole = a.size - a.size % 8
    for i in range(0, whole, 8):
        s0 += np.float64(a[i]) * np.float64(b[i])
        s1 += np.float64(a[i + 1]) * np.float64(b[i + 1])
        s2 += np.float64(a[i + 2]) * np.float64(b[i + 2])
        s3 += np.float64(a[i + 3]) * np.float64(b[i + 3])
        s4 += np.float64(a[i + 4]) * np.float64(b[i + 4])
        s5 += np.float64(a[i + 5]) * np.float64(b[i + 5])
        s6 += np.float64(a[i + 6]) * np.float64(b[i + 6])
        s7 += np.float64(a[i + 7]) * np.float64(b[i + 7])
    for i in range(whole, a.size):
        s0 += np.float64(a[i]) * np.float64(b[i])
    shares[part] = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@kernel
def _any_infinite(part, begin, end, found, A):  # type: ignore[no-untyped-def]
    infinite = 0
    for i in range(begin, end):
        infinite += not np.isfinite(A[i])
    found[part] = infinite > 0


@kernel
def _gate_changes(part, begin, end, found, A, gates):  # type: ignore[no-untyped-def]
    changes = 0
    for i in range(begin, end):
        changes += (A[i] >= 0) != (gates[i] != 0)
    found[part] = changes
