"""Progress displays: a bar on a terminal, lines elsewhere. They change no bit of the results."""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TextIO, TypeVar, cast

from prdsim.words import visible

_A_CENTURY = 3e9  # seconds

LOG = logging.getLogger("prdsim")
"""The channel for the beginning and the end of runs, and for what their users should know."""
LOG.addHandler(logging.NullHandler())

_Item = TypeVar("_Item")

Say = Callable[[str], None]
"""A function that takes a line of text about work in progress."""


def silent(text: str) -> None:
    """Show nothing."""


def warn(text: str) -> None:
    """Tell the caller of the library, by a warning."""
    warnings.warn(text, stacklevel=3)


def noted(say: Say) -> Say:
    """Return a function that says a line, and logs it."""

    def say_and_log(text: str) -> None:
        LOG.warning("%s", text)
        say(text)

    return say_and_log


def show_line(text: str, stream: TextIO | None) -> None:
    """Print a line at once, if there is a stream."""
    if stream is not None:
        print(visible(text), file=stream, flush=True)


class Meter:
    """Shows the progress of some work: a bar on a terminal or in a notebook, lines elsewhere.

    Nothing is shown without a stream. ``ticks`` keeps the bar's clock going where moves are rare.
    ``bar`` holds options of tqdm.
    """

    def __init__(
        self, stream: TextIO | None, *, seconds: float = 5.0, ticks: bool = False, **bar: Any
    ) -> None:
        self._stream, self._seconds = stream, seconds
        self._next = time.monotonic() + seconds
        self._bar: Any = None
        self._ended, self._ticker = (
            threading.Event(),
            threading.Thread(target=self._tick, daemon=True),
        )
        if stream is not None and (_in_notebook(stream) or stream.isatty()):
            with warnings.catch_warnings():  # that there could be a widget
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

            self._bar = tqdm(file=stream, dynamic_ncols=True, **bar)
            if ticks:
                self._ticker.start()

    def _tick(self) -> None:
        while not self._ended.wait(0.5):
            self._bar.refresh()

    def move(self, done: float, label: str | None = None) -> None:
        """Move the bar and change its label; it is redrawn a few times a second."""
        if self._bar is not None:
            if label is not None:
                self._bar.set_description_str(label, refresh=False)
            self._bar.update(done - self._bar.n)

    def due(self) -> bool:
        """Whether it is time for a line; never with a bar or without a stream."""
        now = time.monotonic()
        if self._stream is None or self._bar is not None or now < self._next:
            return False
        self._next = now + self._seconds
        return True

    def line(self, text: str) -> None:
        """Print a line, unless there is a bar."""
        if self._bar is None:
            show_line(text, self._stream)

    def note(self, text: str) -> None:
        """Print a line at once, above the bar if there is one."""
        if self._bar is None:
            show_line(text, self._stream)
        else:
            self._bar.write(visible(text), file=self._stream)

    def close(self) -> None:
        """End the display; a bar stays visible unless ``leave`` is False."""
        self._ended.set()
        if self._ticker.is_alive():
            self._ticker.join()  # else it could draw the bar once more
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Progress:
    """The progress of a run, in time or in steps, whichever determines its end; not shown.

    Subclasses show it.
    """

    every_step = False
    """Whether to tell it of every step: small steps are taken in blocks of some 10 ms, else."""

    def start(self, done: float, total: float) -> None:
        """Report that the run begins, with ``done`` of ``total``."""

    def update(self, done: float, step: int, loss: float) -> None:
        """Report progress and the step; ``loss`` is the last recorded supervised loss."""

    def note(self, text: str) -> None:
        """Tell at once what the user should know; a warning unless the run is shown."""
        warn(text)

    def busy(self, text: str) -> None:
        """Tell of work that takes seconds, before it is done; not shown."""

    def remark(self, text: str) -> None:
        """Tell of a setting that may not do what was meant; in the log unless the run is shown."""
        LOG.warning(text)

    def close(self) -> None:
        """Report that no more updates will follow."""


class _TimeLeft:
    """The time left of a run, from the pace of its steps after the first, which may compile."""

    def __init__(self, done: float, total: float) -> None:
        self._begun, self._total = done, total
        self._first: tuple[float, float] | None = None

    def after(self, done: float) -> str:
        """Return the time left in words; nothing before the second step."""
        now = time.monotonic()
        if self._first is None and done > self._begun:
            self._first = done, now
        if self._first is None or done <= self._first[0]:
            return ""
        first, since = self._first
        seconds = (now - since) / (done - first) * (self._total - done)
        return f"  {seconds:.0f} s left" if seconds < _A_CENTURY else "  years left"


class Told(Progress):
    """Tells a function of a run that is a part of other work: how far it has come, and the rest."""

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what = say, what

    def start(self, done: float, total: float) -> None:
        """Tell that the run begins."""
        self._total, self._left = total, _TimeLeft(done, total)
        self._say(self._what)

    def update(self, done: float, step: int, loss: float) -> None:  # noqa: ARG002
        """Tell how far it has come."""
        left = self._left.after(done)
        self._say(f"{self._what}: {done:.4g} of {self._total:g}, step {step}{left}")


class Shown(Progress):
    """Shows time or step, loss and time left on a stream."""

    def __init__(self, stream: TextIO, seconds: float = 5.0) -> None:
        self._stream, self._seconds = stream, seconds
        self._meter: Meter | None = None

    def start(self, done: float, total: float) -> None:
        """Draw the bar, if the stream is a terminal."""
        self._total, self._left = total, _TimeLeft(done, total)
        self._meter = Meter(
            self._stream,
            seconds=self._seconds,
            total=total,
            initial=done,
            mininterval=0.2,
            bar_format="{percentage:3.0f}%|{bar}| {n:.4g}/{total:g} [{elapsed}{desc}]",
        )

    def update(self, done: float, step: int, loss: float) -> None:
        """Move the bar, or print a line if it is time."""
        assert self._meter is not None, "start comes first"
        left = self._left.after(done)
        self._meter.move(done, f"{left}, step {step}, L_sup={loss:.4g}")
        if self._meter.due():
            text = f"{done:.4g} of {self._total:g}  step {step}  L_sup {loss:.6g}{left}"
            self._meter.line(text)

    def note(self, text: str) -> None:
        """Print the text, above the bar if there is one."""
        if self._meter is None:  # before the start
            show_line(text, self._stream)
        else:
            self._meter.note(text)

    def busy(self, text: str) -> None:
        """Print the text as a note."""
        self.note(text)

    def remark(self, text: str) -> None:
        """Print the text as a note."""
        self.note(f"note: {text}")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._meter is not None:
            self._meter.close()


class _Dispensable:
    """Writes to a stream, ignoring failures: a lost terminal or full log must not end the work."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # broken pipe, full disk; a closed stream
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _in_notebook(stream: TextIO) -> bool:
    """Whether Jupyter shows a stream: it is no terminal, but bars are drawn there."""
    if isinstance(stream, _Dispensable):
        stream = stream.stream
    return type(stream).__module__.startswith("ipykernel.")


def progress_stream(stream: TextIO | None = None) -> TextIO | None:
    """Return a stream (stderr) for showing progress, whose failures are ignored; None without one.

    Python has no stderr if it was closed before the start.
    """
    stream = stream or sys.stderr
    return None if stream is None else cast(TextIO, _Dispensable(stream))


def announce(text: str) -> None:
    """Print a line where progress is shown."""
    show_line(text, progress_stream())


def automatic_progress(stream: TextIO | None = None) -> Progress:
    """Show a run on the stream (stderr): a bar on a terminal, else lines; nothing without one."""
    shown = progress_stream(stream)
    return Progress() if shown is None else Shown(shown)


def tracked(items: Iterable[_Item], what: str, *, seconds: float = 5.0) -> Iterator[_Item]:
    """Yield items, showing how many are done: a bar on a terminal, lines elsewhere."""
    listed = list(items)
    bar: dict[str, Any] = {"desc": what, "total": len(listed), "leave": False}
    with Meter(progress_stream(), seconds=seconds, **bar) as meter:
        for done, item in enumerate(listed):
            if meter.due():
                meter.line(f"{what}: {done} of {len(listed)}")
            yield item
            meter.move(done + 1)


@contextmanager
def noting(*, seconds: float = 5.0) -> Iterator[Say]:
    """Yield a function that shows a text about work of unknown length: in place on a terminal.

    Elsewhere it prints a line every few seconds. An empty text removes what is shown.
    """
    bar: dict[str, Any] = {"bar_format": "{desc} [{elapsed}]", "mininterval": 0, "leave": False}
    bar["delay"] = 1e-6  # not before there is a text
    meter: Meter | None = None

    def note(text: str) -> None:
        nonlocal meter
        if text:
            meter = meter or Meter(progress_stream(), seconds=seconds, ticks=True, **bar)
            meter.move(0, text)
            if meter.due():
                meter.line(text)
        elif meter is not None:
            meter.close()
            meter = None

    try:
        yield note
    finally:
        note("")


def tracked_after(note: Say, what: str) -> Callable[[Iterable[_Item]], Iterator[_Item]]:
    """Return a function that yields items as `tracked` does, in place of what ``note`` shows."""

    def loop(items: Iterable[_Item]) -> Iterator[_Item]:
        note("")
        return tracked(items, what)

    return loop


def announced_after(note: Say) -> Say:
    """Return a function that prints lines at once, in place of what ``note`` shows."""

    def say(text: str) -> None:
        note("")
        announce(text)

    return say
