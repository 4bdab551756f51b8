"""Answers beside plain loops over the same logits, and their scores beside transformers' and PaddleNLP's."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import needs

from tasks.answer_scores import best_threshold, cmrc_exact, cmrc_f1, metric_for, pieces, scores
from tasks.answers import Search, find_spans, widest_windows
from tasks.questions import Question, Windows
from tokenizer import ConvBertTokenizer

WORDS = ("the", "a", "Rhine", "river", "flows,", "north", "in", "1815.", "is", "unbelievably", "old;", "河", "很长")
PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "rhine", "river", "flows", ",", "north", "in", "1815"),
    *(".", "is", "un", "##believ", "##ably", "old", ";", "河", "很", "长", "where", "?", "who"),
)
ALONE = SimpleNamespace(share=lambda pieces: pieces, add=lambda array: array)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(PIECES), "utf-8")
    return ConvBertTokenizer(path)


def questions(count, seed=0):
    draw = random.Random(seed)
    found = []
    for number in range(count):
        words = draw.choices(WORDS, k=draw.choice([0, 1, 5, 40, 90]))
        context = " ".join(words)
        answers = ()
        if len(words) > 4 and draw.random() < 0.7:
            first = draw.randrange(len(words) - 3)
            text = " ".join(words[first : first + draw.randint(1, 3)])
            answers = ((text, len(" ".join(words[:first])) + (first > 0)),)
        found.append(Question(str(number), draw.choice(["where?", "who is the Rhine?"]), context, answers))
    return found


class Random:
    """An engine whose logits depend on the windows alone."""

    def __init__(self):
        self.seen = {}

    def session(self):
        return np.errstate()

    def __call__(self, arrays):
        found = np.zeros([*arrays["input_ids"].shape, 2], np.float32)
        for row, (ids, mask) in enumerate(zip(arrays["input_ids"], arrays["attention_mask"], strict=True)):
            key = tuple(ids[: mask.sum()].tolist())
            if key not in self.seen:
                seed = abs(hash(key)) % 2**32
                self.seen[key] = np.random.default_rng(seed).normal(0, 3, [len(key), 2]).astype(np.float32)
            found[row, : len(key)] = self.seen[key]
        return found


def plainly(question, columns, rows, logits, search, unanswerable):
    """What Hugging Face's postprocess_qa_predictions does with one question: [(start, end, start logit, end logit)]."""
    found, null = [], None
    widest = widest_windows(columns)
    for row in rows:
        starts, ends = logits[row][:, 0], logits[row][:, 1]
        types = columns["token_type_ids"][row]
        inside = [place for place in range(len(types) - 1) if types[place] == 1]
        if null is None or starts[0] + ends[0] < null[2] + null[3]:
            null = 0, 0, starts[0], ends[0]
        for start in np.argsort(starts)[::-1][: search.n_best_size]:
            for end in np.argsort(ends)[::-1][: search.n_best_size]:
                fits = start in inside and end in inside and 0 <= end - start < search.max_answer_length
                if fits and widest[row][start]:
                    places = columns["offset_mapping"][row]
                    found.append((places[start][0], places[end][1], starts[start], ends[end]))
    if unanswerable:
        found.append(null)
    found.sort(key=lambda span: span[2] + span[3], reverse=True)
    found = found[: search.n_best_size]
    if unanswerable and null not in found:
        found.append(null)
    return found, null


@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (3, 2)])
def test_spans_are_those_of_plain_loops(tokenizer, unanswerable, n_best, longest):
    asked, windows, search = questions(150), Windows(40, 9, 5), Search(n_best, longest)
    engine = Random()
    spans = find_spans(engine, tokenizer, asked, windows, search, 7, ALONE)
    columns = windows.encode(tokenizer, asked)
    logits = [engine.seen[tuple(ids)] for ids in columns["input_ids"]]
    several = 0
    for index, question in enumerate(asked):
        rows = [row for row, sample in enumerate(columns["overflow_to_sample_mapping"]) if sample == index]
        several += len(rows) > 1
        expected, null = plainly(question, columns, rows, logits, search, unanswerable)
        mine = spans.best(question, index, unanswerable)
        if not expected:
            assert [entry["text"] for entry in mine] == [""]
            continue
        assert [entry["text"] for entry in mine] == [question.context[start:end] for start, end, *_ in expected]
        for entry, (*_, first, last) in zip(mine, expected, strict=True):
            assert entry.get("score", entry.get("start_logit", 0) + entry.get("end_logit", 0)) == pytest.approx(
                first + last
            )
            assert question.context[entry["start"] : entry["end"]] == entry["text"]
        assert sum(entry["probability"] for entry in mine) == pytest.approx(1)
        others = [span for span in expected if span != null]
        if others:
            margin = null[2] + null[3] - others[0][2] - others[0][3]
            assert spans.margin(index) == pytest.approx(margin, abs=1e-5)
    assert several > 30


def test_every_token_has_one_widest_window(tokenizer):
    asked = questions(60)
    columns = Windows(30, 8, 5).encode(tokenizer, asked)
    seen = {}
    for row, mine in enumerate(widest_windows(columns)):
        sample, types = columns["overflow_to_sample_mapping"][row], columns["token_type_ids"][row]
        for place in range(types.index(1), len(types) - 1):
            key = sample, columns["offset_mapping"][row][place]
            seen[key] = seen.get(key, 0) + bool(mine[place])
    assert set(seen.values()) == {1}


def test_the_loss_counts_questions_without_an_answer(tokenizer):
    asked = [question._replace(answers=()) for question in questions(20)]
    engine, windows = Random(), Windows(40, 9, 5)
    spans = find_spans(engine, tokenizer, asked, windows, Search(), 7, ALONE)
    losses = []
    for ids in windows.encode(tokenizer, asked)["input_ids"]:
        shares = np.exp(engine.seen[tuple(ids)].astype(np.float64))
        losses.append(-np.log(shares[0] / shares.sum(axis=0)).mean())
    assert spans.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_memory_does_not_grow_with_windows(tokenizer):
    """Spans of a text of 3 windows take as much as those of one of 300."""
    sizes = []
    for length in (60, 6000):
        asked = [Question("0", "where?", " ".join(["Rhine"] * length), ())]
        spans = find_spans(Random(), tokenizer, asked, Windows(40, 9, 5), Search(), 8, ALONE)
        sizes.append(sum(array.nbytes for array in vars(spans).values() if isinstance(array, np.ndarray)))
    assert sizes[0] == sizes[1]


# -------------------------------------------------------------------------------------------------------------- scores


def guesses(asked, seed=1):
    draw = random.Random(seed)
    for question in asked:
        words = question.context.split(" ")
        start = draw.randrange(len(words))
        right = [text for text, _ in question.answers] or [""]
        yield draw.choice([" ".join(words[start : start + draw.randint(0, 4)]), right[0], right[0].upper() + " the"])


def examples(asked):
    return [
        SimpleNamespace(qas_id=q.id, answers=[dict(text=text) for text, _ in q.answers], is_impossible=not q.answers)
        for q in asked
    ]


@needs("transformers")
@pytest.mark.parametrize("threshold", [0.0, -0.7, 1.3])
def test_scores_are_transformers(threshold):
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics", reason="transformers 5 has none")
    asked = questions(400)
    texts = list(guesses(asked))
    margins = np.random.default_rng(2).normal(size=len(asked))
    odds = {question.id: margin for question, margin in zip(asked, margins, strict=True)}
    said = dict(zip(odds, texts, strict=True))
    theirs = metrics.squad_evaluate(examples(asked), said, odds, threshold)
    found = scores(asked, texts, "squad", margins, threshold)
    assert found["exact_match"] == pytest.approx(theirs["exact"])
    assert found["f1"] == pytest.approx(theirs["f1"])
    assert found["has_ans_f1"] == pytest.approx(theirs["HasAns_f1"])
    assert found["no_ans_f1"] == pytest.approx(theirs["NoAns_f1"])
    assert found["best_f1"] == pytest.approx(theirs["best_f1"])
    assert found["best_f1_threshold"] == pytest.approx(theirs["best_f1_thresh"])


@needs("paddlenlp")
def test_scores_are_paddlenlps():
    from paddlenlp.metrics.squad import compute_exact, compute_f1

    asked = [question for question in questions(400) if question.answers]
    texts = list(guesses(asked))
    found = scores(asked, texts, "squad")
    pairs = [(question.answers[0][0], text) for question, text in zip(asked, texts, strict=True)]
    assert found["exact_match"] == pytest.approx(100 * np.mean([compute_exact(*pair) for pair in pairs]))
    assert found["f1"] == pytest.approx(100 * np.mean([compute_f1(*pair) for pair in pairs]))


def test_chinese_answers_by_character():
    assert pieces("《长江》全长6397公里, in China") == [*"长江全长", "6397", *"公里", ",", "in", "china"]
    assert cmrc_exact("长江。", "长江") == 1
    assert cmrc_f1("长江全长", "长江") == pytest.approx(2 / 3)  # a run of 2 of 4, all of it right
    assert cmrc_f1("长江", "江长") == pytest.approx(0.5)  # the longest run in both is one
    assert cmrc_f1("长江", "") == 0
    assert metric_for(["长江全长6397公里 (Rhine)"]) == "cmrc"
    assert metric_for(["The Yangtze (长江) is long"]) == "squad"


def test_the_best_threshold_answers_what_is_worth_it():
    gains, margins = np.array([1.0, -1, 1, -1]), np.array([-3.0, 2, 1, 3])
    assert best_threshold(gains, margins, 2) == (100.0, 1.0)
    assert best_threshold(-np.ones(3), np.zeros(3), 3) == (100.0, 0.0)
