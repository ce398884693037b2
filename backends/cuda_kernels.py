"""The CUDA kernels of the CuPy backend, in one table, as text.

The same text is compiled by NVRTC for a device and, in the tests, by a C++ compiler for the host.
The order of every sum depends only on the shape: no atomics, no dependence on timing. ``real`` is
the type of the arrays; entries are counted with 64 bits.
"""

from __future__ import annotations

from string import Template

BLOCK = 256  # threads of a block, one entry each
TOTAL_BLOCKS = 256  # at most; blocks, and so partial sums, of a sum over all entries
ROW_BLOCK = (32, 8)  # threads along a row, rows
COLUMN_BLOCK = (32, 16)  # columns, threads along a column
LARGEST_COMBINATION = 8  # terms

OPTIONS = ("--fmad=false",)  # unfused, so that every entry is rounded as by NumPy

_PREAMBLE = """
typedef $real real;
typedef long long integer;
typedef unsigned long long word;

// Output word 0 of the Philox4x64-10 block with the given counter words and key.
__device__ word philox(word c0, word c1, word c2, word c3, word k0, word k1)
{
    for (int round = 0; round < 10; ++round) {
        word high0 = __umul64hi(0xD2E7470EE14C6C93ULL, c0), low0 = 0xD2E7470EE14C6C93ULL * c0;
        word high1 = __umul64hi(0xCA5A826395121157ULL, c2), low1 = 0xCA5A826395121157ULL * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15ULL;
        k1 += 0xBB67AE8584CAA73BULL;
    }
    return c0;
}
"""


def _combination(count: int, *, held: bool = False) -> tuple[str, str]:
    """Return the parameters and body of a linear combination of ``count`` arrays, left to right.

    If ``held``, coefficients may be factors of a number in the device's memory.
    """
    coefficients = range(count)
    if held:
        numbers = [f"double c{i}, integer of_held{i}" for i in coefficients]
        factors = [f"(real)(of_held{i} ? held[0] * c{i} : c{i})" for i in coefficients]
    else:
        numbers, factors = [f"real c{i}" for i in coefficients], [f"c{i}" for i in coefficients]
    parameters = ["const double* held"] * held
    parameters += [f"{number}, const real* A{i}" for i, number in enumerate(numbers)]
    terms = [f"{factor} * A{i}[i]" for i, factor in enumerate(factors)]
    return ", ".join([*parameters, "real* out"]), f"out[i] = {' + '.join(terms)};"


# name: (parameters, statement for entry i)
_ELEMENTWISE = {
    "copy": ("const real* A, real* out", "out[i] = A[i];"),
    "relu": ("const real* A, real* out", "out[i] = A[i] < 0 ? (real)0 : A[i];"),  # NaN passes
    "heaviside": ("const real* A, real* out", "out[i] = A[i] >= 0 ? (real)1 : (real)0;"),
    "gate": (
        "const real* B, const real* A, real* out",
        "out[i] = B[i] * (A[i] >= 0 ? (real)1 : (real)0);",
    ),
    "gates": ("const real* A, unsigned char* out", "out[i] = A[i] >= 0;"),
    "interpolate": (
        "const real* e, const real* Y, const real* Z, real* out, integer columns",
        "out[i] = Z[i] + e[i % columns] * (Y[i] - Z[i]);",
    ),
    "scale_rows": (
        "const real* r, const real* A, real* out, integer columns",
        "out[i] = r[i / columns] * A[i];",
    ),
    "scale_columns": (
        "const real* c, const real* A, real* out, integer columns",
        "out[i] = c[i % columns] * A[i];",
    ),
    "take_columns": (
        "const real* A, const integer* order, real* out, integer columns",
        "out[i] = A[i / columns * columns + order[i % columns]];",
    ),
    "penalty_weights": (
        "const real* squared_norms, real scale, real* out",
        "real r = sqrt(squared_norms[i]); out[i] = r > 0 ? (r - 1) / r * scale : (real)0;",
    ),
    "penalty_gates": (
        "real* A, const real* at_points, const integer* labels, integer points,"
        " const real* e, integer of_each, real common, real* hat, integer columns",
        "integer p = i % columns; real z = A[i], y = at_points[i / columns * points + labels[p]];"
        " hat[i] = z + (of_each ? e[p] : common) * (y - z) >= 0 ? (real)1 : (real)0;"
        " A[i] = z >= 0 ? (real)1 : (real)0;",
    ),
    "set_word": ("word value, word* out", "out[i] = value;"),
    "uniforms": (
        "word seed, word stream, const word* step, word update, real* out",
        "out[i] = (real)((philox(i, update, step[0], 0, seed, stream) >> 11)"
        " * 1.1102230246251565e-16);",  # 2^-53, exactly
    ),
    "set_number": ("double value, double* out", "out[i] = value;"),
    **{f"combine_{n}": _combination(n) for n in range(1, LARGEST_COMBINATION + 1)},
    **{f"combine_held_{n}": _combination(n, held=True) for n in range(1, LARGEST_COMBINATION + 1)},
}

# name: (parameters, the term of entry i); added in float64
_TOTALS = {
    "dot": ("const real* A, const real* B", "(double)A[i] * (double)B[i]"),
    "sum": ("const real* A", "(double)A[i]"),
    "not_finite": ("const real* A", "A[i] - A[i] == 0 ? 0 : 1"),
    "gate_changes": (
        "const real* A, const unsigned char* gates",
        "(A[i] >= 0) != (gates[i] != 0) ? 1 : 0",
    ),
}

_ELEMENTWISE_KERNEL = Template("""
extern "C" __global__ void $name($parameters, integer size)
{
    integer i = (integer)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) { $body }
}
""")

_TOTAL_KERNEL = Template("""
extern "C" __global__ void $name($parameters, double* out, integer size)
{
    __shared__ double partial[$block];
    int t = threadIdx.x;
    double total = 0;
    for (integer i = (integer)blockIdx.x * $block + t; i < size; i += (integer)gridDim.x * $block)
        total += $term;
    partial[t] = total;
    for (int half = $block / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) partial[t] += partial[t + half];
    }
    if (t == 0) out[blockIdx.x] = partial[0];
}
""")

# A row's entries are divided among neighboring threads, so that they read neighboring memory.
_ROW_DOTS_KERNEL = Template("""
extern "C" __global__ void row_dots_$result(
    const real* A, const real* B, $total* out, integer rows, integer columns)
{
    __shared__ $total partial[$along_y][$along_x];
    int t = threadIdx.x;
    integer row = (integer)blockIdx.x * $along_y + threadIdx.y;
    $total total = 0;
    if (row < rows)
        for (integer j = t; j < columns; j += $along_x)
            total += ($total)A[row * columns + j] * ($total)B[row * columns + j];
    partial[threadIdx.y][t] = total;
    for (int half = $along_x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) partial[threadIdx.y][t] += partial[threadIdx.y][t + half];
    }
    if (t == 0 && row < rows) out[row] = partial[threadIdx.y][0];
}
""")

# Threads neighboring in x take neighboring columns; those of the same x share a column.
_COLUMN_DOTS_KERNEL = Template("""
extern "C" __global__ void column_dots_$result(
    const real* A, const real* B, $total* out, integer rows, integer columns)
{
    __shared__ $total partial[$along_y][$along_x];
    int t = threadIdx.y;
    integer column = (integer)blockIdx.x * $along_x + threadIdx.x;
    $total total = 0;
    if (column < columns)
        for (integer i = t; i < rows; i += $along_y)
            total += ($total)A[i * columns + column] * ($total)B[i * columns + column];
    partial[t][threadIdx.x] = total;
    for (int half = $along_y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) partial[t][threadIdx.x] += partial[t + half][threadIdx.x];
    }
    if (t == 0 && column < columns) out[column] = partial[0][threadIdx.x];
}
""")

C_TYPES = {"float64": "double", "float32": "float"}


def kernel_names(dtype: str) -> list[str]:
    """Return the names of all kernels in the source for a type."""
    dots = [f"{kind}_dots_{result}" for result in _results(dtype) for kind in ("row", "column")]
    return [*_ELEMENTWISE, *_TOTALS, *dots]


def source(dtype: str) -> str:
    """Return the text of all kernels for arrays of type ``float64`` or ``float32``."""
    parts = [Template(_PREAMBLE).substitute(real=C_TYPES[dtype])]
    for name, (parameters, body) in _ELEMENTWISE.items():
        parts.append(_ELEMENTWISE_KERNEL.substitute(name=name, parameters=parameters, body=body))
    for name, (parameters, term) in _TOTALS.items():
        parts.append(
            _TOTAL_KERNEL.substitute(name=name, parameters=parameters, term=term, block=BLOCK)
        )
    for result in _results(dtype):
        for kernel, (x, y) in ((_ROW_DOTS_KERNEL, ROW_BLOCK), (_COLUMN_DOTS_KERNEL, COLUMN_BLOCK)):
            parts.append(
                kernel.substitute(result=result, total=C_TYPES[result], along_x=x, along_y=y)
            )
    return "".join(parts)


def _results(dtype: str) -> list[str]:
    """Return the types in which rows and columns are summed: the arrays' own, and float64."""
    return sorted({dtype, "float64"})
