"""Contenders in processes of their own, whose libraries see as many cores as there are threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, Self

from rivals import make

from prdsim.backends.arrays import HostArray
from prdsim.errors import PrdsimError
from prdsim.timing.contenders import Contender, Entry
from prdsim.timing.race import Block
from prdsim.timing.workload import Workload

_CONTEXT = multiprocessing.get_context("spawn")


class WorkerError(PrdsimError):
    """A contender that cannot take part; the text is the reason."""


class Worker(Contender):
    """A contender in a process that ends with the context.

    Raises `WorkerError` where the contender fails or its process dies.
    """

    def __init__(self, entry: Entry, workload: Workload, threads: int) -> None:
        self._threads = threads
        self._pipe, self._other_end = _CONTEXT.Pipe()
        arguments = (self._other_end, entry, workload, threads)
        self._process = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        # Inherited, and so held before any library of the worker looks: JAX has no other limit.
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(allowed)[: self._threads])
        try:
            self._process.start()
        finally:
            os.sched_setaffinity(0, allowed)
        self._other_end.close()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def begin(self, steps: int) -> tuple[dict[str, Any], dict[str, HostArray]]:
        found: tuple[dict[str, Any], dict[str, HostArray]] = self._ask("begin", steps)
        return found

    def timed(self, steps: int) -> Block:
        block: Block = self._ask("timed", steps)
        return block

    def end(self) -> tuple[bool, int]:
        found: tuple[bool, int] = self._ask("end")
        return found

    def _ask(self, request: str, *arguments: int) -> Any:
        try:
            self._pipe.send((request, arguments))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            raise WorkerError(f"its process ended with code {code}") from None
        if isinstance(answer, str):
            raise WorkerError(answer)
        return answer


def _serve(pipe: Connection, entry: Entry, workload: Workload, threads: int) -> None:
    """Make the contender at the first request, and answer all; a text says why one failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends workers
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.environ["JAX_PLATFORMS"] = "cuda" if entry.kind.endswith("@cuda") else "cpu"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of compilers left behind
    contender: Contender | None = None
    while True:
        try:
            request, arguments = pipe.recv()
        except EOFError:  # the parent has gone
            return
        try:
            contender = contender or make(entry, workload, threads)
            answer = getattr(contender, request)(*arguments)
        except Exception as error:
            answer = _reason(error)
        pipe.send(answer)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install -e '.[bench]'"
    return f"{type(error).__name__}: {error}".splitlines()[0]
