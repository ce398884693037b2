"""Showing how far a run is: a bar on a terminal, lines elsewhere. Showing changes no bit of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, TypeVar, cast

_Item = TypeVar("_Item")

Say = Callable[[str], None]
"""What takes a line of text about work that is under way."""


def silent(text: str) -> None:
    """Show nothing."""


class _Pace:
    """Says when so many seconds have passed, again and again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Progress(Protocol):
    """What a run tells of its way, in time or in steps: whichever says when it ends."""

    def start(self, done: float, total: float) -> None:
        """Say that the run begins, ``done`` of ``total``."""

    def update(self, done: float, step: int, loss: float) -> None:
        """Say how far the run is, at which step; ``loss`` is the last recorded supervised loss."""

    def close(self) -> None:
        """Say that no more will come."""


class Silent:
    """Shows nothing."""

    def start(self, done: float, total: float) -> None:
        """Do nothing."""

    def update(self, done: float, step: int, loss: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar with time, step, loss and time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, done: float, total: float) -> None:
        """Draw the bar."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=done,
            file=self._stream,
            dynamic_ncols=True,
            mininterval=0.2,
            bar_format="{percentage:3.0f}%|{bar}| {n:.4g}/{total:g} "
            "[{elapsed}<{remaining}{postfix}]",
        )

    def update(self, done: float, step: int, loss: float) -> None:
        """Move the bar; it redraws itself a few times a second."""
        self._bar.set_postfix_str(f"step {step}, L_sup={loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class Lines:
    """A line every few seconds, for logs."""

    def __init__(self, stream: TextIO, seconds: float = 5.0) -> None:
        self._stream, self._seconds = stream, seconds

    def start(self, done: float, total: float) -> None:
        """Note the beginning."""
        self._total, self._first, self._begun = total, done, time.monotonic()
        self._pace = _Pace(self._seconds)
        self._compiled = False

    def update(self, done: float, step: int, loss: float) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if not self._compiled:  # the first step's time says nothing of the others'
            self._compiled, self._first, self._begun = True, done, now
        if not self._pace.due():
            return
        left = ""
        if done > self._first:
            seconds = (now - self._begun) / (done - self._first) * (self._total - done)
            left = f"  {seconds:.0f} s left"
        print(
            f"{done:.4g} of {self._total:g}  step {step}  L_sup {loss:.6g}{left}",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        """Do nothing."""


class _Dispensable:
    """Writes to a stream while it takes it: a lost terminal or a full log must end no work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # broken pipe, full disk; a closed stream
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def progress_stream(stream: TextIO | None = None) -> TextIO | None:
    """Return a stream (stderr) for showing progress, whose failures do not matter, if there is one.

    Python has no stderr where it was closed before the start.
    """
    stream = stream or sys.stderr
    return None if stream is None else cast(TextIO, _Dispensable(stream))


def announce(text: str) -> None:
    """Print a line where progress is shown."""
    stream = progress_stream()
    if stream is not None:
        print(text, file=stream, flush=True)


def automatic_progress(stream: TextIO | None = None) -> Progress:
    """Return a bar if the stream (stderr) is a terminal, else lines; nothing without a stream."""
    shown = progress_stream(stream)
    if shown is None:
        return Silent()
    return Bar(shown) if shown.isatty() else Lines(shown)


def tracked(items: Iterable[_Item], what: str, *, seconds: float = 5.0) -> Iterator[_Item]:
    """Yield items, showing how many are done: a bar on a terminal, lines elsewhere."""
    shown, listed = progress_stream(), list(items)
    if shown is None:
        yield from listed
    elif shown.isatty():
        from tqdm import tqdm

        yield from tqdm(listed, desc=what, file=shown, dynamic_ncols=True, leave=False)
    else:
        pace = _Pace(seconds)
        for done, item in enumerate(listed):
            if pace.due():
                print(f"{what}: {done} of {len(listed)}", file=shown, flush=True)
            yield item


@contextmanager
def noting(*, seconds: float = 5.0) -> Iterator[Say]:
    """Yield a function that shows a text where work of unknown length is: in place on a terminal.

    Elsewhere a line every few seconds.
    """
    shown = progress_stream()
    if shown is None:
        yield silent
    elif shown.isatty():
        from tqdm import tqdm

        with tqdm(bar_format="{desc} [{elapsed}]", file=shown, leave=False) as bar:
            yield bar.set_description_str
    else:
        pace = _Pace(seconds)

        def line(text: str) -> None:
            if pace.due():
                print(text, file=shown, flush=True)

        yield line
