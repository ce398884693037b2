"""The bare products of a step without critic: what no program in those coordinates can avoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends.numpy import NumpyBackend

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray
    from prdsim.benchmark.problem import Problem
    from prdsim.physics.state import Dimensions

CHARTS_PRODUCTS: dict[str, Callable[[Dimensions], tuple[int, bool]]] = {
    "weight": lambda sizes: (sizes.d_in, True),
    "range": lambda sizes: (min(sizes.d_in, sizes.n), True),
    "gram": lambda sizes: (sizes.n, False),
}
"""By chart: rows of what stands for X, and whether the pull-back is a product.

weight A = U X, dU += B X^T; range A = P R, dP += B R^T with X = Q R of full rank; gram A += C K,
and the velocity of C is B itself."""


class Products:
    """A, Z = V H, V^T E, dV += E H^T and the pull-back by SciPy's BLAS, in place, nothing else."""

    def __init__(
        self, problem: Problem, threads: int, chart: Callable[[Dimensions], tuple[int, bool]]
    ) -> None:
        sizes = problem.sizes
        rows, self._pulls_back = chart(sizes)
        self._backend = NumpyBackend(problem.config.precision, threads)
        self._backend.active().__enter__()
        rng = np.random.default_rng(0)

        def filled(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(self._backend.dtype)

        self.X, self.U = filled(rows, sizes.n), filled(sizes.m, rows)
        self.V, self.E = filled(sizes.d_out, sizes.m), filled(sizes.d_out, sizes.n)
        self.A, self.H, self.B = (filled(sizes.m, sizes.n) for _ in range(3))
        self.Z = filled(sizes.d_out, sizes.n)

    def prepare(self, steps: int) -> None:
        """Do nothing."""

    def advance(self, steps: int) -> None:
        """Multiply as often as so many steps would."""
        gemm = self._backend.gemm
        for _ in range(steps):
            gemm(self.U, self.X, self.A)
            gemm(self.V, self.H, self.Z)
            gemm(self.V.T, self.E, self.B)
            gemm(self.E, self.H.T, self.V, alpha=1e-9, beta=1.0)
            if self._pulls_back:
                gemm(self.B, self.X.T, self.U, alpha=1e-9, beta=1.0)

    def weights(self) -> dict[str, HostArray]:
        """Return nothing: there is no result to compare."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the BLAS and its threads."""
        return self._backend.describe()
