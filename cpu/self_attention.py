"""The CPU's path of `family.self_attention`: forward and a hand-written backward, with loops between the products.

Dimension letters: B batch, L length, N = B·L, H heads, D head size, E = H·D hidden size.
"""

import numpy as np
from paddle.autograd import PyLayer

from cpu.functions import (
    add_norm,
    add_norm_backward,
    attend,
    attend_backward,
    is_differentiable,
    needs_of,
    wanted,
)
from cpu.loops import loops
from cpu.operands import array, draw_dropout, partial_sums, precision, summed, token_rows
from cpu.products import product, product_backward


def self_attention(x, mask, weights, heads, epsilon, attention_dropout, dropout, training):
    dropouts = draw_dropout(attention_dropout, training), draw_dropout(dropout, training)
    differentiable = is_differentiable(x, *weights)
    return FusedSelfAttention.apply(x, mask, *weights, heads, epsilon, *dropouts, differentiable)


class FusedSelfAttention(PyLayer):
    """family.self_attention.SelfAttention.forward, with the half layer's dropout, residual and LayerNorm."""

    @staticmethod
    def forward(
        ctx, x, mask, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, out_weight, out_bias,
        norm_weight, norm_bias, heads, epsilon, attention_dropout, dropout, differentiable,
    ):  # fmt: skip
        ctx.needs = needs_of(
            x, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, out_weight, out_bias,
            norm_weight, norm_bias,
        )  # fmt: skip
        form = ctx.form = precision.get()
        batch, length, hidden = x.shape
        size = hidden // heads
        residual = token_rows(x)
        rows = form.operand(residual)

        # Query, key and value as one product.
        weight = form.weight(query_weight, key_weight, value_weight)
        bias = np.concatenate([array(b) for b in (query_bias, key_bias, value_bias)])
        projections = product(rows, weight)  # [N, 3·E]
        query, key, value = (form.empty(batch, heads, length, size) for _ in range(3))
        form.loops.split_three(
            array(projections, batch, length, 3 * heads, size), bias, np.float32(size**-0.5), array(query), array(key),
            array(value),
        )  # fmt: skip
        projections = None

        by_head, *shares = attend(form, query, key, value, mask, attention_dropout)
        context = form.empty(*rows.shape)
        form.loops.merge_heads(array(by_head), array(context, batch, length, heads, size))
        by_head = None  # what is done with makes room for the rest
        if not differentiable:
            query = key = value = shares = None

        out_weight = form.weight(out_weight)
        out, *norm = add_norm(context, out_weight, out_bias, residual, norm_weight, norm_bias, epsilon, dropout)
        ctx.dropouts = attention_dropout, dropout
        if differentiable:
            ctx.save_for_backward(rows, weight, query, key, value, *shares, context, out_weight, norm_weight, *norm)
        return out.reshape(x.shape)

    @staticmethod
    def backward(ctx, d_out):
        rows, weight, query, key, value, *shares, context, out_weight, norm_weight, normal, scales = ctx.saved_tensor()
        form, (attention_dropout, dropout) = ctx.form, ctx.dropouts
        batch, heads, length, size = query.shape

        d_merged, d_x, d_tail = add_norm_backward(
            form, token_rows(d_out), context, out_weight, norm_weight, normal, scales, dropout
        )
        d_context = form.empty(*query.shape)
        form.loops.take_heads(array(d_merged, batch, length, heads, size), array(d_context))
        d_query, d_key, d_value = attend_backward(form, d_context, query, key, value, *shares, attention_dropout)

        d_projections, sums = form.empty(rows.shape[0], 3 * rows.shape[1]), partial_sums(3 * rows.shape[1])
        form.loops.join_three(
            array(d_query), array(d_key), array(d_value), np.float32(size**-0.5),
            array(d_projections, batch, length, 3 * heads, size), sums,
        )  # fmt: skip
        d_rows, d_weight = product_backward(rows, weight, d_projections)
        loops.add(array(d_x), array(d_rows))  # d_x holds the residual's
        pairs = zip(d_weight.split(3, axis=1), summed(sums).split(3), strict=True)
        d_projected = [gradient for pair in pairs for gradient in pair]
        gradients = wanted(ctx.needs, d_x.reshape(d_out.shape), *d_projected, *d_tail)
        return gradients[0], None, *gradients[1:]  # the mask gets none
