"""Losses of 16-bit logits are summed in float32; on a CPU, where Paddle has no products in float16."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from layers import functions
from modeling import ConvBertConfig, ConvBertDiscriminator, ConvBertForSequenceClassification

TOKENS = 70_001  # more than float16 can count: 65,504
KINDS = ["float16", "bfloat16"]


@pytest.fixture
def discriminator():
    return ConvBertDiscriminator(ConvBertConfig.from_preset("convbert-tiny", num_hidden_layers=1))


def numbers(*shape, kind="float32"):
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    return paddle.to_tensor(values).astype(kind)


def labels_of(count):
    labels = np.arange(TOKENS) % count
    labels[:500] = -100
    return paddle.to_tensor(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_discriminators_loss_over_many_tokens(discriminator, kind):
    logits, labels = numbers(TOKENS, kind=kind), labels_of(2)
    found = discriminator.loss(logits, labels)
    assert found.dtype == paddle.float32
    x, y = logits.astype("float64").numpy()[500:], labels.numpy()[500:]
    assert float(found) == pytest.approx((np.logaddexp(0, x) - x * y).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_over_many_tokens(kind):
    logits, labels = numbers(TOKENS, 3, kind=kind), labels_of(3)
    found = functions.cross_entropy(logits, labels)
    assert found.dtype == paddle.float32
    x, y = logits.astype("float64").numpy()[500:], labels.numpy()[500:]
    expected = (np.log(np.exp(x).sum(-1)) - x[np.arange(len(y)), y]).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_other_losses_over_many_numbers(kind, problem):
    config = ConvBertConfig.from_preset("convbert-tiny", num_hidden_layers=1, num_labels=2, problem_type=problem)
    model, logits = ConvBertForSequenceClassification(config), numbers(TOKENS, 2, kind=kind)
    found = model.loss(logits, paddle.full([TOKENS, 2], 300.0 if problem == "regression" else 1.0))
    assert found.dtype == paddle.float32
    x = logits.astype("float64").numpy()
    expected = ((x - 300) ** 2).mean() if problem == "regression" else np.logaddexp(0, -x).mean()
    assert float(found) == pytest.approx(expected, rel=1e-3)


def test_float32_and_float64_stay_as_they_are(discriminator):
    logits, labels = numbers(50, 3), paddle.arange(50) % 3
    plain = F.cross_entropy(logits, labels.unsqueeze(-1), reduction="none").sum() / 50
    assert float(functions.cross_entropy(logits, labels)) == pytest.approx(float(plain), rel=2**-23)
    assert functions.cross_entropy(logits.astype("float64"), labels).dtype == paddle.float64
    assert discriminator.loss(logits.astype("float64")[:, 0], labels % 2).dtype == paddle.float64


def test_inside_mixed_precision_the_loss_is_computed_outside_of_it(discriminator, monkeypatch):
    """What --amp O2 would take back to float16: division, for one."""
    seen, real = [], F.binary_cross_entropy_with_logits

    def watched(*args, **kwargs):
        seen.append(paddle.base.framework._dygraph_tracer()._amp_level.name)
        return real(*args, **kwargs)

    monkeypatch.setattr(functions.F, "binary_cross_entropy_with_logits", watched)
    with paddle.amp.auto_cast(level="O2", dtype="bfloat16"):
        discriminator.loss(numbers(8), paddle.arange(8) % 2)
    assert seen == ["O0"]
