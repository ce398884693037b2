"""The paper's equations neuron by neuron, in scalar loops; shares nothing with prdsim.

Samples are lists as in `oracle.losses`. Matrices that are returned are lists of rows in the
paper's shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from oracle.losses import Matrix, Vector, dot, indicator, predictions, relu, slope

Rows = list[list[float]]


@dataclass(frozen=True)
class Velocities:
    """R^u, R^v and D^u, D^v (eqs. 48-55): rows as U and V have them."""

    reaction_U: Rows
    reaction_V: Rows
    diffusion_U: Rows
    diffusion_V: Rows


def generator_velocities(
    U: Matrix, V: Matrix, W: Matrix, a: Vector, X: Matrix, Y: Matrix
) -> Velocities:
    """The supervised and the adversarial part of du_j/dt and dv_j/dt."""
    Z = predictions(U, V, X)
    residuals = [
        [y_k - z_k for y_k, z_k in zip(y, z, strict=True)] for y, z in zip(Y, Z, strict=True)
    ]
    scores = [slope(W, a, z) for z in Z]
    return Velocities(
        _pull_back_U(U, V, X, residuals),
        _pull_back_V(U, V, X, residuals),
        _pull_back_U(U, V, X, scores),
        _pull_back_V(U, V, X, scores),
    )


def _pull_back_U(U: Matrix, V: Matrix, X: Matrix, drive: Matrix) -> Rows:
    """du_j = s sum_p 1{u_j . x_p >= 0} (v_j . drive_p) x_p."""
    s = 1.0 / sqrt(len(V) * len(U))
    out = []
    for j, u_j in enumerate(U):
        v_j = [row[j] for row in V]
        du = [0.0] * len(u_j)
        for x, drive_p in zip(X, drive, strict=True):
            weight = s * indicator(dot(u_j, x)) * dot(v_j, drive_p)
            du = [du_i + weight * x_i for du_i, x_i in zip(du, x, strict=True)]
        out.append(du)
    return out


def _pull_back_V(U: Matrix, V: Matrix, X: Matrix, drive: Matrix) -> Rows:
    """dV_kj = s sum_p drive_kp relu(u_j . x_p)."""
    s = 1.0 / sqrt(len(V) * len(U))
    return [
        [
            s * sum(drive_p[k] * relu(dot(u_j, x)) for x, drive_p in zip(X, drive, strict=True))
            for u_j in U
        ]
        for k in range(len(V))
    ]


def coupling(U: Matrix, V: Matrix, X: Matrix, drive: Matrix, j: int) -> Rows:
    """C_j = s sum_p 1{u_j . x_p >= 0} E_p x_p^T, the d_out x d_in matrix that couples u_j, v_j."""
    s = 1.0 / sqrt(len(V) * len(U))
    active = [indicator(dot(U[j], x)) for x in X]
    return [
        [
            s * sum(on * E_p[k] * x[i] for on, E_p, x in zip(active, drive, X, strict=True))
            for i in range(len(X[0]))
        ]
        for k in range(len(V))
    ]


def critic_gradients(
    W: Matrix, a: Vector, Z: Matrix, Y: Matrix, e: Sequence[float], penalty: float
) -> tuple[Rows, list[float]]:
    """dL_c/dW and dL_c/da of the WGAN-GP critic; without the penalty where it is 0."""
    n, s_c = len(Y), 1.0 / sqrt(len(W))
    dW: Rows = []
    da: list[float] = []
    for w_r, a_r in zip(W, a, strict=True):
        dw, da_r = [0.0] * len(w_r), 0.0
        for z, y, e_p in zip(Z, Y, e, strict=True):
            between = [e_p * y_k + (1.0 - e_p) * z_k for z_k, y_k in zip(z, y, strict=True)]
            q = slope(W, a, between)
            length = sqrt(dot(q, q))
            c_p = 2.0 * penalty / n * (length - 1.0) / length if length > 0.0 else 0.0
            at_z, at_y = indicator(dot(w_r, z)) / n, indicator(dot(w_r, y)) / n
            at_q = c_p * indicator(dot(w_r, between))
            da_r += s_c * (relu(dot(w_r, z)) / n - relu(dot(w_r, y)) / n + at_q * dot(w_r, q))
            for k in range(len(dw)):
                dw[k] += s_c * a_r * (at_z * z[k] - at_y * y[k] + at_q * q[k])
        dW.append(dw)
        da.append(da_r)
    return dW, da


def minimax_gradients(
    W: Matrix, a: Vector, Z: Matrix, diffusivity: float
) -> tuple[Rows, list[float]]:
    """Gradients of D L_adv in W and a at fixed predictions."""
    s_c = 1.0 / sqrt(len(W))
    dW = [
        [
            diffusivity * s_c * a_r * sum(indicator(dot(w_r, z)) * z[k] for z in Z)
            for k in range(len(w_r))
        ]
        for w_r, a_r in zip(W, a, strict=True)
    ]
    return dW, [diffusivity * s_c * sum(relu(dot(w_r, z)) for z in Z) for w_r in W]


def joint_velocity(
    U: Matrix,
    V: Matrix,
    W: Matrix,
    a: Vector,
    X: Matrix,
    Y: Matrix,
    *,
    diffusivity: float,
    critic_rate: float,
    penalty: float,
) -> tuple[Rows, Rows, Rows, list[float]]:
    """The flow of U, V, W, a with a WGAN-GP critic and penalty points halfway."""
    parts = generator_velocities(U, V, W, a, X, Y)
    dW, da = critic_gradients(W, a, predictions(U, V, X), Y, [0.5] * len(Y), penalty)
    return (
        _plus(parts.reaction_U, diffusivity, parts.diffusion_U),
        _plus(parts.reaction_V, diffusivity, parts.diffusion_V),
        [[-critic_rate * entry for entry in row] for row in dW],
        [-critic_rate * entry for entry in da],
    )


def _plus(A: Rows, c: float, B: Rows) -> Rows:
    return [
        [a + c * b for a, b in zip(row_a, row_b, strict=True)]
        for row_a, row_b in zip(A, B, strict=True)
    ]


def tangent_kernel(
    U: Matrix, V: Matrix, X: Matrix, *, moves_U: bool = True, moves_V: bool = True
) -> Rows:
    """K = J J^T, dense, entry ((k, p), (l, q)) = dz_kp . dz_lq over the entries that move."""
    s = 1.0 / sqrt(len(V) * len(U))
    outputs = [(k, p) for k in range(len(V)) for p in range(len(X))]
    active = [[indicator(dot(u_j, x)) for x in X] for u_j in U]
    hidden = [[relu(dot(u_j, x)) for x in X] for u_j in U]
    inputs = [[dot(x, other) for other in X] for x in X]
    rows = []
    for k, p in outputs:
        row = []
        for l, q in outputs:  # noqa: E741
            total = 0.0
            for j in range(len(U)):
                if moves_U:
                    total += V[k][j] * V[l][j] * active[j][p] * active[j][q] * inputs[p][q]
                if moves_V and k == l:
                    total += hidden[j][p] * hidden[j][q]
            row.append(s * s * total)
        rows.append(row)
    return rows


def pre_activations(
    U: Matrix, V: Matrix, W: Matrix, X: Matrix, Y: Matrix, e: Sequence[float]
) -> list[float]:
    """Every number whose sign gates the velocities: entries of U X, W Z, W Y, W Y_hat."""
    Z = predictions(U, V, X)
    points = [*Z, *Y]
    for z, y, e_p in zip(Z, Y, e, strict=True):
        points.append([e_p * y_k + (1.0 - e_p) * z_k for z_k, y_k in zip(z, y, strict=True)])
    return [dot(u_j, x) for u_j in U for x in X] + [dot(w_r, y) for w_r in W for y in points]
