"""Leading eigenvalues and modes of the flow's Jacobian, at any state.

Matrix-free, by Krylov's method, which needs only products. All in range coordinates (P = U Q with
X = Q R), which leave out only directions orthogonal to all samples: their eigenvalues are 0.

**Expected spectrum.** The Jacobian without diffusion, and that with diffusion from a frozen critic,
is blockdiag(S_j) - J^T J, with S_j the matrix of two morphogens of neuron j (eigenvalues
+-sigma_k(C_j)) and J the Jacobian of Z. So the leading eigenvalue is at most max_j sigma_1(C_j),
and at least the (1 + n d_out)-th largest of all sigma_k(C_j). At an interpolating equilibrium
(Z = Y) the Jacobian without diffusion is -J^T J, which is stable or marginal; with diffusion it
must be unstable as soon as the C_j have more than n d_out positive singular values in total.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.stability.jacobian_products import (
    DrivenOperator,
    JacobianProducts,
    WholeOperator,
    unpack,
)
from prdsim.analysis.stability.krylov import krylov_bytes, leading_pairs
from prdsim.backends import get_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.physics.charts import make_chart
from prdsim.physics.driven import Driven, driven_shapes
from prdsim.physics.model import build_model
from prdsim.physics.randomness import Stream, generator
from prdsim.physics.state import Dimensions, Shapes, State, entries
from prdsim.physics.tangent import Flow, Linearization
from prdsim.progress import Say, silent
from prdsim.running.ledger import chart_without_memory, predicted_bytes
from prdsim.running.memory import require_memory

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

MARGINAL_TOLERANCE = 1e-6
"""An eigenvalue is marginal if |Re| is at most this share of the spectral scale, the largest
absolute value of an eigenvalue; or at most the residual, which leaves its sign open."""

ACCURACY = 1e-4
"""Residual of an eigenvalue, as a share of the spectral scale. Eigenvalues of symmetric Jacobians
are far more accurate: their error is of the order of the residual's square."""

_SMALL = 400  # sizes up to which the whole matrix is cheaper than a Krylov space
_LARGEST_DENSE = 4000

FLOW_NAMES = {
    "reaction": "without diffusion",
    "frozen": "with diffusion, critic frozen",
    "joint": "with diffusion, critic moving",
}


def backend_of(config: RunConfig) -> Backend:
    """Return the backend of a configuration; raises `BackendUnavailableError`."""
    return get_backend(config.backend, precision=config.precision, threads=config.threads)


def linearize(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    weights: Mapping[str, HostArray],
    flow: Flow,
    *,
    backend: Backend | None = None,
    time: float = 0.0,
    forcing_norms: HostArray | None = None,
) -> Linearization:
    """Return the Jacobian of a flow at U, V, W, a (host arrays), in range coordinates.

    X (d_in, n), Y (d_out, n); the configuration gives the trainable arrays, D, the critic's
    constants, and the backend unless one is passed; a control's field is that of the
    time. Use the result while the backend is active.
    Raises `BackendUnavailableError`.
    """
    k = backend or backend_of(config)
    with k.active():
        chart = make_chart("range", k, X, weights["U"])
        model = build_model(config, k, chart, X, Y, forcing_norms)
        model.load_field(time)
        return Linearization(model, model.start(weights), flow)


@dataclass(frozen=True)
class Modes:
    """Leading eigenvalues of a Jacobian, by descending real part, and their modes.

    ``eigenvalues`` (k,), per unit of time, complex if one of the joint flow's is; ``residuals``
    (k,) are ||J x - lambda x|| of unit vectors x: for a symmetric Jacobian an eigenvalue lies
    within the residual of the one given. ``vectors`` (N, k) in range coordinates, see `pattern`;
    ``rescaling_shares`` (k,) the share of the squared norm in the directions (u_j, -v_j), along
    which nothing changes at an equilibrium. ``scale`` is the spectral scale, ``tolerance`` the
    largest |Re lambda| called marginal; ``size`` is N, ``requested`` the number requested (k is
    less if some did not converge or no more exist), ``products`` the number of Jacobian-vector
    products.
    """

    flow: Flow
    eigenvalues: HostArray
    residuals: HostArray
    vectors: HostArray
    rescaling_shares: HostArray
    scale: float
    tolerance: float
    size: int
    requested: int
    products: int
    drive_rate: float
    shapes: Mapping[str, tuple[int, ...]]
    basis: HostArray

    @property
    def unstable(self) -> int:
        """The number of computed modes that grow: Re lambda > tolerance."""
        return int((self.eigenvalues.real > self.tolerance).sum())

    @property
    def stable(self) -> int:
        """The number of computed modes that decay: Re lambda < -tolerance."""
        return int((self.eigenvalues.real < -self.tolerance).sum())

    @property
    def marginal(self) -> int:
        """The number of computed modes that do neither."""
        return len(self.eigenvalues) - self.unstable - self.stable

    @property
    def growth_rate(self) -> float:
        """Largest real part found, NaN if none."""
        return float(self.eigenvalues[0].real) if len(self.eigenvalues) else float("nan")

    @property
    def undecided(self) -> bool:
        """Whether the sign of the largest rate is uncertain: positive, but within the residual."""
        return MARGINAL_TOLERANCE * self.scale < self.growth_rate <= self.tolerance

    def pattern(self, index: int) -> dict[str, HostArray]:
        """Return mode ``index`` as dU (m, d_in), dV, dW, da, for the trainable arrays."""
        arrays = unpack(self.vectors[:, index], self.shapes)
        if "U" in arrays:
            arrays["U"] = arrays["U"] @ self.basis.T
        return arrays


def leading_modes(
    jacobian: Linearization,
    count: int | None = 6,
    *,
    accuracy: float = ACCURACY,
    seed: int = 0,
    say: Say = silent,
) -> Modes:
    """Return the ``count`` eigenvalues of largest real part, or all of them (None), and modes.

    In a Krylov space from a seeded start vector, by Lanczos' method or, for Jacobians that are not
    symmetric, Arnoldi's, until the residuals are below ``accuracy`` times the spectral scale;
    small Jacobians are formed. Modes that have not converged are left out; of a multiple
    eigenvalue, such as the 0 of null modes, one mode is found. Products have the backend's
    precision: float32 suffices for accuracies down to 1e-5. ``say`` is called with progress texts.
    Raises `ConfigError` for all modes of a large problem, `DataError` if products overflow.
    """
    k = jacobian.model.backend
    with k.active():
        products = JacobianProducts(jacobian)
        if count is None and products.size > _LARGEST_DENSE:
            raise ConfigError(
                f"all modes of {products.size} coordinates were requested, {_LARGEST_DENSE} are "
                "possible; request the leading ones"
            )
        wanted = products.size if count is None else min(count, products.size)
        if products.size <= _SMALL or wanted >= products.size - 1:
            found = _by_the_whole_matrix(products, wanted)
        else:
            found = _by_krylov(products, wanted, accuracy, seed, say)
        return Modes(
            flow=jacobian.flow,
            eigenvalues=found.values,
            residuals=found.residuals,
            vectors=found.vectors,
            rescaling_shares=_rescaling_shares(jacobian, found.vectors),
            scale=found.scale,
            tolerance=max(
                MARGINAL_TOLERANCE * found.scale, float(found.residuals.max(initial=0.0))
            ),
            size=products.size,
            requested=wanted,
            products=products.count,
            drive_rate=jacobian.drive_rate(),
            shapes=products.shapes,
            basis=jacobian.model.chart.arrays()["Q"],
        )


@dataclass(frozen=True)
class _Eigenpairs:
    """Eigenpairs on all coordinates, vectors (N, k), with residuals measured by products."""

    values: HostArray
    vectors: HostArray
    residuals: HostArray
    scale: float


def _by_the_whole_matrix(products: JacobianProducts, count: int) -> _Eigenpairs:
    matrix = products.dense()
    symmetric = products.jacobian.symmetric
    values, vectors = (
        np.linalg.eigh((matrix + matrix.T) / 2) if symmetric else np.linalg.eig(matrix)
    )
    order = np.argsort(-values.real, kind="stable")[:count]
    scale = float(np.abs(values).max())
    return _with_residuals(products, values[order], vectors[:, order], scale)


def _with_residuals(
    products: JacobianProducts, values: HostArray, vectors: HostArray, scale: float
) -> _Eigenpairs:
    rests = (products(x) - value * x for value, x in zip(values, vectors.T, strict=True))
    return _Eigenpairs(values, vectors, np.array([np.linalg.norm(rest) for rest in rests]), scale)


def _by_krylov(
    products: JacobianProducts, count: int, accuracy: float, seed: int, say: Say
) -> _Eigenpairs:
    """Leading eigenpairs from a seeded random start, with measured residuals.

    On driven tangents if these are the shorter vectors; on all coordinates if they are not, or if
    driven tangents fail to reach the accuracy.
    """
    start = generator(seed, Stream.KRYLOV_START).standard_normal(products.size)
    start /= np.linalg.norm(start)
    allowed = 2.0 * accuracy + 100.0 * products.precision
    if _driven_are_shorter(products.size, entries(products.jacobian.driven_shapes)):
        with suppress(ArithmeticError, np.linalg.LinAlgError):
            found = _leading_eigenpairs(
                DrivenOperator(products, start), products, count, accuracy, say
            )
            if (found.residuals <= allowed * found.scale).all():
                return found
    try:
        found = _leading_eigenpairs(WholeOperator(products, start), products, count, accuracy, say)
    except (ArithmeticError, np.linalg.LinAlgError):
        raise DataError(
            "no modes were found because products overflow: weights this large, as in a diverging "
            "run, have no usable Jacobian"
        ) from None
    kept = found.residuals <= allowed * found.scale
    values, vectors, residuals = found.values[kept], found.vectors[:, kept], found.residuals[kept]
    return _Eigenpairs(values, vectors, residuals, found.scale)


def _driven_are_shorter(whole: int, driven: int) -> bool:
    """Whether vectors of driven tangents, with their duals, take less memory than whole ones."""
    return 2 * (driven + 1) < whole


def _leading_eigenpairs(
    operator: DrivenOperator | WholeOperator,
    products: JacobianProducts,
    count: int,
    accuracy: float,
    say: Say,
) -> _Eigenpairs:
    """Leading eigenpairs by an operator, on all coordinates."""
    name = FLOW_NAMES[products.jacobian.flow]
    found = leading_pairs(
        operator,
        operator.first,
        count,
        symmetric=products.jacobian.symmetric,
        accuracy=accuracy,
        watch=lambda done: say(
            f"{name}: {done} of {count} modes after {products.count} Jacobian products"
        ),
    )
    vectors = np.empty((products.size, len(found.values)), found.vectors.dtype)
    for index, vector in enumerate(found.vectors.T):
        whole = operator.expanded(vector)
        vectors[:, index] = whole / np.linalg.norm(whole)
    return _with_residuals(products, found.values, vectors, found.scale)


def _rescaling_shares(jacobian: Linearization, vectors: HostArray) -> HostArray:
    """Share of the squared norm of each vector in the span of (u_j, -v_j), which are orthogonal."""
    if not {"U", "V"} <= set(jacobian.moving):
        return np.zeros(vectors.shape[1])
    to_host = jacobian.model.backend.to_host
    P, V = to_host(jacobian.state.U), to_host(jacobian.state.V)
    squares = np.sum(P**2, axis=1) + np.sum(V**2, axis=0)
    shares = []
    for vector in vectors.T:
        arrays = unpack(vector, jacobian.shapes)
        along = np.sum(arrays["U"] * P, axis=1) - np.sum(arrays["V"] * V, axis=0)
        shares.append(np.sum(np.abs(along[squares > 0]) ** 2 / squares[squares > 0]))
    return np.array(shares)


def modes_bytes(config: RunConfig, sizes: Dimensions, backend: Backend, flow: Flow) -> int:
    """Predict an upper bound of the bytes of `linearize` and products on the backend's device.

    `modes_host_bytes` predicts what `leading_modes` adds on the host; on a CPU both count.
    """

    def build(k: Any, X: HostArray, Y: HostArray, initial: Mapping[str, HostArray]) -> object:
        model = build_model(config, k, chart_without_memory("range", k, sizes), X, Y)
        jacobian = Linearization(model, model.start(initial), flow)
        jacobian.prepare_driven()
        # For both states and velocities: a product's operand and result, and a temporary.
        states = [State.empty(k, model.state_shapes, jacobian.moving) for _ in range(3)]
        driven = [Driven.empty(k, jacobian.driven_shapes) for _ in range(3)]
        return jacobian, states, driven

    return predicted_bytes(backend, sizes, build)


def modes_host_bytes(
    config: RunConfig, sizes: Dimensions, flow: Flow, count: int | None = 6
) -> int:
    """Predict an upper bound of the bytes on the host of the Krylov space and the modes."""
    shapes = _moving_shapes(config, sizes, flow)
    size = entries(shapes)
    if count is None or size <= _SMALL:
        return 8 * 8 * size**2  # the matrix and the workspace of its factorization
    parts = 2 if flow == "joint" else 1  # of a number, complex or real
    modes = parts * (2 * count + 6) * size + 4 * size  # as found, sorted, and temporaries
    space = krylov_bytes(size, count, euclidean=True)
    driven = entries(driven_shapes(sizes, shapes))
    if _driven_are_shorter(size, driven):
        space = max(space, krylov_bytes(driven + 1, count, euclidean=False))
    return 8 * modes + space


def _moving_shapes(config: RunConfig, sizes: Dimensions, flow: Flow) -> Shapes:
    """Upper bounds of the shapes of the trainable arrays of a flow, in range coordinates."""
    moving = [name for name in config.moving if flow == "joint" or name in "UV"]
    carried = {**sizes.state_shapes, "U": (sizes.m, min(sizes.d_in, sizes.n))}
    return {name: carried[name] for name in moving}


def check_memory(
    config: RunConfig, sizes: Dimensions, backend: Backend, flow: Flow, count: int | None
) -> None:
    """Raise `ConfigError` unless the modes of a flow fit, on the device and on the host."""
    there = modes_bytes(config, sizes, backend, flow)
    here = modes_host_bytes(config, sizes, flow, count)
    what, advice = "the modes of the Jacobian need", "take fewer samples or modes, or float32"
    host = NumpyBackend()
    if backend.device != host.device:
        require_memory(there, backend, what, advice)
    else:
        here += there
    require_memory(here, host, what, advice)
