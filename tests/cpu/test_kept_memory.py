"""What the fast path holds when no gradient can come."""

import runtime  # noqa: F401  (before Paddle)

import numpy as np
import paddle
import pytest
from given_weights import mixed_attention, self_attention, self_weight_shapes, weight_shapes
from paddle.base import core

from layers.fast_path import compiled
from layers.functions import FeedForwardWeights, embeddings, feed_forward, language_model, linear
from layers.paddle_versions import PADDLE_2

pytestmark = pytest.mark.skipif(compiled() is None, reason="needs the compiled loops")
B, L, E, HEADS, VOCABULARY, ROWS = 8, 64, 96, 4, 500, 1200


def tensors(*shapes):
    random = np.random.default_rng(0)
    return [paddle.to_tensor(random.normal(size=shape).astype("float32") * 0.3) for shape in shapes]


def attend(x, *weights):
    return mixed_attention(x, paddle.zeros([B, 1, 1, L]), paddle.ones([B, L, 1]), weights, HEADS)


def attend_with_all(x, *weights):
    return self_attention(x, paddle.zeros([B, 1, 1, L]), weights, HEADS)


def feed(x, *weights):
    return feed_forward(x, FeedForwardWeights(*weights), "gelu", 1e-12, 0.0, True)


def embed(*tables):
    ids = paddle.arange(B * L).reshape([B, L]) % VOCABULARY
    return embeddings(ids, None, None, None, *tables, 0, 1e-12, 0.0, True)


def words(hidden, table, bias):
    return language_model(hidden, table, bias, paddle.arange(ROWS) % VOCABULARY, paddle.full([ROWS], 0.5))[0]


FUNCTIONS = {  # function of floating tensors, and their shapes
    "linear": (linear, [[B, L, E], [E, E], [E]]),
    "embeddings": (embed, [[VOCABULARY, E], [L, E], [2, E], [E], [E]]),
    "feed_forward": (feed, [[B, L, E], [E, 4 * E], [4 * E], [4 * E, E], [E], [E], [E]]),
    "mixed_attention": (attend, [[B, L, E], *weight_shapes(E, E // 2, HEADS, 9)]),
    "self_attention": (attend_with_all, [[B, L, E], *self_weight_shapes(E)]),
    "language_model": (words, [[ROWS, E], [VOCABULARY, E], [VOCABULARY]]),
}
SAVING = {  # of the peak with gradients, at most
    "feed_forward": 0.8, "mixed_attention": 0.8, "self_attention": 0.9, "language_model": 0.7,
}  # fmt: skip


def measured(function, inputs):
    """→ values, bytes that stay beside them, most bytes that were there at a time."""
    before = core.host_memory_stat_current_value("Allocated", 0)
    core.host_memory_stat_reset_peak_value("Allocated", 0)
    out = function(*inputs)
    kept = core.host_memory_stat_current_value("Allocated", 0) - before - out.size * 4
    return out.numpy(), kept, core.host_memory_stat_peak_value("Allocated", 0) - before


@pytest.mark.skipif(PADDLE_2, reason="this Paddle does not count from anew")
@pytest.mark.parametrize("way", ["no_grad", "frozen"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_kept_for_a_gradient_that_cannot_come(name, way):
    function, shapes = FUNCTIONS[name]
    inputs = tensors(*shapes)
    function(*inputs)
    for tensor in inputs:
        tensor.stop_gradient = False
    expected, kept_with, peak_with = measured(function, inputs)
    if way == "no_grad":
        with paddle.no_grad():
            values, kept, peak = measured(function, inputs)
    else:
        for tensor in inputs:
            tensor.stop_gradient = True
        values, kept, peak = measured(function, inputs)
    np.testing.assert_array_equal(values, expected)
    assert kept < 2000
    assert kept_with > 2000 or name == "linear"  # which keeps its inputs only
    assert peak <= SAVING.get(name, 1) * peak_with, peak / peak_with


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_input_that_learns_is_enough(name):
    """The gradient of each input alone is its gradient among all."""
    function, shapes = FUNCTIONS[name]
    inputs = tensors(*shapes)
    for tensor in inputs:
        tensor.stop_gradient = False
    function(*inputs).sum().backward()
    expected = [tensor.grad.numpy() for tensor in inputs]
    for learner, gradient in zip(inputs, expected, strict=True):
        for tensor in inputs:
            tensor.clear_gradient()
            tensor.stop_gradient = tensor is not learner
        function(*inputs).sum().backward()
        np.testing.assert_array_equal(learner.grad.numpy(), gradient)
