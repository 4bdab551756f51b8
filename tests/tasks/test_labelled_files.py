"""Anyone's files: what is found in them, and what is said of those that can't be used."""

import json

import pytest

from files.errors import InputError
from tasks.glue import Example
from tasks.labelled_files import examples, own_task, read_rows


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def task_of(path, **named):
    return own_task(path, read_rows(path), **named)


SAME = {  # the same two examples in each format
    "a.csv": 'text,label\n"Good, ""really"" good",yes\nBad,no\n',
    "a.tsv": 'label\ttext\nyes\tGood, "really" good\nno\tBad\n',
    "a.jsonl": '{"text": "Good, \\"really\\" good", "label": "yes"}\n\n{"label": "no", "text": "Bad"}\n',
    "a.json": '{"text": "Good, \\"really\\" good", "label": "yes"}\r\n{"label": "no", "text": "Bad"}',
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("change", ["", "bom", "crlf"])
def test_every_format_holds_the_same(tmp_path, name, change):
    content = SAME[name].encode()
    content = b"\xef\xbb\xbf" + content if change == "bom" else content
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if change == "crlf" else content
    path = written(tmp_path, name, content)
    task = task_of(path)
    assert (task.texts, task.label, task.labels) == (("text",), "label", ("no", "yes"))
    assert examples(path, read_rows(path), task) == [Example('Good, "really" good', None, 1), Example("Bad", None, 0)]
    assert examples(path, read_rows(path), task, labelled=False)[1] == Example("Bad", None, None)


def test_pairs_and_other_columns(tmp_path):
    path = written(tmp_path, "a.csv", "id,premise,Hypothesis,gold_label\n1,A,B,x\n2,C,D,y\n")
    task = task_of(path)
    assert task.texts == ("premise", "Hypothesis")
    assert examples(path, read_rows(path), task)[1] == Example("C", "D", 1)
    named = task_of(path, text="Hypothesis", text_pair="id", label="premise")
    assert (named.texts, named.label, named.labels) == (("Hypothesis", "id"), "premise", ("A", "C"))


def test_the_only_other_column_is_the_text(tmp_path):
    path = written(tmp_path, "a.csv", "Meinung,label\nGut,1\nSchlecht,0\n")
    assert task_of(path).texts == ("Meinung",)


def test_line_ends_in_quoted_cells(tmp_path):
    path = written(tmp_path, "a.csv", 'text,label\n"one\ntwo",a\n\nthree,b\nfour,c,d\n')
    with pytest.raises(InputError, match=r"a\.csv, line 6: 3 columns where 2 belong"):
        read_rows(path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("b a c", ("a", "b", "c")),
        ("10 9 1", ("1", "9", "10")),  # numbers as numbers
        ("2 1 1", ("1", "2")),
        ("0.5 1 2", ()),  # a fraction: a regression
        ("1 x 0.5", ("0.5", "1", "x")),
    ],
)
def test_labels_are_found(tmp_path, labels, expected):
    rows = "".join(f"{index},{word}\n" for index, word in enumerate(labels.split()))
    path = written(tmp_path, "a.csv", f"text,label\n{rows}")
    task = task_of(path)
    assert task.labels == expected
    assert task.is_regression == (expected == ())
    if not expected:
        assert [example.label for example in examples(path, read_rows(path), task)] == [0.5, 1.0, 2.0]


def test_labels_of_a_trained_head_keep_their_order(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\nx,a\ny,b\n")
    assert task_of(path, known_labels=["b", "c", "a"]).labels == ("b", "c", "a")
    assert task_of(path, known_labels=["b", "c"]).labels == ("a", "b")


def test_whole_numbers_are_classes_unless_told(tmp_path):
    path = written(tmp_path, "a.jsonl", "\n".join(json.dumps({"text": "x", "score": n}) for n in (1, 2, 5)))
    assert task_of(path).labels == ("1", "2", "5")
    assert task_of(path, regression=True).is_regression
    fractions = written(tmp_path, "b.csv", "text,label\nx,1.5\ny,2.5\n")
    assert task_of(fractions, regression=False).labels == ("1.5", "2.5")


def test_json_values_that_are_no_text(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"text": 12, "label": true}\n{"text": ["a"], "label": false}\n')
    rows = read_rows(path)
    assert [row.values for row in rows] == [{"text": "12", "label": "True"}, {"text": '["a"]', "label": "False"}]


def test_a_line_of_100_000_characters(tmp_path):
    for name, content in (("a.csv", "text,label\n{},a\nx,b\n"), ("a.tsv", "text\tlabel\n{}\ta\nx\tb\n")):
        path = written(tmp_path, name, content.format("word " * 40_000))
        assert len(examples(path, read_rows(path), task_of(path))[0].text) == 200_000


BAD = [
    ("a.txt", "x", r"a\.txt: unknown kind of file; known are \.csv"),
    ("a.csv", "", r"a\.csv: no examples in it"),
    ("a.csv", "text,label\n", r"a\.csv: no examples in it"),
    ("a.csv", b"text,label\nx,a\n\xff,b\n", r"a\.csv, line 3: not UTF-8"),
    ("a.csv", "text,label\nx,a\ny\n", r"a\.csv, line 3: 1 columns where 2 belong \(text, label\)"),
    ("a.csv", 'text,label\nx,a\n"y,b\n', r"a\.csv, line 3: not CSV"),
    ("a.csv", "text,text\nx,a\n", r"a\.csv, line 1: two columns have the same name"),
    ("a.tsv", "text\tlabel\nx\ta\tb\n", r"a\.tsv, line 2: 3 columns where 2 belong"),
    ("a.jsonl", '{"text": "x", "label": 1}\n{"text": }\n', r"a\.jsonl, line 2: not JSON"),
    ("a.jsonl", "[1, 2]\n", r"a\.jsonl, line 1: not an object like"),
    ("a.jsonl", "[" * 100_000 + "\n", r"a\.jsonl, line 1: nested too deeply"),
    ("a.csv", "text,note\nx,a\n", r"line 1: which column is the label\? Name it with --label_column: text, note"),
    ("a.csv", "a,b,label\nx,y,1\n", r"line 1: which column is the text\? Name it with --text_column: a, b"),
    ("a.csv", "text,label\nx,a\ny,a\n", r"column 'label' has only one label \(a\); two are needed"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_what_can_not_be_used(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as error:
        task_of(path)
    assert "\n" not in str(error.value)


BAD_ROWS = [
    ("text,label\nx,a\ny,\n", r"line 3: the label is missing"),
    ("text,label\nx,a\ny,c\n", r"line 3: unknown label 'c'; own data has a, b"),
    ("note,label\nx,a\n", r"line 2: no 'text'"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ROWS)
def test_rows_that_do_not_fit_the_training_data(tmp_path, content, message):
    task = task_of(written(tmp_path, "train.csv", "text,label\nx,a\ny,b\n"))
    path = written(tmp_path, "dev.csv", content)
    with pytest.raises(InputError, match=message):
        examples(path, read_rows(path), task)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (dict(text="body"), r"no column 'body' \(--text_column\); it has text, label"),
        (dict(label="class"), r"no column 'class' \(--label_column\)"),
        (dict(text_pair="text"), "--text_pair_column: needs --text_column too"),
    ],
)
def test_columns_that_are_not_there(tmp_path, named, message):
    path = written(tmp_path, "a.csv", "text,label\nx,a\ny,b\n")
    with pytest.raises(InputError, match=message):
        task_of(path, **named)


def test_a_column_of_names_is_no_label(tmp_path):
    rows = "".join(f"text {index},name {index}\n" for index in range(150))
    path = written(tmp_path, "a.csv", f"text,title\n{rows}")
    with pytest.raises(InputError, match="'title' has 150 different labels; --label_column names another"):
        task_of(path, label="title")
