"""Code that kernels of the Numba backend contain and Numba does not generate from Python.

They spare most of the compiling: Numba's parallel loops and slices took three quarters of the
processor time of a first run. `fork` calls the function that Numba's parallel loops call.
"""

# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: ARG001 - an intrinsic gets the types of its arguments, and must name them all

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.compiler import compile_internal
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic as _intrinsic

intrinsic: Any = _intrinsic  # its calls lack the first parameter
_INT = ir.IntType(8 * np.intp().itemsize)
_CHAR = ir.IntType(8)
_BYTES = _CHAR.as_pointer()
_NOTHING = ir.VoidType()
_CALLS = ir.FunctionType(
    _NOTHING, [_BYTES.as_pointer(), _INT.as_pointer(), _INT.as_pointer(), _BYTES]
)
_WORD = np.intp().itemsize
SIZE, _FUNCTION, PARTS, _DATA = range(4)
"""Words of a recorded call: its size in words, the address of what does a part, parts, data."""
ENTRY_BYTES = 1 << 12
"""The most that a recorded call takes."""


# BLAS as Numba itself calls it for np.dot: SciPy's, found by name, so that kernels can be cached.
_GEMM = ir.FunctionType(
    ir.IntType(32),
    [
        *(_CHAR,) * 3,  # kind, and whether A and B are transposed
        *(_INT,) * 3,  # sizes
        *(_BYTES, _BYTES, _INT),  # alpha, A and its row length
        *(_BYTES, _INT),  # B and its row length
        *(_BYTES, _BYTES, _INT),  # beta, out and its row length
    ],
)


@intrinsic
def fork(typing, record_at, task, threads, parts, count, arguments):  # type: ignore[no-untyped-def]
    """Call ``task(part, begin, end, *arguments)`` for each part of a range, on Numba's threads.

    The parts divide range(count) into equal shares [begin, end); the results of the calls, which
    must not raise, are ignored. With one thread the calling one does all, and nothing is launched.
    If ``record_at`` is not 0, nothing is done: what `perform` needs to do it is written to that
    address, in at most `ENTRY_BYTES`. Call it without the GIL.
    """
    outer = types.void(types.intp, task, types.intp, types.intp, types.intp, arguments)
    inner = (types.uintp, types.uintp, types.uintp, *arguments.types)

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        flags = ConfigStack().top().copy()
        flags.no_compile = flags.no_cpython_wrapper = True
        compiled = compile_internal(
            context.typing_context, context, context.active_code_library,
            task.dispatcher.py_func, inner, types.none, flags, {},
        )  # fmt: skip
        record_at, _, threads, parts, count, given = values
        borrowed = cgutils.pack_struct(builder, _borrowed(context, builder, arguments, given))
        data = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [parts, count, borrowed])
        )
        calls = _calls(context, builder.module, compiled, data.type)
        with builder.if_else(cgutils.is_null(builder, record_at)) as (now, later):
            with now:
                _share_out(builder, calls, threads, parts, data)
            with later:
                size = context.get_abi_sizeof(data.type.pointee)
                words = -(-size // _WORD)
                if (_DATA + words) * _WORD > ENTRY_BYTES:
                    raise ValueError(f"{task}: its arguments do not fit into a recording")
                header = builder.inttoptr(record_at, _INT.as_pointer())
                address = builder.ptrtoint(calls, _INT)
                for place, value in enumerate([_INT(_DATA + words), address, parts]):
                    builder.store(value, builder.gep(header, [_INT(place)]))
                there = builder.gep(header, [_INT(_DATA)])
                cgutils.raw_memcpy(builder, there, data, _INT(size), 1)
        return context.get_dummy_value()

    return outer, generate


@intrinsic
def perform(typing, entry, part):  # type: ignore[no-untyped-def]
    """Do one part of what `fork` has recorded at an address."""

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        entry, part = values
        header = builder.inttoptr(entry, _INT.as_pointer())
        address = builder.load(builder.gep(header, [_INT(_FUNCTION)]))
        data = builder.bitcast(builder.gep(header, [_INT(_DATA)]), _BYTES)
        first = cgutils.alloca_once(builder, _BYTES)
        builder.store(builder.inttoptr(part, _BYTES), first)
        one = cgutils.alloca_once_value(builder, _INT(1))
        calls = builder.inttoptr(address, _CALLS.as_pointer())
        builder.call(calls, [first, one, one, data])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _borrowed(context: Any, builder: Any, arguments: Any, values: Any) -> list[Any]:
    """Return arguments without the arrays' owners: those who call keep them, for longer."""
    borrowed = []
    unpacked = cgutils.unpack_tuple(builder, values)
    for kind, value in zip(arguments.types, unpacked, strict=True):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            _disown(array)
            value = array._getvalue()
        borrowed.append(value)
    return borrowed


def _disown(array: Any) -> None:
    array.meminfo, array.parent = (
        cgutils.get_null_value(field.type) for field in (array.meminfo, array.parent)
    )


def _share_out(builder: Any, calls: Any, threads: Any, parts: Any, data: Any) -> None:
    """Generate the calls of a function of `_calls`, as Numba's parallel loops call theirs."""
    first = cgutils.alloca_once_value(builder, _BYTES(None))  # its address counts the parts
    count, step = (cgutils.alloca_once_value(builder, value) for value in (parts, _INT(1)))
    with builder.if_else(builder.icmp_signed(">", threads, _INT(1))) as (several, one):
        with several:
            launch = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_NOTHING, [_BYTES] * 5 + [_INT] * 3),
                "numba_parallel_for",
            )
            given = [builder.bitcast(value, _BYTES) for value in (calls, first, count, step, data)]
            builder.call(launch, [*given, _INT(0), _INT(1), threads])
        with one:
            builder.call(calls, [first, count, step, builder.bitcast(data, _BYTES)])


def _calls(context: Any, module: Any, compiled: Any, data_type: Any) -> Any:
    """Generate what a thread does: some successive parts, as a kernel of a NumPy loop."""
    function = ir.Function(module, _CALLS, f"parts_of_{compiled.fndesc.llvm_func_name}")
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    first, some, _, data = function.args
    first_part = builder.ptrtoint(builder.load(first), _INT)
    parts, count, arguments = cgutils.unpack_tuple(
        builder, builder.load(builder.bitcast(data, data_type))
    )
    unpacked = cgutils.unpack_tuple(builder, arguments)
    with cgutils.for_range(builder, builder.load(some)) as loop:
        part = builder.add(first_part, loop.index)
        begin, end = (
            builder.sdiv(builder.mul(bound, count), parts)
            for bound in (part, builder.add(part, _INT(1)))
        )
        values = [part, begin, end, *unpacked]
        context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, values)
    builder.ret_void()
    return function


@intrinsic
def entries(typing, A, index, size):  # type: ignore[no-untyped-def]
    """``size`` entries of a C-contiguous array from ``index`` (a tuple) on, as a vector.

    Nothing is checked, and the array must outlive the vector.
    """
    vector = types.Array(A.dtype, 1, "C")

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        result = context.make_array(vector)(context, builder)
        itemsize = _INT(context.get_abi_sizeof(context.get_data_type(A.dtype)))
        result.data = _pointer(context, builder, A, *values[:2])
        result.shape, result.strides = (
            cgutils.pack_array(builder, [value]) for value in (values[2], itemsize)
        )
        result.nitems, result.itemsize = values[2], itemsize
        _disown(result)
        return result._getvalue()

    return vector(A, types.UniTuple(types.intp, A.ndim), types.intp), generate


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    array = context.make_array(array_type)(context, builder, array)
    indices = cgutils.unpack_tuple(builder, index)
    return cgutils.get_item_pointer(context, builder, array_type, array, indices)


@intrinsic
def product(  # type: ignore[no-untyped-def]
    typing, rows, inner, columns, alpha, A, at_A, A_transposed, B, at_B, B_transposed, beta, out,
    at_out,
):  # fmt: skip
    """out = alpha A B + beta out, for blocks of C-contiguous arrays by BLAS on this thread.

    out is rows x columns, each entry a sum of ``inner`` products. The blocks begin at the entries
    at_A, at_B, at_out (tuples) of the arrays. A transposed operand is stored as columns x rows.
    """
    types_A, types_B, types_out, scalar = A, B, out, out.dtype
    size, flag = types.intp, types.boolean
    place_A, place_B, place_out = (types.UniTuple(size, array.ndim) for array in (A, B, out))
    outer = types.void(
        size, size, size, scalar, A, place_A, flag, B, place_B, flag, scalar, out, place_out
    )
    kind, transposed, stored = (
        ir.Constant(_CHAR, ord(c)) for c in ("ds"[scalar == types.float32], *"tn")
    )

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        rows, inner, columns, alpha, A, at_A, A_transposed, B, at_B, B_transposed, *last = values
        beta, out, at_out = last

        def block(array_type, array, index):  # type: ignore[no-untyped-def]
            address = _pointer(context, builder, array_type, array, index)
            shape = context.make_array(array_type)(context, builder, array).shape
            row = cgutils.unpack_tuple(builder, shape)[-1]
            return builder.bitcast(address, _BYTES), row

        def scalar_at(value):  # type: ignore[no-untyped-def]
            return builder.bitcast(cgutils.alloca_once_value(builder, value), _BYTES)

        gemm = cgutils.get_or_insert_function(builder.module, _GEMM, "numba_xxgemm")
        # BLAS is column-major: it sees out.T = alpha B.T A.T + beta out.T.
        builder.call(gemm, [
            kind,
            *(builder.select(flag, transposed, stored) for flag in (B_transposed, A_transposed)),
            columns, rows, inner,
            scalar_at(alpha), *block(types_B, B, at_B), *block(types_A, A, at_A),
            scalar_at(beta), *block(types_out, out, at_out),
        ])  # fmt: skip
        return context.get_dummy_value()

    return outer, generate


@intrinsic
def fetch_add(typing, words, index, value):  # type: ignore[no-untyped-def]
    """Add to an entry of a vector of words, atomically, and return what it was before."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        place = _pointer(context, builder, signature.args[0], values[0], values[1])
        return builder.atomic_rmw("add", place, values[2], "acq_rel")

    return types.intp(words, types.UniTuple(types.intp, 1), types.intp), generate


@intrinsic
def publish(typing, words, index, value):  # type: ignore[no-untyped-def]
    """Set an entry of a vector of words, once all that was done before can be seen."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        place = _pointer(context, builder, signature.args[0], values[0], values[1])
        builder.store_atomic(values[2], place, "release", _WORD)
        return context.get_dummy_value()

    return types.void(words, types.UniTuple(types.intp, 1), types.intp), generate


@intrinsic
def look(typing, words, index):  # type: ignore[no-untyped-def]
    """Return an entry of a vector of words that another thread may `publish`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        place = _pointer(context, builder, signature.args[0], values[0], values[1])
        return builder.load_atomic(place, "acquire", _WORD)

    return types.intp(words, types.UniTuple(types.intp, 1)), generate


@intrinsic
def give_way(typing):  # type: ignore[no-untyped-def]
    """Let another thread have the core, if one waits for it."""

    def generate(context, builder, _signature, _values):  # type: ignore[no-untyped-def]
        sched_yield = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, sched_yield, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate
