"""Dense layers, and the random numbers that weights start with.

Starting weights are the TensorFlow original's.
"""

from paddle import nn
from paddle.nn.initializer import TruncatedNormal

from layers.functions import linear


def truncated_normal(deviation):
    """TensorFlow's truncated normal, cut at two deviations. (Paddle's bounds are absolute.)"""
    return TruncatedNormal(0.0, deviation, -2 * deviation, 2 * deviation)


class Linear(nn.Linear):
    """A dense layer, weight [in, out]."""

    def __init__(self, config, inputs, outputs, initializer=None):
        super().__init__(inputs, outputs, weight_attr=initializer or truncated_normal(config.initializer_range))

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class GroupedLinear(nn.Layer):
    """A dense layer of G independent slices, weight [G, in / G, out / G]."""

    def __init__(self, config, inputs, outputs):
        super().__init__()
        groups = config.num_groups
        shape = [groups, inputs // groups, outputs // groups]
        self.weight = self.create_parameter(shape, default_initializer=truncated_normal(config.initializer_range))
        self.bias = self.create_parameter([outputs], is_bias=True)

    def forward(self, x):
        return linear(x, self.weight, self.bias)
