"""Where the weights of an encoder's layer lie for inference: in one memory, those of products in oneDNN's own layout.

Dimension letters: K, N rows and columns of a weight, G groups.
"""

import ctypes
from typing import NamedTuple

import numpy as np

from cpu import onednn, products
from cpu.loops import loops
from cpu.onednn import Matrix
from cpu.operands import array, contiguous
from cpu.programs import ALIGNMENT, SIZES, TYPES, View, contiguous_strides

OFFSET = 128  # of operands of integers: what 0 is


class Piece(NamedTuple):
    """The name of a part of a weight."""

    name: str
    group: int
    part: int = 0


class Memory:
    """Where a layer's weights are to lie in one memory, and what writes them.

    Attributes:
        views: name → View of a memory that is not known yet.
    """

    def __init__(self, form, library):
        """form: of inference.OPERANDS; library: of programs.Way."""
        self.form, self.library, self.views, self._writers, self._size = form, library, {}, [], 0

    def _add(self, name, type, shape, size, write):
        start = self._size // SIZES[type]
        self.views[name] = View(None, type, start, tuple(shape), contiguous_strides(shape))
        self._writers.append((self._size, write))
        self._size += -(-size // ALIGNMENT) * ALIGNMENT

    def numbers(self, name, values):
        """float32 numbers as they are."""
        values = np.ascontiguousarray(values, np.float32)
        self._add(name, "float32", values.shape, values.nbytes, lambda at: _copy(values, at))

    def weight(self, name, *matrices):
        """Weights [K, N] of one product, side by side; or one [G, K, N], of G products."""
        groups = matrices[0] if matrices[0].ndim == 3 else [np.concatenate(matrices, axis=1)]
        for i, weight in enumerate(groups):
            if self.library == "paddle":
                self.numbers(Piece(name, i), weight)
            elif self.form == "float32":
                for part, first in enumerate(range(0, len(weight), products.LONGEST_SUM)):
                    self._pack(Piece(name, i, part), weight[first : first + products.LONGEST_SUM], "float32")
            elif self.form == "bfloat16":
                self._pack(Piece(name, i), _narrow(weight), "bfloat16")
            else:
                scales = np.abs(weight).max(axis=0) / np.float32(127)
                scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
                whole = np.rint(weight / scales).astype(np.int8)
                self._pack(Piece(name, i), whole, "int8")
                self.numbers(f"{name}{i} offset", -OFFSET * scales * whole.sum(axis=0, dtype=np.int32))
                self.numbers(f"{name}{i} scales", scales)

    def _pack(self, name, values, type):
        values = np.ascontiguousarray(values)
        matrix = Matrix(values.ctypes.data, TYPES[type], values.shape, contiguous_strides(values.shape)).plain
        size = onednn.load().packed_size(TYPES[type], values.shape)

        def write(address, _alive=values):
            onednn.load().pack(matrix, address)

        self._add(name, type, values.shape, size, write)

    def write(self):
        """The memory, an array of bytes that begins at a cache line."""
        whole = np.zeros(self._size + ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % ALIGNMENT
        memory = whole[start : start + self._size]
        for place, write in self._writers:
            write(memory.ctypes.data + place)
        self._writers = None
        return memory


def _copy(values, address):
    ctypes.memmove(address, values.ctypes.data, values.nbytes)


def _narrow(values):
    """float32 → the bits of bfloat16."""
    values = np.ascontiguousarray(values, np.float32)
    narrow = np.empty(values.shape, np.uint16)
    loops.narrow(values.reshape(-1), narrow.reshape(-1))
    return narrow


def packed(layer, form, library):
    """The Memory of a layers.inference.Layer."""
    memory = Memory(form, library)
    weights = [np.array(array(contiguous(each))) for each in layer.attention]
    memory.weight("projecting", *(weights[i] for i in ((0, 2, 4, 6) if layer.mixed else (0, 2, 4))))
    memory.numbers(
        "projecting_bias", np.concatenate([weights[i] for i in ((1, 3, 5, 7) if layer.mixed else (1, 3, 5))])
    )
    *_, out, out_bias, norm, shift = weights
    if layer.mixed:
        depthwise, pointwise, span_bias, kernel, kernel_bias = weights[8:13]
        memory.numbers("taps", np.concatenate([depthwise[:, 0].T, np.zeros((1, len(depthwise)), np.float32)]))
        memory.weight("span", pointwise.T)
        memory.numbers("span_bias", span_bias)
        memory.numbers("kernel_weight", kernel)
        memory.numbers("kernel_bias", kernel_bias.reshape(layer.heads, -1))
    memory.weight("out", out)
    for name, values in (("out_bias", out_bias), ("norm1_weight", norm), ("norm1_shift", shift)):
        memory.numbers(name, values)
    inner, inner_bias, outer, outer_bias, norm, shift = (np.array(array(contiguous(w))) for w in layer.feed_forward)
    memory.weight("inner", inner)
    memory.weight("outer", outer)
    names = "inner_bias", "outer_bias", "norm2_weight", "norm2_shift"
    for name, values in zip(names, (inner_bias, outer_bias, norm, shift), strict=True):
        memory.numbers(name, values)
    return memory
