"""SIGINT, SIGTERM and SIGHUP while there are files to leave in order."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask to stop; the last comes when the terminal is closed."""


class StopByException:
    """While entered, SIGINT raises KeyboardInterrupt, the others SystemExit: ``finally`` runs.

    Signals that are ignored, as in background jobs or under nohup, stay ignored. Handlers can be
    set in the main thread only; in others, entering does nothing.
    """

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._act)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _act(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)
