"""Products through oneDNN against float64, on awkward shapes and layouts."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, needs_onednn

from cpu import onednn
from cpu.machine import has_bfloat16
from cpu.onednn import BFLOAT16, FLOAT32, Matrix

pytestmark = needs_onednn()
bfloat16_needed = pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 instructions in this processor")
TYPES = [FLOAT32, pytest.param(BFLOAT16, marks=bfloat16_needed)]


def narrow(array):
    """float32 → the bits of bfloat16, cut."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stored(array, kind):
    """The array as a Matrix's memory, and its value in float64."""
    memory = narrow(array) if kind == BFLOAT16 else np.ascontiguousarray(array)
    return memory, (widen(memory) if kind == BFLOAT16 else memory).astype(np.float64)


def matrix(memory, kind):
    return Matrix(memory.ctypes.data, kind, memory.shape, tuple(stride // memory.itemsize for stride in memory.strides))


def empty(kind, *shape):
    return np.full(shape, 99, np.uint16 if kind == BFLOAT16 else np.float32)


def value(memory, kind):
    return (widen(memory) if kind == BFLOAT16 else memory).astype(np.float64)


def close(found, expected, kind):
    np.testing.assert_allclose(found, expected, rtol=8e-3 if kind == BFLOAT16 else 1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "result"),
    [(FLOAT32, FLOAT32), *(pytest.param(BFLOAT16, r, marks=bfloat16_needed) for r in (FLOAT32, BFLOAT16))],
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (5, 1, 9), (33, 17, 65), (128, 36, 128), (1, 256, 512)])
def test_products(kind, result, shape):
    rows, columns, inner = shape
    a, wide_a = stored(random(rows, inner), kind)
    b, wide_b = stored(random(inner, columns, seed=1), kind)
    out = empty(result, rows, columns)
    onednn.load().matmul(matrix(a, kind), matrix(b, kind), matrix(out, result))
    close(value(out, result), wide_a @ wide_b, result)


def test_adding_to_what_is_there():
    a, b = random(7, 5), random(5, 3, seed=1)
    before = random(7, 3, seed=2)
    for add, expected in ((False, a @ b), (True, before + a @ b)):
        out = before.copy()
        onednn.load().matmul(matrix(a, FLOAT32), matrix(b, FLOAT32), matrix(out, FLOAT32), add=add)
        close(out, expected, FLOAT32)


@pytest.mark.parametrize("kind", TYPES)
def test_transposes_are_strides(kind):
    a, wide_a = stored(random(13, 6), kind)
    b, wide_b = stored(random(13, 5, seed=1), kind)
    out = empty(FLOAT32, 6, 5)
    onednn.load().matmul(matrix(a, kind).t, matrix(b, kind), matrix(out, FLOAT32))
    close(out, wide_a.T @ wide_b, FLOAT32)
    out = empty(FLOAT32, 5, 6)
    onednn.load().matmul(matrix(b, kind).t, matrix(a, kind), matrix(out, FLOAT32))
    close(out, wide_b.T @ wide_a, FLOAT32)


@pytest.mark.parametrize("kind", TYPES)
def test_batches_and_slices_of_columns(kind):
    """Groups lie side by side in the columns: [N, G·I] as [G, N, I], without a copy."""
    x, wide = stored(random(9, 3 * 4), kind)
    weight, wide_weight = stored(random(3, 4, 5, seed=1), kind)
    out = empty(FLOAT32, 9, 3 * 5)
    groups = Matrix(x.ctypes.data, kind, (3, 9, 4), (4, 12, 1))
    results = Matrix(out.ctypes.data, FLOAT32, (3, 9, 5), (5, 15, 1))
    onednn.load().matmul(groups, matrix(weight, kind), results)
    parts = [part @ w for part, w in zip(np.split(wide, 3, axis=1), wide_weight, strict=True)]
    close(out, np.concatenate(parts, axis=1), FLOAT32)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_come_through(kind, bad):
    a = random(4, 6)
    a[2, 3] = bad
    a, _ = stored(a, kind)
    b, _ = stored(np.ones((6, 5), np.float32), kind)
    out = empty(FLOAT32, 4, 5)
    onednn.load().matmul(matrix(a, kind), matrix(b, kind), matrix(out, FLOAT32))
    assert (~np.isfinite(out)).all(axis=1).tolist() == [False, False, True, False]


def test_shapes_that_do_not_fit_are_an_error():
    a, b, out = random(3, 4), random(5, 6), random(3, 6)
    with pytest.raises(OSError, match="matmul_primitive_desc_create failed with status"):
        onednn.load().matmul(*(matrix(array, FLOAT32) for array in (a, b, out)))


def test_many_threads():
    """Each gets its own results, whatever the others do with the same primitive."""
    wrong = []

    def work(seed):
        for round_ in range(30):
            a, b, out = random(40, 30, seed=seed), random(30, 20, seed=round_), empty(FLOAT32, 40, 20)
            onednn.load().matmul(*(matrix(array, FLOAT32) for array in (a, b, out)))
            if not np.allclose(out, a.astype(float) @ b, atol=1e-4):
                wrong.append((seed, round_))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def rows_of_all_sizes(kind, counts):
    """Products of 1, 2, … rows by the same operands, as bytes."""
    a, _ = stored(random(max(counts), 24), kind)
    b, _ = stored(random(24, 16, seed=1), kind)
    results = []
    for count in counts:
        out = empty(FLOAT32, count, 16)
        onednn.load().matmul(matrix(a[:count], kind), matrix(b, kind), matrix(out, FLOAT32))
        results.append(out.tobytes())
    return results


@pytest.mark.parametrize("kind", TYPES)
def test_few_primitives_are_kept_and_others_are_made_again(kind):
    counts = range(1, 3 * onednn.KEPT)
    first = rows_of_all_sizes(kind, counts)
    assert len(onednn.load()._recent) == onednn.KEPT
    assert rows_of_all_sizes(kind, counts) == first
    assert len(onednn.load()._recent) == onednn.KEPT


def test_the_primitive_used_last_stays(monkeypatch):
    library, made = onednn.OneDNN(), []
    make = library._matmul_primitive
    monkeypatch.setattr(onednn, "load", lambda: library)
    monkeypatch.setattr(library, "_matmul_primitive", lambda *args: made.append(args[0][2].shape[0]) or make(*args))
    rows_of_all_sizes(FLOAT32, [1, *range(2, onednn.KEPT + 1), 1, 1000, 1, 2])
    assert made[-2:] == [1000, 2]


def test_a_refused_product_leaves_nothing_behind():
    library = onednn.load()
    before = dict(library._primitives)
    for _ in range(3):
        with pytest.raises(OSError, match="failed with status"):
            library.matmul(*(matrix(random(*shape), FLOAT32) for shape in ((3, 4), (5, 6), (3, 6))))
    assert dict(library._primitives) == before


def test_threads_that_make_each_others_primitives_fall_out():
    expected = rows_of_all_sizes(FLOAT32, range(1, 201))
    wrong = []

    def work(step):
        counts = [1 + (step * number) % 200 for number in range(400)]
        if rows_of_all_sizes(FLOAT32, counts) != [expected[count - 1] for count in counts]:
            wrong.append(step)

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 7, 13, 199)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


TRAINING = """
import runtime, ctypes, numpy as np, paddle
from layers.fast_path import bfloat16
from modeling import ConvBertConfig, ConvBertForSequenceClassification

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

paddle.seed(0)
model = ConvBertForSequenceClassification(ConvBertConfig.from_preset("convbert-tiny"))
random = np.random.default_rng(0)
shapes = [(size, length) for size in (4, 6, 8, 10) for length in range(4, 129)]
random.shuffle(shapes)
for number, shape in enumerate([(10, 128), (9, 128), *shapes]):  # the largest first: what tensors need is there
    if number == 2:
        with_holes = megabytes()
        ctypes.CDLL(None).malloc_trim(0)
        before = megabytes()
    with bfloat16():
        ids, labels = paddle.to_tensor(random.integers(1, 8000, shape)), paddle.zeros([shape[0]], "int64")
        model(ids, labels=labels).loss.backward()
    model.clear_gradients()
with_holes = megabytes() - with_holes
ctypes.CDLL(None).malloc_trim(0)
print(len(shapes), megabytes() - before, with_holes)
"""


@pytest.mark.slow
@bfloat16_needed
def test_five_hundred_shapes_take_little_memory():
    done = subprocess.run([sys.executable, "-c", TRAINING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shapes, in_use, with_holes = map(float, done.stdout.split())
    assert shapes == 500
    assert in_use < 50
    assert with_holes < 100  # of all sizes, which are given back now and then


def test_another_version_is_refused(monkeypatch):
    def dnnl_version():
        return SimpleNamespace(contents=onednn._Version(2, 7, 1))

    monkeypatch.setattr(onednn.ctypes, "CDLL", lambda path: SimpleNamespace(dnnl_version=dnnl_version))
    with pytest.raises(OSError, match=r"oneDNN 2\.7\.1; its interface is known for version 3"):
        onednn.OneDNN()
