import runtime  # noqa: F401  (before Paddle)

import tracemalloc

import numpy as np
import paddle
import pytest
from conftest import ROOT

from family.architectures import MODEL_TYPES, config_class, model_class
from family.configurations import PUBLISHED, preset
from files.errors import InputError
from tasks import classifiers
from tasks.classifiers import EncodedTexts, load_classifier, load_tokenizer
from tasks.glue import TASKS, Example
from tasks.recipe import paper_settings
from tokenizer import ConvBertTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples" / "vocab.txt")


SIZES = dict(
    vocab_size=1200, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=2, label_names=["0", "1"],
)  # fmt: skip


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_what_begins_at_random(tmp_path, tokenizer, model_type):
    paddle.seed(0)
    config = config_class(model_type).from_dict(SIZES)
    stored = model_class(model_type, "ForSequenceClassification")(config)
    stored.save_pretrained(tmp_path)

    def kept(task, start):
        """Of all weights, and of the head's alone, whether they are the stored ones; and the model."""
        model = load_classifier(model_type, str(tmp_path), task, tokenizer, start)
        same = {}
        for name, weight in model.named_parameters():
            own = stored.state_dict()[name]
            if own.ndim == 2:  # a bias starts at zero in either
                same[name] = own.shape == weight.shape and bool((own == weight).all())
        head = {name for name in same if name.startswith("classifier")}
        return {same[name] for name in head}, {same[name] for name in same.keys() - head}, model

    sst2, mnli = TASKS["SST-2"], TASKS["MNLI"]
    for task, start, head, rest in (
        (sst2, "nothing", {True}, {True}), (sst2, "misfit", {True}, {True}), (sst2, "head", {False}, {True}),
        (sst2, "everything", {False}, {False}), (mnli, "everything", {False}, {False}),
    ):  # fmt: skip
        assert kept(task, start)[:2] == (head, rest), (task.name, start)
    found, rest, model = kept(mnli, "misfit")
    assert found == {False}
    assert rest == {True}
    assert model.config.label_names == list(mnli.labels)
    assert model.config.vocab_size == 1200
    assert kept(mnli, "everything")[2].config.vocab_size == len(tokenizer)
    with pytest.raises(InputError, match=r"a head for 2 labels \(0, 1\), but MNLI needs labels contradiction.*train"):
        load_classifier(model_type, str(tmp_path), mnli, tokenizer, "nothing")
    model_class(model_type, "Model")(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no head for this here"):
        load_classifier(model_type, str(tmp_path), sst2, tokenizer, "nothing")
    other = MODEL_TYPES[MODEL_TYPES.index(model_type) - 1]
    with pytest.raises(InputError, match=f"a {model_type} model, not an? .*; take --model_type {model_type}"):
        load_classifier(other, str(tmp_path), sst2, tokenizer)


@pytest.mark.parametrize(
    ("name", "lower"), [("bert-base-chinese", False), ("electra-small", True), ("ernie-1.0", True)]
)
def test_a_published_vocabulary_is_had_without_the_weights(tmp_path, monkeypatch, name, lower):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    folder = tmp_path / "models" / name
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    model_type = PUBLISHED[name].model_type
    found = load_tokenizer(model_type, name)
    assert (len(found), found.do_lower_case) == (1169, lower)
    assert load_tokenizer(model_type, name, do_lower_case=not lower).do_lower_case != lower
    assert [path.name for path in folder.iterdir()] == ["vocab.txt"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_paper_s_rate_is_by_the_width(name):
    small = preset(name).hidden_size <= 384
    assert paper_settings("CoLA", name)["learning_rate"] == (3e-4 if small else 1e-4)


SINGLE = [Example("a good film", None, 1), Example("", None, 0), Example("very " * 50, None, 1), Example("b", None, 0)]
PAIRS = [
    Example("a good film", "the plot is good", 2.5), Example("", "one", 0.0), Example("one", "", 5.0),
    Example("very " * 30, "a film", 1.0), Example("a film", "very " * 30, 1.0), Example("very " * 30, "bad " * 30, 3.1),
]  # fmt: skip


@pytest.mark.parametrize("examples", [SINGLE, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_arrays_are_those_of_the_tokenizer(tokenizer, monkeypatch, examples, at_once):
    monkeypatch.setattr(classifiers, "ENCODED_AT_ONCE", at_once)
    texts = EncodedTexts(tokenizer, examples, 16)
    pairs = None if examples is SINGLE else [example.text_pair for example in examples]
    rows = tokenizer([example.text for example in examples], pairs, truncation=True, max_length=16)
    assert len(texts) == len(examples)
    assert texts.lengths.tolist() == [len(row) for row in rows["input_ids"]]
    whole = tokenizer([example.text for example in examples], pairs)["input_ids"]
    assert texts.cut == sum(len(row) > 16 for row in whole) > 0
    assert texts.labels.dtype == (np.int64 if examples is SINGLE else np.float32)
    np.testing.assert_array_equal(texts.labels, np.array([example.label for example in examples], texts.labels.dtype))
    for indices in ([0, 1, 2, 3], np.array([3, 1]), (2,), range(1, 3), []):
        expected = tokenizer.pad({name: [row[index] for index in indices] for name, row in rows.items()})
        found = texts.arrays(indices)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].dtype == np.int64
            np.testing.assert_array_equal(found[name], array)


def test_test_texts_have_no_labels(tokenizer):
    assert not hasattr(EncodedTexts(tokenizer, [Example("a", None, None)], 16), "labels")


def test_ids_of_a_large_vocabulary_are_kept_whole(tmp_path):
    words = [f"w{number}" for number in range(70_000)]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    texts = EncodedTexts(ConvBertTokenizer(path), [Example("w69999 w3", None, 0)], 16)
    assert texts.arrays([0])["input_ids"].tolist() == [[2, 70_004, 8, 3]]


def test_a_set_is_small_and_is_never_there_as_lists(tokenizer):
    """As lists a token took 142 bytes; an array of ids takes 2, and what is kept for each row little beside it."""
    texts = [f"a good film and a bad one , number {number}" for number in range(20_000)]
    examples = [Example(text, text, number % 2) for number, text in enumerate(texts)]
    tracemalloc.start()
    encoded = EncodedTexts(tokenizer, examples, 64)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tokens = encoded.lengths.sum()
    assert tokens > 400_000
    assert kept < 4 * tokens
    assert peak < 20 * tokens


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_pairs_need_a_model_that_knows_a_second_text(tmp_path, tokenizer, model_type):
    config = config_class(model_type).from_dict(SIZES | {"type_vocab_size": 1})
    model_class(model_type, "ForSequenceClassification")(config).save_pretrained(tmp_path)
    assert load_classifier(model_type, str(tmp_path), TASKS["SST-2"], tokenizer)
    with pytest.raises(InputError, match=r"knows no second text \(type_vocab_size is 1\), and MRPC has pairs"):
        load_classifier(model_type, str(tmp_path), TASKS["MRPC"], tokenizer)
