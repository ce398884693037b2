"""The model on a backend: sizes, state, data, constants and the workspace of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from prdsim.backends.fused import Targets
from prdsim.config import RunConfig
from prdsim.physics.charts import Chart, load
from prdsim.physics.forcing import Forcing
from prdsim.physics.state import Dimensions, Shapes, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend
from prdsim.backends.fused import Fused


class Workspace:
    """The intermediate arrays of a step, allocated once.

    A = U X pre-activations and B = (V^T E) * 1{A >= 0} (m, n); Z prediction, E drive, G score
    field, Y_hat penalty points, Q critic gradients there (d_out, n); aW = a_r w_r, N the critic's
    moments, and critic_W, critic_a its gradients; e, c, squared_norms per sample (n,). ``step``
    holds the number of the step, one uint64, from which penalty points are drawn.
    """

    A: Array
    B: Array
    Z: Array
    E: Array
    G: Array
    Y_hat: Array
    Q: Array
    aW: Array
    N: Array
    critic_W: Array
    critic_a: Array
    e: Array
    c: Array
    squared_norms: Array
    step: Array

    def __init__(self, backend: Backend, dimensions: Dimensions) -> None:
        for name, shape in dimensions.workspace_shapes.items():
            setattr(self, name, backend.empty(shape))
        self.step = backend.empty((1,), "uint64")


@dataclass(frozen=True)
class Model:
    """The equations' constants, the data and the workspace, on one backend and in one chart.

    ``diffusivity`` is D, and 0 without diffusion; ``s`` = 1/sqrt(d_out m) and ``s_c`` =
    1/sqrt(m_c) are the scalings of the two networks; ``moving`` names the arrays that move;
    ``fused`` are the backend's fused operations; ``penalty_nodes`` are the e in [0, 1] at which the
    penalty is taken, with weights that sum to 1, or () if e_p is drawn for every critic update.
    ``forcing`` is a control in the critic's place, None with the adversary.
    ``targets`` replace Y in sums over samples.
    """

    backend: Backend
    fused: Fused
    chart: Chart
    dimensions: Dimensions
    Y: Array
    targets: Targets
    work: Workspace
    s: float
    s_c: float
    diffusivity: float
    forcing: Forcing | None
    minimax: bool
    gradient_penalty: float
    penalty_nodes: tuple[tuple[float, float], ...]
    critic_rate: float
    moving: tuple[str, ...]
    seed: int

    @property
    def F(self) -> Array:
        """The array of the field that acts beside the residual (d_out, n): G, or a control's."""
        return self.work.G if self.forcing is None else self.forcing.field

    def load_field(self, time: float) -> None:
        """Make a control's field, if there is one, that of a step up to a time."""
        if self.forcing is not None:
            self.forcing.load(self.forcing.interval_before(time))

    @property
    def state_shapes(self) -> Shapes:
        """Shapes of the carried arrays: U in the chart's coordinates."""
        shapes = self.dimensions.state_shapes
        return {**shapes, "U": self.chart.shape(self.dimensions.m)}

    def start(self, initial: Mapping[str, HostArray]) -> State:
        """Return the state at t = 0 from V, W, a on the host; U is the chart's."""
        state = State.empty(self.backend, self.state_shapes)
        self.chart.start(out=state.U)
        for name in ("V", "W", "a"):
            self.backend.to_device(initial[name], getattr(state, name))
        return state

    def weights(self, state: State) -> dict[str, HostArray]:
        """Return U, V, W, a on the host, U in the paper's coordinates."""
        device = {**dict(state), "U": self.chart.weights(state.U)}
        return {name: self.backend.to_host(array) for name, array in device.items()}

    def start_weights(self, state: State) -> dict[str, Callable[[], HostArray]]:
        """Start to copy the present U, V, W, a to the host; see `Backend.start_copy`."""
        device = {**dict(state), "U": self.chart.weights(state.U)}
        return {name: self.backend.start_copy(array) for name, array in device.items()}


def build_model(
    config: RunConfig,
    backend: Backend,
    chart: Chart,
    X: HostArray,
    Y: HostArray,
    forcing_norms: HostArray | None = None,
) -> Model:
    """Return the model of a configuration and data (X: d_in x n, Y: d_out x n).

    ``forcing_norms`` (n,) are those of a control, if the configuration names a run for them.
    """
    dimensions = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1])
    device_Y = load(backend, Y)
    fused = backend.fused(dimensions.m, dimensions.m_c, dimensions.d_out, dimensions.n)
    fused.allocate()
    targets = Targets(device_Y, device_Y)
    if fused.any_points and config.adversary and config.critic == "wgan-gp":
        targets = _distinct_targets(backend, Y, device_Y)
    return Model(
        backend=backend,
        fused=fused,
        chart=chart,
        dimensions=dimensions,
        Y=device_Y,
        targets=targets,
        work=Workspace(backend, dimensions),
        s=1 / sqrt(dimensions.d_out * dimensions.m),
        s_c=1 / sqrt(dimensions.m_c),
        diffusivity=config.effective_diffusivity,
        forcing=_forcing(config, backend, dimensions, forcing_norms),
        minimax=config.critic == "minimax",
        gradient_penalty=config.gradient_penalty,
        penalty_nodes=_penalty_nodes(config.penalty_points),
        critic_rate=config.critic_rate,
        moving=config.moving,
        seed=config.seed,
    )


def _forcing(
    config: RunConfig, backend: Backend, sizes: Dimensions, norms: HostArray | None
) -> Forcing | None:
    if not config.controlled:
        return None
    given = config.forcing_norm if isinstance(config.forcing_norm, float) else norms
    return Forcing(
        config.forcing, backend, sizes, seed=config.seed, time=config.forcing_period, norms=given
    )


def _penalty_nodes(points: str) -> tuple[tuple[float, float], ...]:
    """Return `Model.penalty_nodes`; gauss:K is the Gauss-Legendre rule for the average over e."""
    if points == "random":
        return ()
    if points == "midpoint":
        return ((0.5, 1.0),)
    nodes, weights = np.polynomial.legendre.leggauss(int(points.removeprefix("gauss:")))
    return tuple((float(1 + x) / 2, float(w) / 2) for x, w in zip(nodes, weights, strict=True))


def _distinct_targets(backend: Backend, Y: HostArray, device_Y: Array) -> Targets:
    """Return `Model.targets`: labels are few, however many samples."""
    points, labels, counts = np.unique(Y, axis=1, return_inverse=True, return_counts=True)
    if len(counts) > Y.shape[1] // 2:
        return Targets(device_Y, device_Y)
    numbers = backend.empty(labels.shape, "int64")
    backend.to_device(labels, numbers)
    return Targets(load(backend, points), load(backend, counts * points), numbers)


def dimensions_of(config: RunConfig, d_in: int, d_out: int, n: int) -> Dimensions:
    """Return the sizes of a run on data of the given sizes."""
    return Dimensions(d_in, d_out, n, config.width, config.critic_width or config.width)
