import numpy as np
import paddle
import pytest

from training.order import batches_by_length, seed_step, shuffled_batches, weighted_pieces


def lengths(count, seed=0):
    return np.random.default_rng(seed).integers(3, 60, count)


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 5000])
def test_an_epoch_holds_every_example_once(count, bucket):
    batches = shuffled_batches(lengths(count), 32, seed=1, epoch=0, bucket=bucket)
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert len(batches) == -(-count // 32)
    assert sorted(map(len, batches))[1:] == [32] * (len(batches) - 1)


def test_buckets_save_padding_and_stay_random():
    sizes = lengths(5000)

    def padded(batches):
        return sum(len(batch) * sizes[batch].max() for batch in batches)

    plain, bucketed = (shuffled_batches(sizes, 32, 1, 0, bucket) for bucket in (False, True))
    assert padded(bucketed) < 1.1 * sizes.sum() < 0.7 * padded(plain)
    longest = np.array([sizes[batch].max() for batch in bucketed])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.25  # not from short to long


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(shuffled_batches(lengths(500), 32, seed, epoch))

    np.testing.assert_array_equal(order(1, 2), order(1, 2))
    for other in ((1, 3), (2, 2)):
        assert (order(1, 2) != order(*other)).any()


def test_evaluation_batches_grow_in_length():
    sizes = lengths(100)
    batches = batches_by_length(sizes, 32)
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert (np.diff(sizes[np.concatenate(batches)]) >= 0).all()


def test_a_step_s_dropout_depends_on_seed_and_step_alone():
    def drawn(seed, step):
        seed_step(seed, step)
        return paddle.nn.functional.dropout(paddle.ones([1000]), 0.5).numpy()

    np.testing.assert_array_equal(drawn(1, 2), drawn(1, 2))
    for other in ((1, 3), (2, 2), (2, 1)):
        assert (drawn(1, 2) != drawn(*other)).any()


class Alone:
    count, rank = 1, 0

    def share(self, pieces):
        return pieces[self.rank :: self.count]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 5, 8, 13, 24])
def test_pieces_add_up_to_the_mean_over_the_batch(count, size):
    batch, values = np.arange(100, 100 + size), np.random.default_rng(0).normal(size=200)
    total, seen = 0.0, []
    for rank in range(count):
        processes = Alone()
        processes.count, processes.rank = count, rank
        pieces = weighted_pieces(batch, 4, processes)
        assert pieces
        total += sum(weight * values[indices].mean() for indices, weight in pieces) / count
        seen += [index for indices, weight in pieces for index in indices if weight]
    assert total == pytest.approx(values[batch].mean())
    assert sorted(seen) == list(batch)
