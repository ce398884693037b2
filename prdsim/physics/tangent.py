"""The flow's Jacobian, applied to a tangent vector: derived by hand, never formed.

The symbols are those of `prdsim.physics.gradients`; d before one means its derivative along a
tangent (dU, dV, dW, da). Gates are constant almost everywhere, and are held fixed:

    dH = 1{A >= 0} * (dU X)           dZ = s (V dH + dV H)
    dG = s_c d(aW)^T 1{W Z >= 0}      with row r of d(aW) = da_r w_r + a_r dw_r
    dE = -dZ + D dG                   (a control's field is constant: dG = 0)

    d(dU/dt) = s [(V^T dE + dV^T E) * 1{A >= 0}] X^T
    d(dV/dt) = s (dE H^T + E dH^T)

    dQ = s_c d(aW)^T 1{W Y_hat >= 0}
    d(c_p q_p) = c_p dq_p + t_p (t_p . dq_p),       t_p = q_p sqrt(2 gp / n) / ||q_p||^(3/2)
    dN = s_c [1{W Z >= 0} dZ^T / n + 1{W Y_hat >= 0} d(c * Q)^T]
    d(dw_r/dt) = -critic_rate (da_r N_r + a_r dN_r)
    d(da_r/dt) = -critic_rate (dw_r . N_r + w_r . dN_r)

The score field G and the gradients Q depend on Z through gates alone: dZ contributes to neither.
The penalty is taken at the midpoints e_p = 1/2, the default of the joint flow; a minimax critic has
dN = s_c D 1{W Z >= 0} dZ^T alone.

Tangents whose dU is given by few numbers are those of `prdsim.physics.driven`.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np

from prdsim.backends.fused import Fused, Targets
from prdsim.errors import ConfigError
from prdsim.physics.charts import load
from prdsim.physics.driven import Driven, driven_shapes
from prdsim.physics.gradients import (
    critic_moments,
    drive,
    feature_change,
    forward,
    generator_velocity,
    penalty_gradients,
    pull_back,
    push_forward,
    velocity,
)
from prdsim.physics.model import Model, Workspace
from prdsim.physics.state import Dimensions, Shapes, State

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array

Flow = Literal["reaction", "frozen", "joint"]
"""Which flow is linearized: without diffusion, with a frozen critic, or with a moving one."""


_UNCOUPLED = "coupling: modes of coupled neurons are not computed; take a run without coupling"


class Linearization:
    """The Jacobian of a flow at one state, matrix-free; later steps do not affect it.

    ``flow`` is that of U, V without diffusion ("reaction"), with diffusion from a critic that
    is held fixed ("frozen"), or the whole joint flow ("joint"). The arrays of the model that do not
    move are constants. The first two are gradient flows, and their Jacobians, minus the Hessians
    of L_sup and L_aug, are symmetric in the weight and range charts.

    A product costs 4 m r n operations (range chart). It allocates nothing.

    Example::

        jacobian = Linearization(simulation.model, simulation.state, "frozen")
        jacobian.product(tangent, out=change)
    """

    def __init__(self, model: Model, state: State, flow: Flow = "joint") -> None:
        k, sizes = model.backend, model.dimensions
        if model.parts:
            raise ConfigError(
                "memory: the Jacobian takes all samples at once; leave memory out, or give more"
            )
        if model.coupling is not None and flow != "joint":
            raise ConfigError(_UNCOUPLED)
        field = None if model.forcing is None else model.forcing.field
        moving = tuple(name for name in model.moving if flow == "joint" or name in "UV")
        if flow == "joint" and model.forcing is not None and not model.forcing.prescribed:
            raise ConfigError(
                "forcing shuffled: the joint flow has no Jacobian for all times, since the samples "
                "change places"
            )
        self._fused = Fused(k, sizes.m, sizes.m_c, sizes.n)
        self._fused.allocate()
        self.flow = flow
        self.model = replace(
            model,
            fused=self._fused,
            targets=Targets(model.Y, model.Y),  # the primitives take every target
            work=Workspace(k, sizes, model.chart.panels, field),
            diffusivity=0.0 if flow == "reaction" else model.diffusivity,
            penalty_nodes=((0.5, 1.0),),
            moving=moving,
        )
        self.state = State.empty(k, model.state_shapes)
        self.critic_moves = bool({"W", "a"} & set(moving))
        if self.critic_moves and len(model.penalty_nodes) > 1:
            raise ConfigError(
                "penalty_points: the Jacobian of a moving critic takes the penalty at midpoints; "
                "that of a run at gauss:K differs"
            )
        self._scratch: Array | None = None
        self._K: Array | None = None
        for name, shape in _extra_shapes(sizes, critic_moves=self.critic_moves).items():
            setattr(self, f"_{name}", k.empty(shape))
        k.to_device(
            np.zeros((sizes.d_out, sizes.n)), self._dZ
        )  # it stays zero if neither U nor V moves
        self.at(state)

    _dZ: Array
    _dE: Array
    _gates: Array
    _dQ: Array
    _T: Array
    _daW: Array
    _dN: Array
    _dots: Array

    @property
    def moving(self) -> tuple[str, ...]:
        """The arrays whose tangents a product reads and writes."""
        return self.model.moving

    @property
    def symmetric(self) -> bool:
        """Whether the Jacobian is symmetric: a gradient flow's, in orthonormal coordinates."""
        return not self.critic_moves and self.model.chart.pull_matrix is not None

    @property
    def shapes(self) -> Shapes:
        """Shapes of the arrays of a tangent: U in the chart's coordinates."""
        return {name: self.model.state_shapes[name] for name in self.moving}

    @property
    def driven_shapes(self) -> Shapes:
        """Shapes of the arrays of a driven tangent."""
        return driven_shapes(self.model.dimensions, self.shapes)

    def velocity(self, out: State, E: Array | None = None) -> None:
        """out = the velocity of those of U, V that move, from the flow's drive, or from E."""
        drive = self.model.work.E if E is None else E
        generator_velocity(self.model, self.state, drive, out=out)

    def drive_rate(self) -> float:
        """Return ||dE/dt||_F / ||E||_F along the flow itself, gates held fixed; 0 if E = 0.

        It is the rate at which the Jacobian's coefficients change, per unit of time.
        """
        model, k = self.model, self.model.backend
        along = State.empty(k, model.state_shapes, self.moving)
        velocity(model, self.state, out=along)  # recomputes the arrays that products read
        push_forward(model, self.state, along, out=self._dZ)
        self._drive_product(along)
        squares = k.dot(model.work.E, model.work.E)
        return sqrt(k.dot(self._dE, self._dE) / squares) if squares > 0.0 else 0.0

    def at(self, state: State) -> None:
        """Linearize at another state, which is copied."""
        k, model = self.model.backend, self.model
        for name, array in state:
            k.copy(array, out=getattr(self.state, name))
        forward(model, self.state)  # leaves A, H
        drive(model, self.state)  # leaves E
        if self.critic_moves:
            self._linearize_critic()

    def _linearize_critic(self) -> None:
        """Leave N, the gates at Z and Y_hat, c and T."""
        k, model, work, state = self.model.backend, self.model, self.model.work, self.state
        critic_moments(model, state, update=0)  # leaves N, Y_hat, c
        k.gemm(state.W, work.Z, out=self._gates)
        k.heaviside(self._gates, out=self._gates)
        if self._penalized:
            penalty_gradients(model, state)  # leaves Q, and the gates 1{W Y_hat >= 0}
            k.scale_columns(self._penalty_slopes(), work.Q, out=self._T)

    @property
    def _penalized(self) -> bool:
        return not self.model.minimax and self.model.gradient_penalty > 0.0

    def _penalty_slopes(self) -> Array:
        """sqrt(2 gp / n) / ||q_p||^(3/2), and 0 where q_p = 0; reads squared_norms."""
        model, k = self.model, self.model.backend
        squares = k.to_host(model.work.squared_norms).astype(np.float64)
        slopes = np.zeros_like(squares)
        np.power(squares, -0.75, out=slopes, where=squares > 0.0)
        return load(k, sqrt(2.0 * model.gradient_penalty / model.dimensions.n) * slopes)

    # -- products ------------------------------------------------------------------------------

    def product(self, tangent: State, out: State) -> None:
        """out = the Jacobian times a tangent, eq. 14; both hold the arrays that move, else None.

        ``out`` must not be the tangent.
        """
        push_forward(self.model, self.state, tangent, out=self._dZ)
        self._drive_product(tangent)
        if "V" in self.moving:
            self._V_product(out.V)
        if "U" in self.moving:
            self._drive_back(self._dE, tangent.V)
            pull_back(self.model, out=out.U)
        if self.critic_moves:
            self._critic_product(tangent, out)
        if self.model.coupling is not None:
            self.model.coupling.add(tangent, out, self.moving, linear=True)

    def driven_product(self, tangent: Driven, out: Driven, dual: Driven) -> None:
        """out = the Jacobian times a driven tangent; dual = the tangent's dual.

        The inner product of the tangent with any driven one is the sum of the inner products of the
        latter's arrays with those of the dual. Costs no more than a product, and less on wide
        inputs: K = X^T X replaces the chart's matrix if it is cheaper to apply.
        """
        k, work = self.model.backend, self.model.work
        if "U" in self.moving:
            if self._scratch is None:
                self.prepare_driven()
            self._drive_back(tangent.e, tangent.v)
            if self._K is None:
                pull_back(self.model, out=self._scratch)
                feature_change(self.model, self._scratch)
            else:
                k.gemm(work.B, self._K, out=self._scratch, alpha=self.model.s)
                k.gate(self._scratch, work.A, out=work.B)
        self._respond(tangent, out, dual)

    def driven_response(self, tangent: State, out: Driven, dual: Driven) -> None:
        """out = the Jacobian times any tangent, in driven form; dual = the tangent's dual."""
        if "U" in self.moving:
            feature_change(self.model, tangent.U)
        self._respond(tangent, out, dual)

    def expand(self, driven: Driven, out: State) -> None:
        """out = a driven tangent, dU in the chart's coordinates; of the arrays that move."""
        if "U" in self.moving:
            self._drive_back(driven.e, driven.v)
            pull_back(self.model, out=out.U)
        self._copy_rest(driven, out)

    def prepare_driven(self) -> None:
        """Make room for driven products, if U moves; the first of them does so by itself.

        And K, where it is cheaper to apply than the chart's matrix twice.
        """
        if self.model.coupling is not None:
            raise ConfigError(_UNCOUPLED)
        if "U" not in self.moving:
            return
        k, chart, n = self.model.backend, self.model.chart, self.model.dimensions.n
        m, columns = self.state.U.shape
        if chart.pull_matrix is not None and n < 2 * columns:
            self._K = k.empty((n, n))
            k.gemm(chart.matrix.T, chart.matrix, out=self._K)
        self._scratch = k.empty((m, columns) if self._K is None else (m, n))

    def _respond(self, tangent: State | Driven, out: Driven, dual: Driven) -> None:
        """The product and the dual of a tangent whose dH is in B."""
        k, moving = self.model.backend, self.moving
        self._prediction_change(tangent.V, of_U=dual.e)
        self._drive_product(tangent)
        if "V" in moving:
            self._V_product(out.V, of_U=dual.v)
        if "U" in moving:
            k.copy(self._dE, out=out.e)
            if "V" in moving:
                k.copy(tangent.V, out=out.v)
        if self.critic_moves:
            self._critic_product(tangent, out)
        self._copy_rest(tangent, dual)

    def _prediction_change(self, dV: Array, of_U: Array) -> None:
        """dZ = s V dH + s dV H, and ``of_U`` its first term; reads dH in B if U moves."""
        k, s, beta = self.model.backend, self.model.s, 0.0
        if "U" in self.moving:
            k.gemm(self.state.V, self.model.work.B, out=self._dZ, alpha=s)
            k.copy(self._dZ, out=of_U)
            beta = 1.0
        if "V" in self.moving:
            k.gemm(dV, self._fused.H, out=self._dZ, alpha=s, beta=beta)

    def _copy_rest(self, source: State | Driven, out: State | Driven) -> None:
        """Copy those of V, W, a that move from another tangent."""
        for name in ("V", "W", "a"):
            if name in self.moving:
                self.model.backend.copy(getattr(source, name), out=getattr(out, name))

    def _critic_product_weights(self, tangent: State | Driven) -> None:
        """d(aW), with rows da_r w_r + a_r dw_r, of the arrays that move."""
        k, state, moving = self.model.backend, self.state, self.moving
        if "W" in moving:
            k.scale_rows(state.a, tangent.W, out=self._daW)
        if "a" in moving:
            target = self._dN if "W" in moving else self._daW
            k.scale_rows(tangent.a, state.W, out=target)
            if "W" in moving:
                k.combine([(1.0, self._daW), (1.0, self._dN)], out=self._daW)

    def _drive_product(self, tangent: State | Driven) -> None:
        """dE = -dZ + D dG, eq. 13; reads dZ, leaves d(aW)."""
        k, model = self.model.backend, self.model
        k.combine([(-1.0, self._dZ)], out=self._dE)
        if self.critic_moves:
            self._critic_product_weights(tangent)
            D = model.diffusivity
            k.gemm(self._daW.T, self._gates, out=self._dE, alpha=model.s_c * D, beta=1.0)

    def _V_product(self, out: Array, of_U: Array | None = None) -> None:
        """out = d(dV/dt), ``of_U`` its part s E dH^T from dU; reads dE and, in B, dH."""
        k, model, work = self.model.backend, self.model, self.model.work
        k.gemm(self._dE, self._fused.H.T, out=out, alpha=model.s)
        if of_U is not None:
            k.gemm(work.E, work.B.T, out=of_U, alpha=model.s)
            k.combine([(1.0, out), (1.0, of_U)], out=out)
        elif "U" in self.moving:
            k.gemm(work.E, work.B.T, out=out, alpha=model.s, beta=1.0)

    def _drive_back(self, e: Array, v: Array) -> None:
        """B = (V^T e + v^T E) * 1{A >= 0}, without v if V does not move."""
        k, work = self.model.backend, self.model.work
        k.gemm(self.state.V.T, e, out=work.B)
        if "V" in self.moving:
            k.gemm(v.T, work.E, out=work.B, beta=1.0)
        k.gate(work.B, work.A, out=work.B)

    def _moments_product(self) -> None:
        """dN, the critic's moments along the tangent, eq. 15; reads dZ and d(aW)."""
        k, model, work = self.model.backend, self.model, self.model.work
        share = model.diffusivity if model.minimax else 1.0 / model.dimensions.n
        k.gemm(self._gates, self._dZ.T, out=self._dN, alpha=model.s_c * share)
        if not self._penalized:
            return
        dQ, T = self._dQ, self._T
        k.gemm(self._daW.T, self._fused.P, out=dQ, alpha=model.s_c)
        k.column_dots(T, dQ, out=self._dots)
        k.scale_columns(work.c, dQ, out=dQ)
        k.scale_columns(self._dots, T, out=self._dE)  # dE has been used
        k.combine([(1.0, dQ), (1.0, self._dE)], out=dQ)
        k.gemm(self._fused.P, dQ.T, out=self._dN, alpha=model.s_c, beta=1.0)

    def _critic_product(self, tangent: State | Driven, out: State | Driven) -> None:
        """d(dW/dt), d(da/dt) of those that move, eq. 16; reads N, dZ and d(aW), overwrites dE."""
        self._moments_product()
        k, work, state, moving = self.model.backend, self.model.work, self.state, self.moving
        rate = self.model.critic_rate
        scratch = work.critic_W
        if "W" in moving:
            k.scale_rows(state.a, self._dN, out=scratch)
            k.combine([(-rate, scratch)], out=out.W)
            if "a" in moving:
                k.scale_rows(tangent.a, work.N, out=scratch)
                k.combine([(1.0, out.W), (-rate, scratch)], out=out.W)
        if "a" in moving:
            k.row_dots(state.W, self._dN, out=out.a)
            if "W" in moving:
                k.row_dots(tangent.W, work.N, out=work.critic_a)
                k.combine([(1.0, out.a), (1.0, work.critic_a)], out=out.a)
            k.combine([(-rate, out.a)], out=out.a)


def _extra_shapes(sizes: Dimensions, *, critic_moves: bool) -> Shapes:
    """Shapes of the arrays of a linearization besides its workspace and state."""
    samples, critic = (sizes.d_out, sizes.n), (sizes.m_c, sizes.d_out)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("dZ", "dE"), samples)
    if critic_moves:
        shapes |= {"gates": (sizes.m_c, sizes.n), "dots": (sizes.n,)}
        shapes |= {**dict.fromkeys(("dQ", "T"), samples), **dict.fromkeys(("daW", "dN"), critic)}
    return shapes
