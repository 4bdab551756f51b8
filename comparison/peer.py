"""What every implementation that benchmark.py measures has in common, and the batches that all of them get."""

import contextlib
import functools

import numpy as np

from family.configurations import preset

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
MASKED_SHARE, MASK_ID = 0.15, 103
TEXT_LENGTH = 19  # tokens of the one text whose latency is measured


def random_batch(config, batch_size, length, seed=0):
    """Token ids [B, L] without padding, and labels [B]."""
    random = np.random.default_rng(seed)
    return random.integers(1, config.vocab_size, (batch_size, length)), random.integers(0, 2, batch_size)


def masked_batch(config, batch_size, length):
    """Token ids and labels [B, L] with as many masked positions as pre-training has; -100 at all others."""
    from pretraining.masking import most_masked

    ids, _ = random_batch(config, batch_size, length)
    places = np.random.default_rng(0).random(ids.shape).argsort(axis=1) < most_masked(length, MASKED_SHARE)
    return np.where(places, MASK_ID, ids), np.where(places, ids, -100)


class Peer:
    """An implementation of one model size, as its users would run it at its best on this machine.

    All are classifiers of two labels with dropout as configured, trained with AdamW. A subclass makes its model, says
    in `tensor(array)` what its library makes of an array, and computes in `forward(ids)`; then it can `infer()` and
    tell its `latency()`. Both run inside the context that `evaluation()` opens, once for many forward passes, as when a
    data set is evaluated. Those that can, have also:

        train()                           one training step
        epoch(texts, labels, vocab_file)  one pass over a list of sentences from raw text to updated weights
        pretrain()                        a step of replaced-token detection with a generator, from token ids; gradients
                                          are clipped to length 1
        save(folder, vocab_file)          a folder for serve.py
        matrix_product(size)              a function that multiplies two matrices of that size
    """

    ours = False  # whether it is this project's own code that computes
    precision = "float32"  # of its matrix products

    def __init__(self, model, batch_size, length):
        self.name, self.config = model, preset(model)
        self.batch_size, self.length = batch_size, length
        self.batch = [self.tensor(array) for array in random_batch(self.config, batch_size, length)]  # ids and labels
        self.one_text = self.tensor(random_batch(self.config, 1, TEXT_LENGTH)[0])

    @functools.cached_property
    def masked(self):
        """Token ids and labels of pre-training."""
        return [self.tensor(array) for array in masked_batch(self.config, self.batch_size, self.length)]

    def evaluation(self):
        return contextlib.nullcontext()

    def infer(self):
        self.forward(self.batch[0])

    def latency(self):
        self.forward(self.one_text)
