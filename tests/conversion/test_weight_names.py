"""The table of names: whole, and as strict as it says."""

import numpy as np
import pytest

from conversion import weight_names
from family.architectures import MODEL_TYPES, class_named, config_class
from files.errors import InputError

SIZES = dict(
    vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8,
)  # fmt: skip
OWN = {"convbert": {"embedding_size": 4}, "electra": {"embedding_size": 4}, "ernie": {"use_task_id": True}, "bert": {}}


@pytest.mark.parametrize("architecture", weight_names.HEADS)
def test_the_table_names_every_parameter_once(architecture):
    model_type = weight_names.type_of_class(architecture)
    model = class_named(architecture)(config_class(model_type)(**SIZES, **OWN[model_type]))
    rows = list(weight_names._rows(architecture))
    assert {row[0].format(0) for row in rows} == set(model.named_weights())
    for column in (0, 1):
        names = [row[column] for row in rows]
        assert len(set(names)) == len(names)


def test_every_class_that_can_be_converted_is_in_the_table():
    kinds = ["Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
    kinds += ["ForMultipleChoice", "ForMaskedLM", "Generator", "Discriminator"]
    found = {class_named(prefix + kind) for prefix in ("ConvBert", "Bert", "Electra", "Ernie") for kind in kinds}
    assert {cls.__name__ for cls in found - {None}} == weight_names.HEADS.keys()
    assert {weight_names.type_of_class(name) for name in weight_names.HEADS} == set(MODEL_TYPES)


@pytest.mark.parametrize("architecture", weight_names.HEADS)
def test_a_class_is_told_by_the_names_of_its_weights(architecture):
    """Ours and Hugging Face's; where classes share them, by what config.json says."""
    rows, model_type = list(weight_names._rows(architecture)), weight_names.type_of_class(architecture)
    for column in (0, 1):
        names = {row[column].format(0) for row in rows}
        assert weight_names.architecture_of(names, model_type, architecture) == architecture
        alone = weight_names.architecture_of(names, model_type)
        assert weight_names.HEADS[alone].keys() == weight_names.HEADS[architecture].keys()
        assert weight_names.architecture_of(names, model_type, "NoSuchModel") == alone


@pytest.mark.parametrize("name", ["bert.encoder.layer.0.attention.self.key_conv_attn_layer.bias", "bert.pooler.bias",
                                  "electra.embeddings.word_embeddings.weight", "embeddings_project.weight",
                                  "bert.embeddings.task_type_embeddings.weight", "classifier.weight"])  # fmt: skip
def test_a_name_of_another_model_is_an_error(name):
    with pytest.raises(InputError, match=f"here: unknown key {name}: not a checkpoint this project can hold"):
        weight_names.from_hugging_face({name: np.zeros((2, 2))}, "BertModel", "here")


def test_what_is_dropped_is_dropped_by_the_end_of_its_name(caplog):
    dropped = ["bert.embeddings.position_ids", "embeddings.token_type_ids", "cls.predictions.decoder.weight"]
    kept = {"bert.pooler.dense.bias": np.arange(2)}
    weights = {name: np.zeros(2) for name in [*dropped, "cls.seq_relationship.bias"]} | kept
    found = weight_names.from_hugging_face(weights, "BertModel", "here")
    assert found.keys() == kept.keys()
    assert caplog.messages == ["here: left out, as no model here reads it: cls.seq_relationship.bias"]
