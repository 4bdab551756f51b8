"""The CPU fast path of `ops`: the same functions as one forward and one hand-written backward each.

Between the matrix products, which are in `products`, run the compiled loops of `cpu_kernels` and `token_kernels` on the
tensors' own memory: `array` makes a writable numpy view. What backward needs is kept with `save_for_backward`, so that
recompute can release it. Gradients of gradients are not supported; CONVBERT_KERNELS=paddle has them.

Dimension letters: B batch, L length, N = B·L, H heads of one kind, D head size, K convolution kernel, E hidden size.
"""

import contextvars
import math
from typing import NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

import cpu_kernels
import kernel_compiler
import token_kernels  # noqa: F401
from products import matmul, product, product_backward

loops = kernel_compiler.load()

# --------------------------------------------------------------------------------------------------- memory and dropout


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
    return np.asarray(_Memory(_contiguous(tensor), shape or tuple(tensor.shape)))


def _contiguous(tensor):
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _empty(*shape):
    return paddle.empty(shape, "float32")


def _sums(*shape):
    return np.empty((kernel_compiler.PARTS, *shape), np.float32)


def _summed(sums):
    """Partial sums [P, …] → tensor […]."""
    return paddle.to_tensor(sums.sum(axis=0))


class Dropout(NamedTuple):
    """What decides which elements a kernel drops; drawn anew for every call from Paddle's generator."""

    key: np.uint32
    other_key: np.uint32
    threshold: np.uint32  # elements whose hash is below are dropped
    gain: np.float32  # kept elements are multiplied by it


def draw_dropout(rate, training):
    if not training or rate == 0:
        return Dropout(np.uint32(0), np.uint32(0), np.uint32(0), np.float32(1))
    key, other_key = (key % 2**32 for key in paddle.randint(-(2**31), 2**31 - 1, [2]).tolist())
    threshold = min(round(rate * 2**32), 2**32 - 1)
    return Dropout(np.uint32(key), np.uint32(other_key), np.uint32(threshold), np.float32(1 / (1 - rate)))


# ------------------------------------------------------------------------------------------------------------ precision


class Float32:
    """How operands of products are kept: as they are. The base of Bfloat16."""

    dtype, loops = "float32", loops

    def operand(self, tensor):
        """A float32 tensor, contiguous, in the form in which a product takes it."""
        return _contiguous(tensor)

    def weight(self, *weights):
        """The operand for a weight, or for several side by side."""
        return self.operand(weights[0] if len(weights) == 1 else paddle.concat(weights, axis=1))

    def empty(self, *shape):
        return paddle.empty(shape, self.dtype)


class Bfloat16(Float32):
    """As bfloat16; weights are converted once for the life of this object, as they do not change within a step."""

    dtype = "bfloat16"

    def __init__(self):
        self.loops = kernel_compiler.load("bfloat16")
        self._weights = {}

    def operand(self, tensor):
        narrow = self.empty(*tensor.shape)
        if tensor.size:
            loops.narrow(array(tensor, tensor.size), array(narrow, tensor.size))
        return narrow

    def weight(self, *weights):
        key = tuple(weight.data_ptr() for weight in weights)
        if key not in self._weights:
            self._weights[key] = super().weight(*weights), weights  # which must live as long as their address is known
        return self._weights[key][0]


FLOAT32 = Float32()
precision = contextvars.ContextVar("precision", default=FLOAT32)  # what the next forward works in


# ------------------------------------------------------------------------------------------------------------ functions


class Linear(PyLayer):
    """ops.linear."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.shape, ctx.needs = x.shape, _needs(x, weight, bias)
        form = ctx.form = precision.get()
        rows, weight = form.operand(x.reshape([-1, x.shape[-1]])), form.weight(weight)
        out = product(rows, weight)
        loops.add_bias(array(out), array(bias))
        ctx.save_for_backward(rows, weight)
        return out.reshape([*x.shape[:-1], -1])

    @staticmethod
    def backward(ctx, d_out):
        x, weight = ctx.saved_tensor()
        d_out = _rows(d_out)
        sums = _sums(d_out.shape[1])
        loops.column_sums(array(d_out), sums)
        d_x, d_weight = product_backward(x, weight, ctx.form.operand(d_out))
        return _wanted(ctx.needs, d_x.reshape(ctx.shape), d_weight, _summed(sums))


def _rows(x):
    """[…, E] → contiguous [N, E]."""
    return _contiguous(x.reshape([-1, x.shape[-1]]))


def _needs(*inputs):
    """Which inputs want a gradient."""
    return [not tensor.stop_gradient for tensor in inputs]


def _wanted(needs, *gradients):
    return tuple(gradient if need else None for need, gradient in zip(needs, gradients, strict=True))


def embeddings(ids, positions, types, words, places, kinds, norm_weight, norm_bias, pad_id, epsilon, dropout, training):
    ids = _contiguous(ids.astype("int64"))
    positions = paddle.arange(ids.shape[1]) if positions is None else positions.astype("int64")
    positions = _contiguous(positions.expand_as(ids))
    types = paddle.zeros_like(ids) if types is None else _contiguous(types.astype("int64"))
    for indices, table in ((ids, words), (positions, places), (types, kinds)):
        found = array(indices)
        if found.size and not 0 <= found.min() <= found.max() < table.shape[0]:
            raise ValueError(f"ids from {found.min()} to {found.max()} for an embedding of {table.shape[0]} rows")
    tables = words, places, kinds, norm_weight, norm_bias
    return Embeddings.apply(ids, positions, types, *tables, pad_id, epsilon, draw_dropout(dropout, training))


class Embeddings(PyLayer):
    """ops.embeddings."""

    @staticmethod
    def forward(ctx, ids, positions, types, words, places, kinds, weight, bias, pad_id, epsilon, dropout):
        ctx.needs = _needs(words, places, kinds, weight, bias)
        ctx.dropout, ctx.pad_id, ctx.shape = dropout, pad_id, (words.shape, places.shape, kinds.shape)
        size = ids.size, words.shape[1]
        out, normal, scales = _empty(*ids.shape, words.shape[1]), _empty(*size), _empty(ids.size)
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
        d_out = _rows(d_out)
        d_rows, sums = np.empty(d_out.shape, np.float32), _sums(2, d_out.shape[1])
        loops.embeddings_backward(array(normal), array(scales), array(weight), array(d_out), *ctx.dropout, d_rows, sums)
        tables = []
        for tensor, shape, ignored in zip(indices, ctx.shape, (ctx.pad_id, -1, -1), strict=True):
            table = paddle.zeros(shape, "float32")
            loops.scatter_add(array(tensor, len(d_rows)), d_rows, ignored, array(table))
            tables.append(table)
        d_weight, d_bias = _summed(sums)
        return None, None, None, *_wanted(ctx.needs, *tables, d_weight, d_bias)


def _add_norm(inner, weight, bias, residual, norm_weight, norm_bias, epsilon, dropout):
    """LayerNorm(residual + dropout(inner @ weight + bias)), all [N, E]. → result, normalised values, 1 / deviations."""
    normal = product(inner, weight)
    out, scales = paddle.empty_like(normal), _empty(normal.shape[0])
    loops.dropout_add_norm(
        array(normal), array(bias), array(residual), array(norm_weight), array(norm_bias), np.float32(epsilon),
        *dropout, array(out), array(scales),
    )  # fmt: skip
    return out, normal, scales


def _add_norm_backward(form, d_out, inner, weight, norm_weight, normal, scales, dropout, dtype="float32"):
    """→ gradients of inner, in `dtype`, of the residual, and of (weight, bias, norm_weight, norm_bias)."""
    d_y, d_residual, sums = form.empty(*normal.shape), paddle.empty_like(normal), _sums(3, normal.shape[1])
    form.loops.dropout_add_norm_backward(
        array(normal), array(scales), array(norm_weight), array(d_out), *dropout, array(d_y), array(d_residual), sums
    )
    d_inner, d_weight = product_backward(inner, weight, d_y, dtype)
    d_norm_weight, d_norm_bias, d_bias = _summed(sums)
    return d_inner, d_residual, (d_weight, d_bias, d_norm_weight, d_norm_bias)


def feed_forward(x, weights, epsilon, dropout, training):
    return FeedForward.apply(x, *weights, epsilon, draw_dropout(dropout, training), paddle.is_grad_enabled())


class FeedForward(PyLayer):
    """ops.feed_forward with the exact GELU."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2, norm_weight, norm_bias, epsilon, dropout, differentiable):
        ctx.needs = _needs(x, weight1, bias1, weight2, bias2, norm_weight, norm_bias)
        form = ctx.form = precision.get()
        ctx.dropout, shape = dropout, x.shape
        residual = _rows(x)
        x, weight1, weight2 = form.operand(residual), form.weight(weight1), form.weight(weight2)
        before = inner = product(x, weight1, form.dtype)
        if differentiable:
            inner = form.empty(*before.shape)
            form.loops.bias_gelu(array(before), array(bias1), array(inner))
        else:
            form.loops.bias_gelu_in_place(array(inner), array(bias1))
        out, normal, scales = _add_norm(inner, weight2, bias2, residual, norm_weight, norm_bias, epsilon, dropout)
        ctx.save_for_backward(x, weight1, before, bias1, inner, weight2, norm_weight, normal, scales)
        return out.reshape(shape)

    @staticmethod
    def backward(ctx, d_out):
        x, weight1, before, bias1, inner, weight2, *norm = ctx.saved_tensor()
        form, rows = ctx.form, _rows(d_out)
        d_inner, d_residual, d_tail = _add_norm_backward(form, rows, inner, weight2, *norm, ctx.dropout, form.dtype)
        sums = _sums(before.shape[1])
        form.loops.bias_gelu_backward(array(before), array(bias1), array(d_inner), sums)
        d_x, d_weight1 = product_backward(x, weight1, d_inner)
        loops.add(array(d_x), array(d_residual))
        return _wanted(ctx.needs, d_x.reshape(d_out.shape), d_weight1, _summed(sums), *d_tail)


def mixed_attention(x, mask, real, weights, heads, epsilon, attention_dropout, dropout, training):
    dropouts = draw_dropout(attention_dropout, training), draw_dropout(dropout, training)
    return MixedAttention.apply(x, mask, real, *weights, heads, epsilon, *dropouts)


class MixedAttention(PyLayer):
    """ops.mixed_attention."""

    @staticmethod
    def forward(
        ctx, x, mask, real, query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, conv_weight,
        conv_bias, depthwise, pointwise, span_bias, kernel_weight, kernel_bias, out_weight, out_bias, norm_weight,
        norm_bias, heads, epsilon, attention_dropout, dropout,
    ):  # fmt: skip
        ctx.needs = _needs(
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
        filtered = _empty(*x.shape)
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

        # Span-based dynamic convolution into one half of `mixed`, self-attention into the other.
        mixed = _empty(batch, length, 2 * heads, size)
        kernel_weight = form.weight(kernel_weight)
        kernels = matmul(both, kernel_weight).reshape([batch, length, heads, -1])  # [B, L, H, K]
        loops.bias_softmax(array(kernels, len(rows), heads, taps), array(kernel_bias, heads, taps))
        loops.dynamic_conv(array(projections), array(kernels), array(mixed))
        probabilities = matmul(query, key, transpose_b=True)  # [B, H, L, L]
        kept = probabilities
        if attention_dropout.threshold or form is not FLOAT32:
            kept = form.empty(*probabilities.shape)
            form.loops.softmax_dropout(array(probabilities), array(mask), *attention_dropout, array(kept))
        else:
            loops.softmax(array(probabilities), array(mask))
        loops.merge_heads(array(matmul(kept, value)), array(mixed))

        mixed, out_weight = form.operand(mixed.reshape([-1, 2 * width])), form.weight(out_weight)
        out, *norm = _add_norm(mixed, out_weight, out_bias, residual, norm_weight, norm_bias, epsilon, dropout)
        ctx.dropouts = attention_dropout, dropout
        ctx.save_for_backward(
            rows, real, local, weight, projections, depthwise, filtered, pointwise, span, query, key, value, both,
            kernels, kernel_weight, probabilities, kept, mixed, out_weight, norm_weight, *norm,
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

        d_mixed, d_x, d_tail = _add_norm_backward(form, _rows(d_out), mixed, out_weight, *norm, dropout)
        d_mixed = d_mixed.reshape([batch, length, 2 * heads, -1])

        # Self-attention.
        d_context = form.empty(*query.shape)
        form.loops.take_heads(array(d_mixed), array(d_context))
        d_value = matmul(kept, d_context, transpose_a=True)
        d_scores = matmul(d_context, value, transpose_b=True, dtype=form.dtype)
        form.loops.softmax_dropout_backward(array(probabilities), *attention_dropout, array(d_scores))
        d_query, d_key = matmul(d_scores, key), matmul(d_scores, query, transpose_a=True)

        # Span-based dynamic convolution.
        d_projections, d_logits = paddle.empty_like(projections), paddle.empty_like(kernels)
        loops.dynamic_conv_backward(
            array(projections), array(kernels), array(d_mixed), ones, array(d_logits), array(d_projections)
        )
        d_logits = d_logits.reshape([-1, heads * taps])
        kernel_sums = _sums(heads * taps)
        loops.column_sums(array(d_logits), kernel_sums)
        d_both, d_kernel_weight = product_backward(both, kernel_weight, form.operand(d_logits))
        d_span, bias_sums = form.empty(*span.shape), _sums(5, width)
        form.loops.join_gradients(
            array(projections), array(span), array(d_query), array(d_key), array(d_value), array(d_both), ones,
            query.shape[-1] ** -0.5, array(d_projections), array(d_span), bias_sums,
        )  # fmt: skip
        *d_biases, d_span_bias = _summed(bias_sums)

        # The span-aware key and the four projections: both add to the gradient of x, which holds the residual's.
        d_filtered = matmul(d_span, pointwise)
        d_pointwise = matmul(d_span, filtered, transpose_a=True)
        shape = batch, length, hidden
        tap_sums = _sums(taps, hidden)
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
        convolution = d_depthwise, d_pointwise, d_span_bias, d_kernel_weight, _summed(kernel_sums)
        gradients = _wanted(ctx.needs, d_x.reshape(shape), *d_projected, *convolution, *d_tail)
        # Neither mask nor `real` gets one.
        return gradients[0], None, *(() if real is None else (None,)), *gradients[1:]


def _tap_rows(depthwise, backward=False):
    """Weight [E, 1, K] → the kernel's [K + 1, E] with a row of zeros; `backward` turns the taps around."""
    taps = array(depthwise)[:, 0].T
    rows = np.zeros((taps.shape[0] + 1, taps.shape[1]), np.float32)
    rows[:-1] = taps[::-1] if backward else taps
    return rows


LOGIT_ROWS = 512  # of [N, V] that exist at a time


def language_model(hidden, words, bias, labels, draws):
    labels, draws = _contiguous(labels.astype("int64")), _contiguous(draws.astype("float32"))
    found = array(labels)
    if not 0 <= found.min() <= found.max() < words.shape[0]:
        raise ValueError(f"labels from {found.min()} to {found.max()} for {words.shape[0]} words")
    return LanguageModel.apply(hidden, words, bias, labels, draws, paddle.is_grad_enabled())


class LanguageModel(PyLayer):
    """ops.language_model. Forward makes the gradients too, some rows at a time: [N, V] never exists whole."""

    @staticmethod
    def forward(ctx, hidden, words, bias, labels, draws, differentiable):
        ctx.needs = _needs(hidden, words, bias)
        form, count, vocabulary = precision.get(), hidden.shape[0], words.shape[0]
        rows, table = form.operand(hidden), form.weight(words)
        losses = np.empty(count, np.float32)
        best, drawn = paddle.empty([count], "int64"), paddle.empty([count], "int64")
        bias_sums = np.zeros((kernel_compiler.PARTS if differentiable else 0, vocabulary), np.float32)
        d_hidden, d_words = [], None
        for start in range(0, count, LOGIT_ROWS):
            part = slice(start, min(start + LOGIT_ROWS, count))
            some = rows[part]
            logits = matmul(some, table, transpose_b=True)
            d_logits = form.empty(*(logits.shape if differentiable else (1, 1)))
            form.loops.word_losses(
                array(logits), array(bias), array(labels)[part], array(draws)[part], np.float32(1 / count),
                array(d_logits), bias_sums, losses[part], array(best)[part], array(drawn)[part],
            )  # fmt: skip
            if differentiable:
                d_hidden.append(matmul(d_logits, table))
                more = matmul(d_logits, some, transpose_a=True)
                if d_words is None:
                    d_words = more
                else:
                    loops.add(array(d_words), array(more))
        if differentiable:
            ctx.save_for_backward(paddle.concat(d_hidden), d_words, _summed(bias_sums))
        ctx.mark_non_differentiable(best, drawn)
        return paddle.to_tensor(losses.mean()), best, drawn

    @staticmethod
    def backward(ctx, d_loss, *_):
        return *_wanted(ctx.needs, *(gradient * d_loss for gradient in ctx.saved_tensor())), None, None


def adamw(due, beta1, beta2, epsilon):
    """ops.adamw."""
    due = [(weight, _contiguous(gradient), *rest) for weight, gradient, *rest in due]
    addresses = np.array([[tensor.data_ptr() for tensor in entry[:6]] for entry in due])
    sizes = np.array([math.prod(entry[0].shape) for entry in due])
    blocks = -(-sizes // cpu_kernels.BLOCK)
    owners = np.repeat(np.arange(len(due)), blocks)
    starts = (np.arange(len(owners)) - np.repeat(blocks.cumsum() - blocks, blocks)) * cpu_kernels.BLOCK
    rates = np.array([entry[6:] for entry in due], np.float64)
    loops.adamw(addresses, sizes, rates, owners, starts, beta1, beta2, epsilon)
