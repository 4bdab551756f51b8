"""The objective against Hugging Face's parts, and over pieces and processes against the whole."""

import numpy as np
import paddle
import pytest
from conftest import ROOT, forget_gradients, needs

from family.architectures import config_class, model_class
from layers.configuration import ConvBertConfig
from modeling import ConvBertForPretraining
from pretraining.objective import SUMS, Objective
from pretraining.segments import Segments
from pretraining.token_store import prepare
from tokenizer import ConvBertTokenizer

NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples/vocab.txt")


@pytest.fixture(scope="module")
def segments(tokenizer, tmp_path_factory):
    store = prepare([ROOT / "samples/corpus.txt"], tokenizer, tmp_path_factory.mktemp("data") / "store")
    return Segments(store, tokenizer, 64, 0.1, False)


def configs(name="convbert-tiny", **changes):
    return [
        ConvBertConfig.from_preset(kind, **{"vocab_size": 1500, **NO_DROPOUT, **changes})
        for kind in (name, f"{name}-generator")
    ]


@needs("torch", "transformers")
@pytest.mark.parametrize("name", ["convbert-tiny", "convbert-medium-small"])
def test_losses_and_gradients_are_hugging_face_s(name, tokenizer, segments):
    """Losses to 1e-5; gradients to 1e-4 of each tensor's largest, or 1e-3 of the model's largest."""
    import torch

    from comparison.hugging_face_pretraining import HuggingFacePretraining
    from comparison.hugging_face_reference import HuggingFace
    from conversion import weight_names

    config, generator_config = configs(name)
    generator = HuggingFace.random("ConvBertGenerator", generator_config)
    discriminator = HuggingFace.random("ConvBertDiscriminator", config, seed=1)
    theirs = HuggingFacePretraining(generator, discriminator)
    ours = ConvBertForPretraining(config, generator_config)
    ours.discriminator.load_weights(discriminator.weights(), "theirs", whole=True)
    ours.generator.load_weights(generator.weights(), "theirs", whole=True)

    batch = Objective(ours, tokenizer).batch(segments, np.arange(8), 0, 1)
    where = np.flatnonzero(batch.labels.ravel() != -100)
    draws = paddle.to_tensor(batch.draws.ravel()[where])
    found = ours(*map(paddle.to_tensor, batch[:2]), labels=paddle.to_tensor(batch.labels), draws=draws)
    expected = theirs(*map(torch.from_numpy, batch[:3]), torch.from_numpy(found.disc_input_ids.numpy()))
    assert 0.3 < float((found.disc_labels == 1).astype("float32").sum()) / len(where) <= 1
    for ours_, theirs_ in zip((found.loss, found.gen_loss, found.disc_loss), expected, strict=False):
        assert float(ours_) == pytest.approx(theirs_.item(), rel=1e-5)

    found.loss.backward()
    expected.loss.backward()
    gradients = {}
    for part, reference in (("discriminator.", discriminator), ("generator.", generator)):
        raw = {name: weight.grad.numpy() for name, weight in reference.parameters().items()}
        renamed = weight_names.from_hugging_face(raw, reference.architecture, reference.library)
        gradients |= {part + name: gradient for name, gradient in renamed.items()}
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, weight in ours.named_parameters():
        wanted = gradients[name]
        bias_of_key = name.endswith("k_proj.bias")  # a softmax can't see it: rounding on both sides
        allowed = 1e-4 * max(np.abs(wanted).max(), (1e-2 if bias_of_key else 1e-3) * largest)
        np.testing.assert_allclose(weight.grad.numpy(), wanted, rtol=0, atol=allowed, err_msg=name)


def small(**changes):
    sizes = dict(embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    return configs(**{**sizes, **changes})


def gradients_of(model, losses):
    forget_gradients(model)
    for loss in losses:
        loss.backward()
    return {name: weight.grad.numpy().copy() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("model_type", "words_only"),
    [("convbert", False), ("convbert", True), ("electra", False), ("bert", True), ("ernie", True)],
)
def test_pieces_add_up_to_the_whole(tokenizer, segments, model_type, words_only):
    """Each piece has its own numbers of masked and of real tokens; one process works on a piece without rows."""
    paddle.seed(0)
    kind = config_class(model_type)
    sizes = [kind.from_dict(config.to_dict(), **kind.of_pooler(False)) for config in small()]
    if words_only:
        model = model_class(model_type, "ForMaskedLM")(sizes[0])
    else:
        model = model_class(model_type, "ForPretraining")(*sizes)
    objective = Objective(model, tokenizer)
    lengths = (segments.inputs(np.arange(100))[0] != 0).sum(axis=1)
    batch = objective.batch(segments, lengths.argsort()[[0, 1, 2, 50, 97, 98, 99]], 0, 1)
    loss, sums = objective(batch, np.arange(7))
    whole = gradients_of(model, [loss])
    pieces = [objective(batch, rows, 2) for rows in (np.arange(3), np.arange(3, 6), np.arange(6, 7), np.arange(0))]
    assert sum(float(piece) for piece, _ in pieces) / 2 == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(sum(more.numpy() for _, more in pieces), sums.numpy(), rtol=1e-5)
    for name, gradient in gradients_of(model, [piece for piece, _ in pieces]).items():
        np.testing.assert_allclose(gradient / 2, whole[name], atol=1e-5 * np.abs(whole[name]).max() + 1e-7)


def test_sums_and_metrics(tokenizer, segments):
    paddle.seed(0)
    objective = Objective(ConvBertForPretraining(*small()), tokenizer, gen_weight=2.0, disc_weight=10.0)
    batch = objective.batch(segments, np.arange(20), 0, 1)
    loss, sums = objective(batch, np.arange(20))
    of = dict(zip(SUMS, sums.tolist(), strict=True))
    assert of["masked"] == (batch.labels != -100).sum()
    assert of["real"] == objective.tokens(batch) == (batch.input_ids != 0).sum()
    assert 0 < of["replaced"] <= of["masked"]
    found = objective.metrics(sums.numpy())
    assert list(found) == ["loss", "gen_loss", "disc_loss", "gen_acc", "disc_acc", "disc_recall"]
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["loss"] == pytest.approx(2 * found["gen_loss"] + 10 * found["disc_loss"])
    assert found["gen_loss"] == pytest.approx(np.log(1500), rel=0.02)  # it knows nothing yet
    assert all(0 <= found[name] <= 1 for name in ("gen_acc", "disc_acc", "disc_recall"))
    assert set(objective.metrics(objective.no_sums()).values()) == {0.0}


@pytest.mark.parametrize("model_type", ["convbert", "electra"])
def test_next_sentences_are_told_of_the_first_token(tokenizer, segments, model_type):
    paddle.seed(0)
    kind = config_class(model_type)
    model = model_class(model_type, "ForPretraining")(*(kind.from_dict(config.to_dict()) for config in small()))
    objective, rows = Objective(model, tokenizer, nsp_prob=0.5), np.arange(40)
    batch = objective.batch(segments, rows, 0, 1)
    pairs = batch.token_type_ids.any(axis=1)
    assert not batch.not_next[~pairs].any()
    assert 0.3 < batch.not_next[pairs].mean() < 0.7
    plain, _ = segments.inputs(rows)
    seen = np.where(batch.labels != -100, batch.labels, batch.input_ids)
    same = [set(row[kinds == 1]) <= set(own) for row, kinds, own in zip(seen, batch.token_type_ids, plain, strict=True)]
    np.testing.assert_array_equal(np.array(same)[pairs], ~batch.not_next[pairs])

    masked = paddle.to_tensor(batch.labels), batch.draws.ravel()[batch.labels.ravel() != -100]
    inputs = [paddle.to_tensor(array) for array in batch[:2]]
    found = model(
        *inputs, labels=masked[0], draws=paddle.to_tensor(masked[1]), not_next=paddle.to_tensor(batch.not_next)
    )
    without = model(*inputs, labels=masked[0], draws=paddle.to_tensor(masked[1]))
    np.testing.assert_array_equal(found.disc_labels[:, 0].numpy(), batch.not_next)
    np.testing.assert_array_equal(found.disc_labels[:, 1:].numpy(), without.disc_labels[:, 1:].numpy())
    assert not without.disc_labels[:, 0].numpy().any()
    logits, real = found.logits.numpy().astype(np.float64), (batch.input_ids != 0).sum()
    more = logits[:, 0][batch.not_next].sum() / real  # cross-entropy of a 1 is that of a 0 less the logit
    assert float(without.disc_loss) - float(found.disc_loss) == pytest.approx(more, abs=1e-5)

    _, sums = objective(batch, rows)
    metrics = objective.metrics(sums.numpy())
    right = (logits[:, 0] > 0) == batch.not_next
    assert metrics["nsp_acc"] == pytest.approx(right[pairs].mean())
    parts = [objective(batch, part)[1].numpy() for part in (rows[:15], rows[15:])]
    np.testing.assert_allclose(sum(parts), sums.numpy(), rtol=1e-5)


def test_a_batch_depends_on_its_seed_alone(tokenizer, segments):
    objective = Objective(ConvBertForPretraining(*small()), tokenizer, nsp_prob=0.5)
    first, second, other = (objective.batch(segments, np.arange(9), 1, step) for step in (3, 3, 4))
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first.labels != other.labels).any()
    assert (first.not_next != other.not_next).any()
    plain = Objective(ConvBertForPretraining(*small()), tokenizer)
    first, other = (plain.batch(segments, np.arange(9), 1, step) for step in (3, 4))
    assert (first.token_type_ids == other.token_type_ids).all()
    assert first.not_next is None


def test_masking_is_as_asked(tokenizer, segments):
    model = ConvBertForPretraining(*small())
    for share, most in ((0.15, 0.18), (0.4, 0.45)):
        batch = Objective(model, tokenizer, share).batch(segments, np.arange(50), 0)
        assert most - 0.06 < (batch.labels != -100).sum() / (batch.input_ids != 0).sum() < most
    bert = Objective(model, tokenizer, style="bert").batch(segments, np.arange(50), 0)
    masked = bert.input_ids[bert.labels != -100]
    assert ((masked != tokenizer.mask_token_id).mean()) == pytest.approx(0.2, abs=0.05)
