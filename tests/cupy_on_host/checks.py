"""Checks of a CuPy backend that hold on a device as on its stand-in.

Each takes a backend, in whose context it runs, moves arrays by `to_device` and `to_host` alone,
and raises AssertionError. Kernels are compared with one NumPy expression bit by bit, sums and
products within the bound of their rounding errors.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from prdsim.physics import randomness

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 3), (70, 41)]
# Subnormal float32 numbers are left out: CuPy compiles for a device that takes them for zero.
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 1.0, -2.5]
TF32_FACTOR = 2.0**-10  # 10 bits after the point; cut off rather than rounded, at the worst


def draw(k: Any, *shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers with zeros of both signs, in the backend's type."""
    array = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(k.dtype)
    array.reshape(-1)[::5] *= 0.0
    return array


def special(k: Any) -> np.ndarray:
    return np.array([SPECIAL, SPECIAL[::-1]]).astype(k.dtype)


def on_device(k: Any, array: np.ndarray, dtype: str | None = None) -> Any:
    out = k.empty(array.shape, dtype)
    k.to_device(array, out)
    return out


def result_of(k: Any, operation: Any, shape: tuple[int, ...], dtype: str | None = None) -> Any:
    """What an operation leaves in an array that held something else."""
    filling = 77 if dtype == "uint8" else np.nan
    out = on_device(k, np.full(shape, filling, dtype or k.dtype), dtype)
    operation(out)
    return k.to_host(out)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Entry for entry, NaN where NaN is, and of one type; -0 counts as 0."""
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )


def elementwise(k: Any) -> None:
    """Every elementwise operation, into another array and in place, to the last bit."""
    with np.errstate(all="ignore"):
        for A in [*(draw(k, *shape) for shape in SHAPES), special(k)]:
            B, C = draw(k, *A.shape, seed=1), draw(k, *A.shape, seed=2)
            r, c = draw(k, A.shape[0], seed=3), draw(k, A.shape[1], seed=4)
            a, b, d = (on_device(k, host) for host in (A, B, C))
            rows, columns = on_device(k, r), on_device(k, c)
            infinite = np.where(A < 0, k.dtype.type(np.inf), B)
            cases: list[tuple[str, Any, np.ndarray]] = [
                ("copy", lambda out: k.copy(a, out), A),  # noqa: B023 - called in this turn, like all here
                ("relu", lambda out: k.relu(a, out), np.where(A < 0, k.dtype.type(0), A)),  # noqa: B023
                ("heaviside", lambda out: k.heaviside(a, out), (A >= 0).astype(k.dtype)),  # noqa: B023
                ("gate", lambda out: k.gate(b, a, out), B * (A >= 0)),  # noqa: B023
                (
                    "gate of infinities",
                    lambda out: k.gate(on_device(k, infinite), a, out),  # noqa: B023
                    infinite * (A >= 0),
                ),
                ("interpolate", lambda out: k.interpolate(columns, b, d, out), C + c * (B - C)),  # noqa: B023
                ("scale_rows", lambda out: k.scale_rows(rows, a, out), r[:, None] * A),  # noqa: B023
                ("scale_columns", lambda out: k.scale_columns(columns, a, out), c * A),  # noqa: B023
            ]
            for name, operation, expected in cases:
                computed = result_of(k, operation, A.shape)
                assert same(computed, expected), f"{name}, shape {A.shape}"
            for operation, expected in (
                (lambda out: k.relu(out, out), np.where(A < 0, k.dtype.type(0), A)),
                (lambda out: k.gate(b, out, out), B * (A >= 0)),  # noqa: B023
                (lambda out: k.scale_columns(columns, out, out), c * A),  # noqa: B023
            ):
                out = on_device(k, A)
                operation(out)
                assert same(k.to_host(out), expected), f"in place, shape {A.shape}"
            gates = result_of(k, lambda out: k.gates(a, out), A.shape, "uint8")  # noqa: B023
            assert same(gates, (A >= 0).astype(np.uint8))
        _combinations(k)
        _penalty_weights(k)


def _combinations(k: Any) -> None:
    coefficients = [1 / 3, -1.0, 0.3, 2.0, 1 / 7, -7.0, 1e-3, 11.0, 0.7, -0.1]
    arrays = [draw(k, 5, 70, seed=seed) for seed in range(10)]
    there = [on_device(k, array) for array in arrays]
    expected = k.dtype.type(coefficients[0]) * arrays[0]
    for count in range(1, 11):
        if count > 1:
            expected = expected + k.dtype.type(coefficients[count - 1]) * arrays[count - 1]
        terms = list(zip(coefficients[:count], there[:count], strict=True))
        combined = result_of(k, lambda out: k.combine(terms, out), (5, 70))  # noqa: B023
        assert same(combined, expected), f"combination of {count}"
        first = on_device(k, arrays[0])
        k.combine([(coefficients[0], first), *terms[1:]], out=first)
        assert same(k.to_host(first), expected), f"{count} terms in place"


def _penalty_weights(k: Any) -> None:
    squared = np.array([0.0, -0.0, 1.0, 4.0, 1e-30, 0.25, 1e30]).astype(k.dtype)
    norms, scale = np.sqrt(squared), k.dtype.type(0.3)
    expected = np.where(norms > 0, (norms - 1) / norms * scale, k.dtype.type(0))
    there = on_device(k, squared)
    weights = result_of(k, lambda out: k.penalty_weights(there, 0.3, out), squared.shape)
    assert same(weights, expected), f"penalty weights {weights}"


def uniforms(k: Any) -> None:
    """The bits of `prdsim.physics.randomness.uniforms`, for large and small words."""
    for words in [(5, 5, 7, 2), (2**64 - 1, 6, 10**9, 0), (0, 5, 0, 0), (2**63, 5, 2**40, 1)]:
        for n in (1, 1000):
            seed, stream, step, update = words
            expected = randomness.uniforms(*words, n).astype(k.dtype)
            cell, out = k.empty((1,), "uint64"), on_device(k, np.full(n, np.nan))
            k.set_word(step, cell)
            k.uniforms(seed, stream, cell, update, out)
            assert same(k.to_host(out), expected), f"key, step, update {words}"


def reductions(k: Any) -> None:
    """Sums of r terms err by at most r eps of the sum of moduli, in the type of the result."""
    for shape in [*SHAPES, (1, 66_000)]:  # the last is more than one pass of all threads
        A, B = draw(k, *shape), draw(k, *shape, seed=1)
        a, b = on_device(k, A), on_device(k, B)
        exact = A.astype(np.float64) * B.astype(np.float64)
        for name in ("float64", k.dtype.name):
            for operation, axis in ((k.row_dots, 1), (k.column_dots, 0)):
                dots = result_of(k, lambda out: operation(a, b, out), (shape[1 - axis],), name)  # noqa: B023
                assert dots.dtype == name
                bound = (shape[axis] + 1) * np.finfo(name).eps * abs(exact).sum(axis)
                assert np.all(abs(dots - exact.sum(axis)) <= bound), f"dots {name}, {shape}"
        bound = A.size * np.finfo(np.float64).eps
        assert abs(k.dot(a, b) - exact.sum()) <= bound * abs(exact).sum(), f"dot, {shape}"
        total = A.astype(np.float64).sum()
        assert abs(k.sum(a) - total) <= bound * abs(A.astype(np.float64)).sum(), f"sum, {shape}"
        gates = on_device(k, (A >= 0).astype(np.uint8), "uint8")
        assert k.gate_changes(a, gates) == 0
        assert k.gate_changes(b, gates) == np.count_nonzero((A >= 0) != (B >= 0))
        assert k.all_finite(a)
        places = {0, A.size // 2, A.size - 1} if A.size < 66_000 else {A.size - 1}
        for bad, place in product((np.nan, np.inf, -np.inf), places):
            broken = A.copy()
            broken.reshape(-1)[place] = bad
            assert not k.all_finite(on_device(k, broken)), f"{bad} at {place} of {shape}"
    assert np.isnan(k.dot(on_device(k, special(k)), on_device(k, special(k))))


def products(k: Any) -> None:
    """Every layout, alpha, beta and size; r products err by (r + 3) eps of the sum of moduli.

    tf32 cuts each factor to 10 bits first. With beta = 0 whatever was there is ignored.
    """
    eps = np.finfo(k.dtype).eps
    for sizes in [(1, 1, 1), (1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 6, 1), (9, 8, 7), (33, 70, 20)]:
        rows, inner, columns = sizes
        allowed = (inner + 3) * eps + (2.1 * TF32_FACTOR if k.precision == "tf32" else 0.0)
        # The same numbers in both layouts: A, and the transpose of an array that holds A.T.
        A, B = draw(k, rows, inner), draw(k, inner, columns, seed=1)
        a_layouts = [on_device(k, A), on_device(k, np.ascontiguousarray(A.T)).T]
        b_layouts = [on_device(k, B), on_device(k, np.ascontiguousarray(B.T)).T]
        exact = A.astype(np.float64) @ B.astype(np.float64)
        moduli = abs(A.astype(np.float64)) @ abs(B.astype(np.float64))
        before = draw(k, rows, columns, seed=2)
        out = on_device(k, before)
        for a, b in product(a_layouts, b_layouts):
            for alpha, beta in product((1.0, -0.3), (0.0, 1.0, 0.7)):
                k.to_device(before if beta else np.full_like(before, np.nan), out)
                k.gemm(a, b, out, alpha=alpha, beta=beta)
                expected = alpha * exact + (beta * before.astype(np.float64) if beta else 0.0)
                bound = allowed * (abs(alpha) * moduli + beta * abs(before))
                error = abs(k.to_host(out) - expected)
                assert np.all(error <= bound), f"gemm {sizes}, alpha {alpha}, beta {beta}"
        other = on_device(k, np.full((rows, columns), np.nan))
        k.gemm(a_layouts[0], b_layouts[0], other)
        assert np.all(abs(k.to_host(other) - exact) <= allowed * moduli), "another result array"


def product_error(k: Any, size: int = 256) -> float:
    """The error of a product of normal matrices, relative to the exact one (Frobenius)."""
    rng = np.random.default_rng(3)
    A, B = (rng.standard_normal((size, size)).astype(k.dtype) for _ in range(2))
    exact = A.astype(np.float64) @ B.astype(np.float64)
    out = k.empty((size, size))
    k.gemm(on_device(k, A), on_device(k, B), out)
    return float(np.linalg.norm(k.to_host(out) - exact) / np.linalg.norm(exact))


# Random roundings of relative size u add up to about u for each factor, whatever the length:
# 2^-53 and 2^-24 with room for longer sums. tf32 rounds factors to 2^-11, or cuts at 2^-10; an
# error below 1e-5 would be that of float32: the mode had no effect.
PRODUCT_ERRORS = {"float64": (0.0, 1e-14), "float32": (0.0, 2e-6), "tf32": (1e-5, 2e-3)}


def precision(k: Any) -> None:
    """Products are as accurate as the precision says, and no more than it says."""
    low, high = PRODUCT_ERRORS[k.precision]
    assert low <= product_error(k) <= high, f"{k.precision}: {product_error(k):.1e}"


def copies(k: Any, size: int = 3) -> None:
    """A copy to the host is of its moment: after all before it, before all after it, complete."""
    array = on_device(k, np.full((size, size), 5.0))
    k.combine([(0.2, array)], out=array)
    assert np.all(k.start_copy(array)() == 1.0), "read before it has arrived"
    copy = k.start_copy(array)
    k.combine([(5.0, array)], out=array)
    later = k.start_copy(array)
    assert np.all(k.to_host(array) == 5.0)
    assert np.all(later() == 5.0)
    assert np.all(copy() == 1.0), "overtaken"


PRIMITIVES = {
    "elementwise": elementwise,
    "uniforms": uniforms,
    "reductions": reductions,
    "products": products,
    "precision": precision,
}
