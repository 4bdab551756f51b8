"""What compiled loops need of the world of C: their arguments as words in memory, and functions called by address.

A word is an int64: an address followed by the lengths of an array's axes, or a number. So any loop can be called
through one kind of function, void(address of its words), from Python and from the compiled `run` of programs.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

I32, I64, F32, VOID = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VoidType()


def words_of(kinds, arguments):
    """Arguments of those numba types as a list of words. Arrays are numpy's, C-contiguous, or (address, shape).

    Raises TypeError: an argument is of another type. The arrays must live as long as their addresses are used.
    """
    words = []
    for kind, argument in zip(kinds, arguments, strict=True):
        if isinstance(kind, types.Array):
            words += _array_words(kind, argument)
        elif isinstance(kind, types.Float):
            words.append(int(np.float64(argument).view(np.int64)))
        else:
            words.append(int(argument))
    return words


def _array_words(kind, array):
    if isinstance(array, np.ndarray):
        if array.dtype != str(kind.dtype) or not array.flags.c_contiguous:
            raise TypeError(f"an array of {array.dtype}, contiguous: {array.flags.c_contiguous}, for {kind}")
        array = array.__array_interface__["data"][0], array.shape
    address, shape = array
    if len(shape) != kind.ndim:
        raise TypeError(f"an array of shape {shape} for {kind}")
    return [address, *shape]


def unpacker(kinds):
    """A function for compiled code: address of words → arguments of those numba types, as a tuple."""

    @intrinsic
    def unpack(typing_context, address):
        def generate(context, builder, signature, arguments):
            words, place = builder.inttoptr(arguments[0], I64.as_pointer()), 0
            values = []
            for kind in kinds:
                count = 1 + kind.ndim if isinstance(kind, types.Array) else 1
                taken = [builder.load(builder.gep(words, [I64(place + i)])) for i in range(count)]
                values.append(_value(context, builder, kind, *taken))
                place += count
            return context.make_tuple(builder, signature.return_type, values)

        return types.Tuple(kinds)(types.int64), generate

    return unpack


def _value(context, builder, kind, word, *shape):
    if isinstance(kind, types.Array):
        array = arrayobj.make_array(kind)(context, builder)
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        strides = [I64(size)]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        data = builder.inttoptr(word, context.get_data_type(kind.dtype).as_pointer())
        arrayobj.populate_array(array, data, cgutils.pack_array(builder, shape), strides, size, None)
        return array._getvalue()
    if isinstance(kind, types.Float):
        number = builder.bitcast(word, ir.DoubleType())
        return builder.fptrunc(number, F32) if kind == types.float32 else number
    width = context.get_value_type(kind)
    return word if width == I64 else builder.trunc(word, width)


def _calling(result, arguments, numba_result, numba_arguments):
    """An intrinsic of (address, *arguments) that calls the C function there."""

    def generate(context, builder, signature, values):
        function = builder.inttoptr(values[0], ir.FunctionType(result, arguments).as_pointer())
        value = builder.call(function, values[1:])
        return context.get_dummy_value() if result == VOID else value

    return numba_result(types.int64, *numba_arguments), generate


@intrinsic
def call_loop(typing_context, function, words):
    """function(words), any loop's."""
    return _calling(VOID, [I64], types.void, [types.int64])


@intrinsic
def call_handles(typing_context, function, first, second):
    """function(first, second) → status: dnnl_memory_set_data_handle and its like."""
    return _calling(I32, [I64, I64], types.int32, [types.int64] * 2)


@intrinsic
def call_wait(typing_context, function, stream):
    """dnnl_stream_wait(stream) → status."""
    return _calling(I32, [I64], types.int32, [types.int64])


@intrinsic
def call_execute(typing_context, function, primitive, stream, count, arguments):
    """dnnl_primitive_execute(primitive, stream, count, arguments) → status."""
    kinds = [types.int64, types.int64, types.int32, types.int64]
    return _calling(I32, [I64, I64, I32, I64], types.int32, kinds)


@intrinsic
def call_sgemm(typing_context, function, order, across_a, across_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """cblas_sgemm(order, across_a, …)."""
    llvm = [I32, I32, I32, I32, I32, I32, F32, I64, I32, I64, I32, F32, I64, I32]
    kinds = {I32: types.int32, I64: types.int64, F32: types.float32}
    return _calling(VOID, llvm, types.void, [kinds[kind] for kind in llvm])
