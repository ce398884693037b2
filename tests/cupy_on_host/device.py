"""A stand-in for the module `cupy`: arrays, streams and kernels on the host."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .compiler import CompileException, HostKernel, compile_kernels

_GUARD = 256  # bytes before and after every allocation that nothing may touch
_MARK = 0xA5
_MARKED = bytes([_MARK]) * _GUARD


class DeviceFault(AssertionError):  # noqa: N818
    """Something a device would answer with wrong numbers, an error, or a silent copy."""


class CUDARuntimeError(RuntimeError):
    """As CuPy's: the status, and its name in the text."""

    def __init__(self, status: int, name: str) -> None:
        super().__init__(f"{name}: {name.removeprefix('cudaError')}")
        self.status = status


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class Operation(NamedTuple):
    """One thing issued to the device: scalars by value, buffers by address."""

    kind: str  # kernel, gemm, graph
    name: str
    stream: int
    scalars: tuple[Any, ...]
    buffers: tuple[Any, ...]


class DeviceArray:
    """An array, or a part of one, that the host cannot read except by `get`."""

    def __init__(self, module: HostCupy, memory: np.ndarray, host: np.ndarray, number: int) -> None:
        self._module, self._memory, self._host = module, memory, host
        self.device_number = number
        self.shape, self.dtype, self.size = host.shape, host.dtype, host.size
        self.ndim, self.nbytes, self.flags = host.ndim, host.nbytes, host.flags
        self.data = SimpleNamespace(ptr=host.ctypes.data)

    @property
    def T(self) -> DeviceArray:
        return self._view(self._host.T)

    def reshape(self, shape: tuple[int, ...] | int) -> DeviceArray:
        """Another shape of the same memory; CuPy copies what is not contiguous, silently."""
        if not self.flags.c_contiguous:
            raise DeviceFault("reshape: a copy on the device")
        return self._view(self._host.reshape(shape))

    def __getitem__(self, part: slice) -> DeviceArray:
        if self.ndim != 1 or not isinstance(part, slice) or part.step not in (None, 1):
            self._hidden()
        return self._view(self._host[part])

    def _view(self, host: np.ndarray) -> DeviceArray:
        return DeviceArray(self._module, self._memory, host, self.device_number)

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        if type(arr) is not np.ndarray or arr.dtype != self.dtype or arr.shape != self.shape:
            raise DeviceFault(f"set: {arr.dtype} {arr.shape} into {self.dtype} {self.shape}")
        stream = stream or self._module.current_stream()
        stream.refuse_to_capture()
        self._module.uploads += 1
        stream.issue(self._module.allocation(self.data.ptr, self.nbytes, "set"))
        np.copyto(self._host, arr)

    def get(
        self, stream: Stream | None = None, *, out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        module = self._module
        stream = stream or module.current_stream()
        stream.refuse_to_capture()
        module.host_copies += 1
        if not self.flags.c_contiguous:
            raise DeviceFault("get: a copy on the device comes first, in an array of its own")
        if out is None:
            out, blocking = np.empty(self.shape, self.dtype), True
        elif not module.is_pinned(out):
            raise DeviceFault("get: out is not pinned, the copy would not be asynchronous")
        stream.issue(module.allocation(self.data.ptr, self.nbytes, "get"))
        stream.later.append(self._transfer(out))
        if blocking:
            stream.synchronize()
        return out

    def _transfer(self, out: np.ndarray) -> Callable[[], None]:
        """What is done when a copy arrives; memory given back meanwhile holds anything by then."""
        memory, shape, dtype = weakref.ref(self._memory), self.shape, self.dtype
        start = self.data.ptr - self._memory.ctypes.data
        part = slice(start, start + self.nbytes)

        def arrive() -> None:
            source = memory()
            if source is None:
                out.reshape(-1).view(np.uint8)[:] = 0xFF
            else:
                np.copyto(out, source[part].view(dtype).reshape(shape))

        return arrive

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def _hidden(self, *_: Any) -> Any:
        raise DeviceFault("a hidden copy to the host")

    __float__ = __int__ = __bool__ = __index__ = __len__ = __iter__ = _hidden


class Stream:
    """Kernels run at once; copies to the host as late as they may: where something waits.

    While it captures, operations are checked and noted, not done. Whatever then waits, copies or
    allocates breaks the capture, as on a device, or more strictly: an event does so too.
    """

    def __init__(self, module: HostCupy, non_blocking: bool = False) -> None:
        self.ptr = module.new_stream_number()
        self._module, self.device_number = module, module.device_numbers[-1]
        self.non_blocking = non_blocking
        self.issued = self.completed = 0
        self.seen: dict[Stream, int] = {}
        self.later: list[Callable[[], None]] = []
        self._awaited: list[Stream] = []
        self._arriving = threading.RLock()  # a thread that writes files may wait too
        self.noted: list[_Noted] | None = None
        self._capture_broken = False
        module.streams.append(self)

    # -- capture -------------------------------------------------------------------------------

    def begin_capture(self, mode: int | None = None) -> None:
        assert mode is None, "CuPy's own mode: the relaxed one"
        if self is self._module.stream_stack[0]:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.noted is not None:
            raise CUDARuntimeError(401, "cudaErrorIllegalState")
        self.noted = []

    def end_capture(self) -> Graph:
        noted, broken = self.noted, self._capture_broken
        self.noted, self._capture_broken = None, False
        if noted is None:
            raise CUDARuntimeError(401, "cudaErrorIllegalState")
        if broken:
            raise CUDARuntimeError(901, "cudaErrorStreamCaptureInvalidated")
        return Graph(self._module, noted)

    def note(self, noted: _Noted) -> None:
        """Keep an operation for the graph."""
        assert self.noted is not None
        if self._capture_broken:
            raise CUDARuntimeError(901, "cudaErrorStreamCaptureInvalidated")
        self.noted.append(noted)

    def refuse_to_capture(self) -> None:
        """Break the capture, if there is one: what comes next cannot be part of a graph."""
        if self.noted is not None:
            self._capture_broken = True
            raise CUDARuntimeError(900, "cudaErrorStreamCaptureUnsupported")

    # -- order ---------------------------------------------------------------------------------

    def issue(self, *addresses: int) -> None:
        """Count an operation on these arrays; it must come after those of other streams on them."""
        if self._module.device_numbers[-1] != self.device_number:
            raise DeviceFault("a stream of another device than the current one")
        while self._awaited:
            self._awaited.pop().arrive()
        self.issued += 1
        for address in addresses:
            other, position = self._module.touched.get(address, (self, 0))
            if other is not self and position > max(other.completed, self.seen.get(other, 0)):
                raise DeviceFault("two streams use an array, and neither waits for the other")
            self._module.touched[address] = (self, self.issued)

    def record(self) -> Event:
        self.refuse_to_capture()
        return Event(self)

    def wait_event(self, event: Event) -> None:
        self.refuse_to_capture()
        self.seen[event.stream] = event.issued
        self._awaited.append(event.stream)

    def synchronize(self) -> None:
        self.refuse_to_capture()
        self._module.waits += 1
        self.completed = self.issued
        self.arrive()

    def arrive(self) -> None:
        """Do the copies put off so far."""
        with self._arriving:
            while self.later:
                self.later.pop(0)()

    def __enter__(self) -> Stream:
        if self._module.device_numbers[-1] != self.device_number:
            raise RuntimeError("the stream's device does not match the current device")
        self._module.stream_stack.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self._module.stream_stack.pop()


class Event:
    def __init__(self, stream: Stream) -> None:
        self.stream, self.issued = stream, stream.issued

    def synchronize(self) -> None:
        if self.stream.device_number != self.stream._module.device_numbers[-1]:
            raise DeviceFault("a thread waits for another device than its current one")
        self.stream.refuse_to_capture()
        self.stream._module.waits += 1
        self.stream.completed = max(self.stream.completed, self.issued)
        self.stream.arrive()


class _Noted(NamedTuple):
    """An operation of a graph: how to do it, and the memory it uses, to which it has no claim."""

    operation: Operation
    run: Callable[[], None]
    memory: tuple[Callable[[], Any], ...]


class Graph:
    """Operations noted while a stream captured; a launch does them in their order."""

    def __init__(self, module: HostCupy, noted: list[_Noted]) -> None:
        self._module, self.noted = module, noted
        module.graphs += 1
        self._number = module.graphs

    def upload(self, stream: Stream) -> None:
        stream.refuse_to_capture()

    def launch(self, stream: Stream | None = None) -> None:
        stream = stream or self._module.current_stream()
        stream.refuse_to_capture()
        self._module.log.append(Operation("graph", "graph", stream.ptr, (self._number,), ()))
        for operation, run, memory in self.noted:
            if not all(reference() is not None for reference in memory):
                raise DeviceFault(f"a graph uses memory given back since: {operation.name}")
            self._module.do(operation._replace(stream=stream.ptr), stream, run)


class Device:
    def __init__(self, module: HostCupy, number: int) -> None:
        self._module, self.id = module, number

    @property
    def mem_info(self) -> tuple[int, int]:
        return self._module.memory - self._module.used, self._module.memory

    def use(self) -> None:
        self._module.device_numbers[-1] = self.id

    def __enter__(self) -> Device:
        self._module.device_numbers.append(self.id)
        return self

    def __exit__(self, *exception: object) -> None:
        self._module.device_numbers.pop()


@dataclass
class RawKernel:
    """A launch checks every argument against the kernel's parameters, then runs it."""

    module: HostCupy
    kernel: HostKernel
    loaded: bool = False

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, stream: Any = None
    ) -> None:
        kernel, module = self.kernel, self.module
        if len(args) != len(kernel.parameters):
            raise DeviceFault(f"{kernel.name}: {len(args)} arguments")
        values = [
            module.argument(kernel.name, parameter, value)
            for parameter, value in zip(kernel.parameters, args, strict=True)
        ]
        if len(grid) != 1 or not 0 < grid[0] < 2**31 or math.prod(block) > 1024:
            raise DeviceFault(f"{kernel.name}: grid {grid}, block {block}")
        stream = stream or module.current_stream()
        if not self.loaded:  # the first launch compiles and loads
            stream.refuse_to_capture()
            self.loaded = True
        written = {
            parameter.name: value.data.ptr
            for parameter, value in zip(kernel.parameters, args, strict=True)
            if parameter.written
        }

        def run() -> None:
            kernel.backward.value = module.threads_backward
            bx, by = (*block, 1)[:2]
            if kernel.run(grid[0], bx, by, *values):
                raise DeviceFault(f"{kernel.name}: threads wait where others never come")
            for name, address in written.items():
                if not module.guards_intact(address):
                    raise DeviceFault(f"{kernel.name}: writes outside {name}")

        buffers = tuple(a.data.ptr for a in args if isinstance(a, DeviceArray))
        scalars = tuple(a for a in args if not isinstance(a, DeviceArray))
        module.do(Operation("kernel", kernel.name, stream.ptr, scalars, buffers), stream, run)


class RawModule:
    def __init__(self, module: HostCupy, code: str, options: tuple[str, ...]) -> None:
        self._module, self._code, self._options = module, code, options

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self._module, compile_kernels(self._code, self._options)[name])


class HostCupy:
    """What the backend uses of `cupy`, with ``devices`` devices of ``memory`` bytes each.

    ``log`` holds every operation, those of a graph after its launch; ``allocations``,
    ``host_copies``, ``uploads``, ``graphs`` count, ``waits`` how often the host waited. With
    ``threads_backward`` the threads of a block take turns from the last to the first.
    """

    __version__ = "14.0.0 (host stand-in)"

    def __init__(self, devices: int = 1, memory: int = 1 << 30) -> None:
        self.devices, self.memory, self.used = devices, memory, 0
        self.log: list[Operation] = []
        self.allocations = self.host_copies = self.uploads = self.graphs = self.waits = 0
        self.threads_backward = 0
        self.streams: list[Stream] = []
        self._current = threading.local()  # device and stream: each thread has its own
        self.live: dict[int, tuple[int, weakref.ref[np.ndarray]]] = {}
        self.touched: dict[int, tuple[Stream, int]] = {}
        self._pinned: dict[int, int] = {}  # size by address
        self._default = Stream(self)
        self.cuda = SimpleNamespace(
            Device=lambda device=0: Device(self, device),
            Stream=lambda *, non_blocking=False: Stream(self, non_blocking),
            alloc_pinned_memory=self._alloc_pinned_memory,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            compiler=SimpleNamespace(CompileException=CompileException),
            runtime=SimpleNamespace(
                getDeviceCount=lambda: self.devices,
                getDeviceProperties=lambda device: {
                    "name": f"host stand-in {device}".encode(),
                    "major": 9,
                    "minor": 0,
                },
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 13000,
                CUDARuntimeError=CUDARuntimeError,
            ),
        )

    def RawModule(self, *, code: str, options: tuple[str, ...] = ()) -> RawModule:
        return RawModule(self, code, options)

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_bytes=lambda: 0)

    @property
    def device_numbers(self) -> list[int]:
        """The current thread's devices, the first one at the bottom."""
        if not hasattr(self._current, "devices"):
            self._current.devices = [0]
        return self._current.devices

    @property
    def stream_stack(self) -> list[Stream]:
        """The current thread's streams, the default one at the bottom."""
        if not hasattr(self._current, "streams"):
            self._current.streams = [self._default]
        return self._current.streams

    def current_stream(self) -> Stream:
        return self.stream_stack[-1]

    def new_stream_number(self) -> int:
        return 1000 + len(self.streams)

    # -- memory --------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any = "float64") -> DeviceArray:
        """Memory that holds NaN (the first megabyte of it), between two guards."""
        for stream in self.streams:
            stream.refuse_to_capture()
        nbytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if nbytes > self.memory - self.used:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes} bytes")
        self.allocations += 1
        memory = np.empty(nbytes + 2 * _GUARD, np.uint8)
        memory[: 1 << 20] = 0xFF
        memory[:_GUARD] = memory[-_GUARD:] = _MARK
        host = memory[_GUARD:-_GUARD].view(dtype).reshape(shape)
        array = DeviceArray(self, memory, host, self.device_numbers[-1])
        self.used += nbytes
        self.live[array.data.ptr] = (nbytes, weakref.ref(memory))
        weakref.finalize(memory, self._free, array.data.ptr, nbytes)
        return array

    def _free(self, address: int, nbytes: int) -> None:
        self.used -= nbytes
        self.live.pop(address, None)
        self.touched.pop(address, None)

    def check_inside(self, address: int, nbytes: int, what: str) -> None:
        """Raise `DeviceFault` unless the bytes lie in one allocation."""
        self.allocation(address, nbytes, what)

    def allocation(self, address: int, nbytes: int, what: str) -> int:
        """The address of the allocation in which the bytes lie."""
        if nbytes <= self.live.get(address, (-1, None))[0]:
            return address
        for start, (size, _) in list(self.live.items()):
            if start <= address and address + nbytes <= start + size:
                return start
        raise DeviceFault(f"{what} reaches outside its array")

    def guards_intact(self, address: int) -> bool:
        """Whether nothing was written just before or after an array."""
        memory = self.live[self.allocation(address, 0, "what was written")][1]()
        return memory[:_GUARD].tobytes() == memory[-_GUARD:].tobytes() == _MARKED

    def _alloc_pinned_memory(self, size: int) -> Any:
        memory = (ctypes.c_char * size)()
        self._pinned[ctypes.addressof(memory)] = size
        return memory

    def is_pinned(self, array: np.ndarray) -> bool:
        return self._pinned.get(array.ctypes.data, 0) >= array.nbytes

    # -- operations ----------------------------------------------------------------------------

    def do(self, operation: Operation, stream: Stream, run: Callable[[], None]) -> None:
        """Issue an operation, or note it if the stream captures."""
        places = [self.allocation(address, 0, operation.name) for address in operation.buffers]
        if stream.noted is not None:
            memory = tuple(self.live[address][1] for address in places)
            stream.note(_Noted(operation, run, memory))
            return
        stream.issue(*places)
        self.log.append(operation)
        run()

    def argument(self, kernel: str, parameter: Any, value: Any) -> Any:
        """Return what is handed to C; refuse what does not fit the parameter."""
        where = f"{kernel}({parameter.name})"
        if parameter.dtype:
            if not isinstance(value, DeviceArray) or value.dtype != parameter.dtype:
                raise DeviceFault(f"{where}: not an array of {parameter.dtype}")
            if not value.flags.c_contiguous:
                raise DeviceFault(f"{where}: not C-contiguous")
            if value.device_number != self.device_numbers[-1]:
                raise DeviceFault(f"{where}: an array of another device")
            return value.data.ptr
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.number):
            raise DeviceFault(f"{where}: {type(value).__name__} is no number that CuPy passes")
        value = np.int64(value) if isinstance(value, int) else value
        if dtype_of(type(value)) != dtype_of(parameter.scalar):
            raise DeviceFault(f"{where}: {type(value).__name__} for {parameter.scalar.__name__}")
        return parameter.scalar(value.item())


@cache
def dtype_of(kind: type) -> np.dtype:
    """The type of an array's entries that hold a number of NumPy's or of C."""
    return np.dtype(kind)
