"""Stopping a run on request, between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import ParamSpec, Protocol

from prdsim.arguments import wrong
from prdsim.files.stopping import StopByException
from prdsim.words import shown

P = ParamSpec("P")


class Event(Protocol):
    """An event such as `threading.Event` or that of `multiprocessing`."""

    def is_set(self) -> bool:
        """Whether it is set."""
        ...


Condition = Event | Callable[[], object]
"""What can ask a run to stop: an event that is set, or a function whose value counts as true."""


class StopRequest(StopByException):
    """Asks a run to stop: by a signal, a condition of the caller, or the failure of their code.

    The first SIGINT, SIGTERM or SIGHUP only sets `signal`, which is obeyed between two steps; the
    second one raises at once. ``failure`` is the first error in what `call` has called.
    Raises `ConfigError` for what is neither an event nor a function.
    """

    def __init__(self, condition: Condition | None = None) -> None:
        super().__init__()
        self.signal: signal.Signals | None = None
        self.failure: Exception | None = None
        self._condition = _question(condition)
        self._asked = False

    def _act(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            super()._act(number, frame)
        self.signal = signal.Signals(number)

    @property
    def conditional(self) -> bool:
        """Whether there is a condition, to be asked after every step."""
        return self._condition is not None

    def due(self) -> bool:
        """Ask whether the run is to stop now."""
        if self._condition is not None and not self.reason:
            self.call(self._ask, self._condition)
        return bool(self.reason)

    def _ask(self, condition: Callable[[], object]) -> None:
        self._asked = bool(condition())

    def call(self, function: Callable[P, object], *arguments: P.args, **keywords: P.kwargs) -> None:
        """Call the caller's code, whose errors ask the run to stop, unless one has failed before.

        What it sets for its context, such as NumPy's handling of overflow, ends with it.
        """
        if self.failure is not None:
            return
        try:
            copy_context().run(function, *arguments, **keywords)
        except Exception as error:
            self.failure = error

    @property
    def reason(self) -> str:
        """Why the run is to stop, in words; empty if it is not."""
        if self.failure is not None:
            return f"the caller's code failed: {shown(repr(self.failure), 500)}"
        return self.signal.name if self.signal is not None else "stop" * self._asked


def _question(condition: Condition | None) -> Callable[[], object] | None:
    if condition is None:
        return None
    asked = getattr(condition, "is_set", condition)
    if not callable(asked):
        raise wrong("stop", "an event, or a function without arguments", condition)
    found: Callable[[], object] = asked
    return found
