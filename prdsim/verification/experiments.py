"""The input of every backend, and the results of the reference and its perturbed copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from prdsim.backends import get_backend
from prdsim.config import Resolved, RunConfig
from prdsim.datasets.configured import load_data
from prdsim.physics.charts import make_chart
from prdsim.physics.gradients import velocity
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import build_model, dimensions_of
from prdsim.physics.state import Dimensions, State
from prdsim.running.resolve import automatic_step
from prdsim.running.simulation import Simulation
from prdsim.running.tableaux import TABLEAUX
from prdsim.verification.rounding import ROUNDING, SAMPLES, SPREAD, PerturbedBackend

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray
    from prdsim.backends.base import Backend

    Arrays = Mapping[str, HostArray]

_Kept = TypeVar("_Kept")

TRAJECTORY_STEPS = 20
_CHANGES = 2.5  # first steps
SPREAD_REASON = f"{SPREAD:g} x rms of {SAMPLES} references with such rounding"


class Experiments:
    """A configuration with diffusion, its data and initial draw, for use on any backend.

    Keeps the results of the reference and its perturbed copies. Raises `ConfigError` or `DataError`
    where a run of the configuration would.
    """

    def __init__(self, config: RunConfig) -> None:
        keys = {"diffusion": True, "diffusivity": config.diffusivity or 1.0, "end_time": None}
        rows = {"snapshots": None, "scalars": None}  # these may be by time
        self._config = config.replace(**keys, **rows, steps=TRAJECTORY_STEPS)
        dataset = load_data(self._config)
        self._X, self._Y = dataset.X, dataset.Y
        self._initial = draw_initial(self._config, self.sizes, self._X)
        given = self._config.step_size
        if given == "auto":
            given = automatic_step(self.config_for("gd"), self._X, self._Y, self._initial)
        self.step_size = float(given)
        self._kept: dict[tuple[str, ...], Any] = {}

    @property
    def sizes(self) -> Dimensions:
        """The sizes of the run."""
        return dimensions_of(self._config, self._X.shape[0], self._Y.shape[0], self._X.shape[1])

    def config_for(self, integrator: str, **keys: Any) -> RunConfig:
        """Return the configuration for an integrator, whichever it was written for.

        gd draws its penalty points, so that random numbers are verified, too.
        """
        if integrator in TABLEAUX:
            keys |= {"penalty_points": "midpoint", "critic_step_size": None}
        else:
            keys |= {"penalty_points": "random"}
        return self._config.replace(integrator=integrator, **keys)

    def _rounded(self, precision: str) -> tuple[HostArray, HostArray, Arrays]:
        """Return X, Y and the initial arrays, as float64 numbers that the precision can hold."""
        dtype = ROUNDING[precision].dtype

        def held(array: HostArray) -> HostArray:
            return array.astype(dtype).astype(np.float64)

        initial = {name: held(array) for name, array in self._initial.items()}
        return held(self._X), held(self._Y), initial

    # -- the reference -------------------------------------------------------------------------

    def reference(self) -> Backend:
        """Return the numpy backend in float64."""
        return get_backend("numpy", threads=self._config.threads)

    def perturbed(self, precision: str) -> Iterator[Backend]:
        """Yield the references that err at random as the precision does."""
        for sample in range(SAMPLES):
            yield PerturbedBackend(precision, sample, self._config.threads)

    def once(self, key: tuple[str, ...], compute: Callable[[], _Kept]) -> _Kept:
        """Return the result of ``compute`` at the first use of the key."""
        if key not in self._kept:
            self._kept[key] = compute()
        kept: _Kept = self._kept[key]
        return kept

    def expected(
        self, precision: str, name: str, compute: Callable[[Backend], Arrays]
    ) -> tuple[Arrays, dict[str, float]]:
        """Return the reference's result, and the allowed relative error by array."""

        def evaluate() -> tuple[Arrays, dict[str, float]]:
            expected = compute(self.reference())
            others = [compute(backend) for backend in self.perturbed(precision)]
            return expected, allowed_errors([relative_errors(each, expected) for each in others])

        return self.once((precision, name), evaluate)

    # -- the experiments -----------------------------------------------------------------------

    def velocity(
        self, precision: str, chart: str, keys: Mapping[str, Any], backend: Backend
    ) -> Arrays:
        """Return the joint flow's velocity at t = 0 by array, in the chart's coordinates."""
        X, Y, initial = self._rounded(precision)
        config = self.config_for("rk4", **keys)
        with backend.active():
            model = build_model(config, backend, make_chart(chart, backend, X, initial["U"]), X, Y)
            model.load_field(0.0)
            state = model.start(initial)
            out = State.empty(backend, model.state_shapes, model.moving)
            velocity(model, state, out=out)
            computed = {name: array for name, array in out if name in model.moving}
            return {name: backend.to_host(array).astype(float) for name, array in computed.items()}

    def simulation(
        self,
        precision: str,
        chart: str,
        integrator: str,
        backend: Backend,
        kind: type[Simulation] = Simulation,
        step_size: float | None = None,
        forcing: str = "adversary",
        *,
        panels: bool = False,
        coupled: bool = False,
    ) -> Simulation:
        """Return a run at t = 0 on a backend; the field of a forcing changes every few steps.

        With ``panels``, a third of the samples at a time, the last fewer; ``coupled``, all neurons
        are drawn to their mean as fast as the flow of L_sup is.
        """
        X, Y, initial = self._rounded(precision)
        keys: dict[str, Any] = {"forcing": forcing, "forcing_time": _CHANGES * self.step_size}
        if coupled:
            keys |= {"groups": 1, "coupling": 0.1 / self.step_size}
        config = self.config_for(integrator, precision=backend.precision, **keys)
        step_size = step_size or self.step_size
        panel = -(-self.sizes.n // 3) if panels else None
        resolved = Resolved(
            backend.name, backend.device, chart, step_size, backend.threads, panel=panel
        )
        return kind(config, X, Y, initial=initial, resolved=resolved, backend=backend)

    def step(
        self,
        precision: str,
        chart: str,
        integrator: str,
        backend: Backend,
        kind: type[Simulation] = Simulation,
        *,
        panels: bool = False,
    ) -> Arrays:
        """Return the weights after one step, and the next step size of an adaptive method."""
        run = (
            precision,
            chart,
            integrator,
            backend,
            kind,
            self._accepted_step_size(chart, integrator),
        )
        with self.simulation(*run, panels=panels) as simulation:
            simulation.advance()
            size = simulation.restart_point().scalars["step_size"]
            sizes = {"next step size": np.array(size)} if simulation.stepper.adaptive else {}
            return {**simulation.weights(), **sizes}

    def _accepted_step_size(self, chart: str, integrator: str) -> float:
        """Return the step size, for adaptive methods half of the first accepted by the reference.

        Whether a step at the edge of the tolerance is accepted may depend on one rounding.
        """

        def first() -> float:
            simulation = self.simulation("float64", chart, integrator, self.reference())
            with simulation:
                simulation.advance()
            return simulation.time / (2.0 if simulation.stepper.adaptive else 1.0)

        return self.once(("first", chart, integrator), first)


# -- errors, and errors allowed --------------------------------------------------------------------


def relative_errors(computed: Arrays, expected: Arrays) -> dict[str, float]:
    """||computed - expected||_F / ||expected||_F by array."""
    return {
        name: float(np.linalg.norm(computed[name].astype(float) - array))
        / (float(np.linalg.norm(array)) or 1.0)
        for name, array in expected.items()
    }


def allowed_errors(errors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`SPREAD` root mean squares of the perturbed references' errors, by array."""
    return {
        name: SPREAD * float(np.sqrt(np.mean([error[name] ** 2 for error in errors])))
        for name in errors[0]
    }
