"""AdamW on the CPU, as one pass over all parameters."""

import math

import numpy as np

from cpu.compiler import BLOCK
from cpu.loops import loops
from cpu.operands import contiguous

NO_PLACE = 0, 1, 1


def clip_factor(gradients, longest):
    """What shortens gradients, all of them as one vector, to `longest`: at most 1; NaN where they are not numbers.

    gradients: tensors that are `fast_path.on_fast_path`.
    """
    gradients = [contiguous(gradient) for gradient in gradients]
    addresses = np.array([gradient.data_ptr() for gradient in gradients], np.int64)
    sizes = np.array([math.prod(gradient.shape) for gradient in gradients], np.int64)
    owners, starts = _blocks(sizes)
    sums = np.empty(len(owners), np.float32)
    loops.sums_of_squares(addresses, sizes, owners, starts, sums)
    return longest / np.maximum(np.sqrt(sums.sum(dtype=np.float64)), longest)


def _blocks(sizes):
    """Work on arrays of these sizes in pieces of BLOCK elements: an index of `sizes`, and the first element."""
    blocks = -(-sizes // BLOCK)
    owners = np.repeat(np.arange(len(sizes)), blocks)
    return owners, (np.arange(len(owners)) - np.repeat(blocks.cumsum() - blocks, blocks)) * BLOCK


def adamw_step(due, beta1, beta2, epsilon, places):
    """One AdamW step in place.

    Args:
        due: list of (weight, gradient, first moment, second moment, beta1**step, beta2**step, learning rate, share of
            the weight that decay takes, factor of the gradient); six tensors that are `fast_path.on_fast_path` and
            three numbers.
        places: operands.Bfloat16's, where weights are to be written as operands too; {}: nowhere.
    """
    due = [(weight, contiguous(gradient), *rest) for weight, gradient, *rest in due]
    addresses = np.array([[tensor.data_ptr() for tensor in entry[:6]] for entry in due])
    sizes = np.array([math.prod(entry[0].shape) for entry in due])
    owners, starts = _blocks(sizes)
    rates = np.array([entry[6:] for entry in due], np.float64)
    places = np.array([places.get(address) or NO_PLACE for address in addresses[:, 0].tolist()])
    loops.adamw(addresses, sizes, rates, places, owners, starts, beta1, beta2, epsilon)
