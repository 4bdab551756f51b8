"""What Paddle 2.6 does otherwise: the newest one of PyPI's `paddlepaddle-gpu`, for older cards."""

import functools
import logging

import paddle
from paddle.nn.initializer import TruncatedNormal

logger = logging.getLogger("convbert")

PADDLE_2 = paddle.__version__.startswith("2.")  # whose own attention is for GPUs and shorter numbers alone


def truncated_normal(deviation):
    """TensorFlow's truncated normal, cut at two deviations. (Bounds are absolute; Paddle 2 has no others.)"""
    bounds = () if PADDLE_2 else (-2 * deviation, 2 * deviation)
    return TruncatedNormal(0.0, deviation, *bounds)


def can_recompute():
    """Whether layers can be computed again, with the same dropout: not by Paddle 2 on a CPU. Says so once."""
    if not PADDLE_2 or paddle.get_device() != "cpu":
        return True
    _warn()
    return False


@functools.cache
def _warn():
    logger.warning("more memory: Paddle %s can't compute layers again on a CPU", paddle.__version__)
