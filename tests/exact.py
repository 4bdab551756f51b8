"""Checks in float64: results against numpy's, gradients against differences."""

import numpy as np
import paddle
import pytest


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(tensor, array):
    np.testing.assert_allclose(tensor.numpy(), array, rtol=0, atol=1e-10)


def check_gradients(function, arrays, seed=0):
    """Autograd's derivative along a random direction is the difference quotient's, for every input by itself."""
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    out = function(*tensors)
    weight = paddle.to_tensor(random(*out.shape, seed=99))
    (out * weight).sum().backward()
    for index, tensor in enumerate(tensors):
        direction = random(*arrays[index].shape, seed=100 + index)

        def value(step, index=index, direction=direction):
            moved = [a + step * direction if i == index else a for i, a in enumerate(arrays)]
            return float((function(*map(paddle.to_tensor, moved)) * weight).sum())

        quotient = (value(1e-5) - value(-1e-5)) / 2e-5
        assert float((tensor.grad.numpy() * direction).sum()) == pytest.approx(quotient, rel=1e-6, abs=1e-8), index
