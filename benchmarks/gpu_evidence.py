"""Evidence from a CUDA device, in under 8 minutes: tests, accuracy, determinism, first timings.

    python benchmarks/gpu_evidence.py [--device 0] [--results FOLDER]

Run it from the repository's root on a machine with a GPU, with prdsim[cuda13,test] (or cuda12)
installed. It writes benchmarks/results/<date>-gpu-<device>.json and ends with code 0 if all holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from prdsim import __version__
from prdsim.backends import get_backend
from prdsim.config import RunConfig
from prdsim.errors import PrdsimError
from prdsim.simulation import Simulation

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("float64", "float32", "tf32")
SIZES = [(512, 784, 10, 256), (2048, 784, 10, 1024), (4096, 784, 10, 4096), (4096, 784, 784, 2048)]
ACCURACY = {"float64": (0.0, 1e-13), "float32": (0.0, 1e-5), "tf32": (1e-5, 2e-3)}
TIMED_SECONDS = 2.0


def main() -> int:
    """Gather everything, write the file, say what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    backend = f"cupy:{options.device}"
    try:
        description = get_backend(backend).describe()
    except PrdsimError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    started, evidence = time.monotonic(), {"prdsim": __version__, "device": description}
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "machine": machine,
        "tests": lambda: tests(options.device),
        "ladder": lambda: ladder(backend),
        "products": lambda: products(backend),
        "trajectories": lambda: trajectories(backend),
        "determinism": lambda: determinism(backend),
        "sanitizer": lambda: sanitizer(options.device),
        "timings": lambda: timings(backend),
    }
    for name, section in sections.items():
        print(f"{name} ...", flush=True)
        evidence[name] = section()
        print(json.dumps(evidence[name], indent=2), flush=True)
    failed = [name for name in sections if evidence[name].get("holds") is False]
    evidence |= {"failed": failed, "seconds": round(time.monotonic() - started, 1)}
    path = write(evidence, options.results)
    print(f"{path}: {'failed: ' + ', '.join(failed) if failed else 'all holds'}")
    return 1 if failed else 0


def write(evidence: dict[str, Any], folder: Path) -> Path:
    """Write the evidence under the date and the device's name."""
    now = datetime.now(UTC)
    device = re.sub(r"\W+", "-", evidence["device"]["gpu"]).strip("-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d}-gpu-{device}.json"
    record = {"date": now.isoformat(timespec="seconds"), **evidence}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def machine() -> dict[str, Any]:
    """What nvidia-smi says."""
    query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv"]
    if shutil.which(command[0]) is None:
        return {"nvidia_smi": "not found"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return {"nvidia_smi": result.stdout.splitlines(), "cpus": os.cpu_count()}


def tests(device: int) -> dict[str, Any]:
    """Run `pytest -m gpu`; no test may be skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/test_gpu.py"]
    result = _execute(command, 200, _environment(device))
    tail = result.stdout.splitlines()[-15:]
    return {"holds": result.returncode == 0 and "skipped" not in tail[-1], "output": tail}


def ladder(backend: str) -> dict[str, Any]:
    """Climb the parity ladder, `prdsim verify`, in every precision."""
    command = [sys.executable, "-m", "prdsim", "verify", "--backend", backend, "--json"]
    result = _execute(command, 120)
    if result.returncode not in (0, 1):
        return {"holds": False, "error": result.stderr.splitlines()[-2:]}
    report = json.loads(result.stdout)
    failed = [check for check in report["checks"] if not check["holds"]]
    return {"holds": report["holds"], "checks": len(report["checks"]), "failed": failed}


def products(backend: str, size: int = 2048) -> dict[str, Any]:
    """Error and rate of a square product in each precision, against float64 on the host."""
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((size, size)) for _ in range(2))
    rows: dict[str, Any] = {"holds": True}
    for precision in PRECISIONS:
        k = get_backend(backend, precision=precision)
        rounded = [M.astype(k.dtype).astype(np.float64) for M in (A, B)]
        exact = rounded[0] @ rounded[1]
        with k.active():
            a, b, out = (k.empty((size, size)) for _ in range(3))
            k.to_device(A, a)
            k.to_device(B, b)
            k.gemm(a, b, out)
            error = float(np.linalg.norm(k.to_host(out) - exact) / np.linalg.norm(exact))
            seconds = _seconds(lambda: k.gemm(a, b, out), k.synchronize)  # noqa: B023
        low, high = ACCURACY[precision]
        rows[precision] = {"error": error, "tflops": 2e-12 * size**3 / seconds}
        rows["holds"] &= low <= error <= high
    return rows


def trajectories(backend: str) -> dict[str, Any]:
    """One step and 50 steps with diffusion and penalty, against NumPy in float64."""
    sizes = (256, 784, 10, 128)
    rows: dict[str, Any] = {}
    for steps in (1, 50):
        expected = _run("numpy", sizes, steps, "float64")
        for precision in PRECISIONS:
            computed = _run(backend, sizes, steps, precision)
            rows[f"{precision}, {steps} steps"] = max(
                float(np.linalg.norm(computed[name] - array) / np.linalg.norm(array))
                for name, array in expected.items()
            )
    rows["holds"] = rows["float64, 1 steps"] < 1e-12 and rows["float64, 50 steps"] < 1e-10
    return rows


def determinism(backend: str) -> dict[str, Any]:
    """Three runs of 20 steps in each precision: SHA-256 of their states."""
    rows: dict[str, Any] = {"holds": True}
    for precision in PRECISIONS:
        digests = {_digest(_run(backend, (1000, 784, 10, 300), 20, precision)) for _ in range(3)}
        rows[precision] = sorted(digests)
        rows["holds"] &= len(digests) == 1
    return rows


def sanitizer(device: int) -> dict[str, Any]:
    """Memory errors and races in the kernels, by compute-sanitizer where it is installed."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"compute_sanitizer": "not found"}
    script = (  # without CuPy's pool, which would hide what is written outside an array
        "import cupy, sys, pytest; cupy.cuda.set_allocator(None);"
        "sys.exit(pytest.main(['-q', '-m', 'gpu', 'tests/test_gpu.py',"
        " '-k', 'operations_agree and (elementwise or reductions or uniforms)']))"
    )
    rows: dict[str, Any] = {"holds": True}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", script]
        try:
            result = _execute(command, 75, _environment(device))
        except subprocess.TimeoutExpired:
            rows[tool] = "took longer than 75 s"
            continue
        rows[tool] = [line for line in result.stdout.splitlines() if "SUMMARY" in line]
        rows["holds"] &= result.returncode == 0
    return rows


def timings(backend: str, sizes: list[tuple[int, int, int, int]] | None = None) -> dict[str, Any]:
    """Milliseconds of an eager `gd` step with diffusion, and of what it consists of."""
    rows = []
    for m, d_in, d_out, n in sizes or SIZES:
        for precision in PRECISIONS:
            try:
                simulation = _simulation(backend, (m, d_in, d_out, n), 10**6, precision)
            except PrdsimError as error:
                rows.append({"sizes": [m, d_in, d_out, n], "left_out": str(error)})
                continue
            with simulation:
                k, work = simulation.backend, simulation.model.work
                step = _seconds(simulation.advance, k.synchronize)
                relu = _seconds(lambda: k.relu(work.A, out=work.H), k.synchronize)  # noqa: B023
                snapshot = _seconds(simulation.weights, k.synchronize)
            itemsize = k.dtype.itemsize
            rows.append(
                {
                    "m, d_in, d_out, n": [m, d_in, d_out, n],
                    "precision": precision,
                    "step_ms": 1e3 * step,
                    "relu_gb_per_s": 1e-9 * 2 * m * n * itemsize / relu,
                    "snapshot_ms": 1e3 * snapshot,
                }
            )
    return {"rows": rows}


# -- helpers ---------------------------------------------------------------------------------------


def _simulation(
    backend: str, sizes: tuple[int, int, int, int], steps: int, precision: str
) -> Simulation:
    m, d_in, d_out, n = sizes
    rng = np.random.default_rng(1)
    X = rng.standard_normal((d_in, n))
    X /= np.linalg.norm(X, axis=0)
    Y = np.eye(d_out)[:, rng.integers(0, d_out, n)]
    config = RunConfig(
        backend=backend,
        precision=precision,
        samples=n,
        width=m,
        diffusion=True,
        step_size=1e-3,
        steps=steps,
    )
    return Simulation(config, X, Y)


def _run(
    backend: str, sizes: tuple[int, int, int, int], steps: int, precision: str
) -> dict[str, np.ndarray]:
    with _simulation(backend, sizes, steps, precision) as simulation:
        simulation.advance(steps)
        return simulation.weights()


def _digest(weights: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in weights.values())).hexdigest()


def _seconds(operation: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Seconds of one operation, among as many as fill the time, after three to warm up."""
    for _ in range(3):
        operation()
    synchronize()
    count, started = 0, time.perf_counter()
    while True:
        for _ in range(10):
            operation()
        count += 10
        synchronize()
        if (elapsed := time.perf_counter() - started) >= TIMED_SECONDS:
            return elapsed / count


def _execute(
    command: list[str], seconds: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program from the repository's root, for so long at the most."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def _environment(device: int) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = visible[device] if device < len(visible) and visible[device] else str(device)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": chosen, "PRDSIM_REQUIRE_GPU": "1"}


if __name__ == "__main__":
    sys.exit(main())
