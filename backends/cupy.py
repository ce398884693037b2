"""The CuPy backend: our own CUDA kernels, products by cuBLAS, memory and streams by CuPy.

CuPy is imported only when a device is requested. CuPy and cuBLAS are passed to the class as
arguments, so that the tests can run all of it on stand-ins where there is no device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from prdsim.errors import BackendAbsentError, BackendUnavailableError, ConfigError
from prdsim.words import first_line

from . import cublas, cuda_graphs, cuda_kernels, cuda_narrow
from .arrays import Array
from .base import Backend, Rates
from .cupy_fused import CupyFused
from .cupy_narrow import NarrowFused
from .cupy_transfers import DeviceSums, Held, HostCopy

_INSTALL = "pip install 'prdsim[cuda13]' (driver 580 or newer) or 'prdsim[cuda12]'"
_BROKEN = (RuntimeError, ImportError, OSError)  # raised by libraries that do not work here
_CUDA_ERROR_INSUFFICIENT_DRIVER = 35  # also if there is no driver at all
_CUDA_ERROR_NO_DEVICE = 100


def create(precision: str = "float64", threads: int | None = None, device: str = "") -> CupyBackend:
    """Return a backend on the device of that number, or the first, after a trial computation.

    Raises `BackendUnavailableError`, which says what is missing and what to do about it.
    """
    if device and not device.isdecimal():
        raise ConfigError(f"backend 'cupy:{device}': the device must be a number, as in cupy:1")
    number = int(device or "0")
    cupy = _import_cupy()
    _check_device(cupy, number)
    try:
        backend = CupyBackend(
            cupy, cublas.load_cublas(), precision=precision, device=number, threads=threads
        )
        with backend.active():
            backend.probe()
    except (*_BROKEN, MemoryError, cupy.cuda.compiler.CompileException) as error:
        raise BackendUnavailableError(
            f"backend cupy: a device was found, but CUDA's libraries do not work "
            f"({first_line(error)});\n"
            "pip install 'prdsim[cuda13]' or 'prdsim[cuda12]', matching CuPy's wheel, installs them"
        ) from error
    return backend


def _import_cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise BackendAbsentError(f"backend cupy: CuPy is not installed;\n{_INSTALL}") from None
        raise _broken_import(error) from error
    except Exception as error:
        raise _broken_import(error) from error
    if not all(hasattr(cupy, name) for name in ("RawModule", "cuda", "__version__")):
        places = [getattr(cupy, "__file__", None), *getattr(cupy, "__path__", ())]
        other = next(filter(None, places), "a module in memory")
        raise BackendAbsentError(
            f"backend cupy: CuPy is not installed ({other} only has its name);\n{_INSTALL}"
        )
    return cupy


def _broken_import(error: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"backend cupy: CuPy is installed but cannot be imported ({first_line(error)});\n{_INSTALL}"
    )


def _check_device(cupy: Any, number: int) -> None:
    """Raise `BackendUnavailableError` unless the driver works and has a device of that number."""
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except _BROKEN as error:
        status = getattr(error, "status", None)
        if status == _CUDA_ERROR_INSUFFICIENT_DRIVER:
            raise BackendAbsentError(
                "backend cupy: there is no NVIDIA driver, or it is too old for this CuPy;\n"
                "install or update the driver (nvidia-smi shows it; CUDA 13 needs 580, CUDA 12 "
                "525), or use --backend numba"
            ) from error
        devices, reason = 0, f" ({first_line(error)})"
        absent = status == _CUDA_ERROR_NO_DEVICE
    else:
        reason, absent = "", True
    if devices == 0:
        raise (BackendAbsentError if absent else BackendUnavailableError)(
            f"backend cupy: CuPy finds no CUDA device{reason};\n"
            "check that nvidia-smi lists one and that CUDA_VISIBLE_DEVICES does not hide it, or "
            "use --backend numba"
        )
    if number >= devices:
        raise BackendUnavailableError(
            f"backend cupy:{number}: there is no such device;\n"
            f"choose one of {', '.join(f'cupy:{i}' for i in range(devices))}"
        )


class CupyBackend(Backend):
    """One CUDA device, at ``float64``, true ``float32`` or ``tf32``; operations run in `active`.

    ``tf32`` stores and adds float32, but its products round their factors to 10 bits. Operations
    are issued to one stream, in order; copies to the host use a second one. ``threads`` is that of
    the host, which only prepares a run.
    """

    name = "cupy"
    asynchronous = True
    holds_numbers = True
    partial_sums = cuda_kernels.TOTAL_BLOCKS
    rates: ClassVar = {
        "float32": Rates(4.5e13, 3.0e12),
        "float64": Rates(5.0e13, 3.0e12),
        "tf32": Rates(3.0e14, 3.0e12),
    }

    def __init__(
        self,
        cupy: Any,
        library: Any,
        *,
        precision: str = "float64",
        device: int = 0,
        threads: int | None = None,
    ) -> None:
        """Take CuPy and the cuBLAS library, or stand-ins for them."""
        super().__init__(precision, threads)
        self._cupy = cupy
        self._device = cupy.cuda.Device(device)
        self.device = f"cuda:{device}"
        with self._device:
            # A stream of its own: other work on the default stream cannot disturb a recording.
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._leaving = cupy.cuda.Stream(non_blocking=True)
        self._narrow: dict[int, dict[str, Any]] = {}  # kernels by width
        self._recorder = cuda_graphs.Recorder(self._stream)
        module = cupy.RawModule(
            code=cuda_kernels.source(self.dtype.name), options=cuda_kernels.OPTIONS
        )
        with self.active():
            names = cuda_kernels.kernel_names(self.dtype.name)
            self._kernels = {name: module.get_function(name) for name in names}
            self._sum = self.sums(1)
            self._workspace = cupy.empty((cublas.WORKSPACE_BYTES,), "uint8")
            self._gemm = cublas.Gemm(library, precision, self._stream.ptr, self._workspace.data.ptr)

    def probe(self) -> None:
        """Raise RuntimeError unless a kernel and a product give the right result: 2 relu(3) = 6.

        Repeated often enough to be recorded, so that `describe` knows whether that works.
        """
        three, two, six = (self.empty((1, 1)) for _ in range(3))
        self.to_device(np.full((1, 1), 2.0), two)

        def multiply() -> None:
            self.relu(three, out=three)
            self.gemm(two, three, out=six)

        for _ in range(cuda_graphs.WARM_UP + 2):
            self.to_device(np.full((1, 1), 3.0), three)
            self.to_device(np.full((1, 1), np.nan), six)
            self.replay(multiply, None, multiply)
            if self.to_host(six)[0, 0] != 6.0:
                raise RuntimeError("a product is wrong")

    # -- memory and transfer -------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """Raises `ConfigError` if the device has no room."""
        try:
            return self._cupy.empty(shape, dtype or self.dtype)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            wanted = prod(shape) * np.dtype(dtype or self.dtype).itemsize
            raise ConfigError(
                f"{self.device} has no room for an array {shape} of {wanted / 1e9:,.2f} GB "
                f"({self.available_bytes() / 1e9:,.2f} GB are free);\n"
                "lower --width or --samples, use --precision float32, or end other programs on it"
            ) from error

    def to_device(self, source: np.ndarray[Any, Any], out: Array) -> None:
        out.set(np.ascontiguousarray(source.astype(out.dtype)), stream=self._stream)
        self._stream.synchronize()  # the host array may be gone as soon as this returns

    def to_host(self, source: Array) -> np.ndarray[Any, Any]:
        return self._leave(source).result()

    def start_copy(self, source: Array) -> Callable[[], np.ndarray[Any, Any]]:
        # From a copy on the device, which takes no time compared with the transfer: operations
        # issued next need not wait.
        staged = self.empty(source.shape)
        self.copy(source, out=staged)
        return self._leave(staged).result

    def _leave(self, source: Array) -> HostCopy:
        return HostCopy(self._cupy, source, self._device, self._stream, self._leaving)

    def copy(self, source: Array, out: Array) -> None:
        self._elementwise("copy", source, out, size=out.size)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def available_bytes(self) -> int:
        with self._device:
            free, _ = self._device.mem_info
            return int(free + self._cupy.get_default_memory_pool().free_bytes())

    def describe(self) -> dict[str, Any]:
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self._device.id)
        failure = self._recorder.failure
        return {
            **super().describe(),
            "gpu": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "cuda_driver": _cuda_version(runtime.driverGetVersion()),
            "cuda_runtime": _cuda_version(runtime.runtimeGetVersion()),
            "cublas": self._gemm.version(),
            "cuda_graphs": f"failed: {failure}" if failure else "used",
            "cupy": self._cupy.__version__,
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._device, self._stream:
            yield

    def fused(self, m: int, m_c: int, d_out: int, n: int) -> CupyFused | NarrowFused:
        width = cuda_narrow.width_for(d_out)
        if width is None:
            return CupyFused(self, m, m_c, n, self.penalty_gates)
        return NarrowFused(self, partial(self._launch_narrow, width), m, m_c, d_out, n)

    def replay(
        self,
        owner: object,
        key: Hashable,
        operations: Callable[[], None],
        *,
        at_most: int = 1,  # noqa: ARG002 - a launch is one call in any case
        number: Array | None = None,  # noqa: ARG002
    ) -> int:
        self._recorder(owner, key, operations)
        return 1

    def hold(self, value: float, place: Array) -> Held:
        self._elementwise("set_number", np.float64(value), place, size=1)
        return Held(place)

    def sums(self, count: int) -> DeviceSums:
        return DeviceSums(self._cupy, self._stream, self._kernels, count)

    # -- matrix multiplication -----------------------------------------------------------------

    def gemm(
        self, A: Array, B: Array, out: Array, *, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        self._gemm(A, B, out, alpha, beta)

    # -- elementwise ---------------------------------------------------------------------------

    def relu(self, A: Array, out: Array) -> None:
        self._elementwise("relu", A, out, size=out.size)

    def heaviside(self, A: Array, out: Array) -> None:
        self._elementwise("heaviside", A, out, size=out.size)

    def gate(self, B: Array, A: Array, out: Array) -> None:
        self._elementwise("gate", B, A, out, size=out.size)

    def combine(self, terms: Sequence[tuple[float | Held, Array]], out: Array) -> None:
        most = cuda_kernels.LARGEST_COMBINATION
        now, later = terms[:most], terms[most:]
        held = next((c.place for c, _ in now if isinstance(c, Held)), None)
        if held is None:
            plain = [argument for c, A in now for argument in (self.dtype.type(c), A)]
            self._elementwise(f"combine_{len(now)}", *plain, out, size=out.size)
        else:
            name = f"combine_held_{len(now)}"
            mixed = [argument for c, A in now for argument in (*_factor(c), A)]
            self._elementwise(name, held, *mixed, out, size=out.size)
        if later:
            self.combine([(1.0, out), *later], out=out)

    def interpolate(self, e: Array, Y: Array, Z: Array, out: Array) -> None:
        self._elementwise("interpolate", e, Y, Z, out, out.shape[1], size=out.size)

    def scale_rows(self, r: Array, A: Array, out: Array) -> None:
        self._elementwise("scale_rows", r, A, out, out.shape[1], size=out.size)

    def scale_columns(self, c: Array, A: Array, out: Array) -> None:
        self._elementwise("scale_columns", c, A, out, out.shape[1], size=out.size)

    def take_columns(self, A: Array, order: Array, out: Array) -> None:
        self._elementwise("take_columns", A, order, out, out.shape[1], size=out.size)

    def penalty_weights(self, squared_norms: Array, scale: float, out: Array) -> None:
        factor = self.dtype.type(scale)
        self._elementwise("penalty_weights", squared_norms, factor, out, size=out.size)

    def penalty_gates(
        self, A: Array, at_points: Array, labels: Array, e: Array | float, hat: Array
    ) -> None:
        """hat_rp = 1{A_rp + e_p (y_rp - A_rp) >= 0}, y_rp = at_points_r,labels_p; A = 1{A >= 0}."""
        shared = isinstance(e, float)
        common = self.dtype.type(e if shared else 0.0)
        each = A if shared else e, 0 if shared else 1, common
        points = at_points, labels, at_points.shape[1]
        self._elementwise("penalty_gates", A, *points, *each, hat, A.shape[1], size=A.size)

    def set_word(self, value: int, out: Array) -> None:
        self._elementwise("set_word", np.uint64(value), out, size=out.size)

    def uniforms(self, seed: int, stream: int, step: Array, update: int, out: Array) -> None:
        key = np.uint64(seed), np.uint64(stream)
        self._elementwise("uniforms", *key, step, np.uint64(update), out, size=out.size)

    # -- reductions ----------------------------------------------------------------------------

    def row_dots(self, A: Array, B: Array, out: Array) -> None:
        blocks = -(-A.shape[0] // cuda_kernels.ROW_BLOCK[1])
        arguments = (A, B, out, *A.shape)
        self._launch(f"row_dots_{out.dtype.name}", blocks, cuda_kernels.ROW_BLOCK, arguments)

    def column_dots(self, A: Array, B: Array, out: Array) -> None:
        blocks = -(-A.shape[1] // cuda_kernels.COLUMN_BLOCK[0])
        arguments = (A, B, out, *A.shape)
        self._launch(f"column_dots_{out.dtype.name}", blocks, cuda_kernels.COLUMN_BLOCK, arguments)

    def dot(self, A: Array, B: Array) -> float:
        return self._total("dot", A, B)

    def sum(self, A: Array) -> float:
        return self._total("sum", A)

    def all_finite(self, A: Array) -> bool:
        return self._total("not_finite", A) == 0.0

    def gates(self, A: Array, out: Array) -> None:
        self._elementwise("gates", A, out, size=out.size)

    def gate_changes(self, A: Array, gates: Array) -> int:
        return int(self._total("gate_changes", A, gates))

    # -- launches ------------------------------------------------------------------------------

    def _elementwise(self, name: str, *arguments: Any, size: int) -> None:
        blocks = -(-size // cuda_kernels.BLOCK)
        self._launch(name, blocks, (cuda_kernels.BLOCK,), (*arguments, size))

    def _total(self, name: str, *arrays: Array) -> float:
        self._sum.add(0, name, *arrays)
        return self._sum.read()[0]

    def _launch_narrow(
        self, width: int, name: str, blocks: int, block: tuple[int, ...], arguments: tuple[Any, ...]
    ) -> None:
        if width not in self._narrow:
            code = cuda_narrow.source(self.dtype.name, width)
            module = self._cupy.RawModule(code=code, options=cuda_narrow.OPTIONS)
            self._narrow[width] = {name: module.get_function(name) for name in cuda_narrow.NAMES}
        self._start(self._narrow[width][name], blocks, block, arguments)

    def _launch(
        self, name: str, blocks: int, block: tuple[int, ...], arguments: tuple[Any, ...]
    ) -> None:
        self._start(self._kernels[name], blocks, block, arguments)

    def _start(
        self, kernel: Any, blocks: int, block: tuple[int, ...], arguments: tuple[Any, ...]
    ) -> None:
        kernel((blocks,), block, arguments, stream=self._stream)


def _factor(c: float | Held) -> tuple[np.float64, int]:
    """Return a coefficient's number, and whether it is a factor of the held one."""
    return (np.float64(c.factor), 1) if isinstance(c, Held) else (np.float64(c), 0)


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
