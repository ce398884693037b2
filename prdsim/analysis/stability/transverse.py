"""Transverse growth: what becomes of deviations within groups of equal neurons, along a run.

Deviations (du, dv) that sum to zero within a group leave the prediction unchanged to first order.
Between changes of the group's gates they obey, eq. 18,

    d(du, dv)/dt = (S - kappa) (du, dv),    S = [[0, C^T], [C, 0]]

with the C(t) of their group. Where the gate of sample p changes, neurons ahead of others change
theirs earlier: the rate of change of a_p = u . x_p jumps from r to r', and with it

    du -> du + (r' / r - 1) (x_p . du) x_p / ||x_p||^2

(saltation; if r' has the other sign the neurons stay at the kink, and what tells them apart there
is lost: r' = 0). The fundamental matrix of both, Phi(t), is computed along the run in the
coordinates of the inputs' span, X = Q R, to which deviations of U belong. Its largest singular
value says how much the deviation that grows most has grown.

Steps show kinks only to deviations that they resolve: neurons that are closer than what u . x_p
changes by in a step, pass a kink in the same stage, as if there were none. A run with deviations
of 1e-8 therefore grows by the smooth fundamental matrix, without kinks, however fine its steps
are; that is a property of the method, and not of the flow. Both are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.stability.growth import Couplings, couplings
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.charts import range_factors
from prdsim.physics.groups import group_means, within_groups
from prdsim.progress import Progress
from prdsim.running.simulation import Simulation
from prdsim.running.stages import StagedSimulation, carried

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.physics.state import State


_ROUNDING = 1e-14  # of a mean of equal neurons, relative


@dataclass(frozen=True)
class Predicted:
    """What a fundamental matrix says of K groups, whose coordinates are (Q^T du, dv).

    ``growth`` (T, K) is that of the run's own deviations, ``largest`` (T, K) that of those that
    grow most; these begin as ``begin`` and end as ``end``, unit vectors (K, r + d_out).
    """

    growth: HostArray
    largest: HostArray
    begin: HostArray
    end: HostArray


@dataclass(frozen=True)
class TransverseGrowth:
    """Growth of deviations within K groups at the ends of steps, ``times`` (T,).

    ``measured`` (T, K) are the norms of all deviations of a group over those at t = 0. ``flow``
    and ``smooth`` predict them, with kinks and without; ``crossings`` (K,) counts changes of gates.
    ``basis`` (d_in, r) is Q.
    """

    times: HostArray
    measured: HostArray
    flow: Predicted
    smooth: Predicted
    crossings: HostArray
    basis: HostArray

    def exponents(self, predicted: Predicted) -> HostArray:
        """Return the largest exponents over the whole run, log(largest) / t, (K,).

        Deviations of a group decay over it if its coupling is larger by more than they are.
        """
        rates: HostArray = np.log(predicted.largest[-1]) / self.times[-1]
        return rates


class Propagator:
    """The fundamental matrices of K groups, each (r + d_out, r + d_out), of (Q^T du, dv).

    Without kinks they are the tangents of the method that takes the steps.
    """

    def __init__(
        self, K: int, R: HostArray, d_out: int, kappa: float, *, kinks: bool = True
    ) -> None:
        self._R, self._kappa, self._r, self._kinks = R, kappa, len(R), kinks
        self.matrices = np.tile(np.eye(len(R) + d_out), (K, 1, 1))
        self.crossings = np.zeros(K, np.int64)

    def step(self, step: Step) -> None:
        """Go through a step."""
        derivatives = (partial(self._slope, C) for C in step.C)
        self.matrices = carried(self.matrices, step.size, step.rows, step.weights, derivatives)
        if self._kinks:
            for group in np.flatnonzero((step.begin.gates != step.end.gates).any(axis=1)):
                self._cross(int(group), step.begin, step.end)

    def _slope(self, C: HostArray, Phi: HostArray) -> HostArray:
        """Return (S - kappa) Phi, eq. 18."""
        r = self._r
        return (
            np.concatenate([np.swapaxes(C, 1, 2) @ Phi[:, r:], C @ Phi[:, :r]], axis=1)
            - self._kappa * Phi
        )

    def _cross(self, group: int, begin: Group, end: Group) -> None:
        """Pass the kinks at which gates of the group change within a step."""
        changed = np.flatnonzero(begin.gates[group] != end.gates[group])
        self.crossings[group] += len(changed)
        for p in changed:
            before, after = begin.rates[group, p], end.rates[group, p]
            passed = before * after > 0.0
            x = self._R[:, p]
            along = x @ self.matrices[group][: self._r]
            ratio = after / before if passed else 0.0
            self.matrices[group][: self._r] += np.outer(x, (ratio - 1.0) / (x @ x) * along)

    def growth(self, first: HostArray, start: HostArray) -> tuple[HostArray, HostArray]:
        """Return the growth of deviations (K, q, r + d_out), and the largest of any, (K,)."""
        found = np.einsum("kab,kqb->kqa", self.matrices, first)
        return np.linalg.norm(found, axis=(1, 2)) / start, np.linalg.norm(self.matrices, 2, (1, 2))

    def predicted(self, history: list[tuple[HostArray, HostArray]]) -> Predicted:
        """Return what the matrices say at the end, and said before."""
        left, _, right = np.linalg.svd(self.matrices)
        growth, largest = map(np.array, zip(*history, strict=True))
        return Predicted(growth, largest, begin=right[:, 0], end=left[:, :, 0])


@dataclass(frozen=True)
class Group:
    """K groups at a time: C (K, d_out, r), gates and rates of pre-activations (K, n)."""

    C: HostArray
    gates: HostArray
    rates: HostArray

    @classmethod
    def at(cls, simulation: Simulation, state: State, R: HostArray, K: int) -> Group:
        """Return the groups of a run at one of its states."""
        parts = couplings(simulation.model, state, R)
        q = len(parts.gates) // K
        few = Couplings(parts.gates[::q], parts.residual, parts.diffusion, R, parts.scale)
        C = np.concatenate([matrices for _, matrices in few.matrices(few.drive)])
        v = group_means(simulation.backend.to_host(state.V).astype(float).T, K)
        rates = np.einsum("kdr,kd->kr", C, v) @ R
        return cls(C, few.gates, rates)


@dataclass(frozen=True)
class Step:
    """A step of a method, or its beginning: C of the groups at the stages and at its end.

    ``rows[i]`` are the weights of the slopes that lead to stage i, ``weights`` those to the end.
    """

    C: Sequence[HostArray]
    rows: Sequence[Sequence[float]]
    weights: Sequence[float]
    size: float
    begin: Group
    end: Group


def transverse_growth(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> TransverseGrowth:
    """Run neurons in groups, and set the growth of their deviations beside the predicted one.

    Other arguments are as for `Simulation`. The prediction holds while deviations are small.
    Raises `ConfigError` without groups, deviations and an end time, and the errors of a run.
    """
    K = config.groups
    if K is None or config.end_time is None:
        raise ConfigError("groups and end_time: transverse growth needs both")
    shown = progress or Progress()
    Q, R = range_factors(X)
    times: list[float] = []
    sizes: list[HostArray] = []
    histories: tuple[list[Any], list[Any]] = [], []
    with StagedSimulation(config, X, Y, **options) as simulation:
        propagators = [
            Propagator(K, R, Y.shape[0], config.coupling, kinks=kinks) for kinks in (True, False)
        ]
        first = deviations(simulation, Q, K)
        start = np.linalg.norm(first, axis=(1, 2))
        if not np.all(start > _ROUNDING * np.linalg.norm(simulation.weights()["U"])):
            raise ConfigError("group_deviation: neurons of a group are equal, nothing can grow")
        shown.start(*simulation.progress)
        try:
            for time in _through_the_run(simulation, propagators, R, config):
                times.append(time)
                grown = deviations(simulation, Q, K, time)
                sizes.append(np.linalg.norm(grown, axis=(1, 2)) / start)
                for propagator, history in zip(propagators, histories, strict=True):
                    history.append(propagator.growth(first, start))
                shown.update(simulation.progress[0], simulation.step, float(sizes[-1].max()))
        finally:
            shown.close()
    flow, smooth = (
        propagator.predicted(history)
        for propagator, history in zip(propagators, histories, strict=True)
    )
    crossings = propagators[0].crossings
    return TransverseGrowth(np.array(times), np.array(sizes), flow, smooth, crossings, Q)


def _through_the_run(
    simulation: StagedSimulation, propagators: Sequence[Propagator], R: HostArray, config: RunConfig
) -> Iterator[float]:
    """Yield the times of the ends of steps, the last the end time, up to which propagators went."""
    K, last, rows = config.groups or 1, config.end_time or 0.0, simulation.rows
    while not simulation.finished:
        simulation.advance(next_view=simulation.time)
        until = min(simulation.time, last)
        # The field of a control is that of this step: its beginning is looked at after it.
        groups = [Group.at(simulation, state, R, K) for state in simulation.stages()]
        end = Group.at(simulation, simulation.view(until), R, K)
        C, weights = [group.C for group in groups], simulation.weights_until(until)
        step = Step(C, rows, weights, simulation.taken, groups[0], end)
        for propagator in propagators:
            propagator.step(step)
        yield until


def deviations(
    simulation: Simulation, Q: HostArray, K: int, time: float | None = None
) -> HostArray:
    """Return the deviations (Q^T du, dv) within groups, (K, q, r + d_out).

    Now, or at a time within the last step.
    """
    weights = simulation.weights(time)
    U, V = (weights[name].astype(np.float64) for name in "UV")
    both = np.hstack([within_groups(U, K) @ Q, within_groups(V.T, K)])
    return both.reshape(K, len(U) // K, -1)
