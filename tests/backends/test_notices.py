"""What backends tell before they do it: to who listens, once, and only if it is done."""

from __future__ import annotations

import threading

import numba

from prdsim.backends import get_backend, listening
from prdsim.backends.notices import COMPILING, tell


def test_compiling_is_told_before_it_is_done_and_once():
    told: list[str] = []
    compiled: list[bool] = []

    def say(text: str) -> None:
        told.append(text)
        compiled.append(bool(add.signatures))

    get_backend("numba")
    get_backend("numba")
    add = numba.njit(lambda a, b: a + b)
    with listening(say):
        assert add(1, 2) == 3
        assert add(1.0, 2.0) == 3.0
    assert (told, compiled) == ([COMPILING], [False])
    with listening(say):
        add(1, 2)  # compiled already
    assert told == [COMPILING]


def test_who_listens_deeper_is_told_instead_and_others_are_not():
    outer: list[str] = []
    inner: list[str] = []
    tell("nobody")
    with listening(outer.append):
        with listening(inner.append):
            tell("within")
        tell("after")
        other = threading.Thread(target=tell, args=("in another thread",))
        other.start()
        other.join()
    tell("nobody")
    assert (outer, inner) == (["after"], ["within"])
