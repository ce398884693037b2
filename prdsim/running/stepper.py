"""The contract of a time-stepping method, and the memory that its steps need.

A stepper is stateless: a tableau, an order, and three functions. ``allocate`` makes the memory;
``step`` attempts one step of given size and returns the new state and an error estimate;
``interpolate`` gives the states within the last step. Whether an attempt stands, and how large the
next one is, `prdsim.running.step_control` decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from prdsim.physics.gradients import forward
from prdsim.physics.model import Model
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array


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
    says whether `step` returns an error estimate; ``evaluations`` counts the velocities of a step,
    the first one included. ``stability_limit`` is the largest h lambda for which dx/dt = -lambda x
    does not grow.
    """

    name: str
    order: int
    dense_order: int
    adaptive: bool
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


def beside(model: Model, state: State) -> State:
    """Return a state of uninitialized arrays, but for those that do not move: the state's own."""
    other = State.empty(model.backend, model.state_shapes, model.moving)
    for name, array in state:
        if name not in model.moving:
            setattr(other, name, array)
    return other
