"""Showing how far a download is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

from prdsim.files.posix import format_bytes
from prdsim.progress import progress_stream


class Report(Protocol):
    """What a download tells of its way."""

    def start(self, name: str, done: int, size: int, mirror: str) -> None:
        """Say that ``done`` of the file's bytes are here and the mirror is asked for the others."""

    def update(self, done: int) -> None:
        """Say how many bytes are here; fewer than before if the download began anew."""

    def note(self, line: str) -> None:
        """Tell of something on the way."""

    def close(self) -> None:
        """Say that no more will come from this mirror."""


class Silent:
    """Shows nothing."""

    def start(self, name: str, done: int, size: int, mirror: str) -> None:
        """Do nothing."""

    def update(self, done: int) -> None:
        """Do nothing."""

    def note(self, line: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar for each file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None

    def start(self, name: str, done: int, size: int, mirror: str) -> None:  # noqa: ARG002
        """Draw the bar."""
        from tqdm import tqdm

        self._bar = tqdm(
            desc=name,
            total=size,
            initial=done,
            unit="B",
            unit_scale=True,
            file=self._stream,
            dynamic_ncols=True,
        )

    def update(self, done: int) -> None:
        """Move the bar, backwards too."""
        self._bar.update(done - self._bar.n)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        from tqdm import tqdm

        tqdm.write(line, file=self._stream)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class Lines:
    """A line for each file, and one every few seconds."""

    def __init__(self, stream: TextIO, seconds: float = 5.0) -> None:
        self._stream, self._seconds = stream, seconds

    def start(self, name: str, done: int, size: int, mirror: str) -> None:
        """Print what is fetched, and whence."""
        self._name, self._size, self._next = name, size, time.monotonic() + self._seconds
        rest = f", from byte {done}" if done else ""
        self.note(f"{name}: {format_bytes(size)} from {mirror}{rest}")

    def update(self, done: int) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._seconds
            self.note(f"{self._name}: {format_bytes(done)} of {format_bytes(self._size)}")

    def note(self, line: str) -> None:
        """Print the line."""
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing."""


def automatic_report(stream: TextIO | None = None) -> Report:
    """Return a bar if the stream (stderr) is a terminal, else lines; nothing without a stream."""
    shown = progress_stream(stream)
    if shown is None:
        return Silent()
    return Bar(shown) if shown.isatty() else Lines(shown)
