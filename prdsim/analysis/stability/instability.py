"""Leading eigenvalues and modes of the flow's Jacobian, and the Turing condition.

Three flows are linearized at one state (see `prdsim.physics.tangent`): U and V without diffusion,
with diffusion from a critic that holds still, and the joint flow. All of it in range coordinates (P
= U Q with X = Q R), which leave out only directions that no sample sees: their eigenvalues are 0.
Matrix-free: Krylov's method asks for products alone.

**Verdicts.** An eigenvalue decides on stability where the flow rests. A verdict is therefore given
only at a reaction equilibrium, ||R|| <= tolerance, and for the flow without diffusion. What the
Turing condition adds is conditional: the flow with diffusion does not rest there (unless D^u and
D^v vanish), so its Jacobian describes how fast two solutions that start side by side there part
from each other, d(delta)/dt = J delta, while the common drift and the masks leave J as it is. How
long that is, the rate of the drive tells, ||dE/dt|| / ||E||: growth slower than it is over before
it shows (a frozen critic pulls Z to Y + D G, where E = 0 and no C_j is left). Elsewhere eigenvalues
are instantaneous growth rates, and called so.

**What to expect.** The Jacobian of the first two flows is blockdiag(S_j) - J^T J, with S_j the
matrix of two morphogens of neuron j (eigenvalues +-sigma_k(C_j)) and J the Jacobian of Z. So the
leading eigenvalue is at most max_j sigma_1(C_j), and at least the (1 + n d_out)-th largest of all
sigma_k(C_j). At an interpolating equilibrium (Z = Y) the flow without diffusion has -J^T J, which
is stable or marginal; with diffusion it must be unstable as soon as the C_j have more than n d_out
positive singular values between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import LinearOperator, minres

from prdsim.analysis.stability.krylov import krylov_bytes, leading_pairs
from prdsim.analysis.stability.products import DrivenProducts, HostProducts, WholeProducts, unpack
from prdsim.backends import get_backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.physics.charts import CHARTS, make_chart
from prdsim.physics.driven import driven_entries, driven_shapes
from prdsim.physics.model import build_model, dimensions_of
from prdsim.physics.randomness import Stream, generator
from prdsim.physics.state import Dimensions, Shapes, State, entries
from prdsim.physics.tangent import Flow, Linearization, linearization_bytes
from prdsim.progress import Say, silent
from prdsim.running.memory import require_memory
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.base import Backend, HostArray

EQUILIBRIUM_TOLERANCE = 1e-8
"""Largest ||R|| = (||R^u||_F^2 + ||R^v||_F^2)^(1/2) that counts as a reaction equilibrium."""

MARGINAL_TOLERANCE = 1e-6
"""An eigenvalue is marginal if |Re| is at most this share of the spectral scale, the largest
absolute value of an eigenvalue; or at most the residual, which leaves its sign open."""

ACCURACY = 1e-4
"""Residual of an eigenvalue, as a share of the spectral scale. Eigenvalues of symmetric Jacobians
are better by far: their error is of the order of the residual's square."""

_SMALL = 400  # sizes up to which all of the matrix is cheaper than a Krylov space
_LARGEST_DENSE = 4000

_WORDS = {
    "reaction": "without diffusion",
    "frozen": "with diffusion, critic frozen",
    "joint": "with diffusion, critic moving",
}


def linearize(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    weights: Mapping[str, HostArray],
    flow: Flow,
    *,
    backend: Backend | None = None,
) -> Linearization:
    """Return the Jacobian of a flow at U, V, W, a (host arrays), in range coordinates.

    X (d_in, n), Y (d_out, n); the configuration says what moves, D and the critic's constants, and
    the backend unless one is given. Use it while the backend is active.
    Raises `BackendUnavailableError`.
    """
    k = backend or get_backend(config.backend, precision=config.precision, threads=config.threads)
    with k.active():
        model = build_model(config, k, make_chart("range", k, X, weights["U"]), X, Y)
        return Linearization(model, model.start(weights), flow)


# -- modes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Modes:
    """Leading eigenvalues of a Jacobian, by falling real part, and their modes.

    ``eigenvalues`` (k,), per unit of time, complex if one of the joint flow's is; ``residuals``
    (k,) are ||J x - lambda x|| of unit vectors x: for a symmetric Jacobian an eigenvalue lies
    within the residual of the one given. ``vectors`` (N, k) in range coordinates, see `pattern`;
    ``rescaling_shares`` (k,) the share of the squared norm in the directions (u_j, -v_j), along
    which nothing changes at an equilibrium. ``scale`` is the spectral scale, ``tolerance`` the
    largest |Re lambda| called marginal; ``size`` is N, ``requested`` the number asked for (fewer
    are here where not all converged, or no more are to be found), ``products`` the number of
    Jacobian-vector products.
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
        """How many of those computed grow: Re lambda > tolerance."""
        return int((self.eigenvalues.real > self.tolerance).sum())

    @property
    def stable(self) -> int:
        """How many of those computed decay: Re lambda < -tolerance."""
        return int((self.eigenvalues.real < -self.tolerance).sum())

    @property
    def marginal(self) -> int:
        """How many of those computed do neither."""
        return len(self.eigenvalues) - self.unstable - self.stable

    @property
    def growth_rate(self) -> float:
        """Largest real part found, NaN if none."""
        return float(self.eigenvalues[0].real) if len(self.eigenvalues) else float("nan")

    @property
    def undecided(self) -> bool:
        """Whether the sign of the largest rate is open: it is positive, but within the residual."""
        return MARGINAL_TOLERANCE * self.scale < self.growth_rate <= self.tolerance

    def pattern(self, index: int) -> dict[str, HostArray]:
        """Return mode ``index`` as dU (m, d_in), dV, dW, da, of the arrays that move."""
        arrays = unpack(self.vectors[:, index], self.shapes)
        if "U" in arrays:
            arrays["U"] = arrays["U"] @ self.basis.T
        return arrays

    def shares(self, index: int) -> dict[str, float]:
        """Return what share of the squared norm of a mode lies in each array."""
        arrays = unpack(self.vectors[:, index], self.shapes)
        return {name: float(np.sum(np.abs(array) ** 2)) for name, array in arrays.items()}

    def neuron_shares(self, index: int) -> HostArray:
        """Return what share of the squared norm of a mode lies in each neuron (u_j, v_j), (m,)."""
        arrays = unpack(self.vectors[:, index], self.shapes)
        axes = {"U": 1, "V": 0}
        parts = [np.sum(np.abs(arrays[n]) ** 2, axis=axes[n]) for n in axes if n in arrays]
        return np.asarray(sum(parts))


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
    small Jacobians are formed. What has not converged is left out; of an eigenvalue that many modes
    share, as the 0 of null modes, one is found. Products are of the backend's precision: float32
    does for accuracies down to 1e-5. ``say`` takes a text now and then: how far it is.
    Raises `ConfigError` for all modes of a large problem, `DataError` where products overflow.
    """
    k = jacobian.model.backend
    with k.active():
        products = HostProducts(jacobian)
        if count is None and products.size > _LARGEST_DENSE:
            raise ConfigError(
                f"all modes of {products.size} coordinates were asked for, {_LARGEST_DENSE} are "
                "possible; ask for the leading ones"
            )
        wanted = products.size if count is None else min(count, products.size)
        if products.size <= _SMALL or wanted >= products.size - 1:
            found = _by_all_of_it(products, wanted)
        else:
            found = _by_krylov(products, wanted, accuracy, seed, say)
        residuals = found.residuals
        return Modes(
            flow=jacobian.flow,
            eigenvalues=found.values,
            residuals=residuals,
            vectors=found.vectors,
            rescaling_shares=_rescaling_shares(jacobian, found.vectors),
            scale=found.scale,
            tolerance=max(MARGINAL_TOLERANCE * found.scale, float(residuals.max(initial=0.0))),
            size=products.size,
            requested=wanted,
            products=products.count,
            drive_rate=jacobian.drive_rate(),
            shapes=products.shapes,
            basis=jacobian.model.chart.arrays()["Q"],
        )


@dataclass(frozen=True)
class _Found:
    """Eigenpairs on all coordinates, vectors (N, k), with residuals measured by products."""

    values: HostArray
    vectors: HostArray
    residuals: HostArray
    scale: float

    def only(self, chosen: HostArray) -> _Found:
        return replace(
            self,
            values=self.values[chosen],
            vectors=self.vectors[:, chosen],
            residuals=self.residuals[chosen],
        )


def _by_all_of_it(products: HostProducts, count: int) -> _Found:
    matrix = products.dense()
    if products.jacobian.symmetric:
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    else:
        values, vectors = np.linalg.eig(matrix)
    order = np.argsort(-values.real, kind="stable")[:count]
    scale = float(np.abs(values).max())
    return _with_residuals(products, values[order], vectors[:, order], scale)


def _with_residuals(
    products: HostProducts, values: HostArray, vectors: HostArray, scale: float
) -> _Found:
    rests = (products(x) - value * x for value, x in zip(values, vectors.T, strict=True))
    return _Found(values, vectors, np.array([np.linalg.norm(rest) for rest in rests]), scale)


def _by_krylov(products: HostProducts, count: int, accuracy: float, seed: int, say: Say) -> _Found:
    """Leading eigenpairs from a seeded random start, of residuals that were measured.

    On driven tangents where these are the shorter vectors; on all coordinates where they are not,
    or where driven tangents cannot keep what they promise.
    """
    start = generator(seed, Stream.KRYLOV_START).standard_normal(products.size)
    start /= np.linalg.norm(start)
    allowed = 2.0 * accuracy + 100.0 * products.precision
    if _driven_are_shorter(products.size, entries(products.jacobian.driven_shapes)):
        with suppress(ArithmeticError, np.linalg.LinAlgError):
            found = _pairs(DrivenProducts(products, start), products, count, accuracy, say)
            if (found.residuals <= allowed * found.scale).all():
                return found
    try:
        found = _pairs(WholeProducts(products, start), products, count, accuracy, say)
    except (ArithmeticError, np.linalg.LinAlgError):
        raise DataError(
            "no modes were found, products overflow: weights like those of a run that diverges "
            "have no Jacobian to speak of"
        ) from None
    return found.only(found.residuals <= allowed * found.scale)


def _driven_are_shorter(whole: int, driven: int) -> bool:
    """Whether vectors of driven tangents, kept with their duals, take less than whole ones."""
    return 2 * (driven + 1) < whole


def _pairs(
    operator: DrivenProducts | WholeProducts,
    products: HostProducts,
    count: int,
    accuracy: float,
    say: Say,
) -> _Found:
    """Leading eigenpairs by an operator, on all coordinates."""
    words = _WORDS[products.jacobian.flow]
    found = leading_pairs(
        operator,
        operator.first,
        count,
        symmetric=products.jacobian.symmetric,
        accuracy=accuracy,
        watch=lambda done: say(
            f"{words}: {done} of {count} modes after {products.count} Jacobian products"
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
    """Predict the bytes that `linearize` and products take where they compute, at the most.

    What `leading_modes` adds on the host, `modes_host_bytes` tells; on a CPU both count.
    """
    fused = backend.fused(sizes.m, sizes.m_c, sizes.d_out, sizes.n)
    model = entries(sizes.workspace_shapes) + fused.entries
    driven = driven_entries(sizes, _moving_shapes(config, sizes, flow))
    return linearization_bytes(sizes, backend, flow) + (model + driven) * backend.dtype.itemsize


def modes_host_bytes(
    config: RunConfig, sizes: Dimensions, flow: Flow, count: int | None = 6
) -> int:
    """Predict the bytes on the host of the Krylov space and of the modes, at the most."""
    shapes = _moving_shapes(config, sizes, flow)
    size = entries(shapes)
    if count is None or size <= _SMALL:
        return 8 * 8 * size**2  # the matrix and what its factorization needs
    parts = 2 if flow == "joint" else 1  # of a number, real or complex
    modes = parts * (2 * count + 6) * size + 4 * size  # found and in order, and some in passing
    space = krylov_bytes(size, count, euclidean=True)
    driven = entries(driven_shapes(sizes, shapes))
    if _driven_are_shorter(size, driven):
        space = max(space, krylov_bytes(driven + 1, count, euclidean=False))
    return 8 * modes + space


def _moving_shapes(config: RunConfig, sizes: Dimensions, flow: Flow) -> Shapes:
    """Shapes of the arrays that move in a flow, in range coordinates, at the most."""
    moving = [name for name in config.moving if flow == "joint" or name in "UV"]
    carried = {**sizes.state_shapes, "U": (sizes.m, CHARTS["range"].columns(sizes))}
    return {name: carried[name] for name in moving}


def _check_memory(
    config: RunConfig, sizes: Dimensions, backend: Backend, flow: Flow, count: int | None
) -> None:
    """Raise `ConfigError` unless the modes of a flow fit, on the device and on the host."""
    there = modes_bytes(config, sizes, backend, flow)
    here = modes_host_bytes(config, sizes, flow, count)
    what, advice = "the modes of the Jacobian", "take fewer samples or modes, or float32"
    host = NumpyBackend()
    if backend.device != host.device:
        require_memory(there, backend, what, advice)
    else:
        here += there
    require_memory(here, host, what, advice)


# -- equilibria ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equilibrium:
    """Where the reaction came to rest, or how near it came.

    ``weights`` are U, V, W, a (W, a as they were); ``reaction_norm`` is ||R|| there, ``loss``
    L_sup; ``run_norm`` is ||R|| at the end of the run, before the Newton steps, ``newton_steps``
    their number, and ``newton_distance`` how far they moved U and V, relative to the norm.
    """

    weights: Mapping[str, HostArray]
    reaction_norm: float
    loss: float
    tolerance: float
    run_norm: float
    newton_steps: int
    newton_distance: float

    @property
    def reached(self) -> bool:
        """Whether ||R|| is at most the tolerance."""
        return self.reaction_norm <= self.tolerance


def find_equilibrium(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    *,
    initial: Mapping[str, HostArray] | None = None,
    tolerance: float = EQUILIBRIUM_TOLERANCE,
    newton_steps: int = 60,
    backend: Backend | None = None,
    say: Say = silent,
) -> Equilibrium:
    """Return where a run without diffusion comes to rest: ||R|| <= tolerance, if it can be reached.

    The run takes all steps of the configuration, from its initial draw or ``initial``; damped
    Newton steps (on the true Hessian of L_sup, matrix-free by MINRES) do the rest. A step stands
    if it lowers L_sup or, where rounding hides that, ||R||; it is damped more otherwise. Minima
    that lie on a kink are not reached, and the answer says so. Meant for small problems; ``say``
    takes a text now and then: how far it is.
    Raises `DivergedError` as the run does.
    """
    alone = config.replace(diffusion=False)
    with Simulation(alone, X, Y, initial=initial, backend=backend) as simulation:
        simulation.advance(alone.step_limit)
        weights = {name: array.astype(np.float64) for name, array in simulation.weights().items()}
    jacobian = linearize(alone, X, Y, weights, "reaction", backend=simulation.backend)
    with jacobian.model.backend.active():
        return _Newton(jacobian, tolerance, say).polish(weights, newton_steps)


class _Newton:
    """Damped Newton steps towards R = 0."""

    def __init__(self, jacobian: Linearization, tolerance: float, say: Say) -> None:
        self._jacobian, self._tolerance, self._say = jacobian, tolerance, say
        self._products = HostProducts(jacobian)
        self._velocity = State.empty(
            jacobian.model.backend, jacobian.model.state_shapes, jacobian.moving
        )
        self._trial = State.empty(jacobian.model.backend, jacobian.model.state_shapes)

    def polish(self, weights: Mapping[str, HostArray], steps: int) -> Equilibrium:
        products, model = self._products, self._jacobian.model
        first = position = products.pack(self._jacobian.state).astype(np.float64)
        R, loss = self._at(position)
        run_norm = norm = float(np.linalg.norm(R))
        scale = norm / (float(np.linalg.norm(position)) or 1.0)
        damping, taken = scale, 0
        while norm > self._tolerance and taken < steps and damping < 1e12 * (scale or 1.0):
            trial = position + self._step(position, R, damping)
            new_R, new_loss = self._at(trial)
            gained = loss - new_loss
            nearer = abs(gained) <= 1e-12 * loss and np.linalg.norm(new_R) < norm
            if gained > 1e-12 * loss or nearer:
                position, R, loss = trial, new_R, new_loss
                norm, damping, taken = float(np.linalg.norm(R)), damping / 10.0, taken + 1
            else:
                damping *= 10.0
        self._at(position)
        return Equilibrium(
            weights={**weights, **_host_weights(model.weights(self._jacobian.state))},
            reaction_norm=norm,
            loss=loss,
            tolerance=self._tolerance,
            run_norm=run_norm,
            newton_steps=taken,
            newton_distance=float(np.linalg.norm(position - first) / np.linalg.norm(first)),
        )

    def _at(self, position: HostArray) -> tuple[HostArray, float]:
        """Linearize at a position; return R there, as a vector, and L_sup."""
        k, model = self._jacobian.model.backend, self._jacobian.model
        for name, array in self._jacobian.state:
            k.copy(array, out=getattr(self._trial, name))
        for name, part in unpack(position, self._products.shapes).items():
            k.to_device(part, getattr(self._trial, name))
        self._jacobian.at(self._trial)
        self._jacobian.velocity(self._velocity)
        return self._products.pack(self._velocity), k.dot(model.work.E, model.work.E) / 2

    def _step(self, position: HostArray, R: HostArray, damping: float) -> HostArray:
        """Solve (damping - J) step = R, with J the Jacobian of R at the position."""
        self._at(position)
        products, size = self._products, len(position)
        operator = LinearOperator(
            (size, size), matvec=lambda x: damping * x - products(x), dtype=np.float64
        )
        step: HostArray = minres(
            operator, R, rtol=1e-10, maxiter=5 * size, callback=lambda _: self._tell(R)
        )[0]
        return step

    def _tell(self, R: HostArray) -> None:
        self._say(
            f"equilibrium: ||R|| = {np.linalg.norm(R):.2g} after {self._products.count} Jacobian "
            "products"
        )


def _host_weights(weights: Mapping[str, HostArray]) -> dict[str, HostArray]:
    return {name: array.astype(np.float64) for name, array in weights.items() if name in "UV"}


# -- the verdict -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stability:
    """Leading modes of the three flows at one state, and what may be concluded from them.

    ``modes`` holds "reaction" and, with diffusion in the configuration, "frozen" and "joint";
    ``reaction_norm`` is ||R||, ``diffusion_norm`` ||D (D^u, D^v)||, the constant pull that moves
    the state away while the modes grow. ``interpolation_nulls`` is the least number of null modes
    that more coordinates than residuals, N - n d_out, leave at Z = Y; ``rescaling_nulls`` that of
    the directions (u_j, -v_j), null at every equilibrium, and among the former at Z = Y.
    """

    modes: Mapping[Flow, Modes]
    reaction_norm: float
    diffusion_norm: float
    tolerance: float
    rescaling_nulls: int
    interpolation_nulls: int

    @property
    def equilibrium(self) -> bool:
        """Whether the reaction rests here: ||R|| <= tolerance."""
        return self.reaction_norm <= self.tolerance

    @property
    def stable_without(self) -> bool | None:
        """Whether no mode found grows without diffusion; None where no verdict is possible."""
        reaction = self.modes["reaction"]
        if not self.equilibrium or not len(reaction.eigenvalues) or reaction.undecided:
            return None
        return reaction.unstable == 0

    def turing(self, flow: Flow = "frozen") -> bool | None:
        """Whether the Turing condition holds: no growth without diffusion, growth with.

        ``flow`` is "frozen" or "joint". None where no verdict is possible: without an equilibrium,
        without diffusion in the configuration, or where no mode was found or the sign of its rate
        is open.
        """
        with_diffusion = self.modes.get(flow)
        if self.stable_without is None or with_diffusion is None:
            return None
        if not len(with_diffusion.eigenvalues) or with_diffusion.undecided:
            return None
        return self.stable_without and with_diffusion.unstable > 0

    @property
    def verdict(self) -> str:
        """What may be said, in one line a flow."""
        if not self.equilibrium:
            head = (
                f"instantaneous growth rates, no verdict: no reaction equilibrium "
                f"(||R|| = {self.reaction_norm:.2g} > {self.tolerance:.2g})"
            )
            return "\n".join([head, *(_rates(modes) for modes in self.modes.values())])
        head = (
            f"reaction equilibrium (||R|| = {self.reaction_norm:.2g} <= {self.tolerance:.2g}); "
            f"null modes: {self.rescaling_nulls} of rescaling, and at Z = Y at least "
            f"{self.interpolation_nulls} in all"
        )
        lines = [head, *(_rates(modes) for modes in self.modes.values())]
        for flow, words in (("frozen", "critic frozen"), ("joint", "critic moving")):
            holds = self.turing(flow)  # type: ignore[arg-type]
            if holds is not None:
                lines.append(f"Turing condition, {words}: {'holds' if holds else 'does not hold'}")
        return "\n".join(lines)


def _rates(modes: Modes) -> str:
    found = len(modes.eigenvalues)
    missing = "" if found == modes.requested else f" ({modes.requested} asked for)"
    return (
        f"{_WORDS[modes.flow]}: leading rate {modes.growth_rate:+.4g}; "
        f"of {found} modes found{missing} {modes.unstable} grow, "
        f"{modes.marginal} marginal (|Re| <= {modes.tolerance:.1g}), "
        f"{modes.stable} decay; residuals <= {modes.residuals.max(initial=0.0):.1g}; "
        f"the drive changes at a rate of {modes.drive_rate:.2g}"
    )


def assess_stability(
    config: RunConfig,
    X: HostArray,
    Y: HostArray,
    weights: Mapping[str, HostArray],
    *,
    count: int | None = 6,
    accuracy: float = ACCURACY,
    tolerance: float = EQUILIBRIUM_TOLERANCE,
    seed: int = 0,
    backend: Backend | None = None,
    say: Say = silent,
) -> Stability:
    """Return the leading modes at U, V, W, a, without and with diffusion, and the verdict.

    X (d_in, n), Y (d_out, n) and weights on the host, as the paper has them. Without diffusion in
    the configuration the flow without it is all there is. ``tolerance`` bounds ||R|| of an
    equilibrium; the rest is as for `leading_modes`.
    Raises `ConfigError` if neither U nor V moves, or if the memory does not suffice.
    """
    if not {"U", "V"} & set(config.moving):
        raise ConfigError("trainable: neither U nor V moves, so that no pattern can grow")
    k = backend or get_backend(config.backend, precision=config.precision, threads=config.threads)
    sizes = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1])
    flows: tuple[Flow, ...] = ("reaction", "frozen", "joint") if config.adversary else ("reaction",)
    _check_memory(config, sizes, k, flows[-1], count)
    modes: dict[Flow, Modes] = {}
    norms: dict[Flow, float] = {"frozen": 0.0}
    size = 0
    for flow in flows:
        jacobian = linearize(config, X, Y, weights, flow, backend=k)
        modes[flow] = leading_modes(jacobian, count, accuracy=accuracy, seed=seed, say=say)
        if flow != "joint":
            norms[flow] = _velocity_norm(jacobian, diffusion=flow == "frozen")
            size = entries(jacobian.shapes)
    both = {"U", "V"} <= set(config.moving)
    return Stability(
        modes=modes,
        reaction_norm=norms["reaction"],
        diffusion_norm=norms["frozen"],
        tolerance=tolerance,
        rescaling_nulls=sizes.m if both else 0,
        interpolation_nulls=max(0, size - sizes.n * sizes.d_out),
    )


def _velocity_norm(jacobian: Linearization, *, diffusion: bool) -> float:
    """||R||, or ||D (D^u, D^v)||, over the arrays that move."""
    model, k = jacobian.model, jacobian.model.backend
    with k.active():
        out = State.empty(k, model.state_shapes, jacobian.moving)
        jacobian.velocity(out, model.work.G if diffusion else None)
        squares = sum(k.dot(array, array) for _, array in out if array is not None)
    return (model.diffusivity if diffusion else 1.0) * sqrt(squares)
