"""The arrays of a run, made in one place: by a backend, or by a `Ledger` that only counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdsim.config import RunConfig
from prdsim.physics.charts import Chart
from prdsim.physics.model import Model, build_model
from prdsim.physics.observables import Observer
from prdsim.physics.state import State
from prdsim.running.integrators import make_stepper
from prdsim.running.stepper import Memory, beside

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend


@dataclass
class Allocated:
    """The arrays of a run on its backend; ``view`` takes states within a step, if any."""

    model: Model
    state: State
    observer: Observer
    memory: Memory
    view: State | None


def allocate(
    config: RunConfig,
    backend: Backend,
    chart: Chart,
    X: HostArray,
    Y: HostArray,
    initial: Mapping[str, HostArray],
    forcing_norms: HostArray | None = None,
) -> Allocated:
    """Make the arrays of a run that begins at ``initial`` (V, W, a; U is the chart's)."""
    stepper = make_stepper(config)
    model = build_model(config, backend, chart, X, Y, forcing_norms)
    state = model.start(initial)
    return Allocated(
        model,
        state,
        Observer(model, state),
        stepper.allocate(model, state),
        beside(model, state) if stepper.dense else None,
    )
