"""The functions that ConvBERT's layers are made of, each as its plain Paddle definition.

Dimension letters: B batch, L length, H heads of one kind, D head size, K convolution kernel, E hidden size, G groups.
Dropout and attention probabilities follow `training`; everything is differentiable in every floating input.
Shapes are never read at run time, so that the functions also work under `paddle.jit.to_static` with any batch and
length.
"""

import paddle
import paddle.nn.functional as F

ACTIVATIONS = {
    "gelu": F.gelu,  # the exact one, with erf
    "gelu_new": lambda x: F.gelu(x, approximate=True),
    "relu": F.relu,
    "silu": F.silu,
}


def embed(ids, weight, pad_id):
    """Rows of `weight` [V, E] for `ids` [B, L]: [B, L, E].

    The pad row is read as it is stored, but gets no gradient from here, as in PyTorch. (Paddle's own `padding_idx`
    would read it as zeros.)
    """
    rows = F.embedding(ids, weight)
    return paddle.where((ids == pad_id).unsqueeze(-1), rows.detach(), rows)


def linear(x, weight, bias):
    """x [..., in] @ weight [in, out] + bias [out]: [..., out]."""
    return F.linear(x, weight, bias)


def grouped_linear(x, weight, bias):
    """Each of G slices of x [B, L, in] has its own weight [G, in / G, out / G]: [B, L, out], in the slices' order.

    Source: the paper's grouped linear operator.
    """
    groups, width, _ = weight.shape
    x = x.reshape([0, 0, groups, width]).transpose([2, 0, 1, 3])  # [G, B, L, in / G]
    x = paddle.matmul(x, weight.unsqueeze(1))  # [G, B, L, out / G]
    return x.transpose([1, 2, 0, 3]).flatten(2) + bias  # [B, L, out]


def dropout_add_norm(x, residual, weight, bias, epsilon, dropout, training):
    """LayerNorm(residual + dropout(x)) over the last axis. All of x, residual and the result are [B, L, E]."""
    x = residual + F.dropout(x, dropout, training=training)
    return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def depthwise_conv(x, weight):
    """Every channel of x [B, L, E] convolved along L with its own K taps, weight [E, 1, K], zeros beyond the ends."""
    return F.conv1d(x, weight, padding=weight.shape[-1] // 2, groups=weight.shape[0], data_format="NLC")


def dynamic_conv(values, kernel_logits):
    """The paper's lightweight convolution: every token mixes the values around it with its own softmax kernel.

    Args:
        values: [B, L, H, D].
        kernel_logits: [B, L, H, K]; tap k weighs the value at distance k - K // 2, zero beyond the ends.

    Returns:
        [B, L, H, D].
    """
    taps = kernel_logits.shape[-1]
    kernels = F.softmax(kernel_logits, axis=-1)
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
