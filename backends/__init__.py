"""Backends: the libraries that hold the arrays and multiply them.

`get_backend` creates an instance by name; nothing heavy is imported before. Instances are explicit
and independent: there is no current backend.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from prdsim.arguments import choice, integer
from prdsim.errors import (
    BackendAbsentError,
    BackendUnavailableError,
    ConfigError,
    PrdsimError,
    did_you_mean,
)
from prdsim.symbols import Precision
from prdsim.words import first_line

from .notices import listening as listening

if TYPE_CHECKING:
    from .base import Backend

    Factory = Callable[[str, int | None, str], Backend]

_SHIPPED = {
    "cupy": ("cupy", "create"),
    "numba": ("numba", "NumbaBackend"),
    "numpy": ("numpy", "NumpyBackend"),
}  # module and factory, in the order in which "auto" tries them
_REGISTERED: dict[str, Factory] = {}
_CALLED = {"gpu": "cupy", "cuda": "cupy"}  # by other programs


@dataclass(frozen=True)
class BackendStatus:
    """The availability of one backend, as shown by `prdsim backends`.

    ``description`` is that of `Backend.describe`, empty if it is unavailable: then ``reason`` says
    why, and what to do. ``notes`` are lines about what works with a loss.
    """

    name: str
    available: bool
    description: dict[str, Any]
    reason: str = ""
    notes: tuple[str, ...] = ()


def register_backend(name: str, factory: Factory) -> None:
    """Make a backend of another package available to `get_backend`, in this process.

    ``factory(precision, threads, device)`` returns an instance with this ``name``; a class derived
    from `prdsim.backends.base.Backend` is such a factory. ``device`` is the part after the colon
    of a name like ``cupy:1``, or empty. A factory registered earlier is replaced. Raises
    `ConfigError` for ``auto``, a name that ships with prdsim, and one with a colon.
    """
    if name in ("", "auto", *_SHIPPED) or ":" in name:
        raise ConfigError(
            f"backend {name!r}: the name is taken, empty or contains a colon; choose another"
        )
    _REGISTERED[name] = factory


def backend_names() -> list[str]:
    """Return the names of all backends: those that ship, best first, then the registered ones."""
    return [*_SHIPPED, *_REGISTERED]


def get_backend(
    name: str = "auto", *, precision: str = "float64", threads: int | None = None
) -> Backend:
    """Return a backend by name: ``numpy``, ``numba``, ``cupy``, ``cupy:1`` (a device) or ``auto``.

    ``auto`` is cupy if a device responds, else numba, else numpy; its `Backend.notes` tell which of
    them is there but does not work. Raises `ConfigError` for an unknown name and
    `BackendUnavailableError`, with the reason and the remedy, for a backend that does not work on
    this machine.
    """
    if name == "auto":
        return _first_available(precision, threads)
    choice("precision", precision, get_args(Precision))
    if threads is not None:
        integer("threads", threads, least=1)
    kind, _, device = str(name).partition(":")
    if kind not in backend_names():
        others = f"choose auto, {', '.join(backend_names())}"
        meant = _CALLED.get(kind.lower(), kind)
        hint = did_you_mean(meant, backend_names()) or others
        raise ConfigError(f"backend {name!r}: no such backend; {hint}")
    from .base import require_product  # imports NumPy

    try:
        create = _REGISTERED.get(kind) or _shipped_factory(kind)
        backend = create(precision, threads, device)
        require_product(backend)
    except PrdsimError:
        raise
    except Exception as error:  # whatever a library raises where it is broken or set up wrongly
        raise BackendUnavailableError(
            f"backend {kind}: does not work here ({first_line(error)});\n{_remedy(kind)}"
        ) from error
    return backend


def _shipped_factory(name: str) -> Factory:
    module, factory = _SHIPPED[name]
    with warnings.catch_warnings():
        # Numba reads its settings when it is imported, and would go on without those it rejects.
        warnings.filterwarnings("error", "Environment variable", RuntimeWarning)
        created: Factory = getattr(import_module(f".{module}", __name__), factory)
    return created


def _remedy(name: str) -> str:
    """Return what to try: the settings of a library come first."""
    given = sorted(variable for variable in os.environ if variable.startswith(f"{name.upper()}_"))
    return (
        f"correct or unset {', '.join(given)}"
        if given
        else f"reinstall {name}, or choose another backend"
    )


def _first_available(precision: str, threads: int | None) -> Backend:
    errors: list[BackendUnavailableError] = []
    for name in _SHIPPED:
        try:
            backend = get_backend(name, precision=precision, threads=threads)
        except BackendUnavailableError as error:
            errors.append(error)
            continue
        broken = [error for error in errors if not isinstance(error, BackendAbsentError)]
        passed_over = (
            f"{' '.join(str(error).split())}; auto takes {name} instead" for error in broken
        )
        backend.notes = (*passed_over, *backend.notes)
        return backend
    raise errors[0]


def backend_status(name: str) -> BackendStatus:
    """Return whether a backend works on this machine, with the reason if not."""
    try:
        backend = get_backend(name)
    except BackendUnavailableError as error:
        return BackendStatus(name, False, {}, str(error))
    return BackendStatus(name, True, backend.describe(), notes=backend.notes)
