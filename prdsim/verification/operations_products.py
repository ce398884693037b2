"""Products and fused operations against one plain NumPy expression in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil, log2
from typing import TYPE_CHECKING

import numpy as np

from prdsim.backends.fused import CriticAt, Scratch, Targets
from prdsim.verification.operands import (
    EXACT,
    UNIT64,
    Finding,
    Operands,
    in_float64,
    share,
    sizes_of,
)
from prdsim.verification.rounding import PENALTY_ROUNDINGS, gamma, penalty_moduli

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.fused import Fused

_PRODUCTS = ((1, 1, 1), (1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 1, 6), (6, 1, 1), (1, 6, 1), (9, 8, 7))
_SCALARS: tuple[tuple[float, float], ...] = ((1.0, 0.0), (-0.3, 0.0), (-0.3, 1.0), (1.0, 0.7))
_SMALL = 1 << 12  # gates of the critic; of more, one case is checked, with all that there is
_LARGE = 1 << 18  # or none
_LAYOUTS = tuple(product((False, True), repeat=2))

Sizes = tuple[int, ...]
Layout = tuple[bool, ...]


# -- gemm ------------------------------------------------------------------------------------------


def gemm(o: Operands) -> Iterator[Finding]:
    """Products of all sizes (rows, inner, columns), with A and B as they are or transposed."""
    s = o.sizes
    own = [
        ((s.m, s.d_in, s.n), (False, False)),  # U X
        ((s.d_out, s.m, s.n), (False, False)),  # V H
        ((s.m, s.d_out, s.n), (True, False)),  # V^T E
        ((s.d_out, s.n, s.m), (False, True)),  # E H^T
        ((s.m, s.n, s.d_in), (False, True)),  # B X^T
        ((s.m_c, s.d_out, s.n), (False, False)),  # W Z
        ((s.d_out, s.m_c, s.n), (True, False)),  # (a W)^T P
        ((s.m_c, s.n, s.d_out), (False, True)),  # P Z^T
    ]
    for sizes, layout in [*product(_PRODUCTS, _LAYOUTS), *own]:
        for draw in (_numbers, _not_finite, _integers):
            yield from _products(o, sizes, layout, draw)


def _numbers(o: Operands, *sizes: int) -> tuple[HostArray, HostArray, HostArray]:
    rows, inner, columns = sizes
    return o.normal(rows, inner), o.normal(inner, columns), o.normal(rows, columns)


def _not_finite(o: Operands, *sizes: int) -> tuple[HostArray, HostArray, HostArray]:
    """Infinities and NaN, which must reach exactly the entries that depend on them.

    No factor is 0: some BLAS leave out its products.
    """
    A, B, before = _numbers(o, *sizes)
    A[0, 0], A[-1, -1] = np.nan, np.inf
    B[B == 0.0] = 1.0
    return A, B, before


def _integers(o: Operands, *sizes: int) -> tuple[HostArray, HostArray, HostArray]:
    """Integers whose sums the type can hold: the order of addition does not matter."""
    rows, inner, columns = sizes
    held = np.finfo(o.k.dtype).nmant + 1
    bits = max(1, held - 1 - ceil(log2(inner + 1)))
    if o.rounding.factor_unit:
        bits = min(bits, ceil(-log2(o.rounding.factor_unit)) + 1)
    before = o.integers(bits, rows, columns)
    return o.integers(bits, rows, inner), o.integers(1, inner, columns), before


def _products(
    o: Operands, sizes: Sizes, layout: Layout, draw: Callable[..., tuple[HostArray, ...]]
) -> Iterator[Finding]:
    """The same factors with other scalars into the same array, and finally into another."""
    A, B, before = draw(o, *sizes)
    stored = [np.ascontiguousarray(M.T) if t else M for M, t in zip((A, B), layout, strict=True)]
    loaded = [o.load(M) for M in stored]
    left, right = (M.T if t else M for M, t in zip(loaded, layout, strict=True))
    A64, B64, C64 = in_float64(A, B, before)
    sums, moduli = A64 @ B64, np.abs(A64) @ np.abs(B64)
    inner = sizes[1]
    allowed = o.rounding.of_product(inner) + gamma(inner + 3, UNIT64)
    scalars, reason, kind = _SCALARS, f"gamma of a sum of {inner} + 3", ""
    if draw is _integers:
        allowed, reason, kind = 0.0, EXACT, ", integers"
        scalars = ((1.0, 0.0), (1.0, 1.0))
    first = o.unset(before.shape)
    for (alpha, beta), out in [*product(scalars, [first]), ((1.0, 0.0), o.unset(before.shape))]:
        o.k.to_device(before if beta else np.full_like(before, np.nan), out)
        o.k.gemm(left, right, out, alpha=alpha, beta=beta)
        expected = alpha * sums + (beta * C64 if beta else 0.0)
        most = abs(alpha) * moduli + beta * np.abs(C64)
        where = f"{sizes_of(*sizes)}{_transposes(layout)}{kind}, beta = {beta:g}"
        yield Finding(where, share(o.k.to_host(out), expected, most), allowed, reason)
    for operand, host in zip(loaded, stored, strict=True):
        o.left_alone(operand, host)


def _transposes(layout: Layout) -> str:
    names = [f"{M}^T" for M, transposed in zip("AB", layout, strict=True) if transposed]
    return f" ({', '.join(names)})" if names else ""


# -- fused -----------------------------------------------------------------------------------------


def fused(o: Operands) -> Iterator[Finding]:
    """Each fused operation against the equivalent expression."""
    s = o.sizes
    own = (s.m, s.m_c, s.d_out, s.n, s.d_in)
    # One tile and less; several tiles and a rest, over neurons (1000) and over samples (2100), and
    # of the critic's moments over both.
    tiles = [(1, 1, 1, 1, 1), (7, 5, 3, 11, 4), (1000, 600, 2, 70, 5), (36, 140, 3, 2100, 6)]
    tiles += [(20, 300, 3, 700, 4)]
    # Few outputs and many, on a device; samples in several shares.
    tiles += [(9, 70, 10, 33, 4), (8, 37, 16, 40, 3), (8, 12, 17, 20, 5), (5, 30, 2, 4100, 2)]
    for sizes in [own, *tiles]:
        m, m_c, d_out, n, columns = sizes
        operations = o.k.fused(m, m_c, d_out, n)
        operations.allocate()
        yield from _predict(o, operations, sizes)
        for square in (False, True):
            wanted = (m, m_c, d_out, n, n if square else columns)
            yield from _pull_back(o, operations, wanted, square)
        yield from _gates(o, operations, sizes)
        if m_c * n < _LARGE:
            yield from critic_moments(o, operations, sizes)
        yield from gradients_of_moments(o, operations, sizes)


def _summed(
    o: Operands, where: str, out: Array, expected: HostArray, moduli: HostArray, *terms: int
) -> Finding:
    """Compare nested products, with ``terms`` terms each, to the float64 expression."""
    here = sum(o.rounding.of_product(count) for count in terms)
    allowed = here * (1.0 + here) + gamma(sum(terms) + 3, UNIT64)
    error = share(o.k.to_host(out), expected, moduli)
    return Finding(where, error, allowed, f"gamma of a sum of {sum(terms)} + 3")


def _predict(o: Operands, fused: Fused, sizes: Sizes) -> Iterator[Finding]:
    m, _, d_out, n, columns = sizes
    carried, matrix, V = o.normal(m, columns), o.normal(columns, n), o.normal(d_out, m)
    c64, M64, V64 = in_float64(carried, matrix, V)
    where = f"predict {sizes_of(*sizes)}"
    for base in (None, o.normal(m, n)):
        A, out, given = o.unset((m, n)), o.unset((d_out, n)), o.unset((d_out, n))
        loaded = o.load(matrix), None if base is None else o.load(base), o.load(V)
        fused.predict(o.load(carried), *loaded, A=A, out=out, alpha=-0.3)
        base64 = np.zeros((m, n)) if base is None else base.astype(np.float64)
        moduli = np.abs(base64) + np.abs(c64) @ np.abs(M64)
        yield _summed(o, f"{where}: A", A, base64 + c64 @ M64, moduli, columns)
        # The features are those of A as it was rounded.
        H = np.maximum(o.k.to_host(A).astype(np.float64), 0.0)
        wanted, moduli = -0.3 * (V64 @ H), 0.3 * (np.abs(V64) @ H)
        yield _summed(o, f"{where}: V relu(A)", out, wanted, moduli, m)
        fused.predict(None, *loaded, A=A, out=given, alpha=-0.3)
        yield _summed(o, f"{where}: V relu(A), A given", given, wanted, moduli, m)


def _pull_back(o: Operands, fused: Fused, sizes: Sizes, square: bool) -> Iterator[Finding]:
    """With a matrix, and (``square``) without one; into V itself; both outputs, and U or V only."""
    m, _, d_out, n, columns = sizes
    A, V, E, U = o.normal(m, n), o.normal(d_out, m), o.normal(d_out, n), o.normal(m, columns)
    matrix = o.normal(1 if square else columns, n)
    A64, V64, E64, M64, U64 = in_float64(A, V, E, matrix, U)
    H, gates = np.maximum(A64, 0.0), A64 >= 0.0
    B, B_moduli = (V64.T @ E64) * gates, (np.abs(V64).T @ np.abs(E64)) * gates
    U_sum, U_moduli = (B, B_moduli) if square else (B @ M64.T, B_moduli @ np.abs(M64).T)
    V_sum, V_moduli = E64 @ H.T, np.abs(E64) @ H.T
    for beta, kept in product((0.0, 1.0), ("UV", "U", "V")):
        device_V = o.load(V)
        out_U = (o.load(U) if beta else o.unset(U.shape)) if "U" in kept else None
        out_V = (device_V if beta else o.unset(V.shape)) if "V" in kept else None
        device_A, device_matrix = o.load(A), o.load(matrix)
        given = None, device_matrix, None, device_V
        fused.predict(*given, A=device_A, out=o.unset(E.shape), alpha=1.0)
        operands = device_A, device_V, o.load(E), None if square else device_matrix
        scalars = {"alpha": 0.7, "beta": beta}
        fused.pull_back(*operands, B=o.unset((m, n)), out_U=out_U, out_V=out_V, **scalars)
        where = f"pull_back {sizes_of(*sizes)}{'' if square else ' (matrix)'}, beta = {beta:g}: "
        for name, out, total, moduli, before, terms in (
            ("U", out_U, U_sum, U_moduli, U64, (d_out,) if square else (d_out, n)),
            ("V", out_V, V_sum, V_moduli, V64, (n,)),
        ):
            if out is not None:
                wanted, most = 0.7 * total + beta * before, 0.7 * moduli + beta * np.abs(before)
                yield _summed(o, where + name, out, wanted, most, *terms)


def _gates(o: Operands, fused: Fused, sizes: Sizes) -> Iterator[Finding]:
    """Gates of integers, which are exact: zeros among them, whose gates are open."""
    _, m_c, d_out, n, _ = sizes
    W, points = o.integers(2, m_c, d_out), o.integers(2, d_out, n)
    weights, values, before = o.normal(m_c, d_out), o.normal(d_out, n), o.normal(m_c, d_out)
    W64, p64, w64, v64, b64 = in_float64(W, points, weights, values, before)
    gates = (W64 @ p64 >= 0.0).astype(np.float64)
    out = o.unset((d_out, n))
    fused.gate_product(o.load(W), o.load(points), o.load(weights), out=out, alpha=-0.3)
    wanted, moduli = -0.3 * (w64.T @ gates), 0.3 * (np.abs(w64).T @ gates)
    yield _summed(o, f"gate_product {sizes_of(*sizes)}", out, wanted, moduli, m_c)
    for same_gates, beta in product((True, False), (0.0, 1.0)):
        out = o.load(before) if beta else o.unset(before.shape)
        operands = o.load(W), o.load(points), o.load(values)
        fused.gate_moments(*operands, out=out, alpha=0.7, beta=beta, same_gates=same_gates)
        wanted = 0.7 * (gates @ v64.T) + beta * b64
        moduli = 0.7 * (gates @ np.abs(v64).T) + beta * np.abs(b64)
        where = f"gate_moments {sizes_of(*sizes)}, beta = {beta:g}"
        yield _summed(o, where, out, wanted, moduli, n)


_PENALTY, _S_C = 10.0, 0.25


def critic_moments(o: Operands, fused: Fused, sizes: Sizes) -> Iterator[Finding]:
    """Integers, and e of 0, 1/2 and 1: gates and gradients are exact, zeros among them."""
    _, m_c, d_out, n, _ = sizes
    W, a, Z, Y = (o.integers(2, *shape) for shape in ((m_c, d_out), (m_c,), (d_out, n), (d_out, n)))
    e = (np.arange(n) % 3 / 2).astype(o.k.dtype)
    labels = np.arange(n) % min(2, n)
    few = np.ascontiguousarray(Y[:, labels])
    cases = [(Y, False), (few, True)] if fused.any_points else [(Y, False)]
    sets = (), ((0.5, 1.0),), ((o.load(e), 0.25), (0.0, 0.5), (1.0, 0.25))
    before = o.normal(m_c, d_out)
    every = list(product(cases, sets, (0.0, 1.0)))
    for (targets, distinct), points, beta in every if m_c * n < _SMALL else every[-1:]:
        given = Targets(o.load(targets), o.load(targets))
        if distinct:
            given = _distinct(o, targets, labels)
        samples, critic = (d_out, n), (m_c, d_out)
        scratch = Scratch(*map(o.unset, (critic, samples, samples, (n,), (n,))))
        loaded = o.load(W), o.load(a), o.load(Z), o.load(targets)
        out = o.load(before) if beta else o.unset(critic)
        at = CriticAt(*loaded, given, points, s_c=_S_C, n=n, penalty=_PENALTY)
        fused.critic_moments(at, scratch, out=out, beta=beta)
        wanted, moduli = _moments_of(W, a, Z, targets, [(_host(o, e), w) for e, w in points])
        terms = n * (2 + len(points)) + PENALTY_ROUNDINGS + d_out + 3
        where = f"critic_moments {sizes_of(*sizes)}, {len(points)} sets, {'few' * distinct} targets"
        wanted, moduli = wanted + beta * before, moduli + beta * np.abs(before)
        yield _summed(o, where, out, wanted, moduli, terms)
        for operand, host in zip(loaded, (W, a, Z, targets), strict=True):
            o.left_alone(operand, host)


def _host(o: Operands, e: Array | float) -> HostArray | float:
    return e if isinstance(e, float) else o.k.to_host(e).astype(np.float64)


def _distinct(o: Operands, Y: HostArray, labels: HostArray) -> Targets:
    count = int(labels.max()) + 1
    points, counts = Y[:, :count], np.bincount(labels).astype(Y.dtype)
    numbers = o.k.empty(labels.shape, "int64")
    o.k.to_device(labels, numbers)
    values = o.load(np.ascontiguousarray(counts * points))
    return Targets(o.load(np.ascontiguousarray(points)), values, numbers)


def _moments_of(
    W: HostArray,
    a: HostArray,
    Z: HostArray,
    Y: HostArray,
    sets: Sequence[tuple[HostArray | float, float]],
) -> tuple[HostArray, HostArray]:
    """Equation 9 in float64, and the sums of the moduli of its terms."""
    W, a, Z, Y = in_float64(W, a, Z, Y)
    n = Z.shape[1]
    at_Z, at_Y = (np.asarray(W @ points >= 0.0, float) for points in (Z, Y))
    N = (at_Z @ Z.T - at_Y @ Y.T) * _S_C / n
    moduli = (at_Z @ np.abs(Z.T) + at_Y @ np.abs(Y.T)) * _S_C / n
    for e, weight in sets:
        gates = np.asarray(W @ (Z + e * (Y - Z)) >= 0.0, float)
        Q = _S_C * (a[:, None] * W).T @ gates
        squares, scale = (Q * Q).sum(axis=0), 2.0 * weight * _PENALTY / n
        norms = np.sqrt(squares)
        c = scale * np.divide(norms - 1.0, norms, out=np.zeros(n), where=norms > 0.0)
        N += _S_C * gates @ (c * Q).T
        moduli += _S_C * gates @ np.abs(penalty_moduli(squares, scale) * Q).T
    return N, moduli


def gradients_of_moments(o: Operands, fused: Fused, sizes: Sizes) -> Iterator[Finding]:
    """Into other arrays and into W and a themselves; both, and either alone."""
    _, m_c, d_out, _, _ = sizes
    W, a, N = o.normal(m_c, d_out), o.normal(m_c), o.normal(m_c, d_out)
    W64, a64, N64 = in_float64(W, a, N)
    sums = a64[:, None] * N64, (W64 * N64).sum(axis=1)
    moduli = np.abs(sums[0]), np.abs(W64 * N64).sum(axis=1)
    for beta, kept in product((0.0, 1.0), ("Wa", "W", "a")):
        device_W, device_a = o.load(W), o.load(a)
        out_W = (device_W if beta else o.unset(W.shape)) if "W" in kept else None
        out_a = (device_a if beta else o.unset(a.shape)) if "a" in kept else None
        fused.gradients_of_moments(
            device_W, device_a, o.load(N), critic_W=o.unset(W.shape), critic_a=o.unset(a.shape),
            out_W=out_W, out_a=out_a, alpha=-0.3, beta=beta,
        )  # fmt: skip
        of_both = "Wa", (out_W, out_a), (W64, a64), sums, moduli, (1, d_out)
        for name, out, before, total, most, terms in zip(*of_both, strict=True):
            if out is not None:
                wanted, allowed = beta * before - 0.3 * total, beta * np.abs(before) + 0.3 * most
                where = f"gradients_of_moments {sizes_of(*sizes)}, beta = {beta:g}: {name}"
                yield _summed(o, where, out, wanted, allowed, terms)
