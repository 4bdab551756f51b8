"""BERT's and ELECTRA's TensorFlow checkpoints: random models of Hugging Face's under Google's names.

How Google's code names and lays out its variables is spelled here once more, from its sources.
"""

import re

import numpy as np
import paddle
import pytest
from conftest import needs
from test_tensorflow_checkpoint import write

from comparison import parity
from conversion.formats import convert
from convert import main
from family.architectures import class_named, config_class
from files.errors import InputError
from files.json_files import write_json
from tokenizer import ConvBertTokenizer

pytestmark = needs("tensorflow", "torch", "transformers")

SIZES = dict(
    vocab_size=80, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
    max_position_embeddings=40,
)  # fmt: skip
NAMES = [  # of Hugging Face's, in this order → Google's
    (r"^classifier\.weight$", "output_weights"), (r"^classifier\.bias$", "output_bias"),
    (r"^qa_outputs\.weight$", "cls/squad/output_weights"), (r"^qa_outputs\.bias$", "cls/squad/output_bias"),
    (r"^cls\.predictions\.bias$", "cls/predictions/output_bias"),
    (r"^cls\.seq_relationship\.weight$", "cls/seq_relationship/output_weights"),
    (r"^cls\.seq_relationship\.bias$", "cls/seq_relationship/output_bias"),
    (r"^generator_lm_head\.bias$", "generator_predictions/output_bias"), (r"dense_prediction", "dense_1"),
    (r"LayerNorm\.weight$", "LayerNorm/gamma"), (r"LayerNorm\.bias$", "LayerNorm/beta"),
    (r"(_embeddings)\.weight$", r"\1"), (r"\.weight$", "/kernel"),
    (r"encoder\.layer\.", "encoder/layer_"), (r"\.", "/"),
]  # fmt: skip


def google_s(model):
    """The variables of a model of Hugging Face's."""
    found = {}
    for name, tensor in model.state_dict().items():
        if re.search(r"position_ids|token_type_ids|decoder\.|generator_lm_head\.weight", name):
            continue
        array, name = tensor.numpy(), f"bert.{name}" if type(model).__name__ == "BertModel" else name
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        found[name] = array.T.copy() if name.endswith("/kernel") else array
    return found


def reference(name, **changes):
    import torch
    import transformers

    torch.manual_seed(0)
    prefix = re.match("Bert|Electra", name)[0]
    labels = {} if "Question" in name else {"num_labels": 3}
    model = getattr(transformers, name)(getattr(transformers, f"{prefix}Config")(**{**SIZES, **labels, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def same_outputs(theirs, ours, count=2):
    """The first `count` outputs."""
    import torch

    arrays = parity.batch(config_class("bert")(**SIZES), length=30)
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()}).to_tuple()
    ours.eval()
    with paddle.no_grad():
        found = ours(**{name: paddle.to_tensor(array) for name, array in arrays.items()})
    for one, other in zip((found if isinstance(found, tuple) else (found,))[:count], expected, strict=False):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=2e-5)


def stored(folder, variables, config=None):
    """A folder as Google's archives are."""
    folder.mkdir()
    moments = {f"{name}/adam_{moment}": np.ones_like(array) for name, array in variables.items() for moment in "mv"}
    write({**variables, **moments, "global_step": np.int64(9)}, folder / "bert_model.ckpt")
    if config:
        write_json(folder / "bert_config.json", config)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(75))]))
    return folder


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("BertModel", "BertModel"), ("BertForSequenceClassification", "BertForSequenceClassification"),
        ("BertForQuestionAnswering", "BertForQuestionAnswering"), ("BertForPreTraining", "BertForMaskedLM"),
    ],
)  # fmt: skip
def test_bert_s_checkpoints(tmp_path, theirs, ours, caplog):
    model = reference(theirs)
    config = {**SIZES, "hidden_act": "gelu", "type_vocab_size": 2, "hidden_dropout_prob": 0.2}
    source = stored(tmp_path / "google", google_s(model), config)
    assert convert(source, tmp_path / "ours") == ours
    converted = class_named(ours).from_pretrained(tmp_path / "ours", whole=True)
    same_outputs(model, converted, 1 if theirs == "BertForPreTraining" else 2)
    assert converted.config.hidden_dropout_prob == 0.2
    assert len(ConvBertTokenizer.from_pretrained(tmp_path / "ours")) == 80
    assert ("no model here reads it: cls/seq_relationship" in caplog.text) == (theirs == "BertForPreTraining")
    assert convert(source / "bert_model.ckpt.index", tmp_path / "bare", backbone_only=True) == "BertModel"
    assert convert(source, tmp_path / "hf", to="hf") == ours


def electra_s(discriminator, generator):
    """A pre-training checkpoint: both share the embeddings."""
    variables = google_s(discriminator)
    for name, array in google_s(generator).items():
        if not name.startswith("electra/embeddings/"):
            variables[re.sub("^electra/", "generator/", name)] = array
    return variables


def test_electra_s_pre_training_checkpoint(tmp_path, caplog):
    discriminator = reference("ElectraForPreTraining", embedding_size=16)
    generator = reference("ElectraForMaskedLM", embedding_size=16, hidden_size=64, num_attention_heads=1)
    for ours, theirs in zip(
        generator.electra.embeddings.parameters(), discriminator.electra.embeddings.parameters(), strict=True
    ):
        ours.data = theirs.data
    source = stored(tmp_path / "google", electra_s(discriminator, generator))
    assert convert(source, tmp_path / "ours") == "ElectraForPretraining"
    assert "tells no number of heads; taken to have one for each 64 hidden units" in caplog.text
    joint = class_named("ElectraForPretraining").from_pretrained(tmp_path / "ours", whole=True)
    same_outputs(discriminator, joint.discriminator)
    same_outputs(generator, joint.generator)
    assert convert(source, tmp_path / "encoder", backbone_only=True) == "ElectraModel"
    convert(source, tmp_path / "hf", to="hf")
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {"discriminator", "generator"}


def test_electra_s_tags_and_classifiers(tmp_path):
    model = reference("ElectraForTokenClassification", embedding_size=16)
    renamed = {"output_weights": "task_specific/chunk/dense/kernel", "output_bias": "task_specific/chunk/dense/bias"}
    variables = {renamed.get(name, name): array for name, array in google_s(model).items()}
    kernel = renamed["output_weights"]
    variables[kernel] = variables[kernel].T.copy()
    assert convert(stored(tmp_path / "tags", variables), tmp_path / "ours") == "ElectraForTokenClassification"
    same_outputs(model, class_named("ElectraForTokenClassification").from_pretrained(tmp_path / "ours", whole=True))
    variables = {name.replace("chunk", "mnli"): array for name, array in variables.items()}
    with pytest.raises(InputError, match="its classifier is one dense layer, those of ELECTRA here two"):
        convert(stored(tmp_path / "classes", variables), tmp_path / "no")
    assert convert(tmp_path / "classes", tmp_path / "encoder", backbone_only=True) == "ElectraModel"


def test_what_bert_s_checkpoints_lack_or_have_too_much_is_one_line(tmp_path, one_line):
    variables = google_s(reference("BertModel"))
    for number, (change, config, message) in enumerate(
        [
            ({}, None, r"no bert_config\.json or config\.json beside it, which tells the number of heads"),
            ({"loss/weights": np.ones(3, "f")}, SIZES, "not one of BERT's checkpoints: it has loss"),
            ({"bert/encoder/layer_0/adapter/kernel": np.ones(3, "f")}, SIZES, "unknown key encoder/layer_0/adapter"),
        ]
    ):
        source = stored(tmp_path / f"google{number}", variables | change, config)
        one_line(main(["--input", str(source), "--output", str(tmp_path / "new")]), message)
    source = tmp_path / "google0"
    write_json(source / "config.json", {**SIZES, "model_type": "electra"})
    one_line(main(["--input", str(source), "--output", str(tmp_path / "new")]), "a model of type electra, not bert")
    assert not (tmp_path / "new").exists()
