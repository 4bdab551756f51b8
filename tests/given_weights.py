"""Mixed and self-attention with given tensors as their weights: of any floating type, and with the gradients."""

from types import SimpleNamespace

from paddle import nn

from family.self_attention import SelfAttention
from modeling import MixedAttention

PLACES = (  # of the weights, in the order of MixedAttention.weights
    "q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias",
    "conv_out_layer.weight", "conv_out_layer.bias", "key_conv_attn_layer.depthwise.weight",
    "key_conv_attn_layer.pointwise.weight", "key_conv_attn_layer.bias", "conv_kernel_layer.weight",
    "conv_kernel_layer.bias", "out_proj.weight", "out_proj.bias",
)  # fmt: skip


def weight_shapes(hidden, width, heads, taps):
    """Of all weights, those of the LayerNorm that follows the layer included; width: H·D."""
    return [
        *[[hidden, width], [width]] * 4, [hidden, 1, taps], [width, hidden], [width], [width, heads * taps],
        [heads * taps], [2 * width, hidden], [hidden], [hidden], [hidden],
    ]  # fmt: skip


def layer_of(weights, heads, attention_dropout=0.0, dropout=0.0):
    """weights: as MixedAttention.weights gives them, without the LayerNorm's."""
    config = SimpleNamespace(
        hidden_size=weights[0].shape[0], heads_of_each_kind=heads, head_size=weights[0].shape[1] // heads,
        conv_kernel_size=weights[8].shape[-1], initializer_range=0.02, layer_norm_eps=1e-12,
        attention_probs_dropout_prob=attention_dropout, hidden_dropout_prob=dropout,
    )  # fmt: skip
    return with_weights(MixedAttention(config), PLACES, weights)


def with_weights(layer, places, weights):
    for place, weight in zip(places, weights, strict=True):
        *parts, name = place.split(".")
        holder = layer
        for part in parts:
            holder = getattr(holder, part)
        del holder._parameters[name]
        object.__setattr__(holder, name, weight.unsqueeze(-1) if "pointwise" in place else weight)
    return layer


def norm_of(weight, bias):
    return with_weights(nn.LayerNorm(weight.shape, epsilon=1e-12), ("weight", "bias"), (weight, bias))


def mixed_attention(x, mask, real, weights, heads, attention_dropout=0.0, dropout=0.0):
    """The result in training: x, mask, real as MixedAttention.forward takes them, all of the weights."""
    *weights, norm_weight, norm_bias = weights
    layer = layer_of(weights, heads, attention_dropout, dropout)
    return layer(x, mask, real, norm_of(norm_weight, norm_bias))[0]


SELF_PLACES = [f"{part}_proj.{kind}" for part in ("q", "k", "v", "out") for kind in ("weight", "bias")]


def self_attention(x, mask, weights, heads, attention_dropout=0.0, dropout=0.0):
    """The same of SelfAttention; weights: matrix and bias of query, key, value and output, then the LayerNorm's."""
    *weights, norm_weight, norm_bias = weights
    hidden = x.shape[-1]
    config = SimpleNamespace(
        hidden_size=hidden, num_attention_heads=heads, head_size=hidden // heads, initializer_range=0.02,
        layer_norm_eps=1e-12, attention_probs_dropout_prob=attention_dropout, hidden_dropout_prob=dropout,
    )  # fmt: skip
    layer = with_weights(SelfAttention(config), SELF_PLACES, weights)
    return layer(x, mask, None, norm_of(norm_weight, norm_bias))[0]


def self_weight_shapes(hidden):
    return [*[[hidden, hidden], [hidden]] * 4, [hidden], [hidden]]
