"""An encoder for inference: its weights packed once, in one piece of memory a layer, and one program a layer.

Nothing is kept for a backward. Texts go through all layers some at a time, so that memory has a bound. Products are of
float32, bfloat16, or 8-bit integers: weights with a scale for each column, what they meet with one for each row.

Dimension letters: B batch, L length, N = B·L, H heads of one kind, D head size, W = H·D, K convolution kernel, E hidden
size, I inner size.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from cpu import (
    compiler,
    inference_kernels,  # noqa: F401  (registers loops)
    products,
    steps,
)
from cpu.operands import contiguous, empty
from cpu.packing import Piece, packed
from cpu.programs import SIZES, Program, View, Way

TOKENS = 4096  # that go through the layers together
OPERANDS = {"float32": "float32", "bfloat16": "bfloat16", "int8": "uint8"}  # form → type of what weights meet
INNER = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16"}  # … of the feed-forward's inner product
ACTIVATIONS = "gelu", "relu"


class Encoder:
    """Layers, packed: a change of their weights is not seen.

    Args:
        layers: of layers.inference.Layer, all with weights of the same shapes.
        form: of OPERANDS.

    Raises:
        OSError: oneDNN, or a matrix library, is missing.
    """

    def __init__(self, layers, form):
        compiler.load(f"inference-{form}")
        products.sgemm()
        first = layers[0]
        library = _library(form)
        memories = [packed(layer, form, library) for layer in layers]
        self._memories = [memory.write() for memory in memories]
        self._views = tuple(memories[0].views.items())
        sizes = tuple(tuple(each.shape) for each in (*first.attention, *first.feed_forward))
        self._plan = Way(form, library), first.mixed, first.heads, first.activation, float(first.epsilon), sizes
        self._program = functools.lru_cache(steps.KEPT)(self._record)
        self._entrance = functools.lru_cache(steps.KEPT)(self._record_entrance)
        self._form = form

    def __call__(self, x, mask, real=None, every=False):
        """What each layer makes of x [B, L, E], a list; of all but the last one None unless `every`.

        mask: added to the scores, [1 or B, 1 or H, 1 or L, L]; real: None, or [B, L, 1], 0 at padding that the
        convolutions shall not see.
        """
        batch, length, hidden = x.shape
        x, mask = contiguous(x), contiguous(mask)
        real = None if real is None else contiguous(real)
        states = [empty(batch, length, hidden) for _ in (self._memories if every else [0])]
        together = max(1, TOKENS // length)
        row = 4 * length * hidden
        for first in range(0, batch, together):
            texts = min(together, batch - first)
            rows = texts * length
            several = mask.shape[0] > 1
            mask_shape = (texts if several else 1, *mask.shape[1:])
            program = self._program(texts, length, mask_shape, real is not None)
            mask_at = mask.data_ptr() + (4 * first * math.prod(mask.shape[1:]) if several else 0)
            real_at = () if real is None else (real.data_ptr() + 4 * first * length,)
            source = x.data_ptr() + first * row
            given = ()
            if self._form != "float32":  # whose rows are their own operands
                operand = np.empty(rows * hidden * SIZES[OPERANDS[self._form]], np.uint8)
                scales = np.ones(rows, np.float32)
                given = operand.ctypes.data, scales.ctypes.data
                self._entrance(rows, hidden).run_at(source, *given, 0)
            for index, memory in enumerate(self._memories):
                out = states[index if every else 0].data_ptr() + first * row
                program.run_at(memory.ctypes.data, source, out, mask_at, *real_at, *given, 0)
                source = out
        return states if every else [None] * (len(self._memories) - 1) + states

    def _record_entrance(self, rows, hidden):
        program = Program(self._plan[0], version=f"inference-{self._form}")
        (x,) = program.given((rows, hidden))
        operand, scales = program.given_as((OPERANDS[self._form], (rows, hidden)), ("float32", (rows,)))
        program.loop("enter", x, operand, scales)
        program.finish()
        return program

    def _record(self, texts, length, mask_shape, has_real):
        way, mixed, heads, activation, epsilon, sizes = self._plan
        rows, hidden = texts * length, sizes[-1][0]
        program = Program(way, rows, version=f"inference-{self._form}")
        weights = program.given_packed(dict(self._views))
        x, out, mask = program.given((rows, hidden), (rows, hidden), mask_shape)
        (real,) = program.given((rows,)) if has_real else (None,)
        ones = program.new(rows)
        program.loop("fill", ones, 1.0)
        operand = _Operand(x, ones)
        if self._form != "float32":
            operand = _Operand(*program.given_as((OPERANDS[self._form], (rows, hidden)), ("float32", (rows,))))
        recorder = _Recorder(program, weights, self._form, texts, length, heads, ones)
        joined = (recorder.mixed if mixed else recorder.attended)(x, operand, mask, real)
        middle = program.new(rows, hidden)
        between, last = operand, operand  # in its place, as it is not needed any more
        if self._form == "float32":
            between, last = _Operand(middle, ones), _Operand(out, ones)
        recorder.end("out", joined, x, "norm1", epsilon, middle, between)
        if activation == "gelu" and way.library == "onednn" and self._form != "int8":  # faster than a pass of its own
            active = _Operand(recorder.product("inner", between, INNER[self._form], gelu=True), ones)
        else:
            inner = recorder.product("inner", between, INNER[self._form])
            active = recorder.operand_of(inner)
            program.loop(activation, inner, between.scales, weights["inner_bias"], *active)
        recorder.end("outer", active, middle, "norm2", epsilon, out, last)
        program.finish()
        return program


class _Operand(NamedTuple):
    """What a product takes, and what its rows are to be multiplied by."""

    rows: View
    scales: View


class _Recorder:
    """The parts that a layer's program is made of."""

    def __init__(self, program, packed, form, texts, length, heads, ones):
        self.program, self.packed, self.form, self.ones = program, packed, form, ones
        self.texts, self.length, self.heads = texts, length, heads
        self.rows = texts * length

    def product(self, name, operand, type="float32", gelu=False):
        """The operand times a packed weight, of whose parts, if there are several, each takes some columns.

        gelu: of that and the bias, not for integers.
        """
        groups = self._groups(name)
        out = self.program.new(self.rows, sum(parts[0].shape[1] for parts in groups), type=type)
        first = column = 0
        for i, parts in enumerate(groups):
            target = out.columns(column, column + parts[0].shape[1])
            for part in parts:
                rows = operand.rows.columns(first, first + part.shape[0])
                if self.program.way.library == "paddle":
                    self.program.multiply(rows, part, target)
                elif self.form == "int8":
                    others = self.packed[f"{name}{i} offset"], self.packed[f"{name}{i} scales"]
                    self.program.multiply_packed(rows, part, target, *others)
                else:
                    last, bias = gelu and part is parts[-1], None
                    if last:
                        bias = self.packed[f"{name}_bias"].columns(column, column + target.shape[1])
                    self.program.multiply_packed(rows, part, target, bias, add=part is not parts[0], gelu=last)
                first += part.shape[0]
            column += parts[0].shape[1]
        return out

    def _groups(self, name):
        """The pieces of a packed weight: for each group, one or several that take some of the columns they meet."""
        groups = {}
        for key, view in self.packed.items():
            if isinstance(key, Piece) and key.name == name:
                groups.setdefault(key.group, []).append(view)
        return list(groups.values())

    def operand_of(self, rows):
        """An operand for these rows, to be written: the same memory where they are their own."""
        if rows.type == OPERANDS[self.form]:
            return _Operand(rows, self.ones)
        scales = self.program.new(self.rows) if self.form == "int8" else self.ones
        return _Operand(self.program.new(*rows.shape, type=OPERANDS[self.form]), scales)

    def attended(self, x, operand, mask, real):
        """Self-attention alone: an operand [N, W]."""
        projections = self.product("projecting", operand)
        context = self.attend(projections, operand, mask)
        joined = self.operand_of(context)
        if joined.rows is not context:
            self.program.loop("enter", context, *joined)
        return joined

    def attend(self, projections, operand, mask):
        width = projections.shape[1] // (4 if "taps" in self.packed else 3)
        size = width // self.heads
        context = self.program.new(self.rows, width)
        self.program.loop(
            "attend_whole", products.sgemm(), projections, operand.scales, self.packed["projecting_bias"], mask,
            size**-0.5, self.length, self.heads, size, context,
        )  # fmt: skip
        return context

    def mixed(self, x, operand, mask, real):
        """Self-attention beside span-based dynamic convolution: an operand [N, 2·W]."""
        program, packed, real = self.program, self.packed, self.ones if real is None else real
        filtered = program.new(*x.shape)
        local = self.operand_of(filtered)
        program.loop(
            "depthwise", x.reshape(self.texts, self.length, x.shape[1]), real, packed["taps"], filtered, *local
        )
        span = self.product("span", local)
        projections = self.product("projecting", operand)
        context = self.attend(projections, operand, mask)
        program.loop(
            "span_and_values", projections, operand.scales, packed["projecting_bias"], span, local.scales,
            packed["span_bias"], real,
        )  # fmt: skip
        kernels = program.new(self.rows, packed["kernel_weight"].shape[1])
        program.multiply(span, packed["kernel_weight"], kernels)
        width = context.shape[1]
        both = program.new(self.rows, 2 * width)
        joined, size = self.operand_of(both), width // self.heads
        program.loop(
            "join_halves", context, kernels, packed["kernel_bias"],
            projections.reshape(self.texts, self.length, 4 * self.heads, size),
            both.reshape(self.texts, self.length, 2 * self.heads, size), *joined,
        )  # fmt: skip
        return joined

    def end(self, name, operand, residual, norm, epsilon, out, next):
        """What ends half a layer: a product, the residual, LayerNorm; and the next product's operand."""
        product, packed = self.product(name, operand), self.packed
        norms = packed[f"{norm}_weight"], packed[f"{norm}_shift"]
        self.program.loop(
            "add_norm", product, operand.scales, packed[f"{name}_bias"], residual, *norms, epsilon, out, *next
        )


def _library(form):
    """What multiplies: oneDNN, which alone can pack weights; float32 by Paddle's library where that is forced."""
    if form == "float32" and (products.forced() == "paddle" or products.obstacle()):
        return "paddle"
    return "onednn"
