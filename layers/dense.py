"""Dense layers, and whether the parts of a model are as they were built.

Starting weights are the TensorFlow original's.
"""

import functools
import logging

import paddle
import paddle.nn.functional as F
from paddle import nn

from layers import functions
from layers.paddle_versions import truncated_normal

logger = logging.getLogger("convbert")


class Linear(nn.Linear):
    """A dense layer, weight [in, out]."""

    def __init__(self, config, inputs, outputs, initializer=None):
        super().__init__(inputs, outputs, weight_attr=initializer or truncated_normal(config.initializer_range))

    def forward(self, x):
        return functions.linear(x, self.weight, self.bias)


class GroupedLinear(nn.Layer):
    """A dense layer of G independent slices, weight [G, in / G, out / G]."""

    def __init__(self, config, inputs, outputs):
        super().__init__()
        groups = config.num_groups
        shape = [groups, inputs // groups, outputs // groups]
        self.weight = self.create_parameter(shape, default_initializer=truncated_normal(config.initializer_range))
        self.bias = self.create_parameter([outputs], is_bias=True)

    def forward(self, x):
        return functions.linear(x, self.weight, self.bias)


def side_by_side(x, *layers):
    """What dense layers of one width make of the same x [B, L, in]: [B, L, out] for each.

    By one product, where nothing has to call them: on a GPU each operator is a launch.
    """
    if not (paddle.in_dynamic_mode() and untouched(*layers, kinds=(Linear,))):
        return [layer(x) for layer in layers]
    weight = paddle.concat([layer.weight for layer in layers], axis=1)  # [in, N·out]
    bias = paddle.concat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).split(len(layers), axis=-1)


def normalized(x, norm):
    """LayerNorm, or what stands in the place of `norm`."""
    if untouched(norm):
        return functions.layer_norm(x, norm.weight, norm.bias, norm._epsilon)
    return norm(x)


def dropout_add_norm(x, residual, norm, dropout, training):
    """norm(residual + dropout(x)); all of x, residual and the result are [B, L, E]."""
    if untouched(norm):
        weights = norm.weight, norm.bias, norm._epsilon
        return functions.dropout_add_norm(x, residual, *weights, dropout, training)
    return norm(residual + F.dropout(x, dropout, training=training))


KINDS = Linear, GroupedLinear, nn.LayerNorm, nn.Embedding, nn.Conv1D


@paddle.jit.not_to_static
def untouched(*layers, kinds=KINDS):
    """Whether the weights of these layers are all that counts, so that what computes needn't call them.

    Not so where one has a hook, or is of another class than these, as a LoRA that stands in its place; said once.
    """
    for layer in layers:
        if type(layer) not in kinds or layer._forward_pre_hooks or layer._forward_post_hooks:
            _say_touched(type(layer).__name__)
            return False
    return True


@functools.cache
def _say_touched(name):
    logger.warning("slower: a %s with hooks, or of another's making, is called as it is, not compiled", name)
