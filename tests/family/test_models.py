"""BERT, ELECTRA and ERNIE: the contract of every model, its layers and names, saving and loading."""

import numpy as np
import paddle
import pytest
from tiny_inputs import differ, same, tokens

from family.architectures import MODEL_TYPES, class_named, config_class, model_class
from family.configurations import PRESETS, PUBLISHED, preset
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from modeling import BackboneOutput

SMALL = dict(
    vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
    max_position_embeddings=40, num_labels=3,
)  # fmt: skip
OF_TYPE = {
    "bert": {}, "electra": dict(embedding_size=8), "ernie": dict(use_task_id=True, task_type_vocab_size=5, task_id=2),
}  # fmt: skip
HEADS = {  # class → shape of the logits for a batch of B × L
    "ForSequenceClassification": lambda b, n: [b, 3],
    "ForTokenClassification": lambda b, n: [b, n, 3],
    "ForMaskedLM": lambda b, n: [b, n, 60],
    "Discriminator": lambda b, n: [b, n],
}
POOLED = ("ForSequenceClassification", "ForMultipleChoice")
ALL = [
    (model_type, kind)
    for model_type in OF_TYPE
    for kind in ("Model", "ForQuestionAnswering", "ForMultipleChoice", *HEADS)
    if kind != "Discriminator" or model_type == "electra"
]
every_model = pytest.mark.parametrize(("model_type", "kind"), ALL)
every_type = pytest.mark.parametrize("model_type", OF_TYPE)


def config(model_type, **changes):
    return config_class(model_type)(**{**SMALL, **OF_TYPE[model_type], **changes})


def build(model_type, kind, seed=0, **changes):
    """An evaluating model with no parameter at a trivial value."""
    paddle.seed(seed)
    model = model_class(model_type, kind)(config(model_type, **changes))
    random = np.random.default_rng(seed)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    model.eval()
    return model


# -------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize(("model_type", "kind"), [(model_type, kind) for model_type, kind in ALL if kind in HEADS])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 11)])
def test_heads_follow_the_contract(model_type, kind, batch, length):
    model = build(model_type, kind)
    ids = tokens(batch, length, padding=0)
    logits = model(ids)
    assert isinstance(logits, paddle.Tensor)
    assert logits.shape == HEADS[kind](batch, length)
    labels = paddle.ones([batch] if kind == "ForSequenceClassification" else [batch, length], "int64")
    output = model(ids, labels=labels, output_hidden_states=True, output_attentions=True)
    assert output._fields == ("loss", "logits", "hidden_states", "attentions")
    assert float(output.loss) > 0
    same(output.logits, logits)
    assert [h.shape for h in output.hidden_states] == [[batch, length, 24]] * 3
    assert [a.shape for a in output.attentions] == [[batch, 4, length, length]] * 2
    assert model(ids, output_attentions=True).loss is None
    embeds = model.get_input_embeddings()(ids)
    same(model(inputs_embeds=embeds), logits)
    same(model(ids, position_ids=paddle.arange(length), token_type_ids=paddle.zeros_like(ids)), logits)
    if length > 1:
        differ(model(ids, position_ids=paddle.arange(length) + 5), logits)


@every_type
def test_the_encoder_and_its_masks(model_type):
    model, ids = build(model_type, "Model"), tokens()
    output = model(ids, output_hidden_states=True, output_attentions=True)
    assert isinstance(output, BackboneOutput)
    same(model(ids), output.last_hidden_state)  # by both paths: probabilities are the plain definition's
    same(output.attentions[0].sum(-1), paddle.ones([3, 4, 11]))
    assert float(output.attentions[0][-1, :, :, -4:].max()) < 1e-20
    keep = ids != 0
    infinite = paddle.where(keep, paddle.zeros([3, 11]), paddle.full([3, 11], -np.inf))
    square = keep.unsqueeze(1).expand([3, 11, 11])
    for mask in (keep, keep.astype("int64"), infinite, square, square.unsqueeze(1).expand([3, 4, 11, 11])):
        same(model(ids, attention_mask=mask), output.last_hidden_state)
    differ(model(ids, attention_mask=paddle.ones_like(ids)), output.last_hidden_state)
    assert bool(model(ids, attention_mask=paddle.zeros_like(ids)).isfinite().all())
    with pytest.raises(InputError, match="41 tokens, but this model has 40 positions"):
        model(tokens(1, 41))


@every_type
def test_a_sentence_does_not_depend_on_its_padding(model_type):
    """Unlike ConvBERT's, whose convolutions read it."""
    model, ids = build(model_type, "Model"), tokens(1, 6, padding=0)
    padded = paddle.concat([ids, paddle.zeros([1, 9], "int64")], axis=1)
    same(model(padded)[:, :6], model(ids))


@every_type
def test_question_answering_and_multiple_choice(model_type):
    model, ids = build(model_type, "ForQuestionAnswering"), tokens()
    start, end = model(ids)
    assert start.shape == end.shape == [3, 11]
    positions = paddle.to_tensor([0, 5, 10])
    output = model(ids, start_positions=positions, end_positions=positions)
    assert output._fields == ("loss", "start_logits", "end_logits", "hidden_states", "attentions")
    model, flat = build(model_type, "ForMultipleChoice"), tokens(10, 7)
    logits = model(flat.reshape([2, 5, 7]))
    assert logits.shape == [2, 5]
    first = model.backbone(flat)[:, 0]
    if model_type == "electra":
        pooled = paddle.nn.functional.gelu(model.sequence_summary.dense(first))
    else:
        pooled = paddle.tanh(model.backbone.pooler.dense(first))
    same(model.classifier(pooled).flatten(), logits.flatten())


@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_a_classifier_reads_the_pooler(model_type):
    model, ids = build(model_type, "ForSequenceClassification"), tokens()
    first = model.backbone(ids)[:, 0]
    same(model(ids), model.classifier(paddle.tanh(model.backbone.pooler.dense(first))))


@every_model
def test_every_gradient_arrives_and_recompute_changes_none(model_type, kind):
    gradients, ids = [], tokens(4, 6, padding=0)
    for enabled in (False, True):
        model = build(model_type, kind)
        model.train()
        model.enable_recompute(enabled)
        paddle.seed(7)
        if kind == "ForMultipleChoice":
            loss = model(ids.reshape([2, 2, 6]), labels=paddle.zeros([2], "int64")).loss
        elif kind == "ForQuestionAnswering":
            loss = model(ids, start_positions=ids[:, 0] % 6, end_positions=ids[:, 1] % 6).loss
        elif kind == "Model":
            loss = (model(ids) ** 3).sum()
        else:
            loss = model(ids, labels=ids[:, 0] % 3 if kind == "ForSequenceClassification" else ids % 2).loss
        loss.backward()
        gradients.append({name: w.grad.numpy() for name, w in model.named_parameters() if w.grad is not None})
    unread = {name for name, _ in model.named_parameters()} - gradients[0].keys()
    assert all("pooler" in name for name in unread)
    assert bool(unread) == (model_type != "electra" and kind not in POOLED)
    for name, gradient in gradients[0].items():
        np.testing.assert_array_equal(gradient, gradients[1][name], err_msg=name)


@every_type
def test_the_pad_row_is_read_but_not_trained(model_type):
    model, ids = build(model_type, "Model"), tokens()
    model(ids).sum().backward()
    words = model.get_input_embeddings().weight
    assert not words.grad.numpy()[0].any()
    assert words.grad.numpy()[int(ids[0, 0])].any()


@every_type
def test_resizing_the_vocabulary(model_type):
    model, ids = build(model_type, "ForMaskedLM"), tokens()
    before = model(ids)
    model.resize_token_embeddings(75)
    same(model(ids)[:, :, :60], before)
    model.resize_token_embeddings(50)
    logits = model(ids.clip(max=49))
    assert logits.shape == [3, 11, 50]
    logits.sum().backward()
    assert model.word_bias.grad is not None
    assert [p.shape for n, p in model.named_parameters() if n.endswith("bias") and p.shape == [50]] == [[50]]


# ------------------------------------------------------------------------------------------------- what sets them apart


def test_starting_weights():
    paddle.seed(0)
    settings = dict(hidden_size=128, vocab_size=500)
    for kind in ("ForTokenClassification", "ForSequenceClassification"):
        head = model_class("bert", kind)(config("bert", **settings)).classifier.weight.numpy()
        assert 0.03 < np.abs(head).max() <= 0.04  # BERT's: truncated at two deviations
    electra = model_class("electra", "ForTokenClassification")(config("electra", **settings)).classifier.weight.numpy()
    assert np.sqrt(6 / 131) * 0.9 < np.abs(electra).max() <= np.sqrt(6 / 131)  # ELECTRA's: Glorot


def test_ernie_s_task_is_a_row_for_all_tokens():
    ids = tokens()
    model = build("ernie", "Model")
    tasks = model.embeddings.task_type_embeddings.weight
    before = model(ids)
    with paddle.no_grad():
        tasks[0] = tasks[0] + 1.0
    same(model(ids), before)  # another task's
    with paddle.no_grad():
        tasks[2] = tasks[2] + paddle.arange(24, dtype="float32")
    differ(model(ids), before)
    assert not hasattr(build("ernie", "Model", use_task_id=False).embeddings, "task_type_embeddings")
    with pytest.raises(InputError, match="task_id 5 is not in its table"):
        config("ernie", task_id=5)


def test_electra_learns_with_its_generator():
    model = model_class("electra", "ForPretraining")(config("electra"), config("electra", hidden_size=12))
    ids = tokens(4, 11)
    labels = paddle.where(paddle.arange(11) < 4, ids, paddle.full_like(ids, -100))
    output = model(paddle.where(labels != -100, paddle.full_like(ids, 3), ids), labels=labels)
    output.loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.generator.electra.embeddings is model.discriminator.electra.embeddings
    same(output.loss, output.gen_loss + 50 * output.disc_loss, 1e-4)


# -------------------------------------------------------------------------------------------------- loading and saving


@every_model
def test_saved_models_load_again(tmp_path, model_type, kind, caplog):
    model = build(model_type, kind)
    model.save_pretrained(tmp_path)
    encoder = model_type + "."
    assert all(n.startswith((encoder, "classifier", "cls.", "sequence_summary")) or "_" in n.split(".")[0]
               for n in read_weights(tmp_path))  # fmt: skip
    assert read_json(tmp_path / "config.json")["model_type"] == model_type
    loaded = model_class(model_type, kind).from_pretrained(tmp_path)
    assert loaded.config == model.config
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), loaded.state_dict()[name].numpy())
    assert not caplog.records


@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_a_pooler_that_is_absent_stays_absent_unless_it_is_read(tmp_path, model_type, caplog):
    build(model_type, "ForMaskedLM", has_pooler=False).save_pretrained(tmp_path)
    tagger = model_class(model_type, "ForTokenClassification").from_pretrained(tmp_path)
    assert not hasattr(tagger.backbone, "pooler")
    assert not tagger.config.has_pooler
    assert "not used: cls.predictions" in caplog.text
    caplog.clear()
    classifier = model_class(model_type, "ForSequenceClassification").from_pretrained(tmp_path)
    assert "starting anew: " + ", ".join(sorted(["classifier", f"{model_type}.pooler"])) in caplog.text
    assert classifier.config.has_pooler
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"has_pooler": True})
    assert not model_class(model_type, "Model").from_pretrained(tmp_path).config.has_pooler  # the weights decide
    with pytest.raises(InputError, match=r"no head for this here \(.*pooler"):
        model_class(model_type, "ForSequenceClassification").from_pretrained(tmp_path, whole=True)


def test_a_classifier_without_a_pooler_is_refused():
    with pytest.raises(InputError, match="BERT configuration: BertForSequenceClassification reads a pooler"):
        build("bert", "ForSequenceClassification", has_pooler=False)


def test_names_that_are_one_weight_are_read_once(tmp_path, caplog):
    model = build("bert", "ForMaskedLM")
    model.save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    words = weights["bert.embeddings.word_embeddings.weight"]
    more = {"cls.predictions.decoder.weight": words, "cls.seq_relationship.weight": np.ones([24, 2], "f")}
    more["cls.predictions.decoder.bias"] = weights.pop("cls.predictions.decoder_bias")
    write_safetensors(tmp_path / "model.safetensors", weights | more)
    loaded = model_class("bert", "ForMaskedLM").from_pretrained(tmp_path)
    loaded.eval()
    same(loaded(tokens()), model(tokens()))
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["not used: cls.seq_relationship"]
    write_safetensors(tmp_path / "model.safetensors", weights | more | {"cls.predictions.decoder.weight": words + 1})
    with pytest.raises(InputError, match=r"decoder\.weight differs from bert\.embeddings\.word_embeddings\.weight"):
        model_class("bert", "ForMaskedLM").from_pretrained(tmp_path)


def edited(folder, edit):
    weights = read_weights(folder)
    edit(weights)
    write_safetensors(folder / "model.safetensors", weights)


@every_type
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w, t: w.pop(f"{t}.encoder.layers.1.norm2.bias"), r"layers\.1\.norm2\.bias is missing"),
        (lambda w, t: w.update({f"{t}.encoder.layers.7.norm2.bias": np.ones(24, "f")}), "layers.7.* unknown"),
        (lambda w, t: w.update({f"{t}.embeddings.layer_norm.bias": np.ones(7, "f")}), r"shape \[7\], not \["),
        (lambda w, t: w.update({f"{t}.encoder.layer.0.output.dense.bias": np.ones(24, "f")}), "convert.py"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, model_type, edit, message):
    build(model_type, "ForSequenceClassification").save_pretrained(tmp_path)
    edited(tmp_path, lambda weights: edit(weights, model_type))
    with pytest.raises(InputError, match=message):
        model_class(model_type, "ForSequenceClassification").from_pretrained(tmp_path)


@every_type
def test_another_architecture_s_folder_is_refused(tmp_path, model_type):
    build(model_type, "Model").save_pretrained(tmp_path)
    title = config(model_type).title
    for other in set(MODEL_TYPES) - {model_type}:
        with pytest.raises(InputError, match=f"a {model_type} model, not an? {config_class(other).title}"):
            config_class(other).from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no-such-thing: no such folder.*convert\.py"):
        model_class(model_type, "Model").from_pretrained("no-such-thing")
    with pytest.raises(InputError, match=f"{title} configuration: 5 heads|hidden_size 24 is not a multiple of 5 heads"):
        config(model_type, num_attention_heads=5)
    assert "ConvBERT" not in str(title)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'; .* only 'absolute'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"type_vocab_size": 0}, "type_vocab_size must be a whole number from 1"),
    ],
)
def test_configurations_of_something_else_are_refused(tmp_path, change, message):
    write_json(tmp_path / "config.json", config("bert").to_dict() | change)
    with pytest.raises(InputError, match=message):
        config_class("bert").from_pretrained(tmp_path)


# ----------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("name", "millions"),  # parameters of the encoder with its pooler, as the papers and cards give them
    [("bert-base-uncased", 110), ("bert-base-chinese", 102), ("electra-small", 14), ("electra-base", 109),
     ("ernie-1.0", 100), ("ernie-3.0-medium-zh", 75), ("bert-uncased-l12-h256", 17)],
)  # fmt: skip
def test_presets_have_the_published_sizes(name, millions):
    size = preset(name)
    model = model_class(size.model_type, "Model")(size)
    assert sum(weight.size for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=1.5)


def test_presets_belong_to_one_architecture():
    for name, entry in PUBLISHED.items():
        assert PRESETS[name] is config_class(entry.model_type)
        assert preset(name, num_labels=5).num_labels == 5
    with pytest.raises(InputError, match="bert-huge: neither a folder nor a preset"):
        preset("bert-huge")
    for name in ("electra-small", "electra-base"):
        sizes, generator = preset(name), preset(f"{name}-generator")
        assert (sizes.vocab_size, sizes.embedding_size) == (generator.vocab_size, generator.embedding_size)


def test_classes_by_name():
    assert class_named("ErnieForMaskedLM") is model_class("ernie", "ForMaskedLM")
    assert class_named("ElectraForMaskedLM") is model_class("electra", "Generator")
    assert class_named("GPT2Model") is None
    with pytest.raises(InputError, match="BERT has no BertDiscriminator"):
        model_class("bert", "Discriminator")
    with pytest.raises(InputError, match="model type 'roberta' is none of convbert, bert, electra, ernie"):
        config_class("roberta")
