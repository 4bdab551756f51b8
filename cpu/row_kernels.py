"""The compiled loops that go element by element and row by row; those over tokens are in `token_kernels`.

Every kernel takes C-contiguous float32 arrays, writes into arrays of its caller, splits its work over numba's threads,
and gives the same bits for any number of them: sums over rows are added up in a fixed number of parts. NaN and Inf
propagate. Some come in a second version in which the operands of the neighbouring products are bfloat16.

Dimension letters: N rows (B·L tokens), B batch, L length, H heads of one kind, K convolution kernel, E features,
P parts.
"""

import numpy as np
from numba import prange

from cpu.arithmetic import exp, is_kept, largest_of, standard_normal
from cpu.compiler import B2, B4, BLOCK, DROPOUT, F1, F2, F3, F4, I1, PARTS, inline, kernel, part_of, read, written

# -------------------------------------------------------------------------------------------------- bias and activation


@kernel(F2, F1)
def add_bias(x, bias):
    """x [N, E] += bias [E]."""
    for n in prange(x.shape[0]):
        row = x[n]
        for e in range(row.size):
            row[e] += bias[e]


@kernel(F2, F1, F2, bfloat16=(B2, F1, B2))
def bias_gelu(x, bias, out):
    """out = gelu(x [N, E] + bias), the exact one."""
    for n in prange(x.shape[0]):
        row, result = x[n], out[n]
        for e in range(row.size):
            value = read(row[e]) + bias[e]
            result[e] = written(result, value * standard_normal(value)[1])


@kernel(F2, F1, bfloat16=(B2, F1), group="forward")
def bias_gelu_in_place(x, bias):
    """x [N, E] becomes gelu(x + bias): for inference, which keeps nothing."""
    for n in prange(x.shape[0]):
        row = x[n]
        for e in range(row.size):
            value = read(row[e]) + bias[e]
            row[e] = written(row, value * standard_normal(value)[1])


@kernel(F2, F1, F2, F2, bfloat16=(B2, F1, B2, F2))
def bias_gelu_backward(x, bias, gradient, d_bias):
    """gradient [N, E] of gelu(x + bias) becomes that of x; d_bias [P, E] gets its partial sums over rows."""
    for part in prange(PARTS):
        first, last = part_of(part, x.shape[0])
        total = d_bias[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            row, result = x[n], gradient[n]
            for e in range(row.size):
                value = read(row[e]) + bias[e]
                density, distribution = standard_normal(value)
                d = read(result[e]) * (distribution + value * density)
                result[e] = written(result, d)
                total[e] += d


@kernel(F2, F1, F2, bfloat16=(B2, F1, B2), group="relu")
def bias_relu(x, bias, out):
    """out = max(x [N, E] + bias, 0). NaN stays NaN."""
    for n in prange(x.shape[0]):
        row, result = x[n], out[n]
        for e in range(row.size):
            value = read(row[e]) + bias[e]
            result[e] = written(result, np.float32(0.0) if value < np.float32(0.0) else value)


@kernel(F2, F1, bfloat16=(B2, F1), group="relu")
def bias_relu_in_place(x, bias):
    """x [N, E] becomes max(x + bias, 0): for inference, which keeps nothing."""
    for n in prange(x.shape[0]):
        row = x[n]
        for e in range(row.size):
            value = read(row[e]) + bias[e]
            row[e] = written(row, np.float32(0.0) if value < np.float32(0.0) else value)


@kernel(F2, F1, F2, F2, bfloat16=(B2, F1, B2, F2), group="relu")
def bias_relu_backward(x, bias, gradient, d_bias):
    """See bias_gelu_backward; at 0 the derivative is 0, as Paddle's."""
    for part in prange(PARTS):
        first, last = part_of(part, x.shape[0])
        total = d_bias[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            row, result = x[n], gradient[n]
            for e in range(row.size):
                value = read(row[e]) + bias[e]
                d = np.float32(0.0) if value <= np.float32(0.0) else read(result[e])
                result[e] = written(result, d)
                total[e] += d


@kernel(F2, F2)
def column_sums(x, sums):
    """sums [P, E]: x [N, E] summed over the rows of each part."""
    for part in prange(PARTS):
        first, last = part_of(part, x.shape[0])
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


@kernel(F1, "uint16[::1]", group="narrow")
def narrow(x, out):
    """out = x in bfloat16."""
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min((block + 1) * BLOCK, x.size)
        source, target = x[first:last], out[first:last]  # an index from 0 on becomes vector instructions
        for i in range(source.size):
            target[i] = written(target, source[i])


@kernel(F2, "int64", B2, group="narrow")
def narrow_columns(x, first, out):
    """Some columns of out [N, …], from `first` on, = x [N, E] in bfloat16."""
    for n in prange(x.shape[0]):
        source, target = x[n], out[n, first : first + x.shape[1]]
        for e in range(source.size):
            target[e] = written(target, source[e])


@kernel(F2, "int64", F2, group="narrow")
def take_columns(x, first, out):
    """out [N, E] = columns of x [N, …] from `first` on."""
    for n in prange(out.shape[0]):
        source, target = x[n, first : first + out.shape[1]], out[n]
        for e in range(target.size):
            target[e] = source[e]


# ------------------------------------------------------------------------------------------------ dropout and LayerNorm


@inline
def normalise(row, weight, bias, epsilon, out):
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
    """d_row [E] of the input of `normalise`; adds to d_weight and d_bias."""
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


@kernel(F2, F1, F2, F1, F1, "float32", *DROPOUT, F2, F1)
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
                kept = is_kept(start + e, key, other_key, threshold)
                row[e] = other[e] + ((row[e] + bias[e]) * gain if kept else np.float32(0.0))
        scales[n] = normalise(row, weight, shift, epsilon, out[n])


@kernel(F2, F1, F1, F2, *DROPOUT, F2, F2, F3, bfloat16=(F2, F1, F1, F2, *DROPOUT, B2, F2, F3))
def dropout_add_norm_backward(normal, scales, weight, d_out, key, other_key, threshold, gain, d_x, d_residual, sums):
    """d_x and d_residual [N, E]; sums [P, 3, E] gets partial sums of the gradients of weight, shift and bias."""
    for part in prange(PARTS):
        first, last = part_of(part, normal.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        for n in range(first, last):
            d_row, result = d_residual[n], d_x[n]
            _normalise_backward(normal[n], scales[n], weight, d_out[n], d_row, total[0], total[1])
            start = n * d_row.size
            d_bias = total[2]
            for e in range(d_row.size):
                d = d_row[e] * gain if is_kept(start + e, key, other_key, threshold) else np.float32(0.0)
                result[e] = written(result, d)
                d_bias[e] += d


# ----------------------------------------------------------------------------------------------------------- embeddings


@kernel(I1, I1, I1, F2, F2, F2, F1, F1, "float32", *DROPOUT, F2, F2, F1)
def embeddings(
    ids, positions, types, words, places, kinds, weight, shift, epsilon, key, other_key, threshold, gain, normal, out,
    scales,
):  # fmt: skip
    """out [N, E] = dropout(LayerNorm(words[ids] + places[positions] + kinds[types])); normal: before its weight."""
    for n in prange(out.shape[0]):
        row, result = normal[n], out[n]
        word, place, kind = words[ids[n]], places[positions[n]], kinds[types[n]]
        for e in range(row.size):
            row[e] = word[e] + place[e] + kind[e]
        scales[n] = normalise(row, weight, shift, epsilon, result)
        start = n * row.size
        for e in range(row.size):
            kept = is_kept(start + e, key, other_key, threshold)
            result[e] = result[e] * gain if kept else np.float32(0.0)


@kernel(F2, F1, F1, F2, *DROPOUT, F2, F3)
def embeddings_backward(normal, scales, weight, d_out, key, other_key, threshold, gain, d_rows, sums):
    """d_rows [N, E] of the sum of the three embeddings; sums [P, 2, E] of the gradients of weight and shift."""
    for part in prange(PARTS):
        first, last = part_of(part, normal.shape[0])
        total = sums[part]
        total[:] = np.float32(0.0)
        kept_gradient = np.empty(normal.shape[1], np.float32)
        for n in range(first, last):
            gradient = d_out[n]
            start = n * gradient.size
            for e in range(gradient.size):
                kept = is_kept(start + e, key, other_key, threshold)
                kept_gradient[e] = gradient[e] * gain if kept else np.float32(0.0)
            _normalise_backward(normal[n], scales[n], weight, kept_gradient, d_rows[n], total[0], total[1])


# -------------------------------------------------------------------------------------------------------------- softmax


@inline
def softmax_row(row, mask):
    """row [L] becomes softmax(row + mask)."""
    highest = largest_of(row, mask)
    total = np.float32(0.0)
    for j in range(row.size):
        power = exp(row[j] - highest)
        row[j] = power
        total += power
    total = np.float32(1.0) / total
    for j in range(row.size):
        row[j] *= total


@kernel(F3, F2)
def bias_softmax(x, bias):
    """x [N, H, K] becomes softmax(x + bias [H, K])."""
    heads = x.shape[1]
    for n in prange(x.shape[0]):
        for h in range(heads):
            softmax_row(x[n, h], bias[h])


@kernel(F4, F4, group="forward")
def softmax(scores, mask):
    """scores [B, H, L, L] become softmax(scores + mask); mask [1 or B, 1 or H, 1 or L, L]."""
    heads, length = scores.shape[1:3]
    for i in prange(scores.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        softmax_row(scores[b, h, position], mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]])


@kernel(F4, F4, *DROPOUT, F4, bfloat16=(F4, F4, *DROPOUT, B4))
def softmax_dropout(scores, mask, key, other_key, threshold, gain, out):
    """As softmax, and out = dropout(scores)."""
    heads, length = scores.shape[1:3]
    for i in prange(scores.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        row, result = scores[b, h, position], out[b, h, position]
        softmax_row(row, mask[b % mask.shape[0], h % mask.shape[1], position % mask.shape[2]])
        start = i * row.size
        for j in range(row.size):
            kept = is_kept(start + j, key, other_key, threshold)
            result[j] = written(result, row[j] * gain if kept else np.float32(0.0))


@kernel(F4, *DROPOUT, F4, bfloat16=(F4, *DROPOUT, B4))
def softmax_dropout_backward(probabilities, key, other_key, threshold, gain, d_out):
    """d_out [B, H, L, L] of the dropped probabilities becomes the gradient of the scores."""
    heads, length = d_out.shape[1:3]
    for i in prange(d_out.shape[0] * heads * length):
        b, h, position = i // (heads * length), i // length % heads, i % length
        row, gradient = probabilities[b, h, position], d_out[b, h, position]
        start = i * row.size
        mean = np.float32(0.0)
        for j in range(row.size):
            kept = is_kept(start + j, key, other_key, threshold)
            d = read(gradient[j]) * gain if kept else np.float32(0.0)
            gradient[j] = written(gradient, d)
            mean += d * row[j]
        for j in range(row.size):
            gradient[j] = written(gradient, row[j] * (read(gradient[j]) - mean))
