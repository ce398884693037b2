"""Fused operations of the CuPy backend where there are few outputs; see `cuda_narrow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from . import cuda_kernels, cuda_narrow
from .arrays import Array
from .fused import CriticAt, Fused, Scratch, Targets
from .primitives import Primitives

Launch = Callable[[str, int, tuple[int, ...], tuple[Any, ...]], None]
"""Launches the kernel of a name: so many blocks, each of a shape, with arguments."""


class _At(NamedTuple):
    """Kernels' arguments: where gates are read beside predictions; flags are 0 or 1."""

    points: Array
    kinds: int
    labels: Array
    labelled: int
    penalized: int
    e: Array
    of_each: int
    common: Any


class NarrowFused(Fused):
    """The critic's update in five launches, its score field in two; no gates are kept."""

    any_points = True
    _of_fields: Array
    _of_moments: Array
    _nothing: Array

    def __init__(
        self, backend: Primitives, launch: Launch, m: int, m_c: int, d_out: int, n: int
    ) -> None:
        super().__init__(backend, m, m_c, n)
        self._shapes = {"H": (m, n)}
        width = cuda_narrow.width_for(d_out)
        assert width is not None
        self._each = cuda_narrow.each(backend.dtype.name, width)
        self._rooms = [
            d_out * cuda_narrow.room(*sizes, self._each) for sizes in ((n, m_c), (m_c, n))
        ]
        self.entries = m * n + sum(self._rooms)
        self._launch, self._real = launch, backend.dtype.type

    def allocate(self) -> None:
        super().allocate()
        self._of_fields, self._of_moments = (self._backend.empty((room,)) for room in self._rooms)
        self._nothing = self._backend.empty((1,), "int64")

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        self._fields(W, weights, points, self._no_targets(points), alpha, 0.0, out)

    def gate_moments(
        self,
        W: Array,
        points: Array,
        values: Array,
        *,
        out: Array,
        alpha: float,
        beta: float,
        same_gates: bool = False,  # noqa: ARG002 - no gates are kept
    ) -> None:
        at = self._no_targets(points)
        self._add_moments(W, points, (values, 1), at, (values, values), added=False)
        self._total(W, points, alpha, beta, out)

    def critic_moments(self, given: CriticAt, scratch: Scratch, *, out: Array, beta: float) -> None:
        # Q is n times that of the composition, so that all moments have the factor s_c / n.
        W, a, Z, _, targets, sets, s_c, n, penalty = given
        values = targets.values, scratch.Q
        if not sets:
            self._add_moments(W, Z, (Z, 1), self._targets(targets, None), values, added=False)
        for number, (e, weight) in enumerate(sets):
            at = self._targets(targets, e)
            self._fields(W, a, Z, at, s_c, 2.0 * weight * penalty, scratch.Q)
            self._add_moments(W, Z, (Z, int(number == 0)), at, values, added=number > 0)
        self._total(W, Z, s_c / n, beta, out)

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
        wanted = [
            (other, 0) if out is None else (out, 1)
            for out, other in ((out_W, critic_W), (out_a, critic_a))
        ]
        arguments = W, a, N, self._real(alpha), self._real(beta), *wanted[0], *wanted[1]
        self._by_entry("critic_gradients", W.shape[0], (*arguments, W.shape[1]))

    # -- launches ------------------------------------------------------------------------------

    def _targets(self, targets: Targets, e: Array | float | None) -> _At:
        """Return that gates are read at targets and, with ``e``, at points before them."""
        points, labels = targets.points, targets.labels
        which = (self._nothing, 0) if labels is None else (labels, 1)
        each = (points, 0) if e is None or isinstance(e, float) else (e, 1)
        common = self._real(e if isinstance(e, float) else 0.0)
        return _At(points, points.shape[1], *which, int(e is not None), *each, common)

    def _no_targets(self, unread: Array) -> _At:
        return self._targets(Targets(unread, unread), None)._replace(kinds=0)

    def _fields(
        self,
        W: Array,
        weights: Array,
        Z: Array,
        at: _At,
        alpha: float,
        penalty: float,
        out: Array,
    ) -> None:
        (m_c, outputs), n = W.shape, Z.shape[1]
        blocks, parts, share = cuda_narrow.shares(n, m_c, self._each)
        arguments: tuple[Any, ...] = (W, weights, Z, *at, self._of_fields, share, m_c, n, outputs)
        self._launch("partial_fields", blocks, (cuda_narrow.THREADS,), arguments)
        numbers = self._real(alpha), at.penalized, self._real(penalty)
        blocks = -(-n // cuda_narrow.FIELD_BLOCK[0])
        arguments = self._of_fields, parts, *numbers, out, n, outputs
        self._launch("total_fields", blocks, cuda_narrow.FIELD_BLOCK, arguments)

    def _add_moments(
        self,
        W: Array,
        Z: Array,
        of_predictions: tuple[Array, int],
        at: _At,
        values: tuple[Array, Array],
        *,
        added: bool,
    ) -> None:
        """Leave shares of moments, or add to them."""
        (m_c, outputs), n = W.shape, Z.shape[1]
        blocks, _, share = cuda_narrow.shares(m_c, n, self._each)
        into = self._of_moments, int(added), share, m_c, n, outputs
        arguments = W, Z, *of_predictions, *at, *values, *into
        self._launch("partial_moments", blocks, (cuda_narrow.THREADS,), arguments)

    def _total(self, W: Array, Z: Array, scale: float, beta: float, out: Array) -> None:
        _, parts, _ = cuda_narrow.shares(W.shape[0], Z.shape[1], self._each)
        numbers = parts, self._real(scale), self._real(beta)
        self._by_entry("total_moments", W.size, (self._of_moments, *numbers, out))

    def _by_entry(self, name: str, entries: int, arguments: tuple[Any, ...]) -> None:
        blocks = -(-entries // cuda_kernels.BLOCK)
        self._launch(name, blocks, (cuda_kernels.BLOCK,), (*arguments, entries))
