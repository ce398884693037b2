"""What crosses between a CUDA device and the host, beside whole arrays that someone waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import cuda_kernels
from .arrays import Array
from .base import Sums


@dataclass(frozen=True, slots=True)
class Held:
    """A factor times the number in ``place``, (1,) float64: a coefficient known to the device."""

    place: Array
    factor: float = 1.0

    def __mul__(self, factor: float) -> Held:
        return Held(self.place, self.factor * factor)


class DeviceSums(Sums):
    """Sums over all entries: partial sums on the device, read in one copy, added on the host."""

    def __init__(self, cupy: Any, stream: Any, kernels: Mapping[str, Any], count: int) -> None:
        entries = count * cuda_kernels.TOTAL_BLOCKS
        self._stream, self._kernels = stream, kernels
        self._partial = cupy.empty((entries,), "float64")
        self._parts = [
            self._partial[start : start + cuda_kernels.TOTAL_BLOCKS]
            for start in range(0, entries, cuda_kernels.TOTAL_BLOCKS)
        ]
        self._blocks = [0] * count
        memory = cupy.cuda.alloc_pinned_memory(self._partial.nbytes)
        self._pinned = np.frombuffer(memory, "float64", entries)

    def dot(self, number: int, A: Array, B: Array) -> None:
        self.add(number, "dot", A, B)

    def add(self, number: int, kernel: str, *arrays: Array) -> None:
        """Compute sum ``number`` by a kernel for totals."""
        size = arrays[0].size
        blocks = min(cuda_kernels.TOTAL_BLOCKS, -(-size // cuda_kernels.BLOCK))
        arguments = (*arrays, self._parts[number], size)
        self._kernels[kernel]((blocks,), (cuda_kernels.BLOCK,), arguments, stream=self._stream)
        self._blocks[number] = blocks

    def read(self) -> list[float]:
        self._partial.get(stream=self._stream, out=self._pinned, blocking=False)
        self._stream.synchronize()
        rows = self._pinned.reshape(len(self._blocks), -1)
        return [float(row[:blocks].sum()) for row, blocks in zip(rows, self._blocks, strict=True)]


class HostCopy:
    """A copy of a device array, on its way to the host through pinned memory.

    It uses a stream of its own, after all operations issued before; host and device are free
    meanwhile. The array must not change until `result` has returned. The array and the pinned
    memory return to their pools with this object: keep it until then.
    """

    def __init__(self, cupy: Any, source: Array, device: Any, computing: Any, leaving: Any) -> None:
        memory = cupy.cuda.alloc_pinned_memory(source.nbytes)  # from CuPy's pool
        self._source, self._device = source, device
        self._pinned = np.frombuffer(memory, source.dtype, source.size).reshape(source.shape)
        leaving.wait_event(computing.record())
        source.get(stream=leaving, out=self._pinned, blocking=False)
        self._left = leaving.record()

    def result(self) -> np.ndarray[Any, Any]:
        """Return the copy, in ordinary memory (pinned memory is scarce); from any thread."""
        self._device.use()  # each thread has its own current device
        self._left.synchronize()
        return self._pinned.copy()
