"""Theorems 1 and 2 of the paper with explicit constants: kernels, constants, bounds.

The set-up: unit inputs x_p, one output, v_j = +-1 fixed; U is trained, and the critic may be. Then
H(t) is the tangent kernel of the prediction z in U, H its limit for m -> infinity at t = 0, and

    dz/dt = H(t) (y - z + D grad_z g),        |H(t) - H| <= lambda_0 / 2 the premise,

from which both bounds follow (docs/theory.md); on the way psi = ||z - y||^2 is shown to obey the
paper's Bernoulli inequality, eq. (2) of the poster.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p, sqrt

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from prdsim.analysis.arrays import Numbers, Reals
from prdsim.analysis.theory.arc_cosine import both_active, cosines
from prdsim.analysis.theory.bernoulli import relaxation
from prdsim.errors import ConfigError, DataError

# arccos loses half of the digits near +-1: entries of H for parallel inputs are accurate to about
# sqrt(eps) / pi, and so is a lambda_0 of 0.
_SINGULAR = 4.0 * sqrt(np.finfo(np.float64).eps)


def check_unit_inputs(X: Numbers) -> None:
    """Raise `ConfigError` unless every column of X (d_in, n) has norm 1, up to rounding.

    The sum of squares of d_in rounded entries errs by at most (d_in + 2) eps of X's precision.
    """
    norms = np.linalg.norm(X.astype(np.float64), axis=0)
    worst = int(np.argmax(np.abs(norms - 1.0)))
    if not abs(norms[worst] - 1.0) <= (X.shape[0] + 2) * np.finfo(X.dtype).eps:
        raise ConfigError(
            f"normalize: the theorems need inputs of norm 1, input {worst} has norm "
            f"{norms[worst]:.6g}; use --preset theory"
        )


def limiting_kernel(X: Numbers) -> Reals:
    """Return H (n, n), H_pq = x_p.x_q (pi - arccos(x_p.x_q)) / (2 pi), of unit columns X (d_in, n).

    The mean of `empirical_kernel` over u ~ N(0, c^2), any c > 0. Positive definite unless two
    inputs are equal, or pairs x, -x of inputs have linearly dependent directions. Raises
    `ConfigError` unless the columns have norm 1, up to rounding.
    """
    check_unit_inputs(X)
    cosine = _cosines_of(X)
    return cosine * both_active(cosine)


def _cosines_of(X: Numbers) -> Reals:
    inputs = X.astype(np.float64)
    return cosines(inputs.T @ inputs)


def gates(U: Numbers, X: Numbers) -> NDArray[np.bool_]:
    """Return the gates 1{u_j.x_p >= 0}, (m, n), for U (m, d_in), X (d_in, n)."""
    opened: NDArray[np.bool_] = np.asarray(U @ X >= 0.0)
    return opened


def empirical_kernel(U: Numbers, X: Numbers, opened: NDArray[np.bool_] | None = None) -> Reals:
    """Return H(t) (n, n), H_pq = x_p.x_q (1/m) sum_j 1{u_j.x_p >= 0} 1{u_j.x_q >= 0}.

    For U (m, d_in), X (d_in, n); ``opened`` are their `gates`, if already known. With one output
    and v_j = +-1 this is the tangent kernel of z in U
    (`prdsim.physics.gradients.tangent_kernel_product`).
    """
    active = (gates(U, X) if opened is None else opened).astype(np.float64)
    inputs = X.astype(np.float64)
    H: Reals = (inputs.T @ inputs) * (active.T @ active) / len(active)
    return H


def extreme_eigenvalues(H: Reals) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of a symmetric matrix (n, n).

    All are computed: after the reduction to tridiagonal form, which is most of the work, they are
    almost free. 0.2 seconds for n = 1000.
    """
    eigenvalues = scipy.linalg.eigvalsh(H)
    return float(eigenvalues[0]), float(eigenvalues[-1])


@dataclass(frozen=True)
class Constants:
    """The constants of the bounds.

    ``lambda_0`` is the smallest eigenvalue of H, ``lambda_1`` = 2 (lambda_1^inf + lambda_0 / 2)
    with lambda_1^inf the largest, ``mu`` = D max_t ||grad_z g||_1 (0 without diffusion),
    ``residual`` = ||z(0) - y||; n samples, m neurons.
    """

    lambda_0: float
    lambda_1: float
    mu: float
    residual: float
    n: int
    m: int

    @property
    def kappa(self) -> float:
        """lambda_1 / lambda_0."""
        return self.lambda_1 / self.lambda_0

    @property
    def growth_rate(self) -> float:
        """r = lambda_1 mu of the Bernoulli inequality."""
        return self.lambda_1 * self.mu

    @property
    def capacity(self) -> float:
        """K = kappa mu of the Bernoulli inequality, in units of ||z - y||."""
        return self.kappa * self.mu


def theorem_constants(X: Numbers, *, residual: float, m: int, mu: float = 0.0) -> Constants:
    """Return the constants for unit inputs X (d_in, n).

    Raises `ConfigError` if an input does not have norm 1, `DataError` if lambda_0 is 0 up to
    rounding: then no theorem holds.
    """
    H = limiting_kernel(X)
    lambda_0, largest = extreme_eigenvalues(H)
    if lambda_0 <= _SINGULAR:
        raise DataError(
            f"no theorem: lambda_0 = {lambda_0:.1e} is zero up to rounding, H is singular\n"
            f"{_reason(X)}"
        )
    return Constants(lambda_0, 2.0 * (largest + lambda_0 / 2.0), mu, residual, len(H), m)


def _reason(X: Numbers) -> str:
    cosine = _cosines_of(X)
    np.fill_diagonal(cosine, 0.0)
    p, q = (int(index) for index in np.unravel_index(np.argmax(cosine), cosine.shape))
    if cosine[p, q] > 1.0 - 1e-6:
        return f"inputs {min(p, q)} and {max(p, q)} are equal: leave one of them out"
    return "pairs x, -x among the inputs have linearly dependent directions"


def residual_bound(constants: Constants, t: ArrayLike) -> Reals:
    """Return the bound of ||z(t) - y|| on the way to both theorems, for times t of any shape.

    K + (||z(0) - y|| - K) exp(-lambda_0 t / 2), K = kappa mu: the Bernoulli equation, poster
    eq. (2), solved with equality.
    """
    return relaxation(t, constants.residual, constants.lambda_0 / 2.0, constants.capacity)


def theorem_1(constants: Constants, t: ArrayLike, *, step_size: float = 0.0) -> Reals:
    """Return the bound of ||u_j(t) - u_j(0)|| without diffusion, for times t of any shape.

    2 sqrt(n) ||z(0) - y|| / (sqrt(m) lambda_0) (1 - exp(-lambda_0 t / 2)), for every neuron j.
    For Euler steps of a ``step_size`` h > 0, (1 - lambda_0 h / 2)^(t / h) replaces the exponential,
    and the bound is a little larger. It is not a bound for h > 2 / lambda_0.
    """
    return _saturating(constants, constants.residual, t, step_size)


def theorem_2(constants: Constants, t: ArrayLike, *, step_size: float = 0.0) -> Reals:
    """Return the bound of ||u_j(t) - u_j(0)|| with diffusion, for times t of any shape.

    Theorem 1 with ||z(0) - y|| - kappa mu in place of ||z(0) - y||, plus
    mu (1 + kappa sqrt(n)) / sqrt(m) t. It is the integral of (sqrt(n) rho(t) + mu) / sqrt(m) with
    rho(t) = kappa mu + (||z(0) - y|| - kappa mu) exp(-lambda_0 t / 2) > 0, the bound of
    ||z - y||; so it grows, and is as meaningful, if the first term is negative. Euler steps of a
    ``step_size`` are treated as in `theorem_1`.
    """
    kappa, mu = constants.kappa, constants.mu
    slope = mu * (1.0 + kappa * sqrt(constants.n)) / sqrt(constants.m)
    linear: Reals = slope * np.asarray(t, dtype=np.float64)
    return _saturating(constants, constants.residual - kappa * mu, t, step_size) + linear


def _saturating(constants: Constants, residual: float, t: ArrayLike, step_size: float) -> Reals:
    limit = 2.0 * sqrt(constants.n) * residual / (sqrt(constants.m) * constants.lambda_0)
    return limit * _relaxed(constants.lambda_0 / 2.0, np.asarray(t, dtype=np.float64), step_size)


def _relaxed(rate: float, t: Reals, step_size: float) -> Reals:
    """1 - exp(-rate t), or its counterpart for Euler steps."""
    if step_size * rate >= 1.0:  # decayed in the first step
        return np.where(t > 0.0, 1.0, 0.0)
    if step_size > 0.0:
        rate = -log1p(-step_size * rate) / step_size
    relaxed: Reals = -np.expm1(-rate * t)
    return relaxed


def paper_mu(W: Numbers, n: int, *, delta: float = 0.05, diffusivity: float = 1.0) -> float:
    """Return the paper's mu = L n sqrt(2 log(2 / delta)) / sqrt(m), L = ||w||_2, times D.

    For the critic's W (m_c, 1) at t = 0; m is m_c here. It is Hoeffding's bound over random signs a
    of one sum s_c sum_r a_r w_r 1{w_r z >= 0}, times n: it does not apply to a trained critic.
    """
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"delta: must be between 0 and 1, got {delta!r}")
    norm = float(np.linalg.norm(W.astype(np.float64)))
    return diffusivity * norm * n * sqrt(2.0 * log(2.0 / delta)) / sqrt(len(W))
