"""Reaction and diffusion of every neuron: the norms that the paper's Theorem 3 compares.

Row j of R^u and Delta^u, column j of R^v and Delta^v (D^u and D^v in the paper, eqs. 48-55) drive
neuron j, du_j/dt = R^u_j + D Delta^u_j and dv_j/dt = R^v_j + D Delta^v_j (eq. 4). The equations
are those of `prdsim.physics.gradients`; here they are evaluated at weights on the host, a snapshot
at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdsim.analysis.group import Compute, Group, Values, summarized, summary
from prdsim.analysis.recording import Recording, Snapshot, recording_of
from prdsim.config import RunConfig
from prdsim.physics.charts import column_sums, row_sums
from prdsim.physics.gradients import (
    acting_field,
    forward,
    generator_flow,
    generator_velocity,
    residual,
)
from prdsim.physics.state import State
from prdsim.running.snapshot_model import SnapshotModel, settings_of
from prdsim.trajectory import Trajectory

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend

SYMBOLS = {
    "reaction_U": "||R^u_j||",
    "diffusion_U": "D ||Delta^u_j||",
    "reaction_V": "||R^v_j||",
    "diffusion_V": "D ||Delta^v_j||",
}
FORCES = tuple(SYMBOLS)
"""The fields of `ForceNorms`."""


@dataclass(frozen=True)
class ForceNorms:
    """Norms of reaction and diffusion by neuron j, each (m,), float64.

    Reaction: ||R^u_j||, ||R^v_j||. Diffusion: D ||Delta^u_j||, D ||Delta^v_j||, as it enters the
    velocity; 0 without diffusion.
    """

    reaction_U: HostArray
    diffusion_U: HostArray
    reaction_V: HostArray
    diffusion_V: HostArray


class Forces:
    """Evaluates reaction and diffusion of a run at its snapshots; made once for all of them.

    ``config`` gives widths and diffusivity, ``X`` (d_in, n) and ``Y`` (d_out, n) are the samples
    as used. ``backend`` is an instance, or a name; ``auto`` is numba, else numpy, in float64
    whatever the run's precision. Memory is that of the workspace of a step; a snapshot adds
    nothing.

    Norms are given for both U and V, even if ``trainable`` holds one of them fixed: the terms of
    eqs. 52-55 are functions of the state. For trainable arrays, the root of the summed squares is
    the recorded ``reaction_norm_U`` etc.; for fixed arrays those are 0.
    Raises `DataError` if X and Y do not hold the same number of samples, `ConfigError` for a name
    that is no backend's, and `BackendUnavailableError`.

    Example::

        forces = Forces(trajectory.config, X, Y)
        forces.norms(U, V, W, a).reaction_U
    """

    def __init__(
        self,
        config: RunConfig,
        X: HostArray,
        Y: HostArray,
        *,
        backend: Backend | str = "auto",
        forcing_norms: HostArray | None = None,
    ) -> None:
        config = config.replace(trainable="U,V")
        self._snapshot = SnapshotModel(config, X, Y, backend=backend, forcing_norms=forcing_norms)
        k, shapes = self._snapshot.backend, self._snapshot.model.state_shapes
        with k.active():
            self._velocity = State.empty(k, shapes, ("U", "V"))

    def norms(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> ForceNorms:
        """Return the norms at U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,).

        ``time`` matters for controls, whose field changes with it. Raises `DataError` for arrays
        of other shapes.
        """
        with self._snapshot.at(time, U=U, V=V, W=W, a=a) as (model, state):
            forward(model, state)
            residual(model, out=model.work.E)
            reaction_U, reaction_V = self._norms(model.work.E)
            diffusion_U, diffusion_V = np.zeros_like(reaction_U), np.zeros_like(reaction_V)
            if model.diffusivity > 0.0:
                acting_field(model, state)
                diffusion_U, diffusion_V = self._norms(model.F)
        D = model.diffusivity
        return ForceNorms(reaction_U, D * diffusion_U, reaction_V, D * diffusion_V)

    def velocities(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> tuple[HostArray, HostArray]:
        """Return dU/dt (m, d_in) and dV/dt (d_out, m), eq. 5, at weights as for `norms`."""
        with self._snapshot.at(time, U=U, V=V, W=W, a=a) as (model, state):
            generator_flow(model, state, out=self._velocity)
            k = model.backend
            return k.to_host(self._velocity.U), k.to_host(self._velocity.V)

    def _norms(self, E: Array) -> tuple[HostArray, HostArray]:
        """Norms by neuron of the velocities of U and V under a drive; reads A (and H)."""
        k, velocity = self._snapshot.backend, self._velocity
        generator_velocity(self._snapshot.model, self._snapshot.state, E, out=velocity)
        squares_U = row_sums(k, velocity.U, velocity.U)
        squares_V = column_sums(k, velocity.V, velocity.V)
        return np.sqrt(squares_U), np.sqrt(squares_V)


def force_norms(
    U: HostArray,
    V: HostArray,
    W: HostArray,
    a: HostArray,
    X: HostArray,
    Y: HostArray,
    *,
    diffusivity: float = 1.0,
    backend: Backend | str = "auto",
) -> ForceNorms:
    """Return the norms at one state on data X (d_in, n), Y (d_out, n); see `Forces`.

    ``diffusivity`` is D; 0 is without diffusion.
    """
    return Forces(settings_of(U, W, diffusivity), X, Y, backend=backend).norms(U, V, W, a)


def forces_of(source: Trajectory | Recording) -> Forces:
    """Return an evaluator of reaction and diffusion for a run's snapshots.

    Raises `ConfigError` if it lacks the configuration or the samples, `DataError` if these cannot
    be had, `TrajectoryError` if the file cannot be used, and `BackendUnavailableError`.
    """
    recording = recording_of(source)
    norms = recording.forcing_norms
    return Forces(recording.settings, *recording.samples, forcing_norms=norms)


def _prepare(recording: Recording) -> Compute:
    recording.require_critic()
    forces = forces_of(recording)

    def compute(now: Snapshot) -> Values:
        norms, found = forces.norms(**now.weights, time=now.time), dict[str, float]()
        for name in FORCES:
            found |= summary(name, getattr(norms, name))
        return found

    return compute


FORCE_NORMS = Group(
    "forces",
    tuple(measure for name in FORCES for measure in summarized(name, SYMBOLS[name], "1/time")),
    _prepare,
)
