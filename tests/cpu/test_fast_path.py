"""The CPU path of every function against its plain definition, and what only this path has to get right."""

import ast
import os
import shutil
import subprocess
import sys
import threading

import numba
import numpy as np
import paddle
import pytest
from both_paths import check, random
from conftest import ROOT
from given_weights import mixed_attention, weight_shapes

from cpu import compiler
from cpu.loops import loops
from cpu.operands import array, draw_dropout
from files.errors import InputError
from layers import functions
from layers.functions import FeedForwardWeights, embeddings, language_model, linear


def attention_arrays(batch, length, heads=2, size=8, taps=9, hidden=24):
    shapes = [[batch, length, hidden], *weight_shapes(hidden, heads * size, heads, taps)]
    return [random(*shape, seed=index) * (0.4 if index else 1.0) for index, shape in enumerate(shapes)]


def attention(heads=2, mask=None, real=None, attention_dropout=0.0, dropout=0.0):
    def function(x, *weights):
        keys = np.zeros([x.shape[0], 1, 1, x.shape[1]]) if mask is None else mask
        keys, tokens = paddle.to_tensor(keys, x.dtype), None if real is None else paddle.to_tensor(real, x.dtype)
        return mixed_attention(x, keys, tokens, weights, heads, attention_dropout, dropout)

    return function


def feed_forward(dropout=0.0, activation="gelu"):
    def function(x, *weights):
        return functions.feed_forward(x, FeedForwardWeights(*weights), activation, 1e-12, dropout, True)

    return function


def feed_forward_arrays(batch=2, length=5, hidden=24, inner=40, groups=None):
    first, second = [hidden, inner], [inner, hidden]
    if groups:
        first = [groups, hidden // groups, inner // groups]
        second = [groups, inner // groups, hidden // groups]
    shapes = [[batch, length, hidden], first, [inner], second, [hidden], [hidden], [hidden]]
    return [random(*shape, seed=index) for index, shape in enumerate(shapes)]


# ------------------------------------------------------------------------------------------------- the same results


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 4), (3, 1), (2, 17), (5, 40)])
@pytest.mark.parametrize("taps", [1, 3, 5, 9])
def test_mixed_attention(monkeypatch, batch, length, taps):
    check(monkeypatch, attention(), attention_arrays(batch, length, taps=taps))


@pytest.mark.parametrize(("heads", "size"), [(1, 8), (1, 1), (3, 5)])
def test_mixed_attention_with_other_heads(monkeypatch, heads, size):
    check(monkeypatch, attention(heads), attention_arrays(2, 7, heads, size))


@pytest.mark.parametrize("shape", [(3, 1, 1, 6), (1, 1, 1, 6), (3, 1, 6, 6), (3, 2, 6, 6), (1, 2, 1, 6)])
def test_every_mask_that_broadcasts(monkeypatch, shape):
    mask = np.where(random(*shape, seed=5) > 0.5, np.float32(-1e4), np.float32(0.0))
    check(monkeypatch, attention(mask=mask), attention_arrays(3, 6))


def test_convolutions_that_do_not_see_padding(monkeypatch):
    real = np.ones([3, 6, 1], "float32")
    real[0, 4:] = real[2, 1:] = 0
    check(monkeypatch, attention(real=real), attention_arrays(3, 6))


@pytest.mark.parametrize("frozen", [{0}, {1, 2}, {9}, {5, 16, 17}, set(range(1, 18))])
def test_some_inputs_want_no_gradient(monkeypatch, frozen):
    check(monkeypatch, attention(), attention_arrays(2, 5), frozen)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 1), (2, 17)])
@pytest.mark.parametrize("groups", [None, 1, 2])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])  # of the last there is the definition only
def test_feed_forward(monkeypatch, batch, length, groups, activation):
    function, arrays = feed_forward(activation=activation), feed_forward_arrays(batch, length, groups=groups)
    check(monkeypatch, function, arrays)
    check(monkeypatch, function, arrays, frozen={0, 3, 6})
    monkeypatch.setenv("CONVBERT_KERNELS", "auto")
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    expected = function(*tensors).numpy()
    with paddle.no_grad():
        np.testing.assert_array_equal(function(*tensors).numpy(), expected)


@pytest.mark.parametrize("shape", [(1, 6), (2, 3, 6), (2, 1, 3, 6)])
def test_linear(monkeypatch, shape):
    check(monkeypatch, linear, [random(*shape), random(6, 4), random(4)])
    check(monkeypatch, linear, [random(*shape), random(6, 4), random(4)], frozen={0, 2})


def language_model_arrays(count, vocabulary, size=8):
    return [random(count, size), random(vocabulary, size, seed=1), random(vocabulary, seed=2)]


# a vocabulary of more than one block of words; more rows than are worked on at a time
@pytest.mark.parametrize(("count", "vocabulary"), [(1, 1), (3, 11), (40, 256), (5, 700), (1100, 300)])
@pytest.mark.parametrize("frozen", [set(), {1}, {0, 2}])
def test_language_model(monkeypatch, count, vocabulary, frozen):
    arrays = language_model_arrays(count, vocabulary)
    logits = arrays[0].astype(float) @ arrays[1].T + arrays[2]
    labels = np.random.default_rng(3).integers(0, vocabulary, count)
    labels[-1] = logits[-1].argmin()
    found = []

    def function(*inputs):
        draws = paddle.to_tensor(np.random.default_rng(4).random(count), inputs[0].dtype)
        loss, *words = language_model(*inputs, paddle.to_tensor(labels), draws)
        found.append([array.numpy() for array in words])
        return 3 * loss.unsqueeze(0)  # a gradient other than 1

    check(monkeypatch, function, arrays, frozen)
    (best, drawn), (expected_best, expected_drawn) = found
    np.testing.assert_array_equal(best, expected_best)
    assert (drawn != expected_drawn).mean() < 0.005  # a draw may lie between the two paths' sums


def test_drawn_words_follow_the_softmax():
    logits = np.array([0.0, 1.0, 2.0, -1.0] * 100 + [4.0], "float32")  # the last is in the second block of words
    inputs = paddle.zeros([20000, 1]), paddle.zeros([401, 1]), paddle.to_tensor(logits)
    drawn = language_model(*inputs, paddle.zeros([20000], "int64"), paddle.rand([20000]))[2].numpy()
    shares = np.exp(logits) / np.exp(logits).sum()
    assert (drawn == 400).mean() == pytest.approx(shares[400], abs=0.005)
    for kind in range(4):
        assert (drawn[drawn < 400] % 4 == kind).mean() == pytest.approx(
            np.exp(logits[kind]) / np.exp(logits[:4]).sum(), abs=0.015
        )
    for draw, word in ((0.0, 0), (np.nextafter(np.float32(1), np.float32(0)), 400)):
        one = language_model(
            *(t[:1] for t in inputs[:1]), *inputs[1:], paddle.zeros([1], "int64"), paddle.full([1], draw)
        )
        assert one[2].item() == word


def test_without_gradients_the_language_model_says_the_same():
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in language_model_arrays(40, 300)]
    labels, draws = paddle.arange(40), paddle.rand([40])
    expected = language_model(*inputs, labels, draws)
    with paddle.no_grad():
        found = language_model(*inputs, labels, draws)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    with pytest.raises(ValueError, match="labels from 0 to 300 for 300 words"):
        language_model(*inputs, labels * 300 // 39, draws)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_reach_the_language_model_s_loss(bad):
    inputs = [paddle.to_tensor(array, stop_gradient=False) for array in language_model_arrays(40, 300)]
    with paddle.no_grad():
        inputs[0][7, 3] = bad
    loss, *_ = language_model(*inputs, paddle.arange(40), paddle.rand([40]))
    assert not np.isfinite(float(loss))
    loss.backward()
    assert all(not np.isfinite(tensor.grad.numpy()).all() for tensor in inputs)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("given", [False, True])
def test_embeddings(monkeypatch, dtype, given):
    ids, positions, types = (paddle.to_tensor(np.random.default_rng(s).integers(0, 3, (4, 7)), dtype) for s in range(3))
    extra = (positions, types) if given else (None, None)
    tables = [random(11, 20), random(9, 20, seed=1), random(3, 20, seed=2), random(20, seed=3), random(20, seed=4)]
    check(monkeypatch, lambda *t: embeddings(ids, None, *extra, *t, 0, 1e-12, 0.0, True), tables)
    check(monkeypatch, lambda *t: embeddings(ids, None, positions[0], None, *t, 0, 1e-12, 0.0, True), tables, {0, 3})


def test_ids_outside_the_vocabulary_are_refused():
    tables = [paddle.ones([5, 4]), paddle.ones([5, 4]), paddle.ones([2, 4]), paddle.ones([4]), paddle.ones([4])]
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="an embedding of 5 rows"):
            embeddings(paddle.to_tensor([[0, wrong]]), None, None, None, *tables, 0, 1e-12, 0.0, True)


def test_inputs_that_are_not_contiguous(monkeypatch):
    arrays = attention_arrays(3, 6)
    arrays[0] = arrays[0].transpose(2, 0, 1).copy()
    function = attention()
    check(monkeypatch, lambda x, *weights: function(x.transpose([1, 2, 0]), *weights), arrays)
    arrays = feed_forward_arrays()
    arrays[1] = arrays[1].T.copy()
    check(monkeypatch, lambda x, w, *rest: feed_forward()(x, w.t(), *rest), arrays)
    monkeypatch.setenv("CONVBERT_KERNELS", "auto")
    check(monkeypatch, lambda x, w, b: linear(x.transpose([0, 2, 1]), w.t(), b[::2]), [
        random(2, 6, 3), random(4, 6), random(8),
    ])  # fmt: skip
    x = paddle.to_tensor(random(2, 3, 6), stop_gradient=False)
    linear(x, paddle.ones([6, 4]), paddle.zeros([4])).sum().backward()  # a gradient without strides
    np.testing.assert_array_equal(x.grad.numpy(), 4.0)


def test_inference_equals_training_without_dropout(monkeypatch):
    for function, arrays in ((attention(), attention_arrays(2, 6)), (feed_forward(), feed_forward_arrays())):
        trained = function(*(paddle.to_tensor(a, stop_gradient=False) for a in arrays))
        with paddle.no_grad():
            inferred = function(*map(paddle.to_tensor, arrays))
        np.testing.assert_array_equal(trained.numpy(), inferred.numpy())
        assert inferred.stop_gradient


def test_gelu_and_its_derivative_are_exact():
    from scipy.special import ndtr

    x = np.concatenate([np.linspace(-12, 12, 100_001), [0.0, -0.0, 1e-30, -1e-30, 40.0]]).astype("float32")[None]
    wide = x.astype("float64")
    out, d_bias = np.empty_like(x), np.empty((compiler.PARTS, x.shape[1]), "float32")
    bias = np.zeros(x.shape[1], "float32")
    loops.bias_gelu(x, bias, out)
    np.testing.assert_allclose(out, wide * ndtr(wide), rtol=3e-7, atol=1e-7)
    gradient = np.ones_like(x)
    loops.bias_gelu_backward(x, bias, gradient, d_bias)
    density = np.exp(-(wide**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(gradient, ndtr(wide) + wide * density, rtol=0, atol=5e-7)


def test_softmax_is_exact_and_gives_the_masked_nothing():
    scores = random(2, 1, 40, 40) * 8
    mask = np.where(random(2, 1, 1, 40, seed=1) > 1, np.float32(-1e4), np.float32(0))
    wide = scores.astype("float64") + mask
    expected = np.exp(wide - wide.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    loops.softmax(scores, mask)
    np.testing.assert_allclose(scores, expected, rtol=2e-6, atol=1e-9)
    assert (scores[np.broadcast_to(mask < 0, scores.shape)] == 0).all()


# -------------------------------------------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("length", [3, 40])  # short rows don't fill a vector register
def test_bad_numbers_reach_the_output_of_their_sequence_and_no_other(bad, length):
    for function, arrays in (
        (attention(), attention_arrays(2, length)),
        (feed_forward(), feed_forward_arrays(2, length)),
        (feed_forward(activation="relu"), feed_forward_arrays(2, length)),
    ):
        arrays[0][1, length // 2, 3] = bad
        out = function(*map(paddle.to_tensor, arrays)).numpy()
        assert not np.isfinite(out[1, length // 2]).any()
        assert np.isfinite(out[0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_reach_every_gradient(monkeypatch, bad):
    monkeypatch.setenv("CONVBERT_KERNELS", "auto")
    for function, arrays in ((attention(), attention_arrays(1, 6)), (feed_forward(), feed_forward_arrays())):
        tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
        (function(*tensors) * bad).sum().backward()
        assert not any(np.isfinite(tensor.grad.numpy()).all() for tensor in tensors)


# ------------------------------------------------------------------------------------------------------------ dropout


def dropped_ones(rate, shape=(64, 1000)):
    """Where embeddings of 1 survive dropout, and what they become."""
    ids = paddle.zeros(shape[:1], "int64").unsqueeze(0)
    tables = [paddle.zeros([1, shape[1]])] * 3 + [paddle.zeros([shape[1]]), paddle.ones([shape[1]])]
    return embeddings(ids, None, paddle.zeros_like(ids), None, *tables, -1, 1e-12, rate, True).numpy()[0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.999])
def test_dropout_has_the_right_rate_and_is_unbiased(rate):
    paddle.seed(1)
    ones = np.concatenate([dropped_ones(rate) for _ in range(10)])
    kept = ones != 0
    spread = (rate * (1 - rate) / ones.size) ** 0.5
    assert kept.mean() == pytest.approx(1 - rate, abs=5 * spread)
    np.testing.assert_allclose(ones[kept], 1 / (1 - rate), rtol=1e-6)
    for axis in (0, 1):  # no row and no column is favoured
        rates = kept.mean(axis)
        assert rates.std() == pytest.approx((rate * (1 - rate) / ones.shape[axis]) ** 0.5, rel=0.25)


def test_dropout_differs_from_call_to_call_and_follows_the_seed():
    paddle.seed(1)
    masks = [dropped_ones(0.5) != 0 for _ in range(4)]
    flat = [mask.ravel() for mask in masks]
    for i in range(4):
        for j in range(i):
            for shift in (0, 1, 1000):  # nor is one the other, moved
                agreement = (flat[i][: -shift or None] == flat[j][shift:]).mean()
                assert agreement == pytest.approx(0.5, abs=0.015)
    paddle.seed(1)
    np.testing.assert_array_equal(dropped_ones(0.5) != 0, masks[0])
    paddle.seed(2)
    assert ((dropped_ones(0.5) != 0) == masks[0]).mean() == pytest.approx(0.5, abs=0.015)


def test_attention_dropout_has_the_right_rate():
    scores, out = np.zeros((2, 2, 50, 50), "float32"), np.empty((2, 2, 50, 50), "float32")
    paddle.seed(3)
    dropout = draw_dropout(0.3, True)
    loops.softmax_dropout(scores, np.zeros((1, 1, 1, 50), "float32"), *dropout, out)
    np.testing.assert_allclose(scores, 1 / 50, rtol=1e-6)
    kept = out != 0
    assert kept.mean() == pytest.approx(0.7, abs=0.025)
    np.testing.assert_allclose(out[kept], 1 / 50 / 0.7, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (attention(attention_dropout=0.4), attention_arrays(2, 6)),
        (attention(dropout=0.4), attention_arrays(2, 6)),
        (feed_forward(0.4), feed_forward_arrays()),
    ],
)
def test_gradients_under_dropout(function, arrays):
    """Backward drops what forward dropped: the derivative along a direction is the difference quotient."""
    weight = random(*arrays[0].shape, seed=99)

    def value(arrays):
        paddle.seed(5)
        return function(*(paddle.to_tensor(a, stop_gradient=False) for a in arrays))

    tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
    paddle.seed(5)
    (function(*tensors) * paddle.to_tensor(weight)).sum().backward()
    for index in (0, 1, len(arrays) - 4):
        direction = random(*arrays[index].shape, seed=200 + index)
        ends = [
            value([a + step * direction if i == index else a for i, a in enumerate(arrays)]).numpy().astype("float64")
            for step in (np.float32(2e-3), np.float32(-2e-3))
        ]
        quotient = ((ends[0] - ends[1]) * weight).sum() / 4e-3
        assert (tensors[index].grad.numpy() * direction).sum() == pytest.approx(quotient, rel=0.02, abs=0.02), index


# ---------------------------------------------------------------------------------------------------------- processes


def small_model(**changes):
    from modeling import ConvBertConfig, ConvBertForSequenceClassification

    settings = dict(vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    paddle.seed(0)
    config = ConvBertConfig(**settings, intermediate_size=48, max_position_embeddings=64, **changes)
    return ConvBertForSequenceClassification(config)


def training_step(model, seed=0):
    """Loss and gradients of one step with dropout, as bytes."""
    random = np.random.default_rng(seed)
    ids, labels = paddle.to_tensor(random.integers(0, 50, (4, 21))), paddle.to_tensor(random.integers(0, 2, 4))
    paddle.seed(seed)
    loss = model(ids, labels=labels).loss
    loss.backward()
    result = [loss.numpy().tobytes(), *(p.grad.numpy().tobytes() for p in model.parameters() if p.grad is not None)]
    model.clear_gradients()
    return result


def test_the_same_bits_for_any_number_of_threads():
    model = small_model()
    threads = numba.get_num_threads()
    try:
        results = []
        for count in (1, threads):
            numba.set_num_threads(count)
            results.append(training_step(model))
    finally:
        numba.set_num_threads(threads)
    assert results[0] == results[1]


def test_recompute_gives_the_same_bits():
    model = small_model()
    expected = training_step(model)
    model.enable_recompute()
    assert training_step(model) == expected


def test_several_python_threads_at_once():
    model = small_model()
    model.eval()
    batches = [paddle.to_tensor(np.random.default_rng(s).integers(0, 50, (3, 5 + 7 * s))) for s in range(4)]
    with paddle.no_grad():
        expected = [model(ids).numpy() for ids in batches]
    wrong = []

    def serve(number):
        with paddle.no_grad():
            for _ in range(20):
                if not np.array_equal(model(batches[number]).numpy(), expected[number]):
                    wrong.append(number)

    workers = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def losses(monkeypatch, path, steps=50):
    from training.optimizer import adamw

    monkeypatch.setenv("CONVBERT_KERNELS", path)
    model = small_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    optimizer = adamw(model, 1e-3, 0.01, 1e-6)
    random = np.random.default_rng(0)
    found = []
    for _ in range(steps):
        ids = random.integers(0, 50, (8, 16))
        loss = model(paddle.to_tensor(ids), labels=paddle.to_tensor(ids[:, 0] % 2)).loss
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        found.append(float(loss))
    return np.array(found)


def test_both_paths_learn_alike(monkeypatch):
    compiled, plain = losses(monkeypatch, "auto"), losses(monkeypatch, "paddle")
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-4)
    assert compiled[-10:].mean() < 0.9 * compiled[:10].mean()


def fresh(code, **environment):
    """stdout and stderr of a program in a process of its own."""
    start = "import runtime, paddle\nfrom layers import fast_path, functions\n"
    start += "x, w, b = paddle.ones([2, 3]), paddle.ones([3, 4]), paddle.ones([4])\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


TWICE = "print([float(functions.linear(x, w, b).sum()) for _ in range(2)], fast_path.compiled() is not None)"


def test_without_numba_the_definition_serves_with_one_warning():
    done = fresh(f"import sys; sys.modules['numba'] = None\n{TWICE}")
    assert done.stdout == "[32.0, 32.0] False\n", done.stderr
    assert done.stderr.count("compiled CPU loops can't be used") == 1


def test_threads_that_would_abort_are_refused():
    done = fresh(TWICE, NUMBA_THREADING_LAYER="workqueue")
    assert done.stdout == "[32.0, 32.0] False\n"
    assert "workqueue" in done.stderr


def test_the_environment_chooses_the_path():
    assert fresh(TWICE + "\nimport sys; print('cpu.functions' in sys.modules)").stdout == "[32.0, 32.0] True\nTrue\n"
    once = "functions.linear(x, w, b); import sys; print('cpu.functions' in sys.modules)"
    quiet = fresh(once, CONVBERT_KERNELS="paddle")
    assert quiet.stdout == "False\n"


def test_a_wrong_choice_is_refused(monkeypatch):
    monkeypatch.setenv("CONVBERT_KERNELS", "fast")
    with pytest.raises(InputError, match="CONVBERT_KERNELS=fast: must be auto or paddle"):
        linear(paddle.ones([1, 2]), paddle.ones([2, 2]), paddle.ones([2]))


def test_a_folder_that_takes_no_cache(tmp_path):
    """Neither the project's folder nor the user's can be written to; simulated, as a superuser may write anywhere."""
    code = (
        "from numba.core import caching\n"
        "class Nowhere:\n"
        "    @classmethod\n"
        "    def from_function(cls, *_): return None\n"
        "caching.CacheImpl._locator_classes = [Nowhere]\n" + TWICE
    )
    done = fresh(code)
    assert done.stdout == "[32.0, 32.0] False\n", done.stderr
    assert "cannot cache function" in done.stderr


ONE_KERNEL = """
import hashlib, numpy as np
from cpu import compiler, row_kernels
chosen = {"add_bias", "dropout_add_norm_backward"}
compiler._kernels["float32"][:] = [k for k in compiler._kernels["float32"] if k[0].__name__ in chosen]
loops, random = compiler.load(), np.random.default_rng(0)
normal, d_out, d_x, d_residual = random.standard_normal((4, 64, 128), np.float32)
sums, row = np.empty((compiler.PARTS, 3, 128), np.float32), np.ones(128, np.float32)
dropout = np.uint32(1), np.uint32(2), np.uint32(2**29), np.float32(1.125)
loops.dropout_add_norm_backward(normal, row[:64], row, d_out, *dropout, d_x, d_residual, sums)
print(*(hashlib.sha256(a).hexdigest() for a in (d_x, d_residual, sums)))
"""


@pytest.mark.slow
def test_the_run_that_fills_the_cache_gives_the_same_bits(tmp_path):
    first, second = (fresh(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert list(tmp_path.rglob("*.nbc"))
    assert first.stdout == second.stdout


@pytest.mark.slow
def test_the_cache_lies_below_the_users_where_the_projects_folder_is_read_only(tmp_path):
    """Simulated, as a superuser may write anywhere."""
    where = (
        "from numba.core import caching\n"
        "def refused(self): raise PermissionError('read-only')\n"
        "caching.InTreeCacheLocator.ensure_cache_path = refused\n"
    )
    done = fresh(where + ONE_KERNEL, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*add_bias*.nbc"))


def test_a_group_of_loops_comes_with_the_first_that_is_asked_for():
    found = compiler.Loops("float32")
    assert found.bias_relu is found.bias_relu
    assert {"bias_relu", "bias_relu_in_place", "bias_relu_backward"} == set(vars(found)) - {"_version"}
    assert not hasattr(found, "nothing")
    assert not hasattr(compiler.Loops("bfloat16"), "narrow")  # which Program.loop then takes from float32's


def copied_kernels(folder):
    """The package cpu and what it stands on, in a folder of their own."""
    for name in ("cpu", "files", "layers", "runtime.py"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)


GELU_OF_20 = """
import sys; sys.path.insert(0, ".")
import runtime, numpy as np
from cpu import compiler, row_kernels
kernels, chosen = compiler._kernels["float32"], ("add_bias", "bias_gelu")
kernels[:] = [k for k in kernels if k[0].__name__ in chosen]
x = np.zeros((1, 1), np.float32)
compiler.load().bias_gelu(x, np.full(1, 20, np.float32), x)
print(x[0, 0], compiler.KEY, flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_change_of_any_source_is_compiled_and_older_code_removed_when_no_process_uses_it(tmp_path):
    """In `standard_normal`, which stands in another file than the kernel that uses it."""
    copied_kernels(tmp_path)

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", GELU_OF_20], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        value, key = process.stdout.readline().split()
        return process, float(value), key

    def end(process):
        process.communicate("\n")
        assert process.returncode == 0

    def caches():
        return {path.name.removeprefix("loops-") for path in (tmp_path / "cpu/__pycache__").glob("loops-*")}

    old, value, old_key = start()
    assert value == 20
    assert caches() == {old_key}
    source = tmp_path / "cpu/arithmetic.py"
    text = source.read_text()
    assert text.count("else np.float32(1.0) - tail") == 1
    source.write_text(text.replace("else np.float32(1.0) - tail", "else np.float32(2.0) - tail"))
    new, value, new_key = start()
    assert value == 40  # and not the old machine code's
    assert caches() == {old_key, new_key}  # the old process still runs
    end(old)
    end(new)
    again, value, _ = start()
    assert value == 40
    assert caches() == {new_key}
    end(again)


def test_kernels_use_no_source_that_the_caches_name_does_not_depend_on():
    package = ROOT / "cpu"
    sources = {path for pattern in compiler.SOURCES for path in package.glob(pattern)}
    imported = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "cpu":
                parts = node.module.split(".")[1:] or [alias.name for alias in node.names]
                imported |= {package / f"{part}.py" for part in parts}
            assert not (isinstance(node, ast.Import) and any(a.name.startswith("cpu") for a in node.names))
    assert imported <= sources


def test_another_default_type_changes_nothing():
    model = small_model()
    expected = training_step(model)
    paddle.set_default_dtype("float64")
    try:
        assert training_step(model) == expected
    finally:
        paddle.set_default_dtype("float32")


def test_an_array_keeps_its_tensor_alive():
    view = array(paddle.full([1000], 7.0))
    others = [paddle.zeros([1000]) for _ in range(10)]
    assert len(others) == 10
    np.testing.assert_array_equal(view, 7.0)


PARALLEL = """
import sys; sys.path.insert(0, {root!r})
import runtime, paddle, numpy as np
import paddle.distributed as dist
from layers import fast_path
from modeling import ConvBertConfig, ConvBertForSequenceClassification
dist.init_parallel_env()
paddle.seed(0)
config = ConvBertConfig(vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
model = ConvBertForSequenceClassification(config)
if {recompute}: model.enable_recompute()
random = np.random.default_rng(0)
ids, labels = random.integers(1, 50, (8, 21)), random.integers(0, 2, 8)
rank, parallel = dist.get_rank(), paddle.DataParallel(model)
mine = slice(4 * rank, 4 * rank + 4)
parallel(paddle.to_tensor(ids[mine]), labels=paddle.to_tensor(labels[mine])).loss.backward()
found = {{name: p.grad.numpy() for name, p in model.named_parameters()}}
model.clear_gradients()
model(paddle.to_tensor(ids), labels=paddle.to_tensor(labels)).loss.backward()
assert fast_path.compiled() is not None
for name, p in model.named_parameters():
    np.testing.assert_allclose(found[name], p.grad.numpy(), rtol=0, atol=1e-6, err_msg=name)
print("rank", rank, "agrees")
"""


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_two_processes_average_the_gradients(tmp_path, recompute):
    script = tmp_path / "script.py"
    script.write_text(PARALLEL.format(root=str(ROOT), recompute=recompute))
    done = subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo",
         "--log_dir", str(tmp_path / "log"), str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    logs = "".join(path.read_text() for path in (tmp_path / "log").glob("workerlog.*"))
    assert done.returncode == 0, logs[-2000:]
    assert "rank 0 agrees" in logs
    assert "rank 1 agrees" in logs
