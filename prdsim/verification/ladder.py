"""The parity ladder: checks that a backend agrees with the float64 reference.

Rungs, each relying on those below it:

* ``primitive``: every operation of the protocol (`prdsim.verification.operations`);
* ``velocity``: dU/dt, dV/dt, dW/dt, da/dt of the joint flow, both kinds of critic, without, and
  with controls in its place;
* ``step``: one step of every integrator, with diffusion and penalty, some with the samples in
  panels;
* ``trajectory``: `TRAJECTORY_STEPS` steps of ``gd``, after each of them, with random penalty points
  (`prdsim.verification.separation`);
* ``determinism``: a repeated run has the same bits;
* ``resume``: an interrupted and restored run has the same bits, in memory and through a file.

The reference is the numpy backend in float64. It starts from the data and weights rounded to the
backend's precision, so that only arithmetic differs. `prdsim.verification.rounding` explains how
far a backend may deviate from it: one operation errs by gamma_k, and from the velocity on the
reference itself is repeated with random errors of that size, over as many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prdsim.config import INTEGRATORS
from prdsim.physics.charts import CHARTS
from prdsim.physics.state import RestartPoint
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.verification.experiments import SPREAD_REASON, Experiments, relative_errors
from prdsim.verification.operands import Finding
from prdsim.verification.operations import check_operations, large_results
from prdsim.verification.separation import compare_separations, course, separation

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

_BITS = "entries whose bits differ"
_HALF = 3  # steps before and after an interruption
_METHODS = [(chart, integrator) for chart in CHARTS for integrator in INTEGRATORS]
_IN_PANELS = [("weight", "gd"), ("range", "bs23")]  # the Gram chart has none
_COUPLED = ("gd", "bs23")  # in weights: drawn neurons differ by more than the inputs span


class _Run(NamedTuple):
    """One of the runs that are repeated and resumed."""

    chart: str
    integrator: str
    forcing: str = "adversary"
    panels: bool = False
    coupled: bool = False

    def __str__(self) -> str:
        control = [self.forcing] if self.forcing != "adversary" else []
        more = ["in panels"] * self.panels + ["coupled"] * self.coupled
        return ", ".join([*self[:2], *control, *more])


_RUNS = [
    *(_Run(*method) for method in _METHODS),
    *(_Run("gram", "bs23", "white"), _Run("range", "dopri5", "slow")),
    *(_Run("weight", "gd", "shuffled", panels) for panels in (False, True)),
    *(_Run(*method, panels=True) for method in _IN_PANELS),
    *(_Run("weight", integrator, coupled=True) for integrator in _COUPLED),
]


@dataclass(frozen=True)
class Candidate:
    """A backend to verify. ``simulation`` is the class that runs it.

    ``through_files`` adds runs by its name, which create their own instance.
    """

    backend: Backend
    simulation: type[Simulation] = Simulation
    through_files: bool = False


# -- the rungs -------------------------------------------------------------------------------------


def primitive(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """Every operation of the protocol."""
    with candidate.backend.active():
        yield from check_operations(candidate.backend, experiments.sizes)


def velocities(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """The velocity of the joint flow: both kinds of critic, none, controls, coupled neurons."""
    kinds: dict[str, dict[str, Any]] = {
        "wgan-gp": {"critic": "wgan-gp"},
        "minimax": {"critic": "minimax"},
        "without": {"diffusion": False},
    }
    controls: dict[str, dict[str, Any]] = {  # of samples: the same in all charts
        "static": {"forcing": "static"},
        "shuffled": {"forcing": "shuffled", "forcing_norm": 0.7},
    }
    coupled: dict[str, dict[str, Any]] = {"coupled": {"groups": 1, "coupling": 1.0}}
    beside = {"range": controls, "weight": coupled}
    precision = candidate.backend.precision
    for chart in CHARTS:
        for name, keys in (kinds | beside.get(chart, {})).items():
            compute = partial(experiments.velocity, precision, chart, keys)
            expected, allowed = experiments.expected(precision, f"{chart}, {name}", compute)
            for array, error in relative_errors(compute(candidate.backend), expected).items():
                item = f"{chart}, {name}: d{array}/dt"
                yield Finding(item, error, allowed[array], SPREAD_REASON)


def one_step(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """One step of every integrator, and the next step size of adaptive ones.

    Also with the samples in panels, against the reference that takes them together.
    """
    precision = candidate.backend.precision
    for method in _METHODS:
        name, compute = ", ".join(method), partial(experiments.step, precision, *method)
        expected, allowed = experiments.expected(precision, name, compute)
        for panels in (False, True) if method in _IN_PANELS else (False,):
            found = compute(candidate.backend, candidate.simulation, panels=panels)
            item = str(_Run(*method, panels=panels))
            for array, error in relative_errors(found, expected).items():
                yield Finding(f"{item}: {array}", error, allowed[array], SPREAD_REASON)


def trajectory(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """Several steps of gd, up to where a gate differs."""
    precision = candidate.backend.precision
    for chart in CHARTS:
        start = partial(experiments.simulation, precision, chart, "gd")

        def follow(start: Callable[..., Simulation] = start) -> Any:
            with start(experiments.reference()) as simulation:
                reference = list(course(simulation))
            perturbed = experiments.perturbed(precision)
            return reference, [separation(start(backend), reference) for backend in perturbed]

        reference, others = experiments.once(("trajectory", precision, chart), follow)
        measured = separation(start(candidate.backend, candidate.simulation), reference)
        yield from compare_separations(chart, measured, others)


def determinism(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """Large operations twice, and the same run twice from the start."""
    with candidate.backend.active():
        first, second = (large_results(candidate.backend) for _ in range(2))
    yield Finding("large operations twice", _count_differing(first, second), 0.0, _BITS)
    for which in _RUNS:
        first, second = (_bits(_run(candidate, experiments, which, 2 * _HALF)) for _ in range(2))
        item = f"{which}: {2 * _HALF} steps twice"
        yield Finding(item, _count_differing(first, second), 0.0, _BITS)


def resumption(candidate: Candidate, experiments: Experiments) -> Iterator[Finding]:
    """A run interrupted half-way and restored, against one that was not."""
    for which in _RUNS:
        whole = _run(candidate, experiments, which, 2 * _HALF)
        point = _run(candidate, experiments, which, _HALF)
        again = _run(candidate, experiments, which, _HALF, restored=point)
        item = f"{which}: restored at step {_HALF}"
        yield Finding(item, _count_differing(_bits(whole), _bits(again)), 0.0, _BITS)
    if candidate.through_files:
        differing = _differing_through_a_file(candidate.backend, experiments)
        yield Finding(f"gd: file resumed at step {_HALF}", differing, 0.0, _BITS)


RUNGS: dict[str, Callable[[Candidate, Experiments], Iterator[Finding]]] = {
    "primitive": primitive,
    "velocity": velocities,
    "step": one_step,
    "trajectory": trajectory,
    "determinism": determinism,
    "resume": resumption,
}
"""From the lowest up. Determinism is below resuming: results that differ when merely repeated also
differ when resumed."""


# -- runs, repeated and resumed --------------------------------------------------------------------


def _run(
    candidate: Candidate,
    experiments: Experiments,
    which: _Run,
    steps: int,
    restored: RestartPoint | None = None,
) -> RestartPoint:
    """Return the restart point after ``steps`` steps, from the start or from another point."""
    backend, kind = candidate.backend, candidate.simulation
    chart, integrator, forcing, panels, coupled = which
    others = {"panels": panels, "coupled": coupled}
    simulation = experiments.simulation(
        backend.precision, chart, integrator, backend, kind, forcing=forcing, **others
    )
    with simulation:
        if restored is not None:
            simulation.advance()  # earlier steps must not matter
            simulation.restore(restored)
        simulation.advance(steps)
        point = simulation.restart_point()
        simulation.advance()  # the point is a copy: a further step must not change it
    return point


def _bits(point: RestartPoint) -> list[HostArray]:
    numbers = [point.step, point.time, *point.scalars.values()]
    return [*point.arrays.values(), np.array(numbers, np.float64)]


def _count_differing(left: Sequence[HostArray], right: Sequence[HostArray]) -> int:
    """Count entries whose bits differ."""

    def words(array: HostArray) -> HostArray:
        return array.reshape(-1).view(f"u{array.itemsize}")

    return sum(
        int(np.count_nonzero(words(a) != words(b))) for a, b in zip(left, right, strict=True)
    )


def _differing_through_a_file(backend: Backend, experiments: Experiments) -> int:
    """Run into files, once without and once with an interruption; count entries that differ."""
    device = backend.device.partition(":")[2]
    keys = {
        "backend": f"{backend.name}:{device}" if device else backend.name,
        "precision": backend.precision,
        "step_size": experiments.step_size,
    }
    config = experiments.config_for("gd", **keys)
    with TemporaryDirectory(prefix="prdsim-verify-") as folder:
        whole, part = Path(folder, "whole.h5"), Path(folder, "part.h5")
        expected = run(config, output=str(whole), steps=2 * _HALF).state
        run(config, output=str(part), steps=_HALF)
        resumed = resume(part, steps=2 * _HALF).state
    return _count_differing(list(expected.values()), list(resumed.values()))
