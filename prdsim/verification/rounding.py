"""The effect of rounding on a result: models of a precision, and a reference that errs like it.

**One operation.** With unit roundoff u and gamma_k = k u / (1 - k u), a sum of r products, in any
order, with or without fused multiply-add, errs by at most gamma_r times the sum of the moduli
(Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). The factors alpha and beta,
each cast to the type, and the last addition add three roundings: gamma_{r+3}. In tf32 each factor
of a product is first cut to 10 bits (2^-10 at most) and sums are cut, not rounded (u = 2^-23).

**Many operations.** The worst case of a whole step, with every rounding aligned, is orders of
magnitude above actual errors, and would hide faults. So the float64 reference is repeated `SAMPLES`
times, and each time every operation errs at random as the precision permits (Monte Carlo
arithmetic; Parker, 1997): `PerturbedBackend`. The model itself, not an estimate, thus determines
how such errors pass through the equations, grow over the steps and flip gates. The random error of
an entry is uniform. For a sum of r products its amplitude is sqrt(r + 3) u (|result| + the root of
the sum of squares of the products): the roundings of partial sums S_i are independent and at most
u |S_i|, and no partial sum of terms in random order is expected to exceed the parenthesis, so its
deviation is not below that of any backend (the probabilistic analysis of Higham and Mary, 2019).
For operations of a few roundings the amplitude is their worst case, gamma_k.

A backend may deviate from the reference by `SPREAD` root mean squares of these separations. If an
array's error were one normal number, the least favorable case, the ratio would be Student's t with
`SAMPLES` degrees of freedom times at most sqrt(2), as both computations round: a correct backend
exceeds it once in a million comparisons, and far less often with many independent entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from prdsim.backends.arrays import HostArray as Array
from prdsim.backends.numpy import NumpyBackend

SAMPLES = 8
SPREAD = 20.0

PENALTY_ROUNDINGS = 5  # root, difference, quotient, cast and product by the scale


@dataclass(frozen=True)
class Rounding:
    """A precision: the unit roundoffs of single operations, of products' sums and factors."""

    dtype: str
    unit: float
    product_unit: float
    factor_unit: float = 0.0

    def of_product(self, terms: int) -> float:
        """The allowed error of alpha A B + beta C, as a share of the sum of moduli."""
        return gamma(terms + 3, self.product_unit) + 2.0 * self.factor_unit

    def expected_of_product(self, terms: int) -> float:
        """The statistical counterpart of `of_product`."""
        return sqrt(terms + 3) * self.product_unit + 2.0 * self.factor_unit


ROUNDING = {
    "float64": Rounding("float64", 2.0**-53, 2.0**-53),
    "float32": Rounding("float32", 2.0**-24, 2.0**-24),
    "tf32": Rounding("float32", 2.0**-24, 2.0**-23, factor_unit=2.0**-10),
}


def gamma(roundings: int, unit: float) -> float:
    """gamma_k = k u / (1 - k u); infinite where k u reaches 1."""
    share = roundings * unit
    return share / (1.0 - share) if share < 1.0 else float("inf")


class PerturbedBackend(NumpyBackend):
    """The float64 reference, each of whose operations errs at random as ``imitated`` permits."""

    def __init__(self, imitated: str, sample: int, threads: int | None = None) -> None:
        super().__init__("float64", threads)
        self._rounding = ROUNDING[imitated]
        self._random = np.random.default_rng(sample)

    def _err(self, out: Array, amplitude: Any) -> None:
        out += amplitude * self._random.uniform(-1.0, 1.0, out.shape)

    def _inexact(self, values: Any) -> Any:
        """Return where float64 numbers are not representable in the imitated type."""
        return np.asarray(values).astype(self._rounding.dtype) != values

    def _scalar(self, c: float) -> float:
        error = self._rounding.unit * self._random.uniform(-1.0, 1.0)
        return c * (1.0 + error) if self._inexact(c) else c

    def to_device(self, source: Array, out: Array) -> None:
        super().to_device(source, out)
        if out.dtype == np.float64:
            self._err(out, self._rounding.unit * np.abs(out) * self._inexact(out))

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        # With the same BLAS as the product: the threads of two would starve each other.
        squares = np.square(out) if beta != 0.0 else np.empty_like(out)
        super().gemm(np.square(A), np.square(B), squares, alpha=alpha**2, beta=beta**2)
        super().gemm(A, B, out, alpha=self._scalar(alpha), beta=self._scalar(beta))
        share = self._rounding.expected_of_product(A.shape[1])
        self._err(out, share * (np.abs(out) + np.sqrt(squares)))

    def combine(self, terms: Sequence[tuple[float, Array]], out: Array) -> None:
        moduli = sum(abs(c) * np.abs(A) for c, A in terms)
        super().combine([(self._scalar(c), A) for c, A in terms], out)
        self._err(out, gamma(len(terms), self._rounding.unit) * moduli)

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        super().interpolate(e, Y, Z, out)
        moduli = np.abs(Z) + e * (np.abs(Y) + np.abs(Z))
        self._err(out, gamma(3, self._rounding.unit) * moduli)

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        super().scale_rows(r, A, out)
        self._err(out, self._rounding.unit * np.abs(out))

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        super().scale_columns(c, A, out)
        self._err(out, self._rounding.unit * np.abs(out))

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        moduli = penalty_moduli(squared_norms, scale)
        super().penalty_weights(squared_norms, scale, out)
        self._err(out, gamma(PENALTY_ROUNDINGS, self._rounding.unit) * moduli)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        super().uniforms(seed, stream, step, update, out)
        self._err(out, self._rounding.unit * out * self._inexact(out))

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        super().row_dots(A, B, out)
        self._err_of_sums(out, np.einsum("ij,ij->i", np.square(A), np.square(B)), A.shape[1])

    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        super().column_dots(A, B, out)
        self._err_of_sums(out, np.einsum("ij,ij->j", np.square(A), np.square(B)), A.shape[0])

    def _err_of_sums(self, out: Array, squares: Array, terms: int) -> None:
        share = sqrt(terms + 3) * self._rounding.unit
        self._err(out, share * (np.abs(out) + np.sqrt(squares)))


def penalty_moduli(squared_norms: Array, scale: float) -> Array:
    """scale (1 + 1/r), to which errors of `Backend.penalty_weights` are relative; 0 where r = 0."""
    norms = np.sqrt(squared_norms)
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0.0)
    moduli: Array = abs(scale) * (1.0 + inverse) * (norms > 0.0)
    return moduli
