"""Stopping a run on request, between two steps."""

from __future__ import annotations

import signal
from types import FrameType

from prdsim.files.stopping import StopByException


class StopRequest(StopByException):
    """The first SIGINT, SIGTERM or SIGHUP only sets `signal`, which is obeyed between two steps.

    The second one raises at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signal: signal.Signals | None = None

    def _act(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            super()._act(number, frame)
        self.signal = signal.Signals(number)
