"""Programs of the fast path: shared memory, products of every form, and what they refuse."""

import runtime  # noqa: F401  (before Paddle)

import numpy as np
import paddle
import pytest
from both_paths import check, random
from given_weights import mixed_attention, self_attention, self_weight_shapes, weight_shapes

from layers.fast_path import bfloat16, bfloat16_obstacle, compiled

pytestmark = pytest.mark.skipif(compiled() is None, reason="needs the compiled loops")
possible = pytest.mark.skipif(bfloat16_obstacle() is not None, reason=str(bfloat16_obstacle()))
if compiled() is not None:
    from cpu import onednn, programs
    from cpu.loops import loops
    from cpu.programs import Program, Way

WAYS = [("float32", "paddle"), ("float32", "onednn"), pytest.param(("bfloat16", "onednn"), marks=possible)]


def test_memories_share_a_place_but_never_at_the_same_time():
    random = np.random.default_rng(0)
    for _ in range(20):
        memories = []
        for _ in range(30):
            memory = programs._Memory(int(random.integers(1, 5000)), programs.SCRATCH)
            memory.first, memory.last = sorted(map(int, random.integers(0, 40, 2)))
            memories.append(memory)
        size = programs._arrange(memories)
        assert max(m.offset + m.size for m in memories) <= size < sum(m.size for m in memories)
        for i, one in enumerate(memories):
            assert one.offset % programs.ALIGNMENT == 0
            for other in memories[:i]:
                apart = one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
                assert apart or one.last < other.first or other.last < one.first


def product(way, rows, a_shape, b_shape, form, add=False):
    """One product by a program, and by numpy in float64; form: the views of (a, b) that are multiplied."""
    program = Program(Way(*way), rows)
    a, b = program.given(a_shape, b_shape, operands=(0, 1))
    first, second = form(a, b)
    shape = (rows, b_shape[0] * b_shape[2]) if len(b_shape) == 3 else (first.shape[0], second.shape[1])
    (out,) = program.given(shape)
    program.multiply(first, second, out, add)
    program.finish()
    tensors = [paddle.to_tensor(random(*s, seed=i)).astype(way[0]) for i, s in enumerate((a_shape, b_shape))]
    result = paddle.ones(shape)
    program.run(*tensors, result)
    a, b = (tensor.astype("float64").numpy() for tensor in tensors)
    return result.numpy() - add, a, b


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("add", [False, True])
def test_products_of_every_form(way, rows, add):
    found, a, b = product(way, rows, (rows, 40), (40, 24), lambda a, b: (a, b), add)
    np.testing.assert_allclose(found, a @ b, atol=1e-4)
    found, a, b = product(way, rows, (rows, 24), (40, 24), lambda a, b: (a, b.t), add)
    np.testing.assert_allclose(found, a @ b.T, atol=1e-4)
    found, a, b = product(way, rows, (rows, 40), (rows, 24), lambda a, b: (a.t, b), add)
    np.testing.assert_allclose(found, a.T @ b, atol=1e-4)
    found, a, b = product(way, rows, (rows, 40), (2, 20, 12), lambda a, b: (a, b), add)  # a weight of two groups
    expected = np.concatenate([a[:, :20] @ b[0], a[:, 20:] @ b[1]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_long_sums(way):
    found, a, b = product(way, 1000, (1000, 8), (1000, 6), lambda a, b: (a.t, b))
    np.testing.assert_allclose(found, a.T @ b, atol=1e-3)


def test_what_is_kept_is_recalled_by_another_program():
    way = Way("float32", "paddle")
    first, second = Program(way), Program(way)
    (x,) = first.given((5,))
    unkept, copied = first.new(5), first.new(5)
    first.loop("copy", x, unkept)
    first.loop("copy", unkept, copied)
    first.finish(copied=copied)
    kept = second.recalled(first)
    (out,) = second.given((5,))
    second.loop("copy", kept["copied"], out)
    second.finish()
    given, result = paddle.arange(5, dtype="float32"), paddle.empty([5])
    second.run(first.run(given), result)
    np.testing.assert_array_equal(result.numpy(), given.numpy())


def test_other_sizes_and_types_are_refused():
    program = Program(Way("float32", "paddle"))
    x, out = program.given((2, 3), (6,))
    program.loop("copy", x.reshape(6), out)
    program.finish()
    with pytest.raises(ValueError, match="other sizes"):
        program.run(paddle.ones([2, 3]), paddle.ones([5]))
    with pytest.raises(TypeError, match="copy"):
        loops.copy(np.ones(3, np.float64), np.ones(3, np.float32))
    with pytest.raises(TypeError, match="copy"):
        loops.copy(np.ones((3, 2), np.float32)[:, 0], np.ones(3, np.float32))
    wrong = Program(Way("float32", "paddle"))
    x, out = wrong.given((2, 3), (2, 3))
    wrong.loop("copy", x, out)
    with pytest.raises(TypeError, match="copy"):
        wrong.finish()


LONG = 300  # tokens: their scores are computed in tiles


def test_long_texts_in_tiles(monkeypatch):
    arrays = [random(2, LONG, 24), *(random(*s, seed=i) * 0.4 for i, s in enumerate(self_weight_shapes(24), 1))]
    mask = np.where(random(2, 1, 1, LONG, seed=5) > 1, np.float32(-1e4), np.float32(0.0))
    check(monkeypatch, lambda x, *w: self_attention(x, paddle.to_tensor(mask, x.dtype), w, 3), arrays)


def test_long_texts_in_mixed_attention(monkeypatch):
    shapes = [[2, LONG, 24], *weight_shapes(24, 12, 2, 9)]
    arrays = [random(*s, seed=i) * (0.4 if i else 1.0) for i, s in enumerate(shapes)]

    def function(x, *weights):
        real = paddle.ones([2, LONG, 1], x.dtype)
        return mixed_attention(x, paddle.zeros([2, 1, 1, LONG], x.dtype), real, weights, 2)

    check(monkeypatch, function, arrays)


def test_tiles_drop_what_whole_scores_drop(monkeypatch):
    from cpu import self_attention as module
    from cpu import steps

    arrays = [random(2, 40, 24), *(random(*s, seed=i) * 0.4 for i, s in enumerate(self_weight_shapes(24), 1))]
    results = []
    for longest in (256, 8):
        monkeypatch.setattr(steps, "LONGEST_WHOLE", longest)
        module._forward.cache_clear()
        module._backward.cache_clear()
        tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
        paddle.seed(3)
        out = self_attention(tensors[0], paddle.zeros([2, 1, 1, 40]), tensors[1:], 3, 0.4, 0.1)
        out.square().sum().backward()
        results.append([out.numpy(), *(t.grad.numpy() for t in tensors)])
    module._forward.cache_clear()
    module._backward.cache_clear()
    for whole, tiled in zip(*results, strict=True):
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-5 * max(1, np.abs(whole).max()))


@possible
def test_primitives_serve_every_length():
    from family.bert import BertModel
    from family.configurations import BertConfig

    model = BertModel(
        BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    )

    def made(length):
        with bfloat16():
            model(paddle.ones([3, length], "int64"))[0].sum().backward()
        return len(onednn.load()._primitives)

    first = made(10)
    scores = 6  # products of attention, for each length
    assert made(11) <= first + scores
    assert made(12) <= first + 2 * scores
