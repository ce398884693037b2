"""The model of a run, built once and evaluated at weights on the host, one snapshot at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from prdsim.backends import get_backend
from prdsim.config import RunConfig
from prdsim.errors import BackendUnavailableError, DataError
from prdsim.physics.charts import WeightChart
from prdsim.physics.model import Model, build_model
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend


class SnapshotModel:
    """A `prdsim.physics.model.Model` and one state, into which snapshots are loaded.

    ``config`` gives widths and diffusivity, ``X`` (d_in, n) and ``Y`` (d_out, n) are the samples
    as used; ``backend`` is as for `cpu_backend`; ``forcing_norms`` as for a
    `Simulation`. Memory is that of the workspace of a step; a snapshot adds nothing.
    Raises `DataError` if X and Y do not hold the same number of samples, and
    `BackendUnavailableError`.
    """

    def __init__(
        self,
        config: RunConfig,
        X: HostArray,
        Y: HostArray,
        *,
        backend: Backend | str,
        forcing_norms: HostArray | None = None,
    ) -> None:
        if X.shape[1] != Y.shape[1]:
            raise DataError(f"X holds {X.shape[1]} samples, Y {Y.shape[1]}; they must be the same")
        self.backend = cpu_backend(backend)
        with self.backend.active():
            # Distances are not computed: their reference U_0 may be anything.
            chart = WeightChart(self.backend, X, np.zeros((config.width, X.shape[0])))
            self.model = build_model(config, self.backend, chart, X, Y, forcing_norms)
            self.state = State.empty(self.backend, self.model.state_shapes)

    @contextmanager
    def at(self, time: float, **weights: HostArray) -> Iterator[tuple[Model, State]]:
        """Load U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,); activate the backend.

        A control's field is that of the time. Raises `DataError` for arrays of other shapes.
        """
        for name, array in self.state:
            if weights[name].shape != array.shape:
                raise DataError(
                    f"{name} has shape {weights[name].shape}, but {array.shape} is that of the run"
                )
        with self.backend.active():
            self.model.load_field(time)
            for name, array in self.state:
                self.backend.to_device(weights[name], array)
            yield self.model, self.state


def settings_of(U: HostArray, W: HostArray, diffusivity: float) -> RunConfig:
    """Return a configuration with the widths of U (m, d_in) and W (m_c, d_out); D = 0: without."""
    return RunConfig(
        width=U.shape[0], critic_width=W.shape[0], diffusion=True, diffusivity=diffusivity
    )


def cpu_backend(backend: Backend | str) -> Backend:
    """Return a float64 backend by name, where ``auto`` excludes GPUs; an instance is kept.

    Raises `ConfigError` for an unknown name, and `BackendUnavailableError`.
    """
    if not isinstance(backend, str):
        return backend
    if backend != "auto":
        return get_backend(backend)
    try:
        return get_backend("numba")
    except BackendUnavailableError:
        return get_backend("numpy")
