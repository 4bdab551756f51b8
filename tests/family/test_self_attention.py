"""Self-attention's plain definition against numpy, and its gradients against differences, in float64."""

import numpy as np
import paddle
import pytest
from exact import check_gradients, close, random, softmax
from given_weights import self_attention, self_weight_shapes


def weights(hidden):
    return [random(*shape, seed=index) * 0.5 for index, shape in enumerate(self_weight_shapes(hidden))]


def mask_of(length):
    return np.where(random(2, 1, 1, length, seed=3) > 0.5, -1e4, 0.0)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_the_half_layer(heads):
    x, arrays, mask = random(2, 5, 6, seed=30), weights(6), mask_of(5)
    query, key, value = (x @ arrays[2 * part] + arrays[2 * part + 1] for part in range(3))
    by_head = (array.reshape(2, 5, heads, 6 // heads) for array in (query, key, value))
    query, key, value = by_head
    shares = softmax(np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(6 // heads) + mask)
    context = np.einsum("bhqk,bkhd->bqhd", shares, value).reshape(2, 5, 6)
    summed = x + context @ arrays[6] + arrays[7]
    normal = (summed - summed.mean(-1, keepdims=True)) / np.sqrt(summed.var(-1, keepdims=True) + 1e-12)
    tensors = [paddle.to_tensor(array) for array in arrays]
    found = self_attention(paddle.to_tensor(x), paddle.to_tensor(mask), tensors, heads)
    close(found, normal * arrays[8] + arrays[9])


@pytest.mark.parametrize("length", [1, 4])
def test_gradients(length):
    mask = paddle.to_tensor(mask_of(length))
    check_gradients(lambda x, *rest: self_attention(x, mask, rest, heads=2), [random(2, length, 6), *weights(6)])
