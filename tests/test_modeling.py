import logging
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT, forget_gradients
from tiny_inputs import differ, same, tokens

from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from layers.configuration import PRESETS
from modeling import (
    BackboneOutput,
    ConvBertConfig,
    ConvBertDiscriminator,
    ConvBertForMaskedLM,
    ConvBertForMultipleChoice,
    ConvBertForPretraining,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
    ConvBertForTokenClassification,
    ConvBertGenerator,
    ConvBertModel,
)

SMALL = dict(
    vocab_size=60, embedding_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
    conv_kernel_size=5, max_position_embeddings=40,
)  # fmt: skip


def config(**changes):
    return ConvBertConfig(**{**SMALL, **changes})


def build(model_class, *configs, seed=0):
    """An evaluating model with no parameter at a trivial value."""
    paddle.seed(seed)
    model = model_class(*(configs or (config(),)))
    random = np.random.default_rng(seed)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    model.eval()
    return model


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("preset", "millions"),  # parameters of the encoder, as the paper gives them
    [("convbert-small", 14), ("convbert-medium-small", 17), ("convbert-base", 106)],
)
def test_presets_have_the_published_sizes(preset, millions):
    model = ConvBertModel(ConvBertConfig.from_preset(preset))
    assert round(sum(weight.size for weight in model.parameters()) / 1e6) == pytest.approx(millions, abs=1)


def test_tiny_is_small_and_its_generator_converts():
    model = ConvBertModel(ConvBertConfig.from_preset("convbert-tiny"))
    assert 1e6 < sum(weight.size for weight in model.parameters()) < 5e6
    assert ConvBertConfig.from_preset("convbert-tiny-generator").num_attention_heads >= 2


@pytest.mark.parametrize("preset", [name for name in PRESETS if not name.endswith("-generator")])
def test_generators_fit_their_discriminators(preset):
    config, generator = (ConvBertConfig.from_preset(f"{preset}{part}") for part in ("", "-generator"))
    assert (config.vocab_size, config.embedding_size) == (generator.vocab_size, generator.embedding_size)
    assert config.hidden_size > generator.hidden_size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_kernel_size": 4}, "conv_kernel_size must be odd"),
        ({"head_ratio": 0}, "head_ratio must be a whole number from 1"),
        ({"head_ratio": 3}, "4 heads are not a multiple of head_ratio 3"),
        ({"head_ratio": 1.5}, "head_ratio must be a whole number"),
        ({"hidden_size": 25}, "hidden_size 25 is not a multiple of 4 heads"),
        ({"hidden_size": "24"}, "hidden_size must be a whole number"),
        ({"num_groups": 5}, "size 24 does not divide into num_groups 5"),
        ({"num_groups": 3}, "size 32 does not divide into num_groups 3"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob must lie in \[0, 1\)"),
        ({"classifier_dropout": -0.1}, r"classifier_dropout must lie in \[0, 1\)"),
        ({"pad_token_id": 60}, "pad_token_id 60 is not in the vocabulary"),
        ({"hidden_act": "swish9"}, "hidden_act 'swish9' is none of gelu"),
        ({"classifier": "mean"}, "classifier 'mean' is unknown"),
        ({"problem_type": "ranking"}, "problem_type 'ranking' is unknown"),
        ({"label_names": ["a"]}, "2 labels but the names"),
        ({"vocab_size": 0}, "vocab_size must be a whole number from 1"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_config_json_round_trip(tmp_path):
    original = config(num_labels=3, label_names=["no", "yes", "perhaps"], mask_conv_padding=True, classifier="linear")
    write_json(tmp_path / "config.json", original.to_dict())
    assert ConvBertConfig.from_pretrained(tmp_path) == original
    assert read_json(tmp_path / "config.json")["id2label"] == {"0": "no", "1": "yes", "2": "perhaps"}
    assert ConvBertConfig.from_pretrained(tmp_path, num_labels=2).label_names is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert"}', "a bert model, not a ConvBERT"),
        ('{"model_type": "convbert", "is_decoder": true}', "is_decoder True"),
        ('{"model_type": "convbert", "conv_kernel_size": 8}', "must be odd"),
        ("[1", "line 1: not JSON"),
    ],
)
def test_unusable_config_files(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        ConvBertConfig.from_pretrained(tmp_path)


def test_unknown_names():
    with pytest.raises(InputError, match=r"convbert-giant: neither a folder nor a preset.*convbert-small"):
        ConvBertConfig.from_preset("convbert-giant")


# ------------------------------------------------------------------------------------------------------------- inputs

HEADS = {  # class → shape of the logits for a batch of B × L
    ConvBertForSequenceClassification: lambda b, n: [b, 3],
    ConvBertForTokenClassification: lambda b, n: [b, n, 3],
    ConvBertGenerator: lambda b, n: [b, n, SMALL["vocab_size"]],
    ConvBertDiscriminator: lambda b, n: [b, n],
}


@pytest.mark.parametrize("model_class", HEADS)
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 3), (3, 11)])
def test_heads_follow_the_contract(model_class, batch, length):
    model = build(model_class, config(num_labels=3))
    ids = tokens(batch, length, padding=0)
    logits = model(ids)
    assert isinstance(logits, paddle.Tensor)
    assert logits.shape == HEADS[model_class](batch, length)
    labels = paddle.ones([batch] if model_class is ConvBertForSequenceClassification else [batch, length], "int64")
    output = model(ids, labels=labels, output_hidden_states=True, output_attentions=True)
    assert output._fields == ("loss", "logits", "hidden_states", "attentions")
    assert output.loss.ndim == 0
    assert float(output.loss) > 0
    same(output.logits, logits)
    assert [h.shape for h in output.hidden_states] == [[batch, length, 24]] * 3
    assert [a.shape for a in output.attentions] == [[batch, 2, length, length]] * 2
    assert model(ids, output_attentions=True).loss is None
    assert model(ids, output_attentions=True).hidden_states is None


def test_the_encoder_returns_its_last_hidden_state():
    model = build(ConvBertModel)
    ids = tokens()
    output = model(ids, output_hidden_states=True, output_attentions=True)
    assert isinstance(output, BackboneOutput)
    same(model(ids), output.last_hidden_state)
    same(output.hidden_states[-1], output.last_hidden_state)
    same(output.attentions[0].sum(-1), paddle.ones([3, 2, 11]))
    assert float(output.attentions[0][-1, :, :, -4:].max()) < 1e-20  # nobody attends to padding


def test_question_answering():
    model = build(ConvBertForQuestionAnswering)
    ids = tokens()
    start, end = model(ids)
    assert start.shape == end.shape == [3, 11]
    positions = paddle.to_tensor([0, 5, 10])
    output = model(ids, start_positions=positions, end_positions=positions)
    assert output._fields == ("loss", "start_logits", "end_logits", "hidden_states", "attentions")
    outside = model(ids, start_positions=paddle.to_tensor([0, 5, 99]), end_positions=paddle.to_tensor([0, 5, -1]))
    two = model(ids[:2], attention_mask=ids[:2] != 0, start_positions=positions[:2], end_positions=positions[:2])
    same(outside.loss, two.loss)  # positions outside the text do not count


@pytest.mark.parametrize("choices", [1, 2, 5])
def test_multiple_choice_takes_any_number_of_choices(choices):
    model = build(ConvBertForMultipleChoice)
    flat = tokens(2 * choices, 7)
    ids = flat.reshape([2, choices, 7])
    logits = model(ids)
    assert logits.shape == [2, choices]
    first = model.classifier(model.convbert(flat)[:, 0])  # the first token, never a pad token
    same(logits.flatten(), first.flatten())
    output = model(ids, attention_mask=(ids != 0).astype("int64"), labels=paddle.zeros([2], "int64"))
    same(output.logits, logits)
    embeds = model.get_input_embeddings()(ids)
    same(model(inputs_embeds=embeds, attention_mask=ids != 0), logits)


def test_the_problem_type_decides_the_loss():
    logits = paddle.to_tensor([[0.3, -1.0], [2.0, 0.5]])
    wide = paddle.to_tensor([[1.0, 0.0], [1.0, 1.0]])
    heads = {None: wide, "multi_label_classification": wide, "regression": wide}
    losses = {kind: float(build(ConvBertForSequenceClassification, config(problem_type=kind)).loss(logits, labels))
              for kind, labels in heads.items()}  # fmt: skip
    assert losses["regression"] == pytest.approx(float(((logits - wide) ** 2).mean()))
    expected = -(wide * logits.sigmoid().log() + (1 - wide) * (-logits).sigmoid().log()).mean()
    assert losses[None] == losses["multi_label_classification"] == pytest.approx(float(expected))
    one = build(ConvBertForSequenceClassification, config(problem_type="single_label_classification"))
    labels = paddle.to_tensor([0, 1])
    expected = -float((logits - logits.logsumexp(-1, keepdim=True)).take_along_axis(labels.unsqueeze(1), 1).mean())
    assert float(one.loss(logits, labels)) == pytest.approx(expected)


def test_tied_weights_that_differ_are_refused(tmp_path):
    build(ConvBertForPretraining, config(), config()).save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    name = "generator.convbert.embeddings.position_embeddings.weight"
    weights[name] = weights[name] + 1
    write_safetensors(tmp_path / "model.safetensors", weights)
    with pytest.raises(InputError, match=r"position_embeddings.weight differs from .*, with which it is one here"):
        ConvBertForPretraining.from_pretrained(tmp_path)


def test_losses():
    ids = tokens(4, 6, padding=0)
    regression = build(ConvBertForSequenceClassification, config(num_labels=1))
    values = paddle.to_tensor([0.5, -1.0, 2.0, 3.0])
    output = regression(ids, labels=values)
    same(output.loss, ((output.logits.flatten() - values) ** 2).mean())
    several = build(ConvBertForSequenceClassification, config(num_labels=3))
    yes_no = paddle.to_tensor([[1.0, 0, 1]] * 4)
    output = several(ids, labels=yes_no)
    probability = paddle.nn.functional.sigmoid(output.logits)
    same(output.loss, -(yes_no * probability.log() + (1 - yes_no) * (1 - probability).log()).mean(), 1e-5)
    for model in (build(ConvBertForTokenClassification, config(num_labels=3)), build(ConvBertDiscriminator)):
        labels = paddle.ones([4, 6], "int64")
        labels[:, 3:] = -100
        whole, cut = model(ids, labels=labels), model(ids).clone()
        same(whole.loss, model.loss(cut[:, :3], labels[:, :3]))


def test_inputs_embeds_and_position_ids():
    model = build(ConvBertModel)
    ids = tokens(padding=0)
    embeds = model.get_input_embeddings()(ids)
    same(model(inputs_embeds=embeds), model(ids))
    positions = paddle.arange(11)
    same(model(ids, position_ids=positions), model(ids))
    same(model(ids, position_ids=positions.expand([3, 11])), model(ids))
    differ(model(ids, position_ids=positions + 5), model(ids))
    types = paddle.ones_like(ids)
    differ(model(ids, types), model(ids))
    same(model(ids, paddle.zeros_like(ids)), model(ids))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(ids, inputs_embeds=embeds)
    with pytest.raises(InputError, match="41 tokens, but this model has 40 positions"):
        model(tokens(1, 41))


def test_all_forms_of_a_mask_mean_the_same():
    model = build(ConvBertModel)
    ids = tokens()
    expected = model(ids)  # built from the pad id
    keep = ids != 0
    differ(model(ids, attention_mask=paddle.ones_like(ids)), expected)
    additive = (1.0 - keep.astype("float32")) * -1e9
    infinite = paddle.where(keep, paddle.zeros([3, 11]), paddle.full([3, 11], -np.inf))
    square = keep.unsqueeze(1).expand([3, 11, 11])
    for mask in (
        keep, keep.astype("int64"), keep.astype("int32"), additive, infinite,
        square, square.astype("int64"), additive.unsqueeze(1).expand([3, 11, 11]),
        square.unsqueeze(1), keep.unsqueeze([1, 2]), additive.unsqueeze([1, 2]),
        square.unsqueeze(1).expand([3, 2, 11, 11]).astype("int64"),
    ):  # fmt: skip
        same(model(ids, attention_mask=mask), expected)
    with pytest.raises(ValueError, match="2, 3 or 4 dimensions"):
        model(ids, attention_mask=keep[0])


def test_a_mask_may_differ_between_tokens():
    model = build(ConvBertModel, config(num_hidden_layers=1))
    causal = paddle.tril(paddle.ones([1, 11, 11], "int64"))
    probabilities = model(tokens(1, padding=0), attention_mask=causal, output_attentions=True).attentions[0]
    assert float(probabilities[0, 0].triu(1).sum()) < 1e-20


@pytest.mark.parametrize("mask", [paddle.zeros([2, 5], "int64"), paddle.full([2, 5], -np.inf)])
def test_a_row_with_nothing_to_attend_to_is_finite(mask):
    assert bool(build(ConvBertModel)(tokens(2, 5), attention_mask=mask).isfinite().all())


def alone_and_in_company():
    """A sentence of 6 tokens: alone, padded by 1, 7 and 100, and as a row of batches: (ids [B, L], its row) each."""
    ids = tokens(1, 6, padding=0).numpy()
    padded = [np.pad(ids, ((0, 0), (0, count))) for count in (1, 7, 100)]
    batches = []
    for row, length in [(0, 6), (1, 9), (2, 30)]:
        others = tokens(3, length, padding=0, seed=row).numpy()
        others[row] = np.pad(ids[0], (0, length - 6))
        others[(row + 1) % 3, 3:] = 0
        batches.append((others, row))
    return [(ids, 0), *((array, 0) for array in padded), *batches]


def sentence(model, ids, row):
    """Hidden states of the first 6 tokens of a row, and the gradients of a function of them alone."""
    ids = paddle.to_tensor(ids)
    hidden = model(ids)[row, :6]
    taste = paddle.to_tensor(np.random.default_rng(3).normal(size=hidden.shape).astype(hidden.numpy().dtype))
    (hidden * taste).sum().backward()
    gradients = {name: weight.grad.numpy() for name, weight in model.named_parameters()}
    forget_gradients(model)
    return hidden.numpy(), gradients


@pytest.mark.parametrize(
    ("dtype", "path", "tolerance"),
    [("float32", "auto", 1e-5), ("float32", "paddle", 1e-5), ("float64", "paddle", 1e-10)],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_with_mask_conv_padding_a_sentence_does_not_depend_on_its_company(monkeypatch, dtype, path, tolerance, groups):
    monkeypatch.setenv("CONVBERT_KERNELS", path)
    model = build(ConvBertModel, config(mask_conv_padding=True, max_position_embeddings=110, num_groups=groups))
    model.to(dtype=dtype)
    first, *others = [sentence(model, *case) for case in alone_and_in_company()]
    for hidden, gradients in others:
        np.testing.assert_allclose(hidden, first[0], rtol=0, atol=tolerance)
        for name, gradient in gradients.items():
            scale = max(1.0, np.abs(first[1][name]).max())
            np.testing.assert_allclose(gradient / scale, first[1][name] / scale, rtol=0, atol=tolerance, err_msg=name)


def test_mask_conv_padding_on_the_left():
    ids = tokens(1, 6, padding=0)
    padded = paddle.concat([ids, paddle.zeros([1, 9], "int64")], axis=1)
    left = paddle.concat([paddle.zeros([1, 9], "int64"), ids], axis=1)
    model = build(ConvBertModel, config(mask_conv_padding=True))
    positions = paddle.concat([paddle.zeros([9], "int64"), paddle.arange(6)])
    same(model(left, position_ids=positions)[:, 9:], model(ids))
    differ(build(ConvBertModel)(padded)[:, :6], model(ids))


# ------------------------------------------------------------------------------------------------------- architecture


@pytest.mark.parametrize(("heads", "ratio", "kept"), [(4, 1, 4), (4, 2, 2), (4, 4, 1), (1, 2, 1), (2, 4, 1)])
def test_head_ratios_follow_the_original(heads, ratio, kept):
    model = build(ConvBertModel, config(num_attention_heads=heads, head_ratio=ratio))
    attention = model.encoder.layers[0].self_attn
    width = kept * 24 // heads
    assert attention.q_proj.weight.shape == attention.conv_out_layer.weight.shape == [24, width]
    assert attention.out_proj.weight.shape == [2 * width, 24]
    output = model(tokens(), output_attentions=True)
    assert output.attentions[0].shape == [3, kept, 11, 11]


def test_parameter_names_are_paddlenlp_s():
    names = set(ConvBertForSequenceClassification(config(num_groups=2, classifier="pooled_mlp")).state_dict())
    assert {
        "convbert.embeddings.word_embeddings.weight",
        "convbert.embeddings.layer_norm.bias",
        "convbert.embeddings_project.weight",
        "convbert.encoder.layers.1.self_attn.q_proj.weight",
        "convbert.encoder.layers.1.self_attn.key_conv_attn_layer.depthwise.weight",
        "convbert.encoder.layers.1.self_attn.key_conv_attn_layer.bias",
        "convbert.encoder.layers.1.self_attn.conv_kernel_layer.weight",
        "convbert.encoder.layers.1.linear1.weight",
        "convbert.encoder.layers.1.norm2.bias",
        "convbert.pooler.dense.weight",
        "classifier.out_proj.weight",
    } <= names


def test_starting_weights_are_the_original_s():
    paddle.seed(0)
    model = ConvBertForSequenceClassification(config(hidden_size=128, num_attention_heads=4, conv_kernel_size=9))
    layer = model.convbert.encoder.layers[0]
    depthwise = layer.self_attn.key_conv_attn_layer.depthwise.weight.numpy()
    assert depthwise.std() == pytest.approx(0.88 / 9, rel=0.1)  # a normal cut at two deviations keeps 0.88 of its own
    assert np.abs(depthwise).max() <= 2 / 9
    query = layer.self_attn.q_proj.weight.numpy()
    assert query.std() == pytest.approx(0.88 * 0.02, rel=0.05)
    assert np.abs(query).max() <= 0.04
    glorot = np.sqrt(6 / (128 + 2))
    assert 0.9 * glorot < np.abs(model.classifier.out_proj.weight.numpy()).max() <= glorot
    assert not model.get_input_embeddings().weight.numpy()[0].any()


def test_the_pad_row_is_read_but_not_trained():
    model = build(ConvBertModel)
    ids = tokens()
    before = model(ids)
    model(ids).sum().backward()
    words = model.get_input_embeddings().weight
    assert not words.grad.numpy()[0].any()
    assert words.grad.numpy()[int(ids[0, 0])].any()
    with paddle.no_grad():
        words[0] = words[1]
    differ(model(ids), before)


def test_classifier_variants():
    ids = tokens()
    for classifier, names in {
        "linear": {"classifier.out_proj"},
        "mlp": {"classifier.dense", "classifier.out_proj"},
        "pooled_mlp": {"classifier.dense", "classifier.out_proj", "convbert.pooler.dense"},
    }.items():
        model = build(ConvBertForSequenceClassification, config(classifier=classifier))
        head = {name.rpartition(".")[0] for name in model.state_dict() if "classifier" in name or "pooler" in name}
        assert head == names
        first = model.convbert(ids)[:, 0]
        if classifier == "linear":
            same(model(ids), model.classifier.out_proj(first))
        if classifier == "pooled_mlp":
            same(model(ids), model.classifier(paddle.tanh(model.convbert.pooler.dense(first))))


@pytest.mark.parametrize("model_class", [ConvBertForSequenceClassification, ConvBertForMaskedLM])
def test_recompute_gives_the_same_gradients(model_class):
    """With dropout on: the second forward draws the same numbers."""
    gradients = []
    labels = paddle.ones([3] if model_class is ConvBertForSequenceClassification else [3, 11], "int64")
    for enabled in (False, True):
        model = build(model_class)
        model.train()
        model.enable_recompute(enabled)
        paddle.seed(7)
        model(tokens(), labels=labels).loss.backward()
        gradients.append({name: weight.grad.numpy() for name, weight in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        np.testing.assert_array_equal(gradient, gradients[1][name], err_msg=name)


def test_resizing_the_vocabulary():
    model = build(ConvBertForMaskedLM)
    ids = tokens()
    before = model(ids)
    model.resize_token_embeddings(75)
    assert model.config.vocab_size == 75
    same(model(ids)[:, :, :60], before)
    assert model(paddle.to_tensor([[74, 74, 74]])).shape == [1, 3, 75]
    model.resize_token_embeddings(50)
    assert model(ids.clip(max=49)).shape == [3, 11, 50]
    model(ids.clip(max=49)).sum().backward()
    assert model.get_input_embeddings().weight.grad is not None


# ---------------------------------------------------------------------------------------------------- pre-training


def joint(**changes):
    generator = config(hidden_size=12, num_attention_heads=1, intermediate_size=16)
    return build(ConvBertForPretraining, config(**changes), generator)


def test_generator_and_discriminator_share_their_embeddings():
    model = joint()
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings", "layer_norm"):
        generator, discriminator = (
            getattr(part.convbert.embeddings, name).weight for part in (model.generator, model.discriminator)
        )
        assert generator is discriminator
    model.resize_token_embeddings(70)
    assert model.generator.get_input_embeddings().weight is model.discriminator.get_input_embeddings().weight
    with pytest.raises(InputError, match="vocab_size is 60 and 61"):
        ConvBertForPretraining(config(), config(vocab_size=61))


def test_the_pretraining_objective():
    model = joint()
    ids = tokens(4, 11)
    labels = paddle.full_like(ids, -100)
    labels[:, 2:5] = ids[:, 2:5]
    masked = paddle.where(labels != -100, paddle.full_like(ids, 3), ids)
    paddle.seed(0)
    output = model(masked, labels=labels)
    assert output.gen_predictions.shape == [12]
    same(output.loss, output.gen_loss + 50 * output.disc_loss, 1e-4)
    untouched = labels == -100
    assert bool((output.disc_input_ids == ids)[untouched].all())
    changed = (output.disc_input_ids != ids).astype("int64")
    assert int(changed.sum()) > 0
    expected = paddle.where(ids == 0, paddle.full_like(ids, -100), changed)
    assert bool((output.disc_labels == expected).all())
    output.loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    same(model(ids), model.discriminator(ids))
    nothing_masked = model(ids, labels=paddle.full_like(ids, -100))
    assert float(nothing_masked.gen_loss) == 0
    assert int((nothing_masked.disc_labels == 1).sum()) == 0


def test_draws_decide_the_samples():
    """The same draws, the same samples; without any, others each time."""
    model = joint()
    ids = tokens(4, 11)
    labels = paddle.where(paddle.arange(11) < 6, ids, paddle.full_like(ids, -100))
    draws = paddle.rand([24])
    first, second = (model(ids, labels=labels, draws=draws).disc_input_ids for _ in range(2))
    assert bool((first == second).all())
    others = [model(ids, labels=labels).disc_input_ids for _ in range(2)]
    assert not bool((others[0] == others[1]).all())


# -------------------------------------------------------------------------------------------------- loading and saving


@pytest.mark.parametrize("model_class", [*HEADS, ConvBertModel, ConvBertForQuestionAnswering])
def test_saved_models_load_again(tmp_path, model_class, caplog):
    model = build(model_class, config(num_labels=3, num_groups=2))
    model.save_pretrained(tmp_path)
    assert all(name.startswith("convbert.") or "." not in name or name.split(".")[0] in {
        "classifier", "generator_predictions", "discriminator_predictions"
    } for name in read_weights(tmp_path))  # fmt: skip
    loaded = model_class.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), loaded.state_dict()[name].numpy())
    assert not caplog.records


def test_joint_checkpoints_load_whole_and_in_parts(tmp_path, caplog):
    model = joint()
    model.save_pretrained(tmp_path)
    ids = tokens()
    loaded = ConvBertForPretraining.from_pretrained(tmp_path)
    loaded.eval()
    same(loaded.generator(ids), model.generator(ids))
    discriminator = ConvBertDiscriminator.from_pretrained(tmp_path)
    discriminator.eval()
    same(discriminator(ids), model.discriminator(ids))
    generator = ConvBertGenerator.from_pretrained(tmp_path)  # of another size
    generator.eval()
    same(generator(ids), model.generator(ids))
    assert not caplog.records
    classifier = ConvBertForSequenceClassification.from_pretrained(tmp_path)
    classifier.eval()
    same(classifier.convbert(ids), model.discriminator.convbert(ids))


def test_a_new_head_is_reported(tmp_path, caplog):
    build(ConvBertGenerator).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        ConvBertForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    messages = " | ".join(record.getMessage() for record in caplog.records)
    assert "starting anew: classifier" in messages
    assert "not used: generator_lm_head_bias, generator_predictions" in messages


def edited(folder, edit):
    weights = read_weights(folder)
    edit(weights)
    write_safetensors(folder / "model.safetensors", weights)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w.pop("convbert.encoder.layers.1.norm2.bias"), r"layers\.1\.norm2\.bias is missing"),
        (lambda w: w.pop("classifier.dense.bias"), r"classifier\.dense\.bias is missing"),  # half a head
        (
            lambda w: w.update({"convbert.encoder.layers.7.norm2.bias": w["classifier.dense.bias"]}),
            "layers.7.* unknown",
        ),
        (
            lambda w: w.update({"convbert.embeddings.layer_norm.bias": w["classifier.dense.bias"]}),
            r"layer_norm\.bias has shape \[24\], not \[8\]",
        ),
        (lambda w: w.update({"convbert.encoder.layer.0.output.dense.bias": w["classifier.dense.bias"]}), "convert.py"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, edit, message):
    build(ConvBertForSequenceClassification).save_pretrained(tmp_path)
    edited(tmp_path, edit)
    with pytest.raises(InputError, match=message) as error:
        ConvBertForSequenceClassification.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_head_of_another_kind_is_new(tmp_path, caplog):
    """Token classification's head has the same first name, and no parameter in common."""
    build(ConvBertForTokenClassification).save_pretrained(tmp_path)
    ConvBertForSequenceClassification.from_pretrained(tmp_path)
    assert "starting anew: classifier" in caplog.text
    assert "not used: classifier" in caplog.text


def test_a_head_that_has_too_much_is_refused(tmp_path):
    build(ConvBertForSequenceClassification).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"classifier\.dense\.\w+ is unknown"):
        ConvBertForSequenceClassification.from_pretrained(tmp_path, classifier="linear")


def test_another_number_of_labels_needs_a_new_head(tmp_path):
    build(ConvBertForSequenceClassification).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"classifier\.out_proj\.weight has shape \[24, 2\], not \[24, 5\]"):
        ConvBertForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    model = ConvBertForSequenceClassification.from_pretrained(tmp_path, num_labels=5, new_head=True)
    assert model.classifier.out_proj.weight.shape == [24, 5]


def test_a_new_head_keeps_the_pooler(tmp_path):
    old = build(ConvBertForSequenceClassification, config(classifier="pooled_mlp"))
    old.save_pretrained(tmp_path)
    new = ConvBertForSequenceClassification.from_pretrained(tmp_path, num_labels=5, new_head=True)
    same(new.convbert.pooler.dense.weight, old.convbert.pooler.dense.weight)
    differ(new.classifier.dense.weight, old.classifier.dense.weight)


def test_a_pooler_in_the_checkpoint_decides_the_classifier(tmp_path):
    build(ConvBertModel, config(classifier="pooled_mlp")).save_pretrained(tmp_path)
    content = read_json(tmp_path / "config.json")
    del content["classifier"]  # as PaddleNLP's own checkpoints
    write_json(tmp_path / "config.json", content)
    assert ConvBertForSequenceClassification.from_pretrained(tmp_path).config.classifier == "pooled_mlp"
    assert ConvBertForSequenceClassification.from_pretrained(tmp_path, classifier="mlp").config.classifier == "mlp"


def test_published_names_come_from_the_zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    folder = tmp_path / "models/convbert-small"
    folder.mkdir(parents=True)
    model = ConvBertModel(ConvBertConfig.from_preset("convbert-small"))
    state = dict(model.state_dict())  # no prefix, as the published file
    paddle.save(state, str(folder / "model_state.pdparams"))
    loaded = ConvBertForSequenceClassification.from_pretrained("convbert-small", num_labels=3)
    np.testing.assert_array_equal(
        loaded.get_input_embeddings().weight.numpy(), model.get_input_embeddings().weight.numpy()
    )
    with pytest.raises(InputError, match="convbert-huge: neither a folder nor a published model"):
        ConvBertModel.from_pretrained("convbert-huge")


def test_the_model_needs_the_core_only():
    code = (
        "import sys, modeling, convert, tokenizer;"
        "print([m for m in ('torch', 'transformers', 'paddlenlp') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
