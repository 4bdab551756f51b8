"""tokenizer.py beside the installed Hugging Face and PaddleNLP, on real and on awkward text."""

import gzip
import importlib.util
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest

import tokenizer as module
from files.errors import InputError
from text.tokenizer_files import stored_switches
from tokenizer import SPECIAL_TOKENS, ConvBertTokenizer, save_vocabulary, train_vocabulary

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
REAL_VOCABULARY = SHARED / "vocab" / "bert-base-uncased-vocab.txt"
EVERYTHING = {"return_attention_mask": True, "return_offsets_mapping": True, "return_special_tokens_mask": True}
SENTENCE = "The quick-witted café owner didn't sell 3.5 kg of naïve Ångström coffee, did she? Straße Μαΐου Москва"
needs_real_vocabulary = pytest.mark.skipif(not REAL_VOCABULARY.exists(), reason=f"{REAL_VOCABULARY.name} isn't there")

# ------------------------------------------------------------------------------------------------------------- strings

AWKWARD_RANGES = {
    "chinese": ["一-鿿", "㐀-䶵", "𠀀-𪛖", "豈-龎"],
    "japanese, korean": ["ぁ-ヿ", "가-힣", "\uff01-\uff5e"],
    "emoji": ["😀-🙏", "🌀-🏺", "🏻-🏿", "\u200d-\u200d", "\ufe0f-\ufe0f", "🇦-🇿"],
    "combining": ["\u0300-\u036f", "a-z", "À-ſ", "\u0591-\u05bd", "\u20d0-\u20e1"],
    "control": ["\x00-\x20", "\x7f-\xa0", "\u2000-\u200f", "\u2028-\u202f", "\ufeff-\ufeff", "\ufffd-\ufffd", "a-c"],
    "right to left": ["א-ת", "ء-ي", "\u064b-\u0652", "\u200e-\u200f", "\u202a-\u202e", "\u2066-\u2069", " - "],
    "other": ["Α-ω", "А-я", "अ-ह", "\u093e-\u094d", "ก-๛", "𝐀-𝟋", "\ue000-\ue0ff", "!-/", "0-9", "ﬀ-ﬆ", "İ-ı"],
    "anything": ["\x00-\ud7ff", "\ue000-\U0010ffff"],
}
PIECES_WITH_SPECIAL_TOKENS = [*SPECIAL_TOKENS, "[mask]", "[ SEP ]", "[", "]", "##s", "a", " ", "é", "中", ", ", "Word"]


def awkward_strings(count, without=()):
    rng = random.Random(0)

    def character(ranges):
        low, high = rng.choice(ranges).split("-", 1)
        return chr(rng.randint(ord(low), ord(high)))

    makers = [
        lambda ranges=ranges: "".join(
            " " if rng.random() < 0.15 else character(ranges) for _ in range(rng.randint(1, 30))
        )
        for kind, ranges in AWKWARD_RANGES.items()
        if kind not in without
    ]
    makers += [
        lambda: "".join(rng.choices(PIECES_WITH_SPECIAL_TOKENS, k=rng.randint(1, 12))),
        lambda: " ".join(rng.choice("aé中-x😀") * rng.choice([1, 60, 99, 100, 101, 500]) for _ in range(3)),
        lambda: rng.choice(["", " ", "\n\t", "\u3000", "\x00", "\u200b", "\ufeff"]) * rng.randint(0, 3),
    ]
    return [makers[i % len(makers)]() for i in range(count)]


def ordinary_strings(count):
    if not SHARED.exists():
        rng = random.Random(1)
        return [" ".join(rng.choices(SENTENCE.split(), k=rng.randint(1, 30))) for _ in range(count)]
    files = [*sorted(SHARED.glob("glue/*/*.tsv")), SHARED / "corpus" / "wiki_en.txt.gz"]
    each = count // len(files) + 1
    texts = []
    for path in files:
        with gzip.open(path, "rt", "utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            texts += [line[:400] for line in islice(lines, each)]
    return texts[:count]


@pytest.fixture(scope="module")
def strings():
    texts = ordinary_strings(7500) + awkward_strings(4000)
    assert len(texts) > 10_000
    return texts


# ------------------------------------------------------------------------------------------------- the three tokenizers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with nothing but vocab.txt."""
    folder = tmp_path_factory.mktemp("vocabulary")
    if REAL_VOCABULARY.exists():
        shutil.copyfile(REAL_VOCABULARY, folder / "vocab.txt")
    else:
        (folder / "corpus.txt").write_text("\n".join(ordinary_strings(2000)), "utf-8")
        save_vocabulary(train_vocabulary([folder / "corpus.txt"], 500), folder / "vocab.txt")
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return ConvBertTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def hugging_face():
    transformers = pytest.importorskip("transformers")
    return getattr(transformers, "ConvBertTokenizerFast", None) or transformers.ConvBertTokenizer


@pytest.fixture(scope="module")
def paddlenlp_tokenizer():
    if importlib.util.find_spec("paddlenlp") is None:
        pytest.skip("paddlenlp is not installed")
    from paddlenlp.transformers import ConvBertTokenizer as tokenizer
    from paddlenlp.utils.log import logger

    logger.set_level("CRITICAL")
    return tokenizer


def assert_same(ours, theirs, texts, pairs=None, fields=None, **arguments):
    """Encodes one batch with both and compares every field of every text; shows the first text that differs."""
    mine = ours(texts, pairs, **arguments)
    other = dict(theirs(texts, pairs, **arguments))
    for field in fields or mine.keys() | other.keys():
        for index, (left, right) in enumerate(zip(mine[field], other[field], strict=True)):
            where = field, texts[index], pairs[index] if pairs else None
            assert list(left) == [tuple(x) if isinstance(x, list) else x for x in right], where


# -------------------------------------------------------------------------------------------------------- Hugging Face


@pytest.mark.parametrize("switches", [{}, {"do_lower_case": False}, {"tokenize_chinese_chars": False}], ids=str)
@pytest.mark.parametrize("strip_accents", [None, True, False])
def test_ids_and_offsets_are_hugging_faces(folder, hugging_face, strings, switches, strip_accents):
    switches = switches | {"strip_accents": strip_accents}
    texts = strings if switches == {"strip_accents": None} else strings[::5]
    ours = ConvBertTokenizer(folder / "vocab.txt", **switches)
    theirs = hugging_face.from_pretrained(folder, **switches)
    assert_same(ours, theirs, texts, **EVERYTHING)
    assert_same(ours, theirs, texts[::10], add_special_tokens=False, return_special_tokens_mask=True)


def test_without_offsets_the_ids_are_the_same(ours, strings):
    """encode_batch_fast is another path of the library than encode_batch."""
    assert ours(strings)["input_ids"] == ours(strings, return_offsets_mapping=True)["input_ids"]


@pytest.mark.parametrize("truncation", [False, True, "longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("padding", [False, True, "max_length"])
def test_pairs_padding_and_truncation_are_hugging_faces(ours, folder, hugging_face, strings, truncation, padding):
    texts, pairs = strings[::7], strings[::-7]
    if truncation in ("only_first", "only_second"):  # the other text must leave room
        kept = [" ".join(text.split()[:3])[:10] for text in strings[::7]]
        texts, pairs = (strings[::7], kept) if truncation == "only_first" else (kept, strings[::7])
        short = [i for i, text in enumerate(texts) if len(ours.tokenize(text)) + len(ours.tokenize(pairs[i])) < 25]
        long = [
            i for i in range(len(texts)) if len(ours.tokenize((texts if truncation == "only_first" else pairs)[i])) > 25
        ]
        chosen = short + long
        texts, pairs = [texts[i] for i in chosen], [pairs[i] for i in chosen]
    theirs = hugging_face.from_pretrained(folder)
    arguments = {"truncation": truncation, "padding": padding, **EVERYTHING}
    if truncation or padding == "max_length":
        arguments["max_length"] = 30
    assert_same(ours, theirs, texts, pairs, **arguments)


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_every_small_truncation_is_hugging_faces(ours, folder, hugging_face, strategy, add_special_tokens):
    """Both lengths from none to 5, or no second text, in every room: the same ids, or an error in the same cases."""
    theirs = hugging_face.from_pretrained(folder)
    errors = 0
    for n, m, room in product(range(6), (None, 0, 1, 2, 3, 4, 5), range(12)):
        text, pair = " ".join("abcde"[:n]), None if m is None else " ".join("vwxyz"[:m])
        special = (2 if m is None else 3) * add_special_tokens
        arguments = {"truncation": strategy, "max_length": room + special, "add_special_tokens": add_special_tokens}
        try:
            expected = dict(theirs([text], None if pair is None else [pair], **arguments))
        except Exception as error:
            if "Truncation error" not in str(error):
                raise
            with pytest.raises(InputError, match=f"can't be cut to {room + special} tokens"):
                ours(text, pair, **arguments)
            errors += 1
        else:
            assert {name: [row] for name, row in ours(text, pair, **arguments).items()} == expected, (n, m, room)
    assert bool(errors) == (strategy != "longest_first")


def test_a_length_below_the_special_tokens_is_an_error_of_ours_only(ours, folder, hugging_face):
    """Hugging Face's library lets the subtraction wrap around and returns the whole text."""
    theirs = hugging_face.from_pretrained(folder)
    assert len(theirs("a b c", truncation=True, max_length=1)["input_ids"]) == 5
    with pytest.raises(InputError, match="can't be cut to 1 tokens"):
        ours("a b c", truncation=True, max_length=1)


def test_an_empty_second_text_is_a_text(ours, folder, hugging_face):
    """As in a batch of Hugging Face's, which outside a batch takes it for none."""
    theirs = hugging_face.from_pretrained(folder)
    expected = [ours.cls_token_id, ours.sep_token_id, ours.sep_token_id]
    assert ours("", "")["input_ids"] == theirs([""], [""])["input_ids"][0] == expected
    assert theirs("", "")["input_ids"] == expected[:2]


def test_pretokenised_input_is_hugging_faces(ours, folder, hugging_face, strings):
    theirs = hugging_face.from_pretrained(folder)
    texts = [text.split(" ") for text in strings[::7]] + [[], [""], ["", "a"]]
    arguments = {"is_split_into_words": True, "truncation": True, "max_length": 40, **EVERYTHING}
    assert_same(ours, theirs, texts, **arguments)
    assert_same(ours, theirs, texts, texts[::-1], **arguments)
    assert ours(["one", "[SEP] two"], is_split_into_words=True) == dict(
        theirs(["one", "[SEP] two"], is_split_into_words=True)
    )
    assert ours([], is_split_into_words=True)["input_ids"] == [ours.cls_token_id, ours.sep_token_id]


WINDOWS = {  # arguments, and whether there are second texts
    "alone": (dict(truncation=True, max_length=24, stride=7), False),
    "alone, the strategy for pairs": (dict(truncation="only_first", max_length=9, stride=0, padding=True), False),
    "answers": (dict(truncation="only_second", max_length=48, stride=11, padding="max_length"), True),
    "the first": (dict(truncation="only_first", max_length=64, stride=3), True),
    "both": (dict(truncation="longest_first", max_length=40, stride=5, padding=True), True),
    "whole": (dict(truncation=False), True),
    "without [CLS]": (dict(truncation=True, max_length=20, stride=4, add_special_tokens=False), True),
}


@pytest.mark.parametrize("split", [False, True], ids=["texts", "words"])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case == "without [CLS]" else ()) for case in WINDOWS]
)
def test_windows_words_and_sequences_are_hugging_faces(ours, folder, hugging_face, strings, case, split):
    theirs = hugging_face.from_pretrained(folder)
    arguments, paired = WINDOWS[case]
    compared = 0
    for start in range(0, len(strings), 240):
        texts = strings[start : start + 10]
        pairs = [" ".join(some) for some in zip(texts, texts[::-1], strict=True)] if paired else None
        if split:
            texts, pairs = ([text.split() for text in some] if some else None for some in (texts, pairs))
        settings = dict(is_split_into_words=split, return_overflowing_tokens=True, **EVERYTHING, **arguments)
        try:
            other = theirs(texts, pairs, **settings)
        except BaseException:  # the library panics
            with pytest.raises(InputError):
                ours(texts, pairs, **settings)
            continue
        mine = ours(texts, pairs, return_word_ids=True, return_sequence_ids=True, **settings)
        rows = range(len(other["input_ids"]))
        assert mine["word_ids"] == [other.word_ids(row) for row in rows]
        assert mine["sequence_ids"] == [other.sequence_ids(row) for row in rows]
        for name, column in other.items():
            found = mine[name]
            assert found == ([[tuple(x) for x in row] for row in column] if name == "offset_mapping" else column), name
        compared += len(texts)
    assert compared >= 100  # of 480; where second texts are long, both refuse


def test_windows_hold_every_token_once_without_their_stride(ours, strings):
    for text in strings[:500]:
        whole = ours.encode_ids([text])[0]
        found = ours(text, truncation=True, max_length=12, stride=4, return_overflowing_tokens=True)
        rows = [row[1:-1] for row in found["input_ids"]]
        assert rows[0] + [token for row in rows[1:] for token in row[4:]] == whole
        assert found["overflow_to_sample_mapping"] == [0] * len(rows)
    padded = ours.pad(ours(["a b", "a"], return_word_ids=True, return_sequence_ids=True))
    assert padded["word_ids"].tolist() == [[-1, 0, 1, -1], [-1, 0, -1, -1]]
    assert padded["sequence_ids"].tolist() == [[-1, 0, 0, -1], [-1, 0, -1, -1]]
    with pytest.raises(InputError, match="stride=4: text 0 has windows of 4 tokens"):
        ours("a b c d e f g", truncation=True, max_length=6, stride=4, return_overflowing_tokens=True)
    with pytest.raises(InputError, match="stride=-1"):
        ours("a", stride=-1)


A_PAIR = ["a film", "the plot of it"]


@pytest.mark.parametrize(
    "text",
    [
        [A_PAIR],
        [tuple(A_PAIR)],
        [A_PAIR, tuple(A_PAIR[::-1]), ["", "a"], ("a", "")],
        (A_PAIR, A_PAIR[::-1]),
        ["a film", A_PAIR],  # one text, and a pair
        [A_PAIR, "a film"],
        tuple(A_PAIR),  # two texts: what stands in a list or not is a batch
        A_PAIR,
        [[np.str_("a"), "b"]],
    ],
    ids=str,
)
def test_pairs_in_the_list_of_texts_are_hugging_faces(ours, folder, hugging_face, text):
    theirs = hugging_face.from_pretrained(folder)
    for arguments in ({}, {"padding": True}, {"truncation": True, "max_length": 6}, {"add_special_tokens": False}):
        expected = dict(theirs(text, **arguments, **EVERYTHING))
        assert ours(text, **arguments, **EVERYTHING) == expected
    pair = ours([A_PAIR])["input_ids"][0]
    assert pair.count(ours.sep_token_id) == 2
    assert pair == ours(*A_PAIR)["input_ids"]


def test_pairs_of_words_in_the_list_are_hugging_faces_5x(ours, folder, hugging_face):
    """4.x takes them behind a first text that is no pair."""
    theirs = hugging_face.from_pretrained(folder)
    words = ["a", "film"], ["the", "plot"]
    texts = [["a"], words, list(words), ([], ["a"]), []]
    assert ours(texts, is_split_into_words=True) == dict(theirs(texts, is_split_into_words=True))
    assert ours([words], is_split_into_words=True) == ours([words[0]], [words[1]], is_split_into_words=True)


def test_what_hugging_face_refuses_is_refused(ours, folder, hugging_face):
    """But for an empty list, which is an empty batch here."""
    theirs = hugging_face.from_pretrained(folder)
    words = {"is_split_into_words": True}
    calls = [
        (None, {}), ([None], {}), (["a", None], {}), (3, {}), (b"a", {}), ({"a"}, {}), (np.array(["a"]), {}),
        ([["a", "b", "c"]], {}), ([["a"]], {}), ([[]], {}), ([["a", None]], {}), ([[["a"], ["b"]]], {}),
        ([A_PAIR], {"text_pair": ["c"]}), ([A_PAIR], {"text_pair": [A_PAIR]}), ("a", {"text_pair": ["b"]}),
        ("a", {"text_pair": A_PAIR}), (["a"], {"text_pair": "b"}), (["a", "b"], {"text_pair": ["c"]}),
        ("a b", words), ([["a"], "a"], words), (["a"], {"text_pair": "b", **words}), ([[["a"]]], words),
        ("\ud800", {}),
    ]  # fmt: skip
    for text, arguments in calls:
        with pytest.raises((TypeError, ValueError)):
            theirs(text, **arguments)
        with pytest.raises(InputError):
            ours(text, **arguments)


def test_ids_and_tokens_alone_take_no_pairs(ours):
    for call, argument in ((ours.tokenize, A_PAIR), (ours.encode_ids, [A_PAIR])):
        with pytest.raises(InputError, match="every text must be a str, not list of str"):
            call(argument)


SPELLED = "a [SEP] b[MASK]c [PAD] <sp>x <ent> [CLS][UNK]"


def test_special_tokens_inside_a_text_are_hugging_faces_and_can_be_split(folder, hugging_face):
    default = add_to(ConvBertTokenizer(folder / "vocab.txt"), special=True)
    splitting = add_to(ConvBertTokenizer(folder / "vocab.txt", split_special_tokens=True), special=True)
    theirs = add_to(hugging_face.from_pretrained(folder), special_tokens=True)
    their_splitting = add_to(hugging_face.from_pretrained(folder, split_special_tokens=True), special_tokens=True)
    words = {"is_split_into_words": True}
    for text, arguments in (
        (SPELLED, {}),
        ([SPELLED, ADDED], {}),
        ([[SPELLED, "[SEP]"]], {}),
        (["[SEP] a", "b"], words),
    ):
        assert default(text, **arguments) == dict(theirs(text, **arguments))
        expected = dict(their_splitting(text, **arguments))
        assert splitting(text, **arguments) == default(text, split_special_tokens=True, **arguments) == expected
        assert splitting(text, split_special_tokens=False, **arguments) == default(text, **arguments)
    assert {"[SEP]", "[MASK]", "[PAD]", "<sp>"} <= set(default.tokenize(SPELLED))
    assert {"[SEP]", "[MASK]", "[PAD]", "<sp>"}.isdisjoint(splitting.tokenize(SPELLED))
    assert "<ent>" in splitting.tokenize(SPELLED)  # added, but not special
    (ids,) = splitting.encode_ids([SPELLED])
    assert ids == splitting(SPELLED)["input_ids"][1:-1] == default.encode_ids([SPELLED], True)[0]
    splitting.add_tokens("<late>", special=True)
    default.split_special_tokens = True
    assert default(SPELLED) == splitting(SPELLED)
    assert "<late>" not in splitting.tokenize("<late>")
    assert splitting.convert_tokens_to_ids("<late>") == len(splitting) - 1


def test_splitting_is_kept_by_a_copy_and_by_a_folder(folder, tmp_path, hugging_face):
    tokenizer = ConvBertTokenizer(folder / "vocab.txt", split_special_tokens=True)
    expected = tokenizer(SPELLED)
    assert pickle.loads(pickle.dumps(tokenizer))(SPELLED) == expected
    tokenizer.save_pretrained(tmp_path)
    assert ConvBertTokenizer.from_pretrained(tmp_path)(SPELLED) == expected
    assert dict(hugging_face.from_pretrained(tmp_path)(SPELLED)) == expected


def test_threads_that_split_and_that_do_not_share_a_tokenizer(folder):
    tokenizer = ConvBertTokenizer(folder / "vocab.txt")
    expected = [tokenizer([SPELLED] * 20, split_special_tokens=split) for split in (False, True)]
    assert expected[0] != expected[1]
    tokenizer = ConvBertTokenizer(folder / "vocab.txt")
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: tokenizer([SPELLED] * 20, split_special_tokens=n % 2 == 1), range(200))
        assert all(one == expected[n % 2] for n, one in enumerate(found))


def test_decoding_is_hugging_faces(ours, folder, hugging_face, strings):
    theirs = hugging_face.from_pretrained(folder)
    texts = [*strings[::20], "it's don't ' q ' [MASK] , i'm u.s. 3.5 we've you're n't ( x )"]
    rows = ours(texts, padding=True, truncation=True)["input_ids"]
    for skip in (False, True):
        expected = [theirs.decode(row, skip_special_tokens=skip, clean_up_tokenization_spaces=True) for row in rows]
        assert ours.batch_decode(rows, skip_special_tokens=skip) == expected
    assert ours.decode(np.array(rows[0])) == ours.decode(rows[0])


def test_lookups_are_hugging_faces(ours, folder, hugging_face):
    theirs = hugging_face.from_pretrained(folder)
    assert ours.get_vocab() == theirs.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    for name in ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.convert_tokens_to_ids(["a", "no such token"]) == theirs.convert_tokens_to_ids(["a", "no such token"])
    assert ours.convert_tokens_to_ids("[SEP]") == ours.sep_token_id
    assert ours.convert_ids_to_tokens([0, 10**6]) == theirs.convert_ids_to_tokens([0, 10**6])
    assert ours.convert_ids_to_tokens(np.int64(ours.sep_token_id)) == "[SEP]"
    assert ours.tokenize("A [MASK] naïveté") == theirs.tokenize("A [MASK] naïveté")
    for pair in (False, True):
        assert ours.num_special_tokens_to_add(pair) == theirs.num_special_tokens_to_add(pair)


# ------------------------------------------------------------------------------------------------------------ PaddleNLP

# U+00B2 and so on stand by name in PaddleNLP's _is_symbol.
SYMBOLS_OF_PADDLENLP = set("\xad²ºµØŋŊƱ〇")


def without_differences(text):
    """Sets every non-ASCII symbol apart with spaces, and drops what Unicode has not assigned."""
    characters = []
    for c in text:
        category = unicodedata.category(c)
        if (category[0] == "S" and c > "\x7f") or c in SYMBOLS_OF_PADDLENLP:
            c = f" {c} "
        characters.append("" if category == "Cn" else c)
    return "".join(characters)


def test_ids_are_paddlenlps(ours, folder, paddlenlp_tokenizer):
    fields = ["input_ids", "token_type_ids", "attention_mask"]
    strings = ordinary_strings(7500) + awkward_strings(4000, without=["anything"])  # that one has a test of its own
    texts = [without_differences(text) for text in strings]
    assert len(texts) > 10_000
    theirs = paddlenlp_tokenizer.from_pretrained(str(folder))
    assert_same(ours, theirs, texts, fields=fields, return_attention_mask=True)
    some = random.Random(2).sample(texts, 1000)
    assert_same(ours, theirs, some, some[::-1], fields=fields, return_attention_mask=True)


@pytest.mark.slow
@needs_real_vocabulary
def test_every_character_that_differs_from_paddlenlp(ours, folder, paddlenlp_tokenizer):
    """Between two letters, where it shows whether a character is removed, set apart or part of the word."""
    theirs = paddlenlp_tokenizer.from_pretrained(str(folder))
    everything = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    characters = [c for c in everything if unicodedata.category(c) not in ("Cn", "Co", "Lo") or ord(c) % 7 == 0]
    differing = set()
    for start in range(0, len(characters), 10_000):
        texts = [f"a{c}b" for c in characters[start : start + 10_000]]
        pairs = zip(ours(texts)["input_ids"], theirs(texts)["input_ids"], texts, strict=True)
        differing |= {text[1] for mine, other, text in pairs if mine != other}
    category = unicodedata.category
    rest = {c for c in differing - SYMBOLS_OF_PADDLENLP if category(c)[0] != "S" and category(c) != "Cn"}
    rest = {c for c in rest if not "\U0002b820" <= c <= "\U0002b91f"}  # Chinese characters
    assert {category(c) for c in rest} <= {"Mn", "Mc", "Cf", "Po", "Ps", "Pe", "Pd"}
    assert len(rest) < 600  # the younger ones: 502 for Unicode 14, Python 3.11's
    assert min(rest) == "\u061d"  # an Arabic mark of 2021


@needs_real_vocabulary
@pytest.mark.parametrize(
    ("text", "expected", "paddlenlps"),
    [
        # symbols: part of the word here, words of their own there
        ("10€", "10 ##€", "10 €"),
        ("x²", "x ##²", "x ²"),
        ("a→b", "a ##→ ##b", "a → b"),
        ("a©b", "a ##© ##b", "a © b"),
        ("😀😀", "[UNK]", "[UNK] [UNK]"),
        ("👍🏽", "[UNK]", "[UNK] [UNK]"),  # a modifier
        ("👨\u200d👩\u200d👧", "[UNK]", "[UNK] [UNK] [UNK]"),  # joined
        # not assigned: unknown here, removed there
        ("a\u0378b", "[UNK]", "ab"),
        # younger than the library's tables: unknown here; an accent, a format character, a full stop there
        ("a\u0898b", "[UNK]", "ab"),
        ("a\u08e2b", "[UNK]", "ab"),
        ("a\u2e52b", "[UNK]", "a [UNK] b"),
        # U+2B820 to U+2B91F, which the library has not as Chinese
        ("a\U0002b820b", "[UNK]", "a [UNK] b"),
    ],
)
def test_known_differences_from_paddlenlp(ours, folder, hugging_face, paddlenlp_tokenizer, text, expected, paddlenlps):
    assert " ".join(ours.tokenize(text)) == expected
    assert " ".join(hugging_face.from_pretrained(folder).tokenize(text)) == expected
    assert " ".join(paddlenlp_tokenizer.from_pretrained(str(folder)).tokenize(text)) == paddlenlps


@needs_real_vocabulary
def test_special_tokens_inside_words_differ_from_paddlenlp_made_of_a_file(ours, folder, paddlenlp_tokenizer):
    """Its from_pretrained finds them everywhere, as we do; made of a file it splits those inside a word."""
    made = paddlenlp_tokenizer(str(folder / "vocab.txt"))
    read = paddlenlp_tokenizer.from_pretrained(str(folder))
    for tokenizer in (ours, made, read):
        assert tokenizer.tokenize("a [MASK] b") == ["a", "[MASK]", "b"]
    assert ours.tokenize("a[MASK]b") == read.tokenize("a[MASK]b") == ["a", "[MASK]", "b"]
    assert made.tokenize("a[MASK]b") == ["a", "[", "mask", "]", "b"]


@needs_real_vocabulary
def test_truncation_differs_from_paddlenlp_where_lengths_are_equal(ours, folder, paddlenlp_tokenizer):
    """The odd token goes to the second text here and in Hugging Face, to the first there. It skips impossible cuts."""
    theirs = paddlenlp_tokenizer.from_pretrained(str(folder))
    for n, m, length in product(range(6), range(6), range(3, 14)):
        text, pair = " ".join("abcde"[:n]), " ".join("vwxyz"[:m])
        mine = ours(text, pair, truncation=True, max_length=length)["input_ids"]
        other = theirs(text, pair, truncation=True, max_length=length)["input_ids"]
        odd = (length - 3) % 2 == 1 and n + m > length - 3 and min(n, m) > (length - 3) // 2
        assert (mine == other) == (not (odd and n <= m)), (n, m, length)
    assert len(theirs("a", "v w x", truncation="only_first", max_length=5)["input_ids"]) == 7


# -------------------------------------------------------------------------------------------------------- added tokens

ADDED = "a <ent> b <ENT> new york NEW YORKER [MASK] <sp>x < sp> new  york É"


def add_to(tokenizer, **special):
    tokenizer.add_tokens(["<ent>", "New York"])
    tokenizer.add_tokens(["<sp>"], **special)
    return tokenizer


def test_added_tokens_are_hugging_faces(folder, hugging_face):
    for switches in ({}, {"do_lower_case": False}):
        ours = add_to(ConvBertTokenizer(folder / "vocab.txt", **switches), special=True)
        theirs = add_to(hugging_face.from_pretrained(folder, **switches), special_tokens=True)
        assert len(ours) == len(theirs) == ours.vocab_size + 3
        assert_same(ours, theirs, [ADDED], **EVERYTHING)
        ids = ours(ADDED)["input_ids"]
        expected = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        assert ours.decode(ids, skip_special_tokens=True) == expected
        assert "<sp>" not in expected


@needs_real_vocabulary
def test_added_tokens_that_differ_from_paddlenlp(folder, tmp_path, paddlenlp_tokenizer):
    """It lower-cases the text before it looks for special tokens, and can't add a token that vocab.txt has."""
    ours = ConvBertTokenizer(folder / "vocab.txt")
    ours.add_tokens(["<sp>"], special=True)
    ours.add_tokens(["foo"])
    ours.save_pretrained(tmp_path)
    theirs = paddlenlp_tokenizer.from_pretrained(str(tmp_path))
    assert (ours.tokenize("<SP>"), theirs.tokenize("<SP>")) == (["<", "sp", ">"], ["<sp>"])
    assert (ours.tokenize("foody"), theirs.tokenize("foody")) == (["foo", "d", "##y"], ["food", "##y"])


def test_adding_twice_adds_once(folder):
    tokenizer = ConvBertTokenizer(folder / "vocab.txt")
    assert ConvBertTokenizer(folder / "vocab.txt").add_tokens("<ent>") == 1  # not five of a letter
    assert tokenizer.add_tokens(["<ent>", "New York"]) == 2
    assert tokenizer.add_tokens(["<ent>"]) == 0
    assert tokenizer.convert_tokens_to_ids("New York") == tokenizer.vocab_size + 1


# ------------------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("switches", [{}, {"do_lower_case": False, "strip_accents": True}], ids=str)
@pytest.mark.parametrize("added", [False, True])
def test_everybody_reads_our_folder(folder, tmp_path, hugging_face, request, switches, added):
    tokenizer = ConvBertTokenizer(folder / "vocab.txt", model_max_length=128, **switches)
    if added:
        add_to(tokenizer, special=True)
    tokenizer.save_pretrained(tmp_path)
    expected = tokenizer(ADDED)["input_ids"]
    names = {"vocab.txt", "tokenizer_config.json"} | ({"tokenizer.json", "added_tokens.json"} if added else set())
    assert {path.name for path in tmp_path.iterdir()} == names
    from transformers import AutoTokenizer

    readers = [ConvBertTokenizer.from_pretrained, hugging_face.from_pretrained, AutoTokenizer.from_pretrained]
    if importlib.util.find_spec("paddlenlp"):
        readers.append(request.getfixturevalue("paddlenlp_tokenizer").from_pretrained)
    for reader in readers:
        theirs = reader(str(tmp_path))
        assert theirs(ADDED)["input_ids"] == expected, reader
        assert (len(theirs), theirs.model_max_length) == (len(tokenizer), 128)


@pytest.mark.parametrize("switches", [{}, {"do_lower_case": False, "strip_accents": True}], ids=str)
@pytest.mark.parametrize(
    "layout", ["as written", "tokenizer.json only", "before tokenizer.json", "with vocab.txt only"]
)
def test_reads_hugging_faces_folders(folder, tmp_path, hugging_face, strings, switches, layout):
    """The layouts of 4.55 and 5.x (as written, by whichever is installed) and what either leaves out."""
    theirs = add_to(hugging_face.from_pretrained(folder, **switches), special_tokens=True)
    theirs.save_pretrained(tmp_path)
    config_file = tmp_path / "tokenizer_config.json"
    config = json.loads(config_file.read_text("utf-8"))
    if layout == "tokenizer.json only":
        for path in set(tmp_path.iterdir()) - {tmp_path / "tokenizer.json"}:
            path.unlink()
    elif layout != "as written":
        (tmp_path / "tokenizer.json").unlink()
        shutil.copyfile(folder / "vocab.txt", tmp_path / "vocab.txt")
        decoder = {
            index: {"content": token.content, "special": token.special, "normalized": token.normalized}
            for index, token in theirs.added_tokens_decoder.items()
        }
        config["added_tokens_decoder"] = decoder
        if layout == "before tokenizer.json":
            del config["added_tokens_decoder"]
            names = {t["content"]: i for i, t in decoder.items() if i >= theirs.vocab_size}
            (tmp_path / "added_tokens.json").write_text(json.dumps(names))
            special = {"additional_special_tokens": [{"content": "<sp>"}], "cls_token": {"content": "[CLS]"}}
            (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
        config_file.write_text(json.dumps(config))
    ours = ConvBertTokenizer.from_pretrained(tmp_path)
    assert_same(ours, theirs, [ADDED, *strings[::20]])
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    assert ours.model_max_length == 512
    ours.save_pretrained(tmp_path)
    assert_same(ConvBertTokenizer.from_pretrained(tmp_path), theirs, [ADDED, *strings[::20]])


def test_reads_paddlenlps_folders(folder, tmp_path, paddlenlp_tokenizer):
    theirs = add_to(paddlenlp_tokenizer.from_pretrained(str(folder), do_lower_case=False), special_tokens=True)
    expected = theirs(ADDED)["input_ids"]
    theirs.save_pretrained(str(tmp_path))
    ours = ConvBertTokenizer.from_pretrained(tmp_path)
    assert not ours.do_lower_case
    assert ours(ADDED)["input_ids"] == expected
    assert len(ours) == len(theirs)
    # the reason to compare with the tokenizer that wrote the folder: it forgets added tokens when it reads it
    assert paddlenlp_tokenizer.from_pretrained(str(tmp_path))(ADDED)["input_ids"] != expected


def test_saving_leaves_nothing_of_what_was_there(folder, tmp_path):
    add_to(ConvBertTokenizer(folder / "vocab.txt"), special=True).save_pretrained(tmp_path)
    ConvBertTokenizer(folder / "vocab.txt").save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer_config.json", "vocab.txt"]
    assert (tmp_path / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "vocab.txt: can't be read"),
        ({"tokenizer_config.json": '{\n"a": }'}, "tokenizer_config.json, line 2: not JSON"),
        ({"tokenizer_config.json": "[]"}, "tokenizer_config.json: not a JSON object"),
        ({"tokenizer_config.json": '{"unk_token": "<unk>"}'}, r"tokenizer_config.json: writes \[UNK\] as '<unk>'"),
        ({"tokenizer.json": '{"model": {"type": "BPE"}}'}, "tokenizer.json: not a BERT tokenizer"),
        (
            {
                "tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "a": 2}},'
                '"normalizer": {"type": "BertNormalizer"}}'
            },
            "tokenizer.json: the ids of its vocabulary must be 0 to 1",
        ),
        (
            {"vocab.txt": "\n".join([*SPECIAL_TOKENS, "a"]), "added_tokens.json": '{"<x>": 9}'},
            "id 9 can't be given to the added token '<x>'",
        ),
    ],
    ids=str,
)
def test_damaged_folders_are_errors_of_one_line(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        ConvBertTokenizer.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- damaged vocabularies

GOOD = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"b\n##a\n", ", line 9: '##a' is on line 7 already"),
        (GOOD.replace(b"\n", b"\r\n"), ", line 1: holds a carriage return"),
        (GOOD + b"b\r\nc\n", ", line 8: holds a carriage return"),
        (GOOD + b"b\xff\n", ", line 8: byte 0xff is not UTF-8"),
        (GOOD.decode().encode("utf-16"), ", line 1: byte 0xff is not UTF-8"),
        (GOOD + b"\nb\n", ", line 8: empty;"),
        (GOOD + b"\n", ", line 8: empty, as is all that follows;"),
        (b"\xef\xbb\xbf" + GOOD, ", line 1: starts with a byte-order mark"),
        (GOOD.replace(b"[MASK]\n", b""), r": \[MASK\] missing"),
        (b"a\nb\n", r": \[PAD\] \[UNK\] \[CLS\] \[SEP\] \[MASK\] missing"),
        (b"", ": empty;"),
    ],
)
def test_damaged_vocabularies_are_errors_that_name_the_line(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path)) + message) as caught:
        ConvBertTokenizer(path)
    assert "\n" not in str(caught.value)


def test_an_absent_vocabulary_is_an_error(tmp_path):
    for path in (tmp_path / "vocab.txt", tmp_path):
        with pytest.raises(InputError, match=re.escape(f"{path}: can't be read")):
            ConvBertTokenizer(path)


def test_only_line_feeds_end_a_line(tmp_path):
    """Multilingual vocabularies hold line ends of Unicode, and spaces, as tokens."""
    odd = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\u3000", " "]
    (tmp_path / "vocab.txt").write_bytes(GOOD + "\n".join(odd).encode())  # and the last line needs no end
    tokenizer = ConvBertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.vocab_size == 7 + len(odd)
    assert tokenizer.convert_tokens_to_ids(odd) == list(range(7, 7 + len(odd)))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes() + b"\n"


# ----------------------------------------------------------------------------------------------------------- the calls


def test_shapes_of_what_comes_back(ours):
    assert list(ours("a")) == ["input_ids", "token_type_ids", "attention_mask"]
    assert list(ours("a", return_attention_mask=False)) == ["input_ids", "token_type_ids"]
    assert ours(["a"])["input_ids"] == [ours("a")["input_ids"]]
    assert ours(("a", "b"), ("c", "d"))["token_type_ids"] == [[0, 0, 0, 1, 1]] * 2
    assert ours([], padding=True) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert len(ours("a " * 600, truncation=True)["input_ids"]) == 512
    assert len(ours("a " * 600)["input_ids"]) == 602


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": None}, "text 0: every text must be a str, not NoneType"),
        ({"text": ["a", None]}, "text 1: every text must be a str, not NoneType"),
        ({"text": ["a", float("nan")]}, "text 1: every text must be a str, not float"),
        ({"text": "a \ud800"}, "without lone surrogates, as in 'a \\ud800'"),
        ({"text": ["a \ud800"], "is_split_into_words": True}, "without lone surrogates"),
        ({"text": [["a", "b", "c"]]}, "text 0 is a list of 3: neither a text nor a pair"),
        ({"text": ["a", ["b"]]}, "text 1 is a list of 1: neither a text nor a pair"),
        ({"text": [[]]}, "text 0 is a list of 0: neither a text nor a pair"),
        ({"text": [["a", None]]}, "text 0: every text must be a str, not NoneType"),
        ({"text": [[["a"], ["b"]]]}, "text 0: every text must be a str, not list of str"),
        ({"text": [["a", "b"]], "text_pair": ["c"]}, "text 0: every text must be a str, not list of str"),
        ({"text": "a", "text_pair": ["b", "c"]}, "text 0: every text must be a str, not list of str"),
        ({"text": [["a", "b"], "c"], "is_split_into_words": True}, "text 1: every text must be a list of str, not str"),
        (
            {"text": [(["a"], ["b"], [])], "is_split_into_words": True},
            "text 0 is a list of 3: neither a text nor a pair",
        ),
        ({"text": [(["a"], "b")], "is_split_into_words": True}, "text 0: every text must be a list of str, not str"),
        ({"text": ["a"], "text_pair": "b", "is_split_into_words": True}, "every text must be a list of str, not str"),
        ({"text": "a b", "is_split_into_words": True}, "every text must be a list of str"),
        ({"text": ["a", "b"], "text_pair": ["c"]}, "text_pair must be a list as long as text, 2"),
        ({"text": ["a", "b"], "text_pair": "cd"}, "text_pair must be a list as long as text, 2"),
        ({"text": "a", "truncation": "first"}, "truncation='first': take"),
        ({"text": "a", "padding": "left"}, "padding='left': take"),
        ({"text": ["a", "a b c"], "truncation": "only_second", "max_length": 3}, "text 1 can't be cut to 3 tokens"),
    ],
    ids=str,
)
def test_unusable_arguments_are_errors(ours, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ours(**arguments)


def test_pad_makes_rectangles(tmp_path):
    save_vocabulary(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "b"], tmp_path / "vocab.txt")
    ours = ConvBertTokenizer(tmp_path / "vocab.txt")
    assert ours.pad_token_id == 4
    batch = ours(["a", "a b a"], ["b", "b"], return_special_tokens_mask=True)
    examples = [{name: rows[i] for name, rows in batch.items()} for i in range(2)]
    padded = ours.pad(examples)
    assert padded["input_ids"].tolist() == [[1, 5, 2, 6, 2, 4, 4], [1, 5, 6, 5, 2, 6, 2]]
    assert padded["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert padded["special_tokens_mask"].tolist() == [[1, 0, 1, 0, 1, 1, 1], [1, 0, 0, 0, 1, 0, 1]]
    assert {array.dtype for array in padded.values()} == {np.dtype("int64")}
    wide = ours.pad(batch, max_length=9)
    assert wide["input_ids"].shape == (2, 9)
    same = ours(["a", "a b a"], ["b", "b"], padding="max_length", max_length=9, return_special_tokens_mask=True)
    assert {name: array.tolist() for name, array in wide.items()} == same
    with pytest.raises(InputError, match="a row of 7 is longer than max_length 6"):
        ours.pad(batch, max_length=6)


def test_threads_with_different_settings_do_not_disturb_each_other(ours, strings):
    texts = strings[::40]
    settings = [
        {"truncation": truncation, "padding": padding, "max_length": length, "return_offsets_mapping": offsets}
        for (truncation, padding), length, offsets in product(
            [(True, "max_length"), (False, True)], [8, 50], [False, True]
        )
    ]
    expected = [ours(texts, texts[::-1], **setting) for setting in settings]
    assert len(settings) == 8
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(lambda setting: ours(texts, texts[::-1], **setting), settings)) == expected


def test_a_copy_sent_to_another_process_is_the_same(folder):
    tokenizer = add_to(ConvBertTokenizer(folder / "vocab.txt"), special=True)
    assert pickle.loads(pickle.dumps(tokenizer))(ADDED) == tokenizer(ADDED)


def test_importing_is_light():
    heavy = "{'paddle', 'paddlenlp', 'torch', 'transformers'}"
    code = f"import sys, tokenizer; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---------------------------------------------------------------------------------------------------- a new vocabulary


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Random words, so that very many pairs of characters occur equally often, and rare characters that do too."""
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzéß", k=rng.randint(1, 9))) for _ in range(3000)]
    lines = [" ".join(rng.choices(words, k=12)) + f" {chr(0x430 + i % 30)}!" for i in range(600)]
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(lines), "utf-8")
    return path


def run(*arguments, seed="0"):
    command = [sys.executable, "tokenizer.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, encoding="utf-8"
    )


def test_the_same_files_give_the_same_vocabulary(corpus, tmp_path):
    """In fresh processes: the library seeds its hash maps per process, and the trainer alone differs in most runs."""
    written = set()
    for seed in "0123":
        output = tmp_path / f"{seed}.txt"
        done = run("--input", corpus, "--size", 900, "--limit_alphabet", 40, "--output", output, seed=seed)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{output}: 900 tokens\n", "")
        written.add(output.read_bytes())
    assert len(written) == 1
    tokens = written.pop().decode().removesuffix("\n").split("\n")
    assert tokens == train_vocabulary([corpus], 900, limit_alphabet=40)
    assert tokens[:5] == list(SPECIAL_TOKENS)
    assert len(set(tokens)) == 900
    assert len({token.removeprefix("##") for token in tokens if len(token.removeprefix("##")) == 1}) == 40


def test_a_trained_vocabulary_tokenises_its_text(corpus, tmp_path):
    tokens = train_vocabulary([corpus], 800)
    save_vocabulary(tokens, tmp_path / "vocab.txt")
    text = corpus.read_text("utf-8")
    ours = ConvBertTokenizer(tmp_path / "vocab.txt")
    pieces = ours.tokenize(text)
    assert "[UNK]" not in pieces
    assert len(pieces) < 0.7 * len(text.replace(" ", ""))  # longer pieces than characters
    assert "é" not in "".join(tokens)  # lower-cased, so accents go
    cased = train_vocabulary([corpus], 800, do_lower_case=False)
    assert "é" in cased
    assert "é" not in train_vocabulary([corpus], 800, do_lower_case=False, strip_accents=True)


def test_sizes_that_the_text_can_or_can_not_fill(tmp_path):
    path = tmp_path / "small.txt"
    path.write_text("abab abab\n")
    assert train_vocabulary([path], 100) == [*SPECIAL_TOKENS, "##a", "##b", "a", "b", "##ab", "##bab", "abab"]
    assert train_vocabulary([path], 10) == [*SPECIAL_TOKENS, "##a", "##b", "a", "b", "##ab"]
    with pytest.raises(InputError, match="size 8 is too small: special tokens and characters are 9"):
        train_vocabulary([path], 8)


def test_compressed_files_and_several_files(corpus, tmp_path):
    with gzip.open(tmp_path / "corpus.txt.gz", "wb") as file:
        file.write(corpus.read_bytes())
    assert train_vocabulary([tmp_path / "corpus.txt.gz"], 600) == train_vocabulary([corpus], 600)
    lines = corpus.read_bytes().splitlines(keepends=True)
    (tmp_path / "1.txt").write_bytes(b"".join(lines[:99]))
    (tmp_path / "2.txt").write_bytes(b"".join(lines[99:]))
    assert train_vocabulary([tmp_path / "1.txt", tmp_path / "2.txt"], 600) == train_vocabulary([corpus], 600)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, r"absent.txt: no such file"),
        ("latin.txt", "one\ntwo\ncafé\n".encode("latin-1"), r"latin.txt, line 3: byte 4 is not UTF-8"),
        ("plain.txt.gz", b"not compressed\n", r"plain.txt.gz, line 1: can't be read"),
        (
            "cut.txt.gz",
            gzip.compress(random.Random(0).randbytes(999).hex().encode())[:-20],
            r"cut.txt.gz, line 1: can't",
        ),
    ],
)
def test_unreadable_text_is_one_line_and_status_2(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("--input", tmp_path / name, "--size", 99, "--output", tmp_path / "vocab.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "vocab.txt").exists()


def test_command_line(corpus, tmp_path, capsys):
    output = tmp_path / "vocab.txt"
    assert module.main(["--input", str(corpus), "--size", "700", "--output", str(output), "--no-do_lower_case"]) == 0
    assert capsys.readouterr().out == f"{output}: 700 tokens\n"
    assert "é" in output.read_text("utf-8")
    assert module.main(["--input", str(corpus), "--output", str(tmp_path / "no" / "vocab.txt")]) == 2
    assert "its folder does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        module.main(["--input", str(corpus), "--size", "many"])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        module.main(["--help"])
    assert caught.value.code == 0
    assert "(default: 1000)" in capsys.readouterr().out


def test_the_switches_are_written_beside_the_vocabulary(corpus, tmp_path, capsys, hugging_face):
    text = "Été CAFÉ 中文 naïve"
    made = {
        "vocab.txt": ["--no-strip_accents"],
        "cased.txt": ["--no-do_lower_case", "--strip_accents", "--no-tokenize_chinese_chars"],
        "plain.txt": [],
    }
    for name, flags in made.items():
        arguments = ["--input", str(corpus), "--size", "300", "--output", str(tmp_path / name), *flags]
        assert module.main(arguments) == 0
    found = {name: stored_switches(tmp_path / name) for name in made}
    assert found == {
        "vocab.txt": {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": True},
        "cased.txt": {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        "plain.txt": {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
    }
    ours = ConvBertTokenizer.from_pretrained(tmp_path)  # a folder with a vocab.txt is a tokenizer's
    assert ours.strip_accents is False
    assert ours(text) == dict(hugging_face.from_pretrained(tmp_path)(text))


def test_neither_a_vocabulary_nor_the_switches_of_another_are_replaced_unasked(corpus, tmp_path, capsys):
    """tokenizer_config.json may belong to a tokenizer.json."""
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    arguments = ["--input", str(corpus), "--size", "300", "--output", str(tmp_path / "vocab.txt")]
    assert module.main(arguments) == 2
    assert re.search("tokenizer_config.json: is there already; add --overwrite", capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer_config.json"]
    assert module.main([*arguments, "--overwrite"]) == 0
    assert stored_switches(tmp_path / "vocab.txt")["do_lower_case"] is True


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="../shared isn't there")
def test_a_real_corpus_gives_an_exact_size(tmp_path):
    tokens = train_vocabulary([SHARED / "corpus" / "wiki_en.txt.gz"], 8192)
    assert len(set(tokens)) == 8192
    assert {"the", "##ing", "and"} <= set(tokens)
