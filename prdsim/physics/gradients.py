"""Every equation of the model, once, derived by hand; no automatic differentiation anywhere.

Symbols are the paper's (Rout, AAAI 2021): X (d_in, n) and Y (d_out, n) hold one sample a column;
U (m, d_in), V (d_out, m) are the generator; W (m_c, d_out), a (m_c,) the critic;
s = 1/sqrt(d_out m) and s_c = 1/sqrt(m_c). Indicators are 1{x >= 0} throughout, so relu'(0) = 1.

    Z = s V relu(U X)                        g(y) = s_c a^T relu(W y)
    L_sup = 1/2 ||Z - Y||_F^2                L_adv = sum_p g(z_p)
    L_aug = L_sup - D L_adv                  G = grad_z g (paper eq. 50)

The generator descends L_aug: dU/dt = R^u + D D^u and dV/dt = R^v + D D^v, with the reaction from
the residual Y - Z and the diffusion from G (paper eqs. 48-55). Both enter only through the drive
E = (Y - Z) + D G.

Functions work in the model's workspace; each says what it reads there and what it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prdsim.physics.model import Model
from prdsim.physics.randomness import Stream
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.base import Array


# -- the generator ---------------------------------------------------------------------------------


def forward(model: Model, state: State, *, with_A: bool = False) -> None:
    """Pre-activations A = U X, features H = relu(A), prediction Z = s V H; leaves A, Z (and H).

    ``with_A`` says that A is there already.
    """
    k, work, chart = model.backend, model.work, model.chart
    if model.fused is not None:
        U = None if with_A else state.U
        model.fused.predict(
            U, chart.matrix, chart.base, state.V, A=work.A, out=work.Z, alpha=model.s
        )
        return
    if not with_A:
        if chart.base is not None:
            k.copy(chart.base, out=work.A)
        k.gemm(state.U, chart.matrix, out=work.A, beta=0.0 if chart.base is None else 1.0)
    k.relu(work.A, out=work.H)
    k.gemm(state.V, work.H, out=work.Z, alpha=model.s)


def residual(model: Model, out: Array) -> None:
    """Y - Z, the drive of the reaction; reads Z."""
    model.backend.combine([(1.0, model.Y), (-1.0, model.work.Z)], out=out)


def score_field(model: Model, state: State) -> None:
    """G = grad_z g = s_c W^T (a * 1{W Z >= 0}) (paper eq. 50); reads Z, leaves G, P."""
    input_gradient(model, state, model.work.Z, out=model.work.G)


def drive(model: Model, state: State) -> None:
    """E = (Y - Z) + D G; reads Z, leaves E and, with diffusion, G."""
    k, work = model.backend, model.work
    if model.diffusivity == 0.0:
        residual(model, out=work.E)
        return
    score_field(model, state)
    k.combine([(1.0, model.Y), (-1.0, work.Z), (model.diffusivity, work.G)], out=work.E)


def pulled_back_drive(model: Model, state: State, E: Array) -> None:
    """B = (V^T E) * 1{A >= 0}, the drive at the pre-activations; reads A, leaves B."""
    k, work = model.backend, model.work
    k.gemm(state.V.T, E, out=work.B)
    k.gate(work.B, work.A, out=work.B)


def generator_velocity(
    model: Model, state: State, E: Array, out: State, *, alpha: float = 1.0, beta: float = 0.0
) -> None:
    """out = alpha (dU/dt, dV/dt) + beta out with dU/dt = s B X^T, dV/dt = s E H^T (eqs. 52-55).

    With E = Y - Z these are the reaction terms R^u, R^v, with E = G the diffusion terms D^u,
    D^v, with E = (Y - Z) + D G the whole velocity. Only arrays that move are written; ``out``
    may be the state itself. U's velocity is in the chart's coordinates: s B M^T, or s B (Gram).
    Reads A, H; overwrites B.
    """
    k, chart, work = model.backend, model.chart, model.work
    U, V = (getattr(out, name) if name in model.moving else None for name in "UV")
    alpha *= model.s
    if model.fused is not None:
        matrix = chart.matrix if chart.pulls_back else None
        model.fused.pull_back(
            work.A, state.V, E, matrix, B=work.B, out_U=U, out_V=V, alpha=alpha, beta=beta
        )
        return
    if U is not None:
        pulled_back_drive(model, state, E)  # before V changes, should ``out`` be the state
    if V is not None:
        k.gemm(E, work.H.T, out=V, alpha=alpha, beta=beta)
    if U is not None:
        pull_back(model, out=U, alpha=alpha, beta=beta)


def pull_back(model: Model, out: Array, *, alpha: float, beta: float = 0.0) -> None:
    """out = alpha B X^T + beta out, in the chart's coordinates; reads B."""
    k, chart, B = model.backend, model.chart, model.work.B
    if chart.pulls_back:
        k.gemm(B, chart.matrix.T, out=out, alpha=alpha, beta=beta)
    elif beta == 0.0:
        k.combine([(alpha, B)], out=out)
    else:
        k.combine([(beta, out), (alpha, B)], out=out)


def push_forward(model: Model, state: State, tangent: State, out: Array) -> None:
    """out = dZ = s V dH + s dV H with dH = 1{A >= 0} * (dU X), of the arrays that move.

    Reads A and, if it is there, H; overwrites B and leaves dH in it if U moves. Leaves ``out`` as
    it is if neither U nor V does.
    """
    beta = 0.0
    if "V" in model.moving:
        _top_layer_change(model, tangent.V, out=out, beta=beta)
        beta = 1.0
    if "U" in model.moving:
        feature_change(model, tangent.U)
        _hidden_layer_change(model, state, out=out, beta=beta)


def feature_change(model: Model, dU: Array) -> None:
    """dH = 1{A >= 0} * (dU X), dU in the chart's coordinates; reads A, leaves dH in B."""
    k, work = model.backend, model.work
    k.gemm(dU, model.chart.matrix, out=work.B)
    k.gate(work.B, work.A, out=work.B)


def prediction_change(
    model: Model, state: State, dV: Array, out: Array, *, of_U: Array | None = None
) -> None:
    """out = dZ as in `push_forward`, from dH; ``of_U`` takes the part s V dH alone.

    Reads H and, if U moves, dH in B; leaves ``out`` as it is if neither U nor V does. Not fused.
    """
    beta = 0.0
    if "U" in model.moving:
        _hidden_layer_change(model, state, out=out, beta=beta)
        if of_U is not None:
            model.backend.copy(out, out=of_U)
        beta = 1.0
    if "V" in model.moving:
        _top_layer_change(model, dV, out=out, beta=beta)


def _hidden_layer_change(model: Model, state: State, out: Array, *, beta: float) -> None:
    """out = s V dH + beta out; reads dH in B."""
    model.backend.gemm(state.V, model.work.B, out=out, alpha=model.s, beta=beta)


def _top_layer_change(model: Model, dV: Array, out: Array, *, beta: float) -> None:
    """out = s dV H + beta out; where H is not stored, B takes it, made from A."""
    k, work = model.backend, model.work
    if model.fused is None:
        H = work.H
    else:
        k.relu(work.A, out=work.B)
        H = work.B
    k.gemm(dV, H, out=out, alpha=model.s, beta=beta)


def tangent_kernel_product(model: Model, state: State, E: Array, velocity: State) -> None:
    """Z <- K E with K = J J^T, J the Jacobian of Z in the arrays of U, V that move.

    The velocity that E drives, pushed forward to the prediction. Reads A, H; leaves B, Z,
    velocity.
    """
    generator_velocity(model, state, E, out=velocity)
    push_forward(model, state, velocity, out=model.work.Z)


# -- the critic ------------------------------------------------------------------------------------


def input_gradient(model: Model, state: State, points: Array, out: Array) -> None:
    """out = grad g at points y (d_out, n): s_c (a W)^T 1{W y >= 0}; leaves aW (and P)."""
    k, work = model.backend, model.work
    k.scale_rows(state.a, state.W, out=work.aW)
    if model.fused is not None:
        model.fused.gate_product(state.W, points, work.aW, out=out, alpha=model.s_c)
        return
    k.gemm(state.W, points, out=work.P)
    k.heaviside(work.P, out=work.P)
    k.gemm(work.aW.T, work.P, out=out, alpha=model.s_c)


def begin_step(model: Model, step: int) -> None:
    """Leave the number of the step where penalty points are drawn by it.

    Apart from all other operations of a step, which may be recorded and launched again.
    """
    if not model.penalty_nodes:
        model.backend.set_word(step, out=model.work.step)


def penalty_points(model: Model, *, stream: Stream, update: int) -> Iterator[float]:
    """Leave points Y_hat, yhat_p = e_p y_p + (1 - e_p) z_p, one set after another; yield weights.

    One set of weight 1 with e_p drawn at random (reads step, leaves e), or one for each node e of
    the average over e in [0, 1]. Reads Z.
    """
    k, work = model.backend, model.work
    if not model.penalty_nodes:
        k.uniforms(model.seed, stream, work.step, update, out=work.e)
        k.interpolate(work.e, model.Y, work.Z, out=work.Y_hat)
        yield 1.0
    for e, weight in model.penalty_nodes:
        k.combine([(e, model.Y), (1.0 - e, work.Z)], out=work.Y_hat)
        yield weight


def penalty_gradients(model: Model, state: State) -> None:
    """q_p = grad g(yhat_p) and ||q_p||^2; reads Y_hat, leaves Q (and P = 1{W Y_hat >= 0})."""
    work = model.work
    input_gradient(model, state, work.Y_hat, out=work.Q)
    model.backend.column_dots(work.Q, work.Q, out=work.squared_norms)


def critic_gradient(model: Model, state: State, *, update: int) -> None:
    """Gradients of the critic's loss in W and a; reads Z and step, leaves critic_W, critic_a.

    The loss is L_c = mean_p g(z_p) - mean_p g(y_p) + gp mean_p (||q_p|| - 1)^2 (WGAN-GP), or
    D L_adv (minimax), the part of -L_aug that depends on W and a. Since relu(x) = x 1{x >= 0},
    one matrix of moments N (m_c, d_out) serves both arrays:

        dL_c/dw_r = a_r N_r,   dL_c/da_r = w_r . N_r
        N = s_c [1{W Z >= 0} Z^T / n - 1{W Y >= 0} Y^T / n + 1{W Y_hat >= 0} (c * Q)^T]
        c_p = (2 gp / n) (||q_p|| - 1) / ||q_p||

    The last term is averaged over the nodes of `penalty_points`.
    """
    k, work = model.backend, model.work
    n = model.dimensions.n
    if model.minimax:
        _moments(model, state, work.Z, work.Z, alpha=model.s_c * model.diffusivity, beta=0.0)
    else:
        _moments(model, state, work.Z, work.Z, alpha=model.s_c / n, beta=0.0)
        _moments(model, state, model.Y_points, model.Y_values, alpha=-model.s_c / n, beta=1.0)
        if model.gradient_penalty > 0.0:
            for weight in penalty_points(model, stream=Stream.PENALTY_POINTS, update=update):
                penalty_gradients(model, state)
                scale = 2.0 * weight * model.gradient_penalty / n
                k.penalty_weights(work.squared_norms, scale, out=work.c)
                k.scale_columns(work.c, work.Q, out=work.Q)
                _penalty_moments(model, state)
    k.scale_rows(state.a, work.N, out=work.critic_W)
    k.row_dots(state.W, work.N, out=work.critic_a)


def _moments(
    model: Model, state: State, points: Array, values: Array, *, alpha: float, beta: float
) -> None:
    """N <- alpha 1{W y >= 0} values^T + beta N over points y, a column each as of values."""
    k, work = model.backend, model.work
    if model.fused is not None:
        model.fused.gate_moments(state.W, points, values, out=work.N, alpha=alpha, beta=beta)
        return
    k.gemm(state.W, points, out=work.P)
    k.heaviside(work.P, out=work.P)
    k.gemm(work.P, values.T, out=work.N, alpha=alpha, beta=beta)


def _penalty_moments(model: Model, state: State) -> None:
    """N <- s_c 1{W Y_hat >= 0} (c * Q)^T + N; reads Y_hat, Q (times c) and, if not fused, P."""
    work = model.work
    if model.fused is not None:
        _moments(model, state, work.Y_hat, work.Q, alpha=model.s_c, beta=1.0)
    else:
        model.backend.gemm(work.P, work.Q.T, out=work.N, alpha=model.s_c, beta=1.0)


# -- the joint flow --------------------------------------------------------------------------------


def velocity(model: Model, state: State, out: State, *, with_A: bool = False) -> None:
    """The joint flow's velocity of the arrays that move; the critic's at `critic_rate`.

    dU/dt, dV/dt descend L_aug; dW/dt, da/dt descend the critic's loss at the same Z.
    ``with_A`` is `forward`'s.
    """
    k, work = model.backend, model.work
    forward(model, state, with_A=with_A)
    drive(model, state)
    generator_velocity(model, state, work.E, out=out)
    if "W" in model.moving or "a" in model.moving:
        critic_gradient(model, state, update=0)
        if "W" in model.moving:
            k.combine([(-model.critic_rate, work.critic_W)], out=out.W)
        if "a" in model.moving:
            k.combine([(-model.critic_rate, work.critic_a)], out=out.a)
