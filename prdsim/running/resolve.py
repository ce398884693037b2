"""The values that ``auto`` takes in a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdsim.backends import get_backend
from prdsim.config import Resolved, RunConfig
from prdsim.physics.charts import cheapest_chart
from prdsim.physics.state import Dimensions
from prdsim.running.integrators import AlternatingDescent, make_stepper
from prdsim.running.memory import check_memory, panel_of
from prdsim.running.step_control import FIXED_FRACTION, round_down
from prdsim.running.step_size import automatic_step_size

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

# In units of 1 / lambda_max at t = 0. An adaptive step reaches its size in a few steps; it begins
# far below, since small weights begin at z = 0, on all kinks.
_FIRST_ADAPTIVE_FRACTION = 1e-3
_RAMP = 64  # steps until an automatic fixed step has its full size, if weights begin small


def resolve(
    config: RunConfig,
    backend: Backend,
    X: HostArray,
    Y: HostArray,
    initial: dict[str, HostArray],
    chart: str,
    panel: int | None,
) -> Resolved:
    """Return the resolved settings of a run on these data and initial arrays.

    In a chart, with panels of so many samples, None: of all.
    """
    stepper, step_size, ramp = make_stepper(config), config.step_size, 1
    if step_size == "auto":
        step_size = automatic_step(config, X, Y, initial)
        ramp = 1 if config.adaptive or config.init_scale >= 1.0 else _RAMP
    rate = config.critic_rate
    if isinstance(stepper, AlternatingDescent):
        rate = stepper.critic_steps * stepper.critic_update_size(step_size) / step_size
    return Resolved(
        backend.name, backend.device, chart, float(step_size), backend.threads, ramp, rate, panel
    )


def automatic_step(
    config: RunConfig, X: HostArray, Y: HostArray, initial: dict[str, HostArray]
) -> float:
    """Return the step size for "auto": a fraction of `automatic_step_size`."""
    fraction = _FIRST_ADAPTIVE_FRACTION if config.adaptive else FIXED_FRACTION
    return round_down(fraction * automatic_step_size(config, X, Y, initial))


def chart_of(config: RunConfig, sizes: Dimensions, backend: Backend) -> str:
    """Return the chart of a run: the one given, or the cheapest on a backend.

    Coupled neurons are carried by their weights, in which the coupling is whole.
    """
    if config.chart != "auto":
        return config.chart
    if config.coupled:
        return "weight"
    return cheapest_chart(sizes, backend.dtype.itemsize, backend.rates[backend.precision])


def chart_and_panel(
    config: RunConfig, sizes: Dimensions, backend: Backend, resolved: Resolved | None
) -> tuple[str, int | None]:
    """Return the chart and the panel of a run, or those of an earlier one.

    Raises `ConfigError`, with the numbers, if its arrays do not fit into memory.
    """
    if resolved:
        chart, panel = resolved.chart, resolved.panel
    else:
        chart = chart_of(config, sizes, backend)
        panel = panel_of(config, sizes, backend, chart)
    check_memory(config, sizes, backend, chart, panel)
    return chart, panel


def backend_of(config: RunConfig, resolved: Resolved | None) -> Backend:
    """Return the backend of a configuration, or the one that it was resolved to before."""
    if resolved is None:
        return get_backend(config.backend, precision=config.precision, threads=config.threads)
    device = resolved.device.partition(":")[2]
    name = f"{resolved.backend}:{device}" if device else resolved.backend
    return get_backend(name, precision=config.precision, threads=resolved.threads)
