"""The contract of a time-stepping method, and the memory that its steps need.

A stepper is stateless: a tableau, an order, and three functions. ``allocate`` makes the memory;
``step`` attempts one step of given size and returns the new state and an error estimate;
``interpolate`` gives the states within the last step. `prdsim.running.step_control` decides whether
an attempt is accepted, and how large the next one is.
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
    """Arrays that a step of bs23 in the Gram chart reuses from the one before, each (m, n).

    ``A``: pre-activations at the state where the step begins; ``G`` = k_1 M, their rate of change
    there; ``new_A``, ``new_G``: the same at the new state, if it is accepted. The error's norm
    needs new_G, and the next step's second stage begins at A + h a_21 G: one product with M serves
    both. ``valid`` says that A and G are those of the state.
    """

    A: Array
    G: Array
    new_A: Array
    new_G: Array
    valid: bool = False

    def compute(self, model: Model, state: State, first_stage: State) -> None:
        """Recompute A and G, with the bits that an accepted step would have left."""
        forward(model, state)
        model.backend.copy(model.work.A, out=self.A)
        model.backend.gemm(first_stage.U, model.chart.matrix, out=self.G)
        self.valid = True

    def accept(self) -> None:
        """Make the new state the start of the next step."""
        self.A, self.new_A, self.G, self.new_G = self.new_A, self.A, self.new_G, self.G


@dataclass(slots=True, eq=False, weakref_slot=True)
class Memory:
    """Arrays and flags that a stepper keeps between and within steps, allocated once.

    ``stages`` holds velocities; ``trial`` the state of a stage, finally the new state and, once a
    step is accepted, the previous one; ``error`` the estimate's difference; ``last`` the velocity
    at the present state, if no stage is and states within steps are needed (``last_known``: it has
    been computed). ``first_stage`` says that stages[0] already is that velocity (first same as
    last). ``swapped`` changes whenever the states change places: it says which of the two a step
    begins at. Recordings of steps live as long as this object.
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
        """Attempt step ``index`` (from 0); return the new state and the error norm (limit 1).

        A stepper that is not adaptive may advance ``state`` in place and returns error 0. An
        adaptive one leaves ``state`` untouched; `accept` makes the attempt final.
        """

    def accept(self, old: State, new: State, memory: Memory) -> None:
        """Take the old state's arrays as memory; call it after every accepted step."""

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        """Keep the state before a step, if `interpolate` needs it; call it before that step."""

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
        """out = the state at a ``fraction`` in (0, 1) of the last accepted step.

        Writes the arrays that move. ``step_size`` is that of the step, ``state`` the one after it;
        the next step's bits do not depend on the call.
        """


def beside(model: Model, state: State) -> State:
    """Return a state of uninitialized arrays that shares those that do not move."""
    other = State.empty(model.backend, model.state_shapes, model.moving)
    for name, array in state:
        if name not in model.moving:
            setattr(other, name, array)
    return other
