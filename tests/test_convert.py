import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import compare
import convert
import modeling
from checkpoint_files import InputError, read_json, read_weights, write_json, write_safetensors
from tokenizer import ConvBertTokenizer

pytestmark = needs("torch", "transformers")

SETTINGS = dict(
    vocab_size=80, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, pad_token_id=0, num_labels=3,
)  # fmt: skip


def reference(head="Model", **changes):
    """A small Hugging Face model with no parameter at a trivial value."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, f"ConvBert{head}")(transformers.ConvBertConfig(**{**SETTINGS, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def outputs(theirs, ours):
    """Both models' first outputs on the same padded batch with two segments."""
    import torch

    ids, types, mask = compare.batch(SETTINGS["vocab_size"], sentences=3, length=30)
    with torch.no_grad():
        expected = theirs(*map(torch.from_numpy, (ids, mask, types)))
    ours.eval()
    with paddle.no_grad():
        found = ours(paddle.to_tensor(ids), paddle.to_tensor(types), attention_mask=paddle.to_tensor(mask))
    if isinstance(found, tuple):  # question answering
        return [array.numpy() for array in expected[:2]], [array.numpy() for array in found]
    return [expected[0].numpy()], [found.numpy()]


HEADS = {
    "Model": "ConvBertModel",
    "ForSequenceClassification": "ConvBertForSequenceClassification",
    "ForTokenClassification": "ConvBertForTokenClassification",
    "ForMaskedLM": "ConvBertGenerator",
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("head", [*HEADS, "ForQuestionAnswering"])
def test_every_head_gives_the_same_numbers(tmp_path, head, groups):
    changes = {"num_labels": 2} if head == "ForQuestionAnswering" else {}
    theirs = reference(head, num_groups=groups, **changes)
    theirs.save_pretrained(tmp_path / "hf")
    architecture = convert.convert(tmp_path / "hf", tmp_path / "ours")
    assert architecture == HEADS.get(head, f"ConvBert{head}")
    ours = getattr(modeling, architecture).from_pretrained(tmp_path / "ours")
    assert read_json(tmp_path / "ours/config.json")["architectures"] == [architecture]
    for expected, found in zip(*outputs(theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sources(tmp_path, dtype):
    import torch

    theirs = reference().to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / "hf")
    convert.convert(tmp_path / "hf", tmp_path / "ours")
    ours = modeling.ConvBertModel.from_pretrained(tmp_path / "ours")
    for expected, found in zip(*outputs(theirs.float(), ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_pytorch_bin_sources(tmp_path):
    import torch

    theirs = reference("ForSequenceClassification")
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf/model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "hf/pytorch_model.bin")
    convert.convert(tmp_path / "hf", tmp_path / "ours")
    ours = modeling.ConvBertForSequenceClassification.from_pretrained(tmp_path / "ours")
    for expected, found in zip(*outputs(theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_configuration_labels_and_vocabulary_come_along(tmp_path):
    theirs = reference(
        "ForSequenceClassification", id2label={0: "no", 1: "yes", 2: "perhaps"}, layer_norm_eps=1e-7,
        hidden_dropout_prob=0.3, hidden_act="relu", pad_token_id=1, vocab_size=2000,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "hf")
    tokenizer = ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False)
    tokenizer.save_pretrained(tmp_path / "hf")
    convert.convert(tmp_path / "hf", tmp_path / "ours")
    config = modeling.ConvBertConfig.from_pretrained(tmp_path / "ours")
    assert config.label_names == ["no", "yes", "perhaps"]
    assert (config.layer_norm_eps, config.hidden_dropout_prob, config.hidden_act) == (1e-7, 0.3, "relu")
    assert config.pad_token_id == 0  # the vocabulary's, not Hugging Face's default
    found = ConvBertTokenizer.from_pretrained(tmp_path / "ours")
    assert found.get_vocab() == tokenizer.get_vocab()
    assert found.do_lower_case is False


def test_the_table_names_every_parameter_once():
    targets = [entry[0] for entry in convert.NAMES.values() if entry]
    assert {name for name in targets if targets.count(name) > 1} == {"classifier.weight", "classifier.bias"}
    models = [
        modeling.ConvBertForSequenceClassification,
        modeling.ConvBertForTokenClassification,
        modeling.ConvBertGenerator,
    ]
    settings = {**SETTINGS, "num_hidden_layers": 1}
    ours = {name for model in models for name in model(modeling.ConvBertConfig(**settings)).state_dict()}
    assert {name.format(0) for name in targets} == ours


def edit(folder, change):
    weights = read_weights(folder)
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        (lambda w: w.update(surprise=np.zeros(3)), {}, "unknown key surprise"),
        (lambda w: w.pop("convbert.encoder.layer.1.output.dense.bias"), {}, r"layers\.1\.linear2\.bias is missing"),
        (lambda w: w.pop("generator_predictions.dense.bias"), {}, r"generator_predictions\.dense\.bias is missing"),
        (lambda w: w.update({"generator_lm_head.weight": np.zeros((80, 16), "f")}), {}, "output embeddings differ"),
        (lambda w: w.clear(), {}, "no Hugging Face ConvBERT in here"),
        (None, {"head_ratio": 4}, "changes the head size when head_ratio is not 2"),
        (None, {"num_attention_heads": 1}, "heads < 2"),
        (None, {"model_type": "bert"}, "model_type is 'bert'"),
        (None, {"hidden_size": 64}, r"has shape \[.*32.*\], not"),
    ],
)
def test_what_cannot_be_converted_is_named_and_leaves_nothing(tmp_path, weights, config, message):
    reference("ForMaskedLM").save_pretrained(tmp_path / "hf")
    if weights:
        edit(tmp_path / "hf", weights)
    write_json(tmp_path / "hf/config.json", {**read_json(tmp_path / "hf/config.json"), **config})
    with pytest.raises(InputError, match=message) as error:
        convert.convert(tmp_path / "hf", tmp_path / "ours")
    assert str(tmp_path / "hf") in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_the_command(tmp_path, capsys, one_line):
    reference().save_pretrained(tmp_path / "hf")
    command = ["--input", str(tmp_path / "hf"), "--output", str(tmp_path / "ours")]
    assert convert.main(command) == 0
    assert "ConvBertModel" in capsys.readouterr().out
    one_line(convert.main(command), "not empty; name a new folder")
    one_line(convert.main(["--input", str(tmp_path / "gone"), "--output", str(tmp_path / "new")]), "gone: no such file")


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch, one_line):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status = convert.main(["--input", "hf:YituTech/conv-bert-small", "--output", str(tmp_path / "new")])
    one_line(status, r"hf:YituTech/conv-bert-small: can't be had from http://127\.0\.0\.1:9")


def test_sources_resolve_to_folders_that_load(tmp_path, monkeypatch):
    reference("ForSequenceClassification").save_pretrained(tmp_path / "hf")
    monkeypatch.setattr(convert, "fetch", lambda name: str(tmp_path / "hf") if name == "some/model" else None)
    for name in ("hf:some/model", str(tmp_path / "hf")):
        folder = convert.resolve(name)
        assert folder != name
        modeling.ConvBertForSequenceClassification.from_pretrained(folder)
        assert convert.resolve(folder) == folder  # ours already
    assert convert.resolve("convbert-small") == "convbert-small"
