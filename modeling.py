"""ConvBERT in Paddle: BERT with some attention heads replaced by span-based dynamic convolution.

Paper: Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020, arXiv 2008.02496.
References: the authors' TensorFlow code (T), Hugging Face transformers 4.55 and 5.23 (H), PaddleNLP 3.0.0b4 (P).
Parameter names are P's.

Deliberate choices where the three differ (docs/differences.md):
- head_ratio ≠ 2 and fewer heads than head_ratio follow T: head size is always hidden / heads, and at least one head of
  each kind stays.
- Initialisation is T's: truncated normals, depthwise kernels with deviation 1 / K, Glorot for the task heads.
- The pad embedding is read as stored, starts at zero and gets no gradient.
- With `mask_conv_padding` the convolutions do not see padding; off by default, as published weights were made without.
- Floating masks are added to the scores whatever their rank; integer and bool masks mean 1 = attend.

Dimension letters: B batch, L length, H heads of one kind, D head size, K convolution kernel, E hidden size, C choices.
The forwards never read shapes at run time, so that they also work under `paddle.jit.to_static` with any batch and
length.
"""

import os
from pathlib import Path

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.distributed.fleet.utils import recompute
from paddle.nn.initializer import XavierUniform

from files.errors import InputError
from files.json_files import read_json_object
from layers import functions, inference
from layers.configuration import ConvBertConfig
from layers.dense import KINDS, GroupedLinear, Linear, dropout_add_norm, normalized, side_by_side, untouched
from layers.fast_path import compiled, on_fast_path
from layers.functions import (
    ACTIVATIONS,
    MASKED,
    additive_mask,
    cross_entropy,
    independent_cross_entropy,
    multi_label_cross_entropy,
    squared_error,
)
from layers.outputs import BackboneOutput, HeadOutput, PretrainingOutput, QuestionAnsweringOutput, returned
from layers.paddle_versions import PADDLE_2, can_recompute, truncated_normal
from layers.pretrained import PretrainedModel, keep_rows

# ----------------------------------------------------------------------------------------------------------- embeddings


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
        if not untouched(*self.children()):
            return self.one_by_one(input_ids, token_type_ids, position_ids, inputs_embeds)
        ids, words = (input_ids, self.word_embeddings.weight) if inputs_embeds is None else (None, None)
        return functions.embeddings(
            ids, inputs_embeds, position_ids, token_type_ids, words, self.position_embeddings.weight, self.kinds(),
            self.layer_norm.weight, self.layer_norm.bias, config.pad_token_id, config.layer_norm_eps,
            config.hidden_dropout_prob, self.training,
        )  # fmt: skip

    def one_by_one(self, input_ids, token_type_ids, position_ids, inputs_embeds):
        """The same by calling the parts."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = words.shape[1]
        places = paddle.arange(length) if position_ids is None else position_ids
        types = paddle.zeros([1, length], "int64") if token_type_ids is None else token_type_ids
        x = self.layer_norm(words + self.position_embeddings(places) + self.of_types(types))
        return F.dropout(x, self.config.hidden_dropout_prob, training=self.training)

    def kinds(self):
        """What is added for each token type, [T, embedding_size]."""
        return self.token_type_embeddings.weight

    def of_types(self, token_type_ids):
        """What is added for these token types, [B, L] → [B, L, embedding_size]."""
        return self.token_type_embeddings(token_type_ids)


# ---------------------------------------------------------------------------- span-based dynamic convolution, attention


def depthwise_conv(x, weight):
    """Every channel of x [B, L, E] convolved along L with its own K taps, weight [E, 1, K], zeros beyond the ends.

    In float32, whatever x and --amp are of: not every device has its gradient in 16 bits.
    """
    settings = dict(padding=weight.shape[-1] // 2, groups=weight.shape[0])
    if paddle.in_dynamic_mode():
        wide = x.dtype if x.dtype == paddle.float64 else "float32"
        with paddle.amp.auto_cast(enable=False):
            out = F.conv1d(x.astype(wide), weight.astype(wide), **settings, data_format="NLC")
        return out.astype(x.dtype)
    return F.conv1d(x.transpose([0, 2, 1]), weight, **settings).transpose([0, 2, 1])  # for paddle2onnx, which lacks NLC


class SeparableConv(nn.Layer):
    """Depthwise, then pointwise convolution: [B, L, E] → [B, L, H·D]."""

    def __init__(self, config, outputs):
        super().__init__()
        hidden, taps = config.hidden_size, config.conv_kernel_size
        normal = truncated_normal(config.initializer_range)
        self.depthwise = nn.Conv1D(
            hidden, hidden, taps, padding=taps // 2, groups=hidden, weight_attr=truncated_normal(1 / taps),
            bias_attr=False,
        )  # fmt: skip
        self.pointwise = nn.Conv1D(hidden, outputs, 1, weight_attr=normal, bias_attr=False)
        self.bias = self.create_parameter([outputs], is_bias=True)

    def forward(self, x):
        if not untouched(self.depthwise, self.pointwise):
            return self.pointwise(self.depthwise(x.transpose([0, 2, 1]))).transpose([0, 2, 1]) + self.bias
        local = depthwise_conv(x, self.depthwise.weight)  # [B, L, E]
        return functions.linear(local, self.pointwise.weight.squeeze(-1).t(), self.bias)


def dynamic_conv(values, kernels):
    """The paper's lightweight convolution: every token mixes the values around it with its own kernel.

    Args:
        values: [B, L, H, D].
        kernels: [B, L, H, K]; tap k weighs the value at distance k - K // 2, zero beyond the ends.

    Returns:
        [B, L, H, D].
    """
    (heads, size), taps = values.shape[2:], kernels.shape[-1]
    if not paddle.in_dynamic_mode():
        return dynamic_conv_by_taps(values, kernels)
    values = values.flatten(2).transpose([0, 2, 1]).unsqueeze(-1)  # [B, H·D, L, 1]: a picture one column wide
    windows = F.unfold(values, [taps, 1], paddings=[taps // 2, 0])  # [B, H·D·K, L]
    windows = windows.reshape([0, heads, size, taps, -1]).transpose([0, 4, 1, 2, 3])  # [B, L, H, D, K]
    return paddle.matmul(windows, kernels.unsqueeze(-1)).squeeze(-1)


def dynamic_conv_by_taps(values, kernels):
    """The same for programs: ONNX Runtime runs it in half the time, for training it is several times slower."""
    taps = kernels.shape[-1]
    nothing = [paddle.zeros_like(values[:, :1])] * (taps // 2)
    values = paddle.concat([*nothing, values, *nothing], axis=1)  # [B, L + K - 1, H, D]
    mixed = 0.0
    for tap in range(taps):
        shifted = values[:, tap : tap - taps + 1 or None]  # [B, L, H, D]
        mixed = mixed + shifted * kernels[..., tap : tap + 1]
    return mixed


def attention(query, key, value, mask, dropout, training, with_probabilities=False):
    """Scaled dot-product attention.

    Args:
        query, key, value: [B, L, H, D].
        mask: added to the scores; broadcasts to [B, H, L, L].

    Returns:
        context [B, L, H, D] and, with `with_probabilities`, the probabilities before dropout [B, H, L, L], else None.
    """
    if paddle.in_dynamic_mode() and mask.stop_gradient and not with_probabilities and not PADDLE_2:
        batch, length = query.shape[:2]  # Paddle's kernels for GPUs and XPUs want the mask so:
        mask = mask.astype(query.dtype).expand([batch, -1, length, length])  # [B, 1 or H, L, L]
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, training=training), None
    query, key, value = (x.transpose([0, 2, 1, 3]) for x in (query, key, value))  # [B, H, L, D]
    scores = paddle.matmul(query, key, transpose_y=True) * query.shape[-1] ** -0.5 + mask
    probabilities = F.softmax(scores, axis=-1)
    context = paddle.matmul(F.dropout(probabilities, dropout, training=training), value)
    return context.transpose([0, 2, 1, 3]), probabilities if with_probabilities else None  # [B, L, H, D]


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
        """All weights as cpu.mixed_attention takes them; `norm` is the LayerNorm that follows."""
        projections = self.q_proj, self.k_proj, self.v_proj, self.conv_out_layer
        span = self.key_conv_attn_layer
        pairs = [(part.weight, part.bias) for part in (*projections, self.conv_kernel_layer, self.out_proj, norm)]
        query, key, value, conv_value, kernel, out, norm = pairs
        span = span.depthwise.weight, span.pointwise.weight.squeeze(-1), span.bias
        return *query, *key, *value, *conv_value, *span, *kernel, *out, *norm

    def is_untouched(self):
        """Whether `weights` are all that counts."""
        return untouched(*self.children(), *self.key_conv_attn_layer.children(), kinds=(*KINDS, SeparableConv))

    def for_inference(self, norm):
        """The first of an inference.Layer: its kind, the weights, heads of one kind."""
        return True, self.weights(norm), self.config.heads_of_each_kind

    def kernels(self, x, query, real=None):
        """What each token weighs its neighbours with, [B, L, H, K]: positive, K of them add up to 1.

        query: [B, L, H·D]; x and real: see forward.
        """
        local = x if real is None else x * real
        span_key = self.key_conv_attn_layer(local)  # [B, L, H·D]
        logits = self.conv_kernel_layer(query * span_key)  # [B, L, H·K]
        return F.softmax(logits.reshape([0, 0, self.config.heads_of_each_kind, self.config.conv_kernel_size]), axis=-1)

    def forward(self, x, mask, real, norm, return_attentions=False):
        """The first half of a layer, with the dropout, residual and LayerNorm that end it.

        Args:
            x: [B, L, E].
            mask: added to the scores; broadcasts to [B, H, L, L].
            real: None, or [B, L, 1]: 1 at tokens, 0 at padding that the convolutions shall not see.
            norm: the LayerNorm.

        Returns:
            [B, L, E] and, with `return_attentions`, the probabilities before dropout [B, H, L, L], else None.
        """
        config, heads = self.config, self.config.heads_of_each_kind
        rates = config.attention_probs_dropout_prob, config.hidden_dropout_prob
        weights = self.weights(norm) if self.is_untouched() and untouched(norm) else ()
        if weights and not return_attentions and mask.stop_gradient and on_fast_path(x, mask, *weights):
            fast = compiled().mixed_attention.mixed_attention  # the same, in one forward and one backward
            return fast(x, mask, real, weights, heads, config.layer_norm_eps, *rates, self.training), None

        by_head = [0, 0, heads, config.head_size]  # a reshape to [B, L, H, D]
        projections = self.q_proj, self.k_proj, self.v_proj, self.conv_out_layer
        query, key, value, conv_value = side_by_side(x, *projections)  # [B, L, H·D] each
        conv_value = conv_value if real is None else conv_value * real
        convolved = dynamic_conv(conv_value.reshape(by_head), self.kernels(x, query, real))  # [B, L, H, D]
        attended, probabilities = attention(
            query.reshape(by_head), key.reshape(by_head), value.reshape(by_head), mask, rates[0], self.training,
            return_attentions,
        )  # fmt: skip
        mixed = paddle.concat([attended, convolved], axis=2).flatten(2)  # [B, L, 2·H·D]
        return dropout_add_norm(self.out_proj(mixed), x, norm, rates[1], self.training), probabilities


# ------------------------------------------------------------------------------------------------------- layer, encoder


class ConvBertLayer(nn.Layer):
    """Attention and feed-forward, each followed by dropout, residual and LayerNorm: [B, L, E] → [B, L, E].

    attention_class: MixedAttention, or in other architectures one that takes and returns the same.
    """

    def __init__(self, config, attention_class=MixedAttention):
        super().__init__()
        self.config = config
        hidden, inner = config.hidden_size, config.intermediate_size
        dense = Linear if config.num_groups == 1 else GroupedLinear
        self.self_attn = attention_class(config)
        self.norm1 = nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)
        self.linear1 = dense(config, hidden, inner)
        self.linear2 = dense(config, inner, hidden)
        self.norm2 = nn.LayerNorm(hidden, epsilon=config.layer_norm_eps)

    def is_untouched(self):
        """Whether the weights of both halves are all that counts."""
        ours = hasattr(self.self_attn, "for_inference")
        parts = self.norm1, self.linear1, self.linear2, self.norm2
        return ours and self.self_attn.is_untouched() and untouched(*parts)

    def for_inference(self):
        """What cpu.inference computes with, a Layer."""
        config, (mixed, attention, heads) = self.config, self.self_attn.for_inference(self.norm1)
        weights = attention, self.feed_forward_weights()
        return inference.Layer(mixed, *weights, heads, config.hidden_act, config.layer_norm_eps)

    def feed_forward_weights(self):
        pairs = [(part.weight, part.bias) for part in (self.linear1, self.linear2, self.norm2)]
        return functions.FeedForwardWeights(*pairs[0], *pairs[1], *pairs[2])

    def forward(self, x, mask, real=None, output_attentions=False):
        config = self.config
        x, probabilities = self.self_attn(x, mask, real, self.norm1, output_attentions)
        settings = config.hidden_dropout_prob, self.training
        if untouched(self.linear1, self.linear2, self.norm2):
            weights = self.feed_forward_weights()
            x = functions.feed_forward(x, weights, config.hidden_act, config.layer_norm_eps, *settings)
        else:
            inner = ACTIVATIONS[config.hidden_act](self.linear1(x))  # [B, L, intermediate_size]
            x = dropout_add_norm(self.linear2(inner), x, self.norm2, *settings)
        return (x, probabilities) if output_attentions else x


class ConvBertEncoder(nn.Layer):
    def __init__(self, config, attention_class=MixedAttention):
        super().__init__()
        self.layers = nn.LayerList([ConvBertLayer(config, attention_class) for _ in range(config.num_hidden_layers)])

    def for_inference(self):
        """An inference.Layer for each layer; None where hooks or other modules mean that they must be called."""
        if any(part._forward_pre_hooks or part._forward_post_hooks for part in self.sublayers(include_self=True)):
            return None
        if not all(type(layer) is ConvBertLayer and layer.is_untouched() for layer in self.layers):
            return None
        return [layer.for_inference() for layer in self.layers]


class ConvBertPooler(nn.Layer):
    """PaddleNLP's extra dense + tanh on the first token."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.with_tanh = config.pool_act == "tanh"

    def forward(self, first):
        return F.tanh(self.dense(first)) if self.with_tanh else self.dense(first)


class ConvBertPretrainedModel(PretrainedModel):
    config_class = ConvBertConfig


class ConvBertModel(ConvBertPretrainedModel):
    """The encoder without a head."""

    embeddings_class, attention_class = ConvBertEmbeddings, MixedAttention

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = self.embeddings_class(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = Linear(config, config.embedding_size, config.hidden_size)
        self.encoder = ConvBertEncoder(config, self.attention_class)
        if config.has_pooler:
            self.pooler = ConvBertPooler(config)
        self.recompute = False

    @property
    def backbone(self):
        return self

    def pool(self, hidden):
        """[B, L, E] → [B, E]: the first token, through the pooler if there is one."""
        first = hidden[:, 0]
        return self.pooler(first) if hasattr(self, "pooler") else first

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                output_hidden_states=False, output_attentions=False, return_dict=None):  # fmt: skip
        """
        Args:
            input_ids: int [B, L].
            token_type_ids: int [B, L]; left out: all 0.
            position_ids: int [B, L] or [L]; left out: 0 … L - 1.
            attention_mask: [B, L] over the keys, [B, L, L] or [B, 1 or H, 1 or L, L]. Integer or bool: 1 = attend.
                Floating: added to the scores. Left out: all but pad tokens.
            inputs_embeds: [B, L, embedding_size] in place of input_ids.
            return_dict: see layers.outputs.returned; True adds a pooler's output.

        Returns:
            The last hidden state [B, L, E], or a BackboneOutput when more is asked for.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if attention_mask is None and input_ids is not None:
            attention_mask = input_ids != self.config.pad_token_id
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        if attention_mask is None:
            attention_mask = paddle.ones_like(x[:, :, 0], dtype="bool")
        mask = additive_mask(attention_mask, x.dtype)  # [B, 1 or H, 1 or L, L]
        real = None
        if self.config.mask_conv_padding:  # a token is padding when nothing may attend to it
            real = (mask > MASKED / 2).any(axis=[1, 2]).astype(x.dtype).unsqueeze(-1)  # [B, L, 1]
        if hasattr(self, "embeddings_project"):
            x = self.embeddings_project(x)  # [B, L, embedding_size] → [B, L, E]

        hidden_states, attentions = [x], []
        packed = None if output_attentions else inference.packed(self.encoder, x, mask)
        if packed:
            hidden_states += packed(x, mask, real, every=output_hidden_states)
            x = hidden_states[-1]
        for layer in () if packed else self.encoder.layers:
            if output_attentions:
                x, probabilities = layer(x, mask, real, output_attentions=True)
                attentions.append(probabilities)
            elif self.recompute and self.training and can_recompute():
                x = recompute(layer, x, mask, real, use_reentrant=False)  # True is wrong under DataParallel
            else:
                x = layer(x, mask, real)
            hidden_states.append(x)
        output = BackboneOutput(
            x, tuple(hidden_states) if output_hidden_states else None, tuple(attentions) if output_attentions else None
        )
        pooled = {"pooler_output": self.pool(x)} if return_dict and hasattr(self, "pooler") else {}  # [B, E]
        return returned(output, return_dict, **pooled)


# ---------------------------------------------------------------------------------------------------------------- heads


class Head(ConvBertPretrainedModel):
    """A model on top of an encoder. Subclasses say what becomes of the hidden states and of the labels.

    forward returns the logits, or a HeadOutput when labels or extra outputs are asked for.
    """

    encoder_class = ConvBertModel
    last_start = XavierUniform()  # what the last dense layer's weight starts with

    def __init__(self, config):
        super().__init__(config)
        setattr(self, config.model_type, self.encoder_class(config))  # the `backbone`
        dropout = config.classifier_dropout
        self.head_dropout = config.hidden_dropout_prob if dropout is None else dropout

    def loss(self, logits, labels):
        return cross_entropy(logits, labels)

    def predict(self, *inputs):
        """ConvBertModel.forward's inputs → logits, (hidden_states, attentions) or () when neither is asked for."""
        encoded = self.backbone(*inputs)
        if isinstance(encoded, BackboneOutput):
            return self.logits(encoded.last_hidden_state), encoded[1:]
        return self.logits(encoded), ()

    def output(self, logits, labels, extra, return_dict):
        loss = None if labels is None else self.loss(logits, labels)
        return returned(HeadOutput(loss, logits, *extra), return_dict)

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False, return_dict=None):  # fmt: skip
        """See ConvBertModel.forward; `labels` as the class says."""
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        logits, extra = self.predict(*inputs, output_hidden_states, output_attentions)
        return self.output(logits, labels, extra, return_dict)


class ConvBertClassificationHead(nn.Layer):
    """[B, E] → [B, num_labels]: dropout, dense, activation, dropout, dense; with `classifier="linear"` one dense."""

    def __init__(self, config, dropout):
        super().__init__()
        self.dropout = dropout
        self.activation = ACTIVATIONS[config.hidden_act]
        if config.classifier != "linear":
            self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config, config.hidden_size, config.num_labels, XavierUniform())

    def forward(self, x):
        if hasattr(self, "dense"):
            x = self.activation(self.dense(F.dropout(x, self.dropout, training=self.training)))
        return self.out_proj(F.dropout(x, self.dropout, training=self.training))


class ConvBertForSequenceClassification(Head):
    """Logits [B, num_labels]. Labels: int [B]; float [B] for regression (one label); float [B, num_labels] for
    independent yes/no labels, or for regression where the configuration's `problem_type` says so."""

    classifier_class = ConvBertClassificationHead

    def __init__(self, config):
        super().__init__(config)
        self.classifier = self.classifier_class(config, self.head_dropout)

    def logits(self, hidden):
        return self.classifier(self.backbone.pool(hidden))

    def loss(self, logits, labels):
        problem, count = self.config.problem_type, self.config.num_labels
        if problem == "regression" or (problem is None and count == 1):
            return squared_error(logits.flatten(), labels.flatten())
        if problem == "multi_label_classification" or (
            problem is None and labels.ndim == 2 and labels.shape[1] == count
        ):
            return multi_label_cross_entropy(logits, labels)
        return cross_entropy(logits, labels.flatten())  # not super().loss, of which a static program makes a loop


class ConvBertForTokenClassification(Head):
    """Logits [B, L, num_labels]. Labels: int [B, L]; -100 doesn't count."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, config.num_labels, self.last_start)

    def logits(self, hidden):
        return self.classifier(F.dropout(hidden, self.head_dropout, training=self.training))


class ConvBertForMultipleChoice(Head):
    """Inputs [B, C, L]; logits [B, C]. Labels: int [B]."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, 1, self.last_start)

    def pool(self, hidden):
        return self.backbone.pool(hidden)

    def logits(self, hidden):
        pooled = F.dropout(self.pool(hidden), self.head_dropout, training=self.training)
        return self.classifier(pooled)  # [B·C, 1]

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False, return_dict=None):  # fmt: skip
        """See ConvBertModel.forward, with an axis of choices after the batch in every input."""
        choices = (input_ids if inputs_embeds is None else inputs_embeds).shape[1]
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        flat = (x if x is None else x.flatten(0, 1) for x in inputs)  # [B, C, L, …] → [B·C, L, …]
        logits, extra = self.predict(*flat, output_hidden_states, output_attentions)
        return self.output(logits.reshape([-1, choices]), labels, extra, return_dict)  # logits [B, C]


class ConvBertForQuestionAnswering(Head):
    """Start and end logits, [B, L] each. Positions: int [B]; those outside the text don't count."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, 2, self.last_start)

    def logits(self, hidden):
        return self.classifier(hidden)  # [B, L, 2]

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                start_positions=None, end_positions=None, output_hidden_states=False, output_attentions=False,
                return_dict=None):  # fmt: skip
        """See ConvBertModel.forward. Returns (start, end), or a QuestionAnsweringOutput when more is asked for."""
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        logits, extra = self.predict(*inputs, output_hidden_states, output_attentions)
        start, end = paddle.unbind(logits, axis=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (self._position_loss(start, start_positions) + self._position_loss(end, end_positions)) / 2
        return returned(QuestionAnsweringOutput(loss, start, end, *extra), return_dict)

    def _position_loss(self, logits, positions):
        positions = positions.flatten()
        outside = (positions < 0) | (positions >= logits.shape[1])
        return cross_entropy(logits, paddle.where(outside, paddle.full_like(positions, -100), positions))


class ConvBertGeneratorPredictions(nn.Layer):
    """Hidden states [..., E] → [..., embedding_size], to be compared with the word embeddings."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.embedding_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.layer_norm = nn.LayerNorm(config.embedding_size, epsilon=config.layer_norm_eps)

    def forward(self, hidden):
        return normalized(self.activation(self.dense(hidden)), self.layer_norm)


class MaskedLanguageModel(Head):
    """Logits [B, L, vocab_size] by the word embeddings. Labels: int [B, L], -100 outside the masked positions.

    Subclasses have `word_bias` [vocab_size] and say, in `transformed`, what is compared with the words.
    """

    def transformed(self, hidden):
        """Any [..., E] → [..., embedding_size]."""
        raise NotImplementedError

    def logits(self, hidden):
        """Any [..., E] → [..., vocab_size]."""
        words = self.get_input_embeddings().weight
        return paddle.matmul(self.transformed(hidden), words, transpose_y=True) + self.word_bias

    def fill(self, hidden, originals, draws=None):
        """Fills masked positions with hidden states [N, E]: see functions.language_model."""
        words = self.get_input_embeddings().weight
        draws = paddle.rand([hidden.shape[0]]) if draws is None else draws
        return functions.language_model(self.transformed(hidden), words, self.word_bias, originals, draws)

    def resize_token_embeddings(self, size):
        super().resize_token_embeddings(size)
        self.word_bias = keep_rows(self.word_bias, self.create_parameter([size], is_bias=True))


class ConvBertGenerator(MaskedLanguageModel):
    checkpoint_part = "generator."

    def __init__(self, config):
        super().__init__(config)
        self.generator_predictions = ConvBertGeneratorPredictions(config)
        self.generator_lm_head_bias = self.create_parameter([config.vocab_size], is_bias=True)

    def transformed(self, hidden):
        return self.generator_predictions(hidden)

    @property
    def word_bias(self):
        return self.generator_lm_head_bias

    @word_bias.setter
    def word_bias(self, bias):
        self.generator_lm_head_bias = bias


ConvBertForMaskedLM = ConvBertGenerator


class ConvBertDiscriminatorPredictions(nn.Layer):
    """[B, L, E] → [B, L]."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dense_prediction = Linear(config, config.hidden_size, 1, XavierUniform())

    def forward(self, hidden):
        return self.dense_prediction(self.activation(self.dense(hidden))).squeeze(-1)


class ConvBertDiscriminator(Head):
    """Replaced-token detection: logits [B, L], positive = replaced. Labels: int [B, L]; -100 does not count."""

    def __init__(self, config):
        super().__init__(config)
        self.discriminator_predictions = ConvBertDiscriminatorPredictions(config)

    def logits(self, hidden):
        return self.discriminator_predictions(hidden)

    def loss(self, logits, labels):
        return independent_cross_entropy(logits, labels)


# --------------------------------------------------------------------------------------------------- joint pre-training


class ConvBertForPretraining(ConvBertPretrainedModel):
    """ELECTRA's objective: a small generator fills masked positions, the discriminator finds what it replaced.

    As in T the two share all embeddings and their LayerNorm, and a sample that equals the original counts as original.
    """

    checkpoint_part = ""
    discriminator_class, generator_class = ConvBertDiscriminator, ConvBertGenerator

    def __init__(self, config, generator_config, gen_weight=1.0, disc_weight=50.0, parts=None):
        """parts: a discriminator and a generator of these configurations; left out, they start at random."""
        super().__init__(config)
        for field in ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size", "pad_token_id"):
            ours, theirs = getattr(config, field), getattr(generator_config, field)
            if ours != theirs:
                raise InputError(f"discriminator and generator share embeddings, but {field} is {ours} and {theirs}")
        self.gen_weight, self.disc_weight = gen_weight, disc_weight
        self.discriminator, self.generator = parts or (
            self.discriminator_class(config), self.generator_class(generator_config)
        )  # fmt: skip
        self.generator.backbone.embeddings = self.discriminator.backbone.embeddings

    @property
    def backbone(self):
        return self.discriminator.backbone

    @classmethod
    def read_configs(cls, source, changes):
        config_class = cls.config_class
        if not os.path.isdir(source):
            return config_class.from_preset(source), config_class.from_preset(f"{source}-generator")
        content = read_json_object(Path(source) / "config.json")  # PaddleNLP makes both parts of one configuration
        generator = config_class.from_dict(content.get("generator_config", content))
        return config_class.from_pretrained(source, **changes), generator

    def config_dict(self):
        return {**super().config_dict(), "generator_config": self.generator.config.to_dict()}

    def resize_token_embeddings(self, size):
        self.discriminator.resize_token_embeddings(size)
        self.generator.resize_token_embeddings(size)

    def enable_recompute(self, enabled=True):
        self.discriminator.enable_recompute(enabled)
        self.generator.enable_recompute(enabled)

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False, draws=None,
                return_dict=None, not_next=None):  # fmt: skip
        """
        Args:
            input_ids: int [B, L], with the masked positions already masked.
            labels: int [B, L]; the original at masked positions, -100 elsewhere. The rest: ConvBertModel.forward.
            draws: [N], one number from [0, 1) for each masked position, which decide what the generator puts there
                (functions.language_model); left out: drawn anew.
            not_next: bool [B]: whether the second segment is another text's, which is to be told of [CLS]; left out:
                not to be told.

        Returns:
            A PretrainingOutput; without labels, what the discriminator says of `input_ids` as they are.
        """
        context = token_type_ids, position_ids, attention_mask
        asked = output_hidden_states, output_attentions
        if labels is None:
            return self.discriminator(input_ids, *context, inputs_embeds, None, *asked, return_dict)
        masked = (labels != -100).flatten().nonzero().flatten()  # [N] of B·L
        originals = labels.flatten().gather(masked)
        hidden = self.generator.backbone(input_ids, *context).flatten(0, 1).gather(masked)  # [N, generator's E]
        gen_loss, gen_predictions, samples = self.generator.fill(hidden, originals, draws)
        disc_input_ids, original_ids = (
            input_ids.flatten().scatter(masked, words.astype(input_ids.dtype)).reshape(input_ids.shape)
            for words in (samples, originals)
        )
        real = original_ids != self.config.pad_token_id
        replaced = (disc_input_ids != original_ids).astype("int64")
        disc_labels = paddle.where(real, replaced, paddle.full_like(replaced, -100))
        if not_next is not None:
            disc_labels = paddle.concat([not_next.astype("int64").unsqueeze(1), disc_labels[:, 1:]], 1)
        disc_loss, logits, *extra = self.discriminator(disc_input_ids, *context, None, disc_labels, *asked)
        loss = self.gen_weight * gen_loss + self.disc_weight * disc_loss
        extra = extra or (None, None)
        output = PretrainingOutput(
            loss, logits, *extra, gen_loss, disc_loss, gen_predictions, disc_input_ids, disc_labels
        )
        return returned(output, return_dict)
