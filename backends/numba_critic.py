"""Kernels of the critic's update on the Numba backend: four products where primitives take six.

The prediction stands still during the updates of a step, and penalty points lie between it and the
targets: W Y_hat = W Z + e (W Y - W Z). So one product W Z gives both gates, entry by entry, and W Y
is small for labels. Each thread takes a share of the samples, through all neurons, so that the
gradients at its penalty points are complete before they are weighed; nothing waits.

Tiles are of samples by neurons: the entries of a row then share e_p, and the target's row of W Y.
"""

from __future__ import annotations

import numpy as np

from .numba_cache import compiled
from .numba_intrinsics import entries, product
from .numba_kernels import kernel


@kernel
def critic_moments(  # type: ignore[no-untyped-def]
    part, begin, end, share, s_c, penalty, W, aW, Z, first, few, targets, values, labels,
    same_e, common_e, e, at_Z, at_Y_hat, at_Y, opened, gradients, moments,
):  # fmt: skip
    """The moments (parts, d_out, m_c) of a share of the samples, for one set of penalty points.

    moments = share (Z 1{W Z >= 0}^T - Y 1{W Y >= 0}^T) + s_c (c * Q) 1{W Y_hat >= 0}^T. The term
    of Z comes with the ``first`` set, as does that of Y if its columns are ``few`` distinct ones,
    numbered by labels. ``at_*`` are tiles of pre-activations, then gates; ``opened`` keeps the
    gates at the penalty points of all neurons.
    """
    begin, end = np.intp(begin), np.intp(end)
    m_c, d_out = W.shape
    _, tile_samples, tile_neurons = at_Z.shape
    one = W.dtype.type(1)
    _clear(moments, part, d_out, m_c)
    for p in range(begin, end, tile_samples):
        samples = min(tile_samples, end - p)
        _clear(gradients, part, samples, d_out)
        for j in range(0, m_c, tile_neurons):
            neurons = min(tile_neurons, m_c - j)
            _pre_activate(W, j, neurons, Z, p, samples, at_Z, part)
            _pre_activate(
                W, j, neurons, targets, 0 if few else p, targets.shape[1] if few else samples,
                at_Y, part,
            )  # fmt: skip
            _open(
                at_Z, at_Y, at_Y_hat, opened, part, p, samples, j, neurons,
                few, labels, same_e, common_e, e,
            )  # fmt: skip
            if first:
                _add_products(Z, p, share, at_Z, samples, j, neurons, part, moments)
            if first and few and p == 0:  # once
                _gate(at_Y, part, targets.shape[1], neurons)
                _add_products(values, 0, -share, at_Y, targets.shape[1], j, neurons, part, moments)
            product(
                samples, neurons, d_out, s_c, at_Y_hat, (part, 0, 0), False,
                aW, (j, 0), False, one, gradients, (part, 0, 0),
            )  # fmt: skip
        for k in range(samples):
            _weigh(entries(gradients, (part, k, 0), d_out), penalty)
        for j in range(0, m_c, tile_neurons):
            neurons = min(tile_neurons, m_c - j)
            _reopen(opened, j, at_Y_hat, part, samples, neurons)
            product(
                d_out, samples, neurons, s_c, gradients, (part, 0, 0), True,
                at_Y_hat, (part, 0, 0), False, one, moments, (part, 0, j),
            )  # fmt: skip


@compiled
def _clear(arrays, part, rows, columns):  # type: ignore[no-untyped-def]
    for k in range(rows):
        row = entries(arrays, (part, k, 0), columns)
        for i in range(columns):
            row[i] = 0


@compiled
def _pre_activate(W, j, neurons, points, p, samples, tiles, part):  # type: ignore[no-untyped-def]
    """points^T W^T for a tile: ``samples`` points from p on, ``neurons`` of W from j on."""
    zero, one = W.dtype.type(0), W.dtype.type(1)
    product(
        samples, W.shape[1], neurons, one, points, (0, p), True,
        W, (j, 0), True, zero, tiles, (part, 0, 0),
    )  # fmt: skip


@compiled
def _open(  # type: ignore[no-untyped-def]
    at_Z, at_Y, at_Y_hat, opened, part, p, samples, j, neurons, few, labels, same_e, common_e, e
):
    """1{W z + e (W y - W z) >= 0} and, in place of W z, 1{W z >= 0}."""
    zero, one = at_Z.dtype.type(0), at_Z.dtype.type(1)
    for k in range(samples):
        e_p = common_e if same_e else e[p + k]
        target = np.intp(labels[p + k]) if few else k
        z, y = entries(at_Z, (part, k, 0), neurons), entries(at_Y, (part, target, 0), neurons)
        hat, bits = entries(at_Y_hat, (part, k, 0), neurons), entries(opened, (part, k, j), neurons)
        for r in range(neurons):
            hat[r] = one if z[r] + e_p * (y[r] - z[r]) >= zero else zero
            z[r] = one if z[r] >= zero else zero
        for r in range(neurons):  # apart: loops over types of one size become vector instructions
            bits[r] = np.uint8(hat[r])


@compiled
def _gate(tiles, part, samples, neurons):  # type: ignore[no-untyped-def]
    zero, one = tiles.dtype.type(0), tiles.dtype.type(1)
    for k in range(samples):
        row = entries(tiles, (part, k, 0), neurons)
        for r in range(neurons):
            row[r] = one if row[r] >= zero else zero


@compiled
def _reopen(opened, j, tiles, part, samples, neurons):  # type: ignore[no-untyped-def]
    for k in range(samples):
        row, bits = entries(tiles, (part, k, 0), neurons), entries(opened, (part, k, j), neurons)
        for r in range(neurons):
            row[r] = bits[r]


@compiled
def _add_products(values, p, alpha, gates, samples, j, neurons, part, moments):  # type: ignore[no-untyped-def]
    """Add alpha times values times gates, of samples from p on, to those of neurons from j on."""
    product(
        values.shape[0], samples, neurons, alpha, values, (0, p), False,
        gates, (part, 0, 0), False, gates.dtype.type(1), moments, (part, 0, j),
    )  # fmt: skip


@compiled
def _weigh(q, penalty):  # type: ignore[no-untyped-def]
    """q *= penalty (||q|| - 1) / ||q||, or 0 where q = 0."""
    zero, one = q.dtype.type(0), q.dtype.type(1)
    total = zero
    for i in range(q.size):
        total += q[i] * q[i]
    norm = np.sqrt(total)
    weight = (norm - one) / norm * penalty if norm > zero else zero
    for i in range(q.size):
        q[i] *= weight


@kernel
def add_moments(_part, begin, end, beta, moments, out):  # type: ignore[no-untyped-def]
    """out = the sum of ``moments`` (parts, d_out, m_c) over parts, transposed, + beta out."""
    for r in range(begin, end):
        for i in range(out.shape[1]):
            total = moments[0, i, r]
            for k in range(1, moments.shape[0]):
                total += moments[k, i, r]
            out[r, i] = total if beta == 0 else beta * out[r, i] + total


@kernel
def gradients_of_moments(  # type: ignore[no-untyped-def]
    _part, begin, end, alpha, beta, W, a, has_W, out_W, has_a, out_a, N
):
    """Row by row: out_a needs W and out_W needs a before they change, if they are the same."""
    zero = W.dtype.type(0)
    for r in range(begin, end):
        total, a_r = zero, a[r]
        for i in range(W.shape[1]):
            total += W[r, i] * N[r, i]
            if has_W:
                change = alpha * (a_r * N[r, i])
                out_W[r, i] = change if beta == zero else beta * out_W[r, i] + change
        if has_a:
            out_a[r] = alpha * total if beta == zero else beta * out_a[r] + alpha * total
