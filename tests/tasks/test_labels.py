"""Which spellings of a label or a column are one, and which words are numbers gone wrong."""

import pytest

from tasks.labels import is_gap, match, number_gone_wrong, order_of, same, spelled_for_other_eyes, tidy

ONE = [
    ("Positive", ("negative", "positive"), 1),
    (" positive\ufeff", ("negative", "positive"), 1),
    ("POSITIVE", ("NEGATIVE", "POSITIVE"), 1),
    ("not entailment", ("entailment", "not_entailment"), 1),
    ("notEntailment", ("entailment", "not_entailment"), 1),
    ("1.0", ("0", "1"), 1),
    ("1", ("0.0", "1.0"), 1),
    ("2.50", ("2.5", "3.5"), 0),
    ("true", ("False", "True"), 1),
    ("False", ("TRUE", "FALSE"), 1),
    ("true", ("0", "1"), 1),
    ("0", ("True", "False"), 1),
    ("yes", ("False", "True"), 1),
    ("FALSE", ("Yes", "No"), 1),
    ("0", ("no", "yes"), 0),
    ("No", ("0", "1"), 0),
    ("T", ("true", "false"), 0),
    ("f", ("0", "1"), 0),
    ("1.0", ("N", "Y"), 1),
    ("\u22121", ("-1", "1"), 0),
    ("-1", ("1", "\u22121"), 1),
    ("e\u0301", ("e", "\u00e9"), 1),
    ("text pair", ("text", "text_pair"), 1),
    ("Sentence 1", ("sentence2", "sentence1"), 1),
    ("a", ("A", "a"), 1),  # as it stands
]
APART = [
    ("A-", ("A", "B")),
    ("-1", ("1", "2")),
    ("1-12", ("11-2", "3-4")),
    ("10.1.4", ("10.14", "2")),
    ("neutral", ("entailment", "contradiction")),
    ("yEs", ("Yes", "yes")),  # two would fit
    ("true", ("0", "1", "2")),
    ("yes", ("f", "m")),
    ("yes", ("true", "no")),
    ("yes", ("no", "maybe")),
    ("maybe", ("no", "yes")),
    ("2", ("no", "yes")),
    ("", ("", "a")),
]


@pytest.mark.parametrize(("word", "names", "index"), ONE)
def test_what_a_person_would_call_the_same(word, names, index):
    assert match(word, names) == index


@pytest.mark.parametrize(("word", "names"), APART)
def test_what_a_person_would_not(word, names):
    assert match(word, names) is None


def test_what_is_one_within_a_file():
    for first, second in (("1", "1.0"), ("true", "True"), ("-3", "-3.00"), ("FALSE", "false")):
        assert same(first) == same(second)
    for first, second in (("A", "a"), ("1", "01"), ("1.1", "1.10"), ("1", "-1"), ("yes", "Yes")):
        assert same(first) != same(second)
    assert tidy("\ufeff yes\u3000\u200b ") == "yes"


def test_the_order_of_a_model():
    labels = ("contradiction", "entailment", "neutral")
    assert order_of(["Entailment", "NEUTRAL", "contradiction"], labels) == [1, 2, 0]
    assert order_of(["entailment", "neutral"], labels) is None
    assert order_of(["entailment", "neutral", "maybe"], labels) is None
    assert order_of(["a", "A", "a"], ("a", "b", "c")) is None


def test_numbers_gone_wrong():
    for word in (
        "nan",
        "-NaN",
        "inf",
        "1,5",
        "1.234,5",
        "50%",
        "N/A",
        "#DIV/0!",
        "?",
        "--",
        "\u22123",
        "1 000",
        "~4",
        "None",
        "none",
        "<NA>",
        "NaT",
        "2.5%",
        "#N/A",
        "$5",
        "3,5\u20ac",
    ):
        assert number_gone_wrong(word), word
    for word in ("yes", "name", "other", "2nd", "v1.5", "nothing", "9" * 41):
        assert not number_gone_wrong(word), word


def test_numbers_spelled_for_other_eyes():
    for word in ("1,5", "2.5%", "50 %", "\u22121.5", "1.000,5", "1,000.5", "1 000", "1.000.000", "2,5\uff05"):
        assert spelled_for_other_eyes(word), word
    for word in ("1.5", "5", "10.1.4", "1-12", "v1,5", "2,x", "-", "1,2,3", "nan", "9," + "9" * 40):
        assert not spelled_for_other_eyes(word), word


def test_gaps():
    for word in (
        "N/A",
        "n/a",
        "NA",
        "null",
        "NULL",
        "<NA>",
        "#N/A",
        "NaT",
        "--",
        "\u2013",
        "\u2014",
        "?",
        "nan",
        "#REF!",
    ):
        assert is_gap(word), word
    for word in ("none", "None", "unknown", "nat", "nab", "#happy", "?!", "+", "0", ""):
        assert not is_gap(word), word
    assert is_gap("None", among_numbers=True)
