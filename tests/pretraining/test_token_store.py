"""From text files to tokens: what is a document, a sentence; when a store is made anew; what can't be read."""

import gzip
import itertools
import json
import os

import numpy as np
import pytest
from conftest import ROOT, documents

from files.errors import InputError
from pretraining import token_store
from pretraining.token_store import SentenceSplitter, prepare
from tokenizer import ConvBertTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ConvBertTokenizer(ROOT / "samples/vocab.txt")


def test_the_store_holds_every_token_in_order(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store, "BATCH_CHARACTERS", 3000)  # documents go on from one batch to the next
    path = ROOT / "samples/corpus.txt"
    store = prepare([path], tokenizer, tmp_path / "store")
    expected = [[tokenizer.encode_ids([text])[0] for text in document] for document in documents(path)]
    assert len(store.documents) == len(expected) + 1
    np.testing.assert_array_equal(store.tokens, [i for document in expected for text in document for i in text])
    starts = store.sentences[store.documents]
    sizes = [sum(map(len, document)) for document in expected]
    np.testing.assert_array_equal(np.diff(starts), sizes)
    paragraph_starts = np.cumsum([0] + [len(text) for document in expected for text in document])
    assert set(paragraph_starts) <= set(store.sentences.tolist())
    assert store.tokens.dtype == np.uint16


def test_sentences(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *'.!?")abcdef']
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    tokenizer = ConvBertTokenizer(tmp_path / "vocab.txt")
    split = SentenceSplitter(tokenizer)

    def sentences(*texts):
        rows = tokenizer.encode_ids(list(texts))
        ids, starts = np.concatenate(rows).astype(int), np.cumsum([0, *map(len, rows[:-1])])
        found = [*split(ids, starts), len(ids)]
        return ["".join(tokenizer.convert_ids_to_tokens(ids[a:b])) for a, b in itertools.pairwise(found)]

    assert sentences("a b. c? d!") == ["ab.", "c?", "d!"]
    assert sentences('"a b." c (d!) e') == ['"ab."', "c[UNK]d!)", "e"]
    assert sentences("a b", ".", "c...", "d") == ["ab", ".", "c...", "d"]
    assert [len(text) for text in sentences("a " * 300, "b")] == [128, 128, 44, 1]


def test_a_store_is_used_again_until_something_changes(tokenizer, tmp_path, capsys):
    text = tmp_path / "a.txt"
    text.write_text("the river rose.\n\nthe wind blew.\n")

    def made(tokenizer=tokenizer, inputs=(text,)):
        capsys.readouterr()
        store = prepare(inputs, tokenizer, tmp_path / "store")
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
        return store, "documents" in capsys.readouterr().err

    assert made()[1]
    assert not made()[1]
    cased = ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False)
    assert made(cased)[1]
    assert made()[1]
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes() + b"zebra\n")
    assert made(ConvBertTokenizer(tmp_path / "vocab.txt"))[1]
    assert made()[1]
    text.write_text("the river rose.\n\nthe wind blew!\n")
    assert made()[1]
    os.utime(text, (1, 1))
    assert made()[1]
    (tmp_path / "b.txt").write_text("the fog.\n")
    store, new = made(inputs=(text, tmp_path / "b.txt"))
    assert new
    assert len(store.documents) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nb\xffd\n", r"a\.txt, line 2: byte 2 is not UTF-8"),
        ("a.txt.gz", b"not gzip", r"a\.txt\.gz, line 1: can't be read"),
        ("a.txt.gz", gzip.compress(b"good\n\nbetter\n" * 1000)[:60], r"a\.txt\.gz, line \d+: can't be read"),
        ("a.jsonl", b'{"text": "good"}\n{"text": 3}\n', r'a\.jsonl, line 2: "text" is no string'),
        ("a.jsonl", b'{"text": "good"}\n{"words": "good"}\n', r'a\.jsonl, line 2: no object with a "text"'),
        ("a.jsonl", b'{"text": "good"}\n["good"]\n', r'a\.jsonl, line 2: no object with a "text"'),
        ("a.jsonl", b'{"text": "good"\n', r"a\.jsonl, line 1: not JSON"),
        ("a.txt", b"", r"a\.txt: no text"),
        ("a.txt", b"\n \n\n", r"a\.txt: no text"),
    ],
)
def test_what_can_not_be_read(tokenizer, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare([tmp_path / name], tokenizer, tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]  # nothing half-made


def test_large_vocabularies_get_wider_tokens(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(70000))]
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (tmp_path / "a.txt").write_text("w69999 w0\n")
    store = prepare([tmp_path / "a.txt"], ConvBertTokenizer(tmp_path / "vocab.txt"), tmp_path / "store")
    assert store.tokens.tolist() == [70004, 5]
    assert json.loads((tmp_path / "store/store.json").read_text())["tokens"] == 2
