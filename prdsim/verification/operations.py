"""Every operation of a backend against one plain NumPy expression in float64.

`OPERATIONS` maps each to a function that yields findings: on sizes of 1, small and odd ones, one
large enough for parallel loops, and the run's own. Operands are numbers of the backend's type, the
same on both sides, infinities and NaN among them. Results that cannot round must agree in every
entry; others err by a share of the sum of moduli, entry by entry, that
`prdsim.verification.rounding` allows, with or without fused multiply-add.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from prdsim.physics import randomness
from prdsim.physics.randomness import Stream
from prdsim.physics.state import Dimensions
from prdsim.verification.operands import (
    EXACT,
    SHAPES,
    UNIT64,
    Finding,
    Operands,
    in_float64,
    same,
    share,
    sizes_of,
)
from prdsim.verification.operations_products import fused, gemm
from prdsim.verification.operations_recorded import COEFFICIENTS, hold, replay, sums
from prdsim.verification.rounding import PENALTY_ROUNDINGS, gamma, penalty_moduli

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend


# -- memory and transfer ---------------------------------------------------------------------------


def _empty(o: Operands) -> Iterator[Finding]:
    for shape, name in product([(1, 1), (3, 4), (5,)], (None, "uint8", "float64")):
        array = o.k.to_host(o.k.empty(shape, name))
        wrong = array.shape != shape or array.dtype != np.dtype(name or o.k.dtype)
        yield Finding(sizes_of(*shape), wrong, 0.0, "shape and type are those requested")


def _to_device(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        source = o.normal(*shape).astype(np.float64) * 1.1  # not yet of the backend's type
        for name, layout in (("", source), (", its transpose", source[:, ::-1].T)):
            array = o.k.empty(layout.shape)
            o.k.to_device(layout, array)
            yield same(sizes_of(*shape) + name, o.k.to_host(array), layout.astype(o.k.dtype))


def _to_host(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        device = o.load(A)
        copied, spoiled = o.k.to_host(device), o.k.to_host(device)
        spoiled[...] = 3.0
        yield same(f"{sizes_of(*A.shape)}, from a copy", o.k.to_host(device), A)
        o.k.copy(o.unset(A.shape), out=device)
        yield same(f"{sizes_of(*A.shape)}, a copy", copied, A)


def _start_copy(o: Operands) -> Iterator[Finding]:
    """A copy of the array at that moment: after all operations issued before, before later ones."""
    for A in o.matrices():
        device = o.load(A)
        o.k.combine([(2.0, device)], out=device)
        yield same(f"{sizes_of(*A.shape)}, at once", o.k.start_copy(device)(), 2 * A)
        copy = o.k.start_copy(device)
        o.k.combine([(0.5, device)], out=device)
        later = o.k.start_copy(device)
        yield same(f"{sizes_of(*A.shape)}, as it is", later(), A)
        yield same(f"{sizes_of(*A.shape)}, as it was", copy(), 2 * A)


def _copy(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        yield same(sizes_of(*A.shape), o.apply(o.k.copy, A), A)


def _synchronize(o: Operands) -> Iterator[Finding]:
    o.k.synchronize()
    yield Finding("returns", 0.0, 0.0, "did not raise")


def _available_bytes(o: Operands) -> Iterator[Finding]:
    yield Finding("is positive", o.k.available_bytes() <= 0, 0.0, "operands were just allocated")


def _describe(o: Operands) -> Iterator[Finding]:
    said = json.loads(json.dumps(o.k.describe()))
    true = {"backend": o.k.name, **{w: getattr(o.k, w) for w in ("device", "precision", "threads")}}
    for word, value in true.items():
        wrong = said.get(word) != value
        yield Finding(f"names the {word}", wrong, 0.0, "goes into the trajectory file")


def _active(o: Operands) -> Iterator[Finding]:
    with o.k.active():
        yield from _copy(o)


# -- elementwise -----------------------------------------------------------------------------------


def _entrywise(
    o: Operands, name: str, expected: Callable[[HostArray], HostArray], dtype: str | None = None
) -> Iterator[Finding]:
    for A, alias in product(o.matrices(), (None,) if dtype else (None, 0)):
        computed = o.apply(getattr(o.k, name), A, dtype=dtype, alias=alias)
        yield same(sizes_of(*A.shape), computed, expected(A).astype(dtype or o.k.dtype))


def _gate(o: Operands) -> Iterator[Finding]:
    for (A, B), alias in product(o.pairs(), (None, 0, 1)):
        computed = o.apply(o.k.gate, B, A, alias=alias)
        yield same(sizes_of(*A.shape), computed, B * (A >= 0))


def _combine(o: Operands) -> Iterator[Finding]:
    def combine(*terms: Array, out: Array) -> None:
        o.k.combine(list(zip(COEFFICIENTS, terms, strict=False)), out=out)

    def findings(*arrays: HostArray) -> Iterator[Finding]:
        count = len(arrays)
        terms = [c * A for c, A in zip(COEFFICIENTS, in_float64(*arrays), strict=False)]
        for alias in (None, 0):
            computed = o.apply(combine, *arrays, alias=alias)
            error = share(computed, np.sum(terms, axis=0), np.sum(np.abs(terms), axis=0))
            allowed = gamma(count + 1, o.rounding.unit) + gamma(count + 1, UNIT64)
            where = f"{sizes_of(*arrays[0].shape)}, {count} terms"
            yield Finding(where, error, allowed, f"gamma of a sum of {count} + 1")

    for pair in o.pairs():
        yield from findings(*pair)
    for shape in [*o.shapes, (o.sizes.m_c,)]:
        every = range(1, len(COEFFICIENTS) + 1)
        for count in every if prod(shape) < 100 else (1, 3, 8):
            yield from findings(*(o.normal(*shape) for _ in range(count)))


def _interpolate(o: Operands) -> Iterator[Finding]:
    for Y, Z in o.pairs():
        e = np.abs(np.sin(o.normal(Y.shape[1]))).astype(o.k.dtype)  # in [0, 1], zeros among them
        computed = o.apply(o.k.interpolate, e, Y, Z, shape=Y.shape)
        Y64, Z64, e64 = in_float64(Y, Z, e)
        moduli = np.abs(Z64) + e64 * (np.abs(Y64) + np.abs(Z64))
        yield o.rounded(sizes_of(*Y.shape), computed, Z64 + e64 * (Y64 - Z64), moduli, 3)


def _scaled(o: Operands, name: str) -> Iterator[Finding]:
    for (A, B), alias in product(o.pairs(), (None, 1)):
        by_rows = name == "scale_rows"
        factors = B[:, 0].copy() if by_rows else B[0].copy()
        computed = o.apply(getattr(o.k, name), factors, A, shape=A.shape, alias=alias)
        expected = factors.astype(np.float64)[:, None if by_rows else ...] * A
        yield o.rounded(sizes_of(*A.shape), computed, expected, np.abs(expected), 1)


def _take_columns(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        n = A.shape[1]
        shifted, repeated = np.roll(np.arange(n), 1), np.arange(n) // 2
        for name, order in (("shifted", shifted), ("repeated", repeated), ("back", shifted[::-1])):
            taken = o.apply(o.k.take_columns, A, order.copy(), shape=A.shape)
            yield same(f"{sizes_of(*A.shape)}, {name}", taken, A[:, order])


def _penalty_weights(o: Operands) -> Iterator[Finding]:
    # A norm of exactly 1 has weight 0, and so has one of 0.
    chosen = np.array([0.0, -0.0, 1.0, 4.0, 1e-30, 0.25, 1e30], o.k.dtype)
    drawn = [np.square(o.normal(n)) for n in (1, 6, 4001, o.sizes.n)]
    for squared, alias in product([chosen, *drawn], (None, 0)):
        computed = o.apply(lambda r, out: o.k.penalty_weights(r, 0.3, out), squared, alias=alias)
        moduli = penalty_moduli(squared.astype(np.float64), 0.3)
        norms = np.sqrt(squared.astype(np.float64))
        quotients = np.divide(norms - 1.0, norms, out=np.zeros_like(norms), where=norms > 0.0)
        where = str(squared.size)
        yield o.rounded(where, computed, quotients * 0.3, moduli, PENALTY_ROUNDINGS)


def _set_word(o: Operands) -> Iterator[Finding]:
    for value in (0, 1, 2**31, 2**40 + 3, 2**64 - 1):
        cell = o.k.empty((1,), "uint64")
        o.k.set_word(value, out=cell)
        yield same(f"{value}", o.k.to_host(cell), np.array([value], np.uint64))


def _uniforms(o: Operands) -> Iterator[Finding]:
    streams = (Stream.PENALTY_POINTS, Stream.OBSERVED_PENALTY_POINTS)
    counters = ((0, 0), (0, 1), (1, 0), (7, 4), (2**31, 59), (2**40 + 1, 2))
    for n, seed, stream in product((1, 1000, o.sizes.n), (0, 5, 2**63 - 1), streams):
        for step, update in counters:
            out = o.unset((n,))
            cell = o.load(np.array([step], np.uint64))
            o.k.uniforms(seed, stream, cell, update, out=out)
            expected = randomness.uniforms(seed, stream, step, update, n).astype(o.k.dtype)
            yield same(f"{n}, step {step}, update {update}", o.k.to_host(out), expected)


# -- reductions ------------------------------------------------------------------------------------


def _dots(o: Operands, name: str, axis: int) -> Iterator[Finding]:
    def dots(*factors: Array, out: Array) -> None:
        getattr(o.k, name)(factors[0], factors[-1], out=out)

    for (A, B), dtype, twice in product(o.pairs(), (None, "float64"), (False, True)):
        factors = (A,) if twice else (A, B)
        computed = o.apply(dots, *factors, shape=(A.shape[1 - axis],), dtype=dtype)
        terms = A.astype(np.float64) * factors[-1]
        unit, count = UNIT64 if dtype else o.rounding.unit, A.shape[axis]
        error = share(computed, terms.sum(axis), np.abs(terms).sum(axis))
        where = f"{sizes_of(*A.shape)} into {computed.dtype}"
        yield Finding(
            where, error, gamma(count, unit) + gamma(count, UNIT64), f"gamma of a sum of {count}"
        )


def _dot(o: Operands) -> Iterator[Finding]:
    for A, B in o.pairs():
        yield _total(o.k.dot(o.load(A), o.load(B)), A.astype(np.float64) * B)


def _sum(o: Operands) -> Iterator[Finding]:
    for A in o.matrices():
        yield _total(o.k.sum(o.load(A)), A.astype(np.float64))


def _total(computed: float, terms: HostArray) -> Finding:
    error = share(np.array(computed), np.array(terms.sum()), np.array(np.abs(terms).sum()))
    reason = f"gamma of a sum of {terms.size} in float64"
    return Finding(sizes_of(*terms.shape), error, 2.0 * gamma(terms.size, UNIT64), reason)


def _all_finite(o: Operands) -> Iterator[Finding]:
    for shape in o.shapes:
        A = o.normal(*shape)
        for bad, place in product((1.0, np.nan, np.inf, -np.inf), (0, A.size // 2, -1)):
            spoiled = A.copy()
            spoiled.reshape(-1)[place] = bad
            wrong = o.k.all_finite(o.load(spoiled)) != np.isfinite(bad)
            yield Finding(f"{sizes_of(*shape)} with {bad:g}", wrong, 0.0, "true or false")


def _gate_changes(o: Operands) -> Iterator[Finding]:
    for A, B in o.pairs():
        for gates in ((A >= 0), (B >= 0)):
            expected = int(np.count_nonzero((A >= 0) != gates))
            changes = o.k.gate_changes(o.load(A), o.load(gates.astype(np.uint8)))
            yield Finding(sizes_of(*A.shape), abs(changes - expected), 0.0, "a count")


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
    "replay": replay,
    "hold": hold,
    "sums": sums,
    "gemm": gemm,
    "fused": fused,
    "relu": partial(_entrywise, name="relu", expected=lambda A: np.maximum(A, 0)),
    "heaviside": partial(_entrywise, name="heaviside", expected=lambda A: A >= 0),
    "gate": _gate,
    "combine": _combine,
    "interpolate": _interpolate,
    "scale_rows": partial(_scaled, name="scale_rows"),
    "scale_columns": partial(_scaled, name="scale_columns"),
    "take_columns": _take_columns,
    "penalty_weights": _penalty_weights,
    "set_word": _set_word,
    "uniforms": _uniforms,
    "row_dots": partial(_dots, name="row_dots", axis=1),
    "column_dots": partial(_dots, name="column_dots", axis=0),
    "dot": _dot,
    "sum": _sum,
    "all_finite": _all_finite,
    "gates": partial(_entrywise, name="gates", expected=lambda A: A >= 0, dtype="uint8"),
    "gate_changes": _gate_changes,
}


def check_operations(backend: Backend, sizes: Dimensions) -> Iterator[Finding]:
    """Yield for each operation the finding closest to its allowance, or furthest beyond."""
    operands = Operands(backend, sizes)
    for name in OPERATIONS:
        yield check_operation(name, operands)
    yield Finding("operands left alone", operands.spoiled, 0.0, EXACT)


def check_operation(name: str, operands: Operands) -> Finding:
    """Return the finding of one operation closest to its allowance, or furthest beyond."""
    with np.errstate(all="ignore"):
        worst = max(OPERATIONS[name](operands), key=lambda finding: finding.severity)
    return worst._replace(item=f"{name} {worst.item}")


def large_results(backend: Backend) -> list[HostArray]:
    """Return the results of operations on fixed large operands, whose bits must be repeatable."""
    rows, columns = SHAPES[-1]
    o = Operands(backend, Dimensions(1, 1, 1, 1, 1), seed=1)
    A, B = o.normal(rows, columns), o.normal(rows, columns)
    totals = [backend.dot(o.load(A), o.load(B)), backend.sum(o.load(A))]
    return [
        o.apply(lambda A, B, out: backend.gemm(A, B.T, out), A, B, shape=(rows, rows)),
        o.apply(lambda A, B, out: backend.combine([(0.3, A), (-1.7, B)], out), A, B),
        o.apply(backend.gate, A, B),
        o.apply(backend.row_dots, A, B, shape=(rows,)),
        o.apply(backend.column_dots, A, B, shape=(columns,)),
        np.array(totals),
    ]
