"""Programs: the loops and products of half a layer, recorded once for given shapes, then run as one compiled call.

A program is recorded like this, and kept by its caller:

    program = Program(way)
    x, weight, bias, out = program.given((rows, inner), (inner, columns), (columns,), (rows, columns))
    product = program.new(rows, columns)
    program.multiply(x, weight, product)
    program.loop("bias_gelu", product, bias, out)
    program.finish()

and run with what is given, in that order: program.run(x, weight, bias, out), tensors or numbers. Memory that it needs
in between lies in one arena that all programs share; two pieces which are never needed at the same time share a place.
What a later program goes on with is kept in a tensor of its own: finish(name=…) and `recalled`.

At any time one program runs: the arena, and the words that its steps read, are one thread's.
"""

import contextlib
import ctypes
import itertools
import math
from typing import NamedTuple

import numpy as np
import paddle

from cpu import compiler, onednn, products
from cpu.loops import loops
from cpu.onednn import BFLOAT16, FLOAT32, INT8, UINT8, Matrix
from cpu.product_kernels import ACROSS, PLAIN

ALIGNMENT = 64  # bytes of a cache line
RECORDED_BETWEEN_TRIMS = 16  # programs, of which a new shape of batches takes 4
SIZES = {"float32": 4, "bfloat16": 2, "int64": 8, "int8": 1, "uint8": 1}
TYPES = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int8": INT8, "uint8": UINT8}
SCRATCH = 0  # the first of a run's addresses

lock = onednn.lock  # for what runs: programs' memory, and primitives' own


class Way(NamedTuple):
    """How products are made: a part of what a program is recorded for."""

    dtype: str  # of their operands
    library: str  # of float32 products, of products.WAYS

    @property
    def keeps_inputs(self):
        """Whether an input is its own operand, so that backward needs it, and not what was made of it."""
        return self.dtype == "float32"


class _Memory:
    """Some bytes that a run's steps work on: where its addresses begin to count, and when it is in use."""

    def __init__(self, size, base):
        self.size, self.base, self.offset = size, base, 0
        self.first = self.last = None  # steps


class View(NamedTuple):
    """A matrix, a batch of matrices, or an array, in a memory. Strides and start count elements."""

    memory: _Memory
    type: str
    start: int
    shape: tuple
    strides: tuple

    @property
    def t(self):
        """The matrices transposed."""
        *batch, rows, columns = self.shape
        *steps, down, across = self.strides
        return self._replace(shape=(*batch, columns, rows), strides=(*steps, across, down))

    def reshape(self, *shape):
        if self.strides != contiguous_strides(self.shape) or math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"{self.shape} with strides {self.strides} as {shape}")
        return self._replace(shape=shape, strides=contiguous_strides(shape))

    def columns(self, first, last):
        """Some columns of a matrix, or elements of a row, where they lie."""
        return self._replace(start=self.start + first * self.strides[-1], shape=(*self.shape[:-1], last - first))

    @property
    def address(self):
        """Bytes from where its memory's addresses begin to count."""
        return self.memory.offset + self.start * SIZES[self.type]

    def require(self, kind, name):
        """Raises TypeError: not what the loop `name` takes as an array of that numba type."""
        wanted = str(kind.dtype) == _NUMBA[self.type] and kind.ndim == len(self.shape)
        if not wanted or self.strides != contiguous_strides(self.shape):
            raise TypeError(f"{name}: {self.type} {self.shape} with strides {self.strides} for {kind}")

    def groups(self, count):
        """[N, G·I] as G matrices [N, I], where they lie."""
        rows, columns = self.shape
        size = columns // count
        return self._replace(shape=(count, rows, size), strides=(size * self.strides[1], *self.strides))


class _Number(NamedTuple):
    """A number that a run is given."""

    base: int


def contiguous_strides(shape):
    strides = [1]
    for length in reversed(shape[1:]):
        strides.insert(0, strides[0] * length)
    return tuple(strides[: len(shape)])


class Program:
    """See above.

    rows: how many tokens a run is for, which the same primitives serve in any number. version: of loops, where
    there is one, instead of the way's.
    """

    def __init__(self, way, rows=None, version=None):
        self.way, self.rows = way, rows
        version = version or way.dtype
        self._version = loops if version == "float32" else compiler.load(version)
        self._steps = []  # (loop, arguments)
        self._memories = []  # of this program alone
        self._sizes = []  # elements of what a run is given; None: a number
        self._status = self._view(_Memory(8, None), "int64", (1,))  # its place is known at the end
        self._alive = []  # what addresses in words belong to
        self.kept = {}  # name → View in the memory that a run keeps

    # ------------------------------------------------------------------------------------------------------- recording

    def given(self, *shapes, operands=()):
        """What a run is given, contiguous: a View for every shape; None for None, which takes no place in a run.

        operands: indices of those that are what products take; the others are float32.
        """
        types = (self.way.dtype if i in operands else "float32" for i in range(len(shapes)))
        return [None if shape is None else self._given(type, shape) for type, shape in zip(types, shapes, strict=True)]

    def _given(self, type, shape):
        self._sizes.append(math.prod(shape))
        return self._view(_Memory(None, len(self._sizes)), type, shape)

    def given_as(self, *pairs):
        """The same for pairs of type and shape."""
        return [self._given(type, shape) for type, shape in pairs]

    def given_numbers(self, count):
        first = len(self._sizes) + 1
        self._sizes += [None] * count
        return [_Number(first + i) for i in range(count)]

    def recalled(self, program):
        """What another program kept, by name: in the memory that a run is given next."""
        self._sizes.append(program.kept_size)
        memory = _Memory(None, len(self._sizes))
        return {
            name: view._replace(memory=memory, start=view.start + view.memory.offset // SIZES[view.type])
            for name, view in program.kept.items()
        }

    def given_packed(self, views):
        """A memory that holds some views, whose starts are where they lie in it: name → View."""
        self._sizes.append(None)
        memory = _Memory(None, len(self._sizes))
        return {name: view._replace(memory=memory) for name, view in views.items()}

    def new(self, *shape, type="float32"):
        """Memory for this program alone."""
        memory = _Memory(math.prod(shape) * SIZES[type], SCRATCH)
        self._memories.append(memory)
        return self._view(memory, type, shape)

    @staticmethod
    def _view(memory, type, shape):
        return View(memory, type, 0, tuple(shape), contiguous_strides(shape))

    def new_operand(self, *shape):
        """The same for what products take."""
        return self.new(*shape, type=self.way.dtype)

    def sums(self, *shape):
        """Memory for partial sums over rows, of kernels that make PARTS of them."""
        return self.new(compiler.PARTS, *shape)

    def loop(self, name, *arguments, wide=False):
        """A step: a loop of this way's version, where it has one. wide: the float32 version in any case."""
        found = None if wide else getattr(self._version, name, None)
        self._steps.append((found or getattr(loops, name), arguments))

    def operand(self, x):
        """float32 x, contiguous, as what products take."""
        if self.way.dtype == "float32":
            return x
        size, narrow = math.prod(x.shape), self.new_operand(*x.shape)
        self.loop("narrow", x.reshape(size), narrow.reshape(size))
        return narrow

    def total(self, sums, *outs):
        """Partial sums [P, …] of some vectors next to each other → each of the vectors."""
        sums, first = sums.reshape(sums.shape[0], math.prod(sums.shape[1:])), 0
        for out in outs:
            size = math.prod(out.shape)
            self.loop("sum_parts", sums, first, out.reshape(size))
            first += size

    def multiply(self, a, b, out, add=False, changing=()):
        """out = a @ b; add: out += a @ b. Matrices, or batches of them, with any strides that rows or columns have.

        A weight b of G groups [G, I, O] may come with a and out without a batch, [N, G·I] and [N, G·O]. changing: of
        batches, the lengths that programs for other batches have others in the place of.
        """
        lengths = {self.rows} if len(a.shape) == 2 else {*changing}
        if len(b.shape) == 3 and len(a.shape) == 2:
            a, out = a.groups(b.shape[0]), out.groups(b.shape[0])
        if a.type == "float32" and self.way.library == "paddle":
            self._by_library(a, b, out, add)
            return
        inner = a.shape[-1]
        parts = math.ceil(inner / products.LONGEST_SUM) if a.type == "float32" and len(a.shape) == 2 else 1
        size = math.ceil(inner / parts)
        for first in range(0, inner, size):
            last = min(first + size, inner)
            changing = lengths | {last - first} if inner in lengths else lengths
            self._by_onednn(a.columns(first, last), b.t.columns(first, last).t, out, add or first > 0, changing)

    def multiply_backward(self, a, b, d_out, d_a, d_b, add=False):
        """Gradients of out = a @ b, as `multiply` takes them. add: d_a is added to."""
        self.multiply(d_out, b.t, d_a, add)
        if len(b.shape) == 3 and len(a.shape) == 2:
            a, d_out = a.groups(b.shape[0]), d_out.groups(b.shape[0])
        self.multiply(a.t, d_out, d_b)

    def _by_library(self, a, b, out, add):
        (*batch, m, k), n = a.shape, b.shape[-1]
        sides = []
        for side in (a, b, out):
            across = side.strides[-1] != 1 and side.shape[-1] != 1
            row = side.strides[-1] if across else side.strides[-2]
            row = max(row, side.shape[-2] if across else side.shape[-1])  # of a single one any, but none too short
            sides.append((side, ACROSS if across else PLAIN, row, side.strides[0] if batch else 0))
        first, second, (c, across, row, step) = sides
        if across != PLAIN:
            raise ValueError("a product's result must lie row by row")
        count = batch[0] if batch else 1
        self.loop("library_product", products.sgemm(), count, m, n, k, *first, *second, float(add), c, row, step)

    def _by_onednn(self, a, b, out, add, lengths):
        """By a primitive that is made once for all batches; lengths: those of other batches are others."""
        matrices = [Matrix(0, TYPES[side.type], side.shape, side.strides).plain for side in (a, b, out)]
        general = matrices
        if 1 not in lengths:  # of which the strides are others
            general = [each.for_any(lengths) for each in matrices]
        library = onednn.load()
        primitive, operands = library.primitive(*general, add=add), library.operands(*matrices)
        self._product(primitive, operands, [a, b, out])

    def multiply_packed(self, a, b, out, bias=None, scales=None, **on_top):
        """out = a @ b for a weight b of OneDNN.pack, and what OneDNN.primitive makes of that."""
        matrices = [Matrix(0, TYPES[side.type], side.shape, side.strides).plain for side in (a, out)]
        matrices.insert(1, Matrix(0, TYPES[b.type], b.shape, None))
        columns, library = b.shape[1], onednn.load()
        shapes = (bias, (1, columns)), (scales, (columns,))
        matrices += [Matrix(0, FLOAT32, shape, contiguous_strides(shape)) for view, shape in shapes if view is not None]
        views = [view for view in (a, b, out, bias, scales) if view is not None]
        self._product(library.primitive(*matrices, **on_top), library.operands(*matrices), views)

    def _product(self, primitive, operands, views):
        self._alive += primitive, operands
        pairs = [(memory.value, view) for memory, view in zip(operands.memories, views, strict=True)]
        pairs += [(0, 0)] * (5 - len(pairs))
        words = onednn.load().words(primitive, operands)
        self.loop("onednn_product", self._status, *words, len(views), *(each for pair in pairs for each in pair))

    # --------------------------------------------------------------------------------------------------------- running

    def finish(self, **kept):
        """Ends the recording. kept: views that shall outlive a run, in the memory that it returns."""
        self.kept, self.kept_size = kept, 0
        kept_base, self._status.memory.base = len(self._sizes) + 1, len(self._sizes) + 2
        for memory in self._memories:
            if any(view.memory is memory for view in kept.values()):
                memory.base, memory.offset = kept_base, self.kept_size
                self.kept_size += _aligned(memory.size)
        for step, (_, arguments) in enumerate(self._steps):
            for argument in arguments:
                if isinstance(argument, View):
                    memory = argument.memory
                    memory.first, memory.last = step if memory.first is None else memory.first, step
        self.kept_size = _rounded(self.kept_size)
        self._scratch_size = _arrange([m for m in self._memories if m.base == SCRATCH and m.first is not None])
        self._link()
        self._steps = self._memories = None
        if next(_recorded) % RECORDED_BETWEEN_TRIMS == 0:
            _trim()

    def _link(self):
        """Steps → the arrays that `run` of program_kernels reads."""
        functions, firsts, words, places = [], [], [], []
        for loop, arguments in self._steps:
            functions.append(loop.address)
            firsts.append(len(words))
            for kind, argument in zip(loop.kinds, arguments, strict=True):
                if isinstance(argument, View):
                    places.append((len(words), argument.memory.base, argument.address))
                    words.append(0)
                    if isinstance(kind, compiler.types.Array):
                        argument.require(kind, loop.name)
                        words += argument.shape
                elif isinstance(argument, _Number):
                    places.append((len(words), argument.base, 0))
                    words.append(0)
                else:
                    words += compiler.calls.words_of([kind], [argument])
        self._failed = np.zeros(1, np.int64)
        self._addresses = np.zeros(len(self._sizes) + 3, np.int64)  # of the arena, what is given, what is kept, status
        columns = np.ascontiguousarray(np.array(places, np.int64).T)
        tables = np.array(functions), np.array(firsts), np.array(words), *columns, self._addresses
        self._alive += tables
        self._run_words = np.array(loops.run.words(*tables))

    def run(self, *given):
        """One call. given: contiguous tensors and numbers as `given` declared them.

        Returns the memory that is kept, a tensor of bytes; None: nothing is. Raises ValueError: tensors of other sizes
        are given; OSError: oneDNN failed.
        """
        if [None if type(each) is int else math.prod(each.shape) for each in given] != self._sizes:
            raise ValueError("given are other sizes than recorded")
        kept = paddle.empty([self.kept_size], "uint8") if self.kept_size else None
        places = [each if type(each) is int else each.data_ptr() for each in given]
        self.run_at(*places, kept.data_ptr() if self.kept_size else 0)
        return kept

    def run_at(self, *places):
        """The same, unchecked: addresses and numbers of what is given and, after them, of what is kept or 0."""
        with lock:
            self._addresses[:] = _arena(self._scratch_size), *places, self._failed.ctypes.data
            loops.run.call(self._run_words)
            failed, self._failed[0] = int(self._failed[0]), 0
        if failed:
            raise OSError(f"oneDNN failed with status {failed}")


_NUMBA = {"float32": "float32", "bfloat16": "uint16", "int64": "int64", "int8": "int8", "uint8": "uint8"}

_recorded = itertools.count(1)


def _trim():
    """Gives memory that lies free in between back to the system: ever new shapes leave holes of all sizes."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _aligned(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


def _rounded(size):
    """Up to a number of three binary digits: memory of few sizes is used again, of many it falls to pieces."""
    unit = 1 << max(0, size.bit_length() - 3)
    return -(-size // unit) * unit


def _arrange(memories):
    """Gives memories their offsets, the largest first, each the lowest where no other is in use while it is.

    Returns the size of all.
    """
    placed, end = [], 0
    for memory in sorted(memories, key=lambda each: -each.size):
        beside = [m for m in placed if m.first <= memory.last and memory.first <= m.last]
        for other in sorted(beside, key=lambda each: each.offset):
            if other.offset - memory.offset >= memory.size:
                break
            memory.offset = max(memory.offset, other.offset + _aligned(other.size))
        placed.append(memory)
        end = max(end, memory.offset + _aligned(memory.size))
    return end


_scratch = np.empty(0, np.uint8)


def _arena(size):
    """The address of that many bytes, at a cache line's beginning; the same every time."""
    global _scratch
    if size + ALIGNMENT > _scratch.size:
        _scratch = np.empty(size + ALIGNMENT, np.uint8)
    return _aligned(_scratch.ctypes.data)
