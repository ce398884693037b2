"""Backends: the libraries that hold the arrays and multiply them.

`get_backend` creates an instance by name; nothing heavy is imported before. Instances are explicit
and independent: there is no current backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from prdsim.errors import BackendUnavailableError, ConfigError, did_you_mean

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
    """The availability of one backend, as shown by `prdsim backends`."""

    name: str
    available: bool
    description: dict[str, Any]
    reason: str = ""


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

    ``auto`` is cupy if a device responds, else numba, else numpy. Raises `ConfigError` for an
    unknown name and `BackendUnavailableError`, with the reason and the remedy, for a backend that
    does not work on this machine.
    """
    if name == "auto":
        return _first_available(precision, threads)
    kind, _, device = name.partition(":")
    if kind not in backend_names():
        others = f"choose auto, {', '.join(backend_names())}"
        meant = _CALLED.get(kind.lower(), kind)
        hint = did_you_mean(meant, backend_names()) or others
        raise ConfigError(f"backend {name!r}: no such backend; {hint}")
    create = _REGISTERED.get(kind) or _shipped_factory(kind)
    return create(precision, threads, device)


def _shipped_factory(name: str) -> Factory:
    module, factory = _SHIPPED[name]
    try:
        created: Factory = getattr(import_module(f".{module}", __name__), factory)
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend {name}: cannot be imported ({error});\npip install --upgrade prdsim"
        ) from error
    except ValueError as error:  # Numba reads its settings when it is imported
        raise BackendUnavailableError(
            f"backend {name}: rejects its settings ({error});\n"
            "correct or unset NUMBA_NUM_THREADS and the other NUMBA_... variables"
        ) from error
    return created


def _first_available(precision: str, threads: int | None) -> Backend:
    reasons = []
    for name in _SHIPPED:
        try:
            return get_backend(name, precision=precision, threads=threads)
        except BackendUnavailableError as error:
            reasons.append(str(error))
    raise BackendUnavailableError(reasons[0])


def backend_status(name: str) -> BackendStatus:
    """Return whether a backend works on this machine, with the reason if not."""
    try:
        return BackendStatus(name, True, get_backend(name).describe())
    except BackendUnavailableError as error:
        return BackendStatus(name, False, {}, str(error))
