"""How long a whole converged experiment takes, from the start of a program to its last number.

    python benchmarks/converged.py [--job readme|poster ...] [--only CONTENDER ...] [--rounds 3]

Writes benchmarks/results/<date>-converged.json and prints a summary; takes half an hour on two idle
cores, and needs pip install -e '.[bench]'. For docs/performance.md, give its file to
benchmarks/report.py with --converged.

The jobs are the README's, and the preset poster to t = 20. prdsim runs as its command is called; a
rival in a process of its own, which gets data and initial weights (the critic warmed up) from
outside. Its clock runs from the import of its library to its last weights; it records nothing.
Each does a job cold, with an empty folder of compiled code, and then warm, with a full one; the
rounds alternate. Fixed steps take minutes: they take part in the first round alone. PyTorch
compiles nothing here.

`diffrax` integrates by the same method at the same tolerances in the same norm. The others
alternate between critic and generator by fixed steps, as users of their libraries do, with five
updates of the critic a step or one. Errors are differences from the finest replay of
`prdsim converge`, whose verdict on prdsim's run is the stated error. The fixed step is the largest
of h, h/2, ..., h/256, with h = 1/lambda_max, at which the errors of the functionals are no larger
than stated (root mean square of their ratios; found by prdsim's gd, the same algorithm).

Agreement comes first. At a fiftieth of the end time, before chaos scatters even runs of one method,
diffrax and prdsim have to agree, both at a tenth of the tolerance, up to the error that is stated
there. At the end diffrax may differ from the finest replay by three stated errors, each the largest
of four differences; fixed steps end where those of prdsim do, up to rounding. Where they do not,
the program ends with an error, and reports nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, hypot, sqrt
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rivals  # noqa: F401 - with all it needs of prdsim, before any clock runs
from sweeps import processor_seconds
from thresholds import promises_of_whole_runs

from prdsim.backends.arrays import HostArray
from prdsim.config import RunConfig
from prdsim.convergence.assess import converge
from prdsim.datasets.configured import load_data
from prdsim.files.whole import write_whole
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.running.step_size import automatic_step_size
from prdsim.timing.machine import circumstances
from prdsim.timing.workload import Workload

RESULTS = Path(__file__).resolve().parent / "results"
JOBS: dict[str, dict[str, Any]] = {
    "readme": {"diffusion": True},
    "poster": {"preset": "poster", "diffusion": True, "end_time": 20.0},
}
FUNCTIONALS = ("loss_sup", "loss_adv", "loss_critic", "distance_U_mean", "distance_V_mean")
LARGEST_DIVISOR = 256
SCATTER = 3.0  # stated errors, at the end
ROUNDING = 1e-6  # relative, of functionals: rounding of 1e-16 grows by five orders up to t = 50


@dataclass(frozen=True)
class Entry:
    """A contender: its label, its library, and the critic's updates a fixed step; 0 if adaptive."""

    label: str
    library: str
    updates: int = 0


OURS = "prdsim"
ENTRIES = (
    Entry(OURS, OURS),
    Entry("diffrax", "diffrax"),
    Entry("jax, 5 updates", "jax", 5),
    Entry("jax, 1 update", "jax", 1),
    Entry("torch, 1 update", "torch", 1),
)


@dataclass(frozen=True)
class Judgment:
    """What `prdsim converge` found of prdsim's run at a time.

    ``truth`` are the functionals of the finest replay, ``stated`` the run's relative errors.
    """

    time: float
    truth: dict[str, float]
    stated: dict[str, float]


@dataclass(frozen=True)
class Problem:
    """A job, ready: its data and the weights at t = 0, and how far its numbers can be trusted.

    It was judged early and at the end; ``steps`` is the number of fixed steps by the critic's
    updates in each, and what led to it.
    """

    name: str
    config: RunConfig
    X: HostArray
    Y: HostArray
    initial: dict[str, HostArray]
    first_step: float
    early: Judgment
    end: Judgment
    steps: dict[int, dict[str, Any]]

    def workload(self, updates: int) -> Workload:
        """Return the job for fixed steps; for adaptive ones the step size means nothing."""
        size = self.config.end_time / self.steps[updates]["steps"] if updates else 1.0
        config = alternating(self.config, updates or 1, size)
        return Workload(config, self.X, self.Y, self.initial)

    def errors(self, found: dict[str, float]) -> dict[str, float]:
        """Return the relative errors of functionals at the end."""
        truths = self.end.truth.items()
        return {name: abs(found[name] - truth) / abs(truth) for name, truth in truths}


def main() -> None:
    """Measure all chosen contenders in all chosen jobs, and write."""
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    report: dict[str, Any] = {
        "format": 1,
        **circumstances("jax", "jaxlib", "diffrax", "torch"),
        "threads": options.threads,
        "rounds": options.rounds,
        "jobs": [],
    }
    path = options.output or RESULTS / f"{report['date'][:10]}-converged.json"
    for name in options.job or JOBS:
        entries = [entry for entry in ENTRIES if entry.label in (options.only or entry.label)]
        report["jobs"].append(measured(name, entries, options))
        text = json.dumps(report, indent=1) + "\n"
        write_whole(path, text.encode(), force=True)
    for job in report["jobs"]:
        print(summary(job))
    for promise in promises_of_whole_runs(report):
        measured_text = "-" if promise.measured is None else f"{promise.measured:.3g}"
        print(f"{promise.what}: {measured_text}, required {promise.required:g}")
    print(path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    labels = [entry.label for entry in ENTRIES]
    parser.add_argument("--job", action="append", choices=list(JOBS), help="[all]")
    parser.add_argument("--only", action="append", choices=labels, help="[all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--end-time", type=float, help="a shorter one, to try it out")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--output", type=Path, help="the file to write")
    return parser.parse_args()


# -- what is to be done, and how accurately --------------------------------------------------------


def problem_of(name: str, updates: set[int], end_time: float | None, threads: int) -> Problem:
    """Run the job and converge it; find the fixed steps of the same accuracy.

    ``updates`` are the numbers of critic updates for which they are wanted.
    """
    keys = {**JOBS[name], "threads": threads}
    config = RunConfig(**(keys if end_time is None else keys | {"end_time": end_time}))
    data = load_data(config)
    with Simulation(config, data.X, data.Y) as simulation:
        initial, first_step = simulation.weights(), simulation.resolved.step_size
    end = judged(config)
    early = judged(config.replace(end_time=end.time / 50))
    found = Problem(name, config, data.X, data.Y, initial, first_step, early, end, steps={})
    longest = automatic_step_size(config, data.X, data.Y, initial)
    for number in sorted(updates - {0}):
        found.steps[number] = fixed_steps(found, number, longest)
    return found


def judged(config: RunConfig) -> Judgment:
    """Run and converge a configuration."""
    with TemporaryDirectory(prefix="prdsim-bench-") as folder:
        done = run(config, output=f"{folder}/run.h5")
        report = converge(done.path, say=_say).report
    assert report is not None
    rows = {row.name: row for row in report.rows}
    truth, stated = {}, {}
    for functional in FUNCTIONALS:
        row = rows[functional]
        assert row.finer[-1] is not None
        assert row.error is not None
        truth[functional], stated[functional] = row.finer[-1], row.error
    return Judgment(report.time, truth, stated)


def fixed_steps(problem: Problem, updates: int, longest: float) -> dict[str, Any]:
    """Return the steps of gd that err no more than is stated of prdsim's run, and all tried.

    If none does, they are the smallest; their errors are in the report, None where steps diverge.
    """
    end, divisor = float(problem.config.end_time or 0.0), 1
    tried: dict[int, dict[str, float] | None] = {}
    while True:
        steps = ceil(end * divisor / longest)
        config = alternating(problem.config, updates, end / steps)
        _say(f"{problem.name}: gd, {updates} updates, {steps} steps")
        with Simulation(config, problem.X, problem.Y, initial=problem.initial) as simulation:
            simulation.advance(steps)
            weights = simulation.weights()
        tried[steps] = None  # such steps diverge
        if all(np.isfinite(array).all() for array in weights.values()):
            found = functionals(problem, weights)
            tried[steps] = errors = problem.errors(found)
            ratios = [errors[name] / problem.end.stated[name] for name in FUNCTIONALS]
            if hypot(*ratios) <= sqrt(len(ratios)) or divisor == LARGEST_DIVISOR:
                return {"steps": steps, "divisor": divisor, "functionals": found, "tried": tried}
        if divisor == LARGEST_DIVISOR:
            raise RuntimeError(f"{problem.name}: gd diverges with all fixed steps that are tried")
        divisor *= 2


def alternating(config: RunConfig, updates: int, step_size: float) -> RunConfig:
    """Return the configuration of gd for the same flow; its runs end when they are told to."""
    return config.replace(
        integrator="gd",
        critic_steps=updates,
        step_size=step_size,
        critic_warmup=0.0,
        end_time=None,
        steps=2**31 - 1,
    )


def functionals(problem: Problem, weights: dict[str, HostArray]) -> dict[str, float]:
    """Return the functionals of final weights, all contenders' by the same program."""
    config = alternating(problem.config, 1, 1.0)
    with Simulation(config, problem.X, problem.Y, initial=weights) as there:
        found = there.observe()
    for name, axis in (("U", 1), ("V", 0)):
        moved = np.linalg.norm(weights[name] - problem.initial[name], axis=axis)
        found[f"distance_{name}_mean"] = float(moved.mean())
    return {name: found[name] for name in FUNCTIONALS}


# -- the race --------------------------------------------------------------------------------------


def measured(name: str, entries: list[Entry], options: argparse.Namespace) -> dict[str, Any]:
    """Return what a job of the report says."""
    updates = {entry.updates for entry in entries}
    problem = problem_of(name, updates, options.end_time, options.threads)
    if any(entry.library == "diffrax" for entry in entries):
        check_early(problem)
    rows: dict[str, list[dict[str, Any]]] = {entry.label: [] for entry in entries}
    for number in range(options.rounds):
        for entry in entries:
            if entry.updates and number > 0:
                continue
            _say(f"{name}: round {number + 1}/{options.rounds}, {entry.label}")
            with TemporaryDirectory(prefix="prdsim-bench-") as folder:
                states = ("warm",) if entry.library == "torch" else ("cold", "warm")
                found = {state: alone(entry, problem, Path(folder)) for state in states}
            rows[entry.label].append(found)
    config = problem.config
    return {
        "name": name,
        "keys": {key: getattr(config, key) for key in ("preset", "end_time", "rtol", "atol")},
        "sizes": {"n": config.samples, "m": config.width, "d_in": len(problem.X)},
        "truth": problem.end.truth,
        "stated_errors": problem.end.stated,
        "fixed_steps": problem.steps,
        "contenders": [summed_up(entry, rows[entry.label]) for entry in entries],
    }


def check_early(problem: Problem) -> None:
    """Let diffrax begin the job at a tenth of the tolerance, untimed; raise unless it agrees."""
    _say(f"{problem.name}: agreement of diffrax")
    early, config = problem.early, problem.config
    tight = {"rtol": config.rtol / 10, "atol": config.atol / 10, "end_time": early.time}
    begun = replace(problem, config=config.replace(**tight))
    with TemporaryDirectory(prefix="prdsim-bench-") as folder:
        _, weights = _run_rival(Entry("diffrax", "diffrax"), begun, Path(folder))
    label = f"diffrax at t = {early.time:g}, a tenth of the tolerance,"
    check(label, functionals(problem, weights), early.truth, early.stated)


def check(
    label: str, found: dict[str, float], right: dict[str, float], allowed: dict[str, float]
) -> None:
    """Raise `RuntimeError` if functionals differ by more than the relative errors allowed."""
    for name in FUNCTIONALS:
        if not abs(found[name] - right[name]) <= allowed[name] * abs(right[name]):
            raise RuntimeError(
                f"{label} ends with {name} = {found[name]:.6g} instead of {right[name]:.6g}, "
                f"which is more than {100 * allowed[name]:.2g} % off"
            )


def alone(entry: Entry, problem: Problem, folder: Path) -> dict[str, Any]:
    """Let a contender do the job in a process of its own; compiled code is kept in the folder.

    Raises `RuntimeError` if the process fails, or its numbers are not those of the job.
    """
    ours = entry.library == OURS
    found, weights = (_run_prdsim if ours else _run_rival)(entry, problem, folder)
    values = functionals(problem, weights)
    if entry.updates:
        right = problem.steps[entry.updates]["functionals"]
        check(entry.label, values, right, dict.fromkeys(FUNCTIONALS, ROUNDING))
    else:
        allowed = {name: SCATTER * error for name, error in problem.end.stated.items()}
        check(entry.label, values, problem.end.truth, allowed)
    return {**found, "errors": problem.errors(values)}


def _run_prdsim(
    entry: Entry,  # noqa: ARG001 - there is one of this kind
    problem: Problem,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, HostArray]]:
    from prdsim.trajectory import open_trajectory

    path = folder / "run.h5"
    keys = {**JOBS[problem.name], "end_time": problem.config.end_time, "output": path}
    keys |= {"threads": problem.config.threads, "force": True}
    command = [sys.executable, "-m", "prdsim", "run", *_options(keys)]
    begun, used = time.perf_counter(), processor_seconds()
    done = _child(command, {"NUMBA_CACHE_DIR": str(folder / "kernels")})
    total, used = time.perf_counter() - begun, processor_seconds() - used
    wall = re.search(r"wall time +(\S+) s, (\S+) ms per step", done.stderr + done.stdout)
    assert wall is not None
    with open_trajectory(path) as trajectory:
        found = {
            "seconds": total,
            "processor": used,
            "run": float(wall[1]),
            "ms_per_step": float(wall[2]),
            "steps": int(trajectory.reached_step),
            "rejected": int(trajectory.scalars["rejected_steps"][-1]),
        }
        weights = {name: np.asarray(getattr(trajectory, name)[-1]) for name in "UVWa"}
    return found, weights


def _run_rival(
    entry: Entry, problem: Problem, folder: Path
) -> tuple[dict[str, Any], dict[str, HostArray]]:
    given, answer = folder / "problem.pickle", folder / "answer.pickle"
    config = problem.config
    assert config.end_time is not None
    flow = (config.rtol, config.atol, config.end_time, problem.first_step)
    steps = problem.steps[entry.updates]["steps"] if entry.updates else 0
    threads = config.threads
    given.write_bytes(
        pickle.dumps((entry.library, problem.workload(entry.updates), flow, steps, threads))
    )
    _child(
        [sys.executable, __file__, "--rival", str(given), str(answer)],
        {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
    )
    found, weights = pickle.loads(answer.read_bytes())
    found["ms_per_step"] = 1e3 * found["run"] / (found["steps"] + found["rejected"])
    return found, weights


def _options(keys: dict[str, Any]) -> Iterator[str]:
    for key, value in keys.items():
        option = f"--{key.replace('_', '-')}"
        yield from (option,) if value is True else (option, str(value))


def _child(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return done


def rival(given: str, answer: str) -> None:
    """Do a job in this process; write how long its parts took, and the weights."""
    library, workload, flow, steps, threads = pickle.loads(Path(given).read_bytes())
    found: dict[str, Any] = {}
    begun, used = time.perf_counter(), time.process_time()
    if library == "diffrax":
        counts, weights = _integrate(workload, flow, found)
    else:
        counts, weights = _alternate(library, workload, steps, threads, found)
    found |= {"seconds": time.perf_counter() - begun, "processor": time.process_time() - used}
    Path(answer).write_bytes(pickle.dumps(({**found, **counts}, weights)))


def _integrate(
    workload: Workload, flow: tuple[float, ...], found: dict[str, Any]
) -> tuple[Any, Any]:
    clock = _clock(found)
    from diffrax_rival import DiffraxRival

    clock("import")
    contender = DiffraxRival(workload, *flow)
    clock("compile")
    counts = contender.solve()
    clock("run")
    return counts, contender.weights()


def _alternate(
    library: str, workload: Workload, steps: int, threads: int, found: dict[str, Any]
) -> tuple[Any, Any]:
    clock = _clock(found)
    contender: Any
    if library == "jax":
        from jax_rival import JaxRival

        clock("import")
        contender = JaxRival(workload)
    else:
        from torch_rival import TorchRival

        clock("import")
        contender = TorchRival(workload, threads)
    contender.prepare(1)
    contender.points *= steps  # midpoints: all steps have the same
    contender.advance(1)
    clock("compile")
    contender.advance(steps - 1)
    clock("run")
    return {"steps": steps, "rejected": 0}, contender.weights()


def _clock(found: dict[str, Any]) -> Callable[[str], None]:
    """Return a function that notes the seconds since its last call, or now, under a name."""
    last = time.perf_counter()

    def note(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        found[name], last = now - last, now

    return note


# -- what was found --------------------------------------------------------------------------------


def summed_up(entry: Entry, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the rounds of a contender, and the rounds."""
    warm = [each["warm"] for each in rounds]
    return {
        "label": entry.label,
        "cold_seconds": median(each.get("cold", each["warm"])["seconds"] for each in rounds),
        "warm_seconds": median(each["seconds"] for each in warm),
        "run_seconds": median(each["run"] for each in warm),
        "processor_seconds": median(each["processor"] for each in warm),
        "ms_per_step": median(each["ms_per_step"] for each in warm),
        "steps": warm[-1]["steps"],
        "rejected": warm[-1]["rejected"],
        "errors": warm[-1]["errors"],
        "rounds": rounds,
    }


def summary(job: dict[str, Any]) -> str:
    """Return lines for the terminal."""
    lines = [
        f"{job['name']}: seconds cold, warm, of processors; steps, rejected, ms; largest error"
    ]
    for row in job["contenders"]:
        lines.append(
            f"  {row['label']:18} {row['cold_seconds']:8.2f} {row['warm_seconds']:8.2f} "
            f"{row['processor_seconds']:8.2f} "
            f"{row['steps']:7d} {row['rejected']:4d} {row['ms_per_step']:8.3f} "
            f"{100 * max(row['errors'].values()):6.2f} %"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rival"]:
        rival(*sys.argv[2:])
    else:
        main()
