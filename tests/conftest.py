"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

# Before NumPy is imported: the tests' matrices are small, and threads that wait for each other keep
# the cores busy. A backend still takes the threads that it is told to take.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from cupy_on_host import HostCupy, compiler_missing
from cupy_on_host.harness import put_in
from threadpoolctl import threadpool_limits

from prdsim.backends import get_backend
from prdsim.files.stopping import SIGNALS

PRECISIONS = {
    "numpy": ("float64", "float32"),
    "numba": ("float64", "float32"),
    "cupy-on-host": ("float64", "float32", "tf32"),
}


def found(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name by which `get_backend` finds a backend, CuPy's on stand-ins where that is asked."""
    if name != "cupy-on-host":
        return name
    stand_in(monkeypatch)
    return "cupy"


def stand_in(monkeypatch: pytest.MonkeyPatch) -> HostCupy:
    """Put the stand-in in CuPy's place, if it can be compiled."""
    if compiler_missing():
        pytest.skip(compiler_missing())
    return put_in(monkeypatch)


@pytest.fixture
def cupy(monkeypatch) -> HostCupy:
    """The stand-in that `get_backend("cupy")` finds."""
    return stand_in(monkeypatch)


@pytest.fixture(params=PRECISIONS)
def backend(request, monkeypatch) -> str:
    """The name of a backend, each in turn."""
    return found(request.param, monkeypatch)


@pytest.fixture(params=[(name, p) for name in PRECISIONS for p in PRECISIONS[name]], ids="-".join)
def k(request, monkeypatch) -> Iterator[Any]:
    """Each backend at each of its precisions, with its threads and warnings as in a run."""
    name, precision = request.param
    backend = get_backend(found(name, monkeypatch), precision=precision)
    with backend.active():
        yield backend


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put signal handlers back: `prdsim.cli.main` sets its own, for the rest of the process."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """BLAS as outside the tests, where it has more threads than the one that a test asks for."""
    with threadpool_limits(2):
        yield


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond a size: writes fail with EFBIG, as on a full disk with ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LONG = ("test_campaigns.py", "test_verify.py", "test_mutated_inputs.py", "test_reproduce.py")
"""In turn for two processes: while the first needs no Numba, the second compiles its kernels."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: no process of the tests waits for another at the end."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pytest_collection() -> None:
    """Nothing that is imported becomes garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is imported by now stays: collections of garbage need not go through it each time."""
    gc.enable()
    gc.collect()
    gc.freeze()
