"""The published losses from their definition, one scalar at a time; shares nothing with prdsim.

Every function takes nested lists and works on floats as on nodes of `oracle.tape`. X and Y are
lists of samples (the columns of the paper's matrices); U, V, W are lists of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

Scalar = Any
Vector = Sequence[Scalar]
Matrix = Sequence[Vector]


def dot(x: Vector, y: Vector) -> Scalar:
    total = 0.0
    for x_i, y_i in zip(x, y, strict=True):
        total = total + x_i * y_i
    return total


def indicator(x: Scalar) -> float:
    """1{x >= 0}."""
    return 1.0 if x >= 0.0 else 0.0


def relu(x: Scalar) -> Scalar:
    """max(x, 0), as x 1{x >= 0}: so its derivative is 1 at 0 on a tape too."""
    return x * indicator(x)


def norm(x: Vector) -> Scalar:
    """||x||; a constant at x = 0, where a norm has no derivative."""
    squared = dot(x, x)
    return squared**0.5 if squared > 0.0 else 0.0


def prediction(U: Matrix, V: Matrix, x: Vector) -> list[Scalar]:
    """z = V relu(U x) / sqrt(d_out m)."""
    hidden = [relu(dot(u_j, x)) for u_j in U]
    return [dot(row, hidden) * (1.0 / sqrt(len(V) * len(U))) for row in V]


def predictions(U: Matrix, V: Matrix, X: Matrix) -> list[list[Scalar]]:
    return [prediction(U, V, x) for x in X]


def critic(W: Matrix, a: Vector, y: Vector) -> Scalar:
    """g(y) = a^T relu(W y) / sqrt(m_c)."""
    return dot(a, [relu(dot(w_r, y)) for w_r in W]) * (1.0 / sqrt(len(W)))


def loss_sup(U: Matrix, V: Matrix, X: Matrix, Y: Matrix) -> Scalar:
    """1/2 ||Z - Y||_F^2."""
    total = 0.0
    for x, y in zip(X, Y, strict=True):
        for z_k, y_k in zip(prediction(U, V, x), y, strict=True):
            total = total + (z_k - y_k) * (z_k - y_k) * 0.5
    return total


def loss_adv(U: Matrix, V: Matrix, W: Matrix, a: Vector, X: Matrix) -> Scalar:
    """sum_p g(z_p)."""
    total = 0.0
    for x in X:
        total = total + critic(W, a, prediction(U, V, x))
    return total


def loss_aug(
    U: Matrix, V: Matrix, W: Matrix, a: Vector, X: Matrix, Y: Matrix, diffusivity: float
) -> Scalar:
    """L_sup - D L_adv: what the generator descends and a minimax critic ascends."""
    return loss_sup(U, V, X, Y) - loss_adv(U, V, W, a, X) * diffusivity


def loss_wgan_gp(
    W: Matrix,
    a: Vector,
    Z: Matrix,
    Y: Matrix,
    e: Sequence[float],
    penalty: float,
    slope: Callable[[Matrix, Vector, Vector], Vector],
) -> Scalar:
    """mean g(z_p) - mean g(y_p) + penalty mean (||grad g(e_p y_p + (1 - e_p) z_p)|| - 1)^2.

    ``slope(W, a, y)`` is grad g at y, however the caller finds it.
    """
    total = 0.0
    for z, y, e_p in zip(Z, Y, e, strict=True):
        between = [e_p * y_k + (1.0 - e_p) * z_k for z_k, y_k in zip(z, y, strict=True)]
        excess = norm(slope(W, a, between)) - 1.0
        term = critic(W, a, z) - critic(W, a, y) + excess * excess * penalty
        total = total + term * (1.0 / len(Y))
    return total


def slope(W: Matrix, a: Vector, y: Vector) -> list[Scalar]:
    """grad g(y) = sum_r a_r 1{w_r . y >= 0} w_r / sqrt(m_c)."""
    total = [0.0] * len(y)
    for w_r, a_r in zip(W, a, strict=True):
        open_gate = indicator(dot(w_r, y)) / sqrt(len(W))
        total = [q_k + a_r * w_k * open_gate for q_k, w_k in zip(total, w_r, strict=True)]
    return total
