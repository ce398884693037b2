"""Time stepping: alternating descent, and explicit Runge-Kutta methods for the joint flow.

A stepper is stateless: a tableau, an order, and three functions. ``allocate`` makes the memory
that steps need; ``step`` attempts one step of given size and returns the new state and an error
estimate; ``interpolate`` gives the states within the last step. Whether an attempt stands, and how
large the next one is, `Controller` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Protocol

from .config import RunConfig
from .errors import DivergedError
from .gradients import begin_step, critic_gradient, drive, forward, generator_velocity, velocity
from .model import Model, State

if TYPE_CHECKING:
    from prdsim.backends.base import Array


@dataclass(slots=True)
class Images:
    """What a step of bs23 in the Gram chart takes over from the one before, each (m, n).

    ``A``: pre-activations at the state that it begins at; ``G`` = k_1 M, how fast they change
    there; ``new_A``, ``new_G``: the same at the new state, should it be accepted. The error's norm
    takes new_G, and the next step's second stage begins at A + h a_21 G: a product with M that is
    made once serves both. ``valid`` says that A and G are those of the state.
    """

    A: Array
    G: Array
    new_A: Array
    new_G: Array
    valid: bool = False

    def compute(self, model: Model, state: State, first_stage: State) -> None:
        """Compute A and G anew: the same bits that an accepted step would have left."""
        forward(model, state)
        model.backend.copy(model.work.A, out=self.A)
        model.backend.gemm(first_stage.U, model.chart.matrix, out=self.G)
        self.valid = True

    def accept(self) -> None:
        """Make the new state the one that the next step begins at."""
        self.A, self.new_A, self.G, self.new_G = self.new_A, self.A, self.new_G, self.G


@dataclass(slots=True, eq=False, weakref_slot=True)
class Memory:
    """What a stepper keeps between and within steps, allocated once.

    ``stages`` holds velocities; ``trial`` the state of a stage, in the end the new state, and
    once a step stands the one before it; ``error`` the estimate's difference; ``last`` the velocity
    at the present state, where no stage is and states between steps are asked for (``last_known``:
    it has been computed). ``first_stage`` says that stages[0] already is that velocity (first same
    as last). ``swapped`` changes whenever the states change places: it tells which of the two a
    step begins at. Recordings of steps live as long.
    """

    stages: list[State] = field(default_factory=list)
    trial: State | None = None
    error: State | None = None
    last: State | None = None
    last_known: bool = False
    first_stage: bool = False
    swapped: bool = False
    images: Images | None = None


class Stepper(Protocol):
    """The contract of a time-stepping method.

    ``dense`` says that states within a step will be asked for, which may take memory. ``order`` is
    that of the solution at a fixed time, ``dense_order`` that of states within a step; ``adaptive``
    says whether `step` returns an error estimate; ``copies`` counts the states that `allocate`
    makes, and ``evaluations`` the velocities of a step, the first one included. ``stability_limit``
    is the largest h lambda for which dx/dt = -lambda x does not grow; ``images`` counts the arrays
    (m, n) that `allocate` makes beside the states in the Gram chart.
    """

    name: str
    order: int
    dense_order: int
    adaptive: bool
    copies: int
    images: int
    evaluations: int
    stability_limit: float
    dense: bool

    def allocate(self, model: Model, state: State) -> Memory:
        """Return the memory for steps that begin at ``state``."""

    def step(
        self, model: Model, state: State, memory: Memory, *, index: int, step_size: float
    ) -> tuple[State, float]:
        """Attempt step ``index`` (from 0); return the new state and the error norm, 1 allowed.

        A stepper that is not adaptive may advance ``state`` in place and returns error 0. An
        adaptive one leaves ``state`` untouched; the attempt stands once `accept` is called.
        """

    def accept(self, old: State, new: State, memory: Memory) -> None:
        """Take back the old state's arrays as memory; call it after every step that stands."""

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        """Keep what `interpolate` needs of the state before a step; call it before that step."""

    def interpolate(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        fraction: float,
        step_size: float,
        out: State,
    ) -> None:
        """out = the state at a ``fraction`` in (0, 1) of the last accepted step, of its size.

        Of the arrays that move. ``state`` is the one after it; the next step's bits do not depend
        on the call.
        """


@dataclass(frozen=True)
class AlternatingDescent:
    """The paper's algorithm: ``critic_steps`` critic updates at a fixed Z, then an Euler step.

    U and V move together, with the new critic; the state is advanced in place. An update has the
    size critic_rate step_size / critic_steps, so that the critic follows its flow at that rate as
    the step goes to 0, or a size of its own. States within a step lie on the straight line.
    """

    critic_steps: int
    critic_rate: float = 1.0
    critic_step_size: float | None = None
    dense: bool = False
    name: str = "gd"
    order: int = 1
    dense_order: int = 1
    adaptive: bool = False
    images: int = 0
    evaluations: int = 1
    stability_limit: float = 2.0

    @property
    def copies(self) -> int:
        return int(self.dense)

    def allocate(self, model: Model, state: State) -> Memory:
        return Memory(trial=beside(model, state) if self.dense else None)

    def critic_update_size(self, step_size: float) -> float:
        """Return the size of one critic update within a step."""
        if self.critic_step_size is not None:
            return self.critic_step_size
        return self.critic_rate * step_size / max(self.critic_steps, 1)

    def step(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        index: int,
        step_size: float,
    ) -> tuple[State, float]:
        size = self.critic_update_size(step_size)

        def operations() -> None:
            forward(model, state)
            self.update_critic(model, state, range(self.critic_steps), size)
            drive(model, state)
            generator_velocity(model, state, model.work.E, out=state, alpha=step_size, beta=1.0)

        begin_step(model, index)
        model.backend.replay(memory, (size, step_size), operations)
        return state, 0.0

    def update_critic(
        self, model: Model, state: State, updates: Iterable[int], step_size: float
    ) -> None:
        """Take critic updates by number, which random penalty points depend on; reads Z, step."""
        k, work = model.backend, model.work
        if not {"W", "a"} & set(model.moving):
            return
        for update in updates:
            critic_gradient(model, state, update=update)
            if "W" in model.moving:
                k.combine([(1.0, state.W), (-step_size, work.critic_W)], out=state.W)
            if "a" in model.moving:
                k.combine([(1.0, state.a), (-step_size, work.critic_a)], out=state.a)

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        assert memory.trial is not None
        for name in model.moving:
            model.backend.copy(getattr(state, name), out=getattr(memory.trial, name))

    def accept(self, old: State, new: State, memory: Memory) -> None:
        """Do nothing: the state was advanced in place."""

    def interpolate(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        fraction: float,
        step_size: float,  # noqa: ARG002 - the line between two states
        out: State,
    ) -> None:
        for name in model.moving:
            old, new = getattr(memory.trial, name), getattr(state, name)
            terms = [(1.0 - fraction, old), (fraction, new)]
            model.backend.combine(terms, out=getattr(out, name))


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stage i starts from y + h sum_j a[i][j] k_j.

    ``b`` weights the solution; ``error`` (b minus the embedded method's weights) the estimate,
    of order ``error_order``. If ``first_same_as_last``, the last stage is taken at the solution.
    ``stability_limit`` is that of `Stepper`. ``dense`` are the coefficients of the interpolant's
    weights, for each stage a polynomial in the fraction of the step without constant term, of order
    ``dense_order``; without them it is Hermite's cubic, of states and velocities at both ends.
    ``solution_share`` is alpha where error - alpha b weights the first and last stage alone.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    stability_limit: float
    error: tuple[float, ...] = ()
    error_order: int = 0
    first_same_as_last: bool = False
    solution_share: float | None = None
    dense: tuple[tuple[float, ...], ...] = ()
    dense_order: int = 3

    def interpolant(self, fraction: float) -> tuple[float, ...]:
        """Return weights b(x) of y(x) = y_0 + h sum_i b_i(x) k_i at a fraction x of the step.

        Of the stages and, unless first same as last, the velocity at the step's end after them.
        """
        x = fraction
        if self.dense:
            return tuple(sum(c * x ** (k + 1) for k, c in enumerate(row)) for row in self.dense)
        ends = (*self.b, *([] if self.first_same_as_last else [0.0]))
        weights = [b * x * x * (3.0 - 2.0 * x) for b in ends]
        weights[0] += x * (1.0 - x) ** 2
        weights[-1] -= x * x * (1.0 - x)
        return tuple(weights)


HEUN = Tableau("heun", 2, a=((), (1.0,)), b=(1 / 2, 1 / 2), stability_limit=2.0)

RK4 = Tableau(
    "rk4",
    4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    stability_limit=2.785,
)

BS23 = Tableau(  # Bogacki and Shampine (1989)
    "bs23",
    3,
    a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0.0),
    stability_limit=2.512,
    error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    error_order=2,
    first_same_as_last=True,
    solution_share=1 / 4,
)

_B5 = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_B4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)

DOPRI5 = Tableau(  # Dormand and Prince (1980)
    "dopri5",
    5,
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _B5,
    ),
    b=(*_B5, 0.0),
    stability_limit=3.306,
    error=tuple(high - low for high, low in zip((*_B5, 0.0), _B4, strict=True)),
    error_order=4,
    first_same_as_last=True,
    dense=(  # Shampine (1986): of order 4, the best of its kind at the middle of the step
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
    dense_order=4,
)

TABLEAUX = {tableau.name: tableau for tableau in (HEUN, RK4, BS23, DOPRI5)}


@dataclass(frozen=True)
class RungeKutta:
    """One explicit Runge-Kutta method for the joint flow of the arrays that move."""

    tableau: Tableau
    rtol: float = 1e-3
    atol: float = 1e-8
    dense: bool = False

    @property
    def name(self) -> str:
        return self.tableau.name

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def adaptive(self) -> bool:
        return bool(self.tableau.error)

    @property
    def dense_order(self) -> int:
        return min(self.order, self.tableau.dense_order)

    @property
    def evaluations(self) -> int:
        return len(self.tableau.a)

    @property
    def stability_limit(self) -> float:
        return self.tableau.stability_limit

    @property
    def copies(self) -> int:
        return len(self.tableau.a) + 1 + self.adaptive + self._needs_last

    @property
    def _needs_last(self) -> bool:
        """Whether a state within a step takes a velocity that no stage is."""
        return self.dense and not self.tableau.first_same_as_last

    @property
    def images(self) -> int:
        """How many arrays (m, n) `Images` takes in the Gram chart, if U moves."""
        return 0 if self.tableau.solution_share is None else 4

    def allocate(self, model: Model, state: State) -> Memory:
        def empty() -> State:
            return State.empty(model.backend, model.state_shapes, model.moving)

        images = None
        if self.images and "U" in model.moving and not model.chart.pulls_back:
            shape = model.state_shapes["U"]
            images = Images(*(model.backend.empty(shape) for _ in range(self.images)))
        return Memory(
            [empty() for _ in self.tableau.a],
            trial=beside(model, state),
            error=empty() if self.adaptive else None,
            last=empty() if self._needs_last else None,
            images=images,
        )

    def step(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        index: int,  # noqa: ARG002 - the flow is autonomous
        step_size: float,
    ) -> tuple[State, float]:
        trial, first_stage = memory.trial, memory.first_stage
        assert trial is not None

        def operations() -> None:
            self._combine_stages(
                model, state, memory.stages, step_size, trial, first_stage, memory.images
            )

        memory.first_stage = True
        if self.adaptive:  # step sizes never repeat, and the stages change places
            operations()
            return trial, self._error_norm(model, trial, memory, step_size)
        model.backend.replay(memory, (memory.swapped, first_stage, step_size), operations)
        return trial, 0.0

    def _combine_stages(
        self,
        model: Model,
        state: State,
        stages: list[State],
        step_size: float,
        trial: State,
        first_stage: bool,
        images: Images | None,
    ) -> None:
        """Compute all stages, but for the first if it is there, and the new state."""
        if not first_stage:
            velocity(model, state, out=stages[0])
        if images is not None and not images.valid:
            images.compute(model, state, stages[0])
        for row, stage in zip(self.tableau.a[1:], stages[1:], strict=True):
            _advance(model, state, step_size, row, stages, out=trial)
            with_A = images is not None and len(row) == 1
            if images is not None and with_A:
                terms = [(1.0, images.A), (step_size * row[0], images.G)]
                model.backend.combine(terms, out=model.work.A)
            velocity(model, trial, out=stage, with_A=with_A)
        if not self.tableau.first_same_as_last:
            _advance(model, state, step_size, self.tableau.b, stages, out=trial)

    def accept(self, old: State, new: State, memory: Memory) -> None:
        assert memory.trial is new
        memory.trial, memory.swapped, memory.last_known = old, not memory.swapped, False
        memory.first_stage = self.tableau.first_same_as_last
        if memory.first_stage:
            memory.stages.insert(0, memory.stages.pop())
        if memory.images is not None:
            memory.images.accept()

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        """Do nothing: the state before a step is kept in any case."""

    def interpolate(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        fraction: float,
        step_size: float,
        out: State,
    ) -> None:
        assert memory.trial is not None
        stages = self._stages_of_last_step(model, state, memory)
        weights = self.tableau.interpolant(fraction)
        _advance(model, memory.trial, step_size, weights, stages, out=out)

    def _stages_of_last_step(self, model: Model, state: State, memory: Memory) -> list[State]:
        """Return the velocities that the interpolant combines; one of them may be computed."""
        if self.tableau.first_same_as_last:  # `accept` has moved the last stage to the front
            return [*memory.stages[1:], memory.stages[0]]
        assert memory.last is not None
        if not memory.last_known:
            velocity(model, state, out=memory.last)
            memory.last_known = True
        return [*memory.stages, memory.last]

    def _error_norm(self, model: Model, new: State, memory: Memory, step_size: float) -> float:
        """The largest over arrays X of ||e_X||_F / (atol sqrt(size) + rtol ||X||_F).

        Reads A of the new state, which the last stage leaves.
        """
        assert memory.error is not None
        assert self.tableau.first_same_as_last
        k, chart, work, worst = model.backend, model.chart, model.work, 0.0
        for name in model.moving:
            terms = _terms(name, step_size, self.tableau.error, memory.stages)
            error, value = getattr(memory.error, name), getattr(new, name)
            k.combine(terms, out=error)
            if name == "U":
                squared_value = chart.squared_weight_norm(value, work.A)
                if memory.images is None:
                    squared_error = chart.squared_norm(error, work.B)
                else:
                    self._image_of_error(model, memory, memory.images, step_size)
                    squared_error = max(0.0, k.dot(error, work.B))
            else:
                squared_error, squared_value = k.dot(error, error), k.dot(value, value)
            size = model.dimensions.size(name)
            allowed = self.atol * sqrt(size) + self.rtol * sqrt(squared_value)
            norm = sqrt(squared_error) / allowed if allowed > 0 else float("inf")
            if not norm < float("inf"):  # NaN too, which `max` may lose
                return float("inf")
            worst = max(worst, norm)
        return worst

    def _image_of_error(
        self, model: Model, memory: Memory, images: Images, step_size: float
    ) -> None:
        """B = e_U M = alpha (A_new - A) + h (error - alpha b) of G and G_new.

        Keeps A and G of the new state: work.A changes places with ``new_A``.
        """
        k, work, tableau, alpha = (
            model.backend,
            model.work,
            self.tableau,
            self.tableau.solution_share,
        )
        assert alpha is not None
        k.gemm(memory.stages[-1].U, model.chart.matrix, out=images.new_G)
        work.A, images.new_A = images.new_A, work.A
        first, last = (step_size * (tableau.error[i] - alpha * tableau.b[i]) for i in (0, -1))
        terms = [(alpha, images.new_A), (-alpha, images.A), (first, images.G), (last, images.new_G)]
        k.combine(terms, out=work.B)


def beside(model: Model, state: State) -> State:
    """Return a state of uninitialized arrays, but for those that do not move: the state's own."""
    other = State.empty(model.backend, model.state_shapes, model.moving)
    for name, array in state:
        if name not in model.moving:
            setattr(other, name, array)
    return other


def _terms(
    name: str, step_size: float, weights: tuple[float, ...], stages: list[State]
) -> list[tuple[float, object]]:
    return [
        (step_size * weight, getattr(stage, name))
        for weight, stage in zip(weights, stages, strict=False)
        if weight != 0.0
    ]


def _advance(
    model: Model,
    state: State,
    step_size: float,
    weights: tuple[float, ...],
    stages: list[State],
    out: State,
) -> None:
    for name in model.moving:
        terms = [(1.0, getattr(state, name)), *_terms(name, step_size, weights, stages)]
        model.backend.combine(terms, out=getattr(out, name))


@dataclass(frozen=True)
class Controller:
    """Proportional-integral step-size control (Gustafsson, 1991) for an error of given order."""

    error_order: int
    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 5.0

    def factor(self, error: float, previous_error: float) -> float:
        """Return by how much to change the step size after an accepted step."""
        exponent = 1.0 / (self.error_order + 1)
        error = max(error, 1e-10)
        raw: float = self.safety * error ** (-0.7 * exponent) * previous_error ** (0.4 * exponent)
        return min(self.largest, max(self.smallest, raw))

    def factor_after_rejection(self, error: float) -> float:
        """Return by how much to shrink a step whose error was too large, or not a number."""
        if not error < float("inf"):
            return self.smallest
        raw: float = self.safety * error ** (-1.0 / (self.error_order + 1))
        return min(1.0, max(self.smallest, raw))


@dataclass
class StepControl:
    """The size of the next adaptive step, what it is chosen by, and how many were rejected.

    ``smallest`` is the size below which a run counts as diverged.
    """

    controller: Controller
    step_size: float
    smallest: float = 0.0
    previous_error: float = 1.0
    rejected: int = 0

    def step(self, attempt: Callable[[float], float], *, at_most: float = float("inf")) -> float:
        """Attempt steps, of sizes that ``attempt`` takes, until an error is at most 1.

        Returns the size of that step. Raises `DivergedError` where none stands.
        """
        size, first = min(self.step_size, at_most), True
        while not (error := attempt(size)) <= 1.0:
            first = False
            self.rejected += 1
            size *= self.controller.factor_after_rejection(error)
            if size < self.smallest:
                raise DivergedError(
                    f"diverged: the step size fell to {size:.1e}\n"
                    "loosen --rtol and --atol, or use a fixed-step integrator"
                )
        factor = self.controller.factor(error, self.previous_error)
        self.step_size = size * (factor if first else min(1.0, factor))
        self.previous_error = max(error, 1e-4)
        return size


@dataclass(frozen=True)
class FixedSteps:
    """Sizes and times of fixed steps; the first ``ramp`` of them grow in proportion to ``size``.

    Times are computed from the number of steps, never accumulated.
    """

    size: float
    ramp: int = 1

    def size_of(self, index: int) -> float:
        """Return the size of step ``index`` (from 0)."""
        return self.size * min(1.0, (index + 1) / self.ramp)

    def time(self, steps: int) -> float:
        """Return the time after so many steps."""
        if steps < self.ramp:
            return self.size * (steps * (steps + 1) / (2 * self.ramp))
        return self.size * (steps - (self.ramp - 1) / 2)


def make_stepper(config: RunConfig) -> AlternatingDescent | RungeKutta:
    """Return the stepper of a configuration; states within steps are for runs to a time."""
    dense = config.end_time is not None
    if config.integrator == "gd":
        return AlternatingDescent(
            config.critic_steps, config.critic_rate, config.critic_step_size, dense
        )
    return RungeKutta(TABLEAUX[config.integrator], config.rtol, config.atol, dense)
