"""Every backend keeps the protocol's rules and rounds as NumPy does; and how one is got by name."""

from __future__ import annotations

import importlib.util
import os
from typing import ClassVar

import numpy as np
import pytest
from support import BACKENDS
from support_backends import SPECIAL, SUBNORMAL, elementwise, failures, precision

import prdsim.backends
from prdsim.backends import backend_names, backend_status, get_backend, register_backend
from prdsim.backends.base import Backend
from prdsim.backends.numba import NumbaBackend
from prdsim.backends.numpy import NumpyBackend
from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.verification.operations import large_results

# -- operations ------------------------------------------------------------------------------------


def test_every_operation_keeps_the_rules(k):
    assert failures(k) == []


def test_elementwise_operations_have_the_bits_of_an_expression(k):
    elementwise(k, [*SPECIAL, *SUBNORMAL])


def test_products_are_as_accurate_as_the_precision_says(k):
    precision(k)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_results_do_not_depend_on_the_number_of_threads(name, precision):
    """Those of products do; the elementwise ones are an expression's, whatever the threads."""
    results = []
    for threads in (1, 2):
        k = get_backend(name, precision=precision, threads=threads)
        with k.active():
            elementwise(k)
            results.append([array.tobytes() for array in large_results(k)[1:]])
    assert results[0] == results[1]


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


@pytest.mark.usefixtures("two_threads")
def test_a_backend_holds_blas_to_its_threads_while_active():
    from threadpoolctl import threadpool_info

    def blas_threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = blas_threads()
    with get_backend("numba", threads=1).active():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_available_bytes_is_positive_and_below_the_machines_memory():
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < NumpyBackend().available_bytes() <= installed


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


def no_product(*_, **__):
    """A product that is not computed."""


def test_a_backend_that_does_not_multiply_is_refused(monkeypatch):
    monkeypatch.setattr(NumpyBackend, "gemm", no_product)
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend("numpy", precision="float32")
    first, second = str(caught.value).splitlines()
    assert first == "backend numpy: does not work here (a product is wrong);"
    assert second == "reinstall numpy, or choose another backend"
    assert caught.value.exit_code == 4


def test_a_backend_that_fails_as_it_is_made_is_unavailable(monkeypatch):
    monkeypatch.setattr(prdsim.backends, "_REGISTERED", {})
    register_backend("mine", lambda *_: {}["nothing"])
    monkeypatch.setenv("MINE_LEVEL", "9")
    with pytest.raises(BackendUnavailableError) as caught:
        get_backend("mine")
    first, second = str(caught.value).splitlines()
    assert first == "backend mine: does not work here (nothing);"
    assert second == "correct or unset MINE_LEVEL"


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_run_says_why_auto_passed_over_a_backend(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(NumbaBackend, "gemm", no_product)
    for name in os.environ:
        if name.startswith("NUMBA_"):
            monkeypatch.delenv(name)
    keys = {"dataset": "digits", "samples": 8, "width": 6, "steps": 2, "output": "a.h5"}
    keys |= {"integrator": "gd", "step_size": 0.01, "force": True}
    monkeypatch.chdir(tmp_path)
    said = (
        "backend numba: does not work here (a product is wrong); reinstall numba, or "
        "choose another backend; auto takes numpy instead"
    )
    assert prdsim.run(**keys, progress=True).resolved.backend == "numpy"
    assert said in capsys.readouterr().err.splitlines()
    with pytest.warns(Warning, match="auto takes numpy instead") as told:
        prdsim.run(**keys)
    assert [str(warning.message) for warning in told] == [said]
    assert not backend_status("numba").available


# -- registering one -------------------------------------------------------------------------------


def test_a_registered_backend_is_got_by_name(monkeypatch):
    monkeypatch.setattr(prdsim.backends, "_REGISTERED", {})

    class Double(NumpyBackend):
        name = "double"
        rates: ClassVar = {"float64": Backend.rates["float64"]}

    register_backend("double", Double)
    assert backend_names() == ["cupy", "numba", "numpy", "double"]
    assert get_backend("double", threads=3).describe()["threads"] == 3
    assert backend_status("double").description["backend"] == "double"
    assert get_backend("auto").name != "double"
    with pytest.raises(ConfigError, match="'double:1': double has no devices"):
        get_backend("double:1")
    message = "precision float32 does not exist on double; use float64"
    with pytest.raises(BackendUnavailableError, match=message):
        get_backend("double", precision="float32")
    for name in ("", "auto", "numpy", "cupy", "double:1"):
        with pytest.raises(ConfigError, match="choose another"):
            register_backend(name, Double)
