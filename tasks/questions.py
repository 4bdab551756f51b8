"""Questions about texts: read from files in SQuAD's layout or of JSON lines, and cut into windows for a model."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files.errors import InputError
from files.json_files import json_lines, read_json, require_whole_characters, shortened
from tasks.token_rows import TokenRows

ENCODED_AT_ONCE = 64  # questions of which Python lists exist at a time
SHOWN = 3  # questions that are named where a file has something wrong


class Question(NamedTuple):
    id: str
    text: str
    context: str
    answers: tuple  # of (text, its start in the context); () where the context holds none, or nobody says


# -------------------------------------------------------------------------------------------------------------- reading


class Reading:
    """The questions of a file, and what had to be said of it.

    Args:
        path: JSON in SQuAD's layout (1.1 or 2.0), a JSON list, or JSON lines of `id, question, context, answers`; ids
            may be missing there, and answers be a list or an object of lists, `{"text": […], "answer_start": […]}`.
        unanswerable: whether questions without an answer are understood; else they are errors.
        labelled: whether answers are read.

    Raises:
        InputError: the file can't be read, or a question is not one.
    """

    def __init__(self, path, unanswerable=False, labelled=True):
        self.path, self.questions = Path(path), []
        self._unanswerable, self._labelled, self._ids = unanswerable, labelled, {}
        self.moved, self.lost = [], []  # ids of questions with an answer that is elsewhere, or nowhere, in the context
        self.blank = self.wordless = 0  # contexts, and questions, without a word
        for where, record in _records(self.path):
            self._add(where, record)
        if not self.questions:
            raise InputError(f"{path}: no question there")

    def _add(self, where, record):
        def text_of(name):
            value = record.get(name)
            if not isinstance(value, str):
                raise InputError(f"{where}: {name!r} must be a text, not {shortened(value)}")
            require_whole_characters(where, value)
            return value

        context, text = text_of("context"), text_of("question").lstrip()
        number = record.get("id", len(self.questions))
        if not isinstance(number, (str, int)) or isinstance(number, bool):
            raise InputError(f"{where}: 'id' must be a text, not {shortened(number)}")
        number = str(number)
        if number in self._ids:
            raise InputError(f"{where}: the id {number!r} is {self._ids[number]}'s already")
        self._ids[number] = where
        self.blank += not context.strip()
        self.wordless += not text.strip()
        answers = tuple(self._answers(where, record, context, number)) if self._labelled else ()
        self.questions.append(Question(number, text, context, answers))

    def _answers(self, where, record, context, number):
        given = record.get("answers", [] if record.get("is_impossible") else None)
        if isinstance(given, dict):
            texts, starts = given.get("text"), given.get("answer_start")
            if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
                raise InputError(f"{where}: 'answers' must have lists 'text' and 'answer_start' of one length")
            given = [dict(text=text, answer_start=start) for text, start in zip(texts, starts, strict=True)]
        if not isinstance(given, list):
            raise InputError(f"{where}: 'answers' must be a list, not {shortened(given)}")
        if record.get("is_impossible") is True:
            given = []
        if not given and not self._unanswerable:
            raise InputError(f"{where}: has no answer; --version_2_with_negative is for such questions")
        found = []
        for answer in given:
            text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
            if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
                raise InputError(
                    f"{where}: an answer must be an object of 'text', with a word, and 'answer_start', a whole number, "
                    f"not {shortened(answer)}"
                )
            if context[start : start + len(text)] != text or start < 0:
                places = _places(context, text)
                (self.moved if places else self.lost).append(number)
                start = min(places, key=lambda place: abs(place - start)) if places else -1
            found.append((text, start))
        return found

    def say(self, left_out):
        """Warns, a line each, of answers that are not where the file says. left_out: of lost ones, what is done."""
        for ids, words in (
            (self.moved, "answers are not at their answer_start, but elsewhere in the context: the nearest is taken"),
            (self.lost, f"answers are nowhere in their context{left_out}"),
        ):
            if ids:
                names = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
                print(f"warning: {self.path}: {len(ids):,} {words} ({names})", file=sys.stderr)
        for count, words in ((self.blank, "contexts"), (self.wordless, "questions")):
            if count:
                print(f"warning: {self.path}: {count:,} {words} without a word", file=sys.stderr)


def _records(path):
    """(where, dict) of every question of a file, `context` in each."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("a folder, not a file" if path.is_dir() else "no such file"))
    with open(path, "rb") as file:
        first = file.readline().strip().removeprefix(b"\xef\xbb\xbf")
    try:
        lines = isinstance(json.loads(first), dict) and b'"data"' not in first and b'"paragraphs"' not in first
    except ValueError:
        lines = False
    if lines:
        with open(path, "rb") as file:
            yield from json_lines(path, file)
        return
    content = read_json(path)
    if isinstance(content, list):
        for number, record in enumerate(content):
            yield _object(f"{path}, entry {number}", record)
        return
    for index, article in enumerate(_list(path, path, content, "data")):
        for part, paragraph in enumerate(_list(path, f"{path}, data[{index}]", article, "paragraphs")):
            place = f"{path}, data[{index}].paragraphs[{part}]"
            for number, question in enumerate(_list(path, place, paragraph, "qas")):
                where, question = _object(f"{place}.qas[{number}]", question)
                yield where, {**question, "context": paragraph.get("context")}


def _object(where, value):
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be a JSON object, not {shortened(value)}")
    return where, value


def _list(path, where, value, name):
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        advice = "" if where != path else " (SQuAD's layout, or JSON lines of id, question, context, answers)"
        raise InputError(f"{where}: no list {name!r} there{advice}")
    return found


def _places(context, text):
    places, place = [], context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    return places


# -------------------------------------------------------------------------------------------------------------- windows


class Windows(NamedTuple):
    """How contexts are cut, as the flags of the same names say."""

    max_seq_length: int
    doc_stride: int  # tokens that two neighbouring windows have in common
    max_query_length: int

    def encode(self, tokenizer, questions):
        """Columns of the tokenizer's call for some questions: a row a window, of [CLS] question [SEP] context [SEP]."""
        return tokenizer(
            self.shortened(tokenizer, [question.text for question in questions]),
            [question.context for question in questions],
            truncation="only_second", max_length=self.max_seq_length, stride=self.doc_stride,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_attention_mask=False,
        )  # fmt: skip

    def shortened(self, tokenizer, texts):
        """Questions cut after max_query_length tokens; what is left of a text has the same tokens as before."""
        columns = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
        most = self.max_query_length
        return [
            text[: offsets[most - 1][1]] if len(offsets) > most else text
            for text, offsets in zip(texts, columns["offset_mapping"], strict=True)
        ]

    def require(self):
        """Raises InputError where a window has no room for anything new."""
        room = self.max_seq_length - self.max_query_length - 3
        if self.doc_stride >= room:
            raise InputError(
                f"--doc_stride {self.doc_stride}: of --max_seq_length {self.max_seq_length} tokens a question of "
                f"--max_query_length {self.max_query_length} leaves {room} to a window, which must be more"
            )


class TrainingWindows(TokenRows):
    """All windows of questions, with where their answers are: `starts`, `ends`, int64 [N], 0 where a window has none.

    `cut`: how many questions were too long; `unseen`: how many have an answer that no window holds whole.
    """

    def __init__(self, tokenizer, questions, windows):
        self.cut = self.unseen = 0
        self._places, self._tokenizer, self._windows = [], tokenizer, windows
        super().__init__(tokenizer, self._chunks(questions))
        self.starts, self.ends = np.array(self._places, np.int64).reshape(-1, 2).T.copy()
        del self._places

    def _chunks(self, questions):
        for start in range(0, len(questions), ENCODED_AT_ONCE):
            some = questions[start : start + ENCODED_AT_ONCE]
            columns = self._windows.encode(self._tokenizer, some)
            seen = set()
            for row, number in enumerate(columns["overflow_to_sample_mapping"]):
                place = answer_place(columns, row, some[number].answers)
                self._places.append(place)
                if place != (0, 0):
                    seen.add(number)
            self.cut += count_cut(self._tokenizer, some, self._windows)
            self.unseen += sum(bool(question.answers) for question in some) - len(seen)
            yield columns


def count_cut(tokenizer, questions, windows):
    """How many of the questions are longer than windows of theirs take in."""
    texts = [question.text for question in questions]
    shortened = windows.shortened(tokenizer, texts)
    return sum(text != short for text, short in zip(texts, shortened, strict=True))


def context_span(types):
    """The first place of the context in a row, and the one after it, by token types; its [SEP] is left out."""
    return types.index(1) if 1 in types else len(types), len(types) - 1


def answer_place(columns, row, answers):
    """The tokens (first, last) of the first answer in a window; (0, 0), which is [CLS], where it holds none whole."""
    if not answers or answers[0][1] < 0:
        return 0, 0
    offsets = columns["offset_mapping"][row]
    begin, end = context_span(columns["token_type_ids"][row])
    text, start = answers[0]
    stop = start + len(text)
    if begin >= end or offsets[begin][0] > start or offsets[end - 1][1] < stop:
        return 0, 0
    first = next((place for place in range(begin, end) if offsets[place][0] > start), end) - 1
    last = next((place for place in range(end - 1, begin - 1, -1) if offsets[place][1] < stop), begin - 1) + 1
    return first, last
