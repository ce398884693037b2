"""Several operations as one: what each equals, composed of a backend's primitives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from math import prod
from typing import NamedTuple, Self

from .arrays import Array
from .primitives import Primitives


class Targets(NamedTuple):
    """The targets Y in sums over samples, sum_p f(y_p) y_p^T = sum_k f(points_k) values_k^T.

    Points and values (d_out, k) are Y itself, or its distinct columns and their multiples; then
    ``labels`` (n,), int64, say which point each sample's target is.
    """

    points: Array
    values: Array
    labels: Array | None = None


Sets = Sequence[tuple[Array | float, float]]
"""Sets of penalty points: the e_p of every sample (n,), or the e of all, and a set's weight."""


class CriticAt(NamedTuple):
    """A critic W (m_c, d_out), a (m_c,) at predictions and targets Z, Y (d_out, n).

    ``targets`` are those of Y; ``s_c``, ``penalty`` are constants of the loss, and ``n`` is the
    number of samples in its means, which may be more than are here.
    """

    W: Array
    a: Array
    Z: Array
    Y: Array
    targets: Targets
    sets: Sets
    s_c: float
    n: int
    penalty: float


class Scratch(NamedTuple):
    """Arrays that `Fused.critic_moments` overwrites, of the shapes in `Workspace`."""

    aW: Array
    Y_hat: Array
    Q: Array
    c: Array
    squared_norms: Array


class Fused:
    """Several operations as one.

    A subclass computes them faster together. Each of its operations equals the one here, up to
    rounding, and all of `Primitives`' rules hold.

    This class keeps the features ``H`` (m, n) of the last `predict` and the gates ``P`` (m_c, n)
    of the last points, so that later products need not compute them again.
    """

    entries: int
    """The number of entries that `allocate` makes room for."""
    any_points = False
    """Whether sums over targets take distinct ones, fewer than n, where they are few."""
    H: Array
    P: Array
    _shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, backend: Primitives, m: int, m_c: int, n: int) -> None:
        self._backend = backend
        self._shapes = {"H": (m, n), "P": (m_c, n)}
        self.entries = sum(prod(shape) for shape in self._shapes.values())

    def allocate(self) -> None:
        """Allocate the scratch memory; once, before the first operation."""
        for name, shape in self._shapes.items():
            setattr(self, name, self._backend.empty(shape))

    def for_samples(self, n: int) -> Self:
        """Return these operations for n samples, at most as many as these, in the same memory."""
        fewer = copy(self)
        for name, (rows, _) in self._shapes.items():
            setattr(fewer, name, leading(getattr(self, name), (rows, n)))
        return fewer

    def predict(
        self,
        carried: Array | None,
        matrix: Array,
        base: Array | None,
        V: Array,
        *,
        A: Array,
        out: Array,
        alpha: float,
    ) -> None:
        """A = base + carried matrix (no base: 0), then out = alpha V relu(A).

        If ``carried`` is None, A is read as it is.
        """
        k = self._backend
        if carried is not None:
            if base is not None:
                k.copy(base, out=A)
            k.gemm(carried, matrix, out=A, beta=0.0 if base is None else 1.0)
        k.relu(A, out=self.H)
        k.gemm(V, self.H, out=out, alpha=alpha)

    def pull_back(
        self,
        A: Array,
        V: Array,
        E: Array,
        matrix: Array | None,
        *,
        B: Array,
        out_U: Array | None,
        out_V: Array | None,
        alpha: float,
        beta: float,
    ) -> None:
        """out_U = alpha B matrix^T + beta out_U with B = (V^T E) * 1{A >= 0}, and out_V.

        Without a matrix out_U = alpha B + beta out_U. out_V = alpha E relu(A)^T + beta out_V.
        An ``out`` that is None is not computed; ``out_V`` may be V. Overwrites ``B``. ``A`` is
        that of the last `predict`.
        """
        k = self._backend
        if out_U is not None:  # before V changes, in case ``out_V`` is V
            k.gemm(V.T, E, out=B)
            k.gate(B, A, out=B)
        if out_V is not None:
            k.gemm(E, self.H.T, out=out_V, alpha=alpha, beta=beta)
        if out_U is not None:
            carry_back(k, B, matrix, out=out_U, alpha=alpha, beta=beta)

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        """out = alpha weights^T 1{W points >= 0}; points, out (d_out, n), weights (m_c, d_out)."""
        self._open_gates(W, points)
        self._backend.gemm(weights.T, self._opened, out=out, alpha=alpha)

    def gate_moments(
        self,
        W: Array,
        points: Array,
        values: Array,
        *,
        out: Array,
        alpha: float,
        beta: float,
        same_gates: bool = False,
    ) -> None:
        """out = alpha 1{W points >= 0} values^T + beta out; points, values (d_out, n).

        ``same_gates`` means that W and the points are those of the last `gate_product`.
        """
        if not same_gates:
            self._open_gates(W, points)
        self._backend.gemm(self._opened, values.T, out=out, alpha=alpha, beta=beta)

    def critic_moments(self, given: CriticAt, scratch: Scratch, *, out: Array, beta: float) -> None:
        """out = beta out + the moments (m_c, d_out) of the critic with gradient penalty, eq. 9.

            s_c [1{W Z >= 0} Z^T / n - 1{W Y >= 0} Y^T / n + 1{W Y_hat >= 0} (c * Q)^T]
            Q = s_c (a W)^T 1{W Y_hat >= 0},   c_p = (2 penalty / n) (||q_p|| - 1) / ||q_p||

        The last term is averaged over the ``sets`` of points Y_hat = e Y + (1 - e) Z, with their
        weights.
        """
        W, a, Z, Y, targets, sets, s_c, n, penalty = given
        aW, Y_hat, Q, c, squared_norms = scratch
        k, scale = self._backend, s_c / n
        self.gate_moments(W, Z, Z, out=out, alpha=scale, beta=beta)
        self.gate_moments(W, targets.points, targets.values, out=out, alpha=-scale, beta=1.0)
        if sets:
            k.scale_rows(a, W, out=aW)
        for e, weight in sets:
            penalty_points(k, e, Y, Z, out=Y_hat)
            self.gate_product(W, Y_hat, aW, out=Q, alpha=s_c)
            k.column_dots(Q, Q, out=squared_norms)
            k.penalty_weights(squared_norms, 2.0 * weight * penalty / n, out=c)
            k.scale_columns(c, Q, out=Q)
            self.gate_moments(W, Y_hat, Q, out=out, alpha=s_c, beta=1.0, same_gates=True)

    def gradients_of_moments(
        self,
        W: Array,
        a: Array,
        N: Array,
        *,
        critic_W: Array,
        critic_a: Array,
        out_W: Array | None,
        out_a: Array | None,
        alpha: float,
        beta: float,
    ) -> None:
        """out_W_r = alpha a_r N_r + beta out_W_r and out_a_r = alpha w_r . N_r + beta out_a_r.

        An ``out`` that is None is not computed; they may be W and a themselves. Overwrites
        critic_W and critic_a.
        """
        k = self._backend
        k.scale_rows(a, N, out=critic_W)
        k.row_dots(W, N, out=critic_a)
        if out_W is not None:
            add_to(k, critic_W, out=out_W, alpha=alpha, beta=beta)
        if out_a is not None:
            add_to(k, critic_a, out=out_a, alpha=alpha, beta=beta)

    def _open_gates(self, W: Array, points: Array) -> None:
        self._opened = leading(self.P, (W.shape[0], points.shape[1]))
        self._backend.gemm(W, points, out=self._opened)
        self._backend.heaviside(self._opened, out=self._opened)


def leading(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of fewer entries in the memory of a larger one."""
    return array if array.shape == shape else array.reshape(-1)[: prod(shape)].reshape(shape)


def penalty_points(k: Primitives, e: Array | float, Y: Array, Z: Array, out: Array) -> None:
    """out = Y_hat, yhat_p = e_p y_p + (1 - e_p) z_p, eq. 6; e (n,), or one for all samples."""
    if isinstance(e, float):
        k.combine([(e, Y), (1.0 - e, Z)], out=out)
    else:
        k.interpolate(e, Y, Z, out=out)


def carry_back(
    k: Primitives, B: Array, matrix: Array | None, out: Array, *, alpha: float, beta: float = 0.0
) -> None:
    """out = alpha B matrix^T + beta out; without a matrix out = alpha B + beta out."""
    if matrix is not None:
        k.gemm(B, matrix.T, out=out, alpha=alpha, beta=beta)
    else:
        add_to(k, B, out=out, alpha=alpha, beta=beta)


def add_to(k: Primitives, A: Array, out: Array, *, alpha: float, beta: float) -> None:
    """out = alpha A + beta out; ``beta=0`` ignores ``out``."""
    terms = [(alpha, A)] if beta == 0.0 else [(beta, out), (alpha, A)]
    k.combine(terms, out=out)
