"""Climbing the ladder: the backends, and the checks made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prdsim.backends import backend_names, get_backend
from prdsim.config import RunConfig
from prdsim.errors import BackendUnavailableError
from prdsim.progress import Say, silent
from prdsim.verification.experiments import Experiments
from prdsim.verification.ladder import RUNGS, Candidate
from prdsim.verification.operands import Finding
from prdsim.verification.rounding import ROUNDING

DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 48,
    "width": 64,
    "critic_width": 32,
    "seed": 4,
}
"""Without a configuration: so few gates, and so far from 0, that float32 seldom flips one."""


@dataclass(frozen=True)
class LadderCheck:
    """A finding, with backend, precision and rung."""

    backend: str
    precision: str
    rung: str
    item: str
    measured: float
    allowed: float
    reason: str
    holds: bool
    severity: float

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON values; an infinite error becomes null."""
        row = asdict(self)
        for name in ("measured", "allowed", "severity"):
            row[name] = float(row[name]) if np.isfinite(row[name]) else None
        return row


@dataclass(frozen=True)
class LadderReport:
    """All checks, and the unavailable backends with the reasons."""

    checks: list[LadderCheck]
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> list[LadderCheck]:
        """Failed checks, those of the lowest rung first."""
        rungs = list(RUNGS)
        failed = [check for check in self.checks if not check.holds]
        return sorted(failed, key=lambda check: rungs.index(check.rung))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        failures = self.failures
        return {
            "holds": not failures,
            "look_at_first": failures[0].rung if failures else None,
            "rungs": list(RUNGS),
            "checks": [check.to_dict() for check in self.checks],
            "unavailable": self.unavailable,
        }


def candidates(
    names: Sequence[str] = (), precisions: Sequence[str] = (), *, threads: int | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the available backends, at every precision they support, and why others are not.

    Raises `BackendUnavailableError` if a named one is unavailable or none has a named precision,
    and `ConfigError` for a name that does not exist.
    """
    found: list[Candidate] = []
    unavailable: dict[str, str] = {}
    for name in names or backend_names():
        try:
            get_backend(name)
        except BackendUnavailableError as error:
            if names:
                raise
            unavailable[name] = str(error).partition(": ")[2].replace("\n", " ")
            continue
        reasons = []
        for precision in precisions or ROUNDING:
            try:
                backend = get_backend(name, precision=precision, threads=threads)
                found.append(Candidate(backend, through_files=True))
            except BackendUnavailableError as error:
                reasons.append(error)
        if names and precisions and reasons:
            raise reasons[0]
    if not found:
        raise BackendUnavailableError(f"no available backend has precision {', '.join(precisions)}")
    return found, unavailable


def verify(
    candidates: Iterable[Candidate],
    config: RunConfig | None = None,
    *,
    progress: Say = silent,
    past_failures: bool = True,
) -> list[LadderCheck]:
    """Climb the ladder with every candidate; return all checks, whether they hold or not.

    The data and sizes are those of ``config``; its backend, precision, chart, integrator and output
    do not matter. Diffusion is on. ``progress`` is called with each rung as it begins. Without
    ``past_failures`` a candidate stops at the first rung that fails. Raises `ConfigError` or
    `DataError` where a run of the configuration would.
    """
    experiments = Experiments(config or RunConfig(**DEFAULTS))
    checks: list[LadderCheck] = []
    for candidate in candidates:
        backend = candidate.backend
        for rung in RUNGS:
            progress(f"{backend.name} {backend.precision}: {rung}")
            found = [
                LadderCheck(
                    backend.name,
                    backend.precision,
                    rung,
                    **finding._asdict(),
                    holds=bool(finding.holds),
                    severity=finding.severity,
                )
                for finding in _climbed(rung, candidate, experiments)
            ]
            checks += found
            if not past_failures and not all(check.holds for check in found):
                break
    return checks


def _climbed(rung: str, candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """Yield a rung's findings; an error on the way becomes a failed one."""
    try:
        yield from RUNGS[rung](candidate, experiments)
    except Exception as error:
        text = str(error).partition("\n")[0]
        yield Finding(f"{type(error).__name__}: {text}", float("inf"), 0.0, "the rung stopped here")
