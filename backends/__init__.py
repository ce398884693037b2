"""Backends: where the arrays live and what multiplies them.

`get_backend` makes an instance by name; nothing heavy is imported before. Instances are explicit
and independent: there is no current backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from prdsim.errors import BackendUnavailableError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from .base import Backend

_CREATORS = {
    "cupy": ("cupy", "create"),
    "numba": ("numba", "NumbaBackend"),
    "numpy": ("numpy", "NumpyBackend"),
}  # in the order in which "auto" tries them


@dataclass(frozen=True)
class BackendStatus:
    """What `prdsim backends` says of one backend."""

    name: str
    available: bool
    description: dict[str, Any]
    reason: str = ""


def backend_names() -> list[str]:
    """Return the names of all backends, best first."""
    return list(_CREATORS)


def get_backend(
    name: str = "auto", *, precision: str = "float64", threads: int | None = None
) -> Backend:
    """Return a backend by name: ``numpy``, ``numba``, ``cupy``, ``cupy:1`` (a device) or ``auto``.

    ``auto`` is cupy if a device answers, else numba, else numpy. Raises `ConfigError` for an
    unknown name and `BackendUnavailableError`, with the reason and the way out, for a backend
    that cannot work here.
    """
    if name == "auto":
        return _first_available(precision, threads)
    kind, _, device = name.partition(":")
    if kind not in _CREATORS:
        hint = did_you_mean(kind, _CREATORS) or f"choose auto, {', '.join(_CREATORS)}"
        raise ConfigError(f"backend {name!r}: no such backend; {hint}")
    if device and kind != "cupy":
        raise ConfigError(f"backend {name!r}: {kind} has no devices to choose from")
    if device and not device.isdecimal():
        raise ConfigError(f"backend {name!r}: the device must be a number, as in cupy:1")
    try:
        module = import_module(f".{_CREATORS[kind][0]}", __name__)
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend {kind}: cannot be imported ({error});\npip install --upgrade prdsim"
        ) from error
    except ValueError as error:  # Numba reads its settings when it is imported
        raise BackendUnavailableError(
            f"backend {kind}: refuses its settings ({error});\n"
            "correct or unset NUMBA_NUM_THREADS and the other variables NUMBA_..."
        ) from error
    create = getattr(module, _CREATORS[kind][1])
    arguments: dict[str, Any] = {"precision": precision, "threads": threads}
    if kind == "cupy":
        arguments["device"] = device or "0"
    backend: Backend = create(**arguments)
    return backend


def _first_available(precision: str, threads: int | None) -> Backend:
    reasons = []
    for name in _CREATORS:
        try:
            return get_backend(name, precision=precision, threads=threads)
        except BackendUnavailableError as error:
            reasons.append(str(error))
    raise BackendUnavailableError(reasons[0])


def backend_status(name: str) -> BackendStatus:
    """Return whether a backend works here; if not, why."""
    try:
        return BackendStatus(name, True, get_backend(name).describe())
    except BackendUnavailableError as error:
        return BackendStatus(name, False, {}, str(error))
