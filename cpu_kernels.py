"""The compiled loops of `cpu_functions`: what lies between ConvBERT's matrix products, forward and backward, on a CPU.

Every kernel takes C-contiguous float32 arrays, writes into arrays of its caller, splits its work over numba's threads,
and gives the same bits for any number of them: sums over rows are added up in a fixed number of parts. NaN and Inf
propagate.

Dimension letters: N rows (B·L tokens), B batch, L length, H heads of one kind, D head size, K convolution kernel,
E features, P parts.
"""

import ctypes
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
from numba import carray, config, njit, prange, types
from numba.extending import intrinsic
from tqdm import tqdm

# "nnan" and "ninf" are left out on purpose: with them a NaN would be optimised away.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "afn"}
BLOCK = 2**14  # elements of a parameter that one thread updates at a time
PARTS = 32  # partial sums over rows: enough for any machine's threads to share, few enough to be cheap

F1, F2, F3, F4 = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]", "float32[:,:,:,::1]"
I1 = "int64[::1]"

_kernels = []  # of (Python function, numba signature)


def kernel(*types):
    """Registers a loop to be compiled for exactly these argument types by `load`."""

    def register(function):
        _kernels.append((function, f"void({', '.join(types)})"))
        return function

    return register


inline = njit(fastmath=FAST_MATH, error_model="numpy")

# ---------------------------------------------------------------------------------------------------- scalar functions


@inline
def _exp(x):
    """e**x for x ≤ 0 in plain arithmetic, which, unlike math.exp, becomes vector instructions. 0 below -87.

    x = n·ln 2 + r with |r| ≤ ln 2 / 2; Taylor's series of e**r to r⁷/7!, whose error is below 1e-8; n into the exponent.
    """
    exponent = np.int32(x * np.float32(1.44269504) - np.float32(0.5))  # rounded: conversion cuts towards 0
    n = np.float32(exponent)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)  # ln 2 in two parts, the first of few bits
    power = np.float32(1 / 5040) * r + np.float32(1 / 720)
    power = power * r + np.float32(1 / 120)
    power = power * r + np.float32(1 / 24)
    power = power * r + np.float32(1 / 6)
    power = power * r + np.float32(0.5)
    power = power * r + np.float32(1.0)
    bits = np.float32(power * r + np.float32(1.0)).view(np.int32)
    scaled = np.int32(bits + np.int32(exponent << np.int32(23))).view(np.float32)
    return np.float32(0.0) if x < np.float32(-87.0) else scaled


@inline
def _normal(x):
    """Density φ(x) and distribution function Φ(x) of the standard normal, absolute error about 1e-7.

    Φ(-t) / φ(t) is smooth in s = 1 / (1 + 0.28 t), t ≥ 0; the polynomial is a weighted least-squares fit to scipy's
    erfcx, found for this project. gelu(x) = x·Φ(x), its derivative Φ(x) + x·φ(x).
    """
    bell = _exp(np.float32(-0.5) * x * x)
    s = np.float32(1.0) / (np.float32(1.0) + np.float32(0.28) * abs(x))
    tail = np.float32(-0.10703256) * s + np.float32(0.39492667)
    tail = tail * s + np.float32(-0.24528033)
    tail = tail * s + np.float32(0.27566010)
    tail = tail * s + np.float32(0.06476690)
    tail = (tail * s + np.float32(0.11695920)) * s * bell
    return bell * np.float32(0.39894228), tail if x < np.float32(0.0) else np.float32(1.0) - tail


@inline
def _kept(index, key, other_key, threshold):
    """Whether dropout keeps element `index`: a hash of the index and two keys, uniform over uint32, ≥ threshold.

    Multipliers and shifts are those of Chris Wellons' hash "lowbias32"; the second key enters between its rounds.
    numba would widen uint32 arithmetic to 64 bits, hence the many casts.
    """
    h = np.uint32(np.uint32(index) + key)
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(0x7FEB352D))
    h = np.uint32(h ^ other_key)
    h = np.uint32(h ^ np.uint32(h >> np.uint32(15)))
    h = np.uint32(h * np.uint32(0x846CA68B))
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    return h >= threshold


@inline
def _part(part, rows):
    """First and last + 1 of the rows that belong to one of PARTS parts."""
    return part * rows // PARTS, (part + 1) * rows // PARTS


# ------------------------------------------------------------------------------------------------- bias and activation


@kernel(F2, F1)
def add_bias(x, bias):
    """x [N, E] += bias [E]."""
    for n in prange(x.shape[0]):
        row = x[n]
        for e in range(row.size):
            row[e] += bias[e]


@kernel(F2, F1, F2)
def bias_gelu(x, bias, out):
    """out = gelu(x [N, E] + bias), the exact one."""
    for n in prange(x.shape[0]):
        row, result = x[n], out[n]
        for e in range(row.size):
            value = row[e] + bias[e]
            result[e] = value * _normal(value)[1]


@kernel(F2, F1)
def bias_gelu_in_place(x, bias):
    """x [N, E] becomes gelu(x + bias): for inference, which keeps nothing."""
    for n in prange(x.shape[0]):
        row = x[n]
        for e in range(row.size):
            value = row[e] + bias[e]
            row[e] = value * _normal(value)[1]


@kernel(F2, F1, F2, F2)
def bias_gelu_backward(x, bias, gradient, d_bias):
    """gradient [N, E] of gelu(x + bias) becomes that of x; d_bias [P, E] gets its partial sums over rows."""
    for part in prange(PARTS):
        first, last = _part(part, x.shape[0])
        total = d_bias[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            row, result = x[n], gradient[n]
            for e in range(row.size):
                value = row[e] + bias[e]
                density, distribution = _normal(value)
                d = result[e] * (distribution + value * density)
                result[e] = d
                total[e] += d


@kernel(F2, F2)
def column_sums(x, sums):
    """sums [P, E]: x [N, E] summed over the rows of each part."""
    for part in prange(PARTS):
        first, last = _part(part, x.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            row = x[n]
            for e in range(row.size):
                total[e] += row[e]


@kernel(F2, F2)
def add(x, y):
    """x [N, E] += y."""
    for n in prange(x.shape[0]):
        row, other = x[n], y[n]
        for e in range(row.size):
            row[e] += other[e]


# ------------------------------------------------------------------------------------------------ dropout and LayerNorm


@inline
def _normalise(row, weight, bias, epsilon, out):
    """row [E] becomes normal, out = row · weight + bias. Returns 1 / deviation."""
    size = np.float32(row.size)
    mean = np.float32(0.0)
    for e in range(row.size):
        mean += row[e]
    mean /= size
    variance = np.float32(0.0)
    for e in range(row.size):
        variance += (row[e] - mean) * (row[e] - mean)
    scale = np.float32(1.0) / np.sqrt(variance / size + epsilon)
    for e in range(row.size):
        row[e] = (row[e] - mean) * scale
        out[e] = row[e] * weight[e] + bias[e]
    return scale


@inline
def _normalise_backward(normal, scale, weight, d_out, d_row, d_weight, d_bias):
    """d_row [E] of _normalise's input; adds to d_weight and d_bias."""
    size = np.float32(normal.size)
    mean = np.float32(0.0)
    product = np.float32(0.0)
    for e in range(normal.size):
        d = d_out[e] * weight[e]
        mean += d
        product += d * normal[e]
        d_weight[e] += d_out[e] * normal[e]
        d_bias[e] += d_out[e]
    mean /= size
    product /= size
    for e in range(normal.size):
        d_row[e] = scale * (d_out[e] * weight[e] - mean - normal[e] * product)


@kernel(F2, F1, F2, F1, F1, "float32", "uint32", "uint32", "uint32", "float32", F2, F1)
def dropout_add_norm(x, bias, residual, weight, shift, epsilon, key, other_key, threshold, gain, out, scales):
    """out [N, E] = LayerNorm(residual + dropout(x + bias)).

    x becomes the normalised values; scales [N] gets 1 / deviation. gain: what kept values are multiplied by.
    """
    for n in prange(x.shape[0]):
        row, other = x[n], residual[n]
        start = n * row.size
        if threshold == 0:
            for e in range(row.size):
                row[e] += bias[e] + other[e]
        else:
            for e in range(row.size):
                kept = _kept(start + e, key, other_key, threshold)
                row[e] = other[e] + ((row[e] + bias[e]) * gain if kept else np.float32(0.0))
        scales[n] = _normalise(row, weight, shift, epsilon, out[n])


@kernel(F2, F1, F1, F2, "uint32", "uint32", "uint32", "float32", F2, F2, F3)
def dropout_add_norm_backward(normal, scales, weight, d_out, key, other_key, threshold, gain, d_x, d_residual, sums):
    """d_x and d_residual [N, E]; sums [P, 3, E] gets partial sums of the gradients of weight, shift and bias."""
    for part in prange(PARTS):
        first, last = _part(part, normal.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            d_row, result = d_residual[n], d_x[n]
            _normalise_backward(normal[n], scales[n], weight, d_out[n], d_row, total[0], total[1])
            start = n * d_row.size
            d_bias = total[2]
            for e in range(d_row.size):
                d = d_row[e] * gain if _kept(start + e, key, other_key, threshold) else np.float32(0.0)
                result[e] = d
                d_bias[e] += d


# ----------------------------------------------------------------------------------------------------------- embeddings


@kernel(I1, I1, I1, F2, F2, F2, F1, F1, "float32", "uint32", "uint32", "uint32", "float32", F2, F2, F1)
def embeddings(
    ids, positions, types, words, places, kinds, weight, shift, epsilon, key, other_key, threshold, gain, normal, out,
    scales,
):  # fmt: skip
    """out [N, E] = dropout(LayerNorm(words[ids] + places[positions] + kinds[types])); `normal` as in dropout_add_norm."""
    for n in prange(out.shape[0]):
        row, result = normal[n], out[n]
        word, place, kind = words[ids[n]], places[positions[n]], kinds[types[n]]
        for e in range(row.size):
            row[e] = word[e] + place[e] + kind[e]
        scales[n] = _normalise(row, weight, shift, epsilon, result)
        start = n * row.size
        for e in range(row.size):
            kept = _kept(start + e, key, other_key, threshold)
            result[e] = result[e] * gain if kept else np.float32(0.0)


@kernel(F2, F1, F1, F2, "uint32", "uint32", "uint32", "float32", F2, F3)
def embeddings_backward(normal, scales, weight, d_out, key, other_key, threshold, gain, d_rows, sums):
    """d_rows [N, E] of the sum of the three embeddings; sums [P, 2, E] of the gradients of weight and shift."""
    for part in prange(PARTS):
        first, last = _part(part, normal.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        kept_gradient = np.empty(normal.shape[1], np.float32)
        for n in range(first, last):
            gradient = d_out[n]
            start = n * gradient.size
            for e in range(gradient.size):
                kept = _kept(start + e, key, other_key, threshold)
                kept_gradient[e] = gradient[e] * gain if kept else np.float32(0.0)
            _normalise_backward(normal[n], scales[n], weight, kept_gradient, d_rows[n], total[0], total[1])


@kernel(I1, F2, "int64", F2)
def scatter_add(ids, rows, ignored, table):
    """table[ids[n]] += rows[n] [E] wherever ids[n] is not `ignored`. Threads share the columns, so no two collide."""
    width = 16  # floats in a cache line
    for block in prange((rows.shape[1] + width - 1) // width):
        first, last = block * width, min((block + 1) * width, rows.shape[1])
        for n in range(ids.size):
            if ids[n] != ignored:
                target, row = table[ids[n]], rows[n]
                for e in range(first, last):
                    target[e] += row[e]


# ---------------------------------------------------------------------------------------------------------- convolution
# Taps are taken three at a time, so that a row of results is loaded and stored a third as often. Rows are named by
# index, not sliced: a slice that depends on a condition costs an atomic reference count. A tap without a neighbour
# reads its own token with weight 0.


@inline
def _three_neighbours(first, step, k, position, length, size):
    """Of taps k, k + 1, k + 2: which have a neighbour, and the positions to read."""
    in1 = 0 <= first < length
    in2 = 0 <= first + step < length and k + 1 < size
    in3 = 0 <= first + 2 * step < length and k + 2 < size
    p1 = first if in1 else position
    p2 = first + step if in2 else position
    p3 = first + 2 * step if in3 else position
    return in1, in2, in3, p1, p2, p3


@kernel(F3, F2, "boolean", F3)
def depthwise_conv(x, taps, add, out):
    """out [B, L, E] = x convolved along L, channel by channel, zeros beyond the ends. add: out += instead.

    taps: [K + 1, E], the last row 0.
    """
    length, size = x.shape[1], taps.shape[0] - 1
    for n in prange(x.shape[0] * length):
        b, position = np.int64(n) // length, np.int64(n) % length
        for k in range(0, size, 3):
            first = position + k - size // 2
            in1, in2, in3, p1, p2, p3 = _three_neighbours(first, 1, k, position, length, size)
            k1, k2, k3 = k if in1 else size, k + 1 if in2 else size, k + 2 if in3 else size
            if k == 0 and not add:
                for e in range(x.shape[2]):
                    out[b, position, e] = (
                        x[b, p1, e] * taps[k1, e] + x[b, p2, e] * taps[k2, e] + x[b, p3, e] * taps[k3, e]
                    )
            else:
                for e in range(x.shape[2]):
                    out[b, position, e] += (
                        x[b, p1, e] * taps[k1, e] + x[b, p2, e] * taps[k2, e] + x[b, p3, e] * taps[k3, e]
                    )


@kernel(F3, F3, F3)
def depthwise_conv_backward(x, d_out, d_taps):
    """d_taps [P, K, E]: partial sums of the gradient of the taps. (That of x is d_out convolved with reversed taps.)"""
    length, size = x.shape[1], d_taps.shape[1]
    tokens = 16  # that stay in the first cache while the taps pass over them
    for part in prange(PARTS):
        start, stop = _part(part, x.shape[0] * length)
        d_taps[part] = np.float32(0.0)
        for b in range(start // length, (stop + length - 1) // length):
            for chunk in range(max(start - b * length, 0), min(stop - b * length, length), tokens):
                chunk_end = min(stop - b * length, length, chunk + tokens)
                for k in range(size):
                    shift = k - size // 2
                    first, last = max(chunk, -shift), min(chunk_end, length - shift)
                    whole = first + max(last - first, 0) // 4 * 4
                    for i in range(first, whole, 4):
                        j = i + shift
                        for e in range(x.shape[2]):
                            d_taps[part, k, e] += (
                                d_out[b, i, e] * x[b, j, e]
                                + d_out[b, i + 1, e] * x[b, j + 1, e]
                                + d_out[b, i + 2, e] * x[b, j + 2, e]
                                + d_out[b, i + 3, e] * x[b, j + 3, e]
                            )
                    for i in range(whole, last):
                        for e in range(x.shape[2]):
                            d_taps[part, k, e] += d_out[b, i, e] * x[b, i + shift, e]


@kernel(F4, F4, F1, F4)
def dynamic_conv(projections, kernels, bias, out):
    """The heads of span-based dynamic convolution.

    Args:
        projections: [B, L, 4·H, D]; the last H are the values.
        kernels: [B, L, H, K]; logits without their bias [H·K] become softmax kernels.
        out: [B, L, 2·H, D]; the last H are written.
    """
    length, heads, size = kernels.shape[1:]
    for n in prange(kernels.shape[0] * length):
        b, position = np.int64(n) // length, np.int64(n) % length
        for h in range(heads):
            values, result = 3 * heads + h, heads + h
            highest = np.float32(-np.inf)
            for k in range(size):
                kernels[b, position, h, k] += bias[h * size + k]
                highest = max(highest, kernels[b, position, h, k])
            total = np.float32(0.0)
            for k in range(size):
                power = _exp(kernels[b, position, h, k] - highest)
                kernels[b, position, h, k] = power
                total += power
            for k in range(size):
                kernels[b, position, h, k] /= total
            for k in range(0, size, 3):
                first = position + k - size // 2
                in1, in2, in3, p1, p2, p3 = _three_neighbours(first, 1, k, position, length, size)
                w1 = kernels[b, position, h, k] if in1 else np.float32(0.0)
                w2 = kernels[b, position, h, k + 1] if in2 else np.float32(0.0)
                w3 = kernels[b, position, h, k + 2] if in3 else np.float32(0.0)
                _mix(projections, b, values, p1, p2, p3, w1, w2, w3, k > 0, out, position, result)


@inline
def _mix(x, b, head, p1, p2, p3, w1, w2, w3, add, out, position, result):
    """out[b, position, result] = the weighted sum of three of x[b, :, head]. add: out += instead."""
    if add:
        for d in range(x.shape[3]):
            out[b, position, result, d] += x[b, p1, head, d] * w1 + x[b, p2, head, d] * w2 + x[b, p3, head, d] * w3
    else:
        for d in range(x.shape[3]):
            out[b, position, result, d] = x[b, p1, head, d] * w1 + x[b, p2, head, d] * w2 + x[b, p3, head, d] * w3


@kernel(F4, F4, F4, F1, F4, F4)
def dynamic_conv_backward(projections, kernels, d_out, real, d_logits, d_projections):
    """d_logits [B, L, H, K], and the last H of d_projections [B, L, 4·H, D], times real [B·L]."""
    length, heads, size = kernels.shape[1:]
    for n in prange(kernels.shape[0] * length):
        b, position = np.int64(n) // length, np.int64(n) % length
        for h in range(heads):
            values, result = 3 * heads + h, heads + h
            mean = np.float32(0.0)
            for k in range(0, size, 3):
                first = position + k - size // 2
                in1, in2, in3, p1, p2, p3 = _three_neighbours(first, 1, k, position, length, size)
                d1, d2, d3 = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                for d in range(d_out.shape[3]):
                    gradient = d_out[b, position, result, d]
                    d1 += gradient * projections[b, p1, values, d]
                    d2 += gradient * projections[b, p2, values, d]
                    d3 += gradient * projections[b, p3, values, d]
                d_logits[b, position, h, k] = d1 if in1 else np.float32(0.0)
                if k + 1 < size:
                    d_logits[b, position, h, k + 1] = d2 if in2 else np.float32(0.0)
                if k + 2 < size:
                    d_logits[b, position, h, k + 2] = d3 if in3 else np.float32(0.0)
            for k in range(size):
                mean += d_logits[b, position, h, k] * kernels[b, position, h, k]
            for k in range(size):
                d_logits[b, position, h, k] = kernels[b, position, h, k] * (d_logits[b, position, h, k] - mean)
            for k in range(0, size, 3):
                first = position - k + size // 2  # whose tap k lies on this token
                in1, in2, in3, p1, p2, p3 = _three_neighbours(first, -1, k, position, length, size)
                w1 = kernels[b, p1, h, k] * real[n] if in1 else np.float32(0.0)
                w2 = kernels[b, p2, h, k + 1] * real[n] if in2 else np.float32(0.0)
                w3 = kernels[b, p3, h, k + 2] * real[n] if in3 else np.float32(0.0)
                _mix(d_out, b, result, p1, p2, p3, w1, w2, w3, k > 0, d_projections, position, values)


# ------------------------------------------------------------------------------------------------------------ attention


@kernel(F4, F1, F2, F1, F1, "float32", F4, F4, F4, F2)
def split_heads(projections, bias, span, span_bias, real, scale, query, key, value, product):
    """From projections [B, L, 4·H, D] without bias [4·H·D] to heads.

    query (times scale), key, value: [B, H, L, D]. In place, projections get their bias in the query and, times
    real [B·L], in the convolution values; span [N, H·D] gets its own. product [N, H·D] = query · span.
    """
    length, width = projections.shape[1], projections.shape[3]
    heads = projections.shape[2] // 4
    for n in prange(projections.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            first = h * width
            row, result = projections[b, position, h], query[b, h, position]
            for d in range(width):
                q = row[d] + bias[first + d]
                s = span[n, first + d] + span_bias[first + d]
                row[d] = q
                span[n, first + d] = s
                result[d] = q * scale
                product[n, first + d] = q * s
            first += heads * width
            row, result = projections[b, position, heads + h], key[b, h, position]
            for d in range(width):
                result[d] = row[d] + bias[first + d]
            first += heads * width
            row, result = projections[b, position, 2 * heads + h], value[b, h, position]
            for d in range(width):
                result[d] = row[d] + bias[first + d]
            first += heads * width
            row = projections[b, position, 3 * heads + h]
            for d in range(width):
                row[d] = (row[d] + bias[first + d]) * real[n]


@kernel(F4, F2, F4, F4, F4, F2, F1, "float32", F4, F2, F3)
def join_gradients(projections, span, d_query, d_key, d_value, d_product, real, scale, d_projections, d_span, sums):
    """The backward of split_heads: all of d_projections but the convolution values, which are there already.

    sums [P, 5, H·D] gets partial sums of the gradients of both biases, the span's last.
    """
    length, width = projections.shape[1], projections.shape[3]
    heads = projections.shape[2] // 4
    for part in prange(PARTS):
        start, stop = _part(part, projections.shape[0] * length)
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(start, stop):
            b, position = n // length, n % length
            for h in range(heads):
                first = h * width
                query, gradient = projections[b, position, h], d_query[b, h, position]
                row = d_projections[b, position, h]
                for d in range(width):
                    from_product = d_product[n, first + d]
                    dq = gradient[d] * scale + from_product * span[n, first + d]
                    ds = from_product * query[d]
                    row[d] = dq
                    d_span[n, first + d] = ds
                    total[0, first + d] += dq
                    total[4, first + d] += ds
                gradient, row = d_key[b, h, position], d_projections[b, position, heads + h]
                for d in range(width):
                    row[d] = gradient[d]
                    total[1, first + d] += gradient[d]
                gradient, row = d_value[b, h, position], d_projections[b, position, 2 * heads + h]
                for d in range(width):
                    row[d] = gradient[d]
                    total[2, first + d] += gradient[d]
                row = d_projections[b, position, 3 * heads + h]
                for d in range(width):
                    total[3, first + d] += row[d]


@kernel(F4, F4)
def merge_heads(x, out):
    """x [B, H, L, D] → the first H of out [B, L, 2·H, D]."""
    heads, length = x.shape[1:3]
    for n in prange(x.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            source, target = x[b, h, position], out[b, position, h]
            for d in range(source.size):
                target[d] = source[d]


@kernel(F4, F4)
def take_heads(x, out):
    """The first H of x [B, L, 2·H, D] → out [B, H, L, D]."""
    heads, length = out.shape[1:3]
    for n in prange(x.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            source, target = x[b, position, h], out[b, h, position]
            for d in range(source.size):
                target[d] = source[d]


@inline
def _softmax(row, mask):
    """row [L] becomes softmax(row + mask).

    The largest score is found among the scores' bits, as integers in the same order: a vectorised maximum of floats
    would have to ignore NaN.
    """
    highest = np.int32(-(2**31) + 1)
    for j in range(row.size):
        row[j] += mask[j]
        bits = np.float32(row[j]).view(np.int32)
        highest = max(highest, _ordered(bits))
    shift = np.int32(_ordered(highest)).view(np.float32)
    total = np.float32(0.0)
    for j in range(row.size):
        power = _exp(row[j] - shift)
        row[j] = power
        total += power
    total = np.float32(1.0) / total
    for j in range(row.size):
        row[j] *= total


@inline
def _ordered(bits):
    """A float's bits → integer in the same order, and back."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@kernel(F4, F4)
def softmax(scores, mask):
    """scores [B, H, L, L] become softmax(scores + mask); mask [1 or B, 1 or H, 1 or L, L]."""
    heads, length = scores.shape[1:3]
    for i in prange(scores.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        _softmax(scores[b, h, position], mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]])


@kernel(F4, F4, "uint32", "uint32", "uint32", "float32", F4)
def softmax_dropout(scores, mask, key, other_key, threshold, gain, out):
    """As softmax, and out = dropout(scores)."""
    heads, length = scores.shape[1:3]
    for i in prange(scores.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        row, result = scores[b, h, position], out[b, h, position]
        _softmax(row, mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]])
        start = i * row.size
        for j in range(row.size):
            kept = _kept(start + j, key, other_key, threshold)
            result[j] = row[j] * gain if kept else np.float32(0.0)


@kernel(F4, "uint32", "uint32", "uint32", "float32", F4)
def softmax_dropout_backward(probabilities, key, other_key, threshold, gain, d_out):
    """d_out [B, H, L, L] of the dropped probabilities becomes the gradient of the scores."""
    heads, length = d_out.shape[1:3]
    for i in prange(d_out.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        row, gradient = probabilities[b, h, position], d_out[b, h, position]
        start = i * row.size
        mean = np.float32(0.0)
        for j in range(row.size):
            kept = _kept(start + j, key, other_key, threshold)
            d = gradient[j] * gain if kept else np.float32(0.0)
            gradient[j] = d
            mean += d * row[j]
        for j in range(row.size):
            gradient[j] = row[j] * (gradient[j] - mean)


# ------------------------------------------------------------------------------------------------------------ optimizer


@intrinsic
def _floats_at(typing_context, address):
    """An address, as a pointer for carray."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@kernel("int64[:,::1]", I1, "float64[:,::1]", I1, I1, "float64", "float64", "float64")
def adamw(addresses, sizes, rates, owners, starts, beta1, beta2, epsilon):
    """One AdamW step for all parameters in one pass (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2).

    Args:
        addresses: [parameters, 6]; of the weights, their gradients, first and second moments, and of one float each
            for beta1**step and beta2**step.
        sizes: [parameters].
        rates: [parameters, 2]; learning rate, and the share of a weight that decay takes.
        owners, starts: [blocks]; the work in pieces of BLOCK elements: a parameter, and its first element.
    """
    old1, old2 = np.float32(beta1), np.float32(beta2)
    new1, new2 = np.float32(1.0) - old1, np.float32(1.0) - old2  # of the rounded ones, as the corrections are
    for block in prange(owners.size):
        p = owners[block]
        start = starts[block]
        stop = min(start + BLOCK, sizes[p])
        weights = carray(_floats_at(addresses[p, 0]), (sizes[p],))
        gradients = carray(_floats_at(addresses[p, 1]), (sizes[p],))
        moments = carray(_floats_at(addresses[p, 2]), (sizes[p],))
        squares = carray(_floats_at(addresses[p, 3]), (sizes[p],))
        power1 = carray(_floats_at(addresses[p, 4]), (1,))[0]
        power2 = carray(_floats_at(addresses[p, 5]), (1,))[0]
        step_size = np.float32(rates[p, 0] / (1.0 - power1))
        factor = np.float32(1.0 / np.sqrt(1.0 - power2))
        decay, smallest = np.float32(rates[p, 1]), np.float32(epsilon)
        for i in range(start, stop):
            moment = old1 * moments[i] + new1 * gradients[i]
            square = old2 * squares[i] + new2 * gradients[i] * gradients[i]
            moments[i] = moment
            squares[i] = square
            weights[i] -= weights[i] * decay + step_size * moment / (np.sqrt(square) * factor + smallest)
    for p in range(sizes.size):
        carray(_floats_at(addresses[p, 4]), (1,))[0] *= old1
        carray(_floats_at(addresses[p, 5]), (1,))[0] *= old2


# ------------------------------------------------------------------------------------------------------------ compiling


def load():
    """The compiled kernels as attributes. What no cache holds is compiled, with a progress line on stderr.

    Raises RuntimeError, ValueError or OSError where kernels can't be used: no writable folder for the cache, or no
    threading layer that bears calls from several Python threads.
    """
    _choose_threads()
    compiled = SimpleNamespace()
    compile_for = functools.partial(
        njit, parallel=True, cache=True, fastmath=FAST_MATH, error_model="numpy", nogil=True
    )
    for function, signature in tqdm(_kernels, "compiling CPU loops, once", delay=2, leave=False, file=sys.stderr):
        setattr(compiled, function.__name__, compile_for(signature)(function))
    compiled.add_bias(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))  # starts the threads, or raises
    return compiled


def _choose_threads():
    """One pool of threads for the matrix products and the loops, where that is possible.

    Paddle's matrix library keeps its OpenMP threads spinning for a while after a product, in the way of any other pool.
    numba's "omp" layer asks for GNU's OpenMP; with Paddle's libiomp5 in the global namespace it gets that one.
    """
    if config.THREADING_LAYER == "workqueue":
        raise RuntimeError("numba's workqueue threads abort when two Python threads use them")
    if config.THREADING_LAYER != "default":
        return
    library = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    config.THREADING_LAYER = "threadsafe"  # tbb or omp
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        config.THREADING_LAYER = "omp"
