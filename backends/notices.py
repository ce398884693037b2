"""What a backend tells while it prepares, to whoever listens in this context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

COMPILING = "compiling kernels, once"

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(say: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, ``say`` is told, once each, what a backend is about to do that takes long.

    Others that listen meanwhile, deeper in the calls, are told instead.
    """
    told: set[str] = set()

    def once(text: str) -> None:
        if text not in told:
            told.add(text)
            say(text)

    token = _listener.set(once)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(text: str) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(text)
