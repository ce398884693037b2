"""Simulator of the pseudo-reaction-diffusion model of adversarial learning.

Public names are imported on first use (PEP 562), so that ``import prdsim`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

__version__ = "0.2.0"

_HOMES = {
    "RunConfig": "prdsim.config",
    "run": "prdsim.running.runner",
    "resume": "prdsim.running.resuming",
    "Simulation": "prdsim.running.simulation",
    "Trajectory": "prdsim.trajectory",
    "open_trajectory": "prdsim.trajectory",
    "load_dataset": "prdsim.datasets",
    "get_backend": "prdsim.backends",
    "open_study": "prdsim.study.results",
}

__all__ = ["__version__", *sorted(_HOMES)]

# In a checkout backends/, cli/ and data/ are next to this folder; when installed, inside it.
if not (Path(__file__).parent / "backends").is_dir():
    __path__.append(str(Path(__file__).parent.parent))


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'prdsim' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
