"""Token ids for models with a small vocabulary, and whether two tensors are the same."""

import numpy as np
import paddle

VOCABULARY = 60


def tokens(batch=3, length=11, padding=4, seed=1):
    """int64 ids [batch, length]; the last row ends in pad tokens."""
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, (batch, length))
    if padding:
        ids[-1, -padding:] = 0
    return paddle.to_tensor(ids)


def same(a, b, tolerance=1e-6):
    """To `tolerance`, and as much of each number: of large ones float32 has no more digits."""
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


def differ(a, b):
    assert np.abs(a.numpy() - b.numpy()).max() > 1e-3
