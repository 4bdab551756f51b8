"""A function by the compiled loops and by its plain definition in float64: outputs and gradients must agree."""

import numpy as np
import paddle


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def by_both_paths(monkeypatch, function, arrays, frozen=()):
    """Output and gradients by the compiled loops, and by the definition in float64; arrays at `frozen` want none."""
    results = []
    for path, dtype in (("auto", "float32"), ("paddle", "float64")):
        monkeypatch.setenv("CONVBERT_KERNELS", path)
        tensors = [paddle.to_tensor(a, dtype, stop_gradient=index in frozen) for index, a in enumerate(arrays)]
        out = function(*tensors)
        (out * paddle.to_tensor(random(*out.shape, seed=99), dtype)).sum().backward()
        results.append((out.numpy(), [None if t.grad is None else t.grad.numpy() for t in tensors]))
    return results


def check(monkeypatch, function, arrays, frozen=()):
    """Outputs agree to 1e-5, gradients to 1e-4 of each one's largest."""
    (out, gradients), (expected, expected_gradients) = by_both_paths(monkeypatch, function, arrays, frozen)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
    largest = max(np.abs(g).max() for g in expected_gradients if g is not None)
    for index, (found, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        assert (found is None) == (wanted is None) == (index in frozen), index
        if found is not None:
            noise = 2 * np.finfo("float32").eps * largest  # all that the gradient of a key's bias consists of
            tolerance = max(1e-4 * np.abs(wanted).max(), noise)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=str(index))
