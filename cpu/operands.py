"""What compiled loops and matrix products work on: tensors' own memory, and the type that operands are kept in."""

import contextvars
from typing import NamedTuple

import numpy as np
import paddle

from cpu import compiler
from cpu.loops import loops

TYPE_CODES = {paddle.float32: "<f4", paddle.int64: "<i8", paddle.bfloat16: "<u2"}


class _Memory:
    """What numpy needs to know of a tensor's memory; numpy keeps it, and so the tensor, as long as the array lives."""

    def __init__(self, tensor, shape):
        self.tensor = tensor
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), False), "shape": shape, "typestr": TYPE_CODES[tensor.dtype], "version": 3,
        }  # fmt: skip


def array(tensor, *shape):
    """A tensor's memory, bfloat16 as bits, to read and write; of a tensor that is not contiguous, a copy to read."""
    return np.asarray(_Memory(contiguous(tensor), shape or tuple(tensor.shape)))


def contiguous(tensor):
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def token_rows(x):
    """[…, E] → contiguous [N, E]."""
    return contiguous(x.reshape([-1, x.shape[-1]]))


def empty(*shape):
    return paddle.empty(shape, "float32")


def partial_sums(*shape):
    return np.empty((compiler.PARTS, *shape), np.float32)


def summed(sums):
    """Partial sums [P, …] → tensor […]."""
    return paddle.to_tensor(sums.sum(axis=0))


class Dropout(NamedTuple):
    """What decides which elements a kernel drops; drawn anew for every call from Paddle's generator."""

    key: np.uint32
    other_key: np.uint32
    threshold: np.uint32  # elements whose hash is below are dropped
    gain: np.float32  # kept elements are multiplied by it


def draw_dropout(rate, training):
    threshold, gain = dropout_constants(rate if training else 0)
    if not threshold:
        return Dropout(np.uint32(0), np.uint32(0), threshold, gain)
    return Dropout(*map(np.uint32, draw_keys(rate)), threshold, gain)


def dropout_constants(rate):
    """Threshold and gain of a Dropout."""
    return np.uint32(min(round(rate * 2**32), 2**32 - 1)), np.float32(1 / (1 - rate))


def draw_keys(rate):
    """The two keys of a Dropout, as numbers; where nothing is dropped 0, and nothing is drawn."""
    if rate == 0:
        return 0, 0
    return tuple(key % 2**32 for key in paddle.randint(-(2**31), 2**31 - 1, [2]).tolist())


class Float32:
    """How operands of products are kept: as they are. The base of Bfloat16."""

    dtype, loops = "float32", loops

    def operand(self, tensor):
        """A float32 tensor, contiguous, in the form in which a product takes it."""
        return contiguous(tensor)

    def weight(self, weight):
        """The operand for a weight."""
        return self.operand(weight)

    def side_by_side(self, *weights):
        """The operands for matrices [I, …] that the same x is multiplied by: one for each."""
        return [self.operand(weight) for weight in weights]

    def empty(self, *shape):
        return paddle.empty(shape, self.dtype)


class Bfloat16(Float32):
    """As bfloat16; weights are converted once for the life of this object: they must not change, but by `changed`.

    Attributes:
        places: address of a weight → where an optimizer is to write it as an operand, so that it stays right: address,
            columns of the weight, columns of the operand. (Not of a weight that has several.)
    """

    dtype = "bfloat16"

    def __init__(self):
        self.loops = compiler.load("bfloat16")
        self._weights, self.places = {}, {}

    def changed(self, addresses):
        """Some weights have changed, and their operands were not written: these are made anew."""
        for key in [key for key in self._weights if not addresses.isdisjoint(key)]:
            del self._weights[key]
            for address in key:
                self.places.pop(address, None)

    def operand(self, tensor):
        narrow = self.empty(*tensor.shape)
        if tensor.size:
            loops.narrow(array(tensor, tensor.size), array(narrow, tensor.size))
        return narrow

    def weight(self, weight):
        return self._kept((weight,), self.operand)

    def side_by_side(self, *weights):
        """One for all, the matrices next to each other: oneDNN is faster with it."""
        return [self._kept(weights, self._joined)]

    def _joined(self, *weights):
        joined, first = self.empty(weights[0].shape[0], sum(weight.shape[1] for weight in weights)), 0
        for weight in weights:
            loops.narrow_columns(array(weight), first, array(joined))
            first += weight.shape[1]
        return joined

    def _kept(self, weights, convert):
        key = tuple(weight.data_ptr() for weight in weights)
        if key not in self._weights:
            operand = convert(*weights)
            self._weights[key] = operand, weights  # which must live as long as their address is known
            start, columns = operand.data_ptr(), operand.shape[-1]
            for address, weight in zip(key, weights, strict=True):
                if address in self.places:
                    self.places[address] = None
                self.places.setdefault(address, (start, weight.shape[-1], columns))
                start += 2 * weight.shape[-1]
        return self._weights[key][0]


AS_FLOAT32 = Float32()
precision = contextvars.ContextVar("precision", default=AS_FLOAT32)  # what the next forward works in
