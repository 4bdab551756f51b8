"""A store of tokens on disk: the documents of text files, tokenised once, mapped into memory.

What a run needs of it in memory does not grow with the text.
"""

import hashlib
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from files.atomic import atomic_folder
from files.errors import InputError
from files.json_files import read_json, write_json
from text.corpus import Lines, find_files, paragraphs

SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "…")
CLOSERS = ('"', "'", ")", "]", "”", "’", "」", "』", "）", "》")  # that belong to the sentence before them
LONGEST_SENTENCE = 128  # tokens after which one is cut
BATCH_CHARACTERS = 2**20  # of text that are tokenised at a time
FORMAT = 1  # of the store; a change makes old ones stale


class TokenStore(NamedTuple):
    folder: Path
    tokens: np.ndarray  # ids of all documents behind one another
    sentences: np.ndarray  # where each sentence starts among them, and their end
    documents: np.ndarray  # the first sentence of each document, and their number

    @classmethod
    def open(cls, folder):
        kind = read_json(folder / "store.json")["dtype"]
        parts = (("tokens", kind), ("sentences", "int64"), ("documents", "int64"))
        return cls(folder, *(np.memmap(folder / f"{name}.bin", dtype, "r") for name, dtype in parts))


def prepare(inputs, tokenizer, folder):
    """The TokenStore of some files: the one in `folder` if it was made of the same, else a new one in its place.

    Args:
        inputs: as for find_files.
        tokenizer: ConvBertTokenizer.
    """
    folder, files = Path(folder), find_files(inputs)
    made_of = dict(
        format=FORMAT,
        files=[[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        vocabulary=hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest(),
        switches=[tokenizer.do_lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars],
        dtype="uint16" if len(tokenizer) <= 2**16 else "int32",
    )
    if (folder / "store.json").is_file() and read_json(folder / "store.json").get("made_of") == made_of:
        return TokenStore.open(folder)
    with atomic_folder(folder) as new:
        counts = _write_store(new, files, tokenizer, made_of["dtype"])
        write_json(new / "store.json", dict(made_of=made_of, dtype=made_of["dtype"], **counts))
    print(
        f"{folder}: {counts['documents']:,} documents, {counts['sentences']:,} sentences, {counts['tokens']:,} tokens",
        file=sys.stderr,
    )
    return TokenStore.open(folder)


def _write_store(folder, files, tokenizer, dtype):
    """While one batch of text is tokenised, by all threads, the one before is written. Returns how many of what."""
    split = SentenceSplitter(tokenizer)
    counts = dict(tokens=0, sentences=0, documents=0)
    total = sum(path.stat().st_size for path in files)
    with (
        tqdm(total=total, unit="B", unit_scale=True, desc="tokenising", disable=not sys.stderr.isatty()) as bar,
        open(folder / "tokens.bin", "wb") as tokens_file,
        open(folder / "sentences.bin", "wb") as sentences_file,
        open(folder / "documents.bin", "wb") as documents_file,
        ThreadPoolExecutor(1) as tokenising,
    ):
        document_is_new = True

        def write(texts, rows):
            nonlocal document_is_new
            lengths = np.array([len(row) for row in rows], np.int64)
            ids = np.fromiter(itertools.chain.from_iterable(rows), dtype, lengths.sum())
            starts, paragraph = lengths.cumsum() - lengths, 0
            sentences = split(ids, starts[lengths > 0])
            documents = []  # where they start among the batch's tokens
            for text in texts:
                if text is None:
                    document_is_new = True
                    continue
                if document_is_new and lengths[paragraph]:
                    documents.append(starts[paragraph])
                    document_is_new = False
                paragraph += 1
            documents = np.searchsorted(sentences, documents)
            tokens_file.write(ids.tobytes())
            sentences_file.write((counts["tokens"] + sentences).astype(np.int64).tobytes())
            documents_file.write((counts["sentences"] + documents).astype(np.int64).tobytes())
            for name, found in (("tokens", ids), ("sentences", sentences), ("documents", documents)):
                counts[name] += len(found)

        waiting = None
        for texts in _batches(files, bar):
            wanted = tokenising.submit(tokenizer.encode_ids, [text for text in texts if text is not None])
            if waiting:
                write(waiting[0], waiting[1].result())
            waiting = texts, wanted
        write(waiting[0], waiting[1].result())
        sentences_file.write(np.array([counts["tokens"]], np.int64).tobytes())
        documents_file.write(np.array([counts["sentences"]], np.int64).tobytes())
    if not counts["tokens"]:
        raise InputError(f"{files[0]}{' and the other files' * (len(files) > 1)}: no text")
    return counts


def _batches(files, bar):
    """Lists of paragraphs and Nones, about BATCH_CHARACTERS each."""
    batch, size = [], 0
    for path in files:
        lines, shown = Lines(path), 0
        for text in paragraphs(lines):
            batch.append(text)
            size += len(text or "") + 1
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
                bar.update(lines.position - shown)
                shown = lines.position
        bar.update(path.stat().st_size - shown)
    yield batch


class SentenceSplitter:
    """Finds sentences by their last token and what closes it; those of more than LONGEST_SENTENCE tokens are cut."""

    def __init__(self, tokenizer):
        known = tokenizer.get_vocab()
        self._ends, self._closers = np.zeros([2, len(tokenizer)], bool)
        for table, words in ((self._ends, SENTENCE_ENDS), (self._closers, CLOSERS)):
            table[[known[word] for word in words if word in known]] = True

    def __call__(self, ids, paragraphs):
        """ids [N] of some paragraphs and where these start → where the sentences start."""
        ends, closers = self._ends[ids], self._closers[ids]
        over = ends.copy()  # whether a sentence may be over after this token
        over[1:] |= closers[1:] & ends[:-1]
        first = np.zeros(len(ids), bool)
        first[1:] = over[:-1] & ~(ends | closers)[1:]
        first[paragraphs] = True
        starts = np.flatnonzero(first)
        lengths = np.diff(starts, append=len(ids))
        for index in np.flatnonzero(lengths > LONGEST_SENTENCE):
            first[starts[index] : starts[index] + lengths[index] : LONGEST_SENTENCE] = True
        return np.flatnonzero(first)
