"""A store of tokens on disk: the documents of text files, tokenised once, mapped into memory.

What a run needs of it in memory does not grow with the text.
"""

import contextlib
import glob
import hashlib
import itertools
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from files.atomic import atomic_folder, clear_leftovers, is_leftover, locked
from files.errors import InputError
from files.json_files import read_json, write_json
from text.corpus import Lines, Reading, find_files, left_out, paragraphs, reading_of

SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "…")
CLOSERS = ('"', "'", ")", "]", "”", "’", "」", "』", "）", "》")  # that belong to the sentence before them
SPLIT = True  # "[SEP]" in a text is split as any text, as in the original
LONGEST_SENTENCE = 128  # tokens after which one is cut
BATCH_CHARACTERS = 2**20  # of text that are tokenised at a time
LONG_DOCUMENT = 10**6  # tokens; one of more is seldom meant
SHOWN = 10  # files that are named one by one
PLACES_AT_ONCE = 2**20  # of sentences or documents that are copied at a time
# Of what a store was made of, what all of its parts must have alike, and what one is of that has not.
KINDS = {
    "format": "another version", "vocabulary": "another vocabulary", "dtype": "another vocabulary",
    "switches": "other lower case, accents or Chinese characters", "documents": "another --documents than the first",
}  # fmt: skip
FORMAT = 2  # of the store; a change makes old ones stale
PARTS = "store.json", "tokens.bin", "sentences.bin", "documents.bin"


class TokenStore(NamedTuple):
    folder: Path
    tokens: np.ndarray  # ids of all documents behind one another
    sentences: np.ndarray  # where each sentence starts among them, and their end
    documents: np.ndarray  # the first sentence of each document, and their number

    @classmethod
    def open(cls, folder):
        """What prepare has made in `folder`, perhaps in another process. Raises InputError if it isn't all there."""
        folder = Path(folder)
        if not (folder / "store.json").is_file():
            raise InputError(
                f"{folder}: no store of tokens is seen here by this process; --data_store or --output_dir must lie "
                "where all processes see it"
            )
        facts = read_json(folder / "store.json")
        parts = []
        for name, dtype, more in (("tokens", facts["dtype"], 0), ("sentences", "int64", 1), ("documents", "int64", 1)):
            path, size = folder / f"{name}.bin", (facts[name] + more) * np.dtype(dtype).itemsize
            found = path.stat().st_size if path.is_file() else 0
            if found != size:
                raise InputError(f"{path}: {found:,} bytes where {size:,} belong; remove {folder} to make it anew")
            parts.append(np.memmap(path, dtype, "r"))
        return cls(folder, *parts)


def sources(inputs, without=()):
    """What --input_dir names: the text files, as of corpus.find_files, and the folders of stores, one of both empty."""
    stores = [Path(given) for given in inputs if (Path(given) / "store.json").is_file()]
    if not stores:
        return find_files(inputs, without), []
    if len(stores) < len(inputs):
        other = next(given for given in inputs if Path(given) not in stores)
        raise InputError(f"{other}: no store of tokens as {stores[0]} is; --input_dir takes texts, or stores")
    return [], stores


def part_of(files, number, count):
    """Part `number`, from 1, of `count` parts of some files, whole ones one after the other, about equal in size."""
    sizes = np.array([path.stat().st_size for path in files], float)
    middles = sizes.cumsum() - sizes / 2
    parts = np.minimum(count * middles // max(1.0, sizes.sum()), count - 1) + 1
    chosen = [path for path, part in zip(files, parts, strict=True) if part == number]
    if not chosen:
        raise InputError(f"--shard {number}/{count}: no file is left for it; there are {len(files)}, by whole ones")
    return chosen


def prepare(inputs, tokenizer, folder, documents="auto", without=(), replaces=True, shard=None):
    """The TokenStore of some files: the one in `folder` if it was made of the same, else a new one in its place.

    What was read, and how, is printed when it is made, and what differs if it is made anew. If another process is just
    making it, this waits.

    Args:
        inputs: as for `sources`; stores, of parts of a text, become one, as if it had been made at once.
        tokenizer: ConvBertTokenizer.
        documents: one of corpus.DOCUMENTS: what a document is in plain text.
        without: paths in folders of texts that hold none.
        replaces: whether a store that was made of something else is replaced; one of an older version always is.
        shard: (number, count): of the files this part alone, see part_of.

    Raises:
        InputError: a file can't be read, there is no text, or `folder` holds something else than a store, or one that
            is not to be replaced.
    """
    folder, without = Path(folder), [*without, folder]
    files, stores = sources(inputs, without)
    if shard:
        files = part_of(files, *shard)
    made_of = dict(
        format=FORMAT,
        files=[[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        vocabulary=hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest(),
        switches=[tokenizer.do_lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars, SPLIT],
        dtype="uint16" if len(tokenizer) <= 2**16 else "int32",
        documents=documents,
    )
    if stores:
        made_of |= _of_parts(stores, made_of)
    place = folder.resolve()  # of a link, where it leads
    if _made_of(place) == made_of:
        clear_killed(folder)
        return TokenStore.open(folder)
    with locked(place):
        if (old := _made_of(place)) != made_of:
            _require_store(place, folder)
            if old is not None:
                _compare(folder, old, made_of, replaces)
            readings = [reading_of(path, documents) for path in files]
            with atomic_folder(place) as new:
                if stores:
                    facts = _join(new, stores)
                else:
                    kinds = [reading.kind for reading in readings]
                    counts, found = _write_store(new, files, kinds, tokenizer, made_of["dtype"])
                    facts = dict(**counts, read_as=[*zip(kinds, found, strict=True)])  # of each file
                write_json(new / "store.json", dict(made_of=made_of, dtype=made_of["dtype"], **facts))
            if stores:
                _say_size(TokenStore.open(folder))
            else:
                _say(TokenStore.open(folder), files, readings, found, left_out(inputs, files, without))
    return TokenStore.open(folder)


def _of_parts(stores, wanted):
    """What several stores were made of together. Raises InputError: a part is damaged, or not of the same kind."""
    parts = [_made_of(store) for store in stores]
    for store, part in zip(stores, parts, strict=True):
        if part is None:
            raise InputError(f"{store / 'store.json'}: damaged; make this part anew")
        for name, what in KINDS.items():
            if part.get(name) != (parts[0] if name == "documents" else wanted).get(name):
                raise InputError(f"{store}: a store of {what}; make this part anew")
    return dict(files=[file for part in parts for file in part["files"]], documents=parts[0]["documents"])


def _join(folder, stores):
    """Writes the store of all parts. Returns the facts of its store.json."""
    opened, read_as = [TokenStore.open(store) for store in stores], []
    with (
        open(folder / "tokens.bin", "wb") as tokens,
        open(folder / "sentences.bin", "wb") as sentences,
        open(folder / "documents.bin", "wb") as documents,
    ):
        counts = dict(tokens=0, sentences=0, documents=0)
        for part in opened:
            part.tokens.tofile(tokens)
            for file, places, before in (
                (sentences, part.sentences, counts["tokens"]), (documents, part.documents, counts["sentences"])
            ):  # fmt: skip
                for start in range(0, len(places) - 1, PLACES_AT_ONCE):
                    (places[start : min(start + PLACES_AT_ONCE, len(places) - 1)] + before).tofile(file)
            for name, found in zip(counts, (part.tokens, part.sentences[1:], part.documents[1:]), strict=True):
                counts[name] += len(found)
            read_as += read_json(part.folder / "store.json")["read_as"]
        np.array([counts["tokens"]], np.int64).tofile(sentences)
        np.array([counts["sentences"]], np.int64).tofile(documents)
    return dict(**counts, read_as=read_as)


def clear_killed(folder):
    """Removes what killed processes have left of a store, in it and beside it; that of one that is alive stays."""
    place = Path(folder).resolve()
    with contextlib.suppress(OSError):  # one that others have made for all to read
        if any(place.parent.glob(f".{glob.escape(place.name)}.*")):
            with locked(place, wait=False):
                pass
        if (place / "store.json").is_file():
            clear_leftovers(place)


def facts_of(folder):
    """How much is in the store in a folder, and how many files were read in which way."""
    content = read_json(Path(folder) / "store.json")
    kinds = dict(Counter(kind for kind, _ in content["read_as"]))
    return {name: content[name] for name in ("documents", "sentences", "tokens")} | {"files_read_as": kinds}


def _made_of(folder):
    """What the store in a folder says that it was made of; None without one, or one that is damaged."""
    try:
        return read_json(folder / "store.json").get("made_of")
    except (InputError, OSError, AttributeError):
        return None


def _require_store(folder, name):
    """Raises InputError where a new store would replace anything but an old one."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{name}: not a folder; --data_store takes one for the tokens")
    known = [*PARTS, "segments-*.bin"] if _made_of(folder) is not None else []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_leftover(path) and not any(path.match(pattern) for pattern in known):
            reason = "no part of a store" if known or path.name not in PARTS else "no store's, or damaged"
            raise InputError(f"{name}: holds {path.name}, which is {reason}; --data_store takes a new folder")


def _compare(folder, old, new, replaces):
    """Says what differs between what the store in `folder` was made of and what the new one is; see prepare."""
    differs = []
    if old.get("files", new["files"]) != new["files"]:
        files = {tuple(file) for file in old["files"]} ^ {tuple(file) for file in new["files"]}
        differs.append(f"text ({min(files)[0]})" if files else "text, in another order")
    if old.get("vocabulary", new["vocabulary"]) != new["vocabulary"]:
        differs.append("vocabulary")
    if old.get("switches", new["switches"]) != new["switches"]:
        differs.append("lower case, accents or Chinese characters")
    if old.get("documents", new["documents"]) != new["documents"]:
        differs.append("--documents")
    if differs and not replaces:
        raise InputError(
            f"{folder}: a store that was made of other things: {', '.join(differs)}; give it what it was made of, name "
            "another folder, or add --overwrite to make it anew"
        )
    what = f"other {', '.join(differs)}" if differs else "an older version made it"
    print(f"{folder}: made anew: {what}", file=sys.stderr)


def _say(store, files, readings, found, others):
    """Prints how the files were read and what is in the store."""

    def say(text):
        print(f"{store.folder}: {text}", file=sys.stderr)

    def several(paths):
        return ", ".join(map(str, paths[:3])) + ", …" * (len(paths) > 3)

    if len(files) <= SHOWN:
        for path, reading, many in zip(files, readings, found, strict=True):
            say(f"{path}: {many:,} documents: {reading}")
    else:
        for kind in dict.fromkeys(reading.kind for reading in readings):
            which = [number for number, reading in enumerate(readings) if reading.kind == kind]
            lines, empty, cut = (
                sum(values) for values in zip(*(readings[number][1:4] for number in which), strict=True)
            )
            whole = Reading(kind, lines, empty, cut > 0, any(readings[number].unsure for number in which))
            many, names = sum(found[number] for number in which), several([files[number] for number in which])
            say(f"{len(which):,} files ({names}), {many:,} documents: {whole}")
    if others:
        say(f"not read, by their names: {len(others):,} other files in these folders ({several(others)})")
    documents = _say_size(store)
    unsure = [path for path, reading in zip(files, readings, strict=True) if reading.unsure]
    if unsure:
        say(
            f"warning: what a document is in {several(unsure)} is a guess: --documents line if each line is one, "
            "--documents blank if they end at empty lines"
        )
    long, longest, where = 0, 0, 0
    for start in range(0, documents, 2**20):
        sizes = np.diff(store.sentences[store.documents[start : start + 2**20 + 1]])
        long += int((sizes > LONG_DOCUMENT).sum())
        if sizes.max() > longest:
            longest, where = int(sizes.max()), start + int(sizes.argmax())
    if long:
        path = files[int(np.searchsorted(np.cumsum(found), where, side="right"))]
        say(
            f"warning: {long:,} documents of over {LONG_DOCUMENT:,} tokens, the longest, of {longest:,}, in {path}; "
            "if its lines are documents, give --documents line"
        )


def _say_size(store):
    documents, sentences = (len(part) - 1 for part in (store.documents, store.sentences))
    words = f"{documents:,} documents, {sentences:,} sentences, {len(store.tokens):,} tokens"
    print(f"{store.folder}: {words}", file=sys.stderr)
    return documents


def _write_store(folder, files, kinds, tokenizer, dtype):
    """While one batch of text is tokenised, by all threads, the one before is written.

    Returns how many of what, and the number of documents of each file.
    """
    split = SentenceSplitter(tokenizer)
    counts, first = dict(tokens=0, sentences=0, documents=0), []  # first: document of each file
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
                if isinstance(text, Path):  # a file begins
                    first.append(counts["documents"] + len(documents))
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
        for texts in _batches(files, kinds, bar):
            wanted = tokenising.submit(tokenizer.encode_ids, [text for text in texts if isinstance(text, str)], SPLIT)
            if waiting:
                write(waiting[0], waiting[1].result())
            waiting = texts, wanted
        write(waiting[0], waiting[1].result())
        sentences_file.write(np.array([counts["tokens"]], np.int64).tobytes())
        documents_file.write(np.array([counts["sentences"]], np.int64).tobytes())
    if not counts["tokens"]:
        raise InputError(f"{files[0]}{' and the other files' * (len(files) > 1)}: no text")
    return counts, np.diff([*first, counts["documents"]]).tolist()


def _batches(files, kinds, bar):
    """Lists of paragraphs, Nones and, before each file's, its Path, about BATCH_CHARACTERS each."""
    batch, size = [], 0
    for path, kind in zip(files, kinds, strict=True):
        lines, shown = Lines(path), 0
        batch.append(path)
        for text in paragraphs(lines, kind):
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
