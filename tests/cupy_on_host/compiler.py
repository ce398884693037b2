"""CUDA source compiled for the host: the threads of a block take turns, barrier by barrier."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Threads that meet barriers run as coroutines in turn, forward or backward: a kernel whose result
# depends on the order lacks a barrier. Others run in a plain loop.
_SHIM = r"""
#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <ucontext.h>
using std::sqrt;
using std::fma;
#define __global__ __attribute__((visibility("hidden")))  // the C library has names like `step`
#define EXPORTED extern "C" __attribute__((visibility("default")))
#define __device__ static inline
#define __shared__ static
struct Index { int x, y, z; };
static Index blockIdx, threadIdx, blockDim, gridDim;
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{ return (unsigned long long)(((unsigned __int128)a * b) >> 64); }

enum { MOST = 1024, STACK = (1 << 16) + 320 };  // not in each other's lines of the cache
static jmp_buf scheduler, parked[MOST];
static bool started[MOST], finished[MOST];
static int current;
EXPORTED int backward;
int backward = 0;
static void (*run_thread)();

static void yield() { if (!_setjmp(parked[current])) _longjmp(scheduler, 1); }
static void __syncthreads() { yield(); }
static void live() { for (;;) { run_thread(); finished[current] = true; yield(); } }

static void resume(int thread)
{
    static char* stacks = (char*)malloc((size_t)MOST * STACK);
    static ucontext_t context;
    current = thread;
    if (_setjmp(scheduler)) return;
    if (started[thread]) _longjmp(parked[thread], 1);
    started[thread] = true;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + (size_t)thread * STACK;
    context.uc_stack.ss_size = STACK;
    makecontext(&context, live, 0);
    setcontext(&context);
}

template <class F> static F* closure;
template <class F> static void call_closure() { (*closure<F>)(); }

template <class F> static int launch(int blocks, int bx, int by, bool barriers, F kernel)
{
    int threads = bx * by;
    if (threads > MOST) return 1;
    closure<F> = &kernel;
    run_thread = call_closure<F>;
    gridDim = {blocks, 1, 1};
    blockDim = {bx, by, 1};
    for (int b = 0; b < blocks; ++b) {
        blockIdx = {b, 0, 0};
        for (int t = 0; t < threads; ++t) {
            finished[t] = false;
            if (barriers) continue;
            threadIdx = {t % bx, t / bx, 0};
            kernel();
        }
        for (int left = barriers ? threads : 0; left > 0;) {
            int before = left;
            for (int k = 0; k < threads; ++k) {
                int t = backward ? threads - 1 - k : k;
                if (finished[t]) continue;
                threadIdx = {t % bx, t / bx, 0};
                resume(t);
                left -= finished[t];
            }
            if (left == 0 || left == before) continue;
            for (int t = 0; t < MOST; ++t) started[t] = false;
            return 2;  // some threads wait where others never come
        }
    }
    return 0;
}
"""

_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)\s*\{(.*?)\n\}', re.DOTALL)
_SCALARS = {
    "double": ctypes.c_double,
    "float": ctypes.c_float,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
}
_POINTED = {
    "double": "float64",
    "float": "float32",
    "unsigned char": "uint8",
    "long long": "int64",
    "unsigned long long": "uint64",
}


class CompileException(Exception):  # noqa: N818 - CuPy's name
    """The kernels do not compile."""


def compiler_missing() -> str:
    """Return why kernels cannot be compiled here, or nothing."""
    if sys.platform != "linux":
        return "the host stand-ins need Linux"
    return "" if _compiler() else "no C++ compiler (c++ or g++): kernels cannot be checked"


def _compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++")


@dataclass(frozen=True)
class Parameter:
    """One of a kernel's: ``dtype`` of the array it points to, or the C type of a number."""

    name: str
    dtype: str | None
    scalar: Any
    written: bool


@dataclass(frozen=True)
class HostKernel:
    """A kernel compiled for the host; ``run`` takes grid, block and the C arguments.

    ``backward``: whether threads that meet barriers take turns from the last to the first.
    """

    name: str
    parameters: tuple[Parameter, ...]
    run: Any
    backward: ctypes.c_int


@cache
def compile_kernels(code: str, options: tuple[str, ...]) -> dict[str, HostKernel]:
    """Compile CUDA source; return its kernels by name."""
    typedefs = re.findall(r"^typedef ([\w ]+?) (\w+);", code, re.MULTILINE)
    aliases = {alias: name for name, alias in typedefs}
    found = [
        (name, _parameters(text, aliases), "__syncthreads" in body)
        for name, text, body in _KERNEL.findall(code)
    ]
    launchers = [_launcher(name, parameters, barriers) for name, parameters, barriers in found]
    library = ctypes.CDLL(str(_build("\n".join([_SHIM, code, *launchers]), options)))
    backward, kernels = ctypes.c_int.in_dll(library, "backward"), {}
    for name, parameters, _ in found:
        run = library[f"launch_{name}"]
        pointers = [ctypes.c_void_p if p.dtype else p.scalar for p in parameters]
        run.argtypes = [ctypes.c_int] * 3 + pointers
        kernels[name] = HostKernel(name, tuple(parameters), run, backward)
    return kernels


def _parameters(text: str, aliases: dict[str, str]) -> list[Parameter]:
    parameters = []
    for declaration in text.split(","):
        kind, name = re.match(r"\s*(.*?)\s*(\w+)\s*$", declaration, re.DOTALL).groups()
        base = kind.removeprefix("const ").removesuffix("*").strip()
        base = aliases.get(base, base)
        pointer = kind.endswith("*")
        parameters.append(
            Parameter(
                name,
                _POINTED[base] if pointer else None,
                None if pointer else _SCALARS[base],
                pointer and not kind.startswith("const"),
            )
        )
    return parameters


def _launcher(name: str, parameters: list[Parameter], barriers: bool) -> str:
    types = {dtype: base for base, dtype in _POINTED.items()}
    scalars = {scalar: base for base, scalar in _SCALARS.items()}
    declared = [
        f"{types[p.dtype]}* {p.name}" if p.dtype else f"{scalars[p.scalar]} {p.name}"
        for p in parameters
    ]
    return (
        f"EXPORTED int launch_{name}(int blocks, int bx, int by, {', '.join(declared)})\n"
        f"{{ return launch(blocks, bx, by, {str(barriers).lower()}, "
        f"[=] {{ {name}({', '.join(p.name for p in parameters)}); }}); }}\n"
    )


def _build(code: str, options: tuple[str, ...]) -> Path:
    """Compile once per text: the library stays in the temporary folder."""
    assert options == ("--fmad=false",), "translate a new option for the C++ compiler"
    flags = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-ffp-contract=off"]
    flags += ["-shared", "-fPIC", "-fvisibility=hidden"]
    name = hashlib.sha256(repr((code, flags)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"prdsim-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            text, built = Path(work) / "kernels.cpp", Path(work) / "kernels.so"
            text.write_text(code)
            command = [_compiler(), *flags, "-o", str(built), str(text)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise CompileException(result.stderr)
            built.rename(library)
    return library
