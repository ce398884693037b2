"""Charts: exact coordinates in which U can be carried.

U(t) - U_0 always lies in the row space of X^T. A chart chooses coordinates for it, linear in the
velocity, so that every integrator gives the same trajectory in exact arithmetic. In each of them

    A = base + carried M,      d(carried)/dt = s B M^T  (Gram: s B),      B = (V^T E) * 1{A >= 0}

| chart  | carried                  | M                  | base      | U                    |
|--------|--------------------------|--------------------|-----------|----------------------|
| weight | U (m, d_in)              | X (d_in, n)        |           | U                    |
| range  | P = U Q (m, r)           | R (r, n), X = Q R  |           | U_0 + (P - P_0) Q^T  |
| gram   | C (m, n), 0 at the start | K = X^T X (n, n)   | A_0 = U_0 X | U_0 + C X^T        |

The base is always U_0, never a later state, so that looking at a run cannot change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from prdsim.errors import ConfigError
from prdsim.physics.panels import Panels

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend, Rates
    from prdsim.physics.state import Dimensions


_IN_SPAN = 1e-8  # relative: rounding, of inputs of any condition that a chart is used with
_ROUNDING = 1e-12  # of a difference of equal weights, relative to the weights


def load(backend: Backend, host: HostArray) -> Array:
    """Return a copy of a host array on the device."""
    array = backend.empty(host.shape)
    backend.to_device(host, array)
    return array


def _require_span(dU: HostArray, found: HostArray, U_0: HostArray) -> None:
    allowed = _IN_SPAN * np.linalg.norm(dU) + _ROUNDING * np.linalg.norm(U_0)
    if np.linalg.norm(found - dU) > allowed:
        raise ConfigError(
            "coupling: neurons of a group differ at t = 0 by more than combinations of the "
            "inputs, which this chart cannot carry; give --chart weight, or auto"
        )


def not_negative(square: float) -> float:
    """Return a square that rounding may have left below 0; NaN as it is, which `max` may lose."""
    return 0.0 if square < 0.0 else square


def row_sums(backend: Backend, A: Array, B: Array) -> HostArray:
    """Return sum_j A_ij B_ij by row, on the host, float64."""
    sums = backend.empty((A.shape[0],), "float64")
    backend.row_dots(A, B, out=sums)
    return backend.to_host(sums)


def column_sums(backend: Backend, A: Array, B: Array) -> HostArray:
    """Return sum_i A_ij B_ij by column, on the host, float64."""
    sums = backend.empty((A.shape[1],), "float64")
    backend.column_dots(A, B, out=sums)
    return backend.to_host(sums)


class Chart:
    """The coordinates of U, as integrators, gradients and files use them.

    "U" below means the carried array, in the chart's coordinates; ``A`` its pre-activations, as
    `prdsim.physics.gradients.forward` leaves them. What stands here holds for orthonormal
    coordinates of U, or of a part of it, whose value at t = 0 is ``_start``; ``_rest`` is the part
    of every ||u_j||^2 that they leave out.
    """

    name: str
    matrix: Array
    """M, by which the carried array is multiplied."""
    base: Array | None = None
    """The array added to the product, if any."""
    first_U: HostArray
    """U_0 (m, d_in), on the host."""
    carries_start = True
    """Whether the carried array holds U_0, too, and not the change since then alone."""
    pull_matrix: Array | None = None
    """M where velocities are s B M^T; None where they are s B."""
    panels: Panels
    """In which the columns of M lie; the Gram chart has but one."""

    _start: Array
    _rest: HostArray | float = 0.0

    def __init__(self, backend: Backend, U_0: HostArray) -> None:
        self._backend = backend
        self.first_U = U_0
        self._U_0 = load(backend, U_0)

    def shape(self, m: int) -> tuple[int, int]:
        """Return the shape of the carried array for m neurons."""
        return (m, self.matrix.shape[0])

    def start(self, out: Array) -> None:
        """out = the carried array at t = 0."""
        self._backend.copy(self._start, out=out)

    def of_panels(self) -> list[Self]:
        """Return the chart of each panel: with the panel's columns of M."""
        if self.pull_matrix is None:
            return [self]
        charts = [copy(self) for _ in self.panels.bounds]
        for chart, matrix in zip(charts, self.panels.split(self.matrix), strict=True):
            chart.matrix = chart.pull_matrix = matrix
            chart.panels = one_panel(matrix)
        return charts

    def weights(self, U: Array) -> Array:
        """Return the weights U (m, d_in) on the device; valid until the next call."""
        raise NotImplementedError

    def coordinates(self, dU: HostArray) -> HostArray:
        """Return the coordinates of a difference of weights (m, d_in), on the host.

        Raises `ConfigError` if it is not in the span of the inputs, and the chart holds no other.
        """
        return dU

    def squared_norm(self, dU: Array, scratch: Array) -> float:
        """Return the squared Frobenius norm, in weight space, of a difference or velocity.

        ``scratch`` is (m, n) and overwritten.
        """
        return not_negative(self._backend.dot(dU, self.image(dU, scratch)))

    def image(self, dU: Array, scratch: Array) -> Array:  # noqa: ARG002
        """Return the array whose inner product with dU is `squared_norm`; may be ``scratch``."""
        return dU

    def weight_images(self, U: Array, A: Array) -> tuple[Array, ...]:  # noqa: ARG002
        """Return the arrays whose inner products with U make up `squared_weight_norm`."""
        return (U,)

    def squared_weight_norm(self, products: Iterable[float]) -> float:
        """Return the weights' squared norm from the inner products of U with `weight_images`."""
        total = self._constant
        for product in products:
            total += product
        return not_negative(total)

    @property
    def _constant(self) -> float:
        return float(np.sum(self._rest))

    def squared_norms(self, U: Array, A: Array) -> HostArray:  # noqa: ARG002
        """Return ||u_j||^2 of the weights, (m,), float64."""
        return self._rest + self._row_sums(U, U)

    def squared_distances(self, U: Array, A: Array, scratch: Array) -> HostArray:  # noqa: ARG002
        """Return ||u_j - u_j(0)||^2, (m,), float64; ``scratch`` has U's shape, is overwritten."""
        self._backend.combine([(1.0, U), (-1.0, self._start)], out=scratch)
        return self._row_sums(scratch, scratch)

    def arrays(self) -> dict[str, HostArray]:
        """Return the arrays that a trajectory file keeps to restore the coordinates."""
        return {}

    def _row_sums(self, A: Array, B: Array) -> HostArray:
        return row_sums(self._backend, A, B)


class WeightChart(Chart):
    """U itself; 4 m d_in n operations a step."""

    name = "weight"

    def __init__(
        self, backend: Backend, X: HostArray, U_0: HostArray, panels: Panels | None = None
    ) -> None:
        super().__init__(backend, U_0)
        self.panels = panels or one_panel(X)
        self.matrix = self.pull_matrix = self.panels.load(backend, X)
        self._start = self._U_0

    def weights(self, U: Array) -> Array:
        return U


class RangeChart(Chart):
    """P = U Q in an orthonormal basis Q (d_in, r) of the range of X; 4 m r n operations a step."""

    name = "range"

    def __init__(
        self,
        backend: Backend,
        Q: HostArray,
        R: HostArray,
        U_0: HostArray,
        panels: Panels | None = None,
    ) -> None:
        super().__init__(backend, U_0)
        self._Q, self._host_Q = load(backend, Q), Q
        self.panels = panels or one_panel(R)
        self.matrix = self.pull_matrix = self.panels.load(backend, R)
        self._start, self._difference = (backend.empty(self.shape(len(U_0))) for _ in range(2))
        self._weights = backend.empty(U_0.shape)
        backend.gemm(self._U_0, self._Q, out=self._start)
        # X never reaches this part of U.
        self._rest = self._row_sums(self._U_0, self._U_0) - self._row_sums(self._start, self._start)

    def weights(self, U: Array) -> Array:
        k = self._backend
        k.combine([(1.0, U), (-1.0, self._start)], out=self._difference)
        k.copy(self._U_0, out=self._weights)
        k.gemm(self._difference, self._Q.T, out=self._weights, beta=1.0)
        return self._weights

    def coordinates(self, dU: HostArray) -> HostArray:
        found: HostArray = dU @ self._host_Q
        _require_span(dU, found @ self._host_Q.T, self.first_U)
        return found

    def arrays(self) -> dict[str, HostArray]:
        k = self._backend
        return {"Q": k.to_host(self._Q), "R": self.panels.to_host(k, self.matrix)}


class GramChart(Chart):
    """C with U = U_0 + C X^T: velocities are s B itself; 2 m n^2 operations a step.

    With D = C K = A - A_0, norms of weights are sums over C: ||C X^T||^2 = sum C * D and, since
    U_0 X = A_0, ||u_j||^2 = ||u_j(0)||^2 + sum_p C_jp (A + A_0)_jp.
    """

    name = "gram"
    carries_start = False

    def __init__(self, backend: Backend, X: HostArray, U_0: HostArray) -> None:
        super().__init__(backend, U_0)
        (m, d_in), n = U_0.shape, X.shape[1]
        self.panels = one_panel(X)
        self._X, self._host_X = load(backend, X), X
        self.matrix, self.base = backend.empty((n, n)), backend.empty((m, n))
        self._weights = backend.empty((m, d_in))
        backend.gemm(self._X.T, self._X, out=self.matrix)
        backend.gemm(self._U_0, self._X, out=self.base)
        self._squared_norms_0 = self._row_sums(self._U_0, self._U_0)

    def start(self, out: Array) -> None:
        self._backend.to_device(np.broadcast_to(0.0, out.shape), out)

    def weights(self, U: Array) -> Array:
        k = self._backend
        k.copy(self._U_0, out=self._weights)
        k.gemm(U, self._X.T, out=self._weights, beta=1.0)
        return self._weights

    def coordinates(self, dU: HostArray) -> HostArray:
        if not dU.any():
            return np.zeros((len(dU), self._host_X.shape[1]))
        found: HostArray = np.linalg.lstsq(self._host_X, dU.T)[0].T
        _require_span(dU, found @ self._host_X.T, self.first_U)
        return found

    def image(self, dU: Array, scratch: Array) -> Array:
        self._backend.gemm(dU, self.matrix, out=scratch)
        return scratch

    def weight_images(self, U: Array, A: Array) -> tuple[Array, ...]:  # noqa: ARG002
        return A, self.base

    @property
    def _constant(self) -> float:
        return float(self._squared_norms_0.sum())

    def squared_norms(self, U: Array, A: Array) -> HostArray:
        return self._squared_norms_0 + self._row_sums(U, A) + self._row_sums(U, self.base)

    def squared_distances(self, U: Array, A: Array, scratch: Array) -> HostArray:
        self._backend.combine([(1.0, A), (-1.0, self.base)], out=scratch)
        squares: HostArray = np.maximum(self._row_sums(U, scratch), 0.0)
        return squares


CHARTS = {chart.name: chart for chart in (WeightChart, RangeChart, GramChart)}


def make_chart(
    name: str,
    backend: Backend,
    X: HostArray,
    U_0: HostArray,
    stored: Mapping[str, HostArray] | None = None,
    panels: Panels | None = None,
) -> Chart:
    """Return a chart for inputs X (d_in, n) and initial weights U_0 (m, d_in).

    ``stored`` are the `Chart.arrays` of an earlier run: the basis of the range is never
    recomputed, since another library may choose a different one. ``panels``: all samples are one
    unless it is given; the Gram chart's always are.
    """
    if name == "range":
        Q, R = (stored["Q"], stored["R"]) if stored else range_factors(X)
        return RangeChart(backend, Q, R, U_0, panels)
    if name == "weight":
        return WeightChart(backend, X, U_0, panels)
    return GramChart(backend, X, U_0)


def one_panel(X: HostArray) -> Panels:
    """Return the panels of samples X (d_in, n) that are taken together."""
    return Panels.of(X.shape[1], None)


def range_factors(X: HostArray) -> tuple[HostArray, HostArray]:
    """Return Q (d_in, r) with orthonormal columns and R (r, n) with X = Q R, float64.

    r is the number of singular values above max(d_in, n) eps times the largest (those below are
    rounding errors), but at least 1, so that no array is empty.
    """
    Q, sigma, Vt = np.linalg.svd(np.asarray(X, np.float64), full_matrices=False)
    rank = max(1, int((sigma > max(X.shape) * np.finfo(np.float64).eps * sigma[0]).sum()))
    return np.ascontiguousarray(Q[:, :rank]), sigma[:rank, None] * Vt[:rank]


def cheapest_chart(sizes: Dimensions, itemsize: int, rates: Rates) -> str:
    """Return ``weight`` or ``gram``, whichever is predicted to step faster: a pure function.

    Products of the chart at a backend's declared rate, and the traffic of what is read and written
    beside them, in numbers of ``itemsize`` bytes. ``range`` depends on the rank of X, which shapes
    do not tell; it must be asked for.
    """
    m, n, d_in = sizes.m, sizes.n, sizes.d_in
    # Beside the products: A_0 read, C read and written (gram); U read and written (weight).
    work = {
        "weight": (4.0 * m * d_in * n, 2.0 * m * d_in * itemsize),
        "gram": (2.0 * m * n * n, 3.0 * m * n * itemsize),
    }

    def seconds(name: str) -> float:
        operations, traffic = work[name]
        return operations / rates.operations + traffic / rates.bytes

    return min(work, key=seconds)
