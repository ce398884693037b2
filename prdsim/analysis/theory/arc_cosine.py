"""Kernels of the angle between two inputs, for a random ReLU neuron."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import ArrayLike

from prdsim.analysis.arrays import Reals


def cosines(products: Reals) -> Reals:
    """Return cosines (n, n) of the angles between n vectors of given inner products (n, n).

    1 on the diagonal; 0 elsewhere for vectors of norm 0.
    """
    norms = np.sqrt(np.outer(products.diagonal(), products.diagonal()))
    cosine: Reals = np.clip(products / np.where(norms > 0, norms, 1.0), -1, 1)
    np.fill_diagonal(cosine, 1.0)
    return cosine


def both_active(cosine: ArrayLike) -> Reals:
    """Return P(u.x >= 0, u.y >= 0) = (pi - arccos) / (2 pi), of the cosine of x and y, any shape.

    For u with uniformly distributed direction, such as u ~ N(0, c^2).
    """
    probability: Reals = (pi - np.arccos(cosine)) / (2 * pi)
    return probability


def arc_cosine_kernels(gram: Reals, scale: float) -> tuple[Reals, Reals, Reals]:
    """Return `both_active`, E[h_p h_q] and E[h_p^2 h_q^2], each (n, n), of a Gram matrix (n, n).

    h_p = relu(u.x_p) for u ~ N(0, scale^2) (Cho and Saul, 2009).
    """
    cosine = cosines(gram)
    angle, sine = np.arccos(cosine), np.sqrt(1 - cosine**2)
    norms = scale**2 * np.sqrt(np.outer(gram.diagonal(), gram.diagonal()))
    k_1 = norms * (sine + (pi - angle) * cosine)
    k_2 = norms**2 * (3 * sine * cosine + (pi - angle) * (1 + 2 * cosine**2))
    return both_active(cosine), k_1 / (2 * pi), k_2 / (2 * pi)
