"""Packed encoders against the plain definition, in all three forms, and what only they must get right."""

import threading
from math import erf

import numpy as np
import paddle
import pytest
from both_paths import random

from family.bert import BertConfig, BertModel
from files.errors import InputError
from layers import inference
from layers.inference import DTYPES, Packing
from modeling import ConvBertConfig, ConvBertModel

SIZES = dict(vocab_size=50, num_hidden_layers=3, max_position_embeddings=400, initializer_range=0.2)
MODELS = {
    "convbert": lambda **more: ConvBertModel(
        ConvBertConfig(**SIZES, hidden_size=24, num_attention_heads=4, intermediate_size=40, conv_kernel_size=5, **more)
    ),
    "groups": lambda **more: ConvBertModel(
        ConvBertConfig(**SIZES, hidden_size=32, num_attention_heads=8, intermediate_size=64, num_groups=2, **more)
    ),
    "bert": lambda **more: BertModel(
        BertConfig(**SIZES, hidden_size=24, num_attention_heads=3, intermediate_size=40, **more)
    ),
}
TOLERANCES = {  # largest and mean difference of states that are about 1, after three layers of large weights
    "float32": (5e-5, 5e-6), "bfloat16": (0.3, 0.01), "int8": (0.6, 0.03),
}  # fmt: skip


def has(dtype):
    reason = inference.obstacle(dtype)
    return pytest.param(dtype, marks=pytest.mark.skipif(bool(reason), reason=reason or ""))


forms = pytest.mark.parametrize("dtype", [has(dtype) for dtype in DTYPES])
models = pytest.mark.parametrize("name", MODELS)


def made(name, **more):
    paddle.seed(3)
    model = MODELS[name](**more)
    model.eval()
    for weight in model.parameters():  # biases and norms are 0 and 1
        weight.set_value(weight + 0.05 * paddle.to_tensor(random(*weight.shape, seed=weight.size)))
    return model


def texts(batch, length, seed=0):
    """Ids, and a mask over the keys that leaves each text its own length."""
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(1, 50, (batch, length))
    mask = np.arange(length) < numbers.integers(1, length + 1, batch)[:, None]
    return paddle.to_tensor(ids), paddle.to_tensor(mask.astype("int64"))


def both(monkeypatch, model, dtype, ids, mask, **more):
    """What the model gives packed, and by its definition."""
    with paddle.no_grad():
        monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
        expected = model(ids, attention_mask=mask, **more)
        monkeypatch.setenv("CONVBERT_KERNELS", "auto")
        with inference.inference(Packing(dtype)):
            return model(ids, attention_mask=mask, **more), expected


def close(found, expected, dtype):
    difference = np.abs(found.numpy() - expected.numpy())
    largest, mean = TOLERANCES[dtype]
    assert difference.max() <= largest
    assert difference.mean() <= mean


@forms
@models
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 19), (3, 2), (5, 33), (40, 50), (2, 300)])
def test_the_definition_s_numbers(monkeypatch, name, dtype, batch, length):
    model = made(name)
    close(*both(monkeypatch, model, dtype, *texts(batch, length)), dtype)


@forms
def test_padding_that_the_convolutions_do_not_see(monkeypatch, dtype):
    close(*both(monkeypatch, made("convbert", mask_conv_padding=True), dtype, *texts(30, 60)), dtype)


@pytest.mark.parametrize("shape", [(30, 60, 60), (30, 1, 60, 60), (1, 2, 1, 60), (30, 2, 60, 60)])
def test_every_mask_that_broadcasts(monkeypatch, shape):
    mask = np.where(random(*shape, seed=5) > 0.5, np.float32(-1e4), np.float32(0.0))
    found = both(monkeypatch, made("convbert"), "float32", texts(30, 60)[0], paddle.to_tensor(mask))
    close(*found, "float32")


@pytest.mark.parametrize("activation", ["relu", "silu"])  # which has no loops: layer by layer
def test_other_activations(monkeypatch, activation):
    close(*both(monkeypatch, made("bert", hidden_act=activation), "float32", *texts(3, 9)), "float32")


@models
def test_all_hidden_states_and_attentions(monkeypatch, name):
    model, (ids, mask) = made(name), texts(25, 50)
    found, expected = both(monkeypatch, model, "float32", ids, mask, output_hidden_states=True)
    assert len(found.hidden_states) == 4
    for state, wanted in zip(found.hidden_states, expected.hidden_states, strict=True):
        close(state, wanted, "float32")
    found, expected = both(monkeypatch, model, "float32", ids, mask, output_attentions=True)
    close(found.last_hidden_state, expected.last_hidden_state, "float32")
    for shares, wanted in zip(found.attentions, expected.attentions, strict=True):
        close(shares, wanted, "float32")


@forms
@models
def test_no_number_stays_no_number(name, dtype):
    """… in its own text, and nowhere else."""
    model, (ids, mask) = made(name), texts(4, 12)
    embeds = model.embeddings(ids, None, None, None).numpy()
    embeds[2, 0, 3] = np.nan
    mask[:] = 1
    model.embeddings.forward = lambda *_: paddle.to_tensor(embeds)
    with paddle.no_grad(), inference.inference(Packing(dtype)):
        found = np.isnan(model(ids, attention_mask=mask).numpy()).any(axis=(1, 2))
    assert found.tolist() == [False, False, True, False]


@forms
def test_weights_of_zero(monkeypatch, dtype):
    """A column of zeros has no largest number, a row of zeros has no scale."""
    model = made("convbert")
    for layer in model.encoder.layers:
        for weight in (layer.linear1.weight, layer.linear1.bias, layer.self_attn.q_proj.weight):
            weight.set_value(paddle.zeros_like(weight))
    close(*both(monkeypatch, model, dtype, *texts(3, 9)), dtype)


@forms
def test_several_threads(dtype):
    model, given = made("convbert"), [texts(6, length, seed=length) for length in (7, 30, 11, 50)]
    packing, found = Packing(dtype), {}

    def compute(index):
        ids, mask = given[index]
        with paddle.no_grad(), inference.inference(packing):
            for _ in range(20):
                found.setdefault(index, []).append(model(ids, attention_mask=mask).numpy())

    compute(0)  # packed and compiled
    threads = [threading.Thread(target=compute, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        assert all(np.array_equal(each, found[index][0]) for each in found[index])


@forms
def test_a_text_s_numbers_do_not_depend_on_its_company(dtype):
    model, (ids, mask) = made("convbert", mask_conv_padding=True), texts(40, 50)
    with paddle.no_grad(), inference.inference(Packing(dtype)):
        together = model(ids, attention_mask=mask).numpy()
        for index in (0, 19, 20, 39):
            alone = model(ids[index : index + 1], attention_mask=mask[index : index + 1]).numpy()[0]
            np.testing.assert_allclose(alone, together[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (65, 256, 18), (33, 40, 130)])
@pytest.mark.skipif(bool(inference.obstacle("int8")), reason="no instructions for 8-bit integers")
def test_a_product_of_integers_is_exact(shape, kind):
    """… before it is rounded to its result's type."""
    from cpu import onednn
    from cpu.onednn import INT8, Matrix
    from cpu.operands import array
    from cpu.programs import Program, View, Way, contiguous_strides

    rows, inner, columns = shape
    numbers = np.random.default_rng(1)
    a = numbers.integers(0, 256, (rows, inner)).astype(np.uint8)
    b = numbers.integers(-127, 128, (inner, columns)).astype(np.int8)
    bias, scales = random(columns), np.abs(random(columns, seed=1)) / 1000
    packed = np.zeros(onednn.load().packed_size(INT8, b.shape), np.uint8)
    onednn.load().pack(Matrix(b.ctypes.data, INT8, b.shape, (columns, 1)).plain, packed.ctypes.data)

    program = Program(Way("int8", "onednn"), version="inference-int8")
    weight = program.given_packed({"weight": View(None, "int8", 0, b.shape, contiguous_strides(b.shape))})["weight"]
    operand, factors, offset, out = program.given_as(
        ("uint8", a.shape), ("float32", (columns,)), ("float32", (columns,)), (kind, (rows, columns))
    )
    program.multiply_packed(operand, weight, out, offset, factors)
    program.finish()
    found = paddle.empty([rows, columns], kind)
    program.run_at(*(x.ctypes.data for x in (packed, a, scales, bias)), found.data_ptr(), 0)
    expected = (a.astype(np.int64) @ b.astype(np.int64)) * scales.astype(np.float64) + bias
    found = found.astype("float32").numpy() if kind == "bfloat16" else array(found)
    np.testing.assert_allclose(found, expected, rtol=5e-3 if kind == "bfloat16" else 1e-6, atol=1e-4)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("dtype", [has("float32"), has("bfloat16")])
@pytest.mark.parametrize("rows", [1, 19])
def test_bias_and_gelu_on_a_product(rows, dtype, add):
    """As erf defines it; with numbers that are none, and with what `out` held before."""
    from cpu import onednn
    from cpu.onednn import Matrix
    from cpu.programs import TYPES, Program, View, Way

    inner, columns = 24, 40
    shapes = (rows, inner), (inner, columns), (columns,), (rows, columns)
    a, b, bias, before = (paddle.to_tensor(random(*shape, seed=i)) for i, shape in enumerate(shapes))
    bias[3] = float("nan")
    a, b, out = (each.astype(dtype) for each in (a, b, before))
    packed = np.zeros(onednn.load().packed_size(TYPES[dtype], (inner, columns)), np.uint8)
    onednn.load().pack(Matrix(b.data_ptr(), TYPES[dtype], (inner, columns), (columns, 1)).plain, packed.ctypes.data)
    expected = (a.astype("float64") @ b.astype("float64")).numpy() + bias.numpy() + add * out.astype("float64").numpy()
    expected = expected * (1 + np.vectorize(erf)(expected / 2**0.5)) / 2

    program = Program(Way(dtype, "onednn"))
    weight = program.given_packed({"weight": View(None, dtype, 0, (inner, columns), (columns, 1))})["weight"]
    operand, offset, result = program.given_as(
        (dtype, (rows, inner)), ("float32", (columns,)), (dtype, (rows, columns))
    )
    program.multiply_packed(operand, weight, result, offset, add=add, gelu=True)
    program.finish()
    program.run_at(packed.ctypes.data, *(x.data_ptr() for x in (a, bias, out)), 0)
    found = out.astype("float32").numpy()
    assert np.isnan(found[:, 3]).all()
    np.testing.assert_allclose(found, expected, rtol=8e-3 if dtype == "bfloat16" else 1e-5, atol=2e-5)


def test_where_gradients_are_wanted_nothing_is_packed():
    model, (ids, mask) = made("convbert"), texts(2, 5)
    with inference.inference(Packing("float32")):
        model(ids, attention_mask=mask).sum().backward()
    assert model.encoder.layers[0].linear1.weight.grad is not None


def test_a_hook_is_called_and_integers_refuse_it():
    model, (ids, mask), calls = made("convbert"), texts(2, 5), []
    model.encoder.layers[1].register_forward_post_hook(lambda *_: calls.append(1))
    with paddle.no_grad():
        with inference.inference(Packing("float32")):
            model(ids, attention_mask=mask)
        assert calls == [1]
        if not inference.obstacle("int8"):
            with inference.inference(Packing("int8")), pytest.raises(InputError, match="hooks"):
                model(ids, attention_mask=mask)


def test_another_module_in_the_place_of_attention_is_called():
    class Nothing(paddle.nn.Layer):
        def forward(self, x, mask, real, norm, return_attentions=False):
            return x * 0, None

    model, (ids, mask) = made("convbert"), texts(2, 5)
    with paddle.no_grad(), inference.inference(Packing("float32")):
        model.encoder.layers[2].self_attn = Nothing()
        found = model(ids, attention_mask=mask).numpy()
        np.testing.assert_array_equal(found, np.broadcast_to(found[0, 0], found.shape))  # the biases' alone


def test_what_is_impossible_here(monkeypatch):
    monkeypatch.setattr("runtime.processor", lambda: {"flags": "avx2 avx512f"})
    with pytest.raises(InputError, match="avx512_vnni"):
        Packing("int8")
    with pytest.raises(InputError, match="avx512_bf16"):
        Packing("bfloat16")
    Packing("float32")
