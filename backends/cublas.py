"""Matrix products by cuBLAS, called directly.

CuPy's own calls cannot choose TF32 for one product, copy operands that are not contiguous, and
cannot be captured in a CUDA graph; hence our own handle, with its stream and workspace.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

from .arrays import Array

WORKSPACE_BYTES = 32 << 20  # what cuBLAS recommends from compute capability 9.0 on

# Values of the enumerations in cublas_api.h and library_types.h.
_NO_TRANSPOSE, _TRANSPOSE = ctypes.c_int(0), ctypes.c_int(1)
_DEFAULT_MATH = ctypes.c_int(0)
_DEFAULT_ALGORITHM = ctypes.c_int(-1)
_REAL_32F, _REAL_64F = ctypes.c_int(0), ctypes.c_int(1)
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = (ctypes.c_int(code) for code in (68, 70, 77))
_KINDS = {
    "float64": (_REAL_64F, _COMPUTE_64F, ctypes.c_double),
    "float32": (_REAL_32F, _COMPUTE_32F, ctypes.c_float),
    "tf32": (_REAL_32F, _COMPUTE_32F_FAST_TF32, ctypes.c_float),
}


def load_cublas() -> Any:
    """Return the library; raises ImportError, OSError or RuntimeError if it is missing."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)


class Gemm:
    """out = alpha A B + beta out for C-contiguous arrays and their transposes.

    Deterministic: one stream, a fixed workspace and no atomics, which are off by default. Create
    and call it with the stream's device current. Raises RuntimeError if cuBLAS fails.
    """

    def __init__(self, library: Any, precision: str, stream: int, workspace: int) -> None:
        self._library = library
        self._type, self._compute_type, self._scalar = _KINDS[precision]
        self._handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        destroy = weakref.finalize(self, library.cublasDestroy_v2, self._handle)
        destroy.atexit = False  # the driver may be gone by then
        self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
        self._call(  # after the stream, which resets it
            "cublasSetWorkspace_v2",
            self._handle,
            ctypes.c_void_p(workspace),
            ctypes.c_size_t(WORKSPACE_BYTES),
        )
        self._call("cublasSetMathMode", self._handle, _DEFAULT_MATH)
        self._bound: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def version(self) -> str:
        """Return the version of the library."""
        number = ctypes.c_int()
        self._call("cublasGetVersion_v2", self._handle, ctypes.byref(number))
        return f"{number.value // 10000}.{number.value // 100 % 100}.{number.value % 100}"

    def __call__(self, A: Array, B: Array, out: Array, alpha: float, beta: float) -> None:
        """out = alpha A B + beta out."""
        key = (*_layout(A), *_layout(B), out.data.ptr, alpha, beta)
        arguments = self._bound.get(key)
        if arguments is None:  # made once for each product: this takes longer than the call
            arguments = self._bound[key] = self._arguments(A, B, out, alpha, beta)
        status = self._library.cublasGemmEx_64(*arguments)
        if status:
            raise RuntimeError(f"cublasGemmEx_64 failed with status {status}")

    def _arguments(
        self, A: Array, B: Array, out: Array, alpha: float, beta: float
    ) -> tuple[Any, ...]:
        # cuBLAS is column-major: it sees out.T = alpha B.T A.T + beta out.T, in place.
        rows, columns = out.shape
        length = ctypes.c_int64
        return (
            self._handle,
            *(_TRANSPOSE if not M.flags.c_contiguous else _NO_TRANSPOSE for M in (B, A)),
            length(columns),
            length(rows),
            length(A.shape[1]),
            ctypes.byref(self._scalar(alpha)),
            *self._operand(B),
            *self._operand(A),
            ctypes.byref(self._scalar(beta)),
            *self._operand(out),
            self._compute_type,
            _DEFAULT_ALGORITHM,
        )

    def _operand(self, M: Array) -> tuple[Any, ...]:
        """Return address, type and leading dimension: the row length of the array in memory."""
        stored_row = M.shape[1] if M.flags.c_contiguous else M.shape[0]
        return ctypes.c_void_p(M.data.ptr), self._type, ctypes.c_int64(stored_row)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")


def _layout(M: Array) -> tuple[Any, ...]:
    return M.data.ptr, M.shape, M.flags.c_contiguous
