"""The CPU's path of `layers.functions`: the same functions as one forward and one hand-written backward each.

Between the matrix products, which are in `products`, run compiled loops on the tensors' own memory. What backward needs
is kept with `save_for_backward`, so that recompute can release it. Gradients of gradients are not supported;
CONVBERT_KERNELS=paddle has them.

Dimension letters: B batch, L length, N = B·L, E hidden size.
"""

import functools
import math

import numpy as np
import paddle
from paddle.autograd import PyLayer

from cpu import steps
from cpu.loops import loops
from cpu.operands import (
    array,
    contiguous,
    draw_dropout,
    draw_keys,
    empty,
    partial_sums,
    precision,
    summed,
    token_rows,
)
from cpu.products import product, product_backward
from cpu.programs import Program
from files.errors import InputError


def needs_of(*inputs):
    """Which inputs want a gradient."""
    return [not tensor.stop_gradient for tensor in inputs]


def is_differentiable(*inputs):
    """Whether backward can come. To be asked before `apply`: in a PyLayer's forward gradients are always off."""
    return paddle.is_grad_enabled() and any(needs_of(*inputs))


def wanted(needs, *gradients):
    return tuple(gradient if need else None for need, gradient in zip(needs, gradients, strict=True))


class FusedLinear(PyLayer):
    """layers.functions.linear."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.shape, ctx.needs = x.shape, needs_of(x, weight, bias)
        form = ctx.form = precision.get()
        rows, weight = form.operand(x.reshape([-1, x.shape[-1]])), form.weight(weight)
        out = product(rows, weight)
        loops.add_bias(array(out), array(bias))
        ctx.save_for_backward(rows, weight)
        return out.reshape([*x.shape[:-1], -1])

    @staticmethod
    def backward(ctx, d_out):
        x, weight = ctx.saved_tensor()
        d_out = token_rows(d_out)
        sums = partial_sums(d_out.shape[1])
        loops.column_sums(array(d_out), sums)
        d_x, d_weight = product_backward(x, weight, ctx.form.operand(d_out))
        return wanted(ctx.needs, d_x.reshape(ctx.shape), d_weight, summed(sums))


def embeddings(ids, positions, types, words, places, kinds, norm_weight, norm_bias, pad_id, epsilon, dropout, training):
    ids = contiguous(ids.astype("int64"))
    positions = paddle.arange(ids.shape[1]) if positions is None else positions.astype("int64")
    positions = contiguous(positions.expand_as(ids))
    types = paddle.zeros_like(ids) if types is None else contiguous(types.astype("int64"))
    for indices, table in ((ids, words), (positions, places), (types, kinds)):
        found = array(indices)
        if found.size and not 0 <= found.min() <= found.max() < table.shape[0]:
            raise InputError(f"ids from {found.min()} to {found.max()} for an embedding of {table.shape[0]} rows")
    tables = words, places, kinds, norm_weight, norm_bias
    return FusedEmbeddings.apply(ids, positions, types, *tables, pad_id, epsilon, draw_dropout(dropout, training))


class FusedEmbeddings(PyLayer):
    """layers.functions.embeddings."""

    @staticmethod
    def forward(ctx, ids, positions, types, words, places, kinds, weight, bias, pad_id, epsilon, dropout):
        ctx.needs = needs_of(words, places, kinds, weight, bias)
        ctx.dropout, ctx.pad_id, ctx.shape = dropout, pad_id, (words.shape, places.shape, kinds.shape)
        size = ids.size, words.shape[1]
        out, normal, scales = empty(*ids.shape, words.shape[1]), empty(*size), empty(ids.size)
        indices = [array(t, ids.size) for t in (ids, positions, types)]
        loops.embeddings(
            *indices, array(words), array(places), array(kinds), array(weight), array(bias), np.float32(epsilon),
            *dropout, array(normal), array(out, *size), array(scales),
        )  # fmt: skip
        ctx.save_for_backward(ids, positions, types, weight, normal, scales)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *indices, weight, normal, scales = ctx.saved_tensor()
        d_out = token_rows(d_out)
        d_rows, sums = np.empty(d_out.shape, np.float32), partial_sums(2, d_out.shape[1])
        loops.embeddings_backward(array(normal), array(scales), array(weight), array(d_out), *ctx.dropout, d_rows, sums)
        tables = []
        for tensor, shape, ignored in zip(indices, ctx.shape, (ctx.pad_id, -1, -1), strict=True):
            table = paddle.zeros(shape, "float32")
            loops.scatter_add(array(tensor, len(d_rows)), d_rows, ignored, array(table))
            tables.append(table)
        d_weight, d_bias = summed(sums)
        return None, None, None, *wanted(ctx.needs, *tables, d_weight, d_bias)


ACTIVATIONS = {  # those of layers.functions that have loops → bias and activation, the same in place, their backward
    "gelu": ("bias_gelu", "bias_gelu_in_place", "bias_gelu_backward"),
    "relu": ("bias_relu", "bias_relu_in_place", "bias_relu_backward"),
}


def feed_forward(x, weights, activation, epsilon, dropout, training):
    form = precision.get()
    shapes = tuple(tuple(weight.shape) for weight in weights)
    rate = dropout if training else 0.0
    plan = steps.way_of(form), math.prod(x.shape[:-1]), shapes, activation, float(epsilon), rate
    return FusedFeedForward.apply(x, *weights, form, plan, draw_keys(rate), is_differentiable(x, *weights))


class FusedFeedForward(PyLayer):
    """layers.functions.feed_forward."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2, norm, shift, form, plan, keys, differentiable):
        out = empty(*x.shape)
        taken = [
            contiguous(x), form.weight(weight1), contiguous(bias1), form.weight(weight2),
            *map(contiguous, (bias2, norm, shift)),
        ]  # fmt: skip
        kept = _feed_forward(*plan, differentiable).run(*taken, out, *keys)
        if differentiable:
            ctx.needs = needs_of(x, weight1, bias1, weight2, bias2, norm, shift)
            ctx.plan, ctx.keys = plan, keys
            ctx.save_for_backward(*taken[not plan[0].keeps_inputs :], kept)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *taken, kept = ctx.saved_tensor()
        gradients = [empty(*d_out.shape), *(empty(*shape) for shape in ctx.plan[2])]
        _feed_forward_backward(*ctx.plan).run(*taken, contiguous(d_out), *gradients, *ctx.keys, kept)
        return wanted(ctx.needs, *gradients)


@functools.lru_cache(steps.KEPT)
def _feed_forward(way, rows, shapes, activation, epsilon, rate, keep):
    program = Program(way, rows)
    hidden, inner = shapes[5][0], shapes[1][0]
    x, weight1, bias1, weight2, bias2, norm, shift = program.given((rows, hidden), *shapes, operands=(1, 3))
    (out,) = program.given((rows, hidden))
    dropout = steps.dropout_of(program, rate)
    operand = program.operand(x)
    before = active = program.new_operand(rows, inner)
    program.multiply(operand, weight1, before)
    if keep:
        active = program.new_operand(rows, inner)
        program.loop(ACTIVATIONS[activation][0], before, bias1, active)
    else:
        program.loop(ACTIVATIONS[activation][1], before, bias1)
    normal, scales = steps.add_norm(program, active, weight2, bias2, x, norm, shift, epsilon, dropout, out)
    kept = {"before": before, "active": active, "normal": normal, "scales": scales}
    if not way.keeps_inputs:
        kept["operand"] = operand
    program.finish(**(kept if keep else {}))
    return program


@functools.lru_cache(steps.KEPT)
def _feed_forward_backward(way, rows, shapes, activation, epsilon, rate):
    forward = _feed_forward(way, rows, shapes, activation, epsilon, rate, True)
    program = Program(way, rows)
    hidden, inner = shapes[5][0], shapes[1][0]
    x, weight1, bias1, weight2, _, norm, _ = program.given(
        (rows, hidden) if way.keeps_inputs else None, *shapes, operands=(1, 3)
    )
    d_out, d_x, d_weight1, d_bias1, *d_tail = program.given((rows, hidden), (rows, hidden), *shapes)
    dropout = steps.dropout_of(program, rate)
    kept = program.recalled(forward)
    before, active = kept["before"], kept["active"]
    d_inner, sums = program.new_operand(rows, inner), program.sums(inner)
    steps.add_norm_backward(
        program, d_out, active, weight2, norm, kept["normal"], kept["scales"], dropout, d_inner, d_x, d_tail
    )
    program.loop(ACTIVATIONS[activation][2], before, bias1, d_inner, sums)
    program.multiply_backward(kept.get("operand", x), weight1, d_inner, d_x, d_weight1, add=True)
    program.total(sums, d_bias1)
    program.finish()
    return program
