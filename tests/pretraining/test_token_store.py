"""From text files to tokens: what is a document, a sentence; when a store is made anew; what can't be read."""

import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, documents

from files.errors import InputError
from pretraining import token_store
from pretraining.segments import Segments
from pretraining.token_store import SentenceSplitter, TokenStore, clear_killed, prepare
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


@pytest.fixture
def texts(tmp_path):
    """Files of several sizes, one of them without a word."""
    lines = (ROOT / "samples/corpus.txt").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "texts").mkdir()
    for number, some in enumerate((lines[:50], lines[50:300], ["\n"], lines[300:310], lines[310:400], lines[400:600])):
        (tmp_path / f"texts/{number}.txt").write_text("".join(some), "utf-8")
    return tmp_path / "texts"


def test_parts_that_were_made_apart_are_the_store_that_is_made_at_once(tokenizer, texts, tmp_path, monkeypatch, capsys):
    """One of them twice; and the segments of both are the same."""
    monkeypatch.setattr(token_store, "PLACES_AT_ONCE", 7)
    whole = prepare([texts], tokenizer, tmp_path / "whole")
    for number in (2, 1, 3, 2):
        prepare([texts], tokenizer, tmp_path / f"part{number}", shard=(number, 3))
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    assert all(len(TokenStore.open(part).tokens) < len(whole.tokens) for part in parts)
    joined = prepare(parts, tokenizer, tmp_path / "joined")
    for name in ("tokens.bin", "sentences.bin", "documents.bin"):
        assert (joined.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    first, second = (json.loads((store.folder / "store.json").read_text()) for store in (whole, joined))
    assert first == second
    examples = [Segments(store, tokenizer, 64, 0.1, False) for store in (whole, joined)]
    assert len(examples[0]) == len(examples[1])
    for one, other in zip(*(found.inputs(np.arange(len(found))) for found in examples), strict=True):
        np.testing.assert_array_equal(one, other)
    capsys.readouterr()
    prepare([texts], tokenizer, tmp_path / "joined")  # which it is made of
    prepare(parts, tokenizer, tmp_path / "joined")
    assert not capsys.readouterr().err


def test_every_file_is_in_one_part(texts):
    files = token_store.find_files([texts])
    for count in (1, 2, 3):
        parts = [token_store.part_of(files, number, count) for number in range(1, count + 1)]
        assert [path for part in parts for path in part] == files
    with pytest.raises(InputError, match=r"--shard \d+/40: no file is left for it; there are 6"):
        [token_store.part_of(files, number, 40) for number in range(1, 41)]


def test_parts_that_do_not_belong_together(tokenizer, texts, tmp_path):
    prepare([texts], tokenizer, tmp_path / "first", shard=(1, 2))
    cased = ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False)
    prepare([texts], cased, tmp_path / "cased", shard=(2, 2))
    prepare([texts], tokenizer, tmp_path / "lines", documents="line", shard=(2, 2))
    for second, message in (
        ("cased", "cased: a store of other lower case, accents or Chinese characters; make this part anew"),
        ("lines", "lines: a store of another --documents than the first; make this part anew"),
        ("texts", "texts: no store of tokens as .*first is; --input_dir takes texts, or stores"),
    ):
        with pytest.raises(InputError, match=message):
            prepare([tmp_path / "first", tmp_path / second], tokenizer, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()
    path = tmp_path / "lines/store.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"store\.json: damaged; make this part anew"):
        prepare([tmp_path / "first", tmp_path / "lines"], tokenizer, tmp_path / "joined")


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


# ------------------------------------------------------------------------------------------------- how text was read


def test_how_each_file_was_read_is_said_and_a_flag_changes_it(tokenizer, tmp_path, capsys):
    lines = ["the river rose.", "the wind blew."] * 50
    (tmp_path / "a.txt").write_text("\n".join([*lines, ""]) + "\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join([*lines[:30], "", *lines[30:]]).encode()))
    (tmp_path / "wiki_00").write_text("<doc id='1' title='x'>\nthe river\n\nrose.\n</doc>\n" * 3)
    (tmp_path / "notes.md").touch()
    made = {}
    for given, count in (("auto", 203), ("blank", 6), ("line", 203), ("auto", 203)):
        store = prepare([tmp_path], tokenizer, tmp_path / "store", given)
        made[given] = capsys.readouterr().err
        assert len(store.documents) == count + 1
        assert made[given]  # made anew
        prepare([tmp_path], tokenizer, tmp_path / "store", given)
        assert not capsys.readouterr().err
    first, *said = made["auto"].splitlines()
    assert first == f"{tmp_path}/store: made anew: other --documents"
    assert said[-1].startswith(f"{tmp_path}/store: warning: what a document is in {tmp_path}/b.txt.gz is a guess")
    assert f"{tmp_path}/a.txt: 100 documents: a document a line (0 empty between 100 lines; --documents" in said[0]
    assert f"{tmp_path}/b.txt.gz: 100 documents: a document a line (1 empty between 100 lines;" in said[1]
    assert f"{tmp_path}/wiki_00: 3 documents: each from <doc> to </doc>" in said[2]
    assert "not read, by their names: 1 other files in these folders" in said[3]
    assert said[3].endswith("notes.md)")
    assert f"{tmp_path}/b.txt.gz: 2 documents: documents end at empty lines" in made["blank"]
    stored = json.loads((tmp_path / "store/store.json").read_text())
    assert stored["made_of"]["documents"] == "auto"
    assert stored["read_as"] == [["line", 100], ["line", 100], ["tags", 3]]


def test_many_files_are_summed_up(tokenizer, tmp_path, capsys):
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(
            "the river.\n\nrose.\n" if number % 3 else "the wind.\nblew.\nout.\n"
        )
    prepare([tmp_path], tokenizer, tmp_path / "store")
    lines, blank, last = capsys.readouterr().err.splitlines()
    assert (
        f"10 files ({tmp_path}/00.txt, {tmp_path}/03.txt, {tmp_path}/06.txt, …), 30 documents: a document a l" in lines
    )
    assert "20 files (" in blank
    assert "40 documents: documents end at empty lines (20 empty between 40 lines" in blank
    assert "70 documents" in last


def test_documents_beyond_all_bounds_are_a_warning(tokenizer, tmp_path, monkeypatch, capsys):
    assert token_store.LONG_DOCUMENT == 10**6
    monkeypatch.setattr(token_store, "LONG_DOCUMENT", 10_000)
    (tmp_path / "a.txt").write_text("the river\n\nrose\n")
    (tmp_path / "b.txt").write_text("one\n\ntwo\n\n" + "the river rose .\n" * 2_501)
    prepare([tmp_path], tokenizer, tmp_path / "store", "blank")
    warning = capsys.readouterr().err.splitlines()[-1]
    assert "warning: 1 documents of over 10,000 tokens, the longest, of 10,004, in " in warning
    assert "b.txt; if its lines are documents, give --documents line" in warning


# ------------------------------------------------------------------------------------------------- where stores lie


def test_a_folder_by_any_name_is_the_same(tokenizer, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("the river rose.\n")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("texts")
    (tmp_path / "store").symlink_to("disk/tokens")  # leads to nothing yet
    monkeypatch.chdir(tmp_path)
    prepare(["texts"], tokenizer, "store")
    assert (tmp_path / "store").is_symlink()
    assert (tmp_path / "disk/tokens/store.json").is_file()
    capsys.readouterr()
    for texts, store in (
        ("./texts/", "disk/../store/"),
        (tmp_path / "link", tmp_path / "store"),
        ("link/a.txt", "store"),
    ):
        prepare([texts], tokenizer, store)
        assert not capsys.readouterr().err
    (tmp_path / "texts/b.txt").write_text("the wind blew.\n")
    prepare(["link"], tokenizer, "store")
    assert (tmp_path / "store").is_symlink()
    assert len(TokenStore.open("disk/tokens").documents) == 3
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["tokens"]


@pytest.mark.parametrize("name", ["texts", "file", "texts/.."])
def test_nothing_but_a_store_is_replaced(tokenizer, tmp_path, name):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("the river rose.\n")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"--data_store takes"):
        prepare([tmp_path / "texts/a.txt"], tokenizer, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "file", "texts"]


@pytest.mark.parametrize("name", [".git/config", ".notes", "segments-1.bin", "tokens.bin", "store.json"])
def test_a_folder_that_only_looks_like_a_store_stays(tokenizer, tmp_path, name):
    (tmp_path / "a.txt").write_text("the river rose.\n")
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(InputError, match=rf"mine: holds {name.partition('/')[0]}, which is no .*takes a new folder"):
        prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == "{}"


def test_a_hidden_file_in_a_store_stays(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("the river rose.\n")
    prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store")
    (tmp_path / "store/.notes").touch()
    prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store")
    (tmp_path / "a.txt").write_text("the wind blew.\n\nhere.\n")
    with pytest.raises(InputError, match=r"store: holds \.notes, which is no part of a store"):
        prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store")


def test_another_s_store_is_not_made_anew(tokenizer, tmp_path, capsys):
    text = tmp_path / "a.txt"
    text.write_text("the river rose.\n")
    place = tmp_path / "store"
    prepare([text], tokenizer, place)
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes() + b"zebra\n")
    (tmp_path / "b.txt").write_text("the fog.\n")
    before = (place / "store.json").read_bytes()
    for inputs, other, given, words in (
        ([text], ConvBertTokenizer(tmp_path / "vocab.txt"), "auto", "vocabulary"),
        ([text], ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False), "auto", "lower case, accents"),
        ([text, tmp_path / "b.txt"], tokenizer, "blank", rf"text \({tmp_path}/b\.txt\), --documents"),
    ):
        with pytest.raises(InputError, match=rf"store: a store that was made of other things: {words}"):
            prepare(inputs, other, place, given, replaces=False)
        assert (place / "store.json").read_bytes() == before
    capsys.readouterr()
    os.utime(text, (1, 1))
    prepare([text], tokenizer, place)
    assert f"{place}: made anew: other text ({text})\n" in capsys.readouterr().err
    facts = json.loads((place / "store.json").read_text())
    facts["made_of"]["format"] = 1
    (place / "store.json").write_text(json.dumps(facts))
    prepare([text], tokenizer, place, replaces=False)
    assert f"{place}: made anew: an older version made it\n" in capsys.readouterr().err


def test_a_process_that_does_not_see_the_store_says_so(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("the river rose.\n")
    with pytest.raises(InputError, match=r"store: no store of tokens is seen here by this process; --data_store or"):
        TokenStore.open(tmp_path / "store")
    store = prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store")
    with pytest.raises(InputError, match=r"segments-16-0\.1-train\.bin: not seen by this process"):
        Segments(store, tokenizer, 16, 0.1, False, make=False)
    assert not list((tmp_path / "store").glob("segments-*"))
    Segments(store, tokenizer, 16, 0.1, False)
    assert len(Segments(store, tokenizer, 16, 0.1, False, make=False)) == 1
    with open(tmp_path / "store/segments-16-0.1-train.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"train\.bin: damaged \(25 bytes\); remove it"):
        Segments(store, tokenizer, 16, 0.1, False)
    for part in ("tokens", "sentences"):
        with open(tmp_path / f"store/{part}.bin", "ab") as file:
            file.write(b"x")
        with pytest.raises(
            InputError, match=rf"{part}\.bin: \d+ bytes where \d+ belong; remove .*store to make it anew"
        ):
            TokenStore.open(tmp_path / "store")
        shutil.rmtree(tmp_path / "store")
        prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "store")
    (tmp_path / "store/documents.bin").unlink()
    with pytest.raises(InputError, match=r"documents\.bin: 0 bytes where 16 belong"):
        TokenStore.open(tmp_path / "store")


# ------------------------------------------------------------------------------------------------------- leftovers

SLOW = """
import sys, time
from pathlib import Path
from pretraining import token_store
from tokenizer import ConvBertTokenizer

class Slow(ConvBertTokenizer):
    def encode_ids(self, *arguments):
        while not Path("go").exists():
            time.sleep(0.02)
        return super().encode_ids(*arguments)

token_store.prepare(["a.txt"], Slow(sys.argv[1]), "place/store")
"""


def start(tmp_path):
    """A process that makes a store in `place` of tmp_path and is not done before there is a file `go`."""
    command = [sys.executable, "-c", SLOW, str(ROOT / "samples/vocab.txt")]
    settings = dict(cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, **settings)


def hidden(tmp_path):
    found = [path for folder in ("place", "place/store") for path in (tmp_path / folder).glob(".*")]
    return [path for path in found if path.suffix in (".tmp", ".old", ".lock")]


def wait_for(condition):
    end = time.time() + 60
    while not condition():
        assert time.time() < end
        time.sleep(0.02)


def test_what_a_killed_process_left_is_cleared_but_not_a_live_one_s(tokenizer, tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("the river rose.\n")
    killed = start(tmp_path)
    wait_for(lambda: list((tmp_path / "place").glob(".store.*.tmp/tokens.bin")))
    (tmp_path / "place/.other.abcd1234.tmp").mkdir()  # of a program that we don't know
    before = hidden(tmp_path)
    clear_killed(tmp_path / "place/store")
    assert hidden(tmp_path) == before  # it's alive
    killed.kill()
    killed.communicate()
    assert hidden(tmp_path) == before
    clear_killed(tmp_path / "place/../place/store/")
    assert [path.name for path in hidden(tmp_path)] == [".other.abcd1234.tmp"]

    first = start(tmp_path)
    wait_for(lambda: list((tmp_path / "place").glob(".store.*.tmp/tokens.bin")))
    second = start(tmp_path)
    assert "store: another process is making it; waiting" in second.stderr.readline()
    (tmp_path / "go").touch()
    assert "1 documents" in first.communicate(timeout=60)[1]
    assert second.communicate(timeout=60)[1] == ""  # the first one's is its own, too
    assert (first.returncode, second.returncode) == (0, 0)
    assert [path.name for path in hidden(tmp_path)] == [".other.abcd1234.tmp"]


def test_leftovers_in_and_beside_a_store(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("the river rose.\n")
    place = tmp_path / "place/store"

    def left(name):
        (place.parent / f".store.{name}.tmp").mkdir()
        (place.parent / f".store.{name}.tmp/tokens.bin").touch()
        (place / f".segments-16-0.1-train.bin.{name}.tmp").touch()

    prepare([tmp_path / "a.txt"], tokenizer, place)
    left("abcd_123")
    prepare([tmp_path / "a.txt"], tokenizer, place)  # that is there
    assert not hidden(tmp_path)
    left("abcd_123")
    (tmp_path / "a.txt").write_text("the wind blew.\n")
    prepare([tmp_path / "a.txt"], tokenizer, place)  # anew
    assert not hidden(tmp_path)
    (place.parent / ".store.abcd_123.old").mkdir()
    place.rename(place.parent / ".store.abcd_123.old/store")  # a kill between the last two steps
    tokens = TokenStore.open(place.parent / ".store.abcd_123.old/store").tokens._mmap  # held: the number stays
    inode = (place.parent / ".store.abcd_123.old/store/tokens.bin").stat().st_ino
    prepare([tmp_path / "a.txt"], tokenizer, place)
    assert (place / "tokens.bin").stat().st_ino == inode
    assert not hidden(tmp_path)
    del tokens
