"""Mixed attention's plain definition, part by part against numpy, and its gradients against differences, in float64."""

import numpy as np
import paddle
import pytest
from exact import check_gradients, close, random, softmax
from given_weights import layer_of, mixed_attention, weight_shapes

from modeling import attention, depthwise_conv, dynamic_conv, dynamic_conv_by_taps


def weights():
    """Random arrays for two heads of size 2 and three taps."""
    return [random(*shape, seed=index) * 0.5 for index, shape in enumerate(weight_shapes(6, 4, 2, 3))]


def convolved(x, weight):
    """x [B, L, E] by loops, weight [E, 1, K]."""
    length, taps = x.shape[1], weight.shape[-1]
    found = np.zeros_like(x)
    for token in range(length):
        for tap in range(taps):
            neighbour = token + tap - taps // 2
            if 0 <= neighbour < length:
                found[:, token] += x[:, neighbour] * weight[:, 0, tap]
    return found


@pytest.mark.parametrize("length", [1, 3, 10])  # shorter than the kernel, too
@pytest.mark.parametrize("taps", [1, 5, 9])
def test_depthwise_conv(length, taps):
    x, weight = random(2, length, 3), random(3, 1, taps, seed=1)
    close(depthwise_conv(paddle.to_tensor(x), paddle.to_tensor(weight)), convolved(x, weight))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_depthwise_conv_in_16_bits_has_gradients(kind):
    """Of which a CPU has no kernel, as other devices may not: float32's, rounded."""
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(2, 9, 8)).astype("f"), random.normal(size=(8, 1, 3)).astype("f")
    found = []
    for dtype in (kind, "float32"):
        inputs = [paddle.to_tensor(array).astype(kind).astype(dtype).detach() for array in (x, weight)]
        for tensor in inputs:
            tensor.stop_gradient = False
        out = depthwise_conv(*inputs)
        assert out.dtype == inputs[0].dtype
        out.astype("float32").sum().backward()
        found.append([out, *(tensor.grad for tensor in inputs)])
    for short, whole in zip(*found, strict=True):
        np.testing.assert_allclose(short.astype("float32").numpy(), whole.numpy(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("length", [1, 3, 10])
@pytest.mark.parametrize("taps", [1, 5, 9])
@pytest.mark.parametrize("form", [dynamic_conv, dynamic_conv_by_taps])
def test_dynamic_conv(form, length, taps):
    values, kernels = random(2, length, 3, 4), softmax(random(2, length, 3, taps, seed=1))
    expected = np.zeros_like(values)
    for token in range(length):
        for tap in range(taps):
            neighbour = token + tap - taps // 2
            if 0 <= neighbour < length:
                expected[:, token] += values[:, neighbour] * kernels[:, token, :, tap : tap + 1]
    close(form(paddle.to_tensor(values), paddle.to_tensor(kernels)), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_kernels(masked):
    arrays = weights()[:-2]
    x, query, real = random(2, 5, 6, seed=30), random(2, 5, 4, seed=31), np.ones([2, 5, 1])
    real[0, 3:] = 0.0 if masked else 1.0
    depthwise, pointwise, span_bias, kernel, kernel_bias = arrays[8:13]
    span_key = convolved(x * real, depthwise) @ pointwise.T + span_bias
    expected = softmax(((query * span_key) @ kernel + kernel_bias).reshape(2, 5, 2, 3))
    layer = layer_of([paddle.to_tensor(array) for array in arrays], heads=2)
    tensors = paddle.to_tensor(x), paddle.to_tensor(query), paddle.to_tensor(real) if masked else None
    close(layer.kernels(*tensors), expected)


@pytest.mark.parametrize("with_probabilities", [False, True])
def test_attention(with_probabilities):
    query, key, value = (random(2, 6, 3, 4, seed=seed) for seed in range(3))
    mask = np.where(random(2, 1, 1, 6, seed=3) > 0.5, -1e4, 0.0)
    tensors = map(paddle.to_tensor, (query, key, value, mask))
    context, probabilities = attention(*tensors, 0.0, True, with_probabilities)
    expected = softmax(np.einsum("bqhd,bkhd->bhqk", query, key) / 2 + mask)
    if with_probabilities:
        close(probabilities, expected)
    else:
        assert probabilities is None
    close(context, np.einsum("bhqk,bkhd->bqhd", expected, value))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_gradients_of_mixed_attention(length):
    mask = paddle.to_tensor(np.where(random(2, 1, 1, length, seed=3) > 1.0, -1e4, 0.0))
    real = paddle.to_tensor((random(2, length, 1, seed=4) > -1.0).astype("float64"))

    def function(x, *weights):
        return mixed_attention(x, mask, real, weights, heads=2)

    check_gradients(function, [random(2, length, 6), *weights()])
