"""A run in memory: the state, the step, and what can be asked of them. No file, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from .backends import get_backend
from .charts import cheapest_chart, make_chart, range_factors
from .config import RunConfig
from .errors import DivergedError
from .gradients import velocity
from .initial import draw_initial
from .integrators import Controller, RungeKutta, make_stepper
from .memory import check_memory, needed_bytes, size_text
from .model import build_model, dimensions_of
from .observables import Observer
from .step_size import automatic_step_size
from .trajectory.rows import RestartPoint

if TYPE_CHECKING:
    from .backends.base import Backend, HostArray

_SMALLEST_STEP = 1e-12  # of the first step size; a smaller adaptive step means a blow-up


@dataclass(frozen=True)
class Resolved:
    """What the ``auto`` of a configuration came to; a resumed run uses the same."""

    backend: str
    device: str
    chart: str
    step_size: float
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


RESTART_SCALARS = ("step_size", "previous_error")
"""What a `RestartPoint` of a run carries beside step, time and arrays."""


class Simulation:
    """One run: enter it as a context, `advance` it, look at it.

    ``X`` (d_in, n) and ``Y`` (d_out, n) are host arrays, float64. ``initial`` (U, V, W, a),
    ``resolved`` and ``stored_chart`` (`Chart.arrays`) repeat those of an earlier run; without them
    they follow from ``config``. A ``backend`` given as an instance computes, whatever ``config``
    and ``resolved`` name.
    Raises `ConfigError` if the run cannot fit into memory, and `BackendUnavailableError`.

    Example::

        with Simulation(config, X, Y) as simulation:
            simulation.advance(100)
            simulation.weights()["U"]
    """

    def __init__(
        self,
        config: RunConfig,
        X: HostArray,
        Y: HostArray,
        *,
        initial: Mapping[str, HostArray] | None = None,
        resolved: Resolved | None = None,
        stored_chart: Mapping[str, HostArray] | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.config = config
        self.backend = backend or _backend(config, resolved)
        self.dimensions = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1])
        self.stepper = make_stepper(config)
        chart_name = resolved.chart if resolved else self._chart_name()
        check_memory(config, self.dimensions, self.backend, chart_name)
        if chart_name == "range" and not stored_chart:
            stored_chart = dict(zip("QR", range_factors(X), strict=True))
            if not resolved and len(stored_chart["R"]) == X.shape[0]:
                chart_name = "weight"  # the whole space: nothing to gain
        first = dict(initial or draw_initial(config, self.dimensions))
        self.resolved = resolved or self._resolve(X, Y, first, chart_name)
        self.step = 0
        self.time = 0.0
        self._step_size = self.resolved.step_size
        self._previous_error = 1.0
        self._contexts = ExitStack()
        with self.backend.active():
            chart = make_chart(chart_name, self.backend, X, first["U"], stored_chart)
            self.model = build_model(config, self.backend, chart, X, Y)
            self.state = self.model.start(first)
            self._observer = Observer(self.model, self.state)
            self._memory = self.stepper.allocate(self.model, self.state)
            if self._carried_velocities:
                velocity(self.model, self.state, out=self._memory.stages[0])
                self._memory.first_stage = True
        precision = self.config.array_precision
        self.initial = {name: array.astype(precision) for name, array in first.items()}

    def __enter__(self) -> Self:
        self._contexts.enter_context(self.backend.active())
        return self

    def __exit__(self, *exception: object) -> None:
        self._contexts.close()

    # -- going on ------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the last step, or the end time, has been reached."""
        end = self.config.end_time
        # Ten steps of 0.1 come to 1, whatever the rounding of the product.
        over = end is not None and self.time >= end * (1 - 1e-12)
        return over or self.step >= self.config.steps

    def advance(self, steps: int = 1) -> None:
        """Take up to ``steps`` accepted steps, fewer if the run is finished before.

        Raises `DivergedError` where an adaptive step size has shrunk to nothing.
        """
        for _ in range(steps):
            if self.finished:
                return
            if self.stepper.adaptive:
                self._adaptive_step()
            else:
                self._attempt(self._step_size)
                self.time = self.step * self._step_size

    def _attempt(self, step_size: float, allowed: float = float("inf")) -> float:
        """Attempt a step; let it stand if its error is allowed; return the error."""
        new, error = self.stepper.step(
            self.model, self.state, self._memory, index=self.step, step_size=step_size
        )
        if error <= allowed:
            self.stepper.accept(self.state, new, self._memory)
            self.state = new
            self.step += 1
        return error

    def _adaptive_step(self) -> None:
        assert isinstance(self.stepper, RungeKutta)
        controller = Controller(self.stepper.tableau.error_order)
        step_size, rejected = self._step_size, False
        end = self.config.end_time
        while True:
            last = end is not None and self.time + step_size >= end
            taken = end - self.time if last and end is not None else step_size
            error = self._attempt(taken, allowed=1.0)
            if error <= 1.0:
                break
            rejected = True
            step_size = taken * controller.factor_after_rejection(error)
            if step_size < _SMALLEST_STEP * self.resolved.step_size:
                raise DivergedError(
                    f"diverged: the step size fell to {step_size:.1e} at step {self.step}\n"
                    "loosen --rtol and --atol, or use a fixed-step integrator"
                )
        self.time = end if last and end is not None else self.time + taken
        factor = controller.factor(error, self._previous_error)
        self._step_size = taken * (min(1.0, factor) if rejected else factor)
        self._previous_error = max(error, 1e-4)

    # -- looking -------------------------------------------------------------------------------

    def describe(self) -> str:
        """Return in a line what is run, on what, and how much memory that is predicted to need."""
        sizes, resolved = self.dimensions, self.resolved
        needed = needed_bytes(self.config, sizes, self.backend, resolved.chart)
        count = f"{resolved.threads} thread{'s' if resolved.threads > 1 else ''}"
        threads = f", {count}" if resolved.device == "cpu" else ""
        return (
            f"{sizes.m} neurons, {sizes.n} samples, {sizes.d_in} inputs, {sizes.d_out} outputs; "
            f"{resolved.backend} on {resolved.device}{threads}, {self.config.precision}, "
            f"{resolved.chart} chart; about {size_text(needed)} of memory for arrays"
        )

    def observe(self) -> dict[str, float]:
        """Return the scalars of the present state, by the names of the file format."""
        row = self._observer.observe(self.state, step=self.step)
        return {"time": self.time, "step_size": self._step_size, **row}

    def weights(self) -> dict[str, HostArray]:
        """Return U, V, W, a of the present state on the host, as the paper has them."""
        return self.model.weights(self.state)

    def start_weights(self) -> dict[str, Callable[[], HostArray]]:
        """Begin to copy the present U, V, W, a; return what waits for each, in any thread."""
        return self.model.start_weights(self.state)

    def non_finite_array(self) -> str | None:
        """Return the name of an array that holds an infinity or NaN, if any.

        The critic's are looked at first: within a step of gd they move before U and V do, so that
        what is wrong with all of them began there.
        """
        for name in ("a", "W", "V", "U"):
            if not self.backend.all_finite(getattr(self.state, name)):
                return name
        return None

    # -- leaving and coming back ---------------------------------------------------------------

    @property
    def _carried_velocities(self) -> tuple[str, ...]:
        stepper = self.stepper
        reuses = isinstance(stepper, RungeKutta) and stepper.tableau.first_same_as_last
        return self.config.moving if reuses else ()

    @property
    def restart_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a `RestartPoint` of this run."""
        shapes = self.model.state_shapes
        velocities = {f"velocity_{name}": shapes[name] for name in self._carried_velocities}
        return {**shapes, **velocities}

    def restart_point(self) -> RestartPoint:
        """Return all that the run needs to continue with the same bits, in host memory.

        U stands in the chart's coordinates; velocity_<array> is there where the method uses its
        last stage again.
        """
        arrays = dict(self.state)
        for name in self._carried_velocities:
            arrays[f"velocity_{name}"] = getattr(self._memory.stages[0], name)
        return RestartPoint(
            self.step,
            self.time,
            {name: self.backend.to_host(array) for name, array in arrays.items()},
            {"step_size": self._step_size, "previous_error": self._previous_error},
        )

    def restore(self, point: RestartPoint) -> None:
        """Continue from a point that `restart_point` returned, in this run or an equal one."""
        self.step, self.time = point.step, point.time
        self._step_size = point.scalars["step_size"]
        self._previous_error = point.scalars["previous_error"]
        for name, array in self.state:
            self.backend.to_device(point.arrays[name], array)
        for name in self._carried_velocities:
            stage = getattr(self._memory.stages[0], name)
            self.backend.to_device(point.arrays[f"velocity_{name}"], stage)
        if self._memory.images is not None:
            self._memory.images.valid = False

    def _chart_name(self) -> str:
        if self.config.chart != "auto":
            return self.config.chart
        return cheapest_chart(self.dimensions, self.backend.name, self.backend.precision)

    def _resolve(
        self, X: HostArray, Y: HostArray, initial: dict[str, HostArray], chart: str
    ) -> Resolved:
        step_size = self.config.step_size
        if step_size == "auto":
            step_size = automatic_step_size(self.config, X, Y, initial)
        return Resolved(
            self.backend.name,
            self.backend.device,
            chart,
            float(step_size),
            self.backend.threads,
        )


def _backend(config: RunConfig, resolved: Resolved | None) -> Backend:
    if resolved is None:
        return get_backend(config.backend, precision=config.precision, threads=config.threads)
    device = resolved.device.partition(":")[2]
    name = f"{resolved.backend}:{device}" if device else resolved.backend
    return get_backend(name, precision=config.precision, threads=resolved.threads)
