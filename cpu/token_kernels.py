"""The compiled loops that go from token to token: convolution, heads, rows of embedding tables.

As in `row_kernels`: C-contiguous float32 arrays, the same bits for any number of threads, NaN and Inf propagate.

Dimension letters: N rows (B·L tokens), B batch, L length, H heads of one kind, D head size, K convolution kernel,
E features, P parts.
"""

import numpy as np
from numba import prange

from cpu.compiler import B2, B4, F1, F2, F3, F4, I1, PARTS, inline, kernel, part_of, written

# ---------------------------------------------------------------------------------------------------------- convolution
# Taps are taken three at a time, so that a row of results is loaded and stored a third as often. Rows are named by
# index, not sliced: a slice that depends on a condition costs an atomic reference count. A tap without a neighbour
# reads its own token with weight 0.


@inline
def three_neighbours(first, step, k, position, length, size):
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
            in1, in2, in3, p1, p2, p3 = three_neighbours(first, 1, k, position, length, size)
            k1, k2, k3 = k if in1 else size, k + 1 if in2 else size, k + 2 if in3 else size
            if k == 0 and not add:
                out[b, position] = np.float32(0.0)
            for e in range(x.shape[2]):
                total = x[b, p1, e] * taps[k1, e] + x[b, p2, e] * taps[k2, e] + x[b, p3, e] * taps[k3, e]
                out[b, position, e] += total


@kernel(F3, F3, F3)
def depthwise_conv_backward(x, d_out, d_taps):
    """d_taps [P, K, E]: partial sums of the gradient of the taps. (That of x is d_out convolved with reversed taps.)"""
    length, size = x.shape[1], d_taps.shape[1]
    tokens = 16  # that stay in the first cache while the taps pass over them
    for part in prange(PARTS):
        start, stop = part_of(part, x.shape[0] * length)
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


@kernel(F4, F4, F4, bfloat16=(F4, F4, B4))
def dynamic_conv(projections, kernels, out):
    """The last H of out [B, L, 2·H, D]: the last H of projections [B, L, 4·H, D] mixed by kernels [B, L, H, K]."""
    length, heads, size = kernels.shape[1:]
    for part in prange(PARTS):
        start, stop = part_of(part, kernels.shape[0] * length)
        mixed = np.empty((1, 1, 1, projections.shape[3]), np.float32)
        for n in range(start, stop):
            b, position = n // length, n % length
            for h in range(heads):
                values, result = 3 * heads + h, heads + h
                for k in range(0, size, 3):
                    first = position + k - size // 2
                    in1, in2, in3, p1, p2, p3 = three_neighbours(first, 1, k, position, length, size)
                    w1 = kernels[b, position, h, k] if in1 else np.float32(0.0)
                    w2 = kernels[b, position, h, k + 1] if in2 else np.float32(0.0)
                    w3 = kernels[b, position, h, k + 2] if in3 else np.float32(0.0)
                    mix(projections, b, values, p1, p2, p3, w1, w2, w3, k > 0, mixed, 0, 0, 0)
                for d in range(mixed.shape[3]):
                    out[b, position, result, d] = written(out, mixed[0, 0, 0, d])


@inline
def mix(x, b, head, p1, p2, p3, w1, w2, w3, add, out, at, position, result):
    """out[at, position, result] = the weighted sum of three of x[b, :, head]. add: out += instead."""
    if add:
        for d in range(x.shape[3]):
            out[at, position, result, d] += x[b, p1, head, d] * w1 + x[b, p2, head, d] * w2 + x[b, p3, head, d] * w3
    else:
        for d in range(x.shape[3]):
            out[at, position, result, d] = x[b, p1, head, d] * w1 + x[b, p2, head, d] * w2 + x[b, p3, head, d] * w3


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
                in1, in2, in3, p1, p2, p3 = three_neighbours(first, 1, k, position, length, size)
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
                in1, in2, in3, p1, p2, p3 = three_neighbours(first, -1, k, position, length, size)
                w1 = kernels[b, p1, h, k] * real[n] if in1 else np.float32(0.0)
                w2 = kernels[b, p2, h, k + 1] * real[n] if in2 else np.float32(0.0)
                w3 = kernels[b, p3, h, k + 2] * real[n] if in3 else np.float32(0.0)
                mix(d_out, b, result, p1, p2, p3, w1, w2, w3, k > 0, d_projections, b, position, values)


@kernel(F3, "boolean", F2)
def tap_rows(weight, turned, out):
    """The weight [E, 1, K] of a depthwise convolution → the rows [K + 1, E] that depthwise_conv takes.

    turned: the last tap first, as backward needs them.
    """
    size = weight.shape[2]
    for k in range(size):
        for e in range(weight.shape[0]):
            out[size - 1 - k if turned else k, e] = weight[e, 0, k]
    out[size] = np.float32(0.0)


@kernel(F2, F3)
def tap_gradients(sums, out):
    """Rows of taps [K, E] → the gradient [E, 1, K]."""
    for e in range(out.shape[0]):
        for k in range(out.shape[2]):
            out[e, 0, k] = sums[k, e]


@kernel(F2, F1, F2, group="padding")
def times_real(x, real, out):
    """out [N, E] = x · real [N]."""
    for n in prange(x.shape[0]):
        for e in range(x.shape[1]):
            out[n, e] = x[n, e] * real[n]


@kernel(F2, F1, F2, group="padding")
def add_times_real(x, real, out):
    """out [N, E] += x · real [N]."""
    for n in prange(x.shape[0]):
        for e in range(x.shape[1]):
            out[n, e] += x[n, e] * real[n]


@kernel(F2, F1, F2, F1, F1, F2, bfloat16=(F2, F1, F2, F1, F1, B2))
def span_product(projections, bias, span, span_bias, real, product):
    """product [N, W] = (query + its bias) · (span + span_bias), of the first columns of projections [N, 4·W].

    In place, span gets its bias, and the last columns, the convolution's values, theirs, times real [N].
    """
    width = span.shape[1]
    for n in prange(projections.shape[0]):
        for e in range(width):
            s = span[n, e] + span_bias[e]
            span[n, e] = s
            product[n, e] = written(product, (projections[n, e] + bias[e]) * s)
        values, biases = projections[n, 3 * width :], bias[3 * width :]
        for e in range(width):
            values[e] = (values[e] + biases[e]) * real[n]


@kernel(F2, F2, F2, F2, F2, F2, F3, bfloat16=(F2, F2, F2, F2, B2, B2, F3))
def span_product_backward(projections, span, d_product, d_projections, d_span, out, sums):
    """The backward of span_product, which completes d_projections [N, 4·W]: they become `out`, which may be the same.

    projections have the query with its bias. sums [P, 3, W] gets partial sums of d_projections' first and last W
    columns, which are those of the biases, and of d_span.
    """
    width = span.shape[1]
    for part in prange(PARTS):
        start, stop = part_of(part, projections.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(start, stop):
            for e in range(width):
                dq = d_projections[n, e] + d_product[n, e] * span[n, e]
                ds = d_product[n, e] * projections[n, e]
                out[n, e] = written(out, dq)
                d_span[n, e] = written(d_span, ds)
                total[0, e] += dq
                total[2, e] += ds
            source, target = d_projections[n, width:], out[n, width:]
            for e in range(3 * width):
                target[e] = written(target, source[e])
            values = d_projections[n, 3 * width :]
            for e in range(width):
                total[1, e] += values[e]


# ---------------------------------------------------------------------------------------------------------------- heads


@kernel(F4, F1, "float32", F4, F4, F4, bfloat16=(F4, F1, "float32", B4, B4, B4))
def split_three(projections, bias, scale, query, key, value):
    """From projections [B, L, 3·H or more, D] without bias to query (times scale), key, value: [B, H, L, D].

    In place, the projections get their bias in the query.
    """
    length, heads, width = projections.shape[1], query.shape[1], projections.shape[3]
    for n in prange(projections.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            row, result, biases = projections[b, position, h], query[b, h, position], bias[h * width :]
            for d in range(width):
                row[d] += biases[d]
                result[d] = written(result, row[d] * scale)
            row, result, biases = projections[b, position, heads + h], key[b, h, position], bias[(heads + h) * width :]
            for d in range(width):
                result[d] = written(result, row[d] + biases[d])
            row, result = projections[b, position, 2 * heads + h], value[b, h, position]
            biases = bias[(2 * heads + h) * width :]
            for d in range(width):
                result[d] = written(result, row[d] + biases[d])


@kernel(F4, F4, F4, "float32", F4, F2, bfloat16=(F4, F4, F4, "float32", B4, F2))
def join_three(d_query, d_key, d_value, scale, d_projections, sums):
    """The backward of split_three: the first 3·H of d_projections; sums [P, 3·H·D]: partial ones, for the bias."""
    heads, length, width = d_query.shape[1:]
    for part in prange(PARTS):
        start, stop = part_of(part, d_query.shape[0] * length)
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(start, stop):
            b, position = n // length, n % length
            for h in range(heads):
                gradient, row, added = d_query[b, h, position], d_projections[b, position, h], total[h * width :]
                for d in range(width):
                    dq = gradient[d] * scale
                    row[d] = written(row, dq)
                    added[d] += dq
                gradient, row = d_key[b, h, position], d_projections[b, position, heads + h]
                added = total[(heads + h) * width :]
                for d in range(width):
                    row[d] = written(row, gradient[d])
                    added[d] += gradient[d]
                gradient, row = d_value[b, h, position], d_projections[b, position, 2 * heads + h]
                added = total[(2 * heads + h) * width :]
                for d in range(width):
                    row[d] = written(row, gradient[d])
                    added[d] += gradient[d]


@kernel(F4, F4, bfloat16=(F4, B4))
def merge_heads(x, out):
    """x [B, H, L, D] → the first H of out [B, L, H or more, D]."""
    heads, length = x.shape[1:3]
    for n in prange(x.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            source, target = x[b, h, position], out[b, position, h]
            for d in range(source.size):
                target[d] = written(target, source[d])


@kernel(F4, F4, bfloat16=(F4, B4))
def take_heads(x, out):
    """The first H of x [B, L, H or more, D] → out [B, H, L, D]."""
    heads, length = out.shape[1:3]
    for n in prange(x.shape[0] * length):
        b, position = n // length, n % length
        for h in range(heads):
            source, target = x[b, position, h], out[b, h, position]
            for d in range(source.size):
                target[d] = written(target, source[d])


# ----------------------------------------------------------------------------------------------------------- embeddings


@kernel(I1, F2, "int64", F2)
def scatter_add(ids, rows, ignored, table):
    """table[ids[n]] += rows[n] [E] wherever ids[n] is not `ignored`. Threads share the columns, so no two collide."""
    width = 16  # floats in a cache line
    for block in prange((rows.shape[1] + width - 1) // width):
        first, last = block * width, min((block + 1) * width, rows.shape[1])
        for n in range(ids.size):
            if ids[n] != ignored:
                target, row = table[ids[n], first:last], rows[n, first:last]
                for e in range(row.size):
                    target[e] += row[e]
