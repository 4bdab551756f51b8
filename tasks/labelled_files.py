"""Anyone's own examples: which columns and labels a table has, as they are named, stored with a model, or found.

What was found is kept, to be said and written down: `OwnData`.
"""

import json
from collections import Counter
from dataclasses import dataclass

from files.errors import InputError
from tasks.glue import Example, Task
from tasks.labels import (
    BOOLEANS,
    is_gap,
    loose,
    match,
    number,
    number_gone_wrong,
    same,
    spelled_for_other_eyes,
    tidy,
    truth,
)
from tasks.tables import BAD, NO_LABEL, read_rows

TEXT_COLUMNS = (  # what files call their text or texts, in the order in which they are looked for
    ("sentence1", "sentence2"), ("text", "text_pair"), ("text_a", "text_b"), ("text1", "text2"),
    ("sentence_a", "sentence_b"), ("question1", "question2"), ("#1 String", "#2 String"), ("string1", "string2"),
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "passage"), ("question", "context"),
    ("question", "answer"), ("query", "title"), ("query", "passage"), ("query", "document"), ("claim", "evidence"),
    ("text",), ("sentence",), ("content",), ("review",), ("comment",), ("tweet",), ("title",),
)  # fmt: skip
SECOND = ("pair", "2", "b")  # what a second text's column may have after the name of the first one's
SECOND_COLUMNS = (  # what it may be called beside any first one, if there is one of them only
    "text_pair", "sentence_pair", "pair", "second_text", "second_sentence", "text2", "sentence2", "text_b",
    "sentence_b",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "gold_label", "class", "category", "sentiment", "target", "score")  # the same
UNDECIDED = "-"  # annotators did not agree
MOST_SAID = 20  # classes whose rows are counted in the line that is printed


# ------------------------------------------------------------------------------------------------------------- columns


def find_label(path, columns, name=None, required=True):
    """The column of the label: as named, or by its usual names, whose order decides.

    Raises InputError where there is none; not `required`: None then.
    """
    if name is not None:
        return _named(path, columns, "--label_column", name)
    for usual in LABEL_COLUMNS:
        if (column := _spelled(columns, usual)) is not None:
            return column
    if not required:
        return None
    raise InputError(f"{path}, line 1: which column is the label? Name it with --label_column: {', '.join(columns)}")


def find_texts(path, columns, text=None, text_pair=None, label=None, stored=None):
    """The columns of the one or two texts: as named, as `stored`, by their usual names, or the only one besides label.

    stored: the columns that a model was trained on, or None. Raises InputError.
    """
    if text or text_pair:
        if not text:
            raise InputError("--text_pair_column: needs --text_column too")
        flags = {"--text_column": text, "--text_pair_column": text_pair}
        return tuple(_named(path, columns, flag, name) for flag, name in flags.items() if name)
    others = [column for column in columns if column != label] or columns
    for names in (*([stored] if stored else []), *TEXT_COLUMNS):
        found = [_spelled(others, name) for name in names]
        if None not in found:
            if len(found) == 1 and names is not stored:
                found += _second(others, found[0])
            return tuple(found)
    if len(others) != 1:
        names = ", ".join(others) or "there is none"
        raise InputError(f"{path}, line 1: which column is the text? Name it with --text_column: {names}")
    return (others[0],)


def _second(columns, first):
    """The column of a second text beside the `first` one's, in a list that is empty if there is none for certain."""
    for names in ([f"{first}_{second}" for second in SECOND], SECOND_COLUMNS):
        found = dict.fromkeys(_spelled(columns, name) for name in names)
        found = [column for column in found if column not in (None, first)]
        if found:
            return found[:1] if names is not SECOND_COLUMNS or len(found) == 1 else []
    return []


def _named(path, columns, flag, name):
    column = _spelled(columns, name)
    if column is None:
        raise InputError(f"{path}, line 1: no column {name!r} ({flag}); it has {', '.join(columns)}")
    return column


def _spelled(columns, name):
    """The one of `columns` that is called `name`, in any case and with any separators; None if none is for certain."""
    index = match(name, tuple(columns))
    return None if index is None else columns[index]


# -------------------------------------------------------------------------------------------------------------- labels


def own_task(
    path, rows, text=None, text_pair=None, label=None, regression=None, known_labels=None, stored=None,
    skip_bad_rows=False, trained=False,
):  # fmt: skip
    """The Task that a training file describes.

    Args:
        text, text_pair, label: columns; None: found by their usual names, the text also as the only other column.
        regression: None: if some label is a number with a fraction and all are numbers.
        known_labels: labels in order, of a model that has a head already; else they are sorted, numbers as numbers.
        stored: columns that a model was trained on, {"text": […], "label": …}, looked for before the usual ones.
        skip_bad_rows: what is no number among numbers, or no label of a trained model, is left out, not an error.
        trained: the model is not trained on: it has no other labels than `known_labels`, where they are names.

    Raises:
        InputError: a column that is not there, labels that can't be told or are too few.
    """
    stored = stored or {}
    columns = rows.columns
    if label is None and stored.get("label"):
        label = _spelled(columns, stored["label"])
    label = find_label(path, columns, label)
    texts = find_texts(path, columns, text, text_pair, label, stored.get("text"))
    if label in texts:
        raise InputError(f"{path}: column {label!r} can't be both text and label")
    words = [(line, tidy(values.get(label, ""))) for line, values in rows]
    for line, word in words:
        if word[:1] in ("[", "{") and _is_nested(word):
            raise InputError(f"{path}, line {line}: {label} is {word[:40]}; a text can have one label here")
    known_labels = tuple(known_labels or ())
    if trained and not regression and known_labels != tuple(f"LABEL_{index}" for index in range(len(known_labels))):
        labels = _known_classes(path, words, known_labels, skip_bad_rows)
    else:
        on_purpose = regression is False and not trained
        if regression is None:
            regression, words = _kind(path, label, words, known_labels, skip_bad_rows)
        labels = () if regression else _classes(path, label, words, known_labels, rows, on_purpose)
    metric = "pearson and spearman" if regression else "acc"
    return Task("own data", "", texts, label, labels, metric, ("test.tsv",), undecided_label=UNDECIDED)


def _is_nested(word):
    try:
        return isinstance(json.loads(word), (list, dict))
    except (json.JSONDecodeError, RecursionError):
        return False


def _kind(path, label, words, known_labels, skip_bad_rows):
    """Whether labels, list of (line, word), are numbers to come close to; and those that can be labels at all."""
    given = [(line, word) for line, word in words if word]
    numbers = [value for _, word in given if (value := number(word)) is not None]
    fractions = any(not value.is_integer() for value in numbers)
    others = [(line, word) for line, word in given if number(word) is None]
    if not others or (known_labels and all(match(word, known_labels) is not None for _, word in others)):
        return fractions and not others, words
    there = [word for _, word in others if not is_gap(word, among_numbers=True)]
    for_other_eyes = [word for word in there if spelled_for_other_eyes(word)]
    most = 2 * (len(numbers) + len(for_other_eyes)) >= len(numbers) + len(there)
    meant = most and (fractions or any(set(word) & set(".,") for word in for_other_eyes))
    if numbers:
        meant = meant or all(number_gone_wrong(word) for _, word in others)
    else:
        meant = bool(there) and (meant or len(for_other_eyes) == len(there))
    if not meant:
        return False, words
    if not (skip_bad_rows and numbers):
        line, word = next(entry for entry in others if numbers or spelled_for_other_eyes(entry[1]))
        skip = "--skip_bad_rows leaves such rows out, " if numbers else ""
        advice = f"mend it; {skip}--no-regression makes classes of all"
        raise InputError(f"{path}, line {line}: {label} is {word!r}, not a number as the others are; {advice}")
    return fractions, [(line, word) for line, word in words if number(word) is not None]


def _known_classes(path, words, known_labels, skip_bad_rows):
    """The labels of a model, if each word, list of (line, word), is one of them or none at all."""
    for line, word in words:
        if not skip_bad_rows and not _is_no_label(word, known_labels) and match(word, known_labels) is None:
            advice = "train first, or mend it; --skip_bad_rows leaves such rows out"
            has = ", ".join(known_labels)
            raise InputError(f"{path}, line {line}: unknown label {word!r}; the model has {has}; {advice}")
    return known_labels


def _classes(path, label, words, known_labels, rows, on_purpose):
    spellings = Counter(word for _, word in words if word)
    named = [word for word in spellings if not is_gap(word)]
    gaps = [word for word in spellings if is_gap(word) and match(word, known_labels) is None]
    for word in gaps:
        if _is_no_label(word, [] if on_purpose else named) and not (_is_mark(word) and any(map(_is_mark, named))):
            del spellings[word]
    if known_labels and spellings and all(_may_be_called(word, known_labels) for word in spellings):
        return known_labels
    groups = {}
    for word in sorted(spellings, key=lambda word: (-spellings[word], word)):
        groups.setdefault(same(word), word)  # the spelling that most rows have
    if set(groups) <= {0, 1, *BOOLEANS} and len(groups) > len({truth(word) for word in groups.values()}) == 2:
        mixed = ", ".join(sorted(groups.values()))
        groups = {form: groups[form] for form in BOOLEANS} if set(BOOLEANS) <= set(groups) else {0: "0", 1: "1"}
        rows.note = "; ".join(filter(None, [rows.note, f"{mixed} are two classes"]))
    found = tuple(sorted(groups.values(), key=lambda word: (number(word) is None, number(word) or 0, word)))
    if len(found) < 2:
        left = [word for word in gaps if word not in spellings and word.lower() not in (UNDECIDED, "nan")]
        meant = f" ({', '.join(left)} is taken for none; --no-regression makes a class of it)" if left else ""
        only = ", ".join(found) or "empty"
        raise InputError(f"{path}: column {label!r} has only one label ({only}); two are needed{meant}")
    if len(found) > len(words) / 2 and len(found) > 100:
        raise InputError(f"{path}: column {label!r} has {len(found)} different labels; --label_column names another")
    return found


def examples(path, rows, task, labelled=True, skip_bad_rows=False):
    """list of Example, in the order of the rows.

    Args:
        labelled: rows without a label are left out; False: labels are not read.
        skip_bad_rows: rows that can't be used are left out too, of those with labels; `rows.left_out` counts both.

    Raises:
        InputError: naming file and line.
    """
    columns = {name: _spelled(rows.columns, name) or name for name in (*task.texts, task.label)}
    for name in (*task.texts, *[task.label] * labelled):
        if rows.header and columns[name] not in rows.columns:
            raise InputError(f"{path}, line {rows.header}: no column {name!r}; there are {', '.join(rows.columns)}")
    found, rows_without = [], 0
    for line, values in rows:
        try:
            word = tidy(values.get(columns[task.label], "")) if labelled else ""
            if missing := [name for name in task.texts if columns[name] not in values]:
                raise ValueError(f"no {missing[0]!r}; there are {', '.join(values)}")
            if labelled and columns[task.label] not in rows.columns:
                raise ValueError(f"no {task.label!r}; there are {', '.join(values)}")
            if labelled and (not word if task.is_regression else _is_no_label(word, task.labels)):
                rows_without += 1
                continue
            label = task.parse_label(word) if labelled else None
        except ValueError as error:
            if not (labelled and skip_bad_rows):
                raise InputError(f"{path}, line {line}: {error}") from None
            rows.left_out[BAD] += 1
            rows.first_bad = rows.first_bad or f"line {line}: {error}"
            continue
        texts = [values[columns[name]] for name in task.texts]
        found.append(Example(texts[0], texts[1] if task.is_pair else None, label))
    if rows_without:
        rows.left_out[NO_LABEL] = rows_without
    if not found:
        raise InputError(f"{path}: no examples in it; {_left_out(rows)}")
    return found


def _is_no_label(word, labels):
    """Whether a word says that a row has no label, where classes are called `labels`."""
    if not word or not is_gap(word) or match(word, tuple(labels)) is not None:
        return not word
    return word.lower() in (UNDECIDED, "nan") or any(number(name) is None for name in labels)


def _may_be_called(word, labels):
    """Whether a label to be trained on is one of a model's `labels`; yes is not renamed 1, though both may be meant."""
    index = match(word, labels)
    pair = [] if index is None else [word, tidy(labels[index])]
    return bool(pair) and (loose(pair[0]) == loose(pair[1]) or {same(name) for name in pair} <= {0, 1, *BOOLEANS})


def _is_mark(word):
    return not any(map(str.isalnum, word))


def _left_out(rows):
    words = [f"{count} {'row' if count == 1 else 'rows'} {NO_LABEL}" for count in [rows.left_out[NO_LABEL]] if count]
    words += [f"{count} that can't be used ({rows.first_bad})" for count in [rows.left_out[BAD]] if count]
    return "left out: " + ", ".join(words)


# ----------------------------------------------------------------------------------------------- what was understood


@dataclass
class File:
    """What one file was understood to hold; `cut`, how many texts are longer than the model reads, comes later."""

    path: str
    examples: int
    classes: dict | None  # label → rows
    left_out: dict
    note: str
    words: str  # of left_out
    cut: int = 0


class OwnData:
    """The files of a run, read once.

    Args:
        files: split → path, or None.
        columns: texts and label as named by flags, or None each.
        regression, known_labels, stored, skip_bad_rows, trained: see own_task.

    Attributes:
        task: the Task; files: split → File, of those that were read.
    """

    def __init__(
        self, files, columns, regression=None, known_labels=None, stored=None, skip_bad_rows=False, trained=False
    ):
        self._paths, self._skip, self.files = files, skip_bad_rows, {}
        first = files["train"] or files["dev"]
        self._rows = {first: read_rows(first, skip_bad_rows)}
        rows = self._rows[first]
        self.task = own_task(first, rows, *columns, regression, known_labels, stored, skip_bad_rows, trained)
        self._first, self._columns = first, rows.columns
        self._unused = [name for name in rows.columns if name not in (*self.task.texts, self.task.label)]

    def read(self, split):
        """The examples of a split; its rows are let go."""
        path, labelled = self._paths[split], split != "test"
        rows = self._rows.pop(path, None)
        if rows is None:
            rows = read_rows(path, self._skip and labelled)
        found = examples(path, rows, self.task, labelled, self._skip)
        classes = None
        if labelled and not self.task.is_regression:
            counts = Counter(example.label for example in found)
            classes = {name: counts[index] for index, name in enumerate(self.task.labels)}
        words = _left_out(rows) if rows.left_out else ""
        note = "; ".join(filter(None, [rows.note, self._second_text(rows.columns)]))
        self.files[split] = File(str(path), len(found), classes, dict(rows.left_out), note, words)
        return found

    def _second_text(self, columns):
        """What is said of a second text that the first file hasn't."""
        first = _spelled(columns, self.task.texts[0])
        second = [] if self.task.is_pair or first is None else _second(columns, first)
        unknown = [name for name in second if _spelled(self._columns, name) is None]
        return f"not used: {unknown[0]}, as {self._first} has no second text" if unknown else ""

    def facts(self):
        """All of it as JSON has it."""
        task = self.task
        files = {
            split: {"file": file.path, "examples": file.examples}
            | ({"classes": file.classes} if file.classes else {})
            | {"longer_than_max_seq_length": file.cut, "left_out": file.left_out}
            | ({"note": file.note} if file.note else {})
            for split, file in self.files.items()
        }
        return {
            "text_columns": list(task.texts), "label_column": task.label, "columns_not_used": self._unused,
            "kind": "regression" if task.is_regression else "classification", "labels": list(task.labels),
            "alike": self._alike(), **files,
        }  # fmt: skip

    def line(self, max_seq_length):
        """All of it in one line."""
        task = self.task
        parts = [f"own data: text from {' and '.join(map(repr, task.texts))}, label from {task.label!r}"]
        if self._unused:
            parts[0] += f" (not used: {', '.join(self._unused)})"
        parts.append("numbers, a regression" if task.is_regression else f"{len(task.labels)} classes")
        if alike := self._alike():
            parts[-1] += f", apart though spelled alike: {', '.join(alike)}"
        for file in self.files.values():
            words = f"{file.path}: {file.examples} examples"
            if file.classes:
                most = sorted(file.classes.items(), key=lambda entry: -entry[1])[:MOST_SAID]
                shown = [entry for entry in file.classes.items() if entry in most]
                more = len(file.classes) - len(shown)
                counts = ", ".join(f"{name} {count}" for name, count in shown)
                words += f" ({counts}{f', {more} more' if more else ''})"
            words += f", {file.cut} longer than {max_seq_length} tokens"
            parts.append(", ".join(part for part in (words, file.words, file.note) if part))
        return " ".join("; ".join(parts).split())

    def _alike(self):
        """Labels of which a person may think that two are one."""
        labels = self.task.labels
        form = truth if len(labels) > 2 and all(truth(name) is not None for name in labels) else loose
        forms = Counter(map(form, labels))
        return [name for name in labels if forms[form(name)] > 1]
