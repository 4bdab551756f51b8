"""Anyone's own examples: what a table's labels are, and the examples in it."""

from collections import Counter

from files.errors import InputError
from tasks import several_labels
from tasks.columns import find_labels, find_texts, spelled
from tasks.glue import Example, Task
from tasks.labels import (
    BOOLEANS,
    by_meaning,
    is_gap,
    loose,
    match,
    number,
    number_gone_wrong,
    order_of,
    same,
    spelled_for_other_eyes,
    tidy,
    truth,
)
from tasks.tables import BAD, NO_LABEL

UNDECIDED = "-"  # annotators did not agree
OWN = dict(leaderboard_files=("test.tsv",), undecided_label=UNDECIDED)  # of a Task


def own_task(
    path, rows, text=None, text_pair=None, label=None, regression=None, known_labels=None, stored=None,
    skip_bad_rows=False, trained=False, several=None,
):  # fmt: skip
    """The Task that a training file describes.

    Args:
        text, text_pair, label: columns; None: found by their usual names, the text also as the only other column.
            label may be a list: of more than one, columns of 0 and 1.
        regression: None: if some label is a number with a fraction and all are numbers.
        known_labels: labels in order, of a model that has a head already; else they are sorted, numbers as numbers.
        stored: columns that a model was trained on, {"text": […], "label": …}, looked for before the usual ones.
        skip_bad_rows: what is no number among numbers, or no label of a trained model, is left out, not an error.
        trained: the model is not trained on: it has no other labels than `known_labels`, where they are names.
        several: a text may have any number of labels; None: if it has a list of them, or columns of 0 and 1.

    Raises:
        InputError: a column that is not there, labels that can't be told or are too few.
    """
    stored = stored or {}
    found = find_labels(path, rows.columns, label, stored.get("label"))
    texts = find_texts(path, rows.columns, text, text_pair, found, stored.get("text"))
    if both := [name for name in found if name in texts]:
        raise InputError(f"{path}: column {both[0]!r} can't be both text and label")
    label, known_labels = found[0], tuple(known_labels or ())
    words = [(line, tidy(values.get(label, ""))) for line, values in rows]
    if _several(path, found, words, several, skip_bad_rows):
        if regression:
            raise InputError(f"{path}: {label} has lists of labels, and a text gets one number here")
        form = _indicated if len(found) > 1 else _listed
        kinds = form(path, rows, found, words, known_labels, skip_bad_rows, trained and not _are_unnamed(known_labels))
        return Task("own data", "", texts, metric="micro_f1", several=True, **kinds, **OWN)
    if trained and not regression and not _are_unnamed(known_labels):
        labels = _known_classes(path, words, known_labels, skip_bad_rows)
    else:
        on_purpose = regression is False and not trained
        if regression is None:
            regression, words = _kind(path, label, words, known_labels, skip_bad_rows)
        labels = () if regression else _classes(path, label, words, known_labels, rows, on_purpose)
    return Task("own data", "", texts, label, labels, "pearson and spearman" if regression else "acc", **OWN)


def _are_unnamed(labels):
    return labels == tuple(f"LABEL_{index}" for index in range(len(labels)))


# -------------------------------------------------------------------------------------------- any number of labels


def _several(path, columns, words, several, skip_bad_rows):
    """Whether a text may have any number of labels. Raises InputError: it may not, but has."""
    for line, word in words if len(columns) == 1 else ():
        try:
            found = several_labels.list_in(word)
        except ValueError as error:
            if skip_bad_rows:
                continue
            raise InputError(f"{path}, line {line}: {columns[0]} is {error}") from None
        if found is not None and several is None:
            return True
        if found is not None and not several:
            raise InputError(f"{path}, line {line}: {columns[0]} is {word[:40]}; a text can have one label here")
    if len(columns) > 1 and several is False:
        raise InputError(f"{path}: {', '.join(columns)} give any number of labels for a text; the model gives one")
    return bool(several) or len(columns) > 1


def _indicated(path, rows, columns, words, known_labels, skip_bad_rows, trained):
    """What a Task says of columns of 0 and 1."""
    if known_labels and (order := order_of(known_labels, columns)):
        return dict(label="", labels=known_labels, indicators=tuple(columns[index] for index in order))
    if trained:
        has = ", ".join(known_labels)
        raise InputError(f"{path}: columns {', '.join(columns)} are not the model's labels, {has}; train first")
    return dict(label="", labels=tuple(columns), indicators=tuple(columns))


def _listed(path, rows, columns, words, known_labels, skip_bad_rows, trained):
    """What a Task says of a column of lists, or of words with a sign between them."""
    (label,) = columns
    separator = several_labels.separator_of([word for _, word in words])
    if any(separator in word for _, word in words if word[:1] != "["):
        rows.note = "; ".join(filter(None, [rows.note, f"labels in a cell are separated by {separator!r}"]))
    spellings = several_labels.found_in(path, words, separator, known_labels, skip_bad_rows)
    labels = known_labels
    if not trained and not (known_labels and all(_may_be_called(word, known_labels) for word in spellings)):
        labels = _sorted(several_labels.one_spelling_each(spellings).values())
    if not labels:
        raise InputError(f"{path}: column {label!r} has no labels")
    if labels in (("0", "1"), ("0",), ("1",)):
        raise InputError(f"{path}: column {label!r} holds but 0 and 1, which is one label for a text: no --multi_label")
    _require_few(path, label, labels, len(words))
    return dict(label=label, labels=labels, separator=separator)


# --------------------------------------------------------------------------------------------- one label, or a number


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
    groups = several_labels.one_spelling_each(spellings)
    if set(groups) <= {0, 1, *BOOLEANS} and len(groups) > len({truth(word) for word in groups.values()}) == 2:
        mixed = ", ".join(sorted(groups.values()))
        groups = {form: groups[form] for form in BOOLEANS} if set(BOOLEANS) <= set(groups) else {0: "0", 1: "1"}
        rows.note = "; ".join(filter(None, [rows.note, f"{mixed} are two classes"]))
    found = _sorted(groups.values())
    if len(found) < 2:
        left = [word for word in gaps if word not in spellings and word.lower() not in (UNDECIDED, "nan")]
        meant = f" ({', '.join(left)} is taken for none; --no-regression makes a class of it)" if left else ""
        only = ", ".join(found) or "empty"
        raise InputError(f"{path}: column {label!r} has only one label ({only}); two are needed{meant}")
    _require_few(path, label, found, len(words))
    return found


def _sorted(names):
    return tuple(sorted(names, key=lambda word: (number(word) is None, number(word) or 0, word)))


def _require_few(path, label, found, rows):
    if len(found) > rows / 2 and len(found) > 100:
        raise InputError(f"{path}: column {label!r} has {len(found)} different labels; --label_column names another")


def examples(path, rows, task, labelled=True, skip_bad_rows=False):
    """list of Example, in the order of the rows.

    Args:
        labelled: rows without a label are left out; False: labels are not read.
        skip_bad_rows: rows that can't be used are left out too, of those with labels; `rows.left_out` counts both.

    Raises:
        InputError: naming file and line.
    """
    label_columns = task.label_columns if labelled else ()
    columns = {name: spelled(rows.columns, name) or name for name in (*task.texts, *label_columns)}
    for name in (*task.texts, *label_columns):
        if rows.header and columns[name] not in rows.columns:
            raise InputError(f"{path}, line {rows.header}: no column {name!r}; there are {', '.join(rows.columns)}")
    found, rows_without = [], 0
    for line, values in rows:
        try:
            words = [tidy(values.get(columns[name], "")) for name in label_columns]
            if missing := [name for name in task.texts if columns[name] not in values]:
                raise ValueError(f"no {missing[0]!r}; there are {', '.join(values)}")
            if strange := [name for name in label_columns if columns[name] not in rows.columns]:
                raise ValueError(f"no {strange[0]!r}; there are {', '.join(values)}")
            if labelled and _says_nothing(words, task):
                rows_without += 1
                continue
            label = task.parse_label(*words) if labelled else None
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
        raise InputError(f"{path}: no examples in it; {left_out_words(rows)}")
    return found


def _says_nothing(words, task):
    """Whether the cells of a row, list of str, give no label for its text."""
    if task.indicators:
        return several_labels.says_nothing(words)
    return not words[0] if task.is_regression else _is_no_label(words[0], task.labels)


def _is_no_label(word, labels):
    """Whether a word says that a row has no label, where classes are called `labels`."""
    if not word or not is_gap(word) or match(word, tuple(labels)) is not None:
        return not word
    return word.lower() in (UNDECIDED, "nan") or any(number(name) is None for name in labels)


def _may_be_called(word, labels):
    """Whether a label to be trained on is one of a model's `labels`; yes is not renamed 1, though both may be meant,
    but 1 is called positive, or whatever else labels.MEANINGS has for it."""
    index = match(word, labels)
    pair = [] if index is None else [word, tidy(labels[index])]
    if not pair or by_meaning(word, labels) is not None:
        return bool(pair)
    return loose(pair[0]) == loose(pair[1]) or {same(name) for name in pair} <= {0, 1, *BOOLEANS}


def _is_mark(word):
    return not any(map(str.isalnum, word))


def left_out_words(rows):
    words = [f"{count} {'row' if count == 1 else 'rows'} {NO_LABEL}" for count in [rows.left_out[NO_LABEL]] if count]
    words += [f"{count} that can't be used ({rows.first_bad})" for count in [rows.left_out[BAD]] if count]
    return "left out: " + ", ".join(words)
