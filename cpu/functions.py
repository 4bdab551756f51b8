"""The CPU's path of `layers.functions`: the same functions as one forward and one hand-written backward each.

Between the matrix products, which are in `products`, run compiled loops on the tensors' own memory. What backward needs
is kept with `save_for_backward`, so that recompute can release it. Gradients of gradients are not supported;
CONVBERT_KERNELS=paddle has them.

Dimension letters: B batch, L length, N = B·L, E hidden size.
"""

import numpy as np
import paddle
from paddle.autograd import PyLayer

from cpu.loops import loops
from cpu.operands import (
    AS_FLOAT32,
    array,
    contiguous,
    draw_dropout,
    empty,
    partial_sums,
    precision,
    summed,
    token_rows,
)
from cpu.products import matmul, product, product_backward
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


def add_norm(inner, weight, bias, residual, norm_weight, norm_bias, epsilon, dropout):
    """LayerNorm(residual + dropout(inner @ weight + bias)), all [N, E]. → result, normalised values, 1 / deviations."""
    normal = product(inner, weight)
    out, scales = paddle.empty_like(normal), empty(normal.shape[0])
    loops.dropout_add_norm(
        array(normal), array(bias), array(residual), array(norm_weight), array(norm_bias), np.float32(epsilon),
        *dropout, array(out), array(scales),
    )  # fmt: skip
    return out, normal, scales


def add_norm_backward(form, d_out, inner, weight, norm_weight, normal, scales, dropout, dtype="float32"):
    """→ gradients of inner, in `dtype`, of the residual, and of (weight, bias, norm_weight, norm_bias)."""
    d_y, d_residual, sums = form.empty(*normal.shape), paddle.empty_like(normal), partial_sums(3, normal.shape[1])
    form.loops.dropout_add_norm_backward(
        array(normal), array(scales), array(norm_weight), array(d_out), *dropout, array(d_y), array(d_residual), sums
    )
    d_inner, d_weight = product_backward(inner, weight, d_y, dtype)
    d_norm_weight, d_norm_bias, d_bias = summed(sums)
    return d_inner, d_residual, (d_weight, d_bias, d_norm_weight, d_norm_bias)


ACTIVATIONS = {  # those of layers.functions that have loops → bias and activation, the same in place, their backward
    "gelu": ("bias_gelu", "bias_gelu_in_place", "bias_gelu_backward"),
    "relu": ("bias_relu", "bias_relu_in_place", "bias_relu_backward"),
}


def attend(form, query, key, value, mask, dropout):
    """softmax(query · key + mask) and its dropout over value, all [B, H, L, D]; query is scaled already.

    Returns the context [B, H, L, D], and what attend_backward needs: the probabilities before and after dropout.
    """
    probabilities = matmul(query, key, transpose_b=True)  # [B, H, L, L]
    kept = probabilities
    if dropout.threshold or form is not AS_FLOAT32:
        kept = form.empty(*probabilities.shape)
        form.loops.softmax_dropout(array(probabilities), array(mask), *dropout, array(kept))
    else:
        loops.softmax(array(probabilities), array(mask))
    return matmul(kept, value), probabilities, kept


def attend_backward(form, d_context, query, key, value, probabilities, kept, dropout):
    """→ gradients of query, key and value, in float32. d_context: an operand [B, H, L, D]."""
    d_value = matmul(kept, d_context, transpose_a=True)
    d_scores = matmul(d_context, value, transpose_b=True, dtype=form.dtype)
    form.loops.softmax_dropout_backward(array(probabilities), *dropout, array(d_scores))
    return matmul(d_scores, key), matmul(d_scores, query, transpose_a=True), d_value


def feed_forward(x, weights, activation, epsilon, dropout, training):
    dropout = draw_dropout(dropout, training)
    differentiable = is_differentiable(x, *weights)
    return FusedFeedForward.apply(x, *weights, ACTIVATIONS[activation], epsilon, dropout, differentiable)


class FusedFeedForward(PyLayer):
    """layers.functions.feed_forward."""

    @staticmethod
    def forward(
        ctx, x, weight1, bias1, weight2, bias2, norm_weight, norm_bias, loop_names, epsilon, dropout, differentiable
    ):
        ctx.needs = needs_of(x, weight1, bias1, weight2, bias2, norm_weight, norm_bias)
        form = ctx.form = precision.get()
        ctx.dropout, ctx.loop_names, shape = dropout, loop_names, x.shape
        residual = token_rows(x)
        x, weight1, weight2 = form.operand(residual), form.weight(weight1), form.weight(weight2)
        before = inner = product(x, weight1, form.dtype)
        if differentiable:
            inner = form.empty(*before.shape)
            getattr(form.loops, loop_names[0])(array(before), array(bias1), array(inner))
        else:
            getattr(form.loops, loop_names[1])(array(inner), array(bias1))
        out, normal, scales = add_norm(inner, weight2, bias2, residual, norm_weight, norm_bias, epsilon, dropout)
        if differentiable:
            ctx.save_for_backward(x, weight1, before, bias1, inner, weight2, norm_weight, normal, scales)
        return out.reshape(shape)

    @staticmethod
    def backward(ctx, d_out):
        x, weight1, before, bias1, inner, weight2, *norm = ctx.saved_tensor()
        form, rows = ctx.form, token_rows(d_out)
        d_inner, d_residual, d_tail = add_norm_backward(form, rows, inner, weight2, *norm, ctx.dropout, form.dtype)
        sums = partial_sums(before.shape[1])
        getattr(form.loops, ctx.loop_names[2])(array(before), array(bias1), array(d_inner), sums)
        d_x, d_weight1 = product_backward(x, weight1, d_inner)
        loops.add(array(d_x), array(d_residual))
        return wanted(ctx.needs, d_x.reshape(d_out.shape), d_weight1, summed(sums), *d_tail)
