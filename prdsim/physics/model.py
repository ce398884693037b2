"""The model on a backend: sizes, state, data, constants and the workspace of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Self

import numpy as np

from prdsim.backends.fused import Fused, Targets, leading
from prdsim.config import RunConfig
from prdsim.physics.charts import Chart, load
from prdsim.physics.forcing import Forcing
from prdsim.physics.groups import Coupling
from prdsim.physics.panels import Panels
from prdsim.physics.state import Dimensions, Shapes, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend


class Workspace:
    """The intermediate arrays of a step, allocated once.

    A = U X pre-activations and B = (V^T E) * 1{A >= 0} (m, n); Z prediction, E drive, G score
    field, Y_hat penalty points, Q critic gradients there (d_out, n); aW = a_r w_r, N the critic's
    moments, and critic_W, critic_a its gradients; e, c, squared_norms per sample (n,). ``step``
    holds the number of the step, one uint64, from which penalty points are drawn.

    A and B hold one panel of samples at a time, the others all; F is the field that acts beside
    the residual: G, or a control's.
    """

    _OF_SAMPLES = ("Z", "E", "G", "F", "Y_hat", "Q", "e", "c", "squared_norms")

    A: Array
    B: Array
    Z: Array
    E: Array
    G: Array
    F: Array
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

    def __init__(
        self, backend: Backend, dimensions: Dimensions, panels: Panels, field: Array | None = None
    ) -> None:
        """Allocate; ``field`` is a control's."""
        for name, shape in dimensions.workspace_shapes(panels.size).items():
            setattr(self, name, backend.empty(shape))
        self.F = self.G if field is None else field
        self.step = backend.empty((1,), "uint64")

    def of_panels(self, panels: Panels) -> list[Self]:
        """Return the workspace of each panel, in the memory of this one."""
        parts = [copy(self) for _ in panels.bounds]
        for name in self._OF_SAMPLES:
            for part, array in zip(parts, panels.split(getattr(self, name)), strict=True):
                setattr(part, name, array)
        for part in parts:
            shape = (self.A.shape[0], part.Z.shape[1])
            part.A, part.B = leading(self.A, shape), leading(self.B, shape)
        return parts


@dataclass(frozen=True)
class Model:
    """The equations' constants, the data and the workspace, on one backend and in one chart.

    ``diffusivity`` is D, and 0 without diffusion; ``s`` = 1/sqrt(d_out m) and ``s_c`` =
    1/sqrt(m_c) are the scalings of the two networks; ``moving`` names the arrays that move;
    ``fused`` are the backend's fused operations; ``penalty_nodes`` are the e in [0, 1] at which the
    penalty is taken, with weights that sum to 1, or () if e_p is drawn for every critic update.
    ``forcing`` is a control in the critic's place, None with the adversary.
    ``targets`` replace Y in sums over samples. ``coupling`` draws neurons to the mean of their
    group.

    ``panels`` are models of the same constants, state and sizes, each with the data of some of the
    samples, which share one workspace: a sum over samples is one over panels. Arrays with a column
    for each sample lie as `prdsim.physics.panels` says. With one panel it is the model itself.
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
    coupling: Coupling | None = None
    parts: tuple[Model, ...] = ()

    @property
    def F(self) -> Array:
        """The array of the field that acts beside the residual (d_out, n): G, or a control's."""
        return self.work.F

    @property
    def panels(self) -> tuple[Model, ...]:
        """The models of the panels, in order."""
        return self.parts or (self,)

    def split(self, array: Array) -> list[Array]:
        """Return the panels of an array with a column for each sample of this model."""
        return self.chart.panels.split(array)

    def with_moving(self, names: tuple[str, ...]) -> Model:
        """Return this model with other arrays that move."""
        parts = tuple(replace(part, moving=names) for part in self.parts)
        return replace(self, moving=names, parts=parts)

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
    dimensions, panels = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1]), chart.panels
    device_Y = panels.load(backend, Y)
    fused = backend.fused(dimensions.m, dimensions.m_c, dimensions.d_out, panels.size)
    fused.allocate()
    forcing = _forcing(config, backend, dimensions, panels, forcing_norms)
    field = None if forcing is None else forcing.field
    whole = Model(
        backend=backend,
        fused=fused,
        chart=chart,
        dimensions=dimensions,
        Y=device_Y,
        targets=Targets(device_Y, device_Y),
        work=Workspace(backend, dimensions, panels, field),
        s=1 / sqrt(dimensions.d_out * dimensions.m),
        s_c=1 / sqrt(dimensions.m_c),
        diffusivity=config.effective_diffusivity,
        forcing=forcing,
        minimax=config.critic == "minimax",
        gradient_penalty=config.gradient_penalty,
        penalty_nodes=_penalty_nodes(config.penalty_points),
        critic_rate=config.critic_rate,
        moving=config.moving,
        seed=config.seed,
        coupling=_coupling(config, backend, chart, dimensions),
    )
    few = fused.any_points and config.adversary and config.critic == "wgan-gp"
    parts = tuple(_of_panels(whole, Y, distinct=few))
    return replace(whole, parts=parts) if len(parts) > 1 else parts[0]


def _of_panels(whole: Model, Y: HostArray, *, distinct: bool) -> Iterator[Model]:
    """Yield the models of the panels, with their distinct targets if that pays."""
    panels = whole.chart.panels
    columns = (Y[:, p:q] for p, q in panels.bounds)
    views = whole.chart.of_panels(), panels.split(whole.Y), whole.work.of_panels(panels)
    for host, chart, targets, work in zip(columns, *views, strict=True):
        found = Targets(targets, targets)
        if distinct:
            found = _distinct_targets(whole.backend, host, targets)
        yield replace(
            whole,
            chart=chart,
            fused=whole.fused.for_samples(targets.shape[1]),
            Y=targets,
            targets=found,
            work=work,
        )


def _coupling(
    config: RunConfig, backend: Backend, chart: Chart, sizes: Dimensions
) -> Coupling | None:
    if config.groups is None or not config.coupled:
        return None
    return Coupling(backend, chart, config.groups, sizes, config.coupling)


def _forcing(
    config: RunConfig,
    backend: Backend,
    sizes: Dimensions,
    panels: Panels,
    norms: HostArray | None,
) -> Forcing | None:
    if not config.controlled:
        return None
    given = config.forcing_norm if isinstance(config.forcing_norm, float) else norms
    return Forcing(
        config.forcing,
        backend,
        sizes,
        panels,
        seed=config.seed,
        time=config.forcing_period,
        norms=given,
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
