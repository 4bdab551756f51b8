import runtime  # noqa: F401  (before Paddle)

import tracemalloc

import numpy as np
import pytest
from conftest import ROOT

from tasks import classifiers
from tasks.classifiers import EncodedTexts
from tasks.glue import Example
from tokenizer import ConvBertTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples" / "vocab.txt")


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
