"""Time stepping: alternating descent, and explicit Runge-Kutta methods for the joint flow.

A stepper is stateless: a tableau, an order, and three functions. ``allocate`` makes the memory
that steps need; ``step`` attempts one step of given size and returns the new state and an error
estimate; ``interpolate`` gives the states within the last step. Whether an attempt stands, and how
large the next one is, `prdsim.running.step_control` decides; methods as data stand in
`prdsim.running.tableaux`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Protocol

from prdsim.config import RunConfig
from prdsim.physics.gradients import (
    begin_step,
    critic_gradient,
    drive,
    forward,
    generator_velocity,
    velocity,
)
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.running.tableaux import TABLEAUX, Tableau

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
        if self.images and "U" in model.moving and model.chart.pull_matrix is None:
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


def make_stepper(config: RunConfig) -> AlternatingDescent | RungeKutta:
    """Return the stepper of a configuration; states within steps are for runs to a time."""
    dense = config.end_time is not None
    if config.integrator == "gd":
        return AlternatingDescent(
            config.critic_steps, config.critic_rate, config.critic_step_size, dense
        )
    return RungeKutta(TABLEAUX[config.integrator], config.rtol, config.atol, dense)
