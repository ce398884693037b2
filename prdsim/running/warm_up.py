"""The critic's warm-up: before t = 0 it moves alone, at the prediction of the initial weights."""

from __future__ import annotations

from prdsim.config import STEP_LIMIT, RunConfig
from prdsim.errors import ConfigError
from prdsim.physics.gradients import begin_step, forward
from prdsim.physics.model import Model
from prdsim.physics.state import State
from prdsim.running.integrators import AlternatingDescent
from prdsim.running.runge_kutta import RungeKutta
from prdsim.running.step_control import Controller, StepControl
from prdsim.running.tableaux import BS23

_SMALLEST_STEP = 1e-12  # relative to the first step size; a smaller adaptive step means a blow-up


def step_control(stepper: AlternatingDescent | RungeKutta, first: float) -> StepControl:
    """Return the control of a method's steps, which begins with the size ``first``."""
    order = stepper.tableau.error_order if isinstance(stepper, RungeKutta) else 0
    return StepControl(Controller(order), first, smallest=_SMALLEST_STEP * first)


def warm_up(
    config: RunConfig,
    model: Model,
    state: State,
    stepper: AlternatingDescent | RungeKutta,
    step_size: float,
) -> None:
    """Move the critic of a state for the time of its warm-up.

    With gd by its updates; else by bs23 at the run's tolerance, whatever its integrator.
    ``model`` is that of the critic alone, ``step_size`` that of U and V. Raises `ConfigError` for
    too many updates.
    """
    if isinstance(stepper, AlternatingDescent):
        _by_updates(config, model, state, stepper, step_size)
    else:
        _by_flow(config, model, state, step_size)


def _by_updates(
    config: RunConfig, model: Model, state: State, stepper: AlternatingDescent, step_size: float
) -> None:
    size = stepper.critic_update_size(step_size)
    updates = config.critic_warmup * config.critic_rate / size
    if updates > STEP_LIMIT:
        raise ConfigError(
            f"critic_warmup {config.critic_warmup:g}: takes {updates:.3g} updates of the "
            f"critic, more than {STEP_LIMIT:,}; lower it"
        )
    forward(model, state)
    begin_step(model, 0)  # the first step itself draws the penalty points of 0, 1, ...
    first = stepper.critic_steps
    stepper.update_critic(model, state, range(first, first + round(updates)), size)


def _by_flow(config: RunConfig, model: Model, state: State, step_size: float) -> None:
    method = RungeKutta(BS23, config.rtol, config.atol)
    control, left = step_control(method, step_size), config.critic_warmup
    memory, reached = method.allocate(model, state), state

    def attempt(size: float) -> float:
        nonlocal reached
        new, error = method.attempt(model, reached, memory, step_size=size)
        if error <= 1.0:
            method.accept(reached, new, memory)
            reached = new
        return error

    while left > 1e-12 * config.critic_warmup:
        left -= control.step(attempt, at_most=left)
    for name in model.moving:
        model.backend.copy(getattr(reached, name), out=getattr(state, name))
