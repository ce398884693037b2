"""The matrices C_j over a run: their time integrals, and the neurons' distances.

Files keep few snapshots: a run is replayed in memory, and C_j is computed at every row of scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.stability.growth import BATCH_BYTES, Couplings, couplings
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.errors import ResumeMismatchError
from prdsim.physics.charts import range_factors
from prdsim.physics.state import Dimensions
from prdsim.progress import Progress
from prdsim.recorded import Recorded
from prdsim.running.memory import require_memory
from prdsim.running.simulation import Simulation
from prdsim.schedule import Agenda
from prdsim.trajectory import Trajectory

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend


class CouplingIntegral:
    """The time integrals of C_j and of sigma_1(C_j) along a run, by the trapezoidal rule.

    `add` states with their times, those of the rows of scalars, then `finish`: the error of the
    quadrature is of second order in the time between two states. ``matrices`` (m, d_out, r)
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
        """Predict an upper bound of the bytes on the host for ``rows`` states."""
        rank = min(sizes.d_in, sizes.n)
        numbers = sizes.m * (sizes.d_out * rank + rows + 2) + rank * (sizes.n + sizes.d_in)
        samples = 2 * (sizes.m * (1 + 8) + 8 * 4 * sizes.d_out) * sizes.n  # A, gates and drives
        return 8 * numbers + samples + 3 * BATCH_BYTES

    def add(self, parts: Couplings, time: float) -> None:
        """Add a state at a later time."""
        half = (time - self.times[-1]) / 2 if self.times else 0.0
        self._settle(half)
        self._pending, self._weight = parts, half
        self.times.append(time)

    def finish(self) -> None:
        """Include the last state."""
        self._settle(0.0)

    def _settle(self, half: float) -> None:
        """Add the last state, weighted by half of the times before and after it."""
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
    """Return the share of ||change_j||^2 in the span of the rows of integral_j, (m,).

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
    """Return Spearman's rank correlation of two sequences; NaN if one of them is constant."""
    from scipy.stats import rankdata  # which takes most of a second to import

    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (x, y)]
    norms = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(np.dot(*ranks)) / norms if norms > 0.0 else float("nan")


@dataclass(frozen=True)
class CouplingHistory:
    """The matrices C_j of a run, and the distances of its neurons.

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
    progress: Progress | None = None,
    watch: Callable[[Simulation], None] = lambda _: None,
    next_watched: Callable[[], float] = lambda: math.inf,
    **options: Any,
) -> CouplingHistory:
    """Run a simulation in memory and integrate C_j over it, at the cadence of the scalars.

    Other arguments are as for `Simulation`; ``watch`` is called with it at the start and after each
    step, and ``next_watched`` returns the next time within a step at which ``watch`` reads it. No
    file is written. The run takes the same steps as usual.
    Raises `ConfigError` if the memory does not suffice, and the errors of a run.
    """
    shown = progress or Progress()
    due = config.scalar_rule.plan(steps=config.step_limit, end_time=config.end_time)
    agenda = Agenda(due)
    with Simulation(config, X, Y, **options) as simulation:
        needed = CouplingIntegral.needed_bytes(simulation.dimensions, len(due))
        advice = "take fewer samples or neurons"
        require_memory(needed, NumpyBackend(), "the integrals of C_j need", advice)
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
    """Replay a trajectory in memory, and integrate C_j over it; see `integrate_couplings`.

    Files keep few snapshots; the run is therefore replayed from its configuration, data and
    initial weights, up to its last snapshot. Every snapshot is compared with the replay's state:
    on the same machine, versions and threads they are the same bits. Otherwise ``difference`` is
    their distance, relative to the array's norm.
    Raises `ResumeMismatchError` if that is more than ``tolerance``, `TrajectoryError` if the file
    cannot be read, and the errors of a run.
    """
    recorded = Recorded(trajectory)
    snapshots = _SnapshotCheck(trajectory, tolerance)
    history = integrate_couplings(
        up_to_last_snapshot(recorded),
        *recorded.data,
        **recorded.beginning,
        backend=backend,
        progress=progress,
        watch=snapshots,
        next_watched=lambda: snapshots.agenda.next_time,
    )
    return replace(history, difference=snapshots.difference)


def up_to_last_snapshot(recorded: Recorded) -> RunConfig:
    """Return the configuration of a replay that ends at the file's last snapshot."""
    config, trajectory = recorded.config, recorded.trajectory
    last = trajectory.recorded_snapshots[-1]
    if last.dtype.kind == "f" and last > 0.0:
        return config.replace(end_time=float(last))
    return config.replace(steps=max(1, int(trajectory.step[-1])))


class _SnapshotCheck:
    """Compares the states of a replay with the snapshots of its file."""

    def __init__(self, trajectory: Trajectory, tolerance: float) -> None:
        self._trajectory, self._tolerance = trajectory, tolerance
        self.agenda = Agenda(trajectory.recorded_snapshots.tolist())
        self._row = 0
        self.difference = 0.0

    def __call__(self, simulation: Simulation) -> None:
        rows = range(self._row, len(self._trajectory.step))
        # A replay takes at least one step: a file with only the first snapshot lacks its end.
        for moment, row in zip(simulation.due(self.agenda), rows, strict=False):
            self._check(simulation, moment, row)
            self._row = row + 1

    def _check(self, simulation: Simulation, moment: float, row: int) -> None:
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
