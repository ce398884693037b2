"""The arrays that a simulation is given: checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from prdsim.arguments import instance, wrong
from prdsim.backends.base import Backend
from prdsim.config import Resolved, RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.state import RestartPoint

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.physics.state import Dimensions


def check_samples(X: HostArray, Y: HostArray) -> None:
    """Raise `ConfigError` unless X (d_in, n) and Y (d_out, n) are arrays of real numbers."""
    for name, array, axes in (("X", X, "(d_in, n)"), ("Y", Y, "(d_out, n)")):
        if not _is_real(array) or array.ndim != 2 or array.size == 0:
            raise wrong(name, f"an array {axes} of real numbers", array)
    if X.shape[1] != Y.shape[1]:
        raise ConfigError(
            f"X has shape {X.shape} and Y has shape {Y.shape}: both need one sample a column"
        )


def check_initial(initial: Mapping[str, HostArray], dimensions: Dimensions) -> None:
    """Raise `ConfigError` unless initial arrays are U, V, W, a in the shapes of a run."""
    shapes = dimensions.state_shapes
    if not isinstance(initial, Mapping) or set(initial) != set(shapes):
        raise wrong("initial", f"a mapping of {', '.join(shapes)} to arrays", initial)
    for name, shape in shapes.items():
        array = initial[name]
        if not _is_real(array) or array.shape != shape:
            raise wrong(f"initial {name}", f"an array {shape} of real numbers", array)


def check_beginning(
    X: HostArray,
    resolved: Resolved | None,
    stored_chart: Mapping[str, HostArray] | None,
    restart: RestartPoint | None,
    backend: Backend | None,
) -> None:
    """Raise `ConfigError` unless what a run is to begin with, if given, is of the right kind."""
    instance("resolved", resolved, Resolved | None, "a Resolved, such as that of a Result")
    instance("restart", restart, RestartPoint | None, "a RestartPoint")
    instance("backend", backend, Backend | None, "an instance of a backend, see get_backend")
    instance("stored_chart", stored_chart, Mapping | None, "a mapping of Q and R to arrays")
    if stored_chart:
        _check_factors(stored_chart, X)


def check_norms(norms: HostArray | None, config: RunConfig, n: int) -> None:
    """Raise `ConfigError` unless the norms of a control are there if needed: (n,), not negative."""
    if norms is None:
        if config.controlled and isinstance(config.forcing_norm, str):
            raise ConfigError(
                f"forcing_norm: give forcing_norms, an array ({n},): a simulation reads no file"
            )
        return
    if not _is_real(norms) or norms.shape != (n,) or not (np.isfinite(norms) & (norms >= 0)).all():
        raise wrong("forcing_norms", f"an array ({n},) of finite numbers from 0", norms)


def _check_factors(stored: Mapping[str, HostArray], X: HostArray) -> None:
    """Raise `ConfigError` unless a chart's arrays are Q (d_in, r) and R (r, n)."""
    (d_in, n), Q, R = X.shape, stored.get("Q"), stored.get("R")
    if not (
        len(stored) == 2
        and _is_real(Q)
        and _is_real(R)
        and (Q.shape, R.shape) == ((d_in, len(R)), (len(R), n))
    ):
        raise wrong("stored_chart", f"Q ({d_in}, r) and R (r, {n}), or empty", stored)


def at_precision(initial: Mapping[str, HostArray], precision: str) -> dict[str, HostArray]:
    """Return initial arrays as a run begins with them; raises `ConfigError` for an overflow."""
    with np.errstate(over="ignore"):
        found = {name: array.astype(precision) for name, array in initial.items()}
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise ConfigError(
                f"{name} at t = 0 holds numbers that are not finite in {precision}: "
                "lower --init-scale"
            )
    return found


def _is_real(array: object) -> TypeGuard[HostArray]:
    return isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
