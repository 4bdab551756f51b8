"""The fast path with bfloat16 products against itself in float32."""

import runtime

import contextlib

import numpy as np
import paddle
import pytest
from conftest import forget_gradients
from paddle.base import core

from files.errors import InputError
from layers.fast_path import bfloat16, bfloat16_obstacle
from layers.functions import language_model
from modeling import ConvBertConfig, ConvBertForSequenceClassification, ConvBertGenerator
from training.precision import choose_precision

REASON = bfloat16_obstacle()
possible = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def config(**changes):
    settings = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3)
    return ConvBertConfig.from_preset("convbert-tiny", **{**settings, **changes})


def batch(vocab_size=8192, length=40):
    ids = np.random.default_rng(0).integers(1, vocab_size, (8, length))
    ids[5, 20:] = 0
    return paddle.to_tensor(ids), paddle.to_tensor(np.arange(8) % 3)


def run(model, context, recompute=False):
    """Logits, and the gradient of all parameters as one vector."""
    ids, labels = batch()
    model.enable_recompute(recompute)
    model.train()
    paddle.seed(0)
    with context:
        out = model(ids, labels=labels)
        out.loss.backward()
    gradient = np.concatenate([weight.grad.numpy().ravel() for weight in model.parameters()])
    forget_gradients(model)
    return out.logits.numpy(), gradient


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@possible
@pytest.mark.parametrize("changes", [{}, {"num_groups": 2}, {"mask_conv_padding": True}, {"hidden_act": "relu"}])
def test_close_to_float32(changes):
    paddle.seed(0)
    model = ConvBertForSequenceClassification(config(**changes))
    (logits, gradient), (low_logits, low_gradient) = (run(model, c) for c in (contextlib.nullcontext(), bfloat16()))
    assert 0 < np.abs(logits - low_logits).max() < 3e-2
    assert cosine(gradient, low_gradient) > 0.999


@possible
def test_dropout_is_the_same_as_in_float32():
    paddle.seed(0)
    model = ConvBertForSequenceClassification(config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3))
    (_, gradient), (_, low_gradient) = (run(model, c) for c in (contextlib.nullcontext(), bfloat16()))
    assert cosine(gradient, low_gradient) > 0.999


@possible
def test_the_language_model_is_close_to_float32():
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype("float32") for shape in ([600, 64], [700, 64], [700])]
    labels, draws = paddle.to_tensor(random.integers(0, 700, 600)), paddle.rand([600])
    found = []
    for context in (contextlib.nullcontext(), bfloat16()):
        inputs = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
        with context:
            loss, best, _ = language_model(*inputs, labels, draws)
            loss.backward()
        gradient = np.concatenate([tensor.grad.numpy().ravel() for tensor in inputs])
        found.append((float(loss), best.numpy(), gradient))
    (loss, best, gradient), (low_loss, low_best, low_gradient) = found
    assert low_loss == pytest.approx(loss, rel=3e-2)
    assert (best == low_best).mean() > 0.95
    assert cosine(gradient, low_gradient) > 0.999


@possible
def test_recompute_gives_the_same_bits():
    model = ConvBertForSequenceClassification(config(hidden_dropout_prob=0.3))
    (logits, gradient), (again, same) = (run(model, bfloat16(), recompute) for recompute in (False, True))
    np.testing.assert_array_equal(logits, again)
    np.testing.assert_array_equal(gradient, same)


@possible
def test_inference_gives_the_training_s_numbers():
    model = ConvBertForSequenceClassification(config())
    ids, _ = batch()
    with bfloat16():
        expected = model(ids).numpy()
        model.eval()
        with paddle.no_grad():
            np.testing.assert_array_equal(model(ids).numpy(), expected)


@possible
def test_the_context_ends():
    model = ConvBertForSequenceClassification(config())
    model.eval()
    ids, _ = batch()
    with paddle.no_grad():
        expected = model(ids).numpy()
        with pytest.raises(ZeroDivisionError), bfloat16():
            assert np.abs(model(ids).numpy() - expected).max() > 0
            1 / 0  # noqa: B018
        np.testing.assert_array_equal(model(ids).numpy(), expected)


@possible
def test_a_context_converts_a_weight_once_and_the_next_one_anew():
    model = ConvBertForSequenceClassification(config())
    model.eval()
    ids, _ = batch()
    with paddle.no_grad():
        with bfloat16():
            before = model(ids).numpy()
            for weight in model.parameters():
                weight.set_value(weight.numpy() * 0.5)
        with bfloat16():
            after = model(ids).numpy()
    assert np.abs(before - after).max() > 1e-3


@possible
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_reach_the_loss_and_the_gradients(bad):
    model = ConvBertForSequenceClassification(config(num_hidden_layers=2))
    weight = model.convbert.encoder.layers[0].linear1.weight
    array = weight.numpy()
    array[3, 5] = bad
    weight.set_value(array)
    logits, gradient = run(model, bfloat16())
    assert np.isnan(logits).any()
    assert np.isnan(gradient).any()


@possible
def test_conversion_rounds_to_the_nearest_even():
    from cpu.operands import Bfloat16

    bits = np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32)
    special = np.array([0x3F808000, 0x3F818000, 0x3F80FFFF, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001,
                        0xFFFFFFFF, 0x80000000, 0x00000001], np.uint32)  # fmt: skip
    values = np.concatenate([bits, special]).view(np.float32)
    found = Bfloat16().operand(paddle.to_tensor(values)).astype("float32").numpy()
    wide = values.view(np.uint32).astype(np.uint64)
    expected = (((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)
    bad = np.isnan(values)
    assert np.isnan(found[bad]).all()
    np.testing.assert_array_equal(found[~bad].view(np.uint32), expected[~bad].view(np.uint32))


@possible
def test_memory_between_forward_and_backward_is_less():
    """What the feed-forward part keeps for backward."""
    from cpu.functions import feed_forward

    layer = ConvBertGenerator(config()).convbert.encoder.layers[0]
    weights = [layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias]
    norm = [layer.norm2.weight, layer.norm2.bias]
    kept = []
    for context in (contextlib.nullcontext(), bfloat16()):
        x = paddle.randn([4, 32, 192])
        x.stop_gradient = False
        with context:
            feed_forward(x, [*weights, *norm], "gelu", 1e-12, 0.1, True)  # makes bfloat16 weights
            before = core.host_memory_stat_current_value("Allocated", 0)
            out = feed_forward(x, [*weights, *norm], "gelu", 1e-12, 0.1, True)
            kept.append(core.host_memory_stat_current_value("Allocated", 0) - before - 4 * out.size)
    assert kept[1] < 0.62 * kept[0]


@pytest.mark.parametrize(
    ("flags", "path", "message"),
    [
        ("sse2 avx512f", "auto", "no instructions for it"),
        ("avx512_bf16", "paddle", "CONVBERT_KERNELS=paddle has none"),
    ],
)
def test_where_it_is_impossible_it_is_refused(monkeypatch, flags, path, message):
    monkeypatch.setattr(runtime, "processor", lambda: {"flags": flags})
    monkeypatch.setenv("CONVBERT_KERNELS", path)
    with pytest.raises(InputError, match=message), bfloat16():
        pass
    with pytest.raises(InputError, match=f"--amp O1 --amp_dtype bfloat16: .*{message}"):
        choose_precision("O1", "bfloat16", "cpu")
