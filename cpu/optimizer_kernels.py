"""The compiled loop of the optimizer, over all parameters where they lie."""

import numpy as np
from numba import carray, prange, types
from numba.extending import intrinsic

from cpu.compiler import BLOCK, F1, I1, kernel, written


def _pointer(kind):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind)(types.int64), generate


@intrinsic
def _floats_at(typing_context, address):
    """An address, as a pointer for carray."""
    return _pointer(types.float32)


@intrinsic
def _bfloats_at(typing_context, address):
    """The same of bfloat16."""
    return _pointer(types.uint16)


@kernel(I1, I1, I1, I1, F1, group="clip")
def sums_of_squares(addresses, sizes, owners, starts, sums):
    """sums [blocks]: of each block's squares. addresses, sizes: of the arrays; owners, starts: as for `adamw`."""
    for block in prange(owners.size):
        p = owners[block]
        stop = min(starts[block] + BLOCK, sizes[p])
        values = carray(_floats_at(addresses[p] + 4 * starts[block]), (stop - starts[block],))
        total = np.float32(0.0)
        for i in range(values.size):
            total += values[i] * values[i]
        sums[block] = total


@kernel("int64[:,::1]", I1, "float64[:,::1]", "int64[:,::1]", I1, I1, "float64", "float64", "float64")
def adamw(addresses, sizes, rates, places, owners, starts, beta1, beta2, epsilon):
    """One AdamW step for all parameters in one pass (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2).

    Args:
        addresses: [parameters, 6]; of the weights, their gradients, first and second moments, and of one float each
            for beta1**step and beta2**step.
        sizes: [parameters].
        rates: [parameters, 3]; learning rate, the share of a weight that decay takes, and what its gradient is
            multiplied by.
        places: [parameters, 3]; where the weights are also written as bfloat16: address, or 0, columns of the weight,
            and columns of what it is a part of.
        owners, starts: [blocks]; the work in pieces of BLOCK elements: a parameter, and its first element.
    """
    old1, old2 = np.float32(beta1), np.float32(beta2)
    new1, new2 = np.float32(1.0) - old1, np.float32(1.0) - old2  # of the rounded ones, as the corrections are
    for block in prange(owners.size):
        p = owners[block]
        start = starts[block]
        stop = min(start + BLOCK, sizes[p])
        weights = carray(_floats_at(addresses[p, 0] + 4 * start), (stop - start,))
        gradients = carray(_floats_at(addresses[p, 1] + 4 * start), (stop - start,))
        moments = carray(_floats_at(addresses[p, 2] + 4 * start), (stop - start,))
        squares = carray(_floats_at(addresses[p, 3] + 4 * start), (stop - start,))
        power1 = carray(_floats_at(addresses[p, 4]), (1,))[0]
        power2 = carray(_floats_at(addresses[p, 5]), (1,))[0]
        step_size = np.float32(rates[p, 0] / (1.0 - power1))
        factor = np.float32(1.0 / np.sqrt(1.0 - power2))
        decay, share, smallest = np.float32(rates[p, 1]), np.float32(rates[p, 2]), np.float32(epsilon)
        for i in range(stop - start):
            gradient = gradients[i] * share
            moment = old1 * moments[i] + new1 * gradient
            square = old2 * squares[i] + new2 * gradient * gradient
            moments[i] = moment
            squares[i] = square
            weights[i] -= weights[i] * decay + step_size * moment / (np.sqrt(square) * factor + smallest)
        if places[p, 0] != 0:
            columns, wide = places[p, 1], places[p, 2]
            operand = carray(_bfloats_at(places[p, 0]), (sizes[p] // columns * wide,))
            for row in range(start // columns, (stop - 1) // columns + 1):
                first, last, shift = max(start, row * columns), min(stop, (row + 1) * columns), row * (wide - columns)
                source, target = weights[first - start : last - start], operand[first + shift : last + shift]
                for i in range(source.size):
                    target[i] = written(target, source[i])
    for p in range(sizes.size):
        carray(_floats_at(addresses[p, 4]), (1,))[0] *= old1
        carray(_floats_at(addresses[p, 5]), (1,))[0] *= old2
