"""Fused operations of the CuPy backend where there are few outputs; see `cuda_narrow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import cuda_kernels, cuda_narrow
from .arrays import Array
from .fused import CriticAt, Fused, Scratch, Targets
from .primitives import Primitives

Launch = Callable[[str, int, tuple[int, ...], tuple[Any, ...]], None]
"""Launches the kernel of a name: so many blocks, each of a shape, with arguments."""


class NarrowFused(Fused):
    """The critic's update in four launches, its score field in one; no gates are kept."""

    any_points = True
    _partial: Array
    _nothing: Array

    def __init__(
        self, backend: Primitives, launch: Launch, m: int, m_c: int, d_out: int, n: int
    ) -> None:
        super().__init__(backend, m, m_c, n)
        self._shapes = {"H": (m, n)}
        width = cuda_narrow.width_for(d_out)
        assert width is not None
        self._neurons = cuda_narrow.neurons_of_a_block(width)
        self._partial_entries = _parts(n) * m_c * d_out
        self.entries = m * n + self._partial_entries
        self._launch, self._real = launch, backend.dtype.type

    def allocate(self) -> None:
        super().allocate()
        self._partial = self._backend.empty((self._partial_entries,))
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

    def _targets(self, targets: Targets, e: Array | float | None) -> tuple[Any, ...]:
        """Return the arguments that say where gates are read beside the predictions."""
        points, labels = targets.points, targets.labels
        which = (self._nothing, 0) if labels is None else (labels, 1)
        each = (points, 0) if e is None or isinstance(e, float) else (e, 1)
        common = self._real(e if isinstance(e, float) else 0.0)
        return points, points.shape[1], *which, int(e is not None), *each, common

    def _no_targets(self, points: Array) -> tuple[Any, ...]:
        return points, 0, self._nothing, 0, 0, points, 0, self._real(0.0)

    def _fields(
        self,
        W: Array,
        weights: Array,
        Z: Array,
        at: tuple[Any, ...],
        alpha: float,
        penalty: float,
        out: Array,
    ) -> None:
        blocks = -(-Z.shape[1] // cuda_narrow.LANES)
        numbers = self._real(alpha), self._real(penalty)
        arguments = W, weights, Z, *at, *numbers, out, *_sizes(W, Z)
        self._launch("gate_fields", blocks, cuda_narrow.FIELD_BLOCK, arguments)

    def _add_moments(
        self,
        W: Array,
        Z: Array,
        of_predictions: tuple[Array, int],
        at: tuple[Any, ...],
        values: tuple[Array, Array],
        *,
        added: bool,
    ) -> None:
        """Leave partial sums of moments, or add to them."""
        blocks = -(-W.shape[0] // self._neurons) * _parts(Z.shape[1])
        arguments = W, Z, *of_predictions, *at, *values, self._partial, int(added), *_sizes(W, Z)
        self._launch("partial_moments", blocks, cuda_narrow.MOMENTS_BLOCK, arguments)

    def _total(self, W: Array, Z: Array, scale: float, beta: float, out: Array) -> None:
        numbers = _parts(Z.shape[1]), self._real(scale), self._real(beta)
        self._by_entry("total_moments", W.size, (self._partial, *numbers, out))

    def _by_entry(self, name: str, entries: int, arguments: tuple[Any, ...]) -> None:
        blocks = -(-entries // cuda_kernels.BLOCK)
        self._launch(name, blocks, (cuda_kernels.BLOCK,), (*arguments, entries))


def _parts(n: int) -> int:
    """Return how many partial sums of moments there are over n samples."""
    return -(-n // cuda_narrow.SAMPLES)


def _sizes(W: Array, Z: Array) -> tuple[int, int, int]:
    return W.shape[0], Z.shape[1], W.shape[1]
