"""The parity ladder: does a backend compute what the float64 reference computes?

Rungs, each standing on those below it:

* ``primitive``: every operation of the protocol (`prdsim.verification.operations`);
* ``velocity``: dU/dt, dV/dt, dW/dt, da/dt of the joint flow, both kinds of critic, and without;
* ``step``: one step of every integrator, with diffusion and penalty;
* ``trajectory``: `TRAJECTORY_STEPS` steps of ``gd``, after each of them, penalty points drawn;
* ``determinism``: a run done again has the same bits;
* ``resume``: a run left and restored has the same bits, in memory and through a file.

The reference is the numpy backend in float64. It starts from the data and weights as the backend's
precision holds them, so that only arithmetic differs. How far a backend may lie from it, and why,
stands in `prdsim.verification.rounding`: one operation errs by gamma_k, and from the velocity on
the reference itself is computed again with random errors of that size, over as many steps.

A gate 1{A >= 0} of a pre-activation within rounding of 0 may open on one side alone; from there on
two trajectories are both right. They are compared up to the last step before a generator's gate
differs, and the pre-activation at which one does must itself be within its allowance of 0. The
critic's gates are not looked at: they flip in the perturbed references too, and widen what is
allowed from there on. Of each array the step nearest to its allowance is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends import backend_names, get_backend
from prdsim.config import FLOWS, RunConfig
from prdsim.errors import BackendUnavailableError
from prdsim.physics.charts import CHARTS, make_chart
from prdsim.physics.gradients import velocity
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import build_model, dimensions_of
from prdsim.physics.state import Dimensions, State
from prdsim.running.runner import load_data, resume, run
from prdsim.running.simulation import Resolved, Simulation, automatic_step
from prdsim.verification.operands import Finding
from prdsim.verification.operations import check_operations, large_results
from prdsim.verification.rounding import ROUNDING, SAMPLES, SPREAD, PerturbedBackend

if TYPE_CHECKING:
    from prdsim.backends.base import Backend, HostArray

TRAJECTORY_STEPS = 20
DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 48,
    "width": 64,
    "critic_width": 32,
    "seed": 4,
}
"""Without a configuration: so few gates, and so far from 0, that float32 seldom flips one."""

_BITS = "entries whose bits differ"
_HALF = 3  # steps before and after a run is left


# -- what is verified, and on what -----------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A backend to verify. ``simulation`` is the class that runs it.

    ``through_files`` adds runs by its name, which take an instance of their own.
    """

    backend: Backend
    simulation: type[Simulation] = Simulation
    through_files: bool = False


@dataclass(frozen=True)
class Check:
    """One row of the ladder: a finding, and where it was made."""

    backend: str
    precision: str
    rung: str
    item: str
    measured: float
    allowed: float
    reason: str
    holds: bool
    severity: float


@dataclass(frozen=True)
class Report:
    """Everything found, and the backends that could not be tried, with the reasons."""

    checks: list[Check]
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> list[Check]:
        """Failed checks, those of the lowest rung first."""
        rungs = list(RUNGS)
        failed = [check for check in self.checks if not check.holds]
        return sorted(failed, key=lambda check: rungs.index(check.rung))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it; an error without bound becomes null."""
        failures = self.failures
        return {
            "holds": not failures,
            "look_at_first": failures[0].rung if failures else None,
            "rungs": list(RUNGS),
            "checks": [_finite(asdict(check)) for check in self.checks],
            "unavailable": self.unavailable,
        }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("measured", "allowed", "severity"):
        row[name] = float(row[name]) if np.isfinite(row[name]) else None
    return row


class Problem:
    """What every backend is given: a configuration with diffusion, its data, its initial draw.

    Raises `ConfigError` or `DataError` where a run of the configuration would.
    """

    def __init__(self, config: RunConfig) -> None:
        keys = {"diffusion": True, "diffusivity": config.diffusivity or 1.0, "end_time": None}
        rows = {"snapshots": None, "scalars": None}  # which may be by time
        self.config = config.replace(**keys, **rows, steps=TRAJECTORY_STEPS)
        dataset = load_data(self.config)
        self.X, self.Y = dataset.X, dataset.Y
        self.initial = draw_initial(self.config, self.sizes)
        given = self.config.step_size
        if given == "auto":
            given = automatic_step(_config(self.config, "gd"), self.X, self.Y, self.initial)
        self.step_size = float(given)

    @property
    def sizes(self) -> Dimensions:
        """The sizes of the run."""
        return dimensions_of(self.config, self.X.shape[0], self.Y.shape[0], self.X.shape[1])

    def rounded(self, precision: str) -> tuple[HostArray, HostArray, dict[str, HostArray]]:
        """Return X, Y and the initial arrays, as float64 numbers that the precision holds."""
        dtype = ROUNDING[precision].dtype

        def held(array: HostArray) -> HostArray:
            return array.astype(dtype).astype(np.float64)

        initial = {name: held(array) for name, array in self.initial.items()}
        return held(self.X), held(self.Y), initial


class Bench:
    """Puts experiments on backends, and keeps what the reference and its perturbed copies gave."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._kept: dict[tuple[Any, ...], Any] = {}

    def reference(self) -> Backend:
        """Return the numpy backend in float64."""
        return get_backend("numpy", threads=self.problem.config.threads)

    def perturbed(self, precision: str) -> Iterator[Backend]:
        """Yield the references that err at random as the precision does."""
        for sample in range(SAMPLES):
            yield PerturbedBackend(precision, sample, self.problem.config.threads)

    def once(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Return what ``compute`` returned when the key was first asked for."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def velocity(
        self, backend: Backend, precision: str, chart: str, **keys: Any
    ) -> dict[str, HostArray]:
        """Return the joint flow's velocity at t = 0 by array, in the chart's coordinates."""
        X, Y, initial = self.problem.rounded(precision)
        config = _config(self.problem.config, "rk4", **keys)
        with backend.active():
            model = build_model(config, backend, make_chart(chart, backend, X, initial["U"]), X, Y)
            state = model.start(initial)
            out = State.empty(backend, model.state_shapes, model.moving)
            velocity(model, state, out=out)
            return {
                name: _float64(backend.to_host(array))
                for name, array in out
                if name in model.moving
            }

    def simulation(
        self,
        backend: Backend,
        precision: str,
        chart: str,
        integrator: str,
        kind: type[Simulation] = Simulation,
        step_size: float | None = None,
    ) -> Simulation:
        """Return a run at t = 0 on that backend."""
        X, Y, initial = self.problem.rounded(precision)
        config = _config(self.problem.config, integrator, precision=backend.precision)
        resolved = Resolved(
            backend.name,
            backend.device,
            chart,
            step_size or self.problem.step_size,
            backend.threads,
        )
        return kind(config, X, Y, initial=initial, resolved=resolved, backend=backend)

    def accepted_step_size(self, chart: str, integrator: str) -> float:
        """Return the step size, for adaptive methods half of what the reference accepts first.

        Whether an attempt at the tolerance's edge stands may hang on one rounding.
        """

        def first() -> float:
            simulation = self.simulation(self.reference(), "float64", chart, integrator)
            with simulation:
                simulation.advance()
            return simulation.time / (2.0 if simulation.stepper.adaptive else 1.0)

        step_size: float = self.once(("first", chart, integrator), first)
        return step_size


def _config(config: RunConfig, integrator: str, **keys: Any) -> RunConfig:
    """Return a configuration for an integrator, whichever it was made for.

    gd draws its penalty points, so that random numbers are a part of what is verified.
    """
    if integrator in FLOWS:
        keys |= {"penalty_points": "midpoint", "critic_step_size": None}
    else:
        keys |= {"penalty_points": "random"}
    return config.replace(integrator=integrator, **keys)


def _float64(array: HostArray) -> HostArray:
    return array.astype(np.float64)


# -- the rungs -------------------------------------------------------------------------------------


def primitive(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """Every operation of the protocol."""
    with candidate.backend.active():
        yield from check_operations(candidate.backend, bench.problem.sizes)


def velocities(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """The velocity of the joint flow, for both kinds of critic and without one."""
    kinds: dict[str, dict[str, Any]] = {
        "wgan-gp": {"critic": "wgan-gp"},
        "minimax": {"critic": "minimax"},
        "without": {"diffusion": False},
    }
    precision = candidate.backend.precision
    for chart in CHARTS:
        for name, keys in kinds.items():

            def compute(backend: Backend, chart: str = chart, keys: Any = keys) -> Any:
                return bench.velocity(backend, precision, chart, **keys)

            expected, allowed = _expected(bench, precision, ("velocity", chart, name), compute)
            errors = _errors(compute(candidate.backend), expected)
            for array, error in errors.items():
                yield Finding(f"{chart}, {name}: d{array}/dt", error, allowed[array], _SPREAD)


def one_step(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """One step of every integrator, and the size that an adaptive one takes next."""
    precision = candidate.backend.precision
    for chart, integrator in _methods():

        def compute(
            backend: Backend,
            kind: type[Simulation] = Simulation,
            chart: str = chart,
            integrator: str = integrator,
        ) -> dict[str, HostArray]:
            h = bench.accepted_step_size(chart, integrator)
            with bench.simulation(backend, precision, chart, integrator, kind, h) as simulation:
                simulation.advance()
                size = simulation.restart_point().scalars["step_size"]
                sizes = {"next step size": np.array(size)} if simulation.stepper.adaptive else {}
                return {**simulation.weights(), **sizes}

        expected, allowed = _expected(bench, precision, ("step", chart, integrator), compute)
        errors = _errors(compute(candidate.backend, candidate.simulation), expected)
        for name, error in errors.items():
            yield Finding(f"{chart}, {integrator}: {name}", error, allowed[name], _SPREAD)


def trajectory(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """Several steps of gd, up to where a gate differs."""
    precision = candidate.backend.precision
    for chart in CHARTS:

        def start(backend: Backend, kind: type[Simulation], chart: str = chart) -> Simulation:
            return bench.simulation(backend, precision, chart, "gd", kind)

        def follow(start: Callable[..., Simulation] = start) -> tuple[Any, list[_Separation]]:
            with start(bench.reference(), Simulation) as simulation:
                reference = list(_course(simulation))
            others = [
                _separation(start(backend, Simulation), reference)
                for backend in bench.perturbed(precision)
            ]
            return reference, others

        reference, others = bench.once(("trajectory", precision, chart), follow)
        measured = _separation(start(candidate.backend, candidate.simulation), reference)
        yield from _compare_trajectories(chart, measured, others)


def determinism(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """Large operations twice, and the same run twice from the start."""
    with candidate.backend.active():
        first, second = (large_results(candidate.backend) for _ in range(2))
    yield Finding("large operations twice", _count_differing(first, second), 0.0, _BITS)
    for chart, integrator in _methods():
        first, second = (
            _bits(_run(candidate, bench, chart, integrator, 2 * _HALF)) for _ in range(2)
        )
        differing = _count_differing(first, second)
        item = f"{chart}, {integrator}: {2 * _HALF} steps twice"
        yield Finding(item, differing, 0.0, _BITS)


def resumption(candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """A run left half-way and restored, against one that was not."""
    for chart, integrator in _methods():
        whole = _run(candidate, bench, chart, integrator, 2 * _HALF)
        point = _run(candidate, bench, chart, integrator, _HALF)
        again = _run(candidate, bench, chart, integrator, _HALF, restored=point)
        differing = _count_differing(_bits(whole), _bits(again))
        item = f"{chart}, {integrator}: restored at step {_HALF}"
        yield Finding(item, differing, 0.0, _BITS)
    if candidate.through_files:
        differing = _differing_through_a_file(candidate.backend, bench.problem)
        yield Finding(f"gd: file resumed at step {_HALF}", differing, 0.0, _BITS)


RUNGS: dict[str, Callable[[Candidate, Bench], Iterator[Finding]]] = {
    "primitive": primitive,
    "velocity": velocities,
    "step": one_step,
    "trajectory": trajectory,
    "determinism": determinism,
    "resume": resumption,
}
"""From the lowest up. Determinism stands below resuming: what differs when it is merely done again
differs when it is resumed, too."""


# -- how far apart, and how far apart they may be --------------------------------------------------

_SPREAD = f"{SPREAD:g} x rms of {SAMPLES} references with such rounding"


def _expected(
    bench: Bench, precision: str, key: tuple[str, ...], compute: Callable[[Backend], Any]
) -> Any:
    """Return what the reference computes, and by array the allowed relative error."""

    def evaluate() -> tuple[dict[str, HostArray], dict[str, float]]:
        expected = compute(bench.reference())
        errors = [_errors(compute(backend), expected) for backend in bench.perturbed(precision)]
        return expected, _allowed(errors)

    return bench.once((precision, *key), evaluate)


def _errors(
    computed: Mapping[str, HostArray], expected: Mapping[str, HostArray]
) -> dict[str, float]:
    """||computed - expected||_F / ||expected||_F by array."""
    return {
        name: float(np.linalg.norm(_float64(computed[name]) - array))
        / (float(np.linalg.norm(array)) or 1.0)
        for name, array in expected.items()
    }


def _allowed(errors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`SPREAD` root mean squares of the perturbed references' errors, by array."""
    return {
        name: SPREAD * float(np.sqrt(np.mean([error[name] ** 2 for error in errors])))
        for name in errors[0]
    }


@dataclass(frozen=True)
class _Separation:
    """How a trajectory leaves the reference: errors after each step, and its generator's gates.

    ``flips`` are the numbers of gates that differ in each step, ``flipped`` the largest |A| of the
    reference among them, ``drift`` the largest error of A.
    """

    errors: list[dict[str, float]]
    flips: list[int]
    flipped: list[float]
    drift: list[float]

    @property
    def compared(self) -> int:
        """The number of steps before a gate differs."""
        return next((i for i, count in enumerate(self.flips) if count), len(self.flips))


def _course(simulation: Simulation) -> Iterator[tuple[dict[str, HostArray], HostArray]]:
    """Take steps of gd; yield the weights after each, and the pre-activations it saw."""
    for _ in range(TRAJECTORY_STEPS):
        simulation.advance()
        A = _float64(simulation.backend.to_host(simulation.model.work.A))
        yield simulation.weights(), A


def _separation(
    simulation: Simulation, reference: list[tuple[dict[str, HostArray], HostArray]]
) -> _Separation:
    result = _Separation([], [], [], [])
    with simulation:
        for (weights, A), (expected, A_ref) in zip(_course(simulation), reference, strict=True):
            differ = (A >= 0) != (A_ref >= 0)
            result.errors.append(_errors(weights, expected))
            result.flips.append(int(np.count_nonzero(differ)))
            result.flipped.append(float(np.max(np.abs(A_ref[differ]), initial=0.0)))
            result.drift.append(float(np.max(np.abs(A - A_ref))))
    return result


def _compare_trajectories(
    chart: str, measured: _Separation, others: list[_Separation]
) -> Iterator[Finding]:
    steps = measured.compared
    allowed = [_allowed(errors) for errors in zip(*(o.errors for o in others), strict=True)]
    for name in measured.errors[0]:
        findings = [
            Finding(f"{chart}, gd: {name} after step {i + 1}", error[name], bound[name], _SPREAD)
            for i, (error, bound) in enumerate(zip(measured.errors, allowed, strict=True))
        ][: max(steps, 1)]
        yield max(reversed(findings), key=lambda finding: finding.severity)
    if steps == TRAJECTORY_STEPS:
        yield Finding(f"{chart}, gd: gates", 0.0, 0.0, f"none differs in {steps} steps")
        return
    drift = _allowed([{"A": other.drift[steps]} for other in others])["A"]
    item = f"{chart}, gd: |A| at {measured.flips[steps]} gates that differ in step {steps + 1}"
    yield Finding(item, measured.flipped[steps], drift, _SPREAD)


# -- runs, again and resumed -----------------------------------------------------------------------


def _methods() -> Iterator[tuple[str, str]]:
    return ((chart, integrator) for chart in CHARTS for integrator in ("gd", *FLOWS))


def _run(
    candidate: Candidate,
    bench: Bench,
    chart: str,
    integrator: str,
    steps: int,
    restored: Any = None,
) -> Any:
    """Return the restart point after so many steps, from the start or from another point."""
    backend = candidate.backend
    simulation = bench.simulation(
        backend, backend.precision, chart, integrator, candidate.simulation
    )
    with simulation:
        if restored is not None:
            simulation.advance()  # whatever it did before must not matter
            simulation.restore(restored)
        simulation.advance(steps)
        point = simulation.restart_point()
        simulation.advance()  # the point is a copy: going on must not change it
    return point


def _bits(point: Any) -> list[HostArray]:
    numbers = [point.step, point.time, *point.scalars.values()]
    return [*point.arrays.values(), np.array(numbers, np.float64)]


def _count_differing(left: Sequence[HostArray], right: Sequence[HostArray]) -> int:
    """Count entries whose bits differ."""

    def words(array: HostArray) -> HostArray:
        return array.reshape(-1).view(f"u{array.itemsize}")

    return sum(
        int(np.count_nonzero(words(a) != words(b))) for a, b in zip(left, right, strict=True)
    )


def _differing_through_a_file(backend: Backend, problem: Problem) -> int:
    """Run by name into files: one at once, one left and resumed; count what differs at the end."""
    device = backend.device.partition(":")[2]
    keys = {
        "backend": f"{backend.name}:{device}" if device else backend.name,
        "precision": backend.precision,
        "step_size": problem.step_size,
    }
    config = _config(problem.config, "gd", **keys)
    with TemporaryDirectory(prefix="prdsim-verify-") as folder:
        whole, part = Path(folder, "whole.h5"), Path(folder, "part.h5")
        expected = run(config, output=str(whole), steps=2 * _HALF).state
        run(config, output=str(part), steps=_HALF)
        resumed = resume(part, steps=2 * _HALF).state
    return _count_differing(list(expected.values()), list(resumed.values()))


# -- the whole -------------------------------------------------------------------------------------


def candidates(
    names: Sequence[str] = (), precisions: Sequence[str] = (), *, threads: int | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the backends that work here, at every precision they have, and why others do not.

    Raises `BackendUnavailableError` if one was named, or a precision that none of them has, and
    `ConfigError` for a name that is none.
    """
    found: list[Candidate] = []
    unavailable: dict[str, str] = {}
    for name in names or backend_names():
        try:
            get_backend(name)
        except BackendUnavailableError as error:
            if names:
                raise
            unavailable[name] = str(error).partition(": ")[2].replace("\n", " ")
            continue
        reasons = []
        for precision in precisions or ROUNDING:
            try:
                backend = get_backend(name, precision=precision, threads=threads)
                found.append(Candidate(backend, through_files=True))
            except BackendUnavailableError as error:
                reasons.append(error)
        if names and precisions and reasons:
            raise reasons[0]
    if not found:
        raise BackendUnavailableError(f"no backend here has precision {', '.join(precisions)}")
    return found, unavailable


def verify(
    candidates: Iterable[Candidate],
    config: RunConfig | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    past_failures: bool = True,
) -> list[Check]:
    """Climb the ladder with every candidate; return all checks, whether they hold or not.

    The data and sizes are those of ``config``; its backend, precision, chart, integrator and output
    do not matter. Diffusion is on. ``progress`` is told each rung as it begins. Without
    ``past_failures`` a candidate climbs no further than the first rung that fails. Raises
    `ConfigError` or `DataError` where a run of the configuration would.
    """
    bench = Bench(Problem(config or RunConfig(**DEFAULTS)))
    checks: list[Check] = []
    for candidate in candidates:
        for rung in RUNGS:
            if progress is not None:
                progress(f"{candidate.backend.name} {candidate.backend.precision}: {rung}")
            found = [_row(candidate.backend, rung, f) for f in _climbed(rung, candidate, bench)]
            checks += found
            if not past_failures and not all(check.holds for check in found):
                break
    return checks


def _row(backend: Backend, rung: str, finding: Finding) -> Check:
    return Check(
        backend=backend.name,
        precision=backend.precision,
        rung=rung,
        item=finding.item,
        measured=float(finding.measured),
        allowed=float(finding.allowed),
        reason=finding.reason,
        holds=bool(finding.holds),
        severity=finding.severity,
    )


def _climbed(rung: str, candidate: Candidate, bench: Bench) -> Iterator[Finding]:
    """Yield a rung's findings; an error on the way is one that fails."""
    try:
        yield from RUNGS[rung](candidate, bench)
    except Exception as error:
        text = str(error).partition("\n")[0]
        yield Finding(f"{type(error).__name__}: {text}", float("inf"), 0.0, "the rung stopped here")
