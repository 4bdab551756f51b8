"""The products of the fast path, by Paddle's library and by oneDNN, against float64."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT, forget_gradients

from cpu import onednn, products
from cpu.machine import has_bfloat16
from files.errors import InputError
from modeling import ConvBertConfig, ConvBertForSequenceClassification

AXES = [1, 2, 3, 5, 8, 17, 32, 100]


def ways():
    """(name, type) of all that this machine can do."""
    try:
        onednn.load()
    except OSError:
        return [("paddle", "float32")]
    return [("paddle", "float32"), ("onednn", "float32"), *([("onednn", "bfloat16")] if has_bfloat16() else [])]


@pytest.fixture(params=ways(), ids=" ".join)
def dtype(request, monkeypatch):
    way, dtype = request.param
    monkeypatch.setattr(products, "_chosen", way)
    return dtype


def operand(array, dtype):
    """The tensor, and its value in float64."""
    paddle.full([4096], float("nan"))  # what is allocated next lies in bad memory
    tensor = paddle.to_tensor(array.astype("float32")).astype(dtype)
    return tensor, tensor.astype("float32").numpy().astype("float64")


def close(found, expected):
    np.testing.assert_allclose(found.astype("float32").numpy(), expected, rtol=1e-4, atol=1e-4)


def test_matmul_of_any_shape(dtype):
    random = np.random.default_rng(0)
    for _ in range(300):
        rows, columns, inner = (int(random.choice(AXES)) for _ in range(3))
        transpose_a, transpose_b = random.integers(2, size=2).astype(bool).tolist()
        batch = [[], [], [1], [2, 3]][random.integers(4)]
        a, wide_a = operand(random.normal(size=(*batch, *((inner, rows) if transpose_a else (rows, inner)))), dtype)
        b, wide_b = operand(
            random.normal(size=(*batch, *((columns, inner) if transpose_b else (inner, columns)))), dtype
        )
        wide_a = np.swapaxes(wide_a, -1, -2) if transpose_a else wide_a
        wide_b = np.swapaxes(wide_b, -1, -2) if transpose_b else wide_b
        close(products.matmul(a, b, transpose_a, transpose_b), wide_a @ wide_b)


def test_products_with_and_without_groups(dtype):
    random = np.random.default_rng(0)
    for _ in range(100):
        rows, groups, inner, outer = (int(random.choice(axes)) for axes in (AXES, [1, 2, 3], AXES, AXES))
        x, wide_x = operand(random.normal(size=(rows, groups * inner)), dtype)
        weight, wide_weight = operand(random.normal(size=(groups, inner, outer)), dtype)
        d_out, wide_d = operand(random.normal(size=(rows, groups * outer)), dtype)
        weight = weight[0] if groups == 1 else weight
        parts = zip(np.split(wide_x, groups, axis=1), np.split(wide_d, groups, axis=1), wide_weight, strict=True)
        outs, d_xs, d_weights = zip(*((part @ w, d @ w.T, part.T @ d) for part, d, w in parts), strict=True)
        close(products.product(x, weight), np.concatenate(outs, axis=1))
        d_x, d_weight = products.product_backward(x, weight, d_out)
        close(d_x, np.concatenate(d_xs, axis=1))
        close(d_weight, d_weights[0] if groups == 1 else np.stack(d_weights))


@pytest.mark.skipif(("onednn", "float32") not in ways(), reason="this Paddle brings no oneDNN")
@pytest.mark.parametrize(("rows", "inner"), [(1, 385), (5, 769), (300, 3072)])
def test_long_sums_are_exact_enough(monkeypatch, rows, inner):
    """oneDNN's alone would round so much that a model of base size differs from others' by more than 1e-6."""
    monkeypatch.setattr(products, "_chosen", "onednn")
    random = np.random.default_rng(0)
    x, wide = operand(random.normal(size=(rows, inner)), "float32")
    weight, wide_weight = operand(random.normal(size=(inner, 40)), "float32")
    found, at_once = products.product(x, weight), products.matmul(x, weight)
    close(found, wide @ wide_weight)
    if rows > 100:  # enough to tell
        errors = [np.abs(out.numpy() - wide @ wide_weight).mean() for out in (found, at_once)]
        assert errors[0] < 0.95 * errors[1]


@pytest.mark.skipif(("onednn", "bfloat16") not in ways(), reason="no bfloat16 products here")
def test_results_in_bfloat16():
    random = np.random.default_rng(0)
    x, wide = operand(random.normal(size=(20, 33)), "bfloat16")
    weight, wide_weight = operand(random.normal(size=(33, 12)), "bfloat16")
    found = products.product(x, weight, "bfloat16")
    assert found.dtype == paddle.bfloat16
    np.testing.assert_allclose(found.astype("float32").numpy(), wide @ wide_weight, rtol=2**-8, atol=1e-3)


@pytest.mark.skipif(("onednn", "float32") not in ways(), reason="this Paddle brings no oneDNN")
@pytest.mark.parametrize("groups", [1, 2])
def test_a_model_computes_the_same_through_both_libraries(monkeypatch, groups):
    config = ConvBertConfig.from_preset("convbert-tiny", num_groups=groups, num_hidden_layers=2, num_labels=1)
    paddle.seed(0)
    model = ConvBertForSequenceClassification(config)
    ids = paddle.to_tensor(np.random.default_rng(0).integers(1, 8000, (4, 30)))
    results = []
    for way in products.WAYS:
        monkeypatch.setattr(products, "_chosen", way)
        paddle.seed(1)
        out = model(ids, labels=paddle.arange(4).astype("float32"))
        out.loss.backward()
        results.append([out.logits.numpy(), *(weight.grad.numpy() for weight in model.parameters())])
        forget_gradients(model)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1.0, np.abs(theirs).max()))


@pytest.fixture
def undecided(monkeypatch):
    monkeypatch.setattr(products, "_chosen", None)
    monkeypatch.delenv("CONVBERT_PRODUCTS", raising=False)


@pytest.fixture
def without_onednn(undecided, monkeypatch):
    def missing():
        raise OSError("no library")

    monkeypatch.setattr(onednn, "load", missing)


def test_without_onednn_paddle_multiplies(without_onednn):
    assert products.choice() == "paddle"


def test_one_choice_for_a_process(undecided):
    first = products.choice()
    assert first in products.WAYS
    assert all(products.choice() == first for _ in range(3))


@pytest.mark.skipif(("onednn", "float32") not in ways(), reason="this Paddle brings no oneDNN")
@pytest.mark.parametrize("way", products.WAYS)
def test_the_environment_forces_a_library(undecided, monkeypatch, way, caplog):
    monkeypatch.setenv("CONVBERT_PRODUCTS", way)
    calls = []
    multiply = onednn.load().matmul
    monkeypatch.setattr(onednn.load(), "matmul", lambda *args: calls.append(1) or multiply(*args))
    products.matmul(paddle.ones([3, 4]), paddle.ones([4, 5]))
    assert bool(calls) == (way == "onednn")
    other = products.WAYS[way == "paddle"]
    assert products.choose(other) == products.choice() == way  # in a run that was begun with the other one, too
    assert f"products by {way}, until now by {other}" in caplog.text


@pytest.mark.skipif(("onednn", "float32") not in ways(), reason="this Paddle brings no oneDNN")
@pytest.mark.parametrize("way", products.WAYS)
def test_what_a_run_was_begun_with_is_kept(undecided, way, caplog):
    assert products.choose(way) == products.choice() == way
    assert not caplog.text


def test_a_run_begun_with_what_is_missing_here_says_so(without_onednn, caplog):
    assert products.choose("onednn") == products.choice() == "paddle"
    assert "products by paddle, until now by onednn, which rounds differently (no library)" in caplog.text


@pytest.mark.parametrize("wrong", ["mkl", " ", "OneDNN"])
def test_an_unknown_library_is_refused(undecided, monkeypatch, wrong):
    monkeypatch.setenv("CONVBERT_PRODUCTS", wrong)
    with pytest.raises(InputError, match=f"CONVBERT_PRODUCTS={wrong}: must be paddle, onednn or auto"):
        products.choice()


def test_a_library_that_is_missing_is_refused(without_onednn, monkeypatch):
    monkeypatch.setenv("CONVBERT_PRODUCTS", "onednn")
    with pytest.raises(InputError, match="CONVBERT_PRODUCTS=onednn: no library"):
        products.choice()


def test_a_script_refuses_an_unknown_library(tmp_path):
    model = ConvBertForSequenceClassification(ConvBertConfig.from_preset("convbert-tiny", num_hidden_layers=1))
    model.save_pretrained(str(tmp_path))
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    done = subprocess.run(
        [sys.executable, ROOT / "predict.py", "--model", tmp_path, "--device", "cpu", "a text"],
        env={**os.environ, "CONVBERT_PRODUCTS": "mkl"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "predict.py: CONVBERT_PRODUCTS=mkl: must be paddle, onednn or auto" in done.stderr
    assert "Traceback" not in done.stderr
