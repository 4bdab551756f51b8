"""What --amp asks for is what is computed, or an error."""

import contextlib

import paddle
import pytest

from files.errors import InputError
from training import precision
from training.precision import choose_precision


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
        (("O1", "bfloat16", "cpu", "bert"), "on a CPU only ConvBERT has such products, not bert"),
    ],
)
def test_what_a_cpu_does_not_do_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        choose_precision(*asked)


def test_where_paddle_keeps_its_promise_it_is_used(monkeypatch):
    monkeypatch.setattr(precision, "_type_under_auto_cast", lambda dtype: dtype)
    half = choose_precision("O1", "float16", "gpu:0")
    assert half.scaler.is_enable() or not paddle.is_compiled_with_cuda()  # a CPU's scaler switches itself off
    assert half.level == "O1"


class Scaler:
    """Records what it is asked; its state is one number."""

    def __init__(self):
        self.calls, self.value = [], [3.0]

    def scale(self, loss):
        self.calls.append("scale")
        return loss

    def step(self, optimizer):
        self.calls.append("step")

    def update(self):
        self.calls.append("update")

    def state_dict(self):
        return {"scale": paddle.to_tensor(self.value), "incr_count": 7}

    def load_state_dict(self, state):
        self.value = state["scale"]


def test_a_scaler_s_state_survives(monkeypatch):
    monkeypatch.setattr(precision, "_type_under_auto_cast", lambda dtype: dtype)
    first, second = (choose_precision("O1", "float16", "gpu:0") for _ in range(2))
    first.scaler, second.scaler = Scaler(), Scaler()
    first.context = contextlib.nullcontext
    weight = paddle.create_parameter([2], "float32")
    with first.context():
        first.backward(weight.sum())
    first.step(None)
    assert first.scaler.calls == ["scale", "step", "update"]
    second.scaler.value = [1.0]
    second.restore(first.state())
    assert second.scaler.value == [3.0]
