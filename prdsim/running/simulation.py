"""A run in memory: its state, its steps and its observables; no file and no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from prdsim.arguments import integer, number
from prdsim.config import Resolved, RunConfig
from prdsim.config.files import config_of
from prdsim.errors import PrdsimError
from prdsim.physics.charts import make_chart, range_factors
from prdsim.physics.gradients import velocity
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.physics.panels import Panels
from prdsim.physics.state import RestartPoint, State
from prdsim.running.allocation import allocate
from prdsim.running.description import description
from prdsim.running.inputs import (
    at_precision,
    check_beginning,
    check_initial,
    check_norms,
    check_samples,
)
from prdsim.running.integrators import make_stepper
from prdsim.running.resolve import backend_of, chart_and_panel, resolve
from prdsim.running.runge_kutta import RungeKutta
from prdsim.running.step_control import FixedSteps
from prdsim.running.step_size import largest_kernel_eigenvalue
from prdsim.running.warm_up import step_control, warm_up
from prdsim.schedule import Agenda, reaches

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

CARRIED_SINCE_2 = {"evaluations": 0.0, "rejected_steps": 0.0, "lambda_max": float("nan")}
"""Scalars of a `RestartPoint` since format version 2, with their values for version 1."""

RESTART_SCALARS = ("step_size", "previous_error", *CARRIED_SINCE_2)
"""Scalars of a run's `RestartPoint` besides step and time."""


class Simulation:
    """One run: enter it as a context, `advance` it, observe it.

    ``X`` (d_in, n) and ``Y`` (d_out, n) are host arrays, float64. ``initial`` (U, V, W, a),
    ``resolved`` and ``stored_chart`` (`Chart.arrays`) repeat those of an earlier run; without them
    they follow from ``config``; ``forcing_norms`` (n,) are those of a control whose norms are an
    adversarial run's. It goes on from ``restart``, if given, else begins at t = 0. A
    ``backend`` given as an instance takes precedence over ``config`` and ``resolved``.
    Raises `ConfigError` if an argument is invalid, the run does not fit into memory or begins with
    arrays that are not finite, and `BackendUnavailableError`.

    Example::

        with Simulation(config, X, Y) as simulation:
            simulation.advance(100)
            simulation.weights()["U"]
    """

    def __init__(
        self,
        config: RunConfig | Mapping[str, Any],
        X: HostArray,
        Y: HostArray,
        *,
        initial: Mapping[str, HostArray] | None = None,
        resolved: Resolved | None = None,
        stored_chart: Mapping[str, HostArray] | None = None,
        forcing_norms: HostArray | None = None,
        restart: RestartPoint | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.config = config = config_of(config)
        check_samples(X, Y)
        check_beginning(X, resolved, stored_chart, restart, backend)
        check_norms(forcing_norms, config, X.shape[1])
        self.forcing_norms = forcing_norms
        self.backend = backend or backend_of(config, resolved)
        self.dimensions = dimensions_of(config, X.shape[0], Y.shape[0], X.shape[1])
        self.stepper = make_stepper(config)
        self._given = X, Y, initial
        chart_name, panel = chart_and_panel(config, self.dimensions, self.backend, resolved)
        if chart_name == "range" and not stored_chart:
            stored_chart = dict(zip("QR", range_factors(X), strict=True))
            if not resolved and len(stored_chart["R"]) == X.shape[0]:
                chart_name = "weight"  # full rank: nothing to gain
        first = draw_initial(config, self.dimensions, X) if initial is None else initial
        check_initial(first, self.dimensions)
        self.initial = at_precision(first, config.array_precision)
        self.resolved = resolved or resolve(
            config, self.backend, X, Y, dict(first), chart_name, panel
        )
        self.step = 0
        self.time = 0.0
        self.evaluations = 0
        self._taken = 0.0
        self._lambda_max = float("nan")
        self._fixed = FixedSteps(self.resolved.step_size, self.resolved.ramp)
        self._control = step_control(self.stepper, self.resolved.step_size)
        self._contexts = ExitStack()
        with self.backend.active():
            panels = Panels.of(X.shape[1], panel)
            chart = make_chart(chart_name, self.backend, X, first["U"], stored_chart, panels)
            made = allocate(config, self.backend, chart, X, Y, first, forcing_norms)
            self.model, self.state, self._memory = made.model, made.state, made.memory
            self._observer, self._view = made.observer, made.view
            self._viewed = (-1, 0.0)
            if restart is None:
                self._begin()
            else:
                self.restore(restart)

    def __enter__(self) -> Self:
        self._contexts.enter_context(self.backend.active())
        return self

    def __exit__(self, *exception: object) -> None:
        self._contexts.close()

    def anew(self, config: RunConfig) -> Simulation:
        """Return a run of the same data from t = 0 with another configuration.

        It begins with the arrays that were given to this one, or those that the seed draws. Raises
        `ConfigError` and `BackendUnavailableError`, as the constructor does.
        """
        X, Y, initial = self._given
        norms = self.forcing_norms
        return Simulation(config, X, Y, initial=initial, forcing_norms=norms, backend=self.backend)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run the code of others: the backend's context is left meanwhile, then entered anew."""
        self._contexts.close()
        try:
            yield
        finally:
            self._contexts.enter_context(self.backend.active())

    def __repr__(self) -> str:
        return f"<Simulation at t = {self.time:.6g}, step {self.step}: {self.describe()}>"

    # -- stepping ------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the end time, or the last step, has been reached."""
        return reaches(self.time, self.config.end_time) or self.step >= self.config.step_limit

    @property
    def shown_time(self) -> float:
        """The present time, or the end time if the last step has passed it."""
        end = self.config.end_time
        return end if end is not None and reaches(self.time, end) else self.time

    @property
    def progress(self) -> tuple[float, float]:
        """The reached and the final time, or steps if the run has no end time."""
        if self.config.end_time is None:
            return self.step, self.config.step_limit
        return self.shown_time, self.config.end_time

    def advance(self, steps: int = 1, *, next_view: float = float("inf")) -> None:
        """Take up to ``steps`` accepted steps, fewer if the run is finished before.

        No step is shortened, neither for the end time nor for a record. ``next_view`` is the time
        of the next state to be viewed, which methods of fixed steps must know. Raises
        `DivergedError` if an adaptive step size has shrunk to nothing, `ConfigError` if ``steps``
        is no number of steps.
        """
        left = integer("steps", steps, least=0)
        while left > 0 and not self.finished:
            left -= self.advance_some(left, next_view=next_view)

    def advance_some(self, at_most: int, *, next_view: float = float("inf")) -> int:
        """Take a step, or some of ``at_most`` where that is faster; return how many.

        As `advance`, but for a short time: at most some 10 ms, unless a single step takes longer.
        """
        if self.stepper.adaptive:
            self._adaptive_step()
            return 1
        return self._fixed_steps(at_most, min(next_view, self.config.end_time or next_view))

    def _fixed_steps(self, at_most: int, next_view: float) -> int:
        if self.stepper.dense and next_view < self._fixed.time(self.step + 1):
            self.stepper.remember(self.model, self.state, self._memory)
        until = min(next_view, self._load_field())
        at_most = min(at_most, self.config.step_limit - self.step)
        return self._take(
            self._fixed.alike(self.step, at_most, until), self._fixed.size_of(self.step)
        )

    def _take(self, at_most: int, size: float) -> int:
        """Take a step of a size, or up to ``at_most``; return how many."""
        model, state, memory, index = self.model, self.state, self._memory, self.step
        advance = self.stepper.advance
        taken = advance(model, state, memory, index=index, step_size=size, at_most=at_most)
        self.evaluations += taken * self.stepper.evaluations
        self.step += taken
        self.time, self._taken = self._fixed.time(self.step), size
        return taken

    def _adaptive_step(self) -> None:
        end = self._load_field()
        left = end - self.time
        size = self._control.step(self._attempt, at_most=left)
        self.time = end if size == left else self.time + size

    def _load_field(self) -> float:
        """Make a control's field that of the present time; return the time up to which it holds.

        Velocities that were kept from the last step are of another field, then.
        """
        forcing = self.model.forcing
        if forcing is None:
            return float("inf")
        interval = forcing.interval(self.time)
        if forcing.load(interval):
            self._memory.forget()
        return forcing.end(interval)

    def _load_last_field(self) -> None:
        """Make a control's field that of the last step, which states are observed with."""
        forcing = self.model.forcing
        if self.stepper.adaptive:
            self.model.load_field(self.time)
        elif forcing is not None:
            forcing.load(forcing.interval(self._fixed.time(max(self.step - 1, 0))))

    def _attempt(self, step_size: float) -> float:
        """Attempt an adaptive step, accept it if its error is at most 1, and return the error."""
        stepper, memory = self.stepper, self._memory
        assert isinstance(stepper, RungeKutta)
        self.evaluations += stepper.evaluations - memory.first_stage
        new, error = stepper.attempt(self.model, self.state, memory, step_size=step_size)
        if error <= 1.0:
            stepper.accept(self.state, new, memory)
            self.state = new
            self.step += 1
            self._taken = step_size
        return error

    def _begin(self) -> None:
        """Warm the critic up, and compute the velocity that the first step begins with."""
        self._load_last_field()
        config = self.config
        critic = tuple(name for name in config.moving if name in "Wa")
        if config.critic_warmup > 0.0 and critic:
            size = self._fixed.size
            warm_up(config, self.model.with_moving(critic), self.state, self.stepper, size)
        if self._carried_velocities:
            velocity(self.model, self.state, out=self._memory.stages[0])
            self._memory.first_stage = True
            self.evaluations += 1

    def due(self, agenda: Agenda) -> list[float]:
        """Return the times of an agenda's rows that the last step has made due.

        If the run is finished, they include the last time, planned or not.
        """
        due = agenda.due(self.step, self.time)
        if not self.finished:
            return due
        last = self.shown_time
        if last == self.time:  # a planned time may exceed it by rounding
            last = max([last, *due])
        return [*(moment for moment in due if moment < last), last]

    # -- observing -----------------------------------------------------------------------------

    def describe(self) -> str:
        """Return one line with data, diffusion, sizes, backend, chart and predicted memory."""
        return description(self.config, self.dimensions, self.backend, self.resolved)

    def view(self, time: float | None = None) -> State:
        """Return the present state, or that of a time within the last step, by interpolation.

        Valid until the next call or step. States within a step exist for runs to an ``end_time``;
        for fixed steps only if `advance` was given ``next_view``. Raises `PrdsimError` for a time
        before the last step (a fault in the caller).
        """
        if time is None or number("time", time) >= self.time:
            return self.state
        if self._view is None or time < self.time - self._taken * (1 + 1e-9):
            raise PrdsimError(f"time {time:g} is not within the last step, up to {self.time:g}")
        if self._viewed == (self.step, time):
            return self._view
        self._viewed = (self.step, time)
        begun = self.time - self._taken
        self.stepper.interpolate(
            self.model,
            self.state,
            self._memory,
            fraction=min(1.0, max(0.0, (time - begun) / self._taken)),
            step_size=self._taken,
            out=self._view,
        )
        return self._view

    def observe(self, time: float | None = None) -> dict[str, float]:
        """Return the scalars of a state (see `view`), by the names of the file format."""
        row = self._observer.observe(self.view(time), step=self.step)
        return {
            "time": self.time if time is None else time,
            "step_size": self._control.step_size if self.stepper.adaptive else self._fixed.size,
            "evaluations": float(self.evaluations),
            "rejected_steps": float(self._control.rejected),
            "lambda_max": self._lambda_max,
            **row,
        }

    def measure_stability(self, time: float | None = None) -> None:
        """Measure lambda_max of the tangent kernel at a state (see `view`), for fixed steps.

        Rows of scalars repeat it until it is measured again. Adaptive methods do not need it.
        """
        if not self.stepper.adaptive:
            self._lambda_max = largest_kernel_eigenvalue(self.model, self.view(time))

    def weights(self, time: float | None = None) -> dict[str, HostArray]:
        """Return U, V, W, a of a state (see `view`) on the host, in the paper's coordinates."""
        return self.model.weights(self.view(time))

    def start_weights(self, time: float | None = None) -> dict[str, Callable[[], HostArray]]:
        """Start to copy U, V, W, a of a state (see `view`); return functions that await them.

        The functions may be called in any thread.
        """
        return self.model.start_weights(self.view(time))

    def non_finite_array(self, time: float | None = None) -> str | None:
        """Return the name of an array of a state (see `view`) that holds an infinity or NaN.

        The critic's are checked first: within a step of gd they move before U and V, so if all are
        wrong, it began there.
        """
        state = self.view(time)
        for name in ("a", "W", "V", "U"):
            if not self.backend.all_finite(getattr(state, name)):
                return name
        return None

    # -- saving and restoring ------------------------------------------------------------------

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
        """Return the host arrays and numbers that the run needs to continue with the same bits.

        U is in the chart's coordinates; methods that reuse their last stage add velocity_<array>.
        """
        arrays = dict(self.state)
        for name in self._carried_velocities:
            arrays[f"velocity_{name}"] = getattr(self._memory.stages[0], name)
        return RestartPoint(
            self.step,
            self.time,
            {name: self.backend.to_host(array) for name, array in arrays.items()},
            {
                "step_size": self._control.step_size,
                "previous_error": self._control.previous_error,
                "evaluations": float(self.evaluations),
                "rejected_steps": float(self._control.rejected),
                "lambda_max": self._lambda_max,
            },
        )

    def restore(self, point: RestartPoint) -> None:
        """Continue from a point that `restart_point` returned, in this run or an identical one."""
        self.step, self.time, self._taken = point.step, point.time, 0.0
        scalars = {**CARRIED_SINCE_2, **point.scalars}
        self._control.step_size = scalars["step_size"]
        self._control.previous_error = scalars["previous_error"]
        self.evaluations = int(scalars["evaluations"])
        self._control.rejected = int(scalars["rejected_steps"])
        self._lambda_max = scalars["lambda_max"]
        self._load_last_field()
        self._memory.forget()
        for name, array in self.state:
            self.backend.to_device(point.arrays[name], array)
        for name in self._carried_velocities:
            stage = getattr(self._memory.stages[0], name)
            self.backend.to_device(point.arrays[f"velocity_{name}"], stage)
            self._memory.first_stage = True
