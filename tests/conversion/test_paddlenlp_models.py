"""Our folders in PaddleNLP's classes and the reverse; what Paddle's model zoo has."""

import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import modeling
import run_glue
from comparison import parity
from conversion import paddlenlp_models
from conversion.formats import convert
from family.architectures import class_named
from family.configurations import PUBLISHED
from files.errors import InputError
from files.json_files import write_json
from files.weights import write_safetensors
from modeling import ConvBertConfig, ConvBertForSequenceClassification, ConvBertModel

pytestmark = needs("paddlenlp")

SETTINGS = dict(
    vocab_size=120, embedding_size=16, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=80, num_labels=3, label_names=["no", "yes", "perhaps"],
)  # fmt: skip


def disturbed(model):
    """Evaluating, with no parameter at a trivial value; the pad row stays zero, as PaddleNLP reads it."""
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.05, weight.shape).astype("f"))
    words = model.state_dict()[next(name for name in model.state_dict() if "word_embeddings" in name)]
    with paddle.no_grad():
        words[0] = 0.0
    model.eval()
    return model


def batch(settings):
    """input_ids, token_type_ids, attention_mask."""
    return parity.batch(ConvBertConfig(**settings)).values()


def hidden_states(ours, theirs):
    """Last hidden states of both on one padded batch with two segments."""
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    theirs.eval()
    with paddle.no_grad():
        return ours(ids, types, attention_mask=mask).numpy(), theirs(ids, types, attention_mask=mask)[0].numpy()


def zoo():
    import paddlenlp.transformers

    return paddlenlp.transformers


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("classifier", ["mlp", "linear", "pooled_mlp"])
def test_paddlenlp_loads_our_folders(tmp_path, classifier, groups):
    config = ConvBertConfig(**SETTINGS, classifier=classifier, num_groups=groups)
    ours = disturbed(ConvBertForSequenceClassification(config))
    ours.save_pretrained(tmp_path)
    theirs = zoo().ConvBertModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(*hidden_states(ours.convbert, theirs), rtol=0, atol=1e-5)


def test_paddlenlp_loads_our_bare_encoder(tmp_path):
    ours = disturbed(ConvBertModel(ConvBertConfig(**SETTINGS)))
    ours.save_pretrained(tmp_path)
    np.testing.assert_allclose(*hidden_states(ours, zoo().ConvBertModel.from_pretrained(tmp_path)), rtol=0, atol=1e-5)


def test_classification_logits_and_labels_agree(tmp_path):
    """pooled_mlp is PaddleNLP's head; the folder goes there and back."""
    ours = disturbed(ConvBertForSequenceClassification(ConvBertConfig(**SETTINGS, classifier="pooled_mlp")))
    ours.save_pretrained(tmp_path / "ours")
    theirs = zoo().ConvBertForSequenceClassification.from_pretrained(tmp_path / "ours")
    theirs.eval()
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    with paddle.no_grad():
        expected = theirs(ids, types, attention_mask=mask).numpy()
        np.testing.assert_allclose(ours(ids, types, attention_mask=mask).numpy(), expected, rtol=0, atol=1e-5)
        theirs.save_pretrained(str(tmp_path / "theirs"))
        back = ConvBertForSequenceClassification.from_pretrained(tmp_path / "theirs")
        back.eval()
        np.testing.assert_array_equal(
            back(ids, types, attention_mask=mask).numpy(), ours(ids, types, attention_mask=mask).numpy()
        )
    assert back.config.label_names == ["no", "yes", "perhaps"]


@pytest.mark.parametrize("head", ["ConvBertModel", "ConvBertForSequenceClassification"])
@pytest.mark.parametrize("safe", [False, True])
def test_we_load_paddlenlp_s_folders(tmp_path, head, safe):
    settings = {key: value for key, value in SETTINGS.items() if key != "label_names"}
    theirs = disturbed(getattr(zoo(), head)(zoo().ConvBertConfig(**settings)))
    theirs.save_pretrained(str(tmp_path), safe_serialization=safe)
    ours = getattr(modeling, head).from_pretrained(tmp_path)
    ours.eval()
    assert ours.config.classifier == "pooled_mlp"
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    with paddle.no_grad():
        expected = theirs(ids, types, attention_mask=mask)
        expected = expected[0] if isinstance(expected, tuple) else expected
        found = ours(ids, types, attention_mask=mask)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-5)


def test_an_unpadded_batch_agrees_whatever_the_pad_row_holds(tmp_path):
    ours = disturbed(ConvBertModel(ConvBertConfig(**SETTINGS)))
    with paddle.no_grad():
        ours.get_input_embeddings().weight[0] = 1.5
    ours.save_pretrained(tmp_path)
    theirs = zoo().ConvBertModel.from_pretrained(tmp_path)
    theirs.eval()
    ids = paddle.to_tensor(next(iter(batch(SETTINGS)))[:1])
    with paddle.no_grad():
        np.testing.assert_allclose(ours(ids).numpy(), theirs(ids)[0].numpy(), rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------- BERT, ELECTRA and ERNIE

FAMILY_SETTINGS = dict(
    vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=80,
)  # fmt: skip
OWN = {
    "Electra": {"embedding_size": 16},
    "Ernie": {"use_task_id": True, "task_id": 2, "hidden_act": "relu"},
    "Bert": {},
}


def prefix_of(head):
    return next(prefix for prefix in ("Bert", "Electra", "Ernie") if head.startswith(prefix))


def paddlenlp_s(head, **changes):
    prefix = prefix_of(head)
    config = getattr(zoo(), f"{prefix}Config")(**FAMILY_SETTINGS, **OWN[prefix], **changes)
    return disturbed(getattr(zoo(), head)(config))


def same_outputs(theirs, ours):
    """On a padded batch with two segments; for multiple choice with two choices of it."""
    choices = "MultipleChoice" in type(ours).__name__
    arrays = [np.stack([array, array[::-1]], 1) if choices else array for array in batch(FAMILY_SETTINGS)]
    ids, types, _ = map(paddle.to_tensor, arrays)
    theirs.num_choices = 2  # PaddleNLP's BERT doesn't look
    ours.eval()
    theirs.eval()
    with paddle.no_grad():
        expected, found = theirs(ids, token_type_ids=types), ours(ids, token_type_ids=types)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = found if isinstance(found, tuple) else (found,)
    for one, other in zip(found, expected, strict=False):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-5)


def test_a_pooler_with_another_activation(tmp_path):
    """Which in PaddleNLP is none; Hugging Face can't hold it."""
    theirs = paddlenlp_s("BertForSequenceClassification", pool_act="relu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert convert(tmp_path / "theirs", tmp_path / "ours") == "BertForSequenceClassification"
    same_outputs(theirs, class_named("BertForSequenceClassification").from_pretrained(tmp_path / "ours"))
    with pytest.raises(InputError, match="pool_act is 'relu'; Hugging Face's pooler always has a tanh"):
        convert(tmp_path / "ours", tmp_path / "hf", to="hf")


def test_a_joint_electra_of_paddlenlp_s(tmp_path):
    theirs = paddlenlp_s("ElectraForTotalPretraining")
    parts = theirs.generator.electra.embeddings, theirs.discriminator.electra.embeddings
    theirs.save_pretrained(str(tmp_path / "untied"))
    with pytest.raises(InputError, match=r"differs from .*, with which it is one here"):
        convert(tmp_path / "untied", tmp_path / "ours")
    parts[0].set_state_dict(parts[1].state_dict())
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert convert(tmp_path / "theirs", tmp_path / "ours") == "ElectraForPretraining"
    ours = class_named("ElectraForPretraining").from_pretrained(tmp_path / "ours", whole=True)
    same_outputs(theirs.generator, ours.generator)
    same_outputs(theirs.discriminator, ours.discriminator)


def test_joined_weights_of_paddlenlp_s_fuse_are_refused(tmp_path):
    weights = {"bert.encoder.layers.0.fused_attn.qkv_weight": np.zeros((3, 4, 8, 32), "f")}
    write_safetensors(tmp_path / "model.safetensors", weights)
    write_json(tmp_path / "config.json", {"model_type": "bert", "fuse": True})
    with pytest.raises(InputError, match="made with fuse, which joins weights"):
        convert(tmp_path, tmp_path / "ours")


# --------------------------------------------------------------------------------------------------------- the zoo


def test_the_table_of_published_models_is_paddlenlp_s():
    for name, entry in PUBLISHED.items():
        if not entry.zoo:
            continue
        prefix = prefix_of(entry.model_type.capitalize())
        tokenizer, model = getattr(zoo(), f"{prefix}Tokenizer"), getattr(zoo(), f"{prefix}PretrainedModel")
        for ours, theirs in (
            (entry.zoo, model.pretrained_resource_files_map["model_state"][name]),
            (entry.vocabulary, tokenizer.pretrained_resource_files_map["vocab_file"][name]),
        ):
            assert ours.partition("://")[2] == theirs.partition("://")[2]
        assert tokenizer.pretrained_init_configuration[name] == {"do_lower_case": entry.do_lower_case}
        config = paddlenlp_models.zoo_model(name).config
        for key, value in getattr(zoo(), f"{prefix}Config").pretrained_init_configuration[name].items():
            assert config[key] == value, (name, key)


@pytest.mark.parametrize(
    ("name", "model_type", "expected"),
    [
        ("bert-large-uncased", "bert", {"hidden_size": 1024, "type_vocab_size": 2, "num_attention_heads": 16}),
        ("chinese-electra-small", "electra", {"embedding_size": 128, "hidden_size": 256, "vocab_size": 21128}),
        ("ernie-3.0-base-zh", "ernie", {"use_task_id": True, "task_type_vocab_size": 3, "type_vocab_size": 4}),
        ("ernie-2.0-base-en", "ernie", {"use_task_id": False, "hidden_act": "gelu", "intermediate_size": 3072}),
    ],
)
def test_the_rest_of_the_zoo_is_found_through_paddlenlp(name, model_type, expected):
    for asked in (model_type, None):
        model = paddlenlp_models.zoo_model(name, asked)
        assert expected.items() <= model.config.items()
        assert model.config["model_type"] == model_type
        assert model.switches == {"do_lower_case": True}
        assert model.weights.startswith("http")
        assert model.weights.endswith(".pdparams")
        assert model.vocabulary.endswith("vocab.txt")


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("electra-small-generator", None, "not in Paddle's model zoo; .* has it as hf:google/electra-small-generator"),
        ("electra-large-generator", None, "Paddle's model zoo has no weights of it; hf:OWNER/NAME"),
        ("ernie-tiny", "ernie", "cuts texts into words and sentence pieces"),
        ("bert-huge", "bert", "neither a folder nor a model of Paddle's zoo; hf:OWNER/NAME"),
        ("bert-base-uncased", "electra", "a model of type bert, not electra"),
        ("ernie-3.0-base-zh", "bert", "a model of type ernie, not bert"),
    ],
)
def test_what_the_zoo_has_not_is_said(name, asked, message):
    with pytest.raises(InputError, match=rf"^{name}: .*{message}"):
        paddlenlp_models.zoo_model(name, asked)


def test_without_paddlenlp_other_names_have_a_hint(monkeypatch):
    monkeypatch.setattr(paddlenlp_models.importlib.util, "find_spec", lambda name: None)
    assert paddlenlp_models.zoo_model("bert-base-chinese").switches == {"do_lower_case": False}
    with pytest.raises(InputError, match=r"bert-large-uncased: neither .*bert-base-uncased, .* needs paddlenlp .*hf:"):
        paddlenlp_models.zoo_model("bert-large-uncased")


@pytest.mark.parametrize("slip", ["import aistudio_sdk_of_another_time", "import numpy; numpy.no_such_name", "1 / 0"])
def test_a_paddlenlp_that_fails_to_import_is_one_line(tmp_path, monkeypatch, one_line, slip):
    (tmp_path / "paddlenlp").mkdir()
    (tmp_path / "paddlenlp/__init__.py").write_text(slip)
    for name in [name for name in sys.modules if name.partition(".")[0] == "paddlenlp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    for name, source in (("bert-large-uncased", ["--data_dir", str(ROOT / "samples")]), ("convbert-small", [])):
        flags = ["--task_name", "RTE", "--output_dir", str(tmp_path / "out"), "--device", "cpu", *source]
        status = run_glue.main(["--model_type", name.partition("-")[0], "--model_name_or_path", name, *flags])
        one_line(status, r"paddlenlp can't be imported \(\w+Error: .*\); make setup installs versions that go together")
