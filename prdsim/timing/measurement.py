"""One case measured: all contenders checked, then timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prdsim.backends import backend_names, backend_status, get_backend
from prdsim.backends.arrays import HostArray
from prdsim.config import RunConfig
from prdsim.errors import PrdsimError
from prdsim.files.cores import available_cores
from prdsim.physics.charts import CHARTS
from prdsim.progress import Say, silent
from prdsim.timing.agreement import CHECKED_STEPS, Agreement, compare
from prdsim.timing.contenders import Contender, Entry, own_contender
from prdsim.timing.race import Block, Entrant, Timing, race
from prdsim.timing.workload import Workload

AUTOMATIC = Entry("prdsim", "prdsim", {"backend": "auto", "chart": "auto"})
"""The entry that leaves backend and chart to prdsim."""

REFERENCE = Entry(
    "reference", "prdsim", {"backend": "numpy", "chart": "weight", "precision": "float64"}
)


@dataclass
class TimedContender:
    """The results of one contender; ``left_out`` is the reason why it was not timed."""

    label: str
    kind: str
    description: dict[str, Any] = field(default_factory=dict)
    agreement: list[Agreement] = field(default_factory=list)
    timing: Timing | None = None
    peak_bytes: int = 0
    left_out: str = ""

    @property
    def disagrees(self) -> bool:
        """Whether it disagrees with the reference."""
        return any(not check.holds for check in self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; times in milliseconds per step."""
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
class TimedCase:
    """The contenders of one configuration."""

    config: RunConfig
    sizes: dict[str, int]
    threads: int
    contenders: list[TimedContender]

    def timing(self, label: str) -> Timing | None:
        """Return the timing of a contender, if it was timed."""
        return next((each.timing for each in self.contenders if each.label == label), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the case as JSON values."""
        return {
            "sizes": self.sizes,
            "critic": self.config.adversary,
            "precision": self.config.precision,
            "threads": self.threads,
            "step_size": self.config.step_size,
            "contenders": [each.to_dict() for each in self.contenders],
        }


Start = Callable[[Entry, Workload, int], AbstractContextManager[Contender]]
"""Starts a contender with a number of threads, for the duration of the context."""


def here(entry: Entry, workload: Workload, threads: int) -> AbstractContextManager[Contender]:
    """Start one of prdsim's own contenders in this process."""
    return nullcontext(own_contender(entry, workload, threads))


def measure(
    config: RunConfig,
    entries: Sequence[Entry],
    *,
    rounds: int,
    block_seconds: float,
    start: Start = here,
    progress: Say = silent,
) -> TimedCase:
    """Check and time contenders on the workload of a configuration.

    A contender that fails or disagrees with the reference is left out with the reason. Raises the
    errors of `Workload.of`.
    """
    workload = Workload.of(config)
    threads = config.threads or available_cores()
    with start(REFERENCE, workload, threads) as contender:
        _, reference = contender.begin(CHECKED_STEPS)
    rows = [TimedContender(entry.label, entry.kind) for entry in entries]
    with ExitStack() as stack:
        admitted: dict[str, tuple[TimedContender, Contender]] = {}
        for row, entry in zip(rows, entries, strict=True):
            progress(f"{row.label}: first steps")
            with _failure_noted(row):
                contender = stack.enter_context(start(entry, workload, threads))
                _check(row, contender, workload, reference)
            if not row.left_out:
                admitted[row.label] = row, contender
        timings = race(
            {label: _in_race(*pair) for label, pair in admitted.items()},
            rounds=rounds,
            block_seconds=block_seconds,
            progress=progress,
        )
        for label, pair in admitted.items():
            _end(*pair, timings[label])
    return TimedCase(workload.config, asdict(workload.sizes), threads, rows)


@contextmanager
def _failure_noted(row: TimedContender) -> Iterator[None]:
    """Leave a contender out if it fails, for whatever reason."""
    try:
        yield
    except PrdsimError as error:
        row.left_out = str(error)
    except Exception as error:
        row.left_out = f"{type(error).__name__}: {error}".splitlines()[0]


def _check(
    row: TimedContender,
    contender: Contender,
    workload: Workload,
    reference: Mapping[str, HostArray],
) -> None:
    """Have the first steps taken, and compare their result with the reference."""
    row.description, weights = contender.begin(CHECKED_STEPS)
    if weights:
        row.agreement = compare(workload, reference, weights)
    if row.disagrees:
        worst = max(row.agreement, key=lambda check: check.measured / check.allowed)
        row.left_out = (
            f"disagrees with the reference: the change of {worst.array} by "
            f"{worst.measured:.2g}, allowed {worst.allowed:.2g}"
        )


def _in_race(row: TimedContender, contender: Contender) -> Entrant:
    """Return the entrant; one that fails is not called again, and is left out at the end."""

    def timed(steps: int) -> Block:
        if not row.left_out:
            with _failure_noted(row):
                return contender.timed(steps)
        return Block(float("inf"))

    return timed


def _end(row: TimedContender, contender: Contender, timing: Timing) -> None:
    """Keep a timing, unless the contender failed or its numbers became infinite."""
    if row.left_out:
        return
    with _failure_noted(row):
        finite, row.peak_bytes = contender.end()
        if finite:
            row.timing = timing
        else:
            row.left_out = "left the finite numbers while it was timed"


# -- participants ----------------------------------------------------------------------------------


def entries_here(config: RunConfig, backends: Sequence[str] = ()) -> list[Entry]:
    """Return the participants on this machine: prdsim in every available way, bare products.

    Without names: the backend of the configuration, for ``auto`` all that are available. Raises
    `ConfigError` for a backend that does not exist, and `BackendUnavailableError` for a named one
    that is unavailable.
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
    return [*ours, *automatic, *([] if config.adversary else bare_products(charts))]


def bare_products(charts: Sequence[str]) -> list[Entry]:
    """Return the entries of the bare products of charts."""
    return [Entry(f"products {chart}", f"products:{chart}") for chart in charts]
