"""The compiled loops of inference, which keep nothing: in float32, bfloat16, and with products of 8-bit integers.

A loop makes a row in float32 and, while it is in the cache, what the next product takes of it, its *operand*: the same
numbers, in bfloat16, or as integers with a scale for each row. A product's rows are to be multiplied by the scales of
its operand's rows, which are 1 but for integers. A row that is its own operand is written once.

Dimension letters: N rows (B·L tokens), B batch, L length, H heads of one kind, D head size, K convolution kernel, E
features.
"""

import numpy as np
from numba import prange, types
from numba.extending import overload

from cpu.arithmetic import standard_normal
from cpu.calls import call_sgemm
from cpu.compiler import B2, F1, F2, F3, F4, FAST_MATH, inline, kernel_of, read, written
from cpu.product_kernels import ACROSS, PLAIN, ROW_MAJOR
from cpu.row_kernels import normalise, softmax_row
from cpu.token_kernels import mix, three_neighbours

U2 = "uint8[:,::1]"
TILE = 2**15  # scores of a tile, 128 kB

OPERANDS = {"float32": F2, "bfloat16": B2, "int8": U2}


def versions(signature):
    """Registers a loop for all three; signature: function of the type of operands → argument types."""
    return kernel_of(**{f"inference-{name}": signature(name) for name in OPERANDS})


def as_operand(row, out, n, scales):
    """Row n of the operand `out` from a row of float32 or bfloat16; its scale. Nothing where both are one."""


@overload(as_operand, jit_options={"fastmath": FAST_MATH})
def _as_operand(row, out, n, scales):
    if row.dtype == out.dtype:
        return lambda row, out, n, scales: None
    if out.dtype == types.uint8:
        return lambda row, out, n, scales: _quantise(row, out, n, scales)
    return lambda row, out, n, scales: _narrow(row, out, n)


@inline
def _narrow(row, out, n):
    for e in range(row.size):
        out[n, e] = written(out, read(row[e]))


@inline
def _quantise(row, out, n, scales):
    """out = 128 + row / scale, rounded, of a scale that makes the largest 127. NaN stays in the scale."""
    largest = np.int32(0)
    for e in range(row.size):
        bits = np.float32(read(row[e])).view(np.int32)
        largest = max(largest, np.int32(bits & np.int32(0x7FFFFFFF)))
    scale = np.int32(largest).view(np.float32) * np.float32(1 / 127)
    scales[n] = scale
    inverse = np.float32(1.0) / scale if scale > np.float32(0.0) else np.float32(0.0)
    for e in range(row.size):
        out[n, e] = np.uint8(np.int32(read(row[e]) * inverse + np.float32(128.5)))


@versions(lambda name: (F2, OPERANDS[name], F1))
def enter(x, operand, scales):
    """The operand of x [N, E]."""
    for n in prange(x.shape[0]):
        as_operand(x[n], operand, n, scales)


# ------------------------------------------------------------------------------------------------ feed-forward, the end


def _activation(name):
    return (F2 if name == "float32" else B2, F1, F1, OPERANDS[name], F1)


@versions(_activation)
def gelu(x, product_scales, bias, operand, scales):
    """The operand of gelu(x [N, E] · product_scales [N] + bias), the exact one. In place."""
    for n in prange(x.shape[0]):
        row, scale = x[n], product_scales[n]
        for e in range(row.size):
            value = read(row[e]) * scale + bias[e]
            row[e] = written(row, value * standard_normal(value)[1])
        as_operand(row, operand, n, scales)


@versions(_activation)
def relu(x, product_scales, bias, operand, scales):
    """The operand of max(x [N, E] · product_scales [N] + bias, 0). NaN stays NaN. In place."""
    for n in prange(x.shape[0]):
        row, scale = x[n], product_scales[n]
        for e in range(row.size):
            value = read(row[e]) * scale + bias[e]
            row[e] = written(row, np.float32(0.0) if value < np.float32(0.0) else value)
        as_operand(row, operand, n, scales)


@versions(lambda name: (F2, F1, F1, F2, F1, F1, "float32", F2, OPERANDS[name], F1))
def add_norm(x, product_scales, bias, residual, weight, shift, epsilon, out, operand, scales):
    """out [N, E] = LayerNorm(residual + x · product_scales [N] + bias), and its operand. out may be the residual."""
    for n in prange(x.shape[0]):
        row, other, scale = x[n], residual[n], product_scales[n]
        for e in range(row.size):
            row[e] = row[e] * scale + bias[e] + other[e]
        normalise(row, weight, shift, epsilon, out[n])
        as_operand(out[n], operand, n, scales)


# ------------------------------------------------------------------------------------------------------ self-attention


@versions(lambda name: ("int64", F2, F1, F1, F4, "float32", "int64", "int64", "int64", F2))
def attend_whole(multiply, projections, product_scales, bias, mask, scale, length, heads, size, out):
    """out [N, H·D] = softmax(query · keyᵀ · scale + mask) · value.

    projections: [N, 3·H·D or more], the heads' queries first, then their keys and values; these get product_scales [N]
    and bias in place. multiply: cblas_sgemm. mask: [1 or B, 1 or H, 1 or L, L].
    """
    columns, width = projections.shape[1], heads * size
    rows = max(1, min(length, TILE // length))
    for i in prange(projections.shape[0] // length * heads):
        b, h = i // heads, i % heads
        scores = np.empty((rows, length), np.float32)
        for n in range(b * length, (b + 1) * length):
            for part in range(3):
                column = part * width + h * size
                values, biases = projections[n, column : column + size], bias[column : column + size]
                for d in range(size):
                    values[d] = values[d] * product_scales[n] + biases[d]
        query = projections.ctypes.data + 4 * (b * length * columns + h * size)
        for first in range(0, length, rows):
            count = min(rows, length - first)
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, ACROSS, count, length, size, scale, query + 4 * first * columns, columns,
                query + 4 * width, columns, 0.0, scores.ctypes.data, length,
            )  # fmt: skip
            for r in range(count):
                softmax_row(scores[r], mask[b % mask.shape[0], h % mask.shape[1], (first + r) % mask.shape[2]])
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, PLAIN, count, size, length, 1.0, scores.ctypes.data, length,
                query + 8 * width, columns, 0.0, out.ctypes.data + 4 * ((b * length + first) * width + h * size), width,
            )  # fmt: skip


# ------------------------------------------------------------------------------------ span-based dynamic convolution


@versions(lambda name: (F3, F1, F2, F2, OPERANDS[name], F1))
def depthwise(x, real, taps, rows, operand, scales):
    """The operand of x [B, L, E] · real [N], convolved along L, zeros beyond the ends; `rows` [N, E] is for that.

    taps: [K + 1, E], the last row 0.
    """
    length, size = x.shape[1], taps.shape[0] - 1
    for n in prange(x.shape[0] * length):
        b, position = np.int64(n) // length, np.int64(n) % length
        start = b * length
        row = rows[n]
        for k in range(0, size, 3):
            first = position + k - size // 2
            in1, in2, in3, p1, p2, p3 = three_neighbours(first, 1, k, position, length, size)
            k1 = k if in1 and real[start + p1] != 0 else size
            k2 = k + 1 if in2 and real[start + p2] != 0 else size
            k3 = k + 2 if in3 and real[start + p3] != 0 else size
            if k == 0:
                for e in range(row.size):
                    row[e] = x[b, p1, e] * taps[k1, e] + x[b, p2, e] * taps[k2, e] + x[b, p3, e] * taps[k3, e]
            else:
                for e in range(row.size):
                    row[e] += x[b, p1, e] * taps[k1, e] + x[b, p2, e] * taps[k2, e] + x[b, p3, e] * taps[k3, e]
        as_operand(row, operand, n, scales)


@versions(lambda name: (F2, F1, F1, F2, F1, F1, F1))
def span_and_values(projections, product_scales, bias, span, span_scales, span_bias, real):
    """span [N, W] becomes query · (span · span_scales + span_bias), of projections [N, 4·W], where queries lie first.

    The last columns of these, the convolution's values, get product_scales and bias, times real [N], in place.
    """
    width = span.shape[1]
    for n in prange(projections.shape[0]):
        for e in range(width):
            span[n, e] = projections[n, e] * (span[n, e] * span_scales[n] + span_bias[e])
        values, biases = projections[n, 3 * width :], bias[3 * width :]
        for e in range(width):
            values[e] = (values[e] * product_scales[n] + biases[e]) * real[n]


@versions(lambda name: (F2, F2, F2, F4, F4, OPERANDS[name], F1))
def join_halves(context, kernels, kernel_bias, projections, joined, operand, scales):
    """The operand of self-attention's context [N, W] beside the dynamic convolution of values, of `joined`.

    kernels: [N, H·K], the logits without kernel_bias [H, K]; projections: [B, L, 4·H, D], the values last; joined:
    [B, L, 2·H, D].
    """
    length, heads, taps = projections.shape[1], kernel_bias.shape[0], kernel_bias.shape[1]
    for n in prange(context.shape[0]):
        b, position = np.int64(n) // length, np.int64(n) % length
        for h in range(heads):
            weights = kernels[n, h * taps : (h + 1) * taps]
            softmax_row(weights, kernel_bias[h])
            attended = context[n, h * joined.shape[3] : (h + 1) * joined.shape[3]]
            for d in range(attended.size):
                joined[b, position, h, d] = attended[d]
            for k in range(0, taps, 3):
                first = position + k - taps // 2
                in1, in2, in3, p1, p2, p3 = three_neighbours(first, 1, k, position, length, taps)
                w1 = weights[k] if in1 else np.float32(0.0)
                w2 = weights[k + 1] if in2 else np.float32(0.0)
                w3 = weights[k + 2] if in3 else np.float32(0.0)
                mix(projections, b, 3 * heads + h, p1, p2, p3, w1, w2, w3, k > 0, joined, b, position, heads + h)
        as_operand(joined[b, position].reshape(2 * heads * joined.shape[3]), operand, n, scales)
