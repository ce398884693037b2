"""The stand-ins for CuPy beside CuPy itself, whose wheel imports without a driver.

The whole backend runs on the stand-ins, so they have what it uses of CuPy and take its calls. What
they have must be in CuPy, and what they take CuPy must take: so it has what the backend uses.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from inspect import Parameter, Signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cupy_on_host import HostCupy
from cupy_on_host.device import Graph, RawKernel, RawModule

import prdsim.backends.cublas
import prdsim.backends.cuda_graphs
import prdsim.backends.cupy

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the stand-ins are not compared")
if not hasattr(cupy, "RawModule"):
    pytest.skip("another module is called cupy", allow_module_level=True)

OPERATORS = ("__call__", "__enter__", "__exit__")
OF_TESTS = ("cupy: memory",)  # how much a device has; `cupy.cuda.memory` is something else
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def used() -> set[str]:
    """Every name that follows a point in the backend, and what `with` and calls need."""
    modules = (prdsim.backends.cupy, prdsim.backends.cublas, prdsim.backends.cuda_graphs)
    trees = [ast.parse(Path(str(module.__file__)).read_text()) for module in modules]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return {*OPERATORS, "__version__", *(name for name in names if not name.startswith("_"))}


def objects() -> dict[str, tuple[Any, Any]]:
    """Stand-ins by name, and what they stand for, as classes where objects need a device."""
    host = HostCupy()
    array, stream = host.empty((2, 2), "float64"), host.cuda.Stream(non_blocking=True)
    classes = cupy.cuda
    return {
        "cupy": (host, cupy),
        "an array": (array, cupy.ndarray),
        "an array's memory": (array.data, classes.MemoryPointer),
        "an array's flags": (array.flags, cupy._core.flags.Flags),
        "a device": (host.cuda.Device(0), classes.Device),
        "a stream": (stream, classes.Stream.null),
        "an event": (stream.record(), classes.Event),
        "a graph": (Graph(host, []), classes.graph.Graph),
        "a module of kernels": (RawModule(host, "", ()), cupy.RawModule),
        "a kernel": (RawKernel(host, None), cupy.RawKernel),
        "a pool": (host.get_default_memory_pool(), classes.MemoryPool),
    }


def members(name: str, host: Any, real: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """What a stand-in has of what the backend uses: its name, both, and what the real one is of."""
    for attribute in sorted(used() & {*dir(host), *dir(type(host))}):
        ours, path = getattr(host, attribute), f"{name}: {attribute}"
        if path in OF_TESTS:
            continue
        assert hasattr(real, attribute), f"{path} is not in CuPy"
        theirs = getattr(real, attribute)
        yield path, ours, theirs, real
        if isinstance(ours, SimpleNamespace) and inspect.ismodule(theirs):
            yield from members(path, ours, theirs)


def signature(function: Any, owner: Any) -> Signature:
    """That of a function or class; Cython writes it into the first line of the documentation."""
    try:
        found = inspect.signature(function)
        generic = {p.kind for p in found.parameters.values()} >= {
            Parameter.VAR_POSITIONAL,
            Parameter.VAR_KEYWORD,
        }
    except ValueError:
        generic = True
    if generic:
        (text,) = re.findall(r"^[\w.]+\((.*)\)", function.__doc__.splitlines()[0])
        found = Signature(list(parameters(text)))
    listed = list(found.parameters.values())
    if inspect.isclass(owner) and listed and listed[0].name == "self":
        listed = listed[1:]
    return Signature(listed)


def parameters(text: str) -> Iterator[Parameter]:
    kind: Any = Parameter.POSITIONAL_OR_KEYWORD
    for declaration in filter(None, text.split(", ")):
        if declaration == "*":
            kind = Parameter.KEYWORD_ONLY
        elif declaration.startswith("**"):
            yield Parameter(declaration[2:], Parameter.VAR_KEYWORD)
        elif declaration.startswith("*"):
            yield Parameter(declaration[1:], Parameter.VAR_POSITIONAL)
            kind = Parameter.KEYWORD_ONLY
        else:
            name, given, _ = declaration.partition("=")
            yield Parameter(name.split()[-1], kind, default=None if given else Parameter.empty)


def refused(ours: Signature, theirs: Signature) -> list[str]:
    """Why some call that the stand-in takes would not be taken by CuPy, or be another one."""
    reasons = []
    positional = [p.name for p in theirs.parameters.values() if p.kind in POSITIONAL]
    anything = any(p.kind is Parameter.VAR_KEYWORD for p in theirs.parameters.values())
    any_place = any(p.kind is Parameter.VAR_POSITIONAL for p in theirs.parameters.values())
    for place, (name, parameter) in enumerate(ours.parameters.items()):
        if parameter.kind in POSITIONAL and any_place:
            continue
        if parameter.kind in POSITIONAL and positional[place : place + 1] != [name]:
            reasons.append(f"{name} is not number {place}")
        elif name not in theirs.parameters and not anything:
            reasons.append(f"{name} is unknown")
    for name, parameter in theirs.parameters.items():
        needed = parameter.default is Parameter.empty and parameter.kind in (
            *POSITIONAL,
            Parameter.KEYWORD_ONLY,
        )
        if needed and (
            name not in ours.parameters or ours.parameters[name].default is not Parameter.empty
        ):
            reasons.append(f"{name} is needed")
    return reasons


@pytest.mark.parametrize("name", objects())
def test_cupy_has_what_the_backend_uses_and_takes_its_calls(name):
    found = list(members(name, *objects()[name]))
    assert found, "nothing was compared"
    calls = 0
    for path, ours, theirs, owner in found:
        if isinstance(ours, type) and issubclass(ours, Exception):
            (base,) = ours.__bases__
            assert issubclass(theirs, base), path
        elif callable(ours) and path.rpartition(" ")[2] != "__exit__":
            calls += 1
            assert refused(signature(ours, None), signature(theirs, owner)) == [], path
    assert calls or name in ("an array's memory", "an array's flags")


def test_errors_of_the_runtime_have_their_status():
    error = cupy.cuda.runtime.CUDARuntimeError(prdsim.backends.cupy._CUDA_ERROR_NO_DEVICE)
    assert str(error).startswith("cudaErrorNoDevice: ")
    assert error.status == 100
    old = prdsim.backends.cupy._CUDA_ERROR_INSUFFICIENT_DRIVER
    assert str(cupy.cuda.runtime.CUDARuntimeError(old)).startswith("cudaErrorInsufficientDriver: ")


def test_libraries_are_found_by_their_names():
    pathfinder = pytest.importorskip("cuda.pathfinder")
    (name, *_) = inspect.signature(pathfinder.load_nvidia_dynamic_lib).parameters
    assert name == "libname"
    assert "abs_path" in pathfinder.LoadedDL.__annotations__


def test_the_comparison_sees_what_differs():
    def real(A, *, stream=None, **_): ...
    def same(A, *, stream): ...
    def other_order(stream, A): ...
    def more(A, *, wait=False, needed): ...

    ours, theirs = map(inspect.signature, (same, real))
    assert refused(ours, theirs) == []
    assert refused(inspect.signature(other_order), theirs) == [
        "stream is not number 0",
        "A is not number 1",
    ]
    assert refused(ours, inspect.signature(more)) == ["stream is unknown", "needed is needed"]
    typed = Signature(list(parameters("str code=None, *, tuple options=(), bool jit, **kwargs")))
    assert str(typed) == "(code=None, *, options=None, jit, **kwargs)"
    assert np.ndarray is not cupy.ndarray
