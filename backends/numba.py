"""The Numba backend: BLAS for the products, compiled loops for what lies between them.

Kernels are compiled at first use and cached on disk, each twice: small arrays are done by the
calling thread, larger ones in parallel. They run without fastmath, so that every entry is computed
as NumPy would, and each sum is one thread's: neither threads nor the choice changes a bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, cast

# Before Numba loads OpenMP: its threads would otherwise spin between loops and starve those of
# BLAS (on two cores a product of 2 ms took 8).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
from numba import njit, prange

from .numpy import Array, NumpyBackend

_PARALLEL_FROM = 1 << 17  # entries; below, waking the threads costs more than they save


def _kernel(kernel: Callable[..., Any]) -> Callable[..., Any]:
    function = cast(FunctionType, kernel)
    parallel = njit(parallel=True, cache=True, error_model="numpy")(function)
    # Numba's cache tells functions apart by name and line, not by options: give it another name.
    twin = FunctionType(function.__code__, function.__globals__, function.__name__)
    twin.__qualname__ = f"{function.__qualname__}_serial"
    serial = njit(cache=True, error_model="numpy")(twin)

    @wraps(function)
    def run(*arguments: Any) -> Any:
        large = arguments[-1].size >= _PARALLEL_FROM
        return (parallel if large else serial)(*arguments)

    return run


class NumbaBackend(NumpyBackend):
    """Compiled loops on the host's cores; ``threads`` is that of BLAS and of the loops."""

    name = "numba"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "numba": numba.__version__}

    @contextmanager
    def _held_threads(self) -> Iterator[None]:
        before = numba.get_num_threads()
        most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        numba.set_num_threads(min(self.threads, most))
        try:
            with super()._held_threads():
                yield
        finally:
            numba.set_num_threads(before)

    def copy(self, source: Array, out: Array) -> None:
        _copy(source.reshape(-1), out.reshape(-1))

    def relu(self, A: Array, out: Array) -> None:
        _relu(A.reshape(-1), out.reshape(-1))

    def step(self, A: Array, out: Array) -> None:
        _step(A.reshape(-1), out.reshape(-1))

    def gate(self, B: Array, A: Array, out: Array) -> None:
        _gate(B.reshape(-1), A.reshape(-1), out.reshape(-1))

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        flat, scalar = out.reshape(-1), self.dtype.type
        (first, A), *others = terms
        if not others:
            _scale(scalar(first), A.reshape(-1), flat)
            return
        c, B = others.pop(0)
        _add(scalar(first), A.reshape(-1), scalar(c), B.reshape(-1), flat)
        for c, B in others:
            _add(scalar(1.0), flat, scalar(c), B.reshape(-1), flat)

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        _row_dots(out, A, B)

    def all_finite(self, A: Array) -> bool:
        return bool(_all_finite(A.reshape(-1)))

    def sign_changes(self, A: Array, signs: Array) -> int:
        return int(_sign_changes(A.reshape(-1), signs.reshape(-1)))


@_kernel
def _copy(source: Array, out: Array) -> None:
    for i in prange(source.size):
        out[i] = source[i]


@_kernel
def _relu(A: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = 0 if A[i] < 0 else A[i]  # written so that NaN passes


@_kernel
def _step(A: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = 1 if A[i] >= 0 else 0


@_kernel
def _gate(B: Array, A: Array, out: Array) -> None:
    zero = B.dtype.type(0)
    for i in prange(A.size):
        out[i] = B[i] if A[i] >= 0 else B[i] * zero  # not 0: NaN and infinities pass as NaN


@_kernel
def _scale(c: float, A: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = c * A[i]


@_kernel
def _add(c: float, A: Array, d: float, B: Array, out: Array) -> None:
    for i in prange(A.size):
        out[i] = c * A[i] + d * B[i]


@_kernel
def _row_dots(out: Array, A: Array, B: Array) -> None:
    for i in prange(A.shape[0]):
        total = out.dtype.type(0)
        for j in range(A.shape[1]):
            total += out.dtype.type(A[i, j]) * out.dtype.type(B[i, j])
        out[i] = total


@_kernel
def _all_finite(A: Array) -> bool:
    infinite = 0
    for i in prange(A.size):
        infinite += not np.isfinite(A[i])
    return infinite == 0


@_kernel
def _sign_changes(A: Array, signs: Array) -> int:
    changes = 0
    for i in prange(A.size):
        changes += (A[i] >= 0) != (signs[i] != 0)
    return changes
