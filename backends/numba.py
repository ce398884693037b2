"""The Numba backend: compiled loops, fused operations, and products on one pool of threads.

Kernels are compiled at first use and cached on disk. They run without fastmath: every entry is
computed as NumPy would, and sums do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numba
import numpy as np
from numba import prange

from . import numba_cache, numba_kernels, numba_notices
from .arrays import HostArray as Array
from .numba_cache import compiled
from .numba_fused import NumbaFused
from .numba_kernels import PARALLEL_FROM, kernel
from .numpy import NumpyBackend

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


_TERMS = 5  # of a linear combination in one kernel: a state and the stages of bs23
_BLOCK = 1 << 11  # entries combined at a time
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
        numba_kernels.launch_threads()
        numba_kernels.load_blas(self.dtype)
        self.notes = numba_cache.trouble()

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

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        scalar, (A, A_transposed), (B, B_transposed) = self.dtype.type, _stored(A), _stored(B)
        numba_kernels.gemm(
            self.threads, scalar(alpha), A, A_transposed, B, B_transposed, scalar(beta), out
        )

    def copy(self, source: Array, out: Array) -> None:
        _copy(source.reshape(-1), out.reshape(-1))

    def relu(self, A: Array, out: Array) -> None:
        _relu(A.reshape(-1), out.reshape(-1))

    def heaviside(self, A: Array, out: Array) -> None:
        _heaviside(A.reshape(-1), out.reshape(-1))

    def gate(self, B: Array, A: Array, out: Array) -> None:
        _gate(B.reshape(-1), A.reshape(-1), out.reshape(-1))

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        flat, scalar = out.reshape(-1), self.dtype.type
        operands = [(scalar(c), A.reshape(-1)) for c, A in terms]
        while True:
            now, operands = operands[:_TERMS], operands[_TERMS:]
            _combine(len(now), *chain(*now), *(_TERMS - len(now)) * now[0], flat)
            if not operands:
                return
            operands.insert(0, (scalar(1.0), flat))

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        _interpolate(e, Y, Z, out)

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        _scale_rows(r, A, out)

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        _scale_columns(c, A, out)

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        _penalty_weights(squared_norms, self.dtype.type(scale), out)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        _uniforms(np.uint64(seed), np.uint64(stream), step, np.uint64(update), out)

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        _row_dots(out, A, B)

    def dot(self, A: Array, B: Array) -> float:
        if A.size < PARALLEL_FROM:  # not worth another second of compiling
            return super().dot(A, B)
        return float(_dot(A.reshape(-1), B.reshape(-1)))

    def all_finite(self, A: Array) -> bool:
        return bool(_all_finite(A.reshape(-1)))

    def gate_changes(self, A: Array, gates: Array) -> int:
        return int(_gate_changes(A.reshape(-1), gates.reshape(-1)))


def _stored(M: Array) -> tuple[Array, bool]:
    """Return a matrix as it is stored in memory, and whether that is its transpose."""
    return (M, False) if M.flags.c_contiguous else (M.T, True)


@kernel
def _copy(source: Array, out: Array) -> None:
    for i in prange(source.size):
        out[i] = source[i]


@kernel
def _relu(A: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = 0 if A[i] < 0 else A[i]  # written so that NaN passes


@kernel
def _heaviside(A: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = 1 if A[i] >= 0 else 0


@kernel
def _gate(B: Array, A: Array, out: Array) -> None:
    zero = B.dtype.type(0)
    for i in prange(A.size):
        out[i] = B[i] if A[i] >= 0 else B[i] * zero  # not 0: NaN and infinities pass as NaN


@kernel
def _combine(count, c, C, d, D, e, E, f, F, g, G, out):  # type: ignore[no-untyped-def]
    """out = c C + d D + ... (``count`` terms), left to right, in blocks that stay in the cache."""
    for block in prange((out.size + _BLOCK - 1) // _BLOCK):
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, out.size)
        sums, A, B = out[begin:end], C[begin:end], D[begin:end]
        if count == 1:
            for i in range(sums.size):
                sums[i] = c * A[i]
        else:
            for i in range(sums.size):
                sums[i] = c * A[i] + d * B[i]
        if count > 2:
            _add(e, E[begin:end], sums)
        if count > 3:
            _add(f, F[begin:end], sums)
        if count > 4:
            _add(g, G[begin:end], sums)


@compiled
def _add(c, A, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] += c * A[i]


@kernel
def _interpolate(e: Array, Y: Array, Z: Array, out: Array) -> None:
    for i in prange(out.shape[0]):
        for p in range(out.shape[1]):
            out[i, p] = (Y[i, p] - Z[i, p]) * e[p] + Z[i, p]


@kernel
def _scale_rows(r: Array, A: Array, out: Array) -> None:
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = r[i] * A[i, j]


@kernel
def _scale_columns(c: Array, A: Array, out: Array) -> None:
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = c[j] * A[i, j]


@kernel
def _penalty_weights(squared_norms: Array, scale: float, out: Array) -> None:
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for p in prange(out.size):
        norm = np.sqrt(squared_norms[p])
        out[p] = (norm - one) / norm * scale if norm > zero else zero


@compiled
def _high(a, b):  # type: ignore[no-untyped-def]
    """The upper 64 of the 128 bits of a product of two words."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    return a1 * b1 + (middle >> half) + ((a0 * b1 + (middle & low)) >> half)


@compiled
def _philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Output word 0 of the Philox4x64-10 block with the given counter words and key."""
    for _ in range(10):
        high0, low0 = _high(_M0, c0), _M0 * c0
        high1, low1 = _high(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    return c0


@kernel
def _uniforms(seed: int, stream: int, step: Array, update: int, out: Array) -> None:
    zero, shift = np.uint64(0), np.uint64(11)
    for i in prange(out.size):
        word = _philox(np.uint64(i), update, step[0], zero, seed, stream)
        out[i] = np.float64(word >> shift) * 2.0**-53


@kernel
def _row_dots(out: Array, A: Array, B: Array) -> None:
    for i in prange(A.shape[0]):
        total = out.dtype.type(0)
        for j in range(A.shape[1]):
            total += out.dtype.type(A[i, j]) * out.dtype.type(B[i, j])
        out[i] = total


@kernel
def _dot(A: Array, B: Array) -> float:
    """The sum of products in float64, in shares that do not depend on the number of threads."""
    shares = np.empty(_SHARES)
    for share in prange(_SHARES):
        begin, end = share * A.size // _SHARES, (share + 1) * A.size // _SHARES
        shares[share] = _dot_share(A[begin:end], B[begin:end])
    total = 0.0
    for share in range(_SHARES):
        total += shares[share]
    return total


@compiled
def _dot_share(A, B):  # type: ignore[no-untyped-def]
    """Eight sums side by side, which compile to vector instructions without fastmath."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = A.size - A.size % 8
    for i in range(0, whole, 8):
        s0 += np.float64(A[i]) * np.float64(B[i])
        s1 += np.float64(A[i + 1]) * np.float64(B[i + 1])
        s2 += np.float64(A[i + 2]) * np.float64(B[i + 2])
        s3 += np.float64(A[i + 3]) * np.float64(B[i + 3])
        s4 += np.float64(A[i + 4]) * np.float64(B[i + 4])
        s5 += np.float64(A[i + 5]) * np.float64(B[i + 5])
        s6 += np.float64(A[i + 6]) * np.float64(B[i + 6])
        s7 += np.float64(A[i + 7]) * np.float64(B[i + 7])
    for i in range(whole, A.size):
        s0 += np.float64(A[i]) * np.float64(B[i])
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@kernel
def _all_finite(A: Array) -> bool:
    infinite = 0
    for i in prange(A.size):
        infinite += not np.isfinite(A[i])
    return infinite == 0


@kernel
def _gate_changes(A: Array, gates: Array) -> int:
    changes = 0
    for i in prange(A.size):
        changes += (A[i] >= 0) != (gates[i] != 0)
    return changes
