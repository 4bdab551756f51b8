"""Whether the comparison passes BERT, ELECTRA and ERNIE when they are the same, and notices whatever is not."""

import functools
import math
import re

import numpy as np
import paddle
import pytest
from conftest import needs
from family_models import FAMILY, SETTINGS, settings
from mutations import wrapped

import compare
import modeling
from comparison import parity
from comparison.hugging_face_reference import HuggingFace
from comparison.model_pairs import Subject
from comparison.references import architecture_of
from cpu import self_attention as fast
from cpu import steps
from family import ernie
from family import self_attention as plain
from layers import functions
from layers.functions import ACTIVATIONS

HEADS = SETTINGS["num_attention_heads"]
SIZE = SETTINGS["hidden_size"] // HEADS
needs_hugging_face = needs("torch", "transformers")


def pair_of(model_type):
    """Hugging Face's classifier and ours, no parameter at a trivial value."""
    config = settings(model_type)
    architecture = architecture_of(config, "ForSequenceClassification")
    return Subject("mine", config, architecture, HuggingFace).pair(architecture)


@pytest.fixture(scope="module")
def pairs():
    return {model_type: pair_of(model_type) for model_type in FAMILY}


def first_that_differs(pair):
    """The embeddings, layer or head."""
    reference, ours = pair
    findings = parity.layers("layers", reference, ours, parity.batch(ours.config), 1e-5)
    findings += parity.head("heads", type(ours.model).__name__, reference, ours, 1e-5)
    return next((finding.part for finding in findings if not finding.passed), None)


LAYER = [
    f"{part}.{kind}"
    for part in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "linear1", "linear2",
        "norm1", "norm2",
    )
    for kind in ("weight", "bias")
    if (part, kind) != ("self_attn.k_proj", "bias")  # which the softmax cannot see
]  # fmt: skip
EMBEDDINGS = [f"embeddings.{name}" for name in (
    "word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight", "layer_norm.weight",
    "layer_norm.bias",
)]  # fmt: skip
POOLED = ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"]
PARAMETERS = {
    "bert": POOLED,
    "electra": [
        "embeddings_project.weight", "embeddings_project.bias",
        *(f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("weight", "bias")),
    ],
    "ernie": [*POOLED, "embeddings.task_type_embeddings.weight"],
}  # fmt: skip
PARAMETERS = {t: [*EMBEDDINGS, *(f"encoder.layers.1.{name}" for name in LAYER), *own] for t, own in PARAMETERS.items()}


@needs_hugging_face
@pytest.mark.parametrize("model_type", FAMILY)
def test_the_same_weights_pass_and_every_parameter_that_is_disturbed_fails(pairs, model_type):
    pair = pairs[model_type]
    assert first_that_differs(pair) is None
    weights = pair[1].parameters()
    kinds = {re.sub(r"layers\.\d+", "layers.1", name.removeprefix(f"{model_type}.")) for name in weights}
    assert kinds == {*PARAMETERS[model_type], "encoder.layers.1.self_attn.k_proj.bias"}
    for name in PARAMETERS[model_type]:
        weight = weights[name if name.startswith("classifier") else f"{model_type}.{name}"]
        original = weight.numpy()
        weight.set_value(original + np.random.default_rng(0).normal(0, 0.01, original.shape).astype("f"))
        found = first_that_differs(pair)
        weight.set_value(original)
        head = name.startswith(("classifier", "pooler"))
        where = "layer 1" if name.startswith("encoder") else "sequence classification" if head else "embeddings"
        assert found == where, name


def with_weights(change):
    """Of the fast path: `change` gets and returns the arrays of query, key, value and output, weight and bias each."""

    def call(function, x, mask, weights, *rest):
        *own, norm_weight, norm_bias = weights
        return function(x, mask, [*change(*own), norm_weight, norm_bias], *rest)

    return wrapped(fast, "self_attention", call)


def recorded(name, change):
    """Of the fast path: what `wrapped` does to a step of programs, with programs that are recorded anew."""

    def mutate(monkeypatch):
        for program in ("_forward", "_backward"):
            monkeypatch.setattr(fast, program, functools.lru_cache(getattr(fast, program).__wrapped__))
        wrapped(steps, name, change)(monkeypatch)

    return mutate


def fill_with_zeros(program, view):
    program.loop("fill", view.reshape(math.prod(view.shape)), 0.0)
    return view


def without_residual(function, program, inner, weight, bias, residual, *rest):
    return function(program, inner, weight, bias, fill_with_zeros(program, program.new(*residual.shape)), *rest)


def other_order(weight):
    """The output layer's weight for heads in the opposite order."""
    return weight.reshape([HEADS, SIZE, -1]).flip(0).reshape(weight.shape)


def heads_reversed(function, *inputs):
    context, probabilities = function(*inputs)
    return context.flip(2), probabilities


GAIN = 1 / 0.9  # of a dropout that doesn't drop
MUTATIONS = {  # → of the definition, of the fast path
    "query and value swapped": (
        wrapped(plain, "attention", lambda f, query, key, value, *rest: f(value, key, query, *rest)),
        with_weights(lambda q, qb, k, kb, v, vb, o, ob: (v, vb, k, kb, q, qb, o, ob)),
    ),
    "no scale": (
        wrapped(plain, "attention", lambda f, query, *rest: f(query * SIZE**0.5, *rest)),
        with_weights(lambda q, qb, *rest: (q * SIZE**0.5, qb * SIZE**0.5, *rest)),
    ),
    "the scale of all heads together": (
        wrapped(plain, "attention", lambda f, query, *rest: f(query * HEADS**-0.5, *rest)),
        with_weights(lambda q, qb, *rest: (q * HEADS**-0.5, qb * HEADS**-0.5, *rest)),
    ),
    "no mask": (
        wrapped(plain, "attention", lambda f, query, key, value, mask, *rest: f(query, key, value, mask * 0, *rest)),
        wrapped(fast, "self_attention", lambda f, x, mask, *rest: f(x, mask * 0, *rest)),
    ),
    "the heads reversed": (
        wrapped(plain, "attention", heads_reversed),
        with_weights(lambda *rest: (*rest[:6], other_order(rest[6]), rest[7])),
    ),
    "no residual": (
        wrapped(functions, "dropout_add_norm", lambda f, x, residual, *rest: f(x, residual * 0, *rest)),
        recorded("add_norm", without_residual),
    ),
    "a dropout's gain": (
        wrapped(functions, "dropout_add_norm", lambda f, x, *rest: f(x * GAIN, *rest)),
        with_weights(lambda *rest: (*rest[:6], rest[6] * GAIN, rest[7] * GAIN)),
    ),
    "no bias of the value": (
        wrapped(
            plain, "attention", lambda f, query, key, value, *rest: f(query, key, value - value.mean(1, True), *rest)
        ),
        with_weights(lambda *rest: (*rest[:5], rest[5] * 0, *rest[6:])),
    ),
    "LayerNorm's epsilon 1e-3": (  # 1e-5 is less than the tolerance here, where the variance is about 1
        wrapped(functions, "dropout_add_norm", lambda f, *inputs: f(*inputs[:4], 1e-3, *inputs[5:])),
        wrapped(fast, "self_attention", lambda f, *inputs: f(*inputs[:4], 1e-3, *inputs[5:])),
    ),
}  # fmt: skip


@needs_hugging_face
@pytest.mark.parametrize("kernels", ["paddle", "auto"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_half_layer_differs_from_its_layer_on(pairs, monkeypatch, mutation, kernels):
    monkeypatch.setenv("CONVBERT_KERNELS", kernels)
    MUTATIONS[mutation][kernels == "auto"](monkeypatch)
    assert first_that_differs(pairs["bert"]) == "layer 0"


@needs_hugging_face
@pytest.mark.parametrize("kernels", ["paddle", "auto"])
def test_the_command_fails_for_a_mutated_half_layer(tmp_path, monkeypatch, capsys, kernels):
    monkeypatch.setenv("CONVBERT_KERNELS", kernels)
    HuggingFace.random("BertForSequenceClassification", settings("bert")).save(tmp_path / "mine")
    command = ["--weights", str(tmp_path / "mine"), "--checks", "hidden"]
    assert compare.main(command) == 0
    MUTATIONS["no scale"][kernels == "auto"](monkeypatch)
    assert compare.main(command) == 1
    assert "mine: 3 of 4 differ, first layers, layer 0: " in capsys.readouterr().err


AROUND = {  # what stands around the layers: → model type, mutation, where it shows
    "the pooler without tanh": (
        "bert", wrapped(modeling.ConvBertPooler, "forward", lambda f, pooler, first: pooler.dense(first)),
        "sequence classification",
    ),
    "the second token pooled": (
        "bert", wrapped(modeling.ConvBertModel, "pool", lambda f, model, hidden: f(model, hidden[:, 1:])),
        "sequence classification",
    ),
    "no table of tasks": (
        "ernie", wrapped(ernie.ErnieEmbeddings, "kinds", lambda f, own: own.token_type_embeddings.weight), "embeddings",
    ),
    "another task": (
        "ernie",
        wrapped(
            ernie.ErnieEmbeddings, "kinds",
            lambda f, own: own.token_type_embeddings.weight + own.task_type_embeddings.weight[1],
        ),
        "embeddings",
    ),
    "another token type": (
        "electra", wrapped(modeling.ConvBertEmbeddings, "kinds", lambda f, own: f(own).flip(0)), "embeddings",
    ),
    "the mask off by one": (
        "electra", wrapped(modeling, "additive_mask", lambda f, *inputs: paddle.roll(f(*inputs), 1, axis=-1)),
        "layer 0",
    ),
}  # fmt: skip


@needs_hugging_face
@pytest.mark.parametrize("mutation", AROUND)
def test_a_mutation_around_the_layers_shows_where_it_is(pairs, monkeypatch, mutation):
    model_type, mutate, where = AROUND[mutation]
    mutate(monkeypatch)
    assert first_that_differs(pairs[model_type]) == where


@needs_hugging_face
@pytest.mark.parametrize("model_type", FAMILY)
def test_gelu_by_tanh_differs(monkeypatch, model_type):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    monkeypatch.setitem(ACTIVATIONS, "gelu", ACTIVATIONS["gelu_new"])
    assert first_that_differs(pair_of(model_type)) == "layer 0"


def lost_residual(function, program, *inputs):
    *_, d_residual, _ = inputs
    function(program, *inputs)
    fill_with_zeros(program, d_residual)


def gradient_off(monkeypatch):
    """That of the query's weight."""
    backward = fast.FusedSelfAttention.backward

    def changed(ctx, d_out):
        d_x, no, d_weight, *rest = backward(ctx, d_out)
        return d_x, no, d_weight * 1.001, *rest

    monkeypatch.setattr(fast.FusedSelfAttention, "backward", staticmethod(changed))


def other_gain(function, program, heads, kept, mask, dropout, *rest):
    return function(program, heads, kept, mask, (*dropout[:3], dropout[3] * 1.001), *rest)


BACKWARD = {
    "the residual's gradient lost": recorded("add_norm_backward", lost_residual),
    "a weight's gradient a little off": gradient_off,
    "gradients of query and key a little off": recorded("attend_backward", other_gain),
}


@needs_hugging_face
@pytest.mark.parametrize("mutation", [None, *BACKWARD])
def test_a_mutated_backward_of_the_half_layer_fails(monkeypatch, mutation):
    reference, ours = pair_of("bert")
    if mutation:
        BACKWARD[mutation](monkeypatch)
    findings = parity.gradients("BertForSequenceClassification", reference, ours)
    assert any(not finding.passed for finding in findings) == bool(mutation)
    assert {finding.part.split(",")[0] for finding in findings} == set(ours.parameters())
