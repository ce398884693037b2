"""Every equation of the model, once, derived by hand; no automatic differentiation anywhere.

Symbols are the paper's (Rout, AAAI 2021): X (d_in, n) and Y (d_out, n) hold one sample a column;
U (m, d_in), V (d_out, m) are the generator; W (m_c, d_out), a (m_c,) the critic;
s = 1/sqrt(d_out m) and s_c = 1/sqrt(m_c). Indicators are 1{x >= 0} throughout, so relu'(0) = 1.

    Z = s V relu(U X)                        g(y) = s_c a^T relu(W y)
    L_sup = 1/2 ||Z - Y||_F^2                L_adv = sum_p g(z_p)
    L_aug = L_sup - D L_adv                  G = grad_z g

The generator descends L_aug: dU/dt = R^u + D Delta^u and dV/dt = R^v + D Delta^v, with the reaction
from the residual Y - Z and the diffusion from G. Both enter only through the drive
E = (Y - Z) + D F, where F = G unless a control takes its place (`prdsim.physics.forcing`).

Equation numbers are those of docs/mathematics.md, where each is derived. Functions work in the
model's workspace; each lists the arrays that it reads and leaves there. Backends fuse some of the
operations of a step; `prdsim.backends.fused.Fused` defines them.

A model may take its samples in panels, see `Model.panels`. All that is said here holds for a model
and for one of its panels, but A and B are those of one panel: what reads A computes it again where
there are several.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prdsim.backends.fused import CriticAt, Scratch, carry_back, penalty_points
from prdsim.physics.model import Model
from prdsim.physics.randomness import Stream
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.fused import Sets


# -- the generator ---------------------------------------------------------------------------------


def forward(model: Model, state: State, *, with_A: bool = False) -> None:
    """Pre-activations A = U X, prediction Z = s V relu(A), eq. 1; leaves A (of the last panel), Z.

    ``with_A`` says that A has already been computed.
    """
    U = None if with_A else state.U
    for panel in model.panels:
        work, chart = panel.work, panel.chart
        panel.fused.predict(
            U, chart.matrix, chart.base, state.V, A=work.A, out=work.Z, alpha=model.s
        )


def with_pre_activations(model: Model, state: State) -> Iterator[Model]:
    """Yield the panels of a model, each with its A; reads A of the last `forward` if it is one.

    Leaves Z of the panel, as `forward` does, if there are several.
    """
    for panel in model.panels:
        if model.parts:
            forward(panel, state)
        yield panel


def residual(model: Model, out: Array) -> None:
    """out = Y - Z, the drive of the reaction, eq. 2 with D = 0; reads Z."""
    model.backend.combine([(1.0, model.Y), (-1.0, model.work.Z)], out=out)


def score_field(model: Model, state: State) -> None:
    """G = grad_z g = s_c W^T (a * 1{W Z >= 0}), eq. 4 (the paper's 50); reads Z, leaves G."""
    input_gradient(model, state, model.work.Z, out=model.work.G)


def acting_field(model: Model, state: State) -> None:
    """Leave in `Model.F` the field F that acts, eq. 17; reads Z, leaves G unless F is prescribed.

    G, permuted over the samples, has its columns scaled to ||F_p|| = c_p, if such norms are given;
    that overwrites Q, c and squared_norms.
    """
    k, work, forcing = model.backend, model.work, model.forcing
    if forcing is not None and forcing.prescribed:
        return
    score_field(model, state)
    if forcing is None:
        return
    forcing.shuffle(work.G)
    if forcing.norms is None:
        return
    for panel, norms in zip(model.panels, model.split(forcing.norms), strict=True):
        work, F = panel.work, panel.F
        k.column_dots(F, F, out=work.squared_norms)
        k.penalty_weights(work.squared_norms, 1.0, out=work.c)  # 1 - 1 / ||F_p||
        k.scale_columns(work.c, F, out=work.Q)
        k.combine([(1.0, F), (-1.0, work.Q)], out=F)
        k.scale_columns(norms, F, out=F)


def drive(model: Model, state: State) -> None:
    """E = (Y - Z) + D F, eq. 2; reads Z, leaves E and, with diffusion, F and what it needs."""
    k, work = model.backend, model.work
    if model.diffusivity == 0.0:
        residual(model, out=work.E)
        return
    acting_field(model, state)
    k.combine([(1.0, model.Y), (-1.0, work.Z), (model.diffusivity, model.F)], out=work.E)


def generator_velocity(
    model: Model, state: State, E: Array, out: State, *, alpha: float = 1.0, beta: float = 0.0
) -> None:
    """out = alpha (dU/dt, dV/dt) + beta out with dU/dt = s B X^T, dV/dt = s E H^T, eq. 5.

    B = (V^T E) * 1{A >= 0}. With E = Y - Z these are the reaction terms R^u, R^v, with E = F the
    diffusion terms Delta^u, Delta^v, with E = (Y - Z) + D F the whole velocity. Only arrays that
    move are written; ``out`` may be the state itself, if there is one panel. U's velocity is in the
    chart's coordinates: s B M^T, or s B (Gram). Reads A of the last `forward`; overwrites B.
    """
    U, V = (getattr(out, name) if name in model.moving else None for name in "UV")
    for panel, drive in zip(with_pre_activations(model, state), model.split(E), strict=True):
        work, matrix = panel.work, panel.chart.pull_matrix
        panel.fused.pull_back(
            work.A, state.V, drive, matrix, B=work.B,
            out_U=U, out_V=V, alpha=alpha * model.s, beta=beta,
        )  # fmt: skip
        beta = 1.0  # the others add to it


def pull_back(model: Model, out: Array) -> None:
    """out = s B X^T, the velocity of U for a given B, in the chart's coordinates; reads B."""
    carry_back(model.backend, model.work.B, model.chart.pull_matrix, out=out, alpha=model.s)


def push_forward(model: Model, state: State, tangent: State, out: Array) -> None:
    """out = dZ = s V dH + s dV H with dH = 1{A >= 0} * (dU X), of the arrays that move, eq. 10.

    Reads A; overwrites B and leaves dH in it if U moves. Leaves ``out`` unchanged if neither U
    nor V moves.
    """
    k = model.backend
    for panel, dZ in zip(with_pre_activations(model, state), model.split(out), strict=True):
        work, beta = panel.work, 0.0
        if "V" in model.moving:
            k.relu(work.A, out=work.B)  # H: backends need not keep it
            k.gemm(tangent.V, work.B, out=dZ, alpha=model.s)
            beta = 1.0
        if "U" in model.moving:
            feature_change(panel, tangent.U)
            k.gemm(state.V, work.B, out=dZ, alpha=model.s, beta=beta)


def feature_change(model: Model, dU: Array) -> None:
    """dH = 1{A >= 0} * (dU X), dU in the chart's coordinates; reads A, leaves dH in B."""
    k, work = model.backend, model.work
    k.gemm(dU, model.chart.matrix, out=work.B)
    k.gate(work.B, work.A, out=work.B)


def tangent_kernel_product(model: Model, state: State, E: Array, velocity: State) -> None:
    """Z <- K E with K = J J^T, J the Jacobian of Z in the arrays of U, V that move, eq. 11.

    The velocity that E drives, pushed forward to the prediction. Reads A of the last `forward`;
    leaves B, Z, velocity.
    """
    generator_velocity(model, state, E, out=velocity)
    push_forward(model, state, velocity, out=model.work.Z)


# -- the critic ------------------------------------------------------------------------------------


def input_gradient(model: Model, state: State, points: Array, out: Array) -> None:
    """out = grad g at points y (d_out, n): s_c (a W)^T 1{W y >= 0}, eq. 3; leaves aW."""
    aW, s_c = model.work.aW, model.s_c
    model.backend.scale_rows(state.a, state.W, out=aW)
    parts = model.panels, model.split(points), model.split(out)
    for panel, y, gradient in zip(*parts, strict=True):
        panel.fused.gate_product(state.W, y, aW, out=gradient, alpha=s_c)


def begin_step(model: Model, step: int) -> None:
    """Leave the number of the step in the workspace, if penalty points are drawn from it.

    Separate from the other operations of a step, which may be recorded and replayed.
    """
    if not model.penalty_nodes:
        model.backend.set_word(step, out=model.work.step)


def draw_points(model: Model, *, stream: Stream, update: int) -> None:
    """Leave e_p in [0, 1) of all samples in e, if penalty points are drawn; reads step."""
    if not model.penalty_nodes:
        work = model.work
        model.backend.uniforms(model.seed, stream, work.step, update, out=work.e)


def penalty_sets(model: Model) -> Sets:
    """Return the sets of penalty points: one with the e_p of `draw_points`, or one for each node.

    Their weighted sum is the average over e in [0, 1].
    """
    return model.penalty_nodes or ((model.work.e, 1.0),)


def each_set(model: Model) -> Iterator[float]:
    """Leave the penalty points in Y_hat, set by set; yields the weight of each. Reads Z and e."""
    for sets in zip(*(penalty_sets(panel) for panel in model.panels), strict=True):
        for panel, (e, _) in zip(model.panels, sets, strict=True):
            penalty_points(model.backend, e, panel.Y, panel.work.Z, out=panel.work.Y_hat)
        yield sets[0][1]


def penalty_gradients(model: Model, state: State) -> None:
    """q_p = grad g(yhat_p), eq. 7, and ||q_p||^2; reads Y_hat, leaves Q and squared_norms."""
    input_gradient(model, state, model.work.Y_hat, out=model.work.Q)
    for work in (panel.work for panel in model.panels):
        model.backend.column_dots(work.Q, work.Q, out=work.squared_norms)


def critic_gradient(
    model: Model,
    state: State,
    out: State,
    *,
    update: int = 0,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> None:
    """out = alpha (dL_c/dW, dL_c/da) + beta out, the gradients of the critic's loss, eq. 8.

    The loss is L_c = mean_p g(z_p) - mean_p g(y_p) + gp mean_p (||q_p|| - 1)^2 (WGAN-GP), or
    D L_adv (minimax), the part of -L_aug that depends on W and a. Since relu(x) = x 1{x >= 0},
    one matrix of moments N serves both arrays:

        dL_c/dw_r = a_r N_r,   dL_c/da_r = w_r . N_r

    Only arrays that move are written; ``out`` may be the state itself. Reads Z and step, leaves N.
    """
    work = model.work
    critic_moments(model, state, update=update)
    W, a = (getattr(out, name) if name in model.moving else None for name in "Wa")
    model.fused.gradients_of_moments(
        state.W, state.a, work.N, critic_W=work.critic_W, critic_a=work.critic_a,
        out_W=W, out_a=a, alpha=alpha, beta=beta,
    )  # fmt: skip


def critic_moments(model: Model, state: State, *, update: int) -> None:
    """Leave the critic's moments N; reads Z and step, overwrites aW, Y_hat, Q, c, squared_norms.

    With gradient penalty they are averaged over the sets of `penalty_sets`.
    """
    if model.gradient_penalty > 0.0 and not model.minimax:
        draw_points(model, stream=Stream.PENALTY_POINTS, update=update)
    for panel in model.panels:
        _moments_of_panel(panel, state, beta=0.0 if panel is model.panels[0] else 1.0)


def _moments_of_panel(panel: Model, state: State, *, beta: float) -> None:
    """N <- the moments of a panel's samples + beta N."""
    work, s_c, gp = panel.work, panel.s_c, panel.gradient_penalty
    if panel.minimax:
        alpha = s_c * panel.diffusivity
        panel.fused.gate_moments(state.W, work.Z, work.Z, out=work.N, alpha=alpha, beta=beta)
        return
    given = CriticAt(
        state.W, state.a, work.Z, panel.Y, panel.targets, penalty_sets(panel) if gp > 0.0 else (),
        s_c=s_c, n=panel.dimensions.n, penalty=gp,
    )  # fmt: skip
    scratch = Scratch(work.aW, work.Y_hat, work.Q, work.c, work.squared_norms)
    panel.fused.critic_moments(given, scratch, out=work.N, beta=beta)


# -- the joint flow --------------------------------------------------------------------------------


def generator_flow(model: Model, state: State, out: State, *, with_A: bool = False) -> None:
    """The velocity of those of U, V that move, with their coupling; leaves Z, E, what `drive` does.

    Panel by panel, each with its A, unless a sample's drive depends on others.
    ``with_A`` is that of `forward`.
    """
    shuffled = model.forcing is not None and not model.forcing.prescribed
    panels = (model,) if shuffled else model.panels
    for panel in panels:
        forward(panel, state, with_A=with_A)
        drive(panel, state)
        beta = 0.0 if panel is panels[0] else 1.0
        generator_velocity(panel, state, panel.work.E, out=out, beta=beta)
    if model.coupling is not None:
        model.coupling.add(state, out, model.moving)


def velocity(model: Model, state: State, out: State, *, with_A: bool = False) -> None:
    """The joint flow's velocity of the arrays that move, eq. 12; the critic's at `critic_rate`.

    dU/dt, dV/dt descend L_aug; dW/dt, da/dt descend the critic's loss at the same Z.
    ``with_A`` is that of `forward`.
    """
    generator_flow(model, state, out, with_A=with_A)
    if {"W", "a"} & set(model.moving):
        critic_gradient(model, state, out=out, alpha=-model.critic_rate)
