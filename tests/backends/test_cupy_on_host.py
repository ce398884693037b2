"""The whole CuPy backend on host stand-ins, and what it says where it cannot work."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_evidence
import numpy as np
import pytest
from cupy_on_host import DeviceFault, HostCublas, HostCupy, compiler_missing
from cupy_on_host.device import CUDARuntimeError, Stream
from cupy_on_host.harness import (
    check_50_steps,
    check_order_of_threads,
    check_steps_repeat,
    final,
    put_in,
    worst,
)
from support import INTEGRATORS, PAPER, in_pairs, random_problem, same_bits, same_numbers
from support_backends import failures

import prdsim.backends.cublas as real_cublas
import prdsim.backends.cuda_kernels as real_kernels
import prdsim.backends.cupy as real_backend
from prdsim.backends import backend_status, cuda_narrow, get_backend
from prdsim.config import RunConfig
from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.physics.charts import CHARTS
from prdsim.running.memory import memory_bytes
from prdsim.running.resuming import resume
from prdsim.running.runner import run
from prdsim.running.simulation import Simulation
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory
from prdsim.verification.ladder import RUNGS
from prdsim.verification.operands import SHAPES
from prdsim.verification.verify import DEFAULTS, candidates, verify

pytestmark = pytest.mark.skipif(bool(compiler_missing()), reason=compiler_missing() or "-")
PRECISIONS = ("float64", "float32", "tf32")
integrators = pytest.mark.parametrize("integrator", INTEGRATORS)


@pytest.fixture(params=PRECISIONS)
def k(request, cupy) -> Iterator[Any]:  # noqa: ARG001 - found by get_backend
    backend = get_backend("cupy", precision=request.param)
    with backend.active():
        yield backend


# -- operations: see test_backends.py --------------------------------------------------------------


def test_every_kernel_is_reached(cupy):
    """None is dead, and none escapes the checks; float32 has those of float64 and more."""
    backend = get_backend("cupy", precision="float32")
    with backend.active():
        assert failures(backend) == []
    launched = {operation.name for operation in cupy.log if operation.kind == "kernel"}
    assert launched == {*real_kernels.kernel_names("float32"), *cuda_narrow.NAMES}
    assert set(backend._narrow) == set(cuda_narrow.WIDTHS)
    assert launched >= set(real_kernels.kernel_names("float64"))


def test_sums_do_not_depend_on_the_order_of_threads(k, cupy):
    check_order_of_threads(cupy, k)


# -- trajectories ----------------------------------------------------------------------------------


def test_50_steps_with_diffusion_and_penalty_agree_with_numpy_float64(cupy):
    problem = random_problem(2, d_in=20, d_out=4, n=15, m=24, m_c=12)
    expected = final(problem, "numpy", 50, **PAPER)
    computed = final(problem, "cupy", 50, **PAPER)
    assert worst(expected, problem.initial) > 1e-2, "nothing moved"
    assert worst(computed, expected) < 1e-10
    used = {operation.name for operation in cupy.log}
    assert {"gemm", "uniforms", "gate", *cuda_narrow.NAMES} <= used


def test_50_steps_with_many_outputs_agree_with_numpy_float64(cupy):
    """By products and a kernel for gates, where samples and neurons do not fit into registers."""
    problem = random_problem(2, d_in=20, d_out=17, n=15, m=24, m_c=12)
    expected = final(problem, "numpy", 50, **PAPER)
    computed = final(problem, "cupy", 50, **PAPER)
    assert worst(computed, expected) < 1e-10
    used = {operation.name for operation in cupy.log}
    assert {"penalty_weights", "penalty_gates"} <= used
    assert not used & set(cuda_narrow.NAMES)


@pytest.mark.usefixtures("cupy")
def test_a_critic_of_few_outputs_keeps_no_gates(k):
    """Nor anything else of neurons times samples."""
    m, m_c, n = 3, 2000, 60000
    for d_out, arrays in ((10, 0), (17, 3)):
        assert (k.fused(m, m_c, d_out, n).entries - m * n) // (m_c * n) == arrays


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.usefixtures("cupy")
def test_50_steps_agree_with_numpy_within_what_rounding_allows(precision):
    check_50_steps(precision)


@in_pairs(
    integrator=INTEGRATORS,
    chart=list(CHARTS),
    critic=["wgan-gp", "minimax"],
    trainable=["U,V,W,a", "U,V", "U", "V,a"],
)
@pytest.mark.usefixtures("cupy")
def test_every_integrator_chart_critic_and_subset_agrees_with_weights_on_numpy(
    integrator, chart, critic, trainable
):
    problem = random_problem(3)
    keys = {"integrator": integrator, "critic": critic, "trainable": trainable}
    expected = final(problem, "numpy", 6, chart="weight", **keys)
    computed = final(problem, "cupy", 6, chart=chart, **keys)
    assert worst(computed, expected) < 1e-11
    for name in ARRAYS:
        moved = not np.array_equal(computed[name], problem.initial[name])
        assert moved == (name in trainable.split(",")), name


SIZES = [{}, {"d_out": 1}, {"n": 1}, {"m": 1}, {"m_c": 1}, {"d_in": 1, "d_out": 1, "n": 1, "m": 1}]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("diffusion", [False, True])
@integrators
@pytest.mark.usefixtures("cupy")
def test_sizes_of_one_and_runs_without_diffusion_agree_with_numpy(sizes, diffusion, integrator):
    problem = random_problem(4, **sizes)
    keys = {"integrator": integrator, "diffusion": diffusion}
    expected, computed = (final(problem, name, 5, **keys) for name in ("numpy", "cupy"))
    assert worst(computed, expected) < (1e-11 if diffusion or sizes else 1e-12)


@integrators
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("cupy")
def test_restart_and_repetition_are_bit_identical(integrator, precision):
    problem = random_problem(1)
    keys = {"integrator": integrator, "precision": precision, "steps": 8}
    with problem.simulation("cupy", **keys) as whole:
        whole.advance(8)
    with problem.simulation("cupy", **keys) as first:
        first.advance(3)
        point = first.restart_point()
        first.advance(2)  # the point is a copy
    with problem.simulation("cupy", **keys) as second:
        second.advance(1)
        second.restore(point)
        second.observe()  # watching changes nothing
        second.advance(100)
    assert second.step == 8
    assert same_bits(second.restart_point().arrays, whole.restart_point().arrays)
    assert same_numbers(second.restart_point().scalars, whole.restart_point().scalars)


@pytest.mark.usefixtures("cupy")
def test_run_and_resume_through_files(tmp_path):
    """`prdsim run --backend cupy` and `resume`: the file of a run never interrupted."""
    keys: dict[str, Any] = {
        "backend": "cupy:0",
        "diffusion": True,
        "samples": 6,
        "width": 8,
        "outputs": 3,
        "step_size": 0.01,
        "snapshots": "every:4",
    }
    whole = run(**keys, steps=12, output=str(tmp_path / "whole.h5"))
    run(**keys, steps=4, output=str(tmp_path / "parts.h5"))
    parts = resume(tmp_path / "parts.h5", 12)
    assert whole.resolved.device == "cuda:0"
    assert same_bits(dict(whole.state), dict(parts.state))
    with (
        open_trajectory(whole.path) as one,
        open_trajectory(parts.path) as two,
        open_trajectory(whole.path) as file,
    ):
        assert one.step.tolist() == [0, 4, 8, 12]
        for name in ARRAYS:
            assert np.array_equal(getattr(one, name)[:], getattr(two, name)[:])
        assert np.array_equal(file.U[-1], whole.state["U"])
        versions = file.attributes["versions"]
        versions = json.loads(versions) if isinstance(versions, str) else versions
        assert versions["gpu"] == "host stand-in 0"
        assert versions["cublas"] == "13.0.0"


@integrators
@pytest.mark.usefixtures("cupy")
def test_a_run_recorded_by_time_goes_on_through_files(integrator, tmp_path):
    """Rows within steps leave the device as they are: the file of a run never ended before."""
    keys: dict[str, Any] = {
        "backend": "cupy:0",
        "diffusion": True,
        "samples": 6,
        "width": 8,
        "outputs": 3,
        "integrator": integrator,
        "step_size": 0.05,
        "snapshots": "times:every:0.04",
        "scalars": "times:every:0.02",
    }
    whole = run(**keys, end_time=0.4, output=str(tmp_path / "whole.h5"))
    run(**keys, end_time=0.2, output=str(tmp_path / "parts.h5"))
    parts = resume(tmp_path / "parts.h5", end_time=0.4)
    assert (whole.time, whole.step) == (parts.time, parts.step)
    assert same_bits(dict(whole.state), dict(parts.state))
    with open_trajectory(whole.path) as one, open_trajectory(parts.path) as two:
        assert one.check() == two.check() == []
        common, rows, others = np.intersect1d(one.time, two.time, return_indices=True)
        assert len(common) >= 9
        for name in ARRAYS:
            assert np.array_equal(getattr(one, name)[rows], getattr(two, name)[others])
        _, rows, others = np.intersect1d(
            one.scalars["time"], two.scalars["time"], return_indices=True
        )
        assert len(rows) >= 18
        for name, column in one.scalars.items():
            assert np.array_equal(column[rows], two.scalars[name][others], equal_nan=True)


# -- what a step may do ----------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["gd", "heun", "rk4"])
@pytest.mark.parametrize("trainable", ["U,V,W,a", "U,V"])
def test_steps_repeat_the_same_operations_on_the_same_buffers(cupy, integrator, trainable):
    keys = {"integrator": integrator, "trainable": trainable}
    check_steps_repeat(cupy, random_problem(1), **keys)


def test_a_product_binds_its_arguments_once(k):
    A, B, out = (k.empty((3, 3)) for _ in range(3))
    k.gemm(A, B, out)
    bound = dict(k._gemm._bound)
    k.gemm(A, B, out)
    assert k._gemm._bound == bound
    k.gemm(A, B.T, out)
    assert len(k._gemm._bound) == len(bound) + 1


def test_cublas_handles_are_given_back(cupy):
    library = HostCublas(cupy)
    backend = real_backend.CupyBackend(cupy, library)
    assert (library.handles, library.workspace_bytes) == (1, real_cublas.WORKSPACE_BYTES)
    del backend
    assert library.handles == 0


# -- devices and memory ----------------------------------------------------------------------------


def test_a_device_is_picked_by_number(monkeypatch):
    put_in(monkeypatch, devices=2)
    second = get_backend("cupy:1")
    assert second.device == "cuda:1"
    assert second.describe()["gpu"] == "host stand-in 1"
    with random_problem(1).simulation("cupy:1", steps=3) as simulation:
        simulation.advance(3)
        assert simulation.resolved.device == "cuda:1"
        simulation.weights()
        point, resolved = simulation.restart_point(), simulation.resolved
    problem = random_problem(1)
    config = problem.config(backend="cupy:1", steps=5)
    with Simulation(
        config, problem.X, problem.Y, initial=problem.initial, resolved=resolved
    ) as again:
        again.restore(point)
        again.advance()
        assert again.backend.device == "cuda:1"


def test_predicted_memory_is_checked_against_the_device(monkeypatch):
    problem = random_problem(1)
    cupy = put_in(monkeypatch, memory=100 << 20)
    with pytest.raises(ConfigError) as caught:
        problem.simulation("cupy", width=10**6)
    first, second = str(caught.value).splitlines()
    assert "of memory on cuda:0" in first
    free = (100 << 20) - real_cublas.WORKSPACE_BYTES
    assert f"{free / 1e6:.1f} MB are free" in first
    assert "--width" in second
    assert cupy.log, "the probe has run"


def test_predicted_memory_is_what_a_run_takes(cupy):
    """But for vectors of a row of scalars, and what the backend takes for itself."""
    problem = random_problem(1, d_in=30, d_out=10, n=40, m=50, m_c=20)
    get_backend("cupy")
    before = cupy.used
    backend = get_backend("cupy")
    own = cupy.used - before
    del backend
    before = cupy.used
    simulation = problem.simulation("cupy", integrator="rk4")
    taken = cupy.used - before - own
    k, chart = simulation.backend, simulation.resolved.chart
    predicted = memory_bytes(simulation.config, simulation.dimensions, k, chart)
    assert taken <= predicted <= 1.05 * taken


@pytest.mark.usefixtures("cupy")
def test_running_out_of_memory_says_how_much_was_wanted_and_what_to_lower():
    backend = get_backend("cupy", precision="float32")
    with pytest.raises(ConfigError) as caught:
        backend.empty((10**5, 10**4))
    first, second = str(caught.value).splitlines()
    assert "cuda:0 has no room for an array (100000, 10000) of 4.00 GB" in first
    assert "GB are free" in first
    assert "lower --width or --samples" in second
    assert caught.value.exit_code == 2


def test_a_backend_describes_itself(k):
    description = k.describe()
    assert (k.name, k.device, description["device"]) == ("cupy", "cuda:0", "cuda:0")
    assert description["precision"] == k.precision
    assert description["cuda_driver"] == "13.0"
    assert description["cupy"] == HostCupy.__version__
    assert k.dtype == (np.float64 if k.precision == "float64" else np.float32)
    json.dumps(description)


# -- where it cannot work --------------------------------------------------------------------------


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def unavailable(name: str = "cupy") -> list[str]:
    """The two lines of why a backend is not available; `prdsim backends` shows the same."""
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend(name)
    assert caught.value.exit_code == 4
    status = backend_status(name)
    assert (status.available, status.reason) == (False, str(caught.value))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    return lines


def test_cupy_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as Python marks what cannot be found
    first, second = unavailable()
    assert first == "backend cupy: CuPy is not installed;"
    assert second.startswith("pip install 'prdsim[cuda13]'")


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Iterator[Path]:
    """Where Python looks for modules first; no CuPy is imported yet, and none afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    yield tmp_path
    sys.modules.pop("cupy", None)


@pytest.mark.parametrize("name", ["cupy", "cupy.py"])
def test_a_folder_or_module_that_only_has_its_name_is_not_cupy(folder, name):
    if name == "cupy" and importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed, and found before any folder without code")
    path = folder / name
    path.touch() if path.suffix else path.mkdir()
    first, second = unavailable()
    assert first == f"backend cupy: CuPy is not installed ({path} only has its name);"
    assert second.startswith("pip install 'prdsim[cuda13]'")
    auto = get_backend("auto")
    assert (auto.name, auto.notes) == ("numba", ())


@pytest.mark.parametrize("kind", ["ImportError", "AttributeError"])
def test_cupy_is_installed_but_broken(folder, kind):
    (folder / "cupy.py").write_text(f"raise {kind}('libfoo.so: cannot open\\nmore')")
    first, second = unavailable()
    assert "installed but cannot be imported (libfoo.so: cannot open)" in first
    assert "pip install" in second
    auto = get_backend("auto")
    assert auto.name == "numba"
    assert auto.notes == (f"{first} {second}; auto takes numba instead",)


def test_no_driver_or_an_old_one(monkeypatch, cupy):
    error = CUDARuntimeError(35, "cudaErrorInsufficientDriver")
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", failing(error))
    first, second = unavailable()
    assert "no NVIDIA driver, or it is too old" in first
    assert "nvidia-smi" in second
    assert "--backend numba" in second


@pytest.mark.parametrize("how", ["an error", "a count of zero"])
def test_a_driver_but_no_device(monkeypatch, how):
    cupy = put_in(monkeypatch, devices=0)
    if how == "an error":
        error = CUDARuntimeError(100, "cudaErrorNoDevice")
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", failing(error))
    first, second = unavailable()
    assert "finds no CUDA device" in first
    assert ("cudaErrorNoDevice" in first) == (how == "an error")
    assert "CUDA_VISIBLE_DEVICES" in second


def test_a_device_number_out_of_range(monkeypatch):
    put_in(monkeypatch, devices=2)
    first, second = unavailable("cupy:2")
    assert first == "backend cupy:2: there is no such device;"
    assert second == "choose one of cupy:0, cupy:1"


@pytest.mark.parametrize("what", ["cublas", "nvrtc", "a wrong product"])
def test_a_device_but_no_libraries(monkeypatch, cupy, what):
    if what == "cublas":
        error: Exception = ImportError("libcublas.so.13: cannot open shared object file")
        monkeypatch.setattr(real_cublas, "load_cublas", failing(error))
    elif what == "nvrtc":
        error = RuntimeError("Failure finding nvrtc\nand a long report")
        monkeypatch.setattr(cupy, "RawModule", failing(error))
    else:
        error = RuntimeError("a product is wrong")
        monkeypatch.setattr(HostCublas, "cublasGemmEx_64", lambda *_: 0)
    first, second = unavailable()
    assert f"({str(error).splitlines()[0]});" in first
    assert "a device was found" in first
    assert "pip install 'prdsim[cuda13]' or 'prdsim[cuda12]'" in second


def test_auto_prefers_a_device_and_says_only_what_is_broken(monkeypatch, cupy):
    assert get_backend("auto").name == "cupy"
    absent = [CUDARuntimeError(35, "cudaErrorInsufficientDriver")]
    absent += [CUDARuntimeError(100, "cudaErrorNoDevice")]
    for count in (lambda: 0, *map(failing, absent)):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
        backend = get_backend("auto")
        assert (backend.name, backend.notes) == ("numba", ())
    broken = CUDARuntimeError(999, "cudaErrorUnknown")
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", failing(broken))
    (note,) = get_backend("auto").notes
    assert "CuPy finds no CUDA device (cudaErrorUnknown: Unknown);" in note
    assert note.endswith("; auto takes numba instead")


def test_nothing_imports_cupy_on_the_cpu():
    """Neither the package nor a run; nor `auto`, where CuPy is not installed."""
    auto = "auto" if importlib.util.find_spec("cupy") is None else "numba"
    code = (
        "import sys, numpy as np, prdsim, prdsim.backends.cupy\n"
        "from prdsim.running.simulation import Simulation\n"
        "from prdsim.config import RunConfig\n"
        f"config = RunConfig(samples=3, width=4, steps=2, step_size=0.1, backend='{auto}')\n"
        "Simulation(config, np.ones((2, 3)), np.ones((1, 3))).advance(2)\n"
        "assert 'cupy' not in sys.modules and 'cupyx' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- evidence from a device ------------------------------------------------------------------------


@pytest.fixture
def evidence(monkeypatch) -> Any:
    """The script that a machine with a GPU runs, with sizes and times for the stand-ins."""
    monkeypatch.setattr(gpu_evidence, "PEAKS", dict(gpu_evidence.PEAKS))
    monkeypatch.setattr(gpu_evidence, "TIMED_SECONDS", 0.0)
    for name in ("SIZES", "CPU_SIZES"):
        monkeypatch.setattr(gpu_evidence, name, [(8, 5, 2, 4)])
    monkeypatch.setattr(gpu_evidence, "WHOLE_MNIST", (8, 5, 2, 40))
    monkeypatch.setattr(gpu_evidence, "CRITICS", [(4, 30)])
    tiny = {"dataset": "synthetic", "width": 8, "samples": 6, "steps": 3}
    monkeypatch.setattr(gpu_evidence, "JOBS", {"tiny": tiny})
    monkeypatch.setattr(gpu_evidence, "KERNEL_SIZE", (64, 96))
    monkeypatch.setattr(gpu_evidence, "OVERLAP_SIZE", (8, 5, 2, 4))
    monkeypatch.setattr(gpu_evidence, "OVERLAP_STEPS", 78)
    monkeypatch.setattr(sys, "argv", ["gpu_evidence.py"])
    return gpu_evidence


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_measures_and_writes(evidence, tmp_path):
    products = evidence.products("cupy", size=64)
    assert products["holds"]
    assert products["float64"]["error"] < products["float32"]["error"] < products["tf32"]["error"]
    (*rows,) = evidence.timings("cupy")["rows"]
    assert [row["precision"] for row in rows] == list(PRECISIONS)
    assert all(row["step_ms"] > 0 and row["eager_step_ms"] > 0 for row in rows)
    found = {"device": get_backend("cupy").describe(), "products": products}
    path = evidence.write(found, tmp_path)
    assert path.name.endswith("-gpu-host-stand-in-0.json")
    assert json.loads(path.read_text())["products"] == products


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_compares_graphs(evidence, monkeypatch):
    monkeypatch.setattr(evidence, "PRECISIONS", ("float32",))
    rows = evidence.graphs("cupy")
    assert rows.pop("holds")
    assert list(rows) == [f"float32, {integrator}" for integrator in INTEGRATORS]
    assert all(row["same_bits"] and row["cuda_graphs"] == "used" for row in rows.values())
    monkeypatch.setattr(Stream, "begin_capture", failing(RuntimeError("not today")))
    with pytest.warns(RuntimeWarning, match="not today"):
        rows = evidence.graphs("cupy")
    assert not rows["holds"]


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_measures_every_kernel_beside_its_roofline(evidence):
    found = evidence.kernels("cupy")
    measured = {(row["precision"], row["name"]) for row in found["rows"]}
    for dtype in ("float64", "float32"):
        assert measured >= {(dtype, name) for name in real_kernels.kernel_names(dtype)}
    products = {name for precision, name in measured if precision == "tf32"}
    assert len(products) == 8
    assert all(row["measured_us"] > 0 and row["roofline_us"] > 0 for row in found["rows"])
    assert {rates["from"] for rates in found["peaks"].values()} == {"measured"}
    evidence.PEAKS["host stand-in 0"] = {"memory": 2.0, "float64": 10.0}
    rates = evidence.peaks(get_backend("cupy"))
    assert rates == {"bytes_per_s": 2e12, "flops_per_s": 1e13, "from": "published"}


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_declared_bytes_are_those_of_the_arrays_a_kernel_is_given(evidence, cupy, precision):
    """Apart from vectors of rows, columns and partial sums: fewer than one matrix."""
    k = get_backend("cupy", precision=precision)
    moving = {"copy", "set_word", "set_number", "take_columns"}
    with k.active():
        calls = evidence._kernel_calls(k, 64, 96)
        calls |= evidence._products_of_a_step(k, (40, 30, 20, 50))
        for name, (declared, operations, call) in calls.items():
            cupy.log.clear()
            call()
            operation = cupy.log[0]
            given = sum(cupy.live[address][0] for address in operation.buffers)
            if operation.kind == "gemm":
                m, n, inner = operation.scalars[2:5]
                given += cupy.live[operation.buffers[2]][0] * (operation.scalars[-1] != 0.0)
                assert (declared, operations) == (given, 2 * m * n * inner), name
            else:
                assert operation.name == name
                if name == "penalty_gates":  # also written in place
                    given += cupy.live[operation.buffers[0]][0]
                vectors = 8 * (64 + 96) + 8 * real_kernels.TOTAL_BLOCKS
                assert 0 <= given - declared <= vectors < 64 * 96, name
                assert (operations > 0) == (name not in moving), name


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_times_snapshots_and_the_hosts_own_steps(evidence):
    rows = evidence.overlap("cupy")
    assert [name for name in rows if "snapshots" in name] == [
        "2 snapshots",
        "40 snapshots",
        "40 snapshots, in turn",
    ]
    assert real_backend.CupyBackend.asynchronous
    (*rows,) = evidence.cpu()["rows"]
    assert [row["precision"] for row in rows] == ["float64", "float32"]
    assert all(row["step_ms"] > 0 for row in rows)


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_runs_whole_jobs_here_and_by_numba(evidence):
    rows = evidence.experiments("cupy")
    assert [row.split(", ", 1)[1] for row in rows] == [
        "cupy, cold", "cupy, warm", "numba, cold", "numba, warm"
    ]  # fmt: skip
    assert {row["steps"] for row in rows.values()} == {3}
    one, *others = (row["loss_sup"] for row in rows.values())
    assert others == pytest.approx([one] * 3, rel=1e-9)


@pytest.mark.usefixtures("cupy")
def test_the_evidence_script_as_a_whole_is_written_and_keeps_its_time(
    evidence, monkeypatch, tmp_path, capsys
):
    """But for the programs that it starts, which would find no device here."""
    monkeypatch.setattr(evidence, "_execute", lambda *_: evidence._too_long(["x"], 1.0))
    for section in ("products", "trajectories", "determinism"):  # large, and run elsewhere
        monkeypatch.setattr(evidence, section, lambda _: {"holds": True})
    monkeypatch.setattr(evidence, "PRECISIONS", ("float64",))
    monkeypatch.setattr(sys, "argv", ["gpu_evidence.py", "--results", str(tmp_path)])
    assert evidence.main() == 1, "tests and ladder took too long"
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    assert found["failed"] == ["tests", "ladder"]
    assert found["graphs"]["holds"]
    assert found["kernels"]["rows"]
    assert all(row["own_us"] > row["least_us"] > 0 for row in found["critic"]["rows"])
    monkeypatch.setattr(evidence, "SECONDS", 5.0)
    assert evidence.main() == 0
    found = json.loads(path.read_text())
    assert found["overlap"] == {"left_out": "no time was left"}
    capsys.readouterr()


def test_the_evidence_script_sanitizes_a_test_that_exists(evidence):
    file, test = evidence.SANITIZED.split("::")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "gpu", file]
    found = subprocess.run(command, capture_output=True, text=True, cwd=evidence.ROOT, check=True)
    assert f"{file}::{test}" in found.stdout.splitlines()


def test_the_evidence_script_needs_a_device(evidence, monkeypatch, capsys):
    put_in(monkeypatch, devices=0)
    assert evidence.main() == 4
    assert "finds no CUDA device" in capsys.readouterr().err


# -- the stand-ins themselves ----------------------------------------------------------------------


def test_the_stand_in_refuses_what_a_device_would_not_forgive(cupy):
    backend = get_backend("cupy")
    A, small = backend.empty((4, 4)), backend.empty((2, 2))
    with backend.active():
        for hidden in (float, bool, len, list, np.asarray):
            with pytest.raises((DeviceFault, TypeError)):
                hidden(A)
        with pytest.raises(DeviceFault, match="not C-contiguous"):
            backend.relu(A.T, A)
        with pytest.raises(DeviceFault, match="leading dimension 2 for 4 rows"):
            backend.gemm(small, small, A)
        with pytest.raises(DeviceFault, match="reaches outside"):
            backend.gemm(A, backend.empty((2, 4)), backend.empty((4, 4)))
        with pytest.raises(DeviceFault, match="one of its factors"):
            backend.gemm(A, A, A)
        with pytest.raises(DeviceFault, match="not an array of uint8"):
            backend.gate_changes(A, A)
        with pytest.raises(DeviceFault, match="another device"), cupy.cuda.Device(1):
            backend.relu(A, A)


# -- the parity ladder --------------------------------------------------------------------------


@pytest.mark.usefixtures("cupy")
def test_the_parity_ladder_holds_on_the_stand_ins(monkeypatch):
    """At tf32, whose allowances are of their own; the others' operations are checked elsewhere."""
    few = [("weight", "gd"), ("gram", "bs23")]  # numba climbs with all
    monkeypatch.setattr("prdsim.verification.operands.SHAPES", (*SHAPES[:-1], (61, 57)))
    monkeypatch.setattr("prdsim.verification.ladder._METHODS", few)
    found, unavailable = candidates(["cupy"], ["tf32"], threads=1)
    checks = verify(found, RunConfig(**{**DEFAULTS, "samples": 12, "width": 9, "critic_width": 5}))
    assert not unavailable
    assert {check.rung for check in checks} == set(RUNGS)
    assert [check for check in checks if not check.holds] == []


# -- kernels for devices ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("architecture", "width"),
    [
        ("sm_80", None),
        ("sm_90", None),
        *zip(["sm_80", "sm_90"] * 2, cuda_narrow.WIDTHS, strict=True),
    ],
)
def test_kernels_compile_for_devices(dtype, architecture, width):
    """By NVRTC, with the options CuPy adds; no device is needed, only the wheels."""
    pytest.importorskip("cupy", reason="CuPy is not installed: kernels are not compiled by NVRTC")
    from cupy.cuda import nvrtc

    added = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")
    options = (*real_kernels.OPTIONS, *added, f"-arch={architecture}")
    code, names = real_kernels.source(dtype), real_kernels.kernel_names(dtype)
    if width is not None:
        code, names = cuda_narrow.source(dtype, width), list(cuda_narrow.NAMES)
    try:
        program = nvrtc.createProgram(code, "kernels.cu", (), ())
    except (RuntimeError, ImportError, OSError) as error:
        pytest.skip(f"NVRTC is not installed ({str(error).splitlines()[0]})")
    try:
        nvrtc.compileProgram(program, options)
    except Exception:
        pytest.fail(nvrtc.getProgramLog(program))
    code = nvrtc.getCUBIN(program)
    assert code.startswith(b"\x7fELF")
    for name in names:
        assert name.encode() + b"\0" in code
