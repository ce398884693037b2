"""Simulator of the pseudo-reaction-diffusion model of adversarial learning.

Public names are imported on first use (PEP 562), so that ``import prdsim`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.3.0.dev0"

_HOMES = {
    "RunConfig": "prdsim.config",
    "run": "prdsim.running.runner",
    "run_many": "prdsim.study.many",
    "resume": "prdsim.running.resuming",
    "Simulation": "prdsim.running.simulation",
    "Result": "prdsim.running.loop",
    "Observation": "prdsim.running.observing",
    "Trajectory": "prdsim.trajectory",
    "open_trajectory": "prdsim.trajectory",
    "load_dataset": "prdsim.datasets",
    "get_backend": "prdsim.backends",
    "open_study": "prdsim.study.results",
    "History": "prdsim.analysis",
    "history": "prdsim.analysis",
    "PrdsimError": "prdsim.errors",
    "ConfigError": "prdsim.errors",
    "DataError": "prdsim.errors",
    "TrajectoryError": "prdsim.errors",
    "NotATrajectoryError": "prdsim.errors",
    "DamagedTrajectoryError": "prdsim.errors",
    "TrajectoryLockedError": "prdsim.errors",
    "ResumeMismatchError": "prdsim.errors",
    "OutputError": "prdsim.errors",
    "ReportError": "prdsim.errors",
    "BackendUnavailableError": "prdsim.errors",
    "BackendAbsentError": "prdsim.errors",
    "StudyError": "prdsim.errors",
    "DivergedError": "prdsim.errors",
    "UnreadableConfigError": "prdsim.errors",
}
_PACKAGES = ("analysis", "errors", "figures")

__all__ = ["__version__", *sorted(_HOMES)]

# In a checkout backends/, cli/ and data/ are next to this folder; when installed, inside it.
if not (Path(__file__).parent / "backends").is_dir():
    __path__.append(str(Path(__file__).parent.parent))


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"prdsim.{name}")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'prdsim' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PACKAGES})
