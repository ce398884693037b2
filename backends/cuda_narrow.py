"""CUDA kernels of the critic for few outputs, as text: its gates are computed where they are used.

A product of W with few columns moves more bytes than it computes, and a gate is used as soon as it
is known: each of these kernels keeps a sample, or some neurons, in registers and passes over the
others once. No array of gates is stored. The order of every sum depends only on the shape.
"""

from __future__ import annotations

from string import Template

from .cuda_kernels import C_TYPES

WIDTHS = (2, 4, 10, 16)
"""Numbers of outputs that the kernels are compiled for; fewer are filled up with zeros."""

LANES = 32  # threads that take neighboring samples
FIELD_BLOCK = (LANES, 8)  # and those that share out the neurons
MOMENTS_BLOCK = (LANES, 4)  # and neurons, or pairs of them
SAMPLES = 512  # of one partial sum of moments
OPTIONS = ("--fmad=false",)  # fused where it is written, so that a gate is the same everywhere

_SOURCE = Template("""
typedef $real real;
typedef long long integer;

enum { D = $width, LANES = $lanes, ALONG = $along, TILE = 32, ROWS = $rows, EACH = $each };

__device__ real dot(const real* w, const real* y)
{
    real total = w[0] * y[0];
    #pragma unroll
    for (int d = 1; d < D; ++d) total = fma(w[d], y[d], total);
    return total;
}

__device__ void load(const real* Y, integer columns, integer p, integer outputs, real* y)
{
    #pragma unroll
    for (int d = 0; d < D; ++d) y[d] = d < outputs ? Y[d * columns + p] : (real)0;
}

// Point p between prediction and target: y_hat = z + e (y - z).
__device__ void between(
    const real* z, const real* points, integer kinds, integer label, real e, integer outputs,
    real* y)
{
    #pragma unroll
    for (int d = 0; d < D; ++d) {
        real target = d < outputs ? points[d * kinds + label] : (real)0;
        y[d] = z[d] + e * (target - z[d]);
    }
}

// N += sign 1{W y >= 0} values^T for the neurons of a thread.
__device__ void add(real (*w)[D], const real* y, real sign, const real* values, real (*N)[D])
{
    #pragma unroll
    for (int j = 0; j < EACH; ++j) {
        real gate = dot(w[j], y) >= 0 ? sign : (real)0;
        #pragma unroll
        for (int d = 0; d < D; ++d) N[j][d] = fma(gate, values[d], N[j][d]);
    }
}

// out_p = alpha weights^T 1{W z_p >= 0}, where a row of weights belongs to a neuron. With
// `penalized` the weights are a, the gates those at the point between z_p and its target, and
// out_p = penalty (|q_p| - 1) / |q_p| q_p, q_p = alpha (a W)^T 1{W y_hat_p >= 0}.
extern "C" __global__ void gate_fields(
    const real* W, const real* weights, const real* Z,
    const real* points, integer kinds, const integer* labels, integer labelled,
    integer penalized, const real* e, integer of_each, real common, real alpha, real penalty,
    real* out, integer neurons, integer samples, integer outputs)
{
    __shared__ real tile[TILE][2 * D];
    __shared__ real sums[ALONG][D][LANES];
    int x = threadIdx.x, y = threadIdx.y;
    integer p = (integer)blockIdx.x * LANES + x, here = p < samples ? p : samples - 1;
    real z[D], at[D], q[D];
    load(Z, samples, here, outputs, z);
    if (penalized)
        between(z, points, kinds, labelled ? labels[here] : here, of_each ? e[here] : common,
            outputs, at);
    #pragma unroll
    for (int d = 0; d < D; ++d) {
        if (!penalized) at[d] = z[d];
        q[d] = 0;
    }
    for (integer first = 0; first < neurons; first += TILE) {
        __syncthreads();
        for (int i = y * LANES + x; i < TILE * D; i += LANES * ALONG) {
            int r = i / D, d = i % D;
            bool there = first + r < neurons && d < outputs;
            integer entry = (first + r) * outputs + d;
            tile[r][d] = there ? W[entry] : (real)0;
            tile[r][D + d] = !there ? (real)0
                : penalized ? weights[first + r] * W[entry] : weights[entry];
        }
        __syncthreads();
        #pragma unroll
        for (int k = 0; k < TILE / ALONG; ++k) {
            const real* row = tile[k * ALONG + y];
            real gate = dot(row, at) >= 0 ? (real)1 : (real)0;
            #pragma unroll
            for (int d = 0; d < D; ++d) q[d] = fma(gate, row[D + d], q[d]);
        }
    }
    #pragma unroll
    for (int d = 0; d < D; ++d) sums[y][d][x] = q[d];
    __syncthreads();
    for (int d = y; d < D; d += ALONG) {
        real total = 0;
        for (int k = 0; k < ALONG; ++k) total += sums[k][d][x];
        sums[0][d][x] = alpha * total;
    }
    __syncthreads();
    real factor = 1;
    if (penalized) {
        real squared = 0;
        for (int d = 0; d < D; ++d) squared = fma(sums[0][d][x], sums[0][d][x], squared);
        real r = sqrt(squared);
        factor = r > 0 ? (r - 1) / r * penalty : (real)0;
    }
    if (p < samples)
        for (int d = y; d < outputs; d += ALONG) out[d * samples + p] = factor * sums[0][d][x];
}

// Sums over $samples samples, of the gates at predictions (with `first`), at as many targets, and
// at the points between them (with `penalized`); a block has some neurons and one of the sums.
extern "C" __global__ void partial_moments(
    const real* W, const real* Z, const real* values, integer first,
    const real* points, integer kinds, const integer* labels, integer labelled,
    integer penalized, const real* e, integer of_each, real common,
    const real* point_values, const real* Q, real* out, integer added,
    integer neurons, integer samples, integer outputs)
{
    __shared__ real sums[ROWS * EACH][D][LANES + 1];
    int x = threadIdx.x, y = threadIdx.y;
    integer groups = (neurons + ROWS * EACH - 1) / (ROWS * EACH);
    integer group = blockIdx.x % groups, part = blockIdx.x / groups;
    integer row = (group * ROWS + y) * EACH, end = (part + 1) * $samples;
    if (end > samples) end = samples;
    real w[EACH][D], N[EACH][D];
    #pragma unroll
    for (int j = 0; j < EACH; ++j)
        #pragma unroll
        for (int d = 0; d < D; ++d) {
            w[j][d] = row + j < neurons && d < outputs ? W[(row + j) * outputs + d] : (real)0;
            N[j][d] = 0;
        }
    for (integer p = part * $samples + x; p < end; p += LANES) {
        real z[D], at[D], value[D];
        load(Z, samples, p, outputs, z);
        if (first) {
            load(values, samples, p, outputs, value);
            add(w, z, 1, value, N);
            if (p < kinds) {
                load(points, kinds, p, outputs, at);
                load(point_values, kinds, p, outputs, value);
                add(w, at, -1, value, N);
            }
        }
        if (penalized) {
            between(z, points, kinds, labelled ? labels[p] : p, of_each ? e[p] : common,
                outputs, at);
            load(Q, samples, p, outputs, value);
            add(w, at, 1, value, N);
        }
    }
    #pragma unroll
    for (int j = 0; j < EACH; ++j)
        #pragma unroll
        for (int d = 0; d < D; ++d) sums[y * EACH + j][d][x] = N[j][d];
    __syncthreads();
    for (int i = y * LANES + x; i < ROWS * EACH * D; i += LANES * ROWS) {
        int r = i / D, d = i % D;
        integer neuron = group * ROWS * EACH + r;
        if (neuron >= neurons || d >= outputs) continue;
        real total = 0;
        for (int k = 0; k < LANES; ++k) total += sums[r][d][k];
        real* there = out + (part * neurons + neuron) * outputs + d;
        *there = added ? *there + total : total;
    }
}

// out = scale (the partial sums, added in their order) + beta out
extern "C" __global__ void total_moments(
    const real* partial, integer parts, real scale, real beta, real* out, integer size)
{
    integer i = (integer)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    real total = 0;
    for (integer part = 0; part < parts; ++part) total += partial[part * size + i];
    out[i] = beta == 0 ? scale * total : beta * out[i] + scale * total;
}

// out_W_r = alpha a_r N_r + beta out_W_r and out_a_r = alpha w_r . N_r + beta out_a_r
extern "C" __global__ void critic_gradients(
    const real* W, const real* a, const real* N, real alpha, real beta,
    real* out_W, integer with_W, real* out_a, integer with_a, integer outputs, integer size)
{
    integer r = (integer)blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= size) return;
    real a_r = a[r], total = 0;
    for (integer i = r * outputs; i < (r + 1) * outputs; ++i) {
        total += W[i] * N[i];
        real rate = alpha * (a_r * N[i]);
        if (with_W) out_W[i] = beta == 0 ? rate : beta * out_W[i] + rate;
    }
    real rate = alpha * total;
    if (with_a) out_a[r] = beta == 0 ? rate : beta * out_a[r] + rate;
}
""")

NAMES = ("gate_fields", "partial_moments", "total_moments", "critic_gradients")


def width_for(outputs: int) -> int | None:
    """Return the width whose kernels serve so many outputs, None if they are too many."""
    return next((width for width in WIDTHS if outputs <= width), None)


def neurons_of_a_block(width: int) -> int:
    """Return how many neurons a block of `partial_moments` takes."""
    return MOMENTS_BLOCK[1] * _each(width)


def source(dtype: str, width: int) -> str:
    """Return the text of the kernels for arrays of type ``float64`` or ``float32``."""
    return _SOURCE.substitute(
        real=C_TYPES[dtype],
        width=width,
        lanes=LANES,
        along=FIELD_BLOCK[1],
        rows=MOMENTS_BLOCK[1],
        each=_each(width),
        samples=SAMPLES,
    )


def _each(width: int) -> int:
    """Return how many neurons a thread has: as its registers allow."""
    return 2 if width <= 10 else 1
