"""The NumPy backend: BLAS through SciPy, the rest through NumPy. The reference for the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import scipy
from scipy.linalg import blas
from threadpoolctl import ThreadpoolController

from prdsim.physics import randomness

from .arrays import HostArray as Array
from .base import Backend

_BLOCK = 1 << 14  # entries handled at a time where an operation needs scratch: fits the cache
_BLAS = ThreadpoolController().select(user_api="blas")
"""NumPy's and SciPy's libraries, found once: a search reads the map of the process's memory."""


class _BlasThreads:
    """The number of threads of BLAS, which a process has but one of: the last to enter sets it.

    It is restored when all have left, so that runs in several threads do not undo each other's.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin anew: the child of a fork has none of the other threads."""
        self._lock = Lock()
        self._before: Any = None
        self._entered: list[int] = []

    @contextmanager
    def __call__(self, count: int) -> Iterator[None]:
        """Return a context in which BLAS computes with ``count`` threads."""
        with self._lock:
            _let_any_thread_limit()
            limiter = _BLAS.limit(limits=count)
            self._before = self._before or limiter
            self._entered.append(count)
        try:
            yield
        finally:
            with self._lock:
                _let_any_thread_limit()
                self._entered.remove(count)
                if self._entered:
                    _BLAS.limit(limits=self._entered[-1])
                else:
                    self._before, before = None, self._before
                    before.restore_original_limits()


def _let_any_thread_limit() -> None:
    """Let this thread set the number: threadpoolctl 3.8 ignores all but the first that did."""
    for library in _BLAS.lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


_blas_threads = _BlasThreads()


class NumpyBackend(Backend):
    """NumPy on the host's cores; ``threads`` limits BLAS."""

    name = "numpy"

    def __init__(
        self, precision: str = "float64", threads: int | None = None, device: str = ""
    ) -> None:
        super().__init__(precision, threads, device)
        # Scratch memory of the operations: a step allocates nothing.
        self._numbers = np.empty(_BLOCK, self.dtype)
        self._doubles = np.empty((2, _BLOCK))
        self._truths = np.empty(_BLOCK, np.bool_)
        self._gemm = blas.dgemm if precision == "float64" else blas.sgemm

    # -- memory and transfer -------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        return np.empty(shape, dtype or self.dtype)

    def to_device(self, source: Array, out: Array) -> None:
        np.copyto(out, source, casting="same_kind")

    def to_host(self, source: Array) -> Array:
        return source.copy()

    def copy(self, source: Array, out: Array) -> None:
        np.copyto(out, source)

    def describe(self) -> dict[str, Any]:
        blas = [
            f"{info['internal_api']} {info.get('version')} ({info.get('architecture')})"
            for info in _BLAS.info()
        ]
        return {**super().describe(), "scipy": scipy.__version__, "blas": blas}

    @property
    def _blas_threads(self) -> int:
        return self.threads

    @contextmanager
    def active(self) -> Iterator[None]:
        # A diverging run overflows; `all_finite` detects it, not NumPy's warnings.
        with (
            _blas_threads(self._blas_threads),
            np.errstate(over="ignore", invalid="ignore", under="ignore"),
        ):
            yield

    # -- matrix multiplication -----------------------------------------------------------------

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        # BLAS is column-major: it sees out.T = alpha B.T A.T + beta out.T, in place.
        b, b_transposed = (B.T, 0) if B.flags.c_contiguous else (B, 1)
        a, a_transposed = (A.T, 0) if A.flags.c_contiguous else (A, 1)
        self._gemm(
            alpha,
            b,
            a,
            beta=beta,
            c=out.T,
            trans_a=b_transposed,
            trans_b=a_transposed,
            overwrite_c=1,
        )

    # -- elementwise ---------------------------------------------------------------------------

    def relu(self, A: Array, out: Array) -> None:
        np.maximum(A, 0.0, out=out)

    def heaviside(self, A: Array, out: Array) -> None:
        flat = out.reshape(-1)
        for block, truths in self._blocks(A):
            np.greater_equal(A.reshape(-1)[block], 0.0, out=truths)
            np.copyto(flat[block], truths)

    def gate(self, B: Array, A: Array, out: Array) -> None:
        flat = out.reshape(-1)
        for block, truths in self._blocks(A):
            np.greater_equal(A.reshape(-1)[block], 0.0, out=truths)
            numbers = self._numbers[: truths.size]
            np.copyto(numbers, truths)
            np.multiply(B.reshape(-1)[block], numbers, out=flat[block])

    def _blocks(self, A: Array) -> Iterator[tuple[slice, Array]]:
        """Yield slices of the entries of A, each with a Boolean scratch array of its length."""
        for start in range(0, A.size, _BLOCK):
            yield slice(start, start + _BLOCK), self._truths[: min(_BLOCK, A.size - start)]

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        flat = out.reshape(-1)
        (first, A), *others = [(c, term.reshape(-1)) for c, term in terms]
        for start in range(0, flat.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            np.multiply(A[block], first, out=flat[block])
            for c, B in others:
                scaled = self._numbers[: B[block].size]
                np.multiply(B[block], c, out=scaled)
                np.add(flat[block], scaled, out=flat[block])

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        np.subtract(Y, Z, out=out)
        self.scale_columns(e, out, out=out)
        np.add(out, Z, out=out)

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        np.einsum("ij,i->ij", A, r, out=out)  # `multiply` would allocate broadcast buffers

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        for row, out_row in zip(A, out, strict=True):  # by rows, for the same reason
            np.multiply(row, c, out=out_row)

    def take_columns(self, A: Array, order: Array, out: Array) -> None:
        np.take(A, order, axis=1, out=out, mode="clip")  # "raise" would allocate a copy

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        for block, positive in self._blocks(out):
            norms = self._numbers[: positive.size]
            np.sqrt(squared_norms[block], out=norms)
            np.greater(norms, 0.0, out=positive)
            weights = out[block]
            np.subtract(norms, 1.0, out=weights)
            np.divide(weights, norms, out=weights, where=positive)
            np.multiply(weights, scale, out=weights)
            np.logical_not(positive, out=positive)
            np.copyto(weights, 0.0, where=positive)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        randomness.uniforms(seed, stream, int(step[0]), update, out.size, out=out)

    # -- reductions ----------------------------------------------------------------------------

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        np.einsum("ij,ij->i", A, B, out=out, dtype=out.dtype, casting="same_kind")

    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        np.einsum("ij,ij->j", A, B, out=out, dtype=out.dtype, casting="same_kind")

    def dot(self, A: Array, B: Array) -> float:
        total, (a, b) = 0.0, self._doubles
        for block, truths in self._blocks(A):
            np.copyto(a[: truths.size], A.reshape(-1)[block])
            np.copyto(b[: truths.size], B.reshape(-1)[block])
            total += float(np.einsum("i,i->", a[: truths.size], b[: truths.size]))
        return total

    def sum(self, A: Array) -> float:
        return float(np.sum(A, dtype=np.float64))

    def all_finite(self, A: Array) -> bool:
        finite = True
        for block, truths in self._blocks(A):
            finite &= bool(np.isfinite(A.reshape(-1)[block], out=truths).all())
        return finite

    def gates(self, A: Array, out: Array) -> None:
        np.greater_equal(A, 0.0, out=out.view(np.bool_))

    def gate_changes(self, A: Array, gates: Array) -> int:
        changes = 0
        for block, truths in self._blocks(A):
            np.greater_equal(A.reshape(-1)[block], 0.0, out=truths)
            np.not_equal(truths.view(np.uint8), gates.reshape(-1)[block], out=truths)
            changes += int(np.count_nonzero(truths))
        return changes
