"""The integrators: alternating descent, and the Runge-Kutta methods of the joint flow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prdsim.config import RunConfig
from prdsim.physics.gradients import (
    begin_step,
    critic_gradient,
    drive,
    forward,
    generator_flow,
    generator_velocity,
)
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.running.runge_kutta import RungeKutta
from prdsim.running.stepper import Memory, beside, keep
from prdsim.running.tableaux import TABLEAUX


@dataclass(frozen=True)
class AlternatingDescent:
    """The paper's algorithm: ``critic_steps`` critic updates at a fixed Z, then an Euler step.

    U and V move together, with the new critic; the state is advanced in place. An update has the
    size critic_rate step_size / critic_steps, so that the critic follows its flow at that rate as
    the step goes to 0, or a size of its own. States within a step lie on the straight line.
    """

    critic_steps: int
    critic_rate: float
    critic_step_size: float | None
    dense: bool
    name: str = "gd"
    order: int = 1
    dense_order: int = 1
    adaptive: bool = False
    evaluations: int = 1
    stability_limit: float = 2.0

    def allocate(self, model: Model, state: State) -> Memory:
        generator = tuple(name for name in model.moving if name in "UV")
        velocity = State.empty(
            model.backend, model.state_shapes, generator if _apart(model) else ()
        )
        return Memory([velocity], before=beside(model, state) if self.dense else None)

    def critic_update_size(self, step_size: float) -> float:
        """Return the size of one critic update within a step."""
        if self.critic_step_size is not None:
            return self.critic_step_size
        return self.critic_rate * step_size / max(self.critic_steps, 1)

    def advance(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        index: int,
        step_size: float,
        at_most: int = 1,
    ) -> int:
        size = self.critic_update_size(step_size)

        def at_once() -> None:
            forward(model, state)
            self.update_critic(model, state, range(self.critic_steps), size)
            drive(model, state)
            generator_velocity(model, state, model.work.E, out=state, alpha=step_size, beta=1.0)

        def apart() -> None:  # each panel, and the coupling, needs the old U and V
            k, velocity = model.backend, memory.stages[0]
            if self.critic_steps and {"W", "a"} & set(model.moving):
                forward(model, state)
                self.update_critic(model, state, range(self.critic_steps), size)
            generator_flow(model, state, out=velocity)
            for name in (name for name in model.moving if name in "UV"):
                moved, rate = getattr(state, name), getattr(velocity, name)
                k.combine([(1.0, moved), (step_size, rate)], out=moved)

        begin_step(model, index)
        operations = apart if _apart(model) else at_once
        return model.backend.replay(
            memory, (size, step_size), operations, at_most=at_most, number=model.work.step
        )

    def update_critic(
        self, model: Model, state: State, updates: Iterable[int], step_size: float
    ) -> None:
        """Take numbered critic updates (random penalty points depend on them); reads Z, step."""
        if {"W", "a"} & set(model.moving):
            for update in updates:
                critic_gradient(model, state, out=state, update=update, alpha=-step_size, beta=1.0)

    def remember(self, model: Model, state: State, memory: Memory) -> None:
        keep(model, state, memory)

    def interpolate(
        self,
        model: Model,
        state: State,
        memory: Memory,
        *,
        fraction: float,
        step_size: float,  # noqa: ARG002 - a straight line
        out: State,
    ) -> None:
        for name in model.moving:
            old, new = getattr(memory.before, name), getattr(state, name)
            terms = [(1.0 - fraction, old), (fraction, new)]
            model.backend.combine(terms, out=getattr(out, name))


def _apart(model: Model) -> bool:
    """Whether the velocity of U and V is computed before either is moved."""
    return bool(model.parts) or model.coupling is not None


def make_stepper(config: RunConfig) -> AlternatingDescent | RungeKutta:
    """Return the stepper of a configuration, with states within steps for runs to a time."""
    dense = config.end_time is not None
    if config.integrator == "gd":
        return AlternatingDescent(
            config.critic_steps, config.critic_rate, config.critic_step_size, dense
        )
    return RungeKutta(TABLEAUX[config.integrator], config.rtol, config.atol, dense)
