"""ConvBERT in Paddle: BERT with some attention heads replaced by span-based dynamic convolution.

Paper: Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020, arXiv 2008.02496.
References: the authors' TensorFlow code (T), Hugging Face transformers 4.55 and 5.23 (H), PaddleNLP 3.0.0b4 (P).

Deliberate choices where the three differ (README, "What differs"):
- head_ratio ≠ 2 and fewer heads than head_ratio follow T: head size is always hidden / heads, and at least one head of
  each kind stays.
- Initialisation is T's: truncated normals, depthwise kernels with deviation 1 / K, Glorot for the task heads.
- The pad embedding is read as stored, starts at zero and gets no gradient.
- With `mask_conv_padding` the convolutions do not see padding; off by default, as published weights were made without.
- Floating masks are added to the scores whatever their rank; integer and bool masks mean 1 = attend.

Dimension letters: B batch, L length, H heads of one kind, D head size, K convolution kernel, E hidden size, C choices.
"""

import os
from pathlib import Path
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.distributed.fleet.utils import recompute
from paddle.nn.initializer import XavierUniform

import ops
from checkpoint_files import InputError, read_json
from configuration import ConvBertConfig
from layers import ConvBertEmbeddings, ConvBertEncoder, ConvBertPooler, Linear
from pretrained import ConvBertPretrainedModel, keep_rows


class BackboneOutput(NamedTuple):
    last_hidden_state: paddle.Tensor  # [B, L, E]
    hidden_states: tuple | None = None  # embeddings, then every layer: [B, L, E] each
    attentions: tuple | None = None  # every layer's probabilities before dropout: [B, H, L, L] each


class HeadOutput(NamedTuple):
    loss: paddle.Tensor | None
    logits: paddle.Tensor
    hidden_states: tuple | None = None
    attentions: tuple | None = None


class QuestionAnsweringOutput(NamedTuple):
    loss: paddle.Tensor | None
    start_logits: paddle.Tensor  # [B, L]
    end_logits: paddle.Tensor  # [B, L]
    hidden_states: tuple | None = None
    attentions: tuple | None = None


class ConvBertModel(ConvBertPretrainedModel):
    """The encoder without a head."""

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = ConvBertEmbeddings(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = Linear(config, config.embedding_size, config.hidden_size)
        self.encoder = ConvBertEncoder(config)
        if config.classifier == "pooled_mlp":
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
                output_hidden_states=False, output_attentions=False):  # fmt: skip
        """
        Args:
            input_ids: int [B, L].
            token_type_ids: int [B, L]; left out: all 0.
            position_ids: int [B, L] or [L]; left out: 0 … L - 1.
            attention_mask: [B, L] over the keys, [B, L, L] or [B, 1 or H, 1 or L, L]. Integer or bool: 1 = attend.
                Floating: added to the scores. Left out: all but pad tokens.
            inputs_embeds: [B, L, embedding_size] in place of input_ids.

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
        mask = _additive_mask(attention_mask, x.dtype)  # [B, 1 or H, 1 or L, L]
        real = None
        if self.config.mask_conv_padding:  # a token is padding when nothing may attend to it
            real = (mask > MASKED / 2).any(axis=[1, 2]).astype(x.dtype).unsqueeze(-1)  # [B, L, 1]
        if hasattr(self, "embeddings_project"):
            x = self.embeddings_project(x)  # [B, L, embedding_size] → [B, L, E]

        hidden_states, attentions = [x], []
        for layer in self.encoder.layers:
            if output_attentions:
                x, probabilities = layer(x, mask, real, output_attentions=True)
                attentions.append(probabilities)
            elif self.recompute and self.training:
                x = recompute(layer, x, mask, real, use_reentrant=False)  # True is wrong under DataParallel
            else:
                x = layer(x, mask, real)
            hidden_states.append(x)
        if not (output_hidden_states or output_attentions):
            return x
        return BackboneOutput(
            x, tuple(hidden_states) if output_hidden_states else None, tuple(attentions) if output_attentions else None
        )


MASKED = -1e4  # added to a score: exp() of it is 0 in float32, and it still fits into float16


def _additive_mask(mask, dtype):
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


def cross_entropy(logits, labels):
    """Mean cross entropy of logits [..., N] and int labels [...]; labels of -100 don't count.

    (Paddle's own mean divides by all labels, the ignored ones included; without any that counts it is 0.)
    """
    losses = F.cross_entropy(logits, labels.unsqueeze(-1), reduction="none").squeeze(-1)
    return losses.sum() / (labels != -100).astype(losses.dtype).sum().clip(min=1.0)


class _Head(ConvBertPretrainedModel):
    """A model on top of `self.convbert`. Subclasses say what becomes of the hidden states and of the labels.

    forward returns the logits, or a HeadOutput when labels or extra outputs are asked for.
    """

    def __init__(self, config):
        super().__init__(config)
        self.convbert = ConvBertModel(config)
        dropout = config.classifier_dropout
        self.head_dropout = config.hidden_dropout_prob if dropout is None else dropout

    def loss(self, logits, labels):
        return cross_entropy(logits, labels)

    def predict(self, *inputs):
        """ConvBertModel.forward's inputs → logits, (hidden_states, attentions) or () when neither is asked for."""
        encoded = self.convbert(*inputs)
        if isinstance(encoded, BackboneOutput):
            return self.logits(encoded.last_hidden_state), encoded[1:]
        return self.logits(encoded), ()

    def output(self, logits, labels, extra):
        if labels is None and not extra:
            return logits
        return HeadOutput(None if labels is None else self.loss(logits, labels), logits, *extra)

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False):  # fmt: skip
        """See ConvBertModel.forward; `labels` as the class says."""
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        logits, extra = self.predict(*inputs, output_hidden_states, output_attentions)
        return self.output(logits, labels, extra)


class ConvBertClassificationHead(nn.Layer):
    """[B, E] → [B, num_labels]: dropout, dense, activation, dropout, dense; with `classifier="linear"` one dense."""

    def __init__(self, config, dropout):
        super().__init__()
        self.dropout = dropout
        self.activation = ops.ACTIVATIONS[config.hidden_act]
        if config.classifier != "linear":
            self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config, config.hidden_size, config.num_labels, XavierUniform())

    def forward(self, x):
        if hasattr(self, "dense"):
            x = self.activation(self.dense(F.dropout(x, self.dropout, training=self.training)))
        return self.out_proj(F.dropout(x, self.dropout, training=self.training))


class ConvBertForSequenceClassification(_Head):
    """Logits [B, num_labels]. Labels: int [B]; float [B] for regression (one label); float [B, num_labels] for
    independent yes/no labels, or for regression where the configuration's `problem_type` says so."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = ConvBertClassificationHead(config, self.head_dropout)

    def logits(self, hidden):
        return self.classifier(self.convbert.pool(hidden))

    def loss(self, logits, labels):
        problem, count = self.config.problem_type, self.config.num_labels
        if problem == "regression" or (problem is None and count == 1):
            return F.mse_loss(logits.flatten(), labels.flatten().astype(logits.dtype))
        if problem == "multi_label_classification" or (
            problem is None and labels.ndim == 2 and labels.shape[1] == count
        ):
            return F.binary_cross_entropy_with_logits(logits, labels.astype(logits.dtype))
        return super().loss(logits, labels.flatten())


class ConvBertForTokenClassification(_Head):
    """Logits [B, L, num_labels]. Labels: int [B, L]; -100 doesn't count."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, config.num_labels, XavierUniform())

    def logits(self, hidden):
        return self.classifier(F.dropout(hidden, self.head_dropout, training=self.training))


class ConvBertForMultipleChoice(_Head):
    """Inputs [B, C, L]; logits [B, C]. Labels: int [B]."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, 1, XavierUniform())

    def logits(self, hidden):
        pooled = F.dropout(self.convbert.pool(hidden), self.head_dropout, training=self.training)
        return self.classifier(pooled)  # [B·C, 1]

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False):  # fmt: skip
        """See ConvBertModel.forward, with an axis of choices after the batch in every input."""
        choices = (input_ids if inputs_embeds is None else inputs_embeds).shape[1]
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        flat = (x if x is None else x.flatten(0, 1) for x in inputs)  # [B, C, L, …] → [B·C, L, …]
        logits, extra = self.predict(*flat, output_hidden_states, output_attentions)
        return self.output(logits.reshape([-1, choices]), labels, extra)  # logits [B, C]


class ConvBertForQuestionAnswering(_Head):
    """Start and end logits, [B, L] each. Positions: int [B]; those outside the text don't count."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = Linear(config, config.hidden_size, 2, XavierUniform())

    def logits(self, hidden):
        return self.classifier(hidden)  # [B, L, 2]

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                start_positions=None, end_positions=None, output_hidden_states=False,
                output_attentions=False):  # fmt: skip
        """See ConvBertModel.forward. Returns (start, end), or a QuestionAnsweringOutput when more is asked for."""
        inputs = input_ids, token_type_ids, position_ids, attention_mask, inputs_embeds
        logits, extra = self.predict(*inputs, output_hidden_states, output_attentions)
        start, end = paddle.unbind(logits, axis=-1)
        if start_positions is None or end_positions is None:
            return QuestionAnsweringOutput(None, start, end, *extra) if extra else (start, end)
        loss = (self._position_loss(start, start_positions) + self._position_loss(end, end_positions)) / 2
        return QuestionAnsweringOutput(loss, start, end, *extra)

    def _position_loss(self, logits, positions):
        positions = positions.flatten()
        outside = (positions < 0) | (positions >= logits.shape[1])
        return cross_entropy(logits, paddle.where(outside, paddle.full_like(positions, -100), positions))


class ConvBertGeneratorPredictions(nn.Layer):
    """Hidden states [..., E] → [..., embedding_size], to be compared with the word embeddings."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.embedding_size)
        self.activation = ops.ACTIVATIONS[config.hidden_act]
        self.layer_norm = nn.LayerNorm(config.embedding_size, epsilon=config.layer_norm_eps)

    def forward(self, hidden):
        norm = self.layer_norm
        return ops.layer_norm(self.activation(self.dense(hidden)), norm.weight, norm.bias, norm._epsilon)


class ConvBertGenerator(_Head):
    """Masked language model: logits [B, L, vocab_size] by the word embeddings. Labels: int [B, L], -100 outside
    the masked positions."""

    checkpoint_part = "generator."

    def __init__(self, config):
        super().__init__(config)
        self.generator_predictions = ConvBertGeneratorPredictions(config)
        self.generator_lm_head_bias = self.create_parameter([config.vocab_size], is_bias=True)

    def logits(self, hidden):
        """Any [..., E] → [..., vocab_size]."""
        words = self.get_input_embeddings().weight
        x = self.generator_predictions(hidden)
        return paddle.matmul(x, words, transpose_y=True) + self.generator_lm_head_bias

    def fill(self, hidden, originals, draws=None):
        """Fills masked positions with hidden states [N, E]: ops.language_model's loss, likeliest and drawn words."""
        words = self.get_input_embeddings().weight
        draws = paddle.rand([hidden.shape[0]]) if draws is None else draws
        return ops.language_model(
            self.generator_predictions(hidden), words, self.generator_lm_head_bias, originals, draws
        )

    def resize_token_embeddings(self, size):
        super().resize_token_embeddings(size)
        bias = self.create_parameter([size], is_bias=True)
        self.generator_lm_head_bias = keep_rows(self.generator_lm_head_bias, bias)


ConvBertForMaskedLM = ConvBertGenerator


class ConvBertDiscriminatorPredictions(nn.Layer):
    """[B, L, E] → [B, L]."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.activation = ops.ACTIVATIONS[config.hidden_act]
        self.dense_prediction = Linear(config, config.hidden_size, 1, XavierUniform())

    def forward(self, hidden):
        return self.dense_prediction(self.activation(self.dense(hidden))).squeeze(-1)


class ConvBertDiscriminator(_Head):
    """Replaced-token detection: logits [B, L], positive = replaced. Labels: int [B, L]; -100 does not count."""

    def __init__(self, config):
        super().__init__(config)
        self.discriminator_predictions = ConvBertDiscriminatorPredictions(config)

    def logits(self, hidden):
        return self.discriminator_predictions(hidden)

    def loss(self, logits, labels):
        counts = (labels != -100).astype(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, labels.astype(logits.dtype) * counts, reduction="none")
        return (losses * counts).sum() / counts.sum().clip(min=1.0)


class PretrainingOutput(NamedTuple):
    loss: paddle.Tensor  # gen_weight · gen_loss + disc_weight · disc_loss
    logits: paddle.Tensor  # of the discriminator, [B, L]
    hidden_states: tuple | None
    attentions: tuple | None
    gen_loss: paddle.Tensor  # mean over the N masked positions
    disc_loss: paddle.Tensor  # mean over all real tokens
    gen_predictions: paddle.Tensor  # the generator's likeliest words, int [N]
    disc_input_ids: paddle.Tensor  # input_ids with the generator's samples at the masked positions, [B, L]
    disc_labels: paddle.Tensor  # 1 = replaced by another token, 0 = original, -100 = padding; [B, L]


class ConvBertForPretraining(ConvBertPretrainedModel):
    """ELECTRA's objective: a small generator fills masked positions, the discriminator finds what it replaced.

    As in T the two share all embeddings and their LayerNorm, and a sample that equals the original counts as original.
    """

    checkpoint_part = ""

    def __init__(self, config, generator_config, gen_weight=1.0, disc_weight=50.0, parts=None):
        """parts: a discriminator and a generator of these configurations; left out, they start at random."""
        super().__init__(config)
        for field in ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size", "pad_token_id"):
            ours, theirs = getattr(config, field), getattr(generator_config, field)
            if ours != theirs:
                raise InputError(f"discriminator and generator share embeddings, but {field} is {ours} and {theirs}")
        self.gen_weight, self.disc_weight = gen_weight, disc_weight
        self.discriminator, self.generator = parts or (
            ConvBertDiscriminator(config), ConvBertGenerator(generator_config)
        )  # fmt: skip
        self.generator.convbert.embeddings = self.discriminator.convbert.embeddings

    @property
    def backbone(self):
        return self.discriminator.convbert

    @classmethod
    def read_configs(cls, source, changes):
        if not os.path.isdir(source):
            return ConvBertConfig.from_preset(source), ConvBertConfig.from_preset(f"{source}-generator")
        content = read_json(Path(source) / "config.json")  # PaddleNLP makes both parts of one configuration
        generator = ConvBertConfig.from_dict(content.get("generator_config", content))
        return ConvBertConfig.from_pretrained(source, **changes), generator

    def config_dict(self):
        return {**super().config_dict(), "generator_config": self.generator.config.to_dict()}

    def resize_token_embeddings(self, size):
        self.discriminator.resize_token_embeddings(size)
        self.generator.resize_token_embeddings(size)

    def enable_recompute(self, enabled=True):
        self.discriminator.enable_recompute(enabled)
        self.generator.enable_recompute(enabled)

    def forward(self, input_ids=None, token_type_ids=None, position_ids=None, attention_mask=None, inputs_embeds=None,
                labels=None, output_hidden_states=False, output_attentions=False, draws=None):  # fmt: skip
        """
        Args:
            input_ids: int [B, L], with the masked positions already masked.
            labels: int [B, L]; the original at masked positions, -100 elsewhere. The rest: ConvBertModel.forward.
            draws: [N], one number from [0, 1) for each masked position, which decide what the generator puts there
                (ops.language_model); left out: drawn anew.

        Returns:
            A PretrainingOutput; without labels, what the discriminator says of `input_ids` as they are.
        """
        context = token_type_ids, position_ids, attention_mask
        asked = output_hidden_states, output_attentions
        if labels is None:
            return self.discriminator(input_ids, *context, inputs_embeds, None, *asked)
        masked = (labels != -100).flatten().nonzero().flatten()  # [N] of B·L
        originals = labels.flatten().gather(masked)
        hidden = self.generator.convbert(input_ids, *context).flatten(0, 1).gather(masked)  # [N, generator's E]
        gen_loss, gen_predictions, samples = self.generator.fill(hidden, originals, draws)
        disc_input_ids, original_ids = (
            input_ids.flatten().scatter(masked, words.astype(input_ids.dtype)).reshape(input_ids.shape)
            for words in (samples, originals)
        )
        real = original_ids != self.config.pad_token_id
        replaced = (disc_input_ids != original_ids).astype("int64")
        disc_labels = paddle.where(real, replaced, paddle.full_like(replaced, -100))
        disc_loss, logits, *extra = self.discriminator(disc_input_ids, *context, None, disc_labels, *asked)
        loss = self.gen_weight * gen_loss + self.disc_weight * disc_loss
        extra = extra or (None, None)
        return PretrainingOutput(
            loss, logits, *extra, gen_loss, disc_loss, gen_predictions, disc_input_ids, disc_labels
        )
