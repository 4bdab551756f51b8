"""Masking: how many tokens, which ones, and what they become."""

import numpy as np
import pytest
from conftest import ROOT

from pretraining import masking
from pretraining.masking import choose_tokens, choose_words, hide, mask, most_masked
from tokenizer import ConvBertTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples/vocab.txt")


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return masking.Vocabulary(tokenizer)


@pytest.fixture(scope="module")
def ids(tokenizer):
    """Rows of 128, 60, 12, 5 and 2 tokens, padded to 128; the tokens of a row are all different."""
    ordinary = [
        index for index, word in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))) if word[0] != "["
    ]
    rows = np.zeros([5, 128], int)
    for row, length in zip(rows, (128, 60, 12, 5, 2), strict=True):
        row[: length - 1] = [tokenizer.cls_token_id, *ordinary[100 : 100 + length - 2]]
        row[length - 1] = tokenizer.sep_token_id
    return rows


def test_at_most_19_of_128():
    assert most_masked(128, 0.15) == 19
    assert most_masked(512, 0.15) == 79
    assert most_masked(8, 0.01) == 1


@pytest.mark.parametrize("choose", [choose_tokens, choose_words])
def test_special_tokens_are_never_chosen(ids, vocabulary, choose):
    random = np.random.default_rng(0)
    for _ in range(50):
        chosen = choose(random, ids, vocabulary, 0.5, 60)
        assert not chosen[:, 0].any()
        assert not (chosen & ~vocabulary.maskable[ids]).any()
        assert not chosen[4].any()  # [CLS] [SEP]


def test_the_number_of_chosen_tokens(ids, vocabulary):
    chosen = choose_tokens(np.random.default_rng(0), ids, vocabulary, 0.15, 19)
    assert chosen.sum(axis=1).tolist() == [19, 9, 2, 1, 0]  # rint of 0.15 · length; one at least, if there is one


def test_every_token_is_chosen_as_often_as_any_other(ids, vocabulary):
    random = np.random.default_rng(0)
    hits = sum(choose_tokens(random, ids, vocabulary, 0.15, 19)[:2].astype(int) for _ in range(4000)) / 4000
    np.testing.assert_allclose(hits[0, 1:127], 19 / 126, atol=0.03)  # five standard deviations are 0.028
    np.testing.assert_allclose(hits[1, 1:59], 9 / 58, atol=0.03)


def words_of(tokenizer, ids):
    """Lists of positions, one for each word."""
    words = []
    for position, token in enumerate(tokenizer.convert_ids_to_tokens(ids.tolist())):
        if token in ("[CLS]", "[SEP]", "[PAD]", "[MASK]"):
            continue
        if token.startswith("##"):
            words[-1].append(position)
        else:
            words.append([position])
    return words


@pytest.fixture(scope="module")
def speller(tmp_path_factory):
    """A tokenizer that knows letters only."""
    path = tmp_path_factory.mktemp("letters") / "vocab.txt"
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    path.write_text("".join(f"{word}\n" for word in words))
    return ConvBertTokenizer(path)


def test_whole_words(speller):
    columns = speller(["a word of more than one letter is masked as a whole", "antidisestablishmentarianism no"] * 2,
                      padding=True)  # fmt: skip
    ids, vocabulary = np.array(columns["input_ids"]), masking.Vocabulary(speller)
    random, alone = np.random.default_rng(0), 0
    for _ in range(200):
        chosen = choose_words(random, ids, vocabulary, 0.3, 30)
        for row, picks in zip(ids, chosen, strict=True):
            whole = [word for word in words_of(speller, row) if picks[word].all()]
            assert sorted(position for word in whole for position in word) == np.flatnonzero(picks).tolist()
            wanted = round(0.3 * (row != 0).sum())
            assert picks.sum() >= 1
            assert picks.sum() <= wanted or len(whole) == 1
            alone += len(whole) == 1 and picks.sum() > wanted
    assert alone  # a word that is longer than the share is taken, rather than nothing


def test_a_word_longer_than_all_that_may_be_masked_is_cut(speller):
    ids = np.array(speller(["z" * 40])["input_ids"])
    chosen = choose_words(np.random.default_rng(0), ids, masking.Vocabulary(speller), 0.15, 4)
    assert np.flatnonzero(chosen).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("style", "masked", "other"), [("electra", 0.85, 0.0), ("bert", 0.8, 0.1)])
def test_what_chosen_tokens_become(vocabulary, style, masked, other):
    ids = np.full([400, 100], 700)
    chosen = np.zeros(ids.shape, bool)
    chosen[:, 10:60] = True
    hidden = hide(np.random.default_rng(0), ids, chosen, vocabulary, style)
    assert (hidden[~chosen] == 700).all()
    found = hidden[chosen]
    assert (found == vocabulary.mask_id).mean() == pytest.approx(masked, abs=0.012)
    words = found[(found != vocabulary.mask_id) & (found != 700)]
    assert len(words) / len(found) == pytest.approx(other, abs=0.01)
    assert vocabulary.maskable[words].all()
    if other:  # any word of the vocabulary, as often as any other
        assert len(np.unique(words)) > 0.6 * vocabulary.maskable.sum()
        assert np.bincount(words).max() < 15


def test_labels_are_the_originals(ids, vocabulary):
    masked, labels = mask(np.random.default_rng(0), ids, vocabulary)
    assert ((labels == -100) | (labels == ids)).all()
    assert (masked[labels == -100] == ids[labels == -100]).all()
    again, same = mask(np.random.default_rng(0), ids, vocabulary)
    np.testing.assert_array_equal(masked, again)
    np.testing.assert_array_equal(labels, same)
