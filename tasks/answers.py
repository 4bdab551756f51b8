"""Answers as slices of their contexts: what a model's logits say, window by window, and the files that hold them."""

from typing import NamedTuple

import numpy as np

from tasks.questions import ENCODED_AT_ONCE, answer_place, context_span
from tasks.token_rows import TokenRows


class Search(NamedTuple):
    """What counts as an answer, as the flags of the same names say."""

    n_best_size: int = 20
    max_answer_length: int = 30  # tokens


class Spans:
    """The best spans of N questions over all their windows.

    `places` int [N, n_best_size, 2]: start and end in the context, in characters; `logits` float32 [N, n_best_size, 2]:
    of start and end; `counts` int [N]: how many there are, the best first; `nulls` float32 [N]: the smallest sum of
    both logits at [CLS] in a window. `loss`: mean over all windows, as if who has no answer should have none.

    A question takes 300 bytes here, however long its context is.
    """

    def __init__(self, count, n_best_size):
        self.places = np.zeros([count, n_best_size, 2], np.int64)
        self.logits = np.zeros([count, n_best_size, 2], np.float32)
        self.counts = np.zeros(count, np.int64)
        self.nulls = np.zeros(count, np.float32)
        self.loss = np.nan

    def gathered(self, processes, losses):
        """Of parts, each of which one process knows, all; losses: sum and number of windows."""
        for name in ("places", "logits", "counts", "nulls"):
            found = getattr(self, name)
            setattr(self, name, processes.add(found).astype(found.dtype))
        total, count = processes.add(np.array(losses, np.float32))
        self.loss = float(total) / float(count) if count else np.nan
        return self

    def best(self, question, index, unanswerable=False):
        """The n best of a question: list of dicts text, start, end, start_logit, end_logit, probability.

        unanswerable: "no answer" is one of them, with the text "".
        """
        logits = self.logits[index, : self.counts[index]]
        found = [
            dict(
                text=question.context[start:end], start=int(start), end=int(end),
                start_logit=float(first), end_logit=float(last),
            )
            for (start, end), (first, last) in zip(self.places[index], logits, strict=False)
        ]  # fmt: skip
        scores = logits.sum(axis=1)
        if unanswerable or not found:
            place = int((scores >= self.nulls[index]).sum())
            none = dict(text="", start=0, end=0, score=float(self.nulls[index]))
            found.insert(place, none)
            scores = np.insert(scores, place, self.nulls[index])
            if place < (size := len(self.places[index])):
                found, scores = found[:size], scores[:size]
        shares = np.exp(scores.astype(np.float64) - scores.max())
        for entry, share in zip(found, shares / shares.sum(), strict=True):
            entry["probability"] = float(share)
        return found

    def margin(self, index):
        """By how much "no answer" is likelier than the best span, in logits."""
        if not self.counts[index]:
            return float("inf")
        return float(self.nulls[index]) - float(self.logits[index, 0, 0]) - float(self.logits[index, 0, 1])


def find_spans(engine, tokenizer, questions, windows, search, batch_size, processes):
    """Spans of all questions, computed by all processes, known to each. Memory does not grow with their windows.

    Args:
        engine: one of programs.ENGINES, of a model that answers.
        windows: questions.Windows; search: Search.
        processes: processes.Processes, or anything with its share and add.
    """
    from training.order import batches_by_length  # which needs Paddle

    found, losses = Spans(len(questions), search.n_best_size), np.zeros(2)
    with engine.session():
        for start in processes.share(range(0, len(questions), ENCODED_AT_ONCE)):
            some = questions[start : start + ENCODED_AT_ONCE]
            columns = windows.encode(tokenizer, some)
            rows = TokenRows(tokenizer, [columns])
            logits = [None] * len(rows)
            for batch in batches_by_length(rows.lengths, batch_size):
                for row, each in zip(batch, engine(rows.arrays(batch)), strict=True):
                    logits[row] = each[: rows.lengths[row]]  # [L, 2]
            losses += _losses(columns, some, logits)
            _collect(found, start, columns, logits, search)
    return found.gathered(processes, losses)


def _losses(columns, questions, logits):
    """The sum of what training minimises, and the number of windows; a question without answers wants [CLS]."""
    total = 0.0
    for row, number in enumerate(columns["overflow_to_sample_mapping"]):
        place = answer_place(columns, row, questions[number].answers)
        total += sum(_cross_entropy(logits[row][:, side], place[side]) for side in (0, 1)) / 2
    return total, len(logits)


def _cross_entropy(logits, place):
    logits = logits.astype(np.float64)
    largest = logits.max()
    return largest + np.log(np.exp(logits - largest).sum()) - logits[place]


def _collect(found, start, columns, logits, search):
    """Writes the best spans of some questions, the first of which is number `start`, into Spans."""
    samples = columns["overflow_to_sample_mapping"]
    widest = widest_windows(columns)
    for number in range(samples[-1] + 1 if samples else 0):
        rows = [row for row, sample in enumerate(samples) if sample == number]
        spans, scores = [np.zeros([0, 2], np.int64)], [np.zeros([0, 2], np.float32)]
        for row in rows:
            places, sums = window_spans(columns, row, logits[row], widest[row], search)
            spans.append(places)
            scores.append(sums)
        spans, scores = np.concatenate(spans), np.concatenate(scores)
        order = np.argsort(-scores.sum(axis=1), kind="stable")[: search.n_best_size]
        index, count = start + number, len(order)
        found.places[index, :count], found.logits[index, :count] = spans[order], scores[order]
        found.counts[index] = count
        found.nulls[index] = min(logits[row][0].sum() for row in rows)


def window_spans(columns, row, logits, widest, search):
    """The spans of a window among its n_best_size likeliest starts and ends: places [K, 2] and logits [K, 2].

    logits: [L, 2]; widest: bool [L], the tokens that have their widest context in this window; a start must be one.
    """
    begin, end = context_span(columns["token_type_ids"][row])
    starts, ends = (np.argsort(side)[: -search.n_best_size - 1 : -1] for side in logits.T)
    lengths = ends[None] - starts[:, None] + 1
    inside = ((starts >= begin) & (starts < end) & widest[starts])[:, None] & ((ends >= begin) & (ends < end))[None]
    first, last = np.nonzero(inside & (lengths >= 1) & (lengths <= search.max_answer_length))
    offsets = np.array(columns["offset_mapping"][row], np.int64).reshape(-1, 2)
    places = np.stack([offsets[starts[first], 0], offsets[ends[last], 1]], 1)
    return places, np.stack([logits[starts[first], 0], logits[ends[last], 1]], 1)


def widest_windows(columns):
    """Of every row, which of its tokens have no wider context in another window of the same question: bool [L].

    As in BERT's code: the context of a token is the smaller number of tokens on its two sides, and a longer window is a
    little wider.
    """
    samples, token_offsets = columns["overflow_to_sample_mapping"], columns["offset_mapping"]
    found = [np.ones(len(ids), bool) for ids in columns["input_ids"]]
    for sample in {sample for sample in samples if samples.count(sample) > 1}:
        widths = {}  # offsets of a token → its widest context, and that window
        rows = [row for row, other in enumerate(samples) if other == sample]
        for row in rows:
            begin, end = context_span(columns["token_type_ids"][row])
            for place in range(begin, end):
                width = min(place - begin, end - 1 - place) + 0.01 * (end - begin)
                if width > widths.get(token_offsets[row][place], (-1, 0))[0]:
                    widths[token_offsets[row][place]] = width, row
        for row in rows:
            begin, end = context_span(columns["token_type_ids"][row])
            found[row][begin:end] = [widths[token_offsets[row][place]][1] == row for place in range(begin, end)]
    return found
