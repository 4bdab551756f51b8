"""The compiled loops of self-attention, in tiles: all scores of some queries lie in a core's cache and nowhere else.

Queries, keys and values are read where the projections wrote them, next to each other in the rows of [N, columns];
gradients are written likewise. What backward needs is two numbers a query (FlashAttention's, arXiv 2205.14135): the
largest score and the sum of the powers; it computes the probabilities again.

Dimension letters: B batch, L length, N = B·L rows, H heads, D head size.
"""

import numpy as np
from numba import prange

from cpu.arithmetic import exp, is_kept, largest_of
from cpu.calls import call_sgemm
from cpu.compiler import B2, DROPOUT, F1, F2, F3, F4, inline, kernel, written
from cpu.product_kernels import ACROSS, PLAIN, ROW_MAJOR

TILE = 2**16  # scores of a tile, 256 kB: a quarter of a core's cache of the second level

ADDRESS = "int64"


@inline
def _tile_rows(length):
    return max(1, min(length, TILE // length))


@kernel(
    ADDRESS, F2, F1, F4, "float32", "int64", "int64", "int64", *DROPOUT, F3, F2,
    bfloat16=(ADDRESS, F2, F1, F4, "float32", "int64", "int64", "int64", *DROPOUT, F3, B2),
    group="long",
)  # fmt: skip
def attend(
    multiply, projections, bias, mask, scale, length, heads, size, key, other_key, threshold, gain, sums, out
):  # fmt: skip
    """The first H·D columns of out [N, …] = dropout(softmax(query · keyᵀ · scale + mask)) · value.

    projections: [N, 3·H·D or more], the heads' queries first, then their keys and values; these get their bias in
    place. multiply: cblas_sgemm. mask: [1 or B, 1 or H, 1 or L, L]. sums [B·H, L, 2] gets the largest score and
    1 / sum of powers of every query.
    """
    columns, width = projections.shape[1], heads * size
    rows = _tile_rows(length)
    for i in prange(projections.shape[0] // length * heads):
        b, h = i // heads, i % heads
        scores, context = np.empty((rows, length), np.float32), np.empty((rows, size), np.float32)
        for n in range(b * length, (b + 1) * length):
            for part in range(3):
                column = part * width + h * size
                values, biases = projections[n, column : column + size], bias[column : column + size]
                for d in range(size):
                    values[d] += biases[d]
        query = projections.ctypes.data + 4 * (b * length * columns + h * size)
        for first in range(0, length, rows):
            count = min(rows, length - first)
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, ACROSS, count, length, size, scale, query + 4 * first * columns, columns,
                query + 4 * width, columns, 0.0, scores.ctypes.data, length,
            )  # fmt: skip
            for r in range(count):
                row, position = scores[r], first + r
                highest = largest_of(row, mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]])
                total = np.float32(0.0)
                for j in range(length):
                    power = exp(row[j] - highest)
                    row[j] = power
                    total += power
                total = np.float32(1.0) / total
                sums[i, position, 0] = highest
                sums[i, position, 1] = total
                if threshold == 0:
                    for j in range(length):
                        row[j] *= total
                else:
                    total *= gain
                    element = (i * length + position) * length
                    for j in range(length):
                        kept = is_kept(element + j, key, other_key, threshold)
                        row[j] = row[j] * total if kept else np.float32(0.0)
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, PLAIN, count, size, length, 1.0, scores.ctypes.data, length,
                query + 8 * width, columns, 0.0, context.ctypes.data, size,
            )  # fmt: skip
            for r in range(count):
                source, target = context[r], out[b * length + first + r, h * size : (h + 1) * size]
                for d in range(size):
                    target[d] = written(target, source[d])


@kernel(
    ADDRESS, F2, F4, "float32", "int64", "int64", "int64", *DROPOUT, F3, F2, F2, F2,
    bfloat16=(ADDRESS, F2, F4, "float32", "int64", "int64", "int64", *DROPOUT, F3, F2, B2, F2),
    group="long",
)  # fmt: skip
def attend_backward(
    multiply, projections, mask, scale, length, heads, size, key, other_key, threshold, gain, sums, d_out,
    d_projections, d_bias,
):  # fmt: skip
    """The first 3·H·D columns of d_projections, from d_out [N, H·D or more]; d_bias [B, 3·H·D]: sums. See attend."""
    columns, out_columns, width = projections.shape[1], d_out.shape[1], heads * size
    rows = _tile_rows(length)
    for i in prange(projections.shape[0] // length * heads):
        b, h = i // heads, i % heads
        scores, gradients = np.empty((rows, length), np.float32), np.empty((rows, length), np.float32)
        shares, d_three = np.empty(length, np.float32), np.empty((3, length, size), np.float32)
        query = projections.ctypes.data + 4 * (b * length * columns + h * size)
        d_context = d_out.ctypes.data + 4 * (b * length * out_columns + h * size)
        d_query = d_three.ctypes.data
        d_key, d_value = d_query + 4 * length * size, d_query + 8 * length * size
        for first in range(0, length, rows):
            count, add = min(rows, length - first), np.float32(0.0 if first == 0 else 1.0)
            tile, d_tile = query + 4 * first * columns, d_context + 4 * first * out_columns
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, ACROSS, count, length, size, scale, tile, columns, query + 4 * width,
                columns, 0.0, scores.ctypes.data, length,
            )  # fmt: skip
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, ACROSS, count, length, size, 1.0, d_tile, out_columns, query + 8 * width,
                columns, 0.0, gradients.ctypes.data, length,
            )  # fmt: skip
            for r in range(count):
                row, gradient, position = scores[r], gradients[r], first + r
                masks = mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]]
                highest, total = sums[i, position, 0], sums[i, position, 1]
                mean = np.float32(0.0)
                element = (i * length + position) * length
                for j in range(length):
                    share = exp(row[j] + masks[j] - highest) * total
                    factor = gain if is_kept(element + j, key, other_key, threshold) else np.float32(0.0)
                    d = gradient[j] * factor
                    shares[j] = share
                    gradient[j] = d
                    row[j] = share * factor
                    mean += d * share
                for j in range(length):
                    gradient[j] = shares[j] * (gradient[j] - mean)
            call_sgemm(
                multiply, ROW_MAJOR, ACROSS, PLAIN, length, size, count, 1.0, scores.ctypes.data, length, d_tile,
                out_columns, add, d_value, size,
            )  # fmt: skip
            call_sgemm(
                multiply, ROW_MAJOR, PLAIN, PLAIN, count, size, length, scale, gradients.ctypes.data, length,
                query + 4 * width, columns, 0.0, d_query + 4 * first * size, size,
            )  # fmt: skip
            call_sgemm(
                multiply, ROW_MAJOR, ACROSS, PLAIN, length, size, count, scale, gradients.ctypes.data, length, tile,
                columns, add, d_key, size,
            )  # fmt: skip
        for part in range(3):
            column = part * width + h * size
            sums_of = d_bias[b, column : column + size]
            sums_of[:] = np.float32(0.0)
            for position in range(length):
                source, target = d_three[part, position], d_projections[b * length + position, column : column + size]
                for d in range(size):
                    target[d] = written(target, source[d])
                    sums_of[d] += source[d]
