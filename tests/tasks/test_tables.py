"""Tables as spreadsheets, pandas and other tools write them: what is read, and what is said of the rest."""

import json

import pytest

from files.errors import InputError
from tasks.tables import read_rows


def rows_of(folder, name, content, **flags):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path, **flags)


def values(rows):
    return [tuple(row.values.values()) for row in rows]


EXPECTED = [("Good, really", "yes"), ("Bad; so bad", "no")]
SAME = {
    "semicolons": ("a.csv", 'text;label\nGood, really;yes\n"Bad; so bad";no\n'),
    "tabs": ("a.csv", "text\tlabel\nGood, really\tyes\nBad; so bad\tno\n"),
    "bars": ("a.csv", "text|label\nGood, really|yes\nBad; so bad|no\n"),
    "Excel's first line": ("a.csv", 'sep=;\ntext;label\nGood, really;yes\n"Bad; so bad";no\n'),
    "blanks after commas": ("a.csv", '"text", "label"\n"Good, really", "yes"\n"Bad; so bad", "no"\n'),
    "blanks around names": ("a.csv", ' text , label\n"Good, really",yes\nBad; so bad,no\n'),
    "two byte-order marks": ("a.csv", '\ufeff\ufefftext,label\n"Good, really",yes\nBad; so bad,no\n'),
    "columns without a name": ("a.csv", 'text,label,,\n"Good, really",yes,,\nBad; so bad,no,,\n'),
    "blank lines": ("a.csv", 'text,label\n\n"Good, really",yes\n   \nBad; so bad,no\n\n\n'),
    "blank lines in TSV": ("a.tsv", "text\tlabel\n\nGood, really\tyes\n \nBad; so bad\tno\n\n"),
    "an array": ("a.json", json.dumps([{"text": a, "label": b} for a, b in EXPECTED])),
    "an array with line ends": ("a.json", json.dumps([{"text": a, "label": b} for a, b in EXPECTED], indent=2)),
    "an array in .jsonl": ("a.jsonl", json.dumps([{"text": a, "label": b} for a, b in EXPECTED])),
    "an array in an object": ("a.json", json.dumps({"data": [{"text": a, "label": b} for a, b in EXPECTED]})),
    "the same with line ends": ("a.jsonl", json.dumps({"x": [{"text": a, "label": b} for a, b in EXPECTED]}, indent=2)),
    "and more": (
        "a.json",
        json.dumps({"a": [1, {}], "rows": [{"text": a, "label": b} for a, b in EXPECTED], "n": [{"b": 1}]}),
    ),
    "ndjson": ("a.ndjson", "\n".join(json.dumps({"text": a, "label": b}) for a, b in EXPECTED)),
}


@pytest.mark.parametrize("form", SAME)
def test_every_form_holds_the_same(tmp_path, form):
    rows = rows_of(tmp_path, *SAME[form])
    assert values(rows) == EXPECTED
    assert rows.columns == ["text", "label"]


def test_what_was_guessed_is_noted(tmp_path):
    assert rows_of(tmp_path, *SAME["semicolons"]).note == "separated by semicolons"
    assert rows_of(tmp_path, *SAME["tabs"]).note == "separated by tabs"
    assert rows_of(tmp_path, "a.csv", "text,label\na;b,c\n").note == ""
    assert values(rows_of(tmp_path, "a.csv", "text,label;x\na;b,c;d\n")) == [("a;b", "c;d")]  # a comma comes first
    text = "text;label;why, if so\na, b, c;yes;\nd;no;x\n"
    assert values(rows_of(tmp_path, "b.csv", text)) == [("a, b, c", "yes", ""), ("d", "no", "x")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_empty_line_of_a_single_column_is_an_empty_text(tmp_path, name):
    rows = rows_of(tmp_path, name, "text\na\n\n\nb\n\n")
    assert [(row.line, row.values["text"]) for row in rows] == [(2, "a"), (3, ""), (4, ""), (5, "b"), (6, "")]
    assert values(rows_of(tmp_path, name, "text\n\na\n\nb\n\n")) == [("",), ("a",), ("",), ("b",), ("",)]
    assert values(rows_of(tmp_path, name, "text\r\na\r\n\r\n")) == [("a",), ("",)]
    assert values(rows_of(tmp_path, name, "text\na\n")) == values(rows_of(tmp_path, name, "text\na")) == [("a",)]
    assert values(rows_of(tmp_path, "b.csv", 'text\n""\nb\n')) == [("",), ("b",)]


def test_empty_texts_among_other_columns(tmp_path):
    assert values(rows_of(tmp_path, "a.csv", "text,id\na,1\n,2\n,\nb,3\n")) == [
        ("a", "1"), ("", "2"), ("", ""), ("b", "3"),
    ]  # fmt: skip
    assert values(rows_of(tmp_path, "a.jsonl", '{"text": ""}\n\n{"text": null}\n{"text": "b"}\n')) == [
        ("",), ("",), ("b",),
    ]  # fmt: skip


def test_columns_that_only_later_rows_have(tmp_path):
    rows = rows_of(tmp_path, "a.jsonl", '{"text": "a"}\n{"label": "x", "text": "b"}\n')
    assert rows.columns == ["text", "label"]


def test_lines_of_an_array(tmp_path):
    rows = rows_of(tmp_path, "a.json", '[\n {"text": "a"},\n\n {"text":\n  "b"}, {"text": "c"}]\n')
    assert [row.line for row in rows] == [2, 4, 5]


def test_bad_rows_are_left_out_and_counted(tmp_path):
    for name, content in (
        ("a.csv", "text,label\na,x\nb\nc,d,e\nf,y\n"),
        ("a.tsv", "text\tlabel\na\tx\nb\nc\td\te\nf\ty\n"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text"\n[1]\n{"text": "f", "label": "y"}\n'),
    ):
        rows = rows_of(tmp_path, name, content, skip_bad_rows=True)
        assert values(rows) == [("a", "x"), ("f", "y")]
        assert dict(rows.left_out) == {"bad": 2}
        assert rows.first_bad.startswith("line 3: " if name != "a.jsonl" else "line 2: ")
        with pytest.raises(InputError, match=r"line [23]: "):
            read_rows(tmp_path / name)


def test_a_spreadsheet_s_quotes_in_tsv(tmp_path):
    rows = rows_of(tmp_path, "a.tsv", 'text\tlabel\n"He said ""no"""\tx\n"half\ty\n')
    assert values(rows)[0] == ('"He said ""no"""', "x")
    assert rows.note.startswith("line 2 looks quoted by a spreadsheet: quotes are data in a .tsv")
    assert rows_of(tmp_path, "b.tsv", 'text\tlabel\n"He" and "she"\tx\n"a" or ""b"\ty\n').note == ""


def test_cells_that_are_all_in_quotes_in_tsv(tmp_path):
    rows = rows_of(tmp_path, "a.tsv", 'text\tlabel\n"a"\t"x"\n"b"\t"y"\n')
    assert values(rows)[0] == ('"a"', '"x"')
    assert rows.note.startswith("all of 'text', 'label' is in quotes: quotes are data in a .tsv; if a spreadsheet")
    assert rows_of(tmp_path, "a.tsv", 'text\tlabel\n"a"\t0\n"b, c"\t1\n').note.startswith("all of 'text' is in quotes")
    assert rows_of(tmp_path, "a.tsv", 'text\tlabel\n"a"\t0\nb\t1\n').note == ""


def test_an_array_in_an_object(tmp_path):
    text = '{"version": {"data": []},\n "data": [\n  {"text": "a"},\n  {"text":\n "b"}\n ]\n}\n'
    rows = rows_of(tmp_path, "a.json", text)
    assert [(row.line, row.values) for row in rows] == [(3, {"text": "a"}), (4, {"text": "b"})]
    assert rows.note == "one object: its array of records is read"
    one_row = rows_of(tmp_path, "b.json", '{"text": "a", "spans": [{"from": 1}]}')
    assert [row.values for row in one_row] == [{"text": "a", "spans": '[{"from": 1}]'}]


HALVES = ['{"text": "a", "label": "x"}\n{"text": "y\\ud800", "label": "x"}\n', '{"id": 1}\n{"\\udc00": 1}\n']


@pytest.mark.parametrize("content", HALVES)
def test_half_a_character(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: \\u(d800|dc00) is half a character"):
        rows_of(tmp_path, "a.jsonl", content)
    rows = rows_of(tmp_path, "a.jsonl", content, skip_bad_rows=True)
    assert (len(rows), dict(rows.left_out)) == (1, {"bad": 1})
    whole = rows_of(tmp_path, "b.jsonl", '{"text": "\\ud83d\\ude00"}')
    assert values(whole) == [("\U0001f600",)]


SNLI = "gold_label\tsentence1\tsentence2\tlabel1\tlabel2\n"
BAD = [
    ("a.tsv", 'text\tlabel\n"one\ntwo"\tx\n', r"a\.tsv, line 2: 1 columns where 2 .*; quotes are data in a \.tsv"),
    ("a.tsv", '"text"\t"label"\n"a"\t"x"\n', r"a\.tsv, line 1: quotes are data in a \.tsv; .* call the file \.csv"),
    ("a.tsv", f"{SNLI}neutral\ta\tb\tneutral\n", r"a\.tsv, line 2: 4 columns where 5 .*; SNLI's and .* the \.jsonl"),
    ("a.txt", f"{SNLI}neutral\ta\tb\tneutral\n", r"a\.txt: unknown kind of file; known are .*; SNLI's .* the \.jsonl"),
    ("a.tsv", "text,label\na,x\n", r"a\.tsv, line 1: no tab in it; separated otherwise, it is CSV: call it \.csv"),
    ("a.csv", "text;label\na;x\nb\n", r"a\.csv, line 3: 1 columns where 2 belong \(text, label\)"),
    ("a.csv", "sep=;\ntext;label\na;x;y\n", r"a\.csv, line 3: 3 columns where 2 belong"),
    ("a.csv", "text,label\ra,x\rb,y\r", r"a\.csv, line 1: its lines end in \\r alone, as on old Macs; save it with"),
    ("a.tsv", "text\tlabel\ra\tx\rb\ty\n", r"a\.tsv, line 1: its lines end in \\r alone"),
    ("a.tsv", "text\ra\rb", r"a\.tsv, line 1: its lines end in \\r alone"),
    ("a.csv", ",,\na,b,c\n", r"a\.csv, line 1: no names of columns"),
    ("a.csv", "text, text \na,b\n", r"a\.csv, line 1: two columns have the same name"),
    ("a.json", '[{"text": "a"},\n {"text": }]\n', r"a\.json, line 2: not JSON"),
    ("a.json", '[{"text": "a"}\n {"text": "b"}]\n', r"a\.json, line 2: not JSON \(a comma or \] is missing\)"),
    ("a.json", '[{"text": "a"}]\n{"text": "b"}\n', r"a\.json, line 2: not JSON \(something follows the array\)"),
    ("a.json", '[{"text": "a"},\n', r"a\.json, line 2: not JSON"),
    ("a.json", '[{"text": "a"},\n"b"]', r"a\.json, line 2: not an object like"),
    ("a.json", "[]", r"a\.json: no examples in it"),
    ("a.json", '{\n "text": "a"\n}', r"a\.json, line 1: not JSON .*; one object a line, or an array of objects"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_what_can_not_be_read(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as error:
        rows_of(tmp_path, name, content)
    assert "\n" not in str(error.value)
