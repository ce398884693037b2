"""The scalars of a state: losses, norms of reaction and diffusion, distances, invariants.

Each row of ``/scalars`` describes the state at its step. Observing reads the state and overwrites
the workspace, which every step recomputes: it changes no bit of the run.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from prdsim.backends.fused import leading
from prdsim.physics.charts import column_sums, row_sums
from prdsim.physics.gradients import (
    acting_field,
    begin_step,
    draw_points,
    each_set,
    forward,
    generator_velocity,
    input_gradient,
    penalty_gradients,
    residual,
    score_field,
)
from prdsim.physics.model import Model
from prdsim.physics.randomness import Stream
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray


class Observer:
    """Computes a row of scalars, some of them relative to the initial state.

    ``initial`` is the state at t = 0, to which distances, invariants and gate flips refer.
    """

    def __init__(self, model: Model, initial: State) -> None:
        k, sizes = model.backend, model.dimensions
        self._model = model
        self._V_0 = k.empty((sizes.d_out, sizes.m))
        k.copy(initial.V, out=self._V_0)
        self._velocity = State.empty(k, model.state_shapes, ("U", "V"))
        forward(model, initial)
        self._gates = k.empty(model.work.A.shape, "uint8")
        k.gates(model.work.A, out=self._gates)  # of several panels: computed again where needed
        self._balance_0 = self._balance(initial)
        self._critic_balance_0 = self._critic_balance(initial)

    def observe(self, state: State, *, step: int) -> dict[str, float]:
        """Return the scalars of a state by the names of the file format.

        Norms are Frobenius norms; ``diffusion_norm`` is that of D Delta^u and D Delta^v, the terms
        as they enter the velocity, and 0 without diffusion. Losses and norms that need penalty
        points draw their own, which leaves the run's untouched.
        """
        flips = self._predict(state)
        return {
            **self._losses(state, step),
            "mask_flips": flips,
            **self._velocities(state),
            **self._distances_and_invariants(state),
        }

    def _predict(self, state: State) -> float:
        """Leave Z, as `forward` does; return the share of gates that differ from those at t = 0."""
        model, k, changes = self._model, self._model.backend, 0
        start = replace(state, U=self._velocity.U)
        if model.parts:
            model.chart.start(out=start.U)
        for panel in model.panels:
            gates = leading(self._gates, panel.work.A.shape)
            if model.parts:
                forward(panel, start)
                k.gates(panel.work.A, out=gates)
            forward(panel, state)
            changes += k.gate_changes(panel.work.A, gates)
        return changes / (model.dimensions.m * model.dimensions.n)

    def _losses(self, state: State, step: int) -> dict[str, float]:
        """Losses, residual, field and penalty norms; reads Z, leaves F, E.

        L_adv is <Z, F>, the loss whose gradient acts; with the adversary, that is sum_p g(z_p).
        """
        model, work, k = self._model, self._model.work, self._model.backend
        n = model.dimensions.n
        begin_step(model, step)
        draw_points(model, stream=Stream.OBSERVED_PENALTY_POINTS, update=0)
        penalty_norm, penalty = 0.0, 0.0
        for weight in each_set(model):
            penalty_gradients(model, state)
            norms = np.sqrt(self._per_sample(work.Q))
            penalty_norm += weight * float(np.mean(norms))
            penalty += weight * model.gradient_penalty * float(np.mean((norms - 1.0) ** 2))
        # g is homogeneous: g(y) = y . grad g(y), for targets as for predictions.
        input_gradient(model, state, model.Y, out=work.G)
        adversarial_at_Y = k.dot(model.Y, work.G)
        acting_field(model, state)
        if model.forcing is not None and model.forcing.prescribed:
            score_field(model, state)  # of the critic that nothing feels
        adversarial_at_Z = k.dot(work.Z, work.G)
        field_norms = np.sqrt(self._per_sample(model.F))
        loss_adv = adversarial_at_Z if model.forcing is None else k.dot(work.Z, model.F)
        residual(model, out=work.E)
        residual_norm = sqrt(k.dot(work.E, work.E))
        loss_sup = 0.5 * residual_norm**2
        loss_aug = loss_sup - model.diffusivity * loss_adv
        wasserstein = (adversarial_at_Z - adversarial_at_Y) / n
        return {
            "loss_sup": loss_sup,
            "loss_adv": loss_adv,
            "loss_aug": loss_aug,
            "loss_critic": -loss_aug if model.minimax else wasserstein + penalty,
            "residual_norm": residual_norm,
            "score_norm_mean": float(np.mean(field_norms)),
            "penalty_norm_mean": penalty_norm,
        }

    def _velocities(self, state: State) -> dict[str, float]:
        """Norms of reaction and diffusion; reads E = Y - Z and F."""
        model, work = self._model, self._model.work
        reaction_U, reaction_V = self._velocity_norms(state, work.E)
        diffusion_U, diffusion_V = 0.0, 0.0
        if model.diffusivity > 0.0:
            diffusion_U, diffusion_V = self._velocity_norms(state, model.F)
        return {
            "reaction_norm_U": reaction_U,
            "reaction_norm_V": reaction_V,
            "diffusion_norm_U": model.diffusivity * diffusion_U,
            "diffusion_norm_V": model.diffusivity * diffusion_V,
        }

    def _velocity_norms(self, state: State, E: Array) -> tuple[float, float]:
        """Norms of the velocities a drive gives U and V, 0 for an array that does not move."""
        model = self._model
        generator_velocity(model, state, E, out=self._velocity)
        U, V = self._velocity.U, self._velocity.V
        return (
            sqrt(model.chart.squared_norm(U, model.work.B)) if "U" in model.moving else 0.0,
            sqrt(model.backend.dot(V, V)) if "V" in model.moving else 0.0,
        )

    def _distances_and_invariants(self, state: State) -> dict[str, float]:
        """Mean and largest ||u_j(t) - u_j(0)|| and ||v_j(t) - v_j(0)|| over neurons; reads A.

        Also the drifts of the invariants.
        """
        model, (difference_U, difference_V) = self._model, (self._velocity.U, self._velocity.V)
        squares_U = model.chart.squared_distances(state.U, model.work.A, difference_U)
        model.backend.combine([(1.0, state.V), (-1.0, self._V_0)], out=difference_V)
        squares_V = column_sums(model.backend, difference_V, difference_V)
        distances_U, distances_V = np.sqrt(squares_U), np.sqrt(squares_V)
        drift = self._balance(state) - self._balance_0
        critic_drift = self._critic_balance(state) - self._critic_balance_0
        return {
            "distance_U_mean": float(np.mean(distances_U)),
            "distance_U_max": float(np.max(distances_U)),
            "distance_V_mean": float(np.mean(distances_V)),
            "distance_V_max": float(np.max(distances_V)),
            "balance_drift": _relative_drift(drift, self._balance_0),
            "critic_balance_drift": _relative_drift(critic_drift, self._critic_balance_0),
            "invariant_error": self._invariant_error(drift, squares_U + squares_V),
        }

    def _invariant_error(self, drift: HostArray, squared_distances: HostArray) -> float:
        """mean_j |b_j(t) - b_j(0)| / mean_j (||u_j(t) - u_j(0)||^2 + ||v_j(t) - v_j(0)||^2).

        The share of the neurons' squared distances that is due to the finite step size: a relative
        error, whatever the scale of the initial weights. 0 if nothing has moved; NaN if U or V is
        held fixed or neurons are coupled, since b_j is not an invariant then.
        """
        if not {"U", "V"} <= set(self._model.moving) or self._model.coupling is not None:
            return float("nan")
        moved = float(np.mean(squared_distances))
        return float(np.mean(np.abs(drift))) / moved if moved > 0.0 else 0.0

    def _balance(self, state: State) -> HostArray:
        """||u_j||^2 - ||v_j||^2, invariant along the flow of U and V; reads A."""
        squares_U = self._model.chart.squared_norms(state.U, self._model.work.A)
        return squares_U - column_sums(self._model.backend, state.V, state.V)

    def _critic_balance(self, state: State) -> HostArray:
        """||w_r||^2 - a_r^2, invariant along the flow of W and a."""
        a: HostArray = self._model.backend.to_host(state.a).astype(np.float64)
        balance: HostArray = row_sums(self._model.backend, state.W, state.W) - a**2
        return balance

    def _per_sample(self, A: Array) -> HostArray:
        """Squared norms of the columns of an array with one for each sample."""
        k, panels = self._model.backend, self._model.split(A)
        return np.concatenate([column_sums(k, panel, panel) for panel in panels])


def _relative_drift(drift: HostArray, balance_0: HostArray) -> float:
    """max_j |b_j(t) - b_j(0)| / (1 + max_j |b_j(0)|)."""
    return float(np.max(np.abs(drift)) / (1.0 + np.max(np.abs(balance_0))))
