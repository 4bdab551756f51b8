"""The sample data: readable, balanced, learnable, reproducible, small."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasks.entities import entities
from tasks.glue import TASKS
from tasks.glue_files import read_examples
from tasks.questions import Reading
from tasks.scores import score
from tasks.tags import read_sentences, scheme_of

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
SPLITS = [(task.name, split) for task in TASKS.values() for split in task.splits]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_every_split_reads_and_is_balanced(name, split):
    task = TASKS[name]
    examples = read_examples(task, split, SAMPLES)
    assert len(examples) >= (350 if split == "train" else 150 if split in task.dev_splits else 40)
    assert all(example.text.strip() and example.text_pair != "" for example in examples)
    labels = [example.label for example in examples]
    if split in task.test_splits:
        assert set(labels) == {None}
    elif task.is_regression:
        assert (min(labels), max(labels)) == (0, 5)
        assert len(set(labels)) == 11
    else:
        counts = Counter(labels)
        assert set(counts) == set(range(task.num_labels))
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", TASKS)
def test_no_text_of_dev_or_test_occurs_in_train(name):
    task = TASKS[name]
    seen = [example.text for example in read_examples(task, "train", SAMPLES)]
    assert len(set(seen)) == len(seen)
    for split in (*task.dev_splits, *task.test_splits):
        assert not set(seen) & {example.text for example in read_examples(task, split, SAMPLES)}


def test_quirks_of_the_official_files():
    assert (SAMPLES / "MRPC" / "train.tsv").read_bytes().startswith(b"\xef\xbb\xbfQuality\t#1 ID")
    assert len((SAMPLES / "CoLA" / "train.tsv").read_text().splitlines()[0].split("\t")) == 4  # no header
    for split, columns in (("train", 12), ("dev_matched", 16), ("dev_mismatched", 16), ("test_matched", 10)):
        header = (SAMPLES / "MNLI" / f"{split}.tsv").read_text().splitlines()[0].split("\t")
        assert len(header) == columns
        assert (header[-1] == "gold_label") == (split != "test_matched")


@pytest.mark.parametrize("name", TASKS)
def test_headers_equal_the_official(name):
    real = ROOT.parent / "shared" / "glue" / name
    if not real.is_dir():
        pytest.skip(f"no real GLUE data beside the project ({name})")
    for path in real.glob("*.tsv"):
        if name == "CoLA" and path.stem != "test":
            continue  # no header
        assert (SAMPLES / name / path.name).read_bytes().split(b"\n")[0] == path.read_bytes().split(b"\n")[0]


def test_generator_reproduces_the_files(tmp_path):
    subprocess.run([sys.executable, SAMPLES / "generate.py", "--output", tmp_path], check=True)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) == len(SPLITS) + 8  # and the diagnostic set, the corpus, the vocabulary and its switches, …
    for path in written:
        assert (tmp_path / path).read_bytes() == (SAMPLES / path).read_bytes(), path


def test_answers_lie_where_the_file_says():
    for split, count in (("train", 96), ("dev", 32)):
        reading = Reading(SAMPLES / "answers" / f"{split}.json")
        assert len(reading.questions) == count
        assert reading.moved == reading.lost == []
        kinds = Counter(question.text.split()[0] for question in reading.questions)
        assert set(kinds) == {"Where", "When", "Who", "What"}
        assert min(kinds.values()) > count / 8


def test_tags_are_entities_of_four_types():
    for split, count in (("train", 90), ("dev", 30)):
        sentences = read_sentences(SAMPLES / "tags" / f"{split}.conll")
        assert len(sentences) == count
        assert scheme_of(sentences) == "bio"
        for sentence in sentences:
            assert sorted(kind for kind, *_ in entities(sentence.tags)) == ["person", "place", "thing", "time"]


def test_words_decide_much_of_sst2_and_word_order_the_rest():
    """A bag of words beats guessing but misses negation and contrast; told about those, it misses next to nothing."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev = (read_examples(TASKS["SST-2"], split, SAMPLES) for split in ("train", "dev"))

    def accuracy(features):
        bag = CountVectorizer(token_pattern=r"\S+")
        model = LogisticRegression(max_iter=1000)
        model.fit(bag.fit_transform(features(example.text) for example in train), [example.label for example in train])
        predictions = model.predict(bag.transform(features(example.text) for example in dev))
        return score(TASKS["SST-2"], predictions, [example.label for example in dev])["acc"]

    assert 0.65 < accuracy(lambda text: text) < 0.85
    assert accuracy(decisive_words) > 0.97


def decisive_words(text):
    """The clause that counts, with each denied adjective marked."""
    text = re.split(r" but | still , ", text)[-1]
    text = re.sub(r"although [^,]* , | , although [^,]*$", "", text)
    clauses = re.split(r" and ", text)
    return " ".join(re.sub(r"\b(?:not|never|far from)\b(.*?)(\S+)(\W*)$", r"\1 not-\2", clause) for clause in clauses)


def test_vocabulary_covers_the_texts():
    vocabulary = (SAMPLES / "vocab.txt").read_text().split("\n")[:-1]
    assert len(set(vocabulary)) == len(vocabulary)
    assert 800 <= len(vocabulary) <= 2000
    words = Counter(re.findall(r"[a-z]+", (SAMPLES / "corpus.txt").read_text().lower()))
    whole = sum(count for word, count in words.items() if word in set(vocabulary))
    assert whole / sum(words.values()) > 0.99


def test_corpus_has_documents_of_paragraphs():
    corpus = (SAMPLES / "corpus.txt").read_text()
    assert 200_000 < len(corpus) < 300_000
    documents = corpus.split("\n\n")
    assert len(documents) >= 100
    assert np.mean([document.strip().count("\n") + 1 for document in documents]) > 3


def test_samples_are_small():
    assert (
        sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc") < 1_000_000
    )
