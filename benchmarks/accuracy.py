"""How functionals of a run depend on the method and its step: the tables of docs/accuracy.md.

    python benchmarks/accuracy.py --mnist FOLDER -o accuracy      # about an hour on two cores
    python benchmarks/accuracy.py --case readme --method 'bs23 1e-3' --method 'gd h/64' -o accuracy

Each run is a trajectory file in the folder; finished ones are kept, so that the command can be
stopped and repeated. The results of all finished runs are written to accuracy.json.

h is 1/lambda_max at t = 0. Every method but `gd, update 0.01` is of the same model: the critic's
speed beta = 1, the penalty at the midpoints. That one is what prdsim did by default until 0.1.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prdsim import __version__
from prdsim.analysis import history, open_recording
from prdsim.config import RunConfig
from prdsim.convergence.judgment import HEADLINE
from prdsim.datasets.configured import load_data
from prdsim.files.whole import write_whole
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.step_size import automatic_step_size
from prdsim.trajectory import Status, open_trajectory

CASES: dict[str, dict[str, Any]] = {
    "readme": {},
    "digits": {"preset": "poster", "dataset": "digits"},
    "mnist": {"preset": "poster", "dataset": "mnist", "split": "test"},
}
ADAPTIVE = {
    f"bs23 {rtol:.0e}".replace("e-0", "e-"): rtol for rtol in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
}
FIXED = {
    "gd h": ("gd", 1),
    "gd h/4": ("gd", 4),
    "gd h/16": ("gd", 16),
    "gd h/64": ("gd", 64),
    "heun h/4": ("heun", 4),
}
BEFORE = "gd, update 0.01"
METHODS = (*ADAPTIVE, *FIXED, BEFORE)

MEASURES = tuple(HEADLINE)
SCALARS = ("loss_sup", "balance_drift", "invariant_error", "evaluations", "rejected_steps")


def config_of(case: str, method: str, options: argparse.Namespace) -> RunConfig:
    keys = {"diffusion": True, "snapshots": "times:geometric:8", **CASES[case]}
    if case == "mnist":
        keys["data_dir"] = options.mnist
    keys |= {"end_time": options.end_time, "threads": options.threads, "seed": options.seed}
    keys["output"] = str(options.output / f"{case}-{method.replace('/', '_').replace(' ', '-')}.h5")
    if method in ADAPTIVE:
        return RunConfig(**keys, rtol=ADAPTIVE[method])
    h = inverse_of_lambda_max(RunConfig(**keys))
    if method == BEFORE:
        step = 0.05 if keys.get("preset") else h
        return RunConfig(
            **keys, integrator="gd", step_size=step, critic_step_size=0.01, penalty_points="random"
        )
    integrator, divisor = FIXED[method]
    return RunConfig(**keys, integrator=integrator, step_size=h / divisor)


def inverse_of_lambda_max(config: RunConfig) -> float:
    dataset = load_data(config)
    sizes = dimensions_of(config, dataset.X.shape[0], dataset.Y.shape[0], dataset.X.shape[1])
    return automatic_step_size(config, dataset.X, dataset.Y, draw_initial(config, sizes, dataset.X))


def measured(path: Path) -> dict[str, float] | None:
    """Return measures and scalars at the end of a finished run."""
    if not path.exists():
        return None
    with open_trajectory(path) as trajectory:
        if trajectory.status is not Status.FINISHED:
            return None
    with open_recording(path) as recording:
        groups = ("distances", "spread", "entries", "order", "activity")
        found = history(recording, groups, snapshots=[len(recording) - 1])
        assert recording.scalars is not None
        row = {name: float(found[name][0]) for name in MEASURES}
        row |= {name: float(recording.scalars[name][-1]) for name in SCALARS}
        return {"time": float(recording.time[-1]), "steps": float(recording.step[-1]), **row}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=list(CASES), help="[all]")
    parser.add_argument("--method", action="append", choices=METHODS, help="[all]")
    parser.add_argument("--mnist", help="folder that holds MNIST's test part; without it left out")
    parser.add_argument("--end-time", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    cases = options.case or [name for name in CASES if name != "mnist" or options.mnist]
    results: dict[str, dict[str, Any]] = {}
    for case in cases:
        for method in options.method or METHODS:
            config = config_of(case, method, options)
            path = Path(str(config.output))
            if measured(path) is None:
                print(f"{case}, {method}", file=sys.stderr, flush=True)
                result = (
                    resume(path, progress=True) if path.exists() else run(config, progress=True)
                )
                if result.signal is not None:
                    return 128 + result.signal
            results.setdefault(case, {})[method] = measured(path)
            print(case, method, json.dumps(results[case][method]), flush=True)
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "prdsim": __version__}
    settings = {"end_time": options.end_time, "seed": options.seed}
    text = json.dumps({**about, **settings, "cases": results}, indent=2)
    write_whole(options.output / "accuracy.json", (text + "\n").encode(), force=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
