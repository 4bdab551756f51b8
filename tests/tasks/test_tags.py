"""Tags: files, windows of long sentences, and entities beside seqeval's."""

import random

import pytest
from conftest import needs

from files.errors import InputError
from tasks.entities import entities, entity_scores, tag_scores
from tasks.tags import NOT_COUNTED, Sentence, TaggedWindows, Windows, read_sentences, scheme_of, tags_of
from tokenizer import ConvBertTokenizer

WORDS = ("the", "Rhine", "flows", "unbelievably", "north", "\u200b", "1815.", "e-mail")
PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "rhine", "flows", "un", "##believ", "##ably", "north"),
    *("1815", ".", "e", "-", "mail"),
)
TAGS = {
    "bio": ("O", "B-a", "I-a", "B-b", "I-b"), "bioes": ("O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(PIECES), "utf-8")
    return ConvBertTokenizer(path)


def drawn(count, scheme, seed=0, longest=12):
    draw = random.Random(seed)
    return [[draw.choice(TAGS[scheme]) for _ in range(draw.randint(1, longest))] for _ in range(count)]


# ------------------------------------------------------------------------------------------------------------- entities


@needs("seqeval")
@pytest.mark.parametrize("scheme", TAGS)
def test_entities_are_seqevals_on_any_sequence(scheme):
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in drawn(3000, scheme):
        assert entities(tags) == get_entities(tags), tags


@needs("seqeval")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheme", TAGS)
def test_scores_are_seqevals(scheme):
    from seqeval.metrics import accuracy_score, classification_report

    right, found = drawn(200, scheme), []
    draw = random.Random(1)
    for tags in right:
        found.append([tag if draw.random() < 0.8 else draw.choice(TAGS[scheme]) for tag in tags])
    scores, by_type = entity_scores(right, found)
    theirs = classification_report(right, found, output_dict=True)
    micro = theirs["micro avg"]
    assert scores["f1"] == pytest.approx(micro["f1-score"])
    assert scores["precision"] == pytest.approx(micro["precision"])
    assert scores["recall"] == pytest.approx(micro["recall"])
    assert scores["accuracy"] == pytest.approx(accuracy_score(right, found))
    for kind, found in by_type.items():
        assert found["f1"] == pytest.approx(theirs[kind]["f1-score"])
        assert found["entities"] == theirs[kind]["support"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-a I-a O I-a", [("a", 0, 1), ("a", 3, 3)]),  # what begins without B is an entity
        ("B-a I-b I-b", [("a", 0, 0), ("b", 1, 2)]),  # another type begins another
        ("B-a B-a", [("a", 0, 0), ("a", 1, 1)]),
        ("B-a I-a E-a E-a", [("a", 0, 2), ("a", 3, 3)]),
        ("S-a I-a", [("a", 0, 0), ("a", 1, 1)]),
        ("O O", []),
    ],
)
def test_awkward_sequences_by_conllevals_rules(tags, expected):
    assert entities(tags.split()) == expected


def test_plain_tags():
    scores, by_tag = tag_scores([["N", "V"], ["N"]], [["N", "N"], ["N"]])
    assert scores == {"accuracy": pytest.approx(2 / 3)}
    assert by_tag["V"] == {"precision": 0, "recall": 0, "f1": 0, "words": 1}


# -------------------------------------------------------------------------------------------------------------- reading


def test_columns_and_json_lines(tmp_path):
    columns = tmp_path / "a.conll"
    columns.write_text("-DOCSTART- -X- O\n\nEU NNP B-org\nrejects VBZ O\n\n\nPeter NNP B-per\n", "utf-8")
    lines = tmp_path / "a.jsonl"
    first = '{"tokens": ["EU", "rejects"], "ner_tags": ["B-org", "O"]}'
    lines.write_text(first + '\n\n{"tokens": ["Peter"], "tags": ["B-per"]}')
    expected = [(("EU", "rejects"), ("B-org", "O")), (("Peter",), ("B-per",))]
    for path in (columns, lines):
        assert [(sentence.words, sentence.tags) for sentence in read_sentences(path)] == expected
        assert all(sentence.tags == () for sentence in read_sentences(path, labelled=False))
    assert read_sentences(columns)[1].where.endswith("line 7")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "a O\nb c O\n", "line 2: 3 columns between blanks, but 2 before"),
        ("a.conll", "a\tO\n\tO\n", "line 2: no word in the first column"),
        ("a.conll", "a\tO\nb\t\n", "line 2: no tag in the last column"),
        ("a.conll", "a\nb\n", "line 1: one column"),
        ("a.conll", "\n\n", "no sentence there"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{', "line 2: not JSON"),
        ("a.jsonl", "[1]", "line 1: must be a JSON object"),
        ("a.jsonl", '{"tokens": "a", "tags": ["O"]}', "'tokens' must be a list of texts"),
        ("a.jsonl", '{"tokens": ["a"]}', "no 'tags' there; there are tokens"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', "2 tokens, but 1 tags"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [3]}', "write the tags' names instead of their numbers"),
        ("a.jsonl", '{"tokens": [" "], "tags": ["O"]}', "a text of 'tokens' is empty"),
        ("a.conll", b"\xff\tO\n", "not UTF-8"),
    ],
)
def test_what_is_no_sentence_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_sentences(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_scheme_is_told_from_the_tags():
    def of(*tags):
        return [Sentence(tuple("w" * len(tags)), tags, "f, line 1")]

    assert scheme_of(of("O", "B-a", "I-a")) == "bio"
    assert scheme_of(of("O", "I-a")) == "bio"
    assert scheme_of(of("S-a", "O", "B-a", "E-a")) == "bioes"
    assert scheme_of(of("NN", "VB", "O")) == "plain"
    assert scheme_of(of("B-a", "NN"), "plain") == "plain"
    with pytest.raises(InputError, match=r"f, line 1, word 2 \('w'\): the tag 'NN' is neither O nor B-…, I-…"):
        scheme_of(of("B-a", "NN"))
    with pytest.raises(InputError, match="the tag 'E-a' is neither"):
        scheme_of(of("E-a", "B-a"), "bio")
    assert tags_of(of("Z", "O", "A")) == ["O", "A", "Z"]


# -------------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(("length", "stride"), [(8, 0), (8, 3), (9, 5), (64, 4), (5, 1)])
def test_every_word_is_told_once_by_its_first_piece(tokenizer, length, stride):
    draw = random.Random(length)
    sentences = [Sentence(tuple(draw.choices(WORDS, k=draw.randint(1, 40))), (), "") for _ in range(80)]
    columns, told = Windows(length, stride).encode(tokenizer, sentences)
    seen = {}
    for row, places in enumerate(told):
        assert len(columns["input_ids"][row]) <= length
        for place, word in places:
            key = columns["overflow_to_sample_mapping"][row], word
            assert key not in seen
            seen[key] = columns["input_ids"][row][place]
    for number, sentence in enumerate(sentences):
        for place, word in enumerate(sentence.words):
            pieces = tokenizer.encode_ids([word])[0]
            assert seen.get((number, place)) == (pieces[0] if pieces else None), (number, place)


def test_a_word_is_told_where_its_context_is_widest(tokenizer):
    sentence = Sentence(("the",) * 10, (), "")
    _, told = Windows(8, 4).encode(tokenizer, [sentence])  # windows of 6 words: 0-5, 2-7, 4-9
    assert [[word for _, word in row] for row in told] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]


def test_labels_of_first_and_of_all_pieces(tokenizer):
    sentence = Sentence(("unbelievably", "north"), ("B-a", "O"), "")
    tags = ["O", "B-a", "I-a"]
    first = TaggedWindows(tokenizer, [sentence], Windows(16, 0), tags)
    assert first.labels([0]).tolist() == [[NOT_COUNTED, 1, NOT_COUNTED, NOT_COUNTED, 0, NOT_COUNTED]]
    assert first.counts.tolist() == [2]
    every = TaggedWindows(tokenizer, [sentence], Windows(16, 0), tags, every_piece=True)
    assert every.labels([0]).tolist() == [[NOT_COUNTED, 1, 2, 2, 0, NOT_COUNTED]]
    lost = TaggedWindows(tokenizer, [Sentence(("\u200b", "north"), ("O", "O"), "")], Windows(16, 0), tags)
    assert lost.lost == 1
