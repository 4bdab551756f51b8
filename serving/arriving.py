"""What comes to be answered, from files, pipes and terminals: texts, questions, words, each as soon as it is there."""

import select
import sys
from collections import deque
from pathlib import Path

from files.errors import InputError
from files.json_files import json_lines
from tasks.columns import find_label, find_texts
from tasks.tables import READERS, read_rows

CHUNK = 4096  # texts that are read, sorted by length and answered at a time, if they are there
PATIENCE = 0.02  # seconds without a further line after which those that came are answered


def is_table(path):
    return path != "-" and Path(path).suffix.lower() in READERS


class ArrivingLines:
    """The lines of a file, a pipe or a terminal, as bytes, each as soon as it is there; "-" is standard input."""

    def __init__(self, path):
        try:
            self._file = open(path, "rb") if path != "-" else getattr(sys.stdin, "buffer", None)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error.strerror})") from None
        if self._file is None:
            raise InputError("standard input is closed; --input_file takes a file too")
        self._lines, self._begun, self._ended = deque(), [], False

    def __iter__(self):
        while self._lines or not self._ended:
            if self._lines:
                yield self._lines.popleft()
            else:
                self._read()

    def _read(self):
        block = self._file.read1(2**20)  # what is there, and no more than that
        *lines, rest = block.split(b"\n")
        for line in lines:
            self._lines.append(b"".join([*self._begun, line]))
            self._begun.clear()
        self._begun.append(rest)
        if not block:
            self._ended = True
            if any(self._begun):
                self._lines.append(b"".join(self._begun))

    def ready(self):
        """Whether another line, or the end, is there or comes at once."""
        while not (self._lines or self._ended):
            if not select.select([self._file], [], [], PATIENCE)[0]:
                return False
            self._read()
        return True


def read_texts(path, text_column=None, text_pair_column=None, lines=None, stored=None):
    """Yields (text, text_pair or None). Raises InputError.

    path: a file, or "-" for standard input; lines: its own, if it is no table and they were begun already; stored: the
    columns that the model was trained on, used where a table has them.
    """
    if is_table(path):
        rows = read_rows(path)
        label = find_label(path, rows.columns, required=False)
        wanted = find_texts(path, rows.columns, text_column, text_pair_column, (label,), stored)
        for line, values in rows:
            if missing := [column for column in wanted if column not in values]:
                raise InputError(f"{path}, line {line}: no {missing[0]!r}; there are {', '.join(values)}")
        notes = [f"text from {' and '.join(map(repr, wanted))}", *[rows.note] * bool(rows.note)]
        print(f"{path}: {'; '.join(notes)}", file=sys.stderr)
        for _, values in rows:
            yield (*(values[column] for column in wanted), None)[:2]
        return
    pairs = None
    for number, line in enumerate(lines or ArrivingLines(path), start=1):
        name = f"{_name(path)}, line {number}"
        try:
            texts = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            raise InputError(f"{name}: not UTF-8; convert the file") from None
        if len(texts) > 2 or (pairs is not None and pairs != (len(texts) == 2)):
            raise InputError(f"{name}: {len(texts)} texts between tabs; every line must have one, or every line two")
        pairs = len(texts) == 2
        yield (*texts, None)[:2]


def read_questions(path, lines):
    """Yields (id or None, question, context). Raises InputError."""
    from tasks.questions import Reading

    if path.lower().endswith(".json"):
        for question in Reading(path, unanswerable=True, labelled=False).questions:
            yield question.id, question.text, question.context
        return
    for where, record in json_lines(_name(path), lines):
        for name in ("question", "context"):
            if not isinstance(record.get(name), str):
                raise InputError(f"{where}: {name!r} must be a text; JSON lines of question and context are wanted")
        yield record.get("id"), record["question"], record["context"]


def read_untagged(path, lines):
    """Yields texts, and lists of words. Raises InputError."""
    if not path.lower().endswith(".jsonl"):
        yield from (text for text, _ in read_texts(path, lines=lines))
        return
    for where, record in json_lines(_name(path), lines):
        words = record.get("tokens", record.get("text"))
        if not isinstance(words, str) and not (
            isinstance(words, list) and words and all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise InputError(f"{where}: 'tokens', a list of words, or 'text' is wanted")
        yield words


def _name(path):
    return "standard input" if path == "-" else path


def chunks(texts, ready):
    """Yields lists of up to CHUNK of an iterator's texts, shorter where `ready` says that the next one is not there."""
    for text in texts:
        chunk = [text]
        while len(chunk) < CHUNK and ready():
            if (text := next(texts, None)) is None:
                break
            chunk.append(text)
        yield chunk
