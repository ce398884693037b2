"""Every operation of the backend protocol against one plain NumPy expression in float64.

`OPERATIONS` maps each to a function that yields findings: on sizes of 1, small and odd ones, one
large enough for parallel loops, and the run's own. Operands are numbers of the backend's type, the
same on both sides. What cannot round must agree in every entry; the rest errs by a share of the sum
of moduli, entry by entry, that `prdsim.verification.rounding` allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import ceil, log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prdsim.physics import randomness
from prdsim.physics.randomness import Stream
from prdsim.physics.state import Dimensions
from prdsim.verification.rounding import PENALTY_ROUNDINGS, ROUNDING, gamma, penalty_moduli

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend
    from prdsim.backends.fused import Fused

# 401 * 397 entries are more than the 2^17 from which loops run in parallel, and divide nothing.
_SHAPES = ((1, 1), (1, 7), (7, 1), (5, 3), (401, 397))
_PRODUCTS = ((1, 1, 1), (1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 1, 6), (6, 1, 1), (1, 6, 1), (9, 8, 7))
_SPECIAL = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5]])
_REPLAYS = 6  # a device records after some
_EXACT = "entries that differ: nothing rounds"
_UNIT64 = ROUNDING["float64"].unit


class Finding(NamedTuple):
    """What was compared, by how much it is off, how much may be, and why that much."""

    item: str
    measured: float
    allowed: float
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the error is within the allowance; NaN is not."""
        return self.measured <= self.allowed

    @property
    def severity(self) -> float:
        """The error in units of the allowance."""
        if self.measured == 0.0:
            return 0.0
        share = self.measured / self.allowed if self.allowed > 0.0 else float("inf")
        return share if share == share else float("inf")


class Operands:
    """Draws operands, puts them on a backend, applies an operation, and compares the outcome."""

    def __init__(self, backend: Backend, sizes: Dimensions, seed: int = 0) -> None:
        self.k = backend
        self.sizes = sizes
        self.rounding = ROUNDING[backend.precision]
        self.spoiled = 0
        self._random = np.random.default_rng(seed)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of matrices: the fixed ones, and the run's own."""
        s = self.sizes
        return [*_SHAPES, (s.m, s.n), (s.d_out, s.n), (s.m_c, s.n), (s.m, s.d_in)]

    def normal(self, *shape: int) -> HostArray:
        """Normal numbers, some of them zeros of both signs, in the backend's type."""
        array = self._random.standard_normal(shape).astype(self.k.dtype)
        array.reshape(-1)[::5] *= 0.0
        return array

    def integers(self, bits: int, *shape: int) -> HostArray:
        """Whole numbers of the given number of bits, in the backend's type."""
        return self._random.integers(-(2**bits) + 1, 2**bits, shape).astype(self.k.dtype)

    def matrices(self) -> Iterator[HostArray]:
        """Yield matrices of every shape, and one of the numbers where implementations differ."""
        yield from (self.normal(*shape) for shape in self.shapes)
        yield _SPECIAL.astype(self.k.dtype)

    def load(self, host: HostArray) -> Array:
        """Return a device array that holds ``host``."""
        array = self.k.empty(host.shape, host.dtype.name)
        self.k.to_device(host, array)
        return array

    def unset(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Return a device array that an operation must overwrite wholly."""
        name = dtype or self.k.dtype.name
        return self.load(np.full(shape, 77 if name == "uint8" else np.nan, name))

    def apply(
        self,
        operation: Callable[..., None],
        *hosts: HostArray,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        alias: int | None = None,
    ) -> HostArray:
        """Return ``out`` of operation(*operands, out=out), in place of an operand if ``alias``."""
        operands = [self.load(host) for host in hosts]
        out = self.unset(shape or hosts[0].shape, dtype) if alias is None else operands[alias]
        operation(*operands, out=out)
        for index, (host, operand) in enumerate(zip(hosts, operands, strict=True)):
            if index != alias:
                self.spoiled += differing(self.k.to_host(operand), host)
        return self.k.to_host(out)

    def both(self, roundings: int) -> float:
        """gamma of so many roundings here, and as many in the float64 expression."""
        return gamma(roundings, self.rounding.unit) + gamma(roundings, _UNIT64)

    def of_products(self, *terms: int) -> float:
        """The allowed error of products of products here, and in the float64 expression."""
        here = sum(self.rounding.of_product(count) for count in terms)
        return here * (1.0 + here) + gamma(sum(terms) + 3, _UNIT64)


def differing(computed: HostArray, expected: HostArray) -> int:
    """Count entries that differ (NaN equals NaN, -0 equals 0); all, if the types do."""
    if computed.dtype != expected.dtype or computed.shape != expected.shape:
        return max(computed.size, 1)
    same = (computed == expected) | ((computed != computed) & (expected != expected))
    return int(np.count_nonzero(~same))


def _share(computed: HostArray, expected: HostArray, moduli: HostArray) -> float:
    """The largest error as a share of its modulus; infinite if something is not finite."""
    error = np.abs(computed.astype(np.float64) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(error == 0.0, 0.0, error / moduli)
    largest = float(np.max(shares, initial=0.0))
    return largest if largest == largest else float("inf")


def _same(where: str, computed: HostArray, expected: HostArray) -> Finding:
    return Finding(where, differing(computed, expected), 0.0, _EXACT)


def _name(*sizes: int) -> str:
    return "x".join(map(str, sizes))


# -- memory and transfer ---------------------------------------------------------------------------


def _empty(o: Operands) -> Iterator[Finding]:
    for shape, name in product([(1, 1), (3, 4), (5,)], (None, "uint8", "float64")):
        array = o.k.to_host(o.k.empty(shape, name))
        wrong = array.shape != shape or array.dtype != np.dtype(name or o.k.dtype)
        yield Finding(_name(*shape), wrong, 0.0, "shape and type are those asked for")


def _to_device(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        source = o.normal(*shape).astype(np.float64) * 1.1  # not of the backend's type yet
        array = o.k.empty(shape)
        o.k.to_device(source, array)
        yield _same(_name(*shape), o.k.to_host(array), source.astype(o.k.dtype))


def _to_host(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        device = o.load(A)
        copied = o.k.to_host(device)
        o.k.copy(o.unset(A.shape), out=device)
        yield _same(f"{_name(*A.shape)}, a copy", copied, A)


def _start_copy(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        device = o.load(A)
        copy = o.k.start_copy(device)
        o.k.copy(o.unset(A.shape), out=device)
        later = o.k.start_copy(device)
        yield _same(f"{_name(*A.shape)}, as it was", copy(), A)
        yield _same(f"{_name(*A.shape)}, as it is", later(), np.full_like(A, np.nan))


def _copy(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        yield _same(_name(*A.shape), o.apply(o.k.copy, A), A)


def _synchronize(o: Operands) -> Iterator[Finding]:
    o.k.synchronize()
    yield Finding("returns", 0.0, 0.0, "did not raise")


def _available_bytes(o: Operands) -> Iterator[Finding]:
    yield Finding("is positive", o.k.available_bytes() <= 0, 0.0, "operands were just allocated")


def _describe(o: Operands) -> Iterator[Finding]:
    wrong = o.k.describe().get("backend") != o.k.name
    yield Finding("names the backend", wrong, 0.0, "goes into the trajectory file")


def _active(o: Operands) -> Iterator[Finding]:
    with o.k.active():
        yield from _copy(o)


def _replay(o: Operands) -> Iterator[Finding]:
    """Two recurring tasks in turn, often enough to be recorded: each is done once a call."""
    A = o.normal(*_SHAPES[-1])
    terms, totals = o.load(A), [o.load(np.zeros_like(A)) for _ in range(2)]
    for _, (sign, total) in product(range(_REPLAYS), zip((1.0, -1.0), totals, strict=True)):

        def add(sign: float = sign, total: Array = total) -> None:
            o.k.combine([(1.0, total), (sign, terms)], out=total)

        o.k.replay(o, sign, add)
    for name, total in zip(("first", "second"), totals, strict=True):
        expected = np.zeros_like(A)
        for _ in range(_REPLAYS):
            expected += A if name == "first" else -A
        yield _same(f"{name} of two, {_REPLAYS} times", o.k.to_host(total), expected)


# -- matrix multiplication -------------------------------------------------------------------------


def _gemm(o: Operands) -> Iterator[Finding]:
    """Rows, inner and columns of a product; which of A, B is given as a transpose."""
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
    layouts = list(product((False, True), repeat=2))
    for sizes, layout in [*product(_PRODUCTS, layouts), *own]:
        for beta in (0.0, 1.0):
            yield _product_of_integers(o, sizes, layout, beta)
        for alpha, beta in ((1.0, 0.0), (-0.3, 0.0), (-0.3, 1.0), (1.0, 0.7)):
            yield _product(o, sizes, layout, alpha, beta)


def _product(
    o: Operands, sizes: tuple[int, ...], layout: tuple[bool, ...], alpha: float, beta: float
) -> Finding:
    rows, inner, columns = sizes
    A, B = o.normal(rows, inner), o.normal(inner, columns)
    before = o.normal(rows, columns) if beta else np.full((rows, columns), np.nan, o.k.dtype)
    computed = _gemm_on_device(o, A, B, before, layout, alpha, beta)
    A64, B64 = A.astype(np.float64), B.astype(np.float64)
    C64 = before.astype(np.float64) if beta else np.zeros(before.shape)
    expected = alpha * (A64 @ B64) + beta * C64
    moduli = abs(alpha) * (np.abs(A64) @ np.abs(B64)) + abs(beta) * np.abs(C64)
    allowed = o.rounding.of_product(inner) + gamma(inner + 3, _UNIT64)
    where = f"{_name(*sizes)}{_transposes(layout)}, beta = {beta:g}"
    return Finding(where, _share(computed, expected, moduli), allowed, _sum_of(inner, 3))


def _product_of_integers(
    o: Operands, sizes: tuple[int, ...], layout: tuple[bool, ...], beta: float
) -> Finding:
    """Whole numbers whose sums the type still holds: any order of adding gives the same."""
    rows, inner, columns = sizes
    held = np.finfo(o.k.dtype).nmant + 1
    bits = max(1, held - 1 - ceil(log2(inner + 1)))
    if o.rounding.factor_unit:
        bits = min(bits, ceil(-log2(o.rounding.factor_unit)) + 1)
    A, B = o.integers(bits, rows, inner), o.integers(1, inner, columns)
    before = o.integers(bits, rows, columns) if beta else o.normal(rows, columns) * np.nan
    computed = _gemm_on_device(o, A, B, before, layout, 1.0, beta)
    expected = A.astype(np.float64) @ B.astype(np.float64)
    if beta:
        expected += before.astype(np.float64)
    where = f"{_name(*sizes)}{_transposes(layout)}, integers, beta = {beta:g}"
    return _same(where, computed, expected.astype(o.k.dtype))


def _gemm_on_device(
    o: Operands,
    A: HostArray,
    B: HostArray,
    before: HostArray,
    layout: tuple[bool, ...],
    alpha: float,
    beta: float,
) -> HostArray:
    stored = [np.ascontiguousarray(M.T) if t else M for M, t in zip((A, B), layout, strict=True)]

    def multiply(*operands: Array, out: Array) -> None:
        left, right = (M.T if t else M for M, t in zip(operands, layout, strict=False))
        o.k.gemm(left, right, out, alpha=alpha, beta=beta)

    return o.apply(multiply, *stored, before, alias=2)


def _transposes(layout: tuple[bool, ...]) -> str:
    names = [f"{M}^T" for M, transposed in zip("AB", layout, strict=True) if transposed]
    return f" ({', '.join(names)})" if names else ""


def _sum_of(terms: int, more: int = 0) -> str:
    return f"gamma of a sum of {terms}{f' + {more}' if more else ''}"


# -- fused -----------------------------------------------------------------------------------------


def _fused(o: Operands) -> Iterator[Finding]:
    """Each fused operation against the expression that it stands for."""
    s = o.sizes
    own = (s.m, s.m_c, s.d_out, s.n, s.d_in)
    # Of tiles: one and less, several and a rest, over neurons (1300) and over samples (2100).
    for sizes in [
        own,
        (1, 1, 1, 1, 1),
        (7, 5, 3, 11, 4),
        (1300, 90, 2, 70, 5),
        (70, 1300, 3, 2100, 6),
    ]:
        m, m_c, d_out, n, columns = sizes
        fused = o.k.fused(m, m_c, d_out, n)
        fused.allocate()
        yield from _predict(o, fused, sizes)
        for square in (False, True):
            yield from _pull_back(o, fused, (m, m_c, d_out, n, n if square else columns), square)
        yield from _steps(o, fused, sizes)


def _predict(o: Operands, fused: Fused, sizes: tuple[int, ...]) -> Iterator[Finding]:
    m, _, d_out, n, columns = sizes
    carried, matrix, V = o.normal(m, columns), o.normal(columns, n), o.normal(d_out, m)
    for base in (None, o.normal(m, n)):
        A, out = o.unset((m, n)), o.unset((d_out, n))
        device_base = None if base is None else o.load(base)
        loaded = o.load(carried), o.load(matrix), device_base, o.load(V)
        fused.predict(*loaded, A=A, out=out, alpha=-0.3)
        c64, M64, V64 = (array.astype(np.float64) for array in (carried, matrix, V))
        base64 = np.zeros((m, n)) if base is None else base.astype(np.float64)
        moduli = np.abs(base64) + np.abs(c64) @ np.abs(M64)
        where = f"predict {_name(*sizes)}"
        share = _share(o.k.to_host(A), base64 + c64 @ M64, moduli)
        yield Finding(f"{where}: A", share, o.of_products(columns), _sum_of(columns, 3))
        # The features are those of A as it was rounded.
        H = np.maximum(o.k.to_host(A).astype(np.float64), 0.0)
        wanted, moduli = -0.3 * (V64 @ H), 0.3 * (np.abs(V64) @ H)
        share = _share(o.k.to_host(out), wanted, moduli)
        yield Finding(f"{where}: V relu(A)", share, o.of_products(m), _sum_of(m, 3))
        given = o.unset((d_out, n))
        fused.predict(None, *loaded[1:], A=A, out=given, alpha=-0.3)
        share = _share(o.k.to_host(given), wanted, moduli)
        yield Finding(f"{where}: V relu(A), A given", share, o.of_products(m), _sum_of(m, 3))


def _pull_back(
    o: Operands, fused: Fused, sizes: tuple[int, ...], square: bool
) -> Iterator[Finding]:
    """With a matrix, and (``square``) without one; into V itself; whole, and U or V alone."""
    m, _, d_out, n, columns = sizes
    A, V, E, matrix = o.normal(m, n), o.normal(d_out, m), o.normal(d_out, n), o.normal(columns, n)
    U = o.normal(m, columns)
    A64, V64, E64, M64, U64 = (array.astype(np.float64) for array in (A, V, E, matrix, U))
    H, gates = np.maximum(A64, 0.0), A64 >= 0.0
    B, B_moduli = (V64.T @ E64) * gates, (np.abs(V64).T @ np.abs(E64)) * gates
    U_sum, U_moduli = (B, B_moduli) if square else (B @ M64.T, B_moduli @ np.abs(M64).T)
    V_sum, V_moduli = E64 @ H.T, np.abs(E64) @ H.T
    U_bound = o.of_products(d_out) if square else o.of_products(d_out, n)
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
        where = f"pull_back {_name(*sizes)}{'' if square else ' (matrix)'}, beta = {beta:g}: "
        for name, out, total, moduli, before, terms, bound in (
            ("U", out_U, U_sum, U_moduli, U64, d_out + (0 if square else n), U_bound),
            ("V", out_V, V_sum, V_moduli, V64, n, o.of_products(n)),
        ):
            if out is not None:
                expected = 0.7 * total + beta * before
                share = _share(o.k.to_host(out), expected, 0.7 * moduli + beta * np.abs(before))
                yield Finding(where + name, share, bound, _sum_of(terms, 3))


def _steps(o: Operands, fused: Fused, sizes: tuple[int, ...]) -> Iterator[Finding]:
    """Gates of whole numbers, which nothing rounds: zeros among them, open."""
    _, m_c, d_out, n, _ = sizes
    W, points = o.integers(2, m_c, d_out), o.integers(2, d_out, n)
    weights, values, before = o.normal(m_c, d_out), o.normal(d_out, n), o.normal(m_c, d_out)
    gates = (W.astype(np.float64) @ points.astype(np.float64) >= 0.0).astype(np.float64)
    out = o.unset((d_out, n))
    fused.gate_product(o.load(W), o.load(points), o.load(weights), out=out, alpha=-0.3)
    w64, v64, b64 = (array.astype(np.float64) for array in (weights, values, before))
    share = _share(o.k.to_host(out), -0.3 * (w64.T @ gates), 0.3 * (np.abs(w64).T @ gates))
    yield Finding(f"gate_product {_name(*sizes)}", share, o.of_products(m_c), _sum_of(m_c, 3))
    for beta, same_gates in ((0.0, True), (1.0, True), (0.0, False), (1.0, False)):
        out = o.load(before) if beta else o.unset(before.shape)
        operands = o.load(W), o.load(points), o.load(values)
        fused.gate_moments(*operands, out=out, alpha=0.7, beta=beta, same_gates=same_gates)
        moduli = 0.7 * (gates @ np.abs(v64).T) + beta * np.abs(b64)
        share = _share(o.k.to_host(out), 0.7 * (gates @ v64.T) + beta * b64, moduli)
        where = f"gate_moments {_name(*sizes)}, beta = {beta:g}"
        yield Finding(where, share, o.of_products(n), _sum_of(n, 3))


# -- elementwise -----------------------------------------------------------------------------------


def _relu(o: Operands) -> Iterator[Finding]:
    for A, alias in product(o.matrices(), (None, 0)):
        yield _same(_name(*A.shape), o.apply(o.k.relu, A, alias=alias), np.maximum(A, 0))


def _heaviside(o: Operands) -> Iterator[Finding]:
    for A, alias in product(o.matrices(), (None, 0)):
        expected = (A >= 0).astype(o.k.dtype)
        yield _same(_name(*A.shape), o.apply(o.k.heaviside, A, alias=alias), expected)


def _gate(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        for B, alias in product((o.normal(*A.shape), A[:, ::-1].copy()), (None, 0, 1)):
            expected = B * (A >= 0)
            yield _same(_name(*A.shape), o.apply(o.k.gate, B, A, alias=alias), expected)


def _combine(o: Operands) -> Iterator[Finding]:
    coefficients = [1.0, -1.0, 0.3, 2.0, 1 / 3, -7.0, 1e-3, 11.0]
    shapes = [*o.shapes, (o.sizes.m_c,)]
    for shape, count, alias in product(shapes, (1, 2, 3, 8), (None, 0)):
        arrays = [o.normal(*shape) for _ in range(count)]

        def combine(*terms: Array, out: Array) -> None:
            o.k.combine(list(zip(coefficients, terms, strict=False)), out=out)

        computed = o.apply(combine, *arrays, alias=alias)
        terms = [c * A.astype(np.float64) for c, A in zip(coefficients, arrays, strict=False)]
        moduli = np.sum(np.abs(terms), axis=0)
        share = _share(computed, np.sum(terms, axis=0), moduli)
        where = f"{_name(*shape)}, {count} terms"
        yield Finding(where, share, o.both(count + 1), _sum_of(count, 1))


def _interpolate(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        Y, Z = o.normal(*shape), o.normal(*shape)
        e = np.abs(np.sin(o.normal(shape[1]))).astype(o.k.dtype)  # in [0, 1], zeros among them
        computed = o.apply(o.k.interpolate, e, Y, Z, shape=shape)
        Y64, Z64, e64 = (array.astype(np.float64) for array in (Y, Z, e))
        moduli = np.abs(Z64) + e64 * (np.abs(Y64) + np.abs(Z64))
        share = _share(computed, Z64 + e64 * (Y64 - Z64), moduli)
        yield Finding(_name(*shape), share, o.both(3), "gamma of 3 roundings")


def _scale_rows(o: Operands) -> Iterator[Finding]:
    for shape, alias in product(o.shapes, (None, 1)):
        A, r = o.normal(*shape), o.normal(shape[0])
        computed = o.apply(o.k.scale_rows, r, A, shape=shape, alias=alias)
        yield _scaled(o, computed, r.astype(np.float64)[:, None] * A)


def _scale_columns(o: Operands) -> Iterator[Finding]:
    for shape, alias in product(o.shapes, (None, 1)):
        A, c = o.normal(*shape), o.normal(shape[1])
        computed = o.apply(o.k.scale_columns, c, A, shape=shape, alias=alias)
        yield _scaled(o, computed, c.astype(np.float64)[None, :] * A)


def _scaled(o: Operands, computed: HostArray, expected: HostArray) -> Finding:
    share = _share(computed, expected, np.abs(expected))
    return Finding(_name(*expected.shape), share, o.both(1), "gamma of 1 rounding")


def _penalty_weights(o: Operands) -> Iterator[Finding]:
    for n, alias in product((1, 6, 4001, o.sizes.n), (None, 0)):
        squared = np.square(o.normal(n))
        squared[-1] = 1.0  # a norm of exactly 1 weighs nothing

        def weigh(squared: Array, out: Array) -> None:
            o.k.penalty_weights(squared, 0.3, out=out)

        computed = o.apply(weigh, squared, alias=alias)
        moduli = penalty_moduli(squared.astype(np.float64), 0.3)
        norms = np.sqrt(squared.astype(np.float64))
        expected = np.divide(norms - 1.0, norms, out=np.zeros(n), where=norms > 0.0) * 0.3
        share = _share(computed, expected, moduli)
        yield Finding(str(n), share, o.both(PENALTY_ROUNDINGS), "gamma of 5 roundings")


def _set_word(o: Operands) -> Iterator[Finding]:
    for value in (0, 1, 2**31, 2**40 + 3, 2**64 - 1):
        cell = o.k.empty((1,), "uint64")
        o.k.set_word(value, out=cell)
        yield _same(f"{value}", o.k.to_host(cell), np.array([value], np.uint64))


def _uniforms(o: Operands) -> Iterator[Finding]:
    streams = (Stream.PENALTY_POINTS, Stream.OBSERVED_PENALTY_POINTS)
    counters = ((0, 0), (0, 1), (1, 0), (7, 4), (2**31, 59))
    for n, seed, stream in product((1, 1000, o.sizes.n), (0, 5, 2**63 - 1), streams):
        for step, update in counters:
            out = o.unset((n,))
            cell = o.load(np.array([step], np.uint64))
            o.k.uniforms(seed, stream, cell, update, out=out)
            expected = randomness.uniforms(seed, stream, step, update, n).astype(o.k.dtype)
            yield _same(f"{n}, step {step}, update {update}", o.k.to_host(out), expected)


# -- reductions ------------------------------------------------------------------------------------


def _row_dots(o: Operands) -> Iterator[Finding]:
    yield from _dots(o, o.k.row_dots, axis=1)


def _column_dots(o: Operands) -> Iterator[Finding]:
    yield from _dots(o, o.k.column_dots, axis=0)


def _dots(o: Operands, operation: Callable[..., None], axis: int) -> Iterator[Finding]:
    for shape, dtype, twice in product(o.shapes, (None, "float64"), (False, True)):
        A, B = o.normal(*shape), o.normal(*shape)

        def squares(A: Array, out: Array) -> None:
            operation(A, A, out=out)

        length = (shape[1 - axis],)
        if twice:
            B = A
            computed = o.apply(squares, A, shape=length, dtype=dtype)
        else:
            computed = o.apply(operation, A, B, shape=length, dtype=dtype)
        terms = A.astype(np.float64) * B
        unit = _UNIT64 if dtype else o.rounding.unit
        allowed = gamma(shape[axis], unit) + gamma(shape[axis], _UNIT64)
        share = _share(computed, terms.sum(axis), np.abs(terms).sum(axis))
        where = f"{_name(*shape)} into {computed.dtype}"
        yield Finding(where, share, allowed, _sum_of(shape[axis]))


def _dot(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        A, B = o.normal(*shape), o.normal(*shape)
        terms = A.astype(np.float64) * B
        yield _total(_name(*shape), o.k.dot(o.load(A), o.load(B)), terms)


def _sum(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        A = o.normal(*shape)
        yield _total(_name(*shape), o.k.sum(o.load(A)), A.astype(np.float64))


def _total(where: str, computed: float, terms: HostArray) -> Finding:
    share = _share(np.array(computed), np.array(terms.sum()), np.array(np.abs(terms).sum()))
    reason = f"{_sum_of(terms.size)} in float64"
    return Finding(where, share, 2.0 * gamma(terms.size, _UNIT64), reason)


def _all_finite(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        for bad, place in product((1.0, np.nan, np.inf, -np.inf), (0, -1)):
            A = o.normal(*shape)
            A.reshape(-1)[place] = bad
            wrong = o.k.all_finite(o.load(A)) != np.isfinite(bad)
            yield Finding(f"{_name(*shape)} with {bad:g}", wrong, 0.0, "true or false")


def _gates(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        computed = o.apply(o.k.gates, A, dtype="uint8")
        yield _same(_name(*A.shape), computed, (A >= 0).astype(np.uint8))


def _gate_changes(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        gates = (o.normal(*A.shape) >= 0).astype(np.uint8)
        expected = int(np.count_nonzero((A >= 0) != gates))
        off = abs(o.k.gate_changes(o.load(A), o.load(gates)) - expected)
        yield Finding(_name(*A.shape), off, 0.0, "a count")


OPERATIONS: dict[str, Callable[[Operands], Iterator[Finding]]] = {
    "empty": _empty,
    "to_device": _to_device,
    "to_host": _to_host,
    "start_copy": _start_copy,
    "copy": _copy,
    "synchronize": _synchronize,
    "available_bytes": _available_bytes,
    "describe": _describe,
    "active": _active,
    "replay": _replay,
    "gemm": _gemm,
    "fused": _fused,
    "relu": _relu,
    "heaviside": _heaviside,
    "gate": _gate,
    "combine": _combine,
    "interpolate": _interpolate,
    "scale_rows": _scale_rows,
    "scale_columns": _scale_columns,
    "penalty_weights": _penalty_weights,
    "set_word": _set_word,
    "uniforms": _uniforms,
    "row_dots": _row_dots,
    "column_dots": _column_dots,
    "dot": _dot,
    "sum": _sum,
    "all_finite": _all_finite,
    "gates": _gates,
    "gate_changes": _gate_changes,
}


def check_operations(backend: Backend, sizes: Dimensions) -> Iterator[Finding]:
    """Yield, for each operation, the finding nearest to its allowance or furthest beyond."""
    operands = Operands(backend, sizes)
    for name, check in OPERATIONS.items():
        with np.errstate(invalid="ignore"):
            worst = max(check(operands), key=lambda finding: finding.severity)
        yield worst._replace(item=f"{name} {worst.item}")
    yield Finding("operands left alone", operands.spoiled, 0.0, _EXACT)


def large_results(backend: Backend) -> list[HostArray]:
    """Return what operations make of the same large operands: twice the same bits, or not."""
    rows, columns = shape = _SHAPES[-1]
    random = np.random.default_rng(1)
    o = Operands(backend, Dimensions(1, 1, 1, 1, 1))
    A, B = (random.standard_normal(shape).astype(backend.dtype) for _ in range(2))

    def combine(A: Array, B: Array, out: Array) -> None:
        backend.combine([(0.3, A), (-1.7, B)], out=out)

    def multiply(A: Array, B: Array, out: Array) -> None:
        backend.gemm(A, B.T, out)

    totals = [backend.dot(o.load(A), o.load(B)), backend.sum(o.load(A))]
    return [
        o.apply(multiply, A, B, shape=(rows, rows)),
        o.apply(combine, A, B),
        o.apply(backend.gate, A, B),
        o.apply(backend.row_dots, A, B, shape=(rows,)),
        o.apply(backend.column_dots, A, B, shape=(columns,)),
        np.array(totals),
    ]
