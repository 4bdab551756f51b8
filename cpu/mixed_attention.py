"""The CPU's path of `modeling.MixedAttention`: forward and a hand-written backward, with loops between the products.

Dimension letters: B batch, L length, N = B·L, H heads of one kind, D head size, K convolution kernel, E hidden size.
"""

import numpy as np
import paddle
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
from cpu.operands import array, draw_dropout, empty, partial_sums, precision, summed, token_rows
from cpu.products import matmul, product, product_backward


def mixed_attention(x, mask, real, weights, heads, epsilon, attention_dropout, dropout, training):
    dropouts = draw_dropout(attention_dropout, training), draw_dropout(dropout, training)
    differentiable = is_differentiable(x, *weights)
    return FusedMixedAttention.apply(x, mask, real, *weights, heads, epsilon, *dropouts, differentiable)


class FusedMixedAttention(PyLayer):
    """modeling.MixedAttention.forward, with the half layer's dropout, residual and LayerNorm."""

    @staticmethod
    def forward(
        ctx, x, mask, real, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, conv_weight,
        conv_bias, depthwise, pointwise, span_bias, kernel_weight, kernel_bias, out_weight, out_bias, norm_weight,
        norm_bias, heads, epsilon, attention_dropout, dropout, differentiable,
    ):  # fmt: skip
        ctx.needs = needs_of(
            x, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, conv_weight, conv_bias,
            depthwise, pointwise, span_bias, kernel_weight, kernel_bias, out_weight, out_bias, norm_weight, norm_bias,
        )  # fmt: skip
        form = ctx.form = precision.get()
        batch, length, hidden = x.shape
        width = query_weight.shape[1]  # H·D
        size = width // heads
        residual = x.reshape([-1, hidden])
        rows = form.operand(residual)
        by_head = [batch, length, -1, size]

        # Query, key, value and convolution value as one product.
        weight = form.weight(query_weight, key_weight, value_weight, conv_weight)
        bias = np.concatenate([array(b) for b in (query_bias, key_bias, value_bias, conv_bias)])
        projections = product(rows, weight).reshape(by_head)  # [B, L, 4·H, D]

        # The span-aware key: a depthwise, then a pointwise convolution.
        taps = depthwise.shape[-1]
        local = x if real is None else x * real
        filtered = empty(*x.shape)
        loops.depthwise_conv(array(local), _tap_rows(depthwise), False, array(filtered))
        filtered, pointwise = form.operand(filtered.reshape([-1, hidden])), form.weight(pointwise)
        span = matmul(filtered, pointwise, transpose_b=True)  # [N, H·D]

        ones = np.ones(len(rows), np.float32) if real is None else array(real, len(rows))
        query, key, value = (form.empty(batch, heads, length, size) for _ in range(3))
        both = form.empty(*span.shape)  # query · span-aware key
        form.loops.split_heads(
            array(projections), bias, array(span), array(span_bias), ones, np.float32(size**-0.5), array(query),
            array(key), array(value), array(both),
        )  # fmt: skip
        if not differentiable:  # what is done with makes room for the rest
            local = filtered = span = None

        # Span-based dynamic convolution into one half of `mixed`, self-attention into the other.
        mixed = empty(batch, length, 2 * heads, size)
        kernel_weight = form.weight(kernel_weight)
        kernels = matmul(both, kernel_weight).reshape([batch, length, heads, -1])  # [B, L, H, K]
        loops.bias_softmax(array(kernels, len(rows), heads, taps), array(kernel_bias, heads, taps))
        loops.dynamic_conv(array(projections), array(kernels), array(mixed))
        if not differentiable:
            projections = kernels = both = None
        context, *shares = attend(form, query, key, value, mask, attention_dropout)
        loops.merge_heads(array(context), array(mixed))
        context = None
        if not differentiable:
            query = key = value = shares = None

        mixed, out_weight = form.operand(mixed.reshape([-1, 2 * width])), form.weight(out_weight)
        out, *norm = add_norm(mixed, out_weight, out_bias, residual, norm_weight, norm_bias, epsilon, dropout)
        ctx.dropouts = attention_dropout, dropout
        if differentiable:
            ctx.save_for_backward(
                rows, real, local, weight, projections, depthwise, filtered, pointwise, span, query, key, value, both,
                kernels, kernel_weight, *shares, mixed, out_weight, norm_weight, *norm,
            )  # fmt: skip
        return out.reshape(x.shape)

    @staticmethod
    def backward(ctx, d_out):
        (
            rows, real, local, weight, projections, depthwise, filtered, pointwise, span, query, key, value, both,
            kernels, kernel_weight, probabilities, kept, mixed, out_weight, *norm,
        ) = ctx.saved_tensor()  # fmt: skip
        form, (attention_dropout, dropout) = ctx.form, ctx.dropouts
        batch, length, heads, taps = kernels.shape
        hidden, width = rows.shape[-1], span.shape[1]
        ones = np.ones(batch * length, np.float32) if real is None else array(real, batch * length)

        d_mixed, d_x, d_tail = add_norm_backward(form, token_rows(d_out), mixed, out_weight, *norm, dropout)
        d_mixed = d_mixed.reshape([batch, length, 2 * heads, -1])

        # Self-attention.
        d_context = form.empty(*query.shape)
        form.loops.take_heads(array(d_mixed), array(d_context))
        shares = probabilities, kept
        d_query, d_key, d_value = attend_backward(form, d_context, query, key, value, *shares, attention_dropout)

        # Span-based dynamic convolution.
        d_projections, d_logits = paddle.empty_like(projections), paddle.empty_like(kernels)
        loops.dynamic_conv_backward(
            array(projections), array(kernels), array(d_mixed), ones, array(d_logits), array(d_projections)
        )
        d_logits = d_logits.reshape([-1, heads * taps])
        kernel_sums = partial_sums(heads * taps)
        loops.column_sums(array(d_logits), kernel_sums)
        d_both, d_kernel_weight = product_backward(both, kernel_weight, form.operand(d_logits))
        d_span, bias_sums = form.empty(*span.shape), partial_sums(5, width)
        form.loops.join_gradients(
            array(projections), array(span), array(d_query), array(d_key), array(d_value), array(d_both), ones,
            query.shape[-1] ** -0.5, array(d_projections), array(d_span), bias_sums,
        )  # fmt: skip
        *d_biases, d_span_bias = summed(bias_sums)

        # The span-aware key and the four projections: both add to the gradient of x, which holds the residual's.
        d_filtered = matmul(d_span, pointwise)
        d_pointwise = matmul(d_span, filtered, transpose_a=True)
        shape = batch, length, hidden
        tap_sums = partial_sums(taps, hidden)
        loops.depthwise_conv_backward(array(local), array(d_filtered, *shape), tap_sums)
        d_local = d_x if real is None else paddle.zeros_like(d_x)
        loops.depthwise_conv(array(d_filtered, *shape), _tap_rows(depthwise, True), True, array(d_local, *shape))
        if real is not None:
            d_x += d_local * real.reshape([-1, 1])
        d_projections = form.operand(d_projections.reshape([-1, 4 * width]))
        d_rows, d_weight = product_backward(rows, weight, d_projections)
        loops.add(array(d_x), array(d_rows))

        d_depthwise = paddle.to_tensor(tap_sums.sum(axis=0).T[:, None])  # [E, 1, K]
        d_projected = [gradient for pair in zip(d_weight.split(4, axis=1), d_biases, strict=True) for gradient in pair]
        convolution = d_depthwise, d_pointwise, d_span_bias, d_kernel_weight, summed(kernel_sums)
        gradients = wanted(ctx.needs, d_x.reshape(shape), *d_projected, *convolution, *d_tail)
        # Neither mask nor `real` gets one.
        return gradients[0], None, *(() if real is None else (None,)), *gradients[1:]


def _tap_rows(depthwise, backward=False):
    """Weight [E, 1, K] → the kernel's [K + 1, E] with a row of zeros; `backward` turns the taps around."""
    taps = array(depthwise)[:, 0].T
    rows = np.zeros((taps.shape[0] + 1, taps.shape[1]), np.float32)
    rows[:-1] = taps[::-1] if backward else taps
    return rows
