"""One case measured: all contenders checked, then timed in turn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends import backend_names, backend_status, get_backend
from prdsim.benchmark.agreement import CHECKED_STEPS, Agreement, compare
from prdsim.benchmark.contenders import RIVALS
from prdsim.benchmark.problem import Problem
from prdsim.benchmark.processes import Entry, WorkerError, WorkerProcess
from prdsim.benchmark.products import CHARTS_PRODUCTS
from prdsim.benchmark.race import Block, Timing, race
from prdsim.config import RunConfig
from prdsim.physics.charts import CHARTS
from prdsim.progress import Say, silent

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray

AUTOMATIC = Entry("prdsim", "prdsim", {"backend": "auto", "chart": "auto"})
"""What a user gets who leaves backend and chart to prdsim."""

REFERENCE = Entry(
    "reference", "prdsim", {"backend": "numpy", "chart": "weight", "precision": "float64"}
)


@dataclass
class Row:
    """What was found of one contender; ``left_out`` is the reason why it was not timed."""

    label: str
    kind: str
    description: dict[str, Any] = field(default_factory=dict)
    agreement: list[Agreement] = field(default_factory=list)
    timing: Timing | None = None
    peak_bytes: int = 0
    left_out: str = ""

    @property
    def disagrees(self) -> bool:
        """Whether it computes something else than the reference."""
        return any(not check.holds for check in self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON takes it; times in milliseconds a step."""
        timed: dict[str, Any] = {}
        if self.timing is not None:
            timed = {
                "ms": 1e3 * self.timing.seconds,
                "rounds_ms": [1e3 * block.seconds for block in self.timing.blocks],
                "steps_of_a_block": self.timing.steps,
                "disturbed_blocks": self.timing.disturbed,
                "peak_mb": self.peak_bytes / 1e6,
            }
        return {
            "label": self.label,
            "kind": self.kind,
            "chart": self.description.get("chart"),
            "description": self.description,
            "agreement": [
                {**asdict(check), "measured": _finite(check.measured)} for check in self.agreement
            ],
            "left_out": self.left_out or None,
            **timed,
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


@dataclass(frozen=True)
class Case:
    """The rows of one configuration."""

    config: RunConfig
    sizes: dict[str, int]
    threads: int
    rows: list[Row]

    def timing(self, label: str) -> Timing | None:
        """Return the timing of a contender, if it was timed."""
        return next((row.timing for row in self.rows if row.label == label), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the case as JSON takes it."""
        return {
            "sizes": self.sizes,
            "critic": self.config.adversary,
            "precision": self.config.precision,
            "threads": self.threads,
            "step_size": self.config.step_size,
            "contenders": [row.to_dict() for row in self.rows],
        }


def measure(
    config: RunConfig,
    entries: Sequence[Entry],
    *,
    rounds: int,
    block_seconds: float,
    progress: Say = silent,
) -> Case:
    """Check and time contenders on the problem of a configuration.

    A contender that cannot take part, or computes something else, is left out with the reason.
    Raises what `Problem.of` raises.
    """
    problem = Problem.of(config)
    threads = config.threads or len(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="prdsim-bench-") as folder, ExitStack() as processes:
        measurement = _Measurement(problem, Path(folder), threads, progress)
        rows = [Row(entry.label, entry.kind) for entry in entries]
        entrants = []
        for row, entry in zip(rows, entries, strict=True):
            worker = measurement.worker(entry)
            if measurement.admits(row, worker, processes):
                entrants.append(worker)
        timings = race(entrants, rounds=rounds, block_seconds=block_seconds, progress=progress)
        ends = {worker.label: worker.end() for worker in entrants}
    for row in rows:
        _note(row, timings.get(row.label), ends.get(row.label, {}))
    return Case(problem.config, asdict(problem.sizes), threads, rows)


def _note(row: Row, timing: Timing | None, end: dict[str, Any]) -> None:
    """Keep a timing, unless it is of a worker that failed or of numbers that became infinite."""
    if "error" in end or end.get("finite") is False:
        row.left_out = end.get("error", "left the finite numbers while it was timed")
    elif timing is not None:
        row.timing, row.peak_bytes = timing, end["peak_bytes"]


class _Entrant:
    """A worker in the race; one that fails there is fast and wrong from then on, and is noted."""

    def __init__(self, process: WorkerProcess) -> None:
        self.label, self.process = process.label, process
        self._failure = ""

    def timed(self, steps: int) -> Block:
        """Ask the worker for a block."""
        if not self._failure:
            try:
                answer = self.process.ask("time", steps=steps)
                return Block(answer["seconds"] / steps, answer["others"])
            except WorkerError as error:
                self._failure = str(error)
        return Block(float("inf"))

    def end(self) -> dict[str, Any]:
        """Return how the worker ended."""
        try:
            return {"error": self._failure} if self._failure else self.process.ask("end")
        except WorkerError as error:
            return {"error": str(error)}


class _Measurement:
    """The files and the reference that the contenders of one case share."""

    def __init__(self, problem: Problem, folder: Path, threads: int, progress: Say) -> None:
        self._problem, self._folder, self._threads = problem, folder, threads
        self._progress, self._started = progress, 0
        self._path = folder / "problem.npz"
        problem.save(self._path)
        self._reference: dict[str, HostArray] = {}

    def worker(self, entry: Entry) -> _Entrant:
        return _Entrant(WorkerProcess(entry, self._path, self._threads))

    def admits(self, row: Row, entrant: _Entrant, processes: ExitStack) -> bool:
        """Start a worker and compare what it computes; note in the row why it may not take part."""
        self._progress(f"{row.label}: first steps")
        process = processes.enter_context(entrant.process)
        try:
            row.description, found = self._first_steps(process)
        except WorkerError as error:
            row.left_out = str(error)
            return False
        if found:
            row.agreement = compare(self._problem, self._reference_weights(), found)
        if row.disagrees:
            worst = max(row.agreement, key=lambda check: check.measured / check.allowed)
            row.left_out = (
                f"disagrees with the reference: the change of {worst.array} by "
                f"{worst.measured:.2g}, allowed {worst.allowed:.2g}"
            )
        return not row.disagrees

    def _first_steps(self, process: WorkerProcess) -> tuple[dict[str, Any], dict[str, HostArray]]:
        path = self._folder / "weights.npz"
        answer = process.ask("begin", steps=CHECKED_STEPS, weights=str(path))
        with np.load(path) as arrays:
            return answer["description"], {name: arrays[name] for name in answer["arrays"]}

    def _reference_weights(self) -> dict[str, HostArray]:
        if not self._reference:
            with WorkerProcess(REFERENCE, self._path, self._threads) as process:
                _, self._reference = self._first_steps(process)
        return self._reference


# -- who takes part --------------------------------------------------------------------------------


def entries_here(
    config: RunConfig, *, backends: Sequence[str] = (), rivals: Sequence[str] = ()
) -> list[Entry]:
    """Return who takes part on this machine: prdsim in every way that works here, and the rivals.

    Without names: the backend of the configuration, for ``auto`` all that work here, and every
    rival. Raises `ConfigError` for a backend that does not exist, and `BackendUnavailableError`
    for one that was named and cannot work here.
    """
    named = backends or ([] if config.backend == "auto" else [config.backend])
    for name in named:
        get_backend(name, precision=config.precision)
    working = named or [name for name in backend_names() if backend_status(name).available]
    charts = list(CHARTS) if config.chart == "auto" else [config.chart]
    ours = [
        Entry(f"prdsim {backend} {chart}", "prdsim", {"backend": backend, "chart": chart})
        for backend in working
        for chart in charts
    ]
    automatic = [] if named or config.chart != "auto" else [AUTOMATIC]
    kinds = list(rivals or RIVALS)
    if not rivals and any(name.startswith("cupy") for name in working):
        kinds += [f"{name}@cuda" for name in RIVALS if name != "numpy"]
    others = [Entry(kind, kind) for kind in kinds]
    return [*others, *ours, *automatic, *([] if config.adversary else products(charts))]


def products(charts: Sequence[str]) -> list[Entry]:
    """Return the entries of the bare products of charts."""
    return [
        Entry(f"products {chart}", f"products:{chart}")
        for chart in charts
        if chart in CHARTS_PRODUCTS
    ]
