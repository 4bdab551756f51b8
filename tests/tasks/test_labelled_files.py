"""Anyone's files: what is found in them, and what is said of those that can't be used."""

import json
import re

import pytest

from files.errors import InputError
from tasks.glue import Example
from tasks.labelled_files import examples, own_task
from tasks.own_data import OwnData
from tasks.tables import read_rows


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
        ("x y 0.5", ("0.5", "x", "y")),
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
    (
        "a.csv",
        "text,label\nx,null\ny,a\n",
        r"only one label \(a\); two are needed \(null is taken for none; --no-regress",
    ),
    ("a.csv", "text,label\nx,a\ny,a\n", r"column 'label' has only one label \(a\); two are needed"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_what_can_not_be_used(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as error:
        task_of(path)
    assert "\n" not in str(error.value)


BAD_ROWS = [
    ("text,label\nx,\ny,-\n", r"dev\.csv: no examples in it; left out: 2 rows without a label"),
    ("text,label\nx,a\ny,c\n", r"line 3: unknown label 'c'; own data has a, b"),
    ("note,label\nx,a\n", r"dev\.csv, line 1: no column 'text'; there are note, label"),
    ("text,note\nx,a\n", r"dev\.csv, line 1: no column 'label'; there are text, note"),
    ("sep=,\ntext,note\nx,a\n", r"dev\.csv, line 2: no column 'label'"),
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


PAIRS = [
    "text,text_pair,label", "label,Text Pair,TEXT", "text,text2,label", "sentence,sentence_b,label",
    "sentence_A,sentence_B,label", "Sentence 1,Sentence 2,label", "question,answer,label", "text_pair,id,text,label",
    "premise,hypothesis,text,gold_label", "sentence,text_pair,label", "text,pair,label", "text,second_text,label",
    "text,sentence2,label", "id,Second Sentence,sentence,label",
]  # fmt: skip


@pytest.mark.parametrize("header", PAIRS)
def test_second_texts_are_not_dropped(tmp_path, header):
    width = header.count(",") + 1
    rows = "".join(",".join([f"cell{row}"] * width) + "\n" for row in range(2))
    assert len(task_of(written(tmp_path, "a.csv", f"{header}\n{rows}")).texts) == 2


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("score,text,label", "label"), ("target,score,text", "target"), ("score,sentiment,text", "sentiment"),
        ("text,score", "score"), ("category,class,text", "class"), ("Gold Label,score,text", "Gold Label"),
        ("gold-label,text", "gold-label"),
    ],
)  # fmt: skip
def test_the_label_whatever_the_order_of_columns(tmp_path, header, label):
    width = header.count(",") + 1
    rows = "".join(",".join([word] * width) + "\n" for word in "ab")
    task = task_of(written(tmp_path, "a.csv", f"{header}\n{rows}"))
    assert (task.label, task.texts) == (label, ("text",))


def test_columns_of_another_file_in_another_spelling(tmp_path):
    task = task_of(written(tmp_path, "a.csv", "Text,Text Pair,Label\na,b,x\nc,d,y\n"))
    path = written(tmp_path, "b.jsonl", '{"label": "Y", "text_pair": "b", "text": "a"}\n')
    assert examples(path, read_rows(path), task) == [Example("a", "b", 1)]
    named = task_of(tmp_path / "a.csv", text="text", text_pair="textpair", label="LABEL")
    assert (named.texts, named.label) == (("Text", "Text Pair"), "Label")


def test_columns_of_the_training(tmp_path):
    path = written(tmp_path, "a.csv", "id,Meinung,class,text\n1,gut,x,a\n2,schlecht,y,b\n")
    stored = {"text": ["meinung"], "label": "class"}
    assert task_of(path, stored=stored).texts == ("Meinung",)
    assert task_of(path, stored={"text": ["absent"], "label": "absent"}).texts == ("text",)
    assert task_of(path, stored=stored, text="text").texts == ("text",)


SAME_LABELS = [  # in the training file, in another file, classes
    ('{"text": "a", "label": true}\n{"text": "b", "label": false}\n', "text,label\na,true\nb,false\n"),
    ('{"text": "a", "label": true}\n{"text": "b", "label": false}\n', "text,label\na,TRUE\nb, False \n"),
    ('{"text": "a", "label": 1.0}\n{"text": "b", "label": 0.0}\n', "text,label\na,1\nb,0\n"),
    ('{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', "text,label\na,1.0\nb,0.0\n"),
    ('{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', "text,label\na,true\nb,false\n"),
    ('{"text": "a", "label": true}\n{"text": "b", "label": false}\n', "text,label\na,yes\nb,no\n"),
    ('{"text": "a", "label": "T"}\n{"text": "b", "label": "F"}\n', "text,label\na,1\nb,0\n"),
    ('{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', "text,label\na,Yes\nb,No\n"),
    ('{"text": "a", "label": 1}\n{"text": "b", "label": -1}\n', "text,label\na,1\nb,\u22121\n"),
    ('{"text": "a", "label": "Pos"}\n{"text": "b", "label": "Neg"}\n', "text,label\na, pos\nb,NEG\n"),
    ('{"text": "a", "label": "not_ok"}\n{"text": "b", "label": "is_ok"}\n', "text,label\na,Not OK\nb,is-ok\n"),
]


@pytest.mark.parametrize(("train", "dev"), SAME_LABELS)
def test_labels_that_are_the_same(tmp_path, train, dev):
    path = written(tmp_path, "train.jsonl", train)
    task, other = task_of(path), written(tmp_path, "dev.csv", dev)
    expected = [example.label for example in examples(path, read_rows(path), task)]
    assert sorted(expected) == [0, 1]
    assert [example.label for example in examples(other, read_rows(other), task)] == expected


def test_labels_of_one_file_that_are_one(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\na,1\nb,1.0\nc, 1 \nd,0\n")
    task = task_of(path)
    assert task.labels == ("0", "1")
    assert [example.label for example in examples(path, read_rows(path), task)] == [1, 1, 1, 0]
    assert task_of(written(tmp_path, "b.csv", "text,label\na,true\nb,True\nc,true\nd,false\n")).labels == (
        "false",
        "true",
    )
    apart = written(tmp_path, "c.csv", "text,label\na,A\nb,a\nc,B\n")
    assert task_of(apart).labels == ("A", "B", "a")
    data = OwnData({"train": apart, "dev": apart}, (None, None, None))
    assert "3 classes, apart though spelled alike: A, a" in data.line(128)


def test_a_model_s_labels_in_another_spelling(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\nx,positive\ny,negative\n")
    task = task_of(path, known_labels=["POSITIVE", "NEGATIVE"])
    assert task.labels == ("POSITIVE", "NEGATIVE")
    assert [example.label for example in examples(path, read_rows(path), task)] == [0, 1]
    one = written(tmp_path, "b.csv", "text,label\nx,positive\n")
    assert task_of(one, known_labels=["POSITIVE", "NEGATIVE"]).labels == ("POSITIVE", "NEGATIVE")


@pytest.mark.parametrize(
    ("words", "labels", "without"),
    [
        ("neutral - entailment - -", ("entailment", "neutral"), 3),
        ("yes no nan", ("no", "yes"), 1),
        ("yes no N/A n/a NA null NULL <NA> #N/A NaT -- \u2013 \u2014 ?", ("no", "yes"), 12),
        ("yes no none unknown None", ("None", "no", "none", "unknown", "yes"), 0),
        ("! ? ? --", ("!", "--", "?"), 0),  # marks are the labels
        ("+ - +", ("+", "-"), 0),
        ("1 0 -", None, 0),  # among numbers it may be one
        ("0.5 1.5 2", (), 0),
    ],
)
def test_rows_without_a_label_are_left_out(tmp_path, words, labels, without):
    rows = [f"t{index},{word}" for index, word in enumerate(words.split())]
    path = written(tmp_path, "a.csv", "\n".join(["text,gold_label", *rows, "last,"]) + "\n")
    if labels is None:
        with pytest.raises(InputError, match=r"line 4: gold_label is '-', not a number as the others are"):
            task_of(path)
        return
    data = OwnData({"train": path, "dev": path}, (None, None, None))
    assert data.task.labels == labels
    assert len(data.read("dev")) == len(rows) - without
    assert data.facts()["dev"]["left_out"] == {"without a label": without + 1}
    words = f"left out: {without + 1} {'rows' if without else 'row'} without a label"
    assert words in data.line(128)


def test_json_rows_without_a_label(tmp_path):
    lines = [
        '{"text": "a", "label": "x"}',
        '{"text": "b", "label": null}',
        '{"text": "c"}',
        '{"text": "d", "label": "y"}',
    ]
    path = written(tmp_path, "a.jsonl", "\n".join(lines))
    assert [example.text for example in examples(path, read_rows(path), task_of(path))] == ["a", "d"]


@pytest.mark.parametrize("wrong", ["nan", "inf", "n/a", "1,5", "50%", "five", "#DIV/0!", "-", "?"])
def test_numbers_gone_wrong_never_become_classes(tmp_path, wrong):
    content = f'sentence1,sentence2,score\na,b,0.5\nc,d,"{wrong}"\ne,f,1.25\n'
    path = written(tmp_path, "a.csv", content)
    with pytest.raises(InputError, match=r"a\.csv, line 3: score is .*, not a number as the others are; .*--skip_bad"):
        task_of(path)
    data = OwnData({"train": path, "dev": path}, (None, None, None), skip_bad_rows=True)
    assert data.task.is_regression
    assert [example.label for example in data.read("train")] == [0.5, 1.25]
    assert data.facts()["train"]["left_out"] == {"bad": 1}
    assert re.search(r"left out: 1 that can't be used \(line 3: score is", data.line(128))


@pytest.mark.parametrize(
    ("words", "bad"),
    [("1 2 nan 5", "nan"), ("0 1 n/a", "n/a"), ("1 1,5 2", "1,5"), ("0,5 1,25", "0,5"), ("50% 70%", "50%")],
)
def test_whole_numbers_gone_wrong(tmp_path, words, bad):
    rows = "".join(f'text {index},"{word}"\n' for index, word in enumerate(words.split()))
    path = written(tmp_path, "a.csv", f"text,label\n{rows}")
    with pytest.raises(InputError, match=f"label is {bad!r}, not a number as the others are"):
        task_of(path)
    if "nan" not in words:
        assert bad in task_of(path, regression=False).labels


WRONG = [  # labels, the row in fault, those left with --skip_bad_rows: None if none are
    ('"1,5"|"2,5"|nan', 2, None),
    ('n/a|"1,5"|"2,5"', 3, None),
    ("2.5%|5.0%|7.5%", 2, None),
    ("50%|2.5%", 2, None),
    ("\u22121.5|\u22122.5", 2, None),
    ('"1.000,5"|"2.000,5"', 2, None),
    ('"1,5"|"2,5"|x', 2, None),
    ("3|4|5|<NA>|2", 5, 4),
    ("3|4|None|2", 4, 3),
    ("0|1|0|1|1|None", 7, 5),
    ("0|1|NaT", 4, 2),
    ("0.5|1.5|None|None|None", 4, 2),
    ('0.5|1.5|nan|-|""|n/a|None|x', 4, 2),
]


@pytest.mark.parametrize(("words", "line", "left"), WRONG)
def test_numbers_gone_wrong_in_other_ways(tmp_path, words, line, left):
    rows = [f"text {index},{word}" for index, word in enumerate(words.split("|"))]
    path = written(tmp_path, "a.csv", "\n".join(["text,label", *rows]) + "\n")
    with pytest.raises(InputError, match=rf"a\.csv, line {line}: label is .*, not a number as the others are; mend it"):
        task_of(path)
    if left is None:
        with pytest.raises(InputError, match=rf"a\.csv, line {line}: .*; mend it; --no-regression"):
            OwnData({"train": path, "dev": path}, (None, None, None), skip_bad_rows=True)
    else:
        data = OwnData({"train": path, "dev": path}, (None, None, None), skip_bad_rows=True)
        assert len(data.read("train")) == left
        assert sum(data.facts()["train"]["left_out"].values()) == len(rows) - left
        assert data.task.is_regression == ("." in words)
    purpose = task_of(path, regression=False)
    assert len(purpose.labels) == len({word for word in words.split("|") if word not in ("nan", "-", '""')})


def test_rows_without_a_label_in_another_file(tmp_path):
    train = written(tmp_path, "train.csv", "text,label\na,x\nb,y\n")
    dev = written(tmp_path, "dev.csv", "text,label\na,x\nb,N/A\nc,null\nd,?\ne,\u2014\n")
    data = OwnData({"train": train, "dev": dev}, (None, None, None))
    assert data.read("dev") == [Example("a", None, 0)]
    assert data.facts()["dev"]["left_out"] == {"without a label": 4}


def test_a_model_may_have_a_label_that_looks_like_a_gap(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\na,x\nb,N/A\nc,--\n")
    for trained in (False, True):
        data = OwnData({"train": None, "dev": path}, (None,) * 3, known_labels=["n/a", "x"], trained=trained)
        assert data.task.labels == ("n/a", "x")
        assert [example.label for example in data.read("dev")] == [1, 0]


@pytest.mark.parametrize(
    ("words", "names"), [("yes no", ("0", "1")), ("1 0", ("no", "yes")), ("T F", ("False", "True"))]
)
def test_yes_and_no_of_a_model(tmp_path, words, names):
    path = written(tmp_path, "a.csv", "text,label\n" + "".join(f"a,{word}\n" for word in words.split()))
    task = task_of(path, known_labels=names, trained=True)
    assert task.labels == names
    assert [example.label for example in examples(path, read_rows(path), task)] == [1, 0]
    assert task_of(path, known_labels=names).labels == tuple(sorted(words.split()))  # training keeps the file's names


def test_labels_that_a_model_has_not(tmp_path):
    path = written(tmp_path, "x.csv", "text,label\na,pos\nb,N/A\nc,posi\nd,NEG\n")
    named = dict(known_labels=["neg", "pos"], trained=True)
    with pytest.raises(InputError, match=r"x\.csv, line 4: unknown label 'posi'; the model has neg, pos"):
        task_of(path, **named)
    data = OwnData({"train": None, "dev": path}, (None, None, None), skip_bad_rows=True, **named)
    assert data.task.labels == ("neg", "pos")
    assert [example.label for example in data.read("dev")] == [1, 0]
    assert data.facts()["dev"]["left_out"] == {"bad": 1, "without a label": 1}


def test_true_and_false_in_several_spellings(tmp_path):
    rows = [{"text": "a", "label": word} for word in (True, "False", 0, "true", 1)]
    path = written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    data = OwnData({"train": path, "dev": path}, (None, None, None))
    assert data.task.labels == ("False", "True")
    assert [example.label for example in data.read("train")] == [1, 0, 0, 1, 1]
    assert "0, 1, False, True are two classes" in data.line(128)
    path = written(tmp_path, "b.csv", "text,label\na,yes\nb,no\nc,true\n")
    data = OwnData({"train": path, "dev": path}, (None, None, None))
    assert "3 classes, apart though spelled alike: true, yes" in data.line(128)


def test_a_second_text_that_the_training_had_not(tmp_path):
    train = written(tmp_path, "train.csv", "text,label\na,x\nb,y\n")
    dev = written(tmp_path, "dev.csv", "id,text,text_pair,label\n1,a,b,x\n")
    data = OwnData({"train": train, "dev": dev}, (None, None, None))
    data.read("dev")
    assert f"not used: text_pair, as {train} has no second text" in data.line(128)


def test_several_second_texts_are_none_for_certain(tmp_path):
    path = written(tmp_path, "a.csv", "text,pair,sentence2,label\na,b,c,x\nd,e,f,y\n")
    assert task_of(path).texts == ("text",)


def test_words_among_whole_numbers_are_classes(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\na,1\nb,2\nc,other\n")
    assert task_of(path).labels == ("1", "2", "other")


def test_several_labels_for_a_text_are_refused(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"text": "a", "labels": ["x"]}\n{"text": "b", "labels": ["x", "y"]}\n')
    with pytest.raises(InputError, match=r'a\.jsonl, line 1: labels is \["x"\]; a text can have one label here'):
        task_of(path, several=False)


def test_unknown_labels_are_bad_rows(tmp_path):
    train = written(tmp_path, "train.csv", "text,label\nx,a\ny,b\n")
    dev = written(tmp_path, "dev.csv", "text,label\nx,a\ny,c\nz\n")
    data = OwnData({"train": train, "dev": dev, "test": dev}, (None, None, None), skip_bad_rows=True)
    assert data.read("dev") == [Example("x", None, 0)]
    assert data.facts()["dev"]["left_out"] == {"bad": 2}
    with pytest.raises(InputError, match=r"dev\.csv, line 4: 1 columns"):
        data.read("test")  # answers belong to rows


def test_what_was_understood(tmp_path):
    train = written(tmp_path, "train.csv", "id;text;text_pair;label\n1;a;b;x\n2;c;d;y\n3;e;f;x\n4;g;h;\n")
    dev = written(tmp_path, "dev.csv", "text,text_pair,label\na,b,X\n")
    data = OwnData({"train": train, "dev": dev}, (None, None, None))
    assert [example.label for example in data.read("train")] == [0, 1, 0]
    assert [example.label for example in data.read("dev")] == [0]
    data.files["train"].cut = 2
    assert data.line(128) == (
        "own data: text from 'text' and 'text_pair', label from 'label' (not used: id); 2 classes; "
        f"{train}: 3 examples (x 2, y 1), 2 longer than 128 tokens, left out: 1 row without a label, "
        "separated by semicolons; "
        f"{dev}: 1 examples (x 1, y 0), 0 longer than 128 tokens"
    )
    facts = json.loads(json.dumps(data.facts()))
    assert facts["text_columns"] == ["text", "text_pair"]
    assert facts["columns_not_used"] == ["id"]
    assert facts["kind"] == "classification"
    assert facts["train"] == {
        "file": str(train), "examples": 3, "classes": {"x": 2, "y": 1}, "longer_than_max_seq_length": 2,
        "left_out": {"without a label": 1}, "note": "separated by semicolons",
    }  # fmt: skip


def test_many_classes_stay_one_line(tmp_path):
    rows = "".join(f"text,class {index}\n" * (index + 1) for index in range(60))
    path = written(tmp_path, "a.csv", f"text,label\n{rows}")
    data = OwnData({"train": path, "dev": path}, (None, None, None))
    data.read("train")
    line = data.line(128)
    assert "class 59 60" in line
    assert "40 more)" in line
    assert len(data.facts()["train"]["classes"]) == 60


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_predict_s_own_answers_are_read(tmp_path, name, pair):
    second = {"text_pair": "b"} if pair else {}
    if name == "a.csv":
        header = ["text", *second, "label", "probability x", "probability y"]
        content = "\n".join(
            ",".join(line) for line in (header, ["a", *second.values(), "x", "0.7", "0.3"]) for _ in "1"
        )
        content += "\n" + ",".join(["c", *second.values(), "y", "0.3", "0.7"]) + "\n"
    else:
        rows = [{"text": text, **second, "label": label, "probabilities": {"x": 0.5}} for text, label in ("ax", "cy")]
        content = "\n".join(map(json.dumps, rows))
    path = written(tmp_path, name, content)
    task = task_of(path)
    assert task.texts == ("text", *second)
    assert task.labels == ("x", "y")
