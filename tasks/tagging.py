"""Tagging sentences with a model, and the file that shows it."""

import itertools
import math
import time
from typing import NamedTuple

import numpy as np

from files.atomic import atomic_file
from tasks.entities import main_metric, scores_of
from tasks.tags import ENCODED_AT_ONCE, NOT_COUNTED
from tasks.token_rows import TokenRows


class Tagged(NamedTuple):
    tags: list  # of each sentence, a list of its words' tags
    shares: list  # of each sentence, the probability of each word's tag
    loss: float  # mean over all words, NaN where nobody knows their tags


def tag_sentences(engine, tokenizer, sentences, windows, names, batch_size, processes):
    """Tags all sentences, by all processes, known to each. Memory does not grow with lengths in pieces.

    names: of the tags; a word that has no piece (control characters alone) gets the first one, O where there is one.
    """
    from training.order import batches_by_length  # which needs Paddle

    starts = np.cumsum([0, *(len(sentence.words) for sentence in sentences)])
    numbers = np.zeros(starts[-1], np.float32)
    shares, total, counted = np.zeros(starts[-1], np.float32), 0.0, 0
    known = {name: number for number, name in enumerate(names)}
    with engine.session():
        for start in processes.share(range(0, len(sentences), ENCODED_AT_ONCE)):
            some = sentences[start : start + ENCODED_AT_ONCE]
            columns, told = windows.encode(tokenizer, some)
            rows = TokenRows(tokenizer, [columns])
            for batch in batches_by_length(rows.lengths, batch_size):
                for row, logits in zip(batch, engine(rows.arrays(batch)), strict=True):
                    if not told[row]:
                        continue
                    places, words = np.array(told[row]).T
                    sample = columns["overflow_to_sample_mapping"][row]
                    logits = logits[places].astype(np.float64)  # [W, tags]
                    logs = logits - logits.max(axis=1, keepdims=True)
                    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
                    best = logs.argmax(axis=1)
                    numbers[starts[start + sample] + words] = best
                    shares[starts[start + sample] + words] = np.exp(logs[np.arange(len(best)), best])
                    right = [known.get(some[sample].tags[word], NOT_COUNTED) for word in words if some[sample].tags]
                    for place, number in enumerate(right):
                        if number != NOT_COUNTED:
                            total, counted = total - logs[place, number], counted + 1
    numbers, shares = processes.add(numbers).astype(np.int64), processes.add(shares)
    total, counted = processes.add(np.array([total, counted], np.float32))
    spans = list(itertools.pairwise(starts))
    return Tagged(
        [[names[number] for number in numbers[begin:end]] for begin, end in spans],
        [shares[begin:end].tolist() for begin, end in spans],
        float(total) / float(counted) if counted else np.nan,
    )


def write_conll(path, sentences, tags):
    """Columns between tabs: a word, its right tag where that is known, and what the model says."""
    with atomic_file(path) as file:
        for sentence, found in zip(sentences, tags, strict=True):
            for place, (word, tag) in enumerate(zip(sentence.words, found, strict=True)):
                known = sentence.tags[place : place + 1]
                file.write(("\t".join([word, *known, tag]) + "\n").encode())
            file.write(b"\n")


def evaluated(tag, sentences, scheme, writes):
    """What an evaluation gives: split → loss and scores, the Tagged, and the number by which models are compared.

    tag: function that tags the sentences; writes: whether this process prints the line.
    """
    from training.log import log

    start = time.time()
    tagged = tag()
    found, _ = scores_of(sentences, tagged.tags, scheme)
    if writes:
        words = ", ".join(f"{name}: {value}" for name, value in found.items())
        log(f"eval loss: {tagged.loss:f}, {words}, eval done total : {time.time() - start} s")
    number = found[main_metric(scheme)]
    return {"dev": {"loss": tagged.loss, **found}}, tagged, number if math.isfinite(tagged.loss) else math.nan
