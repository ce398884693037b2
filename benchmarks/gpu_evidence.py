"""Evidence from a CUDA device, in under 8 minutes: tests, accuracy, determinism, graphs, timings.

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
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prdsim import __version__
from prdsim.backends import cuda_kernels, get_backend
from prdsim.backends.cupy_fused import CupyFused
from prdsim.backends.fused import CriticAt, Fused, Scratch, Targets
from prdsim.config import INTEGRATORS, RunConfig
from prdsim.errors import PrdsimError
from prdsim.files.whole import write_whole
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.timing.contenders import OwnSteps
from prdsim.timing.workload import Workload

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("float64", "float32", "tf32")
SIZES = [(512, 784, 10, 256), (2048, 784, 10, 1024), (4096, 784, 10, 4096), (4096, 784, 784, 2048)]
ACCURACY = {"float64": (0.0, 1e-13), "float32": (0.0, 1e-5), "tf32": (1e-5, 2e-3)}
CPU_SIZES = SIZES[:3]
CRITICS = [(512, 256), (1024, 1024), (2048, 1024), (4096, 4096), (1024, 60000)]
WHOLE_MNIST = (1024, 784, 10, 60000)
JOBS: dict[str, dict[str, Any]] = {
    "README's main job": {"dataset": "synthetic", "diffusion": True},
    "poster preset, synthetic": {"preset": "poster", "dataset": "synthetic", "diffusion": True},
}
KERNEL_SIZE = (4096, 4096)  # larger than any cache
OVERLAP_SIZE, OVERLAP_STEPS = (2048, 784, 10, 1024), 1950
TIMED_SECONDS = 0.5
SECONDS = 470.0  # in all
SANITIZED = "tests/backends/test_gpu.py::test_every_operation_keeps_the_rules[float32]"
_TOO_LONG = 124

# Published peaks of products in TFLOP/s, dense, and of memory in TB/s, by the device's full name.
# Of others, a large copy and a large product are measured.
PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA H200": {"float64": 67.0, "float32": 67.0, "tf32": 495.0, "memory": 4.8},
    "NVIDIA H100 80GB HBM3": {"float64": 67.0, "float32": 67.0, "tf32": 495.0, "memory": 3.35},
    "NVIDIA H100 PCIe": {"float64": 51.0, "float32": 51.0, "tf32": 378.0, "memory": 2.0},
    "NVIDIA A100-SXM4-80GB": {"float64": 19.5, "float32": 19.5, "tf32": 156.0, "memory": 2.04},
    "NVIDIA A100-SXM4-40GB": {"float64": 19.5, "float32": 19.5, "tf32": 156.0, "memory": 1.56},
}


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

    def left() -> float:
        return started + SECONDS - time.monotonic()

    sections: dict[str, tuple[float, Callable[[], dict[str, Any]]]] = {  # and their longest time
        "machine": (0, machine),
        "graphs": (20, lambda: graphs(backend)),
        "tests": (150, lambda: tests(options.device, min(150.0, left()))),
        "ladder": (60, lambda: ladder(backend, min(90.0, left()))),
        "products": (10, lambda: products(backend)),
        "trajectories": (10, lambda: trajectories(backend)),
        "determinism": (15, lambda: determinism(backend)),
        "experiments": (30, lambda: experiments(backend)),
        "timings": (50, lambda: timings(backend)),
        "60,000 samples": (40, lambda: timings(backend, [WHOLE_MNIST])),
        "jax": (60, lambda: beside_jax(backend, left)),
        "critic": (15, lambda: critic(backend)),
        "kernels": (30, lambda: kernels(backend)),
        "overlap": (40, lambda: overlap(backend)),
        "cpu": (40, cpu),
        "sanitizer": (10, lambda: sanitizer(options.device, left())),
    }
    for name, (longest, section) in sections.items():
        print(f"{name} ...", flush=True)
        evidence[name] = section() if left() >= longest else {"left_out": "no time was left"}
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
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode(), force=True)
    return path


def machine() -> dict[str, Any]:
    """What nvidia-smi says."""
    query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv"]
    if shutil.which(command[0]) is None:
        return {"nvidia_smi": "not found"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return {"nvidia_smi": result.stdout.splitlines(), "cpus": os.cpu_count()}


def tests(device: int, seconds: float) -> dict[str, Any]:
    """Run `pytest -m gpu`; no test may be skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/backends/test_gpu.py"]
    result = _execute(command, seconds, _environment(device))
    tail = result.stdout.splitlines()[-15:] or [""]
    return {"holds": result.returncode == 0 and "skipped" not in tail[-1], "output": tail}


def ladder(backend: str, seconds: float) -> dict[str, Any]:
    """Climb the parity ladder, `prdsim verify`, in every precision."""
    command = [sys.executable, "-m", "prdsim", "verify", "--backend", backend, "--json"]
    result = _execute(command, seconds)
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
            rows[f"{precision}, {steps} steps"] = _largest_difference(computed, expected)
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


def graphs(backend: str) -> dict[str, Any]:
    """Whether steps are launched as graphs, and whether that changes a bit; ms of a step."""
    rows: dict[str, Any] = {"holds": True}
    for precision in PRECISIONS:
        for integrator in INTEGRATORS:
            row: dict[str, Any] = {}
            for how in ("eager", "graph"):
                with _simulation(backend, SIZES[0], 10**6, precision, integrator) as simulation:
                    if how == "eager":
                        simulation.backend.replay = _eagerly
                    simulation.advance(20)
                    row[f"{how}_sha256"] = _digest(simulation.weights())
                    seconds = _seconds(simulation.advance, simulation.backend.synchronize)
                    row[f"{how}_step_ms"] = 1e3 * seconds
                    state = simulation.backend.describe()["cuda_graphs"]
            row |= {"cuda_graphs": state, "same_bits": row["eager_sha256"] == row["graph_sha256"]}
            rows[f"{precision}, {integrator}"] = row
            rows["holds"] &= row["same_bits"] and state == "used"
    return rows


def experiments(backend: str) -> dict[str, Any]:
    """Whole runs here and by Numba: seconds, set-up and file included, and what they end with."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for job, keys in JOBS.items():
            for where in (backend, "numba"):
                for turn in ("cold", "warm"):  # libraries are loaded and kernels compiled, once
                    path, started = f"{folder}/{job}.h5", time.perf_counter()
                    result = run(**keys, backend=where, output=path, force=True)
                    rows[f"{job}, {where}, {turn}"] = {
                        "seconds": time.perf_counter() - started,
                        "steps": result.step,
                        "rejected": result.last["rejected_steps"],
                        **{name: result.last[name] for name in ("loss_sup", "loss_adv")},
                    }
    return rows


def beside_jax(backend: str, left: Callable[[], float]) -> dict[str, Any]:
    """The same `gd` steps in JAX on the same device, in turns: ms of a step, medians of 7.

    JAX's are `jax.jit` of `jax.grad`, its products in full precision; see `jax_rival`.
    """
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the device's memory is shared
    try:
        import jax

        if jax.default_backend() != "gpu":
            return {"left_out": "JAX finds no device"}
    except ImportError:
        return {"left_out": "JAX is not installed"}
    rows = []
    for sizes in (*SIZES[:3], WHOLE_MNIST):
        for precision in ("float64", "float32"):
            if left() < 20.0:
                return {"rows": rows, "left_out": "no time was left for the others"}
            rows.append(race_with_jax(backend, sizes, precision))
    return {"jax": jax.__version__, "holds": all(row["agree"] for row in rows), "rows": rows}


def race_with_jax(
    backend: str, sizes: tuple[int, int, int, int], precision: str, steps: int = 20
) -> dict[str, Any]:
    """Race prdsim's steps and JAX's, after three steps whose weights must agree."""
    from jax_rival import JaxRival

    with _simulation(backend, sizes, 10**6, precision) as simulation:
        config, (X, Y, _) = simulation.config, simulation._given
        workload = Workload(config, X, Y, simulation.initial)
    contenders = {"prdsim": OwnSteps(workload), "JAX": JaxRival(workload)}
    first = [contender.begin(3)[1] for contender in contenders.values()]
    difference = _largest_difference(first[1], first[0])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(7):
        for name, contender in contenders.items():
            seconds[name].append(contender.timed(steps).seconds)
    own, other = (float(np.median(seconds[name])) for name in contenders)
    return {
        "m, d_in, d_out, n": list(sizes),
        "precision": precision,
        "difference after 3 steps": difference,
        "agree": difference < (1e-10 if precision == "float64" else 1e-4),
        "prdsim_ms": 1e3 * own,
        "jax_ms": 1e3 * other,
        "ratio": other / own,
    }


def critic(backend: str) -> dict[str, Any]:
    """Microseconds of a critic's update as in a graph: few outputs as the backend does it, by
    its kernels that keep no gates, and by products, as it does many.
    """
    rows = []
    for m_c, n in CRITICS:
        for precision in ("float64", "float32"):
            k = get_backend(backend, precision=precision)
            ways = {
                "own": k.fused(1, m_c, 10, n),
                "products": CupyFused(k, 1, m_c, n, k.penalty_gates),
            }
            with k.active():
                seconds = {way: critic_update(k, fused, m_c, n) for way, fused in ways.items()}
            # The scores at two points of each sample by each neuron, for Q and for the moments,
            # and the additions to both: 6 products.
            least = 6 * 2 * 10 * m_c * n / peaks(k)["flops_per_s"]
            row = {"m_c, d_out, n": [m_c, 10, n], "precision": precision, "least_us": 1e6 * least}
            rows.append({**row, **{f"{way}_us": 1e6 * took for way, took in seconds.items()}})
    return {"rows": rows}


def critic_update(k: Any, fused: Fused, m_c: int, n: int, d_out: int = 10) -> float:
    """Seconds of one update, of ten that are issued together; samples have one of ten targets."""
    rng = np.random.default_rng(0)

    def device(array: np.ndarray, dtype: str | None = None) -> Any:
        there = k.empty(array.shape, dtype)
        k.to_device(array, there)
        return there

    fused.allocate()
    labels, classes = np.arange(n) % d_out, np.eye(d_out)
    W, a = device(rng.standard_normal((m_c, d_out))), device(rng.standard_normal(m_c))
    Z, Y = device(rng.standard_normal((d_out, n))), device(classes[:, labels])
    counts = np.bincount(labels, minlength=d_out)
    targets = Targets(device(classes), device(classes * counts), device(labels, "int64"))
    sets = ((device(rng.random(n)), 1.0),)
    given = CriticAt(W, a, Z, Y, targets, sets, s_c=m_c**-0.5, n=n, penalty=10.0)
    scratch = Scratch(*(k.empty(s) for s in ((m_c, d_out), (d_out, n), (d_out, n), (n,), (n,))))
    N, critic_W, critic_a = k.empty((m_c, d_out)), k.empty((m_c, d_out)), k.empty((m_c,))

    def updates() -> None:
        for _ in range(10):
            fused.critic_moments(given, scratch, out=N, beta=0.0)
            fused.gradients_of_moments(
                W, a, N, critic_W=critic_W, critic_a=critic_a, out_W=W, out_a=a,
                alpha=-1e-6, beta=1.0,
            )  # fmt: skip

    return _seconds(lambda: k.replay(fused, None, updates), k.synchronize, TIMED_SECONDS / 5) / 10


def kernels(backend: str) -> dict[str, Any]:
    """Bytes and operations of every kernel and product, its roofline and its measured time.

    The roofline is the longer of moving the bytes and doing the operations at peak rates.
    """
    found: dict[str, Any] = {"peaks": {}, "rows": []}
    for precision in PRECISIONS:
        k = get_backend(backend, precision=precision)
        with k.active():
            rates = found["peaks"][precision] = peaks(k)
            calls = _products_of_a_step(k, OVERLAP_SIZE)
            if precision != "tf32":  # whose kernels are those of float32
                calls |= _kernel_calls(k, *KERNEL_SIZE)
            for name, (moved, operations, call) in calls.items():
                least = max(moved / rates["bytes_per_s"], operations / rates["flops_per_s"])
                seconds = _seconds(call, k.synchronize, TIMED_SECONDS / 5)
                found["rows"].append(
                    {
                        "name": name,
                        "precision": precision,
                        "bytes": moved,
                        "flops": operations,
                        "roofline_us": 1e6 * least,
                        "measured_us": 1e6 * seconds,
                    }
                )
    return found


def peaks(k: Any) -> dict[str, Any]:
    """The most bytes and operations in a second: published, else of a large copy and product."""
    published = PEAKS.get(k.describe()["gpu"])
    if published:
        memory, rate = 1e12 * published["memory"], 1e12 * published[k.precision]
        return {"bytes_per_s": memory, "flops_per_s": rate, "from": "published"}
    size = min(KERNEL_SIZE)
    A, B, out = _filled(k, (size, size), 3)
    copying = _seconds(lambda: k.copy(A, out=out), k.synchronize)
    multiplying = _seconds(lambda: k.gemm(A, B, out), k.synchronize)
    memory, rate = 2 * A.nbytes / copying, 2 * size**3 / multiplying
    return {"bytes_per_s": memory, "flops_per_s": rate, "from": "measured"}


def _filled(k: Any, shape: tuple[int, int], count: int) -> list[Any]:
    """Arrays of numbers in [0, 1): a device may draw less power, and run faster, on zeros."""
    word = k.empty((1,), "uint64")
    arrays = [k.empty(shape) for _ in range(count)]
    for number, array in enumerate(arrays):
        k.set_word(number, out=word)
        k.uniforms(0, 0, word, 0, out=array)
    return arrays


class Cost(NamedTuple):
    """What a kernel does for one entry.

    ``numbers`` of the arrays' type and other ``bytes`` that it reads and writes, and arithmetic
    ``operations`` in that type. Vectors and partial sums are small beside matrices: left out.
    """

    numbers: int
    operations: int
    bytes: int = 0


_COSTS = {
    "copy": Cost(2, 0),
    "relu": Cost(2, 1),
    "heaviside": Cost(2, 1),
    "gate": Cost(3, 2),
    "gates": Cost(1, 1, bytes=1),
    "interpolate": Cost(3, 3),
    "scale_rows": Cost(2, 1),
    "scale_columns": Cost(2, 1),
    "take_columns": Cost(2, 0),
    "penalty_weights": Cost(2, 4),
    "penalty_gates": Cost(4, 6),  # of as many targets as samples; labels are read from caches
    "set_word": Cost(0, 0, bytes=8),
    "set_number": Cost(0, 0, bytes=8),
    "uniforms": Cost(1, 1),  # and ten rounds of whole numbers, which take longer
    **{
        f"combine_{n}": Cost(n + 1, 2 * n - 1)
        for n in range(1, cuda_kernels.LARGEST_COMBINATION + 1)
    },
    **{
        f"combine_held_{n}": Cost(n + 1, 3 * n - 1)
        for n in range(1, cuda_kernels.LARGEST_COMBINATION + 1)
    },
    "dot": Cost(2, 2),
    "sum": Cost(1, 1),
    "not_finite": Cost(1, 2),
    "gate_changes": Cost(1, 2, bytes=1),
    "row_dots": Cost(2, 2),
    "column_dots": Cost(2, 2),
}


def _cost(name: str) -> Cost:
    """Return what the kernel of that name does for an entry of its operands."""
    return _COSTS[name.removesuffix("_float64").removesuffix("_float32")]


def _kernel_calls(k: Any, m: int, n: int) -> dict[str, tuple[int, int, Callable[[], object]]]:
    """By the name of each kernel: the bytes and operations of a call, and the call.

    Those that return a number wait for it: their time includes its way to the host.
    """
    arrays = _filled(k, (m, n), cuda_kernels.LARGEST_COMBINATION + 1)
    A, B, *_, out = arrays
    rows, columns, word = k.empty((m,)), k.empty((n,)), k.empty((1,), "uint64")
    place = k.empty((1,), "float64")
    number = k.hold(0.5, place)
    gates = k.empty((m, n), "uint8")
    order = k.empty((n,), "int64")
    k.to_device(np.arange(n)[::-1], order)
    k.set_word(7, out=word)
    k.uniforms(0, 0, word, 0, out=rows)
    k.uniforms(0, 0, word, 0, out=columns)
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: k.copy(A, out=out),
        "relu": lambda: k.relu(A, out=out),
        "heaviside": lambda: k.heaviside(A, out=out),
        "gate": lambda: k.gate(A, B, out=out),
        "gates": lambda: k.gates(A, out=gates),
        "interpolate": lambda: k.interpolate(columns, A, B, out=out),
        "scale_rows": lambda: k.scale_rows(rows, A, out=out),
        "scale_columns": lambda: k.scale_columns(columns, A, out=out),
        "take_columns": lambda: k.take_columns(A, order, out=out),
        "penalty_weights": lambda: k.penalty_weights(A, 0.3, out=out),
        "penalty_gates": lambda: k.penalty_gates(A, B, order, columns, out),
        "set_word": lambda: k.set_word(7, out=word),
        "set_number": lambda: k.hold(0.5, place),
        "uniforms": lambda: k.uniforms(0, 0, word, 0, out=out),
        "dot": lambda: k.dot(A, B),
        "sum": lambda: k.sum(A),
        "not_finite": lambda: k.all_finite(A),
        "gate_changes": lambda: k.gate_changes(A, gates),
    }
    for count in range(1, cuda_kernels.LARGEST_COMBINATION + 1):
        terms = [(0.5, array) for array in arrays[:count]]
        calls[f"combine_{count}"] = lambda terms=terms: k.combine(terms, out=out)
        held = [(number * 0.5, array) for array in arrays[:count]]
        calls[f"combine_held_{count}"] = lambda terms=held: k.combine(terms, out=out)
    for name in sorted({k.dtype.name, "float64"}):
        per_row, per_column = k.empty((m,), name), k.empty((n,), name)
        calls[f"row_dots_{name}"] = lambda out=per_row: k.row_dots(A, B, out=out)
        calls[f"column_dots_{name}"] = lambda out=per_column: k.column_dots(A, B, out=out)
    costs = {name: _cost(name) for name in calls}
    entries = {name: 1 if name in ("set_word", "set_number") else m * n for name in calls}
    return {
        name: (
            entries[name] * (costs[name].numbers * k.dtype.itemsize + costs[name].bytes),
            entries[name] * costs[name].operations,
            call,
        )
        for name, call in calls.items()
    }


def _products_of_a_step(
    k: Any, sizes: tuple[int, int, int, int]
) -> dict[str, tuple[int, int, Callable[[], object]]]:
    """By the name of each product of a step: its bytes and operations, and the call; m_c is m."""
    m, d_in, d_out, n = sizes
    shapes = {  # rows, inner, columns, which factors are transposes, whether it is added
        "U X": (m, d_in, n, "", 0.0),
        "V H": (d_out, m, n, "", 0.0),
        "V^T E": (m, d_out, n, "A", 0.0),
        "E H^T": (d_out, n, m, "B", 1.0),
        "B X^T": (m, n, d_in, "B", 1.0),
        "W Z": (m, d_out, n, "", 0.0),
        "(a W)^T P": (d_out, m, n, "A", 0.0),
        "P Z^T": (m, n, d_out, "B", 1.0),
    }
    calls = {}
    for name, (rows, inner, columns, transposes, beta) in shapes.items():
        stored = [(rows, inner), (inner, columns), (rows, columns)]
        A, B, out = (
            _filled(k, shape[::-1] if which in transposes else shape, 1)[0]
            for which, shape in zip("AB.", stored, strict=True)
        )
        A, B = (M.T if which in transposes else M for which, M in (("A", A), ("B", B)))
        moved = k.dtype.itemsize * (rows * inner + inner * columns + rows * columns * (1 + beta))
        calls[name] = (
            int(moved),
            2 * rows * inner * columns,
            lambda A=A, B=B, out=out, beta=beta: k.gemm(A, B, out, beta=beta),
        )
    return calls


def overlap(backend: str) -> dict[str, Any]:
    """Seconds of a run with 2 snapshots and with 40, written behind the loop and in it."""
    m, d_in, d_out, n = OVERLAP_SIZE
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((n, d_in)), np.eye(d_out)[rng.integers(0, d_out, n)]
    keys: dict[str, Any] = {
        "data": (X, Y),
        "backend": backend,
        "width": m,
        "diffusion": True,
        "step_size": 1e-3,
        "steps": OVERLAP_STEPS,
        "integrator": "gd",
        "scalars": f"every:{OVERLAP_STEPS}",
    }
    every = max(1, OVERLAP_STEPS // 39)
    kind = type(get_backend(backend))
    cases = {
        "2 snapshots": ("geometric:2", True),
        "40 snapshots": (f"every:{every}", True),
        "40 snapshots, in turn": (f"every:{every}", False),
    }
    rows: dict[str, Any] = {"snapshot_mb": 1e-6 * 8 * (m * d_in + 2 * m * d_out + m)}
    with tempfile.TemporaryDirectory() as folder:
        run(**{**keys, "steps": 3}, output=f"{folder}/first.h5")  # libraries are loaded
        for name, (snapshots, behind) in cases.items():
            kind.asynchronous = behind
            started = time.perf_counter()
            try:
                run(**keys, snapshots=snapshots, output=f"{folder}/{name}.h5")
            finally:
                kind.asynchronous = True
            rows[name] = {"seconds": time.perf_counter() - started}
    return rows


def cpu() -> dict[str, Any]:
    """Milliseconds of the same steps by Numba on this machine's processors; see `timings`."""
    rows = []
    for sizes in CPU_SIZES:
        for precision in ("float64", "float32"):
            with _simulation("numba", sizes, 10**6, precision) as simulation:
                simulation.advance(2)  # loops are compiled
                count, started = 0, time.perf_counter()
                while (elapsed := time.perf_counter() - started) < TIMED_SECONDS or count < 2:
                    simulation.advance()
                    count += 1
                row = {"m, d_in, d_out, n": list(sizes), "precision": precision}
                rows.append({**row, "step_ms": 1e3 * elapsed / count})
    return {"threads": len(os.sched_getaffinity(0)), "rows": rows}


def sanitizer(device: int, seconds: float) -> dict[str, Any]:
    """Memory errors and races in the kernels, by compute-sanitizer where it is installed."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"compute_sanitizer": "not found"}
    script = (  # without CuPy's pool, which would hide what is written outside an array
        "import cupy, sys, pytest; cupy.cuda.set_allocator(None);"
        f"sys.exit(pytest.main(['-q', '-m', 'gpu', {SANITIZED!r}]))"
    )
    rows: dict[str, Any] = {"holds": True}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", script]
        result = _execute(command, min(60.0, seconds / 2), _environment(device))
        if result.returncode == _TOO_LONG:
            rows[tool] = result.stderr
            continue
        lines = result.stdout.splitlines()
        rows[tool] = [line for line in lines if "SUMMARY" in line] or lines[-5:]
        rows["holds"] &= result.returncode == 0
    return rows


def timings(backend: str, sizes: list[tuple[int, int, int, int]] | None = None) -> dict[str, Any]:
    """Milliseconds of a `gd` step with diffusion, as a graph and eager, and of a snapshot."""
    rows = []
    for m, d_in, d_out, n in sizes or SIZES:
        for precision in PRECISIONS:
            try:
                simulation = _simulation(backend, (m, d_in, d_out, n), 10**6, precision)
            except PrdsimError as error:
                rows.append({"sizes": [m, d_in, d_out, n], "left_out": str(error)})
                continue
            with simulation:
                k = simulation.backend
                step = _seconds(simulation.advance, k.synchronize)
                snapshot = _seconds(simulation.weights, k.synchronize)
                k.replay = _eagerly
                eager = _seconds(simulation.advance, k.synchronize)
            rows.append(
                {
                    "m, d_in, d_out, n": [m, d_in, d_out, n],
                    "precision": precision,
                    "step_ms": 1e3 * step,
                    "eager_step_ms": 1e3 * eager,
                    "snapshot_ms": 1e3 * snapshot,
                }
            )
    return {"rows": rows}


# -- helpers ---------------------------------------------------------------------------------------


def _eagerly(
    owner: object,  # noqa: ARG001
    key: object,  # noqa: ARG001
    operations: Callable[[], None],
    **_: object,
) -> int:
    """In place of a backend's `replay`: without graphs."""
    operations()
    return 1


def _simulation(
    backend: str,
    sizes: tuple[int, int, int, int],
    steps: int,
    precision: str,
    integrator: str = "gd",
) -> Simulation:
    m, d_in, d_out, n = sizes
    rng = np.random.default_rng(1)
    X = rng.standard_normal((d_in, n))
    X /= np.linalg.norm(X, axis=0)
    Y = np.eye(d_out)[:, rng.integers(0, d_out, n)]
    config = RunConfig(
        backend=backend,
        precision=precision,
        integrator=integrator,
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


def _largest_difference(computed: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest relative difference over arrays; NaN, which holds to no bound, if one has NaN."""
    differences = [
        np.linalg.norm(computed[name] - array) / np.linalg.norm(array)
        for name, array in expected.items()
    ]
    return float(np.max(differences))


def _digest(weights: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in weights.values())).hexdigest()


def _seconds(
    operation: Callable[[], object],
    synchronize: Callable[[], None],
    fill: float | None = None,
) -> float:
    """Seconds of one operation, among as many as fill the time, after three to warm up."""
    fill = TIMED_SECONDS if fill is None else fill
    for _ in range(3):
        operation()
    synchronize()
    count, started = 0, time.perf_counter()
    while True:
        for _ in range(10):
            operation()
        count += 10
        synchronize()
        if (elapsed := time.perf_counter() - started) >= fill:
            return elapsed / count


def _execute(
    command: list[str], seconds: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program from the repository's root, for so long at the most."""
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return _too_long(command, seconds)


def _too_long(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    text = f"took longer than {seconds:.0f} s"
    return subprocess.CompletedProcess(command, _TOO_LONG, text, text)


def _environment(device: int) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = visible[device] if device < len(visible) and visible[device] else str(device)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": chosen, "PRDSIM_REQUIRE_GPU": "1"}


if __name__ == "__main__":
    sys.exit(main())
