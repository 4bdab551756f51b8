"""Any number of labels for one text: a list in a cell, words with a sign between them, or a column of 0 and 1 for each.

Lists are JSON's, or as Python prints them, which is how pandas writes them into a CSV file.
"""

import ast
import json
from collections import Counter

from files.errors import InputError
from tasks.labels import is_gap, match, same, tidy, truth

SEPARATORS = "|", ";", ","  # the first of these that a column's cells hold stands between their labels


def list_in(word):
    """The labels that a cell with a list names, list of str; None: it is no list. ValueError: a list of what are none.

    A nested thing that is no list, as {"a": 1}, is no label either.
    """
    found = _nested(word) if word[:1] in ("[", "{") else None
    if found is None:
        return None
    if not isinstance(found, list):
        raise ValueError(f"{word[:40]!r} is no label, nor a list of labels")
    for name in found:
        if not isinstance(name, (str, int, float)) or not tidy(str(name)):
            raise ValueError(f"{str(name)[:40]!r} in a list is no label")
    return [tidy(str(name)) for name in found]


def _nested(word):
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(word)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, (list, dict)) else None
    return None


def names_in(word, separator, known=()):
    """The labels that a cell names, list of str, which may be empty. ValueError: see list_in.

    known: labels; a cell that spells one of them is not taken apart.
    """
    found = list_in(word)
    if found is None and (not word or match(word, known) is not None):
        found = [word] if word else []
    if found is None:
        found = [name for part in word.split(separator) if (name := tidy(part))]
    return found


def separator_of(words):
    """What stands between the labels of cells that are no lists."""
    plain = [word for word in words if word[:1] != "["]
    return next((sign for sign in SEPARATORS if any(sign in word for word in plain)), SEPARATORS[0])


def marks(words, task):
    """What the cells of a row say, 1 for each of the task's labels that the text has: tuple of float.

    words: one cell, or as many as there are task.indicators. ValueError says what is wrong.
    """
    if task.indicators:
        found = []
        for name, word in zip(task.indicators, words, strict=True):
            if (value := truth(word)) is None:
                raise ValueError(f"{name} is {word!r}, not 0 or 1")
            found.append(float(value))
        return tuple(found)
    found = set()
    for name in names_in(words[0], task.separator, task.labels):
        index = match(name, task.labels)
        if index is None:
            raise ValueError(f"unknown label {name!r}; known are {', '.join(task.labels)}")
        found.add(index)
    return tuple(float(index in found) for index in range(len(task.labels)))


def says_nothing(words):
    """Whether cells of 0 and 1 say nothing of a text, so that it has no labels that are known."""
    return all(not word or is_gap(word) for word in words)


def found_in(path, words, separator, known, skip_bad_rows):
    """Counter of the labels, as they are spelled, in cells, list of (line, word). Raises InputError."""
    spellings = Counter()
    for line, word in words:
        if is_gap(word):
            continue
        try:
            spellings.update(names_in(word, separator, known))
        except ValueError as error:
            if not skip_bad_rows:
                raise InputError(f"{path}, line {line}: {error}") from None
    return spellings


def one_spelling_each(spellings):
    """Labels that nobody could tell apart are one: what they have alike → the spelling that most rows have.

    spellings: word → how many rows have it.
    """
    groups = {}
    for word in sorted(spellings, key=lambda word: (-spellings[word], word)):
        groups.setdefault(same(word), word)
    return groups
