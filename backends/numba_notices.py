"""Compiling told before it is done: by Numba's event, which kernels from a cache do not cause."""

from __future__ import annotations

from functools import cache

from numba.core import event

from .notices import COMPILING, tell


class _Compiling(event.Listener):
    def on_start(self, event: object) -> None:  # noqa: ARG002
        tell(COMPILING)

    def on_end(self, event: object) -> None:
        pass


@cache
def begin() -> None:
    """Tell from now on."""
    event.register("numba:compile", _Compiling())  # type: ignore[no-untyped-call]
