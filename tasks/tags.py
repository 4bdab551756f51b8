"""Sentences of words with a tag each: read from files, cut into windows for a model, and put together again."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files.errors import InputError
from files.json_files import json_lines
from tasks.token_rows import TokenRows

ENCODED_AT_ONCE = 256  # sentences of which Python lists exist at a time
SCHEMES = {"bio": "BI", "bioes": "BIES", "plain": ""}  # name → letters before the types of entities
PREFIXED = re.compile(r"([BIES])-(.+)")
OUTSIDE = "O"
NOT_COUNTED = -100
TAG_NAMES = "tags", "ner_tags"


class Sentence(NamedTuple):
    words: tuple
    tags: tuple  # as many words, or () where nobody says
    where: str  # of which file and line, for messages


# -------------------------------------------------------------------------------------------------------------- reading


def read_sentences(path, labelled=True):
    """The sentences of a file: list of Sentence.

    path: CoNLL columns, the word first and its tag last, between tabs or blanks, an empty line between sentences; or
    .jsonl / .json with an object a line of `tokens` and `tags` (or `ner_tags`).
    labelled: whether tags are read; without, a file may have words alone.

    Raises InputError: the file can't be read, or a line is none of this.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: " + ("a folder, not a file" if path.is_dir() else "no such file"))
    try:
        if path.suffix.lower() in (".jsonl", ".json"):
            with open(path, "rb") as file:
                sentences = list(_read_records(json_lines(path, file), labelled))
        else:
            with open(path, encoding="utf-8-sig", newline="\n") as file:
                sentences = list(_read_columns(path, file, labelled))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    if not sentences:
        raise InputError(f"{path}: no sentence there")
    return sentences


def _read_columns(path, file, labelled):
    words, tags, begin, columns, separator = [], [], 1, None, None
    for number, line in enumerate(file, 1):
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                yield Sentence(tuple(words), tuple(tags), f"{path}, line {begin}")
            words, tags = [], []
            continue
        if columns is None:
            separator = "\t" if "\t" in line else None
        cells = [cell.strip() for cell in line.split(separator)]
        where = f"{path}, line {number}"
        if columns is None:
            columns = len(cells)
            if labelled and columns < 2:
                raise InputError(f"{where}: one column; a word and its tag are wanted, between tabs or blanks")
        if len(cells) != columns:
            kind = "tabs" if separator else "blanks"
            raise InputError(f"{where}: {len(cells)} columns between {kind}, but {columns} before")
        if not cells[0]:
            raise InputError(f"{where}: no word in the first column")
        if labelled and not cells[-1]:
            raise InputError(f"{where}: no tag in the last column")
        if not words:
            begin = number
        words.append(cells[0])
        tags += [cells[-1]] * labelled
    if words:
        yield Sentence(tuple(words), tuple(tags), f"{path}, line {begin}")


def _read_records(records, labelled):
    for where, record in records:
        words = _texts(where, record, "tokens")
        name = next((name for name in TAG_NAMES if name in record), None)
        if labelled and name is None:
            raise InputError(f"{where}: no 'tags' there; there are {', '.join(record)}")
        tags = _texts(where, record, name) if labelled else []
        if labelled and len(tags) != len(words):
            raise InputError(f"{where}: {len(words)} tokens, but {len(tags)} {name}")
        if words:
            yield Sentence(tuple(words), tuple(tags), where)


def _texts(where, record, name):
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        numbers = isinstance(found, list) and all(isinstance(word, int) for word in found) and found
        advice = "; write the tags' names instead of their numbers" if numbers else ""
        raise InputError(f"{where}: {name!r} must be a list of texts{advice}")
    if not all(word.strip() for word in found):
        raise InputError(f"{where}: a text of {name!r} is empty")
    return found


# --------------------------------------------------------------------------------------------------------------- tags


def tags_of(sentences):
    """All tags, in their order: O first, then by name."""
    found = {tag for sentence in sentences for tag in sentence.tags}
    return sorted(found, key=lambda tag: (tag != OUTSIDE, tag))


def scheme_of(sentences, wish=None):
    """The name in SCHEMES of how tags mark entities; told from the tags unless `wish` names one.

    Raises InputError: a tag is none of the scheme's.
    """
    tags = tags_of(sentences)
    letters = {match[1] for match in map(PREFIXED.fullmatch, tags) if match}
    scheme = wish or ("plain" if not letters & set("BI") else "bio" if letters <= set("BI") else "bioes")
    if scheme != "plain":
        for sentence in sentences:
            for place, tag in enumerate(sentence.tags):
                match = PREFIXED.fullmatch(tag)
                if tag != OUTSIDE and not (match and match[1] in SCHEMES[scheme]):
                    told = "" if wish else f"; other tags are {scheme.upper()}'s; --scheme plain takes all as they are"
                    raise InputError(
                        f"{sentence.where}, word {place + 1} ({sentence.words[place]!r}): the tag {tag!r} is neither O "
                        f"nor {', '.join(f'{letter}-…' for letter in SCHEMES[scheme])}{told}"
                    )
    return scheme


def continued(tag):
    """The tag of a word's further pieces: I-… after B-…, else the same."""
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


# -------------------------------------------------------------------------------------------------------------- windows


class Windows(NamedTuple):
    """How long sentences are cut."""

    max_seq_length: int
    stride: int  # tokens that two neighbouring windows have in common

    def encode(self, tokenizer, sentences):
        """Columns of the tokenizer's call, a row a window, and of each row the places of words that are told there.

        A word's tag is told by its first piece, in the window where that has the widest context. Returns columns and
        a list of lists of (place in the row, number of the word in its sentence).
        """
        columns = tokenizer(
            [list(sentence.words) for sentence in sentences], is_split_into_words=True, truncation=True,
            max_length=self.max_seq_length, stride=self.stride, return_overflowing_tokens=True, return_word_ids=True,
            return_attention_mask=False,
        )  # fmt: skip
        samples, told = columns["overflow_to_sample_mapping"], [[] for _ in columns["input_ids"]]
        best = {}
        for row, words in enumerate(columns["word_ids"]):
            new = row == 0 or samples[row] != samples[row - 1]
            end = len(words) - 2  # tokens without [CLS] and [SEP]
            for place, word in enumerate(words):
                # The first piece, and not one that an earlier window holds the beginning of.
                if word is None or (place > 1 and words[place - 1] == word):
                    continue
                if place == 1 and not new and columns["word_ids"][row - 1][-2 - self.stride] == word:
                    continue
                width = min(place - 1, end - place)
                if width > best.get((samples[row], word), (-1,))[0]:
                    best[samples[row], word] = width, row, place
        for (_, word), (_, row, place) in best.items():
            told[row].append((place, word))
        return columns, told


class TaggedWindows(TokenRows):
    """All windows of sentences, with the tags' numbers: `counts` int [N], how many tokens of a row are learnt from.

    tags: the names; every_piece: a word's further pieces are learnt from, too. `lost`: words that have no piece.
    """

    def __init__(self, tokenizer, sentences, windows, tags, every_piece=False):
        self._numbers = {tag: number for number, tag in enumerate(tags)}
        self._windows, self._every_piece, self._labels, self.lost = windows, every_piece, [], 0
        self._tokenizer = tokenizer
        super().__init__(tokenizer, self._chunks(sentences))
        self.counts = np.array([(row != NOT_COUNTED).sum() for row in self._labels], np.int64)
        self._labels = np.concatenate(self._labels)

    def _chunks(self, sentences):
        for start in range(0, len(sentences), ENCODED_AT_ONCE):
            some = sentences[start : start + ENCODED_AT_ONCE]
            columns, told = self._windows.encode(self._tokenizer, some)
            for row, sample in enumerate(columns["overflow_to_sample_mapping"]):
                self._labels.append(self._row(columns["word_ids"][row], told[row], some[sample].tags))
            self.lost += sum(len(sentence.words) for sentence in some) - sum(map(len, told))
            yield columns

    def _row(self, words, told, tags):
        labels = np.full(len(words), NOT_COUNTED, np.int16)
        for place, word in told:
            labels[place] = self._numbers[tags[word]]
            while self._every_piece and place + 1 < len(words) and words[place + 1] == word:
                place += 1
                labels[place] = self._numbers.get(continued(tags[word]), labels[place - 1])
        return labels

    def labels(self, indices):
        """int64 [B, longest row]; NOT_COUNTED where nothing is learnt from."""
        indices = np.array(indices, np.int64).reshape(-1, 1)
        lengths = self.lengths[indices]
        places = np.arange(lengths.max(initial=0))
        real = places < lengths
        found = np.full(real.shape, NOT_COUNTED, np.int64)
        found[real] = self._labels[(self._starts[indices] + places)[real]]
        return found
