"""Every operation of the protocol against one plain NumPy expression, on every CPU backend."""

from __future__ import annotations

import importlib.util
import os
from itertools import product
from typing import Any

import numpy as np
import pytest
from support import BACKENDS

from prdsim.backends import backend_names, backend_status, get_backend
from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.physics import randomness

# Entries; Numba's kernels go parallel from 2^17 on, and 401 * 397 is more and divides nothing.
SHAPES = [(1, 1), (1, 7), (7, 1), (5, 3), (401, 397)]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-40, -1e-40, 1.0, -2.5]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=[(name, p) for name in BACKENDS for p in ("float64", "float32")], ids=str)
def k(request):
    """A backend, with its threads and warnings as in a run."""
    name, precision = request.param
    backend = get_backend(name, precision=precision)
    with backend.active():
        yield backend


def draw(k: Any, *shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers with some zeros of both signs, in the backend's type."""
    array = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(k.dtype)
    array.reshape(-1)[::5] *= 0.0
    return array


def special(k: Any) -> np.ndarray:
    """A matrix of the numbers where implementations like to differ."""
    return np.array([SPECIAL, SPECIAL[::-1]]).astype(k.dtype)


def filled(k: Any, *shape: int, dtype: str | None = None) -> np.ndarray:
    """An array that an operation must overwrite wholly."""
    out = k.empty(shape, dtype)
    out[...] = np.nan if out.dtype.kind == "f" else 77
    return out


def equal(left: Any, right: Any) -> bool:
    """Entry for entry, NaN where NaN is, and of one type; -0 counts as 0."""
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )


# -- memory and transfer ---------------------------------------------------------------------------


def test_empty_makes_contiguous_arrays_of_the_backends_type(k):
    array = k.empty((3, 4))
    assert array.shape == (3, 4)
    assert array.flags.c_contiguous
    assert array.dtype == k.dtype
    assert k.empty((2,), "uint8").dtype == np.uint8


@shapes
def test_transfer_and_copy(k, shape):
    source = np.random.default_rng(1).standard_normal(shape)
    on_device, copied = filled(k, *shape), filled(k, *shape)
    k.to_device(source, on_device)
    assert equal(on_device, source.astype(k.dtype))
    k.copy(on_device, out=copied)
    back = k.to_host(copied)
    assert equal(back, on_device)
    back[...] = 0.0
    assert equal(copied, on_device), "to_host must return a copy"
    k.synchronize()


# -- matrix multiplication -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1), (1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 1, 6), (6, 1, 1), (1, 6, 1), (9, 8, 7)],
)
def test_gemm_multiplies_in_place(k, sizes):
    """Every layout, alpha and beta, against float64, and whatever ``out`` held if beta = 0.

    A sum of r products errs by at most (r + 3) eps of the sum of moduli.
    """
    rows, inner, columns = sizes
    A_layouts = [draw(k, rows, inner), draw(k, inner, rows).T]
    B_layouts = [draw(k, inner, columns, seed=1), draw(k, columns, inner, seed=1).T]
    for A, B, alpha, beta in product(A_layouts, B_layouts, (1.0, -0.3), (0.0, 1.0, 0.7)):
        out = filled(k, rows, columns) if beta == 0.0 else draw(k, rows, columns, seed=2)
        before = np.zeros(out.shape) if beta == 0.0 else out.astype(np.float64)
        A64, B64 = A.astype(np.float64), B.astype(np.float64)
        k.gemm(A, B, out, alpha=alpha, beta=beta)
        expected = alpha * (A64 @ B64) + beta * before
        moduli = abs(alpha) * (abs(A64) @ abs(B64)) + beta * abs(before)
        assert np.all(np.abs(out - expected) <= (inner + 3) * np.finfo(k.dtype).eps * moduli)


def test_gemm_passes_on_what_is_not_finite(k):
    A, B = draw(k, 3, 4), draw(k, 4, 2, seed=1)
    A[1, 2] = np.nan
    B[B == 0.0] = 1.0
    out = filled(k, 3, 2)
    k.gemm(A, B, out)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


def test_gemm_of_an_enormous_beta_zero_target(k):
    """beta = 0 ignores what was there, infinities included (BLAS promises it)."""
    out = k.empty((4, 4))
    out[...] = np.inf
    k.gemm(draw(k, 4, 4), draw(k, 4, 4, seed=1), out)
    assert np.isfinite(out).all()


# -- elementwise -----------------------------------------------------------------------------------


def elementwise_inputs(k: Any) -> list[np.ndarray]:
    return [*(draw(k, *shape) for shape in SHAPES), special(k)]


def test_relu(k):
    for A in elementwise_inputs(k):
        expected, out = np.maximum(A, 0), filled(k, *A.shape)
        k.relu(A, out=out)
        assert equal(out, expected)
        k.relu(A, out=A)
        assert equal(A, expected)


def test_step(k):
    for A in elementwise_inputs(k):
        expected, out = (A >= 0).astype(k.dtype), filled(k, *A.shape)
        k.heaviside(A, out=out)
        assert equal(out, expected)
        k.heaviside(A, out=A)
        assert equal(A, expected)


def test_step_opens_at_both_zeros_and_not_at_nan(k):
    A = np.array([[0.0, -0.0, np.nan, -5e-324]]).astype(k.dtype)
    out = filled(k, 1, 4)
    k.heaviside(A, out=out)
    # The smallest negative float64 is -0 as float32, and 1{-0 >= 0} = 1.
    assert out.tolist() == [[1.0, 1.0, 0.0, float(k.dtype == np.float32)]]


def test_gate(k):
    for A in elementwise_inputs(k):
        B = draw(k, *A.shape, seed=3)
        expected = B * (A >= 0)
        out, over_A = filled(k, *A.shape), A.copy()
        k.gate(B, A, out=out)
        assert equal(out, expected)
        k.gate(B, over_A, out=over_A)
        assert equal(over_A, expected)
        k.gate(B, A, out=B)
        assert equal(B, expected)


def test_gate_does_not_hide_what_is_not_finite(k):
    """inf 0 = NaN: a run that diverges behind a closed gate is found on every backend."""
    B = special(k)
    A = np.full_like(B, -1.0)
    out = filled(k, *B.shape)
    k.gate(B, A, out=out)
    assert equal(out, B * (A >= 0))
    assert np.isnan(out[0, :3]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8])
@shapes
def test_combine(k, shape, count):
    coefficients = [1.0, -1.0, 0.3, 2.0, 1 / 3, -7.0, 1e-3, 11.0][:count]
    arrays = [draw(k, *shape, seed=seed) for seed in range(count)]
    expected = k.dtype.type(coefficients[0]) * arrays[0]
    for c, array in zip(coefficients[1:], arrays[1:], strict=True):
        expected = expected + k.dtype.type(c) * array
    terms = list(zip(coefficients, arrays, strict=True))
    out = filled(k, *shape)
    k.combine(terms, out=out)
    assert equal(out, expected)  # left to right, so to the last bit
    k.combine(terms, out=arrays[0])
    assert equal(arrays[0], expected)


def test_combine_takes_vectors(k):
    a, b = draw(k, 9), draw(k, 9, seed=1)
    k.combine([(1.0, a), (-0.5, b)], out=a)
    assert equal(a, draw(k, 9) + k.dtype.type(-0.5) * b)


@shapes
def test_interpolate(k, shape):
    Y, Z = draw(k, *shape), draw(k, *shape, seed=1)
    e = np.random.default_rng(2).random(shape[1]).astype(k.dtype)
    e[0] = 0.0
    out = filled(k, *shape)
    k.interpolate(e, Y, Z, out=out)
    assert equal(out, Z + e * (Y - Z))
    assert equal(out[:, 0], Z[:, 0])


@shapes
def test_scale_rows_and_columns(k, shape):
    A, r, c = draw(k, *shape), draw(k, shape[0], seed=1), draw(k, shape[1], seed=2)
    by_rows, by_columns = np.diag(r) @ A if A.size < 99 else r[:, None] * A, c[None, :] * A
    out = filled(k, *shape)
    k.scale_rows(r, A, out=out)
    assert equal(out, by_rows.astype(k.dtype))
    k.scale_columns(c, A, out=out)
    assert equal(out, by_columns)
    again = A.copy()
    k.scale_rows(r, again, out=again)
    k.scale_columns(c, A, out=A)
    assert equal(again, by_rows.astype(k.dtype))
    assert equal(A, by_columns)


def test_penalty_weights(k):
    squared = np.array([0.0, -0.0, 1.0, 4.0, 1e-30, 1e-40, 0.25, 1e30]).astype(k.dtype)
    out, norms = filled(k, squared.size), np.sqrt(squared)
    k.penalty_weights(squared, 0.3, out=out)
    expected = [0.0 if r == 0 else (r - 1) / r * k.dtype.type(0.3) for r in norms]
    assert equal(out, np.array(expected, k.dtype))
    assert out[2] == 0.0
    k.penalty_weights(squared, 0.3, out=squared)
    assert equal(squared, out)


def test_uniforms_are_those_of_the_definition(k):
    out, step = filled(k, 1000), k.empty((1,), "uint64")
    for number in (7, 2**40 + 1):
        k.set_word(number, out=step)
        k.uniforms(5, randomness.Stream.PENALTY_POINTS, step, 2, out=out)
        assert equal(out, randomness.uniforms(5, 5, number, 2, 1000).astype(k.dtype))


# -- reductions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", ["float64", None], ids=["into float64", "into own"])
@shapes
def test_row_and_column_dots(k, shape, result):
    """A sum of r products in the type of the result errs by r eps of the sum of moduli."""
    A, B = draw(k, *shape), draw(k, *shape, seed=1)
    exact, moduli = A.astype(np.float64) * B, abs(A.astype(np.float64) * B)
    for operation, axis in ((k.row_dots, 1), (k.column_dots, 0)):
        out = filled(k, shape[1 - axis], dtype=result)
        operation(A, B, out=out)
        bound = (shape[axis] + 1) * np.finfo(out.dtype).eps * moduli.sum(axis)
        assert np.all(abs(out - exact.sum(axis)) <= bound)


@shapes
def test_dot_and_sum_accumulate_in_float64(k, shape):
    A, B = draw(k, *shape), draw(k, *shape, seed=1)
    A64, B64 = A.astype(np.float64), B.astype(np.float64)
    eps = A.size * np.finfo(np.float64).eps
    assert isinstance(k.dot(A, B), float)
    assert abs(k.dot(A, B) - np.sum(A64 * B64)) <= eps * np.sum(abs(A64 * B64))
    assert abs(k.sum(A) - np.sum(A64)) <= eps * np.sum(abs(A64))


def test_reductions_pass_on_what_is_not_finite(k):
    A = special(k)
    sums = filled(k, 2, dtype="float64")
    k.row_dots(A, A, out=sums)
    assert np.isnan(sums).all()
    assert np.isnan(k.dot(A, A))
    assert np.isnan(k.sum(A))


@shapes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_finds_a_single_entry(k, shape, bad):
    A = draw(k, *shape)
    assert k.all_finite(A)
    for place in {0, A.size // 2, A.size - 1}:
        good = A.reshape(-1)[place]
        A.reshape(-1)[place] = bad
        assert not k.all_finite(A)
        A.reshape(-1)[place] = good
    assert k.all_finite(A)


@shapes
def test_signs_and_their_changes(k, shape):
    A, B = draw(k, *shape), draw(k, *shape, seed=1)
    gates = filled(k, *shape, dtype="uint8")
    k.gates(A, out=gates)
    assert np.array_equal(gates, (A >= 0).astype(np.uint8))
    assert k.gate_changes(A, gates) == 0
    assert k.gate_changes(B, gates) == np.count_nonzero((A >= 0) != (B >= 0))
    signs_of_special = filled(k, *special(k).shape, dtype="uint8")
    k.gates(special(k), out=signs_of_special)
    assert np.array_equal(signs_of_special, special(k) >= 0)


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_results_do_not_depend_on_the_number_of_threads(name, precision):
    def results(threads: int) -> list[Any]:
        k = get_backend(name, precision=precision, threads=threads)
        A, B, shape = draw(k, 401, 397), draw(k, 401, 397, seed=1), (401, 397)
        outs = [filled(k, *shape) for _ in range(5)]
        row, column = filled(k, 401), filled(k, 397)
        with k.active():
            k.relu(A, out=outs[0])
            k.gate(B, A, out=outs[1])
            k.combine([(0.3, A), (1.0, B), (-7.0, outs[0])], out=outs[2])
            k.heaviside(A, out=outs[3])
            k.scale_rows(A[:, 0].copy(), B, out=outs[4])
            k.row_dots(A, B, out=row)
            k.column_dots(A, B, out=column)
            gates = filled(k, *shape, dtype="uint8")
            k.gates(A, out=gates)
            scalars = np.array([k.dot(A, B), k.sum(A), k.gate_changes(B, gates)])
        return [*outs, row, column, scalars]

    for one, two in zip(results(1), results(2), strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@shapes
def test_numba_computes_every_entry_as_numpy_does(precision, shape):
    """Elementwise operations agree to the last bit; row sums in float64 as a sum of n does."""
    outs: dict[str, list[np.ndarray]] = {}
    for name in BACKENDS:
        k = get_backend(name, precision=precision)
        A, B, out = draw(k, *shape), draw(k, *shape, seed=1), filled(k, *shape)
        results = outs[name] = []
        for run in (
            lambda: k.relu(A, out=out),  # noqa: B023 - called at once
            lambda: k.heaviside(A, out=out),  # noqa: B023
            lambda: k.gate(B, A, out=out),  # noqa: B023
            lambda: k.combine([(1 / 3, A), (-1 / 7, B), (0.9, B)], out=out),  # noqa: B023
            lambda: k.combine([(1 / 3, A)], out=out),  # noqa: B023
        ):
            run()
            results.append(out.copy())
    for numpy_result, numba_result in zip(outs["numpy"], outs["numba"], strict=True):
        assert np.array_equal(numpy_result, numba_result)


# -- getting one -----------------------------------------------------------------------------------


def test_backends_are_named_best_first():
    assert backend_names() == ["cupy", "numba", "numpy"]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_describes_itself(name):
    k = get_backend(name, precision="float32", threads=1)
    description = k.describe()
    assert (k.name, k.precision, k.threads, k.dtype) == (name, "float32", 1, np.float32)
    assert description["backend"] == name
    assert description["numpy"] == np.__version__
    assert description["blas"]
    assert ("numba" in description) == (name == "numba")


def test_threads_default_to_the_cores_of_the_process():
    assert get_backend("numpy").threads == len(os.sched_getaffinity(0))


def test_a_backend_holds_blas_to_its_threads_while_active():
    from threadpoolctl import threadpool_info

    def blas_threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = blas_threads()
    with get_backend("numba", threads=1).active():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_available_bytes_is_positive_and_below_the_machines_memory(k):
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < k.available_bytes() <= installed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("numbaa", "did you mean numba?"),
        ("nunpy", "did you mean numpy?"),
        ("cuppy", "did you mean cupy?"),
        ("fortran", "choose auto, cupy, numba, numpy"),
        ("numba:1", "numba has no devices"),
        ("numpy:0", "numpy has no devices"),
        ("cupy:first", "must be a number"),
        ("cupy:-1", "must be a number"),
        ("", "no such backend"),
    ],
)
def test_unknown_backends_and_devices_are_usage_errors(name, words):
    with pytest.raises(ConfigError) as caught:
        get_backend(name)
    assert words in str(caught.value)
    assert f"backend {name!r}" in str(caught.value)


@pytest.mark.parametrize("name", BACKENDS)
def test_tf32_exists_on_cupy_alone(name):
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend(name, precision="tf32")
    assert f"not on {name}" in str(caught.value)
    assert "float32 or float64" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_two_lines_say_what_to_install():
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend("cupy")
    first, second = str(caught.value).splitlines()
    assert "CuPy is not installed" in first
    assert second.startswith("pip install 'prdsim[cuda13]'")
    status = backend_status("cupy")
    assert not status.available
    assert status.reason == str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_auto_is_numba_where_cupy_is_missing():
    assert get_backend("auto").name == "numba"
    assert backend_status("numba").available


def test_auto_explains_itself_where_nothing_works():
    """tf32 needs CuPy: where it is missing, auto gives its reason, not NumPy's."""
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")
    with pytest.raises(BackendUnavailableError, match="CuPy is not installed"):
        get_backend("auto", precision="tf32")
