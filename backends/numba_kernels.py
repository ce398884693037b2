"""How kernels of the Numba backend are compiled, and how they multiply matrices.

There is one pool of threads, Numba's: a kernel's threads call BLAS on their own parts of a
product, and BLAS itself is limited to one thread (`prdsim.backends.numba`). Two pools would starve
each other: on two cores, small products by BLAS's own threads took up to 8 ms instead of 0.1 ms.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import FunctionType
from typing import Any, cast

# Set before Numba loads OpenMP, whose threads would otherwise spin forever. GNU's now spin for some
# 0.2 ms, enough to reach the next kernel of a step, then sleep; waking takes 50 microseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba
import numpy as np
from numba import njit

from .arrays import HostArray as Array
from .numba_cache import compiled
from .numba_intrinsics import ENTRY_BYTES, fork, product

PARALLEL_FROM = 1 << 16  # entries; below, waking the threads costs more than they save


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of a share of some work, without fastmath, and cache it.

    ``function(part, begin, end, *arguments)`` does the entries [begin, end) of the work, which are
    the share of number ``part``. The kernel is called as ``kernel(count, *arguments)`` to do the
    work of ``count`` entries. Work on small arrays is done by the calling thread, on larger ones
    in parallel; the size of the last argument decides, or ``entries`` if given. Shares are as many
    as threads, or ``parts``. Every sum must be done within one share whose bounds do not depend on
    the number of threads, or within one entry: then neither threads nor this choice changes a bit.
    """
    python = cast(FunctionType, function)
    shared = compiled(_called(python, njit(python)), nogil=True)

    @wraps(python)
    def run(count: int, *arguments: Any, entries: int | None = None, parts: int = 0) -> None:
        large = (arguments[-1].size if entries is None else entries) >= PARALLEL_FROM
        if not large or pool.lost:
            at = 0 if calls.entries is None else calls.next_entry()
            shared(*(at, 1, parts or 1, count) + arguments)  # noqa: RUF005 - faster than a list
            return
        calls.refuse()
        threads = numba.get_num_threads()
        parts = parts or threads
        with pool.turn:
            shared(0, min(threads, parts), parts, count, *arguments)

    return run


class CannotRecordError(Exception):
    """While kernels are recorded, something was called that is no kernel, or a large one.

    Large kernels take so long that their calls do not matter.
    """


class _Calls(threading.local):
    """The calls of kernels in a thread: they are done or, while there are entries, recorded."""

    entries: list[Array] | None = None

    def next_entry(self) -> int:
        """Return the address of a new entry."""
        assert self.entries is not None
        self.entries.append(np.empty(ENTRY_BYTES // np.intp().itemsize, np.intp))
        return int(self.entries[-1].ctypes.data)

    def refuse(self) -> None:
        """Raise `CannotRecordError` while calls are recorded."""
        if self.entries is not None:
            raise CannotRecordError


calls = _Calls()


def _called(function: FunctionType, task: Any) -> FunctionType:
    """Return ``called(record_at, threads, parts, count, *arguments)``, with the arguments' names.

    It is made from text because a call of a compiled function with ``*`` takes twice as long.
    """
    names = ", ".join(function.__code__.co_varnames[3 : function.__code__.co_argcount])
    text = f"def called(_a, _t, _p, _c, {names}): fork(_a, task, _t, _p, _c, ({names},))"
    scope: dict[str, Any] = {"fork": fork, "task": task}
    exec(compile(text, function.__code__.co_filename, "exec"), scope)
    called = cast(FunctionType, scope["called"])
    called.__module__, called.__qualname__ = function.__module__, f"{function.__qualname__}_called"
    return called


class _Threads:
    """Numba's threads: what a process may do with them.

    Those of OpenMP do not survive a fork, and Numba ends a child that uses them; the child of a
    process that has launched them computes with one thread, to the same bits. Those of the layer
    "workqueue" serve one kernel at a time, and Numba ends a process that does not wait.
    """

    lost = False
    turn: AbstractContextManager[object] = nullcontext()

    def __init__(self) -> None:
        self._lock = threading.Lock()
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


pool = _Threads()


@kernel
def gemm(  # type: ignore[no-untyped-def]
    _part, begin, end, alpha, A, A_transposed, B, B_transposed, beta, out
):
    """out = alpha A B + beta out, for rows or columns [begin, end) of it, whichever number more."""
    rows, columns = out.shape
    inner = A.shape[0] if A_transposed else A.shape[1]
    if rows >= columns:
        first = (0, begin) if A_transposed else (begin, 0)
        product(
            end - begin, inner, columns, alpha, A, first, A_transposed,
            B, (0, 0), B_transposed, beta, out, (begin, 0),
        )  # fmt: skip
    else:
        first = (begin, 0) if B_transposed else (0, begin)
        product(
            rows, inner, end - begin, alpha, A, (0, 0), A_transposed,
            B, first, B_transposed, beta, out, (0, begin),
        )  # fmt: skip


def load_blas(dtype: np.dtype[Any]) -> None:
    """Make Numba load BLAS: it does so at the first product, but not in a parallel kernel."""
    one: Array = np.ones((1, 1), dtype)
    gemm(1, dtype.type(1), one, False, one, False, dtype.type(0), np.empty((1, 1), dtype))
