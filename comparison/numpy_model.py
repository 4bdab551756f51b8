"""The equations of ConvBERT, BERT, ELECTRA and ERNIE as plain numpy loops: an independent account of the models.

Written from the papers (ConvBERT's: arXiv 2008.02496, section 3), in the precision of the weights it is given. Nothing
is fused, batched over tokens or shared with `modeling` and `family`; it is slow and there to be read. compare.py takes
it as the reference for models that no other library can hold, the tests for everything.
"""

import math

import numpy as np
from scipy.special import erf

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


class NumpyModel:
    """An encoder, with the head of a masked language model or of a sequence classifier where its weights are there.

    Args:
        weights: our name → array, all of one type, float64 or float32.
        config: the configuration, of any of the architectures.
    """

    def __init__(self, weights, config):
        self.weights, self.config, self.encoder = weights, config, config.model_type

    def dense(self, x, name):
        """x [..., in] → [..., out]; each slice of x by its own weight where there are groups."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if weight.ndim == 2:
            return x @ weight + bias
        slices = np.split(x, len(weight), axis=-1)
        return np.concatenate([part @ matrix for part, matrix in zip(slices, weight, strict=True)], axis=-1) + bias

    def norm(self, x, name):
        spread = np.sqrt(x.var(-1, keepdims=True) + self.config.layer_norm_eps)
        return (x - x.mean(-1, keepdims=True)) / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def forward(self, ids, types, mask):
        """ids, types and mask (1 = attend), [B, L] each → the embeddings, then every layer: list of [B, L, E]."""
        encoder = self.encoder
        tables = [
            self.weights[f"{encoder}.embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        ]
        task = self.weights.get(f"{encoder}.embeddings.task_type_embeddings.weight")
        rows = []
        for sentence, kinds in zip(ids, types, strict=True):
            rows.append(
                [
                    tables[0][word] + tables[1][place] + tables[2][kind]
                    for place, (word, kind) in enumerate(zip(sentence, kinds, strict=True))
                ]
            )
        x = np.array(rows) if task is None else np.array(rows) + task[self.config.task_id]
        x = self.norm(x, f"{encoder}.embeddings.layer_norm")
        if f"{encoder}.embeddings_project.weight" in self.weights:
            x = self.dense(x, f"{encoder}.embeddings_project")
        states = [x]
        for number in range(self.config.num_hidden_layers):
            layer = f"{encoder}.encoder.layers.{number}"
            half = self.mixed_attention if encoder == "convbert" else self.self_attention
            mixed = np.stack([half(row, real, f"{layer}.self_attn") for row, real in zip(x, mask, strict=True)])
            x = self.norm(x + mixed, f"{layer}.norm1")
            inner = ACTIVATIONS[self.config.hidden_act](self.dense(x, f"{layer}.linear1"))
            x = self.norm(x + self.dense(inner, f"{layer}.linear2"), f"{layer}.norm2")
            states.append(x)
        return states

    def self_attention(self, x, mask, name):
        """One sentence, x [L, E], mask [L]: all heads of BERT's, side by side, and the output layer."""
        size = self.config.hidden_size // self.config.num_attention_heads
        query, key, value = (self.dense(x, f"{name}.{part}_proj") for part in "qkv")
        heads = [slice(start, start + size) for start in range(0, self.config.hidden_size, size)]
        attended = [self.attention(query[:, head], key[:, head], value[:, head], mask) for head in heads]
        return self.dense(np.concatenate(attended, axis=-1), f"{name}.out_proj")

    def mixed_attention(self, x, mask, name):
        """One sentence, x [L, E], mask [L]: the heads of both kinds, side by side, and the output layer."""
        config = self.config
        size, kinds = config.head_size, config.heads_of_each_kind
        query, key, value = (self.dense(x, f"{name}.{part}_proj") for part in "qkv")
        conv_value = self.dense(x, f"{name}.conv_out_layer")
        local = x
        if config.mask_conv_padding:
            local, conv_value = x * mask[:, None], conv_value * mask[:, None]
        span_key = self.span_aware_key(local, f"{name}.key_conv_attn_layer")
        kernels = self.dense(query * span_key, f"{name}.conv_kernel_layer")  # [L, H·K]
        heads = [slice(head * size, (head + 1) * size) for head in range(kinds)]
        attended = [self.attention(query[:, head], key[:, head], value[:, head], mask) for head in heads]
        taps = config.conv_kernel_size
        convolved = [
            self.dynamic_convolution(conv_value[:, head], kernels[:, number * taps : (number + 1) * taps])
            for number, head in enumerate(heads)
        ]
        return self.dense(np.concatenate([*attended, *convolved], axis=-1), f"{name}.out_proj")

    @staticmethod
    def attention(query, key, value, mask):
        """One head of self-attention, [L, D] each: softmax(q · k / √D) over the tokens that the mask lets through."""
        mixed = np.zeros_like(value)
        for token in range(len(query)):
            seen = [other for other in range(len(key)) if mask[other]]
            share = softmax(np.array([query[token] @ key[other] for other in seen]) / math.sqrt(query.shape[1]))
            for weight, other in zip(share, seen, strict=True):
                mixed[token] += weight * value[other]
        return mixed

    def span_aware_key(self, x, name):
        """The depthwise separable convolution that looks at the span around each token: [L, E] → [L, H·D]."""
        depthwise, pointwise = self.weights[f"{name}.depthwise.weight"], self.weights[f"{name}.pointwise.weight"]
        taps = depthwise.shape[2]
        filtered = np.zeros_like(x)
        for token in range(len(x)):
            for tap in range(taps):
                neighbour = token + tap - taps // 2
                if 0 <= neighbour < len(x):
                    filtered[token] += depthwise[:, 0, tap] * x[neighbour]
        return filtered @ pointwise[:, :, 0].T + self.weights[f"{name}.bias"]

    @staticmethod
    def dynamic_convolution(values, kernels):
        """One head of lightweight convolution: each token's own kernel, softmax([K]), over the values [L, D] around
        it, with zeros beyond both ends of the sentence."""
        mixed = np.zeros_like(values)
        taps = kernels.shape[1]
        for token in range(len(values)):
            for tap, weight in enumerate(softmax(kernels[token])):
                neighbour = token + tap - taps // 2
                if 0 <= neighbour < len(values):
                    mixed[token] += weight * values[neighbour]
        return mixed

    def word_logits(self, hidden):
        """The head of a masked language model: [..., E] → [..., vocab_size], by comparison with the word embeddings."""
        dense, norm, bias = (
            ("cls.predictions.transform", "cls.predictions.layer_norm", "cls.predictions.decoder_bias")
            if "cls.predictions.decoder_bias" in self.weights
            else ("generator_predictions.dense", "generator_predictions.layer_norm", "generator_lm_head_bias")
        )
        x = ACTIVATIONS[self.config.hidden_act](self.dense(hidden, dense))
        words = self.weights[f"{self.encoder}.embeddings.word_embeddings.weight"]
        return self.norm(x, norm) @ words.T + self.weights[bias]

    def class_logits(self, hidden):
        """The head of a sequence classifier, which reads the first token: [B, L, E] → [B, num_labels]."""
        first = hidden[:, 0]
        if f"{self.encoder}.pooler.dense.weight" in self.weights:
            first = self.dense(first, f"{self.encoder}.pooler.dense")
            first = np.tanh(first) if self.config.pool_act == "tanh" else first
        if "classifier.weight" in self.weights:  # BERT's
            return self.dense(first, "classifier")
        if "classifier.dense.weight" in self.weights:
            first = ACTIVATIONS[self.config.hidden_act](self.dense(first, "classifier.dense"))
        return self.dense(first, "classifier.out_proj")
