"""The CuPy backend on a machine without a GPU.

`HostCupy` stands in for the module `cupy`, `HostCublas` for the library. Kernels are the backend's
own text, compiled by a C++ compiler. Both behave as the real ones do where it matters (streams,
asynchronous copies, column-major products, memory that holds anything) and are stricter: they
refuse what would be a race, a wrong address, a mismatched argument or a hidden copy, and log every
operation. What they cannot show: speed, and the rounding of NVRTC's and cuBLAS's own code.
"""

from __future__ import annotations

from .compiler import CompileException, compiler_missing
from .cublas import HostCublas
from .device import DeviceFault, HostCupy, Operation

__all__ = [
    "CompileException",
    "DeviceFault",
    "HostCublas",
    "HostCupy",
    "Operation",
    "compiler_missing",
]
