"""The functions that layers are made of: plain Paddle definitions, and on a CPU (`fast_path`) compiled loops instead.

Dimension letters: B batch, L length, H heads, E hidden size, G groups.
Dropout follows `training`; everything is differentiable in every floating input. The definitions never read shapes at
run time, so that they also work under `paddle.jit.to_static` with any batch and length.
"""

import functools
from typing import NamedTuple

import paddle
import paddle.nn.functional as F

from layers.fast_path import compiled, on_fast_path
from layers.paddle_versions import PADDLE_2

ACTIVATIONS = {
    "gelu": F.gelu,  # the exact one, with erf
    "gelu_new": lambda x: F.gelu(x, approximate=True),
    "relu": F.relu,
    "silu": F.silu,
}


def in_float32(function):
    """Decorates a loss of (logits, …): its sums are float32 where logits are of 16 bits, or --amp would make them so.

    float16 ends at 65,504: a mean over more tokens would be 0, or infinite.
    """

    @functools.wraps(function)
    def wide(logits, *others):
        with paddle.amp.auto_cast(enable=False):
            half = logits.dtype in (paddle.float16, paddle.bfloat16)
            return function(logits.astype("float32") if half else logits, *others)

    return wide


def embed(ids, weight, pad_id):
    """Rows of `weight` [V, E] for `ids` [B, L]: [B, L, E].

    The pad row is read as it is stored, but gets no gradient from here, as in PyTorch. (Paddle's own `padding_idx`
    would read it as zeros.)
    """
    rows = F.embedding(ids, weight)
    return paddle.where((ids == pad_id).unsqueeze(-1), rows.detach(), rows)


def linear(x, weight, bias):
    """x [B, …, in] @ weight [in, out] + bias [out]: [B, …, out].

    A weight [G, in / G, out / G] is one for each of G slices of x [B, L, in]: the paper's grouped linear operator.
    """
    if on_fast_path(x, weight, bias):
        return compiled().functions.FusedLinear.apply(x, weight, bias)
    if weight.ndim == 2 and PADDLE_2 and 0 in x.shape:  # its products need rows
        return paddle.zeros([*x.shape[:-1], weight.shape[1]], x.dtype)
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    groups, width, _ = weight.shape
    x = x.reshape([0, 0, groups, width]).transpose([2, 0, 1, 3])  # [G, B, L, in / G]
    x = paddle.matmul(x, weight.unsqueeze(1))  # [G, B, L, out / G]
    return x.transpose([1, 2, 0, 3]).flatten(2) + bias  # [B, L, out]


def layer_norm(x, weight, bias, epsilon):
    """LayerNorm over the last axis."""
    if weight.stop_gradient:  # Paddle 3.3's CPU kernel then leaves the weight out of the gradient of x
        return F.layer_norm(x, x.shape[-1:], epsilon=epsilon) * weight + bias
    return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def dropout_add_norm(x, residual, weight, bias, epsilon, dropout, training):
    """LayerNorm(residual + dropout(x)) over the last axis. All of x, residual and the result are [B, L, E]."""
    return layer_norm(residual + F.dropout(x, dropout, training=training), weight, bias, epsilon)


def embeddings(
    ids, inputs_embeds, positions, types, words, places, kinds, norm_weight, norm_bias, pad_id, epsilon, dropout,
    training,
):  # fmt: skip
    """Dropout of the LayerNorm of word + position + token type: [B, L, E].

    Args:
        ids: int [B, L]; None where `inputs_embeds` [B, L, E] takes the place of the word embeddings.
        positions: int [B, L] or [L]; None: 0 … L - 1.
        types: int [B, L]; None: all 0.
        words, places, kinds: tables [V, E] of the words, positions and token types.
    """
    fast = ids is not None and on_fast_path(words, places, kinds, norm_weight, norm_bias)
    if fast and 0 not in ids.shape:
        tables = words, places, kinds, norm_weight, norm_bias
        return compiled().functions.embeddings(ids, positions, types, *tables, pad_id, epsilon, dropout, training)
    rows = embed(ids, words, pad_id) if inputs_embeds is None else inputs_embeds
    places = places[: rows.shape[1]] if positions is None else F.embedding(positions, places)
    kinds = kinds[0] if types is None else F.embedding(types, kinds)
    normal = layer_norm(rows + places + kinds, norm_weight, norm_bias, epsilon)
    return F.dropout(normal, dropout, training=training)


class FeedForwardWeights(NamedTuple):
    inner: paddle.Tensor  # as in `linear`
    inner_bias: paddle.Tensor
    out: paddle.Tensor
    out_bias: paddle.Tensor
    norm: paddle.Tensor  # [E]
    norm_bias: paddle.Tensor  # [E]


def feed_forward(x, weights, activation, epsilon, dropout, training):
    """The second half of a layer, x [B, L, E] → [B, L, E]; activation: a name of ACTIVATIONS."""
    inner, inner_bias, out, out_bias, norm, norm_bias = weights
    if on_fast_path(x, *weights) and activation in compiled().functions.ACTIVATIONS:
        return compiled().functions.feed_forward(x, weights, activation, epsilon, dropout, training)
    expanded = ACTIVATIONS[activation](linear(x, inner, inner_bias))
    return dropout_add_norm(linear(expanded, out, out_bias), x, norm, norm_bias, epsilon, dropout, training)


def language_model(hidden, words, bias, labels, draws):
    """Which words belong to some hidden states: the loss, the likeliest ones, and ones drawn from the distribution.

    Args:
        hidden: [N, E].
        words, bias: [V, E] and [V]; logits are hidden @ words.T + bias.
        labels: int [N].
        draws: [N], from [0, 1): the drawn word is the first at which the distribution function exceeds it.

    Returns:
        mean cross entropy (of no rows: 0), likeliest words int [N], drawn words int [N].
    """
    if on_fast_path(hidden, words, bias):
        return compiled().language_model.language_model(hidden, words, bias, labels, draws)
    if PADDLE_2 and not hidden.shape[0]:
        none = paddle.zeros([0], "int64")
        return bias.sum() * 0.0, none, none
    logits = paddle.matmul(hidden, words, transpose_y=True) + bias
    loss = _mean_word_loss(logits, labels)
    with paddle.no_grad():
        reached = F.softmax(logits.astype("float32"), axis=-1).cumsum(-1)  # [N, V]
        drawn = paddle.searchsorted(reached, draws.unsqueeze(-1), right=True).squeeze(-1).clip(max=words.shape[0] - 1)
    return loss, logits.argmax(-1), drawn


@in_float32
def _mean_word_loss(logits, labels):
    losses = F.cross_entropy(logits, labels.unsqueeze(-1), reduction="none")
    return losses.sum() / max(1, losses.shape[0])


MASKED = -1e4  # added to a score: exp() of it is 0 in float32, and it still fits into float16


def additive_mask(mask, dtype):
    """A mask of any documented form → what is added to the scores, [B, 1 or H, 1 or L, L], never below 2 · MASKED."""
    if mask.ndim not in (2, 3, 4):
        raise ValueError(f"attention_mask has shape {mask.shape}; 2, 3 or 4 dimensions are understood")
    if mask.dtype in (paddle.float16, paddle.bfloat16, paddle.float32, paddle.float64):
        mask = mask.astype(dtype).clip(min=2 * MASKED)  # so that a row of -inf stays finite
    else:
        mask = (1.0 - mask.astype(dtype)) * MASKED
    if mask.ndim == 2:
        return mask.unsqueeze([1, 2])
    return mask.unsqueeze(1) if mask.ndim == 3 else mask


@in_float32
def cross_entropy(logits, labels):
    """Mean cross entropy of logits [..., N] and int labels [...]; labels of -100 don't count.

    (Paddle's own mean divides by all labels, the ignored ones included; without any that counts it is 0.)
    """
    losses = F.cross_entropy(logits, labels.unsqueeze(-1), reduction="none").squeeze(-1)
    return losses.sum() / (labels != -100).astype(losses.dtype).sum().clip(min=1.0)


@in_float32
def squared_error(predicted, labels):
    """Mean of squared differences of numbers, whatever the labels' type."""
    return F.mse_loss(predicted, labels.astype(predicted.dtype))


@in_float32
def independent_cross_entropy(logits, labels):
    """Mean cross entropy of yes/no labels, each by itself: [...]; labels of -100 don't count."""
    counts = (labels != -100).astype(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, labels.astype(logits.dtype) * counts, reduction="none")
    return (losses * counts).sum() / counts.sum().clip(min=1.0)


@in_float32
def multi_label_cross_entropy(logits, labels):
    """Mean cross entropy of yes/no labels [B, C], which may lie between 0 and 1."""
    return F.binary_cross_entropy_with_logits(logits, labels.astype(logits.dtype))
