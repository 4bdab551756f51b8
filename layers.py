"""The layers of ConvBERT: embeddings, mixed attention, feed-forward. Their arithmetic is in `ops`.

Paper: Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020, arXiv 2008.02496.
Parameter names are PaddleNLP's. Starting weights are the TensorFlow original's.

Dimension letters: B batch, L length, H heads of one kind, D head size, K convolution kernel, E hidden size, G groups.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.nn.initializer import TruncatedNormal

import ops
from checkpoint_files import InputError


def truncated_normal(deviation):
    """TensorFlow's truncated normal, cut at two deviations. (Paddle's bounds are absolute.)"""
    return TruncatedNormal(0.0, deviation, -2 * deviation, 2 * deviation)


class Linear(nn.Linear):
    """A dense layer, weight [in, out]."""

    def __init__(self, config, inputs, outputs, initializer=None):
        super().__init__(inputs, outputs, weight_attr=initializer or truncated_normal(config.initializer_range))

    def forward(self, x):
        return ops.linear(x, self.weight, self.bias)


class GroupedLinear(nn.Layer):
    """A dense layer of G independent slices, weight [G, in / G, out / G]."""

    def __init__(self, config, inputs, outputs):
        super().__init__()
        groups = config.num_groups
        shape = [groups, inputs // groups, outputs // groups]
        self.weight = self.create_parameter(shape, default_initializer=truncated_normal(config.initializer_range))
        self.bias = self.create_parameter([outputs], is_bias=True)

    def forward(self, x):
        return ops.linear(x, self.weight, self.bias)


class ConvBertEmbeddings(nn.Layer):
    """Word + position + token type, LayerNorm, dropout: [B, L, embedding_size]."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        size = config.embedding_size
        normal = truncated_normal(config.initializer_range)
        self.word_embeddings = nn.Embedding(config.vocab_size, size, weight_attr=normal)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size, weight_attr=normal)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size, weight_attr=normal)
        self.layer_norm = nn.LayerNorm(size, epsilon=config.layer_norm_eps)
        with paddle.no_grad():
            self.word_embeddings.weight[config.pad_token_id] = 0.0

    def forward(self, input_ids, token_type_ids, position_ids, inputs_embeds):
        config = self.config
        length = (input_ids if inputs_embeds is None else inputs_embeds).shape[1]
        if paddle.in_dynamic_mode() and position_ids is None and length > config.max_position_embeddings:
            raise InputError(f"{length} tokens, but this model has {config.max_position_embeddings} positions")
        tables = self.word_embeddings, self.position_embeddings, self.token_type_embeddings
        return ops.embeddings(
            None if inputs_embeds is not None else input_ids, inputs_embeds, position_ids, token_type_ids,
            *(table.weight for table in tables), self.layer_norm.weight, self.layer_norm.bias, config.pad_token_id,
            config.layer_norm_eps, config.hidden_dropout_prob, self.training,
        )  # fmt: skip


class SeparableConv(nn.Layer):
    """Depthwise, then pointwise convolution: [B, L, E] → [B, L, H·D]."""

    def __init__(self, config, outputs):
        super().__init__()
        hidden, taps = config.hidden_size, config.conv_kernel_size
        normal = truncated_normal(config.initializer_range)
        self.depthwise = nn.Conv1D(
            hidden, hidden, taps, groups=hidden, weight_attr=truncated_normal(1 / taps), bias_attr=False
        )
        self.pointwise = nn.Conv1D(hidden, outputs, 1, weight_attr=normal, bias_attr=False)
        self.bias = self.create_parameter([outputs], is_bias=True)


class MixedAttention(nn.Layer):
    """The paper's mixed attention: H heads of self-attention beside H heads of span-based dynamic convolution."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, heads = config.hidden_size, config.heads_of_each_kind
        width = heads * config.head_size
        self.q_proj = Linear(config, hidden, width)
        self.k_proj = Linear(config, hidden, width)
        self.v_proj = Linear(config, hidden, width)
        self.key_conv_attn_layer = SeparableConv(config, width)  # the paper's span-aware key
        self.conv_kernel_layer = Linear(config, width, heads * config.conv_kernel_size)
        self.conv_out_layer = Linear(config, hidden, width)  # the values that the kernels mix
        self.out_proj = Linear(config, 2 * width, hidden)

    def weights(self, norm):
        """ops.MixedAttentionWeights; `norm` is the LayerNorm that follows."""
        separable = self.key_conv_attn_layer
        pairs = (
            self.q_proj, self.k_proj, self.v_proj, self.conv_out_layer, self.conv_kernel_layer, self.out_proj, norm
        )  # fmt: skip
        query, key, value, conv_value, kernel, out, norm = ((part.weight, part.bias) for part in pairs)
        span = separable.depthwise.weight, separable.pointwise.weight.squeeze(-1), separable.bias
        return ops.MixedAttentionWeights(*query, *key, *value, *conv_value, *span, *kernel, *out, *norm)

    def kernels(self, x, real, norm):
        """What each token's convolution weighs its neighbours with: [B, L, H, K], for looking inside."""
        weights, heads = self.weights(norm), self.config.heads_of_each_kind
        query = ops.linear(x, weights.query, weights.query_bias)
        return F.softmax(ops.kernel_logits(x, query, real, weights, heads), axis=-1)

    def forward(self, x, mask, real, norm, return_attentions):
        """See ops.mixed_attention; `norm` is the LayerNorm that follows."""
        config = self.config
        return ops.mixed_attention(
            x, mask, real, self.weights(norm), config.heads_of_each_kind, config.layer_norm_eps,
            config.attention_probs_dropout_prob, config.hidden_dropout_prob, self.training, return_attentions,
        )  # fmt: skip


class ConvBertLayer(nn.Layer):
    """Mixed attention and feed-forward, each followed by dropout, residual and LayerNorm: [B, L, E] → [B, L, E]."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, inner = config.hidden_size, config.intermediate_size
        dense = Linear if config.num_groups == 1 else GroupedLinear
        self.self_attn = MixedAttention(config)
        self.norm1 = nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)
        self.linear1 = dense(config, hidden, inner)
        self.linear2 = dense(config, inner, hidden)
        self.norm2 = nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)

    def forward(self, x, mask, real=None, output_attentions=False):
        config = self.config
        x, probabilities = self.self_attn(x, mask, real, self.norm1, output_attentions)
        weights = ops.FeedForwardWeights(
            self.linear1.weight, self.linear1.bias, self.linear2.weight, self.linear2.bias, self.norm2.weight,
            self.norm2.bias,
        )  # fmt: skip
        settings = config.hidden_act, config.layer_norm_eps, config.hidden_dropout_prob, self.training
        x = ops.feed_forward(x, weights, *settings)
        return (x, probabilities) if output_attentions else x


class ConvBertEncoder(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.LayerList([ConvBertLayer(config) for _ in range(config.num_hidden_layers)])


class ConvBertPooler(nn.Layer):
    """PaddleNLP's extra dense + tanh on the first token."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.hidden_size)

    def forward(self, first):
        return F.tanh(self.dense(first))
