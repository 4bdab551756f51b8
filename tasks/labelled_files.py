"""Anyone's own examples: CSV, TSV and JSON lines, with columns and labels that are named or found.

CSV knows quotes, which may hold commas and line ends; in TSV, as in GLUE, quotes are data. Both begin with a header.
"""

import codecs
import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from files.errors import InputError
from tasks.glue import Example, Task

TEXT_COLUMNS = (  # what files call their text or texts, in the order in which they are looked for
    ("sentence1", "sentence2"), ("text_a", "text_b"), ("text1", "text2"), ("question1", "question2"),
    ("premise", "hypothesis"), ("question", "sentence"), ("query", "title"), ("text",), ("sentence",), ("content",),
    ("review",), ("comment",), ("tweet",), ("title",),
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "gold_label", "class", "category", "sentiment", "score", "target")


class Row(NamedTuple):
    line: int  # where it begins in its file
    values: dict  # column → text


def read_rows(path):
    """The rows of a .csv, .tsv, .jsonl or .json file (one object a line). Raises InputError naming file and line."""
    path = Path(path)
    readers = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_json_lines, ".json": _read_json_lines}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: unknown kind of file; known are {', '.join(readers)}")
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8; convert the file") from None
    rows = list(readers[path.suffix.lower()](path, text)) if text.strip() else []
    if not rows:
        raise InputError(f"{path}: no examples in it")
    return rows


def _read_csv(path, text):
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader)
        begin = reader.line_num + 1
        for cells in reader:
            if cells:
                yield _row(path, begin, header, cells)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _read_tsv(path, text):
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    header = lines[0].split("\t")
    for number, line in enumerate(lines[1:], start=2):
        if line:
            yield _row(path, number, header, line.split("\t"))


def _row(path, line, header, cells):
    if len(set(header)) < len(header):
        raise InputError(f"{path}, line 1: two columns have the same name ({', '.join(header)})")
    if len(cells) != len(header):
        raise InputError(f"{path}, line {line}: {len(cells)} columns where {len(header)} belong ({', '.join(header)})")
    return Row(line, dict(zip(header, cells, strict=True)))


def _read_json_lines(path, text):
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg}); one object a line") from None
        except RecursionError:
            raise InputError(f"{path}, line {number}: nested too deeply") from None
        if not isinstance(values, dict):
            raise InputError(f'{path}, line {number}: not an object like {{"text": …, "label": …}}')
        yield Row(number, {key: value if isinstance(value, str) else _words(value) for key, value in values.items()})


def _words(value):
    """A JSON value as a file of text would have it."""
    return "" if value is None else str(value) if isinstance(value, (int, float)) else json.dumps(value)


# ------------------------------------------------------------------------------------------------- columns and labels


def own_task(path, rows, text=None, text_pair=None, label=None, regression=None, known_labels=None):
    """The Task that a training file describes.

    Args:
        text, text_pair, label: columns; None: found by their usual names, the text also as the only other column.
        regression: None: if some label is a number with a fraction and all are numbers.
        known_labels: labels in order, of a model that has a head already; else they are sorted, numbers as numbers.

    Raises:
        InputError: a column that is not there, labels that can't be told or are too few.
    """
    columns = list(rows[0].values)
    label = _column(path, columns, "--label_column", label, LABEL_COLUMNS)
    texts = find_texts(path, columns, text, text_pair, label)
    words = [row.values.get(label, "") for row in rows]
    numbers = [_number(word) for word in words]
    if regression is None:
        regression = None not in numbers and not all(number.is_integer() for number in numbers)
    found = set(words) - {""}
    if regression:
        labels = ()
    elif known_labels and found <= set(known_labels):
        labels = tuple(known_labels)
    else:
        labels = tuple(sorted(found, key=lambda word: (_number(word) is None, _number(word) or 0, word)))
    if not regression and len(labels) < 2:
        raise InputError(
            f"{path}: column {label!r} has only one label ({', '.join(labels) or 'empty'}); two are needed"
        )
    if not regression and len(labels) > len(rows) / 2 and len(labels) > 100:
        raise InputError(f"{path}: column {label!r} has {len(labels)} different labels; --label_column names another")
    metric = "pearson and spearman" if regression else "acc"
    return Task("own data", "", texts, label, labels, metric, ("test.tsv",))


def find_texts(path, columns, text=None, text_pair=None, label=None):
    """The columns of the one or two texts: as named, by their usual names, or the only one besides the label."""
    if text or text_pair:
        if not text:
            raise InputError("--text_pair_column: needs --text_column too")
        return tuple(_column(path, columns, "--text_column", name, ()) for name in (text, text_pair) if name)
    lower = {column.lower(): column for column in columns}
    for names in TEXT_COLUMNS:
        if all(name in lower and lower[name] != label for name in names):
            return tuple(lower[name] for name in names)
    others = [column for column in columns if column != label]
    if len(others) != 1:
        raise InputError(f"{path}, line 1: which column is the text? Name it with --text_column: {', '.join(others)}")
    return (others[0],)


def _column(path, columns, flag, name, usual):
    if name is not None:
        if name not in columns:
            raise InputError(f"{path}, line 1: no column {name!r} ({flag}); it has {', '.join(columns)}")
        return name
    for column in columns:
        if column.lower() in usual:
            return column
    raise InputError(f"{path}, line 1: which column is the label? Name it with {flag}: {', '.join(columns)}")


def _number(word):
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def examples(path, rows, task, labelled=True):
    """list of Example, in the order of the rows. Raises InputError naming file and line."""
    found = []
    for line, values in rows:
        try:
            wanted = (*task.texts, task.label) if labelled else task.texts
            if missing := [column for column in wanted if column not in values]:
                raise ValueError(f"no {missing[0]!r}")
            texts = [values[column] for column in task.texts]
            label = task.parse_label(values[task.label]) if labelled else None
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
        found.append(Example(texts[0], texts[1] if task.is_pair else None, label))
    return found
