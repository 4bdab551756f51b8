"""The fast path of self-attention's half layer against its plain definition, and what only this path must get right."""

import contextlib

import numba
import numpy as np
import paddle
import pytest
from both_paths import check, random
from conftest import forget_gradients
from given_weights import self_attention, self_weight_shapes

from family.bert import BertForSequenceClassification
from family.configurations import BertConfig
from layers.fast_path import bfloat16, bfloat16_obstacle


def arrays(batch, length, hidden=24):
    shapes = [[batch, length, hidden], *self_weight_shapes(hidden)]
    return [random(*shape, seed=index) * (0.4 if index else 1.0) for index, shape in enumerate(shapes)]


def half_layer(heads=3, mask=None, attention_dropout=0.0, dropout=0.0):
    def function(x, *weights):
        keys = np.zeros([x.shape[0], 1, 1, x.shape[1]]) if mask is None else mask
        return self_attention(x, paddle.to_tensor(keys, x.dtype), weights, heads, attention_dropout, dropout)

    return function


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 4), (3, 1), (2, 17), (5, 40)])
@pytest.mark.parametrize(("heads", "hidden"), [(1, 5), (3, 24), (12, 36), (24, 24)])  # of any size
def test_the_definition_s_numbers(monkeypatch, batch, length, heads, hidden):
    check(monkeypatch, half_layer(heads), arrays(batch, length, hidden))


@pytest.mark.parametrize("shape", [(3, 1, 1, 6), (1, 1, 1, 6), (3, 1, 6, 6), (3, 3, 6, 6), (1, 3, 1, 6)])
def test_every_mask_that_broadcasts(monkeypatch, shape):
    mask = np.where(random(*shape, seed=5) > 0.5, np.float32(-1e4), np.float32(0.0))
    check(monkeypatch, half_layer(mask=mask), arrays(3, 6))


@pytest.mark.parametrize("frozen", [{0}, {1, 2}, {5, 8}, {9, 10}, set(range(1, 11))])
def test_some_inputs_want_no_gradient(monkeypatch, frozen):
    check(monkeypatch, half_layer(), arrays(2, 5), frozen)


@pytest.mark.parametrize("rates", [dict(attention_dropout=0.4), dict(dropout=0.4)])
def test_gradients_under_dropout(rates):
    """Backward drops what forward dropped: the derivative along a direction is the difference quotient."""
    inputs, weight = arrays(2, 6), random(2, 6, 24, seed=99)

    def value(inputs):
        paddle.seed(5)
        return half_layer(**rates)(*(paddle.to_tensor(a, stop_gradient=False) for a in inputs))

    tensors = [paddle.to_tensor(a, stop_gradient=False) for a in inputs]
    paddle.seed(5)
    (half_layer(**rates)(*tensors) * paddle.to_tensor(weight)).sum().backward()
    for index in (0, 1, 3, 5, 7):
        direction = random(*inputs[index].shape, seed=200 + index)
        ends = [
            value([a + step * direction if i == index else a for i, a in enumerate(inputs)]).numpy().astype("float64")
            for step in (np.float32(2e-3), np.float32(-2e-3))
        ]
        quotient = ((ends[0] - ends[1]) * weight).sum() / 4e-3
        assert (tensors[index].grad.numpy() * direction).sum() == pytest.approx(quotient, rel=0.02, abs=0.02), index


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_reach_their_sequence_s_output_and_every_gradient(bad):
    inputs = arrays(2, 9)
    inputs[0][1, 4, 3] = bad
    tensors = [paddle.to_tensor(a, stop_gradient=False) for a in inputs]
    out = half_layer()(*tensors)
    assert not np.isfinite(out.numpy()[1, 4]).any()
    assert np.isfinite(out.numpy()[0]).all()
    out.sum().backward()
    *before_the_norm, _, norm_bias = tensors
    assert not any(np.isfinite(tensor.grad.numpy()).all() for tensor in before_the_norm)
    assert np.isfinite(norm_bias.grad.numpy()).all()


def model(**changes):
    settings = dict(vocab_size=50, hidden_size=36, num_hidden_layers=2, num_attention_heads=6, intermediate_size=48)
    paddle.seed(0)
    return BertForSequenceClassification(BertConfig(**settings, max_position_embeddings=64, **changes))


def step(model, context=None):
    """Loss and gradients of one training step with dropout."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 50, (4, 21))
    ids[2, 13:] = 0
    paddle.seed(0)
    with context or contextlib.nullcontext():
        loss = model(paddle.to_tensor(ids), labels=paddle.to_tensor(random.integers(0, 2, 4))).loss
        loss.backward()
    found = [loss.numpy(), *(weight.grad.numpy() for weight in model.parameters())]
    forget_gradients(model)
    return found


def test_the_same_bits_for_any_number_of_threads_and_with_recompute():
    trained = model()
    expected = step(trained)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = step(trained)
    finally:
        numba.set_num_threads(threads)
    trained.enable_recompute()
    for other in (alone, step(trained)):
        assert [a.tobytes() for a in other] == [a.tobytes() for a in expected]


@pytest.mark.skipif(bfloat16_obstacle() is not None, reason=str(bfloat16_obstacle()))
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_bfloat16_is_close(rate):
    trained = model(hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    high, low = (step(trained, context) for context in (None, bfloat16()))
    high, low = (np.concatenate([array.ravel() for array in found]) for found in (high, low))
    assert 0 < np.abs(high[0] - low[0]) < 3e-2
    assert high[1:] @ low[1:] / np.linalg.norm(high[1:]) / np.linalg.norm(low[1:]) > 0.999


def test_inference_equals_training_without_dropout():
    tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays(2, 6)]
    expected = half_layer()(*tensors).numpy()
    with paddle.no_grad():
        np.testing.assert_array_equal(half_layer()(*tensors).numpy(), expected)
