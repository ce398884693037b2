"""The process of one contender: builds it, then answers requests until its input ends.

Requests and answers are lines of JSON. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prdsim.benchmark.contenders import Contender


def main(specification: dict[str, Any]) -> None:
    """Be the worker of a contender: ``kind``, ``problem`` (a file), ``keys`` and ``threads``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends workers
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _hold(specification["kind"], specification["threads"])
    try:
        worker = _Worker(specification)
        for line in sys.stdin:
            print(json.dumps(worker.answer(**json.loads(line))), file=answers)
    except Exception as error:
        if "PRDSIM_TRACEBACK" in os.environ:
            raise
        print(json.dumps({"error": _reason(error)}), file=answers)


def _hold(kind: str, threads: int) -> None:
    """Keep to as many cores as threads, before any library looks: JAX has no other limit."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:threads])
    os.environ["JAX_PLATFORMS"] = "cuda" if kind.endswith("@cuda") else "cpu"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of compilers left behind


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install 'prdsim[bench]'"
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Worker:
    """A contender and what may be asked of it."""

    def __init__(self, specification: dict[str, Any]) -> None:
        from prdsim.benchmark.contenders import make

        self._contender: Contender = make(
            specification["kind"],
            Path(specification["problem"]),
            specification["keys"],
            specification["threads"],
        )

    def answer(self, request: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{request}")(**arguments)
        return answer

    def _begin(self, steps: int, weights: str) -> dict[str, Any]:
        """Take the first steps, and leave what they led to in a file."""
        import numpy as np

        self._advance(steps)
        found: dict[str, Any] = self._contender.weights()
        np.savez(weights, **found)
        return {"description": self._contender.describe(), "arrays": sorted(found)}

    def _time(self, steps: int, warm_up: int = 1) -> dict[str, Any]:
        """Time steps; those to warm up before them do not count."""
        self._advance(warm_up)
        self._contender.prepare(steps)
        busy, own, begun = _busy_seconds(), time.process_time(), time.perf_counter()
        self._contender.advance(steps)
        seconds = time.perf_counter() - begun
        others = _busy_seconds() - busy - (time.process_time() - own)
        return {"seconds": seconds, "others": max(0.0, others / seconds)}

    def _advance(self, steps: int) -> None:
        self._contender.prepare(steps)
        self._contender.advance(steps)

    def _end(self) -> dict[str, Any]:
        """Say whether all is still finite, and how large the process was at its largest."""
        import numpy as np

        finite = all(bool(np.isfinite(array).all()) for array in self._contender.weights().values())
        return {"finite": finite, "peak_bytes": _peak_bytes()}


def _busy_seconds() -> float:
    """Processor time that the whole machine has spent, by proc(5): not idle, not waiting.

    Time stolen by a hypervisor counts: it is others' too.
    """
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    user, nice, system, _idle, _waiting, *rest = map(int, fields)
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _peak_bytes() -> int:
    """Return the largest resident size of this process (`getrusage` may report a parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0
