"""Fused operations of the Numba backend: intermediate arrays never leave the cache.

Each thread takes its share of neurons and goes through it in tiles of some neurons by some
samples: pre-activations, gates and features of a tile are computed, used and discarded. BLAS does
the products within a tile. Each thread sums over its neurons; the sums are added in order.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .arrays import HostArray as Array
from .base import Backend
from .fused import CriticAt, Fused, Scratch
from .numba_cache import compiled
from .numba_critic import add_moments, critic_moments, gradients_of_moments
from .numba_intrinsics import entries, product
from .numba_kernels import kernel

_PANEL = 2048  # neurons per panel: products with the chart's matrix are done panel by panel
_TILE_BYTES = 1 << 17  # per tile: two tiles and their operands fit a core's own cache
_TILE_COLUMNS = 1024  # samples per tile, at most
_CRITIC_NEURONS = 128  # per tile of the critic, at most


class NumbaFused(Fused):
    """Fused operations for the given sizes, with one share of the neurons for each thread."""

    any_points = True

    def __init__(self, backend: Backend, m: int, m_c: int, d_out: int, n: int) -> None:
        self._backend, self._dtype = backend, backend.dtype
        # Each share has its own sums over its neurons: with many outputs and threads they must not
        # outgrow the pre-activations.
        parts = max(1, min(backend.threads, 2 * max(m, m_c) // d_out))
        self._columns = min(n, _TILE_COLUMNS)
        rows = _TILE_BYTES // (self._columns * self._dtype.itemsize)
        # Products over many outputs need more neurons at a time to be fast.
        share = -(-max(m, m_c) // parts)
        self._rows = max(1, min(max(rows, d_out, 16), share))
        self._shapes = {
            "_first": (parts, self._rows, self._columns),
            "_second": (parts, self._rows, self._columns),
            "_V": (parts, d_out, self._rows),
            "_sums": (parts, d_out, n),
        }
        # The critic's tiles lie the other way, samples by neurons, in the memory of the others.
        neurons = min(m_c, _CRITIC_NEURONS, self._rows * self._columns)
        samples = self._rows * self._columns // neurons
        self._critic_tile = (parts, samples, neurons)
        self._gates_shape = (parts, samples, m_c)
        self._shapes |= {
            "_third": self._critic_tile,
            "_gradients": (parts, samples, d_out),
            "_moments": (parts, d_out, m_c),
        }
        self.entries = sum(prod(shape) for shape in self._shapes.values())
        self.entries += -(-prod(self._gates_shape) // self._dtype.itemsize)

    def allocate(self) -> None:
        super().allocate()
        self._nothing = np.empty((1, 1), self._dtype)
        self._no_labels = np.zeros(1, np.int64)
        self._gates = np.empty(self._gates_shape, np.uint8)
        size, shape = prod(self._critic_tile), self._critic_tile
        self._critic_tiles = [
            tile.reshape(-1)[:size].reshape(shape) for tile in (self._first, self._second)
        ]

    _first: Array
    _second: Array
    _third: Array
    _V: Array
    _sums: Array
    _gradients: Array
    _moments: Array

    def for_samples(self, n: int) -> NumbaFused:  # noqa: ARG002 - any number, up to these
        return self

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
        absent, nothing = base is None, self._nothing
        _predict(
            len(A), self._dtype.type(alpha),
            carried is not None, nothing if carried is None else carried, matrix,
            absent, nothing if absent else base, V, self._first, self._sums, A,
            parts=len(self._first),
        )  # fmt: skip
        _add_up(len(out), self._sums, out)

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
        scalar, nothing = self._dtype.type, self._nothing
        _pull_back(
            len(A), scalar(alpha), scalar(beta), V, E,
            matrix is not None, nothing if matrix is None else matrix,
            out_U is not None, nothing if out_U is None else out_U,
            out_V is not None, nothing if out_V is None else out_V,
            self._first, self._second, self._V, B, A,
            parts=len(self._first),
        )  # fmt: skip

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        gates = W.shape[0] * points.shape[1]
        operands = W, points, weights, self._sums, self._first
        parts = len(self._first)
        _gate_product(len(W), self._dtype.type(alpha), *operands, entries=gates, parts=parts)
        _add_up(len(out), self._sums, out)

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
        scalar, gates = self._dtype.type, W.shape[0] * points.shape[1]
        operands = W, points, values, out, self._first
        parts = len(self._first)
        _gate_moments(len(W), scalar(alpha), scalar(beta), *operands, entries=gates, parts=parts)

    def critic_moments(self, given: CriticAt, scratch: Scratch, *, out: Array, beta: float) -> None:
        if not given.sets:
            super().critic_moments(given, scratch, out=out, beta=beta)
            return
        W, a, Z, Y, targets, sets, s_c, n, penalty = given
        aW = scratch.aW
        self._backend.scale_rows(a, W, out=aW)
        scalar, labels, points = self._dtype.type, targets.labels, targets.points
        few = labels is not None and points.shape[1] <= self._third.shape[1]
        for number, (e, weight) in enumerate(sets):
            same = isinstance(e, float)
            critic_moments(
                Z.shape[1], scalar(s_c / n), scalar(s_c), scalar(2.0 * weight * penalty / n),
                W, aW, Z, number == 0, few, points if few else Y,
                targets.values if few else Y, labels if few else self._no_labels,
                same, scalar(e if same else 0.0), self._nothing[0] if same else e,
                *self._critic_tiles, self._third,
                self._gates, self._gradients, self._moments,
                entries=len(W) * Z.shape[1], parts=len(self._first),
            )  # fmt: skip
            add_moments(len(W), scalar(1.0 if number else beta), self._moments, out)
        if not few:
            self.gate_moments(W, Y, Y, out=out, alpha=-s_c / n, beta=1.0)

    def gradients_of_moments(
        self,
        W: Array,
        a: Array,
        N: Array,
        *,
        critic_W: Array,  # noqa: ARG002 - not needed
        critic_a: Array,  # noqa: ARG002
        out_W: Array | None,
        out_a: Array | None,
        alpha: float,
        beta: float,
    ) -> None:
        scalar, nothing = self._dtype.type, self._nothing
        gradients_of_moments(
            len(W), scalar(alpha), scalar(beta), W, a,
            out_W is not None, nothing if out_W is None else out_W,
            out_a is not None, nothing[0] if out_a is None else out_a, N,
        )  # fmt: skip


@kernel
def _add_up(_part, begin, end, sums, out):  # type: ignore[no-untyped-def]
    """out = the sum of ``sums`` over its first axis, in order."""
    for i in range(begin, end):
        for p in range(out.shape[1]):
            total = sums[0, i, p]
            for k in range(1, sums.shape[0]):
                total += sums[k, i, p]
            out[i, p] = total


@kernel
def _predict(  # type: ignore[no-untyped-def]
    part, begin, end, alpha, has_carried, carried, matrix, no_base, base, V, tiles, sums, A
):
    begin, end = np.intp(begin), np.intp(end)
    _, tile_rows, tile_columns = tiles.shape
    n, d_out = A.shape[1], V.shape[0]
    zero, one = A.dtype.type(0), A.dtype.type(1)
    for i in range(d_out):
        for p in range(n):
            sums[part, i, p] = zero
    for panel in range(begin, end, _PANEL):
        panel_end = min(panel + _PANEL, end)
        if has_carried and not no_base:
            for j in range(panel, panel_end):
                for p in range(n):
                    A[j, p] = base[j, p]
        if has_carried:
            product(
                panel_end - panel, carried.shape[1], n, one, carried, (panel, 0), False,
                matrix, (0, 0), False, zero if no_base else one, A, (panel, 0),
            )  # fmt: skip
        for j in range(panel, panel_end, tile_rows):
            rows = min(tile_rows, panel_end - j)
            for p in range(0, n, tile_columns):
                columns = min(tile_columns, n - p)
                for r in range(rows):
                    a, h = entries(A, (j + r, p), columns), entries(tiles, (part, r, 0), columns)
                    for c in range(columns):
                        h[c] = zero if a[c] < 0 else a[c]  # NaN passes
                product(
                    d_out, rows, columns, alpha, V, (0, j), False,
                    tiles, (part, 0, 0), False, one, sums, (part, 0, p),
                )  # fmt: skip


@kernel
def _pull_back(  # type: ignore[no-untyped-def]
    part, begin, end,
    alpha, beta, V, E, has_matrix, matrix, has_U, U, has_V, out_V, features, drives, Vs, B, A
):  # fmt: skip
    begin, end = np.intp(begin), np.intp(end)
    _, tile_rows, tile_columns = features.shape
    n, d_out = A.shape[1], V.shape[0]
    zero, one = A.dtype.type(0), A.dtype.type(1)
    for panel in range(begin, end, _PANEL):
        panel_end = min(panel + _PANEL, end)
        for j in range(panel, panel_end, tile_rows):
            rows = min(tile_rows, panel_end - j)
            for i in range(d_out):  # out_V may be V, and is written while V is still needed
                for r in range(rows):
                    Vs[part, i, r] = V[i, j + r]
            for p in range(0, n, tile_columns):
                columns = min(tile_columns, n - p)
                if has_U:
                    product(
                        rows, d_out, columns, one, Vs, (part, 0, 0), True,
                        E, (0, p), False, zero, drives, (part, 0, 0),
                    )  # fmt: skip
                for r in range(rows):
                    a, h = entries(A, (j + r, p), columns), entries(features, (part, r, 0), columns)
                    for c in range(columns):
                        h[c] = zero if a[c] < 0 else a[c]
                    if not has_U:
                        continue
                    # NaN and infinities behind a closed gate become NaN, not 0
                    d = entries(drives, (part, r, 0), columns)
                    if has_matrix:
                        b = entries(B, (j + r, p), columns)
                        for c in range(columns):
                            b[c] = d[c] if a[c] >= 0 else d[c] * zero
                    else:
                        u = entries(U, (j + r, p), columns)
                        if beta == zero:
                            for c in range(columns):
                                u[c] = alpha * (d[c] if a[c] >= 0 else d[c] * zero)
                        else:
                            for c in range(columns):
                                gated = d[c] if a[c] >= 0 else d[c] * zero
                                u[c] = beta * u[c] + alpha * gated
                if has_V:
                    product(
                        d_out, columns, rows, alpha, E, (0, p), False,
                        features, (part, 0, 0), True, beta if p == 0 else one, out_V, (0, j),
                    )  # fmt: skip
        if has_U and has_matrix:
            product(
                panel_end - panel, n, U.shape[1], alpha, B, (panel, 0), False,
                matrix, (0, 0), True, beta, U, (panel, 0),
            )  # fmt: skip


@compiled
def _open_gates(W, j, rows, points, p, columns, tiles, part):  # type: ignore[no-untyped-def]
    """1{W points >= 0} for a tile: ``rows`` of W from j on, ``columns`` of the points from p on."""
    zero, one = W.dtype.type(0), W.dtype.type(1)
    product(
        rows, W.shape[1], columns, one, W, (j, 0), False,
        points, (0, p), False, zero, tiles, (part, 0, 0),
    )  # fmt: skip
    for r in range(rows):
        gates = entries(tiles, (part, r, 0), columns)
        for c in range(columns):
            gates[c] = one if gates[c] >= 0 else zero


@kernel
def _gate_product(part, begin, end, alpha, W, points, weights, sums, tiles):  # type: ignore[no-untyped-def]
    begin, end = np.intp(begin), np.intp(end)
    _, tile_rows, tile_columns = tiles.shape
    d_out, n = W.shape[1], points.shape[1]
    zero, one = W.dtype.type(0), W.dtype.type(1)
    for i in range(d_out):
        for p in range(n):
            sums[part, i, p] = zero
    for j in range(begin, end, tile_rows):
        rows = min(tile_rows, end - j)
        for p in range(0, n, tile_columns):
            columns = min(tile_columns, n - p)
            _open_gates(W, j, rows, points, p, columns, tiles, part)
            product(
                d_out, rows, columns, alpha, weights, (j, 0), True,
                tiles, (part, 0, 0), False, one, sums, (part, 0, p),
            )  # fmt: skip


@kernel
def _gate_moments(part, begin, end, alpha, beta, W, points, values, out, tiles):  # type: ignore[no-untyped-def]
    begin, end = np.intp(begin), np.intp(end)
    _, tile_rows, tile_columns = tiles.shape
    d_out, n = W.shape[1], points.shape[1]
    one = W.dtype.type(1)
    for j in range(begin, end, tile_rows):
        rows = min(tile_rows, end - j)
        for p in range(0, n, tile_columns):
            columns = min(tile_columns, n - p)
            _open_gates(W, j, rows, points, p, columns, tiles, part)
            product(
                rows, columns, d_out, alpha, tiles, (part, 0, 0), False,
                values, (0, p), True, beta if p == 0 else one, out, (j, 0),
            )  # fmt: skip
