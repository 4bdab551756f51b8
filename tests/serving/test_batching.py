"""The thread that computes: right answers, in batches of what waits, fairly, for those who still wait."""

import itertools
import threading

import numpy as np
import pytest
from conftest import needs
from test_export import model_folder

import export
from files.errors import InputError
from serving.batching import Batcher, Busy, Closed, cheapest_parts
from serving.predictor import NoNumber, Predictor

TEXTS = [" ".join(["film"] * (5 * number % 24) + [word]) for number in range(8) for word in ("good", "bad", "long")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "model", label_names=["bad", "good"])


@pytest.fixture
def batcher_of():
    """Predictor, flags → a Batcher whose thread ends with the test."""
    made = []

    def make(predictor, **settings):
        made.append(Batcher(predictor, **settings))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close(begun_too=True)
        assert batcher.join(10)


@pytest.fixture
def batcher(folder, batcher_of):
    return batcher_of(Predictor(folder, independent=True))


class Busily:
    """While this block runs the thread does nothing else, so that what is submitted waits."""

    def __init__(self, batcher):
        self._batcher, self._begun, self._go_on = batcher, threading.Event(), threading.Event()

    def __enter__(self):
        def wait():
            self._begun.set()
            assert self._go_on.wait(20)

        self._batcher.call(wait)
        assert self._begun.wait(20)

    def __exit__(self, *_):
        self._go_on.set()


class Gated:
    """An engine that computes a batch whenever it is let."""

    name = "dynamic"

    def __init__(self, engine):
        self.session, self._engine = engine.session, engine
        self.asked, self.let = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, arrays):
        self.asked.release()
        assert self.let.acquire(timeout=20)
        return self._engine(arrays)


def chances(predictions):
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.mark.parametrize("kind", ["masked", "independent", "reads padding", "bert"])
def test_answers_are_those_of_the_text_alone(tmp_path, batcher_of, kind):
    model_type = "bert" if kind == "bert" else "convbert"
    settings = {"mask_conv_padding": True} if kind == "masked" else {}
    folder = model_folder(tmp_path / "model", model_type, label_names=["bad", "good"], **settings)
    predictor = Predictor(folder, batch_size=16, independent=kind == "independent")
    assert predictor.reads_padding == (kind == "reads padding")
    expected = chances(Predictor(folder)([text])[0] for text in TEXTS)
    batcher = batcher_of(predictor)
    with Busily(batcher):
        futures = [batcher.submit([text]) for text in TEXTS[::2]] + [batcher.submit(TEXTS[1::2])]
    found = np.empty_like(expected)
    found[::2] = chances(future.result(20)[0] for future in futures[:-1])
    found[1::2] = chances(futures[-1].result(20))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert batcher.batch_sizes.sum == len(TEXTS)
    assert batcher.batch_sizes.count < len(TEXTS)


@needs("paddle2onnx", "onnxruntime")
def test_a_program_s_answers_are_those_of_the_text_alone(folder, tmp_path, batcher_of):
    """Of 8-bit integers: one scale for all that is in a batch."""
    command = ["--model", str(folder), "--output", str(tmp_path / "program"), "--format", "onnx", "--int8"]
    assert export.main(command) == 0
    predictor = Predictor(tmp_path / "program")
    assert (predictor.reads_padding, predictor.shares_scale) == (True, True)
    expected = chances(predictor([text])[0] for text in TEXTS)
    batcher = batcher_of(predictor)
    np.testing.assert_allclose(chances(batcher.submit(TEXTS).result(20)), expected, atol=1e-6)
    assert np.abs(chances(predictor(TEXTS)) - expected).max() > 1e-6


def test_pairs_and_single_texts_in_one_batch(batcher):
    expected = chances([*batcher.predictor(["a film"], ["so good"]), *batcher.predictor(["a good film"])])
    with Busily(batcher):
        futures = [batcher.submit(["a film"], ["so good"]), batcher.submit(["a good film"])]
    np.testing.assert_allclose(chances(future.result(20)[0] for future in futures), expected, atol=1e-6)
    assert batcher.batch_sizes.count == 1


def test_an_idle_thread_begins_at_once_unless_it_shall_wait(folder, batcher_of):
    predictor = Predictor(folder, batch_size=4, independent=True)
    assert batcher_of(predictor).submit(["good"]).result(20)
    patient = batcher_of(predictor, wait_seconds=60)
    first = patient.submit(["good"])
    with pytest.raises(TimeoutError):
        first.result(0.2)
    others = patient.submit(["bad"] * 3)  # the batch is full
    assert first.result(20)
    assert len(others.result(20)) == 3
    assert patient.batch_sizes.count == 1
    brief = batcher_of(predictor, wait_seconds=0.05)
    assert brief.submit(["good"]).result(20)


def test_many_texts_do_not_hold_up_a_few(folder, batcher_of):
    batcher = batcher_of(Predictor(folder, batch_size=8, independent=True))
    batches = []
    with Busily(batcher):
        many = batcher.submit(["film"] * 200)
        few = [batcher.submit(["good"]) for _ in range(3)]
        for future in few:
            future.add_done_callback(lambda _: batches.append(batcher.batch_sizes.count))
    assert len(many.result(20)) == 200
    assert batches == [1, 1, 1]


def test_many_texts_are_not_held_up_for_good(folder, batcher_of):
    """By small requests of which there is always one more."""
    predictor = Predictor(folder, batch_size=2, independent=True)
    batcher = batcher_of(predictor)
    many = batcher.submit(["film"] * 20)

    def again(future):
        if not many.done():
            batcher.submit(["good"]).add_done_callback(again)

    for _ in range(6):
        batcher.submit(["good"]).add_done_callback(again)
    assert len(many.result(20)) == 20


def test_what_nobody_waits_for_is_not_computed(batcher):
    with Busily(batcher):
        left = [batcher.submit(["good"] * 5), batcher.submit(["bad"])]
        stays = batcher.submit(["film"])
        assert all(future.cancel() for future in left)
    assert stays.result(20)
    assert batcher.batch_sizes.sum == 1


def test_only_so_many_texts_wait(folder, batcher_of):
    batcher = batcher_of(Predictor(folder, independent=True), most_waiting=10)
    with Busily(batcher):
        first = batcher.submit(["film"] * 9)  # with the function that the thread is busy with, 10
        assert batcher.waiting == 10
        with pytest.raises(Busy) as refused:
            batcher.submit(["one more"])
        assert refused.value.seconds >= 1
    assert len(first.result(20)) == 9
    assert len(batcher.submit(["film"] * 10).result(20)) == 10


def test_the_end(folder, batcher_of):
    """What has begun is finished, unless that takes too long; what waits is told."""
    predictor = Predictor(folder, batch_size=1, independent=True)
    predictor.engine = gated = Gated(predictor.engine)
    for patience in (True, False):
        batcher = batcher_of(predictor)
        begun = batcher.submit(["good", "bad", "film"])
        assert gated.asked.acquire(timeout=20)
        waits = batcher.submit(["long"])
        batcher.close()
        assert isinstance(waits.exception(0), Closed)
        with pytest.raises(Closed):
            batcher.submit(["late"])
        if patience:
            gated.let.release(3)
            assert len(begun.result(20)) == 3
            assert [gated.asked.acquire(timeout=0) for _ in range(3)] == [True, True, False]
        else:
            batcher.close(begun_too=True)
            assert isinstance(begun.exception(0), Closed)
            gated.let.release()
        assert batcher.join(20)
    assert batcher.batch_sizes.sum == 1


def test_errors_stay_with_their_requests(batcher):
    engine = batcher.predictor.engine

    class Sometimes(Gated):
        def __call__(self, arrays):
            logits = engine(arrays)
            logits[arrays["input_ids"].shape[1] - arrays["attention_mask"].sum(1) > 3] = np.nan  # the shorter text
            if len(logits) == 3:
                raise RuntimeError("out of memory")
            return logits

    batcher.predictor.engine = Sometimes(engine)
    with Busily(batcher):
        damaged = batcher.submit(["a lone \ud800"])
        short, long = batcher.submit(["good"]), batcher.submit(["good film " * 5])
    assert isinstance(damaged.exception(20), InputError)
    assert isinstance(short.exception(20), NoNumber)
    assert long.result(20)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(["good", "bad", "film"]).result(20)
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 / 0).result(20)
    assert batcher.submit(["good"]).result(20)


def test_the_cheapest_parts_are():
    """Beside all ways of cutting up texts in order of length."""
    random = np.random.default_rng(0)
    for count in (1, 2, 5, 9):
        lengths = random.integers(3, 60, count)
        ordered = np.sort(lengths)
        for call in (0, 20, 1000):
            ways = itertools.product([False, True], repeat=count - 1)
            parts = (np.split(ordered, 1 + np.flatnonzero(way)) for way in ways)
            best = min(sum(call + len(part) * part.max() for part in way) for way in parts)
            found = cheapest_parts(lengths, call)
            assert sum(call + len(part) * lengths[part].max() for part in found) == best
            assert sorted(itertools.chain(*found)) == list(range(count))
