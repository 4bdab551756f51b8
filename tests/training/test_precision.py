"""What --amp asks for is what is computed, or an error."""

import paddle
import pytest

from files.errors import InputError
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
    ],
)
def test_what_a_cpu_does_not_do_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        choose_precision(*asked)
