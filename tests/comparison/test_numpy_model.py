"""The models against plain loops over the papers' equations, forward and by numerical gradients; and those loops."""

import numpy as np
import paddle
import pytest

from comparison.numpy_model import NumpyModel
from family.architectures import config_class, model_class

SETTINGS = dict(
    vocab_size=23, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, num_labels=3,
    max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=3,
)  # fmt: skip
CONVBERT = dict(embedding_size=8, conv_kernel_size=5)
SHAPES = [
    {"head_ratio": 1}, {"head_ratio": 2}, {"head_ratio": 4},
    {"num_groups": 2}, {"num_groups": 2, "head_ratio": 4},
    {"num_attention_heads": 1}, {"num_attention_heads": 1, "num_groups": 2},  # convbert-small's generator has one head
    {"embedding_size": 16, "mask_conv_padding": True, "conv_kernel_size": 1},
    {"model_type": "bert"}, {"model_type": "bert", "num_attention_heads": 1},
    {"model_type": "electra", "embedding_size": 8}, {"model_type": "ernie"},
    {"model_type": "ernie", "use_task_id": True, "task_id": 2},
]  # fmt: skip
KINDS = [pytest.param(shape, id=",".join(f"{k}={v}" for k, v in shape.items())) for shape in SHAPES]


def build(shape, dtype, kind="ForMaskedLM"):
    """A model with no parameter at a trivial value, and the loops with the same weights in float64."""
    model_type = shape.get("model_type", "convbert")
    settings = {**SETTINGS, **(CONVBERT if model_type == "convbert" else {}), **shape}
    config = config_class(model_type)(**{name: value for name, value in settings.items() if name != "model_type"})
    paddle.set_default_dtype(dtype)
    try:
        model = model_class(model_type, kind)(config)
    finally:
        paddle.set_default_dtype("float32")
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value((weight.numpy() + random.normal(0, 0.2, weight.shape)).astype(dtype))
    weights = {name: weight.numpy().astype("float64") for name, weight in model.named_weights().items()}
    return model, NumpyModel(weights, config)


def inputs(length=9):
    """Ids, token types and mask, int64 [3, length]; padding on either side."""
    ids = np.random.default_rng(1).integers(1, SETTINGS["vocab_size"], (3, length))
    types, mask = np.zeros_like(ids), np.ones_like(ids)
    types[:, length // 3 :] = 1
    types[:, length // 2 :] = 2
    mask[1, -4:] = mask[2, :3] = 0
    return ids * mask, types, mask


def run(model, ids, types, mask):
    return model(*map(paddle.to_tensor, (ids, types)), attention_mask=paddle.to_tensor(mask), output_hidden_states=True)


@pytest.mark.parametrize("shape", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("length", [3, 9])  # shorter than the kernel, too
def test_every_layer_and_the_logits(shape, dtype, tolerance, length):
    model, loops = build(shape, dtype)
    batch = inputs(9)
    batch = tuple(array[:, 3 : 3 + length] for array in batch)  # the third row's padding lies before
    found, expected = run(model, *batch), loops.forward(*batch)
    for ours, theirs in zip(found.hidden_states, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.logits.numpy(), loops.word_logits(expected[-1]), rtol=0, atol=tolerance * 10)


@pytest.mark.parametrize(
    "shape",
    [
        *({"classifier": classifier, "head_ratio": 2} for classifier in ("mlp", "linear", "pooled_mlp")),
        *({"model_type": model_type} for model_type in ("bert", "electra", "ernie")),
    ],
    ids=str,
)
def test_the_classifiers(shape):
    model, loops = build(shape, "float64", "ForSequenceClassification")
    batch = inputs()
    expected = loops.class_logits(loops.forward(*batch)[-1])
    assert expected.shape == (3, 3)
    np.testing.assert_allclose(run(model, *batch).logits.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model_type", ["convbert", "bert"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_activations(activation, model_type):
    model, loops = build({"hidden_act": activation, "model_type": model_type}, "float64")
    batch = inputs()
    expected = loops.word_logits(loops.forward(*batch)[-1])
    np.testing.assert_allclose(run(model, *batch).logits.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-4), ("float64", 1e-6)])
def test_gradients_are_the_loops_differences(shape, dtype, tolerance):
    """Of a random function of the logits, along a random direction in every parameter."""
    model, loops = build(shape, dtype)
    batch, random = inputs(), np.random.default_rng(2)
    taste = random.normal(size=(*batch[0].shape, SETTINGS["vocab_size"])) / batch[0].size
    model.train()
    (run(model, *batch).logits * paddle.to_tensor(taste.astype(dtype))).sum().backward()

    def value():
        return float((loops.word_logits(loops.forward(*batch)[-1]) * taste).sum())

    step = 1e-5
    for name, weight in model.named_parameters():
        if ".pooler." in name:
            assert weight.grad is None, name  # a masked language model does not read it
            continue
        array, direction = loops.weights[name], random.normal(size=weight.shape)
        if name.endswith("word_embeddings.weight"):
            direction[0] = 0  # as read, the pad row gets no gradient
        loops.weights[name] = array + step * direction
        above = value()
        loops.weights[name] = array - step * direction
        expected = (above - value()) / (2 * step)
        loops.weights[name] = array
        found = float((weight.grad.numpy() * direction).sum())
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), name
