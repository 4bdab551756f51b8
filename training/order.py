"""Which examples a step sees, in which pieces, and what its dropout is drawn from.

Nothing here keeps hidden state. The order of the data depends on (seed, epoch) alone and the dropout of a step on
(seed, step) alone, so a checkpoint needs no generator state: step, weights and optimizer say everything.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle

BUCKET_BATCHES = 50  # batches that are sorted by length among themselves: enough to fit, few enough to stay random


def shuffled_batches(lengths, batch_size, seed, epoch, bucket=True):
    """One epoch's batches of similar lengths, in random order.

    Args:
        lengths: length of each example, in tokens.
        bucket: False gives plain shuffled batches.

    Returns:
        list of int arrays of example indices; every example once, the last partial batch included.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if not bucket:
        return np.split(order, range(batch_size, len(order), batch_size))
    batches = []
    for start in range(0, len(order), BUCKET_BATCHES * batch_size):
        pool = order[start : start + BUCKET_BATCHES * batch_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += np.split(pool, range(batch_size, len(pool), batch_size))
    return [batches[index] for index in random.permutation(len(batches))]


def batches_by_length(lengths, batch_size):
    """All examples in order of length, for evaluation: list of int arrays of example indices."""
    order = np.argsort(lengths, kind="stable")
    return np.split(order, range(batch_size, len(order), batch_size))


def seed_step(seed, step, rank=0):
    """Starts Paddle's generators (dropout, sampling) anew for one step of one process."""
    paddle.seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def weighted_pieces(batch, piece_size, processes):
    """One process's part of a batch that is worked on in pieces, by several processes or one after the other.

    Args:
        batch: int array of example indices.
        processes: processes.Processes, or anything with its `share` and `count`.

    Returns:
        list of (indices, weight): the mean over the processes of the sum over their pieces of weight · mean loss is the
        mean loss of the batch. Never empty: a process that is left without examples gets one of weight 0.
    """
    pieces = processes.share(np.split(batch, range(piece_size, len(batch), piece_size)))
    return [(piece, processes.count * len(piece) / len(batch)) for piece in pieces] or [(batch[:1], 0.0)]


def ahead(make, keys):
    """make(key) of each key; where steps are not computed on the CPU, the next one is made in a thread meanwhile.

    (On a CPU the thread would take time from the step.)
    """
    if paddle.get_device() == "cpu":
        yield from map(make, keys)
        return
    with ThreadPoolExecutor(1) as thread:
        made = []
        for key in keys:
            made.append(thread.submit(make, key))
            if len(made) > 1:
                yield made.pop(0).result()
        for last in made:
            yield last.result()
