"""Steps whose loss stays on the device until the next one has been handed over; here with the CPU as that device."""

import numpy as np
import paddle
import pytest
import test_run_glue
import test_run_pretrain

import run_glue
import run_pretrain
from files.json_files import read_json
from files.weights import read_weights
from training import device, order
from training.loop import Steps


@pytest.fixture
def late(monkeypatch):
    """Losses are tensors; gives [(step, step whose loss was read in it)]."""
    heard, note = [], Steps._note

    def noting(self, step, found):
        heard.append((self.step, step))
        return note(self, step, found)

    def unread(values):
        values = values.detach() if isinstance(values, paddle.Tensor) else paddle.to_tensor(values)
        return values.astype("float64")

    monkeypatch.setattr(device, "figures", unread)
    monkeypatch.setattr(Steps, "_note", noting)
    return heard


def same(first, second):
    one, other = (read_weights(folder / "last") for folder in (first, second))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
    one, other = (read_json(folder / "results.json") for folder in (first, second))
    for name in ("log", "evaluations", "skipped_steps"):
        assert one[name] == other[name]


FLAGS = dict(max_steps=6, logging_steps=3, save_steps=6)


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")  # the one pass over all weights knows no undecided steps


def test_a_fine_tuning_is_the_same(tmp_path, request):
    small = test_run_glue.configured(tmp_path / "small")
    assert run_glue.main(test_run_glue.command(small, tmp_path / "at once", **FLAGS)) == 0
    heard = request.getfixturevalue("late")
    assert run_glue.main(test_run_glue.command(small, tmp_path / "late", **FLAGS)) == 0
    same(tmp_path / "at once", tmp_path / "late")
    assert heard == [(2, 1), (3, 2), (3, 3), (5, 4), (6, 5), (6, 6)]  # at once where it is logged


def test_a_pretraining_is_the_same(tmp_path, request):
    small = test_run_pretrain.configured(tmp_path / "small")
    command = test_run_pretrain.command(small, tmp_path / "at once", tmp_path / "data", **FLAGS)
    assert run_pretrain.main(command) == 0
    request.getfixturevalue("late")
    command = test_run_pretrain.command(small, tmp_path / "late", tmp_path / "data", **FLAGS)
    assert run_pretrain.main(command) == 0
    same(tmp_path / "at once", tmp_path / "late")


def test_a_loss_that_is_no_number_is_skipped(tmp_path, late, monkeypatch, capsys):
    """Said one step later, by its own number; weights are as they were."""
    mean_loss, weights = run_glue.mean_loss, []

    def broken(run, inputs):
        weights.append([weight.numpy() for weight in run.model.parameters()])
        return mean_loss(run, inputs) * (np.nan if len(weights) == 2 else 1)

    monkeypatch.setattr(run_glue, "mean_loss", broken)
    small = test_run_glue.configured(tmp_path / "small")
    assert run_glue.main(test_run_glue.command(small, tmp_path / "out", **FLAGS)) == 0
    assert read_json(tmp_path / "out/results.json")["skipped_steps"] == 1
    assert capsys.readouterr().err.count("warning: the loss of step 2 is nan: step skipped\n") == 1
    for before, after in zip(weights[1], weights[2], strict=True):
        np.testing.assert_array_equal(before, after)
    assert any((before != after).any() for before, after in zip(weights[2], weights[3], strict=True))


def test_ten_in_a_row_stop_the_run(tmp_path, late, monkeypatch, capsys):
    monkeypatch.setattr(run_glue, "mean_loss", lambda run, inputs: run.model.classifier.out_proj.bias.sum() * np.nan)
    small = test_run_glue.configured(tmp_path / "small")
    command = test_run_glue.command(small, tmp_path / "out", max_steps=30, logging_steps=30, save_steps=30)
    assert run_glue.main(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("the loss was no number in 10 steps, up to step 10; nothing was saved yet")


def test_batches_are_made_ahead(monkeypatch):
    made = []
    make = lambda key: made.append(key) or key  # noqa: E731
    batches = order.ahead(make, range(4))
    assert next(batches) == 0
    assert made == [0]
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    del made[:]
    batches = order.ahead(make, range(4))
    assert next(batches) == 0
    assert 1 in made or next(batches) == 1
    assert list(batches)[-1] == 3
    assert made == [0, 1, 2, 3]
    assert list(order.ahead(make, range(1))) == [0]
    assert list(order.ahead(make, range(0))) == []


def test_what_fails_in_the_thread_fails_the_run(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    batches = order.ahead(lambda key: 1 // key, [1, 0])
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)
