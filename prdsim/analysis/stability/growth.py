"""Two morphogens per neuron: the matrices C_j, their growth rates and patterns, over time.

In exact form, without linearization, neuron j obeys

    du_j/dt = C_j^T v_j,   dv_j/dt = C_j u_j,   C_j = s sum_p 1{u_j.x_p >= 0} E_p x_p^T

with the drive E = (Y - Z) + D G: a reaction part and D times a diffusion part. While masks and E
hold, the patterns grow and decay at the rates +-sigma_k(C_j). All of it is worked out in range
coordinates, C_j Q with X = Q R, of shape (d_out, r): singular values are the same, patterns are
turned back into images. The drive and the masks come from the backend, by
`prdsim.physics.gradients`; what is done neuron by neuron is done on the host in float64, some
neurons at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from prdsim.analysis.snapshot_model import SnapshotModel, settings_of
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import Resolved, RunConfig
from prdsim.errors import ResumeMismatchError
from prdsim.physics.charts import range_factors
from prdsim.physics.gradients import forward, residual, score_field
from prdsim.physics.model import Model
from prdsim.physics.state import Dimensions, State
from prdsim.progress import Progress, Silent
from prdsim.recorded import Recorded
from prdsim.running.memory import require_memory
from prdsim.running.simulation import Simulation
from prdsim.schedule import Agenda
from prdsim.trajectory import Trajectory

if TYPE_CHECKING:
    from prdsim.backends.base import Backend, HostArray

_BATCH_BYTES = 1 << 26  # of the masked drives of the neurons handled at a time


# -- the matrices of one state -----------------------------------------------------------------


@dataclass(frozen=True)
class Couplings:
    """What makes up the matrices C_j of one state, on the host in float64.

    ``masks`` (m, n) is 1{A >= 0}; ``residual`` and ``diffusion`` (d_out, n) are the two parts of
    the drive, Y - Z and D G; ``R`` (r, n) the inputs in range coordinates, X = Q R, and
    ``scale`` s. Without diffusion that part is 0.
    """

    masks: HostArray
    residual: HostArray
    diffusion: HostArray
    R: HostArray
    scale: float

    def matrices(self, drive: HostArray) -> Iterator[tuple[slice, HostArray]]:
        """Yield slices of neurons, each with s sum_p mask_jp E_p x_p^T Q (neurons, d_out, r).

        ``drive`` E is (d_out, n): `drive`, or one of its parts.
        """
        m, n = self.masks.shape
        batch = max(1, _BATCH_BYTES // (8 * drive.size))
        scaled = self.scale * drive
        for start in range(0, m, batch):
            neurons = slice(start, min(m, start + batch))
            masked = self.masks[neurons, None, :] * scaled[None]
            product = masked.reshape(-1, n) @ self.R.T
            yield neurons, product.reshape(len(masked), len(drive), -1)

    @property
    def drive(self) -> HostArray:
        """E = (Y - Z) + D G, (d_out, n)."""
        return self.residual + self.diffusion


def couplings(model: Model, state: State, R: HostArray) -> Couplings:
    """Return what C_j is made of at a state of a model; overwrites the workspace.

    ``R`` (r, n) are the inputs in range coordinates, by `prdsim.physics.charts.range_factors`.
    """
    k, work = model.backend, model.work
    forward(model, state)
    masks = k.to_host(work.A) >= 0.0
    residual(model, out=work.E)
    rest = k.to_host(work.E).astype(np.float64)
    diffusion = np.zeros_like(rest)
    if model.diffusivity > 0.0:
        score_field(model, state)
        diffusion = model.diffusivity * k.to_host(work.G).astype(np.float64)
    return Couplings(masks, rest, diffusion, R, model.s)


# -- growth rates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class GrowthRates:
    """Growth rates per neuron, per unit of time, (m, k), k = min(d_out, r).

    ``total`` are the singular values sigma_k(C_j), falling. Along its pair of singular vectors
    (l, r) a rate is l . C_j r, and so a sum of two parts, ``reaction`` and ``diffusion`` (which
    may be negative): total = reaction + diffusion.
    """

    total: HostArray
    reaction: HostArray
    diffusion: HostArray


@dataclass(frozen=True)
class GrowthSpectrum:
    """Growth along the spectrum of the inputs: the analogue of a dispersion relation.

    ``singular_values`` (r,) of X, falling, stand in place of the wavenumber; column i of
    ``directions`` (d_in, r) is the i-th principal direction q_i of the inputs. ``total`` (r,) is
    the root mean square over neurons of ||C_j q_i||, the rate at which a pattern u ~ q_i grows
    with the v that suits it best; ``reaction``, ``diffusion`` are those of the parts alone.
    """

    singular_values: HostArray
    directions: HostArray
    total: HostArray
    reaction: HostArray
    diffusion: HostArray


class Growth:
    """Evaluates C_j, its rates and patterns, of a run at its snapshots; made once for all of them.

    ``config`` gives widths and diffusivity, ``X`` (d_in, n) and ``Y`` (d_out, n) are the samples
    as used, X = Q R; weights are as the paper has them. ``backend``, NumPy's unless another is
    given, evaluates drive and masks.
    Raises `DataError` if X and Y do not hold the same number of samples, its methods for weights
    of other shapes than the run's, and `BackendUnavailableError`.
    """

    def __init__(
        self, config: RunConfig, X: HostArray, Y: HostArray, *, backend: Backend | str = "numpy"
    ) -> None:
        self._at = SnapshotModel(config, X, Y, backend=backend)
        self.Q, self.R = range_factors(X)

    def couplings(self, U: HostArray, V: HostArray, W: HostArray, a: HostArray) -> Couplings:
        """Return what C_j is made of at U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,)."""
        with self._at.backend.active():
            self._at.load({"U": U, "V": V, "W": W, "a": a})
            return couplings(self._at.model, self._at.state, self.R)

    def rates(self, U: HostArray, V: HostArray, W: HostArray, a: HostArray) -> GrowthRates:
        """Return sigma_k(C_j) with reaction and diffusion parts."""
        parts = self.couplings(U, V, W, a)
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
        self, U: HostArray, V: HostArray, W: HostArray, a: HostArray
    ) -> tuple[HostArray, HostArray]:
        """Return the leading right and left singular vectors of C_j: (m, d_in) and (m, d_out).

        The first are images: what u_j grows towards, at the rate sigma_1(C_j). Unit vectors, of
        the sign in which the present (u_j, v_j) grow: their part along the growing pair is
        positive.
        """
        parts = self.couplings(U, V, W, a)
        images, outputs = np.zeros(U.shape), np.zeros(V.T.shape)
        for neurons, C in parts.matrices(parts.drive):
            left, _, right = np.linalg.svd(C, full_matrices=False)
            images[neurons], outputs[neurons] = right[:, 0] @ self.Q.T, left[:, :, 0]
        along = np.sum(images * U, axis=1) + np.sum(outputs * V.T, axis=1)
        signs = np.where(along < 0.0, -1.0, 1.0)[:, None]
        return images * signs, outputs * signs

    def spectrum(self, U: HostArray, V: HostArray, W: HostArray, a: HostArray) -> GrowthSpectrum:
        """Return the growth along the principal directions of the inputs."""
        parts = self.couplings(U, V, W, a)
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


# -- over time -----------------------------------------------------------------------------------


class CouplingIntegral:
    """The time integrals of C_j and of sigma_1(C_j) along a run, by the trapezoidal rule.

    `add` states with their times, as rarely as the rows of scalars, then `finish`: the error of
    the quadrature is of second order in the time between two of them. ``matrices`` (m, d_out, r)
    is the integral of C_j Q, ``leading`` (m,) that of sigma_1(C_j), ``rates`` holds the sigma_1
    (m,) of every state.
    """

    def __init__(self, sizes: Dimensions, rank: int) -> None:
        self.matrices = np.zeros((sizes.m, sizes.d_out, rank))
        self.leading = np.zeros(sizes.m)
        self.times: list[float] = []
        self.rates: list[HostArray] = []
        self._pending: Couplings | None = None
        self._weight = 0.0

    @staticmethod
    def needed_bytes(sizes: Dimensions, rows: int) -> int:
        """Predict the bytes on the host, at the most, for so many states."""
        rank = min(sizes.d_in, sizes.n)
        numbers = sizes.m * (sizes.d_out * rank + rows + 2) + rank * (sizes.n + sizes.d_in)
        samples = 2 * (sizes.m * (1 + 8) + 8 * 4 * sizes.d_out) * sizes.n  # A, masks and drives
        return 8 * numbers + samples + 3 * _BATCH_BYTES

    def add(self, parts: Couplings, time: float) -> None:
        """Go on to a state at a later time."""
        half = (time - self.times[-1]) / 2 if self.times else 0.0
        self._settle(half)
        self._pending, self._weight = parts, half
        self.times.append(time)

    def finish(self) -> None:
        """Take account of the last state, too."""
        self._settle(0.0)

    def _settle(self, half: float) -> None:
        """Add the last state, whose weight is half of the times before and after it."""
        if self._pending is None:
            return
        weight, rates = self._weight + half, np.zeros_like(self.leading)
        for neurons, C in self._pending.matrices(self._pending.drive):
            self.matrices[neurons] += weight * C
            rates[neurons] = _largest_singular_values(C)
        self.leading += weight * rates
        self.rates.append(rates)
        self._pending = None


def _largest_singular_values(C: HostArray) -> HostArray:
    """sigma_1 of a stack of matrices, from the smaller of the two Gram matrices."""
    Ct = C.transpose(0, 2, 1)
    gram = C @ Ct if C.shape[1] <= C.shape[2] else Ct @ C
    largest: HostArray = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0.0))
    return largest


def span_share(change: HostArray, integral: HostArray) -> HostArray:
    """Return what share of ||change_j||^2 lies in the span of the rows of integral_j, (m,).

    ``change`` (m, d) is u_j(t) - u_j(0), ``integral`` (m, d_out, d) the time integral of C_j in
    the same coordinates. Rows count as dependent below max(d_out, d) eps of the largest singular
    value. 1 for a neuron that has not moved.
    """
    sigma, right = np.linalg.svd(integral, full_matrices=False)[1:]
    cutoff = max(integral.shape[1:]) * np.finfo(np.float64).eps
    kept = (sigma > cutoff * sigma[:, :1])[:, :, None] * right
    inside = np.sum(np.einsum("jkd,jd->jk", kept, change) ** 2, axis=1)
    whole = np.sum(change**2, axis=1)
    return np.where(whole > 0.0, inside / np.where(whole > 0.0, whole, 1.0), 1.0)


def rank_correlation(x: HostArray, y: HostArray) -> float:
    """Return Spearman's rank correlation of two sequences; NaN where one of them is constant."""
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (x, y)]
    norms = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(np.dot(*ranks)) / norms if norms > 0.0 else float("nan")


@dataclass(frozen=True)
class CouplingHistory:
    """What a run's matrices C_j have to do with where its neurons went.

    ``times`` (rows,) are those of the states used, the rows of scalars, and ``rates`` (rows, m)
    their sigma_1(C_j); ``leading`` (m,) is the time integral of sigma_1(C_j), ``integral``
    (m, d_out, r) that of C_j Q, both by the trapezoidal rule over those rows, with ``basis`` Q
    (d_in, r). ``distances`` (m,) are ||u_j(t) - u_j(0)||, ``span_shares`` (m,) the share of
    their squares in the span of the integral, and ``rank_correlation`` is that of ``leading`` with
    ``distances`` (Spearman). ``difference`` is the largest relative difference of a replay from
    the snapshots of its file, 0 if bit for bit; None for a run without a file.
    """

    times: HostArray
    rates: HostArray
    leading: HostArray
    integral: HostArray
    basis: HostArray
    distances: HostArray
    span_shares: HostArray
    rank_correlation: float
    difference: float | None = None


def integrate_couplings(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    *,
    initial: Mapping[str, HostArray] | None = None,
    resolved: Resolved | None = None,
    stored_chart: Mapping[str, HostArray] | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
    watch: Callable[[Simulation], None] = lambda _: None,
    next_watched: Callable[[], float] = lambda: math.inf,
) -> CouplingHistory:
    """Run a simulation in memory and integrate C_j over it, at the cadence of the scalars.

    Arguments are as for `Simulation`; ``watch`` is called with it at the start and after every
    step, and ``next_watched`` returns the next time within a step that it will look at. No file is
    written. The run takes the same steps as without.
    Raises `ConfigError` if the memory does not suffice, and what a run raises.
    """
    shown = progress or Silent()
    due = config.scalar_rule.plan(steps=config.step_limit, end_time=config.end_time)
    agenda = Agenda(due)
    with Simulation(
        config,
        X,
        Y,
        initial=initial,
        resolved=resolved,
        stored_chart=stored_chart,
        backend=backend,
    ) as simulation:
        needed = CouplingIntegral.needed_bytes(simulation.dimensions, len(due))
        require_memory(
            needed, NumpyBackend(), "the integrals of C_j", "take fewer samples or neurons"
        )
        Q, R = range_factors(X)
        integral = CouplingIntegral(simulation.dimensions, len(R))
        U_0 = simulation.weights()["U"]
        shown.start(*simulation.progress)
        try:
            while True:
                watch(simulation)
                for moment in simulation.due(agenda):
                    parts = couplings(simulation.model, simulation.view(moment), R)
                    integral.add(parts, moment)
                    loss = float(np.sum(parts.residual**2)) / 2
                    shown.update(simulation.progress[0], simulation.step, loss)
                if simulation.finished:
                    break
                simulation.advance(next_view=min(agenda.next_time, next_watched()))
        finally:
            shown.close()
        integral.finish()
        change = (simulation.weights(simulation.shown_time)["U"].astype(np.float64) - U_0) @ Q
    return _history(integral, change, Q)


def _history(integral: CouplingIntegral, change: HostArray, Q: HostArray) -> CouplingHistory:
    distances = np.linalg.norm(change, axis=1)
    return CouplingHistory(
        times=np.array(integral.times),
        rates=np.array(integral.rates),
        leading=integral.leading,
        integral=integral.matrices,
        basis=Q,
        distances=distances,
        span_shares=span_share(change, integral.matrices),
        rank_correlation=rank_correlation(integral.leading, distances),
    )


def replay_couplings(
    trajectory: Trajectory,
    *,
    tolerance: float = 1e-6,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> CouplingHistory:
    """Run a trajectory again, in memory, and integrate C_j over it; see `integrate_couplings`.

    Files keep few snapshots; the run is therefore replayed from its configuration, data and
    initial weights, up to its last snapshot. Every snapshot is compared with the replay's state:
    on the same machine, versions and threads they are the same bits. ``difference`` says how far
    they are apart otherwise, relative to the array's norm.
    Raises `ResumeMismatchError` if that is more than ``tolerance``, `TrajectoryError` where the
    file cannot be read, and what a run raises.
    """
    recorded = Recorded(trajectory)
    comparison = _Comparison(trajectory, tolerance)
    history = integrate_couplings(
        _up_to_last_snapshot(recorded),
        *recorded.data,
        **recorded.beginning,
        backend=backend,
        progress=progress,
        watch=comparison,
        next_watched=comparison.next_time,
    )
    return replace(history, difference=comparison.difference)


def _up_to_last_snapshot(recorded: Recorded) -> RunConfig:
    """Return the configuration that ends a replay where the file's snapshots do."""
    config, trajectory = recorded.config, recorded.trajectory
    last = trajectory.recorded_snapshots[-1]
    if last.dtype.kind == "f" and last > 0.0:
        return config.replace(end_time=float(last))
    return config.replace(steps=max(1, int(trajectory.step[-1])))


class _Comparison:
    """Holds the states of a replay against the snapshots of its file."""

    def __init__(self, trajectory: Trajectory, tolerance: float) -> None:
        self._trajectory, self._tolerance = trajectory, tolerance
        self._agenda = Agenda(trajectory.recorded_snapshots.tolist())
        self._row = 0
        self.difference = 0.0

    def next_time(self) -> float:
        """Return the time of the next snapshot, if it may lie within a step."""
        return self._agenda.next_time

    def __call__(self, simulation: Simulation) -> None:
        rows = range(self._row, len(self._trajectory.step))
        # A replay takes a step at least: its end is in no file of the first snapshot alone.
        for moment, row in zip(simulation.due(self._agenda), rows, strict=False):
            self._compare(simulation, moment, row)
            self._row = row + 1

    def _compare(self, simulation: Simulation, moment: float, row: int) -> None:
        for name, computed in simulation.weights(moment).items():
            kept = getattr(self._trajectory, name)[row]
            if np.array_equal(computed.astype(kept.dtype), kept):
                continue
            norm = float(np.linalg.norm(kept)) or 1.0
            apart = float(np.linalg.norm(computed - kept)) / norm
            self.difference = max(self.difference, apart)
            if not apart <= self._tolerance:
                raise ResumeMismatchError(
                    f"{self._trajectory.path}: the replay differs from snapshot {row} (step "
                    f"{simulation.step}) of {name} by {apart:.1e} of its norm;\n"
                    "replay it on the machine and with the versions that made it"
                )
