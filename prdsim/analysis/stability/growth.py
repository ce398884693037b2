"""Two morphogens per neuron: the matrices C_j of a state, their growth rates and patterns.

In exact form, without linearization, neuron j obeys

    du_j/dt = C_j^T v_j,   dv_j/dt = C_j u_j,   C_j = s sum_p 1{u_j.x_p >= 0} E_p x_p^T

with the drive E = (Y - Z) + D G: a reaction part and D times a diffusion part. While gates and E
are constant, the patterns grow and decay at the rates +-sigma_k(C_j). Everything is computed in
range coordinates, C_j Q with X = Q R, of shape (d_out, r): singular values are the same, patterns
are transformed back to images. The drive and the gates come from the backend, by
`prdsim.physics.gradients`; computations per neuron are done on the host in float64, some neurons at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdsim.analysis.group import Compute, Group, Measure, Values, summarized, summary
from prdsim.analysis.recording import Recording, Snapshot, recording_of
from prdsim.config import RunConfig
from prdsim.physics.charts import range_factors
from prdsim.physics.gradients import acting_field, forward, residual, with_pre_activations
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.running.snapshot_model import SnapshotModel, settings_of
from prdsim.trajectory import Trajectory

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

BATCH_BYTES = 1 << 26  # of the gated drives of the neurons handled at a time


# -- the matrices of one state -----------------------------------------------------------------


@dataclass(frozen=True)
class Couplings:
    """The parts of the matrices C_j of one state, on the host in float64.

    ``gates`` (m, n) is 1{A >= 0}; ``residual`` and ``diffusion`` (d_out, n) are the two parts of
    the drive, Y - Z and D G; ``R`` (r, n) holds the inputs in range coordinates, X = Q R, and
    ``scale`` is s. Without diffusion ``diffusion`` is 0.
    """

    gates: HostArray
    residual: HostArray
    diffusion: HostArray
    R: HostArray
    scale: float

    def matrices(self, drive: HostArray) -> Iterator[tuple[slice, HostArray]]:
        """Yield slices of neurons, each with s sum_p gate_jp E_p x_p^T Q (neurons, d_out, r).

        ``drive`` E is (d_out, n): `drive`, or one of its parts.
        """
        m, n = self.gates.shape
        batch = max(1, BATCH_BYTES // (8 * drive.size))
        scaled = self.scale * drive
        for start in range(0, m, batch):
            neurons = slice(start, min(m, start + batch))
            gated = self.gates[neurons, None, :] * scaled[None]
            product = gated.reshape(-1, n) @ self.R.T
            yield neurons, product.reshape(len(gated), len(drive), -1)

    @property
    def drive(self) -> HostArray:
        """E = (Y - Z) + D G, (d_out, n)."""
        return self.residual + self.diffusion


def couplings(model: Model, state: State, R: HostArray) -> Couplings:
    """Return the parts of C_j at a state of a model; overwrites the workspace.

    ``R`` (r, n) are the inputs in range coordinates, by `prdsim.physics.charts.range_factors`.
    """
    k, work, panels = model.backend, model.work, model.chart.panels
    forward(model, state)
    parts = [k.to_host(part.work.A) >= 0.0 for part in with_pre_activations(model, state)]
    gates = np.concatenate(parts, axis=1)
    residual(model, out=work.E)
    rest = panels.to_host(k, work.E).astype(np.float64)
    diffusion = np.zeros_like(rest)
    if model.diffusivity > 0.0:
        acting_field(model, state)
        diffusion = model.diffusivity * panels.to_host(k, model.F).astype(np.float64)
    return Couplings(gates, rest, diffusion, R, model.s)


# -- growth rates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class GrowthRates:
    """Growth rates per neuron, per unit of time, (m, k), k = min(d_out, r).

    ``total`` holds the singular values sigma_k(C_j), descending. Along its pair of singular
    vectors (l, r) a rate is l . C_j r, and so the sum of two parts, ``reaction`` and ``diffusion``
    (which may be negative): total = reaction + diffusion.
    """

    total: HostArray
    reaction: HostArray
    diffusion: HostArray


@dataclass(frozen=True)
class GrowthSpectrum:
    """Growth along the spectrum of the inputs: the analogue of a dispersion relation.

    ``singular_values`` (r,) of X, descending, replace the wavenumber; column i of ``directions``
    (d_in, r) is the i-th principal direction q_i of the inputs. ``total`` (r,) is the root mean
    square over neurons of ||C_j q_i||, the rate at which a pattern u ~ q_i grows with the optimal
    v; ``reaction``, ``diffusion`` are those of the two parts.
    """

    singular_values: HostArray
    directions: HostArray
    total: HostArray
    reaction: HostArray
    diffusion: HostArray


class Growth:
    """Evaluates C_j, its rates and patterns at snapshots of a run; made once for all of them.

    ``config`` gives widths and diffusivity, ``X`` (d_in, n) and ``Y`` (d_out, n) are the samples
    as used, X = Q R; weights are in the paper's coordinates. ``backend``, by default NumPy's,
    evaluates drive and gates.
    Raises `DataError` if X and Y do not hold the same number of samples, or (its methods) for
    weights of other shapes than the run's, `ConfigError` for a name that is no backend's, and
    `BackendUnavailableError`.
    """

    def __init__(
        self,
        config: RunConfig,
        X: HostArray,
        Y: HostArray,
        *,
        backend: Backend | str = "numpy",
        forcing_norms: HostArray | None = None,
    ) -> None:
        self._snapshot = SnapshotModel(config, X, Y, backend=backend, forcing_norms=forcing_norms)
        self.Q, self.R = range_factors(X)

    def couplings(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> Couplings:
        """Return the parts of C_j at U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,).

        ``time`` matters for controls, whose field changes with it.
        """
        with self._snapshot.at(time, U=U, V=V, W=W, a=a) as (model, state):
            return couplings(model, state, self.R)

    def rates(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> GrowthRates:
        """Return sigma_k(C_j) with reaction and diffusion parts."""
        parts = self.couplings(U, V, W, a, time=time)
        shape = (len(U), min(len(V), len(self.R)))
        rates = GrowthRates(*(np.zeros(shape) for _ in range(3)))
        for (neurons, C_r), (_, C_d) in zip(
            parts.matrices(parts.residual), parts.matrices(parts.diffusion), strict=True
        ):
            left, sigma, right = np.linalg.svd(C_r + C_d, full_matrices=False)
            rates.total[neurons] = sigma
            along = right.transpose(0, 2, 1)
            rates.reaction[neurons] = np.sum(left * (C_r @ along), axis=1)
            rates.diffusion[neurons] = np.sum(left * (C_d @ along), axis=1)
        return rates

    def patterns(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> tuple[HostArray, HostArray]:
        """Return the leading right and left singular vectors of C_j: (m, d_in) and (m, d_out).

        The first are images, towards which u_j grows at the rate sigma_1(C_j). Unit vectors, with
        the sign in which the current (u_j, v_j) grow: their part along the growing pair is
        positive.
        """
        parts = self.couplings(U, V, W, a, time=time)
        images, outputs = np.zeros(U.shape), np.zeros(V.T.shape)
        for neurons, C in parts.matrices(parts.drive):
            left, _, right = np.linalg.svd(C, full_matrices=False)
            images[neurons], outputs[neurons] = right[:, 0] @ self.Q.T, left[:, :, 0]
        along = np.sum(images * U, axis=1) + np.sum(outputs * V.T, axis=1)
        signs = np.where(along < 0.0, -1.0, 1.0)[:, None]
        return images * signs, outputs * signs

    def spectrum(
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray, *, time: float = 0.0
    ) -> GrowthSpectrum:
        """Return the growth along the principal directions of the inputs."""
        parts = self.couplings(U, V, W, a, time=time)
        curves = []
        for drive in (parts.drive, parts.residual, parts.diffusion):
            squares = sum((C**2).sum(axis=(0, 1)) for _, C in parts.matrices(drive))
            curves.append(np.sqrt(np.asarray(squares) / len(U)))
        return GrowthSpectrum(np.linalg.norm(self.R, axis=1), self.Q, *curves)


def growth_rates(
    U: HostArray,
    V: HostArray,
    W: HostArray,
    a: HostArray,
    X: HostArray,
    Y: HostArray,
    diffusivity: float,
    *,
    backend: Backend | str = "numpy",
) -> GrowthRates:
    """Return the rates at one state on data X (d_in, n), Y (d_out, n); see `Growth`.

    ``diffusivity`` is D; 0 is without diffusion.
    """
    return Growth(settings_of(U, W, diffusivity), X, Y, backend=backend).rates(U, V, W, a)


def growth_of(source: Trajectory | Recording) -> Growth:
    """Return an evaluator of the growth of a run's neurons at its snapshots.

    Raises `ConfigError` if it lacks the configuration or the samples, `DataError` if these cannot
    be had, `TrajectoryError` if the file cannot be used, and `BackendUnavailableError`.
    """
    recording = recording_of(source)
    norms = recording.forcing_norms
    return Growth(recording.settings, *recording.samples, forcing_norms=norms)


def _prepare(recording: Recording) -> Compute:
    recording.require_critic()
    growth = growth_of(recording)

    def compute(now: Snapshot) -> Values:
        rates = growth.rates(**now.weights, time=now.time)
        return {
            **summary("growth_rate", rates.total[:, 0]),
            "growth_reaction": float(np.mean(rates.reaction[:, 0])),
            "growth_diffusion": float(np.mean(rates.diffusion[:, 0])),
        }

    return compute


GROWTH = Group(
    "growth",
    (
        *summarized("growth_rate", "leading growth rate sigma_1(C_j)", "1/time"),
        Measure("growth_reaction", "reaction part of sigma_1(C_j), mean", "1/time"),
        Measure("growth_diffusion", "diffusion part of sigma_1(C_j), mean", "1/time"),
    ),
    _prepare,
    on_demand=True,
)
