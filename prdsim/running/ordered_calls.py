"""Calls made in order: at once, or by a thread while the caller goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec

P = ParamSpec("P")


class OrderedCalls:
    """Makes the calls it is given, in order; with ``behind``, in one background thread.

    An error in the background is raised, unchanged, by the next call or `wait`; calls given in
    between are dropped, as if the caller had not come so far.
    """

    def __init__(self, *, behind: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "prdsim-calls") if behind else None
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether no call is left to make."""
        return self._last is None or self._last.done()

    def __call__(self, call: Callable[P, Any], *arguments: P.args, **keywords: P.kwargs) -> None:
        """Make ``call(*arguments, **keywords)`` after all calls given before."""
        if self._thread is None:
            call(*arguments, **keywords)
            return
        self._raise_error()
        self._last = self._thread.submit(self._do, call, arguments, keywords)

    def wait(self) -> None:
        """Return when all calls are done."""
        if self._last is not None:
            wait([self._last])
        self._raise_error()

    def close(self) -> None:
        """Finish the calls given; an error that nobody waited for is lost."""
        if self._thread is not None:
            self._thread.shutdown()

    def _do(self, call: Callable[..., Any], arguments: Any, keywords: Any) -> None:
        if self._error is not None:  # nothing may follow a failed call
            return
        try:
            call(*arguments, **keywords)
        except BaseException as error:
            self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            if self._last is not None:
                wait([self._last])  # later calls are dropped first
            error, self._error = self._error, None
            raise error
