"""Fused operations of the Numba backend: intermediate arrays never leave the cache.

Each thread takes its share of neurons and goes through it in tiles of some neurons by some
samples: pre-activations, gates and features of a tile are computed, used and discarded. BLAS does
the products within a tile. Each thread sums over its neurons; the sums are added in order.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .arrays import HostArray as Array
from .base import Backend, Fused
from .numba_cache import compiled
from .numba_kernels import kernel, product

_PANEL = 2048  # neurons per panel: products with the chart's matrix are done panel by panel
_TILE_BYTES = 1 << 17  # per tile: two tiles and their operands fit a core's own cache
_TILE_COLUMNS = 1024  # samples per tile, at most


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
        self.entries = sum(int(np.prod(shape)) for shape in self._shapes.values())

    def allocate(self) -> None:
        super().allocate()
        self._nothing = np.empty((1, 1), self._dtype)

    _first: Array
    _second: Array
    _V: Array
    _sums: Array

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
            self._dtype.type(alpha),
            carried is not None, nothing if carried is None else carried, matrix,
            absent, nothing if absent else base, V, self._first, self._sums, A,
        )  # fmt: skip
        _add_up(self._sums, out)

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
            scalar(alpha), scalar(beta), V, E,
            matrix is not None, nothing if matrix is None else matrix,
            out_U is not None, nothing if out_U is None else out_U,
            out_V is not None, nothing if out_V is None else out_V,
            self._first, self._second, self._V, B, A,
        )  # fmt: skip

    def gate_product(
        self, W: Array, points: Array, weights: Array, *, out: Array, alpha: float
    ) -> None:
        gates = W.shape[0] * points.shape[1]
        operands = W, points, weights, self._sums, self._first
        _gate_product(self._dtype.type(alpha), *operands, entries=gates)
        _add_up(self._sums, out)

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
        _gate_moments(scalar(alpha), scalar(beta), *operands, entries=gates)


@kernel
def _add_up(sums: Array, out: Array) -> None:
    """out = the sum of ``sums`` over its first axis, in order."""
    for i in prange(out.shape[0]):
        for p in range(out.shape[1]):
            total = sums[0, i, p]
            for part in range(1, sums.shape[0]):
                total += sums[part, i, p]
            out[i, p] = total


@kernel
def _predict(  # type: ignore[no-untyped-def]
    alpha, has_carried, carried, matrix, no_base, base, V, tiles, sums, A
):
    parts, tile_rows, tile_columns = tiles.shape
    m, n = A.shape
    d_out = V.shape[0]
    zero, one = A.dtype.type(0), A.dtype.type(1)
    for part in prange(parts):
        begin, end = part * m // parts, (part + 1) * m // parts
        H, Z = tiles[part], sums[part]
        Z[:] = zero
        for panel in range(begin, end, _PANEL):
            panel_end = min(panel + _PANEL, end)
            if has_carried and not no_base:
                A[panel:panel_end] = base[panel:panel_end]
            if has_carried:
                product(
                    panel_end - panel, carried.shape[1], n, one, carried[panel:], carried.shape[1],
                    False, matrix, n, False, zero if no_base else one, A[panel:], n,
                )  # fmt: skip
            for j in range(panel, panel_end, tile_rows):
                rows = min(tile_rows, panel_end - j)
                for p in range(0, n, tile_columns):
                    columns = min(tile_columns, n - p)
                    for r in range(rows):
                        a, h = A[j + r, p : p + columns], H[r]
                        for c in range(columns):
                            h[c] = zero if a[c] < 0 else a[c]  # NaN passes
                    product(
                        d_out, rows, columns, alpha, V[:, j:], m, False,
                        H, tile_columns, False, one, Z[:, p:], n,
                    )  # fmt: skip


@kernel
def _pull_back(  # type: ignore[no-untyped-def]
    alpha, beta, V, E, has_matrix, matrix, has_U, U, has_V, out_V, features, drives, Vs, B, A
):
    parts, tile_rows, tile_columns = features.shape
    m, n = A.shape
    d_out = V.shape[0]
    zero, one = A.dtype.type(0), A.dtype.type(1)
    for part in prange(parts):
        begin, end = part * m // parts, (part + 1) * m // parts
        H, D, V_tile = features[part], drives[part], Vs[part]
        for panel in range(begin, end, _PANEL):
            panel_end = min(panel + _PANEL, end)
            for j in range(panel, panel_end, tile_rows):
                rows = min(tile_rows, panel_end - j)
                for i in range(d_out):  # out_V may be V, and is written while V is still needed
                    for r in range(rows):
                        V_tile[i, r] = V[i, j + r]
                for p in range(0, n, tile_columns):
                    columns = min(tile_columns, n - p)
                    if has_U:
                        product(
                            rows, d_out, columns, one, V_tile, tile_rows, True,
                            E[:, p:], n, False, zero, D, tile_columns,
                        )  # fmt: skip
                    for r in range(rows):
                        a, h = A[j + r, p : p + columns], H[r]
                        for c in range(columns):
                            h[c] = zero if a[c] < 0 else a[c]
                        if not has_U:
                            continue
                        d = D[r]  # NaN and infinities behind a closed gate become NaN, not 0
                        if has_matrix:
                            b = B[j + r, p : p + columns]
                            for c in range(columns):
                                b[c] = d[c] if a[c] >= 0 else d[c] * zero
                        else:
                            u = U[j + r, p : p + columns]
                            if beta == zero:
                                for c in range(columns):
                                    u[c] = alpha * (d[c] if a[c] >= 0 else d[c] * zero)
                            else:
                                for c in range(columns):
                                    gated = d[c] if a[c] >= 0 else d[c] * zero
                                    u[c] = beta * u[c] + alpha * gated
                    if has_V:
                        product(
                            d_out, columns, rows, alpha, E[:, p:], n, False,
                            H, tile_columns, True, beta if p == 0 else one, out_V[:, j:], m,
                        )  # fmt: skip
            if has_U and has_matrix:
                product(
                    panel_end - panel, n, U.shape[1], alpha, B[panel:], n, False,
                    matrix, n, True, beta, U[panel:], U.shape[1],
                )  # fmt: skip


@compiled
def _open_gates(W, rows, points, row_points, columns, P):  # type: ignore[no-untyped-def]
    """P = 1{W points >= 0} for a tile: the first ``rows`` of W, ``columns`` of the points."""
    zero, one = W.dtype.type(0), W.dtype.type(1)
    product(
        rows, W.shape[1], columns, one, W, W.shape[1], False,
        points, row_points, False, zero, P, P.shape[1],
    )  # fmt: skip
    for r in range(rows):
        gates = P[r]
        for c in range(columns):
            gates[c] = one if gates[c] >= 0 else zero


@kernel
def _gate_product(alpha, W, points, weights, sums, tiles):  # type: ignore[no-untyped-def]
    parts, tile_rows, tile_columns = tiles.shape
    m_c, d_out = W.shape
    n = points.shape[1]
    zero, one = W.dtype.type(0), W.dtype.type(1)
    for part in prange(parts):
        begin, end = part * m_c // parts, (part + 1) * m_c // parts
        P, total = tiles[part], sums[part]
        total[:] = zero
        for j in range(begin, end, tile_rows):
            rows = min(tile_rows, end - j)
            for p in range(0, n, tile_columns):
                columns = min(tile_columns, n - p)
                _open_gates(W[j:], rows, points[:, p:], n, columns, P)
                product(
                    d_out, rows, columns, alpha, weights[j:], d_out, True,
                    P, tile_columns, False, one, total[:, p:], n,
                )  # fmt: skip


@kernel
def _gate_moments(alpha, beta, W, points, values, out, tiles):  # type: ignore[no-untyped-def]
    parts, tile_rows, tile_columns = tiles.shape
    m_c, d_out = W.shape
    n = points.shape[1]
    one = W.dtype.type(1)
    for part in prange(parts):
        begin, end = part * m_c // parts, (part + 1) * m_c // parts
        P = tiles[part]
        for j in range(begin, end, tile_rows):
            rows = min(tile_rows, end - j)
            for p in range(0, n, tile_columns):
                columns = min(tile_columns, n - p)
                _open_gates(W[j:], rows, points[:, p:], n, columns, P)
                product(
                    rows, columns, d_out, alpha, P, tile_columns, False,
                    values[:, p:], n, True, beta if p == 0 else one, out[j:], d_out,
                )  # fmt: skip
