"""The parent's side of a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from prdsim.errors import PrdsimError

_PROGRAM = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from prdsim.benchmark.worker import main
main(json.loads(sys.argv[2]))
"""


@dataclass(frozen=True)
class Entry:
    """Who takes part: a label, a kind that `contenders.make` knows, keys of the configuration."""

    label: str
    kind: str
    keys: dict[str, Any] = field(default_factory=dict)


class WorkerError(PrdsimError):
    """A contender that cannot take part; the text is the reason."""


class WorkerProcess:
    """A contender in a process of its own, ended with the context.

    Raises `WorkerError` where the contender fails or its process dies.
    """

    def __init__(self, entry: Entry, problem: Path, threads: int) -> None:
        self.label = entry.label
        self._specification = {
            "kind": entry.kind,
            "problem": str(problem),
            "keys": entry.keys,
            "threads": threads,
        }
        self._log = problem.with_name(f"{problem.stem}.log")

    def __enter__(self) -> Self:
        arguments = [json.dumps(sys.path), json.dumps(self._specification)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        requests, answers = self._pipes()
        with suppress(BrokenPipeError):  # it has answered with its reason, or died
            requests.write(json.dumps({"request": request, **arguments}) + "\n")
            requests.flush()
        line = answers.readline()
        if not line:
            raise WorkerError(f"its process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout
