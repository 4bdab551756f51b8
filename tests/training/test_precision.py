"""What --amp asks for is what is computed, or an error."""

import numpy as np
import paddle
import pytest

from files.errors import InputError
from layers.configuration import ConvBertConfig
from layers.fast_path import bfloat16, bfloat16_obstacle
from modeling import ConvBertForSequenceClassification
from training.optimizer import adamw
from training.precision import OwnBfloat16, Precision, choose_precision


def test_float32_is_plain():
    plain = choose_precision(None, "bfloat16", "cpu")
    weight = paddle.create_parameter([2], "float32")
    optimizer = paddle.optimizer.SGD(0.5, parameters=[weight])
    before = weight.numpy()
    with plain.context():
        plain.backward(weight.sum())
    plain.step(optimizer)
    assert (weight.numpy() == before - 0.5).all()
    assert plain.state() == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("O1", "float16", "cpu"), "--amp O1 --amp_dtype float16: products on cpu come back as .*; a CPU has --amp O1"),
        (("O2", "bfloat16", "cpu"), "--amp O2 --amp_dtype bfloat16: products on cpu come back as float32; a CPU has"),
    ],
)
def test_what_a_cpu_does_not_do_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        choose_precision(*asked)


@pytest.mark.skipif(bfloat16_obstacle() is not None, reason=str(bfloat16_obstacle()))
@pytest.mark.parametrize("frozen", ["", "k_proj"])
def test_operands_that_outlive_a_step_are_those_that_are_made_anew(frozen):
    """Bit for bit, over some steps, for weights that lie side by side too; and with Paddle's own AdamW in between."""

    class Anew(Precision):  # converts all weights at every step
        def training(self):
            return bfloat16()

    def trained(computing, lazy):
        paddle.seed(0)
        sizes = dict(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
        model = ConvBertForSequenceClassification(ConvBertConfig(embedding_size=16, num_groups=2, **sizes))
        for name, weight in model.named_parameters():
            weight.stop_gradient = bool(frozen) and frozen in name
        optimizer, losses = adamw(model, 1e-2, 0.01, 1e-6), []
        ids = paddle.to_tensor(np.random.default_rng(0).integers(1, 60, (4, 9)))
        for step in range(5):
            optimizer._lazy_mode = lazy and step == 2
            with computing.training():
                loss = model(ids, labels=paddle.to_tensor([0, 1, 1, 0])).loss
                loss.backward()
            computing.step(optimizer)
            optimizer.clear_grad()
            losses.append(float(loss))
        return losses

    computing = OwnBfloat16()
    trained(computing, lazy=False)
    assert len(computing._operands.places) > 20  # they do outlive it

    for lazy in (False, True):
        assert trained(OwnBfloat16(), lazy) == trained(Anew(), lazy)
