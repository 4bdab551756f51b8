"""Vocabularies: what is said of damaged ones, and of those that texts can't reach."""

import json
import logging
import re

import pytest

from files.errors import InputError
from text.vocabulary import SPECIAL_TOKENS, doubts, read_vocabulary
from tokenizer import ConvBertTokenizer

GOOD = "".join(f"{token}\n" for token in (*SPECIAL_TOKENS, "a", "##a"))


@pytest.mark.parametrize(
    ("lines", "numbers", "expected"),
    [
        ("b\n##a\nc\n", [9], [*SPECIAL_TOKENS, "a", "[repeat7]", "b", "##a", "c"]),
        ("\nb\n", [8], [*SPECIAL_TOKENS, "a", "##a", "[empty8]", "b"]),
        ("b\n\n\nc\n", [9, 10], [*SPECIAL_TOKENS, "a", "##a", "b", "[empty9]", "[empty10]", "c"]),
    ],
)
def test_advice_for_a_damaged_vocabulary_keeps_every_id(tmp_path, lines, numbers, expected):
    """Done line by line as each message says, the file is read, and no token has moved."""
    path = tmp_path / "vocab.txt"
    path.write_text(GOOD + lines)
    for number in numbers:
        with pytest.raises(InputError, match=re.escape(f"{path}, line {number}: ")) as caught:
            read_vocabulary(path)
        assert "shifts every id" in str(caught.value)
        name, line = re.search(r"like (\[[a-z]+(\d+)\])", str(caught.value)).groups()
        assert int(line) == number or f", on line {line} (" in str(caught.value)
        written = path.read_text().split("\n")
        written[int(line) - 1] = name
        path.write_text("\n".join(written))
    assert read_vocabulary(path) == expected


def test_empty_lines_at_the_end_shift_nothing(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text(GOOD + "\n\n")
    with pytest.raises(InputError, match="line 8: empty, as is all that follows; remove the empty lines at the end"):
        read_vocabulary(path)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "WordPiece"},
        {"type": "WordPiece", "vocab": ["[PAD]"]},
        {"type": "WordPiece", "vocab": {"[PAD]": 0, "a": "1"}},
        {"type": "WordPiece", "vocab": {"[PAD]": 0, "a": None}},
    ],
    ids=str,
)
def test_a_damaged_tokenizer_json_is_one_line(tmp_path, model):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": model, "normalizer": {"type": "BertNormalizer"}}))
    with pytest.raises(InputError, match=r"tokenizer\.json: (not a BERT tokenizer|the ids of its vocabulary must be)"):
        read_vocabulary(path)


@pytest.mark.parametrize(
    ("words", "lower", "strip", "message"),
    [
        (["the", "The", "##ING", "Ärger", "été"], True, None, "^3 of 10 tokens hold capitals .*--no-do_lower_case"),
        (["the", "The", "été"], False, None, None),
        (["the", "The", "été"], False, True, "^1 of 8 tokens hold accents or composed letters .*--no-strip_accents"),
        (["the", "été", "가"], True, None, "^2 of 8 tokens hold accents"),
        (["the", "été"], True, False, None),
        (["the", "##ing"], False, None, "^no token holds a capital.*--do_lower_case"),
        (["[Unused1]", "<S>", "中", "##文", "7"], True, None, None),  # names stand for no text
        (["[Unused1]", "中", "##文", "7"], False, None, None),  # nor is there anything to lower-case
    ],
    ids=str,
)
def test_what_switches_and_vocabulary_have_against_each_other(words, lower, strip, message):
    found = doubts([*SPECIAL_TOKENS, *words], lower, strip)
    assert re.search(message, found) if message else found is None


def test_what_is_said_to_be_out_of_reach_is(tmp_path):
    words = ["the", "The", "THE", "été", "ete", "##é"]
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in (*SPECIAL_TOKENS, *words)))
    tokenizer = ConvBertTokenizer(path, strip_accents=False)
    reached = {token for word in words for token in tokenizer.tokenize(word)}
    assert {"The", "THE"}.isdisjoint(reached)
    assert "été" in reached


def test_capitals_with_lower_casing_are_a_warning_of_one_line(tmp_path, caplog):
    path = tmp_path / "cased.txt"
    path.write_text(GOOD + "Paris\nparis\n")
    with caplog.at_level(logging.WARNING, "convbert"):
        ConvBertTokenizer(path, do_lower_case=False)
        assert not caplog.messages
        ConvBertTokenizer(path)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: 1 of 9 tokens hold capitals and can never be reached")
    assert "\n" not in message
