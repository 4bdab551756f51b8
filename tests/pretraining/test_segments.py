"""Packing documents into examples, and the order of the examples."""

import random

import numpy as np
import pytest
from conftest import ROOT

from pretraining.segments import Segments, pack, shuffled
from pretraining.token_store import prepare
from tokenizer import ConvBertTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples/vocab.txt")


@pytest.fixture(scope="module")
def store(tokenizer, tmp_path_factory):
    return prepare([ROOT / "samples/corpus.txt"], tokenizer, tmp_path_factory.mktemp("data") / "store")


def bounds(seed, sentences=200, longest=60):
    lengths = np.random.default_rng(seed).integers(1, longest, sentences)
    return [7, *(7 + lengths.cumsum()).tolist()]


@pytest.mark.parametrize("longest", [3, 60, 128])
def test_packed_examples(longest):
    """Whole sentences from the first, in order, up to the length; mostly full, mostly in two segments."""
    full, single, count = 0, 0, 0
    for seed in range(40):
        document = bounds(seed, longest=longest)
        examples = list(pack(document, 128, random.Random(seed)))
        place = 0
        for start, middle, end in examples:
            assert start == document[place]  # none is left out
            assert start < middle <= end
            size = end - start + (3 if end > middle else 2)
            assert size <= 128
            cut = size == 128
            assert middle in document or (cut and middle == end)
            assert end in document or cut
            place = next((n for n in range(place + 1, len(document)) if document[n] >= end), len(document) - 1)
            if place < len(document) - 1:  # the last one gets what is left
                count += 1
                full += size >= 100
                single += middle == end
        assert place == len(document) - 1
    assert full / count > 0.9
    if longest < 100:
        assert 0.05 < single / count < 0.25


def test_short_documents_stay_whole():
    assert list(pack([0, 1], 128, random.Random(0))) == [(0, 1, 1)]
    for seed in range(50):
        (example,) = pack([0, 5, 9], 128, random.Random(seed)) if random.Random(seed).random() > 0.05 else [(0, 5, 9)]
        assert (example[0], example[2]) == (0, 9)


def test_short_examples_come_now_and_then():
    sizes = []
    for seed in range(300):
        sizes += [end - start for start, _, end in pack(bounds(seed, longest=10), 128, random.Random(seed))][:-1]
    assert 0.02 < np.mean(np.array(sizes) < 80) < 0.05  # 5 % have a target of 5 … 128


def test_examples_as_arrays(store, tokenizer):
    segments = Segments(store, tokenizer, 64, 0.1, False)
    ids, types = segments.inputs(np.arange(len(segments)))
    assert ids.shape == types.shape == (len(segments), 64)
    stream = store.tokens.tolist()
    text = ",".join(map(str, stream))
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    for row, kinds in zip(ids.tolist(), types.tolist(), strict=True):
        row = [index for index in row if index != 0]
        assert row[0] == begin
        assert row[-1] == end
        parts = ",".join(map(str, row[1:-1])).split(f",{end},")
        assert 1 <= len(parts) <= 2
        assert all(part in text for part in parts)
        first = row.index(end) + 1
        assert kinds == [0] * first + [1] * (len(row) - first) + [0] * (64 - len(row))
    shorter, _ = segments.inputs(np.flatnonzero((ids != 0).sum(axis=1) < 30)[:3])
    assert shorter.shape[1] < 30  # as wide as its longest


def test_second_segments_of_others(store, tokenizer):
    """As long as what they replace, from where they begin; what is not replaced is cut to the same length."""
    segments, end = Segments(store, tokenizer, 64, 0.1, False), tokenizer.sep_token_id

    def parts(row):
        row = row[row != 0].tolist()
        at = row.index(end)
        return row[1:at], row[at + 1 : -1]

    numbers = np.arange(len(segments))
    others, taken = (numbers + 7) % len(segments), numbers % 2 == 0
    plain, _ = segments.inputs(numbers)
    ids, types = segments.inputs(numbers, others, taken)
    for number, row in enumerate(ids):
        first, second = parts(row)
        own, theirs = parts(plain[number]), parts(plain[others[number]])
        assert first == own[0]
        assert second == (theirs if taken[number] else own)[1][: min(len(own[1]), len(theirs[1]))]
        assert types[number].sum() == len(second) + bool(second)
    assert taken.sum() > 50


@pytest.mark.parametrize("length", [32, 64])
def test_held_out_documents_are_the_same_for_every_length(store, tokenizer, length):
    train, held_out = (Segments(store, tokenizer, length, 0.1, kind) for kind in (False, True))

    def documents(segments):
        starts = store.sentences[store.documents]
        return set(np.searchsorted(starts, segments._index[:, 0], side="right").tolist())

    assert not documents(train) & documents(held_out)
    assert len(documents(train) | documents(held_out)) == len(store.documents) - 1
    assert 5 <= len(documents(held_out)) <= 25  # about a tenth of 132
    assert documents(held_out) == documents(Segments(store, tokenizer, 128, 0.1, True))


def test_packing_is_done_once(store, tokenizer):
    Segments(store, tokenizer, 40, 0.1, False)
    path = store.folder / "segments-40-0.1-train.bin"
    before = path.stat().st_mtime_ns, path.read_bytes()
    Segments(store, tokenizer, 40, 0.1, True)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    path.unlink()
    Segments(store, tokenizer, 40, 0.1, False)
    assert path.read_bytes() == before[1]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 1000, 65537])
def test_an_epoch_s_order_is_a_permutation(count):
    order = shuffled(np.arange(count), count, 1, 0)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    places = np.arange(count)[::-3]
    np.testing.assert_array_equal(shuffled(places, count, 1, 0), order[places])  # any part of it by itself


def test_orders_look_random():
    """Neighbours, fixed points and correlations as chance has them; other seeds and epochs give other orders."""
    count = 5000
    orders = [shuffled(np.arange(count), count, seed, epoch) for seed in range(4) for epoch in range(5)]
    for order in orders:
        assert (order == np.arange(count)).sum() < 8
        assert (np.diff(order) == 1).sum() < 8
        assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.06
    for first in range(len(orders)):
        for second in range(first):
            assert (orders[first] == orders[second]).sum() < 10
    starts = [shuffled(np.arange(1), 10, seed, 0)[0] for seed in range(3000)]
    np.testing.assert_allclose(np.bincount(starts, minlength=10) / 3000, 0.1, atol=0.03)
