"""One thread that computes for all requests: what arrives while it works forms its next batches."""

import contextlib
import itertools
import math
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import NamedTuple

import numpy as np

from serving.metrics import ROWS, Histogram
from serving.predictor import NoNumber

MOST_WAITING = 2000  # texts
CALL = 64  # tokens that take as long as what a call of the model costs beside its tokens


class Busy(Exception):
    """Too many texts wait already. Attribute `seconds`: after which to ask again."""

    def __init__(self, seconds):
        super().__init__(f"too many texts are waiting; ask again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The server is about to end."""

    def __init__(self):
        super().__init__("the server is about to end")


class _Job:
    """A request: texts, or a function, which is computed by itself."""

    def __init__(self, texts=(), pairs=None, function=None):
        self.texts, self.pairs, self.function = texts, pairs, function
        self.future, self.arrived = Future(), time.monotonic()
        self.rows = None  # place in the request → _Row, in order of length: what is still to be computed
        self.answers = [None] * max(1, len(texts))
        self.missing = len(self.answers)

    @property
    def has_begun(self):
        return self.rows is not None and len(self.rows) < len(self.answers)

    def encode(self, predictor):
        if self.function:
            self.rows = {0: _Row(self, 0, None)}
            return
        try:
            inputs = predictor.encode(self.texts, self.pairs)
        except Exception as error:  # a text that is no Unicode, or a defect
            self.rows = {}
            self.fail(error)
            return
        order = sorted(range(len(inputs)), key=lambda place: len(inputs[place]["input_ids"]))
        self.rows = {place: _Row(self, place, inputs[place]) for place in order}
        self.texts = self.pairs = None

    def answer(self, place, answer):
        self.answers[place] = answer
        self.missing -= 1
        if not self.missing:
            with contextlib.suppress(InvalidStateError):  # the client has left, or heard that the server ends
                self.future.set_result(self.answers)

    def fail(self, error):
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class _Row(NamedTuple):
    job: _Job
    place: int
    inputs: dict | None  # name → L numbers; None for a function

    @property
    def length(self):
        return len(self.inputs["input_ids"])


class Batcher:
    """Computes what is submitted, in one thread of its own, in batches across requests.

    Every batch is of the next text of each request in turn, so that one of many texts does not hold up the others. An
    idle thread begins at once. An answer does not depend on other texts: where padding would change it, a batch is of
    texts of one length, and where all that is in a batch would, of one text.

    Args:
        predictor: predictor.Predictor, whose batch_size is the largest batch's.
        wait_seconds: how long a text may wait for a batch to become full.
        most_waiting: texts, above which nothing more is taken.

    Attributes:
        batch_sizes: metrics.Histogram of the batches computed so far.
    """

    def __init__(self, predictor, wait_seconds=0.0, most_waiting=MOST_WAITING):
        self.predictor, self.batch_sizes = predictor, Histogram(ROWS)
        self._wait_seconds, self._most_waiting = wait_seconds, most_waiting
        self._jobs, self._closed = [], False  # in the order of their turns
        self._change = threading.Condition()  # of both
        self._seconds = 0.0  # spent in batches
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------------- for other threads

    def submit(self, texts, pairs=None):
        """A Future of the texts' Predictions, which may be cancelled. Raises Busy, Closed; it may raise InputError."""
        if not texts:
            done = Future()
            done.set_result([])
            return done
        return self._add(_Job(texts, pairs))

    def call(self, function):
        """A Future of what the function returns when it is called between two batches. Raises Busy, Closed."""
        return self._add(_Job(function=function))

    @property
    def waiting(self):
        """Texts and functions that were submitted and not computed yet."""
        return sum(job.missing for job in self._jobs)

    def close(self, begun_too=False):
        """From now on nothing is taken, what waits fails with Closed; `begun_too`: also what has begun."""
        with self._change:
            self._closed = True
            for job in self._jobs:
                if begun_too or not job.has_begun:
                    job.fail(Closed())
            self._change.notify()

    def join(self, seconds):
        """Waits for the thread, which ends when it was told to close. Returns whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _add(self, job):
        with self._change:
            if self._closed:
                raise Closed
            if (waiting := self.waiting) + job.missing > self._most_waiting:
                raise Busy(max(1, math.ceil(waiting * self._seconds / max(1, self.batch_sizes.sum))))
            self._jobs.append(job)
            self._change.notify()
        return job.future

    # -------------------------------------------------------------------------------------------------- the thread

    def _work(self):
        rows = self._next()
        while rows:
            if function := rows[0].job.function:  # outside of the session, which is one of texts
                self._call(function, rows[0].job)
                rows = self._next()
                continue
            with self.predictor.engine.session():
                while rows and not rows[0].job.function:
                    self._compute(rows)
                    rows = self._next()

    def _next(self):
        """Waits for work. Returns the _Rows of the next batch, or one that is a function; none at the end."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._closed)
                if self._wait_seconds and self._jobs:
                    left = self._jobs[0].arrived + self._wait_seconds - time.monotonic()
                    self._change.wait_for(lambda: self._closed or self.waiting >= self.predictor.batch_size, left)
                jobs = [job for job in self._jobs if not job.future.done()]
            for job in jobs:
                if job.rows is None:
                    job.encode(self.predictor)
            with self._change:
                self._jobs = [job for job in self._jobs if not job.future.done()]
                if rows := self._choose([job for job in self._jobs if job.rows]):
                    for row in rows:
                        del row.job.rows[row.place]
                    chosen = {row.job for row in rows}
                    self._jobs = sorted(self._jobs, key=chosen.__contains__)
                    return rows
                if self._closed and not self._jobs:
                    return []

    def _choose(self, jobs):
        """Of the texts whose turn it is, those that the first of them is best computed with."""
        most = self.predictor.batch_size
        turns = itertools.zip_longest(*(job.rows.values() for job in jobs[:most]))
        first = list(itertools.islice((row for turn in turns for row in turn if row), most))
        if not first or first[0].job.function:
            return first[:1]
        rows = [row for row in first if not row.job.function]
        if self.predictor.shares_scale:
            return rows[:1]
        if self.predictor.reads_padding:
            return [row for row in rows if row.length == rows[0].length]
        parts = cheapest_parts([row.length for row in rows])
        return next([rows[index] for index in part] for part in parts if 0 in part)

    def _compute(self, rows):
        started = time.monotonic()
        try:
            logits = self.predictor.compute([row.inputs for row in rows])
            answers = self.predictor.answers(logits)
        except Exception as error:  # a defect: the answer of its requests, not the end of all others
            for row in rows:
                row.job.fail(error)
            return
        self._seconds += time.monotonic() - started
        self.batch_sizes.add(len(rows))
        for row, answer, good in zip(rows, answers, np.isfinite(logits).all(axis=1), strict=True):
            if good:
                row.job.answer(row.place, answer)
            else:
                row.job.fail(NoNumber(f"{self.predictor.folder}: no number (NaN or infinity); its weights are damaged"))

    @staticmethod
    def _call(function, job):
        try:
            job.answer(0, function())
        except Exception as error:
            job.fail(error)


def cheapest_parts(lengths, call=CALL):
    """Rows of these lengths as batches, lists of indices: in order of length, cut where padding costs more than a call.

    call: tokens that a call costs beside its tokens, those of padding included.
    """
    order = np.argsort(lengths, kind="stable")
    lengths, count = np.asarray(lengths)[order], len(order)
    costs, starts = np.zeros(count + 1), np.zeros(count + 1, np.int64)  # of the first rows; where the last part begins
    for end in range(1, count + 1):
        totals = costs[:end] + call + lengths[end - 1] * np.arange(end, 0, -1)
        starts[end] = totals.argmin()
        costs[end] = totals[starts[end]]
    parts, end = [], count
    while end:
        parts.append(order[starts[end] : end].tolist())
        end = starts[end]
    return parts[::-1]
