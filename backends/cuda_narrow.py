"""CUDA kernels of the critic for few outputs, as text: its gates are computed where they are used.

A product of W with few columns moves more bytes than it computes, and a gate is used as soon as it
is known. Each thread keeps some vectors in registers, samples or neurons, and goes through a share
of the others, which its block takes to shared memory tile by tile: sum_j 1{x . y_j >= 0} v_j. The
shares are added afterwards. Nothing of neurons times samples is stored, and the order of every sum
depends only on the shape.
"""

from __future__ import annotations

from string import Template

from .cuda_kernels import C_TYPES

WIDTHS = (2, 4, 10, 16)
"""Numbers of outputs that the kernels are compiled for; fewer are filled up with zeros."""

THREADS = 128  # of a block, each with some vectors of its own
TILE = 32  # vectors in shared memory
FIELD_BLOCK = (32, 8)  # samples, and threads that share out their outputs
_ENOUGH = 1 << 16  # threads that keep a device busy
_MOST_SHARES = 64
OPTIONS = ("--fmad=false",)  # fused where it is written, so that a gate is the same everywhere

_SOURCE = Template("""
typedef $real real;
typedef long long integer;

enum { D = $width, EACH = $each, THREADS = $threads, TILE = $tile, LANES = $lanes, ALONG = $along };

__device__ real dot(const real* w, const real* y)
{
    real total = w[0] * y[0];
    #pragma unroll
    for (int d = 1; d < D; ++d) total = fma(w[d], y[d], total);
    return total;
}

// Entry d of vector p in an array (outputs, columns); 0 beyond the outputs.
__device__ real entry(const real* Y, integer columns, integer p, int d, integer outputs)
{
    return d < outputs ? Y[d * columns + p] : (real)0;
}

// sums_j += sum_i 1{mine_j . tile_i >= 0} v_i; a row of the tile holds a vector and its v.
__device__ void gather(const real (*tile)[2 * D], int count, const real (*mine)[D], real (*sums)[D])
{
    for (int i = 0; i < count; ++i) {
        real y[D], v[D];
        #pragma unroll
        for (int d = 0; d < D; ++d) { y[d] = tile[i][d]; v[d] = tile[i][D + d]; }
        #pragma unroll
        for (int j = 0; j < EACH; ++j) {
            real gate = dot(mine[j], y) >= 0 ? (real)1 : (real)0;
            #pragma unroll
            for (int d = 0; d < D; ++d) sums[j][d] = fma(gate, v[d], sums[j][d]);
        }
    }
}

// Shares of sum_r 1{w_r . z_p >= 0} weights_r over neurons r, (shares, outputs, samples). With
// `penalized` at the points between z_p and its target, y_hat = z + e (y - z), and weights a_r w_r.
extern "C" __global__ void partial_fields(
    const real* W, const real* weights, const real* Z,
    const real* points, integer kinds, const integer* labels, integer labelled,
    integer penalized, const real* e, integer of_each, real common,
    real* out, integer share, integer neurons, integer samples, integer outputs)
{
    __shared__ real tile[TILE][2 * D];
    int t = threadIdx.x;
    integer groups = (samples + THREADS * EACH - 1) / (THREADS * EACH);
    integer group = blockIdx.x % groups, part = blockIdx.x / groups;
    integer begin = group * THREADS * EACH + t, end = (part + 1) * share;
    if (end > neurons) end = neurons;
    real at[EACH][D], q[EACH][D];
    #pragma unroll
    for (int j = 0; j < EACH; ++j) {
        integer p = begin + j * THREADS < samples ? begin + j * THREADS : samples - 1;
        integer label = labelled ? labels[p] : p;
        real e_p = of_each ? e[p] : common;
        #pragma unroll
        for (int d = 0; d < D; ++d) {
            real z = entry(Z, samples, p, d, outputs);
            at[j][d] = penalized ? z + e_p * (entry(points, kinds, label, d, outputs) - z) : z;
            q[j][d] = 0;
        }
    }
    for (integer first = part * share; first < end; first += TILE) {
        int count = end - first < TILE ? end - first : TILE;
        __syncthreads();
        for (int i = t; i < count * D; i += THREADS) {
            integer r = first + i / D;
            int d = i % D;
            real w = d < outputs ? W[r * outputs + d] : (real)0;
            tile[i / D][d] = w;
            tile[i / D][D + d] = penalized ? weights[r] * w
                : d < outputs ? weights[r * outputs + d] : (real)0;
        }
        __syncthreads();
        gather(tile, count, at, q);
    }
    #pragma unroll
    for (int j = 0; j < EACH; ++j) {
        integer p = begin + j * THREADS;
        #pragma unroll
        for (int d = 0; d < D; ++d)
            if (p < samples && d < outputs) out[(part * outputs + d) * samples + p] = q[j][d];
    }
}

// out_p = q_p = alpha (the shares, added in their order); with `penalized` then
// out_p = penalty (|q_p| - 1) / |q_p| q_p.
extern "C" __global__ void total_fields(
    const real* shares, integer parts, real alpha, integer penalized, real penalty, real* out,
    integer samples, integer outputs)
{
    __shared__ real q[D][LANES];
    int x = threadIdx.x, y = threadIdx.y;
    integer p = (integer)blockIdx.x * LANES + x;
    for (int d = y; d < D; d += ALONG) {
        real total = 0;
        if (p < samples && d < outputs)
            #pragma unroll 8
            for (integer k = 0; k < parts; ++k) total += shares[(k * outputs + d) * samples + p];
        q[d][x] = alpha * total;
    }
    __syncthreads();
    real factor = 1;
    if (penalized) {
        real squared = 0;
        #pragma unroll
        for (int d = 0; d < D; ++d) squared = fma(q[d][x], q[d][x], squared);
        real r = sqrt(squared);
        factor = r > 0 ? (r - 1) / r * penalty : (real)0;
    }
    if (p < samples)
        for (int d = y; d < outputs; d += ALONG) out[d * samples + p] = factor * q[d][x];
}

// Shares of moments over samples, (shares, neurons, outputs): of the gates at predictions and, less
// those, at as many targets (with `first`), and at the points between them (with `penalized`).
extern "C" __global__ void partial_moments(
    const real* W, const real* Z, const real* values, integer first,
    const real* points, integer kinds, const integer* labels, integer labelled,
    integer penalized, const real* e, integer of_each, real common,
    const real* point_values, const real* Q, real* out, integer added,
    integer share, integer neurons, integer samples, integer outputs)
{
    __shared__ real tile[TILE][2 * D];
    int t = threadIdx.x;
    integer groups = (neurons + THREADS * EACH - 1) / (THREADS * EACH);
    integer group = blockIdx.x % groups, part = blockIdx.x / groups;
    integer row = group * THREADS * EACH + t;
    real w[EACH][D], N[EACH][D];
    #pragma unroll
    for (int j = 0; j < EACH; ++j)
        #pragma unroll
        for (int d = 0; d < D; ++d) {
            integer r = row + j * THREADS;
            w[j][d] = r < neurons && d < outputs ? W[r * outputs + d] : (real)0;
            N[j][d] = 0;
        }
    for (int term = 0; term < 3; ++term) {  // predictions, targets, points between them
        if (term < 2 ? !first : !penalized) continue;
        integer end = (part + 1) * share, most = term == 1 ? kinds : samples;
        if (end > most) end = most;
        for (integer from = part * share; from < end; from += TILE) {
            int count = end - from < TILE ? end - from : TILE;
            __syncthreads();
            for (int i = t; i < TILE * D; i += THREADS) {
                int k = i % TILE, d = i / TILE;
                integer p = from + k;
                if (k >= count) continue;
                if (term == 1) {
                    tile[k][d] = entry(points, kinds, p, d, outputs);
                    tile[k][D + d] = -entry(point_values, kinds, p, d, outputs);
                    continue;
                }
                real z = entry(Z, samples, p, d, outputs);
                if (term == 2) {
                    real y = entry(points, kinds, labelled ? labels[p] : p, d, outputs);
                    z = z + (of_each ? e[p] : common) * (y - z);
                }
                tile[k][d] = z;
                tile[k][D + d] = entry(term == 0 ? values : Q, samples, p, d, outputs);
            }
            __syncthreads();
            gather(tile, count, w, N);
        }
    }
    #pragma unroll
    for (int j = 0; j < EACH; ++j) {
        integer r = row + j * THREADS;
        #pragma unroll
        for (int d = 0; d < D; ++d) {
            if (r >= neurons || d >= outputs) continue;
            real* there = out + (part * neurons + r) * outputs + d;
            *there = added ? *there + N[j][d] : N[j][d];
        }
    }
}

// out = scale (the shares, added in their order) + beta out
extern "C" __global__ void total_moments(
    const real* shares, integer parts, real scale, real beta, real* out, integer size)
{
    integer i = (integer)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    real total = 0;
    #pragma unroll 8
    for (integer part = 0; part < parts; ++part) total += shares[part * size + i];
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

NAMES = ("partial_fields", "total_fields", "partial_moments", "total_moments", "critic_gradients")


def width_for(outputs: int) -> int | None:
    """Return the width whose kernels serve so many outputs, None if they are too many."""
    return next((width for width in WIDTHS if outputs <= width), None)


def each(dtype: str, width: int) -> int:
    """Return how many vectors a thread keeps: as many as fit into its registers."""
    return (2 if width <= 10 else 1) * (2 if dtype == "float32" else 1)


def shares(own: int, others: int, of_each: int) -> tuple[int, int, int]:
    """Return blocks, shares and the vectors of a share where threads go through all ``others``.

    A pure function of the shape, as are the sums whose order it fixes.
    """
    groups = -(-own // (THREADS * of_each))
    wanted = max(1, min(_MOST_SHARES, _ENOUGH // (groups * THREADS)))
    share = TILE * -(-others // (TILE * wanted))
    parts = -(-others // share)
    return groups * parts, parts, share


def room(own: int, others: int, of_each: int) -> int:
    """Return how many vectors all shares hold at the most, for so many or fewer own and others."""
    parts = min(_MOST_SHARES, -(-others // TILE))
    return max(own, min(parts * own, _ENOUGH * of_each))


def source(dtype: str, width: int) -> str:
    """Return the text of the kernels for arrays of type ``float64`` or ``float32``."""
    return _SOURCE.substitute(
        real=C_TYPES[dtype],
        width=width,
        each=each(dtype, width),
        threads=THREADS,
        tile=TILE,
        lanes=FIELD_BLOCK[0],
        along=FIELD_BLOCK[1],
    )
