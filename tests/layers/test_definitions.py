"""The plain definitions: against loops over numpy arrays, and their gradients against differences, in float64."""

import numpy as np
import paddle
import pytest
from exact import check_gradients, close, random, softmax

from layers import configuration
from layers.functions import (
    ACTIVATIONS,
    FeedForwardWeights,
    dropout_add_norm,
    embed,
    embeddings,
    feed_forward,
    language_model,
    layer_norm,
    linear,
)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_linear(groups):
    x, weight, bias = random(2, 5, 12), random(groups, 12 // groups, 18 // groups, seed=1), random(18, seed=2)
    parts = [part @ matrix for part, matrix in zip(np.split(x, groups, axis=-1), weight, strict=True)]
    found = linear(*map(paddle.to_tensor, (x, weight, bias)))
    close(found, np.concatenate(parts, axis=-1) + bias)


def test_dropout_add_norm():
    x, residual, weight, bias = random(2, 5, 8), random(2, 5, 8, seed=1), random(8, seed=2), random(8, seed=3)
    tensors = list(map(paddle.to_tensor, (x, residual, weight, bias)))
    total = x + residual
    normal = (total - total.mean(-1, keepdims=True)) / np.sqrt(total.var(-1, keepdims=True) + 1e-12)
    close(dropout_add_norm(*tensors, epsilon=1e-12, dropout=0.5, training=False), normal * weight + bias)
    paddle.seed(0)
    ones = paddle.ones([100, 100])
    dropped = dropout_add_norm(ones, paddle.zeros_like(ones), paddle.ones([100]), paddle.zeros([100]), 1e-12, 0.3, True)
    assert float((dropped < 0).astype("float32").mean()) == pytest.approx(0.3, abs=0.02)  # x only, at the asked rate


def test_embed_reads_the_pad_row_but_does_not_train_it():
    weight = paddle.to_tensor(random(5, 3), stop_gradient=False)
    ids = paddle.to_tensor([[1, 0, 4], [1, 2, 0]])
    rows = embed(ids, weight, pad_id=0)
    close(rows, weight.numpy()[ids.numpy()])
    rows.sum().backward()
    np.testing.assert_array_equal(weight.grad.numpy()[:, 0], [0, 2, 1, 0, 1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_the_configuration_is_there(name):
    assert set(configuration.ACTIVATIONS) == set(ACTIVATIONS)
    x = paddle.to_tensor([-1.0, 0.0, 1.0])
    expected = {
        "gelu": [-0.158655, 0, 0.841345], "gelu_new": [-0.158808, 0, 0.841192],
        "relu": [0, 0, 1], "silu": [-0.268941, 0, 0.731059],
    }  # fmt: skip
    np.testing.assert_allclose(ACTIVATIONS[name](x).numpy(), expected[name], atol=1e-6)


def test_gradients_of_feed_forward():
    def function(x, *weights):
        return feed_forward(x, FeedForwardWeights(*weights), "gelu", 1e-12, 0.0, True)

    shapes = [6, 10], [10], [10, 6], [6], [6], [6]
    check_gradients(function, [random(2, 3, 6), *(random(*shape, seed=i) * 0.5 for i, shape in enumerate(shapes))])


def test_gradients_of_embeddings():
    ids, positions, types = (paddle.to_tensor(np.random.default_rng(s).integers(1, 3, (2, 4))) for s in range(3))

    def function(*tables):
        return embeddings(ids, None, positions, types, *tables, 0, 1e-12, 0.0, True)

    check_gradients(function, [random(3, 5), random(3, 5), random(3, 5), random(5), random(5)])


def test_gradients_of_grouped_linear():
    check_gradients(linear, [random(2, 3, 6), random(2, 3, 4), random(8)])


@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_of_layer_norm_knows_its_weight(frozen):
    """Paddle's CPU kernel forgets it when the weight itself wants no gradient."""
    weight, bias = paddle.to_tensor(random(6), stop_gradient=frozen), paddle.to_tensor(random(6, seed=1))
    check_gradients(lambda x: layer_norm(x, weight, bias, 1e-12), [random(2, 3, 6, seed=2)])


# ------------------------------------------------------------------------------------------------------ language model


def words_and_rows(count=7, vocabulary=11, size=4):
    hidden, words, bias = random(count, size), random(vocabulary, size, seed=1), random(vocabulary, seed=2)
    return hidden, words, bias, np.random.default_rng(3).integers(0, vocabulary, count)


def test_language_model():
    hidden, words, bias, labels = words_and_rows()
    shares = softmax(hidden @ words.T + bias)
    draws = np.linspace(0, 0.999, 7)
    loss, best, drawn = language_model(*map(paddle.to_tensor, (hidden, words, bias, labels, draws)))
    assert float(loss) == pytest.approx(-np.log(shares[np.arange(7), labels]).mean(), abs=1e-9)
    np.testing.assert_array_equal(best.numpy(), shares.argmax(-1))
    expected = [np.searchsorted(row.cumsum(), draw, side="right") for row, draw in zip(shares, draws, strict=True)]
    np.testing.assert_array_equal(drawn.numpy(), expected)
    nothing = paddle.zeros([0, 4], "float64")
    none = language_model(
        nothing, paddle.to_tensor(words), paddle.to_tensor(bias), paddle.zeros([0], "int64"), paddle.zeros([0])
    )
    assert [float(none[0]), none[1].shape, none[2].shape] == [0, [0], [0]]


def test_gradients_of_the_language_model():
    hidden, words, bias, labels = words_and_rows()
    labels, draws = paddle.to_tensor(labels), paddle.rand([7])
    check_gradients(lambda *inputs: language_model(*inputs, labels, draws)[0].unsqueeze(0), [hidden, words, bias])
