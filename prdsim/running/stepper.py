"""What every time-stepping method keeps to, and the memory that its steps need.

A stepper is stateless. It has a ``name``, the ``order`` of the solution at a fixed time,
``dense_order`` that of states within a step, the number of ``evaluations`` of the velocity in a
step, ``stability_limit``, the largest h lambda for which dx/dt = -lambda x does not grow, and says
whether it is ``adaptive`` and whether states within a step will be asked for (``dense``).

``allocate`` returns the memory for steps that begin at a state. A method of fixed steps has
``advance``: it takes step ``index`` (from 0), and up to ``at_most`` alike from there where the
backend does so in one call, in place, and returns how many. An adaptive method has ``attempt``: it
attempts a step and returns the new state and the error norm (limit 1), and leaves the old state
untouched; ``accept``, to be called after every step that counts, takes the old state's arrays as
memory. `prdsim.running.step_control` decides which do, and how large the next one is.

``interpolate`` writes the arrays that move at a ``fraction`` in (0, 1) of the last step, of size
``step_size``, given the state after it; ``remember``, called before that step, keeps the state
before it if it is needed. The next step's bits do not depend on either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prdsim.physics.gradients import forward
from prdsim.physics.model import Model, Workspace
from prdsim.physics.state import State

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.base import Sums


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

    @contextmanager
    def new(self, work: Workspace) -> Iterator[None]:
        """Let ``new_A`` be the workspace's A: the last stage leaves that of the new state there."""
        work.A, self.new_A = self.new_A, work.A
        try:
            yield
        finally:
            work.A, self.new_A = self.new_A, work.A

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

    ``stages`` holds velocities; ``trial`` the state of a stage and, for adaptive methods, finally
    the new state and, once a step is accepted, the previous one; ``before`` the state before a
    fixed step, if `remember` has kept it; ``error`` the estimate's difference; ``last`` the
    velocity at the present state, if no stage is and states within steps are needed
    (``last_known``: it has been computed). ``first_stage`` says that stages[0] already is that
    velocity (first same as last). ``step_size``, one number, and ``sums`` are those of adaptive
    steps. Accepted steps exchange arrays, back and forth: ``turned`` says which way. Recordings of
    steps live as long as this object.
    """

    stages: list[State] = field(default_factory=list)
    trial: State | None = None
    before: State | None = None
    error: State | None = None
    last: State | None = None
    last_known: bool = False
    first_stage: bool = False
    images: Images | None = None
    step_size: Array | None = None
    sums: Sums | None = None
    turned: bool = False

    def forget(self) -> None:
        """What was kept from the last step is not of this one: recompute it."""
        self.first_stage = False
        if self.images is not None:
            self.images.valid = False


def beside(model: Model, state: State) -> State:
    """Return a state of uninitialized arrays that shares those that do not move."""
    other = State.empty(model.backend, model.state_shapes, model.moving)
    for name, array in state:
        if name not in model.moving:
            setattr(other, name, array)
    return other


def keep(model: Model, state: State, memory: Memory) -> None:
    """Copy the arrays of a state that move to ``before``."""
    assert memory.before is not None
    for name in model.moving:
        model.backend.copy(getattr(state, name), out=getattr(memory.before, name))
