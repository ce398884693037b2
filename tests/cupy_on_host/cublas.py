"""A stand-in for the cuBLAS library: column-major, with every size and address checked."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .device import DeviceFault, HostCupy, Operation, dtype_of

_TYPES = {0: np.dtype("float32"), 1: np.dtype("float64")}
_COMPUTE_TYPES = {68: _TYPES[0], 70: _TYPES[1], 77: _TYPES[0]}
_TF32 = 77


class HostCublas:
    """What the backend calls of the library; arguments are C objects, as for the real one."""

    def __init__(self, cupy: HostCupy) -> None:
        self._cupy = cupy
        self._stream = 0
        self.workspace_bytes = 0
        self.handles = 0
        self._loaded = False

    def cublasCreate_v2(self, handle: Any) -> int:
        self.handles += 1
        handle._obj.value = self.handles
        return 0

    def cublasDestroy_v2(self, handle: Any) -> int:
        assert handle.value
        self.handles -= 1
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:
        assert handle.value
        self._stream, self.workspace_bytes = stream.value, 0
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, workspace: Any, size: Any) -> int:
        assert handle.value
        self._cupy.check_inside(workspace.value, size.value, "cuBLAS's workspace")
        self.workspace_bytes = size.value
        return 0

    def cublasSetMathMode(self, handle: Any, mode: Any) -> int:
        assert handle.value
        return 0 if mode.value == 0 else 7

    def cublasGetVersion_v2(self, handle: Any, version: Any) -> int:
        assert handle.value
        version._obj.value = 130000
        return 0

    def cublasGemmEx_64(
        self,
        handle: Any,
        transpose_a: Any,
        transpose_b: Any,
        m: Any,
        n: Any,
        k: Any,
        alpha: Any,
        a: Any,
        a_type: Any,
        lda: Any,
        b: Any,
        b_type: Any,
        ldb: Any,
        beta: Any,
        c: Any,
        c_type: Any,
        ldc: Any,
        compute_type: Any,
        algorithm: Any,
    ) -> int:
        assert handle.value
        assert algorithm.value == -1
        dtype = _COMPUTE_TYPES[compute_type.value]
        if any(_TYPES[kind.value] != dtype for kind in (a_type, b_type, c_type)):
            return 15
        if not self.workspace_bytes:
            raise DeviceFault("no workspace: setting the stream resets it")
        scalars = (alpha._obj, beta._obj)
        if any(dtype_of(type(scalar)) != dtype for scalar in scalars):
            raise DeviceFault(f"alpha, beta are not of the compute type, {dtype}")
        m, n, k = m.value, n.value, k.value
        A = self._operand(a, m, k, lda, transpose_a, dtype)
        B = self._operand(b, k, n, ldb, transpose_b, dtype)
        C = self._matrix(c.value, m, n, ldc.value, dtype)
        if np.shares_memory(A, C) or np.shares_memory(B, C):
            raise DeviceFault("a product into one of its factors")
        stream = next(s for s in self._cupy.streams if s.ptr == self._stream)
        if not self._loaded:  # the first product loads kernels
            if stream.noted is not None:
                return 14
            self._loaded = True
        factor, share = (dtype.type(scalar.value) for scalar in scalars)  # read now, not later
        rounded = rounded_to_tf32 if compute_type.value == _TF32 else np.asarray

        def run() -> None:
            with np.errstate(all="ignore"):
                product = factor * (rounded(A) @ rounded(B))
                if share != 0.0:  # else C may hold anything
                    product += share * C
            C[...] = product

        shape = (transpose_a.value, transpose_b.value, m, n, k, *(x.value for x in (lda, ldb, ldc)))
        operation = Operation(
            "gemm",
            "gemm",
            self._stream,
            (*shape, compute_type.value, float(factor), float(share)),
            (a.value, b.value, c.value),
        )
        self._cupy.do(operation, stream, run)
        return 0

    def _operand(
        self, pointer: Any, rows: int, columns: int, ld: Any, transpose: Any, dtype: Any
    ) -> np.ndarray:
        if transpose.value:
            return self._matrix(pointer.value, columns, rows, ld.value, dtype).T
        return self._matrix(pointer.value, rows, columns, ld.value, dtype)

    def _matrix(self, address: int, rows: int, columns: int, ld: int, dtype: Any) -> np.ndarray:
        """A column-major matrix in memory, as a view."""
        if ld < max(1, rows):
            raise DeviceFault(f"leading dimension {ld} for {rows} rows")
        entries = ld * (columns - 1) + rows
        self._cupy.check_inside(address, entries * dtype.itemsize, "a product")
        memory = (ctypes.c_char * (entries * dtype.itemsize)).from_address(address)
        strides = (dtype.itemsize, ld * dtype.itemsize)
        return np.ndarray((rows, columns), dtype, memory, strides=strides)


def rounded_to_tf32(A: np.ndarray) -> np.ndarray:
    """Round float32 to 10 bits after the point, halves away from zero; NaN and infinities stay."""
    bits = np.ascontiguousarray(A).view(np.uint32)
    rounded = ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(A), rounded, A)
