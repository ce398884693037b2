"""How kernels of the Numba backend are compiled, and how they multiply matrices.

There is one pool of threads, Numba's: a kernel's threads call BLAS on their own parts of a
product, and BLAS itself is limited to one thread (`prdsim.backends.numba`). Two pools would starve
each other: on two cores, small products by BLAS's own threads took up to 8 ms instead of 0.1 ms.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from threading import Lock
from types import FunctionType
from typing import Any, cast

# Set before Numba loads OpenMP, whose threads would otherwise spin forever. GNU's now spin for some
# 0.2 ms, enough to reach the next kernel of a step, then sleep; waking takes 50 microseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba
import numpy as np
from numba import prange, types

from .arrays import HostArray as Array
from .numba_cache import compiled

PARALLEL_FROM = 1 << 16  # entries; below, waking the threads costs more than they save


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays at first use, without fastmath, and cache it.

    It is compiled twice: small arrays are processed by the calling thread, larger ones in
    parallel; the size of the last argument decides, or ``entries`` if given. Every sum is done
    within one iteration of a `prange`, so that neither threads nor this choice changes a bit.
    """
    python = cast(FunctionType, function)
    parallel = compiled(python, parallel=True)
    # The cache distinguishes functions by name and line, not by options: use another name.
    twin = FunctionType(python.__code__, python.__globals__, python.__name__)
    twin.__qualname__ = f"{python.__qualname__}_serial"
    serial = compiled(twin)

    @wraps(python)
    def run(*arguments: Any, entries: int | None = None) -> Any:
        large = (arguments[-1].size if entries is None else entries) >= PARALLEL_FROM
        if not large or _threads.lost:
            return serial(*arguments)
        with _threads.turn:
            return parallel(*arguments)

    return run


class _Threads:
    """Numba's threads: what a process may do with them.

    Those of OpenMP do not survive a fork, and Numba ends a child that uses them; the child of a
    process that has launched them computes with one thread, to the same bits. Those of the layer
    "workqueue" serve one kernel at a time, and Numba ends a process that does not wait.
    """

    lost = False
    turn: AbstractContextManager[object] = nullcontext()

    def __init__(self) -> None:
        self._lock = Lock()
        os.register_at_fork(after_in_child=self._forked)

    def launch(self) -> None:
        """Launch them unless they are; raises ValueError where Numba's settings do not allow it."""
        numba.get_num_threads()
        if _threading_layer() == "workqueue":
            self.turn = self._lock

    def _forked(self) -> None:
        self.lost = self.lost or _threading_layer() is not None


def _threading_layer() -> str | None:
    """Return the layer by which Numba has launched its threads, None if it has not yet."""
    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:
        return None


_threads = _Threads()
launch_threads = _threads.launch


# BLAS as Numba itself calls it for np.dot: SciPy's, found by name, so that kernels can be cached.
_xxgemm: Any = types.ExternalFunction(
    "numba_xxgemm",
    types.intc(
        *(types.char,) * 3,  # kind, and whether A and B are transposed
        *(types.intp,) * 3,  # sizes
        *(types.voidptr, types.voidptr, types.intp),  # alpha, A and its row length
        *(types.voidptr, types.intp),  # B and its row length
        *(types.voidptr, types.voidptr, types.intp),  # beta, out and its row length
    ),
)
_D, _S, _N, _T = (np.int8(ord(letter)) for letter in "dsnt")


@compiled
def product(  # type: ignore[no-untyped-def]
    rows, inner, columns, alpha, A, row_A, A_transposed, B, row_B, B_transposed, beta, out, row_out
):
    """out = alpha A B + beta out, for blocks of C-contiguous arrays by BLAS on this thread.

    out is rows x columns, each entry a sum of ``inner`` products. A, B, out are arrays that begin
    at the block; row_A, row_B, row_out are the row lengths of the arrays that contain them. A
    transposed operand is stored as columns x rows. ``alpha`` and ``beta`` have the arrays' type.
    """
    scalars = np.empty(2, out.dtype)
    scalars[0], scalars[1] = alpha, beta
    # BLAS is column-major: it sees out.T = alpha B.T A.T + beta out.T.
    _xxgemm(
        _D if out.itemsize == 8 else _S,
        _T if B_transposed else _N,
        _T if A_transposed else _N,
        columns,
        rows,
        inner,
        scalars.ctypes,
        B.ctypes,
        row_B,
        A.ctypes,
        row_A,
        scalars[1:].ctypes,
        out.ctypes,
        row_out,
    )


@kernel
def gemm(  # type: ignore[no-untyped-def]
    parts, alpha, A, A_transposed, B, B_transposed, beta, out
):
    """out = alpha A B + beta out in ``parts`` blocks of rows or columns, whichever number more."""
    rows, columns = out.shape
    inner = A.shape[0] if A_transposed else A.shape[1]
    length = max(rows, columns)
    for part in prange(parts):
        i, j = part * length // parts, (part + 1) * length // parts
        if i < j:
            if rows >= columns:
                block = A[:, i:] if A_transposed else A[i:]
                product(
                    j - i, inner, columns, alpha, block, A.shape[1], A_transposed,
                    B, B.shape[1], B_transposed, beta, out[i:], columns,
                )  # fmt: skip
            else:
                block = B[i:] if B_transposed else B[:, i:]
                product(
                    rows, inner, j - i, alpha, A, A.shape[1], A_transposed,
                    block, B.shape[1], B_transposed, beta, out[:, i:], columns,
                )  # fmt: skip


def load_blas(dtype: np.dtype[Any]) -> None:
    """Make Numba load BLAS: it does so at the first product, but not in a parallel kernel."""
    one: Array = np.ones((1, 1), dtype)
    gemm(1, dtype.type(1), one, False, one, False, dtype.type(0), np.empty((1, 1), dtype))
