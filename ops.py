"""The functions that ConvBERT's layers are made of.

Each is written as its plain Paddle definition, which says what it means and runs on GPUs, XPUs and in static programs.
On a CPU the three large ones, and `linear`, run as `cpu_functions` instead: the same numbers, several times faster.
CONVBERT_KERNELS=paddle in the environment forces the definitions.

Dimension letters: B batch, L length, H heads of one kind, D head size, K convolution kernel, E hidden size, G groups.
Dropout and attention probabilities follow `training`; everything is differentiable in every floating input.
The definitions never read shapes at run time, so that they also work under `paddle.jit.to_static` with any batch and
length.
"""

import contextlib
import functools
import logging
import os
from typing import NamedTuple

import paddle
import paddle.nn.functional as F

import onednn
from checkpoint_files import InputError

logger = logging.getLogger("convbert")

ACTIVATIONS = {
    "gelu": F.gelu,  # the exact one, with erf
    "gelu_new": lambda x: F.gelu(x, approximate=True),
    "relu": F.relu,
    "silu": F.silu,
}


# ------------------------------------------------------------------------------------------------------ the CPU's path


def on_fast_path(*tensors):
    """Whether a call with these floating tensors can run as compiled loops on the CPU."""
    return (
        paddle.in_dynamic_mode()
        and paddle.get_device() == "cpu"
        and all(t.dtype == paddle.float32 and t.place.is_cpu_place() and 0 not in t.shape for t in tensors)
        and kernels_wanted()
        and _cpu_functions() is not None
    )


def kernels_wanted():
    """What CONVBERT_KERNELS says: auto (the default) or paddle."""
    wish = os.environ.get("CONVBERT_KERNELS", "auto")
    if wish not in ("auto", "paddle"):
        raise InputError(f"CONVBERT_KERNELS={wish}: must be auto or paddle")
    return wish == "auto"


@functools.cache
def _cpu_functions():
    """The module, with its loops compiled; None, and one warning, where it can't be used."""
    try:
        import cpu_functions
    except (ImportError, RuntimeError, ValueError, OSError) as problem:
        logger.warning("slower: compiled CPU loops can't be used here (%s)", problem)
        return None
    return cpu_functions


@contextlib.contextmanager
def bfloat16():
    """A context in which the fast path's products work in bfloat16: forward, and the backward of what ran in it.

    A weight is converted once, when it is first used: after an optimizer's step open another one. Raises InputError
    where that is impossible.
    """
    if reason := bfloat16_obstacle():
        raise InputError(f"bfloat16 on a CPU: {reason}")
    functions = _cpu_functions()
    token = functions.precision.set(functions.Bfloat16())
    try:
        yield
    finally:
        functions.precision.reset(token)


def bfloat16_obstacle():
    """Why `bfloat16` can't be opened here; None if it can."""
    if not onednn.has_bfloat16():
        return "this processor has no instructions for it (avx512_bf16 or amx_bf16)"
    if not kernels_wanted():
        return "CONVBERT_KERNELS=paddle has none"
    if _cpu_functions() is None:
        return "it needs the compiled loops"
    try:
        onednn.library()
    except OSError as error:
        return str(error)
    return None


# ----------------------------------------------------------------------------------------------------- small functions


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
        return _cpu_functions().Linear.apply(x, weight, bias)
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


def depthwise_conv(x, weight):
    """Every channel of x [B, L, E] convolved along L with its own K taps, weight [E, 1, K], zeros beyond the ends."""
    settings = dict(padding=weight.shape[-1] // 2, groups=weight.shape[0])
    if paddle.in_dynamic_mode():
        return F.conv1d(x, weight, **settings, data_format="NLC")
    return F.conv1d(x.transpose([0, 2, 1]), weight, **settings).transpose([0, 2, 1])  # for paddle2onnx, which lacks NLC


def dynamic_conv(values, logits):
    """The paper's lightweight convolution: every token mixes the values around it with its own softmax kernel.

    Args:
        values: [B, L, H, D].
        logits: [B, L, H, K]; tap k weighs the value at distance k - K // 2, zero beyond the ends.

    Returns:
        [B, L, H, D].
    """
    taps = logits.shape[-1]
    kernels = F.softmax(logits, axis=-1)
    nothing = [paddle.zeros_like(values[:, :1])] * (taps // 2)
    values = paddle.concat([*nothing, values, *nothing], axis=1)  # [B, L + K - 1, H, D]
    mixed = 0.0
    for tap in range(taps):
        shifted = values[:, tap : tap - taps + 1 or None]  # [B, L, H, D]
        mixed = mixed + shifted * kernels[..., tap : tap + 1]
    return mixed


def attention(query, key, value, mask, dropout, training):
    """Scaled dot-product attention.

    Args:
        query, key, value: [B, L, H, D].
        mask: added to the scores; broadcasts to [B, H, L, L].

    Returns:
        context [B, L, H, D] and the probabilities before dropout [B, H, L, L].
    """
    query, key, value = (x.transpose([0, 2, 1, 3]) for x in (query, key, value))  # [B, H, L, D]
    scores = paddle.matmul(query, key, transpose_y=True) * query.shape[-1] ** -0.5 + mask
    probabilities = F.softmax(scores, axis=-1)
    context = paddle.matmul(F.dropout(probabilities, dropout, training=training), value)
    return context.transpose([0, 2, 1, 3]), probabilities  # [B, L, H, D]


# ------------------------------------------------------------------------------------------------- a layer's two halves


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
        return _cpu_functions().embeddings(ids, positions, types, *tables, pad_id, epsilon, dropout, training)
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
    if activation == "gelu" and on_fast_path(x, *weights):
        return _cpu_functions().feed_forward(x, weights, epsilon, dropout, training)
    expanded = ACTIVATIONS[activation](linear(x, inner, inner_bias))
    return dropout_add_norm(linear(expanded, out, out_bias), x, norm, norm_bias, epsilon, dropout, training)


class MixedAttentionWeights(NamedTuple):
    query: paddle.Tensor  # [E, H·D], as are key, value and conv_value
    query_bias: paddle.Tensor
    key: paddle.Tensor
    key_bias: paddle.Tensor
    value: paddle.Tensor
    value_bias: paddle.Tensor
    conv_value: paddle.Tensor  # the values that the kernels mix
    conv_value_bias: paddle.Tensor
    depthwise: paddle.Tensor  # [E, 1, K]
    pointwise: paddle.Tensor  # [H·D, E]
    span_bias: paddle.Tensor  # [H·D]
    kernel: paddle.Tensor  # [H·D, H·K]
    kernel_bias: paddle.Tensor
    out: paddle.Tensor  # [2·H·D, E]
    out_bias: paddle.Tensor
    norm: paddle.Tensor  # [E]
    norm_bias: paddle.Tensor  # [E]


def kernel_logits(x, query, real, w, heads):
    """What a layer's convolution kernels are the softmax of: [B, L, H, K]. query: [B, L, H·D]; the rest as below."""
    local = x if real is None else x * real
    span_key = linear(depthwise_conv(local, w.depthwise), w.pointwise.t(), w.span_bias)  # the paper's span-aware key
    return linear(query * span_key, w.kernel, w.kernel_bias).reshape([0, 0, heads, w.depthwise.shape[-1]])


def mixed_attention(x, mask, real, weights, heads, epsilon, attention_dropout, dropout, training, return_attentions):
    """The first half of a layer: H heads of self-attention beside H heads of span-based dynamic convolution.

    Args:
        x: [B, L, E].
        mask: added to the scores; broadcasts to [B, H, L, L].
        real: None, or [B, L, 1]: 1 at tokens, 0 at padding that the convolutions shall not see.

    Returns:
        [B, L, E] and, with `return_attentions`, the probabilities before dropout [B, H, L, L], else None.
    """
    w = weights
    if not return_attentions and mask.stop_gradient and on_fast_path(x, mask, *weights):
        rates = attention_dropout, dropout
        return _cpu_functions().mixed_attention(x, mask, real, weights, heads, epsilon, *rates, training), None
    by_head = [0, 0, heads, w.query.shape[1] // heads]  # a reshape to [B, L, H, D]
    query, conv_values = linear(x, w.query, w.query_bias), linear(x, w.conv_value, w.conv_value_bias)
    key, value = linear(x, w.key, w.key_bias), linear(x, w.value, w.value_bias)
    conv_values = conv_values if real is None else conv_values * real
    convolved = dynamic_conv(conv_values.reshape(by_head), kernel_logits(x, query, real, w, heads))
    attended, probabilities = attention(
        query.reshape(by_head), key.reshape(by_head), value.reshape(by_head), mask, attention_dropout, training
    )
    mixed = paddle.concat([attended, convolved], axis=2).flatten(2)  # [B, L, 2·H·D]
    mixed = linear(mixed, w.out, w.out_bias)
    x = dropout_add_norm(mixed, x, w.norm, w.norm_bias, epsilon, dropout, training)
    return x, probabilities if return_attentions else None


# ------------------------------------------------------------------------------------------------------ language model


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
        return _cpu_functions().language_model(hidden, words, bias, labels, draws)
    logits = paddle.matmul(hidden, words, transpose_y=True) + bias
    losses = F.cross_entropy(logits, labels.unsqueeze(-1), reduction="none")
    with paddle.no_grad():
        reached = F.softmax(logits.astype("float32"), axis=-1).cumsum(-1) <= draws.unsqueeze(-1)
        drawn = reached.astype("int64").sum(-1).clip(max=words.shape[0] - 1)
    return losses.sum() / max(1, losses.shape[0]), logits.argmax(-1), drawn


# ------------------------------------------------------------------------------------------------------------ optimizer


def adamw(due, beta1, beta2, epsilon):
    """One AdamW step in place, on the CPU only: `training.AdamW` leaves the rest to Paddle.

    Args:
        due: list of (weight, gradient, first moment, second moment, beta1**step, beta2**step, learning rate, share of
            the weight that decay takes); six tensors that are `on_fast_path` and two numbers.
    """
    _cpu_functions().adamw(due, beta1, beta2, epsilon)
