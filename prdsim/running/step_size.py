"""The tangent kernel's largest eigenvalue, and the automatic step size that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isnan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.charts import WeightChart
from prdsim.physics.gradients import forward, tangent_kernel_product
from prdsim.physics.model import Model, build_model
from prdsim.physics.panels import Panels
from prdsim.physics.randomness import Stream, generator
from prdsim.physics.state import State
from prdsim.running.ledger import predicted_bytes
from prdsim.running.step_control import round_down

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend
    from prdsim.physics.charts import Chart
    from prdsim.physics.state import Dimensions

_TOLERANCE = 1e-4  # of the eigenpair's residual, relative; the eigenvalue errs by far less
_LARGEST_A = 2**23  # entries: with more pre-activations samples are taken in panels
_PRODUCTS = 200  # typically 20; after 200 two digits are certain, whatever the spectrum


def automatic_step_size(
    config: RunConfig, X: HostArray, Y: HostArray, initial: dict[str, HostArray]
) -> float:
    """Return 1 / lambda_max of K = J J^T at t = 0, rounded down to two significant digits.

    J is the Jacobian of the prediction Z in the arrays of U, V that move; the flow of L_sup is
    stable for Euler steps below 2 / lambda_max. Coupling adds kappa to it. Computed on the host in
    float64, so that every backend and precision takes the same step, whatever its memory. Raises
    `ConfigError` if no step follows: U and V frozen, no neuron active, or numbers that overflow.
    """
    host = NumpyBackend(threads=config.threads)
    with host.active():
        chart = WeightChart(host, X, initial["U"], _panels(config, X.shape[1]))
        kernel = _kernel_of(config, host, chart, X, Y, initial)
        largest = _largest(kernel)
    if isnan(largest):
        raise ConfigError(
            "step_size auto: products with the tangent kernel overflow;\n"
            "scale the data down, or give --step-size a number"
        )
    if not largest > 0.0:
        raise ConfigError(
            "step_size auto: the tangent kernel is zero (U and V frozen, all neurons inactive, or "
            "data so small that products vanish); "
            "give --step-size a number"
        )
    return round_down(1.0 / (largest + (config.coupling if config.coupled else 0.0)))


def largest_kernel_eigenvalue(model: Model, state: State) -> float:
    """Return lambda_max of K = J J^T at a state, to about four digits.

    J is the Jacobian of Z (d_out, n) in the arrays of U, V that move. K, of order d_out n, is
    symmetric and positive semidefinite; it is never formed. lambda_max is a rate, per unit of time:
    without diffusion, Euler steps are stable below 2 / lambda_max. It is 0 if neither U nor V
    moves, and NaN if products or the pre-activations overflow. The same state gives the same bits.

    Costs some 20 products with K, each about a velocity without its critic. Call it in the
    backend's `active` context. The workspace is overwritten; the state is only read.
    """
    return _largest(_Kernel(model, state))


def kernel_bytes(config: RunConfig, sizes: Dimensions) -> int:
    """Predict the bytes that `automatic_step_size` takes besides the data."""

    def build(k: Any, X: HostArray, Y: HostArray, initial: Mapping[str, HostArray]) -> object:
        chart = WeightChart(k, X, initial["U"], _panels(config, sizes.n))
        return _kernel_of(config, k, chart, X, Y, initial)

    return predicted_bytes(NumpyBackend(threads=1), sizes, build)


def _panels(config: RunConfig, n: int) -> Panels:
    """Return the panels in which the kernel is taken: all samples, unless they are very many."""
    return Panels.of(n, max(1, _LARGEST_A // config.width))


def _kernel_of(
    config: RunConfig,
    k: Backend,
    chart: Chart,
    X: HostArray,
    Y: HostArray,
    initial: Mapping[str, HostArray],
) -> _Kernel:
    """Return the kernel at t = 0; no critic takes part in it."""
    model = build_model(config.replace(critic_width=1), k, chart, X, Y)
    return _Kernel(model, model.start({**initial, "W": initial["W"][:1], "a": initial["a"][:1]}))


def _largest(kernel: _Kernel) -> float:
    """Return a kernel's largest eigenvalue, as `largest_kernel_eigenvalue` says."""
    if not kernel.moves:
        return 0.0
    if not kernel.finite:  # gates of NaN are closed: K would be 0
        return float("nan")
    start = generator(kernel.seed, Stream.KRYLOV_START).standard_normal(kernel.size)
    return _lanczos(kernel, start)


def _lanczos(kernel: _Kernel, start: HostArray) -> float:
    """Return the kernel's largest eigenvalue by the three-term recurrence, from a start (d_out n,).

    Lost orthogonality does no harm here: it repeats eigenvalues that have converged already (Paige,
    1980), and the first to converge ends the search. ARPACK, which keeps a whole basis, draws
    random numbers of its own if the Krylov space closes early, as for kernels of low rank, so that
    its last bits are not reproducible.
    """
    previous, vector = np.zeros_like(start), start / _norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    norm = 0.0
    while True:
        image = kernel(vector) - norm * previous
        diagonal.append(float(np.sum(vector * image)))
        if not isfinite(diagonal[-1]):
            return float("nan")
        image -= diagonal[-1] * vector
        values, vectors = eigh_tridiagonal(diagonal, beside)
        norm, largest = _norm(image), float(values[-1])
        if norm * abs(vectors[-1, -1]) <= _TOLERANCE * largest or len(diagonal) == _PRODUCTS:
            return largest
        beside.append(norm)
        previous, vector = vector, image / norm


def _norm(vector: HostArray) -> float:
    return sqrt(np.sum(vector**2))  # no BLAS: its threads would compete with the kernel's


class _Kernel:
    """K at a state; a call returns its product with a float64 host vector (d_out n,)."""

    def __init__(self, model: Model, state: State) -> None:
        self._model, self._state = model, state
        self._shape = (model.dimensions.d_out, model.dimensions.n)
        self.seed, self.moves = model.seed, bool({"U", "V"} & set(model.moving))
        self._velocity = State.empty(model.backend, model.state_shapes, model.moving)
        self.size = self._shape[0] * self._shape[1]
        self.finite = True
        for panel in model.panels:
            forward(panel, state)  # leaves A, H
            self.finite = self.finite and bool(model.backend.all_finite(panel.work.A))

    def __call__(self, vector: HostArray) -> HostArray:
        k, work = self._model.backend, self._model.work
        panels = self._model.chart.panels
        panels.fill(k, np.reshape(vector, self._shape), out=work.E)
        tangent_kernel_product(self._model, self._state, work.E, self._velocity)
        return panels.to_host(k, work.Z).astype(np.float64).reshape(-1)
