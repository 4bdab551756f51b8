import re

import numpy as np
import pytest
from conftest import needs

import compare
import convert
from modeling import ConvBertForSequenceClassification

pytestmark = needs("torch", "transformers")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Hugging Face's convbert-medium-small, cut to three layers, and ours converted from it."""
    import torch
    import transformers

    from modeling import ConvBertConfig

    torch.manual_seed(0)
    settings = ConvBertConfig.from_preset("convbert-medium-small", num_hidden_layers=3, vocab_size=3000).to_dict()
    reference = transformers.ConvBertForSequenceClassification(transformers.ConvBertConfig(**settings)).eval()
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(torch.randn_like(weight) * compare.NOISE)
    folder = tmp_path_factory.mktemp("pair")
    reference.save_pretrained(folder / "hf")
    convert.convert(folder / "hf", folder / "ours")
    return reference, ConvBertForSequenceClassification.from_pretrained(folder / "ours")


def test_the_same_weights_pass(pair):
    assert compare.passes(compare.differences(*pair, compare.batch(3000)), 1e-5)


KINDS = [
    "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight", "embeddings.layer_norm.weight", "embeddings.layer_norm.bias",
    "embeddings_project.weight", "embeddings_project.bias",
    *(
        f"encoder.layers.1.{part}"
        for part in (
            "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
            "self_attn.v_proj.bias", "self_attn.key_conv_attn_layer.depthwise.weight",
            "self_attn.key_conv_attn_layer.pointwise.weight", "self_attn.key_conv_attn_layer.bias",
            "self_attn.conv_kernel_layer.weight", "self_attn.conv_kernel_layer.bias",
            "self_attn.conv_out_layer.weight", "self_attn.conv_out_layer.bias", "self_attn.out_proj.weight",
            "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
            "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
        )
    ),
    "classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias",
]  # fmt: skip


def test_every_kind_of_parameter_is_in_the_list(pair):
    kinds = {re.sub(r"layers\.\d+", "layers.1", name.removeprefix("convbert.")) for name in pair[1].state_dict()}
    assert kinds == {*KINDS, "encoder.layers.1.self_attn.k_proj.bias"}  # the softmax cannot see that one


@pytest.mark.parametrize("kind", KINDS)
def test_a_disturbed_parameter_fails(pair, kind):
    reference, ours = pair
    weight = ours.state_dict()[kind if kind.startswith("classifier") else f"convbert.{kind}"]
    original = weight.numpy()
    try:
        weight.set_value(original + np.random.default_rng(0).normal(0, 0.01, original.shape).astype("f"))
        assert not compare.passes(compare.differences(reference, ours, compare.batch(3000)), 1e-5)
    finally:
        weight.set_value(original)


def test_nan_never_passes():
    assert not compare.passes({"hidden": np.array([0.0, np.nan])}, 1e-5)


PUBLISHED_LINES = r"""huggingface YituTech/conv-bert-small vs paddle convbert-small
mean difference: \d\.\d{4}e-0\d
max difference: \d\.\d{4}e-0\d
"""


def test_the_command_prints_the_published_lines(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert compare.main(["--models", "convbert-small"]) == 0
    printed = capsys.readouterr()
    assert re.match(PUBLISHED_LINES, printed.out)
    assert "can't be had" in printed.err
    assert "random weights" in printed.err


def test_a_wrong_port_exits_with_1(capsys, monkeypatch):
    rename = convert.rename

    def slipped(weights, source):
        renamed = rename(weights, source)
        name = "convbert.encoder.layers.7.self_attn.conv_kernel_layer.bias"
        renamed[name] = renamed[name] + np.random.default_rng(0).normal(0, 0.01, renamed[name].shape).astype("f")
        return renamed

    monkeypatch.setattr(convert, "rename", slipped)
    assert compare.main(["--models", "convbert-small", "--weights", "random"]) == 1
    assert "over the tolerance" in capsys.readouterr().err


def test_bad_usage(one_line, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    one_line(compare.main(["--weights", "nowhere"]), "--weights nowhere: neither auto, hub, random nor a folder")
    one_line(compare.main(["--weights", "hub", "--models", "convbert-small"]), "can't be had from")


def test_a_folder_is_compared(tmp_path, capsys, pair):
    pair[0].save_pretrained(tmp_path / "mine")
    assert compare.main(["--weights", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.startswith("huggingface mine vs paddle mine\n")
