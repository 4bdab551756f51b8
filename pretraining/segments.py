"""Examples for pre-training: a store's documents packed into segments, and their order in every epoch.

All that is random depends on numbers that are given, so a run that goes on finds the same data; memory does not grow
with the text.
"""

import bisect
import os
import random
import sys
import zlib

import numpy as np
from tqdm import tqdm

from files.atomic import atomic_file, locked
from files.errors import InputError

# ------------------------------------------------------------------------------------------------------------- segments

SHORT_SHARE, SINGLE_SHARE = 0.05, 0.1  # of examples of a random length; of those with one segment, as in ELECTRA


def pack(bounds, length, draw):
    """Packs a document as ELECTRA's builder does: whole sentences up to the target length, mostly as two segments.

    Args:
        bounds: where its sentences start, and the end.
        length: of an example, [CLS] and [SEP] included; a sentence that goes beyond it loses its end.
        draw: random.Random.

    Yields:
        (start of the first segment, start of the second one, end); without a second one, the last two are the same.
    """
    number, count = 0, len(bounds) - 1
    while number < count:
        start, after = bounds[number], number + 1
        target = draw.randint(5, length) if draw.random() < SHORT_SHARE else length
        while after < count and bounds[after] - start < target:
            after += 1
        first = target if draw.random() < SINGLE_SHARE else (target - 3) // 2
        split = number + 1
        while split < after and (
            bounds[split + 1] - start < first or (bounds[split] - start < first and draw.random() < 0.5)
        ):
            split += 1
        middle = min(bounds[split], start + length - 2)
        end = max(middle, min(bounds[after], start + length - 3))
        yield start, middle, end
        number = bisect.bisect_left(bounds, end)


class Segments:
    """Packed examples by number, the same for every run with this store and length.

    Args:
        store: TokenStore.
        length: tokens of an example, [CLS] and [SEP] included.
        held_out: share of the documents that validation gets.
        validation: whether these are the examples of that share, or the others.
        make: whether this process makes them where they are not there yet; else they must be.

    Raises:
        InputError: they are not there, or damaged.
    """

    def __init__(self, store, tokenizer, length, held_out, validation, make=True):
        paths = [store.folder / f"segments-{length}-{held_out!r}-{kind}.bin" for kind in ("train", "validation")]
        if make and not all(path.exists() for path in paths):
            with locked(paths[0]), locked(paths[1]):
                if not all(path.exists() for path in paths):
                    _write_segments(store, length, held_out, *paths)
        if not paths[validation].exists():
            raise InputError(f"{paths[validation]}: not seen by this process; its folder must be shared by all of them")
        size = os.path.getsize(paths[validation])
        if size % 24:
            raise InputError(f"{paths[validation]}: damaged ({size:,} bytes); remove it to have it made anew")
        shape = size // 24, 3
        self._index = np.memmap(paths[validation], np.int64, "r", shape=shape) if size else np.empty([0, 3], np.int64)
        self._tokens, self._ids = store.tokens, (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)

    def __len__(self):
        return len(self._index)

    def inputs(self, numbers, others=None, taken=None):
        """input_ids and token_type_ids of these examples, int64 [B, longest of them].

        Args:
            others: int [B]: examples whose second segment may take the place of the own one. Either is cut to the
                shorter of both, so that a length does not tell which it is; where one has none, there is none.
            taken: bool [B]: whether it does.
        """
        begin, end, pad = self._ids
        starts, middles, stops = self._index[numbers].T
        seconds, sizes = middles, stops - middles
        if others is not None:
            _, theirs, ends = self._index[others].T
            seconds, sizes = np.where(taken, theirs, middles), np.minimum(sizes, ends - theirs)
        lengths = middles - starts + 2 + sizes + (sizes > 0)
        ids = np.full([len(lengths), lengths.max()], pad, np.int64)
        types = np.zeros_like(ids)
        places = zip(starts, middles, seconds, sizes, lengths, strict=True)
        for row, kinds, (start, middle, second, size, length) in zip(ids, types, places, strict=True):
            row[0] = begin
            row[1 : 1 + middle - start] = self._tokens[start:middle]
            row[1 + middle - start] = end
            if size:
                row[2 + middle - start : length - 1] = self._tokens[second : second + size]
                row[length - 1] = end
                kinds[2 + middle - start : length] = 1
        return ids, types


def _write_segments(store, length, held_out, train, validation):
    """A document is held out if its number, hashed, says so: the same ones whatever the length."""
    bound = int(held_out * 2**32)
    with atomic_file(train) as train_file, atomic_file(validation) as validation_file:
        documents = tqdm(range(len(store.documents) - 1), "packing", disable=not sys.stderr.isatty())
        for number in documents:
            first, last = store.documents[number : number + 2]
            bounds = store.sentences[first : last + 1].tolist()
            examples = list(pack(bounds, length, random.Random(number)))
            file = validation_file if zlib.crc32(b"%d" % number) < bound else train_file
            file.write(np.array(examples, np.int64).tobytes())


# ---------------------------------------------------------------------------------------------------------------- order


def shuffled(places, count, seed, epoch):
    """The examples at some places of an epoch's order: a permutation of range(count) that is never written down.

    A Feistel network of four rounds on the bits of the place; what falls outside the range goes through it again.

    Args:
        places: int array, each from range(count).
    """
    half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.default_rng([seed, epoch]).integers(2**64, size=4, dtype=np.uint64)
    found = np.asarray(places).astype(np.uint64)
    outside = np.ones(found.shape, bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        found[outside] = (left << half) | right
        outside = found >= count
    return found.astype(np.int64)


def _mixed(x):
    """The finaliser of Sebastiano Vigna's SplitMix64: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
