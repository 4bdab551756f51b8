"""Texts with any number of labels: what their cells may look like, and what is refused."""

import json

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from files.errors import InputError
from tasks.class_table import by_class, table
from tasks.glue import TASKS
from tasks.labelled_files import examples, own_task
from tasks.losses import balanced_weights, losses, mean_loss
from tasks.own_data import OwnData
from tasks.scores import METRICS, compared_by, score
from tasks.tables import read_rows


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    return path


def read(path, **named):
    rows = read_rows(path)
    task = own_task(path, rows, **named)
    return task, [example.label for example in examples(path, rows, task)]


FORMS = {  # the same three texts: of a and b, of none, of b
    "a.jsonl": '{"text": "x", "labels": ["b", "a"]}\n{"text": "y", "labels": []}\n{"text": "z", "labels": ["b"]}\n',
    "b.json": '[{"text": "x", "labels": ["a", "b", "a"]}, {"text": "y", "labels": []}, {"text": "z", "labels": "b"}]',
    "c.csv": "text,labels\nx,\"['a', 'b']\"\ny,[]\nz,['b']\n",
    "d.csv": 'text,labels\nx,a|b\ny,[]\nz,"b "\n',
    "e.csv": 'text,labels\nx,"a, b"\ny,[]\nz,b\n',
    "f.tsv": "text\tlabels\nx\tb;a\ny\t[]\nz\tb\n",
    "g.csv": "text,a,b,c\nx,1,1,9\ny,0,0,9\nz,0,1.0,9\n",
    "h.jsonl": '{"text": "x", "b": true, "a": 1}\n{"text": "y", "a": false, "b": 0}\n{"text": "z", "b": "1", "a": 0}\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_labels_in_every_form(tmp_path, name):
    columns = ["a", "b"] if name[0] in "gh" else None
    asked = True if name[0] in "def" else None
    task, found = read(written(tmp_path, name, FORMS[name]), label=columns, several=asked)
    assert ("separated by" in rows_note(tmp_path / name, columns, asked)) == (name[0] in "def")
    assert (task.several, task.labels, task.texts) == (True, ("a", "b"), ("text",))
    assert found == [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0)]
    assert (task.problem, task.main_metric) == ("multi_label_classification", "micro_f1")


def rows_note(path, label, several):
    rows = read_rows(path)
    own_task(path, rows, label=label, several=several)
    return rows.note.replace("separated by commas", "").replace("separated by bars", "")


def test_numbers_are_names_in_their_order(tmp_path):
    path = written(tmp_path, "a.jsonl", "".join(f'{{"text": "x", "labels": [{n}]}}\n' for n in (10, 9, 2, 10)))
    task, found = read(path)
    assert task.labels == ("2", "9", "10")
    assert found[0] == (0.0, 0.0, 1.0)


def test_a_label_that_holds_the_separator_is_known_whole(tmp_path):
    path = written(tmp_path, "a.csv", 'text,labels\nx,"arts, crafts"\ny,"war,arts, crafts"\n')
    known = ["arts, crafts", "war"]
    rows = read_rows(path)
    task = own_task(path, rows, known_labels=known, trained=True, several=True)
    with pytest.raises(InputError, match=r"a\.csv, line 3: unknown label 'arts'; known are arts, crafts, war"):
        examples(path, rows, task)
    assert examples(path, rows[:1] and _first(rows), task)[0].label == (1.0, 0.0)


def _first(rows):
    del rows[1:]
    return rows


def test_a_trained_models_order_and_its_columns(tmp_path):
    path = written(tmp_path, "a.csv", "text,b,a\nx,1,0\ny,0,1\n")
    task, found = read(path, label=["b", "a"], known_labels=["a", "b"], trained=True)
    assert (task.labels, task.indicators) == (("a", "b"), ("a", "b"))
    assert found == [(0.0, 1.0), (1.0, 0.0)]
    task, found = read(path, stored={"text": ["text"], "label": ["a", "b"]}, known_labels=["a", "b"], trained=True)
    assert found == [(0.0, 1.0), (1.0, 0.0)]


@pytest.mark.parametrize(
    ("name", "content", "named", "message"),
    [
        ("a.jsonl", '{"text": "x", "labels": ["a", {"b": 1}]}\n', {}, r"line 1: labels is .* in a list is no label"),
        ("a.jsonl", '{"text": "x", "labels": {"a": 1}}\n', {}, r"line 1: labels is .* is no label, nor a list"),
        ("a.jsonl", '{"text": "x", "labels": ["a"]}\n', dict(several=False), r"line 1: .*a text can have one label"),
        ("a.jsonl", '{"text": "x", "labels": [0.5]}\n', dict(regression=True), r"a text gets one number here"),
        ("a.jsonl", '{"text": "x", "labels": []}\n', {}, r"column 'labels' has no labels"),
        (
            "a.csv",
            "text,toxic\nx,1\ny,0\n",
            dict(label="toxic", several=True),
            r"but 0 and 1, which is one label",
        ),
        ("a.csv", "text,a,b\nx,1,0\ny,2,0\n", dict(label=["a", "b"]), r"a\.csv, line 3: a is '2', not 0 or 1"),
        ("a.csv", "text,a,b\nx,1,\n", dict(label=["a", "b"]), r"a\.csv, line 2: b is '', not 0 or 1"),
        ("a.csv", "text,a,b\nx,1,0\n", dict(label=["a", "c"]), r"line 1: no column 'c' \(--label_column\)"),
        ("a.csv", "text,a,b\nx,1,0\n", dict(label=["a", "A"]), r"--label_column: a, A names a column twice"),
        ("a.csv", "text,a,b\nx,1,0\n", dict(label=["a", "b"], text="b"), r"column 'b' can't be both text and label"),
        ("a.csv", "text,a,b\nx,1,0\n", dict(label=["a", "b"], several=False), r"the model gives one"),
        ("a.csv", "text,a,b\nx,1,0\n", dict(label=["a", "b"], known_labels=["u", "v"], trained=True), r"train first"),
    ],
)
def test_what_is_refused(tmp_path, name, content, named, message):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, name, content), **named)


def test_rows_without_labels_and_bad_ones_are_counted(tmp_path):
    lines = [["a"], None, [], ["a", "b"], [{}], ["b"]]
    path = written(tmp_path, "a.jsonl", "".join(json.dumps({"text": "x", "labels": line}) + "\n" for line in lines))
    data = OwnData({"train": path, "dev": path}, (None, None, None), skip_bad_rows=True)
    assert [example.label for example in data.read("train")] == [(1, 0), (0, 0), (1, 1), (0, 1)]
    line = data.line(128)
    assert "any number of 2 labels for a text" in line
    assert "4 examples (a 2, b 2, none of them 1)" in line
    assert "left out: 1 row without a label, 1 that can't be used" in line
    facts = data.facts()
    assert facts["kind"] == "multi-label classification"
    assert facts["train"]["classes"] == {"a": 2, "b": 2, "none of them": 1}


# ---------------------------------------------------------------------------------------------- scores, losses, tables

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(size=(50, 3))
MARKS = (RANDOM.random((50, 3)) < 0.3).astype(np.float32)


@pytest.fixture
def several(tmp_path):
    path = written(tmp_path, "s.jsonl", '{"text": "x", "labels": ["a", "b", "c"]}\n')
    return read(path)[0]


def counted(found, right):
    hits, given, there = (found * right).sum(), found.sum(), right.sum()
    return 2 * hits / (given + there) if given + there else 0.0


def test_micro_and_macro_f1_against_counts(several):
    found = (LOGITS > 0).astype(int)
    scores = score(several, found, MARKS)
    assert list(scores) == ["micro_f1", "macro_f1", "acc"]
    assert scores["micro_f1"] == pytest.approx(counted(found, MARKS))
    assert scores["macro_f1"] == pytest.approx(np.mean([counted(found[:, c], MARKS[:, c]) for c in range(3)]))
    assert scores["acc"] == pytest.approx((found == MARKS).all(1).mean())
    rows = by_class(several, found, MARKS)
    assert {name: row["f1"] for name, row in rows.items()} == pytest.approx(
        {name: counted(found[:, c], MARKS[:, c]) for c, name in enumerate("abc")}
    )
    assert sum(row["examples"] for row in rows.values()) == MARKS.sum()


def test_losses_and_weights_equal_paddles(several):
    logits, marks = paddle.to_tensor(LOGITS.astype("f")), paddle.to_tensor(MARKS)
    expected = float(F.binary_cross_entropy_with_logits(logits, marks))
    assert float(mean_loss(several, logits, marks)) == pytest.approx(expected, rel=1e-6)
    assert losses(several, LOGITS, MARKS).mean() == pytest.approx(expected, rel=1e-5)
    weights = balanced_weights(several, MARKS)
    by_hand = np.where(MARKS == 1, weights[1], weights[0]) * -np.log(1 / (1 + np.exp(-LOGITS * (2 * MARKS - 1))))
    assert float(mean_loss(several, logits, marks, weights)) == pytest.approx(by_hand.mean(), rel=1e-5)
    assert np.where(MARKS == 1, weights[1], weights[0]).mean(0) == pytest.approx(1)  # over all examples


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    task, labels = TASKS["MNLI"], RANDOM.choice(3, 60, p=[0.7, 0.2, 0.1])
    weights = balanced_weights(task, labels)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)
    logits = RANDOM.normal(size=(60, 3))
    loss = mean_loss(task, paddle.to_tensor(logits.astype("f")), paddle.to_tensor(labels), weights)
    assert float(loss) == pytest.approx((losses(task, logits, labels) * weights[labels]).mean(), rel=1e-5)
    assert np.isfinite(balanced_weights(task, labels[labels != 2])).all()  # a class without an example


def test_every_metric_of_a_task_is_among_its_scores(several):
    found, marks = (LOGITS > 0).astype(int), MARKS
    given = {"CoLA": ([1, 0, 1, 0], [1, 1, 0, 0]), "STS-B": ([1, 2, 3], [2, 1, 5])}
    for task, (one, other) in [(several, (found, marks)), *((TASKS[name], pair) for name, pair in given.items())]:
        for metric in METRICS[task.problem]:
            chosen = compared_by(task, metric)
            scores = score(chosen, one, other)
            assert chosen.main_metric == metric
            assert np.isfinite(scores[metric])
            assert set(score(task, one, other)) <= set(scores)


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("MNLI", "f1", "not for MNLI, 3 classes; there are acc, macro_f1, weighted_f1, mcc$"),
        ("MNLI", "pearson", "not for MNLI"),
        ("STS-B", "acc", "not for STS-B, a regression; there are pearson, spearman"),
        ("SST-2", "micro_f1", "not for SST-2, 2 classes"),
    ],
)
def test_a_metric_that_a_task_has_not(name, metric, message):
    with pytest.raises(InputError, match=message):
        compared_by(TASKS[name], metric)


def test_the_table_stands_in_columns_in_chinese_too(several):
    classes = {"新闻": dict(precision=0.5, recall=0.25, f1=1 / 3, examples=4)}
    classes["a label"] = dict(precision=1.0, recall=1.0, f1=1.0, examples=1200)
    header, *rows = table(classes)
    assert rows[0] == "新闻              0.5000  0.2500  0.3333         4"
    assert rows[1] == "a label           1.0000  1.0000  1.0000      1200"
    assert rows[2] == "mean, and all     0.7500  0.6250  0.6667      1204"
    assert header == "class          precision  recall      f1  examples"
    many = {f"c{index}": dict(precision=0.0, recall=0.0, f1=0.0, examples=index) for index in range(50)}
    assert table(many)[-1] == "10 more classes in results.json"
    assert len(table(many)) == 43
