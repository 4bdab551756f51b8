"""ConvBERT in this project, PaddleNLP and numpy behind one interface, so that compare.py can ask all the same.

Hugging Face's is in `hugging_face_reference.py`.

No model has dropout. Inputs are dicts of int64 arrays (input_ids, token_type_ids, attention_mask, [B, L] each, or
[B, C, L] for multiple choice), labels what `labels_for` makes. Weights and gradients come under this project's names.
"""

from typing import NamedTuple

import numpy as np

from conversion import paddlenlp_models

NOISE = 0.02  # standard deviation of what is added to every random weight, so that no bias or norm is trivial
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
WEIGHT_DECAY, EPSILON = 0.01, 1e-6  # of AdamW; no decay on biases and norms


class Outputs(NamedTuple):
    hidden_states: list  # embeddings, then every layer: [B, L, E]
    logits: list  # one array, two for question answering, none for the bare encoder
    loss: object = None  # the library's own tensor


def labels_for(architecture, inputs, num_labels, seed=0, ignore=True):
    """Random labels of the kind that a head learns from, as keyword arguments; ignore: let -100 occur."""
    random = np.random.default_rng(seed)
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    rows, length = len(ids), ids.shape[-1]
    if architecture == "ConvBertForQuestionAnswering":
        return {name: random.integers(0, length, rows) for name in ("start_positions", "end_positions")}
    if architecture == "ConvBertForMultipleChoice":
        return {"labels": random.integers(0, ids.shape[1], rows)}
    if architecture == "ConvBertForSequenceClassification":
        return {"labels": random.integers(0, num_labels, rows)}
    choices = {"ConvBertGenerator": int(ids.max()), "ConvBertDiscriminator": 2}.get(architecture, num_labels)
    labels = random.integers(0, choices, ids.shape)
    chosen = random.random(ids.shape) < 0.15 if architecture == "ConvBertGenerator" else real == 1
    return {"labels": np.where(chosen, labels, -100) if ignore else labels}


class _PaddleModel:
    """What this project and PaddleNLP have in common."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def run(self, inputs, labels=None):
        import paddle

        arguments = {name: paddle.to_tensor(array) for name, array in {**inputs, **(labels or {})}.items()}
        found = self.model(**arguments, output_hidden_states=True, **self.extra)
        if hasattr(found, "last_hidden_state"):  # the bare encoder's
            return Outputs(found.hidden_states, [])
        logits = [found.start_logits, found.end_logits] if hasattr(found, "start_logits") else [found.logits]
        return Outputs(found.hidden_states, logits, found.loss)

    def forward(self, inputs):
        """Outputs in evaluation mode, as arrays."""
        import paddle

        self.model.eval()
        with paddle.no_grad():
            found = self.run(inputs)
        return Outputs([x.numpy() for x in found.hidden_states], [x.numpy() for x in found.logits])

    def gradients(self, inputs, labels):
        """dict: our name → gradient of the loss; parameters that the loss does not reach are left out."""
        self.model.train()
        self.run(inputs, labels).loss.backward()
        named = self.parameters().items()
        found = {name: weight.grad.numpy() for name, weight in named if weight.grad is not None}
        self.model.clear_gradients(set_to_zero=False)
        return found

    def train(self, batches, learning_rate):
        """One AdamW step for each (inputs, labels); yields each loss."""
        from training.optimizer import adamw

        optimizer = adamw(self.model, learning_rate, WEIGHT_DECAY, EPSILON)
        self.model.train()
        for inputs, labels in batches:
            loss = self.run(inputs, labels).loss
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            yield float(loss)

    def parameters(self):
        own = self.model.named_parameters()
        bare = type(self.model).__name__ == "ConvBertModel"
        return {f"convbert.{name}" if bare else name: weight for name, weight in own}

    def weights(self):
        """dict: our name → array."""
        return {name: weight.numpy() for name, weight in self.parameters().items()}


class Ours(_PaddleModel):
    library, extra = "paddle", {}

    @classmethod
    def load(cls, architecture, folder):
        import modeling

        return cls(getattr(modeling, architecture).from_pretrained(folder, **NO_DROPOUT))

    @classmethod
    def random(cls, architecture, config, seed=0):
        import paddle

        import modeling

        paddle.seed(seed)
        model = cls(getattr(modeling, architecture)(config))
        _disturb(model.model.parameters(), seed)
        return model


class PaddleNLP(_PaddleModel):
    library, packages, extra = "paddlenlp", ("paddlenlp",), {"return_dict": True}

    @staticmethod
    def obstacle(config, architecture):
        """Why PaddleNLP can't run such a model; None if it can."""
        if config.num_attention_heads < config.head_ratio:
            return "PaddleNLP drops the convolution when there are fewer heads than head_ratio"
        if config.head_ratio != 2:
            return f"PaddleNLP crashes with head_ratio {config.head_ratio}"
        if architecture == "ConvBertDiscriminator":
            return "PaddleNLP's discriminator crashes in forward"
        if architecture == "ConvBertForSequenceClassification" and config.classifier != "pooled_mlp":
            return f"PaddleNLP has no {config.classifier} head"
        if config.mask_conv_padding:
            return "PaddleNLP's convolutions always read padding"
        return None

    @classmethod
    def load(cls, architecture, folder, **changes):
        settings = {**NO_DROPOUT, "num_choices": 2, **changes}
        return cls(getattr(cls._transformers(), architecture).from_pretrained(str(folder), **settings))

    @classmethod
    def random(cls, architecture, config, seed=0, **changes):
        """PaddleNLP's own start and noise on top; but it reads the pad row as zeros, so that is what it holds."""
        import paddle

        paddle.seed(seed)
        transformers = cls._transformers()
        settings = {**settings_of(config), "num_choices": 2, **changes}
        model = cls(getattr(transformers, architecture)(transformers.ConvBertConfig(**settings)))
        _disturb(model.model.parameters(), seed)
        with paddle.no_grad():
            model.model.convbert.embeddings.word_embeddings.weight[config.pad_token_id] = 0.0
        return model

    def save(self, folder):
        self.model.save_pretrained(str(folder))

    @classmethod
    def tokenizer(cls, folder):
        return cls._transformers().ConvBertTokenizer.from_pretrained(str(folder))

    @staticmethod
    def _transformers():
        paddlenlp_models.paddlenlp_module("utils.log").logger.set_level("ERROR")
        return paddlenlp_models.paddlenlp_module()


class NumpyLoops:
    """The equations as loops in float64, for what no library can hold; forward only."""

    library = "numpy loops"

    def __init__(self, ours):
        from comparison.numpy_model import NumpyModel

        weights = {name: array.astype(np.float64) for name, array in ours.weights().items()}
        self.model, self.config = NumpyModel(weights, ours.config), ours.config

    def forward(self, inputs):
        states = self.model.forward(*(inputs[name] for name in ("input_ids", "token_type_ids", "attention_mask")))
        return Outputs(
            states, [self.model.word_logits(states[-1])] if "generator_lm_head_bias" in self.model.weights else []
        )


def _disturb(parameters, seed):
    random = np.random.default_rng(seed)
    for weight in parameters:
        weight.set_value(weight.numpy() + random.normal(0, NOISE, weight.shape).astype(np.float32))


def settings_of(config):
    """What another library's configuration is made of; labels by their number only, which may be changed."""
    content = {**config.to_dict(), **NO_DROPOUT, "num_labels": config.num_labels}
    return {name: value for name, value in content.items() if name not in ("id2label", "label2id", "model_type")}
