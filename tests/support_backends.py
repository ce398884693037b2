"""What is asked of a backend beyond the rules of its protocol, on a device and on its stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np

from prdsim.physics.state import Dimensions
from prdsim.verification.operands import SHAPES, Operands, differing
from prdsim.verification.operations import OPERATIONS, check_operation

SIZES = Dimensions(d_in=7, d_out=3, n=6, m=8, m_c=5)
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 1.0, -2.5]
SUBNORMAL = [5e-324, -5e-324, 1e-40, -1e-40]
"""CuPy compiles for a device that takes those of float32 for zero."""
COEFFICIENTS = [1 / 3, -1.0, 0.3, 2.0, 1 / 7, -7.0, 1e-3, 11.0, 0.7, -0.1, 1.0]


def failures(k: Any, names: Any = OPERATIONS) -> list[Any]:
    """The findings that do not hold, of operations by name."""
    operands = Operands(k, SIZES)
    findings = [check_operation(name, operands) for name in names]
    assert operands.spoiled == 0, "operands were changed"
    return [finding for finding in findings if not finding.holds]


def elementwise(k: Any, numbers: list[float] = SPECIAL) -> None:
    """Every elementwise operation, also in place, against one NumPy expression: the same bits."""

    def combine(*terms: Any, out: Any) -> None:
        k.combine(list(zip(COEFFICIENTS, terms, strict=False)), out=out)

    def weigh(squared: Any, out: Any) -> None:
        k.penalty_weights(squared, 0.3, out=out)

    o, real = Operands(k, SIZES), k.dtype.type
    with np.errstate(all="ignore"):
        special = np.array(len(numbers) * [numbers]).astype(k.dtype)
        drawn = [(o.normal(*shape), o.normal(*shape)) for shape in SHAPES]
        for A, B in [*drawn, (special, special.T.copy())]:
            r, c, norms = o.normal(A.shape[0]), o.normal(A.shape[1]), np.sqrt(abs(A))
            weights = np.where(norms > 0, (norms - 1) / norms * real(0.3), real(0))
            cases = [
                (k.copy, [A], A, []),
                (k.relu, [A], np.where(A < 0, real(0), A), [0]),
                (k.heaviside, [A], (A >= 0).astype(k.dtype), [0]),
                (k.gate, [B, A], B * (A >= 0), [0, 1]),
                (k.interpolate, [c, A, B], B + c * (A - B), []),
                (k.scale_rows, [r, A], r[:, None] * A, [1]),
                (k.scale_columns, [c, A], c * A, [1]),
                (weigh, [abs(A).reshape(-1)], weights.reshape(-1), [0]),
            ]
            terms, total = [A], real(COEFFICIENTS[0]) * A
            for coefficient in COEFFICIENTS[1:]:  # added left to right
                cases.append((combine, list(terms), total, [0]))
                terms.append(B if len(terms) % 2 else o.normal(*A.shape))
                total = total + real(coefficient) * terms[-1]
            for operation, operands, expected, aliases in cases:
                for alias in (None, *aliases):
                    computed = o.apply(operation, *operands, shape=expected.shape, alias=alias)
                    name = (
                        f"{operation.__name__} of {len(operands)}, {A.shape}, in place of {alias}"
                    )
                    assert differing(computed, expected) == 0, name
    assert o.spoiled == 0, "operands were changed"


# Random roundings of relative size u add up to about u for each factor, whatever the length:
# 2^-53 and 2^-24 with room for longer sums. tf32 rounds factors to 2^-11, or cuts at 2^-10; an
# error below 1e-5 would be that of float32: the mode had no effect.
PRODUCT_ERRORS = {"float64": (0.0, 1e-14), "float32": (0.0, 2e-6), "tf32": (1e-5, 2e-3)}


def precision(k: Any, size: int = 256) -> None:
    """Products are as accurate as the precision says (Frobenius), and no more than it says."""
    rng, o = np.random.default_rng(3), Operands(k, SIZES)
    A, B = (rng.standard_normal((size, size)).astype(k.dtype) for _ in range(2))
    exact = A.astype(np.float64) @ B.astype(np.float64)
    error = np.linalg.norm(o.apply(k.gemm, A, B) - exact) / np.linalg.norm(exact)
    low, high = PRODUCT_ERRORS[k.precision]
    assert low <= error <= high, f"{k.precision}: {error:.1e}"
